"""`io.aurex.Control` as types: what an operator may call, and what is answered.

The interface's definition, `io.aurex.Control.varlink`, is written from them: their words are its documentation.
Prices, sources and stores are described as HTTP describes them (`server/interface.py`), in the same words.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Annotated, Literal, get_args

from msgspec import Meta

from aurexd.actors.child import ChildState
from aurexd.actors.messages import StoreState
from aurexd.control.definition import Interface, Method, Struct
from aurexd.errors import VarlinkError
from aurexd.market import Instrument, Quality
from aurexd.protocol.alerts import AlertData
from aurexd.protocol.data import MarketState
from aurexd.server.interface import AlertPrice, Source, WhyPrice

NAME = "io.aurex.Control"

Level = Literal["debug", "info", "warning", "error"]

WAITING_LIMIT = 100
"""Alerts of one reply."""

SESSIONS_LIMIT = 500
"""Sessions of one reply."""


# --- what goes wrong ---


class NoSuchSourceError(VarlinkError):
    """No source has this name; `known` are those there are."""

    name = f"{NAME}.NoSuchSource"

    def __init__(self, source: str, known: list[str]) -> None:
        super().__init__(source=source, known=known)


class NoSuchSymbolError(VarlinkError):
    """There is no such symbol; `known` are those there are."""

    name = f"{NAME}.NoSuchSymbol"

    def __init__(self, symbol: str, known: list[str]) -> None:
        super().__init__(symbol=symbol, known=known)


class NoSuchSessionError(VarlinkError):
    """No session has this id, or not any more."""

    name = f"{NAME}.NoSuchSession"

    def __init__(self, session: str) -> None:
        super().__init__(session=session)


class NoSuchAlertError(VarlinkError):
    """No alert has this id."""

    name = f"{NAME}.NoSuchAlert"

    def __init__(self, alert: str) -> None:
        super().__init__(alert=alert)


class ConfigProblem(Struct, frozen=True, kw_only=True, gc=False):
    """One thing wrong with a configuration, or that may not be meant."""

    path: Annotated[str, Meta(description="Where: `limits.max_connections`; empty for a whole file.")]
    message: Annotated[str, Meta(description="What is wrong.")]
    suggestion: Annotated[str, Meta(description="What to write instead; may be empty.")]
    origin: Annotated[str, Meta(description="The other file, or the variable, that says so; else empty.")]


class ConfigRefusedError(VarlinkError):
    """The configuration is wrong, and nothing was changed. `problems` has all that is wrong with it."""

    name = f"{NAME}.ConfigRefused"

    def __init__(self, file: str, problems: list[ConfigProblem]) -> None:
        super().__init__(file=file, problems=problems)


class NotDoneError(VarlinkError):
    """It was begun or cannot be begun, and is not done: `message` says why, and what to do."""

    name = f"{NAME}.NotDone"

    def __init__(self, message: str) -> None:
        super().__init__(message=message)


class NotAnsweredError(VarlinkError):
    """A part of the daemon did not answer in time; its log says why."""

    name = f"{NAME}.NotAnswered"

    def __init__(self, message: str) -> None:
        super().__init__(message=message)


class PermissionDeniedError(VarlinkError):
    """Only root and the daemon's own user may change things."""

    name = "org.varlink.service.PermissionDenied"

    def __init__(self) -> None:
        super().__init__()


# --- how it is ---


class SymbolStatus(Struct, frozen=True, kw_only=True, gc=False):
    """What a symbol costs, and how far that can be trusted. Times are RFC 3339 in UTC."""

    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    instrument: Annotated[Instrument, Meta(description="What is quoted.")]
    quality: Annotated[Quality, Meta(description="Of its price, as of now.")]
    market: Annotated[MarketState, Meta(description="Whether it trades now.")]
    source: Annotated[str | None, Meta(description="Who carries the price; null while nobody ever did.")]
    reason: Annotated[str, Meta(description="For people: why it is so.")]
    since: Annotated[str, Meta(description="When it became so.")]
    close: Annotated[Decimal | None, Meta(description="The price; null while there is none.")] = None
    bid: Annotated[Decimal | None, Meta(description="Null where none is quoted.")] = None
    ask: Annotated[Decimal | None, Meta(description="Null where none is quoted.")] = None
    change: Annotated[Decimal | None, Meta(description="Against the close of the session before.")] = None
    change_pct: Annotated[Decimal | None, Meta(description="The same in percent.")] = None
    decimals: Annotated[int, Meta(description="Digits after the point that prices are rounded to.")]
    source_time: Annotated[str | None, Meta(description="When the source says the price was.")] = None
    age_ms: Annotated[int | None, Meta(description="Since the price arrived.")] = None


class StoreStatus(Struct, frozen=True, kw_only=True, gc=False):
    """Whether prices are stored. Counts are ticks since the start."""

    state: Annotated[StoreState, Meta(description="Whether it can store.")]
    since: Annotated[str, Meta(description="When that began.")]
    reason: Annotated[str | None, Meta(description="For people: why not, and what to do.")]
    stored: Annotated[int, Meta(description="Written.")]
    waiting: Annotated[int, Meta(description="In memory, not written yet.")]
    dropped: Annotated[int, Meta(description="Lost, because the memory for them was full.")]


class SourceSummary(Struct, frozen=True, kw_only=True, gc=False):
    """A source in a word; `ListSources` has more."""

    name: Annotated[str, Meta(description="As configured.")]
    state: Annotated[str, Meta(description="What it is doing.")]
    last_error: Annotated[str | None, Meta(description="For people: what failed last.")]


class DaemonStatus(Struct, frozen=True, kw_only=True, gc=False):
    """The daemon as a whole."""

    version: Annotated[str, Meta(description="Of aurexd.")]
    pid: Annotated[int, Meta(description="Its process.")]
    phase: Annotated[Literal["starting", "serving", "draining"], Meta(description="Of its life.")]
    uptime_s: Annotated[float, Meta(description="Seconds since its start.")]
    config_file: Annotated[str, Meta(description="What it was configured with; empty: with no file.")]
    log_level: Annotated[Level, Meta(description="The least severe that is logged.")]
    clients: Annotated[int, Meta(description="Streaming sessions now.")]
    connections: Annotated[int, Meta(description="Streaming sessions ever opened.")]
    messages_sent: Annotated[int, Meta(description="Channel messages to all clients together.")]
    epoch: Annotated[str, Meta(description="Which run of the counts clients see.")]
    symbols: Annotated[list[SymbolStatus], Meta(description="In the configuration's order.")]
    sources: Annotated[list[SourceSummary], Meta(description="In the configuration's order.")]
    store: Annotated[StoreStatus, Meta(description="Whether prices are stored.")]


class GetStatus(Method[DaemonStatus], frozen=True, kw_only=True, gc=False):
    """How is the daemon, what does each symbol cost, who delivers it, is it stored?"""

    errors = (NotAnsweredError,)


# --- sources ---


class SourceList(Struct, frozen=True, kw_only=True, gc=False):
    """Where the prices come from."""

    sources: Annotated[list[Source], Meta(description="In the configuration's order.")]


class OneSource(Struct, frozen=True, kw_only=True, gc=False):
    """A source, as it is now."""

    source: Annotated[Source, Meta(description="How it is.")]


class ListSources(Method[SourceList], frozen=True, kw_only=True, gc=False):
    """Every source: its state, what it delivered, why it failed, when it tries again."""

    errors = (NotAnsweredError,)


SourceName = Annotated[str, Meta(max_length=256, description="Its `name` in the configuration.")]


class PauseSource(Method[OneSource], frozen=True, kw_only=True, gc=False):
    """Disconnect a source and leave it so until it is resumed or restarted, or the daemon is."""

    name: SourceName

    changes = True
    errors = (NoSuchSourceError, NotDoneError, NotAnsweredError)


class ResumeSource(Method[OneSource], frozen=True, kw_only=True, gc=False):
    """Connect a source again at once, whatever state it is in: paused, waiting, failed or parked."""

    name: SourceName

    changes = True
    errors = (NoSuchSourceError, NotDoneError, NotAnsweredError)


class RestartSource(Method[OneSource], frozen=True, kw_only=True, gc=False):
    """Have a source start afresh, its counts and what it remembers included; it is connected again."""

    name: SourceName

    changes = True
    errors = (NoSuchSourceError, NotDoneError, NotAnsweredError)


# --- actors ---


class Actor(Struct, frozen=True, kw_only=True, gc=False):
    """One actor or supervisor."""

    name: Annotated[str, Meta(description="`aggregator`; a source has its own name.")]
    supervisor: Annotated[str, Meta(description="Who restarts it.")]
    depth: Annotated[int, Meta(description="How many supervisors are above that one.")]
    state: Annotated[ChildState, Meta(description="How it is.")]
    restarts: Annotated[int, Meta(description="How often it was started again.")]
    since_s: Annotated[float, Meta(description="So many seconds it is in this state.")]
    last_error: Annotated[str | None, Meta(description="What it crashed on last.")]
    waiting: Annotated[int | None, Meta(description="Messages in its inbox; null: a supervisor has none.")]
    peak: Annotated[int | None, Meta(description="The most there ever were.")]
    capacity: Annotated[int | None, Meta(description="More are not let in.")]


class ActorList(Struct, frozen=True, kw_only=True, gc=False):
    """The tree of supervision, each supervisor before its children, in the order of the start."""

    actors: Annotated[list[Actor], Meta(description="All there are.")]


class ListActors(Method[ActorList], frozen=True, kw_only=True, gc=False):
    """The parts of the daemon: are they up, how often were they restarted, how full are their inboxes?"""


# --- sessions ---


class ClientSession(Struct, frozen=True, kw_only=True, gc=False):
    """One streaming client."""

    id: Annotated[str, Meta(description="As `welcome` tells it, and the log.")]
    address: Annotated[str, Meta(description="Where it comes from; a trusted proxy's word is believed.")]
    user: Annotated[str | None, Meta(description="Who it has shown to be; null: nobody in particular.")]
    encoding: Annotated[str, Meta(description="How messages are written to it.")]
    channels: Annotated[list[str], Meta(description="What it is subscribed to.")]
    age_s: Annotated[float, Meta(description="Seconds since it came.")]
    silent_s: Annotated[float, Meta(description="Seconds since anything was heard of it.")]
    waiting_bytes: Annotated[int, Meta(description="Memory for what waits for it, about; 0: it keeps up.")]
    closing: Annotated[str | None, Meta(description="Why it is being closed; null: it is not.")]


class SessionList(Struct, frozen=True, kw_only=True, gc=False):
    """Some of the sessions."""

    sessions: Annotated[list[ClientSession], Meta(description="In no order.")]
    total: Annotated[int, Meta(description="Streaming sessions in all, whatever was asked for.")]


class ListSessions(Method[SessionList], frozen=True, kw_only=True, gc=False):
    """Who streams? Without `more`: the first 500; with it, all, some in each reply."""

    address: Annotated[
        str | None,
        Meta(description="Only those from this address or network: `192.0.2.0/24`."),
    ] = None

    streams = True
    errors = (NotAnsweredError,)


class Kicked(Struct, frozen=True, kw_only=True, gc=False):
    """The session is being closed."""

    id: Annotated[str, Meta(description="Which.")]


class KickSession(Method[Kicked], frozen=True, kw_only=True, gc=False):
    """Close a session with 4504: it is not to come back, and well-behaved clients do not."""

    id: Annotated[str, Meta(max_length=64, description="The session's.")]

    changes = True
    errors = (NoSuchSessionError, NotAnsweredError)


# --- the daemon ---


class LogLevel(Struct, frozen=True, kw_only=True, gc=False):
    """What is logged."""

    level: Annotated[Level, Meta(description="The least severe that is.")]


class GetLogLevel(Method[LogLevel], frozen=True, kw_only=True, gc=False):
    """What is logged now?"""


class SetLogLevel(Method[LogLevel], frozen=True, kw_only=True, gc=False):
    """Log from this level on, until the next reload or restart: then the configuration's holds."""

    level: Annotated[Level, Meta(description="The least severe that is to be logged.")]

    changes = True


class Reloaded(Struct, frozen=True, kw_only=True, gc=False):
    """The configuration was taken over, as far as it can be without a restart."""

    changed: Annotated[list[str], Meta(description="Settings that are another than before.")]
    waiting: Annotated[
        dict[str, str], Meta(description="Settings that need a restart, and why; they stay as they were.")
    ]
    notes: Annotated[list[ConfigProblem], Meta(description="What is allowed and may not be meant.")]


class Reload(Method[Reloaded], frozen=True, kw_only=True, gc=False):
    """Read the configuration again, as SIGHUP does: judged first, and left as it was if anything is wrong."""

    changes = True
    errors = (ConfigRefusedError, NotDoneError)


class Draining(Struct, frozen=True, kw_only=True, gc=False):
    """The clients are being sent away."""

    left: Annotated[int, Meta(description="Streaming sessions that are still there.")]


class Drain(Method[Draining], frozen=True, kw_only=True, gc=False):
    """Stop the daemon in order, as SIGTERM does: the clients are sent away one after the other, each with a time to
    come back, then every part ends. The last reply comes when the clients are gone, or have had the time that they
    may take; the connection is closed when the daemon has ended."""

    streams = True
    changes = True


class Seen(Struct, frozen=True, kw_only=True, gc=False):
    """What symbols cost now."""

    symbols: Annotated[
        list[SymbolStatus],
        Meta(description="First all, then those that changed; none: a sign of life, every 5 seconds."),
    ]
    gone: Annotated[list[str], Meta(description="Those that the daemon has no more, since the last reply.")]


class Watch(Method[Seen], frozen=True, kw_only=True, gc=False):
    """See what symbols cost, and every change of that: at most four times a second, the newest each time. Without
    `more`: only what they cost now."""

    symbols: Annotated[list[str] | None, Meta(description="Which; null: all.")] = None

    streams = True
    errors = (NoSuchSymbolError, NotAnsweredError)


class MetricsText(Struct, frozen=True, kw_only=True, gc=False):
    """What is measured."""

    text: Annotated[str, Meta(description="In Prometheus' text format, as `/metrics` has it.")]


class GetMetrics(Method[MetricsText], frozen=True, kw_only=True, gc=False):
    """What does the daemon measure of itself?"""

    errors = (NotAnsweredError,)


class GetWhyPrice(Method[WhyPrice], frozen=True, kw_only=True, gc=False):
    """From which ticks and by which rules does a symbol's price come?"""

    symbol: Annotated[str, Meta(max_length=64, description="`XAUUSD`.")]

    errors = (NoSuchSymbolError, NotAnsweredError)


# --- alerts ---


class Fired(Struct, frozen=True, kw_only=True, gc=False):
    """One alert."""

    alert_id: Annotated[str, Meta(description="To ask why by.")]
    rule_id: Annotated[str, Meta(description="Of the rule that fired.")]
    symbol: Annotated[str, Meta(description="`XAUUSD`.")]
    condition: Annotated[str, Meta(description="Of what kind the rule is: `crosses_up`.")]
    close: Annotated[Decimal | None, Meta(description="The price that fired it; null: no price did.")]
    source: Annotated[str | None, Meta(description="Of that price.")]
    quality: Annotated[Quality, Meta(description="Of that price.")]
    fired: Annotated[str, Meta(description="When.")]
    late: Annotated[bool, Meta(description="It may have happened while aurexd was down, or could not store.")]
    note: Annotated[str, Meta(description="The rule's.")]

    @classmethod
    def of(cls, alert: AlertData) -> Fired:
        """As in the message `alert`."""
        return cls(
            alert_id=alert.alert_id,
            rule_id=alert.rule_id,
            symbol=alert.symbol,
            condition=str(alert.condition.__struct_config__.tag),
            close=alert.close,
            source=alert.source,
            quality=alert.quality,
            fired=alert.fired,
            late=alert.late,
            note=alert.note,
        )


class WaitingAlert(Struct, frozen=True, kw_only=True, gc=False):
    """An alert that its owner has not acknowledged."""

    owner: Annotated[str, Meta(description="Whose.")]
    alert: Annotated[Fired, Meta(description="Which.")]


class AlertList(Struct, frozen=True, kw_only=True, gc=False):
    """The rules and alerts of all owners."""

    rules: Annotated[dict[str, int], Meta(description="State → how many rules are in it.")]
    owners: Annotated[int, Meta(description="Who have rules.")]
    alerts: Annotated[int, Meta(description="Alerts that are kept.")]
    unacknowledged: Annotated[int, Meta(description="Of those, that no owner has acknowledged.")]
    waiting: Annotated[list[WaitingAlert], Meta(description="These: the newest 100, the newest last.")]


class ListAlerts(Method[AlertList], frozen=True, kw_only=True, gc=False):
    """How many rules and alerts are there, and which alerts has nobody acknowledged?"""

    errors = (NotDoneError, NotAnsweredError)


class WhyAlert(Struct, frozen=True, kw_only=True, gc=False):
    """Why an alert fired."""

    alert: Annotated[Fired, Meta(description="Which.")]
    acknowledged: Annotated[str | None, Meta(description="When its owner had it; null: not yet.")]
    fires_when: Annotated[str, Meta(description="The rule, for people.")]
    reason: Annotated[str, Meta(description="Why it fired, for people.")]
    previous: Annotated[AlertPrice | None, Meta(description="The price before; null: there was none.")]
    price: Annotated[AlertPrice | None, Meta(description="The price that fired it; null: no price did.")]


class GetWhyAlert(Method[WhyAlert], frozen=True, kw_only=True, gc=False):
    """Why did an alert fire, whosever it is?"""

    id: Annotated[str, Meta(max_length=64, description="The alert's.")]

    errors = (NoSuchAlertError, NotDoneError, NotAnsweredError)


METHODS = (
    GetStatus,
    ListSources,
    PauseSource,
    ResumeSource,
    RestartSource,
    ListActors,
    ListSessions,
    KickSession,
    GetLogLevel,
    SetLogLevel,
    Reload,
    Drain,
    Watch,
    GetMetrics,
    GetWhyPrice,
    ListAlerts,
    GetWhyAlert,
)

ERRORS = (
    NoSuchSourceError,
    NoSuchSymbolError,
    NoSuchSessionError,
    NoSuchAlertError,
    ConfigRefusedError,
    NotDoneError,
    NotAnsweredError,
)

LEVELS: tuple[Level, ...] = get_args(Level)

DOC = """
Look into the running aurexd, and steer it. `aurexctl` is made of these calls; any other client of Varlink may make
them, too.

Whoever can open the socket may look. Only root and the daemon's own user may change things; each change is logged, with
the caller's user id and process id. Others are answered with org.varlink.service.PermissionDenied.

Times are RFC 3339 in UTC; what is measured in something else says so in its name. Replies may get further fields:
ignore those that you do not know.

Written by `python -m aurexd.control.interface`.
"""

CONTROL = Interface(NAME, DOC, METHODS, ERRORS)


if __name__ == "__main__":
    sys.stdout.write(CONTROL.definition)
