"""Error codes and close codes: their numbers, their meaning, what a client should do. No other room has them.

The ranges are a promise that holds for codes a client does not know: see `should_reconnect`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Self

import msgspec

MAX_REASON_BYTES = 123
"""A close frame's payload is at most 125 bytes (RFC 6455, 5.5), two of them the code."""

FINAL_STANDARD_CODES = frozenset({1002, 1003, 1007, 1009})
"""Of the standard's codes, those that the same client would earn again."""


def should_reconnect(code: int) -> bool:
    """Whether a client that was closed with `code` should come back, known or not.

    4000–4499 and the standard's own: yes, but for the four that say that the client did something wrong.
    4500–4999: no.
    """
    return code not in FINAL_STANDARD_CODES and not 4500 <= code <= 4999


class CloseCode(IntEnum):
    """Why aurexd ends a session."""

    _value_: int
    meaning: str
    later: bool
    """A place that is kept: this release never sends it."""

    def __new__(cls, number: int, meaning: str, later: bool = False) -> Self:
        """A member: its number, its meaning, and whether it is yet to come."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning = meaning
        code.later = later
        return code

    WEBSOCKET_ERROR = 1002, "The client's frames break RFC 6455, or its compressed messages RFC 7692."
    UNSUPPORTED_DATA = 1003, "A binary frame in a JSON session, or a text frame in a MessagePack session."
    INVALID_TEXT = 1007, "A text frame that is not UTF-8."
    MESSAGE_TOO_BIG = 1009, "A message larger than `max_message_bytes`."
    INTERNAL_ERROR = 1011, "The server failed; its log says why."
    GOING_AWAY = 4000, "The server stops or restarts."
    SLOW_CONSUMER = (
        4001,
        "More than `send_queue_bytes` waited for a client that reads too slowly; or most of all when there was no "
        "more room for all slow ones together.",
    )
    HEARTBEAT_TIMEOUT = (
        4002,
        "Nothing was heard of the client, not even an answer to a ping; or it took nothing for as long.",
    )
    RATE_LIMITED = 4003, "The client kept sending faster than its limits, or its address connects too often."
    TOO_MANY_CONNECTIONS = 4004, "Too many sessions from this address, or of this user."
    OVER_CAPACITY = 4005, "The server has as many sessions as it may."
    TOKEN_EXPIRED = 4006, "The token has expired, or its key is known no more. Come back with a new one."
    IDLE_TIMEOUT = 4007, "The client was subscribed to nothing, and said nothing for `idle_timeout_s`."
    AUTH_TIMEOUT = 4008, "No token was shown in time."
    BAD_TOKEN = 4500, "The token is not valid here. The same one will not be next time."
    PROTOCOL_ERROR = 4502, "The client keeps breaking this protocol.", True
    FORBIDDEN = (
        4503,
        "This client may not connect: a page from an origin that is not allowed, or a name that is not ours.",
    )
    KICKED = 4504, "An operator ended the session."
    ROLLOUT_CLOSED = 4505, "Streaming is not open to this client: use the event stream or polling."

    @property
    def word(self) -> str:
        """Its name on the wire and in the documentation: `going_away`."""
        return self.name.lower()

    @property
    def reconnect(self) -> bool:
        """Whether the client should come back; see `should_reconnect`."""
        return should_reconnect(self)


def close_reason(code: CloseCode, retry_after_ms: int | None = None) -> str:
    """A close frame's reason, within `MAX_REASON_BYTES`: `{"code":"going_away","retry_after_ms":1500}`."""
    reason: dict[str, str | int] = {"code": code.word}
    if retry_after_ms is not None:
        reason["retry_after_ms"] = retry_after_ms
    return msgspec.json.encode(reason).decode()


class ErrorCode(StrEnum):
    """What is wrong with a client's message, or why the session is about to end."""

    meaning: str
    later: bool
    """A place that is kept: this release never sends it."""

    def __new__(cls, word: str, meaning: str, later: bool = False) -> Self:
        """A member: its word, its meaning, and whether it is yet to come."""
        code = str.__new__(cls, word)
        code._value_ = word
        code.meaning = meaning
        code.later = later
        return code

    INVALID_MESSAGE = (
        "invalid_message",
        "It cannot be read, or a field is unknown, missing or of the wrong kind.",
    )
    UNKNOWN_TYPE = "unknown_type", "No message has this `type`; the error names those there are."
    UNKNOWN_CHANNEL = "unknown_channel", "There is no such channel; the error names those there are."
    TOO_MANY_CHANNELS = "too_many_channels", "It would make more channels than `max_channels` of `welcome`."
    NOT_AVAILABLE = "not_available", "The protocol has it, this server does not."
    UNSUPPORTED_DATA = "unsupported_data", "The wrong kind of frame for the session's encoding; 1003 follows."
    RATE_LIMITED = (
        "rate_limited",
        "Too many messages; this one was not acted on. Or too many connections from one address; 4003 follows. "
        "Wait `retry_after_ms`.",
    )
    TOO_MANY_CONNECTIONS = (
        "too_many_connections",
        "Too many sessions from this address or of this user; 4004 follows.",
    )
    OVER_CAPACITY = "over_capacity", "The server has as many sessions as it may; 4005 follows."
    ROLLOUT_CLOSED = (
        "rollout_closed",
        "Streaming is not open to this client: use the event stream or polling; 4505 follows.",
    )
    FORBIDDEN = "forbidden", "This client may not do that, or not connect at all (4503 follows)."
    UNAUTHENTICATED = (
        "unauthenticated",
        "The server asks for a token: send `auth` first. Without an `id`: none came in time; 4008 follows.",
    )
    BAD_TOKEN = (
        "bad_token",
        "The token is not valid here; 4500 follows, unless it was to renew another, which remains valid.",
    )
    TOKEN_EXPIRED = (
        "token_expired",
        "The token has expired; 4006 follows, unless it was to renew another, which remains valid.",
    )
    NOT_FOUND = "not_found", "No alert rule or alert of yours has this id."
    TOO_MANY_RULES = "too_many_rules", "You, or all together, have as many alert rules as are allowed."
    UNAVAILABLE = "unavailable", "It cannot be made durable now. Try again after `retry_after_ms`."
