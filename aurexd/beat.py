"""When those look who look around again and again: at common moments, so that an idle daemon wakes once for all."""

from __future__ import annotations

import trio


def next_beat(every_s: float) -> float:
    """The loop's time at the next multiple of `every_s` that is at least half of it away."""
    return (round(trio.current_time() / every_s) + 1) * every_s
