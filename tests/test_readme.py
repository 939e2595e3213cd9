"""What the README and the guides name exists: commands, files, folders, make targets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), *ROOT.glob("*/README.md")]
COMMAND_LIMIT_S = 30


def paifang(*arguments: str) -> str:
    program = ROOT / ".venv" / "bin" / "paifang"
    result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def table_commands() -> set[str]:
    section = README.split("## Commands", 1)[1].split("\n## ", 1)[0]
    first_cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"paifang (\w+)", cell)}


def test_the_table_lists_exactly_the_commands_that_exist() -> None:
    listed = paifang("--help").split("Commands:", 1)[1]
    assert table_commands() == set(re.findall(r"^  ([a-z]+)", listed, re.MULTILINE))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(guide: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", guide.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://", "#")):
            assert (guide.parent / link.split("#")[0]).exists(), link


def test_every_folder_of_the_table_exists() -> None:
    section = README.split("## Where things are", 1)[1]
    rows = "\n".join(row.split("|")[1] for row in section.splitlines() if row.startswith("| `"))
    folders = re.findall(r"`([a-z_]+)/`", rows)
    assert {"core", "drivers", "tests", "tools"} <= set(folders)
    assert [name for name in folders if not (ROOT / name).is_dir()] == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for guide in GUIDES:
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", guide.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, guide


def test_make_alone_lists_every_target() -> None:
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=True)
    for target in ("run", "test", "quick", "setup", "console", "clean"):
        assert f"  make {target} " in result.stdout
