"""The seam to trio-websocket: from an upgrade request to a running session, and to its end.

trio-websocket does the handshake, reads, answers pings and closes; the frames of the fan-out go past it,
straight into the same stream (`stream.py`). Each session has a nursery of its own, inside a crash barrier,
and every wait has a deadline. What 0.12 leaves undone is mended in `_Connection`.
"""

from __future__ import annotations

import contextlib

import trio
import trio_websocket
from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.extensions import Extension

from aurexd.actors.session import BURST_SECONDS, Session
from aurexd.clock import Clock
from aurexd.limits import spend
from aurexd.protocol import compose
from aurexd.protocol.codec import JSON, compressed, negotiate
from aurexd.protocol.codes import CloseCode, ErrorCode, close_reason
from aurexd.protocol.deflate import SessionDeflate
from aurexd.server.admission import Admission, Place, Refusal
from aurexd.server.handoff import Handoff, Sender
from aurexd.server.request import Request
from aurexd.server.stream import ClientStream
from aurexd.server.streaming import CLOSE_S, Streaming, retry_after_ms
from aurexd.settings import Settings

RETRY_LATER = frozenset(
    {
        CloseCode.GOING_AWAY,
        CloseCode.TOO_MANY_CONNECTIONS,
        CloseCode.OVER_CAPACITY,
        CloseCode.RATE_LIMITED,
        CloseCode.TOKEN_EXPIRED,
    }
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


class _Few(list[events.Event]):
    """A queue that is hardly ever used, wsproto's of what it has to say beside its frames: a deque takes 700 bytes."""

    def popleft(self) -> events.Event:
        return self.pop(0)


_UNAWAITED = trio.Event()
"""One for all connections, of what nobody here waits for: an event takes a quarter of a kilobyte."""


class WebSocketServer:
    """Serves WebSocket clients."""

    def __init__(self, streaming: Streaming, admission: Admission) -> None:
        self._streaming = streaming
        self._settings = streaming.settings
        self._clock = streaming.clock
        self._admission = admission

    async def serve(self, stream: ClientStream, request: Request) -> None:
        """Serve one client until it or we end it. Never raises for what a client does."""
        refusal = self._admission.refusal(request)
        request.forget_token()
        if refusal is not None:
            await self._run(stream, request, refusal)
            return
        place = self._admission.enter(request)
        try:
            await self._run(stream, request, place)
        finally:
            place.leave()

    async def _run(self, stream: ClientStream, request: Request, answer: Place | Refusal) -> None:
        try:
            async with trio.open_nursery() as nursery:
                try:
                    connection = await self._accept(nursery, stream, request)
                    if connection is None:
                        pass
                    elif isinstance(answer, Refusal):
                        await self._refuse(stream, connection, answer)
                    else:
                        channels = self._streaming.settings.default_channels
                        await self._streaming.run(
                            nursery,
                            stream,
                            request,
                            _Conversation(stream, connection, self._clock),
                            place=answer,
                            encoding=connection.encoding,
                            channels=frozenset() if connection.subprotocol else channels,
                        )
                finally:
                    stream.end_session()  # the hub may not know yet, and the nursery will soon be gone
                await stream.aclose()
                # The reader ends by itself, now that the stream is closed; to cancel it costs as much as all
                # the rest.
                nursery.cancel_scope.deadline = trio.current_time() + 2 * CLOSE_S
        except* (
            UnicodeError,  # a header is not even text
            trio.BrokenResourceError,  # the line broke: perhaps before its handshake was answered, for in a storm
            trio.ClosedResourceError,  # of clients that has to wait for its turn, and some do not
            trio_websocket.ConnectionClosed,
        ):
            pass

    async def _accept(
        self, nursery: trio.Nursery, stream: ClientStream, request: Request
    ) -> _Connection | None:
        """The connection, open; None when the handshake failed, which the client was told."""
        connection = _Connection(stream, self._settings)
        with trio.move_on_after(self._settings.limits.handshake_timeout_s) as handshake:
            nursery.start_soon(connection.read, handshake)
            await connection.accept(request)
            stream.start_session(nursery, connection.encoding)
            return connection
        return None

    async def _refuse(
        self,
        stream: ClientStream,
        connection: _Connection,
        refusal: Refusal,
    ) -> None:
        """Tell the client why, then close: a browser cannot read a refused upgrade."""
        wait_ms = refusal.retry_after_ms or retry_after_ms()
        if refusal.code is not CloseCode.GOING_AWAY:  # which has a message of its own
            error = compose.error(
                ErrorCode[refusal.code.name],
                refusal.message,
                self._clock.now(),
                retry_after_ms=wait_ms if refusal.code in RETRY_LATER else None,
            )
            stream.send_frame(connection.encoding.frame(error))
        await _Conversation(stream, connection, self._clock).close(refusal.code, wait_ms)


class _Conversation:
    """What is said over a WebSocket beside the frames that the hub writes; see `Conversation`."""

    def __init__(self, stream: ClientStream, connection: _Connection, clock: Clock) -> None:
        self._stream = stream
        self._connection = connection
        self._clock = clock

    async def listen(self, session: Session) -> CloseCode | None:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await session.receive(await self._connection.get_message())
        return self._connection.verdict

    async def close(self, code: CloseCode, wait_ms: int) -> None:
        """The last words and the closing handshake."""
        self._stream.end_session()
        with trio.move_on_after(CLOSE_S) as patience:
            if code is CloseCode.GOING_AWAY:
                notice = compose.going_away("the server stops", wait_ms, self._clock.now())
                await self._stream.send_all(self._connection.encoding.frame(notice))
            reason = close_reason(code, wait_ms if code in RETRY_LATER else None)
            if code is CloseCode.RATE_LIMITED:
                await self._connection.hang_up(code, reason)
            else:
                await self._connection.aclose(code, reason)
        if patience.cancelled_caught:
            # Perhaps before the close itself: then nothing else ends the connection.
            self._stream.abort()


class _Connection(trio_websocket.WebSocketConnection):
    """trio-websocket's connection, where it fits this daemon."""

    def __init__(self, stream: ClientStream, settings: Settings) -> None:
        super().__init__(stream, WSConnection(ConnectionType.SERVER))
        received = Handoff[bytes | str]()
        self._recv_channel = received  # type: ignore[assignment]
        self._send_channel = Sender(received)  # type: ignore[assignment]
        self._open_handshake = self._for_testing_peer_closed_connection = _UNAWAITED
        self.encoding = JSON
        """What is sent in; `accept` settles it."""
        self.verdict: CloseCode | None = None
        """Why it was closed here for what the client's frames are, whatever they say."""
        self._client_stream = stream
        self._settings = settings
        self._control_full_at = 0.0
        """See `limits.spend`: of a session that may live for days, one number."""

    async def hang_up(self, code: CloseCode, reason: str) -> None:
        """Say why, and read no more: what a client that floods us would still say until it closed costs more than it
        is worth. What comes of it is thrown away unread (`ClientStream.linger`)."""
        self._reader_running = False
        self._close_reason = trio_websocket.CloseReason(code, reason)
        with trio.move_on_after(CLOSE_S), contextlib.suppress(trio_websocket.ConnectionClosed):
            await self._send(events.CloseConnection(code, reason))
        await self._recv_channel.aclose()
        await self._client_stream.aclose()

    async def read(self, handshake: trio.CancelScope) -> None:
        """Read until the end; that is the end of the handshake, too, for which the library would wait on."""
        try:
            await self._reader_task()
        finally:
            if (frames := self._wsproto.connection) is not None:
                # wsproto's parser is a generator that holds itself: a kilobyte of each session would stay.
                frames._proto._parse_more.close()  # noqa: SLF001
        handshake.cancel()

    async def accept(self, request: Request) -> None:
        """Wait for the client's handshake and answer it: here encoding and compression are agreed on."""
        self.encoding, self._subprotocol = negotiate(request.subprotocols)
        settings = self._settings
        deflate = SessionDeflate(lambda: settings.limits.max_message_bytes)
        extensions: list[Extension] = [deflate] if settings.realtime.compression else []
        asked = await self._get_request()
        # As the library accepts, which knows no extensions.
        await self._send(events.AcceptConnection(subprotocol=self._subprotocol, extensions=extensions))
        if deflate.window_bits is not None:
            self.encoding = compressed(self.encoding, deflate.window_bits)
        self._wsproto.handshake = _HANDSHAKE_DONE  # type: ignore[assignment]
        if (frames := self._wsproto.connection) is not None:
            frames._events = _Few(frames._events)  # type: ignore[assignment]  # noqa: SLF001
        # The library's reader keeps the event until the next one comes, which may be never.
        asked._event.extra_headers.clear()  # noqa: SLF001

    async def _send(self, event: events.Event) -> None:
        if self._wsproto.state in {ConnectionState.LOCAL_CLOSING, ConnectionState.CLOSED}:
            return  # an answer to a ping, or to a second oversized message: too late, and it would raise
        if isinstance(event, events.CloseConnection):
            self._client_stream.end_session()  # no data may follow
            if event.code in LIBRARY_CODES:
                self.verdict = LIBRARY_CODES[event.code]
                event = events.CloseConnection(event.code, close_reason(self.verdict))
        await super()._send(event)

    async def _handle_close_connection_event(self, event: events.CloseConnection) -> None:
        if self._wsproto.state is ConnectionState.OPEN:
            # Not the client's close but wsproto's verdict on its frames: the library would just hang up.
            await self._send(event)
        await super()._handle_close_connection_event(event)

    async def _handle_ping_event(self, event: events.Ping) -> None:
        if await self._may_send_control_frame():
            await super()._handle_ping_event(event)

    async def _handle_pong_event(self, event: events.Pong) -> None:
        if await self._may_send_control_frame():
            await super()._handle_pong_event(event)

    async def _may_send_control_frame(self) -> bool:
        if not self._reader_running:
            return False  # the rest of what was read when it was hung up on
        rate, now = self._settings.limits.max_control_frames_per_second, trio.current_time()
        burst = max(1.0, rate * BURST_SECONDS)
        self._control_full_at, wait_s = spend(self._control_full_at, now, rate=rate, burst=burst)
        if wait_s:
            self.verdict = CloseCode.RATE_LIMITED
            await self.hang_up(self.verdict, close_reason(self.verdict, retry_after_ms()))
        return not wait_s

    async def _handle_message_event(self, event: events.BytesMessage | events.TextMessage) -> None:
        self._max_message_size = self._settings.limits.max_message_bytes
        # The library counts characters, and lets a message have any number of empty fragments.
        size = len(event.data.encode() if isinstance(event.data, str) else event.data)
        self._message_size += max(1, size) - len(event.data)
        await super()._handle_message_event(event)
