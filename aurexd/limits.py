"""How much one client, one address and all clients together ask of the daemon. Pure: time is an argument."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import msgspec


class TokenBucket(msgspec.Struct):
    """A rate limit that allows short bursts: `rate` tokens a second trickle in, at most `burst` are kept.

    It keeps neither of the two, so that another rate holds from the next token on.
    """

    tokens: float
    updated: float
    """Time of the last look, in seconds of the caller's clock."""

    @classmethod
    def full(cls, now: float) -> TokenBucket:
        """A bucket with its whole burst to spend, however large that is."""
        return cls(math.inf, now)

    def take(self, now: float, *, rate: float, burst: float) -> float:
        """Spend one token: 0.0, or the seconds until there is one (and nothing is spent)."""
        self.tokens = min(burst, self.tokens + (now - self.updated) * rate)
        self.updated = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / rate


def spend(full_at: float, now: float, *, rate: float, burst: float) -> tuple[float, float]:
    """One token of a bucket of which only that time is kept at which it will be full again: the cheapest there is.

    That time afterwards, and 0.0, or the seconds until there is a token (and nothing is spent).
    """
    full_at = min(max(full_at, now), now + burst / rate)
    tokens = burst - (full_at - now) * rate
    # A hair less than a whole one is a rounding error of the line above.
    return (full_at + 1.0 / rate, 0.0) if tokens > 1.0 - 1e-6 else (full_at, (1.0 - tokens) / rate)


class Rates:
    """A token bucket for each of many keys, in a table that forgets: those that are full again, and never more than
    `capacity` of the others. A rate of 0 is none: nothing is limited, and nothing kept."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """The one that was quiet for the longest comes first."""

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float, *, rate: float, burst: float) -> float:
        """Spend one of the key's tokens: 0.0, or the seconds until there is one (and nothing is spent)."""
        if not rate:
            return 0.0
        self._full_at[key], wait_s = spend(self._full_at.get(key, now), now, rate=rate, burst=burst)
        self._full_at.move_to_end(key)
        self._forget(now)
        return wait_s

    def wait(self, key: str, now: float, *, rate: float, burst: float) -> float:
        """The seconds until the key has a token; nothing is spent."""
        return spend(self._full_at.get(key, now), now, rate=rate, burst=burst)[1] if rate else 0.0

    def _forget(self, now: float) -> None:
        """Two at a time, so that the table shrinks while it is used and nobody waits for it."""
        for _ in range(2):
            first = next(iter(self._full_at))
            if self._full_at[first] <= now or len(self._full_at) > self._capacity:
                del self._full_at[first]
            if not self._full_at:
                return


@lru_cache(64)
def address_group(address: str) -> str:
    """Whom an address stands for: itself, or for IPv6 its /64, which is what one household is given."""
    parsed = ip_address(address)  # dear, and asked for several times while a client is let in
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


class SessionCounts:
    """Streaming sessions, in all and by group: an address, or whoever else they are counted by."""

    def __init__(self) -> None:
        self.total = 0
        self._by_group: Counter[str] = Counter()

    def of(self, group: str) -> int:
        """Sessions of the group."""
        return self._by_group[group]

    def add(self, group: str) -> None:
        """A session of the group begins."""
        self.total += 1
        self._by_group[group] += 1

    def remove(self, group: str) -> None:
        """A session of the group ended."""
        self.total -= 1
        self._by_group[group] -= 1
        if not self._by_group[group]:
            del self._by_group[group]
