"""One client's outgoing queue: what waits while its socket is full. Pure: bytes and messages in, bytes out.

Most clients never have one: a frame is written straight to the socket, and only what did not fit comes here.
Four kinds wait, and leave in this order:

1. the rest of a frame that is half written: a cut frame would ruin the connection;
2. answers and other *lossless* frames, each of them, in order, up to a limit in bytes;
3. a *replay*: what a client that came back had missed, each of it, in order; its frames are everybody's, so it
   costs nothing here;
4. of each channel the latest update only (*conflation*), saying how many it stands for.

So what a slow client costs is bounded, and when it catches up it sees the newest prices first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable

import msgspec

from aurexd.protocol.codec import Encoding
from aurexd.update import Batch, Update

UPDATE_BYTES = 200
"""What an update that waits costs here: its place, not its frame, which is everybody's."""

TAKE_BYTES = 16384
"""No frame is begun beyond this in one write: what was taken can no longer be conflated, nor counted."""


class Outbox:
    """What waits for one client. Empty at first, and again when everything was taken."""

    __slots__ = ("_latest", "_lossless", "_lossless_bytes", "_replay", "_rest", "encoding", "taken_at")

    def __init__(self, encoding: Encoding | None, now: float = 0.0) -> None:
        self.taken_at = now
        """When the client took something last, or when it began not to: for its owner to keep."""
        self.encoding = encoding
        """None: no updates can wait, because there are no messages yet, only bytes."""
        self._rest = b""
        self._lossless: deque[bytes] = deque()
        self._lossless_bytes = 0
        self._replay: deque[Update] = deque()
        self._latest: dict[str, tuple[Update, int]] = {}
        """Channel → its newest update, and the `update_count` the client saw last."""

    def __bool__(self) -> bool:
        return bool(self._rest or self._lossless or self._replay or self._latest)

    @property
    def owes(self) -> bool:
        """Whether anything but updates waits."""
        return bool(self._rest or self._lossless)

    @property
    def lossless_bytes(self) -> int:
        """Bytes of lossless frames that wait: the measure of a client too slow to keep."""
        return self._lossless_bytes

    @property
    def held_bytes(self) -> int:
        """What all that waits costs in memory, about."""
        return len(self._rest) + self._lossless_bytes + UPDATE_BYTES * (len(self._replay) + len(self._latest))

    def keep_rest(self, rest: bytes) -> None:
        """The tail of a write that did not fit: goes out before anything else."""
        self._rest += rest

    def keep_batch(self, batch: Batch, written: int = 0) -> int:
        """A batch of which only `written` bytes went out: finish the cut frame, conflate what may be.

        Returns how many messages were replaced by newer ones.
        """
        start = 0
        if written:
            ends = batch.ends
            start = bisect_right(ends, written)
            if start < len(ends) and written > (ends[start - 1] if start else 0):
                self._rest += batch.data[written : ends[start]]
                start += 1
        for update in batch.lossless(start):
            self.keep_lossless(update.frame(batch.encoding))
        replaced = 0
        for update, first in batch.newest(start):
            # Counts have no holes, so what the client saw last of a channel is one before the first that waits.
            waiting = self._latest.get(update.channel)
            replaced += update.count - first + (waiting is not None)
            self._latest[update.channel] = (update, first - 1 if waiting is None else waiting[1])
        return replaced

    def keep_lossless(self, frame: bytes) -> None:
        """A frame that must arrive, in its turn."""
        self._lossless.append(frame)
        self._lossless_bytes += len(frame)

    def keep_replay(self, updates: Iterable[Update]) -> None:
        """Updates that the client missed while it was away; what is published from now on follows them."""
        self._replay.extend(updates)

    def drop_channel(self, channel: str) -> int:
        """Forget what waits of a channel that the client left or gets a snapshot of: how many messages."""
        replayed = sum(update.channel == channel for update in self._replay)
        if replayed:
            self._replay = deque(update for update in self._replay if update.channel != channel)
        update, seen = self._latest.pop(channel, (None, 0))
        return replayed + (update.count - seen if update else 0)

    def settle(self) -> None:
        """No update follows: those that wait become lossless, so that they precede what is said last."""
        while self._replay or self._latest:
            self.keep_lossless(self._pop_update())

    def take(self) -> bytes:
        """The bytes to write next, about `TAKE_BYTES` at most; what does not fit goes to `keep_rest`."""
        if self._rest:  # and nothing else, or the rest would never come to an end with a reader slow enough
            rest, self._rest = self._rest, b""
            return rest
        parts, size = [], 0
        while size < TAKE_BYTES and (self._lossless or self._replay or self._latest):
            if self._lossless:
                frame = self._lossless.popleft()
                self._lossless_bytes -= len(frame)
            else:
                frame = self._pop_update()
            parts.append(frame)
            size += len(frame)
        return b"".join(parts)

    def _pop_update(self) -> bytes:
        """The next frame of a replay, else that of the channel that has waited longest."""
        assert self.encoding is not None
        if self._replay:
            return self._replay.popleft().frame(self.encoding)
        update, seen = self._latest.pop(next(iter(self._latest)))
        message, count = update.message, update.count - seen
        if count > 1:
            message = msgspec.structs.replace(message, conflated=count)
        # While others wait that are older, this one does not say where the client stands.
        return self.encoding.frame(message, None if self._latest else update.position)
