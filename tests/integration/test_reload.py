"""SIGHUP: what can change does, for those who are there, too; what cannot is named; what is wrong changes nothing."""

from __future__ import annotations

import json
import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.integration.process import STREAM, Running, open_stream
from tests.standins.http import serve_http
from tests.standins.swissquote import PATH, SwissquoteStandIn

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
interval_s = 0.1
symbols = { TESTGOLD = "TESTGOLD" }
"""


async def next_of(stream: WebSocketConnection, *kinds: str) -> dict[str, Any]:
    """The next message of one of these types."""
    while True:
        message: dict[str, Any] = json.loads(await stream.get_message())
        if message["type"] in kinds:
            return message


async def burst(stream: WebSocketConnection, count: int) -> int:
    """How many of `count` messages at once are acted on."""
    for _ in range(count):
        await stream.send_message('{"type": "ping"}')
    return [(await next_of(stream, "pong", "error"))["type"] for _ in range(count)].count("pong")


async def within_time(main: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(60):
        await main()


async def reload(daemon: Running, text: str) -> None:
    await trio.to_thread.run_sync(daemon.reload, text)


def test_limits_change_for_those_who_are_connected_and_nobody_is_dropped(tmp_path: Path) -> None:
    few = TESTGOLD + "[limits]\nmax_connections_per_ip = 1\nmax_messages_per_second = 1\n"
    many = TESTGOLD + "[limits]\nmax_connections_per_ip = 2\nmax_messages_per_second = 1000\n"

    async def refused(port: int) -> int:
        async with open_stream(port) as stream:
            with pytest.raises(ConnectionClosed) as closed:
                await next_of(stream, "never")
        assert closed.value.reason is not None
        return closed.value.reason.code

    async def main() -> None:
        async with open_stream(daemon.port) as first:
            assert (await next_of(first, "welcome"))["data"]["limits"]["max_messages_per_second"] == 1
            assert await burst(first, 5) < 5
            assert await refused(daemon.port) == 4004

            await reload(daemon, many)
            async with open_stream(daemon.port) as second:
                assert (await next_of(second, "welcome"))["data"]["limits"]["max_messages_per_second"] == 1000
                assert await burst(second, 20) == 20
                assert await refused(daemon.port) == 4004

                await reload(daemon, few)
                assert await burst(second, 5) < 5
                for stream in (first, second):
                    await next_of(stream, "price_update")
            assert await refused(daemon.port) == 4004

    with Running(tmp_path, few) as daemon:
        trio.run(within_time, main)
        changed = ["limits.max_connections_per_ip", "limits.max_messages_per_second"]
        assert [event["changed"] for event in daemon.events("config_reloaded")] == [changed, changed]
        assert daemon.events("restart_needed") == []
        assert daemon.stop() == 0


class Certificates:
    """What a renewal does: another certificate under the same name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.text = f'[tls]\ncertificate = "{folder}/cert.pem"\nprivate_key = "{folder}/key.pem"\n' + TESTGOLD

    def renew(self, *more: str) -> ssl.SSLContext:
        """A client's context that trusts the new one, and no other. `more`: its names besides localhost."""
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", *more)
        issued.cert_chain_pems[0].write_to_path(self._folder / "cert.pem")
        issued.private_key_pem.write_to_path(self._folder / "key.pem")
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        return trust


@asynccontextmanager
async def open_tls_stream(port: int, trust: ssl.SSLContext) -> AsyncIterator[WebSocketConnection]:
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio.SSLStream(tcp, trust, server_hostname="localhost", https_compatible=True) as tls:
        await tls.do_handshake()  # trio-websocket would wait for ever if it failed
        async with trio.open_nursery() as nursery:
            yield await wrap_client_stream(nursery, tls, "localhost", STREAM)
            nursery.cancel_scope.cancel()


def test_a_renewed_certificate_is_for_who_comes_then_and_who_is_there_stays(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    async def main() -> None:
        async with open_tls_stream(daemon.port, old) as stays:
            count = (await next_of(stays, "price_update"))["update_count"]
            new = certificates.renew()
            async with open_tls_stream(daemon.port, old) as unaware:
                await next_of(unaware, "price_update")
            await reload(daemon, certificates.text)
            async with open_tls_stream(daemon.port, new) as comes:
                await next_of(comes, "price_update")
            with pytest.raises(trio.BrokenResourceError):
                async with open_tls_stream(daemon.port, old):
                    pass
            for _ in range(5):  # neither a hole nor a repeat: it is the same session
                following = await next_of(stays, "price_update")
                count += following.get("conflated", 1)
                assert following["update_count"] == count

    old = certificates.renew()
    with Running(tmp_path, certificates.text) as daemon:
        trio.run(within_time, main)
        (tmp_path / "key.pem").write_text("half a key")
        daemon.reload(certificates.text)
        (refused,) = daemon.events("config_refused")
        assert refused["problem"].startswith("tls: certificate and private_key cannot be used together")
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"https://localhost:{daemon.port}/healthz", verify=old)
        assert daemon.stop() == 0


def test_the_names_in_a_renewed_certificate_are_answered_to(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    def status(trust: ssl.SSLContext) -> int:
        headers = {"Host": "gold.example"}
        return httpx.get(
            f"https://localhost:{daemon.port}/healthz", headers=headers, verify=trust
        ).status_code

    old = certificates.renew()
    with Running(tmp_path, certificates.text) as daemon:
        assert status(old) == 421
        new = certificates.renew("gold.example")
        daemon.reload(certificates.text)
        assert status(new) == 200
        assert daemon.stop() == 0


def test_a_wrong_configuration_changes_nothing_and_every_problem_is_said(tmp_path: Path) -> None:
    wrong = TESTGOLD.replace("interval_s", "intervall_s") + (
        '[limits]\nmax_connections_per_ip = 1\nmax_message_bytes = "many"\n[heartbeat]\nsilence = 1\n'
    )

    async def main() -> None:
        async with open_stream(daemon.port) as first:
            await next_of(first, "welcome")
            for text in (wrong, TESTGOLD + "[limits\n", TESTGOLD + "[limits]\nmax_connections_per_ip = 0\n"):
                await reload(daemon, text)
                async with open_stream(daemon.port) as second:
                    limits = (await next_of(second, "welcome"))["data"]["limits"]
                    assert limits["max_message_bytes"] == 16384
            await next_of(first, "price_update")

    with Running(tmp_path, TESTGOLD) as daemon:
        trio.run(within_time, main)
        said = [event["problem"] for event in daemon.events("config_refused")]
        assert len(said) == 4
        assert said[0].startswith("limits.max_message_bytes: expected a whole number")
        assert said[1].startswith("heartbeat.silence: there is no such key — did you mean silence_s")
        assert said[2].startswith("sources.simulated.intervall_s: there is no such key")
        assert said[3].startswith("line ")
        assert [event["changed"] for event in daemon.events("config_reloaded")] == [
            ["limits.max_connections_per_ip"]
        ]
        assert daemon.stop() == 0


def test_what_needs_a_restart_is_named_and_stays_as_it_was(tmp_path: Path) -> None:
    quiet = TESTGOLD.replace("port = 0", "port = 1") + (
        '[symbols.GC]\ninstrument = "future"\n[log]\nlevel = "warning"\n[limits]\nmax_connections = 7\n'
    )
    with Running(tmp_path, TESTGOLD) as daemon:
        daemon.configure(quiet)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda: bool(daemon.events("config_noted")))
        assert daemon.events("config_reloaded") == [], "its new level is that of a warning"
        daemon.reload(quiet.replace("warning", "info"))
        (reloaded,) = daemon.events("config_reloaded")
        assert reloaded["changed"] == ["log.level"]  # the rest was done by the first
        daemon.wait_for(lambda: len(daemon.events("config_noted")) == 2)
        waiting = [(event["setting"], event["reason"]) for event in daemon.events("restart_needed")]
        assert waiting == [("listen.port", "the port is bound at the start")] * 2
        assert {event["path"] for event in daemon.events("config_noted")} == {"symbols.GC"}
        assert daemon.stop() == 0


def test_a_source_is_asked_at_its_new_pace_at_once(tmp_path: Path) -> None:
    def config(interval_s: float, url: str) -> str:
        return f"""
            [listen]
            port = 0
            [realtime]
            update_interval_s = {interval_s}
            [symbols.XAUUSD]
            instrument = "spot"
            [[sources]]
            name = "swissquote"
            type = "swissquote"
            symbols = {{ XAUUSD = "XAU/USD" }}
            url = "{url}{PATH}"
        """

    async def main() -> None:
        standin = SwissquoteStandIn()
        async with serve_http(standin.respond) as server:
            standin.quote(2000.0, 2000.5, int(time.time() * 1000))
            with Running(tmp_path, config(3600, server.url)) as daemon:
                while not server.requests:
                    await trio.sleep(0.02)
                await reload(daemon, config(2, server.url))
                while len(server.requests) < 3:
                    await trio.sleep(0.02)

    trio.run(within_time, main)


def test_symbols_come_and_go_without_a_restart(tmp_path: Path) -> None:
    both = TESTGOLD.replace('TESTGOLD = "TESTGOLD" }', 'TESTGOLD = "TESTGOLD", NEWGOLD = "TESTGOLD" }') + (
        '[symbols.NEWGOLD]\ninstrument = "test"\ncalendar = "always"\n'
    )
    above = {"symbol": "NEWGOLD", "condition": {"kind": "above", "level": 1}}

    async def ask(stream: WebSocketConnection, kind: str, **data: Any) -> dict[str, Any]:
        await stream.send_message(json.dumps({"type": kind, "id": 1, "data": data}))
        while True:
            message: dict[str, Any] = json.loads(await stream.get_message())
            if message.get("id") == 1:
                return message

    async def main() -> None:
        async with open_stream(daemon.port) as stream:
            old = await next_of(stream, "price_update")
            wanted = ["price:NEWGOLD", "candle:NEWGOLD:1s", "alert"]
            assert (await ask(stream, "subscribe", channels=wanted))["data"]["code"] == "unknown_channel"

            await reload(daemon, both)
            assert (await ask(stream, "subscribe", channels=wanted))["type"] == "subscribed"
            assert (await ask(stream, "alert.create", **above))["type"] == "alert.created"
            seen: dict[str, dict[str, Any]] = {}
            while seen.keys() < {"price_update", "candle", "alert"}:
                message = await next_of(stream, "price_update", "candle", "alert")
                if message["data"]["symbol"] == "NEWGOLD":
                    seen[message["type"]] = message

            await reload(daemon, TESTGOLD)
            gone = await next_of(stream, "unsubscribed")
            assert gone["data"]["channels"] == ["candle:NEWGOLD:1s", "price:NEWGOLD"]
            after = await next_of(stream, "price_update")
            assert after["data"]["symbol"] == "TESTGOLD"
            assert after["update_count"] > old["update_count"], "it is the same session, in the same epoch"
            refused = await ask(stream, "subscribe", channels=["price:NEWGOLD"])
            assert refused["data"]["code"] == "unknown_channel"

            await reload(daemon, both)
            position = (await ask(stream, "subscribe", channels=wanted))["data"]["channels"]["price:NEWGOLD"]
            assert position["count"] >= seen["price_update"]["update_count"]

    with Running(tmp_path, TESTGOLD) as daemon:
        trio.run(within_time, main)
        changed = [event["changed"] for event in daemon.events("config_reloaded")]
        assert changed == [["symbols.NEWGOLD", "sources.simulated"]] * 3
        assert [event["symbols"] for event in daemon.events("channels_ended")] == [["NEWGOLD"]]
        kept = daemon.get("/api/v1/prices/history", symbol="NEWGOLD", interval="1s", hours=1)
        assert kept["candles"], "its history was kept meanwhile"
        assert daemon.events("restart_needed") == []
        assert daemon.stop() == 0
