"""A session's state machine: what a client says → what is to be done about it.

It knows what the client may say now and what is wrong with it. It does not know prices, positions or sockets:
what has to be done is handed out as *effects*, and whoever runs the session does it.

The states, and what moves a session from one to the next:

- UNAUTHENTICATED: where tokens are asked for and none was shown yet; only `auth` and `ping` are acted on.
- OPEN: messages are acted on, as far as the client's scopes go. A new token renews it in place.
- CLOSING: a close frame is on its way, ours or the answer to the client's; messages are ignored.
- CLOSED: the connection is gone.

An event that the table does not list cannot happen: it raises, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from types import MappingProxyType
from typing import assert_never

import msgspec

from aurexd.errors import IdentityError, ProtocolError
from aurexd.identity import ANYBODY, Identity, Scope
from aurexd.market import EpochUs
from aurexd.protocol import compose
from aurexd.protocol import messages as wire
from aurexd.protocol.channels import check_channel, check_scope, scope_of, symbol_of
from aurexd.protocol.codec import Encoding
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.data import MAX_CHANNELS, Position


class State(Enum):
    """Where a session stands."""

    UNAUTHENTICATED = "unauthenticated"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Event(Enum):
    """What happens to a session."""

    MESSAGE = "message"
    """The client sent one."""
    AUTHENTICATED = "authenticated"
    """It has shown a valid token, its first or a new one."""
    CLOSE = "close"
    """Either end started the closing handshake."""
    END = "end"
    """The connection is gone, with or without a handshake."""


TRANSITIONS = MappingProxyType(
    {
        (State.UNAUTHENTICATED, Event.MESSAGE): State.UNAUTHENTICATED,
        (State.UNAUTHENTICATED, Event.AUTHENTICATED): State.OPEN,
        (State.UNAUTHENTICATED, Event.CLOSE): State.CLOSING,
        (State.UNAUTHENTICATED, Event.END): State.CLOSED,
        (State.OPEN, Event.MESSAGE): State.OPEN,
        (State.OPEN, Event.AUTHENTICATED): State.OPEN,
        (State.OPEN, Event.CLOSE): State.CLOSING,
        (State.OPEN, Event.END): State.CLOSED,
        (State.CLOSING, Event.MESSAGE): State.CLOSING,
        (State.CLOSING, Event.CLOSE): State.CLOSING,
        (State.CLOSING, Event.END): State.CLOSED,
        # The hub may decide to close a session whose end it has not heard of yet.
        (State.CLOSED, Event.CLOSE): State.CLOSED,
    }
)


ENDS: Mapping[tuple[State, str], CloseCode] = MappingProxyType(
    {
        (State.UNAUTHENTICATED, ErrorCode.BAD_TOKEN): CloseCode.BAD_TOKEN,
        (State.UNAUTHENTICATED, ErrorCode.TOKEN_EXPIRED): CloseCode.TOKEN_EXPIRED,
        (State.UNAUTHENTICATED, ErrorCode.UNSUPPORTED_DATA): CloseCode.UNSUPPORTED_DATA,
        (State.OPEN, ErrorCode.UNSUPPORTED_DATA): CloseCode.UNSUPPORTED_DATA,
    }
)
"""The errors that end a session; after any other it goes on."""


class Effect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something to be done for the client."""


class Authenticate(Effect, frozen=True, kw_only=True, gc=False):
    """From now on, or still, it is this user: count it so, answer, and change its subscriptions accordingly."""

    id: wire.RequestId | None
    identity: Identity
    subscribe: tuple[str, ...]
    """Channels that it was to have without having asked, when it showed its first token."""
    unsubscribe: tuple[str, ...]
    """Channels that its new token does not allow."""


class Subscribe(Effect, frozen=True, kw_only=True, gc=False):
    """Add channels to the session, answer, and send what follows. Names are valid and none comes twice."""

    id: wire.RequestId | None
    channels: tuple[str, ...]
    resume: dict[str, Position]
    """Channel → where the client was; of the channels above only."""


class Unsubscribe(Effect, frozen=True, kw_only=True, gc=False):
    """Take channels from the session and answer."""

    id: wire.RequestId | None
    channels: tuple[str, ...]


class Snapshot(Effect, frozen=True, kw_only=True, gc=False):
    """Answer, and send the current message of each channel."""

    id: wire.RequestId | None
    channels: tuple[str, ...]


class AskAlerts(Effect, frozen=True, kw_only=True, gc=False):
    """Do this for the owner, and answer."""

    owner: str
    request: wire.AlertCreate | wire.AlertList | wire.AlertUpdate | wire.AlertDelete | wire.AlertAck


class Reply(Effect, frozen=True, kw_only=True, gc=False):
    """Send this."""

    message: wire.ServerMessage


class Close(Effect, frozen=True, kw_only=True, gc=False):
    """Start the closing handshake. Nothing follows."""

    code: CloseCode


AnyEffect = Authenticate | Subscribe | Unsubscribe | Snapshot | AskAlerts | Reply | Close


class SessionProtocol:
    """One session's side of the conversation."""

    __slots__ = ("_channels", "_encoding", "_verify", "identity", "state")

    def __init__(
        self,
        encoding: Encoding,
        channels: frozenset[str] = frozenset(),
        identity: Identity | None = ANYBODY,
        verify: Callable[[str, EpochUs], Identity] | None = None,
    ) -> None:
        """Begin.

        `channels`: what the session is subscribed to without having asked, as soon as it may be. `identity`: who the
        client has shown to be; None: it has yet to. `verify`: who shows a token, or IdentityError; None: no tokens are
        asked for.
        """
        self.identity = identity
        self.state = State.UNAUTHENTICATED if identity is None else State.OPEN
        self._verify = verify
        self._encoding = encoding
        self._channels = channels if identity is None else _allowed(channels, identity)

    @property
    def asks_for_token(self) -> bool:
        """Whether a client has to show one."""
        return self._verify is not None

    @property
    def channels(self) -> frozenset[str]:
        """What the session is subscribed to now."""
        return frozenset() if self.identity is None else self._channels

    @property
    def owner(self) -> str | None:
        """Whose alerts are meant when alerts are; None: nobody's."""
        return None if self.identity is None else self.identity.user or None

    def receive(
        self,
        payload: str | bytes,
        now: EpochUs,
        symbols: AbstractSet[str],
        max_channels: int = MAX_CHANNELS,
    ) -> list[AnyEffect]:
        """What one message of the client calls for, in order.

        `str` is the payload of a text frame, `bytes` that of a binary one. `symbols`: those that are served now.
        `max_channels`: how many the session may have now.

        Raises:
            RuntimeError: the connection is gone; nothing can have come from it.

        """
        self._apply(Event.MESSAGE)
        if self.state is State.CLOSING:
            return []
        try:
            return [self._act_on(self._encoding.decode(payload), now, symbols, max_channels)]
        except ProtocolError as error:
            reply = Reply(message=compose.error(error.code, error.message, now, request_id=error.request_id))
            code = ENDS.get((self.state, error.code))
            if code is None:
                return [reply]
            self._apply(Event.CLOSE)
            return [reply, Close(code=code)]

    def withdraw(self, symbols: AbstractSet[str]) -> None:
        """These symbols are served no more: nor are their channels here."""
        self._channels = frozenset(channel for channel in self._channels if symbol_of(channel) not in symbols)

    def share(self, channels: frozenset[str]) -> None:
        """Many sessions have these: if they are this one's, keep the set that is everybody's. Read from a client's
        message, a hundred names would else take a dozen kilobytes of each session."""
        if channels == self._channels:
            self._channels = channels

    def close(self) -> None:
        """The closing handshake has begun: what the client still says is ignored."""
        self._apply(Event.CLOSE)

    def end(self) -> None:
        """The connection is gone.

        Raises:
            RuntimeError: it was gone before.

        """
        self._apply(Event.END)

    def _apply(self, event: Event) -> None:
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise RuntimeError(f"a session that is {self.state.value} cannot have a {event.value}") from None

    def _act_on(
        self, message: wire.ClientMessage, now: EpochUs, symbols: AbstractSet[str], max_channels: int
    ) -> AnyEffect:
        if self.state is State.UNAUTHENTICATED and not isinstance(message, wire.Auth | wire.Ping):
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED, f"{_type(message)}: send `auth` with a token first", message.id
            )
        match message:
            case wire.Subscribe():
                return self._subscribe(message, symbols, max_channels)
            case wire.Unsubscribe():
                channels = self._check(message, symbols)
                self._channels = self._channels.difference(channels)
                return Unsubscribe(id=message.id, channels=channels)
            case wire.Snapshot():
                return Snapshot(id=message.id, channels=self._check(message, symbols))
            case wire.Ping():
                return Reply(message=compose.pong(message.id, now))
            case wire.Auth():
                return self._authenticate(message, now)
            case (
                wire.AlertCreate()
                | wire.AlertList()
                | wire.AlertUpdate()
                | wire.AlertDelete()
                | wire.AlertAck()
            ):
                return AskAlerts(owner=self._alert_owner(message), request=message)
            case _:
                assert_never(message)

    def _authenticate(self, message: wire.Auth, now: EpochUs) -> Authenticate:
        if self._verify is None:
            raise ProtocolError(
                ErrorCode.NOT_AVAILABLE, "auth: this server knows no tokens and needs none", message.id
            )
        try:
            identity = self._verify(message.data.token, now)
        except IdentityError as error:
            code = ErrorCode.TOKEN_EXPIRED if error.expired else ErrorCode.BAD_TOKEN
            raise ProtocolError(code, f"auth: the token is not valid here: {error}", message.id) from None
        before = self.identity
        if before is not None and before.user != identity.user:
            raise ProtocolError(
                ErrorCode.FORBIDDEN, "auth: the token is another user's: connect anew with it", message.id
            )
        self._apply(Event.AUTHENTICATED)
        self.identity = identity
        had = self._channels
        self._channels = _allowed(had, identity)
        return Authenticate(
            id=message.id,
            identity=identity,
            subscribe=tuple(sorted(self._channels)) if before is None else (),
            unsubscribe=() if before is None else tuple(sorted(had - self._channels)),
        )

    def _subscribe(self, message: wire.Subscribe, symbols: AbstractSet[str], max_channels: int) -> Subscribe:
        channels = self._check(message, symbols)
        strangers = message.data.resume.keys() - set(channels)
        if strangers:
            raise ProtocolError(
                ErrorCode.INVALID_MESSAGE,
                f"subscribe: `resume` has {min(strangers)!r}, which is not among `channels`",
                message.id,
            )
        all_channels = self._channels.union(channels)
        # What it has it may ask for again, also where the limit was lowered.
        if len(all_channels) > max(max_channels, len(self._channels)):
            raise ProtocolError(
                ErrorCode.TOO_MANY_CHANNELS,
                f"subscribe: it would make {len(all_channels)} channels, and {max_channels} are allowed",
                message.id,
            )
        self._channels = all_channels
        return Subscribe(id=message.id, channels=channels, resume=message.data.resume)

    def _check(
        self, message: wire.Subscribe | wire.Unsubscribe | wire.Snapshot, symbols: AbstractSet[str]
    ) -> tuple[str, ...]:
        """The channels that a message names, each once.

        Raises:
            ProtocolError: one of them is not served; so the message is not acted on at all.

        """
        channels = tuple(dict.fromkeys(message.data.channels))
        try:
            for channel in channels:
                check_channel(channel, symbols, self.identity)
        except ProtocolError as error:
            raise ProtocolError(error.code, error.message, message.id) from None
        return channels

    def _alert_owner(self, message: wire.ClientMessage) -> str:
        """Whose alerts a message is about.

        Raises:
            ProtocolError: the client may have none.

        """
        try:
            check_scope(Scope.ALERTS, self.identity)
        except ProtocolError as error:
            raise ProtocolError(error.code, f"{_type(message)}: {error.message}", message.id) from None
        assert self.owner is not None, "who may have alerts is somebody"
        return self.owner


def _type(message: wire.ClientMessage) -> str:
    return str(message.__struct_config__.tag)


def _allowed(channels: frozenset[str], identity: Identity) -> frozenset[str]:
    """Those of the channels that its scopes allow."""
    refused = [channel for channel in channels if scope_of(channel) not in identity.scopes]
    return channels.difference(refused) if refused else channels
