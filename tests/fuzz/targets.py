"""What is fuzzed: each target takes any bytes as a client could send them, and raises only when that found a bug."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, get_args

import structlog.testing
import trio
import trio.testing

from aurexd.actors.hub import Hub
from aurexd.actors.messages import KeepHandover, TakeHandover
from aurexd.actors.trio_actor import TrioActor, start_actor
from aurexd.clock import LoopClock
from aurexd.config.model import Config, Limits, Symbol
from aurexd.control.interface import CONTROL
from aurexd.control.service import Service
from aurexd.control.wire import Messages, error_reply
from aurexd.errors import IdentityError, ProtocolError, VarlinkError
from aurexd.forwarded import HeaderName, Proxies, client_address, plain
from aurexd.identity import ANYBODY, LOCAL
from aurexd.market import SECOND_US, EpochUs, Instrument, format_time
from aurexd.protocol.codec import JSON, MSGPACK
from aurexd.protocol.connection import SessionProtocol, State
from aurexd.proxy_protocol import MAX_BYTES, read_proxy_header
from aurexd.server.admission import Admission
from aurexd.server.credentials import Credentials
from aurexd.server.door import Door
from aurexd.server.events import EventStreamServer
from aurexd.server.gate import Gate
from aurexd.server.names import Hosts
from aurexd.server.origin import Origin
from aurexd.server.request import read_request
from aurexd.server.stream import ClientStream
from aurexd.server.streaming import Streaming
from aurexd.server.websocket import WebSocketServer
from aurexd.settings import Settings
from aurexd.tokens import Keyring
from tests.issuer import AUDIENCE, KEY, ask_for_tokens

NOW = EpochUs(1_761_566_400 * SECOND_US)
SERVED = {
    "XAUUSD": Symbol(instrument=Instrument.SPOT, default=True),
    "GC": Symbol(instrument=Instrument.FUTURE),
}
SYMBOLS = SERVED.keys()
HEAD = (
    b"GET /api/v1/ws/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)
RING = Keyring([KEY], audience=AUDIENCE, leeway_s=0)
OFFERS = (
    b"\r\n",
    b"Sec-WebSocket-Protocol: aurex.v1.json\r\n\r\n",
    b"Sec-WebSocket-Protocol: aurex.v1.msgpack\r\n\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    b"Sec-WebSocket-Protocol: aurex.v1.json\r\nX: Bearer\r\n\r\n",
)


class _Forgetful(TrioActor):
    """A persister that keeps nothing."""

    async def on_receive(self, message: object) -> object:
        assert isinstance(message, (KeepHandover, TakeHandover))
        return None


async def _converse(data: bytes) -> None:
    """One connection from its first byte to its end, on a real pair of sockets."""
    ours, theirs = socket.socketpair()
    clock = LoopClock(NOW)
    proxies = ("127.0.0.1",) if b"orwarded" in data else ()
    settings = Settings(
        Config(limits=Limits(max_message_bytes=4096, trusted_proxies=proxies), symbols=SERVED)
    )
    if b"aurex.token." in data or b"Bearer" in data:
        ask_for_tokens(settings)
    with contextlib.closing(theirs):
        ours.setblocking(False)
        theirs.setblocking(False)
        async with trio.open_nursery() as nursery:
            persister = await start_actor(nursery, _Forgetful())
            hub = await start_actor(nursery, Hub(persister=persister, settings=settings, clock=clock))
            credentials = Credentials(settings, clock)
            admission = Admission(settings, credentials, Door(settings), Hosts(settings))
            streaming = Streaming(
                hub=hub,
                alerts=hub,
                credentials=credentials,
                settings=settings,
                clock=clock,
            )
            nursery.start_soon(_send_and_hang_up, theirs, data)
            stream = ClientStream(ours, "127.0.0.1", None, Gate())
            try:
                request = await read_request(stream, Origin("127.0.0.1", settings))
                if request is not None and request.upgrade:
                    await WebSocketServer(streaming, admission).serve(stream, request)
                elif request is not None:
                    await EventStreamServer(streaming, admission).serve(stream, request)
            except trio.BrokenResourceError:
                pass
            finally:
                stream.abort()
            nursery.cancel_scope.cancel()


async def _send_and_hang_up(sock: socket.socket, data: bytes) -> None:
    """All of it, reading and forgetting what comes back."""
    with contextlib.suppress(OSError):
        while data:
            await trio.lowlevel.wait_writable(sock)
            data = data[sock.send(data[:4096]) :]
            with contextlib.suppress(BlockingIOError):
                sock.recv(65536)
        sock.shutdown(socket.SHUT_WR)


def _judge(data: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        trio.run(_converse, data, clock=trio.testing.MockClock(autojump_threshold=0))
    bugs = [entry for entry in logs if entry["log_level"] in {"error", "critical"}]
    assert not bugs, bugs


def connection(data: bytes) -> None:
    """A connection's bytes from the very first: request heads."""
    _judge(data)


def frames(data: bytes) -> None:
    """What follows a good handshake; the first byte chooses what the client offers in it."""
    offer = OFFERS[data[0] % len(OFFERS)] if data else OFFERS[0]
    _judge(HEAD + offer + data[1:])


def messages(data: bytes) -> None:
    """A whole message's payload, in both encodings, to sessions that may have alerts, may not, or show tokens first."""
    for encoding in (JSON, MSGPACK):
        payload: str | bytes = data.decode(errors="replace") if encoding.text else data
        with contextlib.suppress(ProtocolError):
            encoding.decode(payload)
        encoding.request_id(payload)
        for identity in (LOCAL, ANYBODY, None):
            session = SessionProtocol(encoding, identity=identity, verify=RING.verify)
            for effect in session.receive(payload, NOW, SYMBOLS):
                if (message := getattr(effect, "message", None)) is not None:
                    assert len(encoding.encode(message)) < 2000, "an answer must not repeat everything"
            assert session.state in {State.UNAUTHENTICATED, State.OPEN, State.CLOSING}
            assert session.identity is identity


def tokens(data: bytes) -> None:
    """A token as somebody makes it up, and one with any claims at all that our own issuer has signed."""
    with contextlib.suppress(IdentityError):
        raise AssertionError(RING.verify(data.decode("latin-1"), NOW))
    with contextlib.suppress(IdentityError):
        identity = RING.verify(KEY.sign(data), NOW)
        assert identity.user.isprintable()
        assert identity.expires is not None
        format_time(identity.expires)


def proxies(data: bytes) -> None:
    """What a trusted proxy says of its client: a PROXY header, and the headers of a request."""
    with contextlib.suppress(ValueError):
        header = read_proxy_header(data)
        assert header is None or header.size <= min(len(data), MAX_BYTES)
    text = data.decode("latin-1")
    trusted = Proxies(["10.0.0.0/8"])
    for name in get_args(HeaderName):
        for peer in ("10.0.0.1", "192.0.2.1"):
            client = client_address(peer, text, name, trusted)
            assert plain(client) == client
            assert peer == "10.0.0.1" or client == peer, "nobody else is believed"


def operators(data: bytes) -> None:
    """What somebody says who can open the control socket, in pieces."""
    service = Service(CONTROL)
    whole, cut = Messages(4096), Messages(4096)
    try:
        expected = whole.feed(data)
        got = [message for at in range(0, len(data), 7) for message in cut.feed(data[at : at + 7])]
    except ValueError:
        return
    assert got == expected
    for message in got:
        with contextlib.suppress(ValueError):
            asked = service.read(message).asked
            if isinstance(asked, VarlinkError):
                assert len(error_reply(asked)) < 2 * len(message) + 200
            else:
                assert asked.method.__class__.__name__.encode() in message


TARGETS: dict[str, Callable[[bytes], Any]] = {
    target.__name__: target for target in (connection, frames, messages, tokens, proxies, operators)
}
