"""What waits to be written: bounded, oldest dropped first, every drop counted. Pure.

It outlives the persister's actor, so a crash there loses nothing that was not committed.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """A queue of records that is read by batches: a batch stays until it is said to be committed."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in records, at least 1; those being written are counted in."""
        self.capacity = capacity
        self.dropped = 0
        """Records that were pushed out, ever."""
        self._taken: tuple[T, ...] = ()
        self._waiting: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._taken) + len(self._waiting)

    def append(self, record: T) -> None:
        """Add the newest; a full backlog loses its oldest that is not just being written."""
        # What is being written may be committed already: dropping it would count a loss that is none.
        self._waiting.append(record)
        if len(self) > self.capacity:
            self._waiting.popleft()
            self.dropped += 1

    def take(self, most: int) -> tuple[T, ...]:
        """The oldest records, at most so many; they stay until `committed` or `put_back`.

        A batch that was taken before, and about which nothing was said, is put back first.
        """
        self.put_back()
        self._taken = tuple(self._waiting.popleft() for _ in range(min(most, len(self._waiting))))
        return self._taken

    def committed(self) -> None:
        """The batch that was taken is safe."""
        self._taken = ()

    def put_back(self) -> None:
        """The batch that was taken is not: it will be taken again."""
        self._waiting.extendleft(reversed(self._taken))
        self._taken = ()
