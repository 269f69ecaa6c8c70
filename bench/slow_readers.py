"""Does a slow reader cost the others anything? Their p99 delay with slow readers among them, against without.

    python bench/slow_readers.py [--clients 800] [--slow 200] [--seconds 20] [--runs 3] [--json]

Half of the slow clients never read, the other half read a kilobyte a second. A price is published twenty times a
second. Runs with and without them take turns; medians, and the ratio of the two. The delay is of every tenth client:
more would keep the clients' processor busy, not the server's, which it has to itself.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Crowd, Delays, aurexd, free_port, process, rss_kb

SAMPLE = 10
SYMBOL = (
    '[symbols.TESTGOLD]\ninstrument = "test"\ncalendar = "always"\n'
    '[[sources]]\nname = "simulated"\ntype = "simulated"\ninterval_s = 0.05\nsymbols = { TESTGOLD = "TESTGOLD" }\n'
    "[heartbeat]\nping_interval_s = 120\n"
)


def measure(clients: int, slow: int, seconds: float) -> dict[str, float]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["taskset", "-c", "0", *aurexd(Path(folder), port, SYMBOL)]
        with process(command, port) as server:
            crowd = Crowd(port, clients)
            before_kb = rss_kb(server.pid)
            slow_command = [sys.executable, __file__, "--be-slow", str(port), str(slow), str(seconds + 20)]
            others = subprocess.Popen(slow_command)
            crowd.read(10, lambda *_: None, SAMPLE)  # until their sockets are full
            delays = Delays()
            crowd.read(seconds, delays.note, SAMPLE)
            after_kb = rss_kb(server.pid)
            others.kill()
            others.wait()
            crowd.close()
    return {"p50_ms": delays.quantile(50), "p99_ms": delays.quantile(99), "mb": (after_kb - before_kb) / 1024}


def be_slow(port: int, count: int, seconds: float) -> None:
    """Every second one reads a kilobyte, every other one nothing."""
    os.nice(5)
    sockets = Crowd(port, count, receive_buffer_bytes=4096).clients
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        began = time.monotonic()
        for client in sockets[::2]:
            try:
                client.recv(1024, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        time.sleep(max(0.0, began + 1 - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=800)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--be-slow", nargs=3, type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.sched_setaffinity(0, {1})
    if args.be_slow:
        be_slow(int(args.be_slow[0]), int(args.be_slow[1]), args.be_slow[2])
        return
    runs: dict[int, list[dict[str, float]]] = {0: [], args.slow: []}
    for _ in range(args.runs):
        for slow, results in runs.items():
            results.append(measure(args.clients, slow, args.seconds))
    rows = {
        slow: {figure: statistics.median(run[figure] for run in results) for figure in results[0]}
        for slow, results in runs.items()
    }
    ratios = [b["p99_ms"] / a["p99_ms"] for a, b in zip(runs[0], runs[args.slow], strict=True)]
    if args.json:
        print(json.dumps({"rows": rows, "p99_ratios": ratios}))
        return
    print(f"{args.clients} clients that read, 20 prices a second; medians of {args.runs} runs in turn")
    for slow, row in rows.items():
        print(
            f"with {slow:>4} slow readers: p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, "
            f"memory for them {row['mb']:.1f} MB"
        )
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"p99 with them: {statistics.median(ratios):.2f} times that without ({spread})")


if __name__ == "__main__":
    main()
