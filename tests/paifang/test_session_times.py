"""`[sessions]` of the site file: bounds, defaults as before, and that accounts get them."""

from __future__ import annotations

import pytest

from actors.accounts.sessions import IDLE_S, SESSION_S
from core.testing import Probe
from paifang._wire_accounts import accounts_of
from paifang.check import check, load
from paifang.keys import KeyRing
from paifang.reload import OTHER_TABLES
from paifang.site import SiteFile
from paifang.testing import free_ports, site_text


def write(folder, table):
    path = folder / "site.toml"
    path.write_text(site_text(serial=1, linked=0, limit=10, ports=free_ports(8), database="") + table)
    return path


@pytest.mark.parametrize(
    ("table", "times"),
    [
        ("", (SESSION_S, IDLE_S)),
        ("\n[sessions]\n", (SESSION_S, IDLE_S)),
        ("\n[sessions]\nidle_s = 900\n", (SESSION_S, 900.0)),
        ("\n[sessions]\nidle_s = 60.0\nlongest_s = 604800\n", (604800.0, 60.0)),
    ],
)
def test_accounts_keep_the_times_of_the_site_file(tmp_path, table, times):
    site = load(write(tmp_path, table))
    keys = KeyRing.init(tmp_path / "keys")
    probe = Probe("any")
    accounts = accounts_of(site, tmp_path, keys, hub=probe, ledger=probe, web=probe)
    assert (accounts._sessions._longest_s, accounts._sessions._idle_s) == times


@pytest.mark.parametrize(
    "line", ["idle_s = 59", "longest_s = 604801", "idle_s = 0", 'idle_s = "1 h"', "longest_s = nan", "idle = 900"]
)
def test_other_times_are_refused(tmp_path, line):
    report = check(write(tmp_path, f"\n[sessions]\n{line}\n"))
    assert report.site is None
    assert any(problem.key.startswith("sessions.") for problem in report.problems), report.problems


def test_every_table_is_compared_when_the_site_file_is_read_again():
    apart = {"lanes", "controllers", "fire", "feedback", "printers"}  # devices, one by one
    assert set(OTHER_TABLES) == set(SiteFile.__struct_fields__) - apart
