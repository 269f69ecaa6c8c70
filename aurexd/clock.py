"""What time it is. Everything that stamps a wall-clock time is given a `Clock`; tests give it a virtual one.

Durations and deadlines are not this room's: they use the event loop's own clock (`trio.current_time`), which
does not jump when the wall clock is set.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio

from aurexd.market import SECOND_US, EpochUs


class Clock(Protocol):
    """Tells the wall-clock time."""

    def now(self) -> EpochUs:
        """Microseconds since the epoch."""


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> EpochUs:
        """Microseconds since the epoch, as the machine believes."""
        return EpochUs(time.time_ns() // 1000)


class LoopClock:
    """A wall clock that advances with the event loop's: on `trio.testing.MockClock`, virtual time."""

    def __init__(self, start: EpochUs) -> None:
        self._offset = start - int(trio.current_time() * SECOND_US)

    def now(self) -> EpochUs:
        """Microseconds since the epoch, had the loop started at `start`."""
        return EpochUs(self._offset + int(trio.current_time() * SECOND_US))
