"""What the office looks at: an order with its tickets and counters, and batches of codes."""

from __future__ import annotations

from protocols.rights import zones_of
from storage._code_batches import booked_batch
from storage._office import Office, right_count
from storage._office_ops import (
    Batches,
    Codes,
    CredentialBooks,
    FindBooks,
    ListBatches,
    ListCodes,
    OrderBooks,
    RightBooks,
    TicketBooks,
)
from storage._places import Places, RightCount
from storage._refunds import refunds_of
from storage.interfaces import LedgerRefused

OfficeQuestion = FindBooks | ListBatches | ListCodes
OFFICE_QUESTIONS = (FindBooks, ListBatches, ListCodes)
BATCHES_SHOWN = 50  # the latest
TICKETS_SHOWN = 500  # of an order; the one that was asked for comes first, the others in their order


async def answer_office(office: Office, question: OfficeQuestion) -> OrderBooks | Batches | Codes:
    """Answer one question. Raises LedgerRefused for a batch that is not there."""
    if isinstance(question, FindBooks):
        return await _find(office, question.number)
    if isinstance(question, ListBatches):
        rows = await office.fetch("batches", question.batch, BATCHES_SHOWN)
        return Batches(batches=[booked_batch(row) for row in rows])
    return await _codes(office, question.batch)


async def _codes(office: Office, batch: int) -> Codes:
    row = await office.fetchrow("batch", batch)
    if row is None:
        raise LedgerRefused(f"batch {batch} is not known")
    product = office.shop.versions[row["product"], row["version"]]
    return Codes(
        batch=batch,
        product=row["product"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        pax=product.pax,
        product_class=product.product_class,
        zones=zones_of(product.rules),
        codes=[(each["serial"], each["ticket"]) for each in await office.fetch("codes_of_batch", batch)],
    )


async def _find(office: Office, number: int) -> OrderBooks:
    row = await office.fetchrow("find_order", number)
    if row is None:
        return OrderBooks(order=0)
    order = row["order_id"]
    rights: dict[int, list[tuple[RightCount, RightBooks]]] = {}
    rows = await office.fetch("tickets_of_order", order, number, TICKETS_SHOWN)
    tickets = {each["ticket"]: each for each in rows}
    for each in await office.fetch("rights_of_tickets", list(tickets)):
        ticket = tickets[each["ticket"]]
        rule = office.shop.versions[ticket["product"], ticket["version"]].rules.rights[each["rule"]]
        books = RightBooks(
            zones=[each["zone"]] if each["zone"] else list(rule.zones),
            sold=each["sold"],
            redeemed=each["redeemed"],
            held=each["held"],
            refunded=each["refunded"],
            reserved_refund=each["reserved_refund"],
        )
        rights.setdefault(each["ticket"], []).append((right_count(each, rule.uses), books))
    credentials: dict[int, list[CredentialBooks]] = {}
    papers: dict[int, int] = {}
    for each in await office.fetch("credentials_of_tickets", list(tickets)):
        papers[each["ticket"]] = papers.get(each["ticket"], 0) + bool(each["paper"] and each["state"] != "void")
        credentials.setdefault(each["ticket"], []).append(
            CredentialBooks(
                credential=each["credential"],
                kind=each["kind"],
                tail=each["tail"],
                state=each["state"],
                issue_index=each["issue_index"],
                personal=each["personal"],
                redeemed=each["redeemed"],
            )
        )
    books_of_tickets = []
    for number_of, ticket in tickets.items():
        counted = rights.get(number_of, [])
        places = Places(ticket["pax"], ticket["given_back"], [count for count, _ in counted])
        mine = credentials.get(number_of, [])
        named = sum(1 for each in mine if each.kind == "id_number" and each.personal and each.state != "void")
        open_ = ticket["state"] in ("active", "on_hold")
        books_of_tickets.append(
            TicketBooks(
                ticket=number_of,
                line=ticket["line"],
                product=ticket["product"],
                product_name_zh=ticket["name_zh"],
                product_name_en=ticket["name_en"],
                state=ticket_state(ticket["state"], places),
                hold_reason=(ticket["hold_reason"] or "") if ticket["state"] == "on_hold" else "",
                pax=ticket["pax"],
                collected=papers.get(number_of, 0),
                named=named,
                to_pass=places.to_pass if ticket["state"] == "active" else 0,
                to_refund=places.to_refund if open_ else 0,
                to_collect=places.free if ticket["state"] == "active" else 0,
                valid_from=ticket["valid_from"],
                valid_to=ticket["valid_to"],
                slot_from=ticket["slot_from"],
                slot_to=ticket["slot_to"],
                rights=[books for _, books in counted],
                credentials=mine,
            )
        )
    return OrderBooks(
        order=order,
        channel=row["channel"],
        user=row["user_name"],
        sold_at=row["sold_at"],
        total_cents=row["total_cents"],
        paid_cents=row["paid_cents"],
        refunded_cents=row["refunded_cents"],
        state=order_state(row["reservation"], [each.state for each in books_of_tickets]),
        pay_by=row["pay_by"],
        supplement_of=row["supplement_of"],
        tickets=books_of_tickets,
        refunds=await refunds_of(office, order=order),
    )


def ticket_state(stored: str, places: Places) -> str:
    """The state of a ticket as its counters say it (domain model, section 5); nothing of it is stored twice."""
    if stored != "active":
        return stored
    rights = places.rights
    used = any(right.redeemed for right in rights)
    if any(right.held for right in rights):
        return "in_progress"
    if places.counted and all((right.available or 0) <= 0 for right in rights):
        if not used:
            return "refunded"
        return "used"
    if used:
        return "partly_used"
    return "partly_refunded" if places.given_back else "active"


def order_state(reservation: str, tickets: list[str]) -> str:
    """created (waits for money), expired, cancelled, issued, partly_used, used, partly_refunded or refunded."""
    if reservation != "paid":
        return "created" if reservation == "held" else reservation
    if not tickets or all(state in ("active", "on_hold") for state in tickets):
        return "issued"
    for whole in ("refunded", "used"):
        if all(state == whole for state in tickets):
            return whole
    if any(state in ("partly_used", "used", "in_progress") for state in tickets):
        return "used" if all(state in ("used", "refunded", "void") for state in tickets) else "partly_used"
    return "partly_refunded"
