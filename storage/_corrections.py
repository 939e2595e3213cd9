"""What was wrong put right by new rows: cards replaced, lost and found, and admissions that were none."""

from __future__ import annotations

from protocols.clock import business_day
from storage._office import Office, Outcome, tickets_of
from storage._office_ops import CardReplaced, MarkCard, OfficeDone, ReplaceCard, ReverseAdmission, Reversed
from storage._rows import check_text
from storage.interfaces import Calibrate, LedgerRefused

OUTSIDE = "outside"
REVERSE_LIMIT = 200  # people at a time
CARD_STATES = {  # from -> what a card may be said to be
    "active": ("lost", "frozen"),
    "lost": ("active", "frozen"),
    "frozen": ("active", "lost"),
}


async def replace_card(office: Office, op: ReplaceCard, command: str) -> Outcome:
    (ticket,) = await tickets_of(office, op.ticket)
    check_text(tail=op.tail)
    if ticket.state not in ("active", "on_hold"):
        raise LedgerRefused(f"ticket {op.ticket} is {ticket.state}: its card is not replaced")
    cards = await office.fetch("cards_of", op.ticket)
    if not cards:
        raise LedgerRefused(f"ticket {op.ticket} has no card")
    if await office.fetch("card_known", op.card_hash):
        raise LedgerRefused("the new card is in use already")
    index = max(row["issue_index"] for row in cards) + 1
    older = [row["credential"] for row in cards if row["state"] not in ("superseded", "void")]
    await office.execute("set_credentials", older, "superseded")
    credential = office.new_id()
    await office.execute("insert_card", credential, op.ticket, op.card_hash, op.tail[-8:], index)
    answer = CardReplaced(ticket=op.ticket, credential=credential, issue_index=index, superseded=len(older))
    return Outcome(answer, f"ticket {op.ticket}, card {credential} of issue {index}")


async def mark_card(office: Office, op: MarkCard, command: str) -> Outcome:
    cards = await office.fetch("cards_of", op.ticket)
    if not cards:
        raise LedgerRefused(f"ticket {op.ticket} has no card")
    newest = max(cards, key=lambda row: row["issue_index"])
    if op.state not in CARD_STATES.get(newest["state"], ()):
        raise LedgerRefused(f"the newest card of ticket {op.ticket} is {newest['state']}: it cannot become {op.state}")
    await office.execute("insert_card_event", office.new_id(), newest["credential"], op.state, command, office.now)
    await office.execute("set_credentials", [newest["credential"]], op.state)
    return Outcome(OfficeDone(detail=op.state), f"ticket {op.ticket}, card {newest['credential']} {op.state}")


async def reverse(office: Office, op: ReverseAdmission, command: str) -> Outcome:
    """New rows against the latest uses; the counters follow, and the zones' counts if nobody went in."""
    await tickets_of(office, op.ticket)
    if not 1 <= op.places <= REVERSE_LIMIT:
        raise LedgerRefused(f"1 to {REVERSE_LIMIT} admissions are reversed at a time, not {op.places}")
    uses = await office.fetch("latest_uses", op.ticket, op.places)
    if len(uses) < op.places:
        raise LedgerRefused(f"{len(uses)} admissions of ticket {op.ticket} can be reversed, not {op.places}")
    for row in uses:
        identity = row["device"], row["boot"], row["direction"], row["seq"]
        await office.execute(
            "insert_reversal", *identity, row["entitlement"], op.correct_count, command, office.now
        )
        seen = row["seen_at"]
        day = business_day(seen, office.shop.timezone, office.shop.day_start)
        await office.execute("unuse_right", row["entitlement"], day)
        if row["personal"]:
            await office.execute("unuse_personal", row["credential"], row["entitlement"])
    await office.execute("recall_last_use", sorted({row["entitlement"] for row in uses}))
    if op.correct_count:
        _take_out(office, op, command, [(row["from_zone"], row["to_zone"]) for row in uses])
        await office.execute("forget_place", op.ticket)
    zones = sorted({row["to_zone"] for row in uses})
    answer = Reversed(ticket=op.ticket, places=op.places, zones=zones)
    counted = ", nobody went in" if op.correct_count else ""
    return Outcome(answer, f"ticket {op.ticket}, {op.places} admissions into {', '.join(zones)}{counted}")


def _take_out(office: Office, op: ReverseAdmission, command: str, moves: list[tuple[str, str]]) -> None:
    """Back to where they came from, booked as calibrations: each is a pair with `outside`."""
    net: dict[str, int] = {}
    for from_zone, to_zone in moves:
        net[to_zone] = net.get(to_zone, 0) - 1
        net[from_zone] = net.get(from_zone, 0) + 1
    for zone, delta in sorted(net.items()):
        if zone != OUTSIDE and delta:
            reason = f"reversal on ticket {op.ticket}: {op.reason}"
            key = f"reversal:{command}:{zone}"
            office.corrections.append(
                Calibrate(zone=zone, delta=delta, reason=reason, user=op.user, at=office.now, key=key)
            )
