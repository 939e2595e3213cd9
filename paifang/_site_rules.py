"""What must hold between the parts of a site file: names that refer to each other, lines and ports used once, limits.

Each rule looks at the entries that are sound by themselves, so that one mistake is reported once and does not hide the
others.  Problems stop a start; warnings are said and then it starts.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import msgspec

from paifang import _site_device_rules as device_rules
from paifang import _site_outgoing_rules as outgoing_rules
from paifang._site_device_rules import is_host
from paifang._site_modes import ModesTable
from paifang._site_modes import problems as mode_problems
from paifang._site_products import product_problems
from paifang._site_shape import Problem, nearest, quoted, shown
from paifang._site_types import GROUP_MAX
from paifang.site import (
    Alarms,
    Controller,
    Database,
    EvacuationTable,
    Face,
    FeedbackPattern,
    Fire,
    Http,
    Lane,
    Link,
    Printer,
    Product,
    Site,
    Web,
    Zone,
)

OUTSIDE = "outside"  # the zone that every site has: the ledger adds it, nobody declares it

# What one server is built and tested for; a larger site is several sites.
ZONES_MAX = 64
LANES_MAX = 512
PRINTERS_MAX = 64
PRODUCTS_MAX = 200
ZONE_LIMIT_MAX = 1_000_000  # people
LINK_ADDRESSES = ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety", "enrol")
GRANT_TTL_MAX_S = 60.0  # an open that is still valid later surprises whoever stands in the lane by then
LABEL_MAX_CHARACTERS = 80

_HOURS_MINUTES = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d\Z")


class Parts(msgspec.Struct, kw_only=True):
    """The entries of a site file that are sound by themselves, with their positions in the file.

    `zone_ids` comes from the raw file: a zone whose limit is wrong is still a zone that exists.
    """

    site: Site | None
    database: Database | None
    http: Http | None
    web: Web | None
    link: Link | None
    face: Face | None
    zones: list[tuple[int, Zone]]
    lanes: list[tuple[int, Lane]]
    controllers: list[tuple[int, Controller]]
    fire: list[tuple[int, Fire]]
    feedback: list[tuple[int, FeedbackPattern]]
    printers: list[tuple[int, Printer]]
    products: list[tuple[int, Product]]
    zone_ids: list[str]
    controller_ids: list[str]
    evacuation: EvacuationTable | None
    alarms: Alarms | None
    modes: ModesTable | None
    complete: bool  # nothing was left out: rules about what is absent may speak


def problems(parts: Parts) -> Iterator[Problem]:
    """Everything that makes the site impossible to start."""
    yield from _site(parts)
    yield from _database(parts)
    yield from _addresses(parts)
    yield from _zones(parts)
    for position, lane in parts.lanes:
        yield from _lane(f"lanes[{position}]", lane, parts)
    for position, product in parts.products:
        yield from _product(f"products[{position}]", product, parts)
    yield from device_rules.problems(_devices(parts))
    yield from outgoing_rules.problems(parts.evacuation, parts.alarms)
    if parts.modes is not None and parts.complete:
        for key, wrong, allowed in mode_problems(parts.modes, [lane.id for _, lane in parts.lanes]):
            yield Problem(key, wrong, allowed)
    yield from _used_once("lanes", "device", ((p, lane.device) for p, lane in parts.lanes if lane.device))
    for table, entries in (
        ("zones", parts.zones),
        ("lanes", parts.lanes),
        ("controllers", parts.controllers),
        ("fire", parts.fire),
        ("printers", parts.printers),
    ):
        yield from _used_once(table, "id", ((position, entry.id) for position, entry in entries))
    versions = ((p, f"{each.id} {each.effective_from}".strip()) for p, each in parts.products)
    yield from _used_once("products", "id", versions)
    for table, count, most in (
        ("zones", len(parts.zones), ZONES_MAX),
        ("lanes", len(parts.lanes), LANES_MAX),
        ("controllers", len(parts.controllers), device_rules.CONTROLLERS_MAX),
        ("fire", len(parts.fire), device_rules.FIRE_MAX),
        ("printers", len(parts.printers), PRINTERS_MAX),
        ("products", len(parts.products), PRODUCTS_MAX),
    ):
        if count > most:
            yield Problem(table, f"{count} entries", f"at most {most}")
        elif count == 0 and parts.complete and table in ("zones", "lanes"):
            yield Problem(table, "no entry", f"1 to {most}")


def warnings(parts: Parts) -> Iterator[Problem]:
    """What works but is probably not meant; only asked for when there are no problems."""
    into = {zone for _, lane in parts.lanes for zone in _leads_into(lane)}
    out_of = {zone for _, lane in parts.lanes for zone in _leads_out_of(lane)}
    for position, zone in parts.zones:
        key = f"zones[{position}]"
        if zone.id not in into | out_of:
            yield Problem(f"{key}.id", "no lane leads into or out of this zone", "")
        elif zone.id not in into:
            yield Problem(f"{key}.id", "no open lane leads into this zone", "")
        elif zone.id not in out_of and zone.limit is not None:
            yield Problem(f"{key}.limit", "no open lane leads out of this zone: it fills up and stays full", "")
    for position, lane in parts.lanes:
        if lane.mode == "closed":
            yield Problem(f"lanes[{position}].mode", "this lane starts closed: nobody passes until it is set", "")
        if lane.grant_ttl_s < 1.0:
            yield Problem(f"lanes[{position}].grant_ttl_s", f"{lane.grant_ttl_s} s is too short to walk through", "")
    for position, product in parts.products:
        for place, zone_id in enumerate(product.zones):
            if zone_id not in into:
                yield Problem(f"products[{position}].zones[{place}]", f'no open lane leads into "{zone_id}"', "")
        for number, right in enumerate(product.rights):
            for place, zone_id in enumerate(right.zones):
                if zone_id not in into:
                    key = f"products[{position}].rights[{number}].zones[{place}]"
                    yield Problem(key, f'no open lane leads into "{zone_id}"', "")
        if product.needs_face and not any(
            lane.device and set(_leads_into(lane)) & _zones_of(product) for _, lane in parts.lanes
        ):
            yield Problem(
                f"products[{position}].needs_face", "no lane with a `device` (whose camera it needs) leads there", ""
            )
    if parts.face is not None and parts.face.workers == 0:
        for position, product in parts.products:
            if product.needs_face:
                yield Problem(f"products[{position}].needs_face", "face.workers is 0: these cards are refused", "")
    tls = parts.web is not None and parts.web.tls is not None
    if parts.http is not None and not tls and not _is_loopback(parts.http.host):
        yield Problem(
            "http.host",
            f"{shown(parts.http.host)} serves the console without TLS to other computers",
            "127.0.0.1 with a TLS proxy in front of it, or [web.tls]",
        )
    if parts.database is not None and parts.database.url and urlsplit(parts.database.url).password:
        yield Problem("database.url", "the password can be read by whoever can read this file", "a ~/.pgpass file")
    yield from device_rules.warnings(_devices(parts))
    if not parts.products:
        yield Problem("products", "nothing is sold here", "")
    elif not parts.printers:
        yield Problem("printers", "no printer: tickets that are sold cannot be printed", "")


def _devices(parts: Parts) -> device_rules.Devices:
    return device_rules.Devices(
        lanes=parts.lanes,
        controllers=parts.controllers,
        fire=parts.fire,
        feedback=parts.feedback,
        printers=parts.printers,
        controller_ids=parts.controller_ids,
    )


def _site(parts: Parts) -> Iterator[Problem]:
    if parts.site is None:
        return
    yield from _label("site.name", parts.site.name)
    yield from _label("site.name_en", parts.site.name_en, empty=True)
    zone = parts.site.timezone
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):  # "Asia" is a directory, "../x" a ValueError
        yield Problem(
            "site.timezone",
            f"{shown(zone)} is not a time zone",
            'a name of the IANA database such as "Asia/Shanghai"',
            suggestion=_nearest_time_zone(zone),
        )
    if not _HOURS_MINUTES.match(parts.site.business_day_start):
        yield Problem(
            "site.business_day_start", f"{shown(parts.site.business_day_start)} is not a time of day", '"HH:MM"'
        )


def _nearest_time_zone(zone: str) -> str:
    known = {name.lower(): name for name in zoneinfo.available_timezones()}
    return known.get(nearest(zone.replace(" ", "_"), known), "")


def _database(parts: Parts) -> Iterator[Problem]:
    if parts.database is None or not parts.database.url:
        return
    allowed = 'empty for the embedded PostgreSQL, or "postgresql://user@host:port/database"'
    try:
        url = urlsplit(parts.database.url)
        sound = url.scheme in ("postgresql", "postgres") and len(url.path) > 1 and (url.port is None or url.port > 0)
    except ValueError:
        sound = False
    if not sound:  # the url itself is not shown: it may hold a password
        yield Problem("database.url", "not the address of a PostgreSQL database", allowed)


def _addresses(parts: Parts) -> Iterator[Problem]:
    used: dict[int, str] = {}
    if parts.http is not None:
        if not is_host(parts.http.host):
            yield Problem("http.host", f"{shown(parts.http.host)} is not an address", "an IP address or a host name")
        if parts.http.port:
            used[parts.http.port] = "http.port"
    if parts.web is not None:
        yield from _web(parts.web)
    if parts.link is None:
        return
    schemes = set()
    for name in LINK_ADDRESSES:
        key = f"link.{name}"
        address = getattr(parts.link, name)
        if name == "enrol" and not address:
            continue
        more = ""
        try:
            url = urlsplit(address)
            host, port = url.hostname, url.port
            more = url.path or url.username or url.query or url.fragment
        except ValueError:
            host, port = None, None
        if not host or not port or url.scheme not in ("tcp", "tls+tcp") or more:
            yield Problem(key, f"{shown(address)} is not an address of the device link", '"tcp://127.0.0.1:PORT"')
            continue
        schemes.add(url.scheme)
        if url.scheme == "tcp" and not _is_loopback(host):
            yield Problem(
                key,
                f"{shown(address)} can be reached from other computers, and has no TLS",
                f'"tcp://127.0.0.1:PORT", or "tls+tcp://{host}:{port}" here and for all addresses of the link',
            )
        if port in used:
            yield Problem(key, f"port {port} is already that of {used[port]}", "a port of its own")
        else:
            used[port] = key
    if len(schemes) > 1:
        yield Problem("link", "some addresses have TLS and some have none", "tls+tcp:// for all, or tcp:// for all")
    if parts.link.enrol and schemes == {"tcp"}:
        yield Problem("link.enrol", "certificates are of no use without TLS", "tls+tcp:// for all addresses")


def _zones(parts: Parts) -> Iterator[Problem]:
    for position, zone in parts.zones:
        key = f"zones[{position}]"
        yield from _label(f"{key}.name", zone.name)
        yield from _label(f"{key}.name_en", zone.name_en, empty=True)
        if zone.id == OUTSIDE:
            yield Problem(f"{key}.id", '"outside" is there by itself and cannot be declared', "any other name")
        if zone.limit is not None and zone.limit > ZONE_LIMIT_MAX:
            yield Problem(f"{key}.limit", f"{zone.limit} people", f"1 to {ZONE_LIMIT_MAX}")
        yield from _thresholds(key, zone)


def _thresholds(key: str, zone: Zone) -> Iterator[Problem]:
    """A stop ends no higher than it began, and a part needs a whole."""
    if zone.resume_at > zone.stop_at:
        yield Problem(f"{key}.resume_at", f"{zone.resume_at:g} is above stop_at", f"at most {zone.stop_at:g}")
    if zone.sale_resume_at is not None:
        if zone.sale_stop_at is None:
            yield Problem(f"{key}.sale_resume_at", "the sale has no sale_stop_at", "a sale_stop_at beside it")
        elif zone.sale_resume_at > zone.sale_stop_at:
            allowed = f"at most {zone.sale_stop_at:g}"
            yield Problem(f"{key}.sale_resume_at", f"{zone.sale_resume_at:g} is above sale_stop_at", allowed)
    if zone.limit is None and (zone.stop_at < 1.0 or zone.resume_at < 1.0 or zone.sale_stop_at is not None):
        yield Problem(f"{key}.limit", "there is no limit that the thresholds are parts of", "a number of people")


def _lane(key: str, lane: Lane, parts: Parts) -> Iterator[Problem]:
    yield from _label(f"{key}.name", lane.name)
    yield from _label(f"{key}.entrance", lane.entrance, empty=True)
    for end, zone in (("from_zone", lane.from_zone), ("to_zone", lane.to_zone)):
        if zone != OUTSIDE and zone not in parts.zone_ids:
            yield _unknown_zone(f"{key}.{end}", zone, [OUTSIDE, *parts.zone_ids])
    if lane.from_zone == lane.to_zone:
        yield Problem(f"{key}.to_zone", f'leads from "{lane.from_zone}" to itself', "another zone than from_zone")
    if lane.max_group > GROUP_MAX:
        yield Problem(f"{key}.max_group", f"{lane.max_group} people", f"1 to {GROUP_MAX}")
    if lane.grant_ttl_s > GRANT_TTL_MAX_S:
        yield Problem(f"{key}.grant_ttl_s", f"{lane.grant_ttl_s} s", f"above 0 to {GRANT_TTL_MAX_S:g}")


def _product(key: str, product: Product, parts: Parts) -> Iterator[Problem]:
    yield from _label(f"{key}.name", product.name)
    yield from _label(f"{key}.name_en", product.name_en)
    yield from product_problems(
        key,
        product,
        parts.zone_ids,
        (other.id for _, other in parts.products),
        (lane.class_ for _, lane in parts.lanes if lane.class_),
    )


def _used_once(table: str, name: str, entries: Iterable[tuple[int, str]]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, value in entries:
        if value in first:
            other = f"{table}[{first[value]}]"
            yield Problem(f"{table}[{position}].{name}", f'"{value}" is already that of {other}', "a name of its own")
        else:
            first[value] = position


def _label(key: str, text: str, *, empty: bool = False) -> Iterator[Problem]:
    if (not text.strip() and not empty) or len(text) > LABEL_MAX_CHARACTERS:
        yield Problem(key, f"{shown(text)} cannot be shown", f"1 to {LABEL_MAX_CHARACTERS} characters")


def _zones_of(product: Product) -> set[str]:
    return {*product.zones, *(zone for right in product.rights for zone in right.zones)}


def _leads_into(lane: Lane) -> list[str]:
    return [
        *([lane.to_zone] if lane.mode in ("normal_entry", "bidirectional") else []),
        *([lane.from_zone] if lane.mode in ("normal_exit", "bidirectional") else []),
    ]


def _leads_out_of(lane: Lane) -> list[str]:
    return [
        *([lane.from_zone] if lane.mode in ("normal_entry", "bidirectional") else []),
        *([lane.to_zone] if lane.mode in ("normal_exit", "bidirectional") else []),
    ]


def _unknown_zone(key: str, zone: str, known: list[str]) -> Problem:
    return Problem(key, f'unknown zone "{zone}"', quoted(known), suggestion=nearest(zone, known))


def _web(web: Web) -> Iterator[Problem]:
    for place, name in enumerate(web.names):
        if not is_host(name):
            yield Problem(f"web.names[{place}]", f"{shown(name)} is not a name", "an IP address or a host name")
    tls = web.tls
    if tls is not None and tls.authority is (bool(tls.certificate) or bool(tls.key)):
        yield Problem("web.tls", "says nothing, or two things", "certificate and key, or authority = true")
    elif tls is not None and bool(tls.certificate) is not bool(tls.key):
        yield Problem("web.tls", "certificate and key belong together", "both files")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
