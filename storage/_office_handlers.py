"""Every command of the office, and what carries it out."""

from __future__ import annotations

from storage import _code_batches as codes
from storage import _corrections as corrections
from storage import _groups as groups
from storage import _payments as payments
from storage import _refunds as refunds
from storage._office import Handler
from storage._office_ops import (
    CancelOrder,
    Collect,
    CompleteRefund,
    CreateCodes,
    DecideRefund,
    ExportCodes,
    HoldTicket,
    MarkCard,
    MoveCodes,
    NamePeople,
    OfficeOp,
    PaymentNotice,
    ReplaceCard,
    RequestRefund,
    ReverseAdmission,
    TransferPlaces,
)

HANDLERS: dict[type[OfficeOp], Handler] = {
    RequestRefund: refunds.request,
    DecideRefund: refunds.decide,
    CompleteRefund: refunds.complete,
    HoldTicket: groups.hold,
    Collect: groups.collect,
    NamePeople: groups.name_people,
    TransferPlaces: groups.transfer,
    ReplaceCard: corrections.replace_card,
    MarkCard: corrections.mark_card,
    ReverseAdmission: corrections.reverse,
    PaymentNotice: payments.pay,
    CancelOrder: payments.cancel,
    payments.ExpireOrder: payments.expire,
    CreateCodes: codes.create,
    ExportCodes: codes.export,
    MoveCodes: codes.move,
}
