"""Asks a real Prometheus, which scrapes a real daemon, everything that the dashboard and the alerting rules ask.

    python -m tests.metrics.queries

Needs Prometheus (Debian's package), and takes half a minute. Ends with 1 where a query fails or nobody answers it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import httpx
import trio

from tests.integration.process import Running, open_stream
from tests.metrics.expressions import RULES, panels
from tests.standins.alltick import AllTickStandIn

LOOK_S = 12.0
"""How long the daemon is scraped before it is asked."""

VARIABLES = {"$__rate_interval": "10s", "$job": "aurexd", "$instance": ".*"}
"""What Grafana puts in."""

CONFIG = """
[listen]
port = 0
[symbols.XAUUSD]
instrument = "spot"
decimals = 2
calendar = "always"
default = true
[[sources]]
name = "alltick"
type = "alltick"
symbols = {{ XAUUSD = "GOLD" }}
token = "t"
url = "{url}"
"""

SCRAPE = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: aurexd
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


async def main() -> int:
    """The exit status."""
    async with AllTickStandIn(max_connections=3).running() as standin:
        with tempfile.TemporaryDirectory() as folder:
            daemon = Running(Path(folder), CONFIG.format(url=standin.url))
            await trio.to_thread.run_sync(daemon.start)
            try:
                async with _busy(daemon, standin), _prometheus(Path(folder), daemon.port) as url:
                    await trio.sleep(LOOK_S)
                    return await _judge(url)
            finally:
                daemon.kill()


@contextlib.asynccontextmanager
async def _busy(daemon: Running, standin: AllTickStandIn) -> AsyncIterator[None]:
    """Meanwhile prices come, clients read, and somebody asks for the history."""

    async def deliver() -> None:
        while True:
            for number in range(100):
                await standin.push(Decimal(2700) + Decimal(number) / 100)
                await trio.sleep(0.05)

    async def read() -> None:
        async with open_stream(daemon.port, subprotocol="aurex.v1.json") as client:
            await client.send_message(
                json.dumps({"type": "subscribe", "id": 1, "data": {"channels": ["price:XAUUSD"]}})
            )
            while True:
                await client.get_message()

    async def ask() -> None:
        while True:
            await trio.to_thread.run_sync(daemon.get, "/api/v1/prices/history")
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for task in (deliver, read, ask):
            nursery.start_soon(task)
        yield
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _prometheus(folder: Path, port: int) -> AsyncIterator[str]:
    """A Prometheus that scrapes the daemon: its URL."""
    config = folder / "prometheus.yml"
    config.write_text(SCRAPE.format(rules=RULES, port=port))
    with contextlib.closing(trio.socket.socket()) as free:
        await free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    process = await trio.lowlevel.open_process(command)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _judge(url: str) -> int:
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        failures = 0
        for title, queries in panels().items():
            for query in queries:
                filled = functools.reduce(lambda text, pair: text.replace(*pair), VARIABLES.items(), query)
                answer = (await client.get("/api/v1/query", params={"query": filled})).json()
                found = answer.get("data", {}).get("result", [])
                failures += not found
                print(f"{'ok  ' if found else 'FAIL'} {len(found):3} {title}: {answer.get('error') or query}")
        answer = (await client.get("/api/v1/rules")).json()
        for rule in [rule for group in answer["data"]["groups"] for rule in group["rules"]]:
            well = rule["health"] == "ok" and rule["state"] == "inactive"
            failures += not well
            print(
                f"{'ok  ' if well else 'FAIL'}     {rule['name']}: {rule.get('lastError') or rule['state']}"
            )
    print(f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(trio.run(main))
