"""The persister with the real database in its real thread; time is real too, and waits are for events."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pykka
import pytest
import structlog.testing
import trio
from structlog.testing import capture_logs
from structlog.types import EventDict

from aurexd.actors.messages import (
    Decided,
    Decision,
    GetBooks,
    GetCandles,
    GetHistory,
    GetLastPrices,
    GetStore,
    KeepHandover,
    PriceRow,
    StoreState,
    StoreStatus,
    TakeHandover,
)
from aurexd.actors.persister import Append, Persister, StoreWorker
from aurexd.actors.supervisor import ChildSpec, Strategy, Supervisor
from aurexd.actors.trio_actor import ask
from aurexd.backlog import Backlog
from aurexd.backoff import Backoff
from aurexd.clock import SystemClock
from aurexd.errors import StoreError
from aurexd.market import SECOND_US, EpochUs
from tests.test_store import record
from tests.updates import price_at

T = TypeVar("T")

FOREVER = EpochUs(2**62)

NEVER_S = 60.0
"""A flush interval that does not pass within a test."""


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = Backoff(floor_s=0.01, base_s=0.01, cap_s=0.01)
    monkeypatch.setattr("aurexd.actors.persister.RETRY", soon)
    monkeypatch.setattr("aurexd.actors.persister.RETRY_PERMANENT", soon)
    monkeypatch.setattr("aurexd.actors.persister.DRAIN_RETRY_S", 0.01)
    monkeypatch.setattr("aurexd.store.BUSY_MS", 10)


class Disk:
    """What the test does to the database's thread, and what that thread was asked."""

    def __init__(self) -> None:
        self.works = threading.Event()
        """Cleared, it hangs."""
        self.works.set()
        self.appends: list[tuple[float, int]] = []
        """When each began, by `time.monotonic`, and of how many records."""
        self.questions = 0


class WorkerOnDisk(StoreWorker):
    """The store's worker, on a disk that can be made to hang."""

    def __init__(self, url: str, disk: Disk) -> None:
        super().__init__(url)
        self._disk = disk

    def on_receive(self, message: object) -> object:
        if isinstance(message, Append) and message.records:
            self._disk.appends.append((time.monotonic(), len(message.records)))
        if isinstance(message, GetHistory):
            self._disk.questions += 1
        assert self._disk.works.wait(20)
        return super().on_receive(message)


class Running:
    def __init__(self, core: Supervisor, path: Path) -> None:
        self.core = core
        self.path = path
        self.persister: pykka.ActorRef[Any] = core.address("persister")

    async def status(self) -> StoreStatus:
        return await ask(self.persister, GetStore())

    async def wait_for(self, condition: Callable[[StoreStatus], bool]) -> StoreStatus:
        return await self.wait_until(self.status, condition)

    async def wait_until(self, look: Callable[[], Awaitable[T]], condition: Callable[[T], bool]) -> T:
        with trio.fail_after(10):
            while not condition(seen := await look()):
                await trio.sleep(0.005)
            return seen

    def tell(self, *records: Decision) -> None:
        for each in records:
            self.persister.tell(Decided(decisions=(each,)))

    async def history(self, limit: int = 5) -> tuple[PriceRow, ...]:
        return await ask(
            self.persister, GetHistory(symbol="XAUUSD", start=EpochUs(0), end=FOREVER, limit=limit)
        )

    async def count(self) -> int:
        return stored(self.path)


def stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("SELECT count(*) FROM ticks").fetchone()
        assert isinstance(count, int)
        return count


def in_order(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as database:
        return [time for (time,) in database.execute("SELECT receive_time FROM ticks ORDER BY id")]


@asynccontextmanager
async def running(
    path: Path,
    *,
    capacity: int = 1000,
    backlog: Backlog[Decision] | None = None,
    flush_interval_s: float = 0.01,
    retention_days: float = 0,
    candle_days: dict[str, float] | None = None,
    disk: Disk | None = None,
) -> AsyncIterator[Running]:
    waiting = Backlog[Decision](capacity) if backlog is None else backlog
    on_disk = Disk() if disk is None else disk

    def persister() -> Persister:
        return Persister(
            core.address("store"),
            waiting,
            flush_interval_s=flush_interval_s,
            retention_days=retention_days,
            candle_days=candle_days or {},
            clock=SystemClock(),
            rng=random.Random(1),
        )

    core = Supervisor(
        "core",
        [
            ChildSpec("store", lambda: WorkerOnDisk(f"sqlite:///{path}", on_disk)),
            ChildSpec("persister", persister),
        ],
        strategy=Strategy.ONE_FOR_ONE,
        intensity=3,
        period_s=60,
    )
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(core.run)
            try:
                yield Running(core, path)
            finally:
                core.stop()


def said(logs: list[EventDict], *events: str) -> list[EventDict]:
    return [entry for entry in logs if entry["event"] in events]


# --- writing ---


async def test_records_are_committed_within_the_flush_interval(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db") as r:
        assert (await r.status()).state is StoreState.OK
        r.tell(*(record(receive_time=n) for n in range(100)))
        status = await r.wait_for(lambda s: s.stored == 100)
        assert (status.waiting, status.dropped) == (0, 0)
        assert stored(r.path) == 100
        assert [row.receive_time for row in await r.history()] == [95, 96, 97, 98, 99]


async def test_what_the_database_does_is_counted_with_its_time(tmp_path: Path) -> None:
    path, now = tmp_path / "a.db", SystemClock().now()
    async with running(path) as r:
        r.tell(record(receive_time=1), record(receive_time=2), record(receive_time=now))
        status = await r.wait_for(lambda s: s.stored == 3)
        await r.history()
        status = await r.status()
        assert status.capacity > 0
        for counted in (status.batches, status.appends, status.reads):
            assert counted is not None
            assert counted.count >= 1
        assert status.batches is not None
        assert status.batches.total == 3
        assert (status.failures, status.deleted) == (0, 0)
    async with running(path, retention_days=1) as r:
        assert (await r.wait_for(lambda s: s.deleted > 0)).deleted == 4, "a tick and its price each"


async def test_a_steady_stream_is_written_once_per_interval(tmp_path: Path) -> None:
    disk = Disk()
    async with running(tmp_path / "a.db", flush_interval_s=0.05, disk=disk) as r:
        for n in range(150):
            r.tell(record(receive_time=n))
            await trio.sleep(0.002)
        await r.wait_for(lambda s: s.stored == 150)
    began = [when for when, _ in disk.appends]
    # The interval is waited on the loop's clock and read in the thread: a little less is allowed.
    assert min(later - earlier for earlier, later in pairwise(began)) >= 0.04


async def test_a_full_batch_does_not_wait_for_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurexd.actors.persister.BATCH", 10)
    disk = Disk()
    async with running(tmp_path / "a.db", flush_interval_s=NEVER_S, disk=disk) as r:
        r.tell(*(record(receive_time=n) for n in range(25)))
        status = await r.wait_for(lambda s: s.stored == 20)
        assert status.waiting == 5
    assert [size for _, size in disk.appends] == [10, 10, 5], "the rest when it stops"


async def test_an_orderly_stop_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db", capacity=100_000, flush_interval_s=NEVER_S) as r:
        r.tell(*(record(receive_time=n) for n in range(4000)))
    assert in_order(r.path) == list(range(4000))


async def test_what_is_too_old_is_deleted_by_receive_time(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    now = SystemClock().now()
    async with running(path) as r:
        r.tell(record(receive_time=1), record(receive_time=now))
        await r.wait_for(lambda s: s.stored == 2)
    async with running(path, retention_days=1) as r:
        await r.wait_until(r.count, lambda count: count == 1)


async def test_candles_that_are_too_old_for_their_interval_are_deleted(tmp_path: Path) -> None:
    path, hour = tmp_path / "a.db", 3600 * SECOND_US
    prices = [Decision(price=price_at(source_time=EpochUs(n * hour))) for n in range(30)]

    async def count(interval: str) -> int:
        question = GetCandles(
            symbol="XAUUSD", interval=interval, start=EpochUs(0), end=FOREVER, limit=100, now=EpochUs(0)
        )
        return len((await ask(r.persister, question)).candles)

    async with running(path) as r:
        r.tell(*prices)
        r.tell(record(receive_time=1))
        await r.wait_for(lambda s: s.stored == 1)
        assert await count("1h") == 30
    async with running(path, candle_days={"1m": 0.5, "1h": 0}) as r:
        await r.wait_until(lambda: count("1m"), lambda left: left == 13)
        assert await count("1h") == 30


async def test_a_book_of_candles_has_all_in_it_that_was_told_before(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db", flush_interval_s=NEVER_S, capacity=10_000) as r:
        for n in range(3000):
            r.tell(Decision(price=price_at(source_time=EpochUs(n))))
        books = await ask(r.persister, GetBooks(), timeout_s=20)
        assert {candle.ticks for candle in books["XAUUSD"].candles} == {3000}


async def test_the_last_prices_are_those_that_were_told_before(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db", flush_interval_s=NEVER_S) as r:
        r.tell(*(record(receive_time=n) for n in range(20)))
        last = await ask(r.persister, GetLastPrices(symbols=("XAUUSD", "GC")), timeout_s=20)
        assert {symbol: row.receive_time for symbol, row in last.items()} == {"XAUUSD": 19}


async def test_a_book_is_refused_while_what_was_told_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.mkdir()
    async with running(path) as r:
        r.tell(record())
        with pytest.raises(StoreError, match="cannot be opened"):
            await ask(r.persister, GetBooks())


async def test_without_a_store_nothing_waits_and_history_says_why() -> None:
    persister = Persister(
        None,
        Backlog(10),
        flush_interval_s=0.01,
        retention_days=0,
        candle_days={},
        clock=SystemClock(),
        rng=random.Random(1),
    )
    async with trio.open_nursery() as nursery:
        ref: Any = await nursery.start(persister.run)
        ref.tell(record())
        status = await ask(ref, GetStore())
        assert (status.state, status.waiting) == (StoreState.OFF, 0)
        with pytest.raises(StoreError, match="switched off"):
            await ask(ref, GetHistory(symbol="XAUUSD", start=EpochUs(0), end=FOREVER, limit=5))
        assert await ask(ref, GetBooks()) == {}
        assert await ask(ref, GetLastPrices(symbols=("XAUUSD",))) == {}
        nursery.cancel_scope.cancel()


# --- a store in trouble ---


async def test_a_lock_degrades_the_store_and_nothing_is_lost_when_it_goes(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with running(tmp_path / "a.db") as r:
            with closing(sqlite3.connect(r.path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                r.tell(*(record(receive_time=n) for n in range(50)))
                status = await r.wait_for(lambda s: s.state is StoreState.DEGRADED)
                assert status.reason is not None
                assert "locked by another process" in status.reason
                assert status.waiting == 50
                assert status.failures > 0
                other.execute("ROLLBACK")
            await r.wait_for(lambda s: s.state is StoreState.OK and s.stored == 50)
            assert in_order(r.path) == list(range(50))
    degraded, recovered = said(logs, "store_degraded", "store_failed", "store_recovered")
    assert (degraded["event"], degraded["reason"]) == ("store_degraded", status.reason)
    assert (recovered["event"], recovered["waiting"], recovered["dropped"]) == ("store_recovered", 0, 0)


async def test_history_can_be_read_while_a_lock_keeps_the_store_from_writing(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db") as r:
        r.tell(record(receive_time=1))
        await r.wait_for(lambda s: s.stored == 1)
        with closing(sqlite3.connect(r.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            r.tell(record(receive_time=2))
            await r.wait_for(lambda s: s.state is StoreState.DEGRADED)
            assert [row.receive_time for row in await r.history()] == [1]
            other.execute("ROLLBACK")


async def test_a_full_backlog_drops_the_oldest_counts_and_says_it(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with running(tmp_path / "a.db", capacity=10) as r:
            with closing(sqlite3.connect(r.path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                r.tell(*(record(receive_time=n) for n in range(30)))
                await r.wait_for(lambda s: s.dropped == 20)
                await r.wait_for(lambda s: s.state is StoreState.DEGRADED)
                other.execute("ROLLBACK")
            await r.wait_for(lambda s: s.waiting == 0)
            assert in_order(r.path) == list(range(20, 30))
    assert sum(entry["count"] for entry in said(logs, "ticks_dropped")) == 20
    (recovered,) = said(logs, "store_recovered")
    assert recovered["dropped"] == 20


async def test_drops_are_said_though_the_store_is_well(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with running(tmp_path / "a.db", capacity=10) as r:
            r.tell(*(record(receive_time=n) for n in range(60)))  # faster than any disk
            status = await r.wait_for(lambda s: s.waiting == 0 and s.stored > 0)
            assert status.state is StoreState.OK
            assert status.stored + status.dropped == 60
            assert status.dropped > 0
    assert sum(entry["count"] for entry in said(logs, "ticks_dropped")) == status.dropped


async def test_a_damaged_file_is_failed_until_somebody_moves_it_away(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database, it is a text" * 1000)
    async with running(path) as r:
        status = await r.status()
        assert status.state is StoreState.FAILED
        assert status.reason is not None
        assert "move it away" in status.reason
        r.tell(record())
        with pytest.raises(StoreError, match="move it away"):
            await r.history()
        path.rename(tmp_path / "damaged.db")
        await r.wait_for(lambda s: s.state is StoreState.OK and s.stored == 1)


async def test_a_repaired_store_is_noticed_while_no_tick_comes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database, it is a text" * 1000)
    async with running(path) as r:
        assert (await r.status()).state is StoreState.FAILED
        path.unlink()
        await r.wait_for(lambda s: s.state is StoreState.OK)


async def test_the_daemon_is_ready_though_the_store_cannot_be_opened(tmp_path: Path) -> None:
    async with running(tmp_path / "no" / "such" / "a.db") as r:
        assert (await r.status()).state is StoreState.DEGRADED


async def test_a_stop_waits_for_a_lock_that_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with capture_logs() as logs:
        async with running(path, flush_interval_s=NEVER_S) as r:
            other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            r.tell(*(record(receive_time=n) for n in range(20)))
            threading.Timer(0.1, other.close).start()
    assert in_order(path) == list(range(20))
    assert said(logs, "store_degraded")
    assert not said(logs, "ticks_lost")


async def test_a_stop_says_what_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurexd.actors.persister.DRAIN_S", 0.1)
    with capture_logs() as logs:
        async with running(tmp_path / "a.db", flush_interval_s=NEVER_S) as r:
            other = sqlite3.connect(r.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            r.tell(*(record(receive_time=n) for n in range(20)))
    other.close()
    (lost,) = said(logs, "ticks_lost")
    assert lost["count"] == 20
    assert "locked" in lost["reason"]


# --- a disk that hangs ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPEN_S", "APPEND_S", "HISTORY_S"):
        monkeypatch.setattr(f"aurexd.actors.persister.{name}", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_hanging_disk_is_said_and_nothing_is_written_twice(tmp_path: Path) -> None:
    disk = Disk()
    async with running(tmp_path / "a.db", disk=disk) as r:
        disk.works.clear()
        r.tell(*(record(receive_time=n) for n in range(20)))
        status = await r.wait_for(lambda s: s.state is StoreState.DEGRADED)
        assert status.reason is not None
        assert "does not answer" in status.reason
        disk.works.set()
        await r.wait_for(lambda s: s.state is StoreState.OK and s.stored == 20)
        assert in_order(r.path) == list(range(20))


@pytest.mark.usefixtures("impatient")
async def test_a_stop_while_the_disk_hangs_writes_nothing_twice(tmp_path: Path) -> None:
    disk = Disk()
    async with running(tmp_path / "a.db", disk=disk) as r:
        disk.works.clear()
        r.tell(*(record(receive_time=n) for n in range(20)))
        await r.wait_for(lambda s: s.state is StoreState.DEGRADED)
        r.tell(record(receive_time=20))
        await r.status()
        threading.Timer(0.2, disk.works.set).start()
    assert in_order(r.path) == list(range(21))


@pytest.mark.usefixtures("impatient")
async def test_the_daemon_is_ready_though_the_disk_hangs(tmp_path: Path) -> None:
    disk = Disk()
    disk.works.clear()
    async with running(tmp_path / "a.db", disk=disk) as r:
        assert (await r.status()).state is StoreState.DEGRADED
        disk.works.set()
        await r.wait_for(lambda s: s.state is StoreState.OK)


async def test_questions_to_a_hanging_disk_hold_up_neither_the_stream_nor_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurexd.actors.persister.HISTORY_S", 1.0)  # and all else takes less, on any machine
    disk = Disk()
    refused = 0

    async def client(r: Running) -> None:
        nonlocal refused
        with pytest.raises(StoreError, match=r"does not answer.*ask again later"):
            await r.history()
        refused += 1

    async with running(tmp_path / "a.db", flush_interval_s=NEVER_S, disk=disk) as r:
        disk.works.clear()
        async with trio.open_nursery() as clients:
            for _ in range(10):
                clients.start_soon(client, r)
            await r.wait_until(r.status, lambda _: disk.questions == 1)
            r.tell(*(record(receive_time=n) for n in range(30)))
            assert (await r.status()).waiting == 30
            assert refused == 0, "answered while the questions wait"
        assert refused == 10
        disk.works.set()
        assert await r.history() == ()
    assert disk.questions == 2, "one at a time"


# --- crashes ---


async def test_a_crash_of_the_thread_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db") as r:
        r.tell(record(receive_time=1))
        await r.wait_for(lambda s: s.stored == 1)
        r.core.address("store").tell(Append(records=(None,), now=EpochUs(0)))  # type: ignore[arg-type]  # a bug
        r.tell(record(receive_time=2))
        await r.wait_for(lambda s: s.stored == 2)
    assert in_order(r.path) == [1, 2]


class BrittleBacklog(Backlog[Decision]):
    """Crashes whoever appends the record received at 13."""

    def append(self, record: Decision) -> None:
        if record.tick is not None and record.tick.receive_time == 13:
            raise RuntimeError("a bug")
        super().append(record)


async def test_a_crash_of_the_persister_loses_only_what_it_crashed_on(tmp_path: Path) -> None:
    backlog = BrittleBacklog(100)
    async with running(tmp_path / "a.db", backlog=backlog, flush_interval_s=NEVER_S) as r:
        r.tell(*(record(receive_time=n) for n in range(20)))
        status = await r.wait_for(lambda s: s.stored > 0)
        assert status.stored == 13, "what was waiting, by the next incarnation"
    assert in_order(r.path) == [n for n in range(20) if n != 13]


async def test_what_the_hub_leaves_is_there_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "aurexd.db"
    async with running(path) as r:
        assert await ask(r.persister, TakeHandover()) is None
        r.persister.tell(KeepHandover(handover=b"all of it"))
    async with running(path) as r:
        assert await ask(r.persister, TakeHandover()) == b"all of it"
        assert await ask(r.persister, TakeHandover()) is None


async def test_a_handover_that_cannot_be_kept_is_said_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "aurexd.db"
    async with running(path) as r:
        await r.wait_for(lambda status: status.state is StoreState.OK)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with structlog.testing.capture_logs() as logs:
                r.persister.tell(KeepHandover(handover=b"x"))
                await r.wait_until(lambda: _now(len(logs)), lambda count: count > 0)
        assert logs[0]["event"] == "handover_lost"
        assert "locked" in logs[0]["reason"]


async def _now(value: int) -> int:
    return value
