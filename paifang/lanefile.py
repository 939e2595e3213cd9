"""The lane file: what a lane controller is, whom it links to, and how it decides alone. `sites/lane.toml` explains it.

Its tables `site`, `link`, `zones`, `lanes`, `controllers`, `fire` and `feedback` are those of a site file, with one
lane on a board; the others are its own.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import inspect

from paifang._site_devices import Controller, FeedbackPattern, Fire
from paifang._site_lines import line_of, lines_of_keys
from paifang._site_shape import Problem, examine
from paifang._site_types import Name, NotNegative, Port, Positive, Table
from paifang.site import Lane, Link, Site, SiteFile, Zone

LANE_FILE_MAX_BYTES = 262_144


class ThisController(Table, frozen=True, kw_only=True):
    """This computer. `device` is its name on the link and in its certificate.

    `identity` is the folder that enrolment made, below the data folder unless it begins with `/`; empty: no TLS, which
    a server accepts on its own loopback alone.
    """

    device: Name
    identity: str = "identity"


class Policy(Table, frozen=True, kw_only=True):
    """How the lane decides alone (`actors.edge.EdgePolicy`)."""

    answer_limit_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.0
    unlisted: Literal["accept", "refuse"] = "accept"
    face: Literal["refuse", "waive"] = "refuse"
    list_age_max_s: Positive = 3 * 24 * 3600.0
    limited_age_s: Positive = 3600.0
    journal_failure: Literal["refuse", "accept"] = "refuse"


class Neighbour(Table, frozen=True, kw_only=True):
    """Another lane of the entrance, and where it publishes."""

    lane: Name
    url: str


class Neighbours(Table, frozen=True, kw_only=True):
    """Where this lane publishes what it lets in, and whom it listens to. `key` is the entrance's key file."""

    listen: str = ""
    key: str = "identity/neighbour.key"
    lanes: list[Neighbour] = []


class Power(Table, frozen=True, kw_only=True):
    """The supply: `ups` is its name at NUT's `upsd`; empty: nobody asks. `shutdown` is run after an orderly stop."""

    ups: str = ""
    host: str = "127.0.0.1"
    port: Port = 3493
    poll_s: Positive = 5.0
    shutdown: list[str] = []


class LaneFile(Table, frozen=True, kw_only=True):
    controller: ThisController
    site: Site
    link: Link = Link()
    policy: Policy = Policy()
    neighbours: Neighbours = Neighbours()
    power: Power = Power()
    zones: list[Zone]
    lanes: list[Lane]
    controllers: list[Controller] = []
    fire: list[Fire] = []
    feedback: list[FeedbackPattern] = []
    journal_records: NotNegative = 200_000

    @property
    def lane(self) -> Lane:
        """The one lane."""
        return self.lanes[0]

    @property
    def as_site(self) -> SiteFile:
        """The same as a site file, for whatever takes one."""
        return SiteFile(
            site=self.site,
            link=self.link,
            zones=self.zones,
            lanes=self.lanes,
            controllers=self.controllers,
            fire=self.fire,
            feedback=self.feedback,
        )


class LaneFileError(Exception):
    """The lane file cannot be used; the text says every reason, one a line."""


def load_lane_file(path: Path) -> LaneFile:
    """Read and check a lane file. Raises LaneFileError with every complaint."""
    text, data = _read(path)
    problems: list[Problem] = []
    examine(data, inspect.type_info(LaneFile), "", problems)
    file: LaneFile | None = None
    if not problems:
        try:
            file = msgspec.convert(data, LaneFile)
        except msgspec.ValidationError as exc:
            problems.append(Problem("", str(exc), "what sites/lane.toml shows"))
        else:
            problems += _between(file)
    if problems or file is None:
        lines = lines_of_keys(text)
        raise LaneFileError("\n".join(_line(path, problem, lines) for problem in problems))
    return file


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        raw = path.read_bytes()
        if len(raw) > LANE_FILE_MAX_BYTES:
            raise LaneFileError(f"{path}: too large to be a lane file")
        text = raw.decode("utf-8").replace("\r\n", "\n")
        return text, tomllib.loads(text)
    except OSError as exc:
        raise LaneFileError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        raise LaneFileError(f"{path}: not TOML: {exc}") from exc


def _between(file: LaneFile) -> list[Problem]:
    """What must hold between the tables."""
    problems: list[Problem] = []
    if len(file.lanes) != 1:
        problems.append(Problem("lanes", f"{len(file.lanes)} lanes", "exactly one: a controller is one lane's"))
        return problems
    lane = file.lane
    if lane.board is None or lane.device is not None or lane.counter is not None:
        problems.append(Problem("lanes[0].board", "missing", "a lane controller has the lane's board; not device"))
    if not lane.readers:
        problems.append(Problem("lanes[0].readers", "missing", "at least one reader"))
    known = {zone.id for zone in file.zones} | {"outside"}
    for key, zone in (("from_zone", lane.from_zone), ("to_zone", lane.to_zone)):
        if zone not in known:
            problems.append(Problem(f"lanes[0].{key}", f"unknown zone {zone}", ", ".join(sorted(known))))
    names = [each.lane for each in file.neighbours.lanes]
    if lane.id in names or len(set(names)) != len(names):
        problems.append(Problem("neighbours.lanes", "names this lane or one twice", "each other lane once"))
    if names and not file.neighbours.listen:
        problems.append(Problem("neighbours.listen", "missing", "tcp://ADDRESS:PORT that the neighbours reach"))
    for position, each in enumerate(file.neighbours.lanes):
        if not each.url.startswith("tcp://"):
            problems.append(Problem(f"neighbours.lanes[{position}].url", each.url, "tcp://ADDRESS:PORT"))
    if not 1 <= file.policy.answer_limit_s * 10 <= 15:  # the lane's own patience is two seconds
        problems.append(Problem("policy.answer_limit_s", f"{file.policy.answer_limit_s:g}", "from 0.1 to 1.5"))
    return problems


def _line(path: Path, problem: Problem, lines: dict[str, int]) -> str:
    number = line_of(lines, problem.key)
    place = f"{path}:{number}" if number is not None else str(path)
    return f"{place}: {problem}"
