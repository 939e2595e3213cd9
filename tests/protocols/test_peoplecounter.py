"""Reports of people counters: the public forms are read, and nothing but our own error comes of any bytes."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.peoplecounter import (
    AXIS,
    BODY_MAX,
    MILESIGHT,
    CounterForm,
    CounterReportError,
    Report,
    read_report,
)

LIVE_SUM = b'{"serial":"ACCC8E000001","name":"North","timestamp":20261121093000,"in":1234,"out":987}'


def test_the_form_of_axis_live_sum():
    assert read_report(LIVE_SUM) == Report(1234, 987, "ACCC8E000001")


def test_a_form_whose_counts_stand_deeper():
    body = {
        "device_info": {"device_sn": "6536C"},
        "line_total_data": [{"line": 1, "total": {"in_counted": 7, "out_counted": 5}}],
    }
    assert read_report(json.dumps(body).encode(), MILESIGHT) == Report(7, 5, "6536C")


def test_a_device_that_counts_one_way_and_says_no_serial():
    assert read_report(b'{"n": 3}', CounterForm(entries="n", exits="", serial="")) == Report(3, 0, "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"in":1}',
        b'{"in":-1,"out":0}',
        b'{"in":1.5,"out":0}',
        b'{"in":"1","out":0}',
        b'{"in":true,"out":0}',
        b'{"in":9007199254740992,"out":0}',
        b'{"in":1e400,"out":0}',
        b'{"in":null,"out":0}',
        b"\xff\xfe",
        b"[" * 5000,
        b" " * (BODY_MAX + 1),
    ],
)
def test_what_is_no_report_is_refused(body):
    with pytest.raises(CounterReportError):
        read_report(body)


@pytest.mark.parametrize("path", ["", "a..b", ".", ".".join("abcdefghij")])
def test_a_path_that_leads_nowhere_is_refused(path):
    with pytest.raises(ValueError, match=r"path|entries"):
        CounterForm(entries=path)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_report_or_our_own_error(body):
    with contextlib.suppress(CounterReportError):
        read_report(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["in", "out", "serial", "0"]), inner),
    max_leaves=12,
)


@given(JSON, st.sampled_from([AXIS, MILESIGHT, CounterForm(entries="in.0.out", exits="out.in", serial="0.1")]))
def test_any_json_is_a_report_or_our_own_error(value, form):
    with contextlib.suppress(CounterReportError):
        report = read_report(json.dumps(value).encode(), form)
        assert report.entries >= 0 and report.exits >= 0
