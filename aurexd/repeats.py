"""Which of many equal lines are written, so that a mad client or a broken provider cannot fill the log. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aurexd.limits import TokenBucket

BURST = 50
"""So many lines of one kind are written, however quickly they come."""

EVERY_S = 10.0
"""And then one in so many seconds."""

QUIET_S = 60.0
"""After so long without another one, it is said how many of a kind were left out last."""

KIND = ("logger", "event", "source", "actor")
"""Lines that are equal in these are of one kind. None of them has many values, and no client can choose one."""

Kind = tuple[Any, ...]


def kind_of(event: Mapping[str, Any]) -> Kind:
    """What a line is about."""
    return tuple(event.get(key) for key in KIND)


class Repeats:
    """Counts the lines of each kind. Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._buckets: dict[Kind, TokenBucket] = {}
        self._swallowed: dict[Kind, int] = {}

    def admit(self, kind: Kind, now: float) -> int | None:
        """None: leave this line out. Else write it, and say that so many before it were left out."""
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket.full(now)
        if bucket.take(now, rate=1 / EVERY_S, burst=BURST):
            self._swallowed[kind] = self._swallowed.get(kind, 0) + 1
            return None
        return self._swallowed.pop(kind, 0)

    def overdue(self, now: float) -> Iterator[tuple[Kind, int]]:
        """Kinds that have been quiet, and how many of each were left out; each is told once."""
        for kind in [k for k in self._swallowed if now - self._buckets[k].updated >= QUIET_S]:
            yield kind, self._swallowed.pop(kind)
