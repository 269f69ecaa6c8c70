"""Behind real proxies, configured as the documents say: clients are told apart, and none can pass for another."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from tests.integration.process import Running
from tests.integration.proxies import Certificate, connected, haproxy, nginx, open_session
from tests.ports import free_port

pytestmark = pytest.mark.slow

SOURCE = """
[symbols.TESTGOLD]
instrument = "test"
[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.02
symbols = { TESTGOLD = "TESTGOLD" }
"""

PLAIN = f"""
[listen]
port = 0
[limits]
trusted_proxies = ["127.0.0.1"]
max_connections_per_ip = 2
{SOURCE}
"""
"""For a proxy where TLS ends and that writes X-Forwarded-For."""

SECURE = """
[listen]
port = 0
proxy_protocol = true
[tls]
certificate = "FOLDER/fullchain.pem"
private_key = "FOLDER/privkey.pem"
[limits]
trusted_proxies = ["127.0.0.1"]
proxy_header = "none"
max_connections_per_ip = 2
"""
"""For a proxy that moves bytes and speaks the PROXY protocol."""

Proxy = Callable[[Path, int, int], AbstractContextManager[None]]

PROXIES = [
    pytest.param(PLAIN, lambda *to: nginx(to[0], "nginx-http", *to[1:]), id="nginx-http"),
    pytest.param(PLAIN, lambda *to: haproxy(to[0], "haproxy-http", *to[1:]), id="haproxy-http"),
    pytest.param(SECURE + SOURCE, lambda *to: nginx(to[0], "nginx-stream", *to[1:]), id="nginx-stream-v1"),
    pytest.param(SECURE + SOURCE, lambda *to: haproxy(to[0], "haproxy-tcp", *to[1:]), id="haproxy-tcp-v2"),
]

ONE, OTHER = "127.0.0.2", "127.0.0.3"
LIE = (b"X-Forwarded-For", b"203.0.113.9")
OTHER_LIE = (b"Forwarded", b"for=203.0.113.10")


async def message(session: WebSocketConnection) -> Any:
    with trio.fail_after(20):
        return json.loads(await session.get_message())


async def get(
    port: int, tls: Any, address: str, target: str, host: str = "gold.example.org"
) -> tuple[int, str]:
    """Status and body, or as much of a body without an end as comes with its first event."""
    head = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    received = b""
    async with connected(port, tls, address) as stream:
        with trio.fail_after(20):
            await stream.send_all(head.encode())
            while more := await stream.receive_some():
                received += more
                if b"price_update" in received:
                    break
    return int(received.split(b" ", 2)[1]), received.decode()


async def visit(daemon: Running, port: int, tls: Any) -> None:
    async with trio.open_nursery() as nursery:
        come = partial(open_session, nursery, port, tls)
        first, second = await come(ONE), await come(ONE, LIE, OTHER_LIE)
        for session in (first, second):
            assert (await message(session))["type"] == "welcome"
        await until_price(first)
        # The third of one address is one too many, whatever it says it is; another address is another.
        for lie in (LIE, OTHER_LIE, (b"X-Forwarded-For", OTHER.encode())):
            third = await come(ONE, lie)
            assert (await message(third))["data"]["code"] == "too_many_connections"
            with pytest.raises(ConnectionClosed) as closed, trio.fail_after(20):
                await third.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 4004
        other = await come(OTHER)
        assert (await message(other))["type"] == "welcome"
        assert {line["client"] for line in daemon.events("session_refused")} == {ONE}

        assert (await get(port, tls, ONE, "/healthz"))[0] == 200
        status, body = await get(port, tls, OTHER, "/api/v1/stream")
        assert status == 200
        assert "price_update" in body
        nursery.cancel_scope.cancel()


async def until_price(session: WebSocketConnection) -> None:
    while (await message(session))["type"] != "price_update":
        pass


@pytest.mark.parametrize(("text", "proxy"), PROXIES)
def test_clients_behind_a_proxy_are_told_apart_and_none_can_pass_for_another(
    tmp_path: Path, text: str, proxy: Proxy
) -> None:
    certificate, port = Certificate(tmp_path), free_port()
    with (
        Running(tmp_path, text.replace("FOLDER", str(tmp_path))) as daemon,
        proxy(tmp_path, port, daemon.port),
    ):
        trio.run(visit, daemon, port, certificate.client)
        for event in ("connections_hung_up", "client_crashed", "session_crashed"):
            assert daemon.events(event) == []
        assert daemon.stop() == 0


QUICK = "[heartbeat]\nping_interval_s = 1\npong_timeout_s = 1\nsilence_s = 1\n"
"""A client whose pongs did not come through would be closed within seconds."""


@pytest.mark.parametrize(("text", "proxy"), PROXIES)
def test_pings_go_through_a_proxy_both_ways_and_a_drain_reaches_everybody_behind_it(
    tmp_path: Path, text: str, proxy: Proxy
) -> None:
    certificate, port = Certificate(tmp_path), free_port()
    quiet = text.replace("FOLDER", str(tmp_path)).replace("interval_s = 0.02", "interval_s = 60")

    async def listen(session: WebSocketConnection, heard: list[Any]) -> None:
        """All types of messages until the end, and its code."""
        try:
            while True:
                heard.append((await message(session))["type"])
        except ConnectionClosed as closed:
            heard.append(closed.reason and closed.reason.code)

    async def stay(daemon: Running) -> list[list[Any]]:
        heard: list[list[Any]] = [[], [], []]
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as listening:
                for address, each in zip((ONE, OTHER, OTHER), heard, strict=True):
                    session = await open_session(nursery, port, certificate.client, address)
                    listening.start_soon(listen, session, each)
                    with trio.fail_after(20):
                        await session.ping(b"ours")
                with trio.fail_after(30):
                    while min(each.count("heartbeat") for each in heard) < 3:
                        await trio.sleep(0.1)
                assert daemon.process is not None
                daemon.process.send_signal(signal.SIGTERM)
            nursery.cancel_scope.cancel()
        return heard

    with Running(tmp_path, QUICK + quiet) as daemon, proxy(tmp_path, port, daemon.port):
        assert [each[-2:] for each in trio.run(stay, daemon)] == [["going_away", 4000]] * 3
        assert daemon.process is not None
        assert daemon.process.wait(20) == 0
        (drained,) = daemon.events("clients_drained")
        assert (drained["clients"], drained["left"]) == (3, 0)
        codes = [line["code"] for line in daemon.events("session_closed")]
        assert codes == [4000] * 3


def test_names_are_checked_here_where_the_proxy_reads_none(tmp_path: Path) -> None:
    certificate, port = Certificate(tmp_path), free_port()
    text = SECURE.replace("FOLDER", str(tmp_path)) + SOURCE
    with Running(tmp_path, text) as daemon, haproxy(tmp_path, "haproxy-tcp", port, daemon.port):

        async def ask() -> list[int]:
            ask = partial(get, port, certificate.client, ONE, "/healthz")
            return [(await ask(host))[0] for host in ("gold.example.org", "evil.example")]

        assert trio.run(ask) == [200, 421]


def test_an_address_that_floods_a_proxy_is_hung_up_on_alone(tmp_path: Path) -> None:
    certificate, port = Certificate(tmp_path), free_port()
    text = SECURE.replace("FOLDER", str(tmp_path)).replace(
        "[limits]", "[limits]\nmax_attempts_per_second = 0.5"
    )
    with Running(tmp_path, text + SOURCE) as daemon, haproxy(tmp_path, "haproxy-tcp", port, daemon.port):

        async def knock(address: str) -> int:
            try:
                return (await get(port, certificate.client, address, "/healthz"))[0]
            except (trio.BrokenResourceError, IndexError):
                return 0

        async def flood() -> None:
            assert [await knock(ONE) for _ in range(5)] == [200] * 5
            statuses: set[int] = set()

            async def knock_on() -> None:
                while 0 not in statuses:  # hung up on, before TLS
                    statuses.add(await knock(ONE))

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(knock_on)
            assert 429 in statuses
            assert await knock(OTHER) == 200

        trio.run(flood)
        daemon.wait_for(lambda: bool(daemon.events("connections_hung_up")))
        assert daemon.events("connections_hung_up")[0]["client"] == ONE
