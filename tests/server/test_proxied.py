"""Behind proxies, over real sockets: whose address reaches sessions, HTTP and the log, and who can lie about it."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from ipaddress import ip_address
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from trio.testing import MockClock

from aurexd import identity
from aurexd.actors.session import Session
from aurexd.config.model import Limits
from tests.server.conftest import TlsPair
from tests.server.loopback import JSON, Client, Served, read_to_the_end, serving

CLIENT = "198.51.100.7"
PROXY = Limits(trusted_proxies=("127.0.0.1",), max_connections_per_ip=1)
FORWARDED = Limits(trusted_proxies=("127.0.0.1",), proxy_header="forwarded", max_connections_per_ip=1)
STRICT = Limits(max_connections_per_ip=1)


def version_1(address: str = CLIENT) -> bytes:
    family = ip_address(address).version
    destination = "192.0.2.1" if family == 4 else "::1"
    return f"PROXY TCP{family} {address} {destination} 40000 8000\r\n".encode()


def version_2(address: str = CLIENT, command: int = 0x21, extra: bytes = b"") -> bytes:
    source = ip_address(address)
    payload = source.packed * 2 + struct.pack("!HH", 40000, 8000) + extra
    family = 0x11 if source.version == 4 else 0x21
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, family, len(payload)) + payload


LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"


def add_route(served: Served) -> None:
    """A route that tells a client its address."""

    async def address(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.scope["client"][0])

    served.app.router.routes.append(Route("/address", address))


async def address_of(served: Served, said: bytes = b"", /, **headers: str) -> str:
    """The address under which HTTP knows a client that says this first; empty: it was hung up on."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join(["GET /address HTTP/1.1", "Host: localhost", *lines, "", ""])
    return await say(served, said + head.encode("latin-1"))


async def say(served: Served, data: bytes) -> str:
    """What is answered to these bytes, without its head."""
    stream, _ = await served.open_stream()
    await stream.send_all(data)
    return (await read_to_the_end(stream)).partition(b"\r\n\r\n")[2].decode()


async def session_of(served: Served, **headers: str) -> Client:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    client = await served.connect(JSON, headers=pairs)
    await client.message()
    return client


# --- headers ---


async def test_a_trusted_proxy_gives_the_address_to_http_and_to_sessions() -> None:
    async with serving(limits=PROXY) as served:
        add_route(served)
        assert await address_of(served, X_Forwarded_For=f"10.9.9.9, {CLIENT}") == CLIENT
        first = await session_of(served, X_Forwarded_For=CLIENT)
        with structlog.testing.capture_logs() as logs:
            second = await served.connect(JSON, headers=[("X-Forwarded-For", CLIENT)])
            assert (await second.closing())[0] == 4004
        assert [(log["event"], log["client"]) for log in logs] == [("session_refused", CLIENT)]
        other = await session_of(served, X_Forwarded_For="198.51.100.8")
        household = await session_of(served, X_Forwarded_For="2001:db8::7")
        neighbour = await served.connect(JSON, headers=[("X-Forwarded-For", "2001:db8::ffff")])
        assert (await neighbour.closing())[0] == 4004
        for client in (first, other, household):
            await client.close()


async def test_the_header_of_rfc_7239_is_read_where_it_is_the_one() -> None:
    async with serving(limits=FORWARDED) as served:
        add_route(served)
        chain = f'for="{CLIENT}:4711";proto=https, for=127.0.0.1'
        assert await address_of(served, Forwarded=chain, X_Forwarded_For="203.0.113.9") == CLIENT
        assert await address_of(served, X_Forwarded_For="203.0.113.9") == "127.0.0.1"
        assert await address_of(served, Forwarded="for=_hidden") == "127.0.0.1"


async def test_what_the_proxies_do_not_write_is_not_read() -> None:
    """nginx and HAProxy pass a `Forwarded` of the client's on as it is."""
    async with serving(limits=PROXY) as served:
        add_route(served)
        assert await address_of(served, Forwarded="for=203.0.113.9", X_Forwarded_For=CLIENT) == CLIENT


async def test_nobody_else_is_believed() -> None:
    async with serving(limits=STRICT) as served:
        add_route(served)
        lies = {"X_Forwarded_For": CLIENT, "Forwarded": f"for={CLIENT}", "X_Real_IP": CLIENT}
        assert await address_of(served, **lies) == "127.0.0.1"
        first = await session_of(served, X_Forwarded_For=CLIENT)
        second = await served.connect(JSON, headers=[("X-Forwarded-For", "198.51.100.8")])
        assert (await second.closing())[0] == 4004
        await first.close()


async def test_who_is_trusted_may_change_while_it_runs() -> None:
    async with serving() as served:
        add_route(served)
        assert await address_of(served, X_Forwarded_For=CLIENT) == "127.0.0.1"
        served.settings.limits = PROXY
        assert await address_of(served, X_Forwarded_For=CLIENT) == CLIENT


async def test_the_rate_of_requests_is_that_of_the_client_and_not_of_the_proxy() -> None:
    limits = Limits(trusted_proxies=("127.0.0.1",), max_requests_per_second=0.2, max_attempts_per_second=0.2)
    async with serving(limits=limits) as served:
        add_route(served)
        for number in range(1, 30):
            address = f"198.51.100.{number}"
            assert await address_of(served, X_Forwarded_For=address) == address
        await address_of(served, X_Forwarded_For=CLIENT)
        answer = json.loads(await address_of(served, X_Forwarded_For=CLIENT))
        assert answer["error"]["status"] == 429


@pytest.mark.parametrize(
    ("limits", "headers", "is_local"),
    [
        (STRICT, {}, True),
        (STRICT, {"X_Forwarded_For": CLIENT}, False),
        (STRICT, {"Forwarded": "for=_hidden"}, False),
        (STRICT, {"Via": "1.1 proxy"}, False),
        (PROXY, {}, False),
        (PROXY, {"X_Forwarded_For": "unknown"}, False),
        (PROXY, {"X_Forwarded_For": "127.0.0.1"}, False),
    ],
)
async def test_who_comes_through_a_proxy_on_this_machine_is_not_its_local_user(
    limits: Limits, headers: dict[str, str], *, is_local: bool
) -> None:
    async with serving(limits=limits) as served:
        client = await session_of(served, **headers)
        (session,) = served.sessions()
        assert isinstance(session, Session)
        assert (session.owner == identity.LOCAL.user) is is_local
        await client.close()


# --- the PROXY protocol ---


@pytest.mark.parametrize("header", [version_1, version_2])
@pytest.mark.parametrize("address", [CLIENT, "2001:db8::7"])
async def test_a_proxy_header_gives_the_address(header: Any, address: str) -> None:
    async with serving(limits=PROXY, proxy_protocol=True) as served:
        add_route(served)
        assert await address_of(served, header(address)) == address


@pytest.mark.parametrize("header", [version_1(), version_2(), version_2(extra=b"\x04\0\1x" * 300)])
async def test_it_comes_before_tls(tls_pair: TlsPair, header: bytes) -> None:
    async with serving(
        limits=PROXY, proxy_protocol=True, server_tls=tls_pair.server, client_tls=tls_pair.client
    ) as served:
        add_route(served)
        for piece in (len(header), 7):
            stream = await trio.open_tcp_stream("127.0.0.1", served.port.port)
            for start in range(0, len(header), piece):
                await stream.send_all(header[start : start + piece])
                await trio.testing.wait_all_tasks_blocked(0.001)
            secure = trio.SSLStream(stream, tls_pair.client, server_hostname="127.0.0.1")
            await secure.send_all(b"GET /address HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await read_to_the_end(secure)).endswith(CLIENT.encode())
            await secure.aclose()


async def test_header_and_tls_may_come_in_one_piece(tls_pair: TlsPair) -> None:
    async with serving(limits=PROXY, proxy_protocol=True, server_tls=tls_pair.server) as served:
        add_route(served)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = tls_pair.client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        async with await trio.open_tcp_stream("127.0.0.1", served.port.port) as stream:
            await stream.send_all(version_2() + outgoing.read())
            while client.version() is None:
                incoming.write(await stream.receive_some())
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    continue


@pytest.mark.parametrize("header", [LOCAL, version_2(command=0x20), b"PROXY UNKNOWN\r\n"])
async def test_a_proxy_that_speaks_for_itself_is_itself_and_its_headers_say_nothing(header: bytes) -> None:
    async with serving(limits=PROXY, proxy_protocol=True) as served:
        add_route(served)
        assert await address_of(served, header, X_Forwarded_For="203.0.113.9") == "127.0.0.1"


async def test_the_headers_of_a_client_behind_it_are_the_clients_own() -> None:
    """HAProxy in `mode tcp` reads no HTTP: what stands there the client wrote."""
    async with serving(limits=PROXY, proxy_protocol=True) as served:
        add_route(served)
        assert await address_of(served, version_2(), X_Forwarded_For="203.0.113.9") == CLIENT


async def test_a_chain_of_proxies_may_end_in_it() -> None:
    limits = Limits(trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    async with serving(limits=limits, proxy_protocol=True) as served:
        add_route(served)
        assert await address_of(served, version_1("10.0.0.2"), X_Forwarded_For=CLIENT) == CLIENT


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "no PROXY header"),  # the request comes at once
        (b"PROXY TCP4 nonsense\r\n", "neither TCP4"),
        (b"PROXY " + b"x" * 200, "without an end"),
        (version_2()[:12] + b"\x21\x11\xff\xff", "of 65551 bytes"),
        (version_2(command=0x2F), "command 0x2f"),
    ],
)
async def test_a_trusted_proxy_that_says_something_else_is_hung_up_on(said: bytes, why: str) -> None:
    async with serving(limits=PROXY, proxy_protocol=True) as served:
        add_route(served)
        with structlog.testing.capture_logs() as logs:
            assert await address_of(served, said) == ""
        (line,) = logs
        assert (line["event"], line["client"], line["proxy_header"]) == (
            "connections_hung_up",
            "127.0.0.1",
            1,
        )
        assert why in line["detail"]
        assert await address_of(served, version_1()) == CLIENT


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4", version_2()[:20]])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(
    loopback_clock: MockClock, said: bytes
) -> None:
    async with serving(limits=PROXY, proxy_protocol=True) as served:
        with structlog.testing.capture_logs() as logs:
            stream, _ = await served.open_stream()
            await stream.send_all(said)
            begin = trio.current_time()
            assert await read_to_the_end(stream) == b""
            assert trio.current_time() - begin == pytest.approx(PROXY.handshake_timeout_s, abs=1)
        assert [log["detail"] for log in logs] == ["none came in time"]


async def test_a_look_by_the_proxy_whether_the_port_is_open_is_not_worth_a_line() -> None:
    async with serving(limits=PROXY, proxy_protocol=True) as served:
        with structlog.testing.capture_logs() as logs:
            stream = await trio.open_tcp_stream("127.0.0.1", served.port.port)
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.02)
            stream = await trio.open_tcp_stream("127.0.0.1", served.port.port)
            await stream.send_all(b"PROXY ")
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert [log["detail"] for log in logs] == ["the connection ended within the header"]


@pytest.mark.parametrize("proxy_protocol", [False, True])
async def test_a_header_of_who_is_not_trusted_is_no_header(*, proxy_protocol: bool) -> None:
    """It is garbage before a request, and is answered as that."""
    limits = Limits(trusted_proxies=("192.0.2.1",))
    async with serving(limits=limits, proxy_protocol=proxy_protocol) as served:
        add_route(served)
        assert await address_of(served) == "127.0.0.1"
        for header in (version_1(), version_2()):
            (answer,) = await served.say(header + b"GET /address HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.status == 400


async def test_where_it_is_switched_off_a_trusted_proxy_sends_none_either() -> None:
    async with serving(limits=PROXY) as served:
        (answer,) = await served.say(version_1() + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.status == 400


async def test_who_is_over_its_rate_behind_a_proxy_is_hung_up_on_before_tls(tls_pair: TlsPair) -> None:
    limits = Limits(trusted_proxies=("127.0.0.1",), max_handshakes_per_ip=1)
    async with serving(limits=limits, proxy_protocol=True, server_tls=tls_pair.server) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.port.port) as first:
            await first.send_all(version_2())
            await trio.testing.wait_all_tasks_blocked(0.02)
            async with await trio.open_tcp_stream("127.0.0.1", served.port.port) as second:
                await second.send_all(version_2())
                assert await read_to_the_end(second) == b""
            async with await trio.open_tcp_stream("127.0.0.1", served.port.port) as other:
                await other.send_all(version_2("198.51.100.8"))
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert served.door.visits == 2


# --- hanging up ---


async def test_who_is_hung_up_on_is_reset_and_leaves_nothing() -> None:
    async with serving(limits=Limits(max_handshakes_per_ip=1)) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.port.port):
            await trio.testing.wait_all_tasks_blocked(0.02)
            with socket.socket() as second:
                second.connect(("127.0.0.1", served.port.port))
                await trio.testing.wait_all_tasks_blocked(0.02)
                with pytest.raises(ConnectionResetError):
                    second.recv(1)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (await served.fetch("/healthz")).status == 200


async def test_the_oldest_that_has_not_asked_yet_gives_way(loopback_clock: MockClock) -> None:
    async with serving(limits=Limits(max_handshakes=2, handshake_timeout_s=300)) as served:
        oldest = await trio.open_tcp_stream("127.0.0.1", served.port.port)
        await oldest.send_all(b"GET / HTTP/1.1\r\n")
        await trio.sleep(1)
        async with oldest, await trio.open_tcp_stream("127.0.0.1", served.port.port):
            await trio.sleep(5)
            begin = trio.current_time()
            assert (await served.fetch("/healthz")).status == 200
            assert await read_to_the_end(oldest) == b""
            assert trio.current_time() - begin < 5
