"""The whole catalogue: every message that a client or the server may send.

A message is an envelope (`type`, `data`, and so on) around what `data.py` and `alerts.py` define. What it all
means stands in docs/protocol.md.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aurexd.protocol import alerts, data
from aurexd.protocol.data import NothingAsked, NothingSaid, Timestamp

D_co = TypeVar("D_co", covariant=True)

MAX_EXACT_INT = 2**53 - 1
"""The largest integer that JavaScript keeps exact."""

RequestId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-MAX_EXACT_INT, le=MAX_EXACT_INT)]

Published = Annotated[Timestamp, Meta(description="When the server sent it.")]


class Request(
    msgspec.Struct,
    Generic[D_co],
    frozen=True,
    kw_only=True,
    gc=False,
    tag_field="type",
    forbid_unknown_fields=True,
):
    """The envelope of what a client sends."""

    id: Annotated[RequestId | None, Meta(description="Yours to choose; the answer carries it.")] = None
    data: D_co


class Answer(msgspec.Struct, Generic[D_co], frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The envelope of an answer."""

    id: Annotated[RequestId | UnsetType, Meta(description="The request's, if it had one.")] = UNSET
    data: D_co
    timestamp: Published


class Notice(msgspec.Struct, Generic[D_co], frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The envelope of what the server says of itself."""

    data: D_co
    timestamp: Published


class Update(msgspec.Struct, Generic[D_co], frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The envelope of a channel's message."""

    data: D_co
    timestamp: Published
    update_count: Annotated[
        int, Meta(description="The channel's messages in this epoch so far, this one included.")
    ]
    conflated: Annotated[
        Annotated[int, Meta(ge=2)] | UnsetType,
        Meta(description="How many of the channel's messages this one stands for; absent: one."),
    ] = UNSET


# --- client → server ---


class Auth(Request[data.AuthData], frozen=True, tag="auth"):
    """Show who you are. Also renews a token in mid-session: one of the same user."""


class Subscribe(Request[data.SubscribeData], frozen=True, tag="subscribe"):
    """Add channels to the session; the current message of each follows the answer."""


class Unsubscribe(Request[data.ChannelsData], frozen=True, tag="unsubscribe"):
    """Take channels from the session. One that it does not have is no error."""


class Snapshot(Request[data.ChannelsData], frozen=True, tag="snapshot"):
    """Ask for the current message of channels, subscribed or not."""


class Ping(Request[NothingAsked], frozen=True, kw_only=True, tag="ping"):
    """Ask for a sign of life: for browsers, which cannot send WebSocket pings."""

    data: NothingAsked = NothingAsked()


class AlertCreate(Request[alerts.AlertCreateData], frozen=True, tag="alert.create"):
    """Make an alert rule."""


class AlertList(Request[alerts.AlertListData], frozen=True, kw_only=True, tag="alert.list"):
    """Ask for the alert rules."""

    data: alerts.AlertListData = alerts.AlertListData()


class AlertUpdate(Request[alerts.AlertUpdateData], frozen=True, tag="alert.update"):
    """Change an alert rule, snooze it, or wake it."""


class AlertDelete(Request[alerts.AlertDeleteData], frozen=True, tag="alert.delete"):
    """Delete an alert rule."""


class AlertAck(Request[alerts.AlertAckData], frozen=True, tag="alert.ack"):
    """Acknowledge alerts: until then they are sent again after a reconnect."""


ClientMessage = (
    Auth
    | Subscribe
    | Unsubscribe
    | Snapshot
    | Ping
    | AlertCreate
    | AlertList
    | AlertUpdate
    | AlertDelete
    | AlertAck
)

# --- server → client: answers ---


class Authenticated(Answer[data.AuthenticatedData], frozen=True, tag="authenticated"):
    """Answers `auth`; also follows the `welcome` of a client that showed its token when it connected."""


class Subscribed(Answer[data.SubscribedData], frozen=True, tag="subscribed"):
    """Answers `subscribe`; says where each channel stands. Snapshots or missed messages follow."""


class Unsubscribed(Answer[data.UnsubscribedData], frozen=True, tag="unsubscribed"):
    """Answers `unsubscribe`; nothing of these channels follows. Without an `id` also where a session loses channels."""


class SnapshotSent(Answer[data.SnapshotSentData], frozen=True, tag="snapshot_sent"):
    """Answers `snapshot`; the current message of each channel that has one follows."""


class Pong(Answer[NothingSaid], frozen=True, tag="pong"):
    """Answers `ping`."""


class AlertCreated(Answer[alerts.AlertRuleData], frozen=True, tag="alert.created"):
    """Answers `alert.create`, once the rule is durable."""


class AlertListed(Answer[alerts.AlertListedData], frozen=True, tag="alert.listed"):
    """Answers `alert.list`."""


class AlertUpdated(Answer[alerts.AlertRuleData], frozen=True, tag="alert.updated"):
    """Answers `alert.update`, once the change is durable."""


class AlertDeleted(Answer[alerts.AlertDeletedData], frozen=True, tag="alert.deleted"):
    """Answers `alert.delete`, once that is durable."""


class AlertAcked(Answer[alerts.AlertAckedData], frozen=True, tag="alert.acked"):
    """Answers `alert.ack`."""


class Error(Answer[data.ErrorData], frozen=True, tag="error"):
    """Answers a message that was not acted on; without one, says why the session is about to end."""


AnswerMessage = (
    Authenticated
    | Subscribed
    | Unsubscribed
    | SnapshotSent
    | Pong
    | AlertCreated
    | AlertListed
    | AlertUpdated
    | AlertDeleted
    | AlertAcked
    | Error
)

# --- server → client: of itself ---


class Welcome(Notice[data.WelcomeData], frozen=True, tag="welcome"):
    """The first message of a session."""


class Heartbeat(Notice[NothingSaid], frozen=True, tag="heartbeat"):
    """Only when the line was silent for `silence_s`."""


class GoingAway(Notice[data.GoingAwayData], frozen=True, tag="going_away"):
    """The server stops; a close with 4000 follows."""


class TokenExpiring(Notice[data.TokenExpiringData], frozen=True, tag="token_expiring"):
    """The session's token expires soon; a close with 4006 follows, unless a new one comes."""


NoticeMessage = Welcome | Heartbeat | GoingAway | TokenExpiring

# --- server → client: channels ---


class PriceUpdate(Update[data.PriceData], frozen=True, tag="price_update"):
    """Channel `price:SYMBOL`: the symbol's price. None comes before there is a price."""


class Status(Update[data.StatusData], frozen=True, tag="status"):
    """Channel `status:SYMBOL`: quality, source or market state changed, be it without a tick."""


class Candle(Update[data.CandleData], frozen=True, tag="candle"):
    """Channel `candle:SYMBOL:INTERVAL`: the candle under way, and its last state."""


class Alert(Update[alerts.AlertData], frozen=True, tag="alert"):
    """Channel `alert`: one of the owner's rules fired. Counted per owner, never conflated."""


class News(Update[data.NewsData], frozen=True, tag="news"):
    """Channel `news`. Never conflated."""


class Sentiment(Update[data.SentimentData], frozen=True, tag="sentiment"):
    """Channel `sentiment:SYMBOL`."""


class Signal(Update[data.SignalData], frozen=True, tag="signal"):
    """Channel `signal:SYMBOL`."""


ChannelMessage = PriceUpdate | Status | Candle | Alert | News | Sentiment | Signal

ServerMessage = AnswerMessage | NoticeMessage | ChannelMessage

LATER: frozenset[type[msgspec.Struct]] = frozenset([News, Sentiment, Signal])
"""Places that are kept: this release sends none of them."""
