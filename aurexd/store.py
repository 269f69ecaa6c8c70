"""The database: schema, migrations, append, candles, history, retention. Synchronous, and owned by one thread.

SQLite through sqlite-utils. When to write and what to do when that fails is decided in
`actors/persister.py`; here every failure of the database becomes a `StoreError` that says what to do
(docs/adr/0003).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from aurexd import alert_store
from aurexd.actors.messages import (
    AlertFired,
    AlertPage,
    AlertTotals,
    AlertWhy,
    Appended,
    CandlePage,
    CandleRow,
    ChangeRule,
    CreateRule,
    Decision,
    PriceRow,
    StatusPage,
)
from aurexd.alert_store import AlertStore
from aurexd.calendar import Calendar
from aurexd.candles import (
    INTERVALS,
    LATE_S,
    Book,
    Candle,
    Days,
    KeptBook,
    Progress,
    all_over_by,
    time_of,
    utc_day,
)
from aurexd.errors import AlertError, StoreError
from aurexd.market import EpochUs, Quality
from aurexd.protocol.alerts import AlertRule
from aurexd.sheets import Sheets


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Meanwhile these modules, unless they are loaded already, are not to be had."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is what import stops at
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# sqlite-utils loads both where it finds them, for the sake of their types, which nobody stores here: half of the time
# that a start takes, and 50 MB.
with _hidden("numpy", "pandas"):
    import sqlite_utils
    from sqlite_utils.migrations import Migrations

SQLITE_PREFIX = "sqlite:///"

BUSY_MS = 2000
"""How long SQLite waits for another process's lock before it is an error: a checkpoint takes less."""

DELETE_ROWS = 5000
"""Rows of each table that one pass of retention deletes: about 10 ms, so that appends never wait long."""

schema = Migrations("aurexd")


@schema()
def m001_ticks_and_prices(db: sqlite_utils.Database) -> None:
    # Times are microseconds since the epoch, UTC. A price is REAL: binary64 holds any decimal of up to 15
    # significant digits so that printing it gives the same digits back.
    db.execute(
        """
        CREATE TABLE ticks (
            id INTEGER PRIMARY KEY,
            symbol TEXT NOT NULL, source TEXT NOT NULL, instrument TEXT NOT NULL,
            source_time INTEGER NOT NULL, receive_time INTEGER NOT NULL,
            bid REAL, ask REAL, last REAL,
            simulated INTEGER NOT NULL
        ) STRICT
        """
    )
    db.execute("CREATE INDEX ticks_receive_time ON ticks (receive_time)")
    db.execute(
        """
        CREATE TABLE prices (
            id INTEGER PRIMARY KEY,
            symbol TEXT NOT NULL, close REAL NOT NULL, bid REAL, ask REAL,
            source TEXT NOT NULL, instrument TEXT NOT NULL, quality TEXT NOT NULL,
            source_time INTEGER NOT NULL, receive_time INTEGER NOT NULL
        ) STRICT
        """
    )
    db.execute("CREATE INDEX prices_symbol_receive_time ON prices (symbol, receive_time)")
    db.execute("CREATE INDEX prices_receive_time ON prices (receive_time)")


@schema()
def m002_change_of_price(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE prices ADD COLUMN change REAL")


@schema()
def m003_handover(db: sqlite_utils.Database) -> None:
    db.execute("CREATE TABLE handover (id INTEGER PRIMARY KEY CHECK (id = 1), content BLOB NOT NULL) STRICT")


@schema()
def m004_candles(db: sqlite_utils.Database) -> None:
    # Written in the transaction of the prices they are made of. A candle is found by its place, and those of a
    # range lie side by side.
    db.execute(
        """
        CREATE TABLE candles (
            symbol TEXT NOT NULL, interval TEXT NOT NULL,
            start INTEGER NOT NULL, "end" INTEGER NOT NULL,
            open REAL NOT NULL, high REAL NOT NULL, low REAL NOT NULL, close REAL NOT NULL,
            open_time INTEGER NOT NULL, close_time INTEGER NOT NULL,
            ticks INTEGER NOT NULL, revision INTEGER NOT NULL,
            PRIMARY KEY (symbol, interval, start)
        ) STRICT, WITHOUT ROWID
        """
    )
    db.execute(
        """
        CREATE TABLE candle_progress (
            symbol TEXT PRIMARY KEY,
            newest INTEGER NOT NULL, received INTEGER NOT NULL, settled INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )


@schema()
def m005_rebased_prices(db: sqlite_utils.Database) -> None:
    # Whether the price before it came from elsewhere, so that who looks for crossings later finds the same as we did.
    db.execute("ALTER TABLE prices ADD COLUMN rebased INTEGER NOT NULL DEFAULT 0")


@schema()
def m006_what_prices_are_made_of(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE prices ADD COLUMN confidence REAL")
    db.execute(
        "ALTER TABLE prices ADD COLUMN votes TEXT"
    )  # of a consensus: its sources, with a space between
    db.execute("ALTER TABLE ticks ADD COLUMN refused TEXT")  # why it was not believed


@schema()
def m007_filled_candles(db: sqlite_utils.Database) -> None:
    # Taken from a provider's history. A candle of our own that is written there takes its place.
    db.execute("ALTER TABLE candles ADD COLUMN filled INTEGER NOT NULL DEFAULT 0")


@schema()
def m008_alerts(db: sqlite_utils.Database) -> None:
    alert_store.create_tables(db.conn)


ROWS_AT_ONCE = 50
"""Rows of one statement: each statement gives the interpreter away and waits to have it back."""


class _Insert:
    """Inserts rows, many in a statement."""

    # sqlite-utils' insert_all takes a dict a row and builds a statement per chunk: measured at 24 µs for a tick and its
    # price, where a statement for each took 11 µs. Of a tick alone, one a statement takes 6.9 µs, and fifty 4.6 each.

    def __init__(self, into: str, columns: str) -> None:
        head, row = f"{into} ({columns}) VALUES ", f"({', '.join('?' * (columns.count(',') + 1))})"
        self._one, self._many = head + row, head + ", ".join([row] * ROWS_AT_ONCE)

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert `rows`, each with all the columns."""
        whole = len(rows) - len(rows) % ROWS_AT_ONCE
        for start in range(0, whole, ROWS_AT_ONCE):
            connection.execute(self._many, tuple(chain.from_iterable(rows[start : start + ROWS_AT_ONCE])))
        if whole < len(rows):
            connection.executemany(self._one, rows[whole:])


_insert_ticks = _Insert(
    "INSERT INTO ticks",
    "symbol, source, instrument, source_time, receive_time, bid, ask, last, simulated, refused",
)
_insert_prices = _Insert(
    "INSERT INTO prices",
    "id, symbol, close, bid, ask, change, source, instrument, quality, source_time, receive_time, rebased, confidence,"
    " votes",
)
_insert_candles = _Insert(
    "INSERT OR REPLACE INTO candles",
    'symbol, interval, start, "end", open, high, low, close, open_time, close_time, ticks, revision',
)
_HISTORY = (
    "SELECT symbol, close, bid, ask, source, quality, source_time, receive_time, change, confidence, votes FROM prices"
    " WHERE symbol = ? AND receive_time >= ? AND receive_time < ? ORDER BY receive_time DESC, id DESC LIMIT ?"
)
_EVER = (-(2**63), 2**63 - 1)
_FILL_CANDLE = (
    'INSERT OR IGNORE INTO candles (symbol, interval, start, "end", open, high, low, close, open_time, close_time,'
    " ticks, revision, filled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
)
_INSERT_PROGRESS = (
    "INSERT OR REPLACE INTO candle_progress (symbol, newest, received, settled) VALUES (?, ?, ?, ?)"
)
_CANDLES = (
    'SELECT start, "end", open, high, low, close, ticks, revision, filled FROM candles'
    " WHERE symbol = ? AND interval = ? AND start >= ? AND start < ? ORDER BY start DESC LIMIT ?"
)
_RECENT_CANDLES = (
    'SELECT interval, start, "end", open, high, low, close, open_time, close_time, ticks, revision FROM candles'
    " WHERE symbol = ? AND interval = ? ORDER BY start DESC LIMIT ?"
)
_PRICES = (
    "SELECT min(source_time, receive_time), receive_time, close FROM prices WHERE symbol = ? ORDER BY id"
)

KEPT_SHEETS = 512
"""Of candles that were read and will never change: 32,768 of some 350 bytes, a month of minutes."""

RECENT_CANDLES = LATE_S + 2
"""More than a late price may change of any interval: the shortest is a second."""


class Store:
    """An open database. Use it in the thread that opened it, and `close` it there.

    The file is not checked as a whole: that reads all of it, more than a second per GB. SQLite notices damage
    where it meets it, and a killed process or a lost power supply does none.
    """

    def __init__(
        self,
        url: str,
        days: Mapping[str, Days] | None = None,
        *,
        fill_us: int = 0,
        calendars: Mapping[str, Calendar] | None = None,
        run: str = "",
    ) -> None:
        """Open or create the database, in a directory that is made if its own parent exists.

        `days`: what each symbol's market calls a day; by default UTC's. Prices of these symbols that were stored
        when there were no candles yet are made candles of now. `fill_us`: for so long candles may still be filled.
        `calendars`: the sessions of these markets, for alert rules. `run` names this run of the daemon.

        Raises:
            StoreError: it cannot be opened, or belongs to a newer aurexd.

        """
        name = url.removeprefix(SQLITE_PREFIX)
        if name == url or not name:
            message = f"storage.url is {url!r} — write {SQLITE_PREFIX} and the path of a file"
            raise StoreError(message, permanent=True)
        self.path = Path(name)
        with self._translated():
            self._create_file()
            connection = sqlite3.connect(self.path, isolation_level=None)
            try:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self._db = sqlite_utils.Database(connection)
                self._migrate()
                self._days = days or {}
                self._fill_us = fill_us
                self._alerts = AlertStore(connection, calendars or {}, run)
                self._books: dict[str, Book[float]] = {}
                self._sheets: Sheets[CandleRow] = Sheets(KEPT_SHEETS)
                self._make_missing_candles()
            except BaseException:
                connection.close()
                raise

    def follow(self, calendars: Mapping[str, Calendar], fill_us: int) -> None:
        """What is stored from now on may be of these markets, too; see `__init__`. Those that it knows stay as they
        are: what is stored of them goes by their calendar.

        Raises:
            StoreError: it cannot be read or written.

        """
        with self._translated():
            self._days = {name: calendar.day for name, calendar in calendars.items()} | {**self._days}
            self._fill_us = fill_us
            self._alerts.follow(calendars)
            self._make_missing_candles()

    def append(self, records: Sequence[Decision], now: EpochUs | None = None) -> Appended:
        """Store a batch with the candles and alerts that follow from it: all of it, or, when that fails, nothing.

        What fired is on the disk then, and so is every price up to it. `now`: None says that no price has waited.

        Raises:
            StoreError: the disk is full, the database is locked, …

        """
        ticks = [
            (
                tick.symbol,
                tick.source,
                tick.instrument.value,
                tick.source_time,
                tick.receive_time,
                _real(tick.bid),
                _real(tick.ask),
                _real(tick.last),
                tick.simulated,
                record.refused,
            )
            for record in records
            if (tick := record.tick) is not None
        ]
        with self._translated(), self._undone_on_error():
            return self._append(records, ticks, now)

    def _append(
        self, records: Sequence[Decision], ticks: list[tuple[Any, ...]], now: EpochUs | None
    ) -> Appended:
        first = self._alerts.next_price_id
        published = [record.price for record in records if record.price is not None]
        prices = [
            (
                number,
                price.symbol,
                float(price.close),
                _real(price.bid),
                _real(price.ask),
                _real(price.change),
                price.source,
                price.instrument.value,
                price.quality.value,
                price.source_time,
                price.receive_time,
                price.rebased,
                _real(price.confidence),
                " ".join(price.votes) or None,
            )
            for number, price in enumerate(published, first)
        ]
        judged = self._alerts.judge(records, now)
        # Whether what fired is to be sent: it must not be lost after that, not even to a power cut.
        with self._synced() if judged.changes.fired else contextlib.nullcontext(), self._db.atomic():
            _insert_ticks(self._db.conn, ticks)
            _insert_prices(self._db.conn, prices)
            for price in published:
                self._book(price.symbol).add(time_of(price), price.receive_time, float(price.close))
            for symbol in judged.symbols:
                self._write_candles(symbol)
            fired = self._alerts.write(judged, now)
        return Appended(fired=fired, calm=self._alerts.calm(judged.symbols), rules=self._alerts.phases)

    def begin_run(self, now: EpochUs) -> None:
        """From here on the record is this run's; to be said before the first `append`, and harmless after it.

        Raises:
            StoreError: the database cannot be written.

        """
        if not self._alerts.is_loaded:
            with self._translated(), self._db.atomic():
                self._alerts.begin_run(now)

    # --- alerts: all of what these write is on the disk when they return ---

    def create_rule(self, asked: CreateRule) -> AlertRule:
        """A new alert rule.

        Raises:
            AlertError: there is no room for it.
            StoreError: the database cannot be written; there is no such rule.

        """
        with self._durably():
            return self._alerts.create(asked)

    def change_rule(self, asked: ChangeRule) -> AlertRule:
        """An alert rule as it is from now on.

        Raises:
            AlertError: there is none, or it would make no sense.
            StoreError: the database cannot be written; the rule is as it was.

        """
        with self._durably():
            return self._alerts.change(asked)

    def delete_rule(self, owner: str, rule_id: str) -> None:
        """An alert rule is gone.

        Raises:
            AlertError: there was none.
            StoreError: the database cannot be written; the rule is still there.

        """
        with self._durably():
            self._alerts.delete(owner, rule_id)

    def rules(self, owner: str, symbol: str | None, now: EpochUs) -> tuple[AlertRule, ...]:
        """An owner's alert rules, oldest first.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            return self._alerts.rules(owner, symbol, now)

    def acknowledge(self, owner: str, alert_ids: Sequence[str], now: EpochUs) -> None:
        """The owner has these alerts.

        Raises:
            StoreError: the database cannot be written.

        """
        with self._durably():
            self._alerts.acknowledge(owner, alert_ids, now)

    def unacknowledged(self, after: int) -> tuple[AlertFired, ...]:
        """The alerts that are to be sent (again), oldest first, but for those up to number `after`.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            return self._alerts.unacknowledged(after)

    def alerts(self, owner: str, before: int | None, limit: int) -> AlertPage:
        """An owner's alerts, newest first.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            return self._alerts.page(owner, before, limit)

    def alert_why(self, owner: str | None, alert_id: str) -> AlertWhy:
        """Why an alert fired; `owner` None: whosever it is.

        Raises:
            AlertError: there is none.
            StoreError: the database cannot be read.

        """
        with self._translated():
            return self._alerts.why(owner, alert_id)

    def alert_totals(self, now: EpochUs) -> AlertTotals:
        """How many rules and alerts there are.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            return self._alerts.totals(now)

    def delete_alerts(self, prices: EpochUs | None, alerts: EpochUs | None) -> int:
        """Delete one pass of statuses and alerts from before these times; the rows deleted, 0 when none are left.

        Raises:
            StoreError: the database cannot be written.

        """
        with self._translated(), self._db.atomic():
            return self._alerts.delete_before(prices, alerts, DELETE_ROWS)

    # --- history ---

    def history(self, symbol: str, start: EpochUs, end: EpochUs, limit: int) -> tuple[PriceRow, ...]:
        """The newest `limit` prices with `start <= receive_time < end`, oldest first.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            rows = self._db.conn.execute(_HISTORY, (symbol, start, end, limit)).fetchall()
        return tuple(_price_row(row) for row in reversed(rows))

    def statuses(self, symbol: str | None, before: int | None, limit: int) -> StatusPage:
        """What sources and qualities symbols had, newest first; `symbol` None: all.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            return self._alerts.statuses(symbol, before, limit)

    def last_prices(self, symbols: Iterable[str]) -> dict[str, PriceRow]:
        """The newest price of each of these that has one.

        Raises:
            StoreError: the database cannot be read.

        """
        found = {}
        with self._translated():
            for symbol in symbols:
                row = self._db.conn.execute(_HISTORY, (symbol, *_EVER, 1)).fetchone()
                if row is not None:
                    found[symbol] = _price_row(row)
        return found

    def candles(
        self, symbol: str, interval: str, start: EpochUs, end: EpochUs, limit: int, now: EpochUs
    ) -> CandlePage:
        """The newest `limit` candles with `start <= their start < end`, oldest first; which are final as of `now`.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            progress = self._progress(symbol)
            settled = progress.settled_at(now) if progress else EpochUs(0)

            def read(begin: EpochUs, end: EpochUs, count: int) -> list[CandleRow]:
                rows = self._db.conn.execute(_CANDLES, (symbol, interval, begin, end, count)).fetchall()
                return [_candle_row(row, settled) for row in reversed(rows)]

            def is_final(until: EpochUs) -> bool:
                return progress is not None and all_over_by(interval, until) <= progress.closed_before

            # One more than is wanted tells whether there are more.
            table = (symbol, interval)
            candles = self._sheets.newest(table, start, end, limit + 1, read, is_final)
        return CandlePage(
            candles=tuple(candles[-limit:]),
            older=len(candles) > limit,
            closed_before=self._closed_before(progress, now) if progress else None,
        )

    def fill_candles(self, symbol: str, candles: Sequence[Candle[float]]) -> int:
        """Store candles of a provider's history where there are none; how many that were.

        Raises:
            StoreError: the database cannot be written.

        """
        self._sheets.clear()
        with self._translated(), self._db.atomic():
            cursor = self._db.conn.executemany(_FILL_CANDLE, [_candle_columns(symbol, c) for c in candles])
        return max(0, cursor.rowcount)

    def books(self) -> dict[str, KeptBook[float]]:
        """What each symbol's book of candles goes on from.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            symbols = self._db.conn.execute("SELECT symbol FROM candle_progress").fetchall()
            kept = {symbol: self._kept_book(symbol) for (symbol,) in symbols}
        return {symbol: book for symbol, book in kept.items() if book is not None}

    def keep_handover(self, content: bytes) -> None:
        """Keep what this run of the daemon leaves to the next.

        Raises:
            StoreError: the database cannot be written.

        """
        with self._translated(), self._synced(), self._db.atomic():
            self._db.conn.execute("INSERT OR REPLACE INTO handover (id, content) VALUES (1, ?)", (content,))

    def take_handover(self) -> bytes | None:
        """What was kept; it is gone then, also after a power cut: nobody may take it twice.

        Raises:
            StoreError: the database cannot be read or written.

        """
        with self._translated(), self._synced(), self._db.atomic():
            row = self._db.conn.execute("SELECT content FROM handover").fetchone()
            self._db.conn.execute("DELETE FROM handover")
        return row[0] if row else None

    def delete_before(self, receive_time: EpochUs) -> int:
        """Delete one pass of ticks and prices received before then; the rows deleted, 0 when none are left.

        Raises:
            StoreError: the database cannot be written.

        """
        deleted = 0
        with self._translated(), self._db.atomic():
            for table in ("ticks", "prices"):
                cursor = self._db.conn.execute(
                    f"DELETE FROM {table} WHERE id IN "  # noqa: S608 — the names are ours
                    f"(SELECT id FROM {table} WHERE receive_time < ? ORDER BY receive_time LIMIT ?)",
                    (receive_time, DELETE_ROWS),
                )
                deleted += cursor.rowcount
        return deleted

    def delete_candles(self, ages_us: Mapping[str, int]) -> int:
        """Delete one pass of candles that are older than their interval's age; the rows deleted, 0 when none are left.

        `ages_us`: interval → microseconds, counted back from the symbol's newest price.

        Raises:
            StoreError: the database cannot be written.

        """
        deleted = 0
        self._sheets.clear()
        with self._translated(), self._db.atomic():
            for symbol, newest in self._db.conn.execute(
                "SELECT symbol, newest FROM candle_progress"
            ).fetchall():
                for interval, age in ages_us.items():
                    cursor = self._db.conn.execute(
                        "DELETE FROM candles WHERE symbol = ?1 AND interval = ?2 AND start IN (SELECT start"
                        ' FROM candles WHERE symbol = ?1 AND interval = ?2 AND start < ?3 AND "end" <= ?3'
                        " ORDER BY start LIMIT ?4)",
                        (symbol, interval, newest - age, DELETE_ROWS),
                    )
                    deleted += cursor.rowcount
        return deleted

    def close(self) -> None:
        """Close; unless somebody else reads it, SQLite folds its write-ahead log into the file."""
        self._db.close()

    # --- candles ---

    def _book(self, symbol: str) -> Book[float]:
        book = self._books.get(symbol)
        if book is None:
            days = self._days.get(symbol, utc_day)
            book = self._books[symbol] = Book(days, self._kept_book(symbol))
        return book

    def _kept_book(self, symbol: str) -> KeptBook[float] | None:
        progress = self._progress(symbol)
        if progress is None:
            return None
        candles: list[Candle[float]] = []
        for interval in INTERVALS:
            rows = self._db.conn.execute(_RECENT_CANDLES, (symbol, interval, RECENT_CANDLES)).fetchall()
            newest_first = [_candle(row) for row in rows]
            candles += [c for c in reversed(newest_first) if c.end > progress.closed_before]
        return KeptBook(progress=progress, candles=tuple(candles))

    def _progress(self, symbol: str) -> Progress | None:
        row = self._db.conn.execute(
            "SELECT newest, received, settled FROM candle_progress WHERE symbol = ?", (symbol,)
        ).fetchone()
        return row and Progress(newest=row[0], received=row[1], settled=row[2])

    def _closed_before(self, progress: Progress, now: EpochUs) -> EpochUs:
        return (
            min(progress.closed_before, EpochUs(now - self._fill_us))
            if self._fill_us
            else progress.closed_before
        )

    def _write_candles(self, symbol: str) -> None:
        """What changed in a symbol's book, and how far it has come."""
        book = self._book(symbol)
        _insert_candles(self._db.conn, [_candle_columns(symbol, candle) for candle in book.take_changes()])
        if book.progress is not None:
            progress = (book.progress.newest, book.progress.received, book.progress.settled)
            self._db.conn.execute(_INSERT_PROGRESS, (symbol, *progress))

    def _make_missing_candles(self) -> None:
        """Those of a database that an aurexd without candles has written: once, some 10 s for a million prices."""
        for symbol in self._days:
            if self._progress(symbol) is None:
                with self._undone_on_error(), self._db.atomic():
                    prices: Iterable[tuple[EpochUs, EpochUs, float]]
                    prices = self._db.conn.execute(_PRICES, (symbol,))
                    for time, received, close in prices:
                        self._book(symbol).add(time, received, close)
                    self._write_candles(symbol)

    @contextlib.contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """What was not committed is not in memory, either."""
        try:
            yield
        except AlertError:
            raise  # nothing has changed: it is found out first
        except BaseException:
            self._books.clear()
            self._alerts.forget()
            raise

    @contextlib.contextmanager
    def _durably(self) -> Iterator[None]:
        """A transaction that is on the disk when it has ended well, and never was when it has not."""
        with self._translated(), self._undone_on_error(), self._synced(), self._db.atomic():
            yield

    # --- the file ---

    def _create_file(self) -> None:
        directory = self.path.parent
        if not directory.exists():
            directory.mkdir(mode=0o750)
        # SQLite would let everyone read a new file, and gives the -wal and -shm files the same mode. Whoever
        # chose another for a file that is there keeps it.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640))

    def _migrate(self) -> None:
        with sqlite_utils.Database(memory=True) as nothing:
            known = {migration.name for migration in schema.pending(nothing)}
        newer = [applied.name for applied in schema.applied(self._db) if applied.name not in known]
        if newer:
            raise StoreError(
                f"{self.path} was written by a newer aurexd ({', '.join(newer)}) — install that version"
                " again, or move the file away to start a new one",
                permanent=True,
            )
        schema.apply(self._db)

    @contextlib.contextmanager
    def _synced(self) -> Iterator[None]:
        """What is committed inside is on the disk before it goes on."""
        self._db.conn.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._db.conn.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The seam: what SQLite and the file system raise becomes what an operator can act on."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is None:
                raise  # Python's own complaint: we use the connection wrongly
            raise self._explain(code & 0xFF, error) from error  # without the extended part
        except OSError as error:
            raise self._explain_os(error) from error

    def _explain(self, code: int, error: sqlite3.Error) -> StoreError:
        match code:
            case sqlite3.SQLITE_FULL:
                return self._full()
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreError(f"{self.path} is locked by another process — end it (fuser shows it)")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return StoreError(
                    f"{self.path} is damaged ({error}) — move it away, with its -wal and -shm files: aurexd"
                    " then starts a new one; docs/operations.md says how to save the old one's rows",
                    permanent=True,
                )
            case sqlite3.SQLITE_ERROR:  # our statements are right, so the tables are not ours
                return StoreError(
                    f"{self.path} is another program's ({error}) — name another file in storage.url, or"
                    " move this one away",
                    permanent=True,
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return StoreError(f"{self.path} cannot be written ({error}) — check its owner and its rights")
            case sqlite3.SQLITE_CANTOPEN:
                return StoreError(
                    f"{self.path} cannot be opened — check that it is a file, and that its directory may be"
                    " written"
                )
            case sqlite3.SQLITE_IOERR:
                return StoreError(f"{self.path}: {error} — check the disk; the system's log says what it has")
            case _:
                return StoreError(f"{self.path}: {error} — move the file away if this stays")

    def _explain_os(self, error: OSError) -> StoreError:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return self._full()
            case errno.ENOENT:
                return StoreError(
                    f"{self.path} cannot be created: there is no directory {self.path.parent.parent} — make"
                    " it, or correct storage.url"
                )
            case _:
                return StoreError(
                    f"{self.path} cannot be opened ({error.strerror}) — check the path in storage.url and its"
                    " rights"
                )

    def _full(self) -> StoreError:
        return StoreError(f"the disk with {self.path} is full — free some space")


def _price_row(row: tuple[Any, ...]) -> PriceRow:
    """From a row of `_HISTORY`."""
    symbol, close, bid, ask, source, quality, source_time, receive_time, change, confidence, votes = row
    return PriceRow(
        symbol=symbol,
        close=close,
        bid=bid,
        ask=ask,
        source=source,
        quality=Quality(quality),
        source_time=source_time,
        receive_time=receive_time,
        change=change,
        confidence=confidence,
        votes=tuple(votes.split()) if votes else (),
    )


def _candle_columns(symbol: str, candle: Candle[float]) -> tuple[Any, ...]:
    """For a row of the table, in the order of the statements above."""
    return (
        symbol,
        candle.interval,
        candle.start,
        candle.end,
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.open_time,
        candle.close_time,
        candle.ticks,
        candle.revision,
    )


def _candle(row: tuple[Any, ...]) -> Candle[float]:
    """From a row of `_RECENT_CANDLES`."""
    interval, start, end, open_, high, low, close, open_time, close_time, ticks, revision = row
    return Candle(
        interval=interval,
        start=start,
        end=end,
        open=open_,
        high=high,
        low=low,
        close=close,
        open_time=open_time,
        close_time=close_time,
        ticks=ticks,
        revision=revision,
    )


def _candle_row(row: tuple[Any, ...], settled: EpochUs) -> CandleRow:
    """From a row of `_CANDLES`."""
    start, end, open_, high, low, close, ticks, revision, filled = row
    return CandleRow(
        start=start,
        end=end,
        open=open_,
        high=high,
        low=low,
        close=close,
        ticks=ticks,
        final=end <= settled,
        revision=revision,
        filled=bool(filled),
    )


def _real(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
