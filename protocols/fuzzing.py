"""Every codec as a function of bytes, with frames to begin from: for the tests that throw garbage at them.

The promise of `protocols` is that no codec raises anything but a `WireError`, whatever the bytes, and that none takes
long over them.  `decode(name, data)` carries one out; `seeds` gives sound frames, so that a fuzzer needs not find out
by chance what a checksum is.
"""

from __future__ import annotations

import pkgutil
import zlib
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import protocols
from protocols import (
    board4,
    cardrecord,
    console,
    devicelink,
    digicon,
    edge,
    escpos,
    frames,
    iccard,
    idcard,
    jsonrpc,
    label,
    lists,
    machpower,
    messages,
    modbus,
    nut,
    osdp,
    peoplecounter,
    rights,
    rotating,
    scanner,
    sdt,
    shortcode,
    sp,
    ticketcode,
    tpw,
    uhppote,
    wallet,
    wedge,
)
from protocols.errors import WireError

PIECE_BYTES = 5  # framers are fed in pieces of so many bytes, and then in one
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CARD_KEY = bytes(16)
SITE = "fuzz"
SP_BYTES_MAX = 4096

Decode = Callable[[bytes], object]

# modules of `protocols` that read nothing from outside, and why
WITHOUT = {
    "clock": "business days, from numbers",
    "console_accounts": "values; read by the console's channel",
    "console_cases": "values; read by the console's channel",
    "console_methods": "the table of methods",
    "console_office": "values; read by the console's channel",
    "console_reports": "values; read by the console's channel",
    "console_rights": "the table of rights",
    "console_sales": "values; read by the console's channel",
    "console_views": "values; told by the console's channel",
    "console_wallet": "values; read by the console's channel",
    "errors": "no codec",
    "escpos_slip": "renders values of our own",
    "fuzzing": "this module",
    "messages": "values; read by devicelink",
    "modes": "values; read by the console's channel",
    "phone": "values; read by the console's channel",
    "slip": "templates of our own site",
    "testing": "no codec",
    "uploads": "values; read by devicelink",
}


def _framed(make: Callable[[], Any], *decoders: Callable[[Any], object]) -> Decode:
    """A framer, fed in pieces and then at once; what it finds goes through `decoders`."""

    def decode(data: bytes) -> None:
        for pieces in ([data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)], [data]):
            framer = make()
            for piece in pieces:
                found = framer.feed(piece)
                for frame in found if isinstance(found, list) else []:
                    for decoder in decoders:
                        _only_wire_errors(decoder, frame)

    return decode


def _only_wire_errors(decoder: Callable[[Any], object], value: Any) -> None:
    try:
        decoder(value)
    except WireError:
        return


def _text(read: Callable[[str], object]) -> Decode:
    return lambda data: read(data.decode("utf-8", "replace"))


def _each(*decoders: Decode) -> Decode:
    def decode(data: bytes) -> None:
        for decoder in decoders:
            _only_wire_errors(decoder, data)

    return decode


def _json_rpc(data: bytes) -> None:
    frames_: list[tuple[jsonrpc.Wire, Any]] = [
        (jsonrpc.Wire.JSON, data.decode("utf-8", "replace")),
        (jsonrpc.Wire.MSGPACK, data),
    ]
    for wire, frame in frames_:
        _only_wire_errors(lambda each, wire=wire: jsonrpc.decode_response(wire, each), frame)  # type: ignore[misc]
        try:
            request = jsonrpc.decode_request(wire, frame)
        except WireError:
            continue
        for kind in _PARAMS:
            _only_wire_errors(lambda raw, k=kind, w=wire: jsonrpc.decode_value(w, raw, k), request.params)  # type: ignore[misc]


_PARAMS: list[Any] = [
    kind
    for kind in vars(console).values()
    if isinstance(kind, type) and issubclass(kind, messages.Base) and kind.__module__ == console.__name__
]


def _modbus_answers(data: bytes) -> None:
    questions = (
        modbus.read_bits(1, modbus.Function.READ_DISCRETE_INPUTS, 0, 8),
        modbus.read_registers(1, modbus.Function.READ_INPUT_REGISTERS, 0, 4),
        modbus.write_coil(1, 0, True),
    )
    for question in questions:
        for rtu in (True, False):
            _only_wire_errors(modbus.AnswerReader(question, 1, rtu=rtu).feed, data)


def _osdp_card(data: bytes) -> None:
    if data:
        osdp.card_value(data[1:], data[0])


def _osdp_keypad(data: bytes) -> None:
    keypad = osdp.Keypad()
    keypad.feed(data, 0.0)
    keypad.feed(data, 100.0)


def _printer_answers(data: bytes) -> None:
    for octet in data[:16]:
        for kind in escpos.StatusKind:
            _only_wire_errors(lambda answer, k=kind: escpos.decode_status(k, answer), octet)  # type: ignore[misc]
        _only_wire_errors(escpos.decode_sequence, octet)


def _scanner_replies(data: bytes) -> None:
    for family in scanner.TRIGGERS:
        replies = scanner.ReplyFilter(family)
        replies.feed(data)
        replies.reset()


def _release(data: bytes) -> None:
    devicelink.verify_release(devicelink.decode_release(data), KEY.public_key())


CONTROLLER = 405419896  # serial number
_QUESTIONS = (
    uhppote.ask_status(CONTROLLER),
    uhppote.ask_firmware(CONTROLLER),
    uhppote.ask_event(CONTROLLER, 1),
    uhppote.ask_handled(CONTROLLER),
    uhppote.mark_handled(CONTROLLER, 1),
    uhppote.open_door(CONTROLLER, 1),
    uhppote.ask_door(CONTROLLER, 1),
    uhppote.record_special_events(CONTROLLER),
)

CODECS: dict[str, Decode] = {
    "board4": _framed(
        board4.Board4Framer, board4.decode_status, board4.decode_command, board4.decode_lock, board4.encode_frame
    ),
    "board4.frame": board4.decode_frame,
    "cardrecord": lambda data: cardrecord.decode_record(data, CARD_KEY, bytes(4)),
    "cardrecord.newest": lambda data: cardrecord.newest([data, data[1:]], CARD_KEY, bytes(4)),
    "console": _json_rpc,
    "devicelink": _each(
        devicelink.decode_request,
        devicelink.decode_reply,
        devicelink.decode_safety_request,
        devicelink.decode_safety_state,
        devicelink.decode_publication,
        _release,
    ),
    "digicon": _framed(digicon.framer),
    "digicon.frame": digicon.decode,
    "edge": lambda data: edge.open_notice(CARD_KEY * 2, data),
    "escpos": _printer_answers,
    "escpos.job": lambda data: escpos.JobParser().feed(data),
    "frames": _framed(frames.FrameDecoder),
    "frames.frame": frames.decode,
    "iccard": lambda data: iccard.decode_uid(iccard.decode_response(data)),
    "iccard.access": iccard.decode_access,
    "idcard": idcard.decode_text,
    "label": _each(label.decode_zpl_status, label.decode_tspl_status),
    "lists": lambda data: lists.unpack(data, zlib.crc32(data)),
    "lists.lines": lambda data: lists.unpack(*lists.pack(data)),
    "lists.value": lists.value,
    "machpower": _framed(machpower.framer),
    "machpower.frame": machpower.decode,
    "modbus": _modbus_answers,
    "modbus.rtu": lambda data: modbus.RequestReader(rtu=True).feed(data),
    "modbus.tcp": lambda data: modbus.RequestReader(rtu=False).feed(data),
    "nut": lambda data: nut.read(data, "ups"),
    "osdp": _framed(osdp.OsdpFramer, osdp.describe, osdp.nak_reason, osdp.encode),
    "osdp.card": _osdp_card,
    "osdp.frame": osdp.decode,
    "osdp.keypad": _osdp_keypad,
    "peoplecounter": peoplecounter.read_report,
    "rights": rights.decode,
    "rotating": _text(lambda text: rotating.verify_rotating(text, lambda ticket: CARD_KEY, 1_790_000_000.0)),
    "scanner": _framed(scanner.ScannerFramer),
    "scanner.replies": _scanner_replies,
    "sdt": _framed(sdt.SdtFramer, sdt.decode_request, sdt.decode_answer),
    "sdt.document": _each(
        sdt.decode_document, lambda data: sdt.decode_document(data, fingerprint=True), sdt.module_number
    ),
    "shortcode": _each(_text(shortcode.parse_short), _text(shortcode.looks_short)),
    "sp": lambda data: list(sp.Decoder(sp.Protocol.REP, SP_BYTES_MAX).feed(data)),
    "sp.request": sp.split_request,
    "ticketcode": _text(ticketcode.Verifier({1: KEY.public_key()}, SITE).verify),
    "tpw": _framed(lambda: tpw.framer(addressed=True), tpw.count, tpw.mode, tpw.passing, tpw.encode),
    "tpw.udp": lambda data: tpw.decode(data, addressed=False),
    "uhppote": _each(uhppote.read_status, lambda data: uhppote.read_event(data, CONTROLLER)),
    "uhppote.answers": _each(*(question.read for question in _QUESTIONS)),
    "wallet": _text(wallet.decode_fragment),
    "wedge": _framed(wedge.KeyReader),
}


def decode(name: str, data: bytes) -> None:
    """Let one codec read `data`. It may raise `WireError`s, which end here; anything else comes out and is a fault."""
    _only_wire_errors(CODECS[name], data)


def module_of(name: str) -> str:
    return name.partition(".")[0]


def _held() -> wallet.WalletTicket:
    return wallet.WalletTicket(
        ticket=7,
        key=wallet.key_text(CARD_KEY.ljust(wallet.KEY_BYTES, b"\0")),
        short=shortcode.derived_short(CARD_KEY),
        site_zh="牌坊谷",
        site_en="Valley",
        product_zh="成人",
        product_en="Adult",
        product_class="full",
        pax=1,
        valid_from=1_790_000_000,
        valid_to=1_790_086_400,
        zones=["park"],
    )


def seeds() -> list[tuple[str, bytes]]:
    """A few sound frames of every codec that has a checksum, a signature or a shape of its own."""
    packet = bytes((0x17, 0x20, 0, 0)) + CONTROLLER.to_bytes(4, "little") + bytes(56)
    code = ticketcode.TicketCode(
        key_id=1, site=ticketcode.site_hash(SITE), ticket=7, valid_from=1_790_000_040, valid_to=1_790_000_100, pax=1,
        product_class=ticketcode.ProductClass.FULL, zones=1,
    )  # fmt: skip
    heartbeat = devicelink.Heartbeat(device="gate-1", boot="b", seq=1, at=1.0)
    request = jsonrpc.encode_request(jsonrpc.Wire.JSON, 1, "lane.open", {"lane": "n1", "pax": 1, "reason": "x"})
    compact = jsonrpc.encode_request(jsonrpc.Wire.MSGPACK, 1, "session.login", {"user": "a", "password": "b"})
    question = modbus.read_bits(1, modbus.Function.READ_DISCRETE_INPUTS, 0, 8)
    found: list[tuple[str, Any]] = [
        ("board4", board4.query(1) + board4.enter_open(1, 3)),
        ("board4", board4.encode_status(board4.status(1, board4.State.CLOSED_IDLE, 1, 2))),
        ("board4.frame", board4.encode_status(board4.status(1, board4.State.TAILGATING, 1, 2))),
        ("edge", edge.seal_notice(CARD_KEY * 2, edge.Notice(lane="g1", boot="b", seq=1, uses=[]))),
        ("lists", lists.pack(b'["key","code",1]')[0]),
        ("lists.lines", b'["key","code",1]\n["ticket",7]'),
        ("lists.value", b'["key","code",1]'),
        ("nut", b'BEGIN LIST VAR ups\nVAR ups ups.status "OL"\nEND LIST VAR ups\n'),
        ("sp", sp.greeting(sp.Protocol.REQ) + sp.frame(b"\x80\0\0\1", b"hello")),
        ("sp.request", b"\x80\0\0\1hello"),
        ("machpower", machpower.encode(1, machpower.Command.LEFT_OPEN)),
        ("machpower.frame", machpower.encode(1, machpower.Command.RIGHT_OPEN)),
        ("digicon", digicon.encode(digicon.Code.LEFT_TO_RIGHT)),
        ("digicon.frame", digicon.encode_probe()),
        ("tpw", tpw.connect(1) + tpw.done(1)),
        ("tpw.udp", tpw.connect(None)),
        ("sdt", sdt.encode_request(sdt.Command.FIND) + sdt.encode_answer(0x9F, bytes(4))),
        ("sdt.document", sdt.encode_document(sdt.DocumentBytes(text=bytes(256), photo=bytes(16), fingerprint=b""))),
        ("idcard", ("张三".ljust(15) + "101" + "19900101" + " " * 102).encode("utf-16-le")[:256]),
        ("osdp", osdp.encode(osdp.Frame(address=1, sequence=1, code=0x60, reply=False))),
        ("osdp.card", bytes((26,)) + osdp.wiegand(0x123456, 26)),
        ("osdp.keypad", b"1234#12*99\r"),
        ("modbus.rtu", modbus.encode_request(question, 1, rtu=True)),
        ("modbus.tcp", modbus.encode_request(question, 1, rtu=False)),
        ("modbus", b"\x01\x02\x01\x05\x61\x8b"),
        ("modbus", b"\x00\x01\x00\x00\x00\x04\x01\x02\x01\x05"),
        ("uhppote", packet),
        ("uhppote.answers", packet),
        ("scanner", scanner.line("PF1:ABC", "]Q1") + b"PLAIN\r"),
        ("scanner.replies", b"\x02\x00\x00\x01\x00\x33\x31" + b"\x02\x010000#SCNTRG1\x06;\x03"),
        ("wedge", wedge.keystrokes("AB12")),
        ("frames", frames.encode(b"hello") + frames.encode(bytes(40))),
        ("frames.frame", frames.encode(b"hello")[:-1]),
        ("escpos", b"\x12\x16\x32\x72\x00\x0f"),
        ("escpos.job", b"\x1b@\x1b!\x00hello\n\x1d(k\x03\x001Q0\x1dV\x00\x10\x04\x01"),
        ("label", b"\x02014,0,0,0000,000,0,0,0,000,0,0,0\x03\r\n\x02000,0,0,0,0,2,4,0,00000000,1,000\x03\r\n"),
        ("peoplecounter", b'{"serial": "a", "in": 12, "out": 3}'),
        ("rights", b'{"rights":[{"zones":["park"],"uses":1}]}'),
        ("iccard", b"\x04\xa1\xb2\xc3\x90\x00"),
        ("iccard.access", iccard.trailer(bytes(6), bytes(6))),
        ("rotating", rotating.rotating_text(7, CARD_KEY, 1_790_000_000.0)),
        ("shortcode", shortcode.grouped(shortcode.new_short())),
        ("wallet", wallet.encode_fragment(_held())),
        ("ticketcode", ticketcode.sign(code, KEY)),
        ("devicelink", devicelink.encode(heartbeat)),
        ("console", request),
        ("console", compact),
    ]  # fmt: skip
    return [(name, each.encode() if isinstance(each, str) else each) for name, each in found]


def missing() -> set[str]:
    """Modules of `protocols` that read bytes and are not here."""
    there = {module.name for module in pkgutil.iter_modules(protocols.__path__) if not module.name.startswith("_")}
    return there - set(WITHOUT) - {module_of(name) for name in CODECS} - {"jsonrpc"}  # `console` goes through jsonrpc
