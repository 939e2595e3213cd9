"""What strangers are told of the channel is what the server's own types and tables say."""

from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest

from admin_ws import asyncapi
from admin_ws._errors import REFUSALS
from admin_ws._peer import CloseCode
from protocols.console_methods import METHODS
from protocols.console_rights import ROLE_TABLE
from protocols.jsonrpc import Wire, encode_error, encode_notification, encode_request, encode_result

DOCUMENT = asyncapi.document()


def validator(message: str) -> jsonschema.Draft202012Validator:
    payload = DOCUMENT["components"]["messages"][message]["payload"]
    return jsonschema.Draft202012Validator({**payload, "components": DOCUMENT["components"]})


def test_the_committed_files_are_those_of_the_servers_messages() -> None:
    assert asyncapi.JSON_TARGET.read_text(encoding="utf-8") == asyncapi.json_text(), "run: python -m admin_ws.asyncapi"
    assert asyncapi.PAGE_TARGET.read_text(encoding="utf-8") == asyncapi.page(), "run: python -m admin_ws.asyncapi"


def test_the_file_is_json_and_every_reference_in_it_leads_somewhere() -> None:
    document = json.loads(asyncapi.json_text())

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                target: object = document
                for step in value["$ref"].removeprefix("#/").split("/"):
                    assert isinstance(target, dict) and step in target, value["$ref"]
                    target = target[step]
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(document)
    assert set(document["operations"]) == {*METHODS, "site.delta", "session.over"}


@pytest.mark.parametrize("name", list(DOCUMENT["components"]["messages"]))
def test_every_message_has_a_sound_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(DOCUMENT["components"]["messages"][name]["payload"])
    assert not validator(name).is_valid({"jsonrpc": "1.0"})


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.params is not None])
def test_params_that_the_server_takes_fit_the_schema_and_others_do_not(name: str) -> None:
    method = METHODS[name]
    assert method.params is not None
    required = {
        field.encode_name for field in msgspec.structs.fields(method.params)
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
    }  # fmt: skip
    wrong = {"jsonrpc": "2.0", "id": 1, "method": name, "params": [] if not required else {}}
    assert not validator(f"{name}.request").is_valid(wrong)


def test_results_errors_and_notifications_as_the_server_encodes_them_fit() -> None:
    from protocols import console as c

    done = json.loads(encode_result(Wire.JSON, 7, c.Done(detail="told")))
    validator("evacuation.trigger.response").validate(done)
    error = json.loads(encode_error(Wire.JSON, None, -32001, "no", {"code": "forbidden"}))
    validator("Error").validate(error)
    delta = c.Delta(revision=1, server_at=2.0, zones=[c.ZoneView(zone="a", name="A", inside=1, held=0, limit=None,
                                                                 state="normal")])  # fmt: skip
    validator("site.delta").validate(json.loads(encode_notification(Wire.JSON, "site.delta", delta)))
    request = json.loads(encode_request(Wire.JSON, 1, "session.login", c.Login(user="a", password="b")))
    validator("session.login.request").validate(request)
    request["params"]["user"] = "x" * 65
    assert not validator("session.login.request").is_valid(request)


def test_the_page_names_every_method_role_refusal_and_close_code() -> None:
    page = asyncapi.page()
    for word in (*METHODS, *ROLE_TABLE, *REFUSALS):
        assert f"`{word}`" in page
    for code in CloseCode:
        assert f"| {int(code)} | {code.name.lower()} |" in page
