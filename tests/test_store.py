from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aurexd.actors.messages import Recorded
from aurexd.errors import StoreError
from aurexd.market import EpochUs, Instrument, Price, Quality, Tick
from aurexd.store import DELETE_ROWS, Store

ROOT = Path(__file__).parent.parent


def record(last: str | Decimal = "2000.00", receive_time: int = 2, symbol: str = "XAUUSD") -> Recorded:
    tick = Tick(
        symbol=symbol,
        source="alltick",
        instrument=Instrument.SPOT,
        source_time=EpochUs(1),
        receive_time=EpochUs(receive_time),
        last=Decimal(last),
    )
    price = Price(
        symbol=symbol,
        close=Decimal(last),
        bid=None,
        ask=None,
        change=None,
        change_pct=None,
        source="alltick",
        instrument=Instrument.SPOT,
        quality=Quality.LIVE,
        source_time=EpochUs(1),
        receive_time=EpochUs(receive_time),
    )
    return Recorded(tick=tick, price=price)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/aurexd.db"


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        return database.execute(sql).fetchall()


def test_a_tick_is_stored_with_all_it_came_with(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([record("2706.93")])
    assert rows(url, "SELECT * FROM ticks") == [
        (1, "XAUUSD", "alltick", "spot", 1, 2, None, None, 2706.93, 0)
    ]
    assert rows(url, "SELECT close, quality FROM prices") == [(2706.93, "live")]


def test_it_writes_ahead_so_that_readers_never_wait(url: str) -> None:
    with closing(Store(url)):
        assert rows(url, "PRAGMA journal_mode") == [("wal",)]


def test_the_last_directory_is_made_but_not_a_whole_path(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/var/aurexd.db").close()
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o750
    with pytest.raises(StoreError, match="check the path in storage.url"):
        Store(f"sqlite:///{tmp_path}/a/b/aurexd.db")


prices = st.decimals(Decimal("0.000001"), Decimal(999_999_999), places=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(prices, min_size=1, max_size=20))
def test_a_price_of_fifteen_digits_comes_back_as_it_was_written(
    tmp_path: Path, closes: list[Decimal]
) -> None:
    url = f"sqlite:///{tmp_path}/{os.urandom(6).hex()}.db"
    with closing(Store(url)) as store:
        store.append([record(close, number) for number, close in enumerate(closes)])
        got = store.history("XAUUSD", EpochUs(0), EpochUs(10**6), 1000)
    assert [Decimal(repr(row.close)) for row in got] == closes


def test_history_is_the_newest_of_the_range_oldest_first(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([record(str(2000 + n), n) for n in range(10)])
        store.append([record("1", 5, symbol="GC")])
        assert [row.receive_time for row in store.history("XAUUSD", EpochUs(2), EpochUs(8), 3)] == [5, 6, 7]
        assert store.history("XAUUSD", EpochUs(100), EpochUs(200), 3) == ()


def test_a_batch_is_stored_whole_or_not_at_all(url: str) -> None:
    with closing(Store(url)) as store:
        store._db.execute("CREATE TRIGGER full BEFORE INSERT ON prices BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(StoreError):
            store.append([record()])
    assert rows(url, "SELECT count(*) FROM ticks") == [(0,)]


def test_retention_goes_by_receive_time_in_small_passes(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([record(receive_time=n) for n in range(DELETE_ROWS + 10)])
        assert store.delete_before(EpochUs(DELETE_ROWS + 5)) == 2 * DELETE_ROWS
        assert store.delete_before(EpochUs(DELETE_ROWS + 5)) == 10
        assert store.delete_before(EpochUs(DELETE_ROWS + 5)) == 0
    assert rows(url, "SELECT count(*) FROM ticks") == [(5,)]


def test_a_full_disk_is_said_and_nothing_is_half_written(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([record()])
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="is full — free some space") as failure:
            store.append([record() for _ in range(2000)])
        assert not failure.value.permanent
        store._db.execute("PRAGMA max_page_count = 100000")
        store.append([record()])
    assert rows(url, "SELECT count(*) FROM ticks") == [(2,)]


def test_a_lock_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurexd.store.BUSY_MS", 10)
    with closing(Store(url)) as store, closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            store.append([record()])
        other.execute("ROLLBACK")
        store.append([record()])


@pytest.mark.parametrize("damage", ["garbage", "header", "middle"])
def test_a_damaged_file_is_refused_for_good_and_left_alone(url: str, damage: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    with closing(Store(url)) as store:
        store.append([record(receive_time=n) for n in range(5000)])
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content[:] = os.urandom(8192)
    elif damage == "header":
        content[:16] = b"not a database!!"
    else:
        content[4096 : len(content) // 2] = b"\xaa" * (len(content) // 2 - 4096)
    path.write_bytes(content)

    def use() -> None:
        with closing(Store(url)) as store:
            store.append([record()])

    with pytest.raises(StoreError, match="damaged.*move it away") as failure:
        use()
    assert failure.value.permanent
    assert path.stat().st_size >= len(content)


def test_a_database_of_a_newer_aurexd_is_refused(url: str) -> None:
    with closing(Store(url)) as store:
        store._db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('aurexd', 'm999_future', 'later')"
        )
    with pytest.raises(StoreError, match="newer aurexd \\(m999_future\\)") as failure:
        Store(url)
    assert failure.value.permanent


@pytest.mark.slow
def test_kill_9_while_writing_leaves_whole_batches(url: str) -> None:
    program = f"""
        import itertools
        from tests.test_store import record
        from aurexd.store import Store
        store = Store({url!r})
        for batch in itertools.count():
            store.append([record(receive_time=batch * 10 + n) for n in range(10)])
            print(batch, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        said += [int(line) for line in writer.stdout.read().split()]
    with closing(Store(url)) as store:
        store.append([])
    ((count,),) = rows(url, "SELECT count(*) FROM ticks")
    assert isinstance(count, int)
    assert count % 10 == 0
    assert count >= 10 * (said[-1] + 1)
