"""Keeps actors alive, by OTP's names and rules: ordered start, budgeted restart, stop in reverse, escalation.

One supervisor for actors that are tasks, actors that are threads, and other supervisors. The rules are those
of https://www.erlang.org/doc/system/sup_princ.html; restarts with a delay and `park` are added to them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

import structlog
import trio

from aurexd.actors.address import Address
from aurexd.actors.child import Child, ChildSpec, ChildState, ChildStatus, Restart, is_crash
from aurexd.actors.inbox import InboxStatistics
from aurexd.backoff import Backoff
from aurexd.errors import SupervisionError

__all__ = ["ChildSpec", "ChildState", "ChildStatus", "OnExhausted", "Restart", "Strategy", "Supervisor"]

log = structlog.get_logger(__name__)


LOOK_S = 0.02
"""How often it is looked whether a child that was restarted is up."""


class Strategy(StrEnum):
    """Who is restarted when one child crashed."""

    ONE_FOR_ONE = "one_for_one"
    """That child."""
    REST_FOR_ONE = "rest_for_one"
    """That child and those that start after it."""
    ONE_FOR_ALL = "one_for_all"
    """All."""


class OnExhausted(StrEnum):
    """What happens when the budget of restarts is spent."""

    ESCALATE = "escalate"
    """All children stop, and the supervisor itself crashes. The budget is for all of them together."""
    PARK = "park"
    """The child stays down until `restart_child`; the others live on. Each child has its own budget."""


class Member(NamedTuple):
    """One child, somewhere below a supervisor."""

    supervisor: str
    depth: int
    """How many supervisors are between; 0 for a child of its own."""
    child: ChildStatus
    inbox: InboxStatistics | None
    """None: the child is a supervisor."""


class Supervisor:
    """Starts its children in order, restarts what crashes, and stops them in reverse.

    1.  `run` starts the children, each when the one before is ready. If one fails, those before it are
        stopped, and `run` raises its error.
    2.  A child that ends is restarted by `strategy`, its own `restart`, and `backoff`. A restart that fails
        is one more crash.
    3.  More than `intensity` restarts within `period_s`: `on_exhausted` says what happens. To escalate is to
        stop all and raise `SupervisionError` out of `run`.
    4.  `stop()`, or cancellation, stops the children in reverse. Each handles what is in its inbox, for as
        long as its `shutdown_s`, and is then cancelled. When a supervisor that is stopping already is
        cancelled, it cancels its children one after the other without waiting for their inboxes.
    """

    def __init__(
        self,
        name: str,
        specs: list[ChildSpec],
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: int = 1,
        period_s: float = 5.0,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
        on_exhausted: OnExhausted = OnExhausted.ESCALATE,
    ) -> None:
        """The defaults of `intensity` and `period_s` are OTP's. Without `backoff`, a restart is immediate."""
        if on_exhausted is OnExhausted.PARK and strategy is not Strategy.ONE_FOR_ONE:
            raise ValueError(
                f"{name}: {strategy} cannot park a child, for others depend on it; use one_for_one"
            )
        self.name = name
        self._strategy = strategy
        self._intensity = intensity
        self._period_s = period_s
        self._backoff = backoff
        self._rng = rng or random.Random()
        self._on_exhausted = on_exhausted
        self._children: list[Child] = []
        self._by_name: dict[str, Child] = {}
        self._wanted: list[ChildSpec] = []
        self.reconfigure(specs)
        self._prepare(supervised=False)

    def reconfigure(self, specs: list[ChildSpec]) -> None:
        """Have these children from the next `run` on. One that keeps its name keeps its address."""
        if len({spec.name for spec in specs}) != len(specs):
            raise ValueError(
                f"{self.name}: children need different names, not {[spec.name for spec in specs]}"
            )
        self._wanted = specs
        for spec in specs:
            self._by_name.setdefault(spec.name, Child(spec, self._child_ended))

    def _prepare(self, *, supervised: bool) -> None:
        before = self._children
        self._children = [self._by_name[spec.name] for spec in self._wanted]
        for child, spec in zip(self._children, self._wanted, strict=True):
            child.spec = spec
        for child in before:
            if child not in self._children:
                child.close("is there no more")
        self._by_name = {child.spec.name: child for child in self._children}
        self._over = trio.Event()
        self._serving = False
        self._patient = True
        self._for_good = not supervised
        self._failure: BaseException | None = None
        self._startup = trio.CancelScope()
        self._restarts: list[_Restarting] = []
        self._ended_early: list[tuple[Child, BaseException | None]] = []
        for child in self._children:
            child.crashes.clear()

    # --- for those around it ---

    def address(self, name: str) -> Address[Any]:
        """Where an actor child is told and asked: there before its first start, the same after each restart.

        While the child is down, messages wait in its inbox; only the one it crashed on is lost. When it is
        down for good they are answered with `ActorDeadError`.

        Raises:
            LookupError: there is no such child, or it is a supervisor.

        """
        child = self._child(name)
        if child.supervisor is not None:
            raise LookupError(f"{name} is a supervisor: ask it for its children's addresses")
        return child.address

    def children(self) -> list[ChildStatus]:
        """How the children are, in the order they start."""
        return [child.status() for child in self._children]

    def actors(self) -> Iterator[tuple[Supervisor, Child]]:
        """Every actor that is up and meant to stay so, here and below, with its supervisor."""
        for child in self._children:
            if child.supervisor is not None:
                yield from child.supervisor.actors()
            elif child.settled:
                yield self, child

    @property
    def parks(self) -> bool:
        """Can a child be given up while the others live on?"""
        return self._on_exhausted is OnExhausted.PARK

    def family(self, depth: int = 0) -> Iterator[Member]:
        """The children and theirs, each supervisor before those it watches, in the order they start."""
        for child in self._children:
            below = child.supervisor
            inbox = child.address.actor_inbox.statistics() if below is None else None
            yield Member(self.name, depth, child.status(), inbox)
            if below is not None:
                yield from below.family(depth + 1)

    @property
    def shutdown_s(self) -> float:
        """How long a stop in order may take."""
        return sum(child.longest_stop_s for child in self._children)

    def stop(self, *, for_good: bool = False) -> None:
        """Ask for a stop in order; `run` returns when it is done.

        `for_good`: the children's addresses are closed, although the supervisor above could run this one
        again. Without a supervisor above they always are.
        """
        self._for_good |= for_good
        self._serving = False
        self._startup.cancel()
        for restarting in self._restarts:
            restarting.scope.cancel()
        self._over.set()

    def restart_child(self, name: str) -> None:
        """Restart a child now, parked or not, with a fresh budget, and those that depend on it.

        Raises:
            LookupError: there is no such child.
            SupervisionError: it cannot be restarted now.

        """
        child = self._child(name)
        if not self._serving:
            raise SupervisionError(f"{name} cannot be restarted: its supervisor {self.name} is not serving")
        if child.spec.restart is Restart.TEMPORARY:
            raise SupervisionError(f"{name} cannot be restarted: it is temporary")
        child.crashes.clear()
        self._begin_restart(self._affected_by(child), 0.0)

    def park_child(self, name: str, reason: str) -> None:
        """Give up on a child that lives and is of no use; as after too many crashes, `restart_child` brings it back.

        Raises:
            LookupError: there is no such child.
            SupervisionError: others depend on it.

        """
        child = self._child(name)
        if not self.parks:
            raise SupervisionError(f"{name} cannot be parked: its siblings in {self.name} depend on it")
        log.error("actor_parked", supervisor=self.name, actor=name, reason=reason)
        child.park(reason)

    async def wait_restarted(self, name: str, *, within_s: float) -> None:
        """Restart a child as `restart_child` does, and wait until it and those that depend on it are up again.

        Raises:
            LookupError: there is no such child.
            SupervisionError: it cannot be restarted, or they are not up within `within_s`.

        """
        affected = self._affected_by(self._child(name))
        restarts = {child.spec.name: child.status().restarts for child in affected}
        self.restart_child(name)
        with trio.move_on_after(within_s):
            while not all(  # noqa: ASYNC110 — a child tells nobody
                child.settled and child.status().restarts > restarts[child.spec.name] for child in affected
            ):
                await trio.sleep(LOOK_S)
            return
        raise SupervisionError(f"{name} is not up again within {within_s:g} s; the log says why")

    def close(self, reason: str) -> None:
        """Close the addresses of a supervisor that will not run again."""
        for child in self._children:
            child.close(reason)

    def _child(self, name: str) -> Child:
        try:
            return self._by_name[name]
        except KeyError:
            raise LookupError(f"{self.name} supervises {', '.join(self._by_name)}, not {name}") from None

    # --- its life ---

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED, supervised: bool = False
    ) -> None:
        """Start, supervise, and stop after `stop()` or when cancelled; `started` when all children are ready.

        `supervised`: a supervisor above may run it again, so the addresses stay open at the end.

        Raises:
            SupervisionError: the children crashed too often; the last crash is its cause.
            BaseException: what the first start of a child raised.

        """
        self._prepare(supervised=supervised)
        try:
            async with trio.open_nursery() as watch:
                watch.start_soon(self._watch_cancellation)
                # Even when cancelled, children stop in order. Whatever is awaited here has its own deadline.
                with trio.CancelScope(shield=True):
                    await self._live(task_status)
                watch.cancel_scope.cancel()
        finally:
            if self._for_good:
                self.close("was stopped")
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame

    async def _watch_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._over.is_set():
                self._patient = False
                for child in self._children:
                    child.hurry()
            else:
                self.stop()

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as self._nursery:
            await self._start_all()
            if self._failure is None:
                task_status.started()
                await self._serve()
            await self._stop_all()

    async def _start_all(self) -> None:
        try:
            with self._startup:
                for child in self._children:
                    await child.start(self._nursery)
        except BaseException as error:
            if not is_crash(error):
                raise
            self._failure = error
            self.stop()

    async def _serve(self) -> None:
        self._serving = not self._over.is_set()
        for child, failure in self._ended_early:
            if not any(child in restarting.pending for restarting in self._restarts):
                self._child_ended(child, failure)
        self._ended_early.clear()
        await self._over.wait()

    async def _stop_all(self) -> None:
        for child in reversed(self._children):
            await child.stop(for_good=self._for_good, patient=self._patient)
            if child.state not in {ChildState.PARKED, ChildState.FINISHED}:
                child.enter(ChildState.STOPPED)
            if self._for_good:
                child.close("was stopped")

    # --- ends and restarts ---

    def _child_ended(self, child: Child, failure: BaseException | None) -> None:
        if child.stopping or self._over.is_set():
            return
        if not self._serving:
            # As in OTP, nothing is restarted until everything has started once.
            self._ended_early.append((child, failure))
        elif failure is None and child.spec.restart is not Restart.PERMANENT:
            child.enter(ChildState.FINISHED)
            child.close("has finished")
        elif child.spec.restart is Restart.TEMPORARY:
            self._drop(child)
        else:
            self._restart_or_give_up(child, failure)

    def _restart_or_give_up(self, child: Child, failure: BaseException | None) -> None:
        now = trio.current_time()
        child.crashes.append(now)
        for each in self._children:
            while each.crashes and each.crashes[0] < now - self._period_s:
                each.crashes.popleft()
        if self._on_exhausted is OnExhausted.PARK:
            restarts = len(child.crashes)
        else:
            restarts = sum(len(each.crashes) for each in self._children)
        if restarts <= self._intensity:
            delay_s = self._backoff.delay(len(child.crashes), self._rng) if self._backoff else 0.0
            log.warning("actor_restarting", supervisor=self.name, actor=child.spec.name, delay_s=delay_s)
            self._begin_restart(self._affected_by(child), delay_s)
        elif self._on_exhausted is OnExhausted.PARK:
            log.error("actor_parked", supervisor=self.name, actor=child.spec.name, reason="it kept crashing")
            child.enter(ChildState.PARKED)
            child.close("was given up: it kept crashing")
        else:
            log.error("supervisor_gave_up", supervisor=self.name, actor=child.spec.name)
            self._failure = SupervisionError(
                f"{self.name} gave up: its children ended more than {self._intensity} times within"
                f" {self._period_s:g} s, {child.spec.name} last"
            )
            self._failure.__cause__ = failure
            self.stop()

    def _affected_by(self, child: Child) -> list[Child]:
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return [child]
            case Strategy.REST_FOR_ONE:
                return self._children[self._children.index(child) :]
            case Strategy.ONE_FOR_ALL:
                return self._children

    def _begin_restart(self, affected: list[Child], delay_s: float) -> None:
        """Restart these, and what an overlapping restart has not brought up yet."""
        overlapping = [r for r in self._restarts if not set(affected).isdisjoint(r.pending)]
        wanted = set(affected)
        for restarting in overlapping:
            restarting.scope.cancel()
            self._restarts.remove(restarting)
            wanted.update(restarting.pending)
        restarting = _Restarting([child for child in self._children if child in wanted], trio.CancelScope())
        self._restarts.append(restarting)
        self._nursery.start_soon(self._restart, restarting, delay_s)

    async def _restart(self, restarting: _Restarting, delay_s: float) -> None:
        child = restarting.pending[0]
        try:
            with restarting.scope:
                for child in reversed(restarting.pending):
                    await child.stop()
                    if child.spec.restart is Restart.TEMPORARY:
                        self._drop(child)
                await trio.sleep(delay_s)
                while restarting.pending:
                    child = restarting.pending[0]
                    if child.spec.restart is not Restart.TEMPORARY:
                        await child.start(self._nursery)
                    restarting.pending.pop(0)
        except BaseException as error:
            if not is_crash(error):
                raise
            child.note(error)
            # Called off, what is pending has become another restart's, or nobody's.
            if not restarting.scope.cancel_called:
                self._restart_or_give_up(child, error)
        if restarting in self._restarts:
            self._restarts.remove(restarting)

    def _drop(self, child: Child) -> None:
        """A temporary child is down for good."""
        if child.state is not ChildState.FINISHED:
            child.enter(ChildState.STOPPED)
            child.close("is temporary and was not restarted")


class _Restarting(NamedTuple):
    """A restart under way: stop these in reverse, wait, start them in order."""

    pending: list[Child]
    """Those it has not brought up yet; none of them is up once they are being started."""
    scope: trio.CancelScope
