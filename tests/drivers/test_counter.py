"""People counters: wrap, reset and damage told apart; over Modbus, HTTP both ways, and MQTT through a real mosquitto.

The counters are our own simulators (`sim.counter`, `sim.modbus`); the broker is Debian's mosquitto.
"""

from __future__ import annotations

import base64
import random
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from core.testing import patient_time
from drivers._cumulative import PEOPLE_AT_ONCE_MAX, PEOPLE_PER_S_MAX, Cumulative, OwnCounts
from drivers.base import Availability, DeviceDown, DeviceUp
from drivers.counter import CounterRegisters, HttpPullCounter, HttpPushCounter, ModbusCounter, MqttCounter
from drivers.counter._digest import answer
from drivers.counter.testing import broker
from drivers.modbus import ModbusBus
from drivers.modbus.testing import Recorder, until
from drivers.testing import open_descriptors
from protocols.messages import Counters, Direction
from sim.counter import SimCounter
from sim.modbus import SimModbus, SimUnit

patient = pytest.fixture(autouse=True)(patient_time)

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
TOKEN = "a-long-token"


# --- counts that only grow ----------------------------------------------------------------------------------------


def tally(modulus: int = 1 << 16) -> Cumulative:
    names = (f"e{number}" for number in range(1000))
    return Cumulative(modulus, lambda: next(names))


def test_the_first_reading_is_nobodys_passage():
    counting = tally()
    assert counting.counts is None
    step = counting.read(4711, 12, 0.0)
    assert step is not None and step.restarted and (step.entries, step.exits) == (0, 0)
    assert counting.counts == Counters("e0", 4711, 12)


def test_a_wrap_goes_on_in_its_epoch():
    counting = tally()
    counting.read(65530, 65535, 0.0)
    step = counting.read(4, 0, 1.0)
    assert step is not None and (step.entries, step.exits, step.restarted) == (10, 1, False)
    assert counting.counts == Counters("e0", 65540, 65536)


def test_a_reset_begins_an_epoch_and_counts_who_came_since():
    counting = tally()
    counting.read(30000, 20000, 0.0)
    assert counting.read(3, 1, 1.0) is None, "one odd reading may be damage"
    step = counting.read(4, 1, 2.0)
    assert step is not None and (step.entries, step.exits, step.restarted) == (4, 1, True)
    assert counting.counts == Counters("e1", 4, 1)


def test_another_device_with_other_counts_brings_nobody():
    counting = tally()
    counting.read(300, 200, 0.0)
    assert counting.read(50000, 41000, 1.0) is None
    step = counting.read(50001, 41000, 2.0)
    assert step is not None and step.restarted and (step.entries, step.exits) == (0, 0)
    assert counting.counts == Counters("e1", 50001, 41000)


def test_one_damaged_reading_changes_nothing():
    counting = tally()
    counting.read(100, 50, 0.0)
    assert counting.read(9999, 50, 1.0) is None
    step = counting.read(101, 50, 2.0)
    assert step is not None and (step.entries, step.restarted) == (1, False)
    assert counting.counts == Counters("e0", 101, 50)


def test_a_long_silence_may_have_brought_many():
    counting = tally()
    counting.read(100, 50, 0.0)
    step = counting.read(2100, 50, 3600.0)
    assert step is not None and (step.entries, step.restarted) == (2000, False)


@pytest.mark.parametrize(
    ("booked", "reading", "counts"),
    [
        (500, 520, ("b", 520)),
        (65536 + 500, 520, ("b", 65536 + 520)),
        (65536 - 10, 5, ("b", 65536 + 5)),  # it wrapped while nobody watched
        (40000, 5, ("e1", 5)),  # it was reset
        (500, 500, ("b", 500)),
    ],
)
def test_what_was_booked_decides_where_an_unwatched_counter_stands(booked, reading, counts):
    counting = tally()
    counting.resume("b", booked, 0)
    counting.read(reading, 0, 0.0)
    assert counting.counts is not None
    assert (counting.counts.epoch, counting.counts.entries) == counts
    later = tally()
    later.read(reading, 0, 0.0)
    later.resume("b", booked, 0)
    assert later.counts is not None and (later.counts.epoch, later.counts.entries) == counts


def test_older_books_change_nothing():
    counting = tally()
    counting.resume("b", 10, 0)
    counting.read(15, 0, 0.0)
    counting.resume("b", 12, 0)
    assert counting.counts == Counters("b", 15, 0)
    counting.read(40000, 9, 1.0)
    counting.read(40000, 9, 2.0)
    counting.resume("b", 15, 0)
    assert counting.counts == Counters("e1", 40000, 9), "an epoch that was seen to end is over"


PEOPLE = st.lists(st.tuples(st.integers(0, PEOPLE_AT_ONCE_MAX), st.integers(0, PEOPLE_AT_ONCE_MAX)), max_size=40)


@given(st.sampled_from([1 << 8, 1 << 16, 1 << 32]), st.integers(0, 1 << 32), PEOPLE, st.integers(0, 2**32))
def test_everybody_is_counted_once_whatever_is_lost_between(modulus, start, people, seed):
    """Readings may be lost or come twice; as long as some come, the sum is right."""
    rng = random.Random(seed)
    counting = tally(modulus)
    counting.read(start % modulus, start % modulus, 0.0)
    base = start % modulus
    entries = exits = seen_entries = seen_exits = 0
    unseen, now = (0, 0), 0.0
    for more_entries, more_exits in people:
        now += 1.0
        entries, exits = entries + more_entries, exits + more_exits
        unseen = (unseen[0] + more_entries, unseen[1] + more_exits)
        if rng.random() < 0.5 and max(unseen) < PEOPLE_AT_ONCE_MAX:
            continue
        if max(unseen) > min(PEOPLE_AT_ONCE_MAX, modulus // 2):
            entries, exits = entries - more_entries, exits - more_exits
            unseen = (unseen[0] - more_entries, unseen[1] - more_exits)
        for _ in range(rng.choice([1, 1, 2])):
            step = counting.read((start + entries) % modulus, (start + exits) % modulus, now)
            assert step is not None and not step.restarted
            seen_entries, seen_exits = seen_entries + step.entries, seen_exits + step.exits
        unseen = (0, 0)
    assert counting.counts is not None
    assert (counting.counts.entries, counting.counts.exits) == (base + seen_entries, base + seen_exits)
    assert (seen_entries, seen_exits) == (entries - unseen[0], exits - unseen[1])


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.floats(0, 100)), max_size=30))
def test_within_an_epoch_counts_never_fall_whatever_is_read(readings):
    counting, now, before = tally(), 0.0, None
    for entries, exits, pause_s in readings:
        now += pause_s
        counting.read(entries, exits, now)
        after = counting.counts
        assert after is not None
        if before is not None and before.epoch == after.epoch:
            most = 2 * (PEOPLE_AT_ONCE_MAX + PEOPLE_PER_S_MAX * (now + 1))
            assert 0 <= after.entries - before.entries <= most and 0 <= after.exits - before.exits <= most
        before = after


def test_a_driver_that_counts_itself_goes_on_from_what_was_booked():
    counting = OwnCounts(lambda: "own")
    counting.add(2, 0)
    counting.resume("b", 10, 4)
    assert counting.counts == Counters("b", 12, 4)
    counting.add(0, 1)
    counting.resume("b", 12, 4)
    assert counting.counts == Counters("b", 12, 5)
    counting.resume("other", 99, 99)
    assert counting.counts == Counters("b", 12, 5)


# --- over Modbus --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(driver):
    heard = Recorder()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run, heard)
        yield heard
        nursery.cancel_scope.cancel()


def total(heard: Recorder, direction: Direction = ENTRY) -> int:
    """The newest count, from a DeviceUp or from a passage."""
    ups = [up.counters for up in heard.of(DeviceUp) if up.counters is not None]
    at_up = (ups[-1].entries if direction is ENTRY else ups[-1].exits) if ups else 0
    return max([at_up, *heard.people(direction)])


async def test_registers_of_32_bits_are_counted_over_modbus():
    unit = SimUnit(5)
    unit.set_counter(10, 70000, words=2)
    unit.set_counter(12, 9, words=2)
    async with trio.open_nursery() as nursery:
        bus = ModbusBus.tcp("127.0.0.1", await nursery.start(SimModbus(unit).serve_tcp))
        counter = ModbusCounter(bus, 5, CounterRegisters(entries=10, exits=12), poll_s=0.02, rng=random.Random(1))
        async with running(counter) as heard:
            await until(lambda: heard.of(DeviceUp))
            assert total(heard) == 70000
            unit.set_counter(10, 70003, words=2)
            unit.set_counter(12, 10, words=2)
            await until(lambda: total(heard) == 70003 and total(heard, EXIT) == 10)
            unit.powered = False
            await until(lambda: heard.of(DeviceDown))
            unit.set_counter(10, 70010, words=2)
            unit.powered = True
            await until(lambda: total(heard) == 70010)
            assert len(heard.of(DeviceDown)) == 1 and counter.statistics().counters is not None
            epoch = heard.of(DeviceUp)[0].counters.epoch
            unit.set_counter(10, 2, words=2)
            unit.set_counter(12, 0, words=2)
            await until(lambda: heard.of(DeviceUp)[-1].counters.epoch != epoch and heard.people()[-1:] == [2])
            assert heard.of(DeviceUp)[-1].counters.entries == 0, "those who came since the reset are counted"
        nursery.cancel_scope.cancel()


def test_registers_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="register"):
        CounterRegisters(entries=65535, words=2)


# --- asked over HTTP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "MD5", "SHA-256"])
async def test_a_counter_is_asked_over_http(scheme):
    sim = SimCounter(user="gate", password="secret", digest=scheme)
    sim.person(ENTRY, 40)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(sim.serve)
        url = f"http://127.0.0.1:{port}/local/tvpc/.api?live-sum.json"
        counter = HttpPullCounter(url, user="gate", password="secret", poll_s=0.03, serial="SIM-1")
        async with running(counter) as heard:
            await until(lambda: total(heard) == 40)
            sim.person(ENTRY, 3)
            sim.person(EXIT, 2)
            await until(lambda: total(heard) == 43 and total(heard, EXIT) == 2)
            sim.garbage = b"<html>busy</html>"
            await until(lambda: heard.of(DeviceDown))
            assert counter.statistics().bad_frames > 0
            sim.garbage = b""
            sim.person()
            await until(lambda: total(heard) == 44 and len(heard.of(DeviceUp)) == 2)
            assert len(heard.of(DeviceDown)) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["", "MD5"])
async def test_a_counter_that_refuses_our_password_is_a_state_of_its_own_and_not_asked_on(scheme):
    sim = SimCounter(user="gate", password="secret", digest=scheme)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(sim.serve)
        counter = HttpPullCounter(f"http://127.0.0.1:{port}/", user="gate", password="wrong", poll_s=0.01)
        async with running(counter) as heard:
            await until(lambda: heard.of(DeviceDown))
            assert counter.statistics().availability is Availability.UNAUTHENTICATED
            assert "wrong" not in counter.statistics().last_error
            await trio.sleep(0.3)
            assert sim.asked == 2, "without a password, and with the wrong one"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_the_digest_standard(algorithm, response):
    """RFC 7616, section 3.9.1."""
    challenge = (
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    said = answer(
        challenge,
        user="Mufasa",
        password="Circle of Life",
        method="GET",
        target="/dir/index.html",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert said is not None and f'response="{response}"' in said and "nc=00000001" in said


@given(st.text(max_size=80))
def test_any_challenge_is_answered_or_left_alone(text):
    for challenge in (text, f"Digest {text}", f'Digest realm="a", nonce="b", {text}'):
        said = answer(challenge, user="u", password="p", method="GET", target="/", cnonce="c")
        assert said is None or said.startswith("Digest ")


async def test_names_and_passwords_in_chinese_raise_nothing():
    for scheme in ("", "MD5"):
        sim = SimCounter(user="门", password="密码", digest=scheme)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(sim.serve)
            counter = HttpPullCounter(f"http://127.0.0.1:{port}/", user="门", password="密码", poll_s=0.02)
            async with running(counter) as heard:
                await until(lambda: heard.of(DeviceUp) or heard.of(DeviceDown))
            nursery.cancel_scope.cancel()


async def test_another_device_at_the_address_is_not_counted():
    sim = SimCounter(serial="OTHER")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(sim.serve)
        async with running(HttpPullCounter(f"http://127.0.0.1:{port}/", poll_s=0.02, serial="SIM-1")) as heard:
            await until(lambda: heard.of(DeviceDown))
            assert "serial number" in heard.of(DeviceDown)[0].reason and heard.of(DeviceUp) == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\xff" * 300, b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 99999]
)
async def test_whatever_answers_at_the_address_raises_nothing(answer):
    async def strange(stream):
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    before = open_descriptors()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, strange, 0)
        port = listeners[0].socket.getsockname()[1]
        counter = HttpPullCounter(f"http://127.0.0.1:{port}/", poll_s=0.02)
        async with running(counter) as heard:
            await until(lambda: heard.of(DeviceDown))
            assert counter.statistics().last_error
        nursery.cancel_scope.cancel()
    await until(lambda: open_descriptors() == before)


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http:///path", "http://gate:secret@host/", "nonsense", "http://h/门", "http://h/a b"]
)
def test_an_address_that_cannot_be_is_refused_without_repeating_a_password(url):
    with pytest.raises(ValueError, match="http") as refused:
        HttpPullCounter(url)
    assert "secret" not in str(refused.value)


# --- telling over HTTP --------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(**options):
    counter = HttpPushCounter("127.0.0.1", 0, token=TOKEN, **options)
    async with running(counter) as heard:
        await until(lambda: counter.bound_port)
        yield counter, heard, SimCounter()


async def test_a_counter_tells_over_http():
    async with listening(serial="SIM-1") as (counter, heard, sim):
        sim.person(ENTRY, 5)
        assert await sim.post(counter.bound_port, token=TOKEN) == 204
        assert total(heard) == 5
        sim.person(ENTRY, 2)
        report = sim.report()
        for _ in range(3):  # the same report again is nobody more
            assert await sim.post(counter.bound_port, token=TOKEN, body=report) == 204
        assert heard.people() == [7]
        sim.person(ENTRY)
        late = sim.report()
        sim.person(ENTRY)
        assert await sim.post(counter.bound_port, token=TOKEN) == 204
        assert await sim.post(counter.bound_port, token=TOKEN, body=late) == 204  # overtaken by a newer one
        sim.person(ENTRY)
        assert await sim.post(counter.bound_port, token=TOKEN) == 204
        assert total(heard) == 10 and heard.of(DeviceDown) == []


async def test_reports_without_the_token_of_others_or_in_no_form_are_refused():
    async with listening(serial="SIM-1") as (counter, heard, sim):
        port = counter.bound_port
        assert await sim.post(port, token="guessed") == 401
        assert await SimCounter(serial="OTHER").post(port, token=TOKEN) == 403
        assert await sim.post(port, token=TOKEN, body=b"nonsense") == 400
        assert await sim.post(port, token=TOKEN, body=b" " * 70_000) == 413
        assert heard.of(DeviceUp) == []
        assert counter.statistics().bad_frames == 3
        assert TOKEN not in counter.statistics().last_error


async def test_the_token_may_stand_as_a_basic_password():
    counter = HttpPushCounter("127.0.0.1", 0, token=TOKEN)
    for shown, may in (
        (b"Basic " + base64.b64encode(b"user:" + TOKEN.encode()), True),
        (b"Basic " + base64.b64encode(b"user:no"), False),
        (b"Basic \xff\xff", False),
        (b"bearer " + TOKEN.encode(), True),
        (b"Digest " + TOKEN.encode(), False),
        (b"", False),
    ):
        assert counter._may({b"authorization": shown}) is may


async def test_a_counter_that_falls_silent_is_away_until_it_tells_again():
    async with listening(silent_after_s=0.3) as (counter, heard, sim):
        await sim.post(counter.bound_port, token=TOKEN)
        await until(lambda: heard.of(DeviceDown))
        await sim.post(counter.bound_port, token=TOKEN)
        await until(lambda: len(heard.of(DeviceUp)) == 2)


async def test_noise_and_idle_connections_keep_nobody_out():
    before = open_descriptors()
    async with listening() as (counter, _heard, sim):
        streams = [await trio.open_tcp_stream("127.0.0.1", counter.bound_port) for _ in range(6)]
        await streams[0].send_all(b"\x00\xff" * 500)
        await streams[1].send_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n")
        assert await sim.post(counter.bound_port, token=TOKEN) == 204
        for stream in streams:
            await stream.aclose()
    await until(lambda: open_descriptors() == before)


async def test_a_port_that_is_taken_is_said():
    async with listening() as (first, _, _sim):
        async with running(HttpPushCounter("127.0.0.1", first.bound_port, token=TOKEN)) as heard:
            await until(lambda: heard.of(DeviceDown))
            assert "cannot listen" in heard.of(DeviceDown)[0].reason


def test_a_listener_without_a_token_is_refused():
    with pytest.raises(ValueError, match="token"):
        HttpPushCounter("127.0.0.1", 0, token="")


# --- through a broker ---------------------------------------------------------------------------------------------


def mqtt_counter(port: int, **options) -> MqttCounter:
    return MqttCounter("127.0.0.1", port, topic="counters/north", client_id="paifang-north", **options)


async def test_a_counter_is_heard_through_a_broker_that_is_restarted_in_the_middle(tmp_path):
    sim = SimCounter()
    async with broker(tmp_path) as mosquitto, trio.open_nursery() as nursery:
        nursery.start_soon(sim.publish, mosquitto.port, "counters/north")
        counter = mqtt_counter(mosquitto.port, rng=random.Random(1))
        async with running(counter) as heard:
            sim.person(ENTRY, 3)
            await until(lambda: total(heard) == 3)
            sim.person(EXIT)
            await until(lambda: total(heard, EXIT) == 1)
            await mosquitto.stop()
            await until(lambda: heard.of(DeviceDown))
            sim.person(ENTRY, 4)  # while there is no broker
            await mosquitto.start()
            await until(lambda: total(heard) == 7 and total(heard, EXIT) == 1)
            sim.person(ENTRY)
            await until(lambda: total(heard) == 8)
            assert len(heard.of(DeviceDown)) == 1
            assert counter.statistics().reconnects == 1
            assert {up.counters.epoch for up in heard.of(DeviceUp)} == {heard.of(DeviceUp)[0].counters.epoch}
        nursery.cancel_scope.cancel()


async def test_a_broker_that_refuses_our_password_is_a_state_of_its_own(tmp_path):
    async with broker(tmp_path, password="secret") as mosquitto:
        counter = mqtt_counter(mosquitto.port, user="gate", password="wrong")
        async with running(counter) as heard:
            await until(lambda: heard.of(DeviceDown))
            assert counter.statistics().availability is Availability.UNAUTHENTICATED
        sim, right = SimCounter(), mqtt_counter(mosquitto.port, user="gate", password="secret")
        async with trio.open_nursery() as nursery, running(right) as heard:
            publish = lambda: sim.publish(mosquitto.port, "counters/north", user="gate", password="secret")  # noqa: E731
            nursery.start_soon(publish)
            await until(lambda: heard.of(DeviceUp))
            nursery.cancel_scope.cancel()


async def test_what_is_no_report_is_counted_and_harmless(tmp_path):
    sim = SimCounter()
    async with broker(tmp_path) as mosquitto, trio.open_nursery() as nursery:
        nursery.start_soon(sim.publish, mosquitto.port, "counters/north")
        counter = mqtt_counter(mosquitto.port, serial="SIM-1")
        async with running(counter) as heard:
            await until(lambda: heard.of(DeviceUp))
            sim.garbage = b"\xff" * 100
            await until(lambda: counter.statistics().bad_frames == 1)
            sim.garbage = b'{"serial":"OTHER","in":9,"out":9}'
            await until(lambda: counter.statistics().bad_frames == 2)
            sim.garbage = b""
            sim.person()
            await until(lambda: total(heard) == 1)
            assert heard.of(DeviceDown) == []
        nursery.cancel_scope.cancel()


async def test_no_broker_at_all_is_said_once_and_leaks_nothing(tmp_path):
    with trio.socket.socket() as taken:  # bound and not listening: nobody answers there
        await taken.bind(("127.0.0.1", 0))
        before = open_descriptors()
        counter = mqtt_counter(taken.getsockname()[1], rng=random.Random(1))
        async with running(counter) as heard:
            await until(lambda: heard.of(DeviceDown))
            await trio.sleep(1.0)
            assert len(heard.of(DeviceDown)) == 1
        assert open_descriptors() == before


async def test_a_cancelled_connection_leaves_no_descriptor(tmp_path):
    async with broker(tmp_path) as mosquitto:
        before = open_descriptors()
        for _ in range(3):
            counter = mqtt_counter(mosquitto.port)
            async with running(counter) as heard:
                sim = SimCounter()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(sim.publish, mosquitto.port, "counters/north")
                    await until(lambda: heard.of(DeviceUp))
                    nursery.cancel_scope.cancel()
        assert open_descriptors() == before


@pytest.mark.slow
async def test_a_broker_that_hangs_is_noticed(tmp_path):
    sim = SimCounter()
    async with broker(tmp_path) as mosquitto, trio.open_nursery() as nursery:
        nursery.start_soon(sim.publish, mosquitto.port, "counters/north")
        async with running(mqtt_counter(mosquitto.port)) as heard:
            await until(lambda: heard.of(DeviceUp))
            mosquitto.freeze(True)
            await until(lambda: heard.of(DeviceDown), 60.0)
            sim.person()
            mosquitto.freeze(False)
            await until(lambda: total(heard) == 1, 60.0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "options", [{"topic": ""}, {"client_id": ""}, {"port": 0}, {"silent_after_s": 0}, {"topic": "x" * 70000}]
)
def test_a_subscription_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=r"\w"):
        MqttCounter("127.0.0.1", **{"port": 1883, "topic": "t", "client_id": "c", **options})
