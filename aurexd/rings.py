"""What was published last on each channel, so that who comes back can be sent what it missed. Pure.

Each channel counts its messages and keeps the newest of them in a ring. All counts are of one *epoch*: they survive
an orderly restart (`keep`, `restore`) and start over with a new epoch after any other end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from aurexd.protocol.data import Position
from aurexd.protocol.messages import ChannelMessage
from aurexd.update import Update


class Ring:
    """One channel: how many messages it had, and the newest of them."""

    __slots__ = ("count", "lost", "updates")

    def __init__(self, size: int) -> None:
        self.count = 0
        """The `update_count` of the newest message; 0 before the first."""
        self.lost = 0
        """The number (`Update.seq`) of the newest message that is no longer kept."""
        self.updates: deque[Update] = deque(maxlen=size)

    @property
    def latest(self) -> Update | None:
        """The newest message, if it is kept."""
        return self.updates[-1] if self.updates else None

    def append(self, update: Update) -> None:
        """Keep a message; the oldest may have to go."""
        if len(self.updates) == self.updates.maxlen:
            self.lost = self.updates[0].seq if self.updates else update.seq
        self.updates.append(update)
        self.count = update.count

    def forget(self) -> None:
        """Its messages are of no use to anybody any more. The count stays, as long as the epoch does."""
        if self.updates:
            self.lost = self.updates[-1].seq
            self.updates.clear()

    def since(self, count: int) -> list[Update] | None:
        """All messages after the `count`th; None when that is not known, or one of them is lost."""
        missed = self.count - count
        if not 0 <= missed <= len(self.updates):
            return None
        return [self.updates[n] for n in range(len(self.updates) - missed, len(self.updates))]

    def after(self, seq: int) -> list[Update] | None:
        """All messages that were published after the update of that number; None when one of them is lost."""
        if seq < self.lost:
            return None
        return [update for update in self.updates if update.seq > seq]


class KeptRing(msgspec.Struct, gc=False):
    """A ring, to be written down."""

    count: int
    lost: int
    updates: list[tuple[int, ChannelMessage]]
    """Number and message, oldest first."""


class KeptRings(msgspec.Struct, gc=False):
    """All rings of an epoch, to be written down."""

    epoch: str
    seq: int
    rings: dict[str, KeptRing]


class Rings:
    """The channels of one epoch."""

    def __init__(self, epoch: str, size: int) -> None:
        """`size`: messages kept of each channel. A snapshot is made from the newest, so it is at least 1."""
        self.epoch = epoch
        self.seq = 0
        """The number of the newest update on any channel."""
        self._size = size
        self._began = 0
        """`seq` when this run began: what was published before is for those who were there."""
        self._rings: dict[str, Ring] = {}

    def publish(self, channel: str, message: Callable[[int], ChannelMessage]) -> Update:
        """The channel's next update; `message` makes it from its `update_count`."""
        ring = self.open(channel)
        self.seq += 1
        update = Update(channel, ring.count + 1, message, self.epoch, self.seq)
        ring.append(update)
        return update

    def is_open(self, channel: str) -> bool:
        """Whether the channel has a ring."""
        return channel in self._rings

    def open(self, channel: str) -> Ring:
        """The channel's ring, made if there is none."""
        ring = self._rings.get(channel)
        if ring is None:
            ring = self._rings[channel] = Ring(self._size)
        return ring

    def forget(self, channel: str) -> None:
        """The channel is served no more. If it is again, its counts go on: a position of this epoch means one thing."""
        if channel in self._rings:
            self._rings[channel].forget()

    def counts(self) -> dict[str, int]:
        """Channel → its `update_count`."""
        return {channel: ring.count for channel, ring in self._rings.items()}

    def count(self, channel: str) -> int:
        """The channel's `update_count`; 0 before its first message."""
        ring = self._rings.get(channel)
        return ring.count if ring else 0

    def latest(self, channel: str) -> Update | None:
        """The channel's newest message, if there was one in this run: nobody is to take an old one for what is now."""
        ring = self._rings.get(channel)
        latest = ring.latest if ring else None
        return latest if latest is not None and latest.seq > self._began else None

    def since(self, channel: str, position: Position) -> list[Update] | None:
        """What a client missed that was last there; None when it cannot be told, or not in full."""
        if position.epoch != self.epoch:
            return None
        ring = self._rings.get(channel)
        if ring is None:
            return [] if position.count == 0 else None
        return ring.since(position.count)

    def after(self, channel: str, epoch: str, seq: int) -> list[Update] | None:
        """The same for a client that knows the number of the last update it got, on whichever channel."""
        if epoch != self.epoch or seq > self.seq:
            return None
        ring = self._rings.get(channel)
        return ring.after(seq) if ring else []

    def keep(self) -> KeptRings:
        """Everything, for `restore`."""
        rings = {
            channel: KeptRing(ring.count, ring.lost, [(u.seq, u.message) for u in ring.updates])
            for channel, ring in self._rings.items()
        }
        return KeptRings(self.epoch, self.seq, rings)

    @classmethod
    def restore(cls, kept: KeptRings, size: int, is_served: Callable[[str], bool]) -> Rings:
        """The rings as they were; of channels that are no longer served, their counts."""
        rings = cls(kept.epoch, size)
        rings.seq = rings._began = kept.seq
        for channel, kept_ring in kept.rings.items():
            ring = rings._rings[channel] = Ring(size)
            ring.lost = kept_ring.lost
            for seq, message in kept_ring.updates:
                ring.append(Update.of(channel, message, kept.epoch, seq))
            ring.count = kept_ring.count
            if not is_served(channel):
                ring.forget()
        return rings
