"""Fan-out: CPU per delivered message, delay and memory per connection, aurexd and its peers in turn.

    python bench/fanout.py [--connections 1000] [--rate 10] [--messages 100] [--tls] [--servers NAME,NAME] [--runs 3]
        [--json FILE] [--symbols 1] [--channels price,status,candle] [--mixed]

Everybody publishes the same price, of the same size; `load.c` reads it, and counts what is lost or repeated: that is a
problem. CPU is that of the server's processes from the first message until the last has arrived; the delay is from the
publisher's sending until a client has read, so that aurexd's and Nchan's have a hop more than those that publish from
within. aurexd has its default limits; what it publishes came from a provider over a WebSocket.

`--symbols`, `--channels`, `--mixed` (every second client speaks MessagePack) are aurexd's alone: each client subscribes
to those channels of every symbol, and they take turns. With the status among them a price grows stale before its
symbol has the next one, so that each price means two messages on the symbol's status, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ledger
from load import Load, prices
from report import Row, told
from servers import ALL, ON_CLIENTS, in_turn, named, serving, stay_off, symbol

SETTLE_S = 1.0
FIRST = 3
"""Messages of each symbol before those that are counted."""

WITHIN_S = 20.0
"""After the last message was due, all have arrived."""

CANDLES = ("1s", "1m", "5m")

__all__ = ["Case", "measure"]


class Case(NamedTuple):
    """What is measured."""

    connections: int = 1000
    rate: float = 10
    messages: int = 100
    tls: bool = False
    symbols: int = 1
    channels: tuple[str, ...] = ()
    mixed: bool = False

    def __str__(self) -> str:
        text = f"{self.connections:,} {'TLS' if self.tls else 'plain'} connections, {self.rate:g} messages/s"
        if self.channels:
            kinds = " and ".join(self.channels)
            text += f", {kinds} of {self.symbols} symbols, {'half in MessagePack' if self.mixed else 'JSON'}"
        return text

    @property
    def stale_after_s(self) -> float:
        """With the status, too, each price grows stale before the symbol has its next, so that there is some."""
        return 0.6 * self.symbols / self.rate if "status" in self.channels else 15.0

    def subscriptions(self) -> list[str]:
        """The channels of every client; none: what the server gives to who asks for nothing."""
        names = []
        for kind in self.channels:
            each = [f":{interval}" for interval in CANDLES] if kind == "candle" else [""]
            names += [f"{kind}:{symbol(number)}{more}" for number in range(self.symbols) for more in each]
        return names


def one_run(name: str, case: Case, folder: Path) -> tuple[dict[str, float], list[str]]:
    """A server's figures, and what was wrong."""
    with serving(
        name, folder, tls=case.tls, symbols=case.symbols, stale_after_s=case.stale_after_s
    ) as server:
        time.sleep(SETTLE_S)
        empty_kb = server.rss_kb()
        with Load(
            folder,
            server.port,
            server.path,
            case.connections,
            tls=case.tls,
            channels=case.subscriptions() if name == "aurexd" else (),
            mixed=case.mixed and name == "aurexd",
            before=ON_CLIENTS,
        ) as load:
            came = load.wait_open()
            if came["failed"]:
                return {}, [f"{came['failed']} of {case.connections} connections failed: {came['error']}"]
            load.mark()
            server.publish(case.rate, FIRST * case.symbols)
            load.wait_prices(case.connections * FIRST * case.symbols, WITHIN_S)
            time.sleep(SETTLE_S)
            load.mark()
            clients_s = load.look()["cpu_s"]
            before_s = server.cpu_s()
            server.publish(case.rate, case.messages)
            time.sleep(case.messages / case.rate)
            wanted = case.connections * case.messages
            load.wait_prices(wanted, WITHIN_S)
            used_s = server.cpu_s() - before_s
            found = load.report()
            full_kb = server.rss_kb()
    return {
        "us_per_message": used_s / max(1, found["delivered"]) * 1e6,
        "clients_us_per_message": (found["cpu_s"] - clients_s) / max(1, found["delivered"]) * 1e6,
        **({"us_per_price": used_s / wanted * 1e6} if case.channels else {}),
        "p50_ms": found["delay_ms"].get("p50", 0.0),
        "p99_ms": found["delay_ms"].get("p99", 0.0),
        "kb_per_connection": (full_kb - empty_kb) / case.connections,
    }, wrong(found, case)


def wrong(found: dict[str, Any], case: Case) -> list[str]:
    problems = [f"{found[what]} messages {what}" for what in ("lost", "repeated") if found[what]]
    if found["connections"] < case.connections:
        problems.append(f"{case.connections - found['connections']} connections ended: {found['error']}")
    arrived, wanted = prices(found), case.connections * case.messages
    if arrived != wanted or found["conflated"]:
        problems.append(f"{arrived} of {wanted} prices arrived, of them {found['conflated']} conflated")
    return problems


def measure(
    case: Case, servers: Sequence[str], runs: int, folder: Path, say: Callable[[str], None]
) -> list[Row]:
    """One case: all servers in turn, again and again."""
    return in_turn("fan-out", str(case), servers, runs, lambda name: one_run(name, case, folder), say)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--servers", type=named, default=ALL, metavar="NAME,NAME", help=", ".join(ALL))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=1)
    parser.add_argument("--channels", default="")
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    channels = tuple(args.channels.split(",")) if args.channels else ()
    case = Case(args.connections, args.rate, args.messages, args.tls, args.symbols, channels, args.mixed)
    stay_off()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(case, args.servers, args.runs, Path(folder), lambda text: print(text, file=sys.stderr))
    print(told(rows))
    if args.json is not None:
        ledger.write(ledger.record(list(rows)), args.json)


if __name__ == "__main__":
    main()
