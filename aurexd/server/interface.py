"""The HTTP interface as types: what each route takes, and what it answers.

The routes (`api.py`) make their answers of these, and the OpenAPI document (`openapi.py`) is made from them, so that
what is published is what is sent. Answers are open: clients ignore fields that they do not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aurexd import __version__
from aurexd.actors import messages as internal
from aurexd.actors.messages import (
    AlertPage,
    HubStats,
    PriceRow,
    RefusedTick,
    SourcePart,
    SourceState,
    SourceStatus,
    StatusPage,
    StoreState,
    StoreStatus,
    SymbolState,
    Why,
)
from aurexd.alert_watch import SeenPrice
from aurexd.foreign import clean, without_directories
from aurexd.histogram import Buckets
from aurexd.market import EpochUs, Instrument, Price, Quality, Tick, format_time
from aurexd.protocol import compose
from aurexd.protocol.alerts import AlertData, AlertRule
from aurexd.protocol.data import MarketState, Output, PriceData, StatusData, Timestamp
from aurexd.selection import Standing

HISTORY_HOURS_MAX = 24 * 3660
HISTORY_LIMIT_MAX = 10_000

# --- what is asked ---


class Query(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The parameters of a route. Others than these are ignored."""


class SymbolQuery(Query, frozen=True, kw_only=True, gc=False):
    """Which symbol."""

    symbol: Annotated[
        str | UnsetType, Meta(description="A configured symbol; without it, the first default one.")
    ] = UNSET


class HistoryQuery(SymbolQuery, frozen=True, kw_only=True, gc=False):
    """Which part of the history."""

    interval: Annotated[
        Literal["tick", "1s", "1m", "5m", "15m", "1h", "4h", "1d"],
        Meta(description="tick: every price, one by one, by receive time; else candles, by their start."),
    ] = "tick"
    hours: Annotated[
        Annotated[float, Meta(ge=0, le=HISTORY_HOURS_MAX)] | UnsetType,
        Meta(description="How far back from `to`; else 24 for ticks, as far as there are candles."),
    ] = UNSET
    start: Annotated[Timestamp | UnsetType, Meta(description="Start (inclusive); wins over `hours`.")] = (
        msgspec.field(name="from", default=UNSET)
    )
    end: Annotated[Timestamp | UnsetType, Meta(description="End (exclusive); without it, now.")] = (
        msgspec.field(name="to", default=UNSET)
    )
    limit: Annotated[
        int, Meta(ge=1, le=HISTORY_LIMIT_MAX, description="At most this many, the newest of the range.")
    ] = 1000
    format: Annotated[
        Literal["json", "csv"] | UnsetType, Meta(description="Of the answer; wins over `Accept`.")
    ] = UNSET


class RuleQuery(Query, frozen=True, kw_only=True, gc=False):
    """Which alert rules."""

    symbol: Annotated[str, Meta(description="Only this symbol's; without it, all.")] = ""


class SourceHistoryQuery(Query, frozen=True, kw_only=True, gc=False):
    """Which statuses."""

    symbol: Annotated[str, Meta(description="Only this symbol's; without it, all.")] = ""
    before: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | UnsetType,
        Meta(description="Those before this, as `next` has it; without it, the newest."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="At most this many.")] = 100


class AlertHistoryQuery(Query, frozen=True, kw_only=True, gc=False):
    """Which alerts."""

    before: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | UnsetType,
        Meta(description="Those before this, as `next` has it; without it, the newest."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="At most this many.")] = 100


Q = TypeVar("Q", bound=Query)


class QueryError(ValueError):
    """A parameter is not what it has to be; the message names it and says what it may be."""


def read_query(kind: type[Q], parameters: Mapping[str, str]) -> Q:
    """The parameters of a request.

    Raises:
        QueryError: the first that is wrong.

    """
    values: dict[str, Any] = {}
    for field in _fields(kind):
        text = parameters.get(field.encode_name)
        if text is None:
            continue
        try:
            values[field.name] = msgspec.convert(text, field.type, strict=False)
        except msgspec.ValidationError as error:
            expected = _expected(msgspec.json.schema(field.type))
            raise QueryError(f"{field.encode_name}: expected {expected}, got {quoted(text)}") from error
    return kind(**values)


_fields = lru_cache(msgspec.structs.fields)
"""They are made of the annotations each time: as much work as all the rest of a request."""


def quoted(text: str) -> str:
    """What a client wrote, and not all of it where it wrote too much."""
    return repr(clean(text, 60))


def _expected(schema: dict[str, Any]) -> str:
    match schema:
        case {"enum": values}:
            return " or ".join(map(str, values))
        case {"type": kind, "minimum": least, "maximum": most}:
            return f"a {'whole ' if kind == 'integer' else ''}number from {least:g} to {most:g}"
        case _:
            raise AssertionError(f"no words for {schema}")  # a new kind of parameter needs some


# --- what is answered: prices ---


class LatestPrice(PriceData, frozen=True, kw_only=True, gc=False):
    """What a symbol costs now: as in `price_update`, and its age."""

    received: Annotated[Timestamp, Meta(description="When it arrived here.")]
    age_ms: Annotated[int, Meta(description="Since then.")]

    @classmethod
    def of(cls, price: Price, now: EpochUs) -> LatestPrice:
        """As of `now`."""
        return cls(
            **msgspec.structs.asdict(compose.price_data(price)),
            received=format_time(price.receive_time),
            age_ms=(now - price.receive_time) // 1000,
        )


class WhyTick(Output, frozen=True, kw_only=True, gc=False):
    """A tick as it came from its source."""

    bid: Annotated[Decimal | None, Meta(description="Null where it has none.")]
    ask: Annotated[Decimal | None, Meta(description="The same.")]
    last: Annotated[Decimal | None, Meta(description="The same.")]
    timestamp: Annotated[Timestamp, Meta(description="Its source's time.")]
    received: Annotated[Timestamp, Meta(description="When it arrived here.")]

    @classmethod
    def of(cls, tick: Tick) -> WhyTick:
        """Not rounded."""
        return cls(
            bid=tick.bid,
            ask=tick.ask,
            last=tick.last,
            timestamp=format_time(tick.source_time),
            received=format_time(tick.receive_time),
        )


class WhySource(Output, frozen=True, kw_only=True, gc=False):
    """What part one source has in a symbol's price."""

    source: Annotated[str, Meta(description="As configured.")]
    priority: Annotated[int, Meta(description="1 is asked first; of no account in a consensus.")]
    standing: Annotated[
        Standing, Meta(description="`counts`: it makes the price, or has a vote; else why not.")
    ]
    quality: Annotated[
        Quality | None, Meta(description="Of its own price while it is fresh; null before the first.")
    ]
    tick: Annotated[WhyTick | None, Meta(description="Its newest that was believed; null before the first.")]
    age_ms: Annotated[int | None, Meta(description="Since then.")]
    lag_ms: Annotated[int | None, Meta(description="How old it was then, by what is known of its clock.")]
    stale_after_s: Annotated[float, Meta(description="How long a tick keeps it fresh.")]
    known_delay_s: Annotated[float, Meta(description="How late it is by design.")]
    stale_in_ms: Annotated[int | None, Meta(description="Until it is stale; null: it is.")]
    returns_in_ms: Annotated[
        int | None,
        Meta(description="Until it counts again, after it was lost; null: that keeps it from nothing."),
    ]
    clock_ahead_ms: Annotated[int, Meta(description="How far its clock is known to be ahead of ours.")]
    refused: Annotated[dict[str, int], Meta(description="Ticks that were not believed, by reason.")]

    @classmethod
    def of(cls, part: SourcePart) -> WhySource:
        """What the aggregator knows of it."""
        return cls(
            source=part.source,
            priority=part.priority,
            standing=part.standing,
            quality=part.quality,
            tick=None if part.tick is None else WhyTick.of(part.tick),
            age_ms=None if part.age_us is None else part.age_us // 1000,
            lag_ms=None if part.lag_us is None else part.lag_us // 1000,
            stale_after_s=part.stale_after_s,
            known_delay_s=part.known_delay_s,
            stale_in_ms=None if part.stale_in_s is None else int(part.stale_in_s * 1000),
            returns_in_ms=None if part.returns_in_s is None else int(part.returns_in_s * 1000),
            clock_ahead_ms=part.ahead_us // 1000,
            refused=part.refused,
        )


class WhyRefused(Output, frozen=True, kw_only=True, gc=False):
    """A tick that was not believed."""

    source: Annotated[str, Meta(description="Whose.")]
    reason: Annotated[str, Meta(description="Why not.")]
    tick: Annotated[WhyTick, Meta(description="As it came.")]

    @classmethod
    def of(cls, refused: RefusedTick) -> WhyRefused:
        """What the aggregator kept of it."""
        return cls(source=refused.tick.source, reason=refused.reason, tick=WhyTick.of(refused.tick))


class WhySession(Output, frozen=True, kw_only=True, gc=False):
    """A trading day of the market."""

    start: Annotated[Timestamp, Meta(description="Inclusive.")]
    end: Annotated[Timestamp, Meta(description="Exclusive.")]


class WhyPrice(Output, frozen=True, kw_only=True, gc=False):
    """From which ticks and by which rules a symbol's price comes, as of now."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    price: Annotated[LatestPrice | None, Meta(description="The price; null: there is none yet.")]
    quality: Annotated[Quality, Meta(description="How far it can be trusted now.")]
    reason: Annotated[str, Meta(description="For people: why that is so.")]
    since: Annotated[Timestamp, Meta(description="When it became so.")]
    policy: Annotated[str, Meta(description="How one price is made of several: `priority` or `consensus`.")]
    source: Annotated[str | None, Meta(description="Who carries the price; null while nobody ever did.")]
    made_since: Annotated[
        Timestamp | None,
        Meta(description="Since when the same sources make it; null: no price was made yet."),
    ]
    market: Annotated[MarketState, Meta(description="Whether it trades now.")]
    session: Annotated[WhySession, Meta(description="The newest that has begun.")]
    next_change: Annotated[Timestamp, Meta(description="When the market opens or closes next.")]
    previous_close: Annotated[
        Decimal | None, Meta(description="What `change` is against; null while that is unknown.")
    ]
    max_jump_pct: Annotated[
        float, Meta(description="What it may move in a second without question; 0: all is believed.")
    ]
    return_after_s: Annotated[float, Meta(description="How long who was lost must be fresh to count again.")]
    sources: Annotated[
        list[WhySource], Meta(description="Each that serves the symbol, in configuration order.")
    ]
    refused: Annotated[
        list[WhyRefused], Meta(description="The last that were not believed, the newest last.")
    ]

    @classmethod
    def of(cls, why: Why, now: EpochUs) -> WhyPrice:
        """What the aggregator answered, as of `now`."""
        state = why.state
        return cls(
            symbol=state.symbol,
            instrument=state.instrument,
            price=None if state.price is None else LatestPrice.of(state.price, now),
            quality=state.quality,
            reason=state.status_reason,
            since=format_time(state.status_time),
            policy=why.policy,
            source=state.source,
            made_since=None if why.made_since is None else format_time(why.made_since),
            market=state.market,
            session=WhySession(start=format_time(why.session_start), end=format_time(why.session_end)),
            next_change=format_time(why.next_change),
            previous_close=why.previous_close,
            max_jump_pct=why.max_jump_pct,
            return_after_s=why.return_after_s,
            sources=[WhySource.of(part) for part in why.parts],
            refused=[WhyRefused.of(refused) for refused in why.refused],
        )


class HistoryPrice(Output, frozen=True, kw_only=True, gc=False):
    """One published price, as it was stored."""

    close: Annotated[float, Meta(description="The mid where bid and ask were quoted, else the last price.")]
    bid: Annotated[float | None, Meta(description="Null where the source quoted none.")]
    ask: Annotated[float | None, Meta(description="Null where the source quoted none.")]
    source: Annotated[str, Meta(description="Who said so.")]
    quality: Annotated[Quality, Meta(description="How far it could be trusted.")]
    timestamp: Annotated[Timestamp, Meta(description="The source's time.")]
    received: Annotated[Timestamp, Meta(description="When it arrived here.")]

    @classmethod
    def of(cls, row: PriceRow) -> HistoryPrice:
        """A row of the store."""
        return cls(
            close=row.close,
            bid=row.bid,
            ask=row.ask,
            source=row.source,
            quality=row.quality,
            timestamp=format_time(row.source_time),
            received=format_time(row.receive_time),
        )


class History(Output, frozen=True, kw_only=True, gc=False):
    """The published prices of one symbol, oldest first."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    interval: Annotated[Literal["tick"], Meta(description="Every price, one by one.")]
    start: Annotated[Timestamp, Meta(description="Of the range, inclusive.")] = msgspec.field(name="from")
    end: Annotated[Timestamp, Meta(description="Of the range, exclusive.")] = msgspec.field(name="to")
    prices: Annotated[list[HistoryPrice], Meta(description="Those received in it, the newest `limit`.")]


class HistoryCandle(Output, frozen=True, kw_only=True, gc=False):
    """One candle, as in the message `candle`; its prices have the symbol's decimals."""

    start: Annotated[Timestamp, Meta(description="Of its interval, inclusive.")]
    end: Annotated[Timestamp, Meta(description="Of its interval, exclusive.")]
    open: Annotated[float, Meta(description="The first price.")]
    high: Annotated[float, Meta(description="The highest.")]
    low: Annotated[float, Meta(description="The lowest.")]
    close: Annotated[float, Meta(description="The last.")]
    ticks: Annotated[int, Meta(description="How many prices it was made of.")]
    final: Annotated[bool, Meta(description="The interval is over.")]
    revision: Annotated[int, Meta(description="How often a late price changed it when it was final.")]
    filled: Annotated[bool, Meta(description="Taken from a provider's history: aurexd was not there.")]


class Gap(Output, frozen=True, kw_only=True, gc=False):
    """A time between two candles of the answer that has none."""

    start: Annotated[Timestamp, Meta(description="Inclusive.")] = msgspec.field(name="from")
    end: Annotated[Timestamp, Meta(description="Exclusive.")] = msgspec.field(name="to")


class CandleHistory(Output, frozen=True, kw_only=True, gc=False):
    """The candles of one symbol, oldest first."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    interval: Annotated[
        Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"], Meta(description="Of each candle.")
    ]
    start: Annotated[
        Timestamp | None, Meta(description="Of the range, inclusive; null: as far as there are candles.")
    ] = msgspec.field(name="from")
    end: Annotated[Timestamp, Meta(description="Of the range, exclusive.")] = msgspec.field(name="to")
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    candles: Annotated[list[HistoryCandle], Meta(description="Those that begin in it, the newest `limit`.")]
    gaps: Annotated[list[Gap], Meta(description="Times between them that have none.")]
    next: Annotated[str | None, Meta(description="Where the candles before these are; null: there are none.")]


# --- what is answered: alerts ---


class KeptAlert(Output, frozen=True, kw_only=True, gc=False):
    """One alert, as it was sent."""

    alert: Annotated[AlertData, Meta(description="As in the message `alert`.")]
    acknowledged: Annotated[Timestamp | None, Meta(description="When its owner had it; null: not yet.")]


class AlertHistory(Output, frozen=True, kw_only=True, gc=False):
    """What has fired, newest first."""

    alerts: Annotated[list[KeptAlert], Meta(description="The newest `limit` before `before`.")]
    next: Annotated[str | None, Meta(description="Where the alerts before these are; null: there are none.")]

    @classmethod
    def of(cls, page: AlertPage, limit: int) -> AlertHistory:
        """A page of the store."""
        return cls(
            alerts=[
                KeptAlert(
                    alert=kept.alert,
                    acknowledged=None if kept.acknowledged is None else format_time(kept.acknowledged),
                )
                for kept in page.alerts
            ],
            next=None if page.next is None else f"/api/v1/alerts/history?before={page.next}&limit={limit}",
        )


class AlertPrice(Output, frozen=True, kw_only=True, gc=False):
    """A price that an alert was judged by."""

    close: Annotated[Decimal, Meta(description="The price.")]
    source: Annotated[str, Meta(description="Who said so.")]
    quality: Annotated[Quality, Meta(description="How far it could be trusted.")]
    timestamp: Annotated[Timestamp, Meta(description="The source's time.")]
    received: Annotated[Timestamp, Meta(description="When it arrived here.")]
    rebased: Annotated[bool, Meta(description="The one before it was another source's, or other sources'.")]
    row: Annotated[int, Meta(description="Of the table `prices`.")]

    @classmethod
    def of(cls, price: SeenPrice) -> AlertPrice:
        """As it was recorded."""
        return cls(
            close=price.close,
            source=price.source,
            quality=price.quality,
            timestamp=format_time(price.source_time),
            received=format_time(price.receive_time),
            rebased=price.rebased,
            row=price.id,
        )


class AlertWhy(Output, frozen=True, kw_only=True, gc=False):
    """Why an alert fired."""

    alert: Annotated[AlertData, Meta(description="As in the message `alert`.")]
    acknowledged: Annotated[Timestamp | None, Meta(description="When its owner had it; null: not yet.")]
    rule: Annotated[AlertRule, Meta(description="As it was when it fired.")]
    fires_when: Annotated[str, Meta(description="The rule, for people.")]
    reason: Annotated[str, Meta(description="Why it fired, for people.")]
    previous: Annotated[AlertPrice | None, Meta(description="The price before; null: there was none.")]
    price: Annotated[AlertPrice | None, Meta(description="The price that fired it; null: no price did.")]

    @classmethod
    def of(cls, why: internal.AlertWhy) -> AlertWhy:
        """What the store knows of it."""
        return cls(
            alert=why.alert,
            acknowledged=None if why.acknowledged is None else format_time(why.acknowledged),
            rule=why.rule,
            fires_when=why.rule_words,
            reason=why.words,
            previous=None if why.previous is None else AlertPrice.of(why.previous),
            price=None if why.price is None else AlertPrice.of(why.price),
        )


# --- what is answered: the daemon ---


class Source(Output, frozen=True, kw_only=True, gc=False):
    """One provider's connection. Counts are since its start."""

    name: Annotated[str, Meta(description="As configured.")]
    type: Annotated[str, Meta(description="Which provider's protocol it speaks.")]
    priority: Annotated[int, Meta(description="1 is asked first.")]
    symbols: Annotated[dict[str, str], Meta(description="Ours → the provider's.")]
    instruments: Annotated[dict[str, Instrument], Meta(description="Symbol → what is quoted.")]
    state: Annotated[SourceState, Meta(description="What it is doing.")]
    since: Annotated[Timestamp, Meta(description="When it began that.")]
    ticks: Annotated[int, Meta(description="Delivered.")]
    last_tick: Annotated[Timestamp | None, Meta(description="When the newest arrived.")]
    lag_ms: Annotated[
        int | None,
        Meta(description="How late that was, less what the provider's clock is known to be ahead."),
    ]
    clock_skew_ms: Annotated[
        int | None, Meta(description="The provider's clock less ours; null while unknown.")
    ]
    jumps: Annotated[int, Meta(description="Moves that were refused first and then confirmed.")]
    connections: Annotated[int, Meta(description="Connections made.")]
    failures: Annotated[int, Meta(description="Connections lost or not made.")]
    last_error: Annotated[str | None, Meta(description="For people: what failed last, and what to do.")]
    next_attempt: Annotated[Timestamp | None, Meta(description="While it waits: when it tries again.")]
    rejected: Annotated[dict[str, int], Meta(description="What arrived and could not be used, by reason.")]

    @classmethod
    def of(cls, status: SourceStatus) -> Source:
        """What a source's actor, or its supervisor, knows of it."""
        fields = msgspec.structs.asdict(status)
        for name in ("since", "last_tick", "next_attempt"):
            if fields[name] is not None:
                fields[name] = format_time(fields[name])
        if status.last_error is not None:
            fields["last_error"] = without_directories(status.last_error)
        return cls(**fields)


class Symbol(Output, frozen=True, kw_only=True, gc=False):
    """One symbol, and who carries its price."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    decimals: Annotated[int, Meta(description="Digits after the point that its prices are rounded to.")]
    default: Annotated[bool, Meta(description="Whether who asks for nothing gets it.")]
    quality: Annotated[Quality, Meta(description="Of its latest price, as of now.")]
    market: Annotated[MarketState, Meta(description="Whether it trades now.")]
    source: Annotated[str | None, Meta(description="Who carries the price; null while nobody ever did.")]
    reason: Annotated[str, Meta(description="For people: why it is so.")]
    since: Annotated[Timestamp, Meta(description="When it became so.")]

    @classmethod
    def of(cls, state: SymbolState) -> Symbol:
        """What the aggregator knows of it."""
        return cls(
            symbol=state.symbol,
            instrument=state.instrument,
            decimals=state.decimals,
            default=state.default,
            quality=state.quality,
            market=state.market,
            source=state.source,
            reason=state.status_reason,
            since=format_time(state.status_time),
        )


class Sources(Output, frozen=True, kw_only=True, gc=False):
    """Where the prices come from."""

    sources: Annotated[list[Source], Meta(description="In the configuration's order.")]
    symbols: Annotated[list[Symbol], Meta(description="In the configuration's order.")]


class SourceHistory(Output, frozen=True, kw_only=True, gc=False):
    """When symbols had another source, quality or market, newest first."""

    statuses: Annotated[
        list[StatusData], Meta(description="As in the message `status`: the newest `limit` before `before`.")
    ]
    next: Annotated[
        str | None, Meta(description="Where the statuses before these are; null: there are none.")
    ]

    @classmethod
    def of(cls, page: StatusPage, asked: SourceHistoryQuery) -> SourceHistory:
        """A page of the store."""
        of_symbol = {"symbol": asked.symbol} if asked.symbol else {}
        before = urlencode({**of_symbol, "before": page.next, "limit": asked.limit})
        return cls(
            statuses=[
                StatusData(
                    symbol=status.symbol,
                    quality=status.quality,
                    source=status.source,
                    instrument=status.instrument,
                    market=status.market,
                    reason=status.reason,
                    since=format_time(status.time),
                )
                for status in page.statuses
            ],
            next=None if page.next is None else f"/api/v1/sources/history?{before}",
        )


class Rates(Output, frozen=True, kw_only=True, gc=False):
    """By the second, on average over the last minute."""

    messages_per_s: Annotated[float, Meta(description="Channel messages to clients.")]
    bytes_per_s: Annotated[float, Meta(description="Of these, what sockets took at once, before TLS.")]
    updates_per_s: Annotated[float, Meta(description="Messages published, on all channels.")]


class Latency(Output, frozen=True, kw_only=True, gc=False):
    """How long something took in the last minute, about; null where it did not happen."""

    p50_ms: Annotated[float | None, Meta(description="Half took no longer.")]
    p99_ms: Annotated[float | None, Meta(description="Of a hundred, 99 took no longer.")]
    count: Annotated[int, Meta(description="How many there were.")]

    @classmethod
    def of(cls, seconds: Buckets) -> Latency:
        """Of what was counted."""
        p50, p99 = (s if s is None else round(s * 1000, 3) for s in map(seconds.quantile, (0.5, 0.99)))
        return cls(p50_ms=p50, p99_ms=p99, count=seconds.count)


class Latencies(Output, frozen=True, kw_only=True, gc=False):
    """A price's hops from the source to the clients' sockets."""

    source: Annotated[Latency, Meta(description="From its source's time until it was received.")]
    aggregator: Annotated[Latency, Meta(description="Then, until it was decided.")]
    hub: Annotated[Latency, Meta(description="Then, until the hub began to write it.")]
    socket: Annotated[Latency, Meta(description="Then, until it was written to a client's socket.")]
    delivery: Annotated[Latency, Meta(description="All but the first: from receiving until it was written.")]


class Stats(Output, frozen=True, kw_only=True, gc=False):
    """Clients and messages. Counts are since the daemon's start, but for those of the channels."""

    version: Annotated[str, Meta(description="Of aurexd.")]
    uptime_s: Annotated[float, Meta(description="Since the start.")]
    active_connections: Annotated[int, Meta(description="Streaming sessions now.")]
    connections: Annotated[int, Meta(description="Streaming sessions ever opened.")]
    slow_connections: Annotated[int, Meta(description="Streaming sessions for which something waits.")]
    messages_sent: Annotated[int, Meta(description="Channel messages; heartbeats and answers not counted.")]
    bytes_sent: Annotated[int, Meta(description="Of these, what sockets took at once, before TLS.")]
    conflated: Annotated[int, Meta(description="Messages that a newer one replaced for a slow client.")]
    update_count: Annotated[int, Meta(description="Published on all channels in this epoch.")]
    rates: Annotated[Rates, Meta(description="Of the last minute.")]
    latencies: Annotated[Latencies, Meta(description="Of the last minute.")]
    epoch: Annotated[str, Meta(description="Which run of the counts.")]
    channels: Annotated[dict[str, int], Meta(description="Channel → its `update_count`.")]
    last_price: Annotated[dict[str, LatestPrice], Meta(description="Symbol → its newest price.")]

    @classmethod
    def of(cls, stats: HubStats, now: EpochUs, uptime_s: float) -> Stats:
        """What the hub knows of its clients."""
        recent = stats.recent
        return cls(
            version=__version__,
            uptime_s=round(uptime_s, 1),
            active_connections=stats.active_connections,
            connections=stats.connections,
            slow_connections=stats.behind,
            messages_sent=stats.messages_sent,
            bytes_sent=stats.bytes_sent,
            conflated=stats.conflated,
            update_count=stats.update_count,
            rates=Rates(
                messages_per_s=_rate(recent.messages_sent, recent.seconds),
                bytes_per_s=_rate(recent.bytes_sent, recent.seconds),
                updates_per_s=_rate(recent.updates, recent.seconds),
            ),
            latencies=Latencies(
                **{hop: Latency.of(getattr(recent.hops, hop)) for hop in Latencies.__struct_fields__}
            ),
            epoch=stats.epoch,
            channels=stats.channels,
            last_price={symbol: LatestPrice.of(price, now) for symbol, price in stats.last_price.items()},
        )


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds else 0.0


class Health(Output, frozen=True, kw_only=True, gc=False):
    """The process works."""

    status: Annotated[Literal["ok"], Meta(description="Its core actors answer.")]
    version: Annotated[str, Meta(description="Of aurexd.")]
    uptime_s: Annotated[float, Meta(description="Since the start.")]


class SymbolReadiness(Output, frozen=True, kw_only=True, gc=False):
    """How fresh a symbol's price is."""

    quality: Annotated[Quality, Meta(description="Of its latest price, as of now.")]
    market: Annotated[MarketState, Meta(description="Whether it trades now.")]
    source: Annotated[str | None, Meta(description="Who carries the price; null while nobody ever did.")]
    reason: Annotated[str, Meta(description="For people: why it is so.")]


class StoreReadiness(Output, frozen=True, kw_only=True, gc=False):
    """Whether prices are stored. Counts are ticks since the start."""

    state: Annotated[StoreState, Meta(description="Whether it can store.")]
    reason: Annotated[str | None, Meta(description="For people: why not, and what to do.")]
    stored: Annotated[int, Meta(description="Written.")]
    waiting: Annotated[int, Meta(description="In memory, not written yet.")]
    dropped: Annotated[int, Meta(description="Lost, because the memory for them was full.")]


Phase = Literal["starting", "serving", "draining"]


class Readiness(Output, frozen=True, kw_only=True, gc=False):
    """Whether clients can be served; how fresh prices are does not count."""

    ready: Annotated[bool, Meta(description="They can.")]
    phase: Annotated[Phase, Meta(description="Of the daemon's life.")]
    symbols: Annotated[dict[str, SymbolReadiness], Meta(description="By name.")]
    store: Annotated[StoreReadiness, Meta(description="Whether prices are stored.")]

    @classmethod
    def of(cls, phase: Phase, states: Iterable[SymbolState], store: StoreStatus) -> Readiness:
        """What the daemon, the aggregator and the persister say."""
        return cls(
            ready=phase == "serving",
            phase=phase,
            symbols={
                s.symbol: SymbolReadiness(
                    quality=s.quality, market=s.market, source=s.source, reason=s.status_reason
                )
                for s in states
            },
            store=StoreReadiness(
                state=store.state,
                reason=store.reason and without_directories(store.reason),
                stored=store.stored,
                waiting=store.waiting,
                dropped=store.dropped,
            ),
        )


# --- what is answered: what went wrong ---


class ErrorDetail(Output, frozen=True, kw_only=True, gc=False):
    """What is wrong."""

    status: Annotated[int, Meta(description="The answer's status again.")]
    message: Annotated[str, Meta(description="For people: what, where, and what to do.")]


class Error(Output, frozen=True, kw_only=True, gc=False):
    """The body of every answer that is an error."""

    error: Annotated[ErrorDetail, Meta(description="What is wrong.")]

    @classmethod
    def of(cls, status: int, message: str) -> Error:
        """That status, in those words."""
        return cls(error=ErrorDetail(status=status, message=message))
