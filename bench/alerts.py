"""What armed rules cost: ingest with 100,000 of them and all candles on, against the same without, and how soon who
has one that fires hears of it.

    python bench/alerts.py [--rules 100000] [--firing 1000] [--bars 8000] [--json]

Replays seeded bars as fast as possible and says how many prices a second were published and stored, and what they
cost; then at 200 prices a second, and says how long it took from a price's arrival until its alert was received. Those
of the listening owner are within reach of the price and each fires once; the others are armed and out of reach. An
alert is on the disk (fsync) before it is sent, so the disk is part of the figure.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import aurexd, cpu_s, free_port, process, rss_kb
from replay import make_bars
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from aurexd.store import Store

PACE_PER_S = 200
PACED_BARS = 2000
UP, DOWN = '{"phase":"disarmed"}', '{"phase":"disarmed","out":1}'
"""Of rules that the price has to come back for, where it begins at 2000."""

ARMED = '{"phase":"armed"}'


def add_rules(database: Path, rules: int, firing: int) -> None:
    """Straight into the table: each made by a client would be an fsync."""
    Store(f"sqlite:///{database}").close()
    rng = random.Random(1)
    rows = []
    for number in range(rules):
        mine = number < firing
        if mine:
            kind = rng.choice(["crosses_up", "crosses_down"])
            condition: dict[str, Any] = {"kind": kind, "level": f"{rng.uniform(1950, 2050):.2f}"}
        elif number % 50 == 0:
            window_s = rng.choice([60, 300, 3600, 14_400, 86_400])
            condition = {"kind": "moves", "amount": f"{rng.uniform(300, 900):.2f}", "window_s": window_s}
        else:
            up = rng.random() < 0.5
            level = rng.uniform(2500, 3500) if up else rng.uniform(500, 1500)
            kind = rng.choice(["above", "crosses_up"] if up else ["below", "crosses_down"])
            condition = {"kind": kind, "level": f"{level:.2f}"}
        standing = ARMED
        if mine:
            start, level = 2000.0, float(condition["level"])
            up = condition["kind"] == "crosses_up"
            if (start > level) if up else (start < level):
                standing = UP if up else DOWN
        owner = "local" if mine else f"owner-{number % 10_000}"
        rows.append((f"r-{number}", owner, json.dumps(condition), "once" if mine else "every_time", standing))
    with closing(sqlite3.connect(database)) as db, db:
        db.executemany(
            "INSERT INTO alert_rules (rule_id, owner, symbol, condition, repeat, hysteresis, cooldown_us, note,"
            " created, price_id, status_id, standing) VALUES (?, ?, 'XAUUSD', ?, ?, '0', 0, '', 0, 0, 0, ?)",
            rows,
        )


@contextmanager
def listening(port: int) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{port}/api/v1/ws/stream"
    with connect(url, subprotocols=[Subprotocol("aurex.v1.json")], max_queue=None) as stream:
        stream.send('{"type": "subscribe", "data": {"channels": ["alert"]}}')
        yield stream


def stored(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as db:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 — the names are ours
    return int(count)


def run(bars: Path, count: int, rules: int, firing: int, speed: float) -> dict[str, Any]:
    """One daemon, one replay."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        database = folder / "aurexd.db"
        add_rules(database, rules, firing)
        text = (
            '[symbols.XAUUSD]\ninstrument = "spot"\ncalendar = "always"\ndecimals = 3\nmax_jump_pct = 0\n'
            '[[sources]]\nname = "replay"\ntype = "replay"\nsymbols = { XAUUSD = "XAUUSD" }\n'
            f'file = "{bars}"\nspeed = {speed}\nstart_after_s = 5\n'
        )
        delays_ms: list[float] = []
        with process(aurexd(folder, port, text), port) as server, listening(port) as stream:
            time.sleep(2)
            before, memory_kb = cpu_s(server.pid), rss_kb(server.pid)
            first = last = 0.0
            while not first or time.monotonic() < last + 1.5:
                try:
                    message = json.loads(stream.recv(timeout=0.05))
                except TimeoutError:
                    message = {"type": "nothing"}
                now = time.time()
                if message["type"] == "alert":
                    fired = datetime.fromisoformat(message["data"]["fired"]).astimezone(UTC).timestamp()
                    delays_ms.append((now - fired) * 1000)
                elif message["type"] == "nothing":
                    known = stored(database, "prices")
                    if known and not first:
                        first = last = time.monotonic()
                    if known >= count:
                        break
                    if known:
                        last = time.monotonic() + 5
            took = time.monotonic() - first
            used = cpu_s(server.pid) - before
        result: dict[str, float] = {
            "rules": rules,
            "prices": stored(database, "prices"),
            "prices_per_second": round(count / took),
            "prices_per_cpu_second": round(count / used),
            "alerts": stored(database, "alerts"),
            "alerts_received": len(delays_ms),
            "rss_mb": round(memory_kb / 1024),
        }
        if len(delays_ms) > 10:
            quantiles = statistics.quantiles(delays_ms, n=100)
            result |= {"alert_p50_ms": round(quantiles[49], 1), "alert_p99_ms": round(quantiles[98], 1)}
        return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--firing", type=int, default=1000)
    parser.add_argument("--bars", type=int, default=8000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "bars.csv"
        make_bars(whole)
        lines = [line for line in whole.read_text().splitlines() if not line.endswith(",0.0")]
        fast, paced = Path(name) / "fast.csv", Path(name) / "paced.csv"
        fast.write_text("\n".join(lines[: args.bars + 1]) + "\n")
        # A minute apart each, so that the pace is even.
        head, *rest = lines[: PACED_BARS + 1]
        even = [f"2024-06-{1 + n // 1440:02d}T{n // 60 % 24:02d}:{n % 60:02d}:00Z" for n in range(len(rest))]
        rows = [f"{time_},{row.split(',', 1)[1]}" for time_, row in zip(even, rest, strict=True)]
        paced.write_text("\n".join([head, *rows]) + "\n")
        runs = {
            "200 a second": (paced, PACED_BARS, args.rules, args.firing, 60 * PACE_PER_S),
            "as fast as possible, no rules": (fast, args.bars, 0, 0, 0),
            "as fast as possible, none fires": (fast, args.bars, args.rules, 0, 0),
            "as fast as possible": (fast, args.bars, args.rules, args.firing, 0),
        }
        for title, arguments in runs.items():
            result = run(*arguments)
            if args.json:
                print(json.dumps({"run": title, **result}), flush=True)
            else:
                print(title, *(f"  {key:<24}{value}" for key, value in result.items()), sep="\n", flush=True)


if __name__ == "__main__":
    main()
