"""Lists for lane controllers: what is packed is unpacked, and no bytes raise anything but LinkError."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import devicelink as link
from protocols import lists
from protocols.errors import LinkError

RIGHT = lists.ListRight(7, 0, "park", 1, 0, 0, 0, 0, 0, "2026-11-22", 0, 0, 0, 0, None, 1.5, "lane1", None)
ITEMS: list[lists.ListValue] = [
    lists.ListTicket(
        "t", 123, "adult", 1, "active", "active", 1.0, 2.0, None, None, "ab" * 16, False, ["main"], [RIGHT]
    ),
    lists.ListCredential("c", f"card/{'0f' * 16}/123", 9, 123, "lost", 2, True, [(7, 1, 0)]),
    lists.ListPreprinted("b", 5, "void"),
    lists.ListProduct("p", "adult/1", "adult", 1, "成人票", "Adult", "full", 1, '{"rights":[{"zones":["park"]}]}'),
    lists.ListZone("z", "park", 100, 5, 1, 0, False, True, None),
    lists.ListKey("k", "ticket/1", "ticket", "1", "00ff"),
]


def _packed(items: list[lists.ListValue]) -> tuple[bytes, int]:
    return lists.pack(b"\n".join(map(lists.encode_line, items)))


def test_what_is_packed_is_unpacked_in_order() -> None:
    read = lists.unpack(*_packed(ITEMS))
    assert [lists.value(item.line) for item in read] == ITEMS
    assert [item.kind for item in read] == ["t", "c", "b", "p", "z", "k"]
    assert read[0].key == lists.ticket_key(123)
    assert read[1].key.startswith(lists.credential_key("card", b"\x0f" * 32))


def test_a_kind_that_is_not_known_yet_is_left_out() -> None:
    data, crc = lists.pack(b'["q","new",1]\n' + lists.encode_line(ITEMS[2]))
    assert [item.kind for item in lists.unpack(data, crc)] == ["b"]


def test_an_empty_part_has_no_items() -> None:
    assert lists.unpack(*lists.pack(b"")) == []


@pytest.mark.parametrize(
    "lines",
    [b"{}", b"[]", b'["t"]', b'["t","x"]', b'["t",-1]', b'["c",5]', b'["t",%d]' % 10**20, b"\xff", b"[" * 5000],
)
def test_a_line_that_is_none_is_refused(lines: bytes) -> None:
    data, crc = lists.pack(lines)
    with pytest.raises(LinkError):
        lists.unpack(data, crc)


@pytest.mark.parametrize("line", [b"", b'["t",1]', b'["q","x"]', b'{"t":1}', b'["z","park",1,"x"]', b"[" * 5000])
def test_a_value_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(LinkError):
        lists.value(line)


def test_a_part_that_is_damaged_cut_or_a_bomb_is_refused() -> None:
    data, crc = _packed(ITEMS)
    for bad, sum_ in (
        (data, crc ^ 1),
        (data[:-3], crc),
        (data + b"x", crc),
        (zlib.compress(bytes(lists.PART_RAW_BYTES_MAX + 1)), crc),
    ):
        with pytest.raises(LinkError):
            lists.unpack(bad, sum_)


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=2**32 - 1))
def test_no_bytes_raise_anything_else(data: bytes, crc: int) -> None:
    for attempt in ((data, crc), lists.pack(data)):
        try:
            read = lists.unpack(*attempt)
        except LinkError:
            continue
        for item in read:
            try:
                lists.value(item.line)
            except LinkError:
                continue


@given(st.sampled_from(ITEMS), st.integers(min_value=0), st.binary(min_size=1, max_size=1))
def test_no_changed_byte_raises_anything_else(item: lists.ListValue, place: int, byte: bytes) -> None:
    line = lists.encode_line(item)
    place %= len(line)
    try:
        for read in lists.unpack(*lists.pack(line[:place] + byte + line[place + 1 :])):
            lists.value(read.line)
    except LinkError:
        pass


def test_the_messages_go_over_the_link() -> None:
    mark = lists.ListMark(17, "a1")
    ask = link.GetList(device="lane1", boot="b", seq=3, at=1.0, have=mark, part=mark, cursor="t:1.5:9")
    assert link.decode_request(link.encode(ask)) == ask
    data, crc = _packed(ITEMS)
    part = link.ListPart(
        seq=3, server_at=2.0, kind="delta", mark=mark, base=mark, first=True, cursor="x", items=6, data=data, crc=crc
    )
    assert link.decode_reply(link.encode(part)) == part


@pytest.mark.parametrize("have", [b"\x91\x01", b"\x92\xff\xa1x", b"\xa1x", b"\x92\xcf" + b"\xff" * 8 + b"\xa1x"])
def test_a_mark_that_is_none_is_refused(have: bytes) -> None:
    ask = link.encode(link.GetList(device="lane1", boot="b", seq=3, at=1.0, have=lists.ListMark(1, "x")))
    good = link.encode(lists.ListMark(1, "x"))
    assert ask.count(good) == 1
    with pytest.raises(LinkError):
        link.decode_request(ask.replace(good, have))
