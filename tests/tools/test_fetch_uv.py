"""Fetching uv from a real index on loopback: by pip, by a virtual environment's pip, and without any pip.

The index is ours and serves one small wheel whose program is a shell script; the hash check, the choice of the wheel
and the three ways are the real ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fetch_uv
import pytest

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day

LIBC = "manylinux_2_17" if platform.libc_ver()[0] == "glibc" else "musllinux_1_1"
WHEEL = f"uv-9.9.9-py3-none-{LIBC}_{platform.machine()}.whl"
OTHER_WHEEL = "uv-9.9.9-py3-none-manylinux_2_17_s390x.whl"


def wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("uv-9.9.9.data/scripts/uv", "#!/bin/sh\necho uv 9.9.9\n")
        archive.writestr("uv-9.9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: uv\nVersion: 9.9.9\n")
        archive.writestr("uv-9.9.9.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
        archive.writestr("uv-9.9.9.dist-info/RECORD", "")
    return buffer.getvalue()


class Index:
    """A package index with one project; `served` counts what was asked for."""

    def __init__(self, *, as_json: bool) -> None:
        self.body = wheel()
        self.sha256 = hashlib.sha256(self.body).hexdigest()
        self.as_json = as_json
        self.served: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.served.append(self.path)
                if self.path.startswith("/files/"):
                    self.answer(index.body, "application/octet-stream")
                elif self.path == "/simple/uv/":
                    kind = "application/vnd.pypi.simple.v1+json" if index.as_json else "text/html"
                    self.answer(index.page(), kind)
                else:
                    self.send_error(404)

            def answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def page(self) -> bytes:
        names = (OTHER_WHEEL, WHEEL)
        if self.as_json:
            files = [{"filename": n, "url": f"../../files/{n}", "hashes": {"sha256": self.sha256}} for n in names]
            return json.dumps({"meta": {"api-version": "1.0"}, "name": "uv", "files": files}).encode()
        links = "".join(f'<a href="../../files/{name}#sha256={self.sha256}">{name}</a>' for name in names)
        return f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


@pytest.fixture(params=["json", "html"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index(as_json=request.param == "json")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    thread = threading.Thread(target=index.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield index
    index.server.shutdown()
    thread.join()
    index.server.server_close()


def pin(tmp_path: Path, sha256: str) -> Path:
    path = tmp_path / "uv.txt"
    path.write_text(f"# comment\nuv==9.9.9 \\\n    --hash=sha256:{sha256}\n", encoding="utf-8")
    return path


def fails(wheels: Path, pin: Path, say: fetch_uv.Say) -> None:
    raise fetch_uv.FetchError("not on this machine")


WITH_PIP, WITH_A_VENV, FROM_THE_INDEX = "_with_pip", "_with_a_virtual_environments_pip", "_from_the_index"


@pytest.mark.parametrize("way", [WITH_PIP, WITH_A_VENV, FROM_THE_INDEX])
def test_each_way_alone_brings_a_program_that_runs(
    way: str, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in {WITH_PIP, WITH_A_VENV, FROM_THE_INDEX} - {way}:
        monkeypatch.setattr(fetch_uv, other, fails)
    said: list[str] = []
    uv = fetch_uv.ensure_uv(tmp_path / "tools", said.append, pin(tmp_path, index.sha256))
    assert uv.stat().st_mode & stat.S_IXUSR
    assert subprocess.run([uv], capture_output=True, text=True, check=True).stdout == "uv 9.9.9\n"
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["uv-9.9.9"]
    assert any("fetching uv 9.9.9" in line for line in said)
    assert not any(OTHER_WHEEL in path for path in index.served)


def test_what_is_there_already_is_not_fetched_again(index: Index, tmp_path: Path) -> None:
    pinned = pin(tmp_path, index.sha256)
    fetch_uv.ensure_uv(tmp_path / "tools", lambda text: None, pinned)
    asked = len(index.served)
    assert fetch_uv.ensure_uv(tmp_path / "tools", pytest.fail, pinned).exists()
    assert len(index.served) == asked


@pytest.mark.parametrize("lies", [True, False], ids=["the page lies about the hash", "the page tells another hash"])
def test_a_wheel_with_another_hash_is_refused_by_every_way_and_nothing_stays(
    lies: bool, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_uv, WITH_A_VENV, fails)  # it is pip again, and takes seconds to make
    wanted = "0" * 64
    if lies:
        index.sha256 = wanted
    with pytest.raises(fetch_uv.FetchError, match="could not be fetched") as caught:
        fetch_uv.ensure_uv(tmp_path / "tools", lambda text: None, pin(tmp_path, wanted))
    assert "with pip: " in str(caught.value)
    assert "from the index: " in str(caught.value)
    assert list((tmp_path / "tools").iterdir()) == []


def test_a_cut_wheel_is_refused(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (WITH_PIP, WITH_A_VENV):
        monkeypatch.setattr(fetch_uv, other, fails)
    index.body = index.body[:-20]
    with pytest.raises(fetch_uv.FetchError, match=r"not the file that tools/uv\.txt pins"):
        fetch_uv.ensure_uv(tmp_path / "tools", lambda text: None, pin(tmp_path, index.sha256))


def test_a_password_in_the_index_address_is_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (WITH_PIP, WITH_A_VENV):
        monkeypatch.setattr(fetch_uv, other, fails)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://me:hush@127.0.0.1:1/simple")
    with pytest.raises(fetch_uv.FetchError) as caught:
        fetch_uv.ensure_uv(tmp_path / "tools", lambda text: None, pin(tmp_path, "0" * 64))
    assert "hush" not in str(caught.value)


def test_the_index_comes_from_uv_then_pip_and_else_from_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "uv" / "uv.toml"
    config.parent.mkdir()
    config.write_text('[[index]]\nurl = "https://mirror.example/simple"\ndefault = true\n', encoding="utf-8")
    env = {"XDG_CONFIG_HOME": str(tmp_path), "PIP_INDEX_URL": "https://pip.example/simple"}
    assert fetch_uv.configured_index(env) == "https://pip.example/simple"
    assert fetch_uv.configured_index({**env, "UV_DEFAULT_INDEX": "https://uv.example/s"}) == "https://uv.example/s"
    del env["PIP_INDEX_URL"]
    assert fetch_uv.configured_index(env) == "https://mirror.example/simple"
    config.write_text('index-url = "https://old.example/simple"\n', encoding="utf-8")
    assert fetch_uv.configured_index(env) == "https://old.example/simple"
    config.write_text("not toml [", encoding="utf-8")
    pip_conf = tmp_path / "pip.conf"
    pip_conf.write_text("[global]\nindex-url = https://conf.example/simple\n", encoding="utf-8")
    assert fetch_uv.configured_index({**env, "PIP_CONFIG_FILE": str(pip_conf)}) == "https://conf.example/simple"
    assert fetch_uv.locked_index(Path(__file__).parents[2] / "uv.lock").startswith("https://")


def test_the_pin_names_one_version_with_a_hash_for_each_platform() -> None:
    version, hashes = fetch_uv.pinned()
    assert version.count(".") == 2
    assert len(hashes) == 6


def test_only_wheels_for_this_machine_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    both = "uv-1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl"
    assert fetch_uv.fits(both)
    assert fetch_uv.fits("uv-1-py3-none-manylinux_2_28_aarch64.whl")
    assert not fetch_uv.fits("uv-1-py3-none-musllinux_1_1_x86_64.whl")
    assert not fetch_uv.fits("uv-1-py3-none-win_arm64.whl")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert fetch_uv.fits(both)
    assert not fetch_uv.fits("uv-1-py3-none-manylinux_2_28_aarch64.whl")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert fetch_uv.fits("uv-1-py3-none-macosx_11_0_arm64.whl")
    assert not fetch_uv.fits("uv-1-py3-none-macosx_10_12_x86_64.whl")
