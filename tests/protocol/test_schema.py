"""The published schemas: valid in themselves, true of every golden example, and naming every message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aurexd.protocol.schema import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    asyncapi_document,
    json_schema,
    tag_of,
)

GOLDEN = Path(__file__).parent / "golden"
EVERY = CLIENT_MESSAGES + SERVER_MESSAGES
TAGS = [tag_of(kind) for kind in EVERY]


def golden(tag: str) -> Any:
    return json.loads((GOLDEN / f"{tag}.json").read_text())


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


# --- JSON Schema ---


def test_the_json_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("tag", TAGS)
def test_every_example_fits_the_schema_of_its_message_and_of_no_other(tag: str) -> None:
    definitions = json_schema()["$defs"]
    fits = []
    for kind in EVERY:
        schema = {"$ref": f"#/$defs/{kind.__name__}", "$defs": definitions}
        if jsonschema.Draft202012Validator(schema).is_valid(golden(tag)):
            fits.append(tag_of(kind))
    assert fits == [tag]


def test_the_schema_knows_numbers_and_unknown_fields() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    price = golden("price_update")
    price["data"]["close"] = "2043.50"
    assert not validator.is_valid(price)
    assert validator.is_valid(golden("price_update") | {"later": 1})
    assert not validator.is_valid(golden("subscribe") | {"later": 1})


# --- AsyncAPI ---


def test_the_asyncapi_document_names_every_message_once() -> None:
    document = asyncapi_document()
    assert document["asyncapi"] == "3.0.0"
    assert [message["name"] for message in document["components"]["messages"].values()] == TAGS
    assert list(document["channels"]["stream"]["messages"]) == list(document["components"]["messages"])


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi_document()
    found = set(references(document))
    assert found
    for reference in found:
        assert isinstance(resolve(document, reference), dict)


def test_every_message_travels_in_the_direction_it_is_meant_for() -> None:
    operations = asyncapi_document()["operations"].values()

    def names(action: str, *, replies: bool) -> set[str]:
        parts = [
            (o.get("reply", {}) if replies else o)["messages"] for o in operations if o["action"] == action
        ]
        return {reference["$ref"].rpartition("/")[2] for part in parts for reference in part}

    asked, answered = names("receive", replies=False), names("receive", replies=True)
    assert asked == {kind.__name__ for kind in CLIENT_MESSAGES}
    assert answered | names("send", replies=False) == {kind.__name__ for kind in SERVER_MESSAGES}


@pytest.mark.parametrize("kind", EVERY, ids=tag_of)
def test_the_asyncapi_payload_of_a_message_fits_its_example(kind: type) -> None:
    document = asyncapi_document()
    payload = document["components"]["messages"][kind.__name__]["payload"]
    schema = {**payload, "components": {"schemas": document["components"]["schemas"]}}
    jsonschema.Draft202012Validator(schema).validate(golden(tag_of(kind)))
