"""Modbus RTU and TCP: requests and answers as values, on pymodbus' framer and PDU classes, without its clients.

The framing and the PDUs are pymodbus' (pinned exactly: its interface changes with every minor version); this module
keeps what a line needs around them: an answer is only believed when unit, function, size and echo are those of the
question, garbage is stepped over byte by byte, and an answer that comes too late is not taken for the next one's.
Sources: Modbus Application Protocol V1.1b3, Modbus over Serial Line V1.02, Modbus Messaging on TCP/IP V1.0b.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadCoilsResponse,
    ReadDiscreteInputsRequest,
    ReadDiscreteInputsResponse,
    WriteMultipleCoilsRequest,
    WriteMultipleCoilsResponse,
    WriteSingleCoilRequest,
    WriteSingleCoilResponse,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from protocols.errors import WireError

UNIT_MAX = 247  # 0 is for all units, 248 to 255 are reserved
ADDRESS_MAX = 0xFFFF
BITS_MAX = 2000  # bits in one read
COILS_MAX = 0x7B0  # bits in one write
REGISTERS_MAX = 125  # registers in one read
BUFFER_MAX = 600  # bytes of an RTU line that are kept while an answer is looked for: two of the largest frames
MBAP_BYTES = 7
MBAP_LENGTH_MAX = 254  # unit and PDU
EXCEPTION_BIT = 0x80

_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "accepted, still working",
    6: "busy",
    8: "memory parity error",
    10: "gateway: no path",
    11: "gateway: no answer from the unit",
}


class ModbusError(WireError):
    """A frame that is not Modbus, or not the answer to what was asked."""


class Function(IntEnum):
    """The functions that boards and counters are driven with."""

    READ_COILS = 1
    READ_DISCRETE_INPUTS = 2
    READ_HOLDING_REGISTERS = 3
    READ_INPUT_REGISTERS = 4
    WRITE_COIL = 5
    WRITE_COILS = 15


BIT_READS = frozenset({Function.READ_COILS, Function.READ_DISCRETE_INPUTS})
REGISTER_READS = frozenset({Function.READ_HOLDING_REGISTERS, Function.READ_INPUT_REGISTERS})
WRITES = frozenset({Function.WRITE_COIL, Function.WRITE_COILS})


class Request(msgspec.Struct, frozen=True):
    """One question or command to a unit. `count` for reads, `coils` for writes; addresses count from 0."""

    unit: int
    function: Function
    address: int
    count: int = 0
    coils: tuple[bool, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What the unit said: `bits` or `registers` as many as asked for; `exception` 0, or the code of its refusal."""

    unit: int
    function: Function
    bits: tuple[bool, ...] = ()
    registers: tuple[int, ...] = ()
    exception: int = 0

    @property
    def refusal(self) -> str:
        """The exception in words; empty if there is none."""
        return "" if not self.exception else _EXCEPTIONS.get(self.exception, f"exception {self.exception}")


def read_bits(unit: int, function: Function, address: int, count: int) -> Request:
    """Read coils or discrete inputs. Raises ModbusError for what no unit has."""
    return _checked(Request(unit, function, address, count), BIT_READS, count, BITS_MAX)


def read_registers(unit: int, function: Function, address: int, count: int) -> Request:
    """Read holding or input registers, 16 bits each. Raises ModbusError for what no unit has."""
    return _checked(Request(unit, function, address, count), REGISTER_READS, count, REGISTERS_MAX)


def write_coil(unit: int, address: int, on: bool) -> Request:
    """Switch one coil. Raises ModbusError for what no unit has."""
    return _checked(Request(unit, Function.WRITE_COIL, address, coils=(on,)), WRITES, 1, 1)


def write_coils(unit: int, address: int, coils: tuple[bool, ...]) -> Request:
    """Switch neighbouring coils at once. Raises ModbusError for what no unit has."""
    return _checked(Request(unit, Function.WRITE_COILS, address, coils=coils), WRITES, len(coils), COILS_MAX)


def _checked(request: Request, functions: frozenset[Function], count: int, most: int) -> Request:
    if not 0 <= request.unit <= 255:
        raise ModbusError(f"unit {request.unit}")
    if request.function not in functions:
        raise ModbusError(f"{request.function.name} is not possible here")
    if not 1 <= count <= most or not 0 <= request.address <= ADDRESS_MAX + 1 - count:
        raise ModbusError(f"{count} at address {request.address}")
    return request


def word_of(registers: tuple[int, ...], *, low_first: bool) -> int:
    """One number from one register, or from two of 32 bits, the high word first if nothing else is said."""
    if len(registers) == 1:
        return registers[0]
    high, low = (registers[1], registers[0]) if low_first else (registers[0], registers[1])
    return high << 16 | low


# --- asking -------------------------------------------------------------------------------------------------------


def encode_request(request: Request, transaction: int, *, rtu: bool) -> bytes:
    """The frame for a line (`rtu`) or a TCP connection. `transaction` 0 to 65535 comes back in the answer over TCP."""
    pdu = _request_pdu(request)
    pdu.dev_id, pdu.transaction_id = request.unit, transaction
    return _encoder(rtu).buildFrame(pdu)


class AnswerReader:
    """Looks for the answer to one request in what the line brings. Make a new one for each request."""

    def __init__(self, request: Request, transaction: int, *, rtu: bool) -> None:
        self.skipped = 0  # bytes that belonged to nothing that was asked
        self._request = request
        self._transaction = transaction
        self._rtu = rtu
        self._buffer = b""

    def feed(self, data: bytes) -> Answer | None:
        """The answer once it is there. Raises ModbusError when it is malformed, or the connection is out of step."""
        self._buffer += data
        return self._find_rtu() if self._rtu else self._find_tcp()

    def _find_rtu(self) -> Answer | None:
        buffer, request = self._buffer, self._request
        plain, refused = int(request.function), request.function | EXCEPTION_BIT
        waiting = -1  # where an answer may have begun
        for at in range(len(buffer)):
            if buffer[at] != request.unit:
                continue
            if at + 1 < len(buffer) and buffer[at + 1] not in (plain, refused):
                continue
            size = 5 if at + 1 < len(buffer) and buffer[at + 1] == refused else self._answer_bytes()
            if len(buffer) - at < size:
                waiting = at if waiting < 0 else waiting
                continue
            answer = self._decode(buffer[at : at + size])
            if answer is not None:
                self.skipped += at
                self._buffer = buffer[at + size :]
                return answer
        drop = len(buffer) if waiting < 0 else waiting
        drop = max(drop, len(buffer) - BUFFER_MAX)
        self.skipped += drop
        self._buffer = buffer[drop:]
        return None

    def _find_tcp(self) -> Answer | None:
        while len(self._buffer) >= MBAP_BYTES + 1:
            length = int.from_bytes(self._buffer[4:6], "big")
            if self._buffer[2:4] != b"\0\0" or not 2 < length <= MBAP_LENGTH_MAX:
                raise ModbusError("the connection does not speak Modbus TCP")
            size = MBAP_BYTES - 1 + length
            if len(self._buffer) < size:
                return None
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if int.from_bytes(frame[:2], "big") != self._transaction or frame[6] != self._request.unit:
                self.skipped += size  # an answer to what was given up, or to nobody
                continue
            answer = self._decode(frame)
            if answer is None:
                raise ModbusError("the answer is not one to the question")
            return answer
        return None

    def _decode(self, frame: bytes) -> Answer | None:
        """The answer that exactly these bytes are, or None."""
        try:
            _, pdu = _decoder(self._rtu, server=False).handleFrame(frame, self._request.unit, 0)
        except Exception:  # pymodbus names no set of what its PDUs raise on bad bytes
            return None
        return None if pdu is None else self._fitting(pdu)

    def _fitting(self, pdu: ModbusPDU) -> Answer | None:
        request = self._request
        if isinstance(pdu, ExceptionResponse):
            return Answer(request.unit, request.function, exception=pdu.exception_code or 4)
        if pdu.function_code != request.function:
            return None
        if request.function in BIT_READS:
            bits = tuple(bool(bit) for bit in pdu.bits)
            if len(bits) != -(-request.count // 8) * 8:
                return None
            return Answer(request.unit, request.function, bits=bits[: request.count])
        if request.function in REGISTER_READS:
            registers = tuple(pdu.registers)
            if len(registers) != request.count:
                return None
            return Answer(request.unit, request.function, registers=registers)
        same = pdu.address == request.address
        if request.function is Function.WRITE_COIL:
            same = same and bool(pdu.bits[0]) == request.coils[0]
        else:
            same = same and pdu.count == len(request.coils)
        return Answer(request.unit, request.function) if same else None

    def _answer_bytes(self) -> int:
        request = self._request
        if request.function in BIT_READS:
            return 5 + -(-request.count // 8)
        if request.function in REGISTER_READS:
            return 5 + 2 * request.count
        return 8


# --- answering: what a simulated board speaks ---------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True):
    """A request as it came. `request` None: a function that we do not have; `function` says which."""

    unit: int
    transaction: int
    function: int
    request: Request | None


class RequestReader:
    """Cuts what a master sends into requests. `reset` when an RTU line was silent for a while."""

    def __init__(self, *, rtu: bool) -> None:
        self._rtu = rtu
        self._buffer = b""

    def reset(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Received]:
        """The requests that are complete. Raises ModbusError when a TCP connection is out of step."""
        self._buffer += data
        found: list[Received] = []
        while (received := self._next_rtu() if self._rtu else self._next_tcp()) is not None:
            found.append(received)
        return found

    def _next_rtu(self) -> Received | None:
        for at in range(len(self._buffer)):
            rest = self._buffer[at:]
            size = _request_bytes(rest)
            if size and len(rest) >= size and _crc_fits(rest[:size]):
                self._buffer = rest[size:]
                return _received(rest[0], 0, rest[1 : size - 2])
        self._buffer = self._buffer[-BUFFER_MAX:]
        return None

    def _next_tcp(self) -> Received | None:
        if len(self._buffer) < MBAP_BYTES + 1:
            return None
        length = int.from_bytes(self._buffer[4:6], "big")
        if self._buffer[2:4] != b"\0\0" or not 2 <= length <= MBAP_LENGTH_MAX:
            raise ModbusError("the connection does not speak Modbus TCP")
        size = MBAP_BYTES - 1 + length
        if len(self._buffer) < size:
            return None
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        return _received(frame[6], int.from_bytes(frame[:2], "big"), frame[MBAP_BYTES:])


def encode_answer(received: Received, answer: Answer | int, *, rtu: bool) -> bytes:
    """The frame of an answer; an integer is an exception code."""
    request = received.request
    pdu: ModbusPDU
    if isinstance(answer, int) or request is None:
        pdu = ExceptionResponse(received.function, answer if isinstance(answer, int) else 1)
    elif request.function is Function.READ_COILS:
        pdu = ReadCoilsResponse(bits=list(answer.bits))
    elif request.function is Function.READ_DISCRETE_INPUTS:
        pdu = ReadDiscreteInputsResponse(bits=list(answer.bits))
    elif request.function is Function.READ_HOLDING_REGISTERS:
        pdu = ReadHoldingRegistersResponse(registers=list(answer.registers))
    elif request.function is Function.READ_INPUT_REGISTERS:
        pdu = ReadInputRegistersResponse(registers=list(answer.registers))
    elif request.function is Function.WRITE_COIL:
        pdu = WriteSingleCoilResponse(address=request.address, bits=list(request.coils))
    else:
        pdu = WriteMultipleCoilsResponse(address=request.address, count=len(request.coils))
    pdu.dev_id, pdu.transaction_id = received.unit, received.transaction
    return _encoder(rtu).buildFrame(pdu)


# --- small helpers ------------------------------------------------------------------------------------------------


def _encoder(rtu: bool) -> FramerRTU | FramerSocket:
    return FramerRTU(DecodePDU(False)) if rtu else FramerSocket(DecodePDU(False))


def _decoder(rtu: bool, *, server: bool) -> FramerRTU | FramerSocket:
    return FramerRTU(DecodePDU(server)) if rtu else FramerSocket(DecodePDU(server))


def _request_pdu(request: Request) -> ModbusPDU:
    match request.function:
        case Function.READ_COILS:
            return ReadCoilsRequest(address=request.address, count=request.count)
        case Function.READ_DISCRETE_INPUTS:
            return ReadDiscreteInputsRequest(address=request.address, count=request.count)
        case Function.READ_HOLDING_REGISTERS:
            return ReadHoldingRegistersRequest(address=request.address, count=request.count)
        case Function.READ_INPUT_REGISTERS:
            return ReadInputRegistersRequest(address=request.address, count=request.count)
        case Function.WRITE_COIL:
            return WriteSingleCoilRequest(address=request.address, bits=list(request.coils))
        case Function.WRITE_COILS:
            return WriteMultipleCoilsRequest(address=request.address, bits=list(request.coils))


def _request_bytes(rest: bytes) -> int:
    """How long an RTU request is that begins here; 0 when it cannot be said yet, or is none."""
    if len(rest) < 8 or not 1 <= rest[1] <= 0x7F:
        return 0
    return 9 + rest[6] if rest[1] in (15, 16) else 8


def _crc_fits(frame: bytes) -> bool:
    return FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:], "big"))


def _received(unit: int, transaction: int, body: bytes) -> Received:
    function = body[0]
    try:
        pdu = DecodePDU(True).decode(body) if function in set(Function) else None
        request = None if pdu is None else _request_of(unit, pdu)
    except Exception as exc:  # as above: any bytes may come
        raise ModbusError(f"not a request: {exc}") from exc
    return Received(unit, transaction, function, request)


def _request_of(unit: int, pdu: ModbusPDU) -> Request | None:
    function = Function(pdu.function_code)
    try:
        if function in BIT_READS:
            return read_bits(unit, function, pdu.address, pdu.count)
        if function in REGISTER_READS:
            return read_registers(unit, function, pdu.address, pdu.count)
        if function is Function.WRITE_COIL:
            return write_coil(unit, pdu.address, bool(pdu.bits[0]))
        coils = tuple(bool(bit) for bit in pdu.bits)
        return write_coils(unit, pdu.address, coils) if len(coils) == pdu.count else None
    except ModbusError:
        return None
