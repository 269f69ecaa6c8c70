"""The promises that need the whole process: ports, signals, files, kill -9, TLS."""

from __future__ import annotations

import csv
import json
import random
import signal
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from aurexd.candles import utc_day
from aurexd.market import EpochUs
from tests.integration.process import STREAM, Running, open_stream
from tests.standins.alltick import AllTickStandIn
from tests.test_candles import Observed, naive
from tests.test_store import stored_candles

pytestmark = pytest.mark.slow

TESTGOLD = """
[listen]
port = 0
[symbols.TESTGOLD]
instrument = "test"
calendar = "always"
[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.02
symbols = { TESTGOLD = "TESTGOLD" }
"""


async def read(
    stream: WebSocketConnection, count: int, *, kind: str = "price_update"
) -> list[dict[str, Any]]:
    """The next `count` messages of one type."""
    messages: list[dict[str, Any]] = []
    with trio.fail_after(20):
        while len(messages) < count:
            message = json.loads(await stream.get_message())
            if message["type"] == kind:
                messages.append(message)
    return messages


async def read_on(stream: WebSocketConnection, seen: list[dict[str, Any]]) -> None:
    """All messages until the connection is closed."""
    while True:
        seen.append(json.loads(await stream.get_message()))


def test_the_first_command_of_the_readme_leads_to_a_moving_price(tmp_path: Path) -> None:
    with Running(tmp_path, TESTGOLD) as daemon:

        async def three_lines() -> list[dict[str, Any]]:
            async with open_stream(daemon.port) as stream:
                return await read(stream, 5)

        messages = trio.run(three_lines)
        counts = [message["update_count"] for message in messages]
        assert counts == list(range(counts[0], counts[0] + 5))
        assert {message["data"]["quality"] for message in messages} == {"simulated"}
        assert "<title>aurexd</title>" in httpx.get(f"http://127.0.0.1:{daemon.port}/").text
        assert daemon.get("/api/v1/prices/latest")["symbol"] == "TESTGOLD"
        assert daemon.get("/readyz")["ready"] is True
        assert daemon.stop() == 0


def test_sigterm_says_good_bye_and_stores_what_was_in_flight(tmp_path: Path) -> None:
    with Running(tmp_path, TESTGOLD) as daemon:

        async def stay() -> tuple[list[dict[str, Any]], int, str]:
            seen = []
            async with open_stream(daemon.port) as stream:
                seen += await read(stream, 20)
                assert daemon.process is not None
                daemon.process.send_signal(signal.SIGTERM)
                with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
                    await read_on(stream, seen)
                reason = closed.value.reason
                assert reason is not None
                return seen, reason.code, reason.reason or ""

        seen, code, reason = trio.run(stay)
        assert daemon.process is not None
        assert daemon.process.wait(20) == 0
        assert code == 4000
        assert json.loads(reason)["retry_after_ms"] > 0
        assert seen[-1]["type"] == "going_away"
        closes = {message["data"]["close"] for message in seen if message["type"] == "price_update"}
        assert closes <= {close for (close,) in daemon.rows("SELECT close FROM prices")}
        assert not daemon.events("client_crashed")


def test_a_client_resumes_over_a_restart_and_starts_over_after_kill_9(tmp_path: Path) -> None:
    with Running(tmp_path, TESTGOLD) as daemon:
        epoch, count = trio.run(partial(listen, daemon))
        assert daemon.stop() == 0
        daemon.start()
        position = {"epoch": epoch, "count": count - 5}
        epoch_after, messages = trio.run(partial(resume, daemon, position))
        assert epoch_after == epoch
        assert [m["update_count"] for m in messages] == list(range(count - 4, count + 46))
        daemon.kill()
        daemon.start()
        epoch_killed, messages = trio.run(partial(resume, daemon, position))
        assert epoch_killed != epoch
        assert messages[0]["update_count"] < count, "the counts start over"


async def listen(daemon: Running) -> tuple[str, int]:
    """The epoch, and how far the price came."""
    async with open_stream(daemon.port) as stream:
        [welcome] = await read(stream, 1, kind="welcome")
        return welcome["data"]["epoch"], (await read(stream, 20))[-1]["update_count"]


async def resume(daemon: Running, position: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Come back to where one was: the epoch, and the next fifty messages."""
    channel = "price:TESTGOLD"
    request = {
        "type": "subscribe",
        "id": 1,
        "data": {"channels": [channel], "resume": {channel: position}},
    }
    async with open_stream(daemon.port, subprotocol="aurex.v1.json") as stream:
        await stream.send_message(json.dumps(request))
        [answer] = await read(stream, 1, kind="subscribed")
        here = answer["data"]["channels"][channel]
        assert here["recovered"] is (here["epoch"] == position["epoch"])
        return here["epoch"], await read(stream, 50)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_drain_that_is_cut_short_leaves_nothing_broken(tmp_path: Path, how: signal.Signals) -> None:
    """One client does not answer the good-bye, so there is time to look at the drain, and to end it."""
    with Running(tmp_path, TESTGOLD) as daemon:

        async def drain_and_end() -> int:
            assert daemon.process is not None
            async with (
                open_stream(daemon.port) as stream,
                await trio.open_tcp_stream("127.0.0.1", daemon.port) as deaf,
            ):
                await deaf.send_all(
                    f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
                )
                await read(stream, 5)
                daemon.process.send_signal(signal.SIGTERM)
                with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
                    await read_on(stream, [])
                assert closed.value.reason is not None
                assert closed.value.reason.code == 4000
                assert (daemon.get("/readyz")["phase"], daemon.get("/healthz")["status"]) == (
                    "draining",
                    "ok",
                )
                latest = f"http://127.0.0.1:{daemon.port}/api/v1/prices/latest"
                answer = await trio.to_thread.run_sync(httpx.get, latest)
                assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
                async with open_stream(daemon.port) as newcomer:
                    seen: list[dict[str, Any]] = []
                    with trio.fail_after(20), pytest.raises(ConnectionClosed):
                        await read_on(newcomer, seen)
                    assert [message["type"] for message in seen] == ["going_away"]
                daemon.process.send_signal(how)
                return await trio.to_thread.run_sync(daemon.process.wait, 2)

        assert trio.run(drain_and_end) == -how
        daemon.start()
        assert daemon.get("/readyz")["store"]["state"] == "ok"
        assert daemon.rows("PRAGMA integrity_check") == [("ok",)]
        assert daemon.stop() == 0


def test_kill_9_costs_at_most_one_flush_interval(tmp_path: Path) -> None:
    """The stand-in's ticks are numbered by their price, so what is missing can be counted."""
    flush_s, tick_s = 0.5, 0.01

    async def feed_and_kill(standin: AllTickStandIn) -> tuple[Running, int]:
        config = (
            '[listen]\nport = 0\n[symbols.XAUUSD]\ninstrument = "spot"\ncalendar = "always"\n'
            '[[sources]]\nname = "alltick"\ntype = "alltick"\n'
            f'symbols = {{ XAUUSD = "GOLD" }}\ntoken = "t"\nurl = "{standin.url}"\n'
        )
        daemon = Running(tmp_path, config)
        await trio.to_thread.run_sync(daemon.start)
        with trio.fail_after(30):
            while not standin.depth:
                await trio.sleep(0.02)
        for number in range(300):
            await standin.push(f"{2000 + number / 100:.2f}")
            await trio.sleep(tick_s)
        daemon.kill()
        return daemon, 300

    async def main() -> tuple[Running, int]:
        async with AllTickStandIn(max_connections=3).running() as standin:
            return await feed_and_kill(standin)

    daemon, sent = trio.run(main)
    with daemon:  # starts it again
        assert daemon.get("/readyz")["store"]["state"] == "ok"
        stored = [Decimal(repr(bid)) for (bid,) in daemon.rows("SELECT bid FROM ticks ORDER BY id")]
        assert stored == [Decimal(2000) + Decimal(n) / 100 for n in range(len(stored))], "no hole, no repeat"
        # The commit itself and a loaded machine come on top of the interval.
        assert sent - len(stored) <= 2 * flush_s / tick_s
        assert daemon.rows("PRAGMA integrity_check") == [("ok",)]
        assert daemon.stop() == 0


def test_a_replay_reaches_every_client_and_the_database_exactly(tmp_path: Path) -> None:
    rng, price, opened = random.Random(7), 2_000_000, datetime(2024, 5, 28, 21, tzinfo=UTC)
    closes = []
    with (tmp_path / "bars.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time_utc", "open", "high", "low", "close", "volume"])
        for _ in range(5000):
            price += rng.randint(-500, 500)
            text, volume = f"{price / 1000:.3f}", rng.choice(["0.0", "1.5"])
            rows.writerow([f"{opened:%Y-%m-%dT%H:%M:%SZ}", text, text, text, text, volume])
            opened += timedelta(minutes=1)
            if volume != "0.0":
                closes.append(Decimal(text))
    config = f"""
        [listen]
        port = 0
        [symbols.XAUUSD]
        instrument = "spot"
        calendar = "always"
        decimals = 3
        [[sources]]
        name = "replay"
        type = "replay"
        file = "{tmp_path}/bars.csv"
        speed = 0
        start_after_s = 2
        symbols = {{ XAUUSD = "XAUUSD" }}
    """
    with Running(tmp_path, config) as daemon:

        async def watch(seen: list[dict[str, Any]]) -> None:
            async with open_stream(daemon.port) as stream:
                while not seen or seen[-1]["update_count"] < len(closes):
                    seen += await read(stream, 1)

        async def crowd() -> list[list[dict[str, Any]]]:
            seen: list[list[dict[str, Any]]] = [[] for _ in range(5)]
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for each in seen:
                        nursery.start_soon(watch, each)
            return seen

        for seen in trio.run(crowd):
            for before, after in zip([{"update_count": 0}, *seen], seen, strict=False):
                assert after["update_count"] - before["update_count"] == after.get("conflated", 1)
                assert Decimal(str(after["data"]["close"])) == closes[after["update_count"] - 1]
        daemon.wait_for(lambda: daemon.get("/readyz")["store"]["stored"] == len(closes))
        assert [
            Decimal(repr(last)) for (last,) in daemon.rows("SELECT last FROM ticks ORDER BY id")
        ] == closes
        history = daemon.get("/api/v1/prices/history", limit=10)["prices"]
        assert [Decimal(str(row["close"])) for row in history] == closes[-10:]


def test_tls_and_messagepack(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    tls = f'[tls]\ncertificate = "{tmp_path}/cert.pem"\nprivate_key = "{tmp_path}/key.pem"\n'
    with Running(tmp_path, tls + TESTGOLD) as daemon:

        async def speak() -> tuple[dict[str, Any], dict[str, Any]]:
            url = f"wss://localhost:{daemon.port}{STREAM}"
            async with open_websocket_url(
                url, ssl_context=trust, subprotocols=["aurex.v1.msgpack"]
            ) as stream:
                assert stream.subprotocol == "aurex.v1.msgpack"
                request = {"type": "subscribe", "id": 7, "data": {"channels": ["price:TESTGOLD"]}}
                await stream.send_message(msgspec.msgpack.encode(request))
                with trio.fail_after(20):
                    payloads = [await stream.get_message() for _ in range(4)]
            messages = [msgspec.msgpack.decode(payload) for payload in payloads if isinstance(payload, bytes)]
            return messages[1], messages[3]

        answer, price = trio.run(speak)
        assert (answer["type"], answer["id"]) == ("subscribed", 7)
        assert isinstance(price["data"]["close"], float)
        page = httpx.get(f"https://localhost:{daemon.port}/healthz", verify=trust)
        assert page.json()["status"] == "ok"


def test_a_slow_reader_delays_nobody_and_gets_the_newest_price(tmp_path: Path) -> None:
    with Running(tmp_path, TESTGOLD.replace("0.02", "0.001")) as daemon:

        async def fast(stop: trio.CancelScope) -> list[int]:
            async with open_stream(daemon.port) as stream:
                counts = [message["update_count"] for message in await read(stream, 3000)]
            stop.cancel()
            return counts

        async def both() -> tuple[list[int], list[dict[str, Any]]]:
            counts: list[int] = []
            async with open_stream(daemon.port, receive_buffer_bytes=4096) as slow:
                with trio.CancelScope() as stop:
                    counts = await fast(stop)
                return counts, await read(slow, 3000)

        counts, late = trio.run(both)
        assert counts == list(range(counts[0], counts[0] + len(counts)))
        for before, after in pairwise(late):
            assert after["update_count"] - before["update_count"] == after.get("conflated", 1)
        assert any(message.get("conflated", 1) > 1 for message in late), "it fell behind, and was told so"


def test_a_port_that_is_taken_ends_with_a_reason_and_the_right_status(tmp_path: Path) -> None:
    with Running(tmp_path, TESTGOLD) as daemon:
        other = tmp_path / "other.toml"
        other.write_text(TESTGOLD.replace("port = 0", f"port = {daemon.port}") + '[storage]\nurl = ""\n')
        command = [sys.executable, "-m", "aurexd", "run", "--config", str(other)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 69
        assert "another process uses it" in ended.stderr


def test_without_internet_the_sources_say_why_and_when_they_try_again(tmp_path: Path) -> None:
    config = """
        [listen]
        port = 0
        [symbols.XAUUSD]
        instrument = "spot"
        calendar = "always"
        [[sources]]
        name = "swissquote"
        type = "swissquote"
        url = "http://127.0.0.1:9/"
        symbols = { XAUUSD = "XAU/USD" }
    """
    with Running(tmp_path, config) as daemon:
        daemon.wait_for(lambda: daemon.get("/api/v1/sources")["sources"][0]["state"] == "waiting")
        (source,) = daemon.get("/api/v1/sources")["sources"]
        assert "cannot be reached" in source["last_error"]
        assert source["next_attempt"] > source["since"]
        latest = partial(httpx.get, f"http://127.0.0.1:{daemon.port}/api/v1/prices/latest")
        assert latest().status_code == 503


def test_candles_are_the_same_live_stored_and_after_kill_9(tmp_path: Path) -> None:
    with Running(tmp_path, TESTGOLD) as daemon:
        for end in (daemon.kill, daemon.kill, daemon.stop):
            seen = trio.run(partial(watch_candles, daemon))
            end()
            prices = [
                Observed(EpochUs(min(source_time, received)), EpochUs(received), Decimal(repr(close)))
                for source_time, received, close in daemon.rows(
                    "SELECT source_time, receive_time, close FROM prices ORDER BY id"
                )
            ]
            assert stored_candles(f"sqlite:///{daemon.database}", "TESTGOLD") == naive(prices, utc_day)
            daemon.start()
        answer = daemon.get("/api/v1/prices/history", symbol="TESTGOLD", interval="1s", limit=10_000)
        stored = {candle["start"]: candle for candle in answer["candles"]}
        lived = [candle for candle in seen if candle["final"] and candle["start"] in stored]
        assert len(lived) >= 2
        for candle in lived:
            only_live = {name: candle.pop(name) for name in ("symbol", "interval", "instrument")}
            assert only_live == {"symbol": "TESTGOLD", "interval": "1s", "instrument": "test"}
            assert stored[candle["start"]] == candle


async def watch_candles(daemon: Running) -> list[dict[str, Any]]:
    """What a client sees of the seconds until a few of them have ended."""
    seen: list[dict[str, Any]] = []
    request = {"type": "subscribe", "data": {"channels": ["candle:TESTGOLD:1s"]}}
    async with open_stream(daemon.port, subprotocol="aurex.v1.json") as stream:
        await stream.send_message(json.dumps(request))
        while sum(candle["final"] for candle in seen) < 3:
            seen += [message["data"] for message in await read(stream, 1, kind="candle")]
    return seen
