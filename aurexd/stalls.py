"""What holds the loop up: how late it comes round, and how long the garbage collector stops everything."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import AsyncIterator

import trio

from aurexd.beat import next_beat
from aurexd.histogram import Histogram

LOOK_S = 0.25
"""How often the loop is asked to be on time."""


class Stalls:
    """Counts both, since the daemon's start."""

    def __init__(self) -> None:
        self.loop_lag_s = Histogram()
        """How much later than asked for a task ran."""
        self.collections_s = [Histogram() for _ in range(3)]
        """How long each look of the garbage collector took, by generation."""
        self._began = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Count meanwhile."""
        gc.callbacks.append(self._note)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_loop)
                yield
                nursery.cancel_scope.cancel()
        finally:
            gc.callbacks.remove(self._note)

    async def _watch_loop(self) -> None:
        while True:
            due = next_beat(LOOK_S)
            await trio.sleep_until(due)
            self.loop_lag_s.observe(trio.current_time() - due)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collections_s[info["generation"]].observe(time.perf_counter() - self._began)
