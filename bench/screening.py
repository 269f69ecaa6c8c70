"""Bad ticks and a genuine jump: a day of 1-minute bars as ticks, with bad ones among them, in front of the screen.

    python bench/screening.py --file BARS.csv [--day 2024-06-07] [--json]

Each minute is its open, extremes and close, a quarter of a minute each, one tick a second: harsher than the market,
which needs more than a second for a minute's range. Every ten seconds a bad tick comes in between. Told is how many
genuine ticks were held back, for how long the believed price lagged behind at most, and how many bad ones were
believed; with one source, and with a second that says the same half a second later.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from aurexd.market import SECOND_US, EpochUs, Instrument, Tick
from aurexd.screening import BANDS_PCT, Screen

BAD_EVERY_S = 10
HALF_SPREAD = Decimal("0.10")
KINDS = (
    "spike up",
    "spike down",
    "cents for dollars",
    "crossed book",
    "wide spread",
    "older",
    "of the future",
)


def genuine(file: Path, day: str) -> Iterator[tuple[EpochUs, Decimal]]:
    """A price a second; minutes without a quote are none."""
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as text:
        for row in csv.DictReader(text):
            if not row["time_utc"].startswith(day) or not float(row["volume"]):
                continue
            start = int(datetime.fromisoformat(row["time_utc"]).timestamp())
            extremes = ["low", "high"] if row["close"] > row["open"] else ["high", "low"]
            for quarter, name in enumerate(["open", *extremes, "close"]):
                for second in range(15):
                    yield EpochUs((start + 15 * quarter + second) * SECOND_US), Decimal(row[name])


def tick(source: str, time: int, price: Decimal, half: Decimal = HALF_SPREAD, *, age_us: int = 0) -> Tick:
    return Tick(
        symbol="XAUUSD",
        source=source,
        instrument=Instrument.SPOT,
        source_time=EpochUs(time - age_us),
        receive_time=EpochUs(time),
        bid=price - half,
        ask=price + half,
    )


def bad(kind: str, source: str, time: int, price: Decimal) -> Tick:
    """A tick of a kind that is not to be believed."""
    match kind:
        case "spike up":
            return tick(source, time, price * Decimal("1.01"))
        case "spike down":
            return tick(source, time, price * Decimal("0.99"))
        case "cents for dollars":
            return tick(source, time, price * 100)
        case "crossed book":
            return tick(source, time, price, -HALF_SPREAD)
        case "wide spread":
            return tick(source, time, price, price / 20)
        case "older":
            return tick(source, time, price, age_us=3 * SECOND_US)
        case _:
            return tick(source, time, price, age_us=-600 * SECOND_US)


def run(file: Path, day: str, sources: tuple[str, ...]) -> dict[str, Any]:
    """What became of the ticks of the first of the sources."""
    rng, screen = random.Random(1), Screen(sources, band_pct=BANDS_PCT[Instrument.SPOT])
    prices = held = 0
    held_since: int | None = None
    longest_us = 0
    sent: Counter[str] = Counter()
    believed: Counter[str] = Counter()
    for number, (time, price) in enumerate(genuine(file, day)):
        prices += 1
        if screen.judge(tick(sources[0], time, price)).refused is None:
            if held_since is not None:
                longest_us = max(longest_us, time - held_since)
            held_since = None
        else:
            held += 1
            held_since = time if held_since is None else held_since
        for source in sources[1:]:
            screen.judge(tick(source, time + SECOND_US // 2, price))
        if number % BAD_EVERY_S == 0:
            kind = rng.choice(KINDS)
            sent[kind] += 1
            believed[kind] += screen.judge(bad(kind, sources[0], time + 700_000, price)).refused is None
    return {
        "prices": prices,
        "held_back": held,
        "longest_delay_s": longest_us / SECOND_US,
        "jumps": screen.record(sources[0]).jumps,
        "bad": dict(sent),
        "bad_believed": sum(believed.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--day", default="2024-06-07")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = {
        "one source": run(args.file, args.day, ("a",)),
        "two sources": run(args.file, args.day, ("a", "b")),
    }
    if args.json:
        print(json.dumps(result))
    else:
        for name, figures in result.items():
            print(f"{name:<14}{figures}")


if __name__ == "__main__":
    main()
