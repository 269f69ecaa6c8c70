"""What is published: one message of one channel, made and framed when somebody is to get it, once for all. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate

from aurexd.protocol.channels import KINDS
from aurexd.protocol.codec import Encoding
from aurexd.protocol.messages import ChannelMessage


class Update:
    """One message of one channel, and where it stands among all that were published."""

    __slots__ = ("_compose", "_frames", "_message", "channel", "count", "epoch", "kind", "seq")

    def __init__(
        self, channel: str, count: int, compose: Callable[[int], ChannelMessage], epoch: str, seq: int
    ) -> None:
        """`channel` as the hub knows it: an owner's own has the owner in its name. `compose` makes the message of its
        `update_count`: of what floods in faster than it is read, hardly any message is ever wanted."""
        self.channel = channel
        self.kind = channel.partition(":")[0]
        self.count = count
        """The message's `update_count`."""
        self.epoch = epoch
        self.seq = seq
        """Its number among all updates of the epoch, from 1."""
        self._compose: Callable[[int], ChannelMessage] | None = compose
        self._message: ChannelMessage | None = None
        self._frames: dict[Encoding, bytes] | None = None

    @classmethod
    def of(cls, channel: str, message: ChannelMessage, epoch: str, seq: int) -> Update:
        """The update of a message that is there."""
        return cls(channel, message.update_count, lambda _count: message, epoch, seq)

    @property
    def message(self) -> ChannelMessage:
        """The message, the same one every time."""
        message = self._message
        if message is None:
            assert self._compose is not None
            message = self._message = self._compose(self.count)
            self._compose = None
        return message

    @property
    def position(self) -> str:
        """Where a client stands who has this and all before it: what `parse_position` reads."""
        return f"{self.epoch}-{self.seq}"

    @property
    def conflated(self) -> bool:
        """Whether a slow reader may be sent a later one in its place."""
        return KINDS[self.kind].conflated

    def frame(self, encoding: Encoding) -> bytes:
        """The frame, the same bytes for everybody."""
        frames = self._frames
        if frames is None:
            frames = self._frames = {}
        frame = frames.get(encoding)
        if frame is None:
            # What is not conflated overtakes what is, so it cannot say where a client stands.
            position = self.position if self.conflated else None
            frame = frames[encoding] = encoding.frame(self.message, position)
        return frame


class Batch:
    """Updates that are due together, framed in one encoding: the same bytes for every client."""

    __slots__ = ("_by_channel", "_data", "_ends", "_lossless", "encoding", "updates")

    def __init__(self, updates: list[Update], encoding: Encoding) -> None:
        self.updates = updates
        self.encoding = encoding
        self._data: bytes | None = None
        self._ends: list[int] = []
        self._lossless: list[int] | None = None
        self._by_channel: list[list[int]] = []

    @property
    def data(self) -> bytes:
        """All frames, in order."""
        if self._data is None:
            frames = [update.frame(self.encoding) for update in self.updates]
            self._data = frames[0] if len(frames) == 1 else b"".join(frames)
            self._ends = list(accumulate(map(len, frames)))
        return self._data

    @property
    def ends(self) -> list[int]:
        """Where in `data` each frame ends."""
        return self._ends if self.data else []

    def lossless(self, start: int) -> list[Update]:
        """Of the updates from the one with this number on those of which everybody gets each."""
        self._sort()
        assert self._lossless is not None
        return [self.updates[number] for number in self._lossless if number >= start]

    def newest(self, start: int) -> list[tuple[Update, int]]:
        """Of the updates from that number on the last of each conflated channel, and the first one's `update_count`."""
        self._sort()
        found = []
        for numbers in self._by_channel:
            first = bisect_left(numbers, start)
            if first < len(numbers):
                found.append((self.updates[numbers[-1]], self.updates[numbers[first]].count))
        return found

    def _sort(self) -> None:
        # Once for all clients that are behind: each of them then looks at its channels, not at every update.
        if self._lossless is not None:
            return
        self._lossless = []
        channels: dict[str, list[int]] = {}
        for number, update in enumerate(self.updates):
            if update.conflated:
                channels.setdefault(update.channel, []).append(number)
            else:
                self._lossless.append(number)
        self._by_channel = list(channels.values())


def parse_position(text: str) -> tuple[str, int] | None:
    """The epoch and the number in an `Update.position`; None for anything else."""
    epoch, _, seq = text.rpartition("-")
    if not epoch or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:
        return None
    return epoch, int(seq)
