"""How long to wait before trying again: exponential, capped, with full jitter. Pure: randomness is passed in.

Full jitter (a uniform draw from the whole interval) spreads a crowd of reconnecting clients best; see
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """A schedule of delays in seconds."""

    floor_s: float
    """Never less than this: the provider's own minimum between attempts."""
    base_s: float
    """The first interval that jitter draws from; doubles with every failure."""
    cap_s: float
    """The interval grows no further than this."""

    def delay(self, failures: int, rng: random.Random, *, at_least_s: float = 0.0) -> float:
        """Seconds to wait after the given number of failures in a row (1 or more).

        `at_least_s` raises the floor once, for a provider that said when to come back.
        """
        interval = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 60))
        floor = max(self.floor_s, at_least_s)
        return floor + rng.random() * interval
