"""A scriptable HTTP/1.1 server on a real loopback socket, plain or TLS; what it says is up to others."""

from __future__ import annotations

import contextlib
import enum
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qs, urlsplit

import h11
import trio


@dataclass(frozen=True)
class Request:
    """One request, as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""

    @property
    def host(self) -> str:
        return self.headers["host"].partition(":")[0]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True)
class Answer:
    """One answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Fault(enum.Enum):
    """What a server can do instead of answering."""

    STALL = "accept the request and never answer"
    DROP = "close the connection without an answer"
    HALF = "send half an answer, then close the connection"
    DRIP = "send the answer byte by byte, for ever"
    NOISE = "answer with something that is not HTTP"


Respond = Callable[[Request], Answer | Fault]


class HttpStandIn:
    """The server; `respond` may be changed at any time, `requests` and `connections` say what happened."""

    def __init__(self, respond: Respond, *, tls: ssl.SSLContext | None) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._tls = tls

    @property
    def url(self) -> str:
        """With localhost for TLS, because certificates are for names."""
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Answer one connection's requests until either side ends it."""
        self.connections += 1
        wire: trio.abc.Stream = stream
        if self._tls is not None:
            wire = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            async with wire:
                await self._serve(wire)

    async def _serve(self, wire: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await wire.receive_some()))
            elif isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
                request = Request(event.method.decode(), event.target.decode(), headers)
                self.requests.append(request)
            elif isinstance(event, h11.EndOfMessage):
                if not await self._answer(wire, connection, self.respond(request)):
                    return
                if connection.our_state is h11.MUST_CLOSE:
                    return
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return

    async def _answer(
        self, wire: trio.abc.Stream, connection: h11.Connection, answer: Answer | Fault
    ) -> bool:
        """Whether the connection lives on."""
        match answer:
            case Answer():
                length = {"Content-Length": str(len(answer.body))}
                await self._send(wire, connection, answer, length)
                await wire.send_all(connection.send(h11.EndOfMessage()) or b"")
                return True
            case Fault.STALL:
                await trio.sleep_forever()
            case Fault.DROP:
                pass
            case Fault.HALF:
                await self._send(wire, connection, Answer(b"[{"), {"Content-Length": "1000"})
            case Fault.DRIP:
                await self._send(wire, connection, Answer(b"["), {"Content-Length": "1000000"})
                while True:
                    await wire.send_all(b" ")
                    await trio.sleep(0.01)
            case Fault.NOISE:
                await wire.send_all(b"220 mail.example.org ESMTP\r\n")
        return False

    async def _send(
        self, wire: trio.abc.Stream, connection: h11.Connection, answer: Answer, framing: dict[str, str]
    ) -> None:
        headers = [(name.encode(), value.encode()) for name, value in {**answer.headers, **framing}.items()]
        head = connection.send(h11.Response(status_code=answer.status, headers=headers))
        await wire.send_all((head or b"") + (connection.send(h11.Data(data=answer.body)) or b""))


@contextlib.asynccontextmanager
async def serve_http(
    respond: Respond, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[HttpStandIn]:
    """Serve on loopback until the context ends, which cuts every connection."""
    standin = HttpStandIn(respond, tls=tls)
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    standin.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, standin.serve_connection, listeners))
        yield standin
        nursery.cancel_scope.cancel()
