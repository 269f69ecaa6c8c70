"""How much one client, one address and all clients together may ask of the daemon. Pure: time is an argument."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address

import msgspec


class TokenBucket(msgspec.Struct):
    """A rate limit that allows short bursts: `rate` tokens a second trickle in, at most `burst` are kept."""

    rate: float
    burst: float
    tokens: float
    updated: float
    """Time of the last look, in seconds of the caller's clock."""

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> TokenBucket:
        """A bucket with its whole burst to spend."""
        return cls(rate, burst, burst, now)

    def take(self, now: float) -> float:
        """Spend one token: 0.0, or the seconds until there is one (and nothing is spent)."""
        self.tokens = min(self.burst, self.tokens + (now - self.updated) * self.rate)
        self.updated = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / self.rate


def address_group(address: str) -> str:
    """Whom an address stands for: itself, or for IPv6 its /64, which is what one household is given."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return address


class Admission:
    """Counts streaming sessions, in all and per address, and says who is one too many."""

    def __init__(self, *, max_connections: int, max_connections_per_ip: int) -> None:
        """A limit of 0 is no limit."""
        self._max_connections = max_connections
        self._max_per_ip = max_connections_per_ip
        self._per_group: Counter[str] = Counter()
        self._total = 0

    def may_enter(self, address: str) -> str | None:
        """None, or the limit that is reached: `max_connections` or `max_connections_per_ip`."""
        if self._max_connections and self._total >= self._max_connections:
            return "max_connections"
        if self._max_per_ip and self._per_group[address_group(address)] >= self._max_per_ip:
            return "max_connections_per_ip"
        return None

    def enter(self, address: str) -> None:
        """A session begins."""
        self._total += 1
        self._per_group[address_group(address)] += 1

    def leave(self, address: str) -> None:
        """A session ended."""
        group = address_group(address)
        self._total -= 1
        self._per_group[group] -= 1
        if not self._per_group[group]:
            del self._per_group[group]
