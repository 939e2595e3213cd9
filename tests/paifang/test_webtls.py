"""HTTPS and WSS by two lines of the site file: files of one's own, or a certificate of the site's authority."""

from __future__ import annotations

import os
import ssl
import stat

import msgspec
import pytest
import trio
from cryptography import x509

from admin_ws.client import ConsoleClient
from admin_ws.testing import StubSite
from core import Address, Child, Stop, Supervisor
from core.testing import patient_time, running
from paifang import webtls
from paifang.addresses import channel_url
from paifang.check import check, load
from paifang.pki import Authority, PkiError
from paifang.site import WebCertificate
from paifang.webtls import WEB_FILE, WebTlsError, host_names, web_tls

patient = pytest.fixture(autouse=True)(patient_time)

MINIMAL = """
[site]
id = "north"
name = "North"
timezone = "Asia/Shanghai"
{web}
[[zones]]
id = "park"
name = "Park"
[[lanes]]
id = "lane-1"
name = "Lane 1"
kind = "counted"
from_zone = "outside"
to_zone = "park"
"""


@pytest.fixture
def site(tmp_path):
    from paifang.cli import DEMO_SITE

    return load(DEMO_SITE)


def with_tls(site, *, names=("gate.example", "10.9.8.7"), **tls):
    web = msgspec.structs.replace(site.web, tls=WebCertificate(**tls), names=list(names))
    return msgspec.structs.replace(site, web=web)


def certificate_of(data) -> x509.Certificate:
    return x509.load_pem_x509_certificate((data / "pki" / WEB_FILE).read_bytes())


def test_without_the_table_there_is_no_tls(site, tmp_path):
    assert web_tls(site, tmp_path) is None and channel_url(site).startswith("ws://")
    assert channel_url(with_tls(site, authority=True)).startswith("wss://")


def test_a_certificate_of_the_sites_authority_is_made_for_every_name(site, tmp_path):
    tls = web_tls(with_tls(site, authority=True), tmp_path)
    found = certificate_of(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"gate.example", "localhost"} <= set(found.get_values_for_type(x509.DNSName))
    assert {"10.9.8.7", "127.0.0.1"} <= {str(each) for each in found.get_values_for_type(x509.IPAddress)}
    assert stat.S_IMODE((tmp_path / "pki" / WEB_FILE).stat().st_mode) == 0o600
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    usages = certificate_of(tmp_path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH], "it is no device"


def test_it_is_kept_over_a_restart_and_made_anew_for_another_name_or_near_its_end(site, tmp_path, monkeypatch):
    web_tls(with_tls(site, authority=True), tmp_path)
    first, authority = certificate_of(tmp_path), Authority.load(tmp_path / "pki").pem
    web_tls(with_tls(site, authority=True), tmp_path)
    assert certificate_of(tmp_path) == first
    web_tls(with_tls(site, authority=True, names=["other.example"]), tmp_path)
    second = certificate_of(tmp_path)
    assert second != first
    monkeypatch.setattr(webtls, "RENEW_DAYS", 400)
    web_tls(with_tls(site, authority=True, names=["other.example"]), tmp_path)
    assert certificate_of(tmp_path) != second
    assert Authority.load(tmp_path / "pki").pem == authority, "the same authority: browsers trust it already"


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_certificate_is_made_anew(site, tmp_path, damage):
    web_tls(with_tls(site, authority=True), tmp_path)
    file = tmp_path / "pki" / WEB_FILE
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert web_tls(with_tls(site, authority=True), tmp_path) is not None


def test_a_damaged_authority_is_said_and_not_replaced(site, tmp_path):
    web_tls(with_tls(site, authority=True), tmp_path)
    (tmp_path / "pki" / "ca.key").write_text("rubbish")
    (tmp_path / "pki" / WEB_FILE).unlink()
    with pytest.raises(PkiError, match=r"ca\.key"):
        web_tls(with_tls(site, authority=True), tmp_path)


def test_files_of_ones_own_that_cannot_be_used_are_named(site, tmp_path):
    for name in ("missing.pem", "rubbish.pem"):
        (tmp_path / "rubbish.pem").write_text("rubbish")
        with pytest.raises(WebTlsError, match=name):
            web_tls(with_tls(site, certificate=str(tmp_path / name), key=str(tmp_path / name)), tmp_path)


async def test_pages_and_channel_are_encrypted_and_newer_files_are_taken_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(webtls, "LOOK_EVERY_S", 0.05)
    tls = web_tls(with_tls(site, authority=True), tmp_path)
    stub = StubSite()
    stub.console._tls = tls.context
    trust = ssl.create_default_context(cadata=(tmp_path / "pki" / "ca.pem").read_text())

    async def serial() -> int:
        stream = await trio.open_ssl_over_tcp_stream("localhost", stub.console.port, ssl_context=trust)
        async with stream:
            with trio.fail_after(20):
                await stream.do_handshake()
            return x509.load_der_x509_certificate(stream.getpeercert(binary_form=True)).serial_number

    me = Address("web_tls")
    async with stub.open(), running(Supervisor("s", [Child(me, tls.run)])):
        url = f"wss://localhost:{stub.console.port}/channel"
        async with ConsoleClient.connect(url, tls=trust) as console:
            await console.login("anna", "correct horse")
            assert len((await console.subscribe()).lanes) == 8
        first = await serial()
        webtls.issue(tmp_path / "pki", "demo", host_names(with_tls(site, authority=True)))
        os.utime(tmp_path / "pki" / WEB_FILE, ns=(1, 1))  # another time than before, whatever the file system's grain
        with trio.fail_after(20):
            while await serial() == first:
                await trio.sleep(0.05)
        (tmp_path / "pki" / WEB_FILE).write_bytes(b"rubbish")
        (tmp_path / "pki" / "ca.key").write_bytes(b"rubbish")
        await trio.sleep(0.3)
        assert await serial() != first, "the old ones stay in use"
        stream = await trio.open_ssl_over_tcp_stream("localhost", stub.console.port, ssl_context=trust)
        async with stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            with trio.fail_after(20):
                while b"\r\n\r\n" not in answer:
                    answer += await stream.receive_some(4096)
        assert b"strict-transport-security: max-age=" in answer.lower() and b" 200 " in answer
        me.tell(Stop(), system=True)


@pytest.mark.parametrize(
    ("web", "problem"),
    [
        ("[web.tls]\nauthority = true", ""),
        ('[web.tls]\ncertificate = "a.pem"\nkey = "b.pem"', ""),
        ('[web.tls]\ncertificate = "a.pem"', "belong together"),
        ('[web.tls]\nauthority = true\nkey = "b.pem"', "two things"),
        ("[web.tls]", "says nothing"),
        ('[web]\nnames = ["not a name"]', "not a name"),
        ("[web.tls]\nauthority = 3", "wrong type"),
    ],
)
def test_the_site_file_is_checked(tmp_path, web, problem):
    file = tmp_path / "site.toml"
    file.write_text(MINIMAL.format(web=web))
    said = [str(each) for each in check(file).problems if str(each).startswith("web")]
    assert (problem in said[0]) if problem else said == []


def test_a_console_for_other_computers_is_no_longer_warned_of(tmp_path):
    from paifang.cli import DEMO_SITE

    demo = DEMO_SITE.read_text(encoding="utf-8").replace('host = "127.0.0.1"', 'host = "0.0.0.0"', 1)
    file = tmp_path / "site.toml"
    for web, warned in (("", True), ("\n[web.tls]\nauthority = true\n", False)):
        file.write_text(demo + web, encoding="utf-8")
        assert not check(file).problems
        assert any("without TLS" in str(each) for each in check(file).warnings) is warned
