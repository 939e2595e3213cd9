"""What is public is what `core` names, and nothing else."""

import importlib
import pkgutil
import types

import core


def test_all_is_sorted_and_everything_named_exists():
    assert [name for name in core.__all__ if not hasattr(core, name)] == []
    assert list(core.__all__) == sorted(core.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))


def test_every_public_name_is_named_and_nothing_leaks():
    names = {name: value for name, value in vars(core).items() if not name.startswith("_")}
    public = {name for name, value in names.items() if not isinstance(value, types.ModuleType)}
    assert public == set(core.__all__)


def test_everything_that_a_module_declares_public_is_re_exported():
    for module in pkgutil.iter_modules(core.__path__):
        if module.name == "testing":
            continue  # imported by tests only
        declared = getattr(importlib.import_module(f"core.{module.name}"), "__all__", ())
        assert set(declared) <= set(core.__all__), module.name


def test_public_names_have_docstrings():
    undocumented = [
        name
        for name in core.__all__
        if isinstance(value := getattr(core, name), type | types.FunctionType) and not (value.__doc__ or "").strip()
    ]
    assert undocumented == []


def test_the_error_tree_is_as_drawn():
    assert issubclass(core.Expired, core.AskTimeout)  # "certainly not carried out" is a special case of "no answer"
    for error in (core.MailboxFull, core.ActorDown, core.AskTimeout, core.TooManyRestarts):
        assert error.__bases__ == (core.ActorError,)
    assert str(core.MailboxFull("lane/1")) == "lane/1: The mailbox has no room for this message"
    assert str(core.ActorDown("lane/1", "gone")) == "lane/1: gone"
    assert core.ActorDown("lane/1").actor == "lane/1"
