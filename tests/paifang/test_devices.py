"""`paifang devices`: adapters are found by their ids, devices are probed, watched, tried, recorded and played back."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.base import CodeRead, DeviceEvent
from drivers.scanner import QrScanner
from drivers.serial import open_line
from drivers.testing import BoardDouble, PrinterDouble, PtyLine, pty_line
from drivers.trace import TraceError, read_trace
from paifang import _device_talk as talk
from paifang._decoders import Decoder
from paifang._device_find import DeviceToolError, adapters, find, outside
from paifang.check import load
from protocols import board4

patient = pytest.fixture(autouse=True)(patient_time)

WITHIN_S = 30.0
SITE = """
[site]
id = "s"
name = "S"
[[zones]]
id = "park"
name = "Park"
[[lanes]]
id = "n1"
name = "N1"
to_zone = "park"
board = { path = "dev/b1" }
readers = [{ path = "dev/q1" }]
[[printers]]
id = "w1"
host = "127.0.0.1"
port = %d
"""


class Bench:
    """A board, a reader and a printer, each simulated, and a site file that names them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.path = folder / "site.toml"
        self.path.write_text(SITE % port, encoding="utf-8")
        self.site = load(self.path)
        self.board_line = PtyLine(folder / "dev" / "b1")
        self.reader_line = PtyLine(folder / "dev" / "q1")
        self.board = BoardDouble(self.board_line)
        self.lines: list[str] = []

    def spec(self, name: str):
        return find(self.site, name)

    async def until_said(self, words: str) -> None:
        await self.until(lambda: any(words in line for line in self.lines))

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(WITHIN_S):
            while not condition():
                await trio.sleep(0.01)

    async def command(self, *arguments: str, code: int = 0) -> str:
        """Run the command line as its own process, with this bench's site and data; what it says on both streams."""
        program = [sys.executable, "-m", "paifang", *arguments]
        if arguments[1:2] != ("replay",):
            program += ["--site", str(self.path), "--data", str(self.folder)]
        with trio.fail_after(WITHIN_S):
            done = await trio.run_process(
                program, capture_stdout=True, capture_stderr=True, check=False, cwd=Path(__file__).parents[2]
            )
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, said
        return said


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "dev").mkdir()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(PrinterDouble().serve_tcp)
        made = Bench(tmp_path, port)
        nursery.start_soon(made.board.run)
        yield made
        nursery.cancel_scope.cancel()
    made.board_line.hang_up()
    made.reader_line.hang_up()


@asynccontextmanager
async def background(function: Callable[[], object]) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function)  # type: ignore[arg-type]
        yield
        nursery.cancel_scope.cancel()


# --- what is here -------------------------------------------------------------------------------------------------


def test_adapters_are_found_by_the_names_that_stay(tmp_path: Path) -> None:
    dev, sys_folder = tmp_path / "dev", tmp_path / "sys"
    (dev / "serial" / "by-id").mkdir(parents=True)
    (dev / "input" / "by-id").mkdir(parents=True)
    (dev / "usb").mkdir()
    for name in ("ttyUSB0", "ttyUSB1", "ttyACM0", "usb/lp0", "event3"):
        (dev / name).touch()
    (dev / "serial" / "by-id" / "usb-FTDI_FT232R_A502-if00-port0").symlink_to("../../ttyUSB1")
    (dev / "input" / "by-id" / "usb-Newland_HID_KBW_1-event-kbd").symlink_to("../../event3")
    (dev / "input" / "by-id" / "usb-Logitech_Mouse-event-mouse").symlink_to("../../event3")
    product = sys_folder / "class" / "tty" / "ttyUSB1" / "device"
    product.mkdir(parents=True)
    (product / "manufacturer").write_text("FTDI\n")
    (product / "product").write_text("FT232R USB UART\n")
    found = adapters(dev, sys_folder)
    assert [(a.what, Path(a.path).name, Path(a.tty).name, a.product) for a in found] == [
        ("serial", "usb-FTDI_FT232R_A502-if00-port0", "ttyUSB1", "FTDI FT232R USB UART"),
        ("serial", "ttyUSB0", "ttyUSB0", ""),
        ("serial", "ttyACM0", "ttyACM0", ""),
        ("keyboard", "usb-Newland_HID_KBW_1-event-kbd", "event3", "Newland_HID_KBW_1"),
        ("printer", "lp0", "lp0", ""),
    ]
    assert adapters(tmp_path / "nothing", tmp_path) == []


async def test_list_says_what_is_there_and_who_holds_it(bench: Bench) -> None:
    bench.reader_line.hang_up()
    with open_line(bench.board_line.path, 9600):
        said = json.loads(await bench.command("devices", "list", "--json"))
    states = {row["device"]: row["state"] for row in said["devices"]}
    assert states["reader/n1/1"] == "not plugged in"
    assert states["gate/n1"].startswith("in use by ")
    assert f"pid {os.getpid()}" in states["gate/n1"]
    assert states["printer/w1"] == ""
    assert "gate/n1" in await bench.command("devices", "list")


def test_a_device_is_named_as_people_name_it(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE % 9100, encoding="utf-8")
    site = load(path)
    names = {wanted: find(site, wanted).name for wanted in ("gate/n1", "n1", "reader/n1/1", "w1", "printer/w1")}
    assert names == {"gate/n1": "gate/n1", "n1": "gate/n1", "reader/n1/1": "reader/n1/1", "w1": "printer/w1",
                     "printer/w1": "printer/w1"}  # fmt: skip
    assert find(site, "/dev/ttyUSB9").language == "qr"
    assert find(site, "/dev/input/by-id/usb-x-event-kbd").language == "wedge"
    assert find(site, "/dev/usb/lp0").kind == "printer"
    assert find(site, "10.0.0.5:9100", "escpos").place == "10.0.0.5:9100"
    assert outside("/dev/x", "board4", 19200, 7).place == "/dev/x #7"
    for wanted, kind, words in (
        ("gate/n2", "", 'Did you mean "gate/n1"'),
        ("nobody", "", "There are: gate/n1"),
        ("/dev/x", "klingon", "known are qr"),
        ("10.0.0.5:abc", "escpos", "is no port"),
        ("10.0.0.5:9100", "qr", "has no network address"),
        ("n1", "board4", "for devices outside"),
    ):
        with pytest.raises(DeviceToolError) as error:
            find(site, wanted, kind)
        assert words in str(error.value)
    with pytest.raises(DeviceToolError):
        outside("/dev/x", "board4", 0, 999)


# --- probing ------------------------------------------------------------------------------------------------------


async def test_probing_tells_those_who_answer_from_those_who_do_not(bench: Bench) -> None:
    bench.board.entries = 41
    findings = {f.device: f for f in await talk.probe([bench.spec("gate/n1"), bench.spec("reader/n1/1")], bench.folder)}
    assert findings["gate/n1"].available
    assert "entries 41" in findings["gate/n1"].said
    assert findings["reader/n1/1"].available
    bench.board.silent = True
    [silent] = await talk.probe([bench.spec("gate/n1")], bench.folder, 3.0)
    assert (silent.available, silent.state) == (False, "unavailable")
    assert "no answer" in silent.detail
    bench.reader_line.hang_up()
    said = await bench.command("devices", "probe", "reader/n1/1", "--json", code=1)
    assert json.loads(said)[0]["detail"].endswith("No such file or directory (not plugged in, or the path is wrong)")


async def test_an_unknown_line_is_asked_in_every_language_that_changes_nothing(bench: Bench) -> None:
    heard: list[str] = []
    finding = await talk.guess(bench.board_line.path, heard.append)
    assert finding is not None
    assert finding.language == "board4"
    assert bench.board.commands == []  # queries only: nothing moved


async def test_a_line_that_the_server_holds_is_left_alone_with_a_clear_word(bench: Bench) -> None:
    with open_line(bench.reader_line.path, 9600):
        for arguments in (("watch",), ("test",)):
            said = await bench.command("devices", *arguments, "reader/n1/1", code=1)
            assert "reader/n1/1" in said
            assert f"(pid {os.getpid()})" in said
            assert "paifang reload" in said
        [finding] = await talk.probe([bench.spec("reader/n1/1")], bench.folder)
        assert "in use by" in finding.detail


# --- watching and trying ------------------------------------------------------------------------------------------


async def test_watching_shows_bytes_what_they_mean_and_what_the_driver_says(bench: Bench) -> None:
    look = partial(
        talk.watch, bench.spec("gate/n1"), bench.folder, bench.lines.append,
        seconds=60.0, record=None, personal=False,
    )  # fmt: skip
    async with background(look):
        await bench.until_said("=> up, barrier closed, entries 0, exits 0")
        bench.board.entries = 1
        await bench.until_said("=> counted entry 1")
    everything = "\n".join(bench.lines)
    assert "out aa 00 01 02" in everything
    assert "in  aa 00 01 12" in everything
    assert "state closed_idle" in everything
    assert "entries 1" in everything
    assert len(bench.lines) < 60  # polls that say the same are counted, not repeated


async def test_trying_a_gate_opens_it_and_sees_who_walks(bench: Bench) -> None:
    async def walk() -> None:
        await bench.until(lambda: bench.board.credit("entry"))
        bench.board.person("entry")

    async with background(walk):
        assert await talk.test(
            bench.spec("n1"), bench.folder, bench.lines.append,
            direction="entry", pax=1, seconds=20.0, record=None, personal=False,
        )  # fmt: skip
    assert [command.action for command in bench.board.commands][:1] == [board4.Action.ENTER_OPEN]
    assert "good: 1 counted" in bench.lines


async def test_trying_a_gate_that_nobody_walks_through_fails(bench: Bench) -> None:
    done = await talk.test(
        bench.spec("n1"), bench.folder, bench.lines.append,
        direction="exit", pax=1, seconds=1.5, record=None, personal=False,
    )  # fmt: skip
    assert not done
    assert "nothing came within 1.5 s" in bench.lines


async def test_trying_a_reader_waits_for_a_scan_and_shows_no_code_in_words(bench: Bench) -> None:
    async def scan() -> None:
        await bench.until_said("present a ticket")
        await bench.reader_line.write(b"]Q1PF1:SECRET\r\n")

    async with background(scan):
        assert await talk.test(
            bench.spec("reader/n1/1"), bench.folder, bench.lines.append,
            direction="entry", pax=1, seconds=20.0, record=None, personal=False,
        )  # fmt: skip
    assert bench.lines[-1] == "good: read a code of 10 characters ]Q1"
    assert not any("SECRET" in line for line in bench.lines)


async def test_trying_a_printer_prints_a_ticket_that_opens_nothing(bench: Bench) -> None:
    said = await bench.command("devices", "test", "w1")
    assert "good: the printer says that it is done" in said
    bench.path.write_text(SITE % 1, encoding="utf-8")
    assert "not printed" in await bench.command("devices", "test", "w1", code=1)


async def test_a_gate_is_not_opened_without_a_yes(bench: Bench) -> None:
    said = await bench.command("devices", "test", "n1", code=1)  # stdin is empty: nobody says yes
    assert "Is nobody in the barrier?" in said
    assert bench.board.commands == []


# --- recording and playing back -----------------------------------------------------------------------------------


async def test_a_recorded_trial_plays_back_to_the_same_events(bench: Bench) -> None:
    trace_path = bench.folder / "gate.trace"

    async def walk() -> None:
        await bench.until(lambda: bench.board.credit("entry"))
        bench.board.person("entry")
        bench.board.alarm = board4.State.TAILGATING
        await trio.sleep(0.3)
        bench.board.alarm = None
        await bench.until(lambda: bench.board.credit("entry"))
        bench.board.person("entry")

    async with background(walk):
        assert await talk.test(
            bench.spec("n1"), bench.folder, bench.lines.append,
            direction="entry", pax=2, seconds=20.0, record=trace_path, personal=False,
        )  # fmt: skip
    assert stat.S_IMODE(trace_path.stat().st_mode) == 0o600
    trace = read_trace(trace_path)
    assert "counted entry 2" in trace.events()
    assert "alarm tailgate" in trace.events()
    result = await talk.replay(trace_path)
    assert result.same, (result.recorded, result.replayed)
    said = await bench.command("devices", "replay", str(trace_path))
    assert "as recorded" in said


async def test_a_recorded_reader_plays_back_its_codes(bench: Bench) -> None:
    """The codes themselves come out of the replayed driver, as a test of a driver wants them."""
    from drivers.replay import replay

    trace_path = bench.folder / "reader.trace"
    look = partial(
        talk.watch, bench.spec("reader/n1/1"), bench.folder, bench.lines.append,
        seconds=60.0, record=trace_path, personal=False,
    )  # fmt: skip
    async with background(look):
        await bench.until_said("=> up")
        for chunk in (b"PF1:ON", b"E\r", b"\xff\xfe\r", b"]Q1PF1:TWO\r\nPF1:THREE\r\n"):
            await bench.reader_line.write(chunk)
            await trio.sleep(0.05)
        await bench.until_said("=> read a code of 9 characters")
    events: list[DeviceEvent] = []
    trace = read_trace(trace_path)
    await replay(
        trace, lambda where: QrScanner(where[trace.places()[0]], 9600), lambda *a: None, emit=events.append
    )
    assert [event.text for event in events if isinstance(event, CodeRead)] == ["PF1:ONE", "PF1:TWO", "PF1:THREE"]


async def test_a_replay_that_says_something_else_fails(bench: Bench) -> None:
    trace_path = bench.folder / "t.trace"
    look = partial(
        talk.watch, bench.spec("gate/n1"), bench.folder, bench.lines.append,
        seconds=1.0, record=trace_path, personal=False,
    )  # fmt: skip
    await look()
    text = trace_path.read_text(encoding="utf-8")
    assert "barrier closed" in text
    trace_path.write_text(text.replace("barrier closed", "barrier open"), encoding="utf-8")
    said = await bench.command("devices", "replay", str(trace_path), code=1)
    assert "DIFFERENT" in said


async def test_a_replay_touches_no_real_device(bench: Bench) -> None:
    """The board that was recorded hears nothing of its replay, although the trace names its line."""
    trace_path = bench.folder / "t.trace"
    await talk.watch(
        bench.spec("gate/n1"), bench.folder, bench.lines.append, seconds=1.0, record=trace_path, personal=False
    )
    heard = len(bench.board.heard)
    result = await talk.replay(trace_path)
    assert result.same
    assert len(bench.board.heard) == heard


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: not a trace"),
        ("hello\n", ":1: not a trace"),
        ('{"paifang_trace": 9, "device": "d", "kind": "k", "recorded_at": 1}\n', "version 9"),
        ('{"paifang_trace":1,"device":"d","kind":"k","recorded_at":1}\n{"t":0,"what":"in","hex":"0g"}\n\n', ":2:"),
        ('{"paifang_trace":1,"device":"d","kind":"k","recorded_at":1}\n[]\n\n', ":2:"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError) as error:
        read_trace(path)
    assert words in str(error.value)


def test_a_trace_that_was_cut_off_is_a_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "t"
    head = '{"paifang_trace":1,"device":"d","kind":"k","recorded_at":1}\n'
    path.write_text(head + '{"t":0,"what":"event","words":"up"}\n{"t":1,"what":"ev', encoding="utf-8")
    assert read_trace(path).events() == ["up"]


async def test_an_existing_file_is_never_written_over(bench: Bench) -> None:
    taken = bench.folder / "taken"
    taken.write_text("precious", encoding="utf-8")
    with pytest.raises(TraceError, match="is there already"):
        await talk.watch(
            bench.spec("gate/n1"), bench.folder, bench.lines.append, seconds=0.1, record=taken, personal=False
        )
    assert taken.read_text(encoding="utf-8") == "precious"


async def test_a_persons_document_is_neither_shown_nor_recorded_unasked(tmp_path: Path) -> None:
    with pty_line(tmp_path / "id") as line:
        spec = outside(line.path, "idcard")
        with pytest.raises(DeviceToolError, match="--personal-data"):
            await talk.watch(spec, tmp_path, print, seconds=0.1, record=tmp_path / "t", personal=False)
        lines: list[str] = []
        await talk.watch(spec, tmp_path, lines.append, seconds=0.5, record=None, personal=False)
    assert lines
    assert not any("aa aa aa 96" in each for each in lines)


@pytest.mark.parametrize("language", ["board4", "machpower", "digicon", "tpw", "qr", "idcard", "escpos", "modbus",
                                      "osdp", "zpl", "wedge"])  # fmt: skip
def test_a_decoder_never_fails_whatever_comes(language: str) -> None:
    import random

    rng = random.Random(7)
    decoder = Decoder(language)
    for _ in range(300):
        data = rng.choice([b"\xaa\x00", b"\x53\x00", b"\x02", b"\xaa\xaa\xaa\x96\x69", b""]) + rng.randbytes(
            rng.randrange(1, 40)
        )
        for what in ("in", "out"):
            assert isinstance(decoder.feed(what, data), list)
