"""A lane whose gate runs its own machine behind the device link.

The device scans, opens, senses and reports; this actor forwards its questions to admission and its statements to the
ledger, answers once they are on disk, keeps the commands that it will fetch, and shows the lane on the console.  The
device is its own outbox: it repeats what was not answered, and everything here is safe to repeat.
"""

from __future__ import annotations

import collections
import contextlib
import math
import time

import msgspec
import trio

from actors._common import offer
from actors.admission.refusals import OK, RefusalText, say, words
from actors.lane._fleeing import Fleeing
from actors.lane._shared import (
    ALARM_SHOWN_S,
    AlarmOver,
    Face,
    LaneCommandRefused,
    LaneConfig,
    LaneParts,
    OpenLane,
    PauseLane,
    SetLaneMode,
    check_mode,
    check_open,
    no_batch,
    takes,
    zones_of,
)
from core import Address, Envelope, Failed, MailboxFull, Stop
from drivers.base import Barrier
from protocols import devicelink as link
from protocols.console import DeviceView
from protocols.messages import (
    AdoptRelease,
    Base,
    Booked,
    Credential,
    CredentialKind,
    Decide,
    Denied,
    Direction,
    Ended,
    EndReason,
    Granted,
    LaneMode,
    PassageKind,
    Passed,
    Rearm,
    Release,
    ReleaseAck,
    Restore,
    Scan,
    Settled,
    Telemetry,
    new_id,
)
from storage.interfaces import LaneBooks, LaneLedger, LedgerRefused, OpenCase, RefusedScan

DECIDE_S = 1.5  # a visitor waits no longer for a decision; then the device hears `unavailable`
WAITING_MAX = 256  # questions of one device that are not answered yet
COMMANDS_MAX = 32  # commands that one device has not fetched
COMMAND_TTL_S = 5.0
UNSENSED_AFTER_S = 3.0  # without a poll on the safety socket, nobody knows any more whether a released gate is open
SILENT_AFTER_S = 6.0  # without any word from the device, the console shows it as unavailable
REARM_COMMAND_TTL_S = 60.0
RESTARTED_WITHIN_S = 60.0  # a device that goes on after this did not obey
RESTART_COMMAND_TTL_S = 10.0  # later than this nobody waits for it any more
BOOKS_RETRY_S = 1.0

PASS_KINDS = frozenset(PassageKind)
END_REASONS = frozenset(EndReason)
CASE_ALARMS = frozenset({"tailgate", "reverse", "intrusion", "forced", "disk"})


class LinkCall(Base, frozen=True, kw_only=True):
    """link -> lane: a device's request. Answered with a `devicelink` reply."""

    request: link.WorkRequest


class RestartLane(Base, frozen=True, kw_only=True):
    """desk -> lane: let the lane's controller end in order and be started again by its supervisor.

    Answered with nothing once the controller may fetch it; fails with LaneCommandRefused.
    """

    by: str


class SafetySeen(Telemetry, frozen=True, kw_only=True):
    """link -> lane: what the device said on the safety socket about its barrier.

    `proof` is what a poll shows for being released, empty if nothing; None: an acknowledgement, which claims nothing.
    """

    barrier: str
    released: bool
    incident: int | None
    proof: bytes | None = b""


class Wake(Telemetry, frozen=True, kw_only=True):
    """lane -> link: tell this device to fetch its commands now."""

    device: str


class _Silent(Telemetry, frozen=True, kw_only=True):
    pass


class _Unsensed(Telemetry, frozen=True, kw_only=True):
    pass


class _Undecided(Telemetry, frozen=True, kw_only=True):
    nonce: str


class _AskBooks(Telemetry, frozen=True, kw_only=True):
    pass


class LinkLane:
    """The actor of one lane with a smart gate. `wake` is the link's actor."""

    def __init__(self, config: LaneConfig, parts: LaneParts, wake: Address) -> None:
        self._config = config
        self._parts = parts
        self._wake = wake
        self._face = Face(config, "link", parts)
        self._fleeing = Fleeing(config, parts.evacuation)
        self._mode = config.mode
        self._incident: int | None = None
        self._needs_rearm = False
        self._scans: dict[str, list[Envelope]] = {}
        self._granted: collections.deque[str] = collections.deque(maxlen=WAITING_MAX)  # nonces of the latest grants
        self._statements: dict[tuple[object, ...], list[Envelope]] = {}
        self._commands: dict[int, link.Command] = {}
        self._command_until: dict[int, float] = {}
        self._hello: link.Hello | None = None
        self._hello_before = 0  # grants with ids below this one are older than the hello
        self._available = False
        self._rearmed_at = -math.inf
        self._reported: int | None = None  # under which incident the gate says that it is released
        self._boot = ""  # of the device's last word
        self._ending: str | None = None  # the boot that was told to end
        self._ending_until = 0.0
        self._over: frozenset[int | None] = frozenset()  # the incidents that the last restore ended

    def refuses(self, direction: Direction = Direction.ENTRY) -> str:
        """The code with which the lane refuses everybody this way now, or an empty string. For people to look at."""
        return self._face.refuses(direction)

    async def run(self, me: Address) -> None:
        self._me = me
        self._scans.clear()
        self._statements.clear()
        self._show_mode()
        if self._available:  # timers die with their incarnation
            me.set_timer("silent", SILENT_AFTER_S, _Silent())
        self._ask_books()
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case Release(incident=incident):
                    if incident != self._incident:
                        self._reported = None  # what it says of an earlier one is not what a re-arming would end
                    self._incident, self._needs_rearm = incident, False
                    self._take_back("open", "rearm")
                    self._show_mode()
                case LinkCall(request=request):
                    self._heard(request)
                    self._on_request(request, envelope)
                case SafetySeen() as seen:
                    self._on_safety(seen)
                case Granted() | Denied() as answer:
                    self._on_decision(answer)
                case Booked() as booked:
                    if not booked.repeated:
                        self._face.counted(booked.direction)
                    self._on_booked(booked)
                case Settled() as settled:
                    self._acknowledge(("grant", settled.grant))
                    self._acknowledge(("nonce", settled.nonce))
                case LaneBooks() as books:
                    self._on_books(books)
                case Failed() as failed:
                    self._on_failed(failed)
                case Restore(incident=incident):
                    self._incident, self._needs_rearm = None, True
                    self._over = frozenset({incident, self._reported})
                    if self._reported is None:  # not heard yet: a re-arming names what it ends, always
                        self._reported = incident
                    self._show_mode()
                case Rearm():
                    if self._needs_rearm:
                        self._needs_rearm = False
                        self._rearmed_at = trio.current_time()
                        self._command("rearm", ttl_s=REARM_COMMAND_TTL_S, incident=self._reported)
                        self._show_mode()
                case SetLaneMode() as order:
                    self._on_mode(order, envelope)
                case OpenLane() as order:
                    self._on_open(order, envelope)
                case PauseLane() as order:
                    self._on_pause(order, envelope)
                case RestartLane():
                    self._on_restart(envelope)
                case _Silent():
                    self._available = False
                    self._face.show(available=False, state="unavailable", barrier=Barrier.UNKNOWN.value)
                    self._show_device("no word from the device")
                case _Unsensed():
                    self._face.show(barrier=Barrier.UNKNOWN.value)
                    self._acknowledge_release(Barrier.UNKNOWN.value)
                case _Undecided(nonce=nonce):
                    self._undecided(nonce)
                case _AskBooks():
                    self._ask_books()
                case AlarmOver():
                    self._face.show(alarm="")
                case Stop():
                    return

    # --- the device's requests --------------------------------------------------------------------------------

    def _heard(self, request: link.WorkRequest) -> None:
        if self._ending is not None and (request.boot != self._ending or trio.current_time() >= self._ending_until):
            self._ending = None
        self._boot = request.boot
        self._me.set_timer("silent", SILENT_AFTER_S, _Silent())
        barrier = getattr(request, "barrier", "")
        if barrier:
            self._face.show(barrier=barrier)
        if not self._available and self._ending is None:
            self._available = True
            self._show_device("")
            self._show_mode()

    def _on_request(self, request: link.WorkRequest, envelope: Envelope) -> None:
        match request:
            case link.Scan():
                self._on_scan(request, envelope)
            case link.Pass():
                self._on_pass(request, envelope)
            case link.PassEnd():
                self._on_end(request, envelope)
            case link.Hello():
                self._on_hello(request, envelope)
            case link.Fetch():
                self._on_fetch(request, envelope)
            case link.Alarm():
                self._on_alarm(request)
                envelope.reply(link.Ack(seq=request.seq, server_at=time.time()))
            case link.Heartbeat():
                envelope.reply(link.Ack(seq=request.seq, server_at=time.time()))

    def _on_scan(self, request: link.Scan, envelope: Envelope) -> None:
        if request.nonce in self._scans:
            self._scans[request.nonce].append(envelope)  # repeated before the answer: both get it
            return
        code = self._closed_to(request)
        if code:
            offer(self._parts.books, self._refused(request, code))
            self._deny(request.nonce, code, [envelope])
            return
        if len(self._scans) >= WAITING_MAX:
            self._refuse(envelope, "too_many", "too many scans are waiting")
            return
        scan = Scan(
            lane=self._config.lane,
            device=request.device,
            nonce=request.nonce,
            credential=Credential(CredentialKind(request.kind), request.value, request.issue_index),
            at=request.at,
            direction=Direction(request.direction),
            pax=request.pax,
            photo=request.photo,
            holder=Credential(CredentialKind.ID_NUMBER, request.holder) if request.holder else None,
            stamp=request.stamp,
            product=request.product,
        )
        from_zone, to_zone = zones_of(self._config, scan.direction)
        question = Decide(
            scan=scan,
            from_zone=from_zone,
            to_zone=to_zone,
            max_pax=self._config.max_group,
            ttl_s=self._config.grant_ttl_s,
            lane_class=self._config.class_,
        )
        if self._send(self._parts.admission, question, envelope):
            self._scans[request.nonce] = [envelope]
            self._me.set_timer(f"scan/{request.nonce}", DECIDE_S, _Undecided(nonce=request.nonce))

    def _closed_to(self, request: link.Scan) -> str:
        """The refusal that needs nobody's decision, or an empty string."""
        if not request.nonce or len(request.nonce) > link.NAME_BYTES_MAX:
            return "unknown_code"
        if request.kind not in frozenset(CredentialKind) or request.direction not in frozenset(Direction):
            return "unknown_code"
        if request.nonce in self._granted:
            return ""  # known, so the ledger judges it: the answer was lost, and the grant is still to be ended
        if self._incident is not None:
            return "emergency_go"
        if self._needs_rearm or not takes(self._mode, Direction(request.direction)):
            return "lane_closed"
        return ""

    def _refused(self, request: link.Scan, code: str) -> RefusedScan:
        known = request.kind in frozenset(CredentialKind)
        kind = CredentialKind(request.kind) if known else CredentialKind.CODE
        return RefusedScan(
            lane=self._config.lane,
            device=request.device,
            nonce=request.nonce[: link.NAME_BYTES_MAX],
            kind=kind,
            credential_hash=self._parts.stored(Credential(kind, request.value)) if known else b"",
            code=code,
            at=request.at,
        )

    def _on_pass(self, request: link.Pass, envelope: Envelope) -> None:
        if request.kind not in PASS_KINDS or request.direction not in frozenset(Direction):
            self._refuse(
                envelope, "bad_message", f"kind {request.kind!r} or direction {request.direction!r} is unknown"
            )
            return
        if request.ended is not None and request.grant is None:
            self._refuse(envelope, "bad_message", "a grant is said to be over, and none is named")
            return
        kind = PassageKind(request.kind)
        if kind in (PassageKind.GRANTED, PassageKind.LATE) and request.grant is None:
            kind = PassageKind.FORCED  # a passage without a grant is never counted as one with
        grant = request.grant if kind in (PassageKind.GRANTED, PassageKind.LATE) else None
        if self._incident is not None and grant is None:
            kind = PassageKind.EMERGENCY
            self._fleeing.passed(Direction(request.direction), request.boot, request.seq)
        from_zone, to_zone = zones_of(self._config, Direction(request.direction))
        passed = Passed(
            lane=self._config.lane,
            device=request.device,
            boot=request.boot,
            seq=request.seq,
            direction=Direction(request.direction),
            kind=kind,
            grant=grant,
            from_zone=from_zone,
            to_zone=to_zone,
            at=request.at,
            ended=None if grant is None else request.ended,
        )
        self._state_and_wait(("pass", request.boot, request.seq), passed, envelope)

    def _on_booked(self, booked: Booked) -> None:
        """A passage is on disk, and with it the end of its grant where that came along and the books can do both.

        Otherwise the acknowledgement waits for the end, which is said now.
        """
        if booked.ended:
            self._grant_over()
        for envelope in self._statements.pop(("pass", booked.boot, booked.seq), []):
            request: link.Pass = envelope.msg.request
            if request.ended is None or booked.ended:
                envelope.reply(link.Ack(seq=request.seq, server_at=time.time()))
            elif booked.end_refused:
                self._refuse(envelope, "bad_message", booked.end_refused)
            else:
                said = link.PassEnd(
                    device=request.device,
                    boot=request.boot,
                    seq=request.seq,
                    at=request.at,
                    grant=request.grant,
                    passed=request.ended,
                )
                self._on_end(said, envelope)

    def _on_end(self, request: link.PassEnd, envelope: Envelope) -> None:
        if request.why not in END_REASONS or (request.grant is None and not request.nonce):
            self._refuse(
                envelope, "bad_message", f"why {request.why!r} is unknown, or neither grant nor nonce is given"
            )
            return
        ended = Ended(
            lane=self._config.lane,
            device=request.device,
            grant=request.grant,
            nonce=request.nonce,
            passed=request.passed,
            why=EndReason(request.why),
            at=request.at,
        )
        self._grant_over()
        self._state_and_wait(_end_key(ended), ended, envelope)

    def _grant_over(self) -> None:
        self._face.show(passed=0, pax=0)
        self._show_mode()

    def _on_hello(self, request: link.Hello, envelope: Envelope) -> None:
        """Welcome the device at once; what it says about its grants is settled as soon as the ledger answers."""
        self._hello = request
        self._hello_before = new_id()
        self._ask_books()
        envelope.reply(
            link.Welcome(
                seq=request.seq,
                server_at=time.time(),
                site="",
                lane=self._config.lane,
                mode=self._mode.value,
                released=self._incident is not None,
                incident=self._incident,
            )
        )

    def _ask_books(self) -> None:
        if self._hello is None:
            return
        self._me.set_timer("books", BOOKS_RETRY_S, _AskBooks())
        question = LaneLedger(lane=self._config.lane, device=self._config.device, epoch=None)
        with contextlib.suppress(MailboxFull):  # the timer asks again
            self._parts.books.tell(question, reply_to=self._me)

    def _on_books(self, books: LaneBooks) -> None:
        self._me.cancel_timer("books")
        self._face.show(entries=books.entries_today, exits=books.exits_today)
        hello, self._hello = self._hello, None
        if hello is None:
            return
        for grant in books.open_grants:
            if grant.grant in hello.open_grants or grant.grant >= self._hello_before:
                continue
            ended = Ended(
                lane=self._config.lane,
                device=self._config.device,
                grant=grant.grant,
                nonce=grant.nonce,
                passed=grant.passed,
                why=EndReason.RECOVERED,
                at=time.time(),
            )
            offer(self._parts.books, ended)

    def _on_fetch(self, request: link.Fetch, envelope: Envelope) -> None:
        for done in request.done[:COMMANDS_MAX]:
            self._commands.pop(done, None)
            self._command_until.pop(done, None)
        now = trio.current_time()
        for late in [id_ for id_, until in self._command_until.items() if until <= now]:
            del self._commands[late], self._command_until[late]
        commands = [
            msgspec.structs.replace(command, ttl_s=self._command_until[id_] - now)  # the gate counts from now
            for id_, command in self._commands.items()
        ]
        envelope.reply(link.Commands(seq=request.seq, server_at=time.time(), commands=commands))

    def _on_alarm(self, request: link.Alarm) -> None:
        kind = request.kind[: link.NAME_BYTES_MAX]
        self._face.show(alarm=kind)
        self._me.set_timer("alarm", ALARM_SHOWN_S, AlarmOver())
        self._face.feed("alarm", "warning", kind, f"报警：{kind}", f"Alarm: {kind}")
        if kind in CASE_ALARMS:
            offer(
                self._parts.books,
                OpenCase(
                    key=f"alarm/{request.device}/{request.boot}/{request.seq}",
                    kind=kind,
                    lane=self._config.lane,
                    severity="warning",
                    detail=request.detail[:200],
                    at=request.at,
                ),
            )

    # --- answers ----------------------------------------------------------------------------------------------

    def _on_decision(self, answer: Granted | Denied) -> None:
        self._me.cancel_timer(f"scan/{answer.nonce}")
        waiting = self._scans.pop(answer.nonce, [])
        if isinstance(answer, Denied):
            self._deny(answer.nonce, answer.code, waiting, say(answer, self._parts.gates))
            return
        if answer.nonce not in self._granted:
            self._granted.append(answer.nonce)
        text = words(OK)
        for envelope in waiting:
            request = envelope.msg.request
            envelope.reply(
                link.Grant(
                    seq=request.seq,
                    server_at=time.time(),
                    nonce=answer.nonce,
                    grant=answer.grant,
                    pax=answer.pax,
                    passed=answer.passed,
                    ttl_s=answer.ttl_s,
                    state=answer.state.value,
                    product_class=answer.product_class,
                    text_zh=text.visitor_zh,
                    text_en=text.visitor_en,
                    remaining=answer.remaining,
                )
            )
        if answer.fresh and waiting:
            if self._incident is None:
                self._face.show(state="granted", passed=answer.passed, pax=answer.pax)
            self._face.answered(OK, trace=self._me.trace)

    def _deny(self, nonce: str, code: str, waiting: list[Envelope], text: RefusalText | None = None) -> None:
        text = text or words(code)
        for envelope in waiting:
            envelope.reply(
                link.Deny(
                    seq=envelope.msg.request.seq,
                    server_at=time.time(),
                    nonce=nonce,
                    code=code,
                    text_zh=text.visitor_zh,
                    text_en=text.visitor_en,
                )
            )
        self._face.answered(code, text, trace=self._me.trace)

    def _acknowledge(self, key: tuple[object, ...]) -> None:
        for envelope in self._statements.pop(key, []):
            envelope.reply(link.Ack(seq=envelope.msg.request.seq, server_at=time.time()))

    def _on_failed(self, failed: Failed) -> None:
        """The ledger is away, or refused: the device learns it at once and repeats, or shows it."""
        message = failed.msg
        if isinstance(message, LaneLedger):
            return  # the timer asks again
        if isinstance(message, Passed):
            waiting = self._statements.pop(("pass", message.boot, message.seq), [])
        elif isinstance(message, Ended):
            waiting = self._statements.pop(_end_key(message), [])
        else:
            nonce = getattr(message, "nonce", "") or getattr(getattr(message, "scan", None), "nonce", "")
            self._undecided(nonce)
            return
        code = "bad_message" if isinstance(failed.error, LedgerRefused) else "unavailable"
        for envelope in waiting:
            self._refuse(envelope, code, str(failed.error))

    def _undecided(self, nonce: str) -> None:
        """No decision in time. Whether one was written is unknown: the statement ends it, and the device gets a no."""
        waiting = self._scans.pop(nonce, None)
        if waiting is not None:
            self._me.cancel_timer(f"scan/{nonce}")
            offer(self._parts.books, self._never_opened(nonce))
            self._deny(nonce, "unavailable", waiting)

    def _never_opened(self, nonce: str) -> Ended:
        return Ended(
            lane=self._config.lane,
            device=self._config.device,
            grant=None,
            nonce=nonce,
            passed=0,
            why=EndReason.NEVER_OPENED,
            at=time.time(),
        )

    def _state_and_wait(self, key: tuple[object, ...], statement: Passed | Ended, envelope: Envelope) -> None:
        if key in self._statements:
            self._statements[key].append(envelope)
            return
        if len(self._statements) >= WAITING_MAX:
            self._refuse(envelope, "too_many", "too many statements are waiting")
            return
        if self._send(self._parts.books, statement, envelope):
            self._statements[key] = [envelope]

    def _send(self, to: Address, message: Decide | Passed | Ended, envelope: Envelope) -> bool:
        try:
            to.tell(message, reply_to=self._me, deadline=envelope.deadline, trace=envelope.trace)
        except MailboxFull:
            self._refuse(envelope, "unavailable", "busy")
            return False
        return True

    def _refuse(self, envelope: Envelope, code: str, text: str) -> None:
        envelope.reply(link.Refused(seq=envelope.msg.request.seq, server_at=time.time(), code=code, text=text[:200]))

    # --- safety, modes, commands ------------------------------------------------------------------------------

    def _on_safety(self, seen: SafetySeen) -> None:
        self._face.show(barrier=seen.barrier)
        if self._needs_rearm and not seen.released:  # re-armed by hand at the gate
            self._needs_rearm = False
            self._show_mode()
        self._me.set_timer("unsensed", UNSENSED_AFTER_S, _Unsensed())
        if seen.released and seen.proof is not None and seen.incident is not None:
            self._reported = seen.incident
            self._claim(seen.incident, seen.proof)
        # released by somebody else (`paifang evacuate`) is as open; an old state of the barrier is no acknowledgement
        if seen.released or seen.incident == self._incident:
            self._acknowledge_release(seen.barrier)

    def _claim(self, incident: int, proof: bytes) -> None:
        """The gate says that it is released, and here nobody knows why: evacuation judges it."""
        rearming = trio.current_time() - self._rearmed_at < REARM_COMMAND_TTL_S
        ending = incident in self._over and (self._needs_rearm or rearming)
        if self._incident is None and not ending:
            claim = AdoptRelease(lane=self._config.lane, incident=incident, proof=proof)
            offer(self._parts.evacuation, claim, system=True)

    def _acknowledge_release(self, barrier: str) -> None:
        if self._incident is None:
            return
        ack = ReleaseAck(
            lane=self._config.lane,
            incident=self._incident,
            barrier=barrier,
            sensed_open=barrier in (Barrier.OPEN, Barrier.RELEASED),
            at=time.time(),
        )
        offer(self._parts.evacuation, ack)

    def _on_mode(self, order: SetLaneMode, envelope: Envelope) -> None:
        try:
            check_mode(order)
            if self._incident is not None:
                raise LaneCommandRefused("released", "The lane is released", "通道处于疏散状态")
        except LaneCommandRefused as exc:
            envelope.fail(exc)
            return
        self._mode = order.mode
        self._command("mode", mode=order.mode.value)
        self._show_mode()
        self._face.mode_set(order.by, order.mode)
        envelope.reply(None)

    def _on_open(self, order: OpenLane, envelope: Envelope) -> None:
        try:
            check_open(order)
            if self._incident is not None or self._needs_rearm:
                raise LaneCommandRefused("released", "The lane is released", "通道处于疏散状态")
            if not self._available:
                raise LaneCommandRefused("unavailable", "The gate does not answer", "闸机无应答")
        except LaneCommandRefused as exc:
            envelope.fail(exc)
            return
        self._command("open", pax=order.pax)
        self._face.opened_by_hand(order.by, order.pax)
        envelope.reply(None)

    def _on_pause(self, order: PauseLane, envelope: Envelope) -> None:
        """The gate ends its batch by itself and says so; a gate that knows no `pause` goes on, and closes at ttl."""
        view = self._face.view
        if view.state != "granted" or not self._available:
            envelope.fail(no_batch())
            return
        self._command("pause")
        self._face.paused(order.by, view.passed, view.pax)
        envelope.reply(view.passed)

    def _on_restart(self, envelope: Envelope) -> None:
        """A controller waits for the visitor who is just passing, and what is released stays released."""
        if not self._available:
            envelope.fail(LaneCommandRefused("unavailable", "The gate does not answer", "闸机无应答"))
            return
        self._command("restart", ttl_s=RESTART_COMMAND_TTL_S)
        self._ending, self._ending_until = self._boot, trio.current_time() + RESTARTED_WITHIN_S
        self._available = False  # until it says hello as a new one; scans are served as long as it lives
        self._show_device("restarting")
        self._show_mode()
        envelope.reply(None)

    def _command(
        self, name: str, *, pax: int = 0, mode: str = "", ttl_s: float = COMMAND_TTL_S, incident: int | None = None
    ) -> None:
        if len(self._commands) >= COMMANDS_MAX:
            oldest = next(iter(self._commands))
            del self._commands[oldest], self._command_until[oldest]
        command = link.Command(id=new_id(), name=name, ttl_s=ttl_s, pax=pax, mode=mode, incident=incident)
        self._commands[command.id] = command
        self._command_until[command.id] = trio.current_time() + ttl_s
        self._wake.tell(Wake(device=self._config.device))

    def _take_back(self, *names: str) -> None:
        """Forget commands that the gate has not fetched: a re-arming of before would shut it in an evacuation."""
        for id_ in [id_ for id_, command in self._commands.items() if command.name in names]:
            del self._commands[id_], self._command_until[id_]

    def _show_mode(self) -> None:
        if self._incident is not None:
            mode, state = LaneMode.EMERGENCY_RELEASED, "released"
        elif self._needs_rearm:
            mode, state = LaneMode.NEEDS_REARM, "needs_rearm"
        else:
            mode, state = self._mode, "idle" if self._available else "unavailable"
        self._face.show(mode=mode.value, state=state, available=self._available)

    def _show_device(self, detail: str) -> None:
        self._parts.hub.tell(
            DeviceView(
                device=self._config.device,
                kind="link",
                lane=self._config.lane,
                availability="available" if self._available else "unavailable",
                detail=detail,
            )
        )


def _end_key(ended: Ended) -> tuple[object, ...]:
    """What an end is waited for under: its grant, or the nonce of a scan whose answer never came."""
    return ("grant", ended.grant) if ended.grant is not None else ("nonce", ended.nonce)
