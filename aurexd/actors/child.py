"""One supervised child, across all its incarnations: how it is described, started and stopped.

When it is started, and what follows from its end, is the supervisor's business.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import structlog
import trio

from aurexd.actors.address import Address
from aurexd.actors.inbox import Inbox
from aurexd.actors.worker import WorkerActor
from aurexd.errors import SupervisionError

if TYPE_CHECKING:
    from aurexd.actors.supervisor import Supervisor
    from aurexd.actors.trio_actor import TrioActor

log = structlog.get_logger(__name__)

Actor: TypeAlias = "TrioActor | WorkerActor"

ACTOR_SHUTDOWN_S = 5.0  # OTP's default for workers


class Restart(StrEnum):
    """When a child that ended is restarted."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """When it crashed, not when it ended in order."""
    TEMPORARY = "temporary"
    """Never, not even when a strategy restarts the others."""


class ChildState(StrEnum):
    """How a child is."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """Down, or coming up again."""
    PARKED = "parked"
    """Given up on; `restart_child` brings it back."""
    STOPPED = "stopped"
    """Never started, stopped with its supervisor, or a temporary one that did not end in order."""
    FINISHED = "finished"
    """It ended in order and is not restarted."""


class ChildSpec(msgspec.Struct, frozen=True):
    """How to start, restart and stop one child."""

    name: str
    start: Callable[[], Actor] | Supervisor
    """Makes the actor of each incarnation; or the supervisor that is to run, again and again if need be."""
    restart: Restart = Restart.PERMANENT
    shutdown_s: float | None = None
    """How long a stop in order may take before the child is cancelled. None: `ACTOR_SHUTDOWN_S`, and for a
    supervisor as long as its children may take."""
    start_s: float = 30.0
    """How long it may take to become ready."""


class ChildStatus(msgspec.Struct, frozen=True):
    """What a supervisor knows of a child."""

    name: str
    state: ChildState
    restarts: int
    """How often it was started again."""
    last_error: str | None
    since: float
    """When it entered this state, in Trio's time; 0 before its first start."""
    crashes: int
    """How often it died of an error."""


class Child:
    """A child's actor or supervisor, its address, and its state."""

    def __init__(self, spec: ChildSpec, on_end: Callable[[Child, BaseException | None], None]) -> None:
        """`on_end` is told when an incarnation that was ready has ended, and of what it died."""
        self.spec = spec
        self.address: Address[Any] = Address(spec.name, Inbox(spec.name))
        self.state = ChildState.STOPPED
        self.supervisor = None if callable(spec.start) else spec.start
        """What it is, unless it is an actor."""
        self.crashes: deque[float] = deque()
        """When it needed a restart, as long ago as its supervisor cares."""
        self._on_end = on_end
        self._actor: Actor | None = None
        self._since = 0.0
        self._starts = self._crashed = 0
        self._last_error: str | None = None
        self._scope = trio.CancelScope()  # cancels the incarnation
        self._down = trio.Event()  # it has ended
        self._down.set()
        self._stop_by: float | None = None  # when the patience with a stop ends; None while none is asked for
        self._patience = trio.CancelScope()

    @property
    def settled(self) -> bool:
        """Is it up, and meant to stay so?"""
        return self.state is ChildState.RUNNING and self._stop_by is None

    @property
    def actor(self) -> Actor | None:
        """Who lives at the address; None: nobody yet, or a supervisor."""
        return self._actor

    @property
    def stopping(self) -> bool:
        """Was it asked to stop?"""
        return self._stop_by is not None

    @property
    def shutdown_s(self) -> float:
        """How long it may take to stop in order before it is cancelled."""
        if self.spec.shutdown_s is not None:
            return self.spec.shutdown_s
        return ACTOR_SHUTDOWN_S if self.supervisor is None else self.supervisor.shutdown_s

    @property
    def longest_stop_s(self) -> float:
        """The same with what follows: a thread that is cancelled finishes the message at hand."""
        if isinstance(self._actor, WorkerActor) and not self._actor.use_daemon_thread:
            return self.shutdown_s + self._actor.finish_s
        return self.shutdown_s

    def status(self) -> ChildStatus:
        """How it is."""
        return ChildStatus(
            self.spec.name,
            self.state,
            max(0, self._starts - 1),
            self._last_error,
            self._since,
            self._crashed,
        )

    def enter(self, state: ChildState) -> None:
        """Be in this state from now on."""
        self.state = state
        self._since = trio.current_time()

    def note(self, error: BaseException) -> None:
        """It crashed."""
        log.error("actor_crashed", actor=self.spec.name, exc_info=error)
        self._crashed += 1
        self._last_error = describe(error)

    def park(self, reason: str) -> None:
        """Give it up although it lives: cancel it, without waiting for its end."""
        self._last_error = reason
        self.enter(ChildState.PARKED)
        self.close(f"was given up: {reason}")
        self._scope.cancel()

    def close(self, reason: str) -> None:
        """Nobody lives at its address, nor at those below it, until it is started again."""
        self.address.close(f"{self.spec.name} {reason}")
        if self.supervisor is not None:
            self.supervisor.close(reason)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it in the nursery and wait until it is ready.

        Raises:
            SupervisionError: it was not ready in time.
            BaseException: what it raised before it was ready.

        """
        # Here, in `_run` and in `stop`: a restart may have been called off between two steps of this task.
        await trio.lowlevel.checkpoint_if_cancelled()
        self.enter(ChildState.RESTARTING if self._starts else ChildState.STARTING)
        self.address.reopen()
        self._down = trio.Event()
        with trio.move_on_after(self.spec.start_s) as deadline:
            await nursery.start(self._run)
        if deadline.cancelled_caught and not self.settled:
            raise SupervisionError(f"{self.spec.name} was not ready within {self.spec.start_s:g} s")

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """One incarnation, from its making to its end. Raises only what it died of before it was ready."""
        failure: BaseException | None = None
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._starts += 1
            with trio.CancelScope() as self._scope:
                await self._run_incarnation(_Ready(self, task_status))
        except BaseException as error:
            if self.state not in {ChildState.RUNNING, ChildState.PARKED} or not is_crash(error):
                raise
            failure = error
            self.note(error)
        else:
            log.info("actor_stopped", actor=self.spec.name)
        finally:
            was_ready = self.state is ChildState.RUNNING
            if was_ready:
                self.enter(ChildState.RESTARTING)
            self._down.set()
        if was_ready:
            try:
                self._on_end(self, failure)
            finally:
                del failure  # its traceback holds this frame

    async def _run_incarnation(self, ready: _Ready) -> None:
        start = self.spec.start
        if callable(start):
            self._actor = start()
            self._actor.move_to(self.address)
            await self._actor.run(task_status=ready)
        else:
            await start.run(task_status=ready, supervised=True)

    async def stop(self, *, for_good: bool = False, patient: bool = True) -> None:
        """Have it stop in order, within its `shutdown_s` from the first time it was asked; then cancel it.

        Does nothing when it is down. One that is just being started must have been cancelled by who starts
        it. Not `patient`, it is cancelled at once.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.settled:
            self._stop_by = trio.current_time() + self.shutdown_s
            if self.supervisor is not None:
                self.supervisor.stop(for_good=for_good)
            elif self._actor is not None:
                self._actor.stop()
        if not self._down.is_set():
            await self._wait_down(patient=patient)
        if self._stop_by is not None:
            self._stop_by = None
            # A request the incarnation did not get to would stop the next one.
            self.address.actor_inbox.answer_stops()

    async def _wait_down(self, *, patient: bool) -> None:
        with trio.CancelScope(
            deadline=math.inf if self._stop_by is None else self._stop_by
        ) as self._patience:
            if not patient:
                self.hurry()
            await self._down.wait()
        if not self._down.is_set():
            log.warning("actor_stop_overdue", actor=self.spec.name, shutdown_s=self.shutdown_s)
            self._scope.cancel()
            await self._down.wait()

    def hurry(self) -> None:
        """Wait no longer for its stop in order."""
        self._patience.cancel()


class _Ready:
    """A task status that makes the child `running` before it tells whoever waits for it."""

    def __init__(self, child: Child, task_status: trio.TaskStatus[None]) -> None:
        self._child = child
        self._task_status = task_status

    def started(self, _value: object = None) -> None:
        self._child.enter(ChildState.RUNNING)
        status = self._child.status()
        log.info("actor_started", actor=status.name, restarts=status.restarts)
        self._task_status.started()


def is_crash(error: BaseException) -> bool:
    """Did the child itself fail? Cancellation and Ctrl-C come from outside and must go on."""
    outside = (trio.Cancelled, KeyboardInterrupt)
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(outside) is None
    return not isinstance(error, outside)


def describe(error: BaseException) -> str:
    """An error in one line: its type and message, or those of the errors it groups."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
