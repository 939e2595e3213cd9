"""Worker processes, real photographs, and the oracle: `face_recognition` itself, in a process of its own."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trio
from PIL import Image

from core.testing import patient_time
from drivers.face import (
    BadImage,
    FacePool,
    FaceTimeout,
    FaceUnavailable,
    NoFace,
    SeveralFaces,
    TemplateError,
    _pool,
    _worker,
    distance,
    from_bytes,
    to_bytes,
)
from drivers.nng.testing import until
from paifang.photographs import ensure

patient = pytest.fixture(autouse=True)(patient_time)

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day

DEADLINE_S = 60.0  # a busy machine; not what a gate gets
CACHE = Path(__file__).parents[3] / "var" / "photographs"

# The oracle ends the process when pkg_resources is missing and prints about it, so it runs elsewhere.
ORACLE = """
import json, sys
import face_recognition
answers = {}
for name in sys.argv[1:]:
    picture = face_recognition.load_image_file(name)
    answers[name] = [list(values) for values in face_recognition.face_encodings(picture, model="small")]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def photographs():
    return ensure(CACHE)


@pytest.fixture(scope="module")
def obama(photographs):
    return [path.read_bytes() for path in photographs["obama"]]


@pytest.fixture(scope="module")
def biden(photographs):
    return photographs["biden"][0].read_bytes()


@pytest.fixture
async def pool(nursery):
    pool = FacePool(1, 0.55)
    await nursery.start(pool.run)
    yield pool
    nursery.cancel_scope.cancel()


def is_running(pid):
    return Path(f"/proc/{pid}").exists()


def picture(size=(64, 64), kind="JPEG", mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


async def test_embeddings_are_those_of_the_oracle(pool, photographs, tmp_path):
    """Both see the same pixels: ours after shrinking, saved without loss."""
    names = {}
    for path in [*photographs["obama"], *photographs["biden"]]:
        prepared = tmp_path / f"{path.stem}.png"
        Image.fromarray(_worker.prepare(path.read_bytes())).save(prepared)
        names[path] = str(prepared)
    result = await trio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ORACLE, *names.values()], capture_output=True, timeout=100, text=True
        )
    )
    assert result.returncode == 0, result.stderr[-1000:]
    answers = json.loads(result.stdout.splitlines()[-1])
    assert len(answers) == 7
    for path, name in names.items():
        ours = await pool.embed(path.read_bytes(), DEADLINE_S)
        assert ours.dtype == np.float64
        assert ours.shape == (128,)
        [oracle] = answers[name]
        np.testing.assert_allclose(ours, oracle, rtol=0, atol=1e-6)


async def test_the_same_person_is_near_and_another_is_far(pool, obama, biden):
    template = await pool.embed(obama[0], DEADLINE_S)
    assert pool.same(template, await pool.embed(obama[1], DEADLINE_S))
    assert not pool.same(template, await pool.embed(biden, DEADLINE_S))


async def test_templates_survive_storage_and_still_match(pool, obama):
    template = await pool.embed(obama[0], DEADLINE_S)
    stored = to_bytes(template)
    assert len(stored) < 600
    assert (from_bytes(stored) == template).all()
    assert distance(from_bytes(stored), template) == 0


async def test_workers_never_import_what_must_not_be_imported(pool):
    pid, imported = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    assert pid != os.getpid()
    assert imported == []
    assert os.getpriority(os.PRIO_PROCESS, pid) >= os.getpriority(os.PRIO_PROCESS, 0) + _worker.NICENESS


def test_the_servers_process_loads_no_dlib():
    code = "import sys, drivers.face; print(sorted({'dlib', 'face_recognition', 'PIL'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr


async def test_no_face(pool):
    with pytest.raises(NoFace) as caught:
        await pool.embed(picture((400, 400)), DEADLINE_S)
    assert caught.value.code == "no_face"


def side_by_side(one, other, height):
    """Two photographs in one picture, the second one of the given height."""
    left, right = (Image.open(io.BytesIO(data)).convert("RGB") for data in (one, other))
    left = left.resize((left.width * 500 // left.height, 500))
    right = right.resize((right.width * height // right.height, height))
    both = Image.new("RGB", (left.width + right.width, 500))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    out = io.BytesIO()
    both.save(out, "PNG")
    return out.getvalue()


async def test_two_people_side_by_side_are_refused(pool, obama):
    with pytest.raises(SeveralFaces):
        await pool.embed(side_by_side(obama[0], obama[1], 400), DEADLINE_S)


async def test_somebody_far_behind_is_not_asked(pool, obama):
    near = await pool.embed(side_by_side(obama[0], obama[1], 130), DEADLINE_S)
    assert pool.same(near, await pool.embed(obama[0], DEADLINE_S))


async def test_a_photograph_turned_by_its_camera_is_turned_back(pool, obama):
    upright = Image.open(io.BytesIO(obama[0])).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    out = io.BytesIO()
    upright.rotate(90, expand=True).save(out, "JPEG", exif=exif, quality=95)
    assert pool.same(await pool.embed(out.getvalue(), DEADLINE_S), await pool.embed(obama[0], DEADLINE_S))


def bomb():
    """A PNG that claims 60 000 x 60 000 pixels."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xe0 not a picture",
        picture(kind="GIF", mode="P"),
        picture(kind="BMP"),
        picture(kind="TIFF"),
        picture((300, 300), "PNG")[:-40],
        bomb(),
        picture((7000, 6000), "PNG", "1"),
        b"x" * (_pool.PHOTO_MAX_BYTES + 1),
    ],
    ids=["empty", "garbage", "gif", "bmp", "tiff", "cut-off", "bomb", "42-megapixels", "too-many-bytes"],
)
async def test_bad_images_are_refused_and_the_worker_lives_on(pool, data):
    before, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    with pytest.raises(BadImage) as caught:
        await pool.embed(data, DEADLINE_S)
    assert caught.value.code == "bad_image"
    after, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    assert before == after
    assert pool.statistics().worker_deaths == 0


async def test_a_late_answer_is_a_timeout_and_harms_no_worker(pool):
    before, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    with pytest.raises(FaceTimeout) as caught:
        await pool._submit(_worker.sleep, 0.5, deadline_s=0.05)
    assert caught.value.code == "timeout"
    after, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    assert before == after
    assert pool.statistics().timeouts == 1


async def test_a_photograph_whose_asker_left_is_not_worked_on(pool):
    with trio.move_on_after(0.05):
        await pool._submit(_worker.sleep, 0.5, deadline_s=DEADLINE_S)
    start = trio.current_time()
    for _ in range(5):
        with pytest.raises(FaceTimeout):
            await pool._submit(_worker.sleep, 10, deadline_s=0.01)
    await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    assert trio.current_time() - start < 8


async def test_a_worker_killed_at_work_is_replaced_and_the_photograph_tried_again(pool, obama):
    pid, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    async with trio.open_nursery() as nursery:
        answers = []

        async def ask():
            answers.append(await pool.embed(obama[0], DEADLINE_S))

        nursery.start_soon(ask)
        await trio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
    assert answers[0].shape == (128,)
    assert pool.statistics().worker_deaths == 1
    other, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    assert other != pid


async def test_a_worker_killed_while_idle_is_replaced(pool, obama):
    pid, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    os.kill(pid, signal.SIGKILL)
    await trio.sleep(0.1)
    assert (await pool.embed(obama[0], DEADLINE_S)).shape == (128,)


async def test_a_photograph_that_kills_two_workers_is_given_up(pool):
    with pytest.raises(FaceUnavailable, match="died 2 times") as caught:
        await pool._submit(os._exit, 3, deadline_s=DEADLINE_S)
    assert caught.value.code == "unavailable"
    assert pool.statistics().worker_deaths == 2
    await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)


async def test_a_stuck_worker_is_killed(pool, monkeypatch):
    before, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    monkeypatch.setattr(_pool, "JOB_MAX_S", 0.2)
    with pytest.raises(FaceUnavailable, match="stuck"):
        await pool._submit(_worker.sleep, 60, deadline_s=DEADLINE_S)
    monkeypatch.undo()
    after, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    assert before != after


async def test_too_many_waiting_are_refused_at_once(pool, monkeypatch):
    await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
    refused = []

    async def ask():
        try:
            await pool._submit(_worker.sleep, 0.001, deadline_s=DEADLINE_S)
        except FaceUnavailable:
            refused.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(_pool.WAITING_MAX + 20):
            nursery.start_soon(ask)
    assert 15 <= len(refused) <= 20
    assert pool.statistics().overloaded == len(refused)


async def test_without_workers_faces_are_refused(nursery):
    pool = FacePool(0, 0.55)
    await nursery.start(pool.run)
    with pytest.raises(FaceUnavailable):
        await pool.embed(picture(), 1)
    nursery.cancel_scope.cancel()


async def test_missing_models_are_said_with_the_cure(monkeypatch):
    monkeypatch.setattr(_worker, "MODELS", "no_such_package_of_models")
    with pytest.raises(FaceUnavailable, match="uv sync"):
        await FacePool(1, 0.55).run()


async def test_workers_end_with_the_pool():
    async with trio.open_nursery() as nursery:
        pool = FacePool(1, 0.55)
        await nursery.start(pool.run)
        pid, _ = await pool._submit(_worker.loaded_modules, deadline_s=DEADLINE_S)
        nursery.cancel_scope.cancel()
    assert not is_running(pid)


ORPHAN = """
import trio
from drivers.face import FacePool, _worker
async def main():
    async with trio.open_nursery() as nursery:
        pool = FacePool(1, 0.55)
        await nursery.start(pool.run)
        print((await pool._submit(_worker.loaded_modules, deadline_s=60))[0], flush=True)
        await trio.sleep_forever()
if __name__ == "__main__":
    trio.run(main)
"""


def test_no_worker_outlives_a_killed_server(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(ORPHAN)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
    trio.run(until, lambda: not is_running(pid), 10)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x92\xa1x", to_bytes(np.zeros(128))[:-1], to_bytes(np.zeros(128)).replace(b"resnet-v1", b"resnet-v2")],
    ids=["empty", "cut", "short", "other-algorithm"],
)
def test_bad_templates_are_refused(data):
    with pytest.raises(TemplateError):
        from_bytes(data)


def test_templates_of_what_is_no_embedding_are_refused():
    for bad in (np.zeros(127), np.full(128, np.nan)):
        with pytest.raises(TemplateError):
            to_bytes(bad)
    nan = to_bytes(np.zeros(128))[: -128 * 4] + np.full(128, np.nan, dtype="<f4").tobytes()
    with pytest.raises(TemplateError, match="finite"):
        from_bytes(nan)
