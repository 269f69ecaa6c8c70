"""Says that the daemon is alive only while its loop and its core actors are, and where they are not, what is stuck.

1.  On the loop, every core actor is asked whether it is there, again and again; it answers in its turn, so one that
    hangs in a message does not, nor one whose inbox nobody empties.
2.  A thread answers for the daemon (`alive`) if all have answered since it did so the last time. It does not need
    the loop, so it sees a loop that is stuck, too.
3.  After half of the time there is, the thread has the stack of whatever is stuck written to the log: the actors', or
    the loop's own. After all of it whoever listens restarts the daemon.
4.  An actor that others can do without, a source, is parked instead: it is nobody's reason to restart everything.

Threads that belong to actors are not asked: a disk that hangs is the persister's to judge, and stops no stream.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable

import pykka
import structlog
import trio

from aurexd.actors.child import Child
from aurexd.actors.messages import Ping
from aurexd.actors.supervisor import Supervisor
from aurexd.actors.trio_actor import TrioActor, ask
from aurexd.errors import InboxFullError

log = structlog.get_logger(__name__)

BEATS = 4
"""How often in `limit_s` the thread looks: each look may come late by as much."""

ROUNDS = 10
"""How often in `limit_s` the actors are asked."""

LOOP_ANSWERS_S = 1.0
"""A loop that does not answer within this, after half of `limit_s` has passed without a sign, is what is stuck."""

UNANSWERED = "it does not answer: it is stuck"


class Watchdog:
    """Watches one tree of supervisors from `run` to its cancellation."""

    def __init__(self, core: Supervisor, *, limit_s: float, alive: Callable[[], None]) -> None:
        """`limit_s`: `alive` must be called at least once in so many seconds. It is called by a thread."""
        self._core = core
        self._limit_s = limit_s
        self._alive = alive
        self._waiting: dict[str, Child] = {}
        """Core actors that have been asked and have not answered."""
        self._answered = False
        self._over = threading.Event()

    async def run(self) -> None:
        """Ask, and have the thread answer for the daemon; until cancelled."""
        loop = trio.lowlevel.current_trio_token()
        thread = threading.Thread(
            target=self._beat, args=(loop, threading.get_ident()), name="watchdog", daemon=True
        )
        thread.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_core)
                nursery.start_soon(self._ask_others)
        finally:
            self._over.set()

    # --- on the loop ---

    async def _ask_core(self) -> None:
        while True:
            async with trio.open_nursery() as nursery:
                for supervisor, child in self._core.actors():
                    if not supervisor.parks:
                        nursery.start_soon(self._ask, child)
            self._answered = True
            await trio.sleep(self._limit_s / ROUNDS)

    async def _ask(self, child: Child) -> None:
        if isinstance(child.actor, TrioActor):
            self._waiting[child.spec.name] = child
            await _answer(child)
            del self._waiting[child.spec.name]

    async def _ask_others(self) -> None:
        while True:
            async with trio.open_nursery() as nursery:
                for supervisor, child in self._core.actors():
                    if supervisor.parks:
                        nursery.start_soon(self._ask_or_park, supervisor, child)
            await trio.sleep(self._limit_s / ROUNDS)

    async def _ask_or_park(self, supervisor: Supervisor, child: Child) -> None:
        actor = child.actor
        if not isinstance(actor, TrioActor):
            return
        with trio.move_on_after(self._limit_s / 2):
            await _answer(child)
            return
        if child.settled and child.actor is actor:
            _say_stuck(child, self._limit_s / 2)
            supervisor.park_child(child.spec.name, UNANSWERED)

    def _say_stuck(self, silent_s: float, said: threading.Event) -> None:
        said.set()
        for child in self._waiting.values():
            _say_stuck(child, silent_s)

    # --- in the thread ---

    def _beat(self, loop: trio.lowlevel.TrioToken, loop_thread: int) -> None:
        silent = 0
        while not self._over.wait(self._limit_s / BEATS):
            if self._answered:
                self._answered, silent = False, 0
                self._alive()
                continue
            silent += 1
            if silent == BEATS // 2:
                self._look(loop, loop_thread)

    def _look(self, loop: trio.lowlevel.TrioToken, loop_thread: int) -> None:
        """What is stuck, while there is time to say it."""
        silent_s = self._limit_s / 2
        said = threading.Event()
        try:
            loop.run_sync_soon(self._say_stuck, silent_s, said)
        except trio.RunFinishedError:
            return
        if not said.wait(min(LOOP_ANSWERS_S, self._limit_s / BEATS)):
            frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 — there is no other way to another thread's
            log.error("loop_stuck", silent_s=silent_s, stack="".join(traceback.format_stack(frame)))


async def _answer(child: Child) -> None:
    """Return when the child has answered. One that has ended has nothing to answer for: that is its supervisor's."""
    while True:
        try:
            await ask(child.address, Ping(), timeout_s=float("inf"))
        except InboxFullError:
            await child.address.actor_inbox.wait_room()
        except pykka.ActorDeadError:
            return
        else:
            return


def _say_stuck(child: Child, silent_s: float) -> None:
    actor = child.actor
    if child.settled and isinstance(actor, TrioActor):
        waiting = actor.actor_inbox.statistics().depth
        log.error(
            "actor_stuck", actor=child.spec.name, silent_s=silent_s, waiting=waiting, stack=actor.stack()
        )
