"""The watchdog: answered while everything that matters answers, and it tells what does not.

Time is real here, because a thread is involved; `LIMIT_S` is short.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from aurexd.actors.supervisor import ChildSpec, ChildState, OnExhausted, Strategy, Supervisor
from aurexd.actors.trio_actor import TrioActor, WorkerActor
from aurexd.errors import InboxFullError
from aurexd.watchdog import UNANSWERED, Watchdog

LIMIT_S = 0.4
SAFETY_S = 20.0


class Part(TrioActor):
    """Hangs when it is told to, until `gate` is opened."""

    inbox_capacity = 2

    def __init__(self, gate: trio.Event) -> None:
        super().__init__()
        self._gate = gate

    async def on_receive(self, message: object) -> None:
        if message == "hang":
            await self.hang_here()
        elif message == "block":
            time.sleep(LIMIT_S)  # noqa: ASYNC251 — that is the fault

    async def hang_here(self) -> None:
        await self._gate.wait()


class Disk(WorkerActor):
    """A thread that hangs."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> None:
        message.wait(SAFETY_S)


class Watched:
    """A tree with a core actor, a thread, and two sources; and how often it was said to be alive."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.alive = 0
        self.sources = Supervisor(
            "sources",
            [ChildSpec(name, lambda: Part(self.gate)) for name in ("one", "other")],
            on_exhausted=OnExhausted.PARK,
        )
        self.core = Supervisor(
            "core",
            [
                ChildSpec("disk", Disk),
                ChildSpec("hub", lambda: Part(self.gate)),
                ChildSpec("sources", self.sources),
            ],
            strategy=Strategy.REST_FOR_ONE,
        )

    def say_alive(self) -> None:
        self.alive += 1

    async def wait_for(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(SAFETY_S):
            while not condition():
                await trio.sleep(0.01)

    async def wait_alive(self, times: int = 3) -> None:
        before = self.alive
        await self.wait_for(lambda: self.alive >= before + times)


@pytest.fixture
def logs() -> Any:
    with capture_logs() as logs:
        yield logs


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    tree = Watched()
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.core.run)
        async with trio.open_nursery() as watching:
            watching.start_soon(Watchdog(tree.core, limit_s=LIMIT_S, alive=tree.say_alive).run)
            yield tree
            watching.cancel_scope.cancel()
        tree.gate.set()
        tree.core.stop()


def of(logs: list[Any], event: str) -> list[Any]:
    return [line for line in logs if line["event"] == event]


async def test_it_is_alive_while_all_answer(logs: list[Any]) -> None:
    async with watched() as tree:
        await tree.wait_alive(5)
    assert not of(logs, "actor_stuck")
    assert not of(logs, "loop_stuck")


async def test_a_stuck_core_actor_ends_the_answers_and_its_stack_is_said_once(logs: list[Any]) -> None:
    async with watched() as tree:
        await tree.wait_alive()
        tree.core.address("hub").tell("hang")
        await tree.wait_for(lambda: of(logs, "actor_stuck"))
        before = tree.alive
        await trio.sleep(LIMIT_S)
        assert tree.alive == before
        (said,) = of(logs, "actor_stuck")
        assert (said["actor"], said["silent_s"], said["log_level"]) == ("hub", LIMIT_S / 2, "error")
        assert "in hang_here" in said["stack"]
        assert said["stack"].index("in on_receive") < said["stack"].index("in hang_here")

        tree.gate.set()
        await tree.wait_alive()


async def test_one_with_a_full_inbox_is_stuck_too_and_one_that_is_only_busy_is_not(logs: list[Any]) -> None:
    async with watched() as tree:
        hub = tree.core.address("hub")
        hub.tell("hang")
        with contextlib.suppress(InboxFullError):
            while True:
                hub.tell("more")
        await tree.wait_for(lambda: of(logs, "actor_stuck"))
        tree.gate.set()
        await tree.wait_alive()


async def test_a_stuck_loop_is_seen_and_its_stack_is_said(logs: list[Any]) -> None:
    async with watched() as tree:
        await tree.wait_alive()
        tree.core.address("hub").tell("block")
        await tree.wait_for(lambda: of(logs, "loop_stuck"))
        (said,) = of(logs, "loop_stuck")
        assert "time.sleep(LIMIT_S)  # noqa" in said["stack"]
        await tree.wait_alive()


async def test_a_stuck_source_is_parked_with_its_stack_and_nothing_else_happens(logs: list[Any]) -> None:
    async with watched() as tree:
        tree.sources.address("one").tell("hang")
        await tree.wait_for(lambda: of(logs, "actor_parked"))
        await tree.wait_alive()
        one, other = tree.sources.children()
        assert (one.state, one.last_error) == (ChildState.PARKED, UNANSWERED)
        assert other.state is ChildState.RUNNING
        (said,) = of(logs, "actor_stuck")
        assert said["actor"] == "one"
        assert "in hang_here" in said["stack"]

        tree.gate.set()
        tree.sources.restart_child("one")
        await tree.wait_for(lambda: tree.sources.children()[0].state is ChildState.RUNNING)
        await tree.wait_alive()


async def test_a_thread_that_hangs_is_not_the_watchdogs_business(logs: list[Any]) -> None:
    gate = threading.Event()
    async with watched() as tree:
        tree.core.address("disk").tell(gate)
        await tree.wait_alive(5)
        gate.set()
    assert not of(logs, "actor_stuck")


async def test_after_its_end_nothing_is_said() -> None:
    async with watched() as tree:
        await tree.wait_alive()
    before = tree.alive
    await trio.sleep(LIMIT_S)
    assert tree.alive == before
