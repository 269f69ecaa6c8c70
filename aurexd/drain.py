"""A paced shutdown: when each client is told to go, and when it may come back. Pure: time is an argument.

Every good-bye costs the daemon that stops some work, every return costs the one that starts more. Neither may come
all at once, or the clients that are there wait for those that come and go.
"""

from __future__ import annotations

import msgspec

CLOSES_PER_S = 500.0
"""Good-byes a second: half of what one core can say over TLS, because the updates go on meanwhile."""

RETURNS_PER_S = 200.0
"""Clients that come back a second: two thirds of the TLS handshakes, upgrades and catching up that one core can do,
because those who are back already want their updates."""

RESTART_S = 1.5
"""From the last good-bye until there is a daemon again: the rest of the stop, and the start."""

NEWCOMERS_S = 2.0
"""Clients that come while the daemon stops are spread over at least so long."""


class Drain(msgspec.Struct, frozen=True):
    """The plan of one shutdown. Times are seconds of the caller's clock."""

    began: float
    clients: int
    """How many are to be told."""
    closing_s: float
    """Over how long their good-byes are spread."""

    @classmethod
    def plan(cls, clients: int, within_s: float, now: float) -> Drain:
        """Spread the good-byes at `CLOSES_PER_S`, or as much faster as it takes to be done in time."""
        return cls(now, clients, min(within_s, clients / CLOSES_PER_S))

    def close_at(self, number: int) -> float:
        """When the client of that number, from 0, is to be told."""
        return self.began + self.closing_s * number / max(1, self.clients)

    def retry_after_ms(self, number: int, now: float) -> int:
        """The slot of the client of that number: how long it is to stay away when it is told now.

        Slots are in the order of the good-byes, so that those who left first are the first to be back.
        """
        return self._until(number / RETURNS_PER_S, now)

    def newcomer_after_ms(self, chance: float, now: float) -> int:
        """The slot of one who comes while the daemon stops: somewhere among the others'. `chance`: from 0 to 1."""
        return self._until(chance * max(NEWCOMERS_S, self.clients / RETURNS_PER_S), now)

    def _until(self, slot_s: float, now: float) -> int:
        back_at = self.began + self.closing_s + RESTART_S
        return max(1, round((back_at + slot_s - now) * 1000))
