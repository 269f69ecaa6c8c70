"""The shared port: accepts connections, reads each one's first request, and hands it to WebSocket or HTTP.

The seam is docs/adr/0005: the head is read once, bounded in size and time, and put back in front of the
stream, so that neither side needs to know of the other. HTTP closes after each answer; an upgrade therefore
always comes as a connection's first request, also behind proxies that keep connections alive.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog
import trio

from aurexd.errors import ListenError
from aurexd.foreign import clean
from aurexd.server.door import Door, Visit
from aurexd.server.gate import Gate
from aurexd.server.origin import Origin
from aurexd.server.request import Request, read_request
from aurexd.server.stream import ClientStream
from aurexd.settings import Settings

log = structlog.get_logger(__name__)

STREAM_PATH = "/api/v1/ws/stream"
EVENTS_PATH = "/api/v1/stream"

BACKLOG = 4096
"""Connections the kernel holds for us while the loop is busy; capped by net.core.somaxconn (Linux: 4096)."""

SEND_BUFFER_BYTES = 65536
"""What the kernel may hold for one client. Small on purpose: what waits there is old and is not conflated.
Linux doubles it for its own bookkeeping."""

UNSENT_BYTES = 16384
"""How much of that may wait to be sent at all, as against what is on its way: to a client that reads a kilobyte a
second it is sixteen seconds old when it arrives. What is beyond that waits here and is conflated."""

EXHAUSTED_PAUSE_S = 0.1
"""How long to stop accepting when the process is out of file descriptors or memory."""

GONE_BEFORE_ACCEPTED = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO})
"""The client gave up, or the firewall turned it away, before it was accepted; see accept(2)."""


ServeStreaming = Callable[[ClientStream, Request], Awaitable[None]]
ServeHttp = Callable[[ClientStream, Request | None], Awaitable[None]]

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that has `close` reset the connection: whoever is hung up on leaves nothing in the kernel either."""


def bind(address: str, port: int) -> list[socket.socket]:
    """Listening sockets for the address; a name such as `localhost` means all of its addresses.

    Raises:
        ListenError: the address cannot be bound; the message says why and what to do.

    """
    try:
        infos = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else error
        raise ListenError(f"listen.address: {address!r} is not an address of this machine ({why})") from error
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, sockaddr in dict.fromkeys(infos):
        try:
            listeners.append(_bind_one(family, kind, protocol, sockaddr, listeners))
        except OSError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                absent = error  # `localhost` has an IPv6 address on machines without IPv6, too
                continue
            for listener in listeners:
                listener.close()
            raise ListenError(_explain(error, address, port)) from error
    if absent is not None and not listeners:
        raise ListenError(_explain(absent, address, port)) from absent
    return listeners


def _bind_one(
    family: int, kind: int, protocol: int, sockaddr: tuple[object, ...], bound: list[socket.socket]
) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        _prepare(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        host, port, *rest = sockaddr
        if port == 0 and bound:  # one free port, the same for all addresses
            port = bound[0].getsockname()[1]
        listener.bind((host, port, *rest))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def adopt(listeners: list[socket.socket]) -> list[socket.socket]:
    """Listening sockets that were bound by somebody else, with the queue of connections that waits in each.

    Raises:
        ListenError: one of them is none that the port can be served on; the message says why and what to do.

    """
    for listener in listeners:
        if listener.family not in {socket.AF_INET, socket.AF_INET6} or listener.type != socket.SOCK_STREAM:
            raise ListenError(
                f"{_passed(listener)} is no TCP socket — write ListenStream=PORT or ADDRESS:PORT"
            )
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ListenError(f"{_passed(listener)} does not listen — leave Accept=yes away")
        _prepare(listener)
    return listeners


def _passed(listener: socket.socket) -> str:
    return f"listen: the socket {listener.getsockname()!r} that systemd passed"


def _prepare(listener: socket.socket) -> None:
    listener.setblocking(False)
    # Accepted sockets inherit these, which saves system calls for each connection.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _explain(error: OSError, address: str, port: int) -> str:
    where = f"listen: cannot bind {f'[{address}]' if ':' in address else address}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: another process uses it — stop that one (ss -ltnp shows it) or set listen.port"
        case errno.EACCES:
            return f"{where}: ports below 1024 need CAP_NET_BIND_SERVICE — set listen.port to 1024 or more"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"{where}: this machine has no such address — set listen.address"
        case _:
            return f"{where}: {error.strerror}"


class Arrival(NamedTuple):
    """A client that is to be served."""

    request: Request | None
    """None: what came is none."""


class Port:
    """Accepts clients on listening sockets until told to stop."""

    def __init__(
        self,
        listeners: list[socket.socket],
        *,
        tls: ssl.SSLContext | None,
        settings: Settings,
        door: Door,
        websocket: ServeStreaming,
        events: ServeStreaming,
        http: ServeHttp,
        proxy_protocol: bool = False,
    ) -> None:
        """`proxy_protocol`: whether trusted proxies begin with such a header."""
        self.tls = tls
        """May be replaced: who connects from then on is served with the new one."""
        self._listeners = listeners
        self._settings = settings
        self._door = door
        self._proxy_protocol = proxy_protocol
        self._websocket = websocket
        self._events = events
        self._http = http
        self._accepting = trio.CancelScope()
        self._gate = Gate()

    @property
    def port(self) -> int:
        """The port that is really bound: the configured one, or a free one when that was 0."""
        number: int = self._listeners[0].getsockname()[1]
        return number

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; or, after `stop_accepting`, until the last client has gone."""
        async with trio.open_nursery() as clients:
            try:
                with self._accepting:
                    async with trio.open_nursery() as acceptors:
                        for listener in self._listeners:
                            acceptors.start_soon(self._accept, listener, clients)
                        task_status.started()
            finally:
                for listener in self._listeners:
                    listener.close()

    def stop_accepting(self) -> None:
        """Refuse new connections; those that are there stay."""
        self._accepting.cancel()

    async def _accept(self, listener: socket.socket, clients: trio.Nursery) -> None:
        paused = False
        while True:
            await self._gate.wait_turn()
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(listener)
            except OSError as error:
                if error.errno in GONE_BEFORE_ACCEPTED:
                    continue
                if not paused:  # said once, not ten times a second
                    advice = "raise LimitNOFILE or limit the clients"
                    log.error("accept_paused", reason=error.strerror, advice=advice)
                paused = True
                await trio.sleep(EXHAUSTED_PAUSE_S)
            else:
                paused = False
                origin = Origin(address[0], self._settings)
                visit = self._door.knock(None if origin.speaks else origin.address)
                if visit is None:
                    hang_up(client)
                else:
                    client.setblocking(False)
                    clients.start_soon(self._serve_client, client, origin, visit)

    async def _serve_client(self, client: socket.socket, origin: Origin, visit: Visit) -> None:
        """One connection, from accept to close: the crash barrier between a client and the daemon."""
        stream = ClientStream(client, origin.address, self.tls, self._gate)
        try:
            try:
                arrival = await self._arrive(stream, origin, visit)
            finally:
                self._door.leave(visit)
            if arrival is None:
                return
            request = arrival.request
            del origin, visit, arrival  # a session may last for days, and needs none of them any more
            await self._gate.wait_turn()
            if request is not None and request.upgrade and request.path == STREAM_PATH:
                await self._websocket(stream, request)
            # A browser's question whether a page may ask is about HTTP, whatever it then asks for.
            elif request is not None and request.path == EVENTS_PATH and request.method != "OPTIONS":
                await self._events(stream, request)
            else:
                await self._http(stream, request)
            if not stream.closed:
                await stream.aclose()
            await stream.linger()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away
        except* Exception:
            log.exception("client_crashed", client=stream.remote_address)
        finally:
            stream.abort()

    async def _arrive(self, stream: ClientStream, origin: Origin, visit: Visit) -> Arrival | None:
        """All that comes before a request is served, in the time there is for it; None: there is nothing to serve."""
        proxy_header = not (self._proxy_protocol and origin.speaks)
        with visit.scope:
            if not proxy_header:
                try:
                    proxy_header = await origin.read_proxy_header(stream)
                except ValueError as error:
                    self._door.hung_up("proxy_header", origin.address, clean(str(error)))
                    return None
                if not proxy_header or not self._met(stream, origin, visit):
                    return None
            await stream.handshake()
            request = await read_request(stream, origin)
            if request is not None and not self._met(stream, origin, visit):
                return None
            if request is not None and visit.retry_after_s:
                request.retry_after_s = visit.retry_after_s
            return Arrival(request)
        if not proxy_header:
            self._door.hung_up("proxy_header", origin.address, "none came in time")
        return None

    def _met(self, stream: ClientStream, origin: Origin, visit: Visit) -> bool:
        """Whether the client, as far as it is known by now, may go on."""
        stream.remote_address = origin.address
        return visit.group is not None or origin.speaks or self._door.meet(visit, origin.address)


def hang_up(client: socket.socket) -> None:
    """End a connection without a word."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
