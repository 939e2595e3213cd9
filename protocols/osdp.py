"""OSDP frames (SIA OSDP 2.2, IEC 60839-11-5), and what card readers say in them: cards as bits, keys pressed.

The secure channel and the dialogue itself belong to a library; this module is the sieve in front of it.  Only frames
that are whole and make sense get through, so a line with noise on it costs a repetition and never a wrong state.

    [FF] 53 address length(2, LE) control [security block] code data … CRC(2, LE) or checksum(1)

`length` counts from 53 to the last byte.  A reader's answer has the top bit of the address set.  CRC is CRC-16 with
polynomial 1021 and start 1D0F; the checksum is the two's complement of the sum.
"""

from __future__ import annotations

import binascii

import msgspec

from protocols.errors import WireError

SOM = 0x53
MARK = 0xFF
REPLY_BIT = 0x80
BROADCAST = 0x7F
ADDRESS_MAX = 0x7E
FRAME_BYTES_MAX = 255  # the library's buffer, which holds the mark as well, has 256
FRAME_BYTES_MIN = 7  # head, code, checksum
HEAD_BYTES = 5
CRC_START = 0x1D0F
CARD_BITS_MAX = 512
KEYS_MAX = 32  # a number typed on a keypad
KEY_PAUSE_S = 6.0  # keys further apart than this do not belong together

_CONTROL_SEQUENCE = 0x03
_CONTROL_CRC = 0x04
_CONTROL_SECURITY = 0x08
_CONTROL_RESERVED = 0xF0
_SECURITY_TYPES = range(0x11, 0x19)

COMMANDS = {
    0x60: "POLL", 0x61: "ID", 0x62: "CAP", 0x64: "LSTAT", 0x65: "ISTAT", 0x66: "OSTAT", 0x67: "RSTAT", 0x68: "OUT",
    0x69: "LED", 0x6A: "BUZ", 0x6B: "TEXT", 0x6E: "COMSET", 0x73: "BIOREAD", 0x74: "BIOMATCH", 0x75: "KEYSET",
    0x76: "CHLNG", 0x77: "SCRYPT", 0x7B: "ACURXSIZE", 0x7C: "FILETRANSFER", 0x80: "MFG", 0xA1: "XWR", 0xA2: "ABORT",
    0xA7: "KEEPACTIVE",
}  # fmt: skip
REPLIES = {
    0x40: "ACK", 0x41: "NAK", 0x45: "PDID", 0x46: "PDCAP", 0x48: "LSTATR", 0x49: "ISTATR", 0x4A: "OSTATR",
    0x4B: "RSTATR", 0x50: "RAW", 0x51: "FMT", 0x53: "KEYPAD", 0x54: "COM", 0x57: "BIOREADR", 0x58: "BIOMATCHR",
    0x76: "CCRYPT", 0x78: "RMAC_I", 0x79: "BUSY", 0x7A: "FTSTAT", 0x90: "MFGREP", 0xB1: "XRD",
}  # fmt: skip
POLL, CAP, LED, BUZZER, TEXT, CHALLENGE, SERVER_CRYPTOGRAM = 0x60, 0x62, 0x69, 0x6A, 0x6B, 0x76, 0x77
ACK, NAK, BUSY = 0x40, 0x41, 0x79
NAK_UNKNOWN_COMMAND, NAK_BAD_VALUE = 0x03, 0x09
NAK_REASONS = {
    0x01: "bad checksum", 0x02: "wrong command length", 0x03: "unknown command", 0x04: "wrong sequence number",
    0x05: "no secure channel here", 0x06: "secure channel needed", 0x07: "biometric type not supported",
    0x08: "biometric format not supported", 0x09: "command cannot be carried out",
}  # fmt: skip


class OsdpError(WireError):
    """A frame, or what a reader says of a card, is damaged or not OSDP."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame. `data` follows the code; in a secured frame it is ciphertext, and the four bytes of its MAC."""

    address: int  # 0 … 126, 127 is everybody
    reply: bool
    sequence: int  # 0 … 3; 0 begins a dialogue
    code: int
    data: bytes = b""
    security: bytes = b""  # the security block, with its length byte; empty in plain frames
    crc: bool = True
    reserved: int = 0  # the upper four bits of the control byte, which a MAC covers too

    def __repr__(self) -> str:  # a card's number opens a gate: keep the data out of logs and tracebacks
        return f"Frame({describe(self)})"


def describe(frame: Frame) -> str:
    """The frame in words, for people who watch a line: who, what, how long; never its data, but why a NAK."""
    names = REPLIES if frame.reply else COMMANDS
    name = names.get(frame.code, f"{frame.code:02X}")
    who = "all" if frame.address == BROADCAST else str(frame.address)
    text = f"{'from' if frame.reply else 'to'} {who}: {name} seq {frame.sequence}"
    if frame.security:
        text += f", secured {frame.security[1]:02X}"
    if frame.reply and frame.code == NAK:
        return f"{text}, {nak_reason(frame)}"
    return f"{text}, {len(frame.data)} bytes" if frame.data else text


def nak_reason(frame: Frame) -> str:
    """Why a reader said no, in words."""
    if not frame.data:
        return "no reason given"
    return NAK_REASONS.get(frame.data[0], f"reason {frame.data[0]:02X}")


def crc16(data: bytes) -> int:
    """The CRC of a frame (CRC-16, polynomial 1021, start 1D0F, not reflected; check value of "123456789": E5CC)."""
    return binascii.crc_hqx(data, CRC_START)


def encode(frame: Frame, *, mark: bool = False) -> bytes:
    """The frame's bytes. Raises OsdpError for one that cannot be sent."""
    if not 0 <= frame.address <= BROADCAST or not 0 <= frame.sequence <= 3 or not 0 <= frame.code <= 0xFF:
        raise OsdpError("address, sequence or code out of range")
    if frame.security and not _security_is_sound(frame.security):
        raise OsdpError("not a security block")
    length = HEAD_BYTES + len(frame.security) + 1 + len(frame.data) + (2 if frame.crc else 1)
    if length > FRAME_BYTES_MAX:
        raise OsdpError(f"{length} bytes are too many for a frame")
    control = frame.sequence | (_CONTROL_CRC if frame.crc else 0) | (_CONTROL_SECURITY if frame.security else 0)
    control |= frame.reserved & _CONTROL_RESERVED
    address = frame.address | (REPLY_BIT if frame.reply else 0)
    body = bytes((SOM, address, length & 0xFF, length >> 8, control)) + frame.security + bytes((frame.code,))
    body += frame.data
    body += crc16(body).to_bytes(2, "little") if frame.crc else bytes((-sum(body) & 0xFF,))
    return (bytes((MARK,)) if mark else b"") + body


def decode(data: bytes) -> Frame:
    """The frame whose bytes, from 53 to its check, are `data`. Raises OsdpError."""
    if len(data) < FRAME_BYTES_MIN or data[0] != SOM or int.from_bytes(data[2:4], "little") != len(data):
        raise OsdpError("not a frame")
    control = data[4]
    crc = bool(control & _CONTROL_CRC)
    body, check = (data[:-2], data[-2:]) if crc else (data[:-1], data[-1:])
    if check != (crc16(body).to_bytes(2, "little") if crc else bytes((-sum(body) & 0xFF,))):
        raise OsdpError("wrong checksum")
    security = b""
    if control & _CONTROL_SECURITY:
        security = body[HEAD_BYTES : HEAD_BYTES + body[HEAD_BYTES]] if len(body) > HEAD_BYTES else b""
        if not _security_is_sound(security):
            raise OsdpError("damaged security block")
    at = HEAD_BYTES + len(security)
    if at >= len(body):
        raise OsdpError("no code in the frame")
    return Frame(
        address=data[1] & BROADCAST,
        reply=bool(data[1] & REPLY_BIT),
        sequence=control & _CONTROL_SEQUENCE,
        code=body[at],
        data=body[at + 1 :],
        security=security,
        crc=crc,
        reserved=control & _CONTROL_RESERVED,
    )


def _security_is_sound(block: bytes) -> bool:
    return len(block) >= 2 and block[0] == len(block) and block[1] in _SECURITY_TYPES


class OsdpFramer:
    """Cuts a line's bytes into frames, whatever pieces they arrive in, and finds its feet after noise.

    Holds less than FRAME_BYTES_MAX bytes between calls.  Call `reset` when the line was silent in the middle of a
    frame: the rest of it does not come any more.
    """

    def __init__(self) -> None:
        self.bad_frames = 0  # began like a frame and was none
        self._buffer = b""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by `data`. Never raises."""
        self._buffer += data
        frames: list[Frame] = []
        while (begin := self._buffer.find(SOM)) >= 0:
            self._buffer = self._buffer[begin:]
            if len(self._buffer) < HEAD_BYTES:
                return frames
            length = int.from_bytes(self._buffer[2:4], "little")
            if not FRAME_BYTES_MIN <= length <= FRAME_BYTES_MAX:
                self._skip()
                continue
            if len(self._buffer) < length:
                return frames
            try:
                frames.append(decode(self._buffer[:length]))
            except OsdpError:
                self._skip()
            else:
                self._buffer = self._buffer[length:]
        self._buffer = b""
        return frames

    def reset(self) -> None:
        """Drop what was begun: after a pause on the line, or a reconnect."""
        if self._buffer:
            self.bad_frames += 1
        self._buffer = b""

    def _skip(self) -> None:
        self.bad_frames += 1
        self._buffer = self._buffer[1:]


def card_value(data: bytes, bits: int, *, reverse: bool = False) -> str:
    """A card's number as the product writes it: upper-case hexadecimal, two digits for each byte of a UID.

    Readers send the bits that a Wiegand line would carry, the first one first, filled up to whole bytes at the end:

    * 8, 16, … bits are the bytes of the UID;
    * 26, 34, 42, 50, 58 and 66 bits have a parity bit at either end (even over the first half, odd over the second);
      between them stand 3 to 8 bytes of the UID, and the 26-bit form has lost the rest of it;
    * 37 bits (H10302) have them too, over 18 bits each, with the middle one in both; 35 remain;
    * anything else is taken as it is, as one number.

    `reverse` turns the bytes of a whole-byte number round: some readers send the last one first.  Raises OsdpError for
    wrong parity, for fewer bytes than bits, and for the zero that a reader sends when it could not read.
    """
    octets = (bits + 7) // 8
    if not 1 <= bits <= CARD_BITS_MAX or len(data) != octets:
        raise OsdpError(f"{len(data)} bytes cannot be a card of {bits} bits")
    number = int.from_bytes(data, "big") >> (octets * 8 - bits)
    if bits == 37 or (bits >= 26 and bits % 8 == 2):
        half = (bits + 1) // 2
        if (number >> (bits - half)).bit_count() % 2 or not (number & ((1 << half) - 1)).bit_count() % 2:
            raise OsdpError("wrong parity")
        number = (number >> 1) & ((1 << (bits - 2)) - 1)
        bits -= 2
    if not number:
        raise OsdpError("a card without a number")
    text = f"{number:0{(bits + 3) // 4}X}"
    if reverse and bits % 8 == 0:
        return bytes.fromhex(text)[::-1].hex().upper()
    return text


def wiegand(number: int, bits: int) -> bytes:
    """The reader's side: `number` with its two parity bits as `bits` bits, filled up to whole bytes.

    Raises OsdpError for a length without parity and for a number that does not fit.
    """
    if not (bits == 37 or (26 <= bits <= CARD_BITS_MAX and bits % 8 == 2)) or not 0 <= number < 1 << (bits - 2):
        raise OsdpError(f"no number of {bits} bits")
    half = (bits + 1) // 2
    framed = number << 1
    if (framed >> (bits - half)).bit_count() % 2:
        framed |= 1 << (bits - 1)
    if not (framed & ((1 << half) - 1)).bit_count() % 2:
        framed |= 1
    return (framed << (-bits % 8)).to_bytes((bits + 7) // 8, "big")


class Keypad:
    """Digits typed one after the other: `#` ends a number, `*` takes it back, and so does a pause.

    OSDP sends ASCII digits, 0D for `#` and 7F for `*`; some keypads send the characters themselves.
    """

    def __init__(self) -> None:
        self._digits = ""
        self._last_s = 0.0
        self._overlong = False

    def feed(self, keys: bytes, now_s: float) -> list[str]:
        """Numbers completed by `keys` at the monotonic time `now_s`. Never raises; strange keys take it back too."""
        if now_s - self._last_s > KEY_PAUSE_S:
            self._clear()
        self._last_s = now_s
        numbers: list[str] = []
        for key in keys:
            if 0x30 <= key <= 0x39:
                self._overlong = self._overlong or len(self._digits) >= KEYS_MAX
                self._digits += "" if self._overlong else chr(key)
                continue
            if key in (0x0D, 0x23) and self._digits and not self._overlong:
                numbers.append(self._digits)
            self._clear()
        return numbers

    def _clear(self) -> None:
        self._digits, self._overlong = "", False
