"""The persister with the real database in its real thread; time is real too, and waits are for events."""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pykka
import pytest
import trio
from structlog.testing import capture_logs

from aurexd.actors.messages import GetHistory, GetStore, Recorded, StoreState, StoreStatus
from aurexd.actors.persister import Append, Persister, StoreWorker
from aurexd.actors.supervisor import ChildSpec, Strategy, Supervisor
from aurexd.actors.trio_actor import ask
from aurexd.backlog import Backlog
from aurexd.backoff import Backoff
from aurexd.clock import SystemClock
from aurexd.errors import StoreError
from aurexd.market import EpochUs
from tests.test_store import record

FOREVER = EpochUs(2**62)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurexd.actors.persister.RETRY", Backoff(floor_s=0.01, base_s=0.01, cap_s=0.01))
    monkeypatch.setattr(
        "aurexd.actors.persister.RETRY_PERMANENT", Backoff(floor_s=0.01, base_s=0.01, cap_s=0.01)
    )
    monkeypatch.setattr("aurexd.store.BUSY_MS", 10)


class Running:
    def __init__(self, core: Supervisor, path: Path) -> None:
        self.core = core
        self.path = path
        self.persister: pykka.ActorRef[Persister] = core.address("persister")

    async def status(self) -> StoreStatus:
        return await ask(self.persister, GetStore())

    async def wait_for(self, condition: Callable[[StoreStatus], bool]) -> StoreStatus:
        with trio.fail_after(10):
            while not condition(status := await self.status()):
                await trio.sleep(0.005)
            return status

    def tell(self, *records: Recorded) -> None:
        for each in records:
            self.persister.tell(each)

    def count(self) -> int:
        with closing(sqlite3.connect(self.path)) as database:
            (count,) = database.execute("SELECT count(*) FROM ticks").fetchone()
            assert isinstance(count, int)
            return count


@asynccontextmanager
async def running(path: Path, *, capacity: int = 1000, retention_days: float = 0) -> AsyncIterator[Running]:
    backlog: Backlog[Recorded] = Backlog(capacity)

    def persister() -> Persister:
        return Persister(
            core.address("store"),
            backlog,
            flush_interval_s=0.01,
            retention_days=retention_days,
            clock=SystemClock(),
            rng=random.Random(1),
        )

    core = Supervisor(
        "core",
        [ChildSpec("store", lambda: StoreWorker(f"sqlite:///{path}")), ChildSpec("persister", persister)],
        strategy=Strategy.ONE_FOR_ONE,
        intensity=3,
        period_s=60,
    )
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(core.run)
            yield Running(core, path)
            core.stop()


async def test_records_are_committed_within_the_flush_interval(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db") as r:
        assert (await r.status()).state is StoreState.OK
        r.tell(*(record(receive_time=n) for n in range(100)))
        status = await r.wait_for(lambda s: s.stored == 100)
        assert (status.waiting, status.dropped) == (0, 0)
        assert r.count() == 100
        rows = await ask(r.persister, GetHistory(symbol="XAUUSD", start=EpochUs(0), end=FOREVER, limit=5))
        assert [row.receive_time for row in rows] == [95, 96, 97, 98, 99]


async def test_an_orderly_stop_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db", capacity=100_000) as r:
        r.tell(*(record(receive_time=n) for n in range(4000)))
    assert r.count() == 4000


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
                other.execute("ROLLBACK")
            await r.wait_for(lambda s: s.state is StoreState.OK and s.stored == 50)
            assert r.count() == 50
    events = [entry["event"] for entry in logs if entry["event"].startswith("store_")]
    assert events == ["store_degraded", "store_recovered"], "said once each"


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
            assert r.count() == 10
    assert any(entry["event"] == "ticks_dropped" for entry in logs)


async def test_a_damaged_file_is_failed_until_somebody_moves_it_away(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database, it is a text" * 1000)
    async with running(path) as r:
        status = await r.status()
        assert status.state is StoreState.FAILED
        assert status.reason is not None
        assert "move it away" in status.reason
        r.tell(record())
        with pytest.raises(StoreError):
            await ask(r.persister, GetHistory(symbol="XAUUSD", start=EpochUs(0), end=FOREVER, limit=5))
        path.rename(tmp_path / "damaged.db")
        await r.wait_for(lambda s: s.state is StoreState.OK and s.stored == 1)


async def test_the_daemon_is_ready_though_the_store_cannot_be_opened(tmp_path: Path) -> None:
    async with running(tmp_path / "no" / "such" / "a.db") as r:
        assert (await r.status()).state is StoreState.DEGRADED


async def test_a_crash_of_the_thread_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "a.db") as r:
        r.tell(record(receive_time=1))
        await r.wait_for(lambda s: s.stored == 1)
        r.core.address("store").tell(Append(records=[None]))  # type: ignore[list-item]  # a bug
        r.tell(record(receive_time=2))
        with trio.fail_after(10):
            while r.count() < 2:
                await trio.sleep(0.01)


async def test_what_is_too_old_is_deleted_by_receive_time(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    now = SystemClock().now()
    async with running(path) as r:
        r.tell(record(receive_time=1), record(receive_time=now))
        await r.wait_for(lambda s: s.stored == 2)
    async with running(path, retention_days=1) as r:
        with trio.fail_after(10):
            while r.count() != 1:
                await trio.sleep(0.005)


async def test_without_a_store_nothing_waits_and_history_says_why() -> None:
    persister = Persister(
        None, Backlog(10), flush_interval_s=0.01, retention_days=0, clock=SystemClock(), rng=random.Random(1)
    )
    async with trio.open_nursery() as nursery:
        ref: Any = await nursery.start(persister.run)
        ref.tell(record())
        status = await ask(ref, GetStore())
        assert (status.state, status.waiting) == (StoreState.OFF, 0)
        with pytest.raises(StoreError, match="switched off"):
            await ask(ref, GetHistory(symbol="XAUUSD", start=EpochUs(0), end=FOREVER, limit=5))
        nursery.cancel_scope.cancel()


class Sluggish(StoreWorker):
    """A database whose disk hangs until the test lets it go."""

    def __init__(self, url: str, gate: threading.Event) -> None:
        super().__init__(url)
        self._gate = gate

    def on_receive(self, message: object) -> object:
        if isinstance(message, Append) and message.records:
            assert self._gate.wait(20)
        return super().on_receive(message)


async def test_a_hanging_disk_is_said_and_nothing_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurexd.actors.persister.APPEND_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(sys.modules[__name__], "StoreWorker", lambda url: Sluggish(url, gate))
    async with running(tmp_path / "a.db") as r:
        r.tell(*(record(receive_time=n) for n in range(20)))
        status = await r.wait_for(lambda s: s.state is StoreState.DEGRADED)
        assert status.reason is not None
        assert "has not answered" in status.reason
        gate.set()
        await r.wait_for(lambda s: s.state is StoreState.OK and s.stored == 20)
        assert r.count() == 20
