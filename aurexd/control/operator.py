"""What each call of an operator does. It decides nothing: it asks the actors, each with a deadline, and tells them.

What is the daemon's as a whole (its life, its configuration) is asked of `Steered`.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
import pykka
import trio

from aurexd import __version__
from aurexd.actors import messages as internal
from aurexd.actors.session import Session
from aurexd.actors.supervisor import Supervisor
from aurexd.actors.trio_actor import ask_when_room
from aurexd.clock import Clock
from aurexd.control import interface
from aurexd.control.definition import InvalidParameterError, Method
from aurexd.control.interface import SESSIONS_LIMIT, WAITING_LIMIT, Level
from aurexd.control.socket import Replies
from aurexd.errors import AlertError, ConfigError, Problem, StoreError, SupervisionError
from aurexd.market import EpochUs, format_time
from aurexd.protocol.codes import ErrorCode
from aurexd.roster import Roster
from aurexd.server.interface import AlertPrice, Phase, Source, WhyPrice
from aurexd.settings import Plan

R = TypeVar("R")

ASK_S = 2.0
"""An actor that does not answer within this is in trouble, and the operator is told so."""

STORE_S = 10.0
"""The same where it reads from the disk."""

LOOK_S = 0.25
"""How often it is looked for something new to say."""

SIGN_OF_LIFE_S = 5.0
"""Who watches hears something this often."""

SESSIONS_SLICE = 100
"""Sessions that are looked at between two checkpoints: what is touched of ten thousand delays nobody's price."""


class Steered(Protocol):
    """The daemon, as far as an operator may look at it and steer it."""

    @property
    def phase(self) -> Phase:
        """Of its life."""

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""

    @property
    def config_file(self) -> str:
        """What it was configured with; empty: with no file."""

    @property
    def log_level(self) -> Level:
        """The least severe that is logged."""

    def set_log_level(self, level: Level) -> None:
        """Log from this level on, until the next reload."""

    @property
    def clients(self) -> int:
        """Streaming sessions."""

    @property
    def drained(self) -> trio.Event:
        """Set when the clients have been sent away, for the daemon stops."""

    def stop(self) -> None:
        """Ask the daemon to stop in order."""

    async def reload_file(self) -> tuple[Plan, list[Problem]]:
        """Read the configuration again: what became of it, and what may not be meant."""


class Operator:
    """Answers the calls of `io.aurex.Control`."""

    def __init__(
        self,
        daemon: Steered,
        *,
        core: Supervisor,
        roster: Roster,
        aggregator: pykka.ActorRef[Any],
        hub: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        metrics: Callable[[], Awaitable[str]],
        clock: Clock,
    ) -> None:
        """`metrics`: what `/metrics` says."""
        self._daemon = daemon
        self._core = core
        self._roster = roster
        self._aggregator = aggregator
        self._hub = hub
        self._persister = persister
        self._metrics = metrics
        self._clock = clock

    async def answer(self, method: Method[Any], more: Replies | None) -> msgspec.Struct:
        """See `Answers`."""
        try:
            return await self._answer(method, more)
        except pykka.ActorDeadError as error:
            raise interface.NotAnsweredError(str(error)) from error

    async def _answer(self, method: Method[Any], more: Replies | None) -> msgspec.Struct:
        match method:
            case interface.GetStatus():
                return await self._status()
            case interface.ListSources():
                return interface.SourceList(sources=[_source(s) for s in await self._roster.statuses()])
            case interface.PauseSource(name=name):
                return await self._steer(name, self._roster.pause)
            case interface.ResumeSource(name=name):
                return await self._steer(name, self._roster.resume)
            case interface.RestartSource(name=name):
                return await self._steer(name, self._roster.restart)
            case interface.ListActors():
                return self._actors()
            case interface.ListSessions(address=address):
                return await self._list_sessions(address, more)
            case interface.KickSession(id=session_id):
                if not await _ask(self._hub, internal.KickSession(session_id=session_id)):
                    raise interface.NoSuchSessionError(session_id)
                return interface.Kicked(id=session_id)
            case interface.GetLogLevel():
                return interface.LogLevel(level=self._daemon.log_level)
            case interface.SetLogLevel(level=level):
                self._daemon.set_log_level(level)
                return interface.LogLevel(level=level)
            case interface.Reload():
                return await self._reload()
            case interface.Drain():
                return await self._drain(more)
            case interface.GetMetrics():
                return interface.MetricsText(text=await self._metrics())
            case interface.GetWhyPrice(symbol=symbol):
                return await self._why_price(symbol)
            case interface.ListAlerts():
                return await self._list_alerts()
            case interface.GetWhyAlert(id=alert_id):
                return await self._why_alert(alert_id)
            case interface.Watch(symbols=symbols):
                return await self._watch(symbols, more)
        raise AssertionError(method)  # a test goes through all there are

    # --- how it is ---

    async def _status(self) -> interface.DaemonStatus:
        states = await _ask(self._aggregator, internal.GetSymbols())
        stats = await _ask(self._hub, internal.GetStats())
        store = await _ask(self._persister, internal.GetStore())
        sources = await self._roster.statuses()
        now = self._clock.now()
        return interface.DaemonStatus(
            version=__version__,
            pid=os.getpid(),
            phase=self._daemon.phase,
            uptime_s=round(self._daemon.uptime_s, 1),
            config_file=self._daemon.config_file,
            log_level=self._daemon.log_level,
            clients=stats.active_connections,
            connections=stats.connections,
            messages_sent=stats.messages_sent,
            epoch=stats.epoch,
            symbols=[symbol_status(state, now) for state in states],
            sources=[
                interface.SourceSummary(name=s.name, state=s.state, last_error=s.last_error) for s in sources
            ],
            store=interface.StoreStatus(
                state=store.state,
                since=format_time(store.since),
                reason=store.reason,
                stored=store.stored,
                waiting=store.waiting,
                dropped=store.dropped,
            ),
        )

    def _actors(self) -> interface.ActorList:
        now = trio.current_time()
        actors = []
        for member in self._core.family():
            child, inbox = member.child, member.inbox
            actors.append(
                interface.Actor(
                    name=child.name,
                    supervisor=member.supervisor,
                    depth=member.depth,
                    state=child.state,
                    restarts=child.restarts,
                    since_s=round(now - child.since, 1),
                    last_error=child.last_error,
                    waiting=inbox and inbox.depth,
                    peak=inbox and inbox.peak,
                    capacity=inbox and inbox.capacity,
                )
            )
        return interface.ActorList(actors=actors)

    async def _why_price(self, symbol: str) -> WhyPrice:
        why = await _ask(self._aggregator, internal.GetWhy(symbol=symbol))
        if why is None:
            states = await _ask(self._aggregator, internal.GetSymbols())
            raise interface.NoSuchSymbolError(symbol, [state.symbol for state in states])
        return WhyPrice.of(why, self._clock.now())

    # --- alerts ---

    async def _list_alerts(self) -> interface.AlertList:
        totals = await self._ask_store(internal.GetAlertTotals(now=self._clock.now()))
        waiting = await self._ask_store(internal.GetUnacknowledged(after=0))
        return interface.AlertList(
            rules=totals.rules,
            owners=totals.owners,
            alerts=totals.alerts,
            unacknowledged=totals.unacknowledged,
            waiting=[
                interface.WaitingAlert(owner=fired.owner, alert=interface.Fired.of(fired.alert))
                for fired in waiting[-WAITING_LIMIT:]
            ],
        )

    async def _why_alert(self, alert_id: str) -> interface.WhyAlert:
        try:
            why = await self._ask_store(internal.GetAlertWhy(owner=None, alert_id=alert_id))
        except AlertError as error:  # there is none: nothing else is wrong with such a question
            raise interface.NoSuchAlertError(alert_id) from error
        return interface.WhyAlert(
            alert=interface.Fired.of(why.alert),
            acknowledged=None if why.acknowledged is None else format_time(why.acknowledged),
            fires_when=why.rule_words,
            reason=why.words,
            previous=None if why.previous is None else AlertPrice.of(why.previous),
            price=None if why.price is None else AlertPrice.of(why.price),
        )

    async def _ask_store(self, question: internal.Ask[R]) -> R:
        try:
            return await ask_when_room(self._persister, question, timeout_s=STORE_S)
        except AlertError as error:
            if error.code == ErrorCode.NOT_FOUND:
                raise
            raise interface.NotDoneError(str(error)) from error
        except StoreError as error:
            raise interface.NotDoneError(f"the store cannot tell: {error}") from error

    # --- sources ---

    async def _steer(self, name: str, steer: Callable[[str], Any]) -> interface.OneSource:
        names = [status.name for status in await self._roster.statuses()]
        if name not in names:
            raise interface.NoSuchSourceError(name, names)
        try:
            await steer(name)
        except SupervisionError as error:
            raise interface.NotDoneError(str(error)) from error
        (status,) = (status for status in await self._roster.statuses() if status.name == name)
        return interface.OneSource(source=_source(status))

    # --- sessions ---

    async def _list_sessions(self, address: str | None, more: Replies | None) -> interface.SessionList:
        network = None
        if address is not None:
            try:
                network = ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise InvalidParameterError("address") from None
        sessions = await _ask(self._hub, internal.GetSessions())
        found: list[interface.ClientSession] = []
        for number, session in enumerate(sessions):
            if number % SESSIONS_SLICE == SESSIONS_SLICE - 1:
                await trio.lowlevel.checkpoint()
            if network is not None and ipaddress.ip_address(session.address) not in network:
                continue
            if session.seat is None:
                continue  # it left meanwhile
            if len(found) == SESSIONS_LIMIT:
                if more is None:
                    break
                await more(interface.SessionList(sessions=found, total=len(sessions)))
                found = []
            found.append(_session(session))
        return interface.SessionList(sessions=found, total=len(sessions))

    # --- the daemon ---

    async def _reload(self) -> interface.Reloaded:
        try:
            plan, notes = await self._daemon.reload_file()
        except SupervisionError as error:
            raise interface.NotDoneError(str(error)) from error
        except ConfigError as error:
            problems = [_problem(problem) for problem in error.problems]
            raise interface.ConfigRefusedError(error.file, problems) from error
        return interface.Reloaded(
            changed=plan.changed, waiting=plan.waiting, notes=[_problem(note) for note in notes]
        )

    async def _drain(self, more: Replies | None) -> interface.Draining:
        self._daemon.stop()
        said = -1
        while not self._daemon.drained.is_set():
            left = self._daemon.clients
            if more is not None and left != said:
                await more(interface.Draining(left=left))
                said = left
            with trio.move_on_after(LOOK_S):
                await self._daemon.drained.wait()
        return interface.Draining(left=self._daemon.clients)

    async def _watch(self, symbols: list[str] | None, more: Replies | None) -> interface.Seen:
        """Asked for anew each time, so that nothing waits for a slow client: what it misses was overtaken."""
        seen: dict[str, internal.SymbolState] = {}
        said_at = -math.inf
        while True:
            states = await _ask(self._aggregator, internal.GetSymbols())
            names = [state.symbol for state in states]
            for name in symbols or ():
                if name not in names:
                    raise interface.NoSuchSymbolError(name, names)
            changed = [
                state
                for state in states
                if (symbols is None or state.symbol in symbols) and state != seen.get(state.symbol)
            ]
            gone = [name for name in seen if name not in names]
            for name in gone:
                del seen[name]
            answer = interface.Seen(
                symbols=[symbol_status(state, self._clock.now()) for state in changed], gone=gone
            )
            if more is None:
                return answer
            if changed or gone or trio.current_time() - said_at >= SIGN_OF_LIFE_S:
                await more(answer)
                seen |= {state.symbol: state for state in changed}
                said_at = trio.current_time()
            await trio.sleep(LOOK_S)


def symbol_status(state: internal.SymbolState, now: EpochUs) -> interface.SymbolStatus:
    """What the aggregator knows of a symbol."""
    status = interface.SymbolStatus(
        symbol=state.symbol,
        instrument=state.instrument,
        decimals=state.decimals,
        quality=state.quality,
        market=state.market,
        source=state.source,
        reason=state.status_reason,
        since=format_time(state.status_time),
    )
    price = state.price
    if price is None:
        return status
    return msgspec.structs.replace(
        status,
        close=price.close,
        bid=price.bid,
        ask=price.ask,
        change=price.change,
        change_pct=price.change_pct,
        source_time=format_time(price.source_time),
        age_ms=(now - price.receive_time) // 1000,
    )


def _source(status: internal.SourceStatus) -> Source:
    return msgspec.structs.replace(Source.of(status), last_error=status.last_error)


def _session(session: Session) -> interface.ClientSession:
    now = trio.current_time()
    assert session.seat is not None
    return interface.ClientSession(
        id=session.id,
        address=session.address,
        user=(session.identity and session.identity.user) or None,
        encoding=session.encoding.name,
        channels=sorted(session.seat[0].channels),
        age_s=round(now - session.opened_at, 1),
        silent_s=round(now - session.last_received, 1),
        waiting_bytes=session.held_bytes,
        closing=None if session.closing is None else session.closing.word,
    )


def _problem(problem: Problem) -> interface.ConfigProblem:
    return interface.ConfigProblem(**problem._asdict())


def _ask(ref: pykka.ActorRef[Any], question: internal.Ask[R]) -> Awaitable[R]:
    return ask_when_room(ref, question, timeout_s=ASK_S)
