"""What an actor answers when a person's command is refused.

CommandRefused           a stable code, a sentence in two languages, perhaps a hint
├─ lane.LaneCommandRefused       the lane cannot do that now
├─ evacuation.EvacuationRefused  a restore or re-arming does not fit
├─ sales.SaleRefused             nothing was sold
└─ accounts.LoginRefused         not who they say they are, or locked out
"""

from __future__ import annotations


class CommandRefused(Exception):
    """A command was refused; nothing was done.

    `code` is stable and for programs; `text_zh` and `text_en` are for people; `hint` says what would help.
    """

    def __init__(self, code: str, text_en: str, text_zh: str = "", hint: str = "") -> None:
        super().__init__(text_en)
        self.code = code
        self.text_en = text_en
        self.text_zh = text_zh or text_en
        self.hint = hint
