"""Stores what the aggregator decides, without the stream ever waiting for a disk.

Two actors: `StoreWorker` owns the database in a thread of its own; `Persister` owns the policy: batches,
retries, what is dropped, and what an operator is told.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar

import pykka
import structlog
import trio
from pykka._envelope import Envelope

from aurexd.actors.messages import (
    AlertsFired,
    Appended,
    Ask,
    CatchUpAlerts,
    ChangeRule,
    CreateRule,
    Decided,
    Decision,
    DeleteRule,
    FillCandles,
    GetAlerts,
    GetAlertTotals,
    GetAlertWhy,
    GetBooks,
    GetCandles,
    GetHistory,
    GetLastPrices,
    GetRules,
    GetStatuses,
    GetStore,
    GetUnacknowledged,
    KeepHandover,
    MarketsChanged,
    PriceRow,
    StoreAcknowledged,
    StoreState,
    StoreStatus,
    TakeHandover,
)
from aurexd.actors.trio_actor import TrioActor, WorkerActor, ask, tell_when_room
from aurexd.alert_watch import Calm
from aurexd.backlog import Backlog
from aurexd.backoff import Backoff
from aurexd.calendar import Calendar
from aurexd.candles import KeptBook
from aurexd.clock import Clock
from aurexd.errors import StoreError
from aurexd.histogram import Histogram
from aurexd.market import SECOND_US, EpochUs
from aurexd.store import Store

log = structlog.get_logger(__name__)

BATCH_SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
"""Bounds of the buckets in which batches are counted, in records."""

BATCH = 2000
"""Records of one transaction at most: some twenty milliseconds of the database's thread."""

OPEN_S = 3.0
"""How long readiness waits for the store to open: more than it waits for a lock (`BUSY_MS`)."""

APPEND_S = 5.0
"""A disk that takes longer than this for a batch is said to be in trouble."""

HISTORY_S = 5.0
"""How long a question about history may wait, for its turn and for its answer."""

DRAIN_S = 9.0
"""What the last writes may take at a stop; with one `APPEND_S` more, within a shutdown time of 15 s."""

DRAIN_RETRY_S = 0.25
"""Between two attempts at a stop: there is no time for `RETRY`."""

RETRY = Backoff(floor_s=0.5, base_s=0.5, cap_s=15.0)
RETRY_PERMANENT = Backoff(floor_s=30.0, base_s=30.0, cap_s=30.0)
"""A person may have put the file right."""

DROPS_EVERY_S = 10.0
"""Drops are said at once, and then no more often than this: they come with every tick."""

RETENTION_EVERY_S = 3600.0
RETENTION_PASS_S = 30.0
"""A pass of deleting that takes longer is left to the next hour."""

RETENTION_PAUSE_S = 0.05
"""Between two passes of deleting, so that appends come in between."""

DAY_US = 86_400 * SECOND_US

R = TypeVar("R")

_WAITING = (GetHistory, GetCandles, FillCandles, GetStatuses, GetBooks, GetLastPrices, TakeHandover)
"""What waits for the disk, and is asked by those who can wait."""

_ALERT_CHANGES = (CreateRule, ChangeRule, DeleteRule, StoreAcknowledged)
_ALERTS = (*_ALERT_CHANGES, GetRules, GetUnacknowledged, GetAlerts, GetAlertWhy, GetAlertTotals)

NO_ANSWER = "the database does not answer — check the disk"


class Append(Ask[Appended], frozen=True, kw_only=True, gc=False):
    """Store a batch in one transaction, opening the database first if need be."""

    records: tuple[Decision, ...]
    now: EpochUs


class DeleteBefore(Ask[int], frozen=True, kw_only=True, gc=False):
    """Delete one pass of what is too old; the answer is the rows deleted."""

    receive_time: EpochUs


class DeleteAlerts(Ask[int], frozen=True, kw_only=True, gc=False):
    """The same for statuses, as prices, and for alerts; None: for ever."""

    prices: EpochUs | None
    alerts: EpochUs | None


class DeleteCandles(Ask[int], frozen=True, kw_only=True, gc=False):
    """The same for candles: interval → age in microseconds."""

    ages_us: dict[str, int]


class StoreWorker(WorkerActor):
    """The thread that owns the database. It opens it when it is first needed, and again after a failure."""

    def __init__(
        self,
        url: str,
        *,
        fill_us: int = 0,
        calendars: Mapping[str, Calendar] | None = None,
        run: str = "",
    ) -> None:
        """`fill_us`: for how long candles may be filled; see `Store`."""
        super().__init__()
        self._url = url
        self._fill_us = fill_us
        self._calendars = calendars or {}
        self._run = run
        self._store: Store | None = None

    def on_receive(self, message: object) -> object:
        """Do it in the open database."""
        try:
            match message:
                case Append(records=records, now=now):
                    store = self._open()
                    store.begin_run(now)
                    return store.append(records, now)
                case DeleteBefore(receive_time=receive_time):
                    return self._open().delete_before(receive_time)
                case DeleteCandles(ages_us=ages_us):
                    return self._open().delete_candles(ages_us)
                case KeepHandover(handover=handover):
                    self._open().keep_handover(handover)
                case TakeHandover():
                    return self._open().take_handover()
                case MarketsChanged(calendars=calendars, fill_us=fill_us):
                    self._calendars, self._fill_us = {**calendars, **self._calendars}, fill_us
                    if self._store is not None:
                        self._store.follow(self._calendars, fill_us)
                case GetHistory():
                    return self._open().history(message.symbol, message.start, message.end, message.limit)
                case GetCandles():
                    return self._open().candles(
                        message.symbol,
                        message.interval,
                        message.start,
                        message.end,
                        message.limit,
                        message.now,
                    )
                case GetBooks():
                    return self._open().books()
                case FillCandles(symbol=symbol, candles=candles):
                    return self._open().fill_candles(symbol, candles)
                case GetLastPrices(symbols=symbols):
                    return self._open().last_prices(symbols)
                case GetStatuses(symbol=of, before=before, limit=limit):
                    return self._open().statuses(of, before, limit)
                case CreateRule():
                    return self._open().create_rule(message)
                case ChangeRule():
                    return self._open().change_rule(message)
                case DeleteRule(owner=owner, rule_id=rule_id):
                    self._open().delete_rule(owner, rule_id)
                case GetRules(owner=owner, symbol=of, now=now):
                    return self._open().rules(owner, of, now)
                case StoreAcknowledged(owner=owner, alert_ids=alert_ids, now=now):
                    self._open().acknowledge(owner, alert_ids, now)
                case GetUnacknowledged(after=after):
                    return self._open().unacknowledged(after)
                case GetAlerts(owner=owner, before=before, limit=limit):
                    return self._open().alerts(owner, before, limit)
                case GetAlertWhy(owner=told_to, alert_id=alert_id):
                    return self._open().alert_why(told_to, alert_id)
                case GetAlertTotals(now=now):
                    return self._open().alert_totals(now)
                case DeleteAlerts(prices=prices, alerts=alerts):
                    return self._open().delete_alerts(prices, alerts)
        except StoreError:
            # A file that was moved away or put right is seen only by opening it again.
            self._close()
            raise
        return None

    def on_stop(self) -> None:
        """Close the database."""
        self._close()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002 — it is closed whatever happened
        exception_value: BaseException | None,  # noqa: ARG002
        traceback: TracebackType | None,  # noqa: ARG002
        /,
    ) -> None:
        """Close the database: the next incarnation opens it in its own thread."""
        self._close()

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store(
                self._url,
                {name: calendar.day for name, calendar in self._calendars.items()},
                fill_us=self._fill_us,
                calendars=self._calendars,
                run=self._run,
            )
        return self._store

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()


class Persister(TrioActor):
    """Gathers records, has them written in batches, and knows how the store is."""

    inbox_capacity = 4096  # over a second of the fastest replay

    def __init__(
        self,
        worker: pykka.ActorRef[Any] | None,
        backlog: Backlog[Decision],
        *,
        flush_interval_s: float,
        retention_days: float,
        candle_days: Mapping[str, float],
        clock: Clock,
        rng: random.Random,
        alert_days: float = 0.0,
        alerts: pykka.ActorRef[Any] | None = None,
    ) -> None:
        """Without a `worker` nothing is stored. 0 in `retention_days`, `alert_days`, or `candle_days` of an interval:
        for ever. `alerts` is told what fires."""
        super().__init__()
        self._alert_days = alert_days
        self._alerts = alerts
        self._calm: dict[str, Calm] = {}
        """Symbol → between which prices nothing fires, as of the last batch."""
        self._urgent = False
        """What waits may fire something: it is to be written at once."""
        self._unseen: dict[str, tuple[Decimal, Decimal]] = {}
        """Symbol → the lowest and highest price since the last batch was taken."""
        self._worker = worker
        self._backlog = backlog
        self._flush_interval_s = flush_interval_s
        self._retention_days = retention_days
        self._candle_ages_us = {
            interval: int(days * DAY_US) for interval, days in candle_days.items() if days
        }
        self._clock = clock
        self._rng = rng
        self._state = StoreState.OPENING if worker is not None else StoreState.OFF
        self._since = clock.now()
        self._reason: str | None = None
        self._failures = 0
        self._stored = self._judged_prices = 0
        self._alert_rules: dict[str, int] | None = None
        self._failed_batches = 0
        self._deleted = 0
        self._batches = Histogram(BATCH_SIZES)
        self._appends = Histogram()
        self._reads = Histogram()
        self._drops_said = backlog.dropped
        self._drops_said_at = -DROPS_EVERY_S
        self._judged = trio.Event()  # the store was found open, or in trouble
        self._enough = trio.Event()  # `_wanted` records wait
        self._wanted = 1
        self._writing = trio.Lock()
        self._reading = trio.Lock()
        self._unanswered: pykka.Future[Any] | None = None

    async def on_start(self) -> None:
        """Open the store, or find out that it cannot be opened: the daemon is ready either way."""
        if self._worker is None:
            return
        if self._alerts is not None:
            self._alerts.tell(CatchUpAlerts())
        self.nursery.start_soon(self._keep_writing, self._worker)
        if self._retention_days or self._candle_ages_us or self._alert_days:
            self.nursery.start_soon(self._keep_deleting, self._worker)
        with trio.move_on_after(OPEN_S):
            await self._judged.wait()
            return
        self._say_trouble(NO_ANSWER, StoreState.DEGRADED)

    async def on_receive(self, message: object) -> object:
        """Keep a record, or answer."""
        match message:
            case Decided(decisions=decisions):
                if self._worker is not None:
                    for decision in decisions:
                        self._backlog.append(decision)
                    for decision in decisions:
                        self._urgent = self._may_fire(decision) or self._urgent
                    if len(self._backlog) >= self._wanted or self._urgent:
                        self._enough.set()
            case GetStore():
                return self._status()
            case GetHistory() | GetCandles() | FillCandles() | GetStatuses():
                return await self._history(message)
            case GetBooks() | GetLastPrices():
                return await self._up_to_now(message)
            case KeepHandover():
                await self._keep_handover(message)
            case TakeHandover():
                return await self._take_handover(message)
            case Ask() if isinstance(message, _ALERTS):
                return await self._ask_of_alerts(message)
        return None

    async def _answer(self, envelope: Envelope[Any]) -> None:
        # These wait for the disk; in a task of their own, nothing behind them does: else a hanging disk
        # would fill the inbox and stop the stream.
        if isinstance(envelope.message, _WAITING + _ALERTS):
            self.nursery.start_soon(super()._answer, envelope)
        else:
            await super()._answer(envelope)

    async def on_stop(self) -> None:
        """Write what waits, in as many batches and attempts as it takes, within `DRAIN_S`."""
        if self._worker is None:
            return
        with trio.move_on_after(DRAIN_S):
            while self._backlog:
                if await self._write(self._worker):
                    continue
                if self._state is StoreState.FAILED:
                    break
                await trio.sleep(DRAIN_RETRY_S)
        if self._backlog:
            log.error("ticks_lost", count=len(self._backlog), reason=self._reason)
        self._say_drops(-DROPS_EVERY_S)

    # --- writing ---

    async def _keep_writing(self, worker: pykka.ActorRef[Any]) -> None:
        # In trouble it is tried again whether or not something waits: a repaired store is to be seen even
        # while the market is closed.
        while True:
            if await self._write(worker):
                await self._wait_until_enough(1)
                if not self._urgent:
                    with trio.move_on_after(self._flush_interval_s):
                        await self._wait_until_enough(min(BATCH, self._backlog.capacity))
            else:
                backoff = RETRY_PERMANENT if self._state is StoreState.FAILED else RETRY
                await trio.sleep(backoff.delay(self._failures, self._rng))

    async def _wait_until_enough(self, count: int) -> None:
        if len(self._backlog) < count:
            self._enough, self._wanted = trio.Event(), count
            await self._enough.wait()

    async def _write(self, worker: pykka.ActorRef[Any]) -> bool:
        """Have the oldest batch committed; whether it is. Says so when that is news."""
        async with self._writing:  # one at a time: a stop may come while a batch is under way
            batch = self._backlog.take(BATCH)
            self._urgent = False
            self._unseen.clear()
            try:
                appended = await self._append(worker, batch)
            except StoreError as error:
                self._fail(str(error), StoreState.FAILED if error.permanent else StoreState.DEGRADED)
                return False
            except pykka.ActorDeadError:
                self._fail("the database's thread keeps crashing — the log says why", StoreState.DEGRADED)
                return False
            self._backlog.committed()
        self._calm |= appended.calm
        if not all(map(self._is_calm, self._unseen)):
            self._urgent = True  # by what this batch has changed
        if appended.fired and self._alerts is not None:
            with contextlib.suppress(pykka.ActorDeadError):  # we stop: they are told at the next start
                await tell_when_room(self._alerts, AlertsFired(fired=appended.fired))
        self._batches.observe(len(batch))
        self._stored += sum(record.tick is not None for record in batch)
        self._judged_prices += sum(record.price is not None for record in batch)
        self._alert_rules = appended.rules
        self._failures = 0
        if self._state is not StoreState.OK:
            if self._state is not StoreState.OPENING:
                log.warning("store_recovered", waiting=len(self._backlog), dropped=self._backlog.dropped)
            self._enter(StoreState.OK, None)
        self._say_drops(self._drops_said_at)
        return True

    def _may_fire(self, record: Decision) -> bool:
        """Whether a record is out of the ordinary, so that somebody may wait to be alerted to it."""
        price = record.price
        if self._alerts is None:
            return False
        if price is None:
            return record.status is not None
        low, high = self._unseen.get(price.symbol, (price.close, price.close))
        self._unseen[price.symbol] = min(low, price.close), max(high, price.close)
        return price.rebased or not self._is_calm(price.symbol)

    def _is_calm(self, symbol: str) -> bool:
        """Whether nothing that waits of a symbol can fire, as far as is known."""
        calm, (low, high) = self._calm.get(symbol), self._unseen[symbol]
        return calm is not None and calm.low < low and high < calm.high

    async def _append(self, worker: pykka.ActorRef[Any], batch: tuple[Decision, ...]) -> Appended:
        # A batch that was handed over is waited for, however long it takes: written twice, it would be
        # recorded twice. For the same reason this actor's own end waits for it, for a while.
        began = trio.current_time()
        answer: pykka.Future[Appended] = worker.ask(Append(records=batch, now=self._clock.now()), block=False)
        try:
            with trio.move_on_after(APPEND_S, shield=True):
                return await answer
            while True:
                self._say_trouble(NO_ANSWER, StoreState.DEGRADED)
                with trio.move_on_after(APPEND_S):
                    return await answer
        finally:
            self._appends.observe(trio.current_time() - began)

    # --- what is said ---

    def _fail(self, reason: str, state: StoreState) -> None:
        self._backlog.put_back()
        self._failures += 1
        self._failed_batches += 1
        self._say_trouble(reason, state)

    def _say_trouble(self, reason: str, state: StoreState) -> None:
        if state is not self._state or reason != self._reason:
            if state is StoreState.FAILED:
                log.error("store_failed", reason=reason, waiting=len(self._backlog))
            else:
                log.error("store_degraded", reason=reason, waiting=len(self._backlog))
            self._enter(state, reason)
        self._say_drops(self._drops_said_at)

    def _say_drops(self, said_at: float) -> None:
        lost = self._backlog.dropped - self._drops_said
        now = trio.current_time()
        if lost and now >= said_at + DROPS_EVERY_S:
            log.error("ticks_dropped", count=lost, waiting=len(self._backlog), reason=self._reason)
            self._drops_said, self._drops_said_at = self._backlog.dropped, now

    def _enter(self, state: StoreState, reason: str | None) -> None:
        self._state, self._reason, self._since = state, reason, self._clock.now()
        self._judged.set()

    # --- the rest ---

    async def _history(self, question: Ask[R]) -> R:
        """One question at a time, so that an append waits behind one at most."""
        if self._worker is None:
            raise StoreError("storing is switched off — set storage.url", permanent=True)
        began = trio.current_time()
        with trio.move_on_after(HISTORY_S):
            async with self._reading:
                if self._unanswered is not None:
                    # Nobody waits for it any more, but the thread still has it before it.
                    with contextlib.suppress(Exception):
                        await self._unanswered
                self._unanswered = self._worker.ask(question, block=False)
                answer: R = await self._unanswered
                self._unanswered = None
                self._reads.observe(trio.current_time() - began)
                return answer
        raise StoreError(f"{NO_ANSWER}, and ask again later")

    async def _up_to_now(
        self, question: GetBooks | GetLastPrices
    ) -> dict[str, KeptBook[float]] | dict[str, PriceRow]:
        """How things stand once all is written that waits."""
        if self._worker is None:
            return {}
        while self._backlog:
            if not await self._write(self._worker):
                raise StoreError(self._reason or NO_ANSWER)
        if isinstance(question, GetBooks):
            return await ask(self._worker, question, timeout_s=HISTORY_S)
        return await ask(self._worker, question, timeout_s=HISTORY_S)

    async def _ask_of_alerts(self, question: Ask[R]) -> R:
        """Rules and alerts. A rule is judged on what comes after it, so what waits is written before it is made."""
        if self._worker is None:
            raise StoreError("storing is switched off, and alerts need it — set storage.url", permanent=True)
        changes = isinstance(question, _ALERT_CHANGES)
        if changes:
            if self._state not in (StoreState.OK, StoreState.OPENING):
                raise StoreError(self._reason or NO_ANSWER)
            if self._backlog and not await self._write(self._worker):
                raise StoreError(self._reason or NO_ANSWER)
        try:
            return await ask(self._worker, question, timeout_s=HISTORY_S)
        except trio.TooSlowError:
            raise StoreError(f"{NO_ANSWER}; what was asked may still be done") from None
        finally:
            if changes:
                self._calm.clear()  # as of the rules that were

    async def _keep_handover(self, message: KeepHandover) -> None:
        """The hub stops: nothing waits behind this but the end."""
        if self._worker is None:
            return
        try:
            await ask(self._worker, message, timeout_s=APPEND_S)
        except (StoreError, trio.TooSlowError, pykka.ActorDeadError) as error:
            log.warning("handover_lost", reason=str(error), consequence="clients that come back start over")

    async def _take_handover(self, question: TakeHandover) -> bytes | None:
        return None if self._worker is None else await ask(self._worker, question, timeout_s=HISTORY_S)

    async def _keep_deleting(self, worker: pykka.ActorRef[Any]) -> None:
        """Retention: of ticks and prices by receive time, of candles by the time they are of."""
        while True:
            if self._retention_days:
                limit = EpochUs(self._clock.now() - int(self._retention_days * DAY_US))
                await self._delete(worker, DeleteBefore(receive_time=limit))
            if self._candle_ages_us:
                await self._delete(worker, DeleteCandles(ages_us=self._candle_ages_us))
            if self._retention_days or self._alert_days:
                await self._delete(
                    worker,
                    DeleteAlerts(
                        prices=self._days_ago(self._retention_days), alerts=self._days_ago(self._alert_days)
                    ),
                )
            await trio.sleep(RETENTION_EVERY_S)

    def _days_ago(self, days: float) -> EpochUs | None:
        return EpochUs(self._clock.now() - int(days * DAY_US)) if days else None

    async def _delete(
        self, worker: pykka.ActorRef[Any], question: DeleteBefore | DeleteCandles | DeleteAlerts
    ) -> None:
        rows = 0
        try:
            while deleted := await ask(worker, question, timeout_s=RETENTION_PASS_S):
                rows += deleted
                self._deleted += deleted
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
            capacity=self._backlog.capacity,
            failures=self._failed_batches,
            judged=self._judged_prices,
            alert_rules=self._alert_rules,
            deleted=self._deleted,
            batches=self._batches.taken(),
            appends=self._appends.taken(),
            reads=self._reads.taken(),
        )
