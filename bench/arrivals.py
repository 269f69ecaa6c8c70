"""Many clients at once: how fast a server lets them in, and what those who are there notice.

    python bench/arrivals.py [--connections 2000] [--tls] [--at-once 1000] [--servers NAME,NAME] [--runs 3]
        [--json FILE]

A hundred watchers get two prices a second; then the others are offered as fast as their process can, `--at-once` of
them under way at any time. Told is how many a second got in, what each cost the server (the prices that went out
meanwhile included), and the watchers' p99 delay while they came, and before. The watchers' process comes first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import ledger
from load import Load
from report import Row, told
from servers import ALL, ON_CLIENTS, in_turn, named, serving, stay_off

SERVERS = ("websockets", "nchan", "aurexd")
WATCHERS = 100
RATE = 2
"""A second: ten to ten thousand clients would be more than one processor sends, whether anybody comes or not."""

QUIET_S = 8.0
MOST_S = 240
"""All have come by then."""

__all__ = ["SERVERS", "Case", "measure"]


class Case(NamedTuple):
    """What is measured."""

    connections: int = 2000
    tls: bool = False
    at_once: int = 1000

    def __str__(self) -> str:
        return f"{self.connections:,} {'TLS' if self.tls else 'plain'} connections, {self.at_once:,} at once"


def one_run(name: str, case: Case, folder: Path) -> tuple[dict[str, float], list[str]]:
    """A server's figures, and what was wrong."""
    with serving(name, folder, tls=case.tls) as server:
        where = (folder, server.port, server.path)
        with Load(*where, WATCHERS, tls=case.tls, network=100, before=ON_CLIENTS) as watchers:
            watchers.wait_open()
            server.publish(RATE, MOST_S * RATE)
            time.sleep(2)
            watchers.mark()
            time.sleep(QUIET_S)
            quiet = watchers.report()
            watchers.mark()
            before_s = server.cpu_s()
            last = [*ON_CLIENTS, "nice", "-n", "10"]
            with Load(*where, case.connections, tls=case.tls, at_once=case.at_once, before=last) as crowd:
                came = crowd.wait_open()
                used_s = server.cpu_s() - before_s
                during = watchers.report()
                time.sleep(1)
                found = crowd.look()
    problems = []
    if came["failed"]:
        problems.append(f"{came['failed']} of {case.connections} were not let in: {came['error']}")
    for who, counted in (("watchers", during), ("those who came", found)):
        problems += [f"{who}: {counted[what]} {what}" for what in ("lost", "repeated") if counted[what]]
    if during["connections"] < WATCHERS:
        problems.append(f"{WATCHERS - during['connections']} watchers were cut off: {during['error']}")
    figures = {
        "admitted_per_s": came["opened"] / came["seconds"],
        "ms_per_admission": used_s / max(1, came["opened"]) * 1e3,
        "opening_p99_ms": came["opening_ms"].get("p99", 0.0),
        "quiet_p99_ms": quiet["delay_ms"]["p99"],
    }
    if during["delay_ms"]["n"]:
        figures["p99_ms"] = during["delay_ms"]["p99"]
        figures["to_quiet"] = during["delay_ms"]["p99"] / quiet["delay_ms"]["p99"]
    else:
        problems.append("no price reached a watcher while they came")
    return figures, problems


def measure(
    case: Case, servers: Sequence[str], runs: int, folder: Path, say: Callable[[str], None]
) -> list[Row]:
    """One case: all servers in turn, again and again."""
    return in_turn("arrivals", str(case), servers, runs, lambda name: one_run(name, case, folder), say)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--at-once", type=int, default=1000)
    parser.add_argument("--servers", type=named, default=SERVERS, metavar="NAME,NAME", help=", ".join(ALL))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    case = Case(args.connections, args.tls, args.at_once)
    stay_off()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(case, args.servers, args.runs, Path(folder), lambda text: print(text, file=sys.stderr))
    print(told(rows))
    if args.json is not None:
        ledger.write(ledger.record(list(rows)), args.json)


if __name__ == "__main__":
    main()
