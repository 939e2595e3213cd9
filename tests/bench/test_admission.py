"""The admission bench: its shape, and that it refuses to say anything about a database that promises nothing."""

from __future__ import annotations

import pytest

from bench import admission
from bench._history import PRODUCT, fill
from storage.audit import audit
from storage.embedded import embedded
from storage.testing import fresh_database, ledger_running, product, setup


@pytest.mark.slow
def test_it_prints_figures_and_ratios_of_the_same_run():
    report = admission.run(quick=True, history=10_000)
    assert report["bench"] == "admission"
    assert set(report["ratios"]) == {"durable_commits_vs_pgbench", "group_vs_distinct", "history_slowdown"}
    assert all(value > 0 for value in report["ratios"].values())
    figures = report["figures"]
    assert figures["grant_p50_ms"] <= figures["grant_p99_ms"]
    assert figures["link_passages_per_s"] > 0
    assert figures["link_scan_to_grant_ms"]["p50"] <= figures["link_scan_to_grant_ms"]["p99"]


async def test_a_loaded_past_is_one_that_the_audit_finds_nothing_wrong_with():
    async with fresh_database() as database:
        site = setup(products=[product("adult"), product(PRODUCT, uses=0)])
        async with ledger_running(database.dsn, site=site):
            pass
        await fill(database.dsn, passages=500, tickets=200)
        async with ledger_running(database.dsn, site=site) as ledger:
            (ticket,) = await ledger.sell("adult")
            granted = await ledger.scan(ticket.ticket)
            await ledger.passes(granted)
            await ledger.ends(granted, 1)
        assert (await audit(database.dsn, "demo")).broken == []


@pytest.mark.parametrize("setting", admission.DURABLE)
async def test_it_reports_nothing_about_a_database_that_promises_nothing(tmp_path, setting):
    async with embedded(tmp_path / "db", settings={setting: "off"}) as server:
        with pytest.raises(admission.NotDurable, match=setting):
            await admission.check_durable(server)
