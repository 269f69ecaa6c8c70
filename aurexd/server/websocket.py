"""The seam to trio-websocket: from an upgrade request to a running session, and to its end.

trio-websocket does the handshake, reads, answers pings and closes; the frames of the fan-out go past it, straight
into the same stream (`stream.py`). Facts about 0.12 that shaped this room: an oversized message or a ping that comes
while we close raises out of its reader, and after a bad handshake it waits for ever; so each session has a nursery
of its own, inside a crash barrier, and every wait has a deadline.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

import pykka
import structlog
import trio
import trio_websocket
from wsproto.utilities import LocalProtocolError

from aurexd.actors.messages import SessionClosed, SessionOpened
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import tell_when_room
from aurexd.clock import Clock
from aurexd.config.model import Heartbeat, Limits
from aurexd.limits import Admission
from aurexd.protocol import compose
from aurexd.protocol.codec import Encoding, negotiate
from aurexd.protocol.codes import CloseCode, ErrorCode, close_reason
from aurexd.protocol.connection import SessionProtocol
from aurexd.server.port import Upgrade
from aurexd.server.stream import ClientStream

log = structlog.get_logger(__name__)

CLOSE_S = 5.0
"""How long the client may take to answer our close frame before the connection is cut."""

RETRY_SPREAD_MS = 5000
"""Clients that are turned away come back within this, each at its own time."""

RETRY_LATER = frozenset(
    {CloseCode.GOING_AWAY, CloseCode.TOO_MANY_CONNECTIONS, CloseCode.OVER_CAPACITY, CloseCode.RATE_LIMITED}
)


class WebSocketServer:
    """Runs the sessions."""

    def __init__(
        self,
        *,
        hub: pykka.ActorRef[Any],
        symbols: frozenset[str],
        default_symbols: tuple[str, ...],
        limits: Limits,
        heartbeat: Heartbeat,
        clock: Clock,
    ) -> None:
        """`default_symbols`: what a client that offers no subprotocol is subscribed to at once."""
        self._hub = hub
        self._symbols = symbols
        self._default_channels = frozenset(
            f"{kind}:{symbol}" for symbol in default_symbols for kind in ("price", "status")
        )
        self._limits = limits
        self._heartbeat = heartbeat
        self._clock = clock
        self._admission = Admission(
            max_connections=limits.max_connections, max_connections_per_ip=limits.max_connections_per_ip
        )

    async def serve(self, stream: ClientStream, upgrade: Upgrade) -> None:
        """Serve one client until it or we end it. Never raises for what a client does."""
        refusal = self._refusal(upgrade)
        if refusal is not None:
            await self._run(stream, upgrade, refusal)
            return
        self._admission.enter(upgrade.address)
        try:
            await self._run(stream, upgrade, None)
        finally:
            self._admission.leave(upgrade.address)

    async def _run(self, stream: ClientStream, upgrade: Upgrade, refusal: _Refusal | None) -> None:
        try:
            async with trio.open_nursery() as nursery:
                connection = await self._accept(nursery, stream, upgrade)
                if connection is None:
                    pass
                elif refusal is not None:
                    await self._refuse(stream, upgrade, connection, refusal)
                else:
                    await self._converse(nursery, stream, upgrade, connection)
                nursery.cancel_scope.cancel()
        except* (LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the line broke, or something came in while we were closing: it is closed either way

    async def _accept(
        self, nursery: trio.Nursery, stream: ClientStream, upgrade: Upgrade
    ) -> trio_websocket.WebSocketConnection | None:
        encoding, subprotocol = negotiate(upgrade.subprotocols)
        with trio.move_on_after(self._limits.handshake_timeout_s):
            request = await trio_websocket.wrap_server_stream(
                nursery, stream, max_message_size=self._limits.max_message_bytes
            )
            connection = await request.accept(subprotocol=subprotocol)
            stream.start_session(nursery, encoding)
            return connection
        return None

    async def _converse(
        self,
        nursery: trio.Nursery,
        stream: ClientStream,
        upgrade: Upgrade,
        connection: trio_websocket.WebSocketConnection,
    ) -> None:
        encoding, subprotocol = negotiate(upgrade.subprotocols)
        channels = frozenset[str]() if subprotocol else self._default_channels
        session = Session(
            secrets.token_hex(6),
            stream,
            SessionProtocol(encoding, self._symbols, channels),
            encoding,
            hub=self._hub,
            close=lambda code: nursery.start_soon(self._close, stream, encoding, connection, code),
            limits=self._limits,
            heartbeat=self._heartbeat,
            clock=self._clock,
        )
        await tell_when_room(self._hub, SessionOpened(session=session, channels=channels))
        try:
            while True:
                await session.receive(await connection.get_message())
        except trio_websocket.ConnectionClosed:
            pass
        except Exception:
            log.exception("session_crashed", session=session.id, client=upgrade.address)
            session.close(CloseCode.INTERNAL_ERROR)
        finally:
            session.end()
            with trio.move_on_after(CLOSE_S, shield=True):
                await tell_when_room(self._hub, SessionClosed(session=session))

    async def _close(
        self,
        stream: ClientStream,
        encoding: Encoding,
        connection: trio_websocket.WebSocketConnection,
        code: CloseCode,
    ) -> None:
        """The closing handshake, with a deadline: then the connection is cut."""
        retry_after_ms = 1 + secrets.randbelow(RETRY_SPREAD_MS)
        if code is CloseCode.GOING_AWAY:
            notice = compose.going_away("the server stops", retry_after_ms, self._clock.now())
            stream.send_frame(encoding.frame(notice))
        reason = close_reason(code, retry_after_ms if code in RETRY_LATER else None)
        with trio.move_on_after(CLOSE_S):
            await connection.aclose(code, reason)
        stream.abort()

    # --- who may not enter ---

    def _refusal(self, upgrade: Upgrade) -> _Refusal | None:
        if upgrade.origin is not None and not self._is_allowed(upgrade.origin, upgrade.host):
            return _Refusal(CloseCode.FORBIDDEN, f"pages from {upgrade.origin} may not connect here")
        match self._admission.may_enter(upgrade.address):
            case "max_connections_per_ip":
                limit = self._limits.max_connections_per_ip
                return _Refusal(CloseCode.TOO_MANY_CONNECTIONS, f"more than {limit} connections from your address")
            case "max_connections":
                return _Refusal(CloseCode.OVER_CAPACITY, "the server is full")
        return None

    def _is_allowed(self, origin: str, host: str) -> bool:
        """A page may connect to where it came from, and from where the configuration allows."""
        return origin in self._limits.allowed_origins or urlsplit(origin).netloc == host

    async def _refuse(
        self,
        stream: ClientStream,
        upgrade: Upgrade,
        connection: trio_websocket.WebSocketConnection,
        refusal: _Refusal,
    ) -> None:
        """Tell the client why, then close: a browser cannot read a refused upgrade."""
        encoding, _ = negotiate(upgrade.subprotocols)
        code = ErrorCode[refusal.code.name]
        stream.send_frame(encoding.frame(compose.error(code, refusal.message, self._clock.now())))
        log.info("session_refused", client=upgrade.address, code=refusal.code.value, reason=refusal.message)
        await self._close(stream, encoding, connection, refusal.code)


class _Refusal:
    """Why a client may not enter."""

    def __init__(self, code: CloseCode, message: str) -> None:
        self.code = code
        self.message = message
