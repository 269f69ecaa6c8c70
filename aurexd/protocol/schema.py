"""The protocol for machines: a JSON Schema of every message, and the AsyncAPI document around it.

Both are made from the types of `messages.py`; nothing about a message is written down here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from aurexd import __version__
from aurexd.protocol import messages
from aurexd.protocol.codec import JSON, MSGPACK

CLIENT_MESSAGES: tuple[type[msgspec.Struct], ...] = get_args(messages.ClientMessage)
SERVER_MESSAGES: tuple[type[msgspec.Struct], ...] = get_args(messages.ServerMessage)

ANSWERS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    messages.Auth: messages.Authenticated,
    messages.Subscribe: messages.Subscribed,
    messages.Unsubscribe: messages.Unsubscribed,
    messages.Snapshot: messages.SnapshotSent,
    messages.Ping: messages.Pong,
    messages.AlertCreate: messages.AlertCreated,
    messages.AlertList: messages.AlertListed,
    messages.AlertUpdate: messages.AlertUpdated,
    messages.AlertDelete: messages.AlertDeleted,
    messages.AlertAck: messages.AlertAcked,
}
"""What answers each request, where it is not `error`."""

ENDPOINT = "/api/v1/ws/stream"


def tag_of(message: type[msgspec.Struct]) -> str:
    """A message's `type` on the wire."""
    return str(message.__struct_config__.tag)


def summary_of(kind: type) -> str:
    """A type's docstring, on one line."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split())


@functools.cache
def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of any message, in either direction."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aurex.v1",
        "description": "Every message of the aurexd WebSocket.",
        "anyOf": [{"$ref": "#/$defs/ClientMessage"}, {"$ref": "#/$defs/ServerMessage"}],
        "$defs": {
            "ClientMessage": {"anyOf": _references(CLIENT_MESSAGES, "#/$defs/")},
            "ServerMessage": {"anyOf": _references(SERVER_MESSAGES, "#/$defs/")},
            **definitions(CLIENT_MESSAGES + SERVER_MESSAGES, "#/$defs/{name}"),
        },
    }


@functools.cache
def asyncapi_document() -> dict[str, Any]:
    """AsyncAPI 3.0 of the WebSocket, as the daemon sees it: it receives what clients send."""
    every = CLIENT_MESSAGES + SERVER_MESSAGES
    unasked = tuple(kind for kind in SERVER_MESSAGES if kind not in ANSWERS.values())
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "aurexd",
            "version": __version__,
            "description": "Real-time gold prices over a WebSocket. docs/protocol.md says what it means.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": {
            "local": {"host": "localhost:8000", "protocol": "ws", "description": "As configured by default."},
            "guarded": {
                "host": "localhost:8000",
                "protocol": "ws",
                "description": "Where tokens are asked for; a subprotocol or an `auth` message may show one, too.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            },
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": ENDPOINT,
                "description": (
                    f"Subprotocols: {JSON.subprotocol} (text frames; also when none is offered) and "
                    f"{MSGPACK.subprotocol} (binary frames, the same messages as MessagePack)."
                ),
                "messages": {
                    kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in every
                },
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            **{f"receive{kind.__name__}": _receive(kind, answer) for kind, answer in ANSWERS.items()},
            **{f"send{kind.__name__}": _send(kind) for kind in unasked},
        },
        "components": {
            "messages": {
                kind.__name__: {
                    "name": tag_of(kind),
                    "title": kind.__name__,
                    "summary": summary_of(kind),
                    "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
                }
                for kind in every
            },
            "schemas": definitions(every, "#/components/schemas/{name}"),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _receive(request: type[msgspec.Struct], answer: type[msgspec.Struct]) -> dict[str, Any]:
    channel = {"$ref": "#/channels/stream"}
    return {
        "action": "receive",
        "channel": channel,
        "summary": summary_of(request),
        "messages": _references((request,), "#/channels/stream/messages/"),
        "reply": {
            "channel": channel,
            "messages": _references((answer, messages.Error), "#/channels/stream/messages/"),
        },
    }


def _send(message: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": "#/channels/stream"},
        "summary": summary_of(message),
        "messages": _references((message,), "#/channels/stream/messages/"),
    }


def _references(kinds: tuple[type[msgspec.Struct], ...], prefix: str) -> list[dict[str, str]]:
    return [{"$ref": prefix + kind.__name__} for kind in kinds]


def definitions(kinds: Iterable[type[msgspec.Struct]], ref_template: str) -> dict[str, Any]:
    """The schema of each type and of everything in it, by the types' names."""
    _, found = msgspec.json.schema_components(kinds, ref_template=ref_template)
    adapted: dict[str, Any] = _adapt(found)
    return adapted


def _adapt(schema: Any) -> Any:
    """msgspec's schema as it holds for the wire, and without what AsyncAPI does not allow.

    Decimals are numbers there; msgspec describes its default, text. OpenAPI's `discriminator` means something
    else in AsyncAPI, and says nothing that the alternatives' own `enum` does not.
    """
    match schema:
        case {"type": "string", "format": "decimal", **rest}:
            return {"type": "number", **rest}
        case dict():
            return {key: _adapt(value) for key, value in schema.items() if key != "discriminator"}
        case list():
            return [_adapt(item) for item in schema]
        case _:
            return schema
