"""Get uv, the installer, into `.tools/bin` with whatever the machine has; standard library only.

The wheel is fetched by the machine's own pip where there is one, because pip knows the machine's index, proxy and
certificates. A Debian Python may have no pip but be able to make a virtual environment with one. Where neither works,
the wheel is read from the index directly. Its hash is checked in each case, and only the program is taken out of it:
nothing is installed into the system's Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

FETCH_LIMIT_S = 600.0  # for the whole wheel
ANSWER_LIMIT_S = 60.0  # for one answer of the index
PAGE_MAX_BYTES = 32_000_000
WHEEL_MAX_BYTES = 200_000_000
CHUNK_BYTES = 1_000_000
PROGRESS_EVERY_BYTES = 5_000_000

PIN = Path(__file__).resolve().parent / "uv.txt"

Say = Callable[[str], None]


class FetchError(Exception):
    """uv cannot be had; the text says what was tried."""


def pinned(pin: Path = PIN) -> tuple[str, set[str]]:
    """The version and the SHA-256 hashes of the pin file."""
    text = pin.read_text(encoding="utf-8")
    version = re.search(r"^uv==(\S+)", text, re.MULTILINE)
    hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    if version is None or not hashes:
        raise FetchError(f"{pin} pins no version of uv")
    return version[1], hashes


def ensure_uv(tools: Path, say: Say, pin: Path = PIN) -> Path:
    """The path of the pinned uv below `tools`, fetched now if it is not there yet. Raises `FetchError`."""
    version, hashes = pinned(pin)
    program = tools / f"uv-{version}"
    if program.exists():
        return program
    tools.mkdir(parents=True, exist_ok=True)
    say(f"fetching uv {version}, the installer (17 MB), into .tools")
    failures: list[str] = []
    for way in (_with_pip, _with_a_virtual_environments_pip, _from_the_index):
        wheels = tools / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        try:
            way(wheels, pin, say)
            for wheel in wheels.glob("uv-*.whl"):
                _take_program(wheel, hashes, program)
                return program
            failures.append(f"{_name(way)}: no wheel for {sys.platform} on {platform.machine()}")
        except (FetchError, OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            failures.append(f"{_name(way)}: {error}")
        finally:
            shutil.rmtree(wheels, ignore_errors=True)
    raise FetchError("uv could not be fetched\n  " + "\n  ".join(failures))


def _name(way: Callable[[Path, Path, Say], None]) -> str:
    return way.__name__.strip("_").replace("_", " ")


def _take_program(wheel: Path, hashes: set[str], program: Path) -> None:
    """Check the wheel and put its program where it belongs, whole or not at all."""
    if hashlib.sha256(wheel.read_bytes()).hexdigest() not in hashes:
        raise FetchError(f"{wheel.name} is not the file that tools/uv.txt pins")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
        if not names:
            raise FetchError(f"{wheel.name} holds no program")
        unfinished = program.with_suffix(".part")
        unfinished.write_bytes(archive.read(names[0]))
    unfinished.chmod(unfinished.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    unfinished.replace(program)


# --- three ways ---------------------------------------------------------------------------------------------------


def _with_pip(wheels: Path, pin: Path, say: Say) -> None:
    _pip_download(sys.executable, wheels, pin)


def _with_a_virtual_environments_pip(wheels: Path, pin: Path, say: Say) -> None:
    environment = wheels / "venv"
    say("this Python has no pip of its own that can do it; making a virtual environment that has one")
    _run([sys.executable, "-m", "venv", str(environment)])
    _pip_download(str(environment / "bin" / "python"), wheels, pin)


def _pip_download(python: str, wheels: Path, pin: Path) -> None:
    command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*command, "--only-binary=:all:", "--require-hashes", "--dest", str(wheels), "--requirement", str(pin)])


def _run(command: list[str]) -> None:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False
    )
    if result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip() or f"exit code {result.returncode}").splitlines()[-1]
        raise FetchError(_without_passwords(last))


def _from_the_index(wheels: Path, pin: Path, say: Say) -> None:
    version, hashes = pinned(pin)
    index = configured_index(os.environ) or locked_index(pin.parent.parent / "uv.lock")
    page_url = f"{index.rstrip('/')}/uv/"
    say("asking the package index directly")
    files = _files(*_page(page_url))
    for url, sha256 in files.items():
        name = urllib.parse.unquote(url.rsplit("/", 1)[-1])
        if sha256 in hashes and name.startswith(f"uv-{version}-") and fits(name):
            _download(url, wheels / name, say)
            return


def fits(wheel: str) -> bool:
    """Whether the platform tag of a wheel's name is this machine's."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    tag = wheel.removesuffix(".whl").split("-")[-1].replace("_arm64", "_aarch64")
    if sys.platform == "darwin":
        libc = "macosx"
    else:
        libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    return any(part.startswith(libc) and part.endswith(f"_{machine}") for part in tag.split("."))


# --- the index ----------------------------------------------------------------------------------------------------


def configured_index(env: Mapping[str, str]) -> str | None:
    """The index that the user or the machine chose for uv or pip, or None when neither was told of one."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if env.get(name):
            return env[name]
    for folder in (Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config"), Path("/etc")):
        if (index := _index_of_uv(folder / "uv" / "uv.toml")) is not None:
            return index
    question = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    try:
        result = subprocess.run(
            question,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def _index_of_uv(config: Path) -> str | None:
    """The default index of a uv.toml, in its new or its old spelling; None when it names none."""
    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
        chosen = [each["url"] for each in settings.get("index", []) if each.get("default")]
        return str([*chosen, settings["index-url"]][0] if "index-url" in settings else chosen[0])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def locked_index(lock: Path) -> str:
    """The index that uv.lock was made with: the one place in the project that names it."""
    found = re.search(r'source = \{ registry = "([^"]+)" \}', lock.read_text(encoding="utf-8"))
    if found is None:
        raise FetchError(f"{lock} names no package index")
    return found[1]


def _page(url: str) -> tuple[str, str, str]:
    """An index page: its address after redirects, its content type and its text."""
    request = urllib.request.Request(url)
    request.add_header("Accept", "application/vnd.pypi.simple.v1+json, text/html;q=0.2")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
            raw = answer.read(PAGE_MAX_BYTES + 1)
            if len(raw) > PAGE_MAX_BYTES:
                raise FetchError(f"the index page is larger than {PAGE_MAX_BYTES} bytes")
            return answer.geturl(), answer.headers.get_content_type(), raw.decode("utf-8")
    except (urllib.error.URLError, ValueError) as error:
        raise FetchError(_without_passwords(f"{url}: {error}")) from error


def _files(page_url: str, content_type: str, text: str) -> dict[str, str]:
    """Address and SHA-256 of each file on an index page, JSON or HTML (PEP 691 and 503)."""
    if content_type.endswith("json"):
        try:
            listed = [(str(each["url"]), str(each["hashes"].get("sha256", ""))) for each in json.loads(text)["files"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FetchError(f"the index page is not what PEP 691 says: {error!r}") from error
    else:
        page = _Links()
        page.feed(text)
        listed = [(url, fragment.removeprefix("sha256=")) for url, _, fragment in (u.partition("#") for u in page.urls)]
    return {urllib.parse.urljoin(page_url, url): sha256 for url, sha256 in listed}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _download(url: str, path: Path, say: Say) -> None:
    done = said = 0
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_LIMIT_S) as answer, path.open("wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if done > WHEEL_MAX_BYTES:
                    raise FetchError(f"{path.name} does not end after {WHEEL_MAX_BYTES} bytes")
                if done - said >= PROGRESS_EVERY_BYTES:
                    said = done
                    say(f"{done // 1_000_000} MB of uv fetched")
    except (urllib.error.URLError, ValueError) as error:
        raise FetchError(_without_passwords(f"{url}: {error}")) from error


def _without_passwords(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//…@", text)
