"""The store on real files: what comes back, and what is said when SQLite or the disk refuses."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import sqlite_utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aurexd.actors.messages import CandlePage, Decision, PriceRow
from aurexd.calendar import METALS_CALENDAR
from aurexd.candles import INTERVALS, LATE_S, Candle
from aurexd.errors import StoreError
from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality, Tick
from aurexd.store import DELETE_ROWS, ROWS_AT_ONCE, Store, schema
from tests.test_candles import Observed, at, evening_day, naive, streams
from tests.updates import price_at

ROOT = Path(__file__).parent.parent

FIRST, LAST = EpochUs(-(2**63)), EpochUs(2**63 - 1)


def record(last: str | Decimal = "2000.00", receive_time: int = 2, symbol: str = "XAUUSD") -> Decision:
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
    return Decision(tick=tick, price=price)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/aurexd.db"


@pytest.fixture
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        return database.execute(sql).fetchall()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# --- what comes back ---


def test_a_tick_is_stored_with_all_it_came_with(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([record("2706.93")])
    assert rows(url, "SELECT * FROM ticks") == [
        (1, "XAUUSD", "alltick", "spot", 1, 2, None, None, 2706.93, 0, None)
    ]
    assert rows(url, "SELECT close, quality FROM prices") == [(2706.93, "live")]


def test_a_price_is_stored_with_whether_the_one_before_it_came_from_elsewhere(url: str) -> None:
    first, second = record("2706.93"), record("2707.43")
    assert second.price is not None
    stepped = msgspec.structs.replace(second.price, source="kraken", rebased=True)
    with closing(Store(url)) as store:
        store.append([first, Decision(price=stepped)])
    assert rows(url, "SELECT source, rebased FROM prices") == [("alltick", 0), ("kraken", 1)]


def test_a_tick_that_was_not_believed_is_stored_with_why(url: str) -> None:
    bad = Decision(tick=record("20.00").tick, refused="wrong_scale")
    with closing(Store(url)) as store:
        store.append([bad, record("2000.00")])
    assert rows(url, "SELECT last, refused FROM ticks") == [(20.0, "wrong_scale"), (2000.0, None)]


def test_a_consensus_is_stored_with_its_votes_and_its_confidence(url: str) -> None:
    price = record("2706.93").price
    assert price is not None
    agreed = msgspec.structs.replace(
        price, source="consensus", votes=("alltick", "kraken"), confidence=Decimal("0.07")
    )
    with closing(Store(url)) as store:
        store.append([Decision(price=price), Decision(price=agreed)])
    assert rows(url, "SELECT votes, confidence FROM prices") == [(None, None), ("alltick kraken", 0.07)]


def test_the_last_price_of_each_symbol_can_be_asked_for(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([record("2000.00", 5), record("2001.00", 6), record("3000.0", 7, symbol="GC")])
        assert {
            symbol: (row.close, row.receive_time)
            for symbol, row in store.last_prices(["XAUUSD", "GC", "PAXGUSD"]).items()
        } == {"XAUUSD": (2001.0, 6), "GC": (3000.0, 7)}


times = st.integers(FIRST, LAST - 1).map(EpochUs)
# A number of 15 digits, the point anywhere from before them to after them.
prices = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(1, 10**15 - 1), st.integers(0, 15)
)
symbols = st.sampled_from(["XAUUSD", "GC"])
instruments = st.sampled_from(Instrument)
ticks = st.builds(
    Tick,
    symbol=symbols,
    source=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=10
    ),
    instrument=instruments,
    source_time=times,
    receive_time=times,
    bid=st.none() | prices,
    ask=st.none() | prices,
    last=st.none() | prices,
    simulated=st.booleans(),
)
moments = st.integers(0, 4_102_444_800_000_000).map(EpochUs)
published = st.builds(
    Price,
    symbol=symbols,
    close=prices,
    bid=st.none() | prices,
    ask=st.none() | prices,
    change=st.none() | prices.map(lambda price: -price),
    change_pct=st.none(),
    source=st.just("alltick"),
    instrument=instruments,
    quality=st.sampled_from(Quality),
    source_time=moments,
    receive_time=moments,
)
records = st.builds(Decision, tick=st.none() | ticks, price=st.none() | published)


def written(price: object) -> Decimal | None:
    """What a stored price says when it is printed."""
    return None if price is None else Decimal(repr(price))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(records, max_size=12))
def test_what_is_stored_comes_back_as_it_was_written(tmp_path: Path, batch: list[Decision]) -> None:
    url = f"sqlite:///{tmp_path}/{os.urandom(6).hex()}.db"
    with closing(Store(url)) as store:
        store.append(batch)
        history = {name: store.history(name, FIRST, LAST, 1000) for name in ("XAUUSD", "GC")}
    stored = rows(
        url,
        "SELECT symbol, source, instrument, source_time, receive_time, bid, ask, last, simulated"
        " FROM ticks ORDER BY id",
    )
    assert [
        Tick(
            symbol=str(symbol),
            source=str(source),
            instrument=Instrument(str(instrument)),
            source_time=source_time,  # type: ignore[arg-type]
            receive_time=receive_time,  # type: ignore[arg-type]
            bid=written(bid),
            ask=written(ask),
            last=written(last),
            simulated=bool(simulated),
        )
        for symbol, source, instrument, source_time, receive_time, bid, ask, last, simulated in stored
    ] == [each.tick for each in batch if each.tick is not None]

    changes = [written(change) for (change,) in rows(url, "SELECT change FROM prices ORDER BY id")]
    assert changes == [each.price.change for each in batch if each.price is not None]

    for symbol, found in history.items():
        told = [each.price for each in batch if each.price is not None and each.price.symbol == symbol]
        told.sort(key=lambda price: price.receive_time)
        assert [in_words(row) for row in found] == [in_words(price) for price in told]


def in_words(price: Price | PriceRow) -> tuple[object, ...]:
    numbers = (price.close, price.bid, price.ask)
    return (
        price.symbol,
        *(written(number) if isinstance(number, float) else number for number in numbers),
        price.source,
        price.quality,
        price.source_time,
        price.receive_time,
    )


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


# --- the file ---


def test_it_writes_ahead_so_that_readers_never_wait(url: str, tmp_path: Path) -> None:
    with closing(Store(url)) as store:
        assert rows(url, "PRAGMA journal_mode") == [("wal",)]
        store.append([record()])
    assert [path.name for path in tmp_path.iterdir()] == ["aurexd.db"], "closed, it is one file"


@pytest.mark.usefixtures("_usual_umask")
def test_the_last_directory_is_made_but_not_a_whole_path(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/var/aurexd.db").close()
    assert mode(tmp_path / "var") == 0o750
    with pytest.raises(StoreError, match=re.escape(f"there is no directory {tmp_path}/a — make it")):
        Store(f"sqlite:///{tmp_path}/a/b/aurexd.db")


@pytest.mark.usefixtures("_usual_umask")
def test_only_the_owner_and_the_group_may_read_it_unless_somebody_decided_otherwise(
    url: str, tmp_path: Path
) -> None:
    with closing(Store(url)) as store:
        store.append([record()])
        assert {path.name: mode(path) for path in tmp_path.iterdir()} == {
            "aurexd.db": 0o640,
            "aurexd.db-wal": 0o640,
            "aurexd.db-shm": 0o640,
        }
    store.path.chmod(0o600)
    with closing(Store(url)) as store:
        store.append([record()])
        assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("url", ["postgres://localhost/aurexd", "sqlite:aurexd.db", "sqlite:///", ""])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="write sqlite:/// and the path of a file") as failure:
        Store(url)
    assert failure.value.permanent


def test_a_path_that_leads_through_a_file_or_ends_in_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file/aurexd.db", "file/var/aurexd.db", ""):
        with pytest.raises(StoreError, match=r"cannot be opened.* — check") as failure:
            Store(f"sqlite:///{tmp_path}/{name}")
        assert not failure.value.permanent


def test_a_database_of_the_first_schema_is_taken_over_with_its_rows(url: str) -> None:
    with sqlite_utils.Database(url.removeprefix("sqlite:///")) as old:
        schema.apply(old, stop_before="m002_change_of_price")
        old.execute("INSERT INTO prices VALUES (1, 'XAUUSD', 2000.5, NULL, NULL, 'a', 'spot', 'live', 1, 2)")
        old.commit()
    with closing(Store(url)) as store:
        store.append([record("2001", receive_time=3)])
        assert [row.close for row in store.history("XAUUSD", FIRST, LAST, 9)] == [2000.5, 2001.0]
    ((applied,),) = rows(url, "SELECT count(*) FROM _sqlite_migrations")
    Store(url).close()
    assert rows(url, "SELECT count(*) FROM _sqlite_migrations") == [(applied,)], "once each"


def test_a_database_of_a_newer_aurexd_is_refused(url: str) -> None:
    with closing(Store(url)) as store:
        store._db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('aurexd', 'm999_future', 'later')"
        )
    with pytest.raises(StoreError, match=r"newer aurexd \(m999_future\)") as failure:
        Store(url)
    assert failure.value.permanent


def test_a_database_of_another_program_is_refused_and_left_alone(url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
        other.execute("CREATE TABLE ticks (parasites TEXT)")
    with pytest.raises(StoreError, match="another program's") as failure:
        Store(url)
    assert failure.value.permanent
    assert rows(url, "SELECT count(*) FROM ticks") == [(0,)]


# --- when it cannot be used ---


def test_a_file_that_may_grow_no_further_is_full_and_goes_on_when_it_may(url: str) -> None:
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


def may_mount() -> bool:
    """Has this process CAP_SYS_ADMIN? Containers' root mostly has not."""
    (effective,) = re.findall(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(effective, 16) >> 21 & 1)


@contextmanager
def whole_disk(path: Path) -> Iterator[None]:
    """A disk of 512 KiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "aurexd-test", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


if may_mount():

    def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/aurexd.db"
        ballast = tmp_path / "ballast"
        with whole_disk(tmp_path):
            ballast.write_bytes(b"x" * 65_536)
            with closing(Store(url)) as store:
                batches = 0

                def fill() -> None:
                    nonlocal batches
                    for batches in range(100):  # noqa: B007 — how many fitted
                        store.append([record(receive_time=n) for n in range(100)])

                with pytest.raises(StoreError, match="is full — free some space") as failure:
                    fill()
                assert not failure.value.permanent
                for table in ("ticks", "prices"):
                    assert rows(url, f"SELECT count(*) FROM {table}") == [(100 * batches,)]  # noqa: S608
                with pytest.raises(StoreError, match="is full"):
                    Store(f"sqlite:///{tmp_path}/second.db")
                ballast.unlink()
                store.append([record() for _ in range(100)])
            assert rows(url, "SELECT count(*) FROM ticks") == [(100 * batches + 100,)]
            assert rows(url, "PRAGMA integrity_check") == [("ok",)]


def test_a_lock_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurexd.store.BUSY_MS", 10)
    with closing(Store(url)) as store, closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            store.append([record()])
        other.execute("ROLLBACK")
        store.append([record()])


def test_a_file_that_is_locked_before_it_is_opened_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurexd.store.BUSY_MS", 10)
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked by another process") as failure:
            Store(url)
        assert not failure.value.permanent


def garbage(content: bytearray) -> None:
    content[:] = b"\xde\xad\xbe\xef" * 2048


def smashed_header(content: bytearray) -> None:
    content[:16] = b"not a database!!"


def smashed_middle(content: bytearray) -> None:
    content[4096 : len(content) // 2] = b"\xaa" * (len(content) // 2 - 4096)


def truncated(content: bytearray) -> None:
    del content[len(content) * 9 // 10 :]


def almost_nothing_left(content: bytearray) -> None:
    del content[100:]


@pytest.mark.parametrize("damage", [garbage, smashed_header, smashed_middle, truncated, almost_nothing_left])
def test_a_damaged_file_is_refused_for_good_and_left_alone(
    url: str, damage: Callable[[bytearray], None]
) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    with closing(Store(url)) as store:
        store.append([record(receive_time=n) for n in range(5000)])
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)

    def use() -> None:
        with closing(Store(url)) as store:
            store.append([record()])

    with pytest.raises(StoreError, match=r"damaged.*move it away") as failure:
        use()
    assert failure.value.permanent
    assert path.read_bytes() == content


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
        said += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    with closing(Store(url)) as store:
        store.append([])
    assert rows(url, "PRAGMA integrity_check") == [("ok",)]
    for table in ("ticks", "prices"):
        found = [time for (time,) in rows(url, f"SELECT receive_time FROM {table} ORDER BY id")]  # noqa: S608
        assert found == list(range(len(found))), "whole, in order, none twice"
        assert len(found) % 10 == 0
        assert 0 <= len(found) // 10 - (said[-1] + 1) <= 1, "what was said, and at most the batch at hand"


def test_a_handover_is_taken_once(url: str) -> None:
    with closing(Store(url)) as store:
        assert store.take_handover() is None
        store.keep_handover(b"one")
        store.keep_handover(b"two")
    with closing(Store(url)) as store:
        assert store.take_handover() == b"two"
        assert store.take_handover() is None


# --- candles ---


def priced(observed: Observed) -> Decision:
    price = price_at(
        str(observed.price), source_time=observed.time, receive_time=max(observed.time, observed.received)
    )
    return Decision(price=price)


def stored_candles(url: str, symbol: str = "XAUUSD") -> dict[tuple[object, object], tuple[object, ...]]:
    columns = 'interval, start, "end", open, high, low, close, ticks, revision'
    found = rows(url, f"SELECT {columns} FROM candles WHERE symbol = '{symbol}'")  # noqa: S608
    return {
        (interval, start): (end, *(written(price) for price in prices), ticks, revision)
        for interval, start, end, *prices, ticks, revision in found
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(streams(), st.data())
def test_the_candles_are_the_fold_of_the_prices_however_they_are_batched_and_restarted(
    tmp_path: Path, prices: list[Observed], data: st.DataObject
) -> None:
    url = f"sqlite:///{tmp_path}/{os.urandom(6).hex()}.db"
    days = {"XAUUSD": evening_day}
    store, done = Store(url, days), 0
    while done < len(prices):
        size = data.draw(st.integers(1, 20))
        store.append([priced(each) for each in prices[done : done + size]])
        done += size
        if data.draw(st.booleans()):
            store.close()
            store = Store(url, days)
    store.close()
    assert stored_candles(url) == naive(prices, evening_day)


def test_the_candles_of_a_symbol_that_comes_while_the_database_is_open_go_by_its_own_market(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/aurexd.db"
    prices = [Observed(at(hour * 3600), at(hour * 3600), Decimal(2000 + hour)) for hour in (20, 23, 26)]
    with closing(Store(url, calendars={"GC": METALS_CALENDAR})) as store:
        store.follow({"XAUUSD": METALS_CALENDAR}, 0)
        store.append([priced(each) for each in prices])
    assert stored_candles(url) == naive(prices, METALS_CALENDAR.day)


def minutes(count: int, *, first: int = 0) -> list[Decision]:
    """A price a minute: each is a candle of a minute and of a second."""
    return [
        priced(Observed(at(60 * n), at(60 * n), Decimal(2000 + n % 7))) for n in range(first, first + count)
    ]


def test_a_batch_that_fails_leaves_the_candles_as_they_were(url: str) -> None:
    with closing(Store(url)) as store:
        store.append(minutes(3))
        before = stored_candles(url)
        bad = record()
        with pytest.raises(OverflowError):
            store.append([*minutes(3, first=3), Decision(price=replace(bad.price, 2**63))])
        assert stored_candles(url) == before
        store.append(minutes(3, first=3))
    assert len([key for key in stored_candles(url) if key[0] == "1m"]) == 6


def replace(price: Price | None, receive_time: int) -> Price:
    assert price is not None
    return msgspec.structs.replace(price, receive_time=EpochUs(receive_time))


def test_many_candles_of_one_batch_are_all_written(url: str) -> None:
    count = ROWS_AT_ONCE * 2 + 7
    with closing(Store(url)) as store:
        store.append(minutes(count))
        page = read(store, limit=count)
    assert [candle.start for candle in page.candles] == [at(60 * n) for n in range(count)]


def read(
    store: Store, *, interval: str = "1m", end: EpochUs = LAST, limit: int = 1000, now: EpochUs = FIRST
) -> CandlePage:
    return store.candles("XAUUSD", interval, EpochUs(0), end, limit, now)


def test_a_page_is_the_newest_of_the_range_oldest_first_and_says_whether_there_are_more(url: str) -> None:
    with closing(Store(url)) as store:
        store.append(minutes(10))
        page = read(store, end=at(300), limit=3)
        assert [candle.start for candle in page.candles] == [at(120), at(180), at(240)]
        assert page.older
        assert not read(store, end=at(300), limit=5).older
        assert [c.final for c in read(store).candles] == [True] * 9 + [False]
        assert [c.final for c in read(store, now=at(3600)).candles] == [True] * 10
        assert page.closed_before == at(540 - LATE_S)
        assert store.candles("GC", "1m", FIRST, LAST, 5, FIRST) == CandlePage(
            candles=(), older=False, closed_before=None
        )


def test_pages_that_were_read_before_are_as_the_table_has_them_now(url: str) -> None:
    batch = minutes(700)
    del batch[300]
    with closing(Store(url)) as store:

        def again() -> CandlePage:
            with closing(Store(url)) as other:  # that has read nothing before
                assert read(store, limit=650) == read(other, limit=650)
            return read(store, limit=650)

        store.append(batch)
        assert not {at(60 * 300)} & {candle.start for candle in again().candles}
        store.append(minutes(200, first=700))
        assert len(again().candles) == 650
        late = Observed(at(60 * 899 - 5), at(60 * 899 - 5), Decimal(1))
        store.append([priced(late)])
        assert [candle.low for candle in again().candles[-2:]] == [1, 2000 + 899 % 7]
        store.fill_candles("XAUUSD", [minute_of(at(60 * 300) // (60 * SECOND_US), 1900.5)])
        assert again().candles[50].filled
        store.delete_candles({"1m": 200 * 60 * SECOND_US})
        assert len(again().candles) == 201


def test_a_database_without_candles_gets_those_of_its_prices(url: str) -> None:
    with closing(Store(url)) as store:
        store.append(minutes(100))
    made = stored_candles(url)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
        database.execute("DELETE FROM candles")
        database.execute("DELETE FROM candle_progress")
    Store(url, {"XAUUSD": evening_day}).close()
    Store(url, {"XAUUSD": evening_day}).close()
    anew = stored_candles(url)
    assert {k: v for k, v in anew.items() if k[0] != "1d"} == {k: v for k, v in made.items() if k[0] != "1d"}
    assert [key for key in anew if key[0] == "1d"] == [("1d", at(-2 * 3600))]


def test_candles_are_deleted_by_the_age_of_their_interval_before_the_newest_price(url: str) -> None:
    hour = 3600 * SECOND_US
    with closing(Store(url)) as store:
        store.append(minutes(180))
        assert store.delete_candles({"1m": hour}) == 119
        assert store.delete_candles({"1m": hour}) == 0
        assert read(store).candles[0].start == at(119 * 60)
        assert len(read(store, interval="1h").candles) == 3
        assert len(read(store, interval="1s").candles) == 180


def test_the_book_that_is_kept_goes_on_where_it_was(url: str) -> None:
    with closing(Store(url)) as store:
        store.append(minutes(3))
        (kept,) = store.books().values()
        assert (kept.progress.newest, kept.progress.received) == (at(120), at(120))
        ticks = {candle.interval: candle.ticks for candle in kept.candles}
        assert list(ticks.values()) == [1, 1, 3, 3, 3, 3, 3]


@pytest.mark.slow
def test_a_start_loads_nothing_that_only_yfinance_needs() -> None:
    """It takes as long as all the rest together, and every client waits for the start that follows a restart."""
    says = "import sys, aurexd.daemon; print(*{'numpy', 'pandas', 'yfinance'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert said.stdout.split() == []


# --- what is filled ---


def minute_of(start: int, close: float, interval: str = "1m") -> Candle[float]:
    length = INTERVALS[interval] * SECOND_US
    begin = start * 60 * SECOND_US
    return Candle(
        interval=interval,
        start=EpochUs(begin),
        end=EpochUs(begin + length),
        open=close,
        high=close,
        low=close,
        close=close,
        open_time=EpochUs(begin),
        close_time=EpochUs(begin + length - 1),
        ticks=0,
    )


def seen_minutes(store: Store, now: int = 10**9) -> list[tuple[int, float, bool]]:
    page = store.candles("XAUUSD", "1m", EpochUs(0), LAST, 100, EpochUs(now))
    return [(candle.start // (60 * SECOND_US), candle.close, candle.filled) for candle in page.candles]


def test_what_is_filled_is_marked_and_takes_the_place_of_nothing(url: str) -> None:
    with closing(Store(url)) as store:
        for start in (0, 4):
            time = EpochUs(start * 60 * SECOND_US)
            store.append([Decision(price=price_at("2000.00", source_time=time))])
        assert store.fill_candles("XAUUSD", [minute_of(n, 1900.5) for n in range(5)]) == 3
        expected = [
            (0, 2000.0, False),
            (1, 1900.5, True),
            (2, 1900.5, True),
            (3, 1900.5, True),
            (4, 2000.0, False),
        ]
        assert seen_minutes(store) == expected
        assert store.fill_candles("XAUUSD", [minute_of(1, 1800.0)]) == 0
        assert seen_minutes(store) == expected


def test_a_price_of_ours_takes_the_place_of_what_was_filled(url: str) -> None:
    with closing(Store(url)) as store:
        store.append([Decision(price=price_at("2000.00", source_time=EpochUs(4 * 60 * SECOND_US)))])
        store.fill_candles("XAUUSD", [minute_of(3, 1900.5)])
        late = price_at("1999.00", source_time=EpochUs(4 * 60 * SECOND_US - 1))
        store.append([Decision(price=late)])
        assert seen_minutes(store) == [(3, 1999.0, False), (4, 2000.0, False)]


def test_what_may_still_be_filled_is_not_said_to_be_closed(url: str) -> None:
    hour = 3600 * SECOND_US
    with closing(Store(url, fill_us=hour)) as store:
        store.append([Decision(price=price_at(source_time=EpochUs(10 * hour)))])
        page = store.candles("XAUUSD", "1m", EpochUs(0), LAST, 100, EpochUs(10 * hour))
        assert page.closed_before == 9 * hour
