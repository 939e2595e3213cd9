"""The devices of a site as actors: a slot and an actor for each, made at the start and when the site file changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import structlog

from actors.counter import Counter
from actors.gate import GateActor
from actors.lane import BoardLane, LaneParts, LinkLane
from actors.printer import PrinterActor
from actors.reader import ReaderActor
from core import Address, Child
from drivers.base import Driver, DriverStatistics, Gate, Printer
from drivers.slot import GateSlot, PrinterSlot, Slot
from paifang._device_specs import GATE, PRINTER, READER, DeviceSpec, device_specs
from paifang._wires import Wires, patterns
from paifang.setups import lane_config
from paifang.site import SiteFile
from protocols.console import DeviceView

GATE_MAILBOX_CAPACITY = 64
READER_MAILBOX_CAPACITY = 16
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
        refuses: by lane, filled in here: what the lane would say to anybody now.
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
        statistics: MutableMapping[str, Callable[[], DriverStatistics]],
    ) -> None:
        self.specs: dict[str, DeviceSpec] = device_specs(site)
        self.slots: dict[str, AnySlot] = {}
        self.printers: dict[str, Address] = {}
        self.gates: dict[str, Address] = {}
        self.lanes = lanes
        self.refuses: dict[str, Callable[[], str]] = {}
        self._site = site
        self._wires = Wires(data, site.feedback, site=site.site.id)
        self._address = address
        self._ledger = ledger
        self._hub = hub
        self._statistics = statistics
        self._addresses: dict[str, Address] = {}
        for name, spec in self.specs.items():
            if spec.kind in (GATE, PRINTER):  # others are told to before they are started
                self._addresses[name] = self._new_address(spec)

    # --- the tree ---------------------------------------------------------------------------------------------

    def children(self, parts: LaneParts, link: Address) -> list[Child]:
        """Lanes with their devices, then what belongs to no lane, in the order of their start."""
        children: list[Child] = []
        for lane in self._site.lanes:
            address = self.lanes[lane.id]
            config = lane_config(lane)
            if lane.board is not None:
                statements = self._address(f"counter/{lane.id}", COUNTER_MAILBOX_CAPACITY)
                children.append(Child(statements, Counter(lane.id, config.device, self._ledger, address).run))
                on_board = BoardLane(config, parts, self.gates[lane.id], statements)
                self.refuses[lane.id] = on_board.refuses
                children.append(Child(address, on_board.run))
            else:
                linked = LinkLane(config, parts, link)
                self.refuses[lane.id] = linked.refuses
                children.append(Child(address, linked.run))
            children += [self.child(spec) for spec in self.specs.values() if spec.lane == lane.id]
        return children + [self.child(spec) for spec in self.specs.values() if not spec.lane]

    def child(self, spec: DeviceSpec, driver: Driver | Printer | None = None) -> Child:
        """The actor of one device, with a driver in its slot."""
        address = self._addresses.get(spec.name) or self._new_address(spec)
        driver = driver or spec.make(self._wires)
        slot: AnySlot
        run: Callable[[Address], Any]
        if spec.kind == GATE:
            slot = GateSlot(spec.name, cast(Gate, driver))
            run = GateActor(spec.name, slot, self.lanes[spec.lane], spec.lane, self._hub).run
        elif spec.kind == READER:
            slot = Slot(spec.name, cast(Driver, driver))
            run = ReaderActor(spec.name, slot, self.lanes[spec.lane], spec.lane, self._hub).run
        elif spec.kind == PRINTER:
            slot = PrinterSlot(spec.name, cast(Printer, driver))
            run = PrinterActor(view_name(spec), slot, ledger=self._ledger, hub=self._hub).run
        else:
            raise ValueError(f"{spec.name}: no actor for a {spec.kind}")
        self.slots[spec.name] = slot
        self._statistics[spec.name] = slot.statistics
        return Child(address, run)

    def _new_address(self, spec: DeviceSpec) -> Address:
        capacities = {GATE: GATE_MAILBOX_CAPACITY, PRINTER: PRINTER_MAILBOX_CAPACITY}
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
