"""Counts by size, and what became of them lately. Pure: time is an argument.

To count costs less than a microsecond, and a thousand at once cost no more than one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.0025, 0.004, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025),
    *(0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds for what happens within the daemon: finest from 6 to 250 ms, where a quantile is right by a tenth or so."""

LONG_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0, 3600.0),
)
"""Bounds for what others let us wait for."""


class Buckets(msgspec.Struct, frozen=True, gc=False):
    """What was counted, as of a moment."""

    bounds: tuple[float, ...]
    """The upper bound of each bucket but the last, which has none."""
    counts: tuple[int, ...]
    total: float
    """The sum of all that was counted."""

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Upper bound → how many are no larger; the last bound is infinity."""
        return list(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))

    def quantile(self, share: float) -> float | None:
        """What so many of all (0.99) are no larger than, about; None where there is nothing. Beyond the last bound
        nobody knows, and it is that."""
        wanted, seen = share * self.count, 0
        if not wanted:
            return None
        for (low, high), count in zip(pairwise((0.0, *self.bounds)), self.counts, strict=False):
            if seen + count >= wanted:
                return low + (high - low) * (wanted - seen) / count
            seen += count
        return self.bounds[-1]

    def since(self, earlier: Buckets) -> Buckets:
        """What was counted after `earlier`."""
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Buckets(self.bounds, counts, self.total - earlier.total)


class Histogram:
    """Counts values by their size."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        """`bounds` rise; a value that is one is counted below it."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count so many of this size. Below 0, which a clock that was set can make of a duration, it is 0."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += count
        self._total += value * count

    def spread(self, first: float, last: float, count: int) -> None:
        """Count so many that lie evenly between `first` and `last`."""
        first, last = max(first, 0.0), max(last, 0.0)
        low, high = bisect_left(self._bounds, first), bisect_left(self._bounds, last)
        self._total += (first + last) / 2 * count
        if low != high:
            counted = 0
            for number in range(low, high):
                below = round(count * (self._bounds[number] - first) / (last - first))
                self._counts[number] += below - counted
                counted = below
            count -= counted
        self._counts[high] += count

    def taken(self) -> Buckets:
        """What was counted so far."""
        return Buckets(self._bounds, tuple(self._counts), self._total)


class Recent(Generic[T]):
    """Samples of something that grows, so that its growth of the last minute can be told."""

    def __init__(self, now: float, sample: T, *, span_s: float = 60.0, every_s: float = 5.0) -> None:
        """`sample`: how it stands at first."""
        self._span_s = span_s
        self._every_s = every_s
        self._samples = deque([(now, sample)])

    def is_due(self, now: float) -> bool:
        """Whether it is time for another sample."""
        return now - self._samples[-1][0] >= self._every_s

    def note(self, now: float, sample: T) -> None:
        """Keep how it stands, and of what is older than the span only the newest."""
        self._samples.append((now, sample))
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._span_s:
            self._samples.popleft()

    @property
    def oldest(self) -> T:
        """How it stood a span ago, or first of all."""
        return self._samples[0][1]
