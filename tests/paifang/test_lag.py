"""How late the event loop is: what is measured is what happened, and the file is whole whenever it is read."""

from __future__ import annotations

import os
import time

import pytest
import trio

from paifang import lag
from paifang.lag import BOOTS_MAX, BUCKETS, LagFile, _percentile, measure_lag, read_lag


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"boots": [{"pid": "x"}]}', b"\xff\xfe"])
def test_an_absent_or_damaged_file_holds_nothing(tmp_path, content):
    path = tmp_path / "loop_lag.json"
    if content is not None:
        path.write_bytes(content)
    assert read_lag(path) == LagFile()


@pytest.mark.parametrize(
    ("lags_ms", "share", "result"),
    [
        ([0.0] * 100, 0.99, 0.1),
        ([0.0] * 98 + [5.0] * 2, 0.99, 5.1),
        ([0.0] * 99 + [5.0], 0.99, 0.1),
        ([1.0] * 50 + [3.0] * 50, 0.5, 1.1),
        ([9_999.0] * 10, 0.99, 2000.0),
    ],
)
def test_a_percentile_is_the_upper_edge_of_its_bucket(lags_ms, share, result):
    buckets = [0] * BUCKETS
    for each in lags_ms:
        buckets[min(BUCKETS - 1, int(each / lag.BUCKET_MS))] += 1
    assert _percentile(buckets, len(lags_ms), share) == pytest.approx(result)


async def until(condition, within_s=5.0):
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.02)


async def test_a_loop_that_is_held_up_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lag, "WRITE_EVERY_S", 0.1)
    path = tmp_path / "loop_lag.json"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure_lag, path)
        await until(lambda: read_lag(path).boots and read_lag(path).boots[-1].samples >= 5)
        time.sleep(0.25)  # noqa: ASYNC251 - holding the loop up is what is measured
        await until(lambda: read_lag(path).boots[-1].max_ms > 200.0)
        nursery.cancel_scope.cancel()
    (boot,) = read_lag(path).boots
    assert boot.pid == os.getpid() and abs(boot.started - time.time()) < 60
    assert 0 < boot.p99_ms <= max(boot.max_ms + lag.BUCKET_MS, lag.BUCKET_MS)
    assert [each.name for each in tmp_path.iterdir()] == ["loop_lag.json"]


async def test_earlier_runs_are_kept_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(lag, "WRITE_EVERY_S", 0.02)
    monkeypatch.setattr(lag, "BOOTS_MAX", 3)
    path = tmp_path / "loop_lag.json"
    for number in range(1, 6):
        async with trio.open_nursery() as nursery:
            before = read_lag(path)
            nursery.start_soon(measure_lag, path)
            await until(lambda before=before: read_lag(path) != before)
            nursery.cancel_scope.cancel()
        assert len(read_lag(path).boots) == min(number, 4), "the earlier ones, and this one"
    assert BOOTS_MAX >= 3
    starts = [boot.started for boot in read_lag(path).boots]
    assert starts == sorted(starts)


async def test_a_disk_that_is_full_stops_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr(lag, "WRITE_EVERY_S", 0.05)
    path = tmp_path / "nowhere" / "loop_lag.json"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure_lag, path)
        await trio.sleep(0.3)
        path.parent.mkdir()
        await until(lambda: read_lag(path).boots)
        nursery.cancel_scope.cancel()
