"""The admission bench: its shape, and that it refuses to say anything about a database that promises nothing."""

from __future__ import annotations

import pytest

from bench import admission
from storage.embedded import embedded


@pytest.mark.slow
def test_it_prints_figures_and_ratios_of_the_same_run():
    report = admission.run(quick=True)
    assert report["bench"] == "admission"
    assert set(report["ratios"]) == {"durable_commits_vs_pgbench", "group_vs_distinct"}
    assert all(value > 0 for value in report["ratios"].values())
    assert report["figures"]["grant_p50_ms"] <= report["figures"]["grant_p99_ms"]


@pytest.mark.parametrize("setting", admission.DURABLE)
async def test_it_reports_nothing_about_a_database_that_promises_nothing(tmp_path, setting):
    async with embedded(tmp_path / "db", settings={setting: "off"}) as server:
        with pytest.raises(admission.NotDurable, match=setting):
            await admission.check_durable(server)
