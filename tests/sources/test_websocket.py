"""Every way in which a WebSocket can fail to open, to stay, or to close, and what is said of it."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pydantic
import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from aurexd.errors import FeedError
from aurexd.market import format_time
from aurexd.redaction import Redactor
from aurexd.sources.plausible import of_this_century
from aurexd.sources.websocket import (
    CLOSE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    MAX_GARBAGE_IN_A_ROW,
    MAX_MESSAGE_BYTES,
    RATE_LIMITED_RETRY_S,
    SEND_TIMEOUT_S,
    Connection,
    UpgradeRefusedError,
    WebSocketUrl,
    open_connection,
)
from tests.fakes import FakeFeed
from tests.standins.websocket import Refusal, WebSocketStandIn

Body = Callable[[Connection], Awaitable[None]]


def parse(raw: str | bytes) -> int:
    return int(raw)


async def listen(connection: Connection) -> None:
    while True:
        await connection.receive(parse)


async def error_of(
    url: str, body: Body = listen, *, feed: FakeFeed | None = None, redactor: Redactor | None = None
) -> FeedError:
    """The error with which a connection ends."""
    with trio.fail_after(3600), pytest.raises(FeedError) as caught:
        async with open_connection("Acme", url, feed or FakeFeed(), redactor) as connection:
            await body(connection)
    return caught.value


@contextlib.asynccontextmanager
async def raw_server(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """A TCP server that does as told with each connection, then closes it; yields its URL."""

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await handle(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/path"
        nursery.cancel_scope.cancel()


def answering(answer: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    return handle


# --- settings ---


@pytest.mark.parametrize(
    "url",
    ["wss://quote.alltick.co/quote-b-ws-api", "ws://127.0.0.1:9100/", "ws://[::1]:80/?a=b", "wss://h"],
)
def test_a_websocket_url_is_taken_as_it_is(url: str) -> None:
    assert pydantic.TypeAdapter(WebSocketUrl).validate_python(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://quote.alltick.co/", "wss://host/path"),
        ("quote.alltick.co", "wss://host/path"),
        ("wss:///path", "wss://host/path"),
        ("wss://user:secret@host/", "user or password"),
        ("wss://host/ü", "percent-encode"),
        ("wss://host/a b", "percent-encode"),
        ("wss://host:99999/", "Port out of range"),
        ("wss://host:0/", "port 0"),
    ],
)
def test_any_other_url_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=why):
        pydantic.TypeAdapter(WebSocketUrl).validate_python(url)


# --- opening ---


async def test_it_says_who_it_is(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        async with open_connection("Acme", standin.url, FakeFeed()):
            pass
    assert standin.headers[0]["user-agent"].startswith("aurexd/")


async def test_a_refused_port_is_said_with_its_reason(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        await standin.kill()
        error = await error_of(standin.url)
        assert f"127.0.0.1:{standin.port} cannot be reached" in str(error)
        assert "Connection refused" in str(error)
        assert not error.fatal

        await standin.revive()
        async with open_connection("Acme", standin.url, FakeFeed()):
            assert standin.connections == 1


async def test_a_server_that_does_not_even_accept_is_left_at_the_deadline(loopback_clock: MockClock) -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        start = trio.current_time()
        error = await error_of(f"ws://127.0.0.1:{full.getsockname()[1]}/")
        assert trio.current_time() - start == pytest.approx(CONNECT_TIMEOUT_S)
    assert "no answer within 10 s" in str(error)


async def test_a_server_that_accepts_and_says_nothing_is_left_at_the_deadline(
    loopback_clock: MockClock,
) -> None:
    async with WebSocketStandIn().running() as standin:
        standin.mode = "frozen"
        start = trio.current_time()
        error = await error_of(standin.url)
        assert trio.current_time() - start == pytest.approx(CONNECT_TIMEOUT_S)
        assert "did not finish the WebSocket upgrade within 10 s" in str(error)


async def test_a_server_that_hangs_up_during_the_upgrade_is_noticed_at_once(
    loopback_clock: MockClock,
) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        pass

    async with raw_server(hang_up) as url:
        start = trio.current_time()
        assert "hung up during the WebSocket upgrade" in str(await error_of(url))
        assert trio.current_time() == start


async def test_a_server_that_does_not_speak_http_is_noticed_at_once(loopback_clock: MockClock) -> None:
    async with raw_server(answering(b"220 mail.example.org ESMTP\r\n")) as url:
        start = trio.current_time()
        error = await error_of(url)
        assert trio.current_time() == start
        assert not error.fatal


async def test_a_refused_upgrade_tells_status_body_and_when_to_come_back(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        standin.refusal = Refusal(503, b"busy", ((b"Retry-After", b"77"),))
        error = await error_of(standin.url)
    assert isinstance(error, UpgradeRefusedError)
    assert (error.status, error.body, error.retry_after_s, error.fatal) == (503, b"busy", 77.0, False)
    assert "HTTP 503" in str(error)


async def test_too_many_requests_without_a_time_still_waits(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        standin.refusal = Refusal(429)
        assert (await error_of(standin.url)).retry_after_s == RATE_LIMITED_RETRY_S


async def test_a_refusal_that_ends_with_its_connection_keeps_its_status(loopback_clock: MockClock) -> None:
    async with raw_server(answering(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\nno")) as url:
        error = await error_of(url)
    assert isinstance(error, UpgradeRefusedError)
    assert error.status == 401


async def test_a_moved_server_is_a_matter_of_the_url(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        standin.refusal = Refusal(301, b"", ((b"Location", b"https://elsewhere.example"),))
        assert "check this source's `url`" in str(await error_of(standin.url))


async def test_it_speaks_tls(loopback_clock: MockClock, server_tls: ssl.SSLContext) -> None:
    feed = FakeFeed()
    async with WebSocketStandIn(tls=server_tls).running() as standin:
        async with open_connection("Acme", standin.url, feed) as connection:
            await standin.say("7")
            assert await connection.receive(parse) == 7


async def test_a_certificate_of_an_unknown_authority_is_refused_and_said(
    loopback_clock: MockClock, server_tls: ssl.SSLContext
) -> None:
    stranger = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    async with WebSocketStandIn(tls=stranger).running() as standin:
        error = await error_of(standin.url)
    assert "certificate verify failed" in str(error)
    assert "certificate authorities" in str(error)


async def test_tls_with_a_server_that_has_none_fails_at_once(
    loopback_clock: MockClock, server_tls: ssl.SSLContext
) -> None:
    async with raw_server(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
        start = trio.current_time()
        assert "no TLS with 127.0.0.1" in str(await error_of(url.replace("ws://", "wss://")))
        assert trio.current_time() == start


async def test_a_tls_handshake_without_end_is_left_at_the_deadline(
    loopback_clock: MockClock, server_tls: ssl.SSLContext
) -> None:
    async with WebSocketStandIn(tls=server_tls).running() as standin:
        standin.mode = "frozen"
        start = trio.current_time()
        assert "no TLS with 127.0.0.1 within 10 s" in str(await error_of(standin.url))
        assert trio.current_time() - start == pytest.approx(CONNECT_TIMEOUT_S)


async def test_what_stands_in_the_url_is_not_logged(
    loopback_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with WebSocketStandIn().running() as standin:
        async with open_connection("Acme", standin.url + "?token=hunter2hunter2", FakeFeed()):
            pass
        await standin.kill()
        error = await error_of(standin.url + "?token=hunter2hunter2")
    assert "hunter2" not in caplog.text + str(error)


# --- while it is open ---


async def test_what_was_said_before_a_close_is_read_before_the_error(loopback_clock: MockClock) -> None:
    heard: list[int] = []

    async def read_late(connection: Connection) -> None:
        await standin.say("1")
        await standin.say("2")
        await standin.disconnect(code=1001, reason="going away")
        await connection.send({"ping": 1})
        while True:
            heard.append(await connection.receive(parse))

    async with WebSocketStandIn().running() as standin:
        error = await error_of(standin.url, read_late)
    assert heard == [1, 2]
    assert "closed with code 1001 (going away)" in str(error)


async def test_speaking_on_a_closed_connection_leaves_the_reason_to_be_read(
    loopback_clock: MockClock,
) -> None:
    async def speak(connection: Connection) -> None:
        await standin.disconnect(code=1001, reason="going away")
        await trio.sleep(1.0)
        await connection.send({"ping": 1})
        await connection.receive(parse)

    async with WebSocketStandIn().running() as standin:
        assert "going away" in str(await error_of(standin.url, speak))


async def test_a_broken_connection_is_said_to_be_one(loopback_clock: MockClock) -> None:
    async def cut(connection: Connection) -> None:
        await standin.disconnect(code=None)
        await connection.receive(parse)

    async with WebSocketStandIn().running() as standin:
        assert "broke off" in str(await error_of(standin.url, cut))


async def test_garbage_is_counted_and_skipped(loopback_clock: MockClock) -> None:
    feed = FakeFeed()
    async with WebSocketStandIn().running() as standin:
        async with open_connection("Acme", standin.url, feed) as connection:
            for said in ("x", b"\xff\xfe", "5"):
                await standin.say(said)
            assert await connection.receive(parse) == 5
    assert feed.reasons == ["garbage", "garbage"]
    assert feed.signs_of_life == 3
    assert "'x'" in feed.rejections[0][1]


async def test_nothing_but_garbage_ends_the_connection(loopback_clock: MockClock) -> None:
    in_a_row = MAX_GARBAGE_IN_A_ROW

    async def say_all() -> None:
        for said in ["x"] * (in_a_row - 1) + ["5"] + ["secret99"] * in_a_row:
            await standin.say(said)

    async def talk(connection: Connection) -> None:
        connection.nursery.start_soon(say_all)
        assert await connection.receive(parse) == 5
        await connection.receive(parse)

    feed = FakeFeed()
    async with WebSocketStandIn().running() as standin:
        error = await error_of(standin.url, talk, feed=feed, redactor=Redactor(["secret99"]))
    assert "20 unreadable messages in a row" in str(error)
    assert len(feed.rejections) == 2 * in_a_row - 1
    assert "secret99" not in str(error) + str(feed.rejections)


async def test_brackets_without_end_are_garbage_too(loopback_clock: MockClock) -> None:
    feed = FakeFeed()

    def parse_recursively(raw: str | bytes) -> int:
        return int(json.loads(raw))

    async with WebSocketStandIn().running() as standin:
        async with open_connection("Acme", standin.url, feed) as connection:
            await standin.say("[" * 60_000)
            await standin.say("5")
            assert await connection.receive(parse_recursively) == 5
    assert feed.reasons == ["garbage"]


async def test_a_message_beyond_the_limit_ends_the_connection(loopback_clock: MockClock) -> None:
    async def talk(connection: Connection) -> None:
        await standin.say("9" * (MAX_MESSAGE_BYTES + 1))
        await standin.say("9" * (MAX_MESSAGE_BYTES + 1))
        await listen(connection)

    async with WebSocketStandIn().running() as standin:
        assert "closed with code 1009" in str(await error_of(standin.url, talk))


@pytest.mark.parametrize(
    "junk", [b"\xff\xff\xff\xff", b"\x81\x02\xff\xfe", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
async def test_bytes_that_are_no_frame_end_the_connection(loopback_clock: MockClock, junk: bytes) -> None:
    async def talk(connection: Connection) -> None:
        await standin.clients[0].stream.send_all(junk)
        await listen(connection)

    async with WebSocketStandIn().running() as standin:
        start = trio.current_time()
        error = await error_of(standin.url, talk)
        assert "closed with code 100" in str(error)
        assert trio.current_time() - start <= CLOSE_TIMEOUT_S


async def test_a_peer_that_takes_no_data_is_given_up(loopback_clock: MockClock) -> None:
    async def flood(connection: Connection) -> None:
        standin.mode = "frozen"
        while True:
            await connection.send({"x": "x" * 1_000_000})

    async with WebSocketStandIn().running() as standin:
        assert f"took no data for {SEND_TIMEOUT_S:g} s" in str(await error_of(standin.url, flood))


async def test_an_answer_that_does_not_come_ends_the_connection(loopback_clock: MockClock) -> None:
    async def wait(connection: Connection) -> None:
        connection.nursery.start_soon(connection.wait_answered, trio.Event(), "our subscription")
        await listen(connection)

    async with WebSocketStandIn().running() as standin:
        assert "did not answer our subscription within 10 s" in str(await error_of(standin.url, wait))


async def test_of_two_errors_the_graver_is_told(loopback_clock: MockClock) -> None:
    async def fail(connection: Connection) -> None:
        async def fatally() -> None:
            raise FeedError("fatal", fatal=True)

        connection.nursery.start_soon(fatally)
        await trio.lowlevel.checkpoint()
        raise FeedError("passing", retry_after_s=9.0)

    async with WebSocketStandIn().running() as standin:
        assert (await error_of(standin.url, fail)).fatal


async def test_a_bug_of_ours_is_not_taken_for_the_providers(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
            async with open_connection("Acme", standin.url, FakeFeed()):
                raise KeyError("x")


# --- closing ---


async def test_leaving_says_goodbye(loopback_clock: MockClock) -> None:
    async with WebSocketStandIn().running() as standin:
        async with open_connection("Acme", standin.url, FakeFeed()):
            websocket = standin.clients[0].websocket
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert websocket.closed is not None
        assert websocket.closed.code == 1000


async def test_whoever_is_cancelled_says_goodbye_too_and_waits_for_no_more_than_the_answer(
    loopback_clock: MockClock,
) -> None:
    """A stopping daemon cancels its sources one after the other: two seconds for each would be many."""
    async with WebSocketStandIn().running() as standin:
        with trio.CancelScope() as scope:
            async with open_connection("Acme", standin.url, FakeFeed()) as connection:
                websocket = standin.clients[0].websocket
                begin = trio.current_time()
                scope.cancel()
                await connection.receive(parse)
        assert trio.current_time() - begin < 0.1
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert websocket.closed is not None
        assert websocket.closed.code == 1000


@pytest.mark.parametrize("close_frame", [b"", b"\x88\x02\x03\xe8"])
async def test_leaving_a_dead_peer_takes_no_longer_than_the_deadline(
    loopback_clock: MockClock, close_frame: bytes
) -> None:
    async with WebSocketStandIn().running() as standin:
        async with open_connection("Acme", standin.url, FakeFeed()) as connection:
            standin.mode = "frozen"
            await standin.clients[0].stream.send_all(close_frame)
            if close_frame:
                with pytest.raises(FeedError):
                    await connection.receive(parse)
            start = trio.current_time()
        assert trio.current_time() - start <= CLOSE_TIMEOUT_S


async def test_a_cancelled_connection_ends_in_cancellation_alone(loopback_clock: MockClock) -> None:
    async def beat(connection: Connection) -> None:
        while True:
            await trio.sleep(0.5)
            await connection.send({"beat": 1})

    async with WebSocketStandIn().running() as standin:
        start = trio.current_time()
        with trio.move_on_after(1.0) as scope:
            async with open_connection("Acme", standin.url, FakeFeed()) as connection:
                connection.nursery.start_soon(beat, connection)
                standin.mode = "frozen"
                await listen(connection)
        assert scope.cancelled_caught
        assert trio.current_time() - start <= 1.0 + CLOSE_TIMEOUT_S


async def test_pings_while_we_close_do_no_harm(loopback_clock: MockClock) -> None:
    async def leave(connection: Connection) -> None:
        await standin.clients[0].stream.send_all(b"\x89\x00" * 100)
        raise FeedError("enough")

    async with WebSocketStandIn().running() as standin:
        assert str(await error_of(standin.url, leave)) == "enough"


# --- times ---


@given(st.integers())
def test_a_time_is_of_this_century_or_refused(microseconds: int) -> None:
    try:
        time = of_this_century(microseconds)
    except ValueError:
        assert not 946_684_800 <= microseconds / 1e6 < 4_102_444_800
    else:
        assert format_time(time)[:2] == "20"
