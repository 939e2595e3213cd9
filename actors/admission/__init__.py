"""Who may pass: the pure decision (`rules`), the refusal codes and their words (`refusals`), and the actor."""

from actors.admission._actor import Admission
from actors.admission.refusals import REFUSALS, RefusalText, words
from actors.admission.rules import decide

__all__ = ("REFUSALS", "Admission", "RefusalText", "decide", "words")
