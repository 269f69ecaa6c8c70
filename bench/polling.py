"""Asking every thirty seconds against being told: requests, bytes, CPU, and how old the price is that a client shows.

    python bench/polling.py [--clients 300] [--every 30] [--rate 1] [--seconds 60] [--json]

The same daemon over TLS, the same prices, first with clients that ask for the latest price, each at its own moment,
on a connection of its own, as a page's `setInterval` did; then with as many WebSocket clients. Bytes are those of the
clients' connections with their TCP and IP headers (of TCP_INFO; the last segments of a connection are missing). The age
is that of the newest price which a client has, looked at every half a second: a price that has just been published is
0 s old, so that it cannot be less than half of the distance between two on average, whoever asks.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import socket
import ssl
import statistics
import struct
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness import UNLIMITED, Crowd
from peers.price import WRAPS_US, price_now
from servers import Server, serving, stay_off, symbol

HEADERS_BYTES = 52
"""IPv4 and TCP, with timestamps, of each segment."""

BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n"
    "Accept: application/json\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
)
LOOK_S = 0.5


def on_the_wire(client: socket.socket) -> int:
    """The bytes of a connection so far, both ways: tcp(7)."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
    acknowledged, received, out, came = struct.unpack_from("QQII", info, 120)
    return int(acknowledged + received + HEADERS_BYTES * (out + came))


def age_s(price: float) -> float:
    """How long ago a price was sent (`peers/price.py`)."""
    return (price_now() - price) % (WRAPS_US / 1e6)


def asked(port: int, context: ssl.SSLContext) -> tuple[float, int]:
    """The latest price, and the bytes that it took."""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(
            f"GET /api/v1/prices/latest?symbol={symbol(0)} HTTP/1.1\r\nHost: localhost:{port}\r\n{BROWSER}\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            piece = client.recv(65536)
            if not piece:
                raise ConnectionError("the answer is cut")
            answer += piece
        took = on_the_wire(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head[:60].decode())
    return float(json.loads(body)["close"]), took


class Found(NamedTuple):
    """What was counted within a time."""

    requests: int
    bytes: int
    ages_s: list[float]
    """Of every client, at every look."""
    cpu_s: float
    opening_bytes: int = 0
    """What it took to connect, for all clients, and comes but once."""


def polling(server: Server, clients: int, every_s: float, seconds: float) -> Found:
    """Each client asks every so often, from a moment of its own on; counted from when all have asked once."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    rng, began = random.Random(1), time.monotonic()
    due = [(began + rng.uniform(0, every_s), number) for number in range(clients)]
    heapq.heapify(due)
    shown: dict[int, float] = {}
    ages: list[float] = []
    requests, counted, before_s = 0, 0, 0.0
    look = begin = began + every_s
    while (now := time.monotonic()) < begin + seconds:
        when, number = due[0]
        if now >= look:
            before_s = before_s or server.cpu_s()
            ages += [age_s(price) for price in shown.values()]
            look += LOOK_S
        elif when <= now:
            heapq.heapreplace(due, (when + every_s, number))
            shown[number], took = asked(server.port, context)
            if now >= begin:
                requests, counted = requests + 1, counted + took
        else:
            time.sleep(min(when, look) - now)
    return Found(requests, counted, ages, server.cpu_s() - before_s)


def streaming(server: Server, clients: int, seconds: float) -> Found:
    """Each client is told."""
    crowd = Crowd(server.port, clients, network=5, tls=True)
    opening = sum(map(on_the_wire, crowd.clients))
    shown: dict[int, float] = {}
    ages: list[float] = []

    def note(client: int, message: dict[str, Any]) -> None:
        if message["type"] == "price_update":
            shown[client] = message["data"]["close"]

    crowd.read(3, note)
    counted, before_s = sum(map(on_the_wire, crowd.clients)), server.cpu_s()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        crowd.read(LOOK_S, note)
        ages += [age_s(price) for price in shown.values()]
    used_s = server.cpu_s() - before_s
    counted = sum(map(on_the_wire, crowd.clients)) - counted
    crowd.close()
    return Found(0, counted, ages, used_s, opening)


def measure(way: str, clients: int, every_s: float, rate: float, seconds: float) -> dict[str, float]:
    """For one client, and an hour."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("aurexd", Path(folder), tls=True, limits=UNLIMITED) as server,
    ):
        server.publish(rate, int(rate * (every_s + seconds + 30)) + 1)
        time.sleep(3)
        before_s = server.cpu_s()
        time.sleep(5)
        idle = (server.cpu_s() - before_s) / 5
        found = (
            polling(server, clients, every_s, seconds)
            if way == "polling"
            else streaming(server, clients, seconds)
        )
    hours = clients * seconds / 3600
    cuts = statistics.quantiles(found.ages_s, n=100)
    return {
        "requests": found.requests / hours,
        "KB": found.bytes / hours / 1000,
        "KB to connect, once": found.opening_bytes / clients / 1000,
        "CPU ms": (found.cpu_s - idle * seconds) / hours * 1000,
        "age of the price p50, s": cuts[49],
        "age of the price p99, s": cuts[98],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--every", type=float, default=30)
    parser.add_argument("--rate", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    stay_off()
    found = {
        way: measure(way, args.clients, args.every, args.rate, args.seconds)
        for way in ("polling", "streaming")
    }
    if args.json:
        print(json.dumps(found))
        return
    print(f"{args.clients} TLS clients, {args.rate:g} prices a second; for one client and an hour")
    print(f"| | every {args.every:g} s | streaming |\n|---|---|---|")
    for name, value in found["polling"].items():
        print(f"| {name} | {value:,.2f} | {found['streaming'][name]:,.2f} |")


if __name__ == "__main__":
    main()
