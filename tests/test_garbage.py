"""The collector's timetable: a full look at the start and once in a while, however many objects come."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import trio
import trio.testing

from aurexd import garbage


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """The full looks that are taken meanwhile."""
    looks: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == 2:
            looks.append(info["collected"])

    gc.callbacks.append(note)
    try:
        yield looks
    finally:
        gc.callbacks.remove(note)


def a_crowd() -> list[list[object]]:
    """Far more objects than make Python take a full look by itself."""
    return [[[] for _ in range(100)] for _ in range(3000)]


async def test_a_full_look_is_taken_at_the_start_and_every_hour_however_many_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    before = gc.get_threshold()
    with counted() as looks:
        async with garbage.timetable():
            assert len(looks) == 1
            kept = [a_crowd()]
            assert len(looks) == 1
            await trio.sleep(3 * garbage.FULL_LOOK_S + 1)
            assert len(looks) == 4
            assert gc.get_freeze_count() > 3000
        assert len(kept) == 1
        looks.clear()
        kept += [a_crowd() for _ in range(3)]
        assert looks, "left to itself Python would have looked"
    assert gc.get_threshold() == before
    gc.unfreeze()  # what the other tests leave behind is to be found again


async def test_it_collects_while_it_lasts_also_where_the_start_has_stopped_that() -> None:
    gc.disable()
    try:
        async with garbage.timetable():
            assert gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
