"""A scriptable WebSocket server on a real loopback socket, plain or TLS; subclasses decide what it says.

async with AllTickStandIn().running() as standin:
    ...                              # connect to standin.url
    await standin.push("4389.05", "4389.71")
    standin.mode = "stalled"         # or "garbling", "frozen", "ok"
    await standin.kill()
    await standin.revive()           # on the same port
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import ProtocolError

from aurexd.clock import Clock, SystemClock
from aurexd.errors import FeedError
from aurexd.sources.base import Feed, Provider

Mode = Literal["ok", "stalled", "garbling", "frozen"]
"""ok; stalled: reads, says nothing; garbling: says garbage; frozen: accepts TCP and does nothing more."""

GONE = (ConnectionClosed, ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)
SEND_TIMEOUT_S = 5.0  # a client that reads nothing must not hold up the others
HANDSHAKE_TIMEOUT_S = 30.0

GARBAGE: tuple[Callable[[str, random.Random], str | bytes], ...] = (
    lambda _said, _rng: "<html><body><h1>502 Bad Gateway</h1></body></html>",
    lambda _said, _rng: "",
    lambda _said, _rng: "null",
    lambda _said, _rng: "{}",
    lambda said, _rng: said[: len(said) // 2],
    lambda said, _rng: json.dumps({key: [[]] for key in json.loads(said)}),
    lambda _said, rng: rng.randbytes(64),
    lambda _said, _rng: "[" * 5000,
)
"""What `garbling` makes of a message; none of it is one of the provider's."""


def huge(_said: str, _rng: random.Random) -> str:
    """More garbage: so long that a careful client closes the connection."""
    return json.dumps("x" * 200_000)


@dataclass(frozen=True)
class Refusal:
    """An HTTP answer to the upgrade."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(eq=False)
class Client:
    """One connected client."""

    number: int
    """Counted from 1."""
    websocket: WebSocketConnection
    stream: trio.SocketStream
    query: dict[str, str]
    nursery: trio.Nursery
    """For what runs as long as the connection does."""
    patience: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Its deadline is when the provider closes the connection by itself."""


@dataclass(frozen=True)
class Request:
    """What a client said, and when by the event loop's clock."""

    time: float
    client: int
    message: Any


class WebSocketStandIn:
    """The server. Everything public may be read and changed at any time."""

    path = "/"

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, clock: Clock | None = None, seed: int = 1
    ) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.rng = random.Random(seed)
        self.garbage: Sequence[Callable[[str, random.Random], str | bytes]] = GARBAGE
        self.refusal: Refusal | None = None
        """Set: how upgrades are refused."""
        self.clients: list[Client] = []
        """Who is connected now."""
        self.opened: list[float] = []
        """When each upgrade was accepted, by the event loop's clock."""
        self.headers: list[dict[str, str]] = []
        """Of each upgrade request, by lower-case name."""
        self.requests: list[Request] = []
        self.port = 0
        self._tls = tls
        self._mode: Mode = "ok"
        self._unfrozen = trio.Event()
        self._unfrozen.set()
        self._nursery: trio.Nursery | None = None
        self._listening = trio.CancelScope()
        self._dead = trio.Event()
        self._dead.set()
        self._placeholder: socket.socket | None = None

    # --- control ---

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}{self.path}"

    @property
    def connections(self) -> int:
        """How many upgrades were accepted so far."""
        return len(self.opened)

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode != "frozen":
            self._unfrozen.set()
        elif self._unfrozen.is_set():
            self._unfrozen = trio.Event()

    async def serve(self, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on loopback until cancelled, which cuts every connection."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self.revive()
                task_status.started(self)
                await trio.sleep_forever()
        finally:
            if self._placeholder is not None:
                self._placeholder.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve as long as the context is open."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.serve)
            yield self
            nursery.cancel_scope.cancel()

    async def kill(self) -> None:
        """As a killed process: connections are cut without a word, and the port refuses new ones."""
        if self._dead.is_set():
            return
        self._listening.cancel()
        await self._dead.wait()
        # Bound, but not listening: it refuses, and the kernel gives the port to nobody else.
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind(("127.0.0.1", self.port))

    async def revive(self) -> None:
        """Listen (again) on the same port, in mode ok."""
        if not self._dead.is_set():
            return
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        self.mode = "ok"
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        assert self._nursery is not None
        await self._nursery.start(self._listen, listeners)

    async def wait_unfrozen(self) -> None:
        """Return once the mode is not frozen."""
        await self._unfrozen.wait()

    async def disconnect(self, *, code: int | None = 1000, reason: str | None = None) -> None:
        """End every connection: with a close frame, or abruptly (a TCP reset) where `code` is None."""
        for client in list(self.clients):
            if code is None:
                with contextlib.suppress(OSError):  # it hung up just now
                    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await trio.aclose_forcefully(client.stream)
            else:
                with trio.move_on_after(SEND_TIMEOUT_S):
                    await client.websocket.aclose(code, reason)

    async def say(self, message: str | bytes, clients: Sequence[Client] | None = None) -> None:
        """Send this very message, whatever the mode, to all or some clients."""
        for client in list(self.clients) if clients is None else clients:
            with contextlib.suppress(*GONE), trio.move_on_after(SEND_TIMEOUT_S):
                await client.websocket.send_message(message)

    async def send(self, message: dict[str, Any], clients: Sequence[Client]) -> None:
        """Send a JSON message as the mode has it."""
        text = msgspec.json.encode(message).decode()
        if self._mode == "garbling":
            for client in clients:
                await self.say(self.rng.choice(self.garbage)(text, self.rng), [client])
        elif self._mode == "ok":
            await self.say(text, clients)

    # --- what a subclass says ---

    def refuse(self, query: dict[str, str]) -> Refusal | None:
        """How this upgrade is refused; None to accept it."""
        del query
        return self.refusal

    async def greet(self, client: Client) -> None:
        """A client has connected."""

    def heard(self, client: Client, message: Any) -> None:
        """A client said this; None stands for what is not JSON. Called in every mode but frozen."""

    async def answer(self, client: Client, message: Any) -> None:
        """The same, where the server answers."""

    def forget(self, client: Client) -> None:
        """A client has gone."""

    # --- the server ---

    async def _listen(
        self, listeners: list[trio.SocketListener], *, task_status: trio.TaskStatus[None]
    ) -> None:
        self._dead = trio.Event()
        with trio.CancelScope() as self._listening:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(trio.serve_listeners, self._serve, listeners))
                task_status.started()
        self._dead.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        wire: trio.abc.Stream = _Gate(stream, self)
        if self._tls is not None:
            wire = trio.SSLStream(wire, self._tls, server_side=True, https_compatible=True)
        try:
            async with trio.open_nursery() as nursery:
                client = None
                with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
                    client = await self._accept(nursery, wire, stream)
                if client is not None:
                    await self._talk(client)
                nursery.cancel_scope.cancel()
        except* GONE:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _accept(
        self, nursery: trio.Nursery, wire: trio.abc.Stream, stream: trio.SocketStream
    ) -> Client | None:
        request = await wrap_server_stream(nursery, wire)
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        refusal = self.refuse(query)
        if refusal is not None:
            await request.reject(refusal.status, extra_headers=list(refusal.headers), body=refusal.body)
            return None
        websocket = await request.accept()
        self.opened.append(trio.current_time())
        self.headers.append({name.decode(): value.decode() for name, value in request.headers})
        return Client(self.connections, websocket, stream, query, nursery)

    async def _talk(self, client: Client) -> None:
        self.clients.append(client)
        try:
            await self.greet(client)
            with client.patience:
                while True:
                    await self._listen_to(client)
            await client.websocket.aclose()
        finally:
            self.clients.remove(client)
            self.forget(client)

    async def _listen_to(self, client: Client) -> None:
        raw = await client.websocket.get_message()
        try:
            message = json.loads(raw)
        except ValueError:
            message = None
        self.requests.append(Request(trio.current_time(), client.number, message))
        self.heard(client, message)
        if self._mode in {"ok", "garbling"}:
            await self.answer(client, message)


class ProviderRun:
    """A provider at work beside a test."""

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._error: FeedError | None = None

    async def error(self) -> FeedError:
        """How it ended."""
        await self._ended.wait()
        assert self._error is not None, "the provider ended without an error"
        return self._error

    async def serve(self, provider: Provider[Any], feed: Feed) -> None:
        try:
            await provider.run(feed)
        except FeedError as error:
            self._error = error
        self._ended.set()


@contextlib.asynccontextmanager
async def run_provider(provider: Provider[Any], feed: Feed) -> AsyncIterator[ProviderRun]:
    """Run the provider until it fails or the context ends, which must be within an hour."""
    run = ProviderRun()
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.serve, provider, feed)
            yield run
            nursery.cancel_scope.cancel()


class _Gate(trio.abc.Stream):
    """The stream under a client's WebSocket; a frozen server reads nothing from it."""

    def __init__(self, stream: trio.SocketStream, standin: WebSocketStandIn) -> None:
        self._stream = stream
        self._standin = standin

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._standin.wait_unfrozen()
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
