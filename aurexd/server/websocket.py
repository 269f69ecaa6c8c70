"""The seam to trio-websocket: from an upgrade request to a running session, and to its end.

trio-websocket does the handshake, reads, answers pings and closes; the frames of the fan-out go past it,
straight into the same stream (`stream.py`). Each session has a nursery of its own, inside a crash barrier,
and every wait has a deadline. What 0.12 leaves undone is mended in `_Connection`.
"""

from __future__ import annotations

import contextlib
import secrets
from ipaddress import ip_address
from typing import Any

import pykka
import structlog
import trio
import trio_websocket
from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState

from aurexd.actors.messages import SessionClosed, SessionOpened
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import tell_when_room
from aurexd.clock import Clock
from aurexd.protocol import compose
from aurexd.protocol.codec import Encoding, negotiate
from aurexd.protocol.codes import CloseCode, ErrorCode, close_reason
from aurexd.protocol.connection import SessionProtocol
from aurexd.server.admission import Admission, Refusal
from aurexd.server.request import Request
from aurexd.server.stream import ClientStream
from aurexd.settings import Settings

log = structlog.get_logger(__name__)

CLOSE_S = 5.0
"""How long the client may take to answer our close frame before the connection is cut."""

RETRY_SPREAD_MS = 5000
"""Clients that are turned away come back within this, each at its own time."""

LOCAL_OWNER = "local"
"""The one owner of alerts where nobody shows a token."""

RETRY_LATER = frozenset(
    {CloseCode.GOING_AWAY, CloseCode.TOO_MANY_CONNECTIONS, CloseCode.OVER_CAPACITY, CloseCode.RATE_LIMITED}
)

LIBRARY_CODES = {
    int(code): code for code in (CloseCode.WEBSOCKET_ERROR, CloseCode.INVALID_TEXT, CloseCode.MESSAGE_TOO_BIG)
}
"""Those that trio-websocket sends of its own accord."""


class _HandshakeDone:
    """What is left of wsproto's handshake when it is over: it would keep its HTTP parser, two kilobytes, for as
    long as the session lasts, only to be asked for further events."""

    def events(self) -> tuple[()]:
        return ()


_HANDSHAKE_DONE = _HandshakeDone()


class WebSocketServer:
    """Runs the sessions."""

    def __init__(
        self,
        *,
        hub: pykka.ActorRef[Any],
        symbols: frozenset[str],
        default_symbols: tuple[str, ...],
        admission: Admission,
        settings: Settings,
        clock: Clock,
    ) -> None:
        """`default_symbols`: what a client that offers no subprotocol is subscribed to at once."""
        self._hub = hub
        self._symbols = symbols
        self._default_channels = frozenset(
            f"{kind}:{symbol}" for symbol in default_symbols for kind in ("price", "status")
        )
        self._settings = settings
        self._clock = clock
        self._admission = admission

    async def serve(self, stream: ClientStream, request: Request) -> None:
        """Serve one client until it or we end it. Never raises for what a client does."""
        refusal = self._admission.refusal(request)
        if refusal is not None:
            await self._run(stream, request, refusal)
            return
        place = self._admission.enter(request)
        try:
            await self._run(stream, request, None)
        finally:
            place.leave()

    async def _run(self, stream: ClientStream, request: Request, refusal: Refusal | None) -> None:
        try:
            async with trio.open_nursery() as nursery:
                try:
                    connection = await self._accept(nursery, stream, request)
                    if connection is None:
                        pass
                    elif refusal is not None:
                        await self._refuse(stream, request, connection, refusal)
                    else:
                        await self._converse(nursery, stream, request, connection)
                finally:
                    stream.end_session()  # the hub may not know yet, and the nursery will soon be gone
                await stream.aclose()
                # The reader ends by itself, now that the stream is closed; to cancel it costs as much as all
                # the rest.
                nursery.cancel_scope.deadline = trio.current_time() + 2 * CLOSE_S
        except* (UnicodeError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the line broke, or a header is not even text

    async def _accept(
        self, nursery: trio.Nursery, stream: ClientStream, request: Request
    ) -> _Connection | None:
        """The connection, open; None when the handshake failed, which the client was told."""
        encoding, subprotocol = negotiate(request.subprotocols)
        connection = _Connection(stream, self._settings)
        with trio.move_on_after(self._settings.limits.handshake_timeout_s) as handshake:
            nursery.start_soon(connection.read, handshake)
            await connection.accept(subprotocol)
            stream.start_session(nursery, encoding)
            return connection
        return None

    async def _converse(
        self,
        nursery: trio.Nursery,
        stream: ClientStream,
        request: Request,
        connection: _Connection,
    ) -> None:
        encoding, subprotocol = negotiate(request.subprotocols)
        channels = frozenset[str]() if subprotocol else self._default_channels
        closed = trio.Event()

        async def close(code: CloseCode) -> None:
            await self._close(stream, encoding, connection, code)
            closed.set()

        session = Session(
            secrets.token_hex(6),
            stream,
            SessionProtocol(encoding, self._symbols, channels, _owner(request)),
            encoding,
            hub=self._hub,
            close=lambda code: nursery.start_soon(close, code),
            settings=self._settings,
            clock=self._clock,
        )
        try:
            await tell_when_room(self._hub, SessionOpened(session=session, channels=channels))
            with trio.move_on_after(self._settings.limits.handshake_timeout_s):
                await session.greeted.wait()
            if not session.greeted.is_set():  # the hub stopped, and never read it
                session.close(CloseCode.GOING_AWAY)
            while True:
                await session.receive(await connection.get_message())
        except trio_websocket.ConnectionClosed:
            pass
        except pykka.ActorDeadError:
            session.close(CloseCode.GOING_AWAY)
        except Exception:
            log.exception("session_crashed", session=session.id, client=request.address)
            session.close(CloseCode.INTERNAL_ERROR)
        finally:
            session.end()
            with trio.move_on_after(CLOSE_S, shield=True), contextlib.suppress(pykka.ActorDeadError):
                await tell_when_room(self._hub, SessionClosed(session=session))
        if session.closing is not None:
            await closed.wait()

    async def _close(
        self,
        stream: ClientStream,
        encoding: Encoding,
        connection: _Connection,
        code: CloseCode,
    ) -> None:
        """The last words and the closing handshake, with a deadline."""
        stream.end_session()
        retry_after_ms = 1 + secrets.randbelow(RETRY_SPREAD_MS)
        reason = close_reason(code, retry_after_ms if code in RETRY_LATER else None)
        with trio.move_on_after(CLOSE_S):
            if code is CloseCode.GOING_AWAY:
                notice = compose.going_away("the server stops", retry_after_ms, self._clock.now())
                await stream.send_all(encoding.frame(notice))
            await connection.aclose(code, reason)

    async def _refuse(
        self,
        stream: ClientStream,
        request: Request,
        connection: _Connection,
        refusal: Refusal,
    ) -> None:
        """Tell the client why, then close: a browser cannot read a refused upgrade."""
        encoding, _ = negotiate(request.subprotocols)
        code = ErrorCode[refusal.code.name]
        stream.send_frame(encoding.frame(compose.error(code, refusal.message, self._clock.now())))
        log.info("session_refused", client=request.address, code=refusal.code.value, reason=refusal.message)
        await self._close(stream, encoding, connection, refusal.code)


def _owner(request: Request) -> str | None:
    """Whose alerts the client may see: whoever reaches this machine's loopback is its one local user."""
    return LOCAL_OWNER if ip_address(request.address).is_loopback else None


class _Connection(trio_websocket.WebSocketConnection):
    """trio-websocket's connection, where it fits this daemon."""

    def __init__(self, stream: ClientStream, settings: Settings) -> None:
        super().__init__(stream, WSConnection(ConnectionType.SERVER))
        self._client_stream = stream
        self._settings = settings

    async def read(self, handshake: trio.CancelScope) -> None:
        """Read until the end; that is the end of the handshake, too, for which the library would wait on."""
        await self._reader_task()
        handshake.cancel()

    async def accept(self, subprotocol: str | None) -> None:
        """Wait for the client's handshake and answer it."""
        handshake = await self._get_request()
        await handshake.accept(subprotocol=subprotocol)
        self._wsproto.handshake = _HANDSHAKE_DONE  # type: ignore[assignment]

    async def _send(self, event: events.Event) -> None:
        if self._wsproto.state in {ConnectionState.LOCAL_CLOSING, ConnectionState.CLOSED}:
            return  # an answer to a ping, or to a second oversized message: too late, and it would raise
        if isinstance(event, events.CloseConnection):
            self._client_stream.end_session()  # no data may follow
            if event.code in LIBRARY_CODES:
                event = events.CloseConnection(event.code, close_reason(LIBRARY_CODES[event.code]))
        await super()._send(event)

    async def _handle_close_connection_event(self, event: events.CloseConnection) -> None:
        if self._wsproto.state is ConnectionState.OPEN:
            # Not the client's close but wsproto's verdict on its frames: the library would just hang up.
            await self._send(event)
        await super()._handle_close_connection_event(event)

    async def _handle_message_event(self, event: events.BytesMessage | events.TextMessage) -> None:
        self._max_message_size = self._settings.limits.max_message_bytes
        # The library counts characters, and lets a message have any number of empty fragments.
        size = len(event.data.encode() if isinstance(event.data, str) else event.data)
        self._message_size += max(1, size) - len(event.data)
        await super()._handle_message_event(event)
