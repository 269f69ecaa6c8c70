"""Ingest: bars replayed as fast as possible through source, aggregator, hub, JSON and SQLite, with subscribed clients.

    python bench/replay.py [--file BARS.csv] [--decimals 3] [--clients 20] [--json]

Without a file it makes a seeded month of 1-minute bars. It also checks that nothing was lost or invented: each client
saw closes of bars in their order, every jump in `update_count` is the `conflated` it states, and the stored ticks are
exactly the closes of the bars with a volume.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from harness import Crowd, aurexd, cpu_s, free_port, process

MAKE_BARS = 30_000


def make_bars(file: Path) -> None:
    rng, price, opened = random.Random(1), 2000_000, datetime(2024, 5, 28, 21, tzinfo=UTC)
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["time_utc", "open", "high", "low", "close", "volume"])
        for _ in range(MAKE_BARS):
            price += rng.randint(-500, 500)
            text = f"{price / 1000:.3f}"
            rows.writerow(
                [f"{opened:%Y-%m-%dT%H:%M:%SZ}", text, text, text, text, rng.choice(["0.0", "1.5", "12.0"])]
            )
            opened += timedelta(minutes=1)


def closes_of(file: Path) -> list[Decimal]:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        return [Decimal(row["close"]) for row in csv.DictReader(lines) if Decimal(row["volume"]) > 0]


class Watcher:
    """What one client saw, checked as it comes."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Decimal]] = []
        self.problems: list[str] = []

    def see(self, message: dict[str, Any]) -> None:
        count, close = message["update_count"], Decimal(str(message["data"]["close"]))
        if self.seen:
            jump = count - self.seen[-1][0]
            if jump != message.get("conflated", 1):
                self.problems.append(
                    f"from {self.seen[-1][0]} to {count} with conflated={message.get('conflated')}"
                )
        self.seen.append((count, close))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path)
    parser.add_argument("--decimals", type=int, default=3)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = args.file
        if file is None:
            file = folder / "bars.csv"
            make_bars(file)
        closes = closes_of(file)
        result = run(folder, file.resolve(), closes, args.decimals, args.clients)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:<28}{value}")
    if result["problems"] or not result["stored_exactly"]:
        raise SystemExit(1)


def run(folder: Path, file: Path, closes: list[Decimal], decimals: int, clients: int) -> dict[str, Any]:
    port = free_port()
    text = (
        f'[symbols.XAUUSD]\ninstrument = "spot"\ncalendar = "always"\ndecimals = {decimals}\n'
        f'[[sources]]\nname = "replay"\ntype = "replay"\nsymbols = {{ XAUUSD = "XAUUSD" }}\n'
        f'file = "{file}"\nspeed = 0\nstart_after_s = 3\n'
    )
    with process(aurexd(folder, port, text), port) as server:
        crowd = Crowd(port, clients)
        watchers = [Watcher() for _ in range(clients)]
        first = last = 0.0
        before = cpu_s(server.pid)

        def on_message(client: int, message: dict[str, Any]) -> None:
            nonlocal first, last
            if message["type"] == "price_update":
                last = time.monotonic()
                first = first or last
                watchers[client].see(message)

        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and any(
            not w.seen or w.seen[-1][0] < len(closes) for w in watchers
        ):
            crowd.read(0.5, on_message)
        used = cpu_s(server.pid) - before
        crowd.close()
    for number, watcher in enumerate(watchers):
        for count, close in watcher.seen:
            if close != closes[count - 1]:
                watcher.problems.append(
                    f"client {number}: update {count} is {close}, the bar says {closes[count - 1]}"
                )
    with sqlite3.connect(folder / "aurexd.db") as database:
        stored = [Decimal(repr(last)) for (last,) in database.execute("select last from ticks order by id")]
    return {
        "bars_with_volume": len(closes),
        "ticks_per_cpu_second": round(len(closes) / used),
        "ticks_per_second": round(len(closes) / (last - first)) if last > first else 0,
        "stored_exactly": stored == closes,
        "messages_seen_by_a_client": sorted(len(w.seen) for w in watchers)[clients // 2],
        "problems": [problem for watcher in watchers for problem in watcher.problems][:10],
    }


if __name__ == "__main__":
    main()
