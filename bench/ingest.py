"""Ingest: a recording replayed as fast as possible, or so many prices a second, through the whole daemon.

    python bench/ingest.py [--ticks 40000] [--spacing 0.05] [--clients 100] [--pause 0.2]
        [--rules 0] [--firing 0] [--rate 0] [--runs 3] [--json FILE]
    python bench/ingest.py --file BARS.csv [--decimals 3]

Source, checks, aggregator, candles, alerts, hub, its clients, and SQLite: what a price costs the whole process until
it is stored and every client has it, and how many a second that makes on one processor. Beside it the least that a
Python program does with the same recording (`peers/plain_ingest.py`): no peer, but a measure of the machine.

The clients look five times a second, and are given the newest price where more came meanwhile; with `--pause 0` they
read as fast as they can, and nearly all. Three of them read all in any case. `--rules` alert rules are armed, of which
`--firing` are within the prices' reach and belong to a client that listens: an alert's delay is from its price's
arrival until that client has it, and has a commit with an fsync in it.

Nothing may be lost or invented: each client saw prices in their order, every jump in `update_count` is the `conflated`
it states, and all have the last one; three clients compare every price with the recording. The ticks and prices stored
are exactly the recording's, the candles of each interval are made of all of them, and the alerts stored and received
are those that its prices fire.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import ledger
from harness import PATH, Crowd, aurexd, cpu_s, free_port, process, rss_kb
from load import Load, prices
from recording import closes_of, make_ticks
from report import Row, told
from servers import BENCH, ON_CLIENTS, ON_SERVER, stay_off
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from aurexd.store import Store

START_AFTER_S = 6.0
"""Until the first price, so that clients can come."""

WITHIN_S = 180.0
CHECKED = 3
"""Clients that compare every price; more would need more than the clients' processor has."""

UP, DOWN = '{"phase":"disarmed"}', '{"phase":"disarmed","out":1}'
"""Of rules that the price has to come back for."""

ARMED = '{"phase":"armed"}'

__all__ = ["Case", "measure"]


class Case(NamedTuple):
    """What is measured."""

    ticks: int = 40_000
    spacing_s: float = 0.05
    clients: int = 100
    pause_s: float = 0.2
    """How long clients read nothing, again and again; 0: they read all."""
    rules: int = 0
    firing: int = 0
    rate: float = 0.0
    """0: as fast as possible."""
    file: Path | None = None
    decimals: int = 3

    def __str__(self) -> str:
        what = f"{self.file.name}" if self.file is not None else f"{self.ticks:,} prices"
        speed = f"{self.rate:g} a second" if self.rate else "as fast as possible"
        rules = f", {self.rules:,} rules armed" if self.rules else ""
        firing = f", {self.firing:,} of them near" if self.firing else ""
        pausing = self.pause_s and self.clients > CHECKED
        clients = f"{self.clients} clients that {'look now and then' if pausing else 'read all'}"
        return f"{what}, {speed}, {clients}{rules}{firing}"


class Watcher:
    """What one client saw, checked as it comes."""

    def __init__(self, closes: list[Decimal]) -> None:
        self.problems: list[str] = []
        self.last = 0
        self._closes = closes

    def see(self, message: dict[str, Any]) -> None:
        count, close = message["update_count"], Decimal(str(message["data"]["close"]))
        if self.last and count - self.last != message.get("conflated", 1):
            self.problems.append(f"from {self.last} to {count} with conflated={message.get('conflated')}")
        if close != self._closes[count - 1]:
            self.problems.append(f"price {count} is {close}, the recording says {self._closes[count - 1]}")
        self.last = count


# --- alert rules ---


class Level(NamedTuple):
    """A rule that is within reach."""

    up: bool
    level: Decimal

    def fires(self, closes: list[Decimal]) -> bool:
        """Whether the price crosses it, coming from the other side."""
        if self.up:
            return any(a < self.level <= b for a, b in itertools.pairwise(closes))
        return any(a > self.level >= b for a, b in itertools.pairwise(closes))


def add_rules(database: Path, case: Case, closes: list[Decimal]) -> list[Level]:
    """Straight into the table, as each made by a client would be an fsync; those that are within reach."""
    Store(f"sqlite:///{database}").close()
    rng = random.Random(1)
    low, high, first = float(min(closes)), float(max(closes)), closes[0]
    near: list[Level] = []
    rows = []
    for number in range(case.rules):
        standing, repeat, owner = ARMED, "every_time", f"owner-{number % 10_000}"
        if number < case.firing:
            level = Level(rng.random() < 0.5, Decimal(f"{rng.uniform(low, high):.4f}") + Decimal("0.00005"))
            near.append(level)
            condition: dict[str, Any] = {
                "kind": "crosses_up" if level.up else "crosses_down",
                "level": str(level.level),
            }
            if (first > level.level) if level.up else (first < level.level):
                standing = UP if level.up else DOWN
            repeat, owner = "once", "local"
        elif number % 50 == 0:
            window_s = rng.choice([60, 300, 3600, 14_400, 86_400])
            condition = {"kind": "moves", "amount": f"{rng.uniform(300, 900):.2f}", "window_s": window_s}
        else:
            up = rng.random() < 0.5
            reach = rng.uniform(high + 500, high + 1500) if up else rng.uniform(low - 1500, low - 500)
            kind = rng.choice(["above", "crosses_up"] if up else ["below", "crosses_down"])
            condition = {"kind": kind, "level": f"{reach:.2f}"}
        rows.append((f"r-{number}", owner, json.dumps(condition), repeat, standing))
    with closing(sqlite3.connect(database)) as db, db:
        db.executemany(
            "INSERT INTO alert_rules (rule_id, owner, symbol, condition, repeat, hysteresis, cooldown_us, note,"
            " created, price_id, status_id, standing) VALUES (?, ?, 'XAUUSD', ?, ?, '0', 0, '', 0, 0, 0, ?)",
            rows,
        )
    return near


class Alerts:
    """The client whose rules fire."""

    def __init__(self, stream: ClientConnection) -> None:
        self.delays_ms: list[float] = []
        self._stream = stream

    def read(self) -> None:
        """Until the connection is closed. In a thread of its own: who looks now and then measures how often."""
        with contextlib.suppress(ConnectionClosedError):
            for text in self._stream:
                received, message = time.time(), json.loads(text)
                if message["type"] == "alert":
                    fired = datetime.fromisoformat(message["data"]["fired"]).astimezone(UTC).timestamp()
                    self.delays_ms.append((received - fired) * 1000)


@contextmanager
def listening(port: int) -> Iterator[Alerts]:
    url = f"ws://127.0.0.1:{port}{PATH}"
    with connect(url, subprotocols=[Subprotocol("aurex.v1.json")], max_queue=None) as stream:
        stream.send('{"type": "subscribe", "data": {"channels": ["alert"]}}')
        alerts = Alerts(stream)
        threading.Thread(target=alerts.read, daemon=True).start()
        yield alerts


# --- one run ---


def one_run(case: Case, file: Path, folder: Path) -> tuple[dict[str, float], list[str]]:
    """aurexd's figures, and what was wrong."""
    closes = closes_of(file)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        own, port = Path(name), free_port()
        database = own / "aurexd.db"
        near = add_rules(database, case, closes)
        text = (
            f'candle_days_1s = 0\n[symbols.XAUUSD]\ninstrument = "spot"\ncalendar = "always"\n'
            f'decimals = {case.decimals}\n[[sources]]\nname = "replay"\ntype = "replay"\n'
            f'symbols = {{ XAUUSD = "XAUUSD" }}\nfile = "{file}"\nstart_after_s = {START_AFTER_S}\n'
            f"speed = {case.rate * case.spacing_s}\n"
        )
        with (
            process([*ON_SERVER, *aurexd(own, port, text, limits="")], port) as server,
            listening(port) as alerts,
        ):
            began = time.monotonic()
            checked = min(CHECKED, case.clients)
            load = Load(folder, port, PATH, case.clients - checked, pause_s=case.pause_s, before=ON_CLIENTS)
            crowd = Crowd(port, checked, network=2)
            watchers = [Watcher(closes) for _ in range(checked)]
            with load:
                load.wait_open()
                time.sleep(max(0.0, began + START_AFTER_S - 1.5 - time.monotonic()))
                load.mark()
                empty_kb, before_s = rss_kb(server.pid), cpu_s(server.pid)
                progress = _follow(database, server.pid, len(closes), crowd, watchers)
                load.wait_prices((case.clients - checked) * len(closes), 5)
                used_s = cpu_s(server.pid) - before_s
                full_kb = rss_kb(server.pid)
                due = sum(level.fires(closes) for level in near)
                deadline = time.monotonic() + 5
                while time.monotonic() < deadline and (
                    any(w.last < len(closes) for w in watchers) or len(alerts.delays_ms) < due
                ):
                    crowd.read(0.1, lambda client, message: _see(watchers[client], message))
                found = load.look()
            crowd.close()
        problems = _wrong(found, case, len(closes))
        problems += [problem for watcher in watchers for problem in watcher.problems][:5]
        problems += [f"a client ends at price {w.last}" for w in watchers if w.last != len(closes)]
        problems += _wrong_in(database, closes, due, len(alerts.delays_ms))
    took_s = progress[-1][0] - progress[0][0]
    figures = {
        "ticks_per_cpu_s": len(closes) / used_s,
        "ticks_per_s": len(closes) / took_s if took_s else 0.0,
        "messages_per_client": (found["delivered"] / max(1, case.clients - checked)),
        "rss_mb": full_kb / 1024,
        "grown_mb": (full_kb - empty_kb) / 1024,
        **_flatness(progress),
    }
    if len(alerts.delays_ms) > 10:
        cuts = statistics.quantiles(alerts.delays_ms, n=100)
        figures |= {"alerts": len(alerts.delays_ms), "alert_p50_ms": cuts[49], "alert_p99_ms": cuts[98]}
    return figures, problems


def _see(watcher: Watcher, message: dict[str, Any]) -> None:
    if message["type"] == "price_update":
        watcher.see(message)


def _follow(
    database: Path, pid: int, wanted: int, crowd: Crowd, watchers: list[Watcher]
) -> list[tuple[float, int, float]]:
    """Read until all is stored: moments from the first price on, how many were stored then, and the CPU's seconds."""
    progress: list[tuple[float, int, float]] = []
    deadline = time.monotonic() + WITHIN_S
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        while time.monotonic() < deadline:
            crowd.read(0.05, lambda client, message: _see(watchers[client], message))
            (stored,) = db.execute("SELECT max(id) FROM prices").fetchone()
            if stored:
                progress.append((time.monotonic(), stored, cpu_s(pid)))
                if stored >= wanted:
                    return progress
    raise SystemExit(
        f"of {wanted} prices {progress[-1][1] if progress else 0} were stored within {WITHIN_S:.0f} s"
    )


def _flatness(progress: list[tuple[float, int, float]]) -> dict[str, float]:
    """What a price costs in the last third, to what it costs in the first."""
    first, last = progress[0], progress[-1]
    third = (last[1] - first[1]) / 3
    if len(progress) < 12:
        return {}
    one = next(each for each in progress if each[1] >= first[1] + third)
    two = next(each for each in progress if each[1] >= first[1] + 2 * third)
    if one[1] == first[1] or two[1] == last[1]:
        return {}
    early, late = ((end[2] - begin[2]) / (end[1] - begin[1]) for begin, end in ((first, one), (two, last)))
    return {"late_to_early": late / early}


def _wrong(found: dict[str, Any], case: Case, wanted: int) -> list[str]:
    problems = [f"clients: {found[what]} {what}" for what in ("lost", "repeated", "behind") if found[what]]
    arrived = prices(found)
    if arrived != (case.clients - min(CHECKED, case.clients)) * wanted:
        problems.append(f"clients: their messages stand for {arrived} prices")
    return problems


def _wrong_in(database: Path, closes: list[Decimal], due: int, received: int) -> list[str]:
    """What is not in the database as it should be."""
    problems = []
    with closing(sqlite3.connect(database)) as db:
        for table, column in (("ticks", "last"), ("prices", "close")):
            rows = db.execute(f"SELECT {column} FROM {table} ORDER BY id")  # noqa: S608 — the names are ours
            if [Decimal(repr(value)) for (value,) in rows] != closes:
                problems.append(f"stored {table} are not the recording's")
        for interval, made_of in db.execute("SELECT interval, sum(ticks) FROM candles GROUP BY interval"):
            if made_of != len(closes):
                problems.append(f"stored candles of {interval} are made of {made_of} prices")
        (stored,) = db.execute("SELECT count(*) FROM alerts").fetchone()
    if not due == stored == received:
        problems.append(f"of {due} alerts {stored} were stored and {received} received")
    return problems


def plain(file: Path, folder: Path) -> dict[str, float]:
    """What the least program makes of the same recording."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        command = [*ON_SERVER, sys.executable, "-m", "peers.plain_ingest", str(file), f"{own}/plain.db"]
        answer = subprocess.run(command, cwd=BENCH, check=True, capture_output=True, text=True)
    return {"ticks_per_cpu_s": len(closes_of(file)) / float(answer.stdout)}


def measure(part: str, cases: list[Case], runs: int, folder: Path, say: Callable[[str], None]) -> list[Row]:
    """The cases in turn, again and again."""
    pairs = [(Row(part, str(case), "plain loop"), Row(part, str(case), "aurexd")) for case in cases]
    for number in range(runs):
        for case, (least, ours) in zip(cases, pairs, strict=True):
            file = case.file
            if file is None:
                file = folder / f"{case.ticks}-{case.spacing_s:g}.csv"
                if not file.exists():
                    make_ticks(file, case.ticks, case.spacing_s)
                if not case.rate:
                    least.runs.append(plain(file, folder))
            say(f"{part}, {case}: run {number + 1} of {runs}")
            figures, problems = one_run(case, file.resolve(), folder)
            ours.runs.append(figures)
            ours.problems += [f"run {number + 1}: {problem}" for problem in problems]
    return [row for pair in pairs for row in pair if row.runs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ticks", type=int, default=40_000)
    parser.add_argument("--spacing", type=float, default=0.05)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.2)
    parser.add_argument("--rules", type=int, default=0)
    parser.add_argument("--firing", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--decimals", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    case = Case(
        args.ticks,
        args.spacing,
        args.clients,
        args.pause,
        args.rules,
        args.firing,
        args.rate,
        args.file,
        args.decimals,
    )
    stay_off()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(
            "ingest", [case], args.runs, Path(folder), lambda text: print(text, file=sys.stderr, flush=True)
        )
    print(told(rows))
    if args.json is not None:
        ledger.write(ledger.record(list(rows)), args.json)
    if any(row.problems for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
