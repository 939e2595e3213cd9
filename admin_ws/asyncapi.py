"""The console channel described for strangers: an AsyncAPI file and a page, both generated from the message types.

    python -m admin_ws.asyncapi          writes docs/console-api.asyncapi.json, docs/console-api.md and the page's types

Source of the form: AsyncAPI 3.0.0.  Methods and rights come from `protocols.console_methods` and
`protocols.console_rights`; a test compares the committed files with fresh ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from protocols.console import Delta, Done
from protocols.console_methods import METHODS, Method
from protocols.console_rights import ROLE_TABLE, allows

from . import typescript
from ._errors import REFUSALS
from ._peer import CloseCode

DOCS = Path(__file__).parents[1] / "docs"
JSON_TARGET, PAGE_TARGET = DOCS / "console-api.asyncapi.json", DOCS / "console-api.md"
SCHEMAS = "#/components/schemas/"
ERROR_NAME, SESSION_OVER_NAME = "Error", "session.over"

CLOSE_MEANINGS: dict[CloseCode, str] = {
    CloseCode.GOING_AWAY: "the server stops, or the client closed",
    CloseCode.WRONG_FORM: "text on a binary channel, or the reverse",
    CloseCode.TOO_BIG: "a message of more than 1 MiB",
    CloseCode.NO_LOGIN: "nobody logged in within 30 s",
    CloseCode.TOO_SLOW: "the outbox ran full, or pings stayed unanswered: the client does not read",
    CloseCode.FLOOD: "too many damaged or superfluous messages, or failed log-ins",
    CloseCode.FULL: "as many consoles as the server allows",
    CloseCode.REVOKED: "the session was ended by somebody: log in again",
}


def document() -> dict[str, Any]:
    """The AsyncAPI document as a value."""
    kinds = _kinds()
    _, components = msgspec.json.schema_components(kinds, ref_template=SCHEMAS + "{name}")
    schemas: dict[str, Any] = {name: _plain(schema) for name, schema in sorted(components.items())}
    schemas["RequestId"] = {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 64}, {"type": "null"}]}
    messages: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for method in METHODS.values():
        request, response = f"{method.name}.request", f"{method.name}.response"
        messages[request] = _message(method.name, _request_schema(method), _summary(method))
        messages[response] = _message(f"answer to {method.name}", _response_schema(method), "")
        operations[method.name] = {
            "action": "receive",
            "channel": {"$ref": "#/channels/console"},
            "summary": _summary(method),
            "messages": [{"$ref": f"#/channels/console/messages/{request}"}],
            "reply": {
                "channel": {"$ref": "#/channels/console"},
                "messages": [
                    {"$ref": f"#/channels/console/messages/{response}"},
                    {"$ref": f"#/channels/console/messages/{ERROR_NAME}"},
                ],
            },
            "x-permission": method.permission,
            "x-roles": [role for role in ROLE_TABLE if allows(role, method.permission)],
        }
    messages[ERROR_NAME] = _message("a call that failed", _error_schema(), "")
    messages["site.delta"] = _message("site.delta", _notification("site.delta", Delta), "What changed; see Delta.")
    messages[SESSION_OVER_NAME] = _message(SESSION_OVER_NAME, _notification(SESSION_OVER_NAME, None), "Log in again.")
    for name in ("site.delta", SESSION_OVER_NAME):
        operations[name] = {
            "action": "send",
            "channel": {"$ref": "#/channels/console"},
            "messages": [{"$ref": f"#/channels/console/messages/{name}"}],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Paifang console channel",
            "version": "1.0.0",
            "description": "JSON-RPC 2.0 over a WebSocket; subprotocol paifang.json or paifang.msgpack.",
        },
        "defaultContentType": "application/json",
        "servers": {"site": {"host": "localhost:8460", "protocol": "ws", "pathname": "/channel"}},
        "channels": {
            "console": {
                "address": "/channel",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _plain(value: Any) -> Any:
    """A schema for everybody: `type`, which names a message, may be left out, and patterns are JavaScript's."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _plain(each) for key, each in value.items()}
    if isinstance(found.get("required"), list):
        found["required"] = [name for name in found["required"] if name != "type"]
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace("\\Z", "$")
    return found


def _kinds() -> list[type[msgspec.Struct]]:
    found: dict[str, type[msgspec.Struct]] = {}
    for method in METHODS.values():
        for kind in (method.params, method.result):
            if kind is not None:
                found[kind.__name__] = kind
    return [*found.values(), Delta, Done]


def _message(title: str, payload: dict[str, Any], summary: str) -> dict[str, Any]:
    message = {"title": title, "payload": payload}
    return message | ({"summary": summary} if summary else {})


def _envelope(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"jsonrpc": {"const": "2.0"}, **properties},
        "required": ["jsonrpc", *required],
        "additionalProperties": False,
    }


def _ref(kind: type[msgspec.Struct] | None) -> dict[str, Any]:
    return {"type": "object"} if kind is None else {"$ref": SCHEMAS + kind.__name__}


def _request_schema(method: Method) -> dict[str, Any]:
    ref = {"$ref": SCHEMAS + "RequestId"}
    return _envelope(
        {"id": ref, "method": {"const": method.name}, "params": _ref(method.params)}, ["id", "method", "params"]
    )


def _response_schema(method: Method) -> dict[str, Any]:
    return _envelope({"id": {"$ref": SCHEMAS + "RequestId"}, "result": _ref(method.result)}, ["id", "result"])


def _notification(name: str, kind: type[msgspec.Struct] | None) -> dict[str, Any]:
    return _envelope({"method": {"const": name}, "params": _ref(kind)}, ["method", "params"])


def _error_schema() -> dict[str, Any]:
    words = {name: {"type": "string"} for name in ("code", "text_zh", "text_en", "trace", "hint")}
    error = {
        "type": "object",
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "data": {"type": "object", "properties": words, "required": ["code"]},
        },
        "required": ["code", "message", "data"],
    }
    return _envelope({"id": {"$ref": SCHEMAS + "RequestId"}, "error": error}, ["id", "error"])


def _summary(method: Method) -> str:
    text = (method.params.__doc__ or "") if method.params else ""
    first = " ".join(text.strip().partition("\n\n")[0].split())
    return first.removeprefix(f"{method.name}:").removeprefix(f"{method.name}.").strip()


# --- the page -----------------------------------------------------------------------------------------------------


def page() -> str:
    """The text of docs/console-api.md."""
    doc = document()
    parts = [INTRODUCTION]
    parts.append("## Methods\n\n| method | params | result | permission | second person |\n|---|---|---|---|---|\n")
    for method in METHODS.values():
        params = _link(method.params)
        row = (f"`{method.name}`", params, _link(method.result), f"`{method.permission}`" if method.permission else "",
               method.four_eyes)  # fmt: skip
        parts.append(f"| {' | '.join(row)} |\n")
    parts.append(
        "\nWho is logged in may call what needs no permission: it concerns one's own session. Every method that\n"
        "changes something is written into the audit log, whose hashes `paifang audit` verifies.\n\n"
        "## Who may what\n\n"
    )
    permissions = sorted({method.permission for method in METHODS.values() if method.permission})
    parts.append("| role | " + " | ".join(f"`{each}`" for each in permissions) + " |\n")
    parts.append("|---|" + "---|" * len(permissions) + "\n")
    for name, role in ROLE_TABLE.items():
        marks = ("✓" if allows(name, each) else "" for each in permissions)
        parts.append(f"| `{name}` {role.name_zh} | {' | '.join(marks)} |\n")
    parts.append("\n## Errors\n\n| `data.code` | JSON-RPC code | means |\n|---|---|---|\n")
    for code, (rpc, text_zh, text_en) in REFUSALS.items():
        parts.append(f"| `{code}` | {rpc} | {text_en} · {text_zh} |\n")
    parts.append("| `bad_request` | -32600, -32602, -32700 | not JSON-RPC 2.0, or params of the wrong shape |\n")
    parts.append("| anything else | -32000 | the actor's own refusal; `docs/refusals.md` lists those of gates |\n")
    parts.append("\n## Close codes\n\n| code | name | means |\n|---|---|---|\n")
    parts += [f"| {int(code)} | {code.name.lower()} | {text} |\n" for code, text in CLOSE_MEANINGS.items()]
    parts.append("\n## Messages\n\nFields without *optional* are always there. `type` names the message.\n")
    for name, schema in doc["components"]["schemas"].items():
        if "properties" in schema:
            parts.append(_describe(name, schema))
    return "".join(parts)


def _link(kind: type[msgspec.Struct] | None) -> str:
    return "object" if kind is None else f"[{kind.__name__}](#{kind.__name__.lower()})"


def _describe(name: str, schema: dict[str, Any]) -> str:
    parts = [f"\n### {name}\n\n"]
    if text := schema.get("description", ""):
        parts.append(" ".join(text.split()).replace("|", "\\|") + "\n\n")
    required = schema.get("required", [])
    for field, kind in schema["properties"].items():
        if field == "type":
            continue
        optional = "" if field in required else ", optional"
        parts.append(f"- `{field}`: {_words(kind)}{optional}\n")
    return "".join(parts)


def _words(kind: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in kind:
        target = kind["$ref"].removeprefix(SCHEMAS)
        return f"[{target}](#{target.lower()})"
    if "anyOf" in kind:
        return " or ".join(_words(each) for each in kind["anyOf"])
    if "enum" in kind:
        return " or ".join(f"`{each}`" for each in kind["enum"])
    if kind.get("type") == "array":
        items = _words(kind["items"]) if kind.get("items") else "anything"
        most = f", at most {kind['maxItems']}" if "maxItems" in kind else ""
        return f"list of {items}{most}"
    text = str(kind.get("type", "anything"))
    if "maxLength" in kind:
        text += f" of at most {kind['maxLength']} characters"
    if "minimum" in kind or "maximum" in kind:
        text += f" ({kind.get('minimum', '…')} to {kind.get('maximum', '…')})"
    if kind.get("contentEncoding"):
        text += f" in {kind['contentEncoding']}"
    return text


INTRODUCTION = """<!-- Generated by admin_ws/asyncapi.py (python -m admin_ws.asyncapi); do not edit. -->
# The console channel, for programs

Everything that the console's pages can do, a program can do with this page alone; the same in machine-readable form
is [console-api.asyncapi.json](console-api.asyncapi.json) (AsyncAPI 3.0.0, JSON Schema for every message).

## Connecting

A WebSocket at `/channel` on the page's own host and port (`ws:`, or `wss:` when the site has TLS). Ask for the
subprotocol `paifang.json` (text messages, JSON, binary fields in base64) or `paifang.msgpack` (binary messages, the
same objects in MessagePack). Compression is not offered. Send no `Origin` header; a browser's must be the page's
own. Answer pings: who leaves one unanswered for some 3 s is taken for somebody who does not read, and closed.

Messages are JSON-RPC 2.0 requests, one in a message, with an `id`; batches and notifications from a client are
refused.

```
→ {"jsonrpc":"2.0","id":1,"method":"session.login","params":{"user":"anna","password":"…"}}
← {"jsonrpc":"2.0","id":1,"result":{"type":"Session","token":"…","user":"anna","methods":["lane.open",…],…}}
→ {"jsonrpc":"2.0","id":2,"method":"site.subscribe","params":{}}
← {"jsonrpc":"2.0","id":2,"result":{"type":"Snapshot","epoch":"5f…","revision":4711,…}}
← {"jsonrpc":"2.0","method":"site.delta","params":{"type":"Delta","revision":4712,…}}
→ {"jsonrpc":"2.0","id":3,"method":"lane.open","params":{"lane":"north-1","pax":1,"reason":"wheelchair"}}
← {"jsonrpc":"2.0","id":3,"result":{"type":"Done","detail":"…"}}
```

Params are objects. `by`, `by_role` and `by_session` are filled in from the session, whatever is sent; `type` may be
left out. An answer has the request's `id` and either `result` or `error`; `error.data.code` is stable,
`data.text_zh` and `data.text_en` are for people, `data.trace` finds the request in the log. After `timeout` or
`unavailable` it is not known whether the command was carried out: repeat only what has a `key` or does no harm
twice.

## Log-in

`session.login` within 30 s. `otp_needed` asks for the six digits of the user's authenticator in `totp` (or a
recovery code); `locked` says how long to wait. With `must_change` in the session only `session.set_password` works,
beside the evacuation. `session.resume` with the `token` goes on after a break. A session ends 12 h after log-in, 2
h after the last command (looking at a page is none; the site's `[sessions]` may say other times, `ends_at` and
`idle_s` do), at `session.logout`, when its user is changed, or when a manager revokes it: `session.over` says so,
or close code 4005. Whoever was logged in can still trigger an evacuation over a connection whose session has
expired, but not over one that was revoked.

## Topics, revisions, and going on after a break

`site.subscribe` answers with a `Snapshot` as of its `revision`, then `site.delta` notifications follow. Topics are
`lanes`, `zones`, `devices`, `evacuation`, `flow` and `feed`; `topics` chooses some, none chooses all. Of state the
newest of each key (lane, zone, device, minute) goes out, of the feed every line, in order. There is at most one
delta in 50 ms, and with nothing to say one a second with the same `revision`, so that silence is known from a dead
line. With all topics `revision` counts by one.

After a break, subscribe with the last `epoch` and `revision`: the answer's `replaces` names the topics that are
there whole; of the others there is only what changed, to be merged as a delta is. Another `epoch` (the server was
started anew), or a gap that is larger than what the server remembers of the feed (500 lines), replaces what it
must.

## Limits

| what | bound | beyond it |
|---|---|---|
| a message | 1 MiB | closed 1009 |
| bytes received | before log-in 8 KiB/s (burst 32 KiB), then 64 KiB/s (burst 2 MiB) | read more slowly |
| requests | 20/s (burst 40), 8 under way | `rate_limited`, `busy`; again and again: closed 4003 |
| connections | 512, 320 of a host; 256 consoles; 16 of a host not logged in | 503 |
| outbox | 64 frames, 8 MiB; one send 10 s; three pings | closed 4002; nobody waits for a slow client |

"""


def main() -> None:
    """Write all generated files."""
    JSON_TARGET.write_text(json_text(), encoding="utf-8")
    PAGE_TARGET.write_text(page(), encoding="utf-8")
    typescript.TARGET.write_text(typescript.generate(), encoding="utf-8")
    for target in (JSON_TARGET, PAGE_TARGET, typescript.TARGET):
        sys.stdout.write(f"{target}\n")


def json_text() -> str:
    """The AsyncAPI document as the file has it."""
    return json.dumps(document(), ensure_ascii=False, indent=1, default=str) + "\n"


if __name__ == "__main__":
    main()
