"""The published description, held against what the port really answers: `Served.fetch` does that for every test."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema

from aurexd.server.openapi import openapi_document


def operation(target: str) -> dict[str, Any] | None:
    """The description of a GET of this target; None for a path that is not published."""
    path = target.partition("?")[0]
    path = "/page/{name}" if path.startswith("/page/") and path.count("/") == 2 else path
    item: dict[str, Any] | None = openapi_document()["paths"].get(path)
    return item and item["get"]


def check(target: str, status: int, headers: dict[str, str], body: Any) -> None:
    """Fails where an answer is another than the description says; `body` is the JSON, or None for what is none."""
    described = operation(target)
    if described is None:
        return
    responses = described["responses"]
    response = responses.get(str(status), responses["default"])
    content = response.get("content", {})
    kind = headers.get("content-type", "").partition(";")[0]
    assert kind in content or "*/*" in content or not (kind or content), f"{target}: {kind} is not described"
    if kind == "application/json" and (schema := content.get(kind, {}).get("schema")):
        validator(schema["$ref"] if "$ref" in schema else tuple(s["$ref"] for s in schema["anyOf"])).validate(
            body
        )


@functools.cache
def validator(references: str | tuple[str, ...]) -> jsonschema.protocols.Validator:
    """Of a body that is one of these; a field that is not described is wrong here."""
    alternatives = [{"$ref": r} for r in ([references] if isinstance(references, str) else references)]
    schema = {
        "anyOf": alternatives,
        "components": {"schemas": _closed(openapi_document()["components"]["schemas"])},
    }
    kind = jsonschema.Draft202012Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def _closed(schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"additionalProperties": False, **schema} if "properties" in schema else schema
        for name, schema in schemas.items()
    }
