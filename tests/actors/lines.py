"""A session's line without a socket: it takes everything, or nothing while it is `full`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pykka
import trio

from aurexd.actors.audience import Seal
from aurexd.actors.session import Session
from aurexd.clock import Clock
from aurexd.config.model import Config, Symbol
from aurexd.identity import ANYBODY, Identity, Scope
from aurexd.io_uring import NO_SOCKET
from aurexd.market import Instrument
from aurexd.outbox import Outbox
from aurexd.protocol.codec import JSON, Encoding
from aurexd.protocol.codes import CloseCode
from aurexd.protocol.connection import SessionProtocol
from aurexd.settings import Settings
from aurexd.update import Batch, Update
from tests.frames import FrameReader

SYMBOLS = {name: Symbol(instrument=Instrument.SPOT, calendar="always") for name in ("XAUUSD", "XAGUSD", "GC")}


class FakeLine:
    """Stands in for `ClientStream`; `reader` is the client."""

    def __init__(self, encoding: Encoding = JSON) -> None:
        self.last_received = trio.current_time()
        self.on_write_changed: Callable[[], None] | None = None
        self.reader = FrameReader(encoding)
        self.writes: list[bytes] = []
        """What was written to all at once, as it came."""
        self.on_write: Callable[[], None] = lambda: None
        self._encoding = encoding
        self._outbox = Outbox(encoding)
        self._full = False
        self.write: Callable[[bytes], int] = self._write

    @property
    def full(self) -> bool:
        """Whether the client has stopped reading."""
        return self._full

    @full.setter
    def full(self, full: bool) -> None:
        self._full = full
        self._outbox.taken_at = trio.current_time()
        if not full:
            while self._outbox:
                self.reader.feed(self._outbox.take())
        self.write = self._refuse if full else self._write
        self._say_write_changed()

    @property
    def remote_address(self) -> str:
        return "192.0.2.1"

    @property
    def descriptor(self) -> int:
        return NO_SOCKET

    @property
    def is_tls(self) -> bool:
        return False

    @property
    def seal(self) -> Seal | None:
        return None

    def keep_sealed(self, rest: bytes) -> None:
        raise AssertionError(f"it has no TLS, and {len(rest)} bytes of it")

    @property
    def backlogged(self) -> bool:
        return bool(self._outbox)

    @property
    def lossless_bytes(self) -> int:
        return self._outbox.lossless_bytes

    @property
    def held_bytes(self) -> int:
        return self._outbox.held_bytes

    @property
    def stuck_since(self) -> float:
        return self._outbox.taken_at if self._outbox else math.inf

    def keep(self, batch: Batch, written: int) -> int:
        replaced = self._outbox.keep_batch(batch, written)
        self._say_write_changed()
        return replaced

    def send_frame(self, frame: bytes) -> None:
        if self._full:
            self._outbox.keep_lossless(frame)
            self._say_write_changed()
        else:
            self.reader.feed(frame)

    def replay(self, updates: list[Update]) -> None:
        if self._full:
            self._outbox.keep_replay(updates)
            self._say_write_changed()
        else:
            for update in updates:
                self.reader.feed(update.frame(self._encoding))

    def drop_channel(self, channel: str) -> int:
        return self._outbox.drop_channel(channel)

    def take(self) -> list[dict[str, Any]]:
        """The messages since the last time."""
        messages, self.reader.messages = self.reader.messages, []
        return messages

    def _say_write_changed(self) -> None:
        if self.on_write_changed is not None:
            self.on_write_changed()

    def _write(self, data: bytes) -> int:
        self.on_write()
        self.writes.append(data)
        self.reader.feed(data)
        return len(data)

    def _refuse(self, _data: bytes) -> int:
        raise BlockingIOError


class FakeClient:
    """A session, its line, and the codes it was closed with."""

    def __init__(
        self,
        hub: pykka.ActorRef[Any],
        clock: Clock,
        *,
        encoding: Encoding = JSON,
        channels: frozenset[str] = frozenset(),
        settings: Settings | None = None,
        owner: str | None = None,
        identity: Identity | None = ANYBODY,
        alerts: pykka.ActorRef[Any] | None = None,
    ) -> None:
        """`owner`: somebody who may do everything, for short. `alerts`: else the hub hears of these, too."""
        settings = settings or Settings(Config(symbols=SYMBOLS))
        if owner is not None:
            identity = Identity(user=owner, scopes=frozenset(Scope))
        authority = settings.authority
        self.line = FakeLine(encoding)
        self.closed: list[CloseCode] = []
        self.retry_after_ms: int | None = None
        self.full_for: set[str] = set()
        """Users who have as many sessions as they may."""
        self.channels = channels
        self.session = Session(
            "s1",
            self.line,
            SessionProtocol(encoding, channels, identity, None if authority is None else authority.verify),
            encoding,
            hub=hub,
            alerts=hub if alerts is None else alerts,
            close=self._close,
            settings=settings,
            clock=clock,
            claim=lambda user: "too many" if user in self.full_for else None,
        )

    def _close(self, code: CloseCode, retry_after_ms: int | None) -> None:
        self.closed.append(code)
        self.retry_after_ms = retry_after_ms

    def hear(self) -> None:
        """The client gives a sign of life."""
        self.line.last_received = trio.current_time()
