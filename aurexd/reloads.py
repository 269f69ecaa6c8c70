"""What became of the reloads: how many there were, whether the last one was taken over, and what waits since. Pure."""

from __future__ import annotations

from typing import Literal

from aurexd.market import EpochUs

Outcome = Literal["done", "refused", "failed"]
"""`refused`: the configuration was wrong, and nothing has changed. `failed`: it was not taken over in full."""

OUTCOMES: tuple[Outcome, ...] = ("done", "refused", "failed")


class Reloads:
    """The start counts as taken over, but not as a reload."""

    def __init__(self, now: EpochUs) -> None:
        self.counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.successful = True
        """Whether the last one was taken over."""
        self.succeeded_at = now
        """When one was, or the daemon started."""
        self.waiting = 0
        """Settings that have changed since the start and wait for a restart."""

    def done(self, now: EpochUs, waiting: int) -> None:
        """A configuration was taken over, but for so many settings."""
        self.counts["done"] += 1
        self.successful, self.succeeded_at, self.waiting = True, now, waiting

    def went_wrong(self, outcome: Outcome) -> None:
        """It was not."""
        self.counts[outcome] += 1
        self.successful = False
