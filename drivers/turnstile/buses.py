"""From a site file's words to gates: which language, which model, which line; one `Bus` for each line."""

from __future__ import annotations

import random

from drivers.serial import check_baud
from drivers.turnstile import board4, digicon, machpower, tpw
from drivers.turnstile._bus import Bus
from drivers.turnstile._lines import OpenLine, serial_opener, udp_opener
from drivers.turnstile._speech import Dialect
from drivers.turnstile._tally import OwnCount, Tally
from drivers.turnstile.gate import ESCAPE, TurnstileGate, epoch_name
from drivers.turnstile.models import Body, Model, Transport, model_of
from protocols.board4 import COUNTER_MODULUS, FRAME_BYTES
from protocols.messages import Direction

SIDES = ("left", "right")
UDP_ANSWER_S = 0.1  # a board's turn-round and a network's; the pace of a wire does not come on top

_ANSWERS_S = {
    "board4": board4.ANSWER_S,
    "machpower": machpower.ANSWER_S,
    "digicon": digicon.ANSWER_S,
    "tpw": tpw.ANSWER_S,
}
_FRAMES = {
    "board4": FRAME_BYTES,
    "machpower": machpower.FRAME_BYTES,
    "digicon": digicon.FRAME_BYTES,
    "tpw": tpw.FRAME_BYTES,
}
_POLLS_S = {
    "board4": board4.POLL_S,
    "machpower": machpower.POLL_S,
    "digicon": digicon.POLL_S,
    "tpw": tpw.POLL_S,
}


class Buses:
    """Makes the gates of a site. Two gates of one `path` share its line; `rng` makes pauses and names.

    Making a gate opens nothing.  A gate may be made for a place that another one still has, as happens when the site
    file is read again: it is served once the other has left.  With `strict`, as for checking a site file, two gates
    with one place, two languages or two rates on a line are refused.
    """

    def __init__(self, rng: random.Random | None = None, *, strict: bool = False) -> None:
        self._rng = rng or random.Random()
        self._strict = strict
        self._buses: dict[tuple[str, str, int], Bus] = {}
        self._places: dict[str, dict[int, tuple[str, int]]] = {}  # of a line: language and rate of each place

    def gate(
        self,
        language: str,
        *,
        model: str = "",
        path: str = "",
        host: str = "",
        port: int = 0,
        baud: int = 0,
        address: int = 1,
        poll_s: float = 0.0,
        escape: tuple[Direction, ...] = ESCAPE,
        entry_is: str = "right",
        open_s: float = machpower.OPEN_S,
        sensor: bool = False,
        epoch: str = "0",
    ) -> TurnstileGate:
        """The gate at `address` on the line `path`, or at `host`:`port` by datagrams.

        `baud` 0 is the model's own rate, `poll_s` 0 the language's own pace.  `entry_is` is the side to which a visitor
        who enters walks, for languages that know left and right; `open_s` how long a board stays open that does not say
        so, and `sensor` whether another device's passage sensor is wired to it (`TurnstileGate.passage`).

        Raises ValueError, in words for the site file, for what cannot be: an unknown language or model, a transport or
        an address that it has not, a second language or rate on a line, two boards with one address.
        """
        kind = model_of(language, model)
        if bool(path) == bool(host):
            raise ValueError("a board has either a path or a host")
        if entry_is not in SIDES:
            raise ValueError(f"entry is {entry_is!r}; it is either left or right")
        if not escape:
            raise ValueError("a gate has at least one escape direction")
        dialect = _dialect(kind, address, bool(host), escape, entry_is, open_s, sensor)
        bus = self._bus(kind, path, host, port, check_baud(baud or kind.baud))
        place = 0 if host or kind.units_on_a_line == 1 else address
        if self._strict:
            self._claim(bus.name, place, kind.language, 0 if host else baud or kind.baud)
        count = (
            Tally(epoch, self._rename, modulus=tpw.COUNTER_MODULUS if language == "tpw" else COUNTER_MODULUS)
            if kind.capabilities.counts
            else OwnCount(self._rename)
        )
        return TurnstileGate(bus, kind, dialect, count, place, poll_s or _POLLS_S[language])

    def forget(self, gate: TurnstileGate) -> None:
        """A gate that is not run any more. Its line stays known for those who share it, and closes with the last."""

    def _claim(self, name: str, place: int, language: str, baud: int) -> None:
        taken = self._places.setdefault(name, {})
        for other, rate in taken.values():
            if other != language:
                raise ValueError(f"{name}: {language} and {other} cannot share a line")
            if rate != baud:
                raise ValueError(f"{name}: {baud} and {rate} baud on one line")
        if place in taken:
            raise ValueError(f"{name}: there is a board {place} already; each needs an address of its own")
        taken[place] = (language, baud)

    def _bus(self, kind: Model, path: str, host: str, port: int, baud: int) -> Bus:
        wanted = Transport.UDP if host else Transport.SERIAL
        if wanted not in kind.transports:
            raise ValueError(f"{kind.name} is not reached by {wanted.value}")
        opener: OpenLine
        if host:
            port = port or (board4.UDP_PORT if kind.language == "board4" else 0)
            if not 1 <= port <= 0xFFFF:
                raise ValueError(f"{kind.name} at {host}: name the port, as it is set on the board")
            name, opener = f"{host}:{port}", udp_opener(host, port)
        else:
            name, opener = path, serial_opener(path, baud)
        key = (name, kind.language, 0 if host else baud)
        if key not in self._buses:
            answer_s = _ANSWERS_S[kind.language]
            self._buses[key] = Bus(
                name,
                opener,
                baud=None if host else baud,
                answer_s=max(UDP_ANSWER_S, answer_s) if host else answer_s,
                frame_bytes=_FRAMES[kind.language],
                rng=self._rng,
            )
        return self._buses[key]

    def _rename(self) -> str:
        return epoch_name(self._rng)


def _dialect(
    kind: Model,
    address: int,
    udp: bool,
    escape: tuple[Direction, ...],
    entry_is: str,
    open_s: float,
    sensor: bool,
) -> Dialect:
    match kind.language:
        case "board4":
            return board4.Board4Dialect(address, escape)
        case "machpower":
            arm = kind.body is Body.TRIPOD
            return machpower.MachPowerDialect(
                address, arm=arm, entry_is=entry_is, escape=escape, open_s=open_s, sensor=sensor
            )
        case "digicon":
            return digicon.DigiconDialect(entry_is=entry_is, escape=escape)
        case _:
            return tpw.TpwDialect(None if udp else address, arm=kind.body is Body.TRIPOD)
