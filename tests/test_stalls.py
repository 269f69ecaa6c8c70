"""What holds the loop up is counted: a task that computes for long, and the garbage collector."""

from __future__ import annotations

import gc

import trio
import trio.testing

from aurexd.stalls import LOOK_S, Stalls


async def test_a_loop_that_is_held_up_is_late_by_that(autojump_clock: trio.testing.MockClock) -> None:
    stalls = Stalls()
    async with stalls.watched():
        await trio.sleep(LOOK_S * 4.5)
        assert stalls.loop_lag_s.taken().count == 4
        assert stalls.loop_lag_s.taken().total < 0.001
        autojump_clock.jump(LOOK_S / 2 + 3.0)  # as if somebody had computed for so long
        await trio.testing.wait_all_tasks_blocked()
    late = stalls.loop_lag_s.taken()
    assert late.count == 5
    assert 2.9 < late.total < 3.1


async def test_the_collectors_looks_are_counted_by_generation() -> None:
    stalls = Stalls()
    before = list(gc.callbacks)
    async with stalls.watched():
        gc.collect(1)
        gc.collect()
    counted = [pauses.taken() for pauses in stalls.collections_s]
    assert counted[1].count >= 1
    assert counted[2].count >= 1
    assert counted[2].total > 0
    assert gc.callbacks == before
