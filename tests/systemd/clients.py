"""Clients that stay and come back, and one that keeps knocking: what they saw, as one JSON document at the end.

Runs with what the daemon itself needs, on the machine that it is on, until `stop` lies beside it. Its arguments: how many
clients (200), and the seconds between two knocks (0.01).
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

COUNT, KNOCK_S = (int(sys.argv[1]), float(sys.argv[2])) if len(sys.argv) > 1 else (200, 0.01)
STOP = Path(__file__).with_name("stop")
PORT = 8000

seen: Counter[str] = Counter()
epochs: set[str] = set()
codes: Counter[str] = Counter()
prices: dict[int, int] = {}
positions: dict[int, dict[str, Any]] = {}
holes = 0


async def stay(number: int) -> None:
    """One client: subscribes, resumes where it was when it comes back, and counts what it missed."""
    while True:
        wait_s = 1.0
        try:
            await talk(number, positions.get(number))
        except ConnectionClosed as closed:
            code, text = (closed.reason.code, closed.reason.reason) if closed.reason else (0, None)
            codes[str(code)] += 1
            wait_s = json.loads(text or "{}").get("retry_after_ms", 1000) / 1000
        except ConnectionRefusedError:
            seen["refused"] += 1
        except (OSError, HandshakeError, trio.BrokenResourceError):
            seen["lost"] += 1
        await trio.sleep(wait_s)


async def talk(number: int, position: dict[str, Any] | None) -> None:
    global holes
    channel = "price:TESTGOLD"
    async with await trio.open_tcp_stream("127.0.0.1", PORT) as tcp, trio.open_nursery() as nursery:
        stream = await wrap_client_stream(
            nursery, tcp, f"127.0.0.1:{PORT}", "/api/v1/ws/stream", subprotocols=["aurex.v1.json"]
        )
        resume = {"resume": {channel: position}} if position else {}
        await stream.send_message(
            json.dumps({"type": "subscribe", "id": 1, "data": {"channels": [channel], **resume}})
        )
        failure: ConnectionClosed | None = None
        try:
            while True:
                message = json.loads(await stream.get_message())
                if message["type"] == "welcome":
                    seen["welcomes"] += 1
                    epoch = message["data"]["epoch"]
                    epochs.add(epoch)
                elif message["type"] == "price_update":
                    count, before = message["update_count"], positions.get(number)
                    jump = message.get("conflated", 1)
                    if before is not None and before["epoch"] == epoch and count != before["count"] + jump:
                        holes += 1
                    positions[number] = {"epoch": epoch, "count": count}
                    prices[number] = prices.get(number, 0) + 1
        except ConnectionClosed as closed:
            failure = closed
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def knock() -> None:
    """One connection after the other, and whether it was refused."""
    while True:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            try:
                probe.connect(("127.0.0.1", PORT))
                seen["knocks"] += 1
            except ConnectionRefusedError:
                seen["knocks_refused"] += 1
            except OSError:
                seen["knocks_lost"] += 1
        await trio.sleep(KNOCK_S)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        for number in range(COUNT):
            nursery.start_soon(stay, number)
        nursery.start_soon(knock)
        ready = False
        while not STOP.exists():
            await trio.sleep(0.05)
            if not ready and len(prices) == COUNT:
                ready = True
                sys.stdout.write("ready\n")
                sys.stdout.flush()
        deadline = time.monotonic() + 60
        prices.clear()
        while len(prices) < COUNT and time.monotonic() < deadline:
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    report = {
        "clients_with_prices_after": len(prices),
        "epochs": len(epochs),
        "holes": holes,
        "codes": codes,
        **seen,
    }
    sys.stdout.write(json.dumps(report) + "\n")


trio.run(main)
