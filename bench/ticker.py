"""A provider that ticks on schedule: Kraken's stand-in, each tick stamped with the moment it was due.

    python bench/ticker.py PORT INTERVAL_S

The stamp is the schedule's, not the sender's, so that a daemon that reads late is late, whatever it was doing.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.standins.kraken import KrakenStandIn


async def main(port: int, interval_s: float) -> None:
    standin = KrakenStandIn()
    standin.port = port
    async with standin.running():
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


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), float(sys.argv[2]))
