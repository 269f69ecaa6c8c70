"""What is measured: each metric's name, kind, meaning and labels, and where it is read.

The names are Prometheus' way: base units, `_total` for what only grows. No label has more values than the configuration
and this code have names: none is of a client. `python -m aurexd.server.measures`, in a checkout, writes the tables in
docs/operations.md anew.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import trio

from aurexd import __version__
from aurexd.actors.child import ChildState, ChildStatus
from aurexd.actors.inbox import InboxStatistics
from aurexd.actors.messages import HubStats, SourceState, SourceStatus, StoreState, StoreStatus, SymbolState
from aurexd.histogram import Buckets
from aurexd.market import SECOND_US, EpochUs, Quality
from aurexd.protocol.channels import KINDS
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.data import MarketState
from aurexd.reloads import Reloads
from aurexd.screening import Refusal
from aurexd.server.admission import Admission
from aurexd.server.door import HANG_UPS, Door
from aurexd.server.interface import Phase
from aurexd.stalls import Stalls
from aurexd.tally import CLIENT_LEFT, Kind, Tally

Sample: TypeAlias = "tuple[tuple[str, ...], float | Buckets]"
"""The labels' values, in order, and the value."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"

_MARKED = re.compile(r"(<!-- made: metrics -->\n).*?(<!-- end -->)", re.DOTALL)

REFUSALS = [refusal.value for refusal in Refusal]

PHASES: tuple[Phase, ...] = ("starting", "serving", "draining")


class Gathered(msgspec.Struct, kw_only=True, gc=False):
    """All that is asked for one scrape. None: no answer came in time."""

    now: EpochUs
    phase: Phase
    hub: HubStats | None = None
    symbols: tuple[SymbolState, ...] | None = None
    sources: list[SourceStatus] | None = None
    store: StoreStatus | None = None
    actors: Mapping[str, ChildStatus]
    inboxes: Mapping[str, InboxStatistics]
    tally: Tally
    door: Door
    admission: Admission
    certificate_expires: EpochUs | None
    answered: Mapping[tuple[str, int], int]
    """HTTP requests, by route and status."""
    reloads: Reloads
    log_lines: Mapping[str, int]
    """By level."""
    stalls: Stalls


class Measure(NamedTuple):
    """One metric."""

    name: str
    """Without the `_total` of a counter."""
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[Gathered], Iterable[Sample]]

    @property
    def full_name(self) -> str:
        """As it is written in queries; a histogram's has `_bucket`, `_sum` or `_count` after it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def _one(value: float | Buckets | None) -> list[Sample]:
    return [] if value is None else [((), value)]


def _each(counts: Mapping[str, float], names: Iterable[str] = ()) -> list[Sample]:
    """A sample for each; those of `names` are there from the start, so that the first one is seen as a rise."""
    return [((name,), value) for name, value in {**dict.fromkeys(names, 0), **counts}.items()]


def _is(labels: tuple[str, ...], states: Iterable[str], current: str) -> Iterator[Sample]:
    """1 for the state that it is in, 0 for each of the others."""
    for state in states:
        yield (*labels, state), float(state == current)


def _hub(read: Callable[[HubStats], Iterable[Sample]]) -> Callable[[Gathered], Iterable[Sample]]:
    return lambda g: () if g.hub is None else read(g.hub)


def _store(read: Callable[[StoreStatus], Iterable[Sample]]) -> Callable[[Gathered], Iterable[Sample]]:
    return lambda g: () if g.store is None else read(g.store)


def _symbols(
    read: Callable[[SymbolState, EpochUs], Iterable[Sample]],
) -> Callable[[Gathered], Iterable[Sample]]:
    return lambda g: [sample for state in g.symbols or () for sample in read(state, g.now)]


def _sources(
    read: Callable[[SourceStatus, EpochUs], Iterable[Sample]],
) -> Callable[[Gathered], Iterable[Sample]]:
    return lambda g: [sample for status in g.sources or () for sample in read(status, g.now)]


def _kinds(counts: Mapping[Kind, int]) -> list[Sample]:
    return [
        ((kind.transport, kind.encoding, _word(kind.compressed), _word(kind.tls)), count)
        for kind, count in counts.items()
    ]


KIND_LABELS = ("transport", "encoding", "compressed", "tls")

MEASURES: dict[str, tuple[Measure, ...]] = {
    "The daemon itself": (
        Measure(
            "aurexd_build_info",
            "gauge",
            "1; what runs.",
            ("version", "python", "trio"),
            lambda _: [((__version__, platform.python_version(), trio.__version__), 1)],
        ),
        Measure(
            "aurexd_phase",
            "gauge",
            "1 for where the daemon is in its life.",
            ("phase",),
            lambda g: _is((), PHASES, g.phase),
        ),
        Measure(
            "aurexd_answered",
            "gauge",
            "Whether it answered this scrape in time; what would have come from it is missing where it is 0.",
            ("actor",),
            lambda g: [
                (("hub",), float(g.hub is not None)),
                (("aggregator",), float(g.symbols is not None)),
                (("persister",), float(g.store is not None)),
                (("sources",), float(g.sources is not None)),
            ],
        ),
        Measure(
            "aurexd_actor_running",
            "gauge",
            "Whether an actor, or the supervisor of several, is at work.",
            ("actor",),
            lambda g: [
                ((name,), float(child.state is ChildState.RUNNING)) for name, child in g.actors.items()
            ],
        ),
        Measure(
            "aurexd_actor_restarts",
            "counter",
            "How often an actor was started again.",
            ("actor",),
            lambda g: [((name,), child.restarts) for name, child in g.actors.items()],
        ),
        Measure(
            "aurexd_actor_crashes",
            "counter",
            "How often it died of an error; it is started again also with another, and by a reload.",
            ("actor",),
            lambda g: [((name,), child.crashes) for name, child in g.actors.items()],
        ),
        Measure(
            "aurexd_inbox_messages",
            "gauge",
            "Messages that wait for an actor.",
            ("actor",),
            lambda g: [((name,), inbox.depth) for name, inbox in g.inboxes.items()],
        ),
        Measure(
            "aurexd_inbox_messages_peak",
            "gauge",
            "The most that ever waited.",
            ("actor",),
            lambda g: [((name,), inbox.peak) for name, inbox in g.inboxes.items()],
        ),
        Measure(
            "aurexd_inbox_messages_limit",
            "gauge",
            "How many may wait; then who has something to say waits, too.",
            ("actor",),
            lambda g: [((name,), inbox.capacity) for name, inbox in g.inboxes.items()],
        ),
        Measure(
            "aurexd_config_last_reload_successful",
            "gauge",
            "Whether the last reload was taken over; 1 before the first.",
            (),
            lambda g: _one(float(g.reloads.successful)),
        ),
        Measure(
            "aurexd_config_last_reload_success_timestamp_seconds",
            "gauge",
            "When a configuration was taken over last, be it at the start.",
            (),
            lambda g: _one(g.reloads.succeeded_at / SECOND_US),
        ),
        Measure(
            "aurexd_config_reloads",
            "counter",
            "Reloads: `done`; `refused`, because the configuration was wrong; `failed`, which is a bug, or parts that "
            "did not start.",
            ("outcome",),
            lambda g: _each(g.reloads.counts),
        ),
        Measure(
            "aurexd_config_restart_needed_settings",
            "gauge",
            "Settings that the last reload could not change: they wait for a restart.",
            (),
            lambda g: _one(g.reloads.waiting),
        ),
        Measure(
            "aurexd_log_lines",
            "counter",
            "Lines that were logged; of those that repeat without end, the few that were.",
            ("level",),
            lambda g: _each(g.log_lines),
        ),
        Measure(
            "aurexd_certificate_expiry_timestamp_seconds",
            "gauge",
            "When the certificate expires that is served with; not there without TLS.",
            (),
            lambda g: _one(None if g.certificate_expires is None else g.certificate_expires / SECOND_US),
        ),
        Measure(
            "aurexd_loop_lag_seconds",
            "histogram",
            "How late the event loop comes round, looked at four times a second.",
            (),
            lambda g: _one(g.stalls.loop_lag_s.taken()),
        ),
        Measure(
            "aurexd_gc_pause_seconds",
            "histogram",
            "How long each look of the garbage collector stopped everything.",
            ("generation",),
            lambda g: [((str(n),), pauses.taken()) for n, pauses in enumerate(g.stalls.collections_s)],
        ),
    ),
    "Symbols": (
        Measure(
            "aurexd_symbol_price",
            "gauge",
            "The newest price.",
            ("symbol",),
            _symbols(lambda s, _: [((s.symbol,), float(s.price.close))] if s.price else ()),
        ),
        Measure(
            "aurexd_symbol_price_age_seconds",
            "gauge",
            "How long ago it was received.",
            ("symbol",),
            _symbols(lambda s, now: [((s.symbol,), _ago(s.price.receive_time, now))] if s.price else ()),
        ),
        Measure(
            "aurexd_symbol_quality",
            "gauge",
            "1 for the quality that it has now.",
            ("symbol", "quality"),
            _symbols(lambda s, _: _is((s.symbol,), Quality, s.quality)),
        ),
        Measure(
            "aurexd_symbol_confidence",
            "gauge",
            "Of a consensus: half the width of the band in which the price lies.",
            ("symbol",),
            _symbols(
                lambda s, _: (
                    [((s.symbol,), float(c))] if s.price and (c := s.price.confidence) is not None else ()
                )
            ),
        ),
        Measure(
            "aurexd_symbol_market_open",
            "gauge",
            "Whether its market is open.",
            ("symbol",),
            _symbols(lambda s, _: [((s.symbol,), float(s.market is MarketState.OPEN))]),
        ),
        Measure(
            "aurexd_symbol_carrier",
            "gauge",
            "1 for the source that carries the price.",
            ("symbol", "source"),
            _symbols(lambda s, _: [((s.symbol, s.source), 1)] if s.source else ()),
        ),
    ),
    "Providers": (
        Measure(
            "aurexd_source_state",
            "gauge",
            "1 for what the source is doing.",
            ("source", "state"),
            _sources(lambda s, _: _is((s.name,), SourceState, s.state)),
        ),
        Measure(
            "aurexd_source_ticks",
            "counter",
            "Ticks that it delivered, those that were then refused included.",
            ("source",),
            _sources(lambda s, _: [((s.name,), s.ticks)]),
        ),
        Measure(
            "aurexd_source_rejected",
            "counter",
            "What it sent that could not be used or was not believed, by reason.",
            ("source", "reason"),
            _sources(
                lambda s, _: [((s.name, *reason), count) for reason, count in _each(s.rejected, REFUSALS)]
            ),
        ),
        Measure(
            "aurexd_source_jumps",
            "counter",
            "Moves that were refused first and then confirmed.",
            ("source",),
            _sources(lambda s, _: [((s.name,), s.jumps)]),
        ),
        Measure(
            "aurexd_source_connections",
            "counter",
            "Connections that were made; for those that are asked, how often they answered again.",
            ("source",),
            _sources(lambda s, _: [((s.name,), s.connections)]),
        ),
        Measure(
            "aurexd_source_failures",
            "counter",
            "Connections that were lost or not made.",
            ("source",),
            _sources(lambda s, _: [((s.name,), s.failures)]),
        ),
        Measure(
            "aurexd_source_tick_age_seconds",
            "gauge",
            "How long ago its newest tick came.",
            ("source",),
            _sources(lambda s, now: [((s.name,), _ago(s.last_tick, now))] if s.last_tick is not None else ()),
        ),
        Measure(
            "aurexd_source_lag_seconds",
            "gauge",
            "How late that tick was, by its source's time and clock.",
            ("source",),
            _sources(lambda s, _: [((s.name,), s.lag_ms / 1000)] if s.lag_ms is not None else ()),
        ),
        Measure(
            "aurexd_source_clock_skew_seconds",
            "gauge",
            "The provider's clock less ours.",
            ("source",),
            _sources(
                lambda s, _: [((s.name,), s.clock_skew_ms / 1000)] if s.clock_skew_ms is not None else ()
            ),
        ),
    ),
    "From the source to the socket": (
        Measure(
            "aurexd_hop_seconds",
            "histogram",
            "How long a price takes: from its source's time until it is received (`source`), until it is decided "
            "(`aggregator`), until the hub begins to write it (`hub`), until it is written to a client's socket "
            "(`socket`).",
            ("hop",),
            _hub(
                lambda h: [
                    ((hop,), getattr(h.hops, hop)) for hop in ("source", "aggregator", "hub", "socket")
                ]
            ),
        ),
        Measure(
            "aurexd_delivery_seconds",
            "histogram",
            "From receiving a price until it is written to a client's socket: all that is the daemon's own.",
            (),
            _hub(lambda h: _one(h.hops.delivery)),
        ),
        Measure(
            "aurexd_updates",
            "counter",
            "Messages published, on all channels together, in this epoch.",
            (),
            _hub(lambda h: _one(h.update_count)),
        ),
        Measure(
            "aurexd_sent_messages",
            "counter",
            "Channel messages to clients, by kind of channel; heartbeats and answers not counted.",
            ("kind",),
            _hub(lambda h: _each(h.sent, [name for name, kind in KINDS.items() if not kind.later])),
        ),
        Measure(
            "aurexd_sent_bytes",
            "counter",
            "Of these, what sockets took at once, before TLS.",
            (),
            _hub(lambda h: _one(h.bytes_sent)),
        ),
        Measure(
            "aurexd_deferred_writes",
            "counter",
            "Writes that a client's socket did not take at once.",
            (),
            _hub(lambda h: _one(h.deferred)),
        ),
        Measure(
            "aurexd_conflated_messages",
            "counter",
            "Messages that a newer one has replaced while they waited for a slow client.",
            (),
            _hub(lambda h: _one(h.conflated)),
        ),
        Measure(
            "aurexd_slow_sessions",
            "gauge",
            "Sessions for which something waits.",
            (),
            _hub(lambda h: _one(h.behind)),
        ),
        Measure(
            "aurexd_send_queue_bytes",
            "gauge",
            "What waits for all of them, about.",
            (),
            _hub(lambda h: _one(h.held_bytes)),
        ),
    ),
    "Clients": (
        Measure(
            "aurexd_sessions",
            "gauge",
            "Streaming sessions now.",
            KIND_LABELS,
            lambda g: _kinds(g.tally.sessions),
        ),
        Measure(
            "aurexd_sessions_limit",
            "gauge",
            "How many there may be; not there where `max_connections` is 0.",
            (),
            lambda g: _one(g.admission.limit or None),
        ),
        Measure(
            "aurexd_sessions_opened",
            "counter",
            "Streaming sessions that began.",
            KIND_LABELS,
            lambda g: _kinds(g.tally.opened),
        ),
        Measure(
            "aurexd_sessions_closed",
            "counter",
            f"Streaming sessions that ended, by the close code's word; `{CLIENT_LEFT}`: not by us.",
            ("reason",),
            lambda g: _each(g.tally.closed, [CLIENT_LEFT, *(c.word for c in CloseCode if not c.later)]),
        ),
        Measure(
            "aurexd_resumes",
            "counter",
            "Clients that came back and said where they were; whether they got all that they had missed, or the "
            "current state.",
            ("recovered",),
            _hub(lambda h: [((_word(yes),), count) for yes, count in h.resumes.items()]),
        ),
        Measure(
            "aurexd_received_messages",
            "counter",
            "Messages of clients.",
            (),
            lambda g: _one(g.tally.messages),
        ),
        Measure(
            "aurexd_received_bytes",
            "counter",
            "What these were long, uncompressed.",
            (),
            lambda g: _one(g.tally.message_bytes),
        ),
        Measure(
            "aurexd_errors_sent",
            "counter",
            "Errors that sessions were told, by code.",
            ("code",),
            lambda g: _each(g.tally.errors, [code.value for code in ErrorCode if not code.later]),
        ),
    ),
    "The port": (
        Measure("aurexd_connections_accepted", "counter", "Connections.", (), lambda g: _one(g.door.knocks)),
        Measure(
            "aurexd_connections_hung_up",
            "counter",
            "Connections that were ended without a word, by reason.",
            ("reason",),
            lambda g: _each(g.door.hang_ups, HANG_UPS),
        ),
        Measure(
            "aurexd_handshakes",
            "gauge",
            "Connections whose first request is not read yet.",
            (),
            lambda g: _one(g.door.visits),
        ),
        Measure(
            "aurexd_handshake_seconds",
            "histogram",
            "How long it took until the first request was read, TLS included, or the connection was given up.",
            (),
            lambda g: _one(g.door.visits_s.taken()),
        ),
        Measure(
            "aurexd_sessions_refused",
            "counter",
            "Streaming clients that were turned away, by the close code's word.",
            ("reason",),
            lambda g: _each(g.admission.refused, [c.word for c in CloseCode if not c.later and c >= 4000]),
        ),
        Measure(
            "aurexd_requests_refused",
            "counter",
            "HTTP requests that did not reach a route, by status.",
            ("status",),
            lambda g: _each(
                {str(int(s)): n for s, n in g.admission.requests_refused.items()}, ["421", "429"]
            ),
        ),
        Measure(
            "aurexd_requests",
            "counter",
            "HTTP requests that did, by route and status.",
            ("route", "status"),
            lambda g: [((route, str(status)), count) for (route, status), count in g.answered.items()],
        ),
    ),
    "Alerts of users": (
        Measure(
            "aurexd_alerts_fired", "counter", "Alerts that fired.", (), _hub(lambda h: _one(h.alerts_fired))
        ),
        Measure(
            "aurexd_alerts_late",
            "counter",
            "Of these, those that may have happened earlier, while the daemon was down or could not store.",
            (),
            _hub(lambda h: _one(h.alerts_late)),
        ),
        Measure(
            "aurexd_alerts_storms",
            "counter",
            "Of these, those whose rule was snoozed because its owner's budget was spent.",
            (),
            _hub(lambda h: _one(h.alerts_paused)),
        ),
        Measure(
            "aurexd_alert_delay_seconds",
            "histogram",
            "From the arrival of what fired it until an alert is handed to its owner's sessions, the disk included; "
            "not of late ones.",
            (),
            _hub(lambda h: _one(h.alert_delay)),
        ),
        Measure(
            "aurexd_alert_rules",
            "gauge",
            "Rules of all owners by state; `disarmed`: the price must come back first. One that is snoozed or rests "
            "counts as what it is afterwards.",
            ("state",),
            _store(lambda s: _each(s.alert_rules or {})),
        ),
        Measure(
            "aurexd_alerts_judged_prices",
            "counter",
            "Prices that were stored, and judged by the rules for their symbol.",
            (),
            _store(lambda s: _one(s.judged)),
        ),
        Measure(
            "aurexd_alerts_acknowledged",
            "counter",
            "Alerts whose owners said that they have them.",
            (),
            _hub(lambda h: _one(h.alerts_acknowledged)),
        ),
        Measure(
            "aurexd_alerts_waiting",
            "gauge",
            "Alerts that nobody has acknowledged yet.",
            (),
            _hub(lambda h: _one(h.alerts_waiting)),
        ),
    ),
    "The database": (
        Measure(
            "aurexd_store_state",
            "gauge",
            "1 for the state of the store.",
            ("state",),
            _store(lambda s: _is((), StoreState, s.state)),
        ),
        Measure(
            "aurexd_store_ticks", "counter", "Ticks that were written.", (), _store(lambda s: _one(s.stored))
        ),
        Measure(
            "aurexd_store_dropped_ticks",
            "counter",
            "Ticks that were lost, because the memory for them was full.",
            (),
            _store(lambda s: _one(s.dropped)),
        ),
        Measure(
            "aurexd_store_backlog_ticks",
            "gauge",
            "Ticks that wait to be written.",
            (),
            _store(lambda s: _one(s.waiting)),
        ),
        Measure(
            "aurexd_store_backlog_ticks_limit",
            "gauge",
            "How many may.",
            (),
            _store(lambda s: _one(s.capacity)),
        ),
        Measure(
            "aurexd_store_failures",
            "counter",
            "Batches that could not be written; they are tried again.",
            (),
            _store(lambda s: _one(s.failures)),
        ),
        Measure(
            "aurexd_store_append_seconds",
            "histogram",
            "How long each transaction took.",
            (),
            _store(lambda s: _one(s.appends)),
        ),
        Measure(
            "aurexd_store_batch_ticks",
            "histogram",
            "Ticks in each transaction.",
            (),
            _store(lambda s: _one(s.batches)),
        ),
        Measure(
            "aurexd_store_read_seconds",
            "histogram",
            "How long each answer about history took.",
            (),
            _store(lambda s: _one(s.reads)),
        ),
        Measure(
            "aurexd_store_deleted_rows",
            "counter",
            "Rows that were deleted because they were too old.",
            (),
            _store(lambda s: _one(s.deleted)),
        ),
    ),
}
"""By what they are about; a test holds docs/operations.md against them."""


def _ago(time: EpochUs, now: EpochUs) -> float:
    return max(0, now - time) / SECOND_US


def fill(document: str) -> str:
    """The document with the tables of all metrics made anew."""
    parts: list[str] = []
    for about, measures in MEASURES.items():
        parts += [f"### {about}", "| metric | | |", "|---|---|---|"]
        for measure in measures:
            labels = ", ".join(f"`{label}`" for label in measure.labels)
            kind = f"{measure.kind}, by {labels}" if labels else measure.kind
            parts.append(f"| `{measure.full_name}` | {kind} | {measure.meaning} |")
        parts.append("")
    return _MARKED.sub(lambda match: match[1] + "\n".join(parts) + match[2], document)


def main() -> None:
    """Write the tables in docs/operations.md anew."""
    DOCUMENT.write_text(fill(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
