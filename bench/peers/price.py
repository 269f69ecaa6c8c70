"""What the peers publish: a price in the very words of aurexd's, of the same size, when they are told to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

WRAPS_US = 10_000_000_000


def price_now() -> float:
    """The moment as a price: microseconds of the wall clock, modulo 10^10, as 1234.567890."""
    return time.time_ns() // 1000 % WRAPS_US / 1e6


def message(count: int) -> str:
    """A price that is sent now."""
    price = price_now()
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z"
    data = {
        "symbol": "GOLD0",
        "close": price,
        "change": None,
        "change_pct": None,
        "timestamp": stamp,
        "bid": price,
        "ask": price,
        "source": "kraken",
        "instrument": "token",
        "quality": "live",
    }
    whole = {"type": "price_update", "data": data, "timestamp": stamp, "update_count": count}
    return json.dumps(whole, separators=(",", ":"))


def orders() -> Iterator[tuple[float, int]]:
    """What is asked for on the standard input, a line at a time: messages a second, and how many."""
    for line in sys.stdin:
        rate, count = line.split()
        yield float(rate), int(count)
