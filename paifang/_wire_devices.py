"""The devices of a site as actors: a slot and an actor for each, made at the start and when the site file changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import structlog

from actors.attendant import AttendantLane
from actors.counted import CountedLane, CountingActor
from actors.counter import Counter
from actors.fire import FireActor, FirePolicy
from actors.gate import GateActor
from actors.lane import BoardLane, LaneParts, LinkLane
from actors.printer import PrinterActor
from actors.reader import ReaderActor, Signal
from core import Address, Child
from drivers.base import Driver, DriverStatistics, Feedback, Gate, Printer
from drivers.slot import CounterSlot, GateSlot, PrinterSlot, Slot
from paifang._device_specs import COUNTER, FIRE, GATE, PRINTER, READER, DeviceSpec, device_specs
from paifang._wires import Wires, patterns
from paifang.reprint import reprinted
from paifang.setups import lane_config
from paifang.site import SiteFile
from protocols.console import DeviceView
from protocols.messages import Direction

GATE_MAILBOX_CAPACITY = 64
READER_MAILBOX_CAPACITY = 16
FIRE_MAILBOX_CAPACITY = 64
PRINTER_MAILBOX_CAPACITY = 512
COUNTER_MAILBOX_CAPACITY = 1024

log = structlog.get_logger(__name__)

MakeAddress = Callable[[str, int], Address]
AnySlot = GateSlot | PrinterSlot | Slot[Any]


class Devices:
    """Every device of the site by its name.

    Args:
        site: the site file as it was when the server started.
        lanes: addresses of the lanes' actors; `statistics` and `printers` are filled in and kept up to date here.
        refuses: by lane, filled in here: what the lane would say now to anybody who comes this way.
    """

    def __init__(
        self,
        site: SiteFile,
        data: Path,
        *,
        address: MakeAddress,
        lanes: Mapping[str, Address],
        ledger: Address,
        hub: Address,
        evacuation: Address,
        statistics: MutableMapping[str, Callable[[], DriverStatistics]],
    ) -> None:
        self.specs: dict[str, DeviceSpec] = device_specs(site)
        self.slots: dict[str, AnySlot] = {}
        self.printers: dict[str, Address] = {}
        self.gates: dict[str, Address] = {}
        self.lanes = lanes
        self.refuses: dict[str, Callable[..., str]] = {}
        self._site = site
        self._wires = Wires(data, site.feedback, site=site.site.id)
        self._address = address
        self._ledger = ledger
        self._hub = hub
        self._evacuation = evacuation
        self._boards_fire: Address | None = None
        self._statistics = statistics
        self._addresses: dict[str, Address] = {}
        for spec in self.specs.values():
            if spec.kind in (GATE, PRINTER, COUNTER):  # others speak to them before they are started
                self._new_address(spec)

    # --- the tree ---------------------------------------------------------------------------------------------

    def children(self, parts: LaneParts, link: Address) -> list[Child]:
        """Fire contacts, lanes with their devices, printers, in the order of their start."""
        children: list[Child] = [self.child(spec) for spec in self.specs.values() if spec.kind == FIRE]
        children += self._fire_of_boards()
        for lane in self._site.lanes:
            address = self.lanes[lane.id]
            config = lane_config(lane)
            actor: AttendantLane | BoardLane | CountedLane | LinkLane
            if lane.kind == "attendant":
                actor = AttendantLane(config, parts)
            elif lane.device is not None:
                actor = LinkLane(config, parts, link)
            else:
                statements = self._address(f"counter/{lane.id}", COUNTER_MAILBOX_CAPACITY)
                children.append(Child(statements, Counter(lane.id, config.device, self._ledger, address).run))
                if lane.board is not None:
                    actor = BoardLane(config, parts, self.gates[lane.id], statements)
                else:
                    actor = CountedLane(config, parts, self._addresses[f"people/{lane.id}"], statements)
            self.refuses[lane.id] = actor.refuses
            children.append(Child(address, actor.run))
            children += [self.child(spec) for spec in self.specs.values() if spec.lane == lane.id]
        return children + [self.child(spec) for spec in self.specs.values() if spec.kind == PRINTER]

    def _fire_of_boards(self) -> list[Child]:
        """One actor for the fire inputs of all boards that open the whole site."""
        contacts = {
            lane.id: FirePolicy(text=lane.name)
            for lane in self._site.lanes
            if lane.board is not None and lane.board.fire == "site"
        }
        if not contacts:
            return []
        self._boards_fire = self._address("fire/boards", FIRE_MAILBOX_CAPACITY)
        actor = FireActor(
            "fire/boards", contacts, evacuation=self._evacuation, hub=self._hub, ledger=self._ledger
        )
        return [Child(self._boards_fire, actor.run)]

    def child(self, spec: DeviceSpec, driver: Driver | Printer | None = None) -> Child:
        """The actor of one device, with a driver in its slot."""
        address = self._addresses.get(spec.name) or self._new_address(spec)
        driver = driver or spec.make(self._wires)
        slot: AnySlot
        run: Callable[[Address], Any]
        if spec.kind == GATE:
            slot = GateSlot(spec.name, cast(Gate, driver))
            fire = self._boards_fire if spec.tables[0].fire == "site" else None
            run = GateActor(spec.name, slot, self.lanes[spec.lane], spec.lane, self._hub, fire=fire).run
        elif spec.kind == READER:
            slot = Slot(spec.name, cast(Driver, driver))
            direction = Direction(spec.tables[0].direction)
            run = ReaderActor(spec.name, slot, self.lanes[spec.lane], spec.lane, self._hub, direction=direction).run
        elif spec.kind == COUNTER:
            slot = CounterSlot(spec.name, cast(Driver, driver))
            run = CountingActor(spec.name, slot, self.lanes[spec.lane], spec.lane, self._hub).run
        elif spec.kind == PRINTER:
            slot = PrinterSlot(spec.name, cast(Printer, driver))
            run = PrinterActor(
                view_name(spec), slot, ledger=self._ledger, hub=self._hub, reprint=reprinted
            ).run
        elif spec.kind == FIRE:
            slot = Slot(spec.name, cast(Driver, driver))
            policies = {
                contact.name: FirePolicy(on_broken=contact.on_broken, text=contact.text)
                for contact in spec.tables[0].contacts
            }
            run = FireActor(
                spec.name, policies, evacuation=self._evacuation, hub=self._hub, ledger=self._ledger, driver=slot
            ).run
        else:
            raise ValueError(f"{spec.name}: no actor for a {spec.kind}")
        self.slots[spec.name] = slot
        self._statistics[spec.name] = slot.statistics
        return Child(address, run)

    def signal(self, lane: str, reader: str, feedback: Feedback) -> None:
        """Tell a visitor the outcome at the reader that was used, or at every reader of the lane."""
        for name, spec in self.specs.items():
            if spec.kind == READER and spec.lane == lane and reader in ("", name) and name in self._addresses:
                self._addresses[name].tell(Signal(feedback=feedback))

    def _new_address(self, spec: DeviceSpec) -> Address:
        capacities = {
            GATE: GATE_MAILBOX_CAPACITY,
            PRINTER: PRINTER_MAILBOX_CAPACITY,
            FIRE: FIRE_MAILBOX_CAPACITY,
            COUNTER: GATE_MAILBOX_CAPACITY,
        }
        address = self._address(spec.name, capacities.get(spec.kind, READER_MAILBOX_CAPACITY))
        self._addresses[spec.name] = address
        if spec.kind == GATE:
            self.gates[spec.lane] = address
        elif spec.kind == PRINTER:
            self.printers[view_name(spec)] = address
        return address

    # --- changes while the server runs ------------------------------------------------------------------------

    def patterns(self, site: SiteFile) -> None:
        """The site's patterns of light and sound, for readers that are made from here on. Raises ValueError."""
        self._wires.patterns = patterns(site.feedback)

    def new_driver(self, spec: DeviceSpec) -> Driver | Printer:
        """The driver of a new or changed description, made before anything is taken away.

        Raises ValueError or DeviceError for what cannot be, which `paifang check` has said before.
        """
        return spec.make(self._wires)

    def free(self, names: Iterable[str]) -> None:
        """The places of these devices on their lines are free for others; they themselves run on."""
        for name in names:
            if (slot := self.slots.get(name)) is not None:
                self._wires.forget(slot.driver)

    def put(self, spec: DeviceSpec, driver: Driver | Printer) -> None:
        """Put another driver into a device's slot; its actor and its address stay."""
        self.specs[spec.name] = spec
        self.slots[spec.name].replace(cast(Any, driver))

    def forget(self, name: str) -> None:
        """A device is gone: from figures, from the page, from those who would tell it something."""
        spec = self.specs.pop(name)
        self.slots.pop(name, None)
        self._statistics.pop(name, None)
        self._addresses.pop(name, None)
        if spec.kind == PRINTER:
            self.printers.pop(view_name(spec), None)
        self._hub.tell(DeviceView(device=view_name(spec), kind=spec.kind, lane=spec.lane, availability="removed"))


def view_name(spec: DeviceSpec) -> str:
    """The name on the console: a printer has its own, as the sales window says it."""
    return spec.name.removeprefix("printer/") if spec.kind == PRINTER else spec.name
