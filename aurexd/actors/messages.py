"""The one vocabulary: every message any actor accepts, in the order of the data's way.

An event is in the past tense (`TickReceived`), a command in the imperative (`PauseSource`), a question starts
with `Get` and names its answer, so that `await ask(ref, GetPrices())` is typed. Who may ask whom stands in
ARCHITECTURE.md: data moves by `tell` along its way, questions go only from the edges inwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

from aurexd.alert_rules import Draft
from aurexd.alert_watch import Calm, SeenPrice
from aurexd.calendar import Calendar
from aurexd.candles import Candle, KeptBook, PublishedCandle
from aurexd.delays import Hops
from aurexd.drain import Drain
from aurexd.histogram import Buckets
from aurexd.market import EpochUs, Instrument, Price, Quality, Tick
from aurexd.protocol.alerts import (
    AlertAckData,
    AlertAckedData,
    AlertCreateData,
    AlertData,
    AlertDeleteData,
    AlertDeletedData,
    AlertListData,
    AlertListedData,
    AlertRule,
    AlertRuleData,
    AlertUpdateData,
)
from aurexd.protocol.data import MarketState, Position
from aurexd.protocol.messages import AlertAck, AlertCreate, AlertDelete, AlertList, AlertUpdate
from aurexd.selection import Standing

if TYPE_CHECKING:
    from aurexd.actors.session import Session

R_co = TypeVar("R_co", covariant=True)


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all messages: immutable, so that it may cross threads."""


class Ask(Message, Generic[R_co], frozen=True, kw_only=True, gc=False):
    """A question; its answer has the type parameter's type."""


class Ping(Ask[None], frozen=True, kw_only=True, gc=False):
    """Are you there? Every actor that is a task answers it by itself, in its turn."""


# --- source ----------------------------------------------------------------------------------------------------


class SourceState(StrEnum):
    """What a source's actor is doing."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """Failed; will try again at `next_attempt`."""
    FAILED = "failed"
    """Failed for good, until a person restarts it: the provider refused us."""
    PAUSED = "paused"
    FINISHED = "finished"
    """A recording that came to its end."""
    PARKED = "parked"
    """Its actor kept crashing; the supervisor gave up on it."""


class SourceStatus(Message, frozen=True, kw_only=True, gc=False):
    """Everything one source knows of itself. Counts are since the actor's start, times in `EpochUs`."""

    name: str
    type: str
    priority: int
    symbols: dict[str, str]
    instruments: dict[str, Instrument]
    state: SourceState
    since: EpochUs
    """When it entered this state."""
    ticks: int = 0
    last_tick: EpochUs | None = None
    """Receive time of the newest tick."""
    lag_ms: int | None = None
    """How late the newest tick was: receive time less source time, and what its clock is known to be ahead of ours."""
    clock_skew_ms: int | None = None
    """The provider's clock less ours, by its quickest tick of the last ten minutes; None while unknown. Below 0 it may
    also be that nothing comes quicker from there: the two cannot be told apart."""
    jumps: int = 0
    """Moves that were refused first and then confirmed."""
    connections: int = 0
    """How often the provider answered."""
    failures: int = 0
    last_error: str | None = None
    next_attempt: EpochUs | None = None
    rejected: dict[str, int] = {}
    """What arrived and could not be used or was not believed, by reason."""


class GetSource(Ask[SourceStatus], frozen=True, kw_only=True, gc=False):
    """How is the source?"""


class PauseSource(Message, frozen=True, kw_only=True, gc=False):
    """Disconnect and stay so."""


class ResumeSource(Message, frozen=True, kw_only=True, gc=False):
    """Connect again at once, whatever state it is in."""


# --- aggregator ------------------------------------------------------------------------------------------------


class TickReceived(Message, frozen=True, kw_only=True, gc=False):
    """A source observed a price."""

    tick: Tick


class StaleAfterChanged(Message, frozen=True, kw_only=True, gc=False):
    """A source is asked at another pace, so its price is stale after another time."""

    source: str
    stale_after_s: float


class PriceRestored(Message, frozen=True, kw_only=True, gc=False):
    """The last price from before the start, of a session that has ended: what is shown until there is another."""

    price: Price


class StatusChanged(Message, frozen=True, kw_only=True, gc=False):
    """The symbol's quality, source or market changed, with or without a tick."""

    symbol: str
    quality: Quality
    market: MarketState
    source: str | None
    """Who carries the price; None while nobody ever did."""
    instrument: Instrument
    reason: str
    """Why, for people: `swissquote: no price for 15 s; kraken takes over`."""
    time: EpochUs


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a tick, or followed from time passing: a status, and after it a price, or neither."""

    tick: Tick | None = None
    refused: str | None = None
    """Why the tick was not believed."""
    status: StatusChanged | None = None
    price: Price | None = None
    """The symbol's price from now on."""
    decided: EpochUs | None = None
    """When the tick made the price, if it did and had just come."""


class Decided(Message, frozen=True, kw_only=True, gc=False):
    """What was decided in one go, in its order. The same message tells those who store it, publish it, and make
    candles of it: of what floods in, each costs less than to be told one by one."""

    decisions: tuple[Decision, ...]


class SymbolState(Message, frozen=True, kw_only=True, gc=False):
    """What the aggregator knows of one symbol now."""

    symbol: str
    instrument: Instrument
    decimals: int
    default: bool
    quality: Quality
    market: MarketState
    source: str | None
    price: Price | None
    """The latest price, with the quality it has now."""
    status_reason: str
    status_time: EpochUs


class GetSymbols(Ask[tuple[SymbolState, ...]], frozen=True, kw_only=True, gc=False):
    """What does each symbol cost, and how far can that be trusted?"""


class GetSymbol(Ask[SymbolState | None], frozen=True, kw_only=True, gc=False):
    """The same for one symbol; None when there is no such symbol."""

    symbol: str


class SourcePart(Message, frozen=True, kw_only=True, gc=False):
    """What part one source has in a symbol's price."""

    source: str
    priority: int
    standing: Standing
    """Whether it counts, and why not."""
    quality: Quality | None
    """What the price would be if it were this source's alone; None before its first one."""
    tick: Tick | None
    """The newest that was believed."""
    age_us: int | None
    """Since that arrived."""
    lag_us: int | None
    """How old it was then, by the provider's clock as we know it."""
    stale_after_s: float
    known_delay_s: float
    stale_in_s: float | None
    """None: it is not fresh."""
    returns_in_s: float | None
    """When it may make the price again, if it stays fresh; None: nothing keeps it."""
    ahead_us: int
    """How far its clock is known to be ahead of ours."""
    refused: dict[str, int]
    """Its ticks of this symbol that were not believed, by reason, since the aggregator's start."""


class RefusedTick(Message, frozen=True, kw_only=True, gc=False):
    """A tick that was not believed."""

    tick: Tick
    reason: str


class Why(Message, frozen=True, kw_only=True, gc=False):
    """From what a symbol's price comes, as of now."""

    state: SymbolState
    policy: str
    made_since: EpochUs | None
    """Since when the same sources make it; None while nobody ever did."""
    session_start: EpochUs
    session_end: EpochUs
    """Of the newest session that has begun."""
    next_change: EpochUs
    """When the market opens or closes next."""
    previous_close: Decimal | None
    """What changes are counted against."""
    max_jump_pct: float
    """What it may move in a second without question; 0: everything is believed."""
    return_after_s: float
    parts: tuple[SourcePart, ...]
    """Of each source, in configuration order."""
    refused: tuple[RefusedTick, ...]
    """The last ticks that were not believed, the newest last."""


class GetWhy(Ask[Why | None], frozen=True, kw_only=True, gc=False):
    """Why is the price what it is? None when there is no such symbol."""

    symbol: str


class SourceScreening(Message, frozen=True, kw_only=True, gc=False):
    """What the aggregator thinks of a source's ticks, over all its symbols. Counts are since its own start."""

    refused: dict[str, int] = {}
    """Ticks that were not believed, by reason."""
    jumps: int = 0
    """Moves that were refused first and then confirmed."""
    clock_skew_us: int | None = None
    """The provider's clock less ours, by its quickest tick of the last ten minutes; None while unknown."""


class GetScreening(Ask[dict[str, SourceScreening]], frozen=True, kw_only=True, gc=False):
    """What became of the ticks of each source?"""


# --- candles ---------------------------------------------------------------------------------------------------


class CandlesChanged(Message, frozen=True, kw_only=True, gc=False):
    """What became of the candles since the last time; of each interval the newest is the last."""

    candles: tuple[PublishedCandle, ...]


# --- persister -------------------------------------------------------------------------------------------------


class StoreState(StrEnum):
    """Can aurexd store?"""

    OPENING = "opening"
    OK = "ok"
    DEGRADED = "degraded"
    """Not now: ticks wait in the bounded backlog, and the store is tried again."""
    FAILED = "failed"
    """Not until a person acts (a corrupt file); the stream goes on."""
    OFF = "off"
    """`storage.url` is empty."""


class StoreStatus(Message, frozen=True, kw_only=True, gc=False):
    """What the persister knows of the store and of itself."""

    state: StoreState
    since: EpochUs
    reason: str | None = None
    """Why it is not ok, and what to do."""
    stored: int = 0
    """Ticks committed since start."""
    waiting: int = 0
    """Ticks in the backlog."""
    dropped: int = 0
    """Ticks the full backlog pushed out since start: the oldest first."""
    capacity: int = 0
    """Of the backlog."""
    failures: int = 0
    """Batches that could not be written, since start."""
    judged: int = 0
    """Prices committed since start, each judged by the alert rules for it."""
    alert_rules: dict[str, int] | None = None
    """Phase → how many are in it, as of the last batch; None before it."""
    deleted: int = 0
    """Rows that retention has deleted since start."""
    batches: Buckets | None = None
    """How many records went into each transaction."""
    appends: Buckets | None = None
    """How long each took, in seconds, from giving it to the database's thread."""
    reads: Buckets | None = None
    """How long each answer about history took, in seconds, its turn included."""


class GetStore(Ask[StoreStatus], frozen=True, kw_only=True, gc=False):
    """How is the store?"""


class MarketsChanged(Message, frozen=True, kw_only=True, gc=False):
    """Told to the database: what follows may be of these symbols, too. Those it knows keep their calendar."""

    calendars: dict[str, Calendar]
    fill_us: int
    """For how long candles may be filled."""


class PriceRow(Message, frozen=True, kw_only=True, gc=False):
    """One stored price."""

    symbol: str
    close: float
    """binary64 of the decimal text; printing it gives that text back for prices up to 15 significant digits."""
    bid: float | None
    ask: float | None
    source: str
    quality: Quality
    source_time: EpochUs
    receive_time: EpochUs
    change: float | None = None
    confidence: float | None = None
    votes: tuple[str, ...] = ()


class KeepHandover(Ask[None], frozen=True, kw_only=True, gc=False):
    """The hub stops in order: keep what it knows for the next one. Told to the persister, asked of the database."""

    handover: bytes


class TakeHandover(Ask[bytes | None], frozen=True, kw_only=True, gc=False):
    """What the last hub left, once only: the next one publishes, and then it is not true any more."""


class GetHistory(Ask[tuple[PriceRow, ...]], frozen=True, kw_only=True, gc=False):
    """The stored prices of a symbol with `start <= receive_time < end`, oldest first; the newest `limit` of them."""

    symbol: str
    start: EpochUs
    end: EpochUs
    limit: int


class GetLastPrices(Ask[dict[str, PriceRow]], frozen=True, kw_only=True, gc=False):
    """The newest stored price of each symbol that has one, with all in it that was told to be stored before."""

    symbols: tuple[str, ...]


class StatusPage(Message, frozen=True, kw_only=True, gc=False):
    """A part of the stored statuses, newest first."""

    statuses: tuple[StatusChanged, ...]
    next: int | None
    """What to ask for statuses before, for the rest; None: that is all."""


class GetStatuses(Ask[StatusPage], frozen=True, kw_only=True, gc=False):
    """When did which symbol have another source or quality, and why?"""

    symbol: str | None
    """Only of this one; None: all."""
    before: int | None
    limit: int


class CandleRow(Message, frozen=True, kw_only=True, gc=False):
    """One stored candle; prices as in `PriceRow`."""

    start: EpochUs
    end: EpochUs
    open: float
    high: float
    low: float
    close: float
    ticks: int
    final: bool
    revision: int
    filled: bool = False
    """Of a provider's history: aurexd was not there."""


class CandlePage(Message, frozen=True, kw_only=True, gc=False):
    """A part of the stored candles."""

    candles: tuple[CandleRow, ...]
    older: bool
    """There are more in the range, before these."""
    closed_before: EpochUs | None
    """What ends by then will never change; None before the symbol's first price."""


class GetCandles(Ask[CandlePage], frozen=True, kw_only=True, gc=False):
    """The stored candles with `start <= their start < end`, oldest first; the newest `limit` of them."""

    symbol: str
    interval: str
    start: EpochUs
    end: EpochUs
    limit: int
    now: EpochUs


class FillCandles(Ask[int], frozen=True, kw_only=True, gc=False):
    """Store these, of a provider's history, where there are none; the answer is how many that were."""

    symbol: str
    candles: tuple[Candle[float], ...]


class GetBooks(Ask[dict[str, KeptBook[float]]], frozen=True, kw_only=True, gc=False):
    """Each symbol's book of candles, to go on from, with all in it that was told to be stored before."""


# --- alerts ----------------------------------------------------------------------------------------------------


class AlertFired(Message, frozen=True, kw_only=True, gc=False):
    """An alert for its owner, durable: to be delivered until it is acknowledged."""

    owner: str
    alert: AlertData
    number: int = 0
    """Alerts are numbered as they are stored."""
    arrived: EpochUs | None = None
    """When what fired it arrived; None where that is not of now."""


class AlertsFired(Message, frozen=True, kw_only=True, gc=False):
    """What the prices that were just stored have fired."""

    fired: tuple[AlertFired, ...]


class CatchUpAlerts(Message, frozen=True, kw_only=True, gc=False):
    """The persister has started, and may have died before it told of what had fired."""


class Appended(Message, frozen=True, kw_only=True, gc=False):
    """A batch is stored."""

    fired: tuple[AlertFired, ...]
    calm: dict[str, Calm]
    """Symbol → between which prices nothing fires from here on."""
    rules: dict[str, int]
    """Phase → how many are in it."""


class CreateRule(Ask[AlertRule], frozen=True, kw_only=True, gc=False):
    """Make an alert rule; the answer comes when it is durable."""

    rule_id: str
    owner: str
    draft: Draft
    owner_limit: int
    """How many rules the owner may have."""
    limit: int
    """How many there may be in all."""
    now: EpochUs


class ChangeRule(Ask[AlertRule], frozen=True, kw_only=True, gc=False):
    """Change an alert rule; the answer comes when that is durable."""

    owner: str
    data: AlertUpdateData
    kept_s: float | None
    """How long prices are kept; None: for ever."""
    now: EpochUs


class DeleteRule(Ask[None], frozen=True, kw_only=True, gc=False):
    """Delete an alert rule; the answer comes when that is durable."""

    owner: str
    rule_id: str


class GetRules(Ask[tuple[AlertRule, ...]], frozen=True, kw_only=True, gc=False):
    """An owner's alert rules, oldest first."""

    owner: str
    symbol: str | None
    """Only of this one; None: all."""
    now: EpochUs


class AlertRecord(Message, frozen=True, kw_only=True, gc=False):
    """One alert, as it is kept."""

    alert: AlertData
    acknowledged: EpochUs | None


class AlertPage(Message, frozen=True, kw_only=True, gc=False):
    """A part of an owner's alerts, newest first."""

    alerts: tuple[AlertRecord, ...]
    next: int | None
    """What to ask for alerts before, for the rest; None: that is all."""


class GetAlerts(Ask[AlertPage], frozen=True, kw_only=True, gc=False):
    """What has fired?"""

    owner: str
    before: int | None
    limit: int


class AlertWhy(Message, frozen=True, kw_only=True, gc=False):
    """Why an alert fired."""

    alert: AlertData
    rule: AlertRule
    """As it was."""
    rule_words: str
    """When it fires, for people."""
    words: str
    """Why it fired, for people."""
    previous: SeenPrice | None
    price: SeenPrice | None
    acknowledged: EpochUs | None


class GetAlertWhy(Ask[AlertWhy], frozen=True, kw_only=True, gc=False):
    """Why did it fire?"""

    owner: str | None
    """Only if it is this one's; None: whosever it is."""
    alert_id: str


class StoreAcknowledged(Ask[None], frozen=True, kw_only=True, gc=False):
    """The owner has these alerts; the answer comes when that is durable."""

    owner: str
    alert_ids: tuple[str, ...]
    now: EpochUs


class GetUnacknowledged(Ask[tuple[AlertFired, ...]], frozen=True, kw_only=True, gc=False):
    """The alerts that nobody has acknowledged, oldest first, but for those up to that number."""

    after: int


class AlertTotals(Message, frozen=True, kw_only=True, gc=False):
    """How many rules and alerts there are."""

    rules: dict[str, int]
    """State → how many are in it."""
    owners: int
    """Who have rules."""
    alerts: int
    """Kept, of all owners."""
    unacknowledged: int


class GetAlertTotals(Ask[AlertTotals], frozen=True, kw_only=True, gc=False):
    """How many rules and alerts are there?"""

    now: EpochUs


AlertRequest: TypeAlias = AlertCreateData | AlertListData | AlertUpdateData | AlertDeleteData | AlertAckData
AlertAnswer: TypeAlias = AlertRuleData | AlertListedData | AlertDeletedData | AlertAckedData


class AskAlerts(Ask[AlertAnswer], frozen=True, kw_only=True, gc=False):
    """Do this for an owner; the answer comes when it is durable."""

    owner: str
    data: AlertRequest


class AskedOfAlerts(Message, frozen=True, kw_only=True, gc=False):
    """A client's message about alerts: act on it, and answer the session."""

    session: Session
    owner: str
    request: AlertCreate | AlertList | AlertUpdate | AlertDelete | AlertAck


# --- hub -------------------------------------------------------------------------------------------------------


class SessionOpened(Message, frozen=True, kw_only=True, gc=False):
    """A client is there; it is counted, pinged, and kept informed from now on."""

    session: Session
    channels: frozenset[str] = frozenset()
    """What it is subscribed to without having asked."""
    resume_after: tuple[str, int] | None = None
    """The epoch and the number of the last update that it got before it was lost; see `Update.position`."""
    resume: Mapping[str, Position] = {}
    """Channel → where it was there, if `resume_after` does not say."""


class SessionClosed(Message, frozen=True, kw_only=True, gc=False):
    """The client is gone."""

    session: Session


class Subscribe(Message, frozen=True, kw_only=True, gc=False):
    """Add channels to a session, answer it, and send it what it missed of each, or the snapshot."""

    session: Session
    channels: tuple[str, ...]
    request_id: str | int | None
    resume: dict[str, Position] = {}
    """Channel → where the client was."""


class Unsubscribe(Message, frozen=True, kw_only=True, gc=False):
    """Take channels from a session and answer it."""

    session: Session
    channels: tuple[str, ...]
    request_id: str | int | None


class SendSnapshot(Message, frozen=True, kw_only=True, gc=False):
    """Answer a session with the current state of channels, subscribed or not."""

    session: Session
    channels: tuple[str, ...]
    request_id: str | int | None


class AlertsAcknowledged(Message, frozen=True, kw_only=True, gc=False):
    """The owner has these alerts: they are not sent again."""

    owner: str
    alert_ids: tuple[str, ...]


class SymbolsRemoved(Message, frozen=True, kw_only=True, gc=False):
    """Nothing more comes of these symbols: whoever is subscribed to them is told so."""

    symbols: frozenset[str]


class KickSession(Ask[bool], frozen=True, kw_only=True, gc=False):
    """Close a session, and for good; False: there is none with this id."""

    session_id: str


class GetSessions(Ask[tuple["Session", ...]], frozen=True, kw_only=True, gc=False):
    """Who is there? Whoever asks only looks at them, and at few between two checkpoints."""


class DrainSessions(Message, frozen=True, kw_only=True, gc=False):
    """Say good-bye to every client, as the plan has it; publishing goes on meanwhile."""

    plan: Drain


class Beat(Message, frozen=True, kw_only=True, gc=False):
    """A second passed: see to silent lines and dead clients."""


class Recently(Message, frozen=True, kw_only=True, gc=False):
    """What the last minute brought; while the hub is younger, what there was."""

    seconds: float
    messages_sent: int
    bytes_sent: int
    updates: int
    hops: Hops


class HubStats(Message, frozen=True, kw_only=True, gc=False):
    """What the hub knows of its clients. Counts are since the daemon's start."""

    epoch: str
    active_connections: int
    connections: int
    """Sessions ever opened."""
    messages_sent: int
    """Channel messages handed to sockets or outboxes, heartbeats and answers not counted."""
    sent: dict[str, int]
    """The same by kind of channel."""
    bytes_sent: int
    """Of these, what sockets took at once, before TLS."""
    deferred: int
    """Writes that a socket did not take at once, so that they wait."""
    conflated: int
    """Messages that were replaced by a newer one while they waited."""
    behind: int
    """Sessions for which something waits now."""
    held_bytes: int
    """What all that costs in memory, about."""
    resumes: dict[bool, int]
    """Clients that came back and said where they were: whether all that they had missed was still there."""
    alerts_fired: int
    """Since the start; those of before that are told of again do not count."""
    alerts_late: int
    alerts_paused: int
    """Those whose rule was snoozed for too many alerts."""
    alert_delay: Buckets
    """How long each took, in seconds, from the arrival of what fired it; not of late ones."""
    alerts_acknowledged: int
    alerts_waiting: int
    """Those that were fired and that nobody has acknowledged."""
    hops: Hops
    recent: Recently
    update_count: int
    """Updates published on all channels."""
    channels: dict[str, int]
    """Channel → its `update_count`."""
    last_price: dict[str, Price]
    """Symbol → its newest price."""


class GetStats(Ask[HubStats], frozen=True, kw_only=True, gc=False):
    """How many clients, how many messages?"""
