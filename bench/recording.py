"""What is replayed: seeded ticks and bars, in files as the replay source reads them."""

from __future__ import annotations

import csv
import gzip
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

START = datetime(2024, 5, 28, 21, tzinfo=UTC)

__all__ = ["closes_of", "make_bars", "make_ticks"]


def make_bars(file: Path, count: int = 30_000) -> None:
    """Bars of a minute each, a third of them without a volume."""
    rng, price, opened = random.Random(1), 2000_000, START
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["time_utc", "open", "high", "low", "close", "volume"])
        for _ in range(count):
            price += rng.randint(-500, 500)
            text = f"{price / 1000:.3f}"
            rows.writerow(
                [f"{opened:%Y-%m-%dT%H:%M:%SZ}", text, text, text, text, rng.choice(["0.0", "1.5", "12.0"])]
            )
            opened += timedelta(minutes=1)


def make_ticks(file: Path, count: int, spacing_s: float) -> None:
    """Ticks at an even distance, each of another price than the one before."""
    rng, price, steps = random.Random(1), 2000_000, [step for step in range(-200, 201) if step]
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["time_utc", "last"])
        for number in range(count):
            price += rng.choice(steps)
            time = START + timedelta(seconds=number * spacing_s)
            rows.writerow([f"{time:%Y-%m-%dT%H:%M:%S.%fZ}", f"{price / 1000:.3f}"])


def closes_of(file: Path) -> list[Decimal]:
    """The prices that a replay makes of it: each tick, or the close of each bar with a volume."""
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        return [
            Decimal(row["last"] if "last" in row else row["close"])
            for row in csv.DictReader(lines)
            if "volume" not in row or Decimal(row["volume"]) > 0
        ]
