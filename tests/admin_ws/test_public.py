"""What `admin_ws` offers is what it says."""

from __future__ import annotations

import inspect

import admin_ws


def test_the_public_names_are_those_that_the_package_imports() -> None:
    imported = {n for n, value in vars(admin_ws).items() if not n.startswith("_") and not inspect.ismodule(value)}
    assert set(admin_ws.__all__) == imported
    assert len(admin_ws.__all__) == len(set(admin_ws.__all__))


def test_every_public_class_says_what_it_is_for() -> None:
    for name in admin_ws.__all__:
        assert (inspect.getdoc(getattr(admin_ws, name)) or "").strip(), name
