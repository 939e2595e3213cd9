"""Every method of the console channel: its params and result, who may call it, and what it needs besides.

This one table is what the channel enforces (`paifang.wiring` gives each row an address), what `docs/console-api.md` and
its AsyncAPI file are generated from (`python -m admin_ws.asyncapi`), and what the matrix test plays through, method by
method and role by role.
"""

from __future__ import annotations

import msgspec

from protocols import console as c
from protocols import modes as m
from protocols import phone as p
from protocols.console_rights import (
    CALIBRATE,
    CARDS,
    CASES,
    CODES,
    CODES_EXPORT,
    CONFIGURE,
    EVACUATE,
    FIND,
    GROUPS,
    HOLD,
    INSPECT,
    LANE_MODE,
    LANE_OPEN,
    OFFICE,
    OWN,
    PAYMENTS,
    REFUND,
    REFUND_APPROVE,
    RESTORE,
    REVERSE,
    SELL,
    USERS,
    VIEW,
    ZONE_STOP,
)


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One method. `result` None: an object without a fixed shape.

    `audit` says who writes it into the audit log: `channel` the channel itself, `actor` whoever carries it out (with
    what came of it), "" nobody, because it changes nothing.  `four_eyes` says when a second person is needed.
    """

    name: str
    params: type[msgspec.Struct] | None
    result: type[msgspec.Struct] | None
    permission: str
    audit: str = ""
    four_eyes: str = ""
    system: bool = False  # told at once on the system lane; nobody waits for the answer


def _read(name: str, params: type[msgspec.Struct], result: type[msgspec.Struct] | None, permission: str) -> Method:
    return Method(name=name, params=params, result=result, permission=permission)


def _change(
    name: str,
    params: type[msgspec.Struct],
    result: type[msgspec.Struct],
    permission: str,
    *,
    audit: str = "channel",
    four_eyes: str = "",
    system: bool = False,
) -> Method:
    return Method(
        name=name, params=params, result=result, permission=permission, audit=audit, four_eyes=four_eyes, system=system
    )


_TABLE: tuple[Method, ...] = (
    # one's own session
    _change("session.login", c.Login, c.Session, OWN, audit="actor"),
    _read("session.resume", c.Resume, c.Session, OWN),
    _change("session.logout", c.Logout, c.Done, OWN, audit="actor"),
    _change("session.set_password", c.SetPassword, c.Session, OWN, audit="actor"),
    _change("session.totp_begin", c.BeginTotp, c.TotpSecret, OWN, audit="actor"),
    _change("session.totp_confirm", c.ConfirmTotp, c.RecoveryCodes, OWN, audit="actor"),
    _change("session.totp_remove", c.RemoveTotp, c.Done, OWN, audit="actor"),
    # what is seen
    _read("site.subscribe", c.Subscription, c.Snapshot, VIEW),
    _read("site.inspect", c.GetTree, None, INSPECT),
    _read("site.explain", c.ExplainScan, c.Explanation, INSPECT),
    _read("trace.path", c.GetTrace, c.TracePath, FIND),
    _read("flow.report", c.GetFlowReport, c.FlowReport, VIEW),
    _change("site.reload", c.ReloadSite, c.Reloaded, CONFIGURE, audit="actor"),
    # emergency
    _change("evacuation.trigger", c.Trigger, c.Done, EVACUATE, system=True),
    _change("evacuation.restore", c.RestoreRequest, c.Done, RESTORE, four_eyes="always: the second of two restores"),
    _change("lane.rearm", c.RearmLane, c.Done, RESTORE),
    _change("evacuation.count", c.CountOut, c.Done, EVACUATE),
    # lanes and zones
    _change("lane.set_mode", c.SetMode, c.Done, LANE_MODE, audit="actor"),
    _change("lane.open", c.ManualOpen, c.Done, LANE_OPEN, audit="actor"),
    _change("lane.pause", c.PauseBatch, c.Done, LANE_OPEN, audit="actor"),
    _change("zone.stop", c.StopZoneFor, c.Done, ZONE_STOP, audit="actor"),
    _change(
        "zone.calibrate", c.CalibrateZone, c.Done, CALIBRATE, audit="actor",
        four_eyes="above the site's limit of people",
    ),
    # modes
    _read("mode.list", m.ListModes, m.Modes, VIEW),
    _change("mode.start", m.StartMode, m.ModeView, LANE_MODE, audit="actor"),
    _change("mode.end", m.EndMode, c.Done, LANE_MODE, audit="actor"),
    # phones
    _read("phone.scan", p.PhoneScan, p.PhoneVerdict, LANE_OPEN),  # written down as any scan is
    _read("phone.list", p.GetPhoneList, p.PhoneList, LANE_OPEN),
    _change("phone.upload", p.PhoneUpload, p.PhoneUploaded, LANE_OPEN, audit="actor"),
    _change("phone.count", p.PhoneCount, c.Done, LANE_OPEN, audit="actor"),
    _change(
        "phone.stubs", p.StubCount, p.StubsBooked, LANE_OPEN, audit="actor",
        four_eyes="above the site's limit of people",
    ),
    _read("site.figures", p.GetFigures, p.Figures, OFFICE),
    # sales
    _read("sales.products", c.ListProducts, c.Products, SELL),
    _change("sales.sell", c.Sell, c.Sold, SELL),
    _read("sales.print_jobs", c.GetPrintJobs, c.PrintJobs, SELL),
    _change("sales.paid", c.NotePayment, c.PaymentView, PAYMENTS, audit="actor"),
    _change("sales.cancel", c.CancelUnpaid, c.Done, SELL, audit="actor"),
    _change("ticket.wallet", c.GetWallet, c.Wallet, SELL, audit="actor"),
    # the office
    _read("office.find", c.FindOrder, c.OrderView, OFFICE),
    _change("office.hold", c.HoldPlaces, c.Done, HOLD, audit="actor"),
    _change("office.refund", c.AskRefund, c.RefundView, REFUND, audit="actor"),
    _change(
        "office.decide_refund", c.SettleRefund, c.RefundView, REFUND_APPROVE, audit="actor",
        four_eyes="above the limit: not whoever asked",
    ),
    _change("office.pay_refund", c.PayRefund, c.RefundView, REFUND, audit="actor"),
    _change("office.collect", c.CollectPlaces, c.CollectedView, GROUPS, audit="actor"),
    _change("office.name_people", c.NameList, c.NamedView, GROUPS, audit="actor"),
    _change("office.transfer", c.MovePlaces, c.Done, GROUPS, audit="actor"),
    _change("office.replace_card", c.NewCard, c.CardView, CARDS, audit="actor"),
    _change("office.mark_card", c.SetCardState, c.Done, CARDS, audit="actor"),
    _change("office.reverse", c.UndoAdmission, c.ReversedView, REVERSE, audit="actor"),
    _change("codes.create", c.NewCodes, c.BatchView, CODES, audit="actor"),
    _read("codes.status", c.GetBatches, c.BatchList, CODES),
    _change("codes.move", c.ShiftCodes, c.BatchView, CODES, audit="actor"),
    _change(
        "codes.export", c.TakeOutCodes, c.ExportView, CODES_EXPORT, audit="actor",
        four_eyes="always: not whoever drew the codes",
    ),
    _change("codes.page", c.GetCodes, c.CodePage, CODES_EXPORT),
    # cases and histories
    _read("cases.list", c.ListCases, c.CaseList, CASES),
    _change("cases.acknowledge", c.AcknowledgeCase, c.Done, CASES, audit="actor"),
    _change("cases.assign", c.AssignCase, c.Done, CASES, audit="actor"),
    _change("cases.note", c.NoteCase, c.Done, CASES, audit="actor"),
    _change("cases.close", c.CloseCase, c.Done, CASES, audit="actor"),
    _read("find.history", c.FindHistory, c.FindResult, FIND),
    # users
    _read("users.list", c.ListUsers, c.UserList, USERS),
    _read("users.roles", c.ListRoles, c.RoleList, USERS),
    _read("users.sessions", c.ListSessions, c.SessionList, USERS),
    _change("users.create", c.CreateUser, c.OneTimePassword, USERS, audit="actor"),
    _change("users.reset_password", c.ResetPassword, c.OneTimePassword, USERS, audit="actor"),
    _change("users.reset_totp", c.ResetTotp, c.Done, USERS, audit="actor"),
    _change("users.set_role", c.SetUserRole, c.Done, USERS, audit="actor"),
    _change("users.disable", c.DisableUser, c.Done, USERS, audit="actor"),
    _change("users.remove", c.RemoveUser, c.Done, USERS, audit="actor"),
    _change("users.revoke", c.RevokeSessions, c.Done, USERS, audit="actor"),
)  # fmt: skip

METHODS: dict[str, Method] = {method.name: method for method in _TABLE}
"""Name -> method, in the order of the documentation."""

assert len(METHODS) == len(_TABLE), "a method stands twice in the table"
