"""A provider that ticks on schedule, or when it is told to: Kraken's stand-in.

    python bench/ticker.py PORT INTERVAL_S
    python bench/ticker.py PORT orders [SYMBOLS]

On schedule, each tick is stamped with the moment it was due: the stamp is the schedule's, not the sender's, so that a
daemon that reads late is late, whatever it was doing. With orders, a line on the input says how many ticks a second,
and how many; each symbol has its turn, and the price of a tick is the moment it is sent (`peers/price.py`).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from peers.price import orders, price_now

from tests.standins.kraken import KrakenStandIn

PAIRS = [
    f"{token}/{currency}" for currency in ("USD", "EUR", "GBP", "JPY", "CHF") for token in ("PAXG", "XAUT")
]
"""As many as there may be symbols."""


async def on_schedule(standin: KrakenStandIn, interval_s: float) -> None:
    began = trio.current_time()
    wall = datetime.now(UTC).timestamp() - began
    number = 0
    while True:
        number += 1
        due = began + number * interval_s
        await trio.sleep_until(due)
        price = f"{2000 + number % 10_000 / 100:.2f}"
        stamp = datetime.fromtimestamp(wall + due, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        await standin.push(price, price, timestamp=stamp)


async def as_told(standin: KrakenStandIn, pairs: list[str]) -> None:
    asked = orders()
    while (order := await trio.to_thread.run_sync(partial(next, asked, None))) is not None:
        rate, count = order
        began = trio.current_time()
        for due in range(count):
            await trio.sleep_until(began + due / rate)
            price = f"{price_now():.6f}"
            await standin.push(price, price, symbol=pairs[due % len(pairs)])


async def main(port: int, interval_s: float | None, symbols: int) -> None:
    pairs = PAIRS[:symbols]
    standin = KrakenStandIn(pairs=pairs)
    standin.port = port
    async with standin.running():
        if interval_s is None:
            await as_told(standin, pairs)
        else:
            await on_schedule(standin, interval_s)


if __name__ == "__main__":
    told = sys.argv[2] == "orders"
    trio.run(
        main,
        int(sys.argv[1]),
        None if told else float(sys.argv[2]),
        int(sys.argv[3]) if len(sys.argv) > 3 else 1,
    )
