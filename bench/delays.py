"""How long a price takes to many TLS clients, as the daemon says and as the clients see it, over the same time.

    python bench/delays.py [--clients 1000] [--rate 10] [--seconds 10] [--json]

A provider stamps each price when it is due; `client` is the delay from there, and has to be compared with `source` and
`delivery` together. The daemon's figures are its own histograms, read before and after. The clients live in this
process, which reads every client and looks at every tenth: they are late by what it needs for that. It has a processor
to itself, and the daemon another.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import Crowd, aurexd, cpu_s, free_port, process, rss_kb
from prometheus_client.parser import text_string_to_metric_families

from aurexd import certificate
from aurexd.histogram import Buckets

SAMPLE = 10
SHARES = (0.5, 0.9, 0.99)
HOPS = ("source", "aggregator", "hub", "socket")
SYMBOL = """
[tls]
certificate = "{folder}/certificate.pem"
private_key = "{folder}/private_key.pem"
[symbols.PAXG]
instrument = "token"
calendar = "always"
max_jump_pct = 0
[[sources]]
name = "kraken"
type = "kraken"
url = "ws://127.0.0.1:{feed}/v2"
symbols = {{ PAXG = "PAXG/USD" }}
"""


def scraped(port: int, trust: ssl.SSLContext) -> dict[str, Buckets]:
    """Hop → what the daemon has counted of it so far."""
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=trust) as answer:
        text = answer.read().decode()
    found: dict[str, list[tuple[float, float]]] = {}
    for family in text_string_to_metric_families(text):
        if family.name in {"aurexd_hop_seconds", "aurexd_delivery_seconds"}:
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    hop = sample.labels.get("hop", "delivery")
                    found.setdefault(hop, []).append((float(sample.labels["le"]), sample.value))
    return {hop: _buckets(cumulative) for hop, cumulative in found.items()}


def _buckets(cumulative: list[tuple[float, float]]) -> Buckets:
    bounds, counts = zip(*sorted(cumulative), strict=True)
    each = [int(count - before) for before, count in zip((0, *counts), counts, strict=False)]
    return Buckets(bounds[:-1], tuple(each), 0.0)


class Seen:
    """Milliseconds from a price's source time to its arrival at each client."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def note(self, _client: int, message: dict[str, Any]) -> None:
        if message["type"] == "price_update":
            due = datetime.fromisoformat(message["data"]["timestamp"]).timestamp()
            self.ms.append((time.time() - due) * 1000)


def measure(clients: int, rate: float, seconds: float) -> dict[str, Any]:
    port, feed = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate.write(certificate.issue(certificate.DEFAULT_NAMES, datetime.now(UTC)), folder)
        trust = ssl.create_default_context(cafile=str(folder / certificate.AUTHORITY_FILE))
        ticker = [sys.executable, str(Path(__file__).parent / "ticker.py"), str(feed), str(1 / rate)]
        provider = subprocess.Popen(ticker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        command = ["taskset", "-c", "0", *aurexd(folder, port, SYMBOL.format(folder=folder, feed=feed))]
        try:
            with process(command, port) as server:
                time.sleep(2)
                idle_kb = rss_kb(server.pid)
                crowd, seen = Crowd(port, clients, tls=True), Seen()
                crowd.read(2, lambda *_: None, SAMPLE)
                full_kb, before, cpu_before = rss_kb(server.pid), scraped(port, trust), cpu_s(server.pid)
                crowd.read(seconds, seen.note, SAMPLE)
                used_s, after = cpu_s(server.pid) - cpu_before, scraped(port, trust)
                crowd.close()
        finally:
            provider.terminate()
            provider.wait()
    counted = {hop: after[hop].since(before[hop]) for hop in (*HOPS, "delivery")}
    figures = {hop: [1000 * (counted[hop].quantile(s) or 0.0) for s in SHARES] for hop in counted}
    cuts = statistics.quantiles(seen.ms, n=100)
    figures["client"] = [cuts[round(share * 100) - 1] for share in SHARES]
    return {
        "ms": figures,
        "us_per_message": used_s / max(counted["delivery"].count, 1) * 1e6,
        "kb_per_client": (full_kb - idle_kb) / clients,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.sched_setaffinity(0, {1})
    found = measure(args.clients, args.rate, args.seconds)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{args.clients} TLS clients, {args.rate:g} prices a second; milliseconds")
    print(f"{'hop':<12}" + "".join(f"{f'p{share * 100:g}':>8}" for share in SHARES))
    for hop, figures in found["ms"].items():
        print(f"{hop:<12}" + "".join(f"{figure:>8.1f}" for figure in figures))
    print(f"{found['us_per_message']:.1f} us of CPU a message, {found['kb_per_client']:.1f} KB a client")


if __name__ == "__main__":
    main()
