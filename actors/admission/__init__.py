"""Who may pass: the pure decision (`rules`) and why (`explain`), the refusal codes and their words, and the actors."""

from actors.admission._actor import Admission
from actors.admission._explainer import Explainer, LaneHere
from actors.admission._identity import Identify
from actors.admission.refusals import REFUSALS, RefusalText, words
from actors.admission.rules import decide

__all__ = ("REFUSALS", "Admission", "Explainer", "Identify", "LaneHere", "RefusalText", "decide", "words")
