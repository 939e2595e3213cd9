"""`paifang sim`: the simulated site as a process of its own, until stopped, or until its script or time is over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from paifang import photographs
from paifang._wire_pki import FOLDER, uses_tls
from paifang.addresses import channel_url
from paifang.check import load
from paifang.keys import KeysError, public_release_keys
from paifang.pki import PkiError
from paifang.site import SiteFile
from sim.barrier import DEFAULT_TIMING, Timing
from sim.identity import Identities, identities
from sim.plan import DAY_CURVE, DEFAULT_MIX, HOUR_S, plan
from sim.script import DemoScript, Faces
from sim.site import SimSite
from sim.truth import Truth
from sim.visitors import Crowd
from sim.window import Desk, SalesWindow

ENVIRONMENT_VARIABLE = "PAIFANG_DEMO_PASSWORD"
KEYS_LIMIT_S = 120.0  # the server makes the keys at its first start; wait this long for them
KEYS_LOOK_S = 0.2
TALLY_S = 30.0  # how often the tally is said
FIRST_ENTRIES_SAID = 5


class SimError(Exception):
    """The simulated site cannot start; the text says what is missing."""


class SimOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `paifang sim` is told. `seconds` None: until stopped."""

    seed: int = 7
    speed: float = 60.0  # visitors' time: 60 makes an hour of arrivals and stays a minute; barriers stay as they are
    seconds: float | None = None
    script: str = ""  # empty: a day's visitors, day after day; `demo`: the demo's phases
    visitors_per_day: int = 1500
    cashier: str = "cashier"
    security: tuple[str, str] = ("security1", "security2")
    password: str = ""  # empty: from the environment
    photos: Path | None = None  # folder that photographs are fetched into; None: no cards with faces
    lost_replies: float = 0.0  # share of the boards' answers that get lost on the way
    timing: Timing = DEFAULT_TIMING

    def __repr__(self) -> str:
        return f"SimOptions(seed={self.seed}, speed={self.speed}, script={self.script!r})"


async def run_sim(
    sitefile: SiteFile | Path, data_dir: Path, options: SimOptions, *, say: Callable[[str], None] = print
) -> None:
    """Run the simulated site beside a server that uses the same site file and data folder.

    `say` gets a line for people now and then; all of them begin with `simulator:`.  Raises SimError.
    """
    site = sitefile if isinstance(sitefile, SiteFile) else load(sitefile)
    password = options.password or os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not password:
        raise SimError(f"the simulated cashier has no password: set {ENVIRONMENT_VARIABLE}")
    if options.script not in ("", "demo"):
        raise SimError(f"there is no script {options.script!r}; there is demo")

    def told(line: str) -> None:
        say(f"simulator: {line}")

    told("no real device is connected; boards, readers, gates, printer and visitors are simulated")
    keys = await _release_keys(data_dir / "keys")
    url = channel_url(site)
    identity = await _identities(site, data_dir)
    with Truth(data_dir / "sim" / "truth.jsonl") as truth:
        truth.phase("simulator", f"seed {options.seed}")
        devices = SimSite(
            site,
            data_dir,
            keys,
            truth,
            seed=options.seed,
            timing=options.timing,
            lost_replies=options.lost_replies,
            identity=identity,
        )
        cashier = Desk(url, options.cashier, password)
        security = (Desk(url, options.security[0], password), Desk(url, options.security[1], password))
        printer = devices.printers[0].printer if devices.printers else ""
        window = SalesWindow(
            cashier, truth, name=printer or "window", printer=printer, run_id=f"sim-{options.seed}-{time.time_ns()}"
        )
        crowd = Crowd(devices, window, truth, tomorrow=lambda: _tomorrow(site), on_entered=_first_entries(told))
        async with trio.open_nursery() as nursery:
            await nursery.start(devices.run)
            nursery.start_soon(cashier.run)
            if options.script == "demo":
                for desk in security:
                    nursery.start_soon(desk.run)
                script = DemoScript(
                    devices,
                    crowd,
                    window,
                    security,
                    truth,
                    seconds=options.seconds or 30.0,
                    seed=options.seed,
                    faces=None if options.photos is None else await _faces(options.photos, told),
                    say=told,
                )
                await script.run()
            else:
                nursery.start_soon(_tell, crowd, told)
                with trio.move_on_after(float("inf") if options.seconds is None else options.seconds):
                    await _days(crowd, options)
                await devices.said(10.0)
            told("stopping")
            nursery.cancel_scope.cancel()


async def _identities(site: SiteFile, data: Path) -> Identities:
    """Waits for the authority that the server makes at its first start. Raises SimError."""
    with trio.move_on_after(KEYS_LIMIT_S):
        while uses_tls(site.link) and not (data / FOLDER).exists():  # noqa: ASYNC110 - another process makes it, whole
            await trio.sleep(KEYS_LOOK_S)
    try:
        return identities(site, data)
    except PkiError as exc:
        raise SimError(f"the simulated gates get no certificates: {exc}") from exc


async def _days(crowd: Crowd, options: SimOptions) -> None:
    """One day of visitors after the other."""
    day_s = (DAY_CURVE[-1][0] - DAY_CURVE[0][0]) * HOUR_S
    start, first = trio.current_time(), 0
    async with trio.open_nursery() as nursery:
        while True:
            visitors = plan(options.seed, options.visitors_per_day, day_s, mix=DEFAULT_MIX, first=first)
            await crowd.admit(visitors, nursery, speed=options.speed, start=start)
            first += options.visitors_per_day
            start += day_s / options.speed
            await trio.sleep_until(start)


async def _tell(crowd: Crowd, say: Callable[[str], None]) -> None:
    while True:
        await trio.sleep(TALLY_S)
        tally = crowd.tally
        say(
            f"{tally.came} visitors came, {tally.entered} entered, {tally.refused} were refused, "
            f"{tally.gave_up} gave up, {tally.left} left"
        )


def _first_entries(say: Callable[[str], None]) -> Callable[[str, str], None]:
    said = 0

    def entered(visitor: str, lane: str) -> None:
        nonlocal said
        if said < FIRST_ENTRIES_SAID:
            said += 1
            say(f"visitor {visitor} was admitted at lane {lane}")

    return entered


async def _release_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """The public release keys, as soon as the server has made them. Raises SimError."""
    with trio.move_on_after(KEYS_LIMIT_S):
        while True:
            try:
                return public_release_keys(folder)
            except KeysError:
                await trio.sleep(KEYS_LOOK_S)
    raise SimError(
        f"{folder}: no release key after {KEYS_LIMIT_S:g} s; is `paifang serve` running on this data folder?"
    )


async def _faces(folder: Path, say: Callable[[str], None]) -> Faces:
    """Photographs of people, fetched unless they are there. Raises SimError."""
    try:
        people = await trio.to_thread.run_sync(photographs.ensure, folder, say)
    except photographs.PhotographsError as exc:
        raise SimError(str(exc)) from exc
    return Faces(people)


def _tomorrow(site: SiteFile) -> str:
    return (datetime.now(ZoneInfo(site.site.timezone)) + timedelta(days=1)).date().isoformat()
