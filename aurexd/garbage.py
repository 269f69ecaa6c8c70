"""The garbage collector's timetable: when it looks at everything, which takes a third of a second with five thousand
sessions. Left to itself Python does that whenever a quarter more objects have come: in the middle of every flood.

Sessions, requests and updates have no cycles when they end, so that they are free at once (a test holds that); what has
cycles nevertheless is little. So the full look is taken before the port opens, and then once in a while; what it has
seen alive it does not look at again.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator

import trio

FULL_LOOK_S = 3600.0
"""How often all that is new is looked at."""

NEVER = 2**30
"""So many lesser collections before Python takes a full look by itself."""


@contextlib.asynccontextmanager
async def timetable() -> AsyncIterator[None]:
    """Collect by this timetable, from a full look on; afterwards as before.

    What was seen alive stays out of it even then: Python takes a last look at everything when it ends.
    """
    before, was_on = gc.get_threshold(), gc.isenabled()
    gc.set_threshold(*before[:2], NEVER)
    gc.enable()
    _look_at_all()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look_now_and_then)
            yield
            nursery.cancel_scope.cancel()
    finally:
        gc.set_threshold(*before)
        if not was_on:
            gc.disable()


async def _look_now_and_then() -> None:
    while True:
        await trio.sleep(FULL_LOOK_S)
        _look_at_all()


def _look_at_all() -> None:
    gc.collect()
    gc.freeze()
