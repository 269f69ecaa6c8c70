"""What the messages carry: the `data` of each, and the types inside it. The messages are `messages.py`'s.

What clients send is closed (`Input`: an unknown field is an error), what the server sends is open (`Output`:
clients ignore what they do not know, so fields may be added).
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aurexd.identity import MAX_TOKEN_LENGTH
from aurexd.market import Instrument, Quality

Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 in UTC, as `aurexd.market.format_time` writes it."""

ChannelName = Annotated[str, Meta(max_length=64)]
"""`price:XAUUSD`; what there is stands in `channels.py`."""

MAX_CHANNELS = 256
"""Channels of one session, and so of one message."""

ChannelNames = Annotated[list[ChannelName], Meta(min_length=1, max_length=MAX_CHANNELS)]


class MarketState(StrEnum):
    """Whether the symbol's market trades now."""

    OPEN = "open"
    CLOSED = "closed"


class AuthMode(StrEnum):
    """Whether clients must show who they are."""

    OPEN = "open"
    TOKEN = "token"  # noqa: S105 — a mode, not a secret


class Input(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What a client sends."""


class Output(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the server sends."""


# --- what a client sends ---


class Position(Input, frozen=True, kw_only=True, gc=False):
    """A place in one channel."""

    epoch: Annotated[str, Meta(max_length=64, description="Which run of the counts.")]
    count: Annotated[
        int, Meta(ge=0, description="The `update_count` of the last message; 0 before the first.")
    ]


class NothingAsked(Input, frozen=True, kw_only=True, gc=False):
    """Nothing: `{}`."""


class AuthData(Input, frozen=True, kw_only=True, gc=False):
    """Who the client is."""

    token: Annotated[str, Meta(max_length=MAX_TOKEN_LENGTH, description="A signed token.")]

    def __repr__(self) -> str:
        return "AuthData(…)"


class SubscribeData(Input, frozen=True, kw_only=True, gc=False):
    """What to subscribe to."""

    channels: Annotated[ChannelNames, Meta(description="Added to those the session has.")]
    resume: Annotated[
        dict[ChannelName, Position],
        Meta(
            max_length=MAX_CHANNELS, description="For channels seen before: the position of the last message."
        ),
    ] = {}


class ChannelsData(Input, frozen=True, kw_only=True, gc=False):
    """Which channels are meant."""

    channels: Annotated[ChannelNames, Meta(description="Their names.")]


# --- what the server sends: the session ---


class NothingSaid(Output, frozen=True, kw_only=True, gc=False):
    """Nothing: `{}`."""


class HeartbeatData(Output, frozen=True, kw_only=True, gc=False):
    """How either end notices that the line is dead."""

    ping_interval_s: Annotated[float, Meta(description="A client that was silent so long is pinged.")]
    pong_timeout_s: Annotated[
        float, Meta(description="It is closed with 4002 when no answer comes within this.")
    ]
    silence_s: Annotated[
        float, Meta(description="A line silent so long gets a `heartbeat`: three times that means dead.")
    ]


class LimitsData(Output, frozen=True, kw_only=True, gc=False):
    """What the session may ask of the server."""

    max_message_bytes: Annotated[int, Meta(description="Of one message to the server.")]
    max_messages_per_second: Annotated[
        float, Meta(description="To the server, sustained; two seconds' worth at once.")
    ]
    max_control_frames_per_second: Annotated[
        float, Meta(description="WebSocket pings and pongs to the server; two seconds' worth at once.")
    ]
    max_channels: Annotated[int, Meta(description="Subscribed to at the same time.")]
    idle_timeout_s: Annotated[
        float,
        Meta(description="A session without a channel that says nothing for so long is closed; 0: never."),
    ]
    send_queue_bytes: Annotated[int, Meta(description="Of answers that may wait for a slow reader.")]
    auth_timeout_s: Annotated[
        float | UnsetType, Meta(description="Until a token must be shown; absent where none is asked for.")
    ] = UNSET


class WelcomeData(Output, frozen=True, kw_only=True, gc=False):
    """What the session may rely on."""

    session: Annotated[str, Meta(description="Names the session in the server's log.")]
    version: Annotated[str, Meta(description="Of aurexd.")]
    epoch: Annotated[str, Meta(description="Which run of the counts; another one means: start over.")]
    server_time: Annotated[Timestamp, Meta(description="The server's clock.")]
    auth: Annotated[
        AuthMode,
        Meta(description="`token`: until `authenticated` has come, only `auth` and `ping` are acted on."),
    ]
    heartbeat: Annotated[HeartbeatData, Meta(description="How either end notices a dead line.")]
    limits: Annotated[LimitsData, Meta(description="What the session may ask of the server.")]


class AuthenticatedData(Output, frozen=True, kw_only=True, gc=False):
    """Who the server takes the client for."""

    user: Annotated[str, Meta(description="The token's subject.")]
    scopes: Annotated[list[str], Meta(description="What it may do.")]
    expires: Annotated[Timestamp, Meta(description="Send a new `auth` before this.")]


class TokenExpiringData(Output, frozen=True, kw_only=True, gc=False):
    """The session is about to end, unless its token is renewed."""

    expires: Annotated[Timestamp, Meta(description="Send a new `auth` before this.")]


class CurrentPosition(Output, frozen=True, kw_only=True, gc=False):
    """Where a channel stands."""

    epoch: Annotated[str, Meta(description="Which run of the counts.")]
    count: Annotated[int, Meta(description="What `update_count` is now; 0 before the first message.")]


class SubscribedPosition(CurrentPosition, frozen=True, kw_only=True, gc=False):
    """Where a channel stands, and what follows."""

    recovered: Annotated[
        bool,
        Meta(description="True: the missed messages follow, in order. False: the current snapshot follows."),
    ]


class SubscribedData(Output, frozen=True, kw_only=True, gc=False):
    """Where each of the channels stands."""

    channels: Annotated[dict[str, SubscribedPosition], Meta(description="Those that were asked for.")]


class UnsubscribedData(Output, frozen=True, kw_only=True, gc=False):
    """What is no longer sent."""

    channels: Annotated[list[str], Meta(description="Those that were asked for.")]


class SnapshotSentData(Output, frozen=True, kw_only=True, gc=False):
    """Where each of the channels stands; its current message follows."""

    channels: Annotated[dict[str, CurrentPosition], Meta(description="Those that were asked for.")]


class ErrorData(Output, frozen=True, kw_only=True, gc=False):
    """What is wrong."""

    code: Annotated[str, Meta(description="One of the error codes; there may come more.")]
    message: Annotated[str, Meta(description="For people: what, where, and what to do.")]
    retry_after_ms: Annotated[int | UnsetType, Meta(description="Wait at least this long.")] = UNSET


class GoingAwayData(Output, frozen=True, kw_only=True, gc=False):
    """The server is about to close the session."""

    reason: Annotated[str, Meta(description="For people.")]
    retry_after_ms: Annotated[int, Meta(description="Come back after this long; different for each client.")]


# --- what the server sends: the market ---


class PriceData(Output, frozen=True, kw_only=True, gc=False):
    """What a symbol costs. Numbers are rounded to the symbol's decimals."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    close: Annotated[Decimal, Meta(description="The mid where bid and ask are quoted, else the last price.")]
    change: Annotated[
        Decimal | None, Meta(description="Against the previous session's close; null while that is unknown.")
    ]
    change_pct: Annotated[Decimal | None, Meta(description="The same in percent.")]
    timestamp: Annotated[Timestamp, Meta(description="The source's time of this price.")]
    bid: Annotated[Decimal | None, Meta(description="Null where the source quotes none.")]
    ask: Annotated[Decimal | None, Meta(description="Null where the source quotes none.")]
    source: Annotated[str, Meta(description="Who says so; `consensus`: several.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted; a symbol never changes it.")]
    quality: Annotated[Quality, Meta(description="How far the price can be trusted.")]
    confidence: Annotated[
        Decimal | UnsetType,
        Meta(description="Of a consensus: the price lies within this much of `close`; see the policies."),
    ] = UNSET
    votes: Annotated[
        list[str] | UnsetType, Meta(description="Of a consensus: the sources it is made of.")
    ] = UNSET
    rebased: Annotated[
        bool | UnsetType,
        Meta(
            description="True: the price before was another source's, or other sources', so that part of the step "
            "between may not be the market's."
        ),
    ] = UNSET


class StatusData(Output, frozen=True, kw_only=True, gc=False):
    """How far a symbol's price can be trusted now."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    quality: Annotated[Quality, Meta(description="Of the latest price, as of now.")]
    source: Annotated[str | None, Meta(description="Who carries the price; null while nobody ever did.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    market: Annotated[MarketState, Meta(description="Whether it trades now.")]
    reason: Annotated[str, Meta(description="For people: why it is so.")]
    since: Annotated[Timestamp, Meta(description="When it became so.")]


class CandleData(Output, frozen=True, kw_only=True, gc=False):
    """The prices of one interval."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    interval: Annotated[str, Meta(description="1s, 1m, 5m, 15m, 1h, 4h or 1d.")]
    start: Annotated[Timestamp, Meta(description="Of the interval, inclusive.")]
    end: Annotated[Timestamp, Meta(description="Of the interval, exclusive.")]
    open: Annotated[Decimal, Meta(description="The first `close` of a `price_update` in it.")]
    high: Annotated[Decimal, Meta(description="The highest.")]
    low: Annotated[Decimal, Meta(description="The lowest.")]
    close: Annotated[Decimal, Meta(description="The last so far.")]
    ticks: Annotated[int, Meta(description="How many prices made it.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    final: Annotated[bool, Meta(description="The interval is over.")]
    revision: Annotated[
        int, Meta(description="How often a late tick changed it when it was final already; else 0.")
    ]
    filled: Annotated[bool, Meta(description="Taken from a provider's history: aurexd was not there.")]


class NewsData(Output, frozen=True, kw_only=True, gc=False):
    """One piece of news. Text from outside: show it as text, never as markup."""

    news_id: Annotated[str, Meta(description="The same piece keeps it.")]
    headline: Annotated[str, Meta(description="One line of text.")]
    summary: Annotated[str | None, Meta(description="Null where the publisher gives none.")]
    url: Annotated[str | None, Meta(description="http or https.")]
    publisher: Annotated[str, Meta(description="Who says so.")]
    symbols: Annotated[list[str], Meta(description="Those it concerns.")]
    timestamp: Annotated[Timestamp, Meta(description="When it was published.")]


class SentimentData(Output, frozen=True, kw_only=True, gc=False):
    """The mood about a symbol."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    score: Annotated[float, Meta(ge=-1, le=1, description="−1: all negative, 1: all positive.")]
    samples: Annotated[int, Meta(description="How many texts it was taken from.")]
    window_s: Annotated[float, Meta(description="How far back they go.")]
    source: Annotated[str, Meta(description="Who says so.")]
    timestamp: Annotated[Timestamp, Meta(description="As of when.")]


class SignalDirection(StrEnum):
    """Where a signal points."""

    UP = "up"
    DOWN = "down"
    NEUTRAL = "neutral"


class SignalData(Output, frozen=True, kw_only=True, gc=False):
    """What an indicator says about a symbol."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    name: Annotated[str, Meta(description="Of the indicator.")]
    direction: Annotated[SignalDirection, Meta(description="Where it points.")]
    confidence: Annotated[float, Meta(ge=0, le=1, description="0: a guess, 1: certain.")]
    reason: Annotated[str, Meta(description="For people.")]
    timestamp: Annotated[Timestamp, Meta(description="The source's time of the price that made it.")]
