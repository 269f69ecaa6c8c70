"""The least that a Python program does with a recording: reads it, keeps candles, writes a message and rows of SQLite.

No checks, no alerts, no clients, no actors: one loop, and a transaction for 500 prices.
In bench/: `python -m peers.plain_ingest RECORDING DATABASE`; prints the CPU seconds that the loop took.
"""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
import time
from datetime import datetime

INTERVALS_S = (1, 60, 300, 900, 3600, 14_400, 86_400)
BATCH = 500


def main(recording: str, database: str) -> None:
    db = sqlite3.connect(database)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(
        "CREATE TABLE prices (id INTEGER PRIMARY KEY, symbol TEXT, close REAL, time INTEGER, message TEXT)"
    )
    db.execute(
        "CREATE TABLE candles (interval, start, open, high, low, close, PRIMARY KEY (interval, start))"
    )
    candles: dict[tuple[int, int], list[float]] = {}
    rows: list[tuple[str, float, float, str]] = []

    def write() -> None:
        with db:
            db.executemany("INSERT INTO prices (symbol, close, time, message) VALUES (?, ?, ?, ?)", rows)
            db.executemany(
                "INSERT OR REPLACE INTO candles VALUES (?, ?, ?, ?, ?, ?)",
                [(*key, *candle) for key, candle in candles.items()],
            )
        rows.clear()
        candles.clear()

    with open(recording) as lines:  # noqa: PTH123 — as such a loop would have it
        for count, row in enumerate(csv.DictReader(lines)):
            close, when = float(row["last"]), datetime.fromisoformat(row["time_utc"]).timestamp()
            for interval in INTERVALS_S:
                key = (interval, int(when // interval * interval))
                candle = candles.setdefault(key, [close, close, close, close])
                candle[1], candle[2], candle[3] = max(candle[1], close), min(candle[2], close), close
            data = {"symbol": "XAUUSD", "close": close, "timestamp": row["time_utc"]}
            message = json.dumps({"type": "price_update", "data": data, "update_count": count})
            rows.append(("XAUUSD", close, when, message))
            if len(rows) == BATCH:
                write()
    write()


began = time.process_time()
main(sys.argv[1], sys.argv[2])
print(time.process_time() - began)
