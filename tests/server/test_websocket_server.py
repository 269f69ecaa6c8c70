"""The WebSocket as clients see it: a real port on loopback, with the hub behind it, plain and TLS."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing
from trio.testing import MockClock
from wsproto import events

from aurexd.actors.hub import BEAT_S, PATROL_BEATS
from aurexd.actors.messages import StatusChanged
from aurexd.actors.session import BURST_SECONDS, OFFENCES, Session
from aurexd.config.model import Config, Heartbeat, Limits, Realtime
from aurexd.drain import RESTART_S
from aurexd.market import Quality
from aurexd.protocol.codec import JSON as JSON_ENCODING
from aurexd.protocol.codes import CloseCode
from aurexd.server import websocket as websocket_module
from aurexd.server.stream import ClientStream
from aurexd.server.streaming import CLOSE_S, RETRY_SPREAD_MS
from tests.server.conftest import TlsPair
from tests.server.loopback import (
    JSON,
    MSGPACK,
    PATH,
    Client,
    ClosedError,
    Served,
    decided,
    play_dead,
    serving,
    status_of,
)

PRICE = "price:XAUUSD"
STATUS = "status:XAUUSD"
BOTH = {"channels": [PRICE, STATUS]}
PATROL_S = PATROL_BEATS * BEAT_S + 1
"""How long it may take until the hub looks at a session."""

UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()
"""What a client says that does nothing more."""

GENEROUS = Limits(max_connections_per_ip=0, max_messages_per_second=100_000)


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


@contextlib.contextmanager
def let_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ClientStream]]:
    """The streams that the port has let go of, meanwhile."""
    streams: list[ClientStream] = []
    real = ClientStream.abort

    def abort(self: ClientStream) -> None:
        streams.append(self)
        assert not self._in_session, "the hub must not write to a session whose nursery is gone"
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(ClientStream, "abort", abort)
        yield streams


async def active(served: Served) -> int:
    """Sessions that the hub knows, once everybody has had a turn."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    count: int = (await served.fetch("/api/v1/ws/stats")).json()["active_connections"]
    return count


# --- opening ---


async def test_the_simplest_client_is_told_everything_without_asking() -> None:
    async with serving() as served:
        await served.publish("2706.93")
        client = await served.connect()
        welcome, price, status = await client.messages(3)
        assert client.subprotocol is None
        assert kinds([welcome, price, status]) == ["welcome", "price_update", "status"]
        assert price["data"] == {
            "symbol": "XAUUSD",
            "close": 2706.93,
            "change": None,
            "change_pct": None,
            "timestamp": price["data"]["timestamp"],
            "bid": None,
            "ask": None,
            "source": "alltick",
            "instrument": "spot",
            "quality": "live",
        }
        assert price["update_count"] == 1
        await served.publish("2707.00", "2706.50")
        assert [m["update_count"] for m in await client.messages(2)] == [2, 3]


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_a_client_that_names_a_subprotocol_gets_it_and_asks_for_what_it_wants(subprotocol: str) -> None:
    async with serving() as served:
        await served.publish("2706.93")
        client = await served.connect("unknown.v9", subprotocol)
        assert client.subprotocol == subprotocol
        welcome = await client.message()
        subscribed = await client.ask("subscribe", BOTH, "one")
        assert (welcome["type"], subscribed["type"], subscribed["id"]) == ("welcome", "subscribed", "one")
        assert subscribed["data"]["channels"][PRICE]["count"] == 1
        assert kinds(await client.messages(2)) == ["price_update", "status"]
        await served.publish("2.00")
        assert (await client.message())["update_count"] == 2
        assert (await client.ask("ping", {}, 7))["type"] == "pong"


async def test_the_clients_order_of_subprotocols_decides() -> None:
    async with serving() as served:
        assert (await served.connect(MSGPACK, JSON)).subprotocol == MSGPACK


async def test_a_token_among_the_subprotocols_is_never_sent_back() -> None:
    async with serving() as served:
        assert (await served.connect("aurex.token.secret", JSON)).subprotocol == JSON
        client = await served.connect("aurex.token.secret")
        assert client.subprotocol is None


async def test_whoever_offers_only_what_is_unknown_is_as_one_that_offers_nothing() -> None:
    async with serving() as served:
        client = await served.connect("graphql-ws")
        assert client.subprotocol is None
        assert kinds(await client.messages(2)) == ["welcome", "status"]


async def test_over_tls_it_is_the_same(tls_pair: TlsPair) -> None:
    async with serving(server_tls=tls_pair.server, client_tls=tls_pair.client) as served:
        client = await served.connect()
        await client.messages(2)
        for number in range(1, 301):  # read as they come: what waits would be conflated
            await served.publish(f"{number}.00")
            assert (await client.message())["update_count"] == number
        assert (await client.ask("ping", {}))["type"] == "pong"
        await client.close()
        assert await active(served) == 0


BAD_HANDSHAKES = {
    "no key": (["Connection: Upgrade", "Sec-WebSocket-Version: 13"], 400),
    "no version": (["Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="], 400),
    "an old version": (
        ["Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 8"],
        426,
    ),
    "no connection": (["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"], 400),
}


@pytest.mark.parametrize("name", BAD_HANDSHAKES)
async def test_a_bad_handshake_is_refused_at_once(
    loopback_clock: MockClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    headers, status = BAD_HANDSHAKES[name]
    async with serving() as served:
        begin = trio.current_time()
        lines = [f"GET {PATH} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", *headers, "", ""]
        with let_go(monkeypatch) as streams:
            (answer,) = await served.say("\r\n".join(lines).encode())
            assert answer.status == status
            while not streams:
                await trio.sleep(0.1)
        assert trio.current_time() - begin < 1
        assert (await (await served.connect()).message())["type"] == "welcome"


async def test_a_bad_handshake_that_is_no_text_is_the_clients_own_trouble() -> None:
    async with serving() as served:
        with structlog.testing.capture_logs() as logs:
            for header in (b"Host: xn--\xff", b"Host: x\r\nConnection: \xff", b"Host: x\r\nOrigin: http://["):
                head = b"GET %s HTTP/1.1\r\nUpgrade: websocket\r\n%s\r\n\r\n" % (PATH.encode(), header)
                await served.say(head)
        assert not [log for log in logs if log["log_level"] == "error"]
        assert (await (await served.connect()).message())["type"] == "welcome"


async def test_only_get_upgrades() -> None:
    async with serving() as served:
        answer = await served.fetch(PATH, "POST", {"Upgrade": "websocket", "Connection": "Upgrade"})
        assert answer.status == 400


# --- what is said ---


async def test_subscribe_and_unsubscribe_are_answered_in_order_and_mean_what_they_say() -> None:
    async with serving() as served:
        await served.publish("1.00")
        client = await served.connect(JSON)
        await client.message()
        await client.send({"type": "subscribe", "id": 1, "data": {"channels": [PRICE]}})
        await client.send({"type": "unsubscribe", "id": 2, "data": {"channels": [PRICE]}})
        await client.send({"type": "snapshot", "id": 3, "data": {"channels": [PRICE]}})
        messages = await client.messages(5)
        assert kinds(messages) == [
            "subscribed",
            "price_update",
            "unsubscribed",
            "snapshot_sent",
            "price_update",
        ]
        await served.publish("2.00", "3.00")
        assert (await client.ask("ping", {}))["type"] == "pong", "nothing of it follows"


async def test_between_snapshot_and_updates_there_is_neither_hole_nor_repeat() -> None:
    async with serving(limits=GENEROUS) as served:
        rng = random.Random(1)
        done = False

        async def publish() -> None:
            number = 0
            while not done:
                number += 1
                await served.publish(*[f"{number}.00"] * rng.randint(1, 3))

        served.nursery.start_soon(publish)
        client = await served.connect(JSON)
        await client.message()
        for number in range(100):
            await client.send({"type": "subscribe", "id": number, "data": {"channels": [PRICE]}})
            answer = await client.until("subscribed")
            first = (await client.message())["update_count"]
            assert first == answer["data"]["channels"][PRICE]["count"]
            more = [m["update_count"] for m in await client.messages(rng.randint(1, 20))]
            assert more == list(range(first + 1, first + 1 + len(more)))
            await client.send({"type": "unsubscribe", "id": number, "data": {"channels": [PRICE]}})
            await client.until("unsubscribed")
            assert (await client.ask("ping", {}))["type"] == "pong"
        done = True


WRONG = {
    "no JSON": ("{", None, "invalid_message"),
    "no object": ("[1]", None, "invalid_message"),
    "no type": ('{"id": 4}', 4, "invalid_message"),
    "an unknown type": ('{"type": "dance", "id": "x"}', "x", "unknown_type"),
    "an unknown field": ('{"type": "ping", "id": 5, "volume": 11}', 5, "invalid_message"),
    "an unknown channel": (
        '{"type": "subscribe", "id": 6, "data": {"channels": ["price:TULIPS"]}}',
        6,
        "unknown_channel",
    ),
    "a channel that is yet to come": (
        '{"type": "subscribe", "id": 7, "data": {"channels": ["news"]}}',
        7,
        "not_available",
    ),
    "no channels": ('{"type": "subscribe", "id": 8, "data": {"channels": []}}', 8, "invalid_message"),
    "nesting without end": ("[" * 10_000, None, "invalid_message"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_answered_and_the_session_goes_on(name: str) -> None:
    said, request_id, code = WRONG[name]
    async with serving() as served:
        client = await served.connect(JSON)
        await client.message()
        await client.send(said)
        error = await client.message()
        assert (error["type"], error.get("id"), error["data"]["code"]) == ("error", request_id, code)
        assert (await client.ask("subscribe", BOTH))["type"] == "subscribed"


async def test_of_several_channels_with_one_unknown_none_is_subscribed() -> None:
    async with serving() as served:
        client = await served.connect(JSON)
        await client.message()
        error = await client.ask("subscribe", {"channels": [PRICE, "price:TULIPS"]})
        assert error["type"] == "error"
        await served.publish("1.00")
        assert (await client.ask("ping", {}))["type"] == "pong"


@pytest.mark.parametrize(("subprotocol", "said"), [(JSON, b"{}"), (MSGPACK, "{}")])
async def test_the_wrong_kind_of_frame_is_explained_and_ends_the_session(
    subprotocol: str, said: str | bytes
) -> None:
    async with serving() as served:
        client = await served.connect(subprotocol)
        await client.message()
        await client.send(said)
        code, reason, (error,) = await client.closing()
        assert (code, reason["code"]) == (1003, "unsupported_data")
        assert error["data"]["code"] == "unsupported_data"


async def test_a_message_in_many_fragments_is_one_message() -> None:
    async with serving() as served:
        client = await served.connect(JSON)
        await client.message()
        text = '{"type":"ping","id":1}'
        for number, letter in enumerate(text):
            last = number == len(text) - 1
            await client.send_event(events.TextMessage(data=letter, message_finished=last))
        assert (await client.message())["type"] == "pong"


async def test_a_websocket_ping_is_answered() -> None:
    async with serving() as served:
        client = await served.connect(JSON)
        await client.message()
        await client.ping()
        assert (await client.message())["type"] == "websocket pong"


# --- limits ---


async def test_a_message_that_is_too_large_ends_the_session(loopback_clock: MockClock) -> None:
    async with serving(limits=Limits(max_message_bytes=1000)) as served:
        client = await served.connect(JSON)
        await client.message()
        text = '{"type":"ping","id":"' + "x" * 60 + '"}'
        await client.send(text + " " * (1000 - len(text)))
        assert (await client.message())["type"] == "pong"
        await client.send(text + " " * (1001 - len(text)))
        code, reason, _ = await client.closing()
        assert (code, reason) == (1009, {"code": "message_too_big"})
        assert await active(served) == 0


async def test_limits_that_change_hold_for_those_who_are_there_and_end_nobody() -> None:
    async with serving(limits=Limits(max_message_bytes=1000, max_connections_per_ip=2)) as served:
        client, other = await served.connect(JSON), await served.connect(JSON)
        await client.messages(1)
        await other.messages(1)
        served.settings.replace(Config(limits=Limits(max_message_bytes=2000, max_connections_per_ip=1)))
        ping = '{"type":"ping"}'
        await client.send(ping + " " * 1900)
        assert (await client.message())["type"] == "pong"
        code, reason, _ = await (await served.connect(JSON)).closing()
        assert (code, reason["code"]) == (4004, "too_many_connections")
        served.settings.replace(Config(limits=Limits(max_message_bytes=500, max_connections_per_ip=3)))
        assert (await (await served.connect(JSON)).message())["data"]["limits"]["max_message_bytes"] == 500
        assert (await other.ask("ping", {}))["type"] == "pong"
        await client.send(ping + " " * 500)
        assert (await client.closing())[0] == 1009


@pytest.mark.parametrize("size", [20_000, 5_000_000])
async def test_a_client_hears_that_it_was_too_large_while_it_is_still_sending(size: int) -> None:
    async with serving() as served:
        client = await served.connect(JSON)
        await client.message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, "x" * size)
            code, _, _ = await client.closing()
            assert code == 1009


async def test_bytes_are_counted_not_letters() -> None:
    async with serving(limits=Limits(max_message_bytes=1000)) as served:
        client = await served.connect(JSON)
        await client.message()
        await client.send("€" * 400)
        assert (await client.closing())[0] == 1009


async def test_empty_fragments_count_too() -> None:
    async with serving(limits=Limits(max_message_bytes=1000)) as served:
        client = await served.connect(JSON)
        await client.message()
        for _ in range(1001):
            await client.send_event(events.TextMessage(data="", message_finished=False))
        assert (await client.closing())[0] == 1009


async def test_who_sends_too_fast_is_told_to_wait_and_his_message_is_not_acted_on(
    loopback_clock: MockClock,
) -> None:
    async with serving(limits=Limits(max_messages_per_second=2)) as served:
        client = await served.connect(JSON)
        await client.message()
        for number in range(4):
            assert (await client.ask("ping", {}, number))["type"] == "pong"
        error = await client.ask("subscribe", BOTH, "too much")
        assert (error["type"], error["id"], error["data"]["code"]) == ("error", "too much", "rate_limited")
        await served.publish("1.00")
        await trio.sleep(error["data"]["retry_after_ms"] / 1000)
        assert (await client.ask("ping", {}))["type"] == "pong"


async def test_who_does_not_stop_is_closed_and_hears_why(loopback_clock: MockClock) -> None:
    async with serving(limits=Limits(max_messages_per_second=1)) as served:
        client = await served.connect(JSON)
        await client.message()
        for _ in range(3 * OFFENCES):
            await client.send('{"type":"ping"}')
        code, reason, seen = await client.closing()
        assert (code, reason["code"]) == (4003, "rate_limited")
        assert 0 < reason["retry_after_ms"] <= RETRY_SPREAD_MS
        assert kinds(seen) == ["pong"] * 2 + ["error"] * OFFENCES


@pytest.mark.parametrize("frame", [events.Ping(), events.Pong()])
async def test_who_floods_us_with_control_frames_is_closed_and_not_listened_to_any_more(
    loopback_clock: MockClock, frame: events.Event
) -> None:
    async with serving(limits=Limits(max_control_frames_per_second=5)) as served:
        client, other = await served.connect(JSON), await served.connect(JSON)
        await client.message()
        for _ in range(1000):
            await client.send_event(frame)
        await client.send('{"type":"ping"}')
        code, reason, seen = await client.closing()
        assert (code, reason["code"]) == (4003, "rate_limited")
        assert 0 < reason["retry_after_ms"] <= RETRY_SPREAD_MS
        assert len(seen) <= 5 * BURST_SECONDS, "pongs, and no more than it may ask for"
        await other.message()
        assert (await other.ask("ping", {}))["type"] == "pong"
        assert await active(served) == 1


async def test_control_frames_have_a_rate_that_may_be_kept_up_for_ever(loopback_clock: MockClock) -> None:
    async with serving(limits=Limits(max_control_frames_per_second=5)) as served:
        client = await served.connect(JSON)
        await client.message()
        for _ in range(100):
            await client.ping()
            await trio.sleep(0.2)
        for _ in range(100):
            await client.until("websocket pong")


async def test_one_too_many_from_an_address_is_let_in_told_and_closed() -> None:
    async with serving(limits=Limits(max_connections_per_ip=2)) as served:
        first, second = await served.connect(), await served.connect()
        with structlog.testing.capture_logs() as logs:
            third = await served.connect(MSGPACK)
            code, reason, (error,) = await third.closing()
        assert (code, reason["code"]) == (4004, "too_many_connections")
        assert 0 < reason["retry_after_ms"] <= RETRY_SPREAD_MS
        assert error["data"]["code"] == "too_many_connections"
        assert error["data"]["message"] == "more than 2 connections from your address"
        assert error["data"]["retry_after_ms"] == reason["retry_after_ms"]
        assert [log["event"] for log in logs] == ["session_refused"]
        # Who is refused is not counted, and who leaves makes room.
        assert await active(served) == 2
        await first.close()
        assert await active(served) == 1
        assert (await (await served.connect()).message())["type"] == "welcome"
        assert (await second.message())["type"] == "welcome"


async def test_one_too_many_in_all_is_told_that_the_server_is_full() -> None:
    async with serving(limits=Limits(max_connections=1, max_connections_per_ip=0)) as served:
        await served.connect()
        client = await served.connect()
        code, reason, (error,) = await client.closing()
        assert (code, reason["code"], error["data"]["code"]) == (4005, "over_capacity", "over_capacity")
        assert reason["retry_after_ms"] > 0


async def test_http_is_not_counted_as_a_connection() -> None:
    async with serving(limits=Limits(max_connections_per_ip=1, max_connections=1)) as served:
        for _ in range(3):
            assert (await served.fetch("/healthz")).status == 200
        assert (await (await served.connect()).message())["type"] == "welcome"
        assert (await served.fetch("/healthz")).status == 200


HOST = "gold.example:8000"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        (f"http://{HOST}", True),
        (f"https://{HOST}", True),
        ("https://partner.example", True),
        ("http://partner.example", False),
        ("https://evil.example", False),
        ("https://gold.example", False),
        (f"https://{HOST}.evil.example", False),
        ("null", False),
        ("", False),
        ("http://[", False),
        ("https://" + "x" * 5000, False),
    ],
)
async def test_a_page_may_connect_to_where_it_came_from_or_where_the_configuration_lets_it(
    origin: str | None, *, allowed: bool
) -> None:
    limits = Limits(allowed_origins=("https://partner.example",))
    headers = [] if origin is None else [("Origin", origin)]
    async with serving(limits=limits) as served:
        client = await served.connect(JSON, headers=headers, host=HOST)
        if allowed:
            assert (await client.message())["type"] == "welcome"
        else:
            code, reason, (error,) = await client.closing()
            assert (code, reason) == (4503, {"code": "forbidden"})
            assert error["data"]["code"] == "forbidden"
            assert len(error["data"]["message"]) < 200
            assert await active(served) == 0


async def test_a_page_whose_name_somebody_pointed_here_is_refused() -> None:
    """In its browser's eyes it is of the same origin as we are."""
    async with serving(hosts=(), certified=frozenset({"gold.example"})) as served:
        client = await served.connect(headers=[("Origin", "https://evil.example")], host="evil.example")
        code, reason, (error,) = await client.closing()
        assert (code, reason) == (4503, {"code": "forbidden"})
        assert error["data"]["message"].startswith("this server is not called 'evil.example'")
        client = await served.connect(headers=[("Origin", "https://gold.example")], host="gold.example")
        assert (await client.message())["type"] == "welcome"


async def test_no_origin_matches_an_empty_host() -> None:
    async with serving() as served:
        lines = [
            f"GET {PATH} HTTP/1.1",
            "Host:",
            "Origin: null",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "",
            "",
        ]
        stream, _ = await served.open_stream()
        await stream.send_all("\r\n".join(lines).encode())
        received = b""
        while b"4503" not in received and b"may not connect" not in received:
            more = await stream.receive_some()
            assert more
            received += more


# --- silence ---


async def test_a_heartbeat_comes_in_silence_and_only_then(loopback_clock: MockClock) -> None:
    async with serving(heartbeat=Heartbeat(silence_s=5)) as served:
        client = await served.connect()
        await client.messages(2)
        for number in range(20):
            await trio.sleep(2)
            await served.publish(f"{number}.00")
            assert (await client.message())["type"] == "price_update"
        silent_since = trio.current_time()
        for _ in range(5):
            assert (await client.message())["type"] == "heartbeat"
            assert 5 <= trio.current_time() - silent_since < 7
            silent_since = trio.current_time()


async def test_a_client_that_pings_all_the_time_gets_its_heartbeats(loopback_clock: MockClock) -> None:
    """A page does not see the pongs."""
    async with serving(heartbeat=Heartbeat(silence_s=5)) as served:
        client = await served.connect()
        await client.messages(2)
        seen = []
        for _ in range(20):
            await client.ping()
            seen.append((await client.message())["type"])
            await trio.sleep(1)
        assert seen.count("heartbeat") >= 2


async def test_a_quiet_client_is_pinged_and_its_pong_keeps_it(loopback_clock: MockClock) -> None:
    async with serving(heartbeat=Heartbeat(ping_interval_s=20, pong_timeout_s=10, silence_s=60)) as served:
        client = await served.connect()
        await client.messages(2)
        with trio.move_on_after(130):
            while True:
                await client.message()
        assert client.pings == 6
        assert await active(served) == 1


async def test_a_dead_client_is_pinged_and_closed(loopback_clock: MockClock) -> None:
    async with serving(heartbeat=Heartbeat(ping_interval_s=20, pong_timeout_s=10, silence_s=60)) as served:
        client = await served.connect(answers_pings=False)
        begin = trio.current_time()
        code, reason, seen = await client.closing()
        assert (code, reason) == (4002, {"code": "heartbeat_timeout"})
        assert kinds(seen) == ["welcome", "status"]
        assert client.pings == 1
        assert 30 <= trio.current_time() - begin < 33
        assert await active(served) == 0


async def test_a_client_that_vanished_does_not_even_answer_the_close(loopback_clock: MockClock) -> None:
    async with serving(heartbeat=Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as served:
        await served.connect(answers_pings=False)
        await trio.sleep(31 + CLOSE_S + 3)
        assert await active(served) == 0
        assert not served.sessions()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_line_that_is_dead_at_the_other_end_only_is_found_in_time(
    loopback_clock: MockClock, tls_pair: TlsPair, *, secure: bool
) -> None:
    """The peer's machine is gone: nobody answers, acknowledges or resets."""
    server_tls, client_tls = tls_pair if secure else (None, None)
    heartbeat = Heartbeat(ping_interval_s=20, pong_timeout_s=10)
    async with serving(heartbeat=heartbeat, server_tls=server_tls, client_tls=client_tls) as served:
        client = await served.connect()
        await client.messages(2)
        play_dead(client.socket)
        begin = trio.current_time()
        while served.admission.sessions:
            await served.publish("1.00")
            await trio.sleep(1)
        assert 30 <= trio.current_time() - begin < 30 + PATROL_S + CLOSE_S + 1


@pytest.mark.parametrize("speaks", [False, True])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_client_that_takes_nothing_is_closed_in_time_whatever_it_says(
    loopback_clock: MockClock, tls_pair: TlsPair, *, speaks: bool, secure: bool
) -> None:
    server_tls, client_tls = tls_pair if secure else (None, None)
    heartbeat = Heartbeat(ping_interval_s=20, pong_timeout_s=10)
    async with serving(
        limits=GENEROUS, heartbeat=heartbeat, server_tls=server_tls, client_tls=client_tls
    ) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        begin = trio.current_time()
        (session,) = served.sessions()
        while served.admission.sessions:
            if speaks and session.closing is None:
                await client.send_event(events.Pong())
            await trio.sleep(1)
        assert session.closing is CloseCode.HEARTBEAT_TIMEOUT
        assert 30 <= trio.current_time() - begin < 30 + PATROL_S + CLOSE_S + 1


# --- the feature flag ---


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_whoever_the_flag_excludes_is_let_in_told_what_to_do_instead_and_closed(
    subprotocol: str,
) -> None:
    async with serving() as served:
        stays = await served.connect(JSON)
        await stays.message()
        served.settings.replace(Config(realtime=Realtime(enabled=False)))
        code, reason, seen = await (await served.connect(subprotocol)).closing()
        assert (code, reason) == (4505, {"code": "rollout_closed"})
        assert [(m["type"], m["data"]["code"]) for m in seen] == [("error", "rollout_closed")]
        assert "/api/v1/stream" in seen[0]["data"]["message"]
        assert (await served.fetch("/api/v1/prices/latest")).status == 200
        assert (await stays.ask("ping", {}))["type"] == "pong", "who is in stays in"


# --- the end ---


async def test_a_client_that_closes_is_answered_and_forgotten() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.messages(2)
        assert await active(served) == 1
        await client.close(1001)
        assert await active(served) == 0


async def test_a_client_whose_line_breaks_is_forgotten() -> None:
    async with serving() as served:
        with structlog.testing.capture_logs() as logs:
            client = await served.connect()
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(client.stream)
            for _ in range(5):
                await served.publish("1.00")
            assert await active(served) == 0
        assert not [log for log in logs if log["log_level"] in {"error", "warning"}]


async def test_a_client_that_closes_gets_nothing_after_our_close() -> None:
    async with serving(limits=GENEROUS) as served:
        done = False

        async def publish() -> None:
            while not done:
                await served.publish("1.00")

        served.nursery.start_soon(publish)
        for _ in range(30):
            client = await served.connect()
            await client.messages(20)
            await client.close()
        done = True


async def test_when_the_hub_stops_every_client_is_told_and_closed_each_with_its_own_time() -> None:
    async with serving(limits=GENEROUS) as served:
        clients = [await served.connect() for _ in range(8)]
        for client in clients:
            await client.messages(2)
        await served.publish("1.00")
        await served.hub.stop(block=False)
        waits = set()
        for client in clients:
            code, reason, seen = await client.closing()
            assert (code, reason["code"]) == (4000, "going_away")
            assert kinds(seen) == ["price_update", "going_away"]
            assert seen[-1]["data"]["retry_after_ms"] == reason["retry_after_ms"]
            assert 0 < reason["retry_after_ms"] <= RETRY_SPREAD_MS
            waits.add(reason["retry_after_ms"])
        assert len(waits) > 1


@pytest.mark.parametrize("secure", [False, True])
async def test_a_drain_sends_everybody_away_with_all_that_was_published_before(
    tls_pair: TlsPair, *, secure: bool
) -> None:
    server_tls, client_tls = tls_pair if secure else (None, None)
    async with serving(limits=GENEROUS, server_tls=server_tls, client_tls=client_tls) as served:
        clients = [await served.connect() for _ in range(20)]
        for client in clients:
            await client.messages(2)
        await served.publish("1.00", "2.00")
        plan = served.drain()
        slots = []
        for client in clients:
            code, reason, seen = await client.closing()
            assert (code, reason["code"]) == (4000, "going_away")
            assert kinds(seen) == ["price_update", "price_update", "going_away"]
            assert seen[-1]["data"]["retry_after_ms"] == reason["retry_after_ms"]
            slots.append(reason["retry_after_ms"])
        assert len(set(slots)) > 10, "two that are told at different times may have the same time to wait"
        took_ms = 1000 * (trio.current_time() - plan.began)
        assert min(slots) > 1000 * RESTART_S - took_ms
        assert max(slots) <= plan.retry_after_ms(20, plan.began)
        await served.admission.wait_empty()


async def test_whoever_knocks_during_a_drain_is_told_when_to_come_back() -> None:
    async with serving() as served:
        served.drain()
        with structlog.testing.capture_logs() as logs:
            waits = set()
            for _ in range(5):
                code, reason, seen = await (await served.connect(JSON)).closing()
                assert (code, kinds(seen)) == (4000, ["going_away"])
                assert reason["retry_after_ms"] == seen[0]["data"]["retry_after_ms"]
                waits.add(reason["retry_after_ms"])
        assert len(waits) > 1
        assert logs == [], "a crowd that returns too early must not fill the log"


async def test_a_drain_waits_for_nobody_who_does_not_answer(loopback_clock: MockClock) -> None:
    async with serving() as served:
        deaf, _ = await served.open_stream()
        await deaf.send_all(UPGRADE)
        client = await served.connect()
        await trio.sleep(1)
        begin = trio.current_time()
        served.drain()
        assert (await client.closing())[0] == 4000
        await served.admission.wait_empty()
        assert CLOSE_S - 1 < trio.current_time() - begin < CLOSE_S + 1


async def test_a_drain_waits_for_nobody_who_takes_nothing(loopback_clock: MockClock) -> None:
    async with serving(limits=GENEROUS) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        begin = trio.current_time()
        served.drain()
        await served.admission.wait_empty()
        assert CLOSE_S - 1 < trio.current_time() - begin < CLOSE_S + 1


async def test_in_a_drain_a_slow_reader_gets_what_was_kept_for_it() -> None:
    async with serving(limits=GENEROUS) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        await client.send({"type": "ping", "id": "last words"})
        await trio.testing.wait_all_tasks_blocked(0.01)
        served.drain()
        code, _, seen = await client.closing()
        assert code == 4000
        assert kinds(seen)[-1] == "going_away"
        assert [m["id"] for m in seen if m["type"] == "pong"] == ["last words"]
        check_counts(seen)


async def test_whoever_comes_when_the_hub_is_gone_is_sent_away() -> None:
    async with serving() as served:
        await served.hub.stop(block=False)
        with structlog.testing.capture_logs() as logs:
            client = await served.connect()
            code, _, seen = await client.closing()
        assert (code, kinds(seen)) == (4000, ["going_away"])
        assert not [log for log in logs if log["log_level"] == "error"]


async def test_whoever_knocks_while_the_hub_is_stopping_is_sent_away(
    loopback_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told to a hub that no longer reads is lost."""
    async with serving() as served:
        monkeypatch.setattr(type(served.hub.actor_inbox), "close", lambda _self, _reason: None)
        await served.hub.stop(block=False)
        client = await served.connect()
        code, _, seen = await client.closing()
        assert (code, kinds(seen)) == (4000, ["going_away"])


async def test_clients_that_leave_after_the_hub_leave_quietly() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.messages(2)
        with structlog.testing.capture_logs() as logs:
            await served.hub.stop(block=False)
            await client.closing()
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert not [log for log in logs if log["log_level"] in {"error", "warning"}]


async def test_a_client_that_ignores_our_close_is_cut_off(loopback_clock: MockClock) -> None:
    async with serving() as served:
        stream, _ = await served.open_stream()
        await stream.send_all(UPGRADE)
        await trio.sleep(1)
        begin = trio.current_time()
        await served.hub.stop(block=False)
        while await stream.receive_some():
            pass
        assert CLOSE_S - 1 < trio.current_time() - begin < CLOSE_S + 1


async def test_frames_that_break_the_standard_are_answered_with_the_reason() -> None:
    async with serving() as served:
        for broken, code in (
            (b"\x81\x00", 1002),  # not masked
            (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit
            (b"\x83\x80\0\0\0\0", 1002),  # an unknown opcode
            (b"\x09\x80\0\0\0\0", 1002),  # a ping in fragments
            (b"\x81\x81\0\0\0\0\xff", 1007),  # text that is none
        ):
            client = await served.connect(JSON)
            await client.message()
            await client.send_raw(broken)
            closed, reason, _ = await client.closing()
            assert closed == code
            assert reason["code"] == {1002: "websocket_error", 1007: "invalid_text"}[code]
        assert await active(served) == 0


async def test_a_ping_while_we_close_disturbs_nothing() -> None:
    async with serving(limits=Limits(max_messages_per_second=1)) as served:
        client = await served.connect(JSON)
        await client.message()
        with structlog.testing.capture_logs() as logs:
            for _ in range(3 * OFFENCES):
                await client.send('{"type":"ping"}')
            for _ in range(10):
                await client.ping()
            code, _, _ = await client.closing()
            assert code == 4003
            assert await active(served) == 0
        assert [log["event"] for log in logs] == ["session_closed"]


async def test_a_crash_in_a_session_closes_it_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Session.receive

    async def receive(self: Session, payload: str | bytes) -> None:
        if isinstance(payload, str) and "boom" in payload:
            raise RuntimeError("boom")
        await real(self, payload)

    monkeypatch.setattr(Session, "receive", receive)
    async with serving() as served:
        victim, other = await served.connect(), await served.connect()
        for client in (victim, other):
            await client.messages(2)
        with structlog.testing.capture_logs() as logs:
            await victim.send("boom")
            code, reason, seen = await victim.closing()
        assert (code, reason, seen) == (1011, {"code": "internal_error"}, [])
        assert [(log["event"], log["log_level"]) for log in logs] == [
            ("session_crashed", "error"),
            ("session_closed", "info"),
        ]
        assert logs[0]["session"] == logs[1]["session"]
        await served.publish("1.00")
        assert (await other.message())["type"] == "price_update"
        assert await active(served) == 1


async def test_a_crash_below_a_session_ends_it_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_args: object) -> None:
        raise RuntimeError("boom")

    async with serving() as served:
        other = await served.connect()
        await other.messages(2)
        monkeypatch.setattr(websocket_module._Connection, "_handle_ping_event", crash)
        victim = await served.connect()
        await victim.messages(2)
        with let_go(monkeypatch) as streams, structlog.testing.capture_logs() as logs:
            await victim.ping()
            assert (await victim.closing())[0] is None
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(streams) == 1
        assert [log["event"] for log in logs] == ["session_closed", "client_crashed"]
        await served.publish("1.00")
        assert (await other.message())["type"] == "price_update"
        assert await active(served) == 1


async def test_a_handshake_that_the_client_never_reads_is_given_up(
    loopback_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_args: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(websocket_module._Connection, "accept", never)
    async with serving(limits=Limits(handshake_timeout_s=10)) as served:
        with trio.fail_after(20), pytest.raises(ClosedError):
            await served.connect()


async def test_a_client_that_does_not_wait_for_its_handshake_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, gone = trio.Event(), trio.Event()
    accept = websocket_module._Connection.accept

    async def accept_late(*args: Any) -> None:
        asked.set()
        await gone.wait()
        await accept(*args)

    monkeypatch.setattr(websocket_module._Connection, "accept", accept_late)
    async with serving() as served:
        with structlog.testing.capture_logs() as logs:
            stream, sock = await served.open_stream()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Client(stream, sock, answers_pings=True).upgrade, "127.0.0.1", (), ())
                await asked.wait()
                nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(stream)
            gone.set()
            while served.admission.sessions:
                await trio.lowlevel.checkpoint()
        assert not [log for log in logs if log["log_level"] in {"error", "warning"}]


# --- slow readers ---


async def clog(served: Served, client: Client) -> None:
    """Publish until something waits for the client, which has read its first two messages; then some more."""
    await client.messages(2)
    while not any(session.backlogged for session in served.sessions()):
        await served.publish(*["1.00"] * 50)
    for _ in range(20):
        await served.publish(*["2.00"] * 50)


def check_counts(messages: list[dict[str, Any]], start: int = 0) -> int:
    """Every jump is the number that the message says it stands for; the last count."""
    count = start
    for message in messages:
        if message["type"] == "price_update":
            assert message["update_count"] - count == message.get("conflated", 1)
            count = message["update_count"]
    return count


@pytest.mark.parametrize("secure", [False, True])
async def test_a_slow_reader_gets_the_latest_and_the_others_get_everything(
    tls_pair: TlsPair, *, secure: bool
) -> None:
    server_tls, client_tls = tls_pair if secure else (None, None)
    async with serving(limits=GENEROUS, server_tls=server_tls, client_tls=client_tls) as served:
        slow, quick = await served.connect(rcvbuf=4096), await served.connect(JSON)
        await quick.message()
        assert kinds([await quick.ask("subscribe", {"channels": [PRICE]})]) == ["subscribed"]
        received: list[dict[str, Any]] = []

        async def read() -> None:
            while True:
                received.append(await quick.message())

        served.nursery.start_soon(read)
        await clog(served, slow)
        stats = (await served.fetch("/api/v1/ws/stats")).json()
        total = stats["channels"][PRICE]
        while len(received) < total:
            await trio.sleep(0.001)
        assert [m["update_count"] for m in received] == list(range(1, total + 1))
        assert not any("conflated" in m for m in received)

        seen = [await slow.until("price_update")]
        while seen[-1]["update_count"] < total:
            seen.append(await slow.message())
        check_counts(seen)
        assert seen[-1]["conflated"] > 500
        assert seen[-1]["data"]["close"] == 2
        await served.publish("3.00")
        assert (await slow.message())["update_count"] == total + 1


async def test_a_slow_reader_that_asks_too_much_is_closed_and_hears_it_when_it_reads_on() -> None:
    limits = GENEROUS.model_copy(update={"send_queue_bytes": 10_000})
    async with serving(limits=limits) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        for number in range(100):
            await client.send({"type": "snapshot", "id": number, "data": BOTH})
        await trio.testing.wait_all_tasks_blocked(0.01)
        code, reason, seen = await client.closing()
        assert (code, reason["code"]) == (4001, "slow_consumer")
        assert 0 < len([m for m in seen if m["type"] == "snapshot_sent"]) < 100
        assert await active(served) == 0


async def test_a_slow_reader_that_never_reads_again_is_cut_off(loopback_clock: MockClock) -> None:
    limits = GENEROUS.model_copy(update={"send_queue_bytes": 10_000})
    async with serving(limits=limits) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        for number in range(100):
            await client.send({"type": "snapshot", "id": number, "data": BOTH})
        await trio.sleep(CLOSE_S + 3)
        assert await active(served) == 0


async def test_answers_reach_a_slow_reader_in_order_and_none_is_lost() -> None:
    async with serving(limits=GENEROUS.model_copy(update={"send_queue_bytes": 10_000_000})) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        for number in range(200):
            await client.send({"type": "ping", "id": number})
            await served.publish("4.00")
        pongs: list[int] = []
        last = 0
        while len(pongs) < 200:
            message = await client.message()
            if message["type"] == "pong":
                pongs.append(message["id"])
            last = check_counts([message], last)
        assert pongs == list(range(200))


async def test_a_slow_reader_that_pings_is_still_heard() -> None:
    """A pong that waits for the socket must not keep the server from reading."""
    async with serving(limits=GENEROUS) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        for _ in range(5):
            await client.ping()
        await client.send({"type": "ping", "id": "heard"})
        seen: list[str] = []
        while "pong" not in seen:
            await served.publish("5.00")
            seen.append((await client.message())["type"])
        assert seen.count("websocket pong") >= 1


async def test_at_the_end_a_slow_reader_gets_the_newest_price_before_the_goodbye() -> None:
    async with serving(limits=GENEROUS) as served:
        client = await served.connect(rcvbuf=4096)
        await clog(served, client)
        await served.publish("9.00")
        await served.hub.stop(block=False)
        code, _, seen = await client.closing()
        assert code == 4000
        assert kinds(seen)[-1] == "going_away"
        check_counts(seen)
        assert [m for m in seen if m["type"] == "price_update"][-1]["data"]["close"] == 9


# --- what is shared ---


async def test_an_update_is_framed_once_however_many_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(limits=GENEROUS) as served:
        clients = [await served.connect() for _ in range(20)]
        for client in clients:
            await client.messages(2)
        framed: list[object] = []
        real = type(JSON_ENCODING).frame

        def frame(self: Any, message: Any, position: str | None = None) -> bytes:
            framed.append(message)
            return real(self, message, position)

        monkeypatch.setattr(type(JSON_ENCODING), "frame", frame)
        await served.publish("1.00")
        for client in clients:
            await client.message()
        assert len(framed) == 1


async def test_a_status_comes_without_a_tick() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.messages(2)
        change: StatusChanged = status_of(Quality.STALE, reason="no price for 15 s")
        served.hub.tell(decided(status=change))
        status = await client.message()
        assert (status["type"], status["data"]["quality"], status["data"]["reason"]) == (
            "status",
            "stale",
            "no price for 15 s",
        )
        assert json.dumps(status)


async def test_a_session_ends_with_one_line_that_has_all_that_matters_of_it() -> None:
    async with serving() as served:
        client = await served.connect(JSON)
        session = (await client.message())["data"]["session"]
        await client.send('{"type":"ping"}')
        assert (await client.message())["type"] == "pong"
        with structlog.testing.capture_logs() as logs:
            await client.close()
            assert await active(served) == 0
        (line,) = [log for log in logs if log["event"] == "session_closed"]
        assert line.pop("bytes_sent") > 200
        assert line.pop("bytes_received") > 200
        assert line.pop("rtt_ms") >= 0
        assert line.pop("retransmits") >= 0
        assert line.pop("duration_s") >= 0
        assert line == {
            "event": "session_closed",
            "log_level": "info",
            "session": session,
            "client": "127.0.0.1",
            "user": None,
            "encoding": "json",
            "code": None,
            "received": 1,
        }
