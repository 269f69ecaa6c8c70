"""The shared port: who may bind it, what arrives on it, and whom it is handed to."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing
import trustme

from aurexd.config.model import Config, Limits
from aurexd.errors import ListenError
from aurexd.server.door import Door
from aurexd.server.port import EXHAUSTED_PAUSE_S, SEND_BUFFER_BYTES, UNSENT_BYTES, Port, adopt, bind
from aurexd.server.request import HEAD_BYTES, Request
from aurexd.server.stream import ClientStream
from aurexd.server.tls import server_tls
from aurexd.settings import Settings
from tests.server.conftest import TlsPair, certificate
from tests.server.loopback import PATH, read_to_the_end, serving

HANDSHAKE_S = 10.0
SETTINGS = Settings(Config(limits=Limits(handshake_timeout_s=HANDSHAKE_S)))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


# --- binding ---


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind("127.0.0.1", number)
    assert str(caught.value) == (
        f"listen: cannot bind 127.0.0.1:{number}: another process uses it — "
        "stop that one (ss -ltnp shows it) or set listen.port"
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, "this machine has no such address"),
        (errno.EAFNOSUPPORT, "this machine has no such address"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_the_system_refuses_is_explained(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(_self: socket.socket, _address: object) -> None:
        raise OSError(number, "Cannot allocate memory")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ListenError, match="listen: cannot bind") as caught:
        bind("127.0.0.1", 80)
    assert str(caught.value).startswith(f"listen: cannot bind 127.0.0.1:80: {words}")


@pytest.mark.parametrize("name", ["nowhere.example", "a" * 70, ".."])
def test_a_name_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ListenError) as caught:
        bind(name, 8000)
    assert str(caught.value).startswith(f"listen.address: '{name}' is not an address of this machine (")


def both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` as most systems have it: IPv6 first, and everything twice."""

    def look_up(_host: str, port: int, **_options: Any) -> Any:
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        return [six, four, six, four]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_localhost_is_all_its_addresses_on_one_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    both_families(monkeypatch)
    listeners = bind("localhost", 0)
    try:
        families = [listener.family for listener in listeners]
        assert families == ([socket.AF_INET6] if has_ipv6() else []) + [socket.AF_INET]
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        close(listeners)


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_localhost_works_on_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    both_families(monkeypatch)
    real = socket.socket.bind

    def no_ipv6(self: socket.socket, address: Any) -> None:
        if address[0] == "::1":
            raise OSError(number, "no IPv6")
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", no_ipv6)
    listeners = bind("localhost", 0)
    assert [listener.family for listener in listeners] == [socket.AF_INET]
    close(listeners)


def test_an_address_that_fails_gives_back_those_that_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    both_families(monkeypatch)
    real = socket.socket.bind
    bound: list[socket.socket] = []

    def refuse_ipv4(self: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.1":
            raise OSError(errno.EADDRINUSE, "in use")
        bound.append(self)
        real(self, ("127.0.0.1", 0) if self.family == socket.AF_INET else address)

    monkeypatch.setattr(socket.socket, "bind", refuse_ipv4)
    with pytest.raises(ListenError, match="another process uses it"):
        bind("localhost", 0)
    assert all(listener.fileno() == -1 for listener in bound)


# --- sockets that somebody else bound ---


def test_a_socket_that_was_passed_is_taken_over_as_it_is_with_its_queue() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listener:
        with socket.create_connection(listener.getsockname()) as waiting:
            (adopted,) = adopt([listener])
            assert adopted is listener
            assert not adopted.getblocking()
            first, address = adopted.accept()
            assert address == waiting.getsockname()
            with first, socket.create_connection(listener.getsockname()):
                later, _ = adopted.accept()
                assert later.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                later.close()


def test_a_socket_that_is_no_listening_tcp_socket_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{tmp_path}/port")
        with pytest.raises(
            ListenError, match="/port' that systemd passed is no TCP socket — write ListenStream"
        ):
            adopt([unix])
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(ListenError, match="does not listen — leave Accept=yes away"):
            adopt([deaf])


async def test_ipv6_loopback_is_served_where_there_is_one() -> None:
    if not has_ipv6():
        with pytest.raises(ListenError, match=r"cannot bind \[::1\]:0"):
            bind("::1", 0)
        return
    async with serving(address="::1") as served:
        assert (await served.fetch("/healthz")).status == 200
        assert (await (await served.connect()).message())["type"] == "welcome"


# --- the port alone, with two handlers that say who they are ---


class Room:
    """A port, and what its handlers were given."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.upgrades: list[Request] = []
        self.heads: list[bytes] = []
        self.addresses: list[str] = []
        """Of those who asked over HTTP."""
        self.crash: Exception | None = None
        self.hold = False

    async def websocket(self, stream: ClientStream, request: Request) -> None:
        self.upgrades.append(request)
        await self._answer(stream, b"websocket")

    async def events(self, stream: ClientStream) -> None:
        await self._answer(stream, b"events")

    async def http(self, stream: ClientStream) -> None:
        self.addresses.append(stream.remote_address)
        await self._answer(stream, b"http")

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port.port)

    async def say(self, data: bytes) -> bytes:
        """Send bytes; everything that comes back until the server closes."""
        async with await self.connect() as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            return await read_to_the_end(stream)

    async def _answer(self, stream: ClientStream, name: bytes) -> None:
        if self.crash is not None:
            raise self.crash
        self.heads.append(await stream.receive_some(2 * HEAD_BYTES))
        if self.hold:
            await stream.receive_some()
        await stream.send_all(name)


@contextlib.asynccontextmanager
async def opened(
    tls: ssl.SSLContext | None = None,
    wrap: Callable[[socket.socket], Any] = lambda listener: listener,
    settings: Settings = SETTINGS,
    *,
    proxy_protocol: bool = False,
) -> AsyncIterator[Room]:
    room: Room

    async def websocket(stream: ClientStream, request: Request) -> None:
        await room.websocket(stream, request)

    async def events(stream: ClientStream, _request: Request) -> None:
        await room.events(stream)

    async def http(stream: ClientStream, _request: Request | None) -> None:
        await room.http(stream)

    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            listeners = [wrap(listener) for listener in bind("127.0.0.1", 0)]
            port = Port(
                listeners,
                tls=tls,
                settings=settings,
                door=Door(settings),
                websocket=websocket,
                events=events,
                http=http,
                proxy_protocol=proxy_protocol,
            )
            room = Room(port)
            await nursery.start(port.serve)
            yield room
            nursery.cancel_scope.cancel()


def request(path: str = PATH, method: str = "GET", *headers: str, upgrade: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: gold.example", *headers]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: WebSocket"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def test_an_upgrade_of_the_stream_goes_to_websocket_and_all_else_to_http() -> None:
    async with opened() as room:
        assert await room.say(request()) == b"websocket"
        assert await room.say(request(f"{PATH}?symbol=GC")) == b"websocket"
        assert await room.say(request(upgrade=False)) == b"http"
        assert await room.say(request("/")) == b"http"
        assert await room.say(request("/api/v1/stream?channels=price:GC", upgrade=False)) == b"events"
        assert await room.say(request(f"{PATH}/")) == b"http"
        assert await room.say(request(PATH, "GET", "Upgrade: h2c", upgrade=False)) == b"http"


async def test_what_was_read_is_put_back_whole() -> None:
    async with opened() as room:
        data = request("/x", "POST", "Content-Length: 9", upgrade=False) + b"some body"
        await room.say(data)
        assert room.heads == [data]


async def test_the_request_says_where_the_client_comes_from_and_what_it_offers() -> None:
    async with opened() as room:
        await room.say(
            request(
                f"{PATH}?symbol=GC",
                "GET",
                "Origin: https://gold.example",
                "Sec-WebSocket-Protocol: aurex.v1.json,  aurex.v1.msgpack",
                "sec-websocket-protocol: aurex.token.abc,",
                "Authorization: Bearer abc",
                "Last-Event-ID: 7",
            )
        )
        await room.say(request())
        assert room.upgrades == [
            Request(
                address="127.0.0.1",
                method="GET",
                path=PATH,
                query="symbol=GC",
                host="gold.example",
                origin="https://gold.example",
                upgrade=True,
                subprotocols=("aurex.v1.json", "aurex.v1.msgpack", "aurex.token.abc"),
                authorization="Bearer abc",
                last_event_id="7",
            ),
            Request(
                address="127.0.0.1", method="GET", path=PATH, query="", host="gold.example", upgrade=True
            ),
        ]


async def test_a_head_may_come_byte_by_byte(loopback_clock: trio.testing.MockClock) -> None:
    async with opened() as room, await room.connect() as stream:
        for byte in request():
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.01)
        assert await read_to_the_end(stream) == b"websocket"


async def test_a_head_may_have_bare_line_feeds() -> None:
    async with opened() as room:
        assert await room.say(request().replace(b"\r\n", b"\n")) == b"websocket"


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"G"])
async def test_a_head_that_is_not_finished_is_cut_off_in_time(
    loopback_clock: trio.testing.MockClock, said: bytes
) -> None:
    async with opened() as room, await room.connect() as stream:
        if said:
            await stream.send_all(said)
        begin = trio.current_time()
        assert await read_to_the_end(stream) == b""
        assert HANDSHAKE_S - 1 < trio.current_time() - begin < HANDSHAKE_S + 1
        assert room.heads == []


async def test_a_tls_handshake_that_is_not_finished_is_cut_off_in_time(
    loopback_clock: trio.testing.MockClock, tls_pair: TlsPair
) -> None:
    async with opened(tls_pair.server) as room, await room.connect() as stream:
        await stream.send_all(b"\x16\x03\x01")
        begin = trio.current_time()
        await read_to_the_end(stream)
        assert HANDSHAKE_S - 1 < trio.current_time() - begin < HANDSHAKE_S + 1


async def test_a_head_that_is_too_large_is_not_read_for_ever() -> None:
    async with serving() as served:
        (answer,) = await served.say(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 10 * HEAD_BYTES)
        assert (answer.status, answer.headers["connection"]) == (431, "close")


@pytest.mark.parametrize(
    "garbage",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        bytes(range(256)),
    ],
)
async def test_what_is_no_http_is_told_so(garbage: bytes) -> None:
    async with serving() as served:
        (answer,) = await served.say(garbage + b"\r\n\r\n")
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert (await served.fetch("/healthz")).status == 200


async def test_http_1_1_without_a_host_is_told_so() -> None:
    async with serving() as served:
        (answer,) = await served.say(b"GET / HTTP/1.1\r\n\r\n")
        assert answer.status == 400


async def test_a_tls_client_on_a_plain_port_notices() -> None:
    async with serving() as served:
        stream, _ = await served.open_stream()
        assert isinstance(stream, trio.SocketStream)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await trio.SSLStream(
                stream, ssl.create_default_context(), server_hostname="localhost"
            ).do_handshake()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert (await served.fetch("/healthz")).status == 200


async def test_a_plain_client_on_a_tls_port_is_cut_off(tls_pair: TlsPair) -> None:
    async with serving(server_tls=tls_pair.server, client_tls=tls_pair.client) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.port.port) as stream:
            await stream.send_all(request("/healthz", upgrade=False))
            assert b"HTTP" not in await read_to_the_end(stream)
        assert (await served.fetch("/healthz")).status == 200


async def test_over_tls_http_1_1_is_all_there_is(tls_pair: TlsPair) -> None:
    """With h2, browsers would open their WebSocket inside it."""
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(server_tls=tls_pair.server, client_tls=client) as served:
        stream, _ = await served.open_stream()
        assert isinstance(stream, trio.SSLStream)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "http/1.1"


async def test_another_certificate_is_for_those_who_connect_then(tls_pair: TlsPair, tmp_path: Path) -> None:
    renewed = trustme.CA()
    other = ssl.create_default_context()
    renewed.configure_trust(other)
    async with serving(server_tls=tls_pair.server, client_tls=tls_pair.client) as served:
        stays = await served.connect()
        served.port.tls = server_tls(certificate(tmp_path, "127.0.0.1", authority=renewed))
        assert [message["type"] for message in await stays.messages(2)] == ["welcome", "status"]
        assert (await stays.ask("ping", {}))["type"] == "pong"
        with pytest.raises(trio.BrokenResourceError):
            await served.connect()
        served.client_tls = other
        assert (await served.fetch("/healthz")).status == 200
        assert (await (await served.connect()).message())["type"] == "welcome"


async def test_a_new_handshake_timeout_holds_for_who_connects_then(
    loopback_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        served.settings.replace(Config(limits=Limits(handshake_timeout_s=2)))
        async with await trio.open_tcp_stream("127.0.0.1", served.port.port) as stream:
            begin = trio.current_time()
            await read_to_the_end(stream)
            assert 1 < trio.current_time() - begin < 3


async def test_a_client_that_leaves_in_the_middle_of_a_head_costs_nothing() -> None:
    async with opened() as room:
        with structlog.testing.capture_logs() as logs:
            stream = await room.connect()
            await stream.send_all(b"GET / HT")
            await stream.aclose()
            assert await room.say(request()) == b"websocket"
        assert logs == []


async def test_a_handler_that_crashes_takes_nobody_with_it() -> None:
    async with opened() as room:
        room.hold = True
        other = await room.connect()
        await other.send_all(request())
        await trio.testing.wait_all_tasks_blocked(0.01)
        room.hold, room.crash = False, RuntimeError("oh")
        with structlog.testing.capture_logs() as logs:
            assert await room.say(request("/")) == b""
        assert [(log["event"], log["client"]) for log in logs] == [("client_crashed", "127.0.0.1")]
        await other.send_all(b"go on")
        assert await read_to_the_end(other) == b"websocket"
        await other.aclose()


async def test_what_a_client_does_to_its_own_connection_is_not_worth_a_line() -> None:
    async with opened() as room:
        for error in (trio.BrokenResourceError("gone"), trio.ClosedResourceError("gone")):
            room.crash = error
            with structlog.testing.capture_logs() as logs:
                assert await room.say(request("/")) == b""
            assert logs == []


# --- accepting ---


class Listener:
    """A listening socket whose `accept` fails as often as it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.failures: list[int] = []
        self.fileno = sock.fileno
        self.close = sock.close
        self.getsockname = sock.getsockname

    def accept(self) -> Any:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, "Too many open files")
        return self.socket.accept()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
async def test_out_of_file_descriptors_it_waits_says_so_once_and_goes_on(
    loopback_clock: trio.testing.MockClock, number: int
) -> None:
    wrapped: list[Listener] = []

    def wrap(sock: socket.socket) -> Listener:
        wrapped.append(Listener(sock))
        wrapped[0].failures = [number] * 20
        return wrapped[0]

    with structlog.testing.capture_logs() as logs:
        async with opened(wrap=wrap) as room:
            begin = trio.current_time()
            assert await room.say(request()) == b"websocket"
            assert trio.current_time() - begin >= 19 * EXHAUSTED_PAUSE_S
            wrapped[0].failures = [number] * 2
            assert await room.say(request()) == b"websocket"
            assert await room.say(request()) == b"websocket"
    assert [log["event"] for log in logs] == ["accept_paused"] * 2
    assert logs[0]["reason"] == "Too many open files"


async def test_a_client_that_gave_up_before_it_was_accepted_stops_nothing(
    loopback_clock: trio.testing.MockClock,
) -> None:
    def wrap(sock: socket.socket) -> Listener:
        listener = Listener(sock)
        listener.failures = [errno.ECONNABORTED, errno.EPROTO, errno.EPERM] * 10
        return listener

    with structlog.testing.capture_logs() as logs:
        async with opened(wrap=wrap) as room:
            begin = trio.current_time()
            assert await room.say(request()) == b"websocket"
            assert trio.current_time() - begin < EXHAUSTED_PAUSE_S
    assert logs == []


async def test_a_client_gets_a_small_buffer_and_no_delay() -> None:
    """What waits in the kernel is old and cannot be conflated."""
    async with opened() as room:
        streams: list[ClientStream] = []

        async def keep(stream: ClientStream) -> None:
            streams.append(stream)
            sock = stream.socket
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER_BYTES
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
            assert sock.getblocking() is False

        room.http = keep  # type: ignore[method-assign]
        await room.say(request("/"))
        assert len(streams) == 1


async def test_after_stop_accepting_those_who_are_there_stay_and_nobody_else_comes() -> None:
    with trio.fail_after(60):
        listeners = bind("127.0.0.1", 0)
        port: Port
        room: Room

        async def websocket(stream: ClientStream, request: Request) -> None:
            await room.websocket(stream, request)

        async def unused(stream: ClientStream, _request: Request | None) -> None:
            raise AssertionError(stream)

        port = Port(
            listeners,
            tls=None,
            settings=SETTINGS,
            door=Door(SETTINGS),
            websocket=websocket,
            events=websocket,
            http=unused,
        )
        room = Room(port)
        room.hold = True
        async with trio.open_nursery() as nursery:
            await nursery.start(port.serve)
            number = port.port
            stream = await room.connect()
            await stream.send_all(request())
            await trio.testing.wait_all_tasks_blocked(0.01)
            port.stop_accepting()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", number)
            assert all(listener.fileno() == -1 for listener in listeners)
            await stream.send_all(b"go on")
            assert await read_to_the_end(stream) == b"websocket"
            await stream.aclose()
            # and with the last client `serve` returns


async def test_a_port_that_is_cancelled_cuts_its_clients_off() -> None:
    async with opened() as room:
        room.hold = True
        stream = await room.connect()
        await stream.send_all(request())
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert await read_to_the_end(stream) == b""
    await stream.aclose()
