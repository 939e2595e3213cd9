"""Writes `docs/refusals.md` from the table of refusals: `python -m actors.admission.document > docs/refusals.md`."""

from __future__ import annotations

import sys

from actors.admission.refusals import OK_WORDS, REFUSALS

HEAD = f"""\
# Refusal codes

What a gate says when somebody may not pass. **The code is stable**: programs, reports and smart gates rely on it; its
words may get better. What a visitor reads never tells anything about another holder; the hint is for staff.

This page is written from `actors/admission/refusals.py` (`python -m actors.admission.document > docs/refusals.md`).
A gate that meets a code it does not know shows the words of `unavailable`. Whoever may pass reads
“{OK_WORDS.visitor_zh} / {OK_WORDS.visitor_en}”.

| code | visitor 中文 | visitor | staff 中文 | staff |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    rows = (
        f"| `{code}` | {text.visitor_zh} | {text.visitor_en} | {text.staff_zh} | {text.staff_en} |\n"
        for code, text in REFUSALS.items()
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(render())
