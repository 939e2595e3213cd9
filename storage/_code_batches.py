"""Codes that are printed before anybody buys them: drawn, exported to a printer, taken into stock, sold; or void.

    blank -> at_printer -> in_stock -> sold       any of them but sold -> void | lost

A code opens only when it was sold; a sale is what makes its ticket (`storage._sales`).
"""

from __future__ import annotations

from storage._office import Office, Outcome
from storage._office_ops import BatchBooked, CreateCodes, ExportCodes, MoveCodes
from storage._pq import Record
from storage._rows import check_text
from storage.interfaces import LedgerRefused

BATCH_LIMIT = 10_000  # codes of one batch: they are written in one transaction, and signed in about a second
HASH_BYTES = 32
MOVES: dict[str, tuple[str, ...]] = {  # to -> from
    "in_stock": ("at_printer", "in_stock"),  # also from one workstation to another
    "void": ("blank", "at_printer", "in_stock", "lost"),
    "lost": ("blank", "at_printer", "in_stock"),
}


async def create(office: Office, op: CreateCodes, command: str) -> Outcome:
    if not 1 <= op.quantity <= BATCH_LIMIT:
        raise LedgerRefused(f"a batch has 1 to {BATCH_LIMIT} codes, not {op.quantity}")
    offer = office.shop.offer(op.product, office.now)
    if offer is None:
        raise LedgerRefused(f"product {op.product!r} is not on sale")
    if offer.product.rules.needs_face:
        raise LedgerRefused(f"product {op.product!r} needs its holder's face: it cannot be printed in advance")
    batch = office.new_id()
    await office.execute(
        "insert_batch", batch, op.product, offer.version, op.quantity, op.user, command, office.now
    )
    tickets = [office.new_id() for _ in range(op.quantity)]
    await office.execute("insert_preprinted", batch, tickets, office.now)
    await office.execute("insert_move", batch, 1, op.quantity, "blank", "", command, office.now)
    booked = await batch_booked(office, batch)
    return Outcome(booked, f"batch {batch}, {op.quantity} codes for {op.product}")


async def export(office: Office, op: ExportCodes, command: str) -> Outcome:
    known = await batch_booked(office, op.batch)
    check_text(handed_to=op.handed_to)
    if not op.handed_to:
        raise LedgerRefused("an export needs to say to whom it is handed")
    if len(op.sha256) != HASH_BYTES:
        raise LedgerRefused("an export needs the SHA-256 of what went out")
    if op.user == known.created_by:
        raise LedgerRefused(f"somebody else than {op.user}, who made the batch, must export it")
    if not known.states.get("blank") and not known.states.get("at_printer"):
        raise LedgerRefused(f"no code of batch {op.batch} is left to be printed")
    await office.execute(
        "insert_export", op.batch, known.exported + 1, op.sha256, op.handed_to, known.created_by, op.user, command,
        office.now,
    )  # fmt: skip
    await office.execute("send_to_printer", op.batch, office.now)
    await office.execute("insert_move", op.batch, 1, known.quantity, "at_printer", "", command, office.now)
    booked = await batch_booked(office, op.batch)
    return Outcome(booked, f"batch {op.batch} to {op.handed_to}, SHA-256 {op.sha256.hex()}")


async def move(office: Office, op: MoveCodes, command: str) -> Outcome:
    known = await batch_booked(office, op.batch)
    check_text(workstation=op.workstation)
    if op.state not in MOVES:
        raise LedgerRefused(f"codes cannot be moved to {op.state!r}; it can be {', '.join(MOVES)}")
    if not 1 <= op.first <= op.last <= known.quantity:
        raise LedgerRefused(f"batch {op.batch} has serials 1 to {known.quantity}, not {op.first} to {op.last}")
    if op.state == "in_stock" and not op.workstation:
        raise LedgerRefused("codes are taken into stock at a workstation")
    wrong = await office.fetch("codes_not_in", op.batch, op.first, op.last, list(MOVES[op.state]))
    if wrong:
        row = wrong[0]
        which = f"serial {row['serial']} of batch {op.batch}"
        raise LedgerRefused(f"{which} is {row['state']}: it cannot become {op.state}")
    await office.execute("move_codes", op.batch, op.first, op.last, op.state, op.workstation, office.now)
    await office.execute(
        "insert_move", op.batch, op.first, op.last, op.state, op.workstation, command, office.now
    )
    booked = await batch_booked(office, op.batch)
    return Outcome(booked, f"batch {op.batch}, serials {op.first} to {op.last} {op.state} {op.workstation}".rstrip())


async def batch_booked(office: Office, batch: int) -> BatchBooked:
    """A batch as it stands. Raises LedgerRefused for an unknown one."""
    rows = await office.fetch("batches", batch, 1)
    if not rows:
        raise LedgerRefused(f"batch {batch} is not known")
    return booked_batch(rows[0])


def booked_batch(row: Record) -> BatchBooked:
    states: dict[str, int] = dict(row["states"] or ())
    return BatchBooked(
        batch=row["batch"],
        product=row["product"],
        quantity=row["quantity"],
        created_by=row["created_by"],
        states=states,
        exported=row["exported"],
    )
