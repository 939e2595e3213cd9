"""Which promises a run of the demo broke. Pure: from the report's own figures, and two lists of details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LAST_ACK_MS_MAX = 1000.0
SAME_CODE_SCANS = 200
SAME_CODE_LANES = 10
ALWAYS_ON = ("fsync", "full_page_writes", "synchronous_commit")


def broken(report: Mapping[str, Any], *, details: Sequence[str] = ()) -> list[str]:
    """One sentence for each promise that the report breaks; `details` are added as they are."""
    found: list[str] = []

    def promise(kept: bool, text: str) -> None:
        if not kept:
            found.append(text)

    promise(report["sold"] > 0, "nothing was sold")
    promise(report["admitted"] > 0, "nobody was admitted")
    promise(report["printed"] > 0, "no ticket was printed")
    same = report["same_code"]
    promise(same["scans"] == SAME_CODE_SCANS, f"{same['scans']} scans of one code instead of {SAME_CODE_SCANS}")
    promise(same["lanes"] == SAME_CODE_LANES, f"one code at {same['lanes']} lanes instead of {SAME_CODE_LANES}")
    promise(same["opened"] == 1, f"one code at {same['lanes']} lanes opened {same['opened']} of them")
    for figure in ("double_passages", "limit_exceeded", "occupancy_error", "acknowledged_lost", "acknowledged_doubled"):
        promise(report[figure] == 0, f"{figure} is {report[figure]}")
    faces = report["faces"]
    promise(
        faces["accepted"] == faces["refused"] > 0,  # each card is shown once with its holder's face, once with another
        f"{faces['accepted']} faces accepted and {faces['refused']} refused, where as many of each are right",
    )
    evacuation = report["evacuation"]
    for figure in ("acknowledged", "sensed_open"):
        promise(
            evacuation[figure] == evacuation["lanes"], f"{evacuation[figure]} of {evacuation['lanes']} lanes {figure}"
        )
    last = evacuation["last_ack_ms"]
    promise(last is not None and last <= LAST_ACK_MS_MAX, f"the last acknowledgement came after {last} ms")
    promise(report["audit"]["checked"] > 0, "the audit checked nothing")
    found += [f"audit: {line}" for line in report["audit"]["broken"]]
    for setting in ALWAYS_ON:
        promise(report["database"][setting] == "on", f"{setting} is {report['database'][setting]}")
    promise(report["database"]["commits"] > 0, "the database counted no commit")
    promise(report["kills"] == 0 or report["in_flight_at_kill"] > 0, "nothing was in flight when the server was killed")
    return [*found, *details]
