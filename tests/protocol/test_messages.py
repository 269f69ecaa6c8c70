"""The catalogue and its golden examples: one of each type, and the bytes it has on the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from aurexd.protocol import messages
from aurexd.protocol.channels import KINDS
from aurexd.protocol.schema import ANSWERS, CLIENT_MESSAGES, SERVER_MESSAGES, tag_of

GOLDEN = {
    path.name.removesuffix(".json"): path.read_text() for path in (Path(__file__).parent / "golden").iterdir()
}
TYPES = {tag_of(kind): kind for kind in CLIENT_MESSAGES + SERVER_MESSAGES}
UNION = {
    tag: messages.ClientMessage if kind in CLIENT_MESSAGES else messages.ServerMessage
    for tag, kind in TYPES.items()
}

to_json = msgspec.json.Encoder(decimal_format="number").encode
to_msgpack = msgspec.msgpack.Encoder(decimal_format="number").encode


def decoded(tag: str) -> Any:
    return msgspec.json.decode(GOLDEN[tag], type=UNION[tag])


def test_every_message_has_a_golden_example_and_every_example_a_message() -> None:
    assert sorted(GOLDEN) == sorted(TYPES)


@pytest.mark.parametrize("tag", sorted(GOLDEN))
def test_a_golden_example_decodes_to_its_type_and_encodes_to_the_same_bytes(tag: str) -> None:
    message = decoded(tag)
    assert type(message) is TYPES[tag]
    assert to_json(message).decode() + "\n" == GOLDEN[tag]


@pytest.mark.parametrize("tag", sorted(GOLDEN))
def test_messagepack_carries_the_same_message_in_the_same_shape(tag: str) -> None:
    packed = to_msgpack(decoded(tag))
    assert msgspec.msgpack.decode(packed, type=UNION[tag]) == decoded(tag)
    assert msgspec.msgpack.decode(packed) == json.loads(GOLDEN[tag])


@pytest.mark.parametrize("tag", sorted(tag for tag, kind in TYPES.items() if kind in SERVER_MESSAGES))
def test_a_client_that_ignores_unknown_fields_reads_a_later_release(tag: str) -> None:
    message = json.loads(GOLDEN[tag])
    message["later"] = message["data"]["later"] = 1
    assert msgspec.convert(message, UNION[tag]) == decoded(tag)


@pytest.mark.parametrize("tag", sorted(tag for tag, kind in TYPES.items() if kind in CLIENT_MESSAGES))
@pytest.mark.parametrize("place", ["envelope", "data"])
def test_an_unknown_field_from_a_client_is_refused(tag: str, place: str) -> None:
    message = json.loads(GOLDEN[tag])
    (message if place == "envelope" else message["data"])["surprise"] = 1
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.convert(message, UNION[tag])


@pytest.mark.parametrize("tag", sorted(GOLDEN))
def test_the_fields_of_the_envelope_come_in_one_order(tag: str) -> None:
    order = ["type", "id", "data", "timestamp", "update_count", "conflated"]
    names = list(json.loads(GOLDEN[tag]))
    assert names == [name for name in order if name in names]


def test_every_request_has_an_answer_of_its_own() -> None:
    assert set(ANSWERS) == set(CLIENT_MESSAGES)
    assert [*ANSWERS.values(), messages.Error] == list(get_args(messages.AnswerMessage))


def test_every_channel_sends_a_message_of_its_own() -> None:
    updates = {tag_of(kind): kind for kind in get_args(messages.ChannelMessage)}
    assert [kind.message for kind in KINDS.values()] == list(updates)
    for kind in KINDS.values():
        assert kind.later == (updates[kind.message] in messages.LATER)


def test_messages_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        decoded("price_update").update_count = 1
