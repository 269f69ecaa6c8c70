"""A session's state machine: what a client says → what is to be done about it.

It knows what the client may say now and what is wrong with it. It does not know prices, positions or sockets:
what has to be done is handed out as *effects*, and whoever runs the session does it.

The states, and what moves a session from one to the next:

- OPEN: messages are acted on. (Before it comes the state of a client that has yet to show a token.)
- CLOSING: a close frame is on its way, ours or the answer to the client's; messages are ignored.
- CLOSED: the connection is gone.

An event that the table does not list cannot happen: it raises, and changes nothing.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import assert_never

import msgspec

from aurexd.errors import ProtocolError
from aurexd.market import EpochUs
from aurexd.protocol import compose
from aurexd.protocol import messages as wire
from aurexd.protocol.channels import check_channel, check_owner
from aurexd.protocol.codec import Encoding
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.data import MAX_CHANNELS, Position


class State(Enum):
    """Where a session stands."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Event(Enum):
    """What happens to a session."""

    MESSAGE = "message"
    """The client sent one."""
    CLOSE = "close"
    """Either end started the closing handshake."""
    END = "end"
    """The connection is gone, with or without a handshake."""


TRANSITIONS = MappingProxyType(
    {
        (State.OPEN, Event.MESSAGE): State.OPEN,
        (State.OPEN, Event.CLOSE): State.CLOSING,
        (State.OPEN, Event.END): State.CLOSED,
        (State.CLOSING, Event.MESSAGE): State.CLOSING,
        (State.CLOSING, Event.CLOSE): State.CLOSING,
        (State.CLOSING, Event.END): State.CLOSED,
        # The hub may decide to close a session whose end it has not heard of yet.
        (State.CLOSED, Event.CLOSE): State.CLOSED,
    }
)


class Effect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something to be done for the client."""


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


class Acknowledge(Effect, frozen=True, kw_only=True, gc=False):
    """The session's owner has these alerts; answer."""

    id: wire.RequestId | None
    alert_ids: tuple[str, ...]


class Reply(Effect, frozen=True, kw_only=True, gc=False):
    """Send this."""

    message: wire.ServerMessage


class Close(Effect, frozen=True, kw_only=True, gc=False):
    """Start the closing handshake. Nothing follows."""

    code: CloseCode


AnyEffect = Subscribe | Unsubscribe | Snapshot | Acknowledge | Reply | Close


class SessionProtocol:
    """One session's side of the conversation."""

    __slots__ = ("_channels", "_encoding", "_symbols", "owner", "state")

    def __init__(
        self,
        encoding: Encoding,
        symbols: frozenset[str],
        channels: frozenset[str] = frozenset(),
        owner: str | None = None,
    ) -> None:
        """`channels`: what the session is subscribed to without having asked."""
        self.owner = owner
        """Whose alerts it may see; None: nobody's."""
        self.state = State.OPEN
        self._encoding = encoding
        self._symbols = symbols
        self._channels = channels

    def receive(self, payload: str | bytes, now: EpochUs) -> list[AnyEffect]:
        """What one message of the client calls for, in order.

        `str` is the payload of a text frame, `bytes` that of a binary one.

        Raises:
            RuntimeError: the connection is gone; nothing can have come from it.

        """
        self._apply(Event.MESSAGE)
        if self.state is State.CLOSING:
            return []
        try:
            return [self._act_on(self._encoding.decode(payload), now)]
        except ProtocolError as error:
            reply = Reply(message=compose.error(error.code, error.message, now, request_id=error.request_id))
            if error.code != ErrorCode.UNSUPPORTED_DATA:
                return [reply]
            self._apply(Event.CLOSE)
            return [reply, Close(code=CloseCode.UNSUPPORTED_DATA)]

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

    def _act_on(self, message: wire.ClientMessage, now: EpochUs) -> AnyEffect:
        match message:
            case wire.Subscribe():
                return self._subscribe(message)
            case wire.Unsubscribe():
                channels = self._check(message)
                self._channels = self._channels.difference(channels)
                return Unsubscribe(id=message.id, channels=channels)
            case wire.Snapshot():
                return Snapshot(id=message.id, channels=self._check(message))
            case wire.Ping():
                return Reply(message=compose.pong(message.id, now))
            case wire.Auth():
                raise ProtocolError(
                    ErrorCode.NOT_AVAILABLE, "auth: this server knows no tokens and needs none", message.id
                )
            case wire.AlertAck():
                return self._acknowledge(message)
            case wire.AlertCreate() | wire.AlertList() | wire.AlertUpdate() | wire.AlertDelete():
                name = message.__struct_config__.tag
                raise ProtocolError(
                    ErrorCode.NOT_AVAILABLE, f"{name}: this server has no alert rules", message.id
                )
            case _:
                assert_never(message)

    def _subscribe(self, message: wire.Subscribe) -> Subscribe:
        channels = self._check(message)
        strangers = message.data.resume.keys() - set(channels)
        if strangers:
            raise ProtocolError(
                ErrorCode.INVALID_MESSAGE,
                f"subscribe: `resume` has {min(strangers)!r}, which is not among `channels`",
                message.id,
            )
        all_channels = self._channels.union(channels)
        if len(all_channels) > MAX_CHANNELS:
            raise ProtocolError(
                ErrorCode.TOO_MANY_CHANNELS,
                f"subscribe: it would make {len(all_channels)} channels, and {MAX_CHANNELS} are allowed",
                message.id,
            )
        self._channels = all_channels
        return Subscribe(id=message.id, channels=channels, resume=message.data.resume)

    def _acknowledge(self, message: wire.AlertAck) -> Acknowledge:
        try:
            check_owner(self.owner)
        except ProtocolError as error:
            raise ProtocolError(error.code, f"alert.ack: {error.message}", message.id) from None
        return Acknowledge(id=message.id, alert_ids=tuple(dict.fromkeys(message.data.alert_ids)))

    def _check(self, message: wire.Subscribe | wire.Unsubscribe | wire.Snapshot) -> tuple[str, ...]:
        """The channels that a message names, each once.

        Raises:
            ProtocolError: one of them is not served; so the message is not acted on at all.

        """
        channels = tuple(dict.fromkeys(message.data.channels))
        try:
            for channel in channels:
                check_channel(channel, self._symbols, self.owner)
        except ProtocolError as error:
            raise ProtocolError(error.code, error.message, message.id) from None
        return channels
