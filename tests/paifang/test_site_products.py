"""Products of the site file: every rule that can be written, what is wrong with each, and what the ledger is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paifang.check import check
from paifang.setups import product_setups, rules_of
from protocols.rights import Reentry, Window, ZoneRight
from storage.interfaces import in_force

SITE = """
[site]
id = "west-lake"
name = "西湖"
[[zones]]
id = "garden"
name = "园区"
[[zones]]
id = "museum"
name = "馆"
[[lanes]]
id = "north"
name = "北门"
to_zone = "garden"
device = "gate-1"
class = "fast"
[[lanes]]
id = "south"
name = "南门"
to_zone = "museum"
device = "gate-2"
[[products]]
id = "plain"
name = "票"
name_en = "Ticket"
class = "full"
price_cents = 100
zones = ["garden"]
"""
PRODUCT = """
[[products]]
id = "{id}"
name = "票"
name_en = "Ticket"
class = "{class_}"
price_cents = 100
{rest}
"""
FULL = """
pax = 4
days = 30
binds = "none"
requires = ["plain"]
lane_classes = ["fast"]
slot_early_minutes = 10
slot_late_minutes = 20
grant_ttl_s = 30.0
refund = "until_first_use"
group_min = 2
below_group_min = "deny"
code_and_paper = false
effective_from = "2026-12-01"
[[products.slots]]
opens = "09:00"
closes = "10:00"
places = 50
[[products.rights]]
zones = ["garden", "museum"]
shared = true
uses = 3
uses_per_day = 1
min_gap_s = 60.0
exit_ends_gap = true
minutes_after_first_use = 600
days_after_first_use = 7
reentry = { per_day = 2, within_minutes = 90, after_exit = true, min_gap_s = 300.0 }
[[products.rights.windows]]
first = "2026-12-01"
last = "2026-12-31"
weekdays = [6, 7]
opens = "18:00"
closes = "02:00"
"""


def checked(tmp_path: Path, *products: tuple[str, str, str]):
    file = tmp_path / "site.toml"
    file.write_text(SITE + "".join(PRODUCT.format(id=id_, class_=class_, rest=rest) for id_, class_, rest in products))
    return check(file)


def found(tmp_path: Path, rest: str) -> list[tuple[str, str]]:
    """Key and complaint of each problem of one more product."""
    return [(problem.key, problem.wrong) for problem in checked(tmp_path, ("other", "full", rest)).problems]


def test_everything_that_can_be_said_reaches_the_ledger(tmp_path: Path) -> None:
    report = checked(tmp_path, ("other", "package", FULL))
    assert not report.problems, report.problems
    (setup,) = [each for each in product_setups(report.site) if each.product == "other"]
    assert (setup.effective_from, setup.pax, setup.rules.days, setup.rules.grant_ttl_s) == ("2026-12-01", 4, 30, 30.0)
    (right,) = setup.rules.rights
    assert right == ZoneRight(
        zones=["garden", "museum"],
        shared=True,
        uses=3,
        uses_per_day=1,
        min_gap_s=60.0,
        exit_ends_gap=True,
        minutes_after_first_use=600,
        days_after_first_use=7,
        reentry=Reentry(per_day=2, within_minutes=90, after_exit=True, min_gap_s=300.0),
        windows=[Window(first="2026-12-01", last="2026-12-31", weekdays=[6, 7], opens="18:00", closes="02:00")],
    )
    assert (setup.rules.requires, setup.rules.lane_classes, setup.rules.code_and_paper) == (["plain"], ["fast"], False)
    assert setup.rules.slots[0].places == 50


def test_the_short_keys_say_one_right(tmp_path: Path) -> None:
    report = checked(tmp_path, ("other", "times", 'zones = ["garden"]\nuses = 10\nmin_gap_s = 5.0'))
    assert rules_of(report.site.products[1]).rights == [ZoneRight(zones=["garden"], uses=10, min_gap_s=5.0)]


def test_versions_of_a_product_wait_for_their_day(tmp_path: Path) -> None:
    zones = 'zones = ["garden"]\n'
    report = checked(
        tmp_path, ("other", "full", zones), ("other", "full", zones + 'effective_from = "2027-01-01"\nuses = 2')
    )
    assert not report.problems
    versions = [each for each in product_setups(report.site) if each.product == "other"]
    for day, uses in (("2026-12-31", 1), ("2027-01-01", 2), ("2030-06-01", 2)):
        offer = in_force(versions, day)
        assert offer is not None and offer.rules.rights[0].uses == uses
    assert in_force(versions[1:], "2026-12-31") is None
    same = checked(tmp_path, ("other", "full", zones), ("other", "full", zones))
    assert [problem.key for problem in same.problems] == ["products[2].id"]


RIGHT = '[[products.rights]]\nzones = ["garden"]\n'
ZONES = 'zones = ["garden"]\n'
MISTAKES: list[tuple[str, str, Any]] = [
    ("", "products[1].zones", "opens no zone"),
    (ZONES + RIGHT, "products[1].rights", "in short"),
    ('[[products.rights]]\nzones = ["gardn"]', "products[1].rights[0].zones[0]", "unknown zone"),
    ('[[products.rights]]\nzones = ["garden", "garden"]', "products[1].rights[0].zones[1]", "named twice"),
    (RIGHT + "uses = -1", "products[1].rights[0].uses", "out of range"),
    (RIGHT + "uses_per_day = 999999", "products[1].rights[0].uses_per_day", "out of range"),
    (RIGHT + "reentry = { within_minutes = 9999 }", "products[1].rights[0].reentry.within_minutes", "out of range"),
    (RIGHT + '[[products.rights.windows]]\nopens = "9:00"', "products[1].rights[0].windows[0].opens", "time of day"),
    (RIGHT + '[[products.rights.windows]]\ncloses = "24:01"', "products[1].rights[0].windows[0].closes", "time of day"),
    (
        RIGHT + '[[products.rights.windows]]\nopens = "09:00"\ncloses = "09:00"',
        "products[1].rights[0].windows[0].opens",
        "no time at all",
    ),
    (RIGHT + "[[products.rights.windows]]\nweekdays = [0]", "products[1].rights[0].windows[0].weekdays[0]", "day of"),
    (RIGHT + '[[products.rights.windows]]\nlast = "2026-13-01"', "products[1].rights[0].windows[0].last", "not a date"),
    (
        RIGHT + '[[products.rights.windows]]\nfirst = "2026-02-01"\nlast = "2026-01-01"',
        "products[1].rights[0].windows[0].last",
        "before it begins",
    ),
    (ZONES + 'requires = ["nothing"]', "products[1].requires[0]", "not another product"),
    (ZONES + 'requires = ["other"]', "products[1].requires[0]", "not another product"),
    (ZONES + 'lane_classes = ["slow"]', "products[1].lane_classes[0]", "no lane has the class"),
    (ZONES + 'binds = "id"\npax = 2', "products[1].pax", "bound to one person"),
    (ZONES + "grant_ttl_s = 61.0", "products[1].grant_ttl_s", "too many"),
    (ZONES + 'effective_from = "1.1.2027"', "products[1].effective_from", "not a date"),
    (ZONES + 'sale_first = "2026-02-02"\nsale_last = "2026-02-01"', "products[1].sale_last", "before it begins"),
    (ZONES + '[[products.slots]]\nopens = "09:00"\ncloses = "10:00"\nplaces = 0', "products[1].slots[0].places", "0 p"),
]


@pytest.mark.parametrize(("rest", "key", "wrong"), MISTAKES)
def test_a_mistake_is_reported_once_with_its_key(tmp_path: Path, rest: str, key: str, wrong: str) -> None:
    ((at, said),) = found(tmp_path, rest)
    assert at == key
    assert wrong in said


def test_a_right_to_a_zone_that_no_lane_leads_into_is_a_warning(tmp_path: Path) -> None:
    text = SITE.replace('to_zone = "museum"', 'to_zone = "garden"')
    file = tmp_path / "site.toml"
    file.write_text(text + PRODUCT.format(id="other", class_="full", rest='[[products.rights]]\nzones = ["museum"]'))
    report = check(file)
    assert any(warning.key == "products[1].rights[0].zones[0]" for warning in report.warnings)
