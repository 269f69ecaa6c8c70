"""One streaming session from its greeting to its end: what the WebSocket and the event stream have in common.

How the client is listened to and told good-bye is the business of either (`websocket.py`, `events.py`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

import pykka
import structlog
import trio

from aurexd.actors.messages import SessionClosed, SessionOpened
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import tell_when_room
from aurexd.clock import Clock
from aurexd.protocol.codec import Encoding
from aurexd.protocol.codes import CloseCode
from aurexd.protocol.connection import SessionProtocol
from aurexd.protocol.data import Position
from aurexd.server.admission import Place
from aurexd.server.credentials import Credentials
from aurexd.server.request import Request
from aurexd.server.stream import ClientStream
from aurexd.server.tcp_info import tcp_figures
from aurexd.settings import Settings
from aurexd.tally import Kind, Tally

log = structlog.get_logger(__name__)

CLOSE_S = 5.0
"""How long a client may take for its last words before the connection is cut."""

RETRY_SPREAD_MS = 5000
"""Clients that are turned away come back within this, each at its own time."""


class Conversation(Protocol):
    """How one kind of session talks with its client, beside the frames that the hub writes."""

    async def listen(self, session: Session) -> CloseCode | None:
        """Hand the session what the client says, until it ends: why we ended it, if it was not the session that did."""

    async def close(self, code: CloseCode, wait_ms: int) -> None:
        """Say good-bye, within `CLOSE_S`. `wait_ms`: when the client may come back, if it may."""


class Streaming:
    """Runs sessions on streams that are open and admitted."""

    def __init__(
        self,
        *,
        hub: pykka.ActorRef[Any],
        alerts: pykka.ActorRef[Any],
        credentials: Credentials,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.credentials = credentials
        self.settings = settings
        self.clock = clock
        self.tally = Tally()
        self._hub = hub
        self._alerts = alerts
        self._verify = credentials.verify  # one method for all sessions

    async def run(
        self,
        nursery: trio.Nursery,
        stream: ClientStream,
        request: Request,
        conversation: Conversation,
        *,
        place: Place,
        encoding: Encoding,
        channels: frozenset[str],
        resume_after: tuple[str, int] | None = None,
        resume: Mapping[str, Position] | None = None,
    ) -> None:
        """Run one session until it or we end it: the crash barrier between its client and the daemon.

        `channels`: what it gets without asking, as far as it may and as soon as it may; `resume_after`, `resume`: see
        `SessionOpened`.
        """
        asks_for_token = self.settings.authority is not None
        protocol = SessionProtocol(
            encoding, channels, request.identity, self._verify if asks_for_token else None
        )
        closed: trio.Event | None = None

        async def say_good_bye(code: CloseCode, wait_ms: int | None, said: trio.Event) -> None:
            await conversation.close(code, retry_after_ms() if wait_ms is None else wait_ms)
            said.set()

        def close(code: CloseCode, wait_ms: int | None) -> None:
            nonlocal closed
            closed = trio.Event()
            nursery.start_soon(say_good_bye, code, wait_ms, closed)

        session = Session(
            secrets.token_hex(6),
            stream,
            protocol,
            encoding,
            hub=self._hub,
            alerts=self._alerts,
            close=close,
            settings=self.settings,
            clock=self.clock,
            claim=place.move_to_user,
            tally=self.tally,
        )
        kind = Kind.of(encoding, tls=stream.is_tls)
        self.tally.session_opened(kind)
        verdict: CloseCode | None = None
        try:
            opened = SessionOpened(
                session=session,
                channels=protocol.channels,
                resume_after=resume_after,
                resume=resume or {},
            )
            await tell_when_room(self._hub, opened)
            with trio.move_on_after(self.settings.limits.handshake_timeout_s):
                await session.greeted.wait()
            if not session.greeted.is_set():  # the hub stopped, and never read it
                session.close(CloseCode.GOING_AWAY)
            verdict = await conversation.listen(session)
        except pykka.ActorDeadError:
            session.close(CloseCode.GOING_AWAY)
        except Exception:
            log.exception("session_crashed", session=session.id, client=request.address)
            session.close(CloseCode.INTERNAL_ERROR)
        finally:
            session.end()
            self.tally.session_closed(kind, session.closing or verdict)
            self._say_closed(session, stream, request, session.closing or verdict)
            with trio.move_on_after(CLOSE_S, shield=True), contextlib.suppress(pykka.ActorDeadError):
                await tell_when_room(self._hub, SessionClosed(session=session))
        if closed is not None:
            await closed.wait()

    def _say_closed(
        self, session: Session, stream: ClientStream, request: Request, code: CloseCode | None
    ) -> None:
        """The one line of a session, with all that matters of it."""
        identity = session.identity
        log.info(
            "session_closed",
            session=session.id,
            client=request.address,
            user=identity.user if identity is not None and identity.has_token else None,
            encoding=session.encoding.name,
            code=None if code is None else code.value,
            duration_s=round(trio.current_time() - session.opened_at, 1),
            received=session.received,
            **tcp_figures(stream.socket),
        )


def retry_after_ms() -> int:
    """When a client that is turned away may come back: for each another time."""
    return 1 + secrets.randbelow(RETRY_SPREAD_MS)
