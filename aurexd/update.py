"""What is published: one message of one channel, framed once per encoding, whoever gets it. Pure."""

from __future__ import annotations

from itertools import accumulate

from aurexd.protocol.channels import is_conflated
from aurexd.protocol.codec import Encoding
from aurexd.protocol.messages import ChannelMessage


class Update:
    """One message of one channel, and where it stands among all that were published."""

    __slots__ = ("_frames", "channel", "epoch", "kind", "message", "seq")

    def __init__(self, channel: str, message: ChannelMessage, epoch: str, seq: int) -> None:
        """`channel` as the hub knows it: an owner's own has the owner in its name."""
        self.channel = channel
        self.kind = channel.partition(":")[0]
        self.message = message
        self.epoch = epoch
        self.seq = seq
        """Its number among all updates of the epoch, from 1."""
        self._frames: dict[Encoding, bytes] = {}

    @property
    def position(self) -> str:
        """Where a client stands who has this and all before it: what `parse_position` reads."""
        return f"{self.epoch}-{self.seq}"

    @property
    def conflated(self) -> bool:
        """Whether a slow reader may be sent a later one in its place."""
        return is_conflated(self.channel)

    def frame(self, encoding: Encoding) -> bytes:
        """The frame, the same bytes for everybody; made when it is first wanted."""
        frame = self._frames.get(encoding)
        if frame is None:
            # What is not conflated overtakes what is, so it cannot say where a client stands.
            position = self.position if self.conflated else None
            frame = self._frames[encoding] = encoding.frame(self.message, position)
        return frame


class Batch:
    """Updates that are due together, framed in one encoding: the same bytes for every client."""

    __slots__ = ("data", "ends", "updates")

    def __init__(self, updates: list[Update], encoding: Encoding) -> None:
        frames = [update.frame(encoding) for update in updates]
        self.updates = updates
        self.data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.ends = list(accumulate(map(len, frames)))


def parse_position(text: str) -> tuple[str, int] | None:
    """The epoch and the number in an `Update.position`; None for anything else."""
    epoch, _, seq = text.rpartition("-")
    if not epoch or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:
        return None
    return epoch, int(seq)
