"""Errors of the face pool; the tree stands in the package's docstring."""

from __future__ import annotations

from typing import ClassVar

from drivers.errors import DeviceError


class FaceError(DeviceError):
    """A photograph was not turned into an embedding."""

    code: ClassVar[str] = "unavailable"


class FaceUnusable(FaceError):
    """The photograph cannot be used; another one may do."""


class NoFace(FaceUnusable):
    """No face was found."""

    code = "no_face"


class SeveralFaces(FaceUnusable):
    """More than one person stands in front of the camera."""

    code = "several_faces"


class BadImage(FaceUnusable):
    """Not a JPEG or PNG, damaged, or too large."""

    code = "bad_image"


class FaceUnavailable(FaceError):
    """No worker could do it: switched off, overloaded, or broken twice in a row."""


class FaceTimeout(FaceUnavailable):
    """Not done by the deadline."""

    code = "timeout"


class TemplateError(FaceError):
    """Stored bytes are not an embedding of this algorithm."""

    code = "bad_template"
