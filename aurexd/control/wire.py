"""Varlink on the wire: bytes ↔ calls and replies. Knows no interface, and does no I/O; see https://varlink.org.

A message is one JSON object and a NUL. A call names its method in full; it is answered by one reply, by several where
it asks for `more` (all but the last say `continues`), or, where it is `oneway`, by nothing at all.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from aurexd.errors import VarlinkError

MAX_MESSAGE_BYTES = 65_536
"""Of one call: the largest that there is a use for has less than a kilobyte."""

_encode = msgspec.json.Encoder(decimal_format="number").encode

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What msgspec raises for what the other end may send; ValueError for text that is not Unicode."""


class IncomingCall(msgspec.Struct, frozen=True):
    """A call as it came: its parameters are not read yet. What Varlink does not know is ignored."""

    method: str
    parameters: Raw = Raw(b"{}")
    oneway: bool | None = None
    more: bool | None = None
    upgrade: bool | None = None


class Messages:
    """Cuts what arrives into messages."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    @property
    def begun(self) -> bool:
        """Whether a part of a message is there, and its end is not."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that this completes, without their NUL.

        Raises:
            ValueError: a message is too long.

        """
        *whole, rest = data.split(b"\0")
        if whole:
            whole[0] = bytes(self._rest) + whole[0]
            self._rest.clear()
        self._rest += rest
        if max(map(len, [*whole, self._rest])) > self._max_bytes:
            raise ValueError(f"a message of more than {self._max_bytes} bytes")
        return whole


def read_call(message: bytes) -> IncomingCall:
    """What a message calls.

    Raises:
        ValueError: it is no call.

    """
    try:
        return msgspec.json.decode(message, type=IncomingCall)
    except UNREADABLE as error:
        raise ValueError("a message that is no call of Varlink") from error


def read_json(data: Raw | bytes, kind: Any) -> Any:
    """A part of a message, of a type.

    Raises:
        ValueError: it is something else.

    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise ValueError(str(error)) from error


def call(method: str, parameters: Any, *, more: bool = False, oneway: bool = False) -> bytes:
    """A message that calls."""
    flags = {"more": True} if more else {"oneway": True} if oneway else {}
    return _encode({"method": method, "parameters": parameters, **flags}) + b"\0"


def reply(parameters: Any, *, continues: bool = False) -> bytes:
    """A message that answers; `continues`: and more will follow."""
    return _encode({"parameters": parameters, **({"continues": True} if continues else {})}) + b"\0"


def error_reply(error: VarlinkError) -> bytes:
    """A message that answers with an error."""
    return _encode({"error": error.name, "parameters": error.parameters}) + b"\0"


class Reply(msgspec.Struct, frozen=True):
    """What answers a call, as a client reads it."""

    parameters: dict[str, Any] | None = None
    continues: bool | None = None
    error: str | None = None


def read_reply(message: bytes) -> Reply:
    """What a message answers.

    Raises:
        ValueError: it is no reply.

    """
    reply: Reply = read_json(message, Reply)
    return reply
