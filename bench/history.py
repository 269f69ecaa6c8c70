"""History: a month of minutes replayed into a database, then asked for at every interval, page by page.

    python bench/history.py [--file BARS.csv] [--decimals 3] [--rounds 20] [--runs 3] [--json FILE]

Without a file it makes a seeded month of 1-minute bars. Times are those of whole HTTP requests on connections of their
own, in milliseconds; `page` is the newest 1000 candles, `month` each page of 1000 on the way back to the first, and
`first` the same when nobody has asked for them before, in the first run only. Beside it FastAPI under uvicorn answers
with the same bytes from memory (`peers/canned.py`). It also checks that every final candle that a live client saw is
the stored one, and that the pages make the month without a hole or a repeat.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ledger
from harness import aurexd, free_port, process
from recording import closes_of, make_bars
from report import Row, told
from servers import BENCH, ON_SERVER, stay_off

INTERVALS = ("1s", "1m", "5m", "15m", "1h", "4h", "1d")
HISTORY = "/api/v1/prices/history"
COMMON = ("symbol", "interval", "instrument")

__all__ = ["measure"]


def fetch(port: int, target: str) -> tuple[float, bytes]:
    """The answer, and the seconds that it took from connecting to its last byte."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", target)
    body = connection.getresponse().read()
    took = time.perf_counter() - began
    connection.close()
    return took, body


class LiveClient(threading.Thread):
    """Reads every channel of candles as an event stream and keeps the last state of each final candle."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.final: dict[tuple[str, str], dict[str, Any]] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        channels = ",".join(f"candle:XAUUSD:{interval}" for interval in INTERVALS)
        self._connection.request("GET", f"/api/v1/stream?channels={channels}")
        self._stream = self._connection.getresponse()

    def run(self) -> None:
        for line in self._stream:
            if line.startswith(b"data: "):
                message = json.loads(line[6:])
                if message["type"] == "candle" and message["data"]["final"]:
                    candle = message["data"]
                    self.final[candle["interval"], candle["start"]] = candle


def wait_until_all_is_stored(port: int, ticks: int) -> None:
    deadline = time.monotonic() + 120
    while json.loads(fetch(port, "/readyz")[1])["store"]["stored"] < ticks:
        if time.monotonic() > deadline:
            raise TimeoutError("the replay was not stored within two minutes")
        time.sleep(0.5)


def newest(interval: str) -> str:
    return f"{HISTORY}?symbol=XAUUSD&interval={interval}"


def walk(port: int, interval: str) -> tuple[list[float], list[dict[str, Any]]]:
    """Every page from the newest back: the seconds of each, and the candles, oldest first."""
    times: list[float] = []
    candles: list[dict[str, Any]] = []
    target: str | None = newest(interval)
    while target is not None:
        took, body = fetch(port, target)
        page = json.loads(body)
        times.append(took)
        candles[:0] = page["candles"]
        target = page["next"]
    return times, candles


def quantiles(name: str, times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        f"{name}_p50_ms": ordered[len(ordered) // 2] * 1000,
        f"{name}_p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
    }


def wrong(interval: str, candles: list[dict[str, Any]], live: LiveClient, ticks: int) -> list[str]:
    """What of the month is not as it was sent."""
    problems = []
    starts = [candle["start"] for candle in candles]
    if starts != sorted(set(starts)):
        problems.append("the pages overlap")
    if sum(candle["ticks"] for candle in candles) != ticks:
        problems.append("the candles are not made of all prices")
    stored = {candle["start"]: candle for candle in candles}
    seen = {start: candle for (of, start), candle in dict(live.final).items() if of == interval}
    if not seen:
        problems.append("a live client saw no final candle")
    for start, candle in seen.items():
        if {k: v for k, v in candle.items() if k not in COMMON} != stored.get(start):
            problems.append(f"the live candle of {start} is not the stored one")
    return problems[:3]


def canned(body: bytes, rounds: int, folder: Path) -> dict[str, float]:
    """The same bytes, from memory."""
    file, port = folder / "page.json", free_port()
    file.write_bytes(body)
    command = [*ON_SERVER, sys.executable, "-m", "peers.canned", str(port), str(file)]
    with process(command, port, cwd=BENCH):
        for _ in range(3):
            fetch(port, newest("1m"))
        return quantiles("page", [fetch(port, newest("1m"))[0] for _ in range(rounds)])


def measure(
    file: Path | None, decimals: int, rounds: int, runs: int, folder: Path, say: Callable[[str], None]
) -> Sequence[Row]:
    """A row for each interval, and beside each the canned answer's."""
    if file is None:
        file = folder / "bars.csv"
        if not file.exists():
            make_bars(file)
    port, ticks = free_port(), len(closes_of(file))
    text = (
        f'candle_days_1s = 0\n[symbols.XAUUSD]\ninstrument = "spot"\ncalendar = "always"\ndecimals = {decimals}\n'
        f'[[sources]]\nname = "replay"\ntype = "replay"\nsymbols = {{ XAUUSD = "XAUUSD" }}\n'
        f'file = "{file.resolve()}"\nspeed = 0\nstart_after_s = 2\n'
    )
    say(f"history: {ticks:,} prices are stored")
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        process([*ON_SERVER, *aurexd(Path(own), port, text)], port),
    ):
        live = LiveClient(port)
        live.start()
        wait_until_all_is_stored(port, ticks)
        time.sleep(1)
        for interval in INTERVALS:
            first, candles = walk(port, interval)
            ours = Row("history", f"{interval}: {len(candles):,} candles", "aurexd")
            theirs = Row("history", ours.case, "canned answer")
            ours.problems += wrong(interval, candles, live, ticks)
            rows += [theirs, ours]
            for number in range(runs):
                say(f"history, {interval}: run {number + 1} of {runs}")
                page, month = [], []
                for _ in range(rounds):
                    took, body = fetch(port, newest(interval))
                    page.append(took)
                    month += walk(port, interval)[0]
                ours.runs.append({**quantiles("page", page), **quantiles("month", month)})
                theirs.runs.append(canned(body, rounds, folder))
            ours.runs[0] |= quantiles("first", first)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path)
    parser.add_argument("--decimals", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    stay_off()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(
            args.file,
            args.decimals,
            args.rounds,
            args.runs,
            Path(folder),
            lambda text: print(text, file=sys.stderr),
        )
    print(told(rows))
    if args.json is not None:
        ledger.write(ledger.record(list(rows)), args.json)
    if any(row.problems for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
