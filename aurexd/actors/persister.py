"""Stores what the aggregator decides, without the stream ever waiting for a disk.

Two actors: `StoreWorker` owns the database in a thread of its own; `Persister` owns the policy: batches, retries, what
is dropped, and what an operator is told.
"""

from __future__ import annotations

import random
from typing import Any

import pykka
import structlog
import trio

from aurexd.actors.messages import (
    Ask,
    GetHistory,
    GetStore,
    PriceRow,
    Recorded,
    StoreState,
    StoreStatus,
)
from aurexd.actors.trio_actor import TrioActor, WorkerActor, ask
from aurexd.backlog import Backlog
from aurexd.backoff import Backoff
from aurexd.clock import Clock
from aurexd.errors import StoreError
from aurexd.market import SECOND_US, EpochUs
from aurexd.store import Store

log = structlog.get_logger(__name__)

BATCH = 2000
"""Records of one transaction at most: some ten milliseconds of the database's thread."""

APPEND_S = 10.0
"""A disk that takes longer than this is said to be in trouble; also what the last writes may take at a stop."""

RETRY = Backoff(floor_s=0.5, base_s=0.5, cap_s=15.0)
RETRY_PERMANENT = Backoff(floor_s=30.0, base_s=5.0, cap_s=30.0)
"""A person may have put the file right."""

RETENTION_EVERY_S = 3600.0
RETENTION_PAUSE_S = 0.05
"""Between two passes of deleting, so that appends come in between."""

DAY_US = 86_400 * SECOND_US


class Append(Ask[None], frozen=True, kw_only=True, gc=False):
    """Store a batch in one transaction, opening the database first if need be."""

    records: list[Recorded]


class DeleteBefore(Ask[int], frozen=True, kw_only=True, gc=False):
    """Delete one pass of what is too old; the answer is the rows deleted."""

    receive_time: EpochUs


class StoreWorker(WorkerActor):
    """The thread that owns the database. It opens it when it is first needed, and again after a failure."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._store: Store | None = None

    def on_receive(self, message: object) -> object:
        """Do it in the open database."""
        try:
            match message:
                case Append(records=records):
                    self._open().append(records)
                case DeleteBefore(receive_time=receive_time):
                    return self._open().delete_before(receive_time)
                case GetHistory():
                    return self._open().history(message.symbol, message.start, message.end, message.limit)
        except StoreError:
            # A file that was moved away or put right is seen only by opening it again.
            self._close()
            raise
        return None

    def on_stop(self) -> None:
        """Close the database."""
        self._close()

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store(self._url)
        return self._store

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()


class Persister(TrioActor):
    """Gathers records, has them written in batches, and knows how the store is."""

    inbox_capacity = 4096

    def __init__(
        self,
        worker: pykka.ActorRef[Any] | None,
        backlog: Backlog[Recorded],
        *,
        flush_interval_s: float,
        retention_days: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Without a `worker` nothing is stored. `retention_days` of 0: for ever."""
        super().__init__()
        self._worker = worker
        self._backlog = backlog
        self._flush_interval_s = flush_interval_s
        self._retention_days = retention_days
        self._clock = clock
        self._rng = rng
        self._state = StoreState.OPENING if worker is not None else StoreState.OFF
        self._since = clock.now()
        self._reason: str | None = None
        self._failures = 0
        self._stored = 0
        self._lost_already = backlog.dropped
        self._work = trio.Event()
        self._writing = trio.Lock()

    async def on_start(self) -> None:
        """Open the store, or find out that it cannot be opened: the daemon is ready either way."""
        if self._worker is None:
            return
        await self._write()
        self.nursery.start_soon(self._keep_writing)
        if self._retention_days:
            self.nursery.start_soon(self._keep_deleting)

    async def on_receive(self, message: object) -> object:
        """Keep a record, or answer."""
        match message:
            case Recorded():
                if self._worker is not None:
                    self._backlog.append(message)
                    self._work.set()
            case GetStore():
                return self._status()
            case GetHistory():
                return await self._history(message)
        return None

    async def on_stop(self) -> None:
        """Write what waits, in as many batches as it takes, once."""
        self.nursery.cancel_scope.cancel()
        if self._worker is None:
            return
        with trio.move_on_after(APPEND_S, shield=True):  # the nursery, and so this task, is being cancelled
            while self._backlog and await self._write():
                pass
        if self._backlog:
            log.error("ticks_lost", count=len(self._backlog), reason=self._reason)

    # --- writing ---

    async def _keep_writing(self) -> None:
        while True:
            await self._work.wait()
            await trio.sleep(self._flush_interval_s)
            self._work = trio.Event()
            while self._backlog:
                if not await self._write():
                    backoff = RETRY_PERMANENT if self._state is StoreState.FAILED else RETRY
                    await trio.sleep(backoff.delay(self._failures, self._rng))

    async def _write(self) -> bool:
        """Have the oldest batch committed; whether it is. Says so when that is news."""
        async with self._writing:  # one at a time: a stop may come while a batch is under way
            batch = self._backlog.take(BATCH)
            try:
                await self._append(batch)
            except StoreError as error:
                self._fail(str(error), StoreState.FAILED if error.permanent else StoreState.DEGRADED)
                return False
            except pykka.ActorDeadError:
                self._fail("the database's thread keeps crashing — its log says why", StoreState.DEGRADED)
                return False
            self._backlog.committed()
        self._stored += sum(record.tick is not None for record in batch)
        self._failures = 0
        if self._state is not StoreState.OK:
            if self._state is not StoreState.OPENING:
                log.warning("store_recovered", waiting=len(self._backlog), dropped=self._backlog.dropped)
            self._enter(StoreState.OK, None)
        return True

    async def _append(self, batch: list[Recorded]) -> None:
        # A batch that was handed over is waited for, however long it takes: written twice, it would be recorded
        # twice. Past the deadline the store is called degraded, and the wait may be cancelled.
        assert self._worker is not None
        answer = self._worker.ask(Append(records=batch), block=False)
        with trio.move_on_after(APPEND_S, shield=True):
            await answer
            return
        reason = f"the database has not answered for {APPEND_S:g} s — check the disk"
        self._say(reason, StoreState.DEGRADED)
        await answer

    def _fail(self, reason: str, state: StoreState) -> None:
        self._backlog.put_back()
        self._failures += 1
        self._say(reason, state)

    def _say(self, reason: str, state: StoreState) -> None:
        if state is not self._state or reason != self._reason:
            log.error("store_" + state.value, reason=reason, waiting=len(self._backlog))
            self._enter(state, reason)
        lost = self._backlog.dropped - self._lost_already
        if lost:
            log.error("ticks_dropped", count=lost, waiting=len(self._backlog), reason=reason)
            self._lost_already = self._backlog.dropped

    def _enter(self, state: StoreState, reason: str | None) -> None:
        self._state, self._reason, self._since = state, reason, self._clock.now()

    # --- the rest ---

    async def _history(self, question: GetHistory) -> tuple[PriceRow, ...]:
        if self._worker is None:
            raise StoreError("storing is switched off — set storage.url")
        return await ask(self._worker, question, timeout_s=APPEND_S)

    async def _keep_deleting(self) -> None:
        """Retention, by receive time."""
        while True:
            limit = EpochUs(self._clock.now() - int(self._retention_days * DAY_US))
            await self._delete_before(limit)
            await trio.sleep(RETENTION_EVERY_S)

    async def _delete_before(self, limit: EpochUs) -> None:
        assert self._worker is not None
        rows = 0
        try:
            while deleted := await ask(self._worker, DeleteBefore(receive_time=limit), timeout_s=APPEND_S):
                rows += deleted
                await trio.sleep(RETENTION_PAUSE_S)
        except (StoreError, trio.TooSlowError, pykka.ActorDeadError) as error:
            log.warning("retention_postponed", reason=str(error))
        if rows:
            log.info("retention_done", rows=rows)

    def _status(self) -> StoreStatus:
        return StoreStatus(
            state=self._state,
            since=self._since,
            reason=self._reason,
            stored=self._stored,
            waiting=len(self._backlog),
            dropped=self._backlog.dropped,
        )
