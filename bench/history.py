"""History: a month of minutes replayed into a database, then asked for at every interval, page by page.

    python bench/history.py [--file BARS.csv] [--decimals 3] [--rounds 20] [--json]

Without a file it makes a seeded month of 1-minute bars. Times are those of whole HTTP requests on connections of their
own, in milliseconds; `page` is the newest 1000 candles, `month` each page of 1000 on the way back to the first, and
`first` the same when nobody has asked for them before. It also checks that every final candle that a live client saw is
the stored one, and that the pages make the month without a hole or a repeat.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from harness import aurexd, free_port, process
from replay import closes_of, make_bars

INTERVALS = ("1s", "1m", "5m", "15m", "1h", "4h", "1d")
HISTORY = "/api/v1/prices/history"
COMMON = ("symbol", "interval", "instrument")


def get(port: int, target: str) -> tuple[float, Any]:
    """The answer, and the seconds that it took from connecting to its last byte."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", target)
    body = connection.getresponse().read()
    took = time.perf_counter() - began
    connection.close()
    return took, json.loads(body)


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
    while get(port, "/readyz")[1]["store"]["stored"] < ticks:
        if time.monotonic() > deadline:
            raise TimeoutError("the replay was not stored within two minutes")
        time.sleep(0.5)


def walk(port: int, interval: str) -> tuple[list[float], list[dict[str, Any]]]:
    """Every page from the newest back: the seconds of each, and the candles, oldest first."""
    times: list[float] = []
    candles: list[dict[str, Any]] = []
    target: str | None = f"{HISTORY}?symbol=XAUUSD&interval={interval}"
    while target is not None:
        took, page = get(port, target)
        times.append(took)
        candles[:0] = page["candles"]
        target = page["next"]
    return times, candles


def milliseconds(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered) * 1000, 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2),
    }


def run(folder: Path, file: Path, decimals: int, rounds: int) -> dict[str, Any]:
    port, problems = free_port(), []
    ticks = len(closes_of(file))
    text = (
        f'candle_days_1s = 0\n[symbols.XAUUSD]\ninstrument = "spot"\ncalendar = "always"\ndecimals = {decimals}\n'
        f'[[sources]]\nname = "replay"\ntype = "replay"\nsymbols = {{ XAUUSD = "XAUUSD" }}\n'
        f'file = "{file}"\nspeed = 0\nstart_after_s = 2\n'
    )
    result: dict[str, Any] = {"prices": ticks}
    with process(aurexd(folder, port, text), port):
        live = LiveClient(port)
        live.start()
        wait_until_all_is_stored(port, ticks)
        time.sleep(1)
        seen = dict(live.final)
        for interval in INTERVALS:
            page, month = [], []
            first, candles = walk(port, interval)
            for _ in range(rounds):
                page.append(get(port, f"{HISTORY}?symbol=XAUUSD&interval={interval}")[0])
                times, candles = walk(port, interval)
                month += times
            starts = [candle["start"] for candle in candles]
            if starts != sorted(set(starts)):
                problems.append(f"{interval}: the pages overlap")
            if sum(candle["ticks"] for candle in candles) != ticks:
                problems.append(f"{interval}: the candles are not made of all prices")
            stored = {candle["start"]: candle for candle in candles}
            compared = 0
            for (of, start), candle in seen.items():
                if of == interval:
                    compared += 1
                    if {k: v for k, v in candle.items() if k not in COMMON} != stored.get(start):
                        problems.append(f"{interval}: the live candle of {start} is not the stored one")
            result[interval] = {
                "candles": len(candles),
                "live_compared": compared,
                "page_ms": milliseconds(page),
                "month_ms": milliseconds(month),
                "first_ms": milliseconds(first),
                "pages": len(first),
            }
    return {**result, "problems": problems[:10]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path)
    parser.add_argument("--decimals", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = args.file
        if file is None:
            file = folder / "bars.csv"
            make_bars(file)
        result = run(folder, file.resolve(), args.decimals, args.rounds)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:<12}{value}")
    if result["problems"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
