"""Everything that is measured, in one run: `make bench`.

    python bench/run.py [PART …] [--large] [--runs 3] [--json FILE] [--keep]

Each part prints its table as soon as it has been measured; then comes what became worse or better since the last run
that was kept, by more than runs differ. `--large` adds what takes long: 10,000 connections. `--keep` appends the run to
`ledger.jsonl`, which belongs to the repository. Each part is a program of its own, too, with more options.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import arrivals
import fanout
import history
import ingest
import ledger
from report import Row, told
from servers import ALL, stay_off


class Wanted(NamedTuple):
    """How thoroughly."""

    runs: int
    large: bool
    folder: Path
    say: Callable[[str], None]


def measure_fanout(wanted: Wanted) -> Sequence[Row]:
    cases = [fanout.Case(tls=tls) for tls in (False, True)]
    if wanted.large:
        cases += [fanout.Case(10_000, rate=2, messages=20, tls=tls) for tls in (False, True)]
    measured = [(case, ALL) for case in cases]
    for tls in (False, True):
        everything = fanout.Case(tls=tls, symbols=5, channels=("price", "status", "candle"), mixed=True)
        measured.append((everything, ("aurexd",)))
    return [
        row
        for case, servers in measured
        for row in fanout.measure(case, servers, wanted.runs, wanted.folder, wanted.say)
    ]


def measure_arrivals(wanted: Wanted) -> Sequence[Row]:
    counts = ((10_000, False), (5000, True)) if wanted.large else ((2000, False), (1000, True))
    cases = [arrivals.Case(count, tls) for count, tls in counts]
    servers = arrivals.SERVERS
    return [
        row
        for case in cases
        for row in arrivals.measure(case, servers, wanted.runs, wanted.folder, wanted.say)
    ]


def measure_ingest(wanted: Wanted) -> Sequence[Row]:
    cases = [ingest.Case(rules=10_000), ingest.Case(rules=10_000, pause_s=0)]
    return ingest.measure("ingest", cases, wanted.runs, wanted.folder, wanted.say)


def measure_alerts(wanted: Wanted) -> Sequence[Row]:
    many = ingest.Case(clients=3, rules=100_000)
    near = many._replace(firing=1000)
    cases = [many._replace(rules=0), many, near, near._replace(ticks=2000, rate=200)]
    return ingest.measure("alerts", cases, wanted.runs, wanted.folder, wanted.say)


def measure_history(wanted: Wanted) -> Sequence[Row]:
    return history.measure(None, 3, 20, wanted.runs, wanted.folder, wanted.say)


PARTS: dict[str, Callable[[Wanted], Sequence[Row]]] = {
    "fan-out": measure_fanout,
    "arrivals": measure_arrivals,
    "ingest": measure_ingest,
    "alerts": measure_alerts,
    "history": measure_history,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    stay_off()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True)

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = Wanted(args.runs, args.large, Path(folder), say)
        for part in args.parts or PARTS:
            new = PARTS[part](wanted)
            print(told(new), flush=True)
            rows += new
    now = ledger.record(rows)
    print(f"\n{now.machine}; {', '.join(f'{name} {number}' for name, number in now.versions.items())}")
    before = ledger.latest(now.machine)
    if before is not None:
        print("\n" + ledger.compared(before, now)[0])
    if args.json is not None:
        ledger.write(now, args.json)
    if args.keep:
        ledger.append(now)


if __name__ == "__main__":
    main()
