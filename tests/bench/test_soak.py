"""The promise about a long day: consoles come and go, and neither memory nor open files grow with it."""

import pytest

from bench import soak

GROWTH_MAX_MB = 24.0  # of allocators that settle; a leak of each visit's snapshot alone would be several times that


@pytest.mark.slow
def test_memory_and_open_files_stay_flat():
    figures = soak.run(quick=True)["figures"]
    assert figures["visits"] > 50 and figures["lines_seen"] > 500
    assert figures["open_files_growth"] <= 2
    assert figures["rss_growth_mb"] <= GROWTH_MAX_MB
