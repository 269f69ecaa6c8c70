"""One client: its state, what it may do, and what it is sent. An actor in the model, but a plain object.

There are thousands, so a session has no inbox and no task of its own here: the connection's task (in
`server/websocket.py`) hands it each message, and the hub hands it frames by a plain call (docs/adr/0001).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import pykka
import structlog
import trio
from msgspec import UNSET

from aurexd import __version__
from aurexd.actors import messages as internal
from aurexd.actors.audience import Audience, Seal
from aurexd.actors.trio_actor import tell_when_room
from aurexd.clock import Clock
from aurexd.identity import Identity
from aurexd.limits import TokenBucket
from aurexd.market import SECOND_US
from aurexd.protocol import compose
from aurexd.protocol.codec import Encoding, ping_frame
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.connection import (
    AskAlerts,
    Authenticate,
    Close,
    Reply,
    SessionProtocol,
    Snapshot,
    State,
    Subscribe,
    Unsubscribe,
)
from aurexd.protocol.data import HeartbeatData, LimitsData
from aurexd.protocol.messages import Error, ServerMessage
from aurexd.settings import Settings
from aurexd.tally import Tally
from aurexd.update import Batch, Update

log = structlog.get_logger(__name__)

BURST_SECONDS = 2.0
"""A client may save up this many seconds of its message rate: a page may subscribe to ten things at once."""

OFFENCES = 50
"""Messages over the rate before the session is closed: five seconds at twice the default rate. A pause in
which the whole burst is saved up again wipes them out."""


_GREETED = trio.Event()
"""Of all who are: each its own would take a quarter of a kilobyte."""
_GREETED.set()


class Line(Protocol):
    """The connection, as a session needs it: nothing here waits, and nothing raises."""

    last_received: float
    write: Callable[[bytes], int]
    """Write ready frames, as much as fits now; may raise OSError."""
    on_write_changed: Callable[[], None] | None
    """Called when `write` has become another function."""

    @property
    def remote_address(self) -> str:
        """Whom it leads to."""

    @property
    def is_tls(self) -> bool:
        """Whether what is written is sealed first."""

    @property
    def descriptor(self) -> int:
        """Of the socket, while nothing waits for it and it may be written to directly; else `NO_SOCKET`. On TLS that is
        what `seal` gives, and what of it did not fit goes to `keep_sealed`."""

    @property
    def seal(self) -> Seal | None:
        """On TLS, while there is a `descriptor`: what gives the ciphertext for it."""

    def keep_sealed(self, rest: bytes) -> None:
        """Ciphertext that is the next to be written."""

    @property
    def backlogged(self) -> bool:
        """Whether something waits for the socket."""

    @property
    def lossless_bytes(self) -> int:
        """Bytes of lossless frames that wait."""

    @property
    def held_bytes(self) -> int:
        """What all that waits costs in memory, about."""

    @property
    def stuck_since(self) -> float:
        """Loop time since when the client has taken nothing of what waits; `inf` when nothing waits."""

    def keep(self, batch: Batch, written: int) -> int:
        """Take over a batch of which only so many bytes were written: how many messages it replaces."""

    def send_frame(self, frame: bytes) -> None:
        """Write one frame that must arrive."""

    def replay(self, updates: list[Update]) -> None:
        """Write updates, each of them and in order, before those that are published from now on."""

    def drop_channel(self, channel: str) -> int:
        """Forget what waits of a channel: how many messages."""


class Session:
    """One streaming client.

    New limits hold for it at once. Of the heartbeat it goes on giving what its `welcome` promised: a client that counts
    on a sign of life every five seconds would else take the line for dead.
    """

    __slots__ = (
        "_alerts",
        "_bucket",
        "_claim",
        "_clock",
        "_close",
        "_hub",
        "_line",
        "_offences",
        "_pinged_at",
        "_promised",
        "_protocol",
        "_settings",
        "_tally",
        "_warned",
        "closing",
        "encoding",
        "greeted",
        "id",
        "last_sent",
        "opened_at",
        "received",
        "seat",
    )

    def __init__(
        self,
        session_id: str,
        line: Line,
        protocol: SessionProtocol,
        encoding: Encoding,
        *,
        hub: pykka.ActorRef[Any],
        alerts: pykka.ActorRef[Any],
        close: Callable[[CloseCode, int | None], None],
        settings: Settings,
        clock: Clock,
        claim: Callable[[str], str | None] = lambda _user: None,
        tally: Tally | None = None,
    ) -> None:
        """Begin.

        `close` starts the closing handshake and returns at once. It is told after how many milliseconds the client may
        come back; None leaves that to it. `claim` has the session counted as a user's from now on; it returns why that
        cannot be, or None. `tally` is all sessions'.
        """
        self.id = session_id
        self.encoding = encoding
        self.closing: CloseCode | None = None
        self.greeted = trio.Event()
        """Set when the hub has taken it in."""
        self.seat: tuple[Audience, int] | None = None
        """Where the hub keeps it."""
        self.opened_at = trio.current_time()
        """Loop time."""
        self.last_sent = trio.current_time()
        """Loop time at which a message was sent to this client alone; pings are none, and pages cannot see them."""
        self._line = line
        line.on_write_changed = self._write_changed
        self._protocol = protocol
        self._hub = hub
        self._alerts = alerts
        self._close = close
        self._claim = claim
        self._tally = tally or Tally()
        self.received = 0
        """Messages of the client, whatever became of them."""
        self._warned = False
        self._bucket = TokenBucket.full(trio.current_time())
        self._offences = 0
        self._settings = settings
        self._promised = settings.heartbeat
        self._pinged_at = -math.inf
        self._clock = clock

    # --- what the client says ---

    async def receive(self, payload: str | bytes) -> None:
        """Act on one message of the client, or answer what is wrong with it."""
        if self._protocol.state in (State.CLOSING, State.CLOSED):
            return  # it was said while we were closing
        self._tally.messages += 1
        self._tally.message_bytes += len(payload)
        self.received += 1
        rate = self._settings.limits.max_messages_per_second
        burst = max(1.0, rate * BURST_SECONDS)
        wait_s = self._bucket.take(trio.current_time(), rate=rate, burst=burst)
        if wait_s > 0.0:
            self._offences += 1
            if self._offences > OFFENCES:
                self.close(CloseCode.RATE_LIMITED)
                return
            self.send(
                compose.error(
                    ErrorCode.RATE_LIMITED,
                    f"more than {rate:g} messages a second; this one was not acted on",
                    self._clock.now(),
                    request_id=self.encoding.request_id(payload),
                    retry_after_ms=int(wait_s * 1000) + 1,
                )
            )
            return
        if self._bucket.tokens >= burst - 1.0:
            self._offences = 0
        symbols, most = self._settings.symbols.keys(), self._settings.limits.max_channels
        for effect in self._protocol.receive(payload, self._clock.now(), symbols, most):
            match effect:
                case Reply(message=message):
                    self.send(message)
                case Authenticate():
                    await self._authenticate(effect)
                case Subscribe(id=request_id, channels=channels, resume=resume):
                    await self._tell(
                        internal.Subscribe(
                            session=self, channels=channels, request_id=request_id, resume=resume
                        )
                    )
                case Unsubscribe(id=request_id, channels=channels):
                    await self._tell(
                        internal.Unsubscribe(session=self, channels=channels, request_id=request_id)
                    )
                case Snapshot(id=request_id, channels=channels):
                    await self._tell(
                        internal.SendSnapshot(session=self, channels=channels, request_id=request_id)
                    )
                case AskAlerts(owner=owner, request=request):
                    await tell_when_room(
                        self._alerts, internal.AskedOfAlerts(session=self, owner=owner, request=request)
                    )
                case Close(code=code):
                    self.close(code)

    async def _authenticate(self, shown: Authenticate) -> None:
        refusal = self._claim(shown.identity.user)
        if refusal is not None:
            code = ErrorCode.TOO_MANY_CONNECTIONS
            self.send(compose.error(code, refusal, self._clock.now(), request_id=shown.id))
            self.close(CloseCode.TOO_MANY_CONNECTIONS)
            return
        self._warned = False
        self.send(compose.authenticated(shown.id, shown.identity, self._clock.now()))
        if shown.unsubscribe:
            await self._tell(internal.Unsubscribe(session=self, channels=shown.unsubscribe, request_id=None))
        if shown.subscribe:
            await self._tell(
                internal.Subscribe(session=self, channels=shown.subscribe, request_id=None, resume={})
            )

    async def _tell(self, message: internal.Message) -> None:
        await tell_when_room(self._hub, message)

    # --- what the hub does with it ---

    @property
    def identity(self) -> Identity | None:
        """Who the client is; None: it has yet to show."""
        return self._protocol.identity

    @property
    def address(self) -> str:
        """Where the client comes from."""
        return self._line.remote_address

    @property
    def last_received(self) -> float:
        """Loop time at which anything was heard of it."""
        return self._line.last_received

    @property
    def owner(self) -> str | None:
        """Whose alerts it gets; None: nobody's."""
        return self._protocol.owner

    @property
    def backlogged(self) -> bool:
        """Whether its socket is full."""
        return self._line.backlogged

    @property
    def held_bytes(self) -> int:
        """What waits for it costs so much memory, about."""
        return self._line.held_bytes

    def withdraw(self, symbols: AbstractSet[str]) -> None:
        """These symbols are served no more."""
        self._protocol.withdraw(symbols)

    def share(self, channels: frozenset[str]) -> None:
        """The set of channels that all of its audience have."""
        self._protocol.share(channels)

    def greet(self, epoch: str) -> None:
        """The first message: what this client may rely on."""
        self.greeted.set()
        self.greeted = _GREETED
        limits, heartbeat = self._settings.limits, self._promised
        identity, asks_for_token = self._protocol.identity, self._protocol.asks_for_token
        self.send(
            compose.welcome(
                self.id,
                __version__,
                epoch,
                LimitsData(
                    max_messages_per_second=limits.max_messages_per_second,
                    max_message_bytes=limits.max_message_bytes,
                    max_control_frames_per_second=limits.max_control_frames_per_second,
                    max_channels=limits.max_channels,
                    idle_timeout_s=limits.idle_timeout_s,
                    send_queue_bytes=limits.send_queue_bytes,
                    auth_timeout_s=limits.auth_timeout_s if asks_for_token else UNSET,
                ),
                HeartbeatData(
                    silence_s=heartbeat.silence_s,
                    ping_interval_s=heartbeat.ping_interval_s,
                    pong_timeout_s=heartbeat.pong_timeout_s,
                ),
                self._clock.now(),
                asks_for_token=asks_for_token,
            )
        )
        if asks_for_token and identity is not None:
            self.send(compose.authenticated(None, identity, self._clock.now()))

    @property
    def write(self) -> Callable[[bytes], int]:
        """See `Line.write`: the fan-out calls it directly."""
        return self._line.write

    @property
    def is_tls(self) -> bool:
        """See `Line.is_tls`."""
        return self._line.is_tls

    @property
    def descriptor(self) -> int:
        """See `Line.descriptor`."""
        return self._line.descriptor

    @property
    def seal(self) -> Seal | None:
        """See `Line.seal`."""
        return self._line.seal

    def keep_sealed(self, rest: bytes) -> None:
        """See `Line.keep_sealed`."""
        self._line.keep_sealed(rest)
        self._check_queue()

    def keep(self, batch: Batch, written: int) -> int:
        """See `Line.keep`."""
        replaced = self._line.keep(batch, written)
        self._check_queue()
        return replaced

    def replay(self, updates: list[Update]) -> None:
        """See `Line.replay`."""
        self._line.replay(updates)

    def _write_changed(self) -> None:
        if self.seat is not None:
            self.seat[0].write_changed(self)

    def send(self, message: ServerMessage) -> None:
        """Send one message that must arrive."""
        if isinstance(message, Error):
            self._tally.errors[message.data.code] += 1
        self.send_frame(self.encoding.frame(message))

    def send_frame(self, frame: bytes) -> None:
        """The same, already framed; a client that lets too much of this pile up is closed."""
        self.last_sent = trio.current_time()
        self._line.send_frame(frame)
        self._check_queue()

    def _check_queue(self) -> None:
        if self._line.lossless_bytes > self._settings.limits.send_queue_bytes:
            self.close(CloseCode.SLOW_CONSUMER)

    def drop_channel(self, channel: str) -> int:
        """Nothing more of this channel's backlog is to follow: how many messages that was."""
        return self._line.drop_channel(channel)

    @property
    def silence_s(self) -> float:
        """After so many seconds without a message it is owed a `heartbeat`."""
        return min(self._promised.silence_s, self._settings.heartbeat.silence_s)

    def check_alive(self, now: float) -> None:
        """Ping a silent client, warn one whose token expires; close one that answers or takes nothing, or has none."""
        self._check_identity(now)
        promised, heartbeat = self._promised, self._settings.heartbeat
        stuck_s = max(
            promised.ping_interval_s + promised.pong_timeout_s,
            heartbeat.ping_interval_s + heartbeat.pong_timeout_s,
        )
        if now - self._line.stuck_since >= stuck_s:
            self.close(CloseCode.HEARTBEAT_TIMEOUT)
            return
        if not self.encoding.pings:
            return
        if self._pinged_at <= self._line.last_received:
            if now - self._line.last_received >= min(promised.ping_interval_s, heartbeat.ping_interval_s):
                self._pinged_at = now
                self._line.send_frame(ping_frame())
        elif now - self._pinged_at >= max(promised.pong_timeout_s, heartbeat.pong_timeout_s):
            self.close(CloseCode.HEARTBEAT_TIMEOUT)

    def check_idle(self, now: float) -> None:
        """Close a client that says nothing; to be asked of those that are subscribed to nothing."""
        limit_s = self._settings.limits.idle_timeout_s
        if limit_s and now - self._bucket.updated >= limit_s:
            self.close(CloseCode.IDLE_TIMEOUT)

    def _check_identity(self, now: float) -> None:
        identity, authority = self._protocol.identity, self._settings.authority
        if identity is None:
            timeout_s = self._settings.limits.auth_timeout_s
            if now - self.opened_at >= timeout_s and self.closing is None:
                text = f"no token was shown within {timeout_s:g} s"
                self.send(compose.error(ErrorCode.UNAUTHENTICATED, text, self._clock.now()))
                self.close(CloseCode.AUTH_TIMEOUT)
        elif authority is not None:
            time, expires, ends = self._clock.now(), identity.expires, identity.ends
            if not authority.vouches_for(identity) or (ends is not None and time >= ends):
                self.close(CloseCode.TOKEN_EXPIRED)
            elif expires is not None and not self._warned:
                warning_us = int(self._settings.auth.expiry_warning_s * SECOND_US)
                if warning_us and time >= expires - warning_us:
                    self._warned = True
                    self.send(compose.token_expiring(expires, time))

    def close(self, code: CloseCode, retry_after_ms: int | None = None) -> None:
        """Start closing, unless the connection is gone; the first reason stands.

        `retry_after_ms`: the client's own time to come back, where somebody has given it one.
        """
        if self.closing is None and self._protocol.state is not State.CLOSED:
            self.closing = code
            self._protocol.close()
            self._close(code, retry_after_ms)

    def end(self) -> None:
        """The connection is gone."""
        self._protocol.end()
