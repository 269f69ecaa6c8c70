"""The OpenAPI description of the HTTP interface: one entry per route of `api.py`, kept true by a test."""

from __future__ import annotations

from typing import Any

from aurexd import __version__
from aurexd.candles import INTERVALS
from aurexd.server.credentials import needs_token
from aurexd.server.history import LIMIT, LIMIT_MAX, MEDIA_TYPES, TICK

_SYMBOL = {
    "name": "symbol",
    "in": "query",
    "schema": {"type": "string"},
    "description": "A configured symbol; without it, the first default one.",
}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _get(
    summary: str, answers: dict[str, str], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    responses = {code: {"description": text} for code, text in answers.items()}
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": responses}}


_UNKNOWN = "No such symbol; the message names those there are."
_BUSY = "The daemon cannot answer now; the message says why."

_PATHS = {
    "/": _get("The page that shows the live price.", {"200": "HTML"}),
    "/page/{name}": {
        **_get("What the page loads.", {"200": "The file", "404": "No such file"}),
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
    },
    "/healthz": _get("Whether the process works.", {"200": "The core actors answer.", "503": _BUSY}),
    "/readyz": _get(
        "Whether clients can be served; freshness and store state stand in the body.",
        {"200": "Serving.", "503": "Starting or draining."},
    ),
    "/api/v1/prices/latest": _get(
        "The newest price of one symbol, with the quality it has now: as in `price_update`, and its age.",
        {"200": "The price.", "404": _UNKNOWN, "503": "There is no price yet; the message says why."},
        [_SYMBOL],
    ),
    "/api/v1/prices/history": _get(
        "The published prices of one symbol as stored, one by one or as candles, oldest first; carries an ETag. JSON, "
        "or CSV where `Accept` names text/csv. `next`, and the header Link, lead to the candles before these.",
        {
            "200": "The prices or candles.",
            "304": "Unchanged.",
            "400": "A bad parameter.",
            "404": _UNKNOWN,
            "503": _BUSY,
        },
        [
            _SYMBOL,
            _query(
                "interval",
                {"type": "string", "enum": [TICK, *INTERVALS], "default": TICK},
                "tick: every price, one by one, by receive time; else candles, by their start.",
            ),
            _query(
                "hours",
                {"type": "number"},
                "How far back from `to`; default: 24 for ticks, as far as there are candles.",
            ),
            _query(
                "from", {"type": "string", "format": "date-time"}, "Start (inclusive); wins over `hours`."
            ),
            _query("to", {"type": "string", "format": "date-time"}, "End (exclusive); default: now."),
            _query(
                "limit",
                {"type": "integer", "default": LIMIT, "minimum": 1, "maximum": LIMIT_MAX},
                "At most this many, the newest of the range.",
            ),
            _query("format", {"type": "string", "enum": list(MEDIA_TYPES)}, "Wins over `Accept`."),
        ],
    ),
    "/api/v1/sources": _get(
        "Every source with its state, its last error and its next attempt; each symbol's carrier.",
        {"200": "The sources.", "503": _BUSY},
    ),
    "/api/v1/ws/stats": _get("Clients and messages, in total.", {"200": "The figures.", "503": _BUSY}),
    "/api/v1/ws/stream": _get(
        "The WebSocket; described by /api/v1/asyncapi.json.",
        {"101": "A WebSocket from here on.", "426": "Not a WebSocket request."},
    ),
    "/api/v1/openapi.json": _get("This document.", {"200": "OpenAPI 3.1."}),
    "/api/v1/asyncapi.json": _get("The WebSocket's messages.", {"200": "AsyncAPI 3.0."}),
}


_UNAUTHORIZED = {
    "401": {
        "description": "A token is needed, or the one that was shown is not valid; the message says why."
    },
    "403": {"description": "The token lacks the scope."},
}


def _guarded(path: str, item: dict[str, Any]) -> dict[str, Any]:
    """A path's item, with what is said of tokens there."""
    get = item["get"]
    if not needs_token(path):
        return {**item, "get": {**get, "security": []}}
    return {**item, "get": {**get, "responses": get["responses"] | _UNAUTHORIZED}}


def openapi_document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "aurexd", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": {path: _guarded(path, item) for path, item in _PATHS.items()},
        # Either: whether tokens are asked for is the operator's to say.
        "security": [{"token": []}, {}],
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A signed token with the scope `read`, where the daemon asks for one.",
                }
            }
        },
    }
