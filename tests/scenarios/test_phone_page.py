"""The phone page in Chromium and a real server: a film for a camera, no signal, no server, counts, both themes."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import zxingcpp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.testing import patient_time_with_processes
from paifang.testing import PASSWORD, SiteRig, site_rig
from protocols.console import SoldTicket
from protocols.phone import PhoneScan, PhoneVerdict

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(220)]

STEPS = Path(__file__).with_name("phone_steps.py")
STEPS_S = 160.0  # of a browser on a machine that does much else
HOST = "gates.example"  # a name that only the browser knows
WIDTH, HEIGHT, FRAMES = 640, 480, 10  # of the film
LANE = (
    '[[lanes]]\nid = "hand"\nname = "东门手持"\nentrance = "东门"\nkind = "attendant"\nto_zone = "park"\n'
    'mode = "bidirectional"\n[[printers]]'
)


def with_attendant(text: str) -> str:
    return text.replace("[[printers]]", LANE, 1).replace("needs_face = true", "")


def film(path: Path, text: str) -> Path:
    """What a camera sees that a ticket is held in front of."""
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
    square = zxingcpp.write_barcode_to_image(code, scale=6, add_quiet_zones=True)
    side = square.shape[0]
    left, top = (WIDTH - side) // 2, (HEIGHT - side) // 2
    assert left >= 0 and top >= 0, f"the code is {side} pixels wide"
    rows = [bytearray(b"\xeb" * WIDTH) for _ in range(HEIGHT)]
    pixels = bytes(square)
    for y in range(side):
        rows[top + y][left : left + side] = pixels[y * side : (y + 1) * side]
    frame = b"FRAME\n" + b"".join(rows) + b"\x80" * (WIDTH * HEIGHT // 2)  # 4:2:0, without colour
    path.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F10:1 Ip A1:1 C420jpeg\n".encode() + frame * FRAMES)
    return path


async def steps(
    name: str,
    rig: SiteRig,
    do: Callable[[str], Awaitable[object]],
    camera: Path | str = "-",
    *arguments: str,
    url: str = "",
) -> None:
    """Run the steps `name` in Chromium; what they ask the site to do is done by `do`."""
    url = url or f"http://127.0.0.1:{rig.site.http.port}/"
    with trio.fail_after(STEPS_S):
        process = await trio.lowlevel.open_process(
            [sys.executable, str(STEPS), name, url, str(camera), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        async with process.stdin, process.stdout:
            await process.stdin.send_all(f"{PASSWORD}\n".encode())
            said = ""
            async for chunk in process.stdout:
                said += chunk.decode()
                while "\n" in said:
                    line, _, said = said.partition("\n")
                    if line.startswith("do "):
                        await process.stdin.send_all(f"{await do(line[3:])}\n".encode())
        assert await process.wait() == 0, "the steps failed; see what they printed above"


def key_pin(data: Path) -> str:
    """The public key of the server's certificate, as Chromium is told to trust it and no other."""
    certificate = x509.load_pem_x509_certificate((data / "pki" / "web.pem").read_bytes())
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(public).digest()).decode()


async def sold(rig: SiteRig, **products: str) -> dict[str, SoldTicket]:
    return {name: await rig.sell(product) for name, product in products.items()}


def forged(code: str) -> str:
    """One character of the signature changed, still base45."""
    return code[:60] + ("A" if code[60] != "A" else "B") + code[61:]


async def test_scanned_by_camera_then_without_a_signal_then_uploaded_with_one_conflict(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        tickets = await sold(rig, film="adult", one="adult", two="adult", group="group")
        card = await rig.sell("annual", card="A-100")
        codes = {name: ticket.code for name, ticket in tickets.items()}
        codes |= {"annual": f"CARD:{card.ticket}", "forged": forged(codes["one"])}

        async def do(what: str) -> str:
            if what == "codes":
                return json.dumps(codes)
            if what == "use two":
                params = PhoneScan(lane="hand", nonce="another-phone", code=codes["two"])
                return (await rig.ask("security1", "phone.scan", params, PhoneVerdict)).code
            assert what == "booked"
            rows = await rig.rows(
                "select kind, count(*)::int as people from passages where lane = 'hand' group by kind order by kind"
            )
            assert [(row["kind"], row["people"]) for row in rows] == [("free", 1), ("granted", 1 + 1 + 3 + 1)]
            assert await rig.value("select count(*) from cases where kind = 'offline_conflict'") == 1
            assert (await rig.audit()).broken == []
            return "ok"

        await steps("work", rig, do, film(tmp_path / "camera.y4m", codes["film"]))


async def test_the_page_opens_and_checks_while_the_server_is_dead_and_uploads_later(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        tickets = await sold(rig, one="adult")

        async def do(what: str) -> str:
            if what == "codes":
                return json.dumps({"one": tickets["one"].code})
            if what == "kill":
                rig.kill()
            elif what == "start":
                await rig.start()
            else:
                assert await rig.value("select count(*) from passages where kind = 'granted'") == 1
                assert await rig.value("select sum(redeemed)::int from entitlements") == 1
            return "ok"

        await steps("without_server", rig, do)


async def test_people_counted_by_thumb_and_their_stubs_and_a_managers_figures(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:

        async def nothing(what: str) -> None:
            raise AssertionError(what)

        await steps("count", rig, nothing)
        assert await rig.value("select count(*) from passages where kind = 'free'") == 13
        assert await rig.value("select delta from calibrations where zone = 'park'") == 2
        assert (await rig.audit()).broken == []


async def test_every_page_in_both_themes_and_languages_has_no_serious_fault_of_accessibility(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        ticket = await rig.sell("adult")

        async def do(what: str) -> str:
            return json.dumps({"film": ticket.code})

        await steps("looks", rig, do)


async def test_over_https_from_another_host_name_the_camera_and_the_list_work(tmp_path: Path) -> None:
    async with site_rig(tmp_path, serial=0, configure=with_attendant) as rig:
        tickets = await sold(rig, film="adult", one="adult")
        codes = {name: ticket.code for name, ticket in tickets.items()}
        await rig.stop()
        text = rig.site_path.read_text(encoding="utf-8")
        tls = f'[web]\nnames = ["{HOST}"]\n[web.tls]\nauthority = true\n[link]'
        rig.site_path.write_text(text.replace("[link]", tls, 1), encoding="utf-8")
        await rig.start()

        async def do(what: str) -> str:
            if what == "codes":
                return json.dumps(codes)
            with trio.fail_after(30):
                while await rig.value("select count(*) from passages where kind = 'granted'") != 2:
                    await trio.sleep(0.1)
            return "ok"

        # who trusts the site's authority and nobody else finds the name in the certificate
        trust = ssl.create_default_context(cafile=str(rig.data / "pki" / "ca.pem"))
        plain = await trio.open_tcp_stream("127.0.0.1", rig.site.http.port)
        async with trio.SSLStream(plain, trust, server_hostname=HOST, https_compatible=True) as stream:
            with trio.fail_after(20):
                await stream.do_handshake()

        await steps(
            "secure",
            rig,
            do,
            film(tmp_path / "camera.y4m", codes["film"]),
            f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
            f"--ignore-certificate-errors-spki-list={key_pin(rig.data)}",
            url=f"https://{HOST}:{rig.site.http.port}/",
        )
