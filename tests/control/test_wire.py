"""Varlink's messages: cut, read, written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.control import wire
from aurexd.control.interface import CONTROL
from aurexd.control.service import Service
from aurexd.errors import VarlinkError

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=30).filter(lambda b: b"\0" not in b), max_size=6), st.data())
def test_messages_are_the_same_however_they_arrive(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(message + b"\0" for message in messages)
    reader, got, place = wire.Messages(), [], 0
    while place < len(stream):
        step = data.draw(st.integers(1, len(stream) - place))
        got += reader.feed(stream[place : place + step])
        place += step
    assert got == messages
    assert not reader.begun


def test_a_message_that_is_too_long_is_refused_before_its_end() -> None:
    reader = wire.Messages(100)
    assert reader.feed(b"x" * 100) == []
    assert reader.begun
    with pytest.raises(ValueError, match="more than 100 bytes"):
        reader.feed(b"x")
    with pytest.raises(ValueError, match="more than 100 bytes"):
        wire.Messages(100).feed(b"x" * 101 + b"\0")


@given(st.dictionaries(st.text(max_size=8), values, max_size=4), st.booleans())
def test_what_is_called_is_read(parameters: dict[str, Any], more: bool) -> None:
    message = wire.call("a.b.C", parameters, more=more, oneway=not more)
    call = wire.read_call(message.removesuffix(b"\0"))
    assert (call.method, bool(call.more), bool(call.oneway)) == ("a.b.C", more, not more)
    assert json.loads(bytes(call.parameters)) == parameters


@given(st.dictionaries(st.text(max_size=8), values, max_size=4), st.booleans())
def test_what_is_replied_is_read(parameters: dict[str, Any], continues: bool) -> None:
    reply = wire.read_reply(wire.reply(parameters, continues=continues).removesuffix(b"\0"))
    assert (reply.parameters, bool(reply.continues), reply.error) == (parameters, continues, None)


@given(st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()))
def test_nonsense_is_no_call_and_nothing_else(message: bytes) -> None:
    try:
        asked = Service(CONTROL).read(message).asked
    except ValueError:
        return
    assert isinstance(asked, VarlinkError)


@pytest.mark.parametrize(
    "message", [b'{"method":"a.B","parameters":' + b"[" * 30_000, b"[" * 60_000, b"\xff" * 100]
)
def test_deep_and_broken_messages_are_no_call(message: bytes) -> None:
    with pytest.raises(ValueError, match="no call"):
        Service(CONTROL).read(message)
