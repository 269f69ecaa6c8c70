"""Sessions that get the same bytes, and how these are written to all of them.

One system call writes to many of them where the kernel lets us (`aurexd/io_uring.py`): on plain lines the bytes
themselves, on TLS what each line has sealed of them. Else each session's `write` is called in turn.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import trio

from aurexd.io_uring import DATA_BYTES, SendRing, Targets
from aurexd.protocol.codec import Encoding

if TYPE_CHECKING:
    from aurexd.actors.session import Session

SLICE = 500
SLICE_LEAST = 50
SLICE_S = 0.006
"""Sessions that are written to between two checkpoints, at most and at least, and how long that is to take: so that a
large fan-out delays nobody's handshake, and nobody's next price. Not shorter: after so many writes nothing of ours is
left in the processor's caches, and each turn of the loop between two slices costs a fifth of a millisecond."""

RING_SOCKETS = 20
"""A smaller audience is written to faster one by one."""

RECORD_BYTES = 16_384
"""What TLS seals at once (RFC 8446, 5.1)."""

Seal: TypeAlias = tuple[Callable[[bytes], int], Callable[[], bytes]]
"""Encrypts, and gives the ciphertext: two calls and not one, because each runs a thousand times a price."""


class Audience:
    """Sessions with the same encoding and the same channels, all of them plain or all of them on TLS."""

    __slots__ = (
        "_ring",
        "_seals",
        "_targets",
        "_writes",
        "behind",
        "channels",
        "encoding",
        "last_sent",
        "sessions",
        "slice",
    )

    def __init__(
        self, encoding: Encoding, channels: frozenset[str], ring: SendRing | None = None, *, tls: bool = False
    ) -> None:
        """Without a `ring` each session is written to by itself."""
        self.encoding = encoding
        self.channels = channels
        self.sessions: list[Session] = []
        self.behind: set[Session] = set()
        """Those for whom something waits."""
        self.last_sent = trio.current_time()
        self.slice = SLICE
        """To how many the hub writes between two checkpoints."""
        self._writes: list[Callable[[bytes], int]] = []
        # Each session's `write`, in the same order: the fan-out looks at nothing else of a session that keeps up,
        # because what it touches of ten thousand of them does not fit into a processor's cache.
        self._seals: list[Seal | None] | None = [] if tls and ring is not None else None
        """On TLS: of each session that can be written to by the ring."""
        self._ring = ring
        self._targets = Targets(ring) if ring is not None else None

    @property
    def is_behind(self) -> bool:
        """Whether something waits for every one of them."""
        return len(self.behind) == len(self.sessions)

    def seat(self, session: Session) -> None:
        """Add a session."""
        session.seat = (self, len(self.sessions))
        self.sessions.append(session)
        self._writes.append(session.write)
        if self._targets is not None:
            self._targets.append(session.descriptor)
        if self._seals is not None:
            self._seals.append(session.seal)
        if session.backlogged:
            self.behind.add(session)

    def unseat(self, session: Session) -> None:
        """Remove a session; the last one takes its seat."""
        assert session.seat is not None
        _, number = session.seat
        session.seat = None
        self.behind.discard(session)
        last = self.sessions.pop()
        self._writes.pop()
        if self._targets is not None:
            self._targets.pop()
        if self._seals is not None:
            self._seals.pop()
        if last is not session:
            self.sessions[number] = last
            last.seat = (self, number)
            self.write_changed(last)

    def write_changed(self, session: Session) -> None:
        """The session is written to in another way, or not at all any more."""
        assert session.seat is not None
        _, number = session.seat
        self._writes[number] = session.write
        if self._targets is not None:
            self._targets[number] = session.descriptor
        if self._seals is not None:
            self._seals[number] = session.seal
        if session.backlogged:
            self.behind.add(session)
        else:
            self.behind.discard(session)

    def pace(self, took_s: float) -> None:
        """A slice took so long: the next ones are to take about `SLICE_S`, whatever a write costs (TLS: thrice)."""
        if took_s > SLICE_S * 1.5:
            self.slice = max(SLICE_LEAST, self.slice // 2)
        elif took_s < SLICE_S / 2:
            self.slice = min(SLICE, self.slice * 2)

    def write(self, data: bytes, start: int, stop: int) -> list[tuple[int, int]]:
        """Write to the sessions in the seats from `start` to before `stop`, without waiting.

        Returns those that did not take all of it: the seat, and how many bytes it took.
        """
        if self._targets is None or self._ring is None or not self._suits_ring(data):
            return self._write_each(data, range(start, min(stop, len(self._writes))))
        if self._seals is not None:
            return self._write_sealed(data, self._seals[start:stop], start)
        short = self._ring.write(self._targets, data, start, stop)
        if not short:
            return short
        others = [number for number, result in short if result == -errno.EBADF]
        return [
            *((number, max(result, 0)) for number, result in short if result != -errno.EBADF),
            *self._write_each(data, others),
        ]

    def _write_sealed(self, data: bytes, seals: list[Seal | None], start: int) -> list[tuple[int, int]]:
        assert self._ring is not None
        assert self._targets is not None
        parts, others = list[bytes](), list[int]()
        for number, seal in enumerate(seals, start):
            part = b""
            if seal is None:
                others.append(number)
            else:
                encrypt, collect = seal
                try:
                    encrypt(data)
                    part = collect()
                except OSError:  # broken: the session's own writer finds out
                    others.append(number)
            parts.append(part)
        for number, sent in self._ring.write_each(self._targets, parts, start):
            if rest := parts[number - start][max(sent, 0) :]:
                self.sessions[number].keep_sealed(rest)
        return self._write_each(data, others)

    def _suits_ring(self, data: bytes) -> bool:
        # Where many cannot be written to as they are, because something waits, the ring costs more than it saves.
        assert self._targets is not None
        enough = max(RING_SOCKETS, len(self._targets) // 2)
        most = DATA_BYTES if self._seals is None else RECORD_BYTES
        return self._targets.sockets >= enough and len(data) <= most

    def _write_each(self, data: bytes, numbers: Iterable[int]) -> list[tuple[int, int]]:
        short, size, writes = list[tuple[int, int]](), len(data), self._writes
        for number in numbers:
            try:
                written = writes[number](data)
            except OSError:  # full, or broken: the session's own writer finds out
                written = 0
            if written != size:
                short.append((number, written))
        return short
