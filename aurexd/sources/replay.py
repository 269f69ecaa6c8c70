"""Replays a recording as if it came in now: a CSV of bars or ticks, plain or gzip, or aurexd's own database.

Ticks keep their original source times; they are marked simulated. The file is read piece by piece in a worker
thread, never whole.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import json
import math
import sqlite3
import statistics
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

import pydantic
import trio

from aurexd.backoff import Backoff
from aurexd.errors import FeedError
from aurexd.market import SECOND_US, EpochUs
from aurexd.sources.base import Feed, Provider, SourceSettings, Traits

PIECE_ROWS = 500  # per visit to the worker thread: a few milliseconds of parsing, where a visit costs 0.1 ms
CHECKPOINT_TICKS = 256  # an aggregator with room takes ticks without a pause, so others get theirs this often
SAMPLE_ROWS = 1000  # from which the length of a bar is judged
MAX_HEADER_CHARS = 4096  # what is no CSV may have no line end at all

TIME_COLUMNS = ("time_utc", "time", "timestamp", "date")
LAST_COLUMNS = ("last", "price")
VOLUME_COLUMNS = ("volume", "tick_volume")
BAR_COLUMNS = frozenset({"open", "high", "low", "close"})
WANTED = "a time column (time_utc, time, timestamp or date) and open,high,low,close or bid,ask or last"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_TIME_US = {10: SECOND_US, 13: 1000, 16: 1}
"""Digits of a Unix time of our days, and what its unit is in microseconds."""


class ReplaySettings(SourceSettings):
    """One `[[sources]]` table of type replay.

    A symbol's code is what the recording calls it, in its `symbol` column; any text for a CSV without one.
    """

    file: Path = pydantic.Field(
        description="CSV of bars or ticks, plain or gzip, or aurexd's database. Times without a zone are UTC."
    )
    speed: float = pydantic.Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="1: as it was recorded; 60: a minute in each second; 0: as fast as possible.",
    )
    loop: bool = pydantic.Field(
        default=False, description="At the end start over, with the old source times."
    )
    start_after_s: float = pydantic.Field(
        default=0.0,
        ge=0,
        description="Seconds to wait before the first tick, so that clients can subscribe. 0: at once.",
    )
    bar_s: float | None = pydantic.Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="A bar's length in seconds: its close comes at its end. Default: the median distance.",
    )


class Observation(NamedTuple):
    """One tick to deliver."""

    code: str
    due: EpochUs
    """When it came in, by the recording's clock."""
    source_time: EpochUs
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None


class BadRow(NamedTuple):
    """A row that should give a tick and does not."""

    detail: str


Row: TypeAlias = Observation | BadRow | FeedError


class Replay(Provider[ReplaySettings]):
    """Delivers a recording's ticks, and is done at its end unless it is to loop."""

    traits = Traits(
        stale_after_s=180.0,  # at speed 1 the usual bar comes once a minute
        silence_s=math.inf,  # recordings have weekends in them
        reconnect=Backoff(floor_s=1.0, base_s=1.0, cap_s=60.0),
        simulated=True,
    )
    Settings = ReplaySettings

    async def run(self, feed: Feed) -> None:
        """Play the file once, or again and again; a row that cannot be used is rejected and counted."""
        await trio.sleep(self.settings.start_after_s)
        while await self._play(feed):
            if not self.settings.loop:
                return
        codes = ", ".join(repr(subscription.code) for subscription in feed.subscriptions)
        raise FeedError(
            f"{self.settings.file} has no tick for {codes}: check this source's `file` and `symbols`",
            fatal=True,
        )

    async def _play(self, feed: Feed) -> int:
        """Play the file once; how many ticks it gave."""
        speed = self.settings.speed
        began_at, began_due = 0.0, EpochUs(0)
        ticks = 0
        codes = [subscription.code for subscription in feed.subscriptions]
        with contextlib.closing(read_recording(self.settings.file, codes, self.settings.bar_s)) as rows:
            while piece := await trio.to_thread.run_sync(_take, rows):
                for row in piece:
                    if isinstance(row, FeedError):
                        raise row
                    if isinstance(row, BadRow):
                        feed.rejected("bad_row", row.detail)
                        continue
                    if not ticks:
                        feed.connected()
                        began_at, began_due = trio.current_time(), row.due
                    if speed:
                        await trio.sleep_until(began_at + (row.due - began_due) / (SECOND_US * speed))
                    elif ticks % CHECKPOINT_TICKS == 0:
                        await trio.lowlevel.checkpoint()
                    await feed.tick(
                        row.code, source_time=row.source_time, bid=row.bid, ask=row.ask, last=row.last
                    )
                    ticks += 1
        return ticks


def _take(rows: Iterator[Row]) -> list[Row]:
    return list(itertools.islice(rows, PIECE_ROWS))


def read_recording(
    path: Path, codes: Collection[str], bar_s: float | None = None
) -> Generator[Row, None, None]:
    """The file's ticks of `codes` and its bad rows, in its order; blocks.

    What is wrong with the file as a whole comes last, as a fatal FeedError: the rows before damage are good.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(16)
        if magic == b"SQLite format 3\0":
            yield from _read_database(path, codes)
        else:
            opened = gzip.open if magic.startswith(b"\x1f\x8b") else open
            with opened(path, "rt", encoding="utf-8-sig", newline="") as text:
                yield from _read_csv(text, codes, bar_s)
    except FileNotFoundError:
        yield FeedError(f"{path} does not exist: correct this source's `file`", fatal=True)
    except ContentError as error:
        yield FeedError(f"{path} cannot be replayed: {error}", fatal=True)
    except (OSError, EOFError, zlib.error, UnicodeError, csv.Error, sqlite3.Error) as error:
        yield FeedError(f"{path} cannot be read ({error}): is it damaged, or no recording?", fatal=True)


class ContentError(Exception):
    """The file can be read, but not replayed; says why and what to do."""


# --- CSV ---

Parse: TypeAlias = Callable[[list[str]], Observation | None]
"""A row to its tick, None when it gives none; ValueError, ArithmeticError or IndexError when it is bad."""


def _read_csv(text: IO[str], codes: Collection[str], bar_s: float | None) -> Iterator[Row]:
    header = text.readline(MAX_HEADER_CHARS)
    delimiter = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    columns = {name.strip().lower(): index for index, name in enumerate(names)}
    time = _first(columns, TIME_COLUMNS)
    if "symbol" not in columns and len(codes) > 1:
        raise ContentError(
            f"it has no symbol column, so it is one series, and {len(codes)} symbols are asked for"
        )
    rows: Iterable[list[str]] = csv.reader(text, delimiter=delimiter)
    if time is not None and columns.keys() >= BAR_COLUMNS:
        sample = list(itertools.islice(rows, SAMPLE_ROWS))
        bar_us = _bar_us(sample, time) if bar_s is None else int(bar_s * SECOND_US)
        parse = _bar_parser(columns, time, codes, bar_us)
        rows = itertools.chain(sample, rows)
    elif time is not None and (columns.keys() >= {"bid", "ask"} or _first(columns, LAST_COLUMNS) is not None):
        parse = _tick_parser(columns, time, codes)
    else:
        raise ContentError(f"its first line is {header[:80].strip()!r}; it must name {WANTED}")
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            observation = parse(row)
        except (ValueError, ArithmeticError, IndexError) as error:
            yield BadRow(f"line {number}: {error} in {row!r}")
            continue
        if observation is not None:
            yield observation


def _bar_parser(columns: dict[str, int], time: int, codes: Collection[str], bar_us: int) -> Parse:
    """A bar gives its close at its end; one without volume gives nothing: the market was closed."""
    (only, *_), symbol = codes, columns.get("symbol")
    close, volume = columns["close"], _first(columns, VOLUME_COLUMNS)

    def parse(row: list[str]) -> Observation | None:
        code = only if symbol is None else row[symbol]
        if code not in codes or (volume is not None and float(row[volume]) == 0):
            return None
        end = EpochUs(_time(row[time]) + bar_us)
        return Observation(code, end, end, None, None, _price(row[close]))

    return parse


def _tick_parser(columns: dict[str, int], time: int, codes: Collection[str]) -> Parse:
    """Bid and ask, or a last price, or both; an empty cell is a missing price."""
    (only, *_), symbol = codes, columns.get("symbol")
    bid, ask, last = columns.get("bid"), columns.get("ask"), _first(columns, LAST_COLUMNS)

    def price(row: list[str], column: int | None) -> Decimal | None:
        return _price(row[column]) if column is not None and row[column] else None

    def parse(row: list[str]) -> Observation | None:
        code = only if symbol is None else row[symbol]
        if code not in codes:
            return None
        moment = _time(row[time])
        prices = price(row, bid), price(row, ask), price(row, last)
        if prices[2] is None and None in prices[:2]:
            raise ValueError("neither a last price nor bid and ask")
        return Observation(code, moment, moment, *prices)

    return parse


def _bar_us(sample: list[list[str]], time: int) -> int:
    times = []
    for row in sample:
        with contextlib.suppress(ValueError, IndexError):
            times.append(_time(row[time]))
    distances = [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]
    if not distances:
        raise ContentError("the length of its bars cannot be told: say it as this source's `bar_s`")
    return int(statistics.median_low(distances))


def _first(columns: dict[str, int], names: tuple[str, ...]) -> int | None:
    return next((columns[name] for name in names if name in columns), None)


def _time(text: str) -> EpochUs:
    """ISO 8601, by default in UTC, or a Unix time in seconds (10 digits), milliseconds or microseconds."""
    if len(text) in _UNIX_TIME_US and text.isdecimal():
        return EpochUs(int(text) * _UNIX_TIME_US[len(text)])
    moment = datetime.fromisoformat(text)
    since: timedelta = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return EpochUs((since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds)


def _price(text: str) -> Decimal:
    price = Decimal(text)
    if not price.is_finite() or price <= 0:
        raise ValueError(f"{text!r} is not a price")
    return price


# --- aurexd's own database ---

# By id alone: an index on the symbol would have every page sorted anew.
_PAGE = """
    SELECT id, symbol, receive_time, source_time, bid, ask, last FROM ticks NOT INDEXED
    WHERE id > ? AND id <= ? AND symbol IN (SELECT value FROM json_each(?))
    ORDER BY id LIMIT ?
"""


def _read_database(path: Path, codes: Collection[str]) -> Iterator[Row]:
    """Its ticks in the order they came in, up to the last one that is there now.

    It may be the one that this daemon writes: a query per page leaves its write-ahead log free to shrink.
    """
    address = f"{path.resolve().as_uri()}?mode=ro"
    # Pages are read in whichever worker thread is free, one at a time.
    with contextlib.closing(sqlite3.connect(address, uri=True, check_same_thread=False)) as database:
        (last,) = database.execute("SELECT max(id) FROM ticks").fetchone()
        wanted, seen = json.dumps(list(codes)), -1
        while page := database.execute(_PAGE, (seen, last, wanted, PIECE_ROWS)).fetchall():
            for number, code, receive_time, source_time, *prices in page:
                try:
                    yield Observation(code, receive_time, source_time, *map(_stored_price, prices))
                except (ValueError, ArithmeticError) as error:
                    yield BadRow(f"tick {number}: {error}")
            seen = page[-1][0]


def _stored_price(price: float | None) -> Decimal | None:
    """A stored binary64 prints as the text it was stored from."""
    return None if price is None else _price(repr(price))
