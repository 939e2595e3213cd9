"""What runs inside a worker process: one photograph in, 128 numbers or the reason why not.

dlib is imported here and nowhere else, on first use, so that the server's own process never loads it.  Results are
plain tuples: an exception would have to be pickled, and could carry the photograph in its traceback.
"""

from __future__ import annotations

import importlib.util
import io
import os
import time
import warnings
from pathlib import Path
from typing import Any

NICENESS = 10  # gates go before faces
SIDE_MAX = 800  # pixels; a larger photograph is shrunk before the detector sees it
UPSAMPLE = 1  # as `face_recognition` does: faces of 40 pixels are found
BACKGROUND_MAX = 0.4  # a second face below this share of the first one's area stands behind, and is not asked
PIXELS_MAX = 40_000_000
FORMATS = ("JPEG", "PNG")
MODELS = "face_recognition_models"
LANDMARKS_FILE = "shape_predictor_5_face_landmarks.dat"
ENCODER_FILE = "dlib_face_recognition_resnet_model_v1.dat"

Result = tuple[str, bytes | str]  # ("ok", 128 little-endian doubles) or (error code, reason)

_models: tuple[Any, Any, Any] | None = None


def models_folder() -> Path:
    """Where the model files are: beside the package that carries them, which is found but not imported.

    Raises FileNotFoundError with the cure.
    """
    spec = importlib.util.find_spec(MODELS)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    if not places:
        raise FileNotFoundError(f"the package {MODELS} is not installed; run `uv sync`")
    folder = Path(places[0]) / "models"
    for name in (LANDMARKS_FILE, ENCODER_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; reinstall {MODELS}")
    return folder


def start() -> None:
    """First thing in a worker: step behind the server, load the models."""
    os.nice(NICENESS)
    _load()


def embed(photo: bytes) -> Result:
    """The embedding of the one face in `photo`."""
    try:
        image = _decode(photo)
    except Exception as exc:  # decoders fail in many ways on bytes from outside; none is more than a bad image
        return "bad_image", f"{type(exc).__name__}: {exc}"[:200]
    detector, landmarks, encoder = _load()
    faces = sorted(detector(image, UPSAMPLE), key=lambda face: -face.area())
    if not faces:
        return "no_face", "no face was found"
    if len(faces) > 1 and faces[1].area() > BACKGROUND_MAX * faces[0].area():
        return "several_faces", f"{len(faces)} faces were found"
    values = encoder.compute_face_descriptor(image, landmarks(image, faces[0]), 1)
    import numpy as np

    return "ok", np.array(values, dtype="<f8").tobytes()


def sleep(seconds: float) -> Result:
    """For tests of the pool: a job that takes its time."""
    time.sleep(seconds)
    return "no_face", "slept"


def loaded_modules() -> tuple[int, list[str]]:
    """This worker's process id, and what must never be imported but was."""
    import sys

    return os.getpid(), sorted({"face_recognition", MODELS, "pkg_resources"} & set(sys.modules))


def prepare(photo: bytes) -> Any:
    """The picture as the detector sees it: RGB, upright, at most SIDE_MAX pixels a side, as an array."""
    return _decode(photo)


def _decode(photo: bytes) -> Any:
    import numpy as np
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(photo), formats=FORMATS) as picture:  # reads the header only
            width, height = picture.size
            if width * height > PIXELS_MAX:
                raise ValueError(f"{width} x {height} pixels, at most {PIXELS_MAX} are allowed")
            upright = ImageOps.exif_transpose(picture)
            rgb = upright.convert("RGB")
    rgb.thumbnail((SIDE_MAX, SIDE_MAX), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(rgb)


def _load() -> tuple[Any, Any, Any]:
    global _models
    if _models is None:
        import dlib

        folder = models_folder()
        _models = (
            dlib.get_frontal_face_detector(),
            dlib.shape_predictor(str(folder / LANDMARKS_FILE)),
            dlib.face_recognition_model_v1(str(folder / ENCODER_FILE)),
        )
    return _models
