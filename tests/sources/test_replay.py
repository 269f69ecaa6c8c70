"""What becomes of recordings: bars, ticks, databases of aurexd's own, and files that are none of these."""

from __future__ import annotations

import contextlib
import csv
import gzip
import random
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.errors import FeedError
from aurexd.market import EpochUs, format_time, parse_time
from aurexd.sources import replay as room
from aurexd.sources.replay import BadRow, Observation, Replay, ReplaySettings, Row, read_recording
from tests.fakes import FakeFeed

BARS = """\
time_utc,open,high,low,close,volume
2024-06-07T12:30:00Z,2375.015,2376.1,2356.365,2358.155,812.5
2024-06-07T12:31:00Z,2358.155,2360.0,2350.0,2351.045,700
2024-06-07T12:32:00Z,2351.045,2351.045,2351.045,2351.045,0.0
2024-06-07T12:33:00Z,2351.045,2352.5,2349.1,2350.000,433
"""
ENDS = ["2024-06-07T12:31:00Z", "2024-06-07T12:32:00Z", "2024-06-07T12:34:00Z"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recording"


def fill(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def replay(file: Path, **keys: object) -> Replay:
    document = {
        "name": "replay",
        "type": "replay",
        "symbols": {"XAUUSD": "XAUUSD"},
        "file": file,
        "speed": 0,
        **keys,
    }
    return Replay(ReplaySettings.model_validate(document), update_interval_s=5.0)


async def play(file: Path, *codes: str, **keys: object) -> FakeFeed:
    feed = FakeFeed(*codes or ("XAUUSD",))
    with trio.fail_after(20):
        await replay(file, **keys).run(feed)
    return feed


async def failure(file: Path, *codes: str, **keys: object) -> tuple[FeedError, FakeFeed]:
    feed = FakeFeed(*codes or ("XAUUSD",))
    with trio.fail_after(20), pytest.raises(FeedError) as caught:
        await replay(file, **keys).run(feed)
    assert caught.value.fatal
    assert str(file) in str(caught.value)
    return caught.value, feed


def times(feed: FakeFeed) -> list[str]:
    return [format_time(tick.source_time) for tick in feed.ticks if tick.source_time is not None]


def rows(file: Path, *codes: str, bar_s: float | None = None) -> list[Row]:
    return list(read_recording(file, codes or ("XAUUSD",), bar_s))


# --- bars ---


async def test_a_bar_is_one_tick_its_close_at_its_end(file: Path) -> None:
    fill(file, BARS)
    feed = await play(file)
    assert times(feed) == ENDS
    assert [str(tick.last) for tick in feed.ticks] == ["2358.155", "2351.045", "2350.000"]
    assert {(tick.code, tick.bid, tick.ask) for tick in feed.ticks} == {("XAUUSD", None, None)}
    assert (feed.connections, feed.rejections) == (1, [])


async def test_a_compressed_file_is_the_same(file: Path) -> None:
    fill(file, gzip.compress(BARS.encode()))
    assert times(await play(file)) == ENDS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_dialects_of_csv_are_the_same(file: Path, encoding: str, delimiter: str, line_end: str) -> None:
    text = BARS.replace("time_utc", "Time").replace("close", " CLOSE ").replace(",", delimiter)
    fill(file, text.replace("\n", line_end).encode(encoding))
    assert times(await play(file)) == ENDS


async def test_bars_without_volume_column_all_count(file: Path) -> None:
    with file.open("w", newline="") as target:
        csv.writer(target).writerows(row[:5] for row in csv.reader(BARS.splitlines()))
    assert len((await play(file)).ticks) == 4


async def test_the_length_of_a_bar_is_the_median_distance(file: Path) -> None:
    start = datetime(2024, 6, 7, 20, tzinfo=UTC)
    opens = [start + timedelta(minutes=15 * n) for n in (0, 1, 2, 3, 190, 191, 192)]
    fill(file, "date,open,high,low,close\n" + "".join(f"{moment.isoformat()},1,1,1,1\n" for moment in opens))
    assert times(await play(file)) == [
        format_time(parse_time((o + timedelta(minutes=15)).isoformat())) for o in opens
    ]


async def test_the_length_of_a_bar_may_be_said(file: Path) -> None:
    fill(file, BARS)
    assert times(await play(file, bar_s=30))[0] == "2024-06-07T12:30:30Z"


async def test_a_single_bar_does_not_tell_its_length(file: Path) -> None:
    fill(file, "".join(BARS.splitlines(keepends=True)[:2]))
    error, _ = await failure(file)
    assert "`bar_s`" in str(error)
    assert len((await play(file, bar_s=60)).ticks) == 1


# --- ticks ---


async def test_ticks_keep_bid_ask_and_last_as_written(file: Path) -> None:
    fill(
        file,
        "timestamp,bid,ask,last\n"
        "2025-10-27T12:00:00.123456Z,2706.90,2706.930,\n"
        "2025-10-27T13:00:01+01:00,,,2707\n"
        "2025-10-27 12:00:02,2706.9,2707.1,2707.0\n",
    )
    feed = await play(file)
    assert [(t.bid, t.ask, t.last) for t in feed.ticks] == [
        (Decimal("2706.90"), Decimal("2706.930"), None),
        (None, None, Decimal(2707)),
        (Decimal("2706.9"), Decimal("2707.1"), Decimal("2707.0")),
    ]
    assert str(feed.ticks[0].ask) == "2706.930"
    first = parse_time("2025-10-27T12:00:00.123456Z")
    assert [t.source_time for t in feed.ticks] == [first, first + 876_544, first + 1_876_544]


@pytest.mark.parametrize(
    "text", ["1761566400", "1761566400000", "1761566400000000", "2025-10-27T12:00:00", "20251027T120000Z"]
)
async def test_times_may_be_unix_or_iso_and_are_utc_by_default(file: Path, text: str) -> None:
    fill(file, f"time,price\n{text},2706.9\n")
    assert times(await play(file)) == ["2025-10-27T12:00:00Z"]


async def test_a_symbol_column_tells_series_apart(file: Path) -> None:
    fill(
        file,
        "time,symbol,price\n"
        "2025-10-27T12:00:00Z,GOLD,2706\n"
        "2025-10-27T12:00:01Z,SILVER,30\n"
        "2025-10-27T12:00:02Z,OIL,60\n"
        "2025-10-27T12:00:03Z,GOLD,2707\n",
    )
    assert [(t.code, t.last) for t in (await play(file, "GOLD", "SILVER")).ticks] == [
        ("GOLD", Decimal(2706)),
        ("SILVER", Decimal(30)),
        ("GOLD", Decimal(2707)),
    ]
    assert [t.last for t in (await play(file, "OIL")).ticks] == [60]


async def test_one_series_cannot_be_two_symbols(file: Path) -> None:
    fill(file, BARS)
    error, _ = await failure(file, "GOLD", "SILVER")
    assert "no symbol column" in str(error)


async def test_a_symbol_that_is_not_there_is_said(file: Path) -> None:
    fill(file, "time,symbol,price\n2025-10-27T12:00:00Z,GOLD,2706\n")
    error, feed = await failure(file, "XAUUSD", loop=True)
    assert "has no tick for 'XAUUSD'" in str(error)
    assert feed.connections == 0


# --- what is bad ---


async def test_bad_rows_are_counted_and_left_out(file: Path) -> None:
    bad = [
        "yesterday,1,1,1,2350,5",
        "2024-06-07T12:35:00Z,1,1,1,about 2350,5",
        "2024-06-07T12:35:00Z,1,1,1,-2350,5",
        "2024-06-07T12:35:00Z,1,1,1,0,5",
        "2024-06-07T12:35:00Z,1,1,1,NaN,5",
        "2024-06-07T12:35:00Z,1,1,1,sNaN,5",
        "2024-06-07T12:35:00Z,1,1,1,Infinity,5",
        "2024-06-07T12:35:00Z,1,1,1,2350,many",
        "2024-06-07T12:35:00Z,1",
        "123456789012345678901234567890,1,1,1,2350,5",
        "²0251027120000,1,1,1,2350,5",
    ]
    fill(file, BARS + "\n".join(bad) + "\n\n2024-06-07T12:36:00Z,1,1,1,2360.5,5")
    feed = await play(file)
    assert feed.reasons == ["bad_row"] * len(bad)
    assert feed.rejections[0][1].startswith("line 6: ")
    assert times(feed) == [*ENDS, "2024-06-07T12:37:00Z"]


async def test_a_tick_without_any_price_is_a_bad_row(file: Path) -> None:
    fill(
        file,
        "time,bid,ask,last\n2025-10-27T12:00:00Z,1,,\n2025-10-27T12:00:00Z,,,\n2025-10-27T12:00:00Z,,,1\n",
    )
    feed = await play(file)
    assert (feed.reasons, len(feed.ticks)) == (["bad_row"] * 2, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it must name a time column"),
        (b"2024-06-07T12:30:00Z,1,2,3,4\n", "it must name a time column"),
        (b"time,close\n", "it must name a time column"),
        (b"open,high,low,close\n", "it must name a time column"),
        (b"<html>not found</html>\n", "'<html>not found</html>'"),
        (b"time_utc,open,high,low,close\n", "`bar_s`"),
        (b"\x00" * 100_000, "it must name"),
        (b"\xff\xfe\xfd\n" * 10, "is it damaged"),
        (b"\x1f\x8b\x08garbage", "is it damaged"),
        (b"SQLite format 3\0garbage", "is it damaged"),
    ],
)
async def test_what_is_no_recording_is_fatal_and_says_what_one_is(
    file: Path, content: bytes, says: str
) -> None:
    fill(file, content)
    error, feed = await failure(file)
    assert says in str(error)
    assert feed.ticks == []


async def test_a_missing_file_is_fatal(file: Path) -> None:
    error, _ = await failure(file)
    assert "does not exist: correct this source's `file`" in str(error)


async def test_a_folder_is_fatal(tmp_path: Path) -> None:
    error, _ = await failure(tmp_path)
    assert "cannot be read" in str(error)


async def test_what_stands_before_the_damage_is_played(file: Path) -> None:
    lines = "".join(f"{1761566400 + n},{n + 1}\n" for n in range(20_000))
    whole = gzip.compress(f"time,price\n{lines}".encode())
    fill(file, whole[: len(whole) // 2])
    error, feed = await failure(file)
    assert "is it damaged" in str(error)
    assert len(feed.ticks) > 1000
    assert [tick.last for tick in feed.ticks] == list(range(1, len(feed.ticks) + 1))


# --- time ---


class TimedFeed(FakeFeed):
    """Notes when each tick came, and takes its time over them."""

    def __init__(self, busy_s: float = 0.0) -> None:
        super().__init__("XAUUSD")
        self.at: list[float] = []
        self._busy_s = busy_s

    async def tick(self, code: str, **prices: Any) -> None:
        self.at.append(trio.current_time())
        await super().tick(code, **prices)
        await trio.sleep(self._busy_s)


@contextlib.contextmanager
def pieces_of(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows from memory, on the loop: virtual time does not wait for a worker thread."""

    def read(*_: object) -> Iterator[Row]:
        yield from rows

    async def run_sync(function: object, *args: object) -> object:
        await trio.lowlevel.checkpoint()
        return function(*args)  # type: ignore[operator]

    with monkeypatch.context() as patch:
        patch.setattr(room, "read_recording", read)
        patch.setattr(trio.to_thread, "run_sync", run_sync)
        yield


def observations(*seconds: float) -> list[Row]:
    return [
        Observation("XAUUSD", EpochUs(int(s * 1e6)), EpochUs(int(s * 1e6)), None, None, Decimal(1))
        for s in seconds
    ]


@pytest.mark.parametrize(
    ("speed", "expected"), [(1.0, [0, 60, 3660]), (60.0, [0, 1, 61]), (0.5, [0, 120, 7320])]
)
async def test_ticks_come_in_the_recordings_rhythm(
    speed: float,
    expected: list[float],
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed, start = TimedFeed(), trio.current_time()
    with pieces_of(observations(1e9, 1e9 + 60, 1e9 + 3660), monkeypatch):
        await replay(file, speed=speed).run(feed)
    assert [moment - start for moment in feed.at] == pytest.approx(expected)


async def test_a_pause_in_delivery_is_caught_up_with(
    file: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    feed, start = TimedFeed(busy_s=2.5), trio.current_time()
    with pieces_of(observations(0, 1, 2, 20), monkeypatch):
        await replay(file, speed=1).run(feed)
    assert [moment - start for moment in feed.at] == pytest.approx([0, 2.5, 5, 20])


async def test_in_a_loop_it_starts_over_with_the_old_source_times(
    file: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    feed = FakeFeed("XAUUSD")
    with pieces_of(observations(0, 10), monkeypatch), trio.move_on_after(35):
        await replay(file, speed=1, loop=True).run(feed)
    assert [tick.source_time for tick in feed.ticks] == [0, 10_000_000] * 3 + [0]


async def test_as_fast_as_possible_still_lets_others_run(file: Path) -> None:
    lines = "".join(f"{1761566400 + n},{n + 1}\n" for n in range(3000))
    fill(file, f"time,price\n{lines}")
    feed, turns = FakeFeed("XAUUSD"), 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await replay(file).run(feed)
        nursery.cancel_scope.cancel()
    assert len(feed.ticks) == 3000
    assert turns >= 3000 // room.CHECKPOINT_TICKS


async def test_it_stops_when_told_and_closes_its_file(file: Path) -> None:
    fill(file, BARS)
    with trio.move_on_after(0.05) as scope:
        await replay(file, speed=0.001).run(FakeFeed("XAUUSD"))
    assert scope.cancelled_caught


def test_reading_is_much_faster_than_the_daemon_needs(file: Path) -> None:
    walk, price = random.Random(1), 2350.0
    with gzip.open(file, "wt") as target:
        target.write("time_utc,open,high,low,close,volume\n")
        for n in range(40_000):
            price += walk.gauss(0, 0.5)
            moment = datetime(2024, 6, 3, tzinfo=UTC) + timedelta(minutes=n)
            target.write(f"{moment:%Y-%m-%dT%H:%M:%SZ},{price:.3f},{price:.3f},{price:.3f},{price:.3f},1.5\n")
    began = time.process_time()
    count = len(rows(file))
    assert count == 40_000
    assert count / (time.process_time() - began) > 20_000  # ticks/s; measured: 290,000


# --- aurexd's own database ---

SCHEMA = """
CREATE TABLE ticks (
    id INTEGER PRIMARY KEY, symbol TEXT, source TEXT, instrument TEXT,
    source_time INTEGER, receive_time INTEGER, bid REAL, ask REAL, last REAL, simulated INTEGER
);
CREATE INDEX ticks_by_symbol ON ticks (symbol, receive_time);
"""


def record(file: Path, *ticks: tuple[str, int, int, object, object, object]) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(SCHEMA)
        database.executemany(
            "INSERT INTO ticks (symbol, source_time, receive_time, bid, ask, last, source, instrument)"
            " VALUES (?, ?, ?, ?, ?, ?, 'a', 'spot')",
            ticks,
        )
        database.commit()


async def test_a_recording_of_aurexds_own_gives_back_its_ticks(file: Path) -> None:
    record(
        file,
        ("XAUUSD", 1_000_000, 1_500_000, 2706.93, 2707.1, None),
        ("GC", 1_000_000, 1_600_000, None, None, 2730.1),
        ("XAUUSD", 900_000, 2_500_000, None, None, 4448.39990234375),
    )
    feed = await play(file)
    assert [(t.source_time, t.bid, t.ask, t.last) for t in feed.ticks] == [
        (1_000_000, Decimal("2706.93"), Decimal("2707.1"), None),
        (900_000, None, None, Decimal("4448.39990234375")),
    ]
    assert [row.due for row in rows(file, "XAUUSD", "GC") if isinstance(row, Observation)] == [
        1_500_000,
        1_600_000,
        2_500_000,
    ]


async def test_a_recording_is_read_page_by_page_while_it_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PIECE_ROWS", 3)
    record(file, *(("XAUUSD", n, n, None, None, float(n + 1)) for n in range(10)))
    recording = read_recording(file, ["XAUUSD"])
    first = next(recording)
    with contextlib.closing(sqlite3.connect(file)) as writer:
        writer.execute(
            "INSERT INTO ticks (symbol, source_time, receive_time, last) VALUES ('XAUUSD', 99, 99, 99.0)"
        )
        writer.commit()
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    rest = list(recording)
    assert [row.last for row in [first, *rest] if isinstance(row, Observation)] == list(range(1, 11))


async def test_impossible_prices_in_a_recording_are_bad_rows(file: Path) -> None:
    record(
        file,
        ("XAUUSD", 1, 1, None, None, -1.0),
        ("XAUUSD", 2, 2, None, None, "x"),
        ("XAUUSD", 3, 3, None, None, 7),
    )
    feed = await play(file)
    assert (feed.reasons, [t.last for t in feed.ticks]) == (["bad_row"] * 2, [Decimal(7)])


async def test_an_empty_recording_and_another_database_are_fatal(file: Path, tmp_path: Path) -> None:
    record(file)
    assert "has no tick" in str((await failure(file))[0])
    other = tmp_path / "other"
    with contextlib.closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE songs (title)")
    assert "no such table: ticks" in str((await failure(other))[0])


# --- any file at all ---

cells = st.text(max_size=8) | st.sampled_from(
    ["1", "0", "-1", "NaN", "1e99", "2024-06-07T12:30:00Z", "1761566400", ""]
)


@settings(max_examples=150)
@given(
    st.sampled_from(["time,bid,ask,last", "time,open,high,low,close,volume", "time,symbol,price"]),
    st.lists(st.lists(cells, max_size=7), max_size=5),
)
def test_whatever_stands_in_a_file_is_a_tick_a_bad_row_or_a_feed_error(
    tmp_path_factory: pytest.TempPathFactory, header: str, table: list[list[str]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    text = header + "\n" + "\n".join(",".join(row) for row in table)
    fill(file, text.encode("utf-8", "replace"))
    for row in rows(file, "XAUUSD", bar_s=60):
        assert isinstance(row, Observation | BadRow | FeedError)
        if isinstance(row, Observation):
            prices = [price for price in (row.bid, row.ask, row.last) if price is not None]
            assert prices
            assert all(price.is_finite() and price > 0 for price in prices)
