"""What becomes of all sessions together: how many of which kind, what they send, and how they end. Pure.

One for the whole daemon; sessions count into it what is no part of the fan-out.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from aurexd.protocol.codec import EVENTS, Encoding
from aurexd.protocol.codes import CloseCode

CLIENT_LEFT = "client_left"
"""How a session ended that the client, or the network, has ended."""


class Kind(NamedTuple):
    """What tells sessions apart for who counts them."""

    transport: str
    """`websocket` or `event_stream`."""
    encoding: str
    compressed: bool
    tls: bool

    @classmethod
    def of(cls, encoding: Encoding, *, tls: bool) -> Kind:
        """A session's."""
        if encoding is EVENTS:
            return cls("event_stream", "json", compressed=False, tls=tls)
        name, _, deflate = encoding.name.partition("+")
        return cls("websocket", name, compressed=bool(deflate), tls=tls)


class Tally:
    """Counts since the daemon's start."""

    def __init__(self) -> None:
        self.sessions: Counter[Kind] = Counter()
        """Those that are there now."""
        self.opened: Counter[Kind] = Counter()
        self.closed: Counter[str] = Counter()
        """By the close code's word, or `CLIENT_LEFT`."""
        self.errors: Counter[str] = Counter()
        """What sessions were told is wrong, by the error code."""
        self.messages = 0
        """Messages of clients."""
        self.message_bytes = 0
        """What these are long, uncompressed."""

    def session_opened(self, kind: Kind) -> None:
        """One begins."""
        self.sessions[kind] += 1
        self.opened[kind] += 1

    def session_closed(self, kind: Kind, code: CloseCode | None) -> None:
        """One has ended, for our reason or (None) the client's."""
        self.sessions[kind] -= 1
        self.closed[CLIENT_LEFT if code is None else code.word] += 1
