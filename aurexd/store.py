"""The database: schema, migrations, append, history, retention. Synchronous, and owned by one thread.

SQLite through sqlite-utils. When to write and what to do when that fails is decided in `actors/persister.py`; here
every failure of the database becomes a `StoreError` that says what to do (docs/adr/0003).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlite_utils
from sqlite_utils.migrations import Migrations

from aurexd.actors.messages import PriceRow, Recorded
from aurexd.errors import StoreError
from aurexd.market import EpochUs, Quality

SQLITE_PREFIX = "sqlite:///"

BUSY_MS = 2000
"""How long SQLite waits for another process's lock before it is an error: a backup's checkpoint takes less."""

DELETE_ROWS = 5000
"""Rows one pass of retention deletes: some milliseconds, so that appends never wait long."""

schema = Migrations("aurexd")


@schema()
def m001_ticks_and_prices(db: sqlite_utils.Database) -> None:
    # Times are microseconds since the epoch, UTC. A price is REAL: binary64 holds any decimal of up to 15 significant
    # digits so that printing it gives the same digits back.
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


# sqlite-utils' insert_all takes a dict a row and builds a statement per chunk: measured at 23 µs for a tick and its
# price, against 10 µs for these two.
_INSERT_TICK = (
    "INSERT INTO ticks (symbol, source, instrument, source_time, receive_time, bid, ask, last, simulated)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PRICE = (
    "INSERT INTO prices (symbol, close, bid, ask, source, instrument, quality, source_time, receive_time)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_HISTORY = (
    "SELECT * FROM (SELECT id, symbol, close, bid, ask, source, quality, source_time, receive_time FROM prices"
    " WHERE symbol = ? AND receive_time >= ? AND receive_time < ? ORDER BY receive_time DESC, id DESC LIMIT ?)"
    " ORDER BY receive_time, id"
)


class Store:
    """An open database. Use it in the thread that opened it, and `close` it there."""

    def __init__(self, url: str) -> None:
        """Open or create the database, in a directory that may be made if its own parent exists.

        Raises:
            StoreError: it cannot be opened, or belongs to a newer aurexd.

        """
        self.path = Path(url.removeprefix(SQLITE_PREFIX))
        with self._translated():
            if not self.path.parent.exists():
                self.path.parent.mkdir(mode=0o750)
            connection = sqlite3.connect(self.path, isolation_level=None)
            try:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self._db = sqlite_utils.Database(connection)
                self._migrate()
            except BaseException:
                connection.close()
                raise
            self.path.chmod(0o640)

    def append(self, records: Sequence[Recorded]) -> None:
        """Store a batch: all of it, or, when that fails, nothing.

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
                None if tick.bid is None else float(tick.bid),
                None if tick.ask is None else float(tick.ask),
                None if tick.last is None else float(tick.last),
                tick.simulated,
            )
            for record in records
            if (tick := record.tick) is not None
        ]
        prices = [
            (
                price.symbol,
                float(price.close),
                None if price.bid is None else float(price.bid),
                None if price.ask is None else float(price.ask),
                price.source,
                price.instrument.value,
                price.quality.value,
                price.source_time,
                price.receive_time,
            )
            for record in records
            if (price := record.price) is not None
        ]
        with self._translated(), self._db.atomic():
            self._db.conn.executemany(_INSERT_TICK, ticks)
            self._db.conn.executemany(_INSERT_PRICE, prices)

    def history(self, symbol: str, start: EpochUs, end: EpochUs, limit: int) -> tuple[PriceRow, ...]:
        """The newest `limit` prices with `start <= receive_time < end`, oldest first.

        Raises:
            StoreError: the database cannot be read.

        """
        with self._translated():
            rows = self._db.conn.execute(_HISTORY, (symbol, start, end, limit)).fetchall()
        return tuple(
            PriceRow(
                symbol=name,
                close=close,
                bid=bid,
                ask=ask,
                source=source,
                quality=Quality(quality),
                source_time=EpochUs(source_time),
                receive_time=EpochUs(receive_time),
            )
            for _, name, close, bid, ask, source, quality, source_time, receive_time in rows
        )

    def delete_before(self, receive_time: EpochUs) -> int:
        """Delete one pass of what was received before then; returns the rows deleted, 0 when none are left.

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

    def close(self) -> None:
        """Close; SQLite folds its write-ahead log into the file."""
        self._db.close()

    def _migrate(self) -> None:
        known = {migration.name for migration in schema.pending(sqlite_utils.Database(memory=True))}
        newer = [applied.name for applied in schema.applied(self._db) if applied.name not in known]
        if newer:
            raise StoreError(
                f"{self.path} was written by a newer aurexd ({', '.join(newer)}) — install that version again, or move "
                "the file away to start a new one",
                permanent=True,
            )
        schema.apply(self._db)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The seam: what SQLite and the file system raise becomes what an operator can act on."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error
        except OSError as error:
            message = f"{self.path} cannot be used ({error.strerror}) — check the path in storage.url and its rights"
            raise StoreError(message) from error

    def _explain(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the extended part
        match code:
            case sqlite3.SQLITE_FULL:
                return StoreError(f"the disk with {self.path} is full — free some space")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreError(f"{self.path} is locked by another process — end it (fuser shows it)")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return StoreError(
                    f"{self.path} is damaged ({error}) — move it away, with its -wal and -shm files; aurexd then starts a "
                    "new one, and `sqlite3 FILE .recover` may save the old one's rows",
                    permanent=True,
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return StoreError(f"{self.path} cannot be written ({error}) — check its owner and its rights")
            case sqlite3.SQLITE_CANTOPEN:
                return StoreError(
                    f"{self.path} cannot be opened — check that its directory exists and may be written"
                )
            case _:
                return StoreError(f"{self.path}: {error}")
