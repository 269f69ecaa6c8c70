"""Bytes ↔ messages, and messages → WebSocket frames, in both encodings. Judges no message."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from msgspec import Raw
from wsproto.frame_protocol import FrameProtocol

from aurexd.errors import ProtocolError
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.deflate import WINDOWS, Compression
from aurexd.protocol.messages import ClientMessage, RequestId, ServerMessage

MAX_ERROR_CHARACTERS = 300
"""Of an error's text: it may quote what the client sent, and need not quote all of it."""

CLIENT_TYPES: tuple[str, ...] = tuple(kind.__struct_config__.tag for kind in get_args(ClientMessage))
"""Every `type` that a client may send."""

# One for all sessions: a server's frames are unmasked and whole, so framing keeps no state between them.
_framing = FrameProtocol(client=False, extensions=[])

_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What msgspec raises for what a client may send; ValueError for text that is not Unicode."""


_TEXT, _BINARY = b"\x81", b"\x82"
"""The first byte of a whole frame: RFC 6455, section 5.2. The second, and what follows, is `_length`."""


def _length(size: int) -> bytes:
    if size < 126:
        return bytes((size,))
    return struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)


class _Head(msgspec.Struct, gc=False):
    """What there may be to read in a message that is wrong."""

    type: Raw = Raw()
    id: Raw = Raw()


class Encoding:
    """One way to write messages. One instance serves all its sessions."""

    pings = True
    """Whether its lines have pings, which tell a client that says nothing from one that is gone."""

    __slots__ = ("_decode", "_encode", "_format", "_framing", "_library", "name", "subprotocol", "text")

    def __init__(self, name: str, library: Any, *, text: bool, window_bits: int | None = None) -> None:
        """`library` is msgspec.json or msgspec.msgpack; `window_bits`: what large messages are compressed with."""
        self.name = name if window_bits is None else f"{name}+deflate{window_bits}"
        """No two have the same."""
        self.subprotocol = f"aurex.v1.{name}"
        self.text = text
        """Whether it travels in text frames; else in binary ones."""
        self._format = name
        self._framing = _framing
        if window_bits is not None:
            self._framing = FrameProtocol(client=False, extensions=[Compression(window_bits)])
        self._library = library
        self._encode = library.Encoder(decimal_format="number").encode
        self._decode = library.Decoder(ClientMessage).decode

    def __repr__(self) -> str:
        return f"<Encoding {self.name}>"

    def encode(self, message: ServerMessage) -> bytes:
        """One message, unframed."""
        payload: bytes = self._encode(message)
        return payload

    def frame(self, message: ServerMessage, position: str | None = None) -> bytes:  # noqa: ARG002
        """One message as a whole WebSocket frame, the same bytes for every session of this encoding.

        `position` is where a client stands that has it; the WebSocket's clients know that by themselves.
        """
        return self.frame_payload(self._encode(message))

    def frame_payload(self, payload: bytes) -> bytes:
        """What `encode` made, as a whole WebSocket frame."""
        if self._framing is _framing:  # the library takes three times as long, and floods are framed, too
            return (_TEXT if self.text else _BINARY) + _length(len(payload)) + payload
        return bytes(self._framing.send_data(payload.decode() if self.text else payload))

    def decode(self, payload: str | bytes) -> ClientMessage:
        """One message of a client: `str` is the payload of a text frame, `bytes` that of a binary one.

        Raises:
            ProtocolError: it is no message of a client; `request_id` is set where that much can be read.

        """
        if isinstance(payload, str) is not self.text:
            right, wrong = ("text", "binary") if self.text else ("binary", "text")
            raise ProtocolError(
                ErrorCode.UNSUPPORTED_DATA,
                f"{self.subprotocol} speaks in {right} frames; this is a {wrong} frame",
            )
        try:
            message: ClientMessage = self._decode(payload)
        except _UNREADABLE as error:
            raise self._explain(payload, error) from error
        return message

    def request_id(self, payload: str | bytes) -> RequestId | None:
        """The `id` of a client's message, and nothing else of it; None when none can be read."""
        try:
            head: _Head = self._library.decode(payload, type=_Head)
        except _UNREADABLE:
            return None
        request_id: RequestId | None = self._part(head.id, RequestId)
        return request_id

    def _explain(self, payload: str | bytes, error: Exception) -> ProtocolError:
        """What is wrong with a message, from what of it can be read."""
        try:
            head: _Head = self._library.decode(payload, type=_Head)
        except msgspec.ValidationError as mismatch:
            return ProtocolError(ErrorCode.INVALID_MESSAGE, f"a message is an object: {mismatch}")
        except RecursionError:
            return ProtocolError(ErrorCode.INVALID_MESSAGE, "nested too deeply")
        except _UNREADABLE as fault:
            return ProtocolError(
                ErrorCode.INVALID_MESSAGE, f"cannot be read as {self._format}: {_clip(str(fault))}"
            )
        request_id: RequestId | None = self._part(head.id, RequestId)
        name: str | None = self._part(head.type, str)
        if name is not None and name not in CLIENT_TYPES:
            return ProtocolError(
                ErrorCode.UNKNOWN_TYPE,
                f"unknown type {_clip(name, 40)!r}; there are {', '.join(CLIENT_TYPES)}",
                request_id,
            )
        text = f"{name}: {error}" if name else str(error)
        return ProtocolError(ErrorCode.INVALID_MESSAGE, _clip(text), request_id)

    def _part(self, raw: Raw, kind: Any) -> Any:
        """A part of a message; None when it is missing or of another kind."""
        try:
            return self._library.decode(raw, type=kind)
        except _UNREADABLE:
            return None


class EventStream(Encoding):
    """JSON as server-sent events: no frames of the WebSocket, and nothing comes back.

    Each message is one event without a name, so that a page gets all of them with `onmessage`; its id is where a
    client stands that has it, and comes back as `Last-Event-ID`. (HTML, 9.2 Server-sent events.)
    """

    pings = False

    def frame(self, message: ServerMessage, position: str | None = None) -> bytes:
        """One message as a whole event."""
        event_id = b"" if position is None else b"id: %s\n" % position.encode()
        return b"%sdata: %s\n\n" % (event_id, self.encode(message))


JSON = Encoding("json", msgspec.json, text=True)
MSGPACK = Encoding("msgpack", msgspec.msgpack, text=False)

_compressed = {
    (plain, window_bits): Encoding(plain.name, library, text=plain.text, window_bits=window_bits)
    for plain, library in ((JSON, msgspec.json), (MSGPACK, msgspec.msgpack))
    for window_bits in WINDOWS
}

EVENTS = EventStream("events", msgspec.json, text=True)

_by_subprotocol = {encoding.subprotocol: encoding for encoding in (JSON, MSGPACK)}


def negotiate(offered: Sequence[str]) -> tuple[Encoding, str | None]:
    """The encoding of a session and the subprotocol to select, from those that the client offered.

    The first one known wins, in the client's order. None known, or none offered: JSON, and none is selected
    (RFC 6455, 4.2.2). What else is offered, such as `aurex.token.…`, is never sent back.
    """
    for name in offered:
        if name in _by_subprotocol:
            return _by_subprotocol[name], name
    return JSON, None


def compressed(plain: Encoding, window_bits: int) -> Encoding:
    """JSON or MSGPACK for sessions that agreed on compression with one of `WINDOWS`: one instance for all of them."""
    return _compressed[plain, window_bits]


def retry_event(wait_ms: int) -> bytes:
    """What tells an event stream's client how long to wait before it comes back."""
    return b"retry: %d\n\n" % wait_ms


def ping_frame(payload: bytes = b"") -> bytes:
    """A WebSocket ping; at most 125 bytes of payload, which the client's pong repeats."""
    return bytes(_framing.ping(payload))


def close_frame(code: CloseCode, reason: str) -> bytes:
    """A WebSocket close; see `codes.close_reason` for the reason."""
    return bytes(_framing.close(code, reason))


def _clip(text: str, limit: int = MAX_ERROR_CHARACTERS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
