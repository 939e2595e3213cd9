"""The site file's validator: each promise of `paifang check` is one test, each refusal one row."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paifang import check as module
from paifang._site_lines import line_of, lines_of_keys
from paifang.check import Problem, SiteFileError, check, load
from paifang.site import SiteFile

HOOK = {"id": "a", "url": "https://x.example/", "secret_env": "KEY"}
MAIL = {"host": "localhost", "sender": "gates@park.example", "to": ["duty@park.example"]}
SCHEDULE = {"lanes": ["north-1"], "mode": "direct_check", "from": "10:00", "to": "11:00"}
SOUND: dict[str, Any] = {
    "site": {"id": "west-lake", "name": "西湖", "name_en": "West Lake"},
    "zones": [
        {"id": "garden", "name": "园区", "limit": 200},
        {"id": "museum", "name": "博物馆"},
    ],
    "lanes": [
        {
            "id": "north-1",
            "name": "北门一",
            "to_zone": "garden",
            "board": {"path": "dev/north-1-board"},
            "readers": [{"path": "dev/north-1-qr"}],
        },
        {"id": "museum-1", "name": "馆一", "from_zone": "garden", "to_zone": "museum", "device": "gate-1"},
    ],
    "printers": [{"id": "window-1", "host": "127.0.0.1", "port": 9100}],
    "products": [
        {
            "id": "adult",
            "name": "成人票",
            "name_en": "Adult",
            "class": "full",
            "price_cents": 8000,
            "zones": ["garden", "museum"],
        }
    ],
}

SOUND_TEXT = """\
# a comment with a [bracket] and a quote "
[site]
id = "west-lake"
name = "西湖"

[[zones]]
id = "garden"
name = '''
园区'''

[[lanes]]
id = "north-1"
name = "North # 1"
to_zone = "garden"
board = { path = "dev/board", baud = 9600 }
readers = [
  { path = "dev/qr" },
]

[[lanes]]
id = "north-2"
name = "North 2"
to_zone = "garden"

[lanes.board]
path = "dev/board-2"

[[lanes.readers]]
path = "dev/qr-2"

[[lanes.readers]]
path = "dev/qr-3"
"""


def toml(value: Any) -> str:
    """A value as TOML: enough for these tests, everything inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return msgspec.json.encode(value).decode() if isinstance(value, str) else str(value)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def written(tmp_path: Path, data: dict[str, Any]) -> Path:
    path = tmp_path / "site.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in data.items()), encoding="utf-8")
    return path


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """`SOUND` with values put at paths such as `lanes.0.to_zone`; None takes the key away."""
    data = copy.deepcopy(SOUND)
    for path, value in changes.items():
        at: Any = data
        *way, last = path.split(".")
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        if isinstance(at, list):
            at.insert(int(last), value)
        elif value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return data


def test_a_sound_file_is_loaded_with_its_defaults_and_no_finding(tmp_path: Path) -> None:
    report = check(written(tmp_path, SOUND))
    assert report.lines() == []
    assert report.site is not None
    assert report.site.lanes[1].device == "gate-1"
    assert report.site.site.timezone == "Asia/Shanghai"
    assert load(written(tmp_path, SOUND)) == report.site


def test_the_example_that_comes_with_the_product_is_sound() -> None:
    assert check(Path(__file__).parents[2] / "sites" / "demo.toml").lines() == []


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    # changes, key, what the complaint must say, what it must say is allowed
    ({"lanes.0.to_zone": "gardn"}, "lanes[0].to_zone", 'unknown zone "gardn"', '"outside", "garden", "museum"'),
    ({"lanes.1.from_zone": "foyer"}, "lanes[1].from_zone", 'unknown zone "foyer"', '"garden"'),
    ({"products.0.zones.1": "mueum"}, "products[0].zones[1]", 'unknown zone "mueum"', '"museum"'),
    ({"products.0.zones.1": "outside"}, "products[0].zones[1]", 'unknown zone "outside"', '"garden", "museum"'),
    ({"products.0.zones.1": "garden"}, "products[0].zones[1]", "named twice", "each zone once"),
    ({"products.0.zones": []}, "products[0].zones", "opens no zone", '"garden"'),
    ({"zones.1.id": "garden", "lanes.1.to_zone": "outside", "products.0.zones": ["garden"]},
     "zones[1].id", 'already that of zones[0]', "a name of its own"),
    ({"zones.1.id": "outside", "lanes.1.to_zone": "outside", "products.0.zones": ["garden"]},
     "zones[1].id", '"outside" is there by itself', "any other name"),
    ({"lanes.1.id": "north-1"}, "lanes[1].id", "already that of lanes[0]", "a name of its own"),
    ({"printers.0": {"id": "window-1", "path": "dev/p"}}, "printers[1].id", "already that of printers[0]", "its own"),
    ({"products.0": {**SOUND["products"][0]}}, "products[1].id", "already that of products[0]", "its own"),
    ({"lanes.0.device": "gate-9"}, "lanes[0]", "both a board and a device", "a board with readers, or a device"),
    ({"lanes.1.device": None}, "lanes[1]", "neither a board nor a device", "a board with readers, or a device"),
    ({"lanes.0.readers": []}, "lanes[0].readers", "without a reader", "[[lanes.readers]]"),
    ({"lanes.1.readers": [{"path": "dev/x"}]}, "lanes[1].readers", "brings its own readers", "no readers"),
    ({"lanes.0.readers": [{"path": f"dev/{n}"} for n in range(9)]}, "lanes[0].readers", "9 readers", "at most 8"),
    ({"lanes.0.to_zone": "outside"}, "lanes[0].to_zone", "to itself", "another zone"),
    ({"lanes.0": {**SOUND["lanes"][1], "id": "m-2"}}, "lanes[2].device", '"gate-1" is already that of lanes[0]', "own"),
    ({"lanes.0.readers.0": {"path": "dev/./north-1-board"}}, "lanes[0].readers[0].path", "already lanes[0].board.path",
     "a line of its own"),
    ({"printers.0.host": None, "printers.0.path": "dev/north-1-qr"}, "printers[0].path",
     "already lanes[0].readers[0].path", "a line of its own"),
    ({"lanes.0.board.path": "../../etc/passwd"}, "lanes[0].board.path", "leaves the data folder", "/dev/serial/by-id"),
    ({"lanes.0.board.path": ""}, "lanes[0].board.path", "not the path of a serial line", "/dev/serial/by-id"),
    ({"lanes.0.board.baud": 9601}, "lanes[0].board.baud", "9601 is not a usual line speed", "9600"),
    ({"lanes.0.board.address": 256}, "lanes[0].board.address", "256 is out of range", "from 1 to 255"),
    ({"lanes.0.board.language": "board5"}, "lanes[0].board.language", "unknown", '"board4"'),
    ({"lanes.0.max_group": 501}, "lanes[0].max_group", "501 people", "1 to 500"),
    ({"lanes.0.grant_ttl_s": 61}, "lanes[0].grant_ttl_s", "61", "60"),
    ({"lanes.0.grant_ttl_s": "inf"}, "lanes[0].grant_ttl_s", "wrong type", "a number above 0"),
    ({"lanes.0.grant_ttl_s": float("inf")}, "lanes[0].grant_ttl_s", "inf is out of range", "a number above 0"),
    ({"lanes.0.grant_ttl_s": float("nan")}, "lanes[0].grant_ttl_s", "nan is out of range", "a number above 0"),
    ({"lanes.0.mode": "normal-entry"}, "lanes[0].mode", "unknown", '"normal_entry"'),
    ({"link.work": "tcp://0.0.0.0:8461"}, "link.work", "has no TLS", "tcp://127.0.0.1:PORT"),
    ({"link.release": "tcp://192.168.1.5:8463"}, "link.release", "has no TLS", "tcp://127.0.0.1:PORT"),
    ({"link.work": "tcp://gates.example:8461"}, "link.work", "has no TLS", "tcp://127.0.0.1:PORT"),
    ({"link.work": "tls+tcp://0.0.0.0:8461"}, "link", "some addresses have TLS", "tls+tcp:// for all"),
    ({"link.enrol": "tcp://127.0.0.1:8467"}, "link.enrol", "of no use without TLS", "tls+tcp://"),
    ({"link.enrol": "tls+tcp://0.0.0.0:8467"}, "link", "some addresses have TLS", "tls+tcp:// for all"),
    ({"link.clock_tolerance_s": 0}, "link.clock_tolerance_s", "0", "above 0"),
    ({"link.work": "udp://127.0.0.1:8461"}, "link.work", "not an address of the device link", "tcp://"),
    ({"link.work": "tcp://127.0.0.1"}, "link.work", "not an address of the device link", "tcp://"),
    ({"link.work": "tcp://127.0.0.1:99999"}, "link.work", "not an address of the device link", "tcp://"),
    ({"link.work": "tcp://127.0.0.1:0"}, "link.work", "not an address of the device link", "tcp://"),
    ({"link.work": "tcp://[::1"}, "link.work", "not an address of the device link", "tcp://"),
    ({"link.wake": "tcp://127.0.0.1:8461"}, "link.wake", "port 8461 is already that of link.work", "of its own"),
    ({"http.port": 8464}, "link.safety", "port 8464 is already that of http.port", "of its own"),
    ({"http.port": 70000}, "http.port", "70000 is out of range", "from 0 to 65535"),
    ({"http.host": "not a host"}, "http.host", "not an address", "an IP address"),
    ({"http.host": "10.0.0.300"}, "http.host", "not an address", "an IP address"),
    ({"site.timezone": "Asia/Shanghia"}, "site.timezone", "not a time zone", "IANA"),
    ({"site.timezone": "Asia"}, "site.timezone", "not a time zone", "IANA"),
    ({"site.timezone": "../../etc/passwd"}, "site.timezone", "not a time zone", "IANA"),
    ({"site.business_day_start": "24:00"}, "site.business_day_start", "not a time of day", "HH:MM"),
    ({"site.business_day_start": "4:00"}, "site.business_day_start", "not a time of day", "HH:MM"),
    ({"site.name": " "}, "site.name", "cannot be shown", "1 to 80"),
    ({"site.name": "a\nb"}, "site.name", "cannot be printed", "a text"),
    ({"site.id": "West Lake"}, "site.id", "not a valid name", "lower-case letters"),
    ({"site.id": "west-lake\n"}, "site.id", "cannot be printed", "lower-case letters"),
    ({"site.id": None}, "site.id", "missing", "lower-case letters"),
    ({"site.open": True}, "site.open", "unknown key", "timezone"),
    ({"site": None}, "site", "missing", "a table with id"),
    ({"site": "west-lake"}, "site", "a text where a table belongs", "a table with id"),
    ({"lanes": {"id": "x"}}, "lanes", "write [[lanes]] rather than [lanes]", "a list"),
    ({"lanes": []}, "lanes", "no entry", "1 to 512"),
    ({"evacuation": {"announce": ["say"]}}, "evacuation.announce[0]", "no whole path", "from /"),
    ({"evacuation": {"announce_timeout_s": 0}}, "evacuation.announce_timeout_s", "out of range", "above 0"),
    ({"alarms": {"webhooks": [HOOK | {"url": "gopher://x"}]}}, "alarms.webhooks[0].url", "no address", "https://"),
    ({"alarms": {"webhooks": [HOOK | {"url": "http://x"}]}}, "alarms.webhooks[0].url", "private", "private = true"),
    ({"alarms": {"webhooks": [HOOK | {"url": "https://a:b@x"}]}}, "alarms.webhooks[0].url", "password", "secret_file"),
    ({"alarms": {"webhooks": [HOOK | {"secret_env": ""}]}}, "alarms.webhooks[0].secret_file", "signing key", "one of"),
    ({"alarms": {"webhooks": [HOOK, HOOK]}}, "alarms.webhooks[1].id", "twice", "another id"),
    ({"alarms": {"webhooks": [HOOK | {"topics": ["fire"]}]}}, "alarms.webhooks[0].topics[0]", "unknown", "evacuation"),
    ({"alarms": {"mail": [MAIL | {"to": []}]}}, "alarms.mail[0].to", "nobody", "one address"),
    ({"alarms": {"mail": [MAIL | {"sender": "x"}]}}, "alarms.mail[0].sender", "no mail address", "NAME@HOST"),
    ({"alarms": {"mail": [MAIL | {"user": "u"}]}}, "alarms.mail[0].password_file", "password", "one of"),
    ({"alarms": {"mail": [MAIL | {"timeout_s": 1e9}]}}, "alarms.mail[0].timeout_s", "too long", "up to 120"),
    ({"zones.0.limit": 0}, "zones[0].limit", "0 is out of range", "from 1"),
    ({"zones.0.limit": True}, "zones[0].limit", "a boolean", "a whole number"),
    ({"zones.0.limit": 10**30}, "zones[0].limit", "people", "1 to 1000000"),
    ({"zones.0.stop_at": 1.5}, "zones[0].stop_at", "out of range", "1"),
    ({"zones.0.stop_at": 0.9, "zones.0.resume_at": 0.95}, "zones[0].resume_at", "above stop_at", "0.9"),
    ({"zones.0.sale_resume_at": 0.5}, "zones[0].sale_resume_at", "no sale_stop_at", "sale_stop_at"),
    (
        {"zones.0.sale_stop_at": 0.5, "zones.0.sale_resume_at": 0.6},
        "zones[0].sale_resume_at",
        "above sale_stop_at",
        "0.5",
    ),
    ({"zones.1.sale_stop_at": 0.5}, "zones[1].limit", "no limit", "people"),
    ({"zones.0.day_limit": 0}, "zones[0].day_limit", "out of range", "from 1"),
    ({"database.url": "mysql://root:hush@db/x"}, "database.url", "not the address of a PostgreSQL", "postgresql://"),
    ({"database.url": "postgresql://db"}, "database.url", "not the address of a PostgreSQL", "postgresql://"),
    ({"printers.0.host": None}, "printers[0]", "neither a host nor a path", "host and port for TCP"),
    ({"printers.0.path": "dev/p"}, "printers[0]", "both a host and a path", "host and port for TCP"),
    ({"printers.0.port": 0}, "printers[0].port", "port 0 cannot be dialled", "9100"),
    ({"printers.0.host": "a..b"}, "printers[0].host", "not an address", "a host name"),
    ({"products.0.class": "child"}, "products[0].class", "unknown", '"discount"'),
    ({"products.0.class": "free"}, "products[0].price_cents", "8000 for a free ticket", "0, or another class"),
    ({"products.0.price_cents": -1}, "products[0].price_cents", "-1 is out of range", "from 0"),
    ({"products.0.price_cents": 80.5}, "products[0].price_cents", "a number with a fraction", "a whole number"),
    ({"products.0.price_cents": 10**9}, "products[0].price_cents", "too many", "at most"),
    ({"products.0.pax": 501}, "products[0].pax", "too many", "at most 500"),
    ({"products.0.days": 4000}, "products[0].days", "too many", "at most 3660"),
    ({"products.0.needs_face": True, "products.0.pax": 2}, "products[0].pax", "checked by one face", "1"),
    ({"face.workers": 17}, "face.workers", "17 is out of range", "from 0 to 16"),
    ({"lanes.0.kind": "attendant"}, "lanes[0]", "the phone is this lane's only device", "no board"),
    ({"modes.direct_check": 1441}, "modes.direct_check", "1441 is out of range", "to 1440"),
    ({"modes.schedules": [SCHEDULE | {"lanes": ["x"]}]}, "modes.schedules[0].lanes[0]", 'unknown lane "x"', "north-1"),
    ({"modes.schedules": [SCHEDULE | {"to": "24:00"}]}, "modes.schedules[0].to", "24:00", "matches"),
    ({"modes.schedules": [SCHEDULE | {"to": "09:59"}]}, "modes.schedules[0].to", "1439 minutes", "at most 120"),
    ({"modes.schedules": [SCHEDULE | {"days": []}]}, "modes.schedules[0].days", "no day", "mon, tue"),
]


@pytest.mark.parametrize(("changes", "key", "wrong", "allowed"), REFUSALS)
def test_a_mistake_is_reported_once_with_its_key_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], key: str, wrong: str, allowed: str
) -> None:
    report = check(written(tmp_path, changed(changes)))
    assert report.site is None
    assert [each.key for each in report.problems] == [key], report.lines()
    assert wrong in report.problems[0].wrong
    assert allowed in report.problems[0].allowed


@pytest.mark.parametrize(
    ("changes", "suggestion"),
    [
        ({"lanes.0.to_zone": "gardn"}, "garden"),
        ({"lanes.0.kind": "tirpod"}, "tripod"),
        ({"lanes.0.max_gruop": 3}, "max_group"),
        ({"site.timezone": "asia/shanghia"}, "Asia/Shanghai"),
        ({"site.timezone": "Qqqqq"}, ""),
    ],
)
def test_a_misspelt_word_comes_with_the_one_that_was_meant(
    tmp_path: Path, changes: dict[str, Any], suggestion: str
) -> None:
    (problem,) = check(written(tmp_path, changed(changes))).problems
    assert problem.suggestion == suggestion


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    changes = {"site.timezone": "Nowhere", "zones.0.limit": 0, "lanes.0.to_zone": "x", "products.0.zones.0": "y"}
    with pytest.raises(SiteFileError) as caught:
        load(written(tmp_path, changed(changes)))
    assert [each.key for each in caught.value.problems] == [
        "site.timezone",
        "zones[0].limit",
        "lanes[0].to_zone",
        "products[0].zones[0]",
    ]
    assert len(str(caught.value).splitlines()) == 4


def test_a_complaint_says_file_line_key_entry_fault_and_cure(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    assert check(_write(path, SOUND_TEXT)).problems == []
    _write(path, SOUND_TEXT.replace('to_zone = "garden"\n\n[lanes.board]', 'to_zone = "gadren"\n\n[lanes.board]'))
    (line,) = check(path).lines()
    assert line == (
        f'{path}:23: lanes[1].to_zone (lane "north-2"): unknown zone "gadren"; '
        'allowed: "outside", "garden". Did you mean "garden"?'
    )


def test_a_zone_with_another_mistake_still_exists_for_its_lanes(tmp_path: Path) -> None:
    report = check(written(tmp_path, changed({"zones.0.limit": "many"})))
    assert [each.key for each in report.problems] == ["zones[0].limit"]


def test_a_password_in_a_bad_database_url_is_never_shown(tmp_path: Path) -> None:
    report = check(written(tmp_path, changed({"database.url": "mysql://root:hush@db/x"})))
    assert "hush" not in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"zones.2": {"id": "attic", "name": "A"}}, "zones[2].id", "no lane leads into or out"),
        ({"lanes.1.mode": "normal_exit"}, "zones[1].id", "no open lane leads into"),
        ({"lanes.0.mode": "normal_entry", "lanes.1.mode": "normal_exit"}, "zones[0].limit", "stays full"),
        ({"lanes.0.grant_ttl_s": 0.5}, "lanes[0].grant_ttl_s", "too short"),
        ({"lanes.1.mode": "closed"}, "lanes[1].mode", "starts closed"),
        ({"lanes.1.mode": "normal_exit"}, "products[0].zones[1]", 'leads into "museum"'),
        ({"products.0.needs_face": True, "products.0.zones": ["garden"], "lanes.1.from_zone": "outside"},
         "products[0].needs_face", "camera"),
        ({"products.0.needs_face": True, "face.workers": 0}, "products[0].needs_face", "these cards are refused"),
        ({"http.host": "0.0.0.0"}, "http.host", "without TLS"),
        ({"database.url": "postgresql://a:hush@db/x"}, "database.url", "password"),
        ({"products": []}, "products", "nothing is sold"),
        ({"printers": []}, "printers", "cannot be printed"),
    ],
)
def test_what_is_doubtful_is_a_warning_and_the_site_starts(
    tmp_path: Path, changes: dict[str, Any], key: str, says: str
) -> None:
    report = check(written(tmp_path, changed(changes)))
    assert report.site is not None
    assert any(each.key == key and says in each.wrong for each in report.warnings), report.lines()
    assert all("warning: " in line for line in report.lines())


@pytest.mark.parametrize(
    ("raw", "says", "line"),
    [
        (b"[site\n", "not TOML", 1),
        (b'[site]\nid = "a"\nid = "b"\n', "not TOML", 3),
        (b'[site]\nid = "\xff"\n', "0xff is not UTF-8", 2),
        (b"a = " + b"[" * 100_000, "not", None),
        (b"a = " + b"9" * 10_000, "not TOML", None),
        (b"#" * (module.SITE_FILE_MAX_BYTES + 1), "too large", None),
    ],
)
def test_a_file_that_is_not_toml_is_one_complaint_with_its_line(
    tmp_path: Path, raw: bytes, says: str, line: int | None
) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(raw)
    (problem,) = check(path).problems
    assert says in problem.wrong or "nested" in problem.wrong
    if line is not None:
        assert problem.line == line


def test_a_file_that_cannot_be_read_is_a_complaint_too(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path, os.fspath(tmp_path) + "/a\0b"):
        with pytest.raises(SiteFileError, match="cannot be read"):
            load(path)


def test_a_thousand_problems_do_not_fill_the_screen(tmp_path: Path) -> None:
    report = check(written(tmp_path, {**SOUND, **{f"key-{n}": n for n in range(1_000)}}))
    assert len(report.problems) == 1_000
    assert report.lines()[-1].endswith("and 900 more problems")


def test_too_many_lanes_are_refused(tmp_path: Path) -> None:
    lanes = [{"id": f"l{n}", "name": "L", "to_zone": "garden", "device": f"d{n}"} for n in range(513)]
    report = check(written(tmp_path, {**SOUND, "lanes": lanes}))
    assert [(each.key, each.wrong) for each in report.problems] == [("lanes", "513 entries")]


def test_lines_are_found_through_strings_comments_arrays_and_sub_tables() -> None:
    lines = lines_of_keys(SOUND_TEXT)
    text = SOUND_TEXT.split("\n")
    for key, start in {
        "site.id": 'id = "west-lake"',
        "zones[0].name": "name = '''",
        "lanes[0].to_zone": 'to_zone = "garden"',
        "lanes[0].readers": "readers = [",
        "lanes[1].id": 'id = "north-2"',
        "lanes[1].board.path": 'path = "dev/board-2"',
        "lanes[1].readers[0].path": 'path = "dev/qr-2"',
        "lanes[1].readers[1].path": 'path = "dev/qr-3"',
    }.items():
        assert text[lines[key] - 1].startswith(start), key
    assert line_of(lines, "lanes[0].board.baud") == lines["lanes[0].board"]
    assert line_of(lines, "lanes[1].mode") == lines["lanes[1]"]
    assert line_of(lines, "nothing.here") is None


def test_a_problem_is_made_of_key_fault_and_cure() -> None:
    assert str(Problem("a.b", "missing", "a text")) == "a.b: missing; allowed: a text"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    ["site", "zones", "lanes", "printers", "products", "link", "http", "site.timezone", "zones.0.id", "lanes.0.board",
     "lanes.0.readers", "lanes.1.device", "products.0.zones", "products.0.class", "printers.0.host", "link.work"]
)


@given(place=PLACES, value=VALUES)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_anywhere_it_is_a_report_and_agrees_with_the_types(place: str, value: Any) -> None:
    data = changed({place: value})
    problems: list[Problem] = []
    sound = module.examine(data, module._SITE_FILE, "", problems)
    parts = module._parts(data, complete=sound)
    found = list(module.rules.problems(parts))
    if not problems and not found:
        list(module.rules.warnings(parts))
        assert isinstance(msgspec.convert(data, SiteFile), SiteFile)


@given(raw=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_report_and_never_an_exception(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(raw)
    report = check(path)
    assert (report.site is None) == bool(report.problems)
    report.lines()
