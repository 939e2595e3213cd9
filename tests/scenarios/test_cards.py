"""Annual cards at a running site: card and face, one to one, in a worker process; and what is left of the holder."""

from __future__ import annotations

import pytest
import trio

from core.testing import patient_time_with_processes
from paifang.photographs import ensure
from paifang.testing import PASSWORD, SiteRig, site_rig
from protocols.ticketcode import PREFIX
from sim.lane import Result, Scanned
from storage.embedded import program

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

CARD = "A-2026-000417"
HOLDER = "欧阳慧琳 Ouyang Huilin"
PATIENCE_S = 10.0  # the first comparison starts the worker


async def _show(rig: SiteRig, photo: bytes | None, card: str = CARD) -> Scanned:
    """Show a card and a face; again while the worker starts."""
    for _ in range(6):
        place = rig.lane("g1")
        scanned = await place.scan(card, PATIENCE_S, cause="test", kind="card", photo=photo)
        if scanned.opened:
            await place.walk(0.2, ticket=None, visitor="test")
            place.done(scanned, 1)
        if scanned.code != "unavailable":
            return scanned
        await trio.sleep(0.5)
    return scanned


@pytest.mark.slow
async def test_a_card_opens_for_its_holder_alone_and_nothing_of_the_holder_is_readable_at_rest(tmp_path):
    people = await trio.to_thread.run_sync(ensure, tmp_path / "photographs")
    (own, *_), (other, *_) = (
        [path.read_bytes() for path in sorted(paths, key=lambda path: path.stat().st_size)]
        for paths in sorted(people.values(), key=len, reverse=True)[:2]
    )
    async with site_rig(tmp_path, serial=0, linked=1) as rig:
        sold = await rig.sell("annual", card=CARD, holder=HOLDER, photo=own)
        foreign = await _show(rig, other)
        assert (foreign.result, foreign.code) == (Result.DENIED, "factor_mismatch")
        assert (await _show(rig, None)).result is Result.DENIED
        assert (await _show(rig, own)).opened
        assert (await _show(rig, own)).opened  # as often as the holder likes
        assert (await _show(rig, own, "A-2026-999999")).code == "unknown_code"
        await rig.settled()
        assert await rig.value("select inside from zones where zone = 'park'") == 2
        assert (await rig.audit()).broken == []
        tree = await rig.value("select octet_length(template_enc) from passes")
        assert tree > 128 * 4  # 128 numbers, sealed
        dump = await trio.run_process(
            [str(program("pg_dump")), "--inserts"], env=rig.dsn.environment(), capture_stdout=True
        )
    logs = b"".join(path.read_bytes() for path in (tmp_path / "server.err", tmp_path / "server.out"))
    with (tmp_path / "data" / "keys" / "data.key").open() as file:
        key = file.read().split()[-1].encode()
    for place, content in (("database", dump.stdout), ("log", logs)):
        for secret in (CARD, HOLDER, "欧阳慧琳", "Ouyang", sold.code, PREFIX, PASSWORD):
            assert secret.encode() not in content, (place, secret)
        for image in (own, other):
            assert image[200:264] not in content and image[200:264].hex().encode() not in content, place
        assert key not in content, place
    for path in (tmp_path / "data" / "keys").iterdir():
        assert path.suffix == ".pub" or path.stat().st_mode & 0o777 == 0o600


