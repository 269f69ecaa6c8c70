"""One client's outgoing queue: what waits while its socket is full. Pure: bytes and messages in, bytes out.

Most clients never have one: a frame is written straight to the socket, and only what did not fit comes here.
Three kinds wait, and leave in this order:

1. the rest of a frame that is half written: a cut frame would ruin the connection;
2. answers and other *lossless* frames, each of them, in order, up to a limit in bytes;
3. of each channel the latest update only (*conflation*), saying how many it stands for.

So what a slow client costs is bounded, and when it catches up it sees the newest prices first.
"""

from __future__ import annotations

from collections import deque
from itertools import accumulate

import msgspec

from aurexd.protocol.codec import Encoding
from aurexd.protocol.messages import ChannelMessage


class Update(msgspec.Struct, frozen=True, gc=False):
    """One message of one channel: encoded at most once per encoding, whoever gets it."""

    channel: str
    message: ChannelMessage


class Batch:
    """Updates that are due together, framed in one encoding: the same bytes for every client."""

    __slots__ = ("data", "ends", "updates")

    def __init__(self, updates: list[Update], encoding: Encoding) -> None:
        frames = [encoding.frame(update.message) for update in updates]
        self.updates = updates
        self.data = b"".join(frames)
        self.ends = list(accumulate(map(len, frames)))


class Outbox:
    """What waits for one client. Empty at first, and again when everything was taken."""

    __slots__ = ("_encoding", "_latest", "_lossless", "_lossless_bytes", "_rest")

    def __init__(self, encoding: Encoding | None) -> None:
        """Without an encoding only the rest of a write can wait: there are no messages yet."""
        self._encoding = encoding
        self._rest = b""
        self._lossless: deque[bytes] = deque()
        self._lossless_bytes = 0
        self._latest: dict[str, tuple[Update, int]] = {}
        """Channel → its newest update, and the `update_count` the client saw last."""

    def __bool__(self) -> bool:
        return bool(self._rest or self._lossless or self._latest)

    @property
    def lossless_bytes(self) -> int:
        """Bytes of lossless frames that wait: the measure of a client too slow to keep."""
        return self._lossless_bytes

    def keep_rest(self, rest: bytes) -> None:
        """The tail of a write that did not fit: goes out before anything else."""
        self._rest += rest

    def keep_batch(self, batch: Batch, written: int = 0) -> None:
        """A batch of which only `written` bytes went out: finish the cut frame, conflate the others."""
        start = 0
        for update, end in zip(batch.updates, batch.ends, strict=True):
            if end > written:
                if start < written:
                    self._rest += batch.data[written:end]
                else:
                    self._conflate(update)
            start = end

    def keep_lossless(self, frame: bytes) -> None:
        """A frame that must arrive, in its turn."""
        self._lossless.append(frame)
        self._lossless_bytes += len(frame)

    def drop_channel(self, channel: str) -> None:
        """The client left the channel: nothing more of it is to follow."""
        self._latest.pop(channel, None)

    def take(self) -> bytes:
        """Everything that waits, as the bytes to write next; what of them does not fit goes to `keep_rest`."""
        parts = [self._rest, *self._lossless]
        for update, seen in self._latest.values():
            count = update.message.update_count - seen
            message = update.message if count == 1 else msgspec.structs.replace(update.message, conflated=count)
            assert self._encoding is not None
            parts.append(self._encoding.frame(message))
        self._rest = b""
        self._lossless.clear()
        self._lossless_bytes = 0
        self._latest.clear()
        return b"".join(parts)

    def _conflate(self, update: Update) -> None:
        # Counts have no holes, so what the client saw last of a channel is one before the first that waits.
        _, seen = self._latest.get(update.channel, (update, update.message.update_count - 1))
        self._latest[update.channel] = (update, seen)
