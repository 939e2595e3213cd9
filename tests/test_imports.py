"""Who may import whom, and whether the project's own files say the truth about it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import fetch_uv
import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PYPROJECT["tool"]["importlinter"]["root_packages"]
COMMAND_LIMIT_S = 100
DOCSTRING_MIN_CHARACTERS = 60  # long enough to be a sentence about what lives here


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)


def module_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_every_contract_of_the_architecture_is_kept() -> None:
    result = run([str(Path(sys.executable).with_name("lint-imports")), "--no-cache"])
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_the_contracts_would_notice(tmp_path: Path) -> None:
    """A contract that cannot break proves nothing: with one forbidden import added, the linter says so."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "protocols" / "__init__.py").write_text("import trio\n", encoding="utf-8")
    (tmp_path / "drivers" / "nng.py").write_text("", encoding="utf-8")
    (tmp_path / "actors" / "gate.py").write_text("import drivers.nng\n", encoding="utf-8")
    (tmp_path / "sim" / "visitors.py").write_text("import asyncio\n", encoding="utf-8")
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    for name in ("protocols: no I/O", "actors: the driver seam", "asyncio stays in storage"):
        assert any(line.startswith(name) and "BROKEN" in line for line in result.stdout.splitlines()), result.stdout
    assert "Contracts: 5 kept, 3 broken." in result.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_what_lives_there(package: str) -> None:
    text = ast.get_docstring(module_of(ROOT / package / "__init__.py")) or ""
    assert len(text) >= DOCSTRING_MIN_CHARACTERS, f"{package}/__init__.py does not say what lives there"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_module_says_what_it_is_for(package: str) -> None:
    mute = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / package).rglob("*.py"))
        if "node_modules" not in path.parts and path.stat().st_size and not ast.get_docstring(module_of(path))
    ]
    assert mute == []


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_declared_public_exists(package: str) -> None:
    """`__all__` holds names that the module defines or imports, each once: a typing mistake there shows only late."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        tree = module_of(path)
        declared = [
            name
            for node in tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
            for name in ast.literal_eval(node.value)
        ]
        assert len(declared) == len(set(declared)), path
        assert set(declared) <= _names(tree), path


def _names(tree: ast.Module) -> set[str]:
    """Names that the module's body binds, in whatever branch of it; submodules are bound by their import."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {(each.asname or each.name).split(".")[0] for each in names}
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    return found


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "paifang"])
def test_nothing_imports_from_the_tests_or_the_tools(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(module_of(path)):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"tests", "tools", "bootstrap", "fetch_uv"}, path


def test_every_package_is_installed_and_checked() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(PACKAGES)
    assert set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == folders
    assert set(PYPROJECT["tool"]["mypy"]["files"]) == folders | {"tools"}


def test_the_lock_is_up_to_date() -> None:
    """`uv sync --locked` would refuse an old lock on every machine; here it is one command, without the network."""
    uv = fetch_uv.ensure_uv(ROOT / ".tools", lambda text: None)
    result = run([str(uv), "lock", "--check", "--offline", f"--python={sys.executable}"])
    assert result.returncode == 0, f"run `{uv} lock` and commit uv.lock\n{result.stderr}"
