"""What waits to be written: bounded, oldest dropped first, every drop counted. Pure.

It outlives the persister's actor, so a crash there loses nothing that was not committed.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """A queue of records that is read by batches: a batch stays until it is said to be committed."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in records, at least 1."""
        self._records: deque[T] = deque()
        self._capacity = capacity
        self._taken = 0
        self.dropped = 0
        """Records that were pushed out, ever."""

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: T) -> None:
        """Add the newest; a full backlog loses its oldest that is not just being written."""
        if len(self._records) >= self._capacity:
            # What is being written may be committed already: dropping it would count a loss that is none.
            if self._taken < len(self._records):
                del self._records[self._taken]
                self.dropped += 1
            else:
                self.dropped += 1
                return
        self._records.append(record)

    def take(self, most: int) -> list[T]:
        """The oldest records, at most so many; they stay until `committed` or `put_back`."""
        batch = list(islice(self._records, most))
        self._taken = len(batch)
        return batch

    def committed(self) -> None:
        """The batch that was taken is safe."""
        for _ in range(self._taken):
            self._records.popleft()
        self._taken = 0

    def put_back(self) -> None:
        """The batch that was taken is not: it will be taken again."""
        self._taken = 0
