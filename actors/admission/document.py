"""Writes `docs/refusals.md` from the table of refusals: `python -m actors.admission.document > docs/refusals.md`."""

from __future__ import annotations

import sys

from actors.admission.refusals import CURES, OK_WORDS, REFUSALS

HEAD = f"""\
# Refusal codes

What a gate says when somebody may not pass. **The code is stable**: programs, reports and smart gates rely on it; its
words may get better. What a visitor reads never tells anything about another holder; the hint is for staff.

This page is written from `actors/admission/refusals.py` (`python -m actors.admission.document > docs/refusals.md`).
A gate that meets a code it does not know shows the words of `unavailable`. Whoever may pass reads
“{OK_WORDS.visitor_zh} / {OK_WORDS.visitor_en}”.

What would make a ticket pass is said as exactly as the case is known: from when (`14:00 起可用 / from 14:00`), at
which gate (`请走 东门 / at East gate`), how often tomorrow. Where no more is known than the code, staff read the last
columns.

| code | visitor 中文 | visitor | staff 中文 | staff | passes 中文 | passes |
|---|---|---|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    rows = (
        f"| `{code}` | {text.visitor_zh} | {text.visitor_en} | {text.staff_zh} | {text.staff_en}"
        f" | {CURES[code][0]} | {CURES[code][1]} |\n"
        for code, text in REFUSALS.items()
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(render())
