"""Simulated smart gates show certificates of the site's own authority; who was revoked stays out."""

import time

import msgspec
import pytest

from drivers.nng import client_config
from paifang.keys import KeyRing
from paifang.pki import Authority, PkiError, read_revoked
from paifang.site import Lane, Link, Site, SiteFile, Zone
from sim.identity import dialled_link, identities
from sim.run import SimError, SimOptions, run_sim


def site(scheme):
    """One smart gate."""
    names = ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety")
    return SiteFile(
        site=Site(id="demo", name="牌坊"),
        link=Link(**{name: f"{scheme}://0.0.0.0:{8461 + number}" for number, name in enumerate(names)}),
        zones=[Zone(id="park", name="景区")],
        lanes=[Lane(id="g1", name="G1", to_zone="park", device="gate-g1")],
        products=[],
    )


def certificates(folder, device="gate-g1"):
    return [each for each in Authority.load(folder / "pki").certificates(time.time()) if each.device == device]


def test_without_tls_there_is_none(tmp_path):
    assert identities(site("tcp"), tmp_path)("gate-g1") is None


def test_a_gate_gets_its_files_once(tmp_path):
    Authority.init(tmp_path / "pki", "demo")
    for _ in range(3):  # three starts of the simulator
        files = identities(site("tls+tcp"), tmp_path)("gate-g1")
        client_config(files)
    assert len(certificates(tmp_path)) == 1


def test_one_that_runs_out_is_made_anew_and_a_revoked_one_is_not(tmp_path):
    authority = Authority.init(tmp_path / "pki", "demo")
    authority.issue_files("gate-g1", days=1, now=time.time() - 86400 * 365)
    identities(site("tls+tcp"), tmp_path)("gate-g1")
    assert [each.state for each in certificates(tmp_path)] == ["valid", "replaced"]
    authority.revoke("gate-g1")
    identities(site("tls+tcp"), tmp_path)("gate-g1")
    assert len(certificates(tmp_path)) == len(read_revoked(tmp_path / "pki")) == 2


def test_any_address_is_dialled_on_this_computer():
    link = dialled_link(site("tls+tcp").link)
    assert all("127.0.0.1" in url for name, url in msgspec.structs.asdict(link).items() if name in ("work", "safety"))


async def test_without_an_authority_the_simulator_says_so(tmp_path, autojump_clock):
    KeyRing.init(tmp_path / "keys")
    with pytest.raises(SimError, match="authority"):
        await run_sim(site("tls+tcp"), tmp_path, SimOptions(password="x"), say=lambda line: None)
    with pytest.raises(PkiError):
        identities(site("tls+tcp"), tmp_path)
