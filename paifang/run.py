"""`paifang run`: a server and a simulated site as two processes, for looking at the product without any hardware."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path

import trio

STOP_WITHIN_S = 30.0
PASSWORD_FILE = "demo-password"  # noqa: S105 - a file's name


async def run_both(site: Path, data: Path, seed: int, speed: float, seconds: float | None) -> int:
    """Run until Ctrl-C, or for `seconds`. Returns the exit code for the shell."""
    password = _password(data)
    environment = {**os.environ, "PAIFANG_DEMO_PASSWORD": password, "PYTHONUNBUFFERED": "1"}
    program = [sys.executable, "-m", "paifang"]
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        log = await trio.open_file(data / "server.log", "ab")
        server = await trio.lowlevel.open_process(
            [*program, "serve", str(site), "--data", str(data), "--demo-users"],
            env=environment,
            stdout=-1,
            stderr=log.wrapped,
            start_new_session=True,
        )
        nursery.start_soon(_follow, server, ready, password)
        sim: trio.Process | None = None
        try:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                with trio.move_on_after(60):
                    await _either(ready, server)
                if ready.is_set():
                    sim = await trio.lowlevel.open_process(
                        [*program, "sim", str(site), "--data", str(data), "--seed", str(seed), "--speed", str(speed)],
                        env=environment,
                        start_new_session=True,
                    )
                    with trio.move_on_after(float("inf") if seconds is None else seconds):
                        async for _ in signals:
                            break
        finally:
            with trio.CancelScope(shield=True):
                for process in (sim, server):
                    await _end(process)
                await log.aclose()
        nursery.cancel_scope.cancel()
    if not ready.is_set():
        print(f"the server did not start; see {data / 'server.log'}", file=sys.stderr)
        return 1
    return 0


def _password(data: Path) -> str:
    """The demo users' password: made once, kept in a file that only you can read."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data / PASSWORD_FILE
    if path.exists():
        return path.read_text().strip()
    password = secrets.token_urlsafe(9)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
    return password


async def _follow(server: trio.Process, ready: trio.Event, password: str) -> None:
    """Show what the server says; READY is what people wait for."""
    assert server.stdout is not None
    rest = b""
    async for chunk in server.stdout:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            print(text, flush=True)
            if text.startswith("READY"):
                address = text.split()[1]
                print(f"\n  console   {address}\n  log in    operator   {password}", flush=True)
                print("  also      cashier, security1, security2, manager (same password)\n", flush=True)
                ready.set()


async def _either(ready: trio.Event, server: trio.Process) -> None:
    async with trio.open_nursery() as nursery:

        async def ended() -> None:
            await server.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(ended)
        await ready.wait()
        nursery.cancel_scope.cancel()


async def _end(process: trio.Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    with trio.move_on_after(STOP_WITHIN_S):
        await process.wait()
        return
    process.kill()
    await process.wait()
