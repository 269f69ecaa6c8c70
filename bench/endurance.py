"""Flat in time: a crowd that stays, others that come and go, and what grows meanwhile.

    python bench/endurance.py [--minutes 60] [--connections 1000] [--visitors 100] [--rate 2] [--tls] [--json FILE]

Once a minute the daemon is looked at: memory, descriptors, threads, CPU for each message delivered to those who stay
(what the visitors cost included), and their delay. Told is each third of the time: nothing may have grown from one to
the next.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from load import Load, prices
from report import Row, told
from servers import ON_CLIENTS, Server, serving, stay_off

STAY_S = 8.0
"""How long a visitor stays."""

MINUTE_S = 60.0
THIRDS = ("first third", "second third", "last third")

__all__: list[str] = []


def one_minute(server: Server, crowd: Load, visit: Callable[[], Load], until: float) -> dict[str, float]:
    """What was seen in it; what is lost or repeated is under these names."""
    crowd.mark()
    before_s = server.cpu_s()
    while time.monotonic() < until:
        with visit() as visitors:
            visitors.wait_open()
            time.sleep(max(0.0, min(STAY_S, until - time.monotonic())))
    time.sleep(0.5)  # who has just gone is cleared away
    used_s, found = server.cpu_s() - before_s, crowd.report()
    return {
        "us_per_message": used_s / max(1, prices(found)) * 1e6,
        "p50_ms": found["delay_ms"]["p50"],
        "p99_ms": found["delay_ms"]["p99"],
        "rss_mb": server.rss_kb() / 1024,
        "descriptors": server.descriptors(),
        "threads": server.threads(),
        "lost": found["lost"],
        "repeated": found["repeated"],
        "connections": found["connections"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--visitors", type=int, default=100, help="that come and go together")
    parser.add_argument("--rate", type=float, default=2, help="prices a second")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="each minute")
    args = parser.parse_args()
    stay_off()
    case = f"{args.connections:,} {'TLS' if args.tls else 'plain'} connections, {args.visitors} come and go"
    minutes: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name, serving("aurexd", Path(name), tls=args.tls) as server:
        where = (Path(name), server.port, server.path)

        def visit() -> Load:
            return Load(*where, args.visitors, tls=args.tls, network=100, at_once=10, before=ON_CLIENTS)

        with Load(*where, args.connections, tls=args.tls, before=ON_CLIENTS) as crowd:
            crowd.wait_open()
            server.publish(args.rate, int((args.minutes + 2) * MINUTE_S * args.rate))
            began = time.monotonic()
            for number in range(args.minutes):
                minutes.append(one_minute(server, crowd, visit, began + (number + 1) * MINUTE_S))
                shown = ", ".join(f"{what} {value:,.1f}" for what, value in minutes[-1].items())
                print(f"minute {number + 1}: {shown}", file=sys.stderr, flush=True)
    rows = [Row("endurance", case, third) for third in THIRDS]
    for number, minute in enumerate(minutes):
        row = rows[number * len(THIRDS) // len(minutes)]
        row.runs.append(minute)
        gone = args.connections - int(minute["connections"])
        for what, count in (("lost", minute["lost"]), ("repeated", minute["repeated"]), ("cut off", gone)):
            if count:
                row.problems.append(f"minute {number + 1}: {count:g} {what}")
    print(told(rows))
    if args.json is not None:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(minutes)) + b"\n")


if __name__ == "__main__":
    main()
