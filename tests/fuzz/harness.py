"""The coverage-guided fuzzer's own process: `python harness.py CORPUS SECONDS [planted]`. Exit code 0: nothing found.

With `planted` one codec has a fault of ours, to see that faults are found.
The first byte of an input chooses the codec, the rest is what it reads. A fault is printed with its input, in hex.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocols"]):
    from protocols import fuzzing

NAMES = sorted(fuzzing.CODECS)
INPUT_BYTES_MAX = 2048
SLOW_S = 10  # one input that takes longer is a fault, too


@atheris.instrument_func
def planted(data: bytes) -> None:
    """A codec with a fault behind a head and a length, as real ones have them."""
    if len(data) > 3 and data[0] == 0xAA and data[1] == 0x55 and data[2] == len(data):
        raise KeyError(data[3])


def one_input(data: bytes) -> None:
    if not data:
        return
    name = NAMES[data[0] % len(NAMES)]
    try:
        fuzzing.decode(name, data[1:])
    except BaseException:
        print(f"FAULT in {name}: {data[1:].hex()}", file=sys.stderr, flush=True)
        raise


def write_seeds(corpus: Path) -> int:
    """The sound frames, one file each; how many there are."""
    seeds = fuzzing.seeds()
    for number, (name, data) in enumerate(seeds):
        (corpus / f"seed-{number:02}").write_bytes(bytes((NAMES.index(name),)) + data)
    return len(seeds)


if __name__ == "__main__":
    corpus, seconds = Path(sys.argv[1]), int(sys.argv[2])
    if sys.argv[3:] == ["planted"]:
        fuzzing.CODECS = {"planted": planted}
        fuzzing.seeds = lambda: [("planted", b"\xaa")]
        NAMES = ["planted"]
    print(f"{write_seeds(corpus)} seeds, {len(NAMES)} codecs", flush=True)
    atheris.Setup(
        [
            sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={SLOW_S}",
            "-seed=7", "-print_final_stats=1", f"-artifact_prefix={corpus}/fault-", "-rss_limit_mb=1024",
        ],
        one_input,
    )  # fmt: skip
    atheris.Fuzz()
