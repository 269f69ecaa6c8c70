"""The port as in the daemon, on a real loopback socket: hub, WebSocket and HTTP; the other actors are fakes.

async with serving() as served:
    client = await served.connect()          # a WebSocket client that does only what it is told
    await served.publish("2706.93")
    assert (await client.message())["type"] == "price_update"
    answer = await served.fetch("/healthz")
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import h11
import msgspec
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection, events
from wsproto.extensions import PerMessageDeflate

from aurexd.actors.hub import Hub
from aurexd.actors.messages import (
    AlertPage,
    CandlePage,
    Decided,
    Decision,
    DrainSessions,
    GetAlerts,
    GetAlertWhy,
    GetCandles,
    GetHistory,
    GetStatuses,
    GetStore,
    GetSymbol,
    GetSymbols,
    GetWhy,
    KeepHandover,
    PriceRow,
    RefusedTick,
    SourcePart,
    SourceStatus,
    StatusChanged,
    StatusPage,
    StoreState,
    StoreStatus,
    SymbolState,
    TakeHandover,
    Why,
)
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import TrioActor, start_actor
from aurexd.clock import LoopClock
from aurexd.config.model import Config, Heartbeat, Limits, Realtime, Symbol
from aurexd.drain import Drain
from aurexd.errors import AlertError
from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality, Tick
from aurexd.protocol import codec
from aurexd.protocol.alerts import AlertListedData
from aurexd.protocol.codes import ErrorCode
from aurexd.protocol.data import MarketState
from aurexd.protocol.deflate import WINDOWS
from aurexd.reloads import Reloads
from aurexd.selection import Standing
from aurexd.server.admission import Admission
from aurexd.server.api import Api
from aurexd.server.cors import Cors
from aurexd.server.credentials import Credentials
from aurexd.server.door import Door
from aurexd.server.events import EventStreamServer
from aurexd.server.http import HttpServer
from aurexd.server.interface import Phase
from aurexd.server.metrics import Metrics
from aurexd.server.names import Hosts
from aurexd.server.port import Port, bind
from aurexd.server.streaming import Streaming
from aurexd.server.websocket import WebSocketServer
from aurexd.settings import Settings
from aurexd.stalls import Stalls
from tests.frames import FrameReader
from tests.server import published

START = EpochUs(1_761_566_400 * SECOND_US)
"""2025-10-27T12:00:00Z."""

SAFETY_S = 200.0
"""No test takes so long, in virtual time or in real."""

SO_ATTACH_FILTER = 26  # asm-generic/socket.h

PATH = "/api/v1/ws/stream"
JSON = "aurex.v1.json"
MSGPACK = "aurex.v1.msgpack"
ENCODINGS = {None: codec.JSON, JSON: codec.JSON, MSGPACK: codec.MSGPACK}


def price_of(close: str = "2706.93", symbol: str = "XAUUSD", time: EpochUs = START) -> Price:
    return Price(
        symbol=symbol,
        close=Decimal(close),
        bid=None,
        ask=None,
        change=None,
        change_pct=None,
        source="alltick",
        instrument=Instrument.SPOT,
        quality=Quality.LIVE,
        source_time=time,
        receive_time=time,
    )


def decided(
    *, price: Price | None = None, status: StatusChanged | None = None, decided: EpochUs | None = None
) -> Decided:
    """What the aggregator says when it has decided one thing."""
    return Decided(decisions=(Decision(price=price, status=status, decided=decided),))


def status_of(
    quality: Quality = Quality.LIVE, symbol: str = "XAUUSD", reason: str = "alltick is fresh"
) -> StatusChanged:
    return StatusChanged(
        symbol=symbol,
        quality=quality,
        market=MarketState.OPEN,
        source="alltick",
        instrument=Instrument.SPOT,
        reason=reason,
        time=START,
    )


def why_of(state: SymbolState) -> Why:
    """A price that alltick makes, and a tick of gold-api's that was not believed."""
    tick = Tick(
        symbol=state.symbol,
        source="alltick",
        instrument=Instrument.SPOT,
        source_time=START,
        receive_time=START,
        bid=Decimal("2706.915"),
        ask=Decimal("2706.945"),
    )
    alltick = SourcePart(
        source="alltick",
        priority=1,
        standing=Standing.COUNTS,
        quality=Quality.LIVE,
        tick=tick,
        age_us=1_500_000,
        lag_us=20_000,
        stale_after_s=15.0,
        known_delay_s=0.0,
        stale_in_s=13.5,
        returns_in_s=None,
        ahead_us=0,
        refused={},
    )
    silent = SourcePart(
        source="gold-api",
        priority=2,
        standing=Standing.NO_PRICE,
        quality=None,
        tick=None,
        age_us=None,
        lag_us=None,
        stale_after_s=30.0,
        known_delay_s=0.0,
        stale_in_s=None,
        returns_in_s=None,
        ahead_us=0,
        refused={"wrong_scale": 1},
    )
    bad = msgspec.structs.replace(tick, source="gold-api", bid=None, ask=None, last=Decimal("27.06"))
    return Why(
        state=state,
        policy="priority",
        made_since=START,
        session_start=START,
        session_end=EpochUs(START + 3600 * SECOND_US),
        next_change=EpochUs(START + 3600 * SECOND_US),
        previous_close=None,
        max_jump_pct=0.1,
        return_after_s=10.0,
        parts=(alltick, silent),
        refused=(RefusedTick(tick=bad, reason="wrong_scale"),),
    )


class FakeAggregator(TrioActor):
    """Answers what it was given."""

    def __init__(self, states: list[SymbolState]) -> None:
        super().__init__()
        self.states = states

    async def on_receive(self, message: object) -> object:
        match message:
            case GetSymbols():
                return tuple(self.states)
            case GetSymbol(symbol=name):
                return next((state for state in self.states if state.symbol == name), None)
            case GetWhy(symbol=name):
                return next((why_of(state) for state in self.states if state.symbol == name), None)
        raise AssertionError(message)


class FakeAlerts(TrioActor):
    """Nobody has any rules."""

    async def on_receive(self, _message: object) -> object:
        return AlertListedData(rules=[])


class FakePersister(TrioActor):
    """Answers what it was given; `asked` is the last question for history."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[PriceRow, ...] = ()
        self.error: Exception | None = None
        self.page = CandlePage(candles=(), older=False, closed_before=None)
        self.statuses = StatusPage(statuses=(), next=None)
        self.asked: GetHistory | GetCandles | None = None
        self.asked_statuses: GetStatuses | None = None
        self.store = StoreStatus(state=StoreState.OK, since=START)

    async def on_receive(self, message: object) -> object:
        match message:
            case GetStore():
                return self.store
            case GetHistory():
                self.asked = message
                if self.error is not None:
                    raise self.error
                return self.rows
            case GetCandles():
                self.asked = message
                return self.page
            case GetStatuses():
                self.asked_statuses = message
                if self.error is not None:
                    raise self.error
                return self.statuses
            case KeepHandover() | TakeHandover():
                return None
            case GetAlerts():
                return AlertPage(alerts=(), next=None)
            case GetAlertWhy():
                raise AlertError(ErrorCode.NOT_FOUND, "there is no such alert of yours")
        raise AssertionError(message)


class FakeLifecycle:
    """What the daemon knows of itself."""

    phase: Phase = "serving"
    uptime_s = 12.3
    retry_after_s = 7


class ClosedError(Exception):
    """The server closed the connection: with a close frame, or (None) without one."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        assert len(reason.encode()) <= 123
        self.code = code
        self.reason = reason


class Offer(PerMessageDeflate):
    """An offer of compression, word for word, and the answer to it; from there on wsproto does what was agreed on."""

    def __init__(self, parameters: str) -> None:
        super().__init__()
        self.parameters = parameters
        self.answer: str | None = None

    def offer(self) -> bool | str:
        return self.parameters or True

    def finalize(self, offer: str) -> None:
        self.answer = offer
        super().finalize(offer)


class Client:
    """A WebSocket client that does only what it is told, but for answering pings and closes."""

    def __init__(self, stream: trio.abc.Stream, sock: trio.socket.SocketType, *, answers_pings: bool) -> None:
        self.stream = stream
        self.socket = sock
        self.answers_pings = answers_pings
        self.subprotocol: str | None = None
        self.compression: Offer | None = None
        self.refusal: int | None = None
        """The status of an answer that is no upgrade."""
        self.pings = 0
        self.received = bytearray()
        """Every byte after the handshake."""
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: deque[events.Event] = deque()
        self._payload: list[Any] = []

    async def upgrade(
        self,
        host: str,
        subprotocols: Sequence[str],
        headers: Sequence[tuple[str, str]],
        path: str = PATH,
        offer: str | None = None,
    ) -> None:
        """Shake hands; sets `refusal` when the server refuses."""
        extra = [(name.encode(), value.encode()) for name, value in headers]
        self.compression = None if offer is None else Offer(offer)
        request = events.Request(
            host=host,
            target=path,
            subprotocols=list(subprotocols),
            extra_headers=extra,
            extensions=[self.compression] if self.compression else [],
        )
        await self.stream.send_all(self._ws.send(request))
        match await self._event():
            case events.AcceptConnection(subprotocol=subprotocol):
                self.subprotocol = subprotocol
            case events.RejectConnection(status_code=status):
                self.refusal = status
            case event:
                raise AssertionError(event)

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        """An object in the session's encoding; text and bytes as they are, in a frame of their kind."""
        if isinstance(message, dict):
            message = msgspec.msgpack.encode(message) if self.subprotocol == MSGPACK else json.dumps(message)
        if isinstance(message, str):
            await self.send_event(events.TextMessage(data=message))
        else:
            await self.send_event(events.BytesMessage(data=message))

    async def send_event(self, event: events.Event) -> None:
        """A part of a message, or a control frame."""
        await self.stream.send_all(self._ws.send(event))

    async def send_raw(self, data: bytes) -> None:
        """Bytes, framed or not."""
        await self.stream.send_all(data)

    async def ping(self) -> None:
        """A WebSocket ping."""
        await self.send_event(events.Ping())

    async def close(self, code: int = 1000) -> None:
        """Start the closing handshake and wait for its end."""
        await self.send_event(events.CloseConnection(code))
        await self.closing()
        await self.stream.aclose()

    async def message(self) -> dict[str, Any]:
        """The next message.

        Raises:
            ClosedError: the connection is closed, or closes.

        """
        while True:
            match await self._event():
                case events.TextMessage(data=data, message_finished=finished):
                    self._payload.append(data)
                    if finished:
                        return self._decoded(msgspec.json.decode("".join(self._payload)))
                case events.BytesMessage(data=data, message_finished=finished):
                    self._payload.append(bytes(data))
                    if finished:
                        return self._decoded(msgspec.msgpack.decode(b"".join(self._payload)))
                case events.Ping() as ping:
                    self.pings += 1
                    if self.answers_pings:
                        await self.stream.send_all(self._ws.send(ping.response()))
                case events.Pong():
                    return {"type": "websocket pong"}
                case events.CloseConnection(code=code, reason=reason) as close:
                    with contextlib.suppress(trio.BrokenResourceError, trio.BusyResourceError):
                        if self._ws.state.name == "REMOTE_CLOSING":
                            await self.stream.send_all(self._ws.send(close.response()))
                    raise ClosedError(code, reason or "")

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """The next `count` messages."""
        return [await self.message() for _ in range(count)]

    async def until(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; others are skipped."""
        while True:
            message = await self.message()
            if message["type"] == kind:
                return message

    async def ask(self, kind: str, data: dict[str, Any], request_id: str | int = 1) -> dict[str, Any]:
        """Send a request and return the next message."""
        await self.send({"type": kind, "id": request_id, "data": data})
        return await self.message()

    async def closing(self) -> tuple[int | None, dict[str, Any], list[dict[str, Any]]]:
        """Read to the end: the close code, the reason as an object, and the messages before. Nothing follows."""
        seen = []
        try:
            while True:
                seen.append(await self.message())
        except ClosedError as closed:
            self.received += await read_to_the_end(self.stream)
            encoding = ENCODINGS[self.subprotocol]
            if self.compression is not None and self.compression.answer is not None:
                encoding = codec.compressed(encoding, max(WINDOWS))
            FrameReader(encoding).feed(bytes(self.received))
            return closed.code, json.loads(closed.reason) if closed.reason else {}, seen

    def _decoded(self, message: dict[str, Any]) -> dict[str, Any]:
        self._payload.clear()
        return message

    async def _event(self) -> events.Event:
        while not self._events:
            try:
                data = bytes(await self.stream.receive_some(65536))
            except trio.BrokenResourceError:
                raise ClosedError(None, "") from None
            if not data:
                raise ClosedError(None, "")
            if self._ws.connection is not None:
                self.received += data
            self._ws.receive_data(data)
            self._events.extend(self._ws.events())
        return self._events.popleft()


class Answer(NamedTuple):
    """One HTTP answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return msgspec.json.decode(self.body)


class Served:
    """The parts, and ways to reach them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = LoopClock(START)
        self.states = [
            SymbolState(
                symbol=symbol,
                instrument=Instrument.SPOT,
                decimals=2,
                default=symbol == "XAUUSD",
                quality=Quality.LIVE,
                market=MarketState.OPEN,
                source="alltick",
                price=price_of(symbol=symbol) if symbol == "XAUUSD" else None,
                status_reason="no source has delivered a price yet",
                status_time=START,
            )
            for symbol in ("XAUUSD", "XAGUSD")
        ]
        self.persister = FakePersister()
        self.lifecycle = FakeLifecycle()
        self.reloads = Reloads(START)
        self.sources: list[SourceStatus] = []
        self.admission: Admission
        self.hub: Any = None
        self.hub_actor: Hub
        self.aggregator: Any = None
        self.app: Any = None
        self.port: Port
        self.door: Door
        self.hosts: Hosts
        self.nursery: trio.Nursery
        self.client_tls: ssl.SSLContext | None = None

    async def source_statuses(self) -> list[SourceStatus]:
        return self.sources

    async def publish(self, *closes: str, symbol: str = "XAUUSD") -> None:
        """One price after the other; in one batch where they follow one another at once."""
        for close in closes:
            self.hub.tell(decided(price=price_of(close, symbol, self.clock.now())))
        await trio.lowlevel.checkpoint()

    def drain(self, within_s: float = 15.0) -> Drain:
        """Begin to send everybody away, as the daemon does when it is told to stop."""
        plan = Drain.plan(self.admission.sessions, within_s, trio.current_time())
        self.admission.drain(plan)
        self.lifecycle.phase = "draining"
        self.hub.tell(DrainSessions(plan=plan))
        return plan

    def sessions(self) -> list[Session]:
        """Those that the hub serves."""
        return self.hub_actor._sessions()

    async def open_stream(self, *, rcvbuf: int | None = None) -> tuple[trio.abc.Stream, Any]:
        sock = trio.socket.socket(self.port._listeners[0].family)
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        try:
            await sock.connect(self.port._listeners[0].getsockname())
        except OSError:  # hung up on at once
            sock.close()
            raise
        stream: trio.abc.Stream = trio.SocketStream(sock)
        if self.client_tls is not None:
            stream = trio.SSLStream(stream, self.client_tls, server_hostname="127.0.0.1")
        self.nursery.start_soon(_close_at_the_end, stream)
        return stream, sock

    async def connect(
        self,
        *subprotocols: str,
        headers: Sequence[tuple[str, str]] = (),
        host: str | None = None,
        rcvbuf: int | None = None,
        answers_pings: bool = True,
        path: str = PATH,
        offer: str | None = None,
    ) -> Client:
        """A WebSocket client, after the handshake. `offer`: of compression, its parameters."""
        stream, sock = await self.open_stream(rcvbuf=rcvbuf)
        client = Client(stream, sock, answers_pings=answers_pings)
        await client.upgrade(host or f"127.0.0.1:{self.port.port}", subprotocols, headers, path, offer)
        return client

    async def fetch(self, target: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        """One HTTP request on a connection of its own; the server must close it."""
        head = {"Host": "127.0.0.1", **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        answers = await self.say("\r\n".join([*lines, "", ""]).encode(), method)
        assert len(answers) == 1
        answer = answers[0]
        if method == "GET":
            is_json = answer.headers.get("content-type") == "application/json"
            published.check(target, answer.status, answer.headers, answer.json() if is_json else None)
        return answer

    async def say(self, data: bytes, method: str = "GET") -> list[Answer]:
        """Send bytes and parse what comes back until the server closes: answers to requests of one method."""
        stream, _ = await self.open_stream()
        await stream.send_all(data)
        received = b""
        while more := await stream.receive_some(65536):
            received += more
        await stream.aclose()
        answers = []
        while received:
            parser = h11.Connection(h11.CLIENT)
            parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
            parser.send(h11.EndOfMessage())
            parser.receive_data(received)
            parser.receive_data(b"")
            response = parser.next_event()
            assert isinstance(response, h11.Response)
            body = b""
            while isinstance(event := parser.next_event(), h11.Data):
                body += event.data
            assert isinstance(event, h11.EndOfMessage)
            headers = {name.decode(): value.decode() for name, value in response.headers}
            answers.append(Answer(response.status_code, headers, body))
            received = bytes(parser.trailing_data[0])
        return answers


def play_dead(sock: trio.socket.SocketType) -> None:
    """As if the cable were cut: nothing that arrives is taken note of, not even by the kernel; see socket(7)."""
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET: keep 0 bytes
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop)))


async def read_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the server closes, in whatever way."""
    data = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while more := await stream.receive_some():
            data += more
    return data


async def _close_at_the_end(stream: trio.abc.Stream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        await trio.aclose_forcefully(stream)


@contextlib.asynccontextmanager
async def serving(
    *,
    limits: Limits | None = None,
    heartbeat: Heartbeat | None = None,
    address: str = "127.0.0.1",
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
    known: bool = True,
    compression: bool = True,
    hosts: tuple[str, ...] = ("*",),
    certified: frozenset[str] = frozenset(),
    proxy_protocol: bool = False,
) -> AsyncIterator[Served]:
    """Serve until the context ends, which cuts every connection. `known`: there is a status. `hosts`: the names that
    the server answers to, which few tests are about."""
    settings = Settings(
        Config(
            realtime=Realtime(compression=compression),
            limits=limits or Limits(),
            heartbeat=heartbeat or Heartbeat(),
            symbols={
                "XAUUSD": Symbol(instrument=Instrument.SPOT, default=True),
                "XAGUSD": Symbol(instrument=Instrument.SPOT),
            },
        )
    )
    served = Served(settings)
    served.client_tls = client_tls
    with trio.fail_after(SAFETY_S):
        async with trio.open_nursery() as nursery, trio.open_nursery() as served.nursery:
            persister = await start_actor(nursery, served.persister)
            served.hub_actor = Hub(
                persister=persister,
                settings=settings,
                clock=served.clock,
            )
            served.hub = await start_actor(nursery, served.hub_actor)
            served.aggregator = await start_actor(nursery, FakeAggregator(served.states))
            alerts = await start_actor(nursery, FakeAlerts())
            credentials = Credentials(settings, served.clock)
            served.door = Door(settings)
            served.hosts = Hosts(settings, hosts, certified)
            admission = served.admission = Admission(settings, credentials, served.door, served.hosts)
            streaming = Streaming(
                hub=served.hub,
                alerts=alerts,
                credentials=credentials,
                settings=settings,
                clock=served.clock,
            )
            addresses = {"hub": served.hub, "aggregator": served.aggregator, "persister": persister}
            metrics = Metrics(
                phase=lambda: served.lifecycle.phase,
                addresses=lambda: addresses,
                actors=dict,
                sources=served.source_statuses,
                tally=streaming.tally,
                door=served.door,
                admission=admission,
                certificate_expires=lambda: None,
                reloads=served.reloads,
                stalls=Stalls(),
                clock=served.clock,
            )
            api = Api(
                aggregator=served.aggregator,
                hub=served.hub,
                alerts=alerts,
                persister=persister,
                sources=served.source_statuses,
                lifecycle=served.lifecycle,
                credentials=credentials,
                clock=served.clock,
                metrics=metrics,
            )
            served.app = api.routes
            served.port = Port(
                bind(address, 0),
                tls=server_tls,
                settings=settings,
                door=served.door,
                proxy_protocol=proxy_protocol,
                websocket=WebSocketServer(streaming, admission).serve,
                events=EventStreamServer(streaming, admission).serve,
                http=HttpServer(Cors(api.app, settings), admission, settings).serve,
            )
            await nursery.start(served.port.serve)
            if known:
                served.hub.tell(decided(status=status_of()))
            yield served
            served.nursery.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
