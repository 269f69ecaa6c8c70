"""How much one client, one address and all clients together ask of the daemon. Pure: time is an argument."""

from __future__ import annotations

import math
from collections import Counter
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


def address_group(address: str) -> str:
    """Whom an address stands for: itself, or for IPv6 its /64, which is what one household is given."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return address


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
