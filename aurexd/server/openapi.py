"""The OpenAPI description of the HTTP interface: what each route is for, around the types of `interface.py`."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import msgspec

from aurexd import __version__
from aurexd.protocol.alerts import (
    AlertAckData,
    AlertAckedData,
    AlertCreateData,
    AlertDeletedData,
    AlertListedData,
    AlertRuleData,
    AlertUpdateData,
)
from aurexd.protocol.data import MAX_CHANNELS
from aurexd.protocol.schema import definitions
from aurexd.server.credentials import needs_token
from aurexd.server.interface import (
    AlertHistory,
    AlertHistoryQuery,
    AlertWhy,
    CandleHistory,
    Error,
    Health,
    History,
    HistoryQuery,
    LatestPrice,
    Query,
    Readiness,
    RuleQuery,
    SourceHistory,
    SourceHistoryQuery,
    Sources,
    Stats,
    SymbolQuery,
    WhyPrice,
)


class Body(NamedTuple):
    """What an answer has in it."""

    meaning: str
    content: tuple[type[msgspec.Struct], ...] | str = ()
    """One of these types, as JSON; or a media type of whose content no more is said; or nothing."""
    headers: tuple[str, ...] = ()
    """Of `_HEADERS`."""
    csv: bool = False
    """Whether the same is to be had as CSV."""


class Operation(NamedTuple):
    """What is done at one path: a GET, unless its place says otherwise."""

    name: str
    summary: str
    answers: dict[int, Body]
    query: type[Query] | None = None
    others: tuple[dict[str, Any], ...] = ()
    """Parameters that are no field of a `Query`."""
    body: type[msgspec.Struct] | None = None
    """What is sent, as JSON."""
    without: frozenset[str] = frozenset()
    """Fields of it that the path has."""


_STOPPING = Body("The daemon stops; come again after `Retry-After`.", (Error,), ("Retry-After",))
_UNCHANGED = Body("Unchanged since the ETag in `If-None-Match`.", (), ("ETag",))
_BUSY = Body("The daemon stops, or cannot answer now; the message says why.", (Error,), ("Retry-After",))
_UNKNOWN = Body("No such symbol; the message names those there are.", (Error,))
_BAD_QUERY = Body("A parameter is not what it has to be; the message names it.", (Error,))

_BAD_BODY = Body("It makes no sense; the message names the field, and says what to write.", (Error,))
_BODY = {
    413: Body("The body is too large.", (Error,)),
    415: Body("The body is not called JSON.", (Error,)),
}
_FULL = Body("There are as many rules as are allowed.", (Error,))
_NO_RULE = Body("No such alert rule of yours.", (Error,))
_NOT_DURABLE = Body(
    "It cannot be made durable now, or the daemon stops; the message says why.", (Error,), ("Retry-After",)
)

_TURNED_AWAY = {
    421: Body("The Host is none of this server's names.", (Error,)),
    429: Body("Too many requests from this address.", (Error,), ("Retry-After",)),
}
"""Of every route."""

_UNAUTHORIZED = {
    401: Body(
        "A token is needed, or the one that was shown is not valid; the message says why.",
        (Error,),
        ("WWW-Authenticate",),
    ),
    403: Body("The token lacks the scope.", (Error,), ("WWW-Authenticate",)),
}
"""Of every route that needs a token, where tokens are asked for."""

_HEADERS = {
    "ETag": {
        "description": "Names this state of what was asked for, for `If-None-Match`.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": "Where the candles before these are, as `rel=next`.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token, for programs (RFC 6750).",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds until it is worth while to come again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Upgrade": {
        "description": "What to ask for instead.",
        "schema": {"type": "string", "const": "websocket"},
    },
}


def _other(
    place: str, name: str, description: str, *, required: bool = False, **schema: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
    }


OPERATIONS = {
    "/": Operation(
        "page",
        "The dashboard.",
        {200: Body("The page.", "text/html", ("ETag",)), 304: _UNCHANGED, 503: _STOPPING},
    ),
    "/page/{name}": Operation(
        "page_file",
        "What the page loads.",
        {
            200: Body("The file; it may be kept for ever.", "*/*", ("ETag",)),
            304: _UNCHANGED,
            404: Body("No such file.", (Error,)),
            503: _STOPPING,
        },
        others=(_other("path", "name", "Of the file.", required=True),),
    ),
    "/healthz": Operation(
        "health",
        "Whether the process works.",
        {200: Body("Its core actors answer.", (Health,)), 503: Body("They do not.", (Error,))},
    ),
    "/readyz": Operation(
        "readiness",
        "Whether clients can be served; freshness and store state stand in the body.",
        {
            200: Body("They can.", (Readiness,)),
            503: Body("It starts or stops, and says how far it is; or it cannot answer.", (Readiness, Error)),
        },
    ),
    "/metrics": Operation(
        "metrics",
        "All that is measured, for Prometheus: to who asks from the daemon's own machine, or with the scope `admin`.",
        {200: Body("Prometheus' text format, or OpenMetrics where `Accept` names it.", "*/*")},
    ),
    "/api/v1/prices/latest": Operation(
        "latest_price",
        "The newest price of one symbol, with the quality it has now: as in `price_update`, and its age.",
        {
            200: Body("The price.", (LatestPrice,)),
            404: _UNKNOWN,
            503: Body(
                "There is no price yet, or as elsewhere; the message says why.", (Error,), ("Retry-After",)
            ),
        },
        query=SymbolQuery,
    ),
    "/api/v1/prices/history": Operation(
        "price_history",
        "The published prices of one symbol as stored, one by one or as candles, oldest first. JSON, or CSV where "
        "`Accept` names text/csv. `next`, and the header Link, lead to the candles before these.",
        {
            200: Body("The prices or candles.", (History, CandleHistory), ("ETag", "Link"), csv=True),
            304: _UNCHANGED,
            400: _BAD_QUERY,
            404: _UNKNOWN,
            503: _BUSY,
        },
        query=HistoryQuery,
        others=(_other("header", "If-None-Match", "The ETag of an earlier answer."),),
    ),
    "/api/v1/prices/why": Operation(
        "why_price",
        "From which ticks and by which rules the price of one symbol comes: each source's part in it, or why it has "
        "none; what was refused; the calendar.",
        {200: Body("The reasons.", (WhyPrice,)), 404: _UNKNOWN, 503: _BUSY},
        query=SymbolQuery,
    ),
    "/api/v1/sources": Operation(
        "sources",
        "Every source with its state, its last error and its next attempt; each symbol's carrier.",
        {200: Body("The sources.", (Sources,)), 503: _BUSY},
    ),
    "/api/v1/sources/history": Operation(
        "source_history",
        "When symbols had another source, quality or market, and why, newest first: failovers, as far back as they are "
        "kept. `next` leads to those before.",
        {200: Body("The statuses.", (SourceHistory,)), 400: _BAD_QUERY, 404: _UNKNOWN, 503: _BUSY},
        query=SourceHistoryQuery,
    ),
    "/api/v1/alerts": Operation(
        "alert_rules",
        "The owner's alert rules, oldest first. All that is about alerts is its owner's alone.",
        {200: Body("The rules.", (AlertListedData,)), 503: _BUSY},
        query=RuleQuery,
    ),
    "POST /api/v1/alerts": Operation(
        "create_alert_rule",
        "Make an alert rule; docs/alerts.md says when it fires. The answer comes when it is on the disk.",
        {201: Body("The rule.", (AlertRuleData,)), 400: _BAD_BODY, **_BODY, 409: _FULL, 503: _NOT_DURABLE},
        body=AlertCreateData,
    ),
    "PATCH /api/v1/alerts/{rule_id}": Operation(
        "change_alert_rule",
        "Change an alert rule, snooze it, or wake it; what is not sent stays as it is.",
        {
            200: Body("The rule as it is now.", (AlertRuleData,)),
            400: _BAD_BODY,
            404: _NO_RULE,
            **_BODY,
            503: _NOT_DURABLE,
        },
        others=(_other("path", "rule_id", "Of the rule.", required=True),),
        body=AlertUpdateData,
        without=frozenset({"rule_id"}),
    ),
    "DELETE /api/v1/alerts/{rule_id}": Operation(
        "delete_alert_rule",
        "Delete an alert rule. What it has fired is kept.",
        {200: Body("It is gone.", (AlertDeletedData,)), 404: _NO_RULE, 503: _NOT_DURABLE},
        others=(_other("path", "rule_id", "Of the rule.", required=True),),
    ),
    "POST /api/v1/alerts/ack": Operation(
        "acknowledge_alerts",
        "Say that alerts have arrived: they are not sent again.",
        {200: Body("Those that were named.", (AlertAckedData,)), 400: _BAD_BODY, **_BODY, 503: _NOT_DURABLE},
        body=AlertAckData,
    ),
    "/api/v1/alerts/history": Operation(
        "alert_history",
        "The alerts that have fired, newest first. `next` leads to those before.",
        {200: Body("The alerts.", (AlertHistory,)), 400: _BAD_QUERY, 503: _BUSY},
        query=AlertHistoryQuery,
    ),
    "/api/v1/alerts/{alert_id}/why": Operation(
        "alert_why",
        "Why an alert fired: the rule as it was, and the prices that it was judged by.",
        {200: Body("Why.", (AlertWhy,)), 404: Body("No such alert of yours.", (Error,)), 503: _BUSY},
        others=(_other("path", "alert_id", "Of the alert.", required=True),),
    ),
    "/api/v1/stream": Operation(
        "event_stream",
        "The WebSocket's messages as server-sent events, for who cannot have a WebSocket. Each event's data is "
        "one message; docs/protocol.md has them.",
        {
            200: Body("Events, until either end closes.", "text/event-stream"),
            400: Body("A channel that is not served; the message says which there are.", (Error,)),
            403: Body("The token lacks the scope, or pages of this origin may not connect.", (Error,)),
        },
        others=(
            _other(
                "query",
                "channels",
                f"At most {MAX_CHANNELS} names with commas between, as `price:XAUUSD,status:XAUUSD`; without it, "
                "price and status of the default symbols.",
            ),
            _other(
                "query",
                "resume",
                "Where the client was, be it over the WebSocket: the `update_count` of each channel's last message, as "
                "`price:XAUUSD@12340,status:XAUUSD@17`. What was missed since then follows. `Last-Event-ID` wins.",
            ),
            _other("query", "epoch", "Of these counts, as in `welcome`."),
            _other(
                "header", "Last-Event-ID", "The `id` of the last event: what was missed since then follows."
            ),
        ),
    ),
    "/api/v1/ws/stats": Operation(
        "stats", "Clients, messages, rates and delays.", {200: Body("The figures.", (Stats,)), 503: _BUSY}
    ),
    "/api/v1/ws/stream": Operation(
        "websocket",
        "The WebSocket; described by /api/v1/asyncapi.json.",
        {
            101: Body("A WebSocket from here on."),
            426: Body("Not a WebSocket request.", (Error,), ("Upgrade",)),
            503: _STOPPING,
        },
    ),
    "/api/v1/openapi.json": Operation(
        "openapi", "This document.", {200: Body("OpenAPI 3.1.", "application/json"), 503: _STOPPING}
    ),
    "/api/v1/asyncapi.json": Operation(
        "asyncapi",
        "The WebSocket's messages.",
        {200: Body("AsyncAPI 3.0.", "application/json"), 503: _STOPPING},
    ),
}
"""By path, with its method before it where that is not GET. A test holds them against the routes, and every answer that
any test gets against its description."""


@functools.cache
def openapi_document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    bodies = {
        kind
        for operation in OPERATIONS.values()
        for body in operation.answers.values()
        if not isinstance(body.content, str)
        for kind in body.content
    } | {operation.body for operation in OPERATIONS.values() if operation.body is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "aurexd",
            "version": __version__,
            "description": "Real-time gold prices over HTTP, for who asks now and then.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        # Either: whether tokens are asked for is the operator's to say.
        "security": [{"token": []}, {}],
        "paths": _paths(),
        "components": {
            "schemas": definitions(
                sorted(bodies, key=lambda kind: kind.__name__), "#/components/schemas/{name}"
            ),
            "headers": _HEADERS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A signed token with the scope `read`, where the daemon asks for one.",
                }
            },
        },
    }


def _paths() -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for place, operation in OPERATIONS.items():
        method, _, path = place.rpartition(" ")
        paths.setdefault(path, {})[method.lower() or "get"] = _operation(path, operation)
    return paths


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    guarded = needs_token(path)
    answers = sorted((_TURNED_AWAY | (_UNAUTHORIZED if guarded else {}) | operation.answers).items())
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        **({} if guarded else {"security": []}),
        "parameters": [*(_parameters(operation.query) if operation.query else ()), *operation.others],
        **({"requestBody": _request_body(operation)} if operation.body is not None else {}),
        "responses": {
            **{str(status): _response(body) for status, body in answers},
            "default": _response(Body("Anything else; the message says what.", (Error,))),
        },
    }


def _request_body(operation: Operation) -> dict[str, Any]:
    assert operation.body is not None
    schema: dict[str, Any] = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
    if operation.without:
        # The path has these, so that they are not asked for again.
        whole = definitions([operation.body], "#/components/schemas/{name}")[operation.body.__name__]
        schema = {
            "type": "object",
            "description": whole["description"],
            "properties": {n: s for n, s in whole["properties"].items() if n not in operation.without},
            "additionalProperties": False,
        }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _parameters(query: type[Query]) -> list[dict[str, Any]]:
    schema = definitions([query], "#/components/schemas/{name}")[query.__name__]
    parameters = []
    for name, described in schema["properties"].items():
        taken = dict(described)
        description = taken.pop("description")
        parameters.append(
            {"name": name, "in": "query", "required": False, "description": description, "schema": taken}
        )
    return parameters


def _response(body: Body) -> dict[str, Any]:
    response: dict[str, Any] = {"description": body.meaning}
    if body.headers:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in body.headers}
    if isinstance(body.content, str):
        response["content"] = {body.content: {}}
    elif body.content:
        schemas = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in body.content]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        response["content"] = {"application/json": {"schema": schema}}
        if body.csv:
            response["content"]["text/csv"] = {"schema": {"type": "string"}}
    return response
