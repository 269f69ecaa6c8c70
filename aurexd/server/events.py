"""The event stream, `/api/v1/stream`: the WebSocket's messages as server-sent events, for who cannot have that.

The answer's head is written once, and then it is a line like any other: the hub writes the same bytes to all of its
clients. Its end is the end of the connection (RFC 9112, 6.3), so events need no chunks.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

import trio

from aurexd.actors.session import Session
from aurexd.clock import Clock
from aurexd.errors import ProtocolError
from aurexd.identity import Identity, Scope
from aurexd.protocol import compose
from aurexd.protocol.channels import check_channel, owned
from aurexd.protocol.codec import EVENTS, retry_event
from aurexd.protocol.codes import CloseCode, ErrorCode, should_reconnect
from aurexd.protocol.data import Position
from aurexd.server.admission import Admission, Place, Refusal
from aurexd.server.answer import answer
from aurexd.server.credentials import INVALID, Unauthorized
from aurexd.server.interface import quoted
from aurexd.server.request import Request
from aurexd.server.stream import ClientStream
from aurexd.server.streaming import CLOSE_S, Streaming, retry_after_ms
from aurexd.settings import Settings
from aurexd.update import parse_position

COUNT_DIGITS = 18
"""More than a channel ever counts to."""


class EventStreamServer:
    """Serves clients of the event stream."""

    def __init__(self, streaming: Streaming, admission: Admission) -> None:
        self._streaming = streaming
        self._admission = admission

    async def serve(self, stream: ClientStream, request: Request) -> None:
        """Serve one client until it or we end it. Never raises for what a client does."""
        try:
            if request.method != "GET":
                await _answer(stream, HTTPStatus.METHOD_NOT_ALLOWED, "the event stream is read with GET")
                return
            refusal = self._admission.refusal(request)
            if refusal is not None:
                await self._refuse(stream, request, refusal)
                return
            identity = self._streaming.credentials.permit(request.identity, Scope.READ)
            if isinstance(identity, Unauthorized):
                await _answer(stream, HTTPStatus(identity.status), identity.message, identity.challenge)
                return
            try:
                channels = self._channels(request, identity)
                resume = _resume(request, identity)
            except ProtocolError as error:
                forbidden = error.code == ErrorCode.FORBIDDEN
                await _answer(
                    stream, HTTPStatus.FORBIDDEN if forbidden else HTTPStatus.BAD_REQUEST, error.message
                )
                return
            request.forget_token()
            place = self._admission.enter(request)
            try:
                await self._run(stream, request, channels, resume, place)
            finally:
                place.leave()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the line broke

    async def _run(
        self,
        stream: ClientStream,
        request: Request,
        channels: frozenset[str],
        resume: Mapping[str, Position],
        place: Place,
    ) -> None:
        _watch_line(stream.socket, self._streaming.settings)
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(self._streaming.settings.limits.handshake_timeout_s):
                await stream.send_all(_head(request) + retry_event(retry_after_ms()))
            stream.start_session(nursery, EVENTS)
            try:
                await self._streaming.run(
                    nursery,
                    stream,
                    request,
                    _Conversation(stream, self._streaming.clock),
                    place=place,
                    encoding=EVENTS,
                    channels=channels,
                    resume_after=parse_position(request.last_event_id or ""),
                    resume=resume,
                )
            finally:
                stream.end_session()  # the hub may not know yet, and the nursery will soon be gone
            await stream.aclose()

    def _channels(self, request: Request, identity: Identity) -> frozenset[str]:
        """Those that the query names (`?channels=price:XAUUSD,status:XAUUSD`), or the default ones.

        Raises:
            ProtocolError: one of them is not served to this client.

        """
        named = [name for text in _query(request).get("channels", []) for name in text.split(",") if name]
        if not named:
            return self._streaming.settings.default_channels
        channels = set(named)
        most = self._streaming.settings.limits.max_channels
        if len(channels) > most:
            raise ProtocolError(ErrorCode.TOO_MANY_CHANNELS, f"channels: at most {most}, not {len(channels)}")
        for channel in sorted(channels):
            check_channel(channel, self._streaming.settings.symbols.keys(), identity)
        return frozenset(owned(channel, identity.user) for channel in channels)

    async def _refuse(self, stream: ClientStream, request: Request, refusal: Refusal) -> None:
        """Tell the client why. One that may come back is accepted first: else its browser would give up."""
        wait_ms, now = refusal.retry_after_ms or retry_after_ms(), self._streaming.clock.now()
        if refusal.code is CloseCode.GOING_AWAY:
            last = EVENTS.frame(compose.going_away(refusal.message, wait_ms, now))
        elif should_reconnect(refusal.code) and refusal.status is not HTTPStatus.UNAUTHORIZED:
            code = ErrorCode[refusal.code.name]
            last = EVENTS.frame(compose.error(code, refusal.message, now, retry_after_ms=wait_ms))
        else:
            challenge = INVALID if refusal.status is HTTPStatus.UNAUTHORIZED else ""
            await _answer(stream, refusal.status, refusal.message, challenge)
            return
        with trio.move_on_after(CLOSE_S):
            await stream.send_all(_head(request) + retry_event(wait_ms) + last)


class _Conversation:
    """An event stream's client says nothing that matters; see `Conversation`."""

    def __init__(self, stream: ClientStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    async def listen(self, session: Session) -> None:  # noqa: ARG002
        """Until the client hangs up; what it sends is nobody's."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._stream.receive_some():
                pass

    async def close(self, code: CloseCode, wait_ms: int) -> None:
        """The last event says why, and when to come back."""
        self._stream.end_session()
        now = self._clock.now()
        with (
            trio.move_on_after(CLOSE_S),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            if code is CloseCode.GOING_AWAY:
                last = EVENTS.frame(compose.going_away("the server stops", wait_ms, now))
            else:
                last = EVENTS.frame(compose.error(code.word, code.meaning, now, retry_after_ms=wait_ms))
            await self._stream.send_all(retry_event(wait_ms) + last)
        await self._stream.aclose()


def _head(request: Request) -> bytes:
    """The head of an answer that does not end. A page of an allowed origin may read it."""
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/event-stream; charset=utf-8",
        "Cache-Control: no-store",
        "X-Accel-Buffering: no",  # nginx would gather it
        "Connection: close",
        *([f"Access-Control-Allow-Origin: {request.origin}", "Vary: Origin"] if request.origin else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _resume(request: Request, identity: Identity) -> dict[str, Position]:
    """Where the client was (`?epoch=5f1c…&resume=price:XAUUSD@12340,status:XAUUSD@17`), be it over the WebSocket.

    Raises:
        ProtocolError: that is not what it says.

    """
    query = _query(request)
    epoch = query.get("epoch", [""])[-1]
    resume = {}
    for place in ",".join(query.get("resume", [])).split(","):
        if not place:
            continue
        channel, _, count = place.rpartition("@")
        if not channel or not (count.isascii() and count.isdigit()) or len(count) > COUNT_DIGITS:
            message = f"resume: expected CHANNEL@COUNT, got {quoted(place)}"
            raise ProtocolError(ErrorCode.INVALID_MESSAGE, message)
        resume[owned(channel, identity.user)] = Position(epoch=epoch, count=int(count))
    return resume


def _query(request: Request) -> dict[str, list[str]]:
    try:
        return parse_qs(request.query, max_num_fields=20)
    except ValueError as error:
        raise ProtocolError(ErrorCode.INVALID_MESSAGE, f"the query cannot be read: {error}") from error


async def _answer(stream: ClientStream, status: HTTPStatus, message: str, challenge: str = "") -> None:
    with trio.move_on_after(CLOSE_S):
        await answer(stream, status, message, {"WWW-Authenticate": challenge} if challenge else None)


def _watch_line(sock: socket.socket, settings: Settings) -> None:
    """Have the kernel end a line that acknowledges nothing: there are no pings that would find it dead.

    Something is sent at least every `silence_s`.
    """
    heartbeat = settings.heartbeat
    limit_s = heartbeat.ping_interval_s + heartbeat.pong_timeout_s
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limit_s * 1000))
