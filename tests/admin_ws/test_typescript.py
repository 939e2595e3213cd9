"""The page's types are the server's."""

from __future__ import annotations

import pytest

from admin_ws import typescript
from protocols import console


def test_the_committed_types_are_those_of_the_servers_messages() -> None:
    committed = typescript.TARGET.read_text(encoding="utf-8")
    assert committed == typescript.generate(), "run: python -m admin_ws.typescript"


def test_every_message_of_the_vocabulary_has_an_interface() -> None:
    text = typescript.generate()
    names = [kind.__name__ for kind in typescript.messages()]
    assert {"Snapshot", "Delta", "Sell", "EvacuationView"} <= set(names)
    assert all(f"export interface {name} {{" in text for name in names)
    assert len(names) == len(set(names))


def test_a_type_that_has_no_counterpart_is_an_error_and_not_any() -> None:
    with pytest.raises(TypeError, match="no TypeScript"):
        typescript._type({"type": "object", "additionalProperties": {}})


def test_optional_params_are_those_with_a_default() -> None:
    text = typescript.generate()
    assert 'export type SetModeParams = Params<SetMode, "lane" | "mode" | "reason">;' in text
    assert "export type TriggerParams = Params<Trigger, never>;" in text
    assert console.Trigger().by == ""
