"""Fan-out: CPU per delivered message and memory per connection, aurexd against websockets' broadcast, in one run.

    python bench/fanout.py [--clients 500] [--seconds 5] [--runs 3] [--json]

Both push a price ten times a second to the same crowd, in turn; medians of the runs, and the ratio of the two. The
clients live in this process, so the servers' figures are theirs alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from harness import Crowd, aurexd, cpu_s, free_port, process, rss_kb

SYMBOL = (
    '[symbols.TESTGOLD]\ninstrument = "test"\ncalendar = "always"\n'
    '[[sources]]\nname = "simulated"\ntype = "simulated"\ninterval_s = 0.1\nsymbols = { TESTGOLD = "TESTGOLD" }\n'
)


def measure(name: str, clients: int, seconds: float) -> dict[str, float]:
    """CPU µs per delivered message, and KB per connection."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        peer = [sys.executable, str(Path(__file__).parent / "peer_websockets.py"), str(port)]
        command = aurexd(Path(folder), port, SYMBOL) if name == "aurexd" else peer
        with process(command, port) as server:
            idle = rss_kb(server.pid)
            crowd = Crowd(port, clients)
            crowd.count(1.5, b'"close"')
            full, before = rss_kb(server.pid), cpu_s(server.pid)
            delivered = crowd.count(seconds, b'"close"')
            used = cpu_s(server.pid) - before
            crowd.close()
    return {"us_per_message": used / max(delivered, 1) * 1e6, "kb_per_connection": (full - idle) / clients}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = ["websockets", "aurexd"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(args.runs):
        for name in names:
            runs[name].append(measure(name, args.clients, args.seconds))
    rows = {
        name: {figure: statistics.median(run[figure] for run in runs[name]) for figure in runs[name][0]}
        for name in names
    }
    if args.json:
        print(json.dumps(rows))
        return
    base = rows["websockets"]
    print(f"fan-out to {args.clients} plain connections, 10 messages/s, medians of {args.runs} runs in turn")
    print(f"{'server':<12}{'us/message':>12}{'ratio':>8}{'KB/connection':>16}")
    for name, row in rows.items():
        ratio = row["us_per_message"] / base["us_per_message"]
        print(f"{name:<12}{row['us_per_message']:>12.1f}{ratio:>8.2f}{row['kb_per_connection']:>16.1f}")


if __name__ == "__main__":
    main()
