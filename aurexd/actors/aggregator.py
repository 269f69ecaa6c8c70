"""Decides what each symbol costs now and how far that can be trusted, from the ticks of all its sources.

The rules are those of `selection.py` and `consensus.py` (who makes the price) and `pricing.py` (what it is in numbers);
this actor owns their state, wakes up when time alone changes a verdict, and tells hub, persister and candles.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from decimal import Decimal
from typing import Any

import msgspec
import pykka
import structlog
import trio

from aurexd.actors.messages import (
    Decided,
    Decision,
    GetHistory,
    GetLastPrices,
    GetScreening,
    GetSymbol,
    GetSymbols,
    GetWhy,
    Message,
    PriceRestored,
    PriceRow,
    RefusedTick,
    SourcePart,
    SourceScreening,
    StaleAfterChanged,
    StatusChanged,
    SymbolState,
    TickReceived,
    Why,
)
from aurexd.actors.trio_actor import TrioActor, ask, tell_when_room
from aurexd.calendar import Calendar
from aurexd.clock import Clock
from aurexd.errors import InboxFullError, StoreError
from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality, Tick
from aurexd.pricing import price_of, quantum
from aurexd.protocol.data import MarketState
from aurexd.screening import Refusal, Screen
from aurexd.selection import Candidate, Choice, Policy, Standing, Verdict

log = structlog.get_logger(__name__)

LOOK_S = 60.0
"""The calendar is looked at this often at least: the wall clock may be set, the loop's is not."""

CLOSE_WITHIN_US = 900 * SECOND_US
"""A session's last price is its close if it came within this before its end; else we were not there."""

LAST_S = 3.0
"""How long the store may take to say what the last prices were: the sources wait for that."""

REFUSED_KEPT = 16
"""Ticks of each symbol that were not believed, to answer why."""

ASK_STORE_S = 10.0
STORE_RETRY_S = 30.0


class SymbolRules(msgspec.Struct, frozen=True):
    """What the configuration says of a symbol, and how one price is made of its sources."""

    symbol: str
    instrument: Instrument
    decimals: int
    default: bool
    policy: Policy
    screen: Screen
    calendar: Calendar


class TimePassed(Message, frozen=True, kw_only=True, gc=False):
    """The aggregator to itself: a verdict may have changed without a tick."""


class Aggregator(TrioActor):
    """Ticks in; what is decided of them to the persister, the hub and the candles."""

    batch_messages = 256  # three milliseconds; each run of them is one pass over all clients
    inbox_capacity = 4096  # a few hundred milliseconds of the fastest replay

    def __init__(
        self,
        symbols: list[SymbolRules],
        *,
        hub: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        candles: pykka.ActorRef[Any],
        clock: Clock,
    ) -> None:
        super().__init__()
        self._symbols = {rules.symbol: _Symbol(rules, clock) for rules in symbols}
        self._hub = hub
        self._persister = persister
        self._candles = candles
        self._clock = clock
        self._decisions: list[Decision] = []
        """Those of this batch of messages, still to be told."""
        self._wake_at = math.inf
        self._earlier = trio.Event()
        self._looked = trio.Event()

    async def on_start(self) -> None:
        """Say what is known of each symbol, also from before the start, then watch the clock."""
        last = await self._last_prices()
        now = self._clock.now()
        for name, symbol in self._symbols.items():
            symbol.rules.policy.set_market(symbol.follow(now), symbol.judged_now())
            self._begin_session(symbol)
            restored = symbol.restore(last[name]) if name in last else None
            self._decisions.append(Decision(status=symbol.status()))
            await self._tell_decided()
            if restored is not None:
                await _tell(self._hub, PriceRestored(price=restored))
        self.nursery.start_soon(self._watch_clock)

    async def on_receive(self, message: object) -> object:
        """Judge a tick, see to time passing, or answer."""
        match message:
            case TickReceived(tick=tick):
                symbol = self._symbols[tick.symbol]
                if not symbol.since <= self._clock.now() < symbol.until:
                    self._follow_market(symbol)
                self._judge(symbol, tick)
            case StaleAfterChanged(source=source, stale_after_s=stale_after_s):
                for symbol in self._symbols.values():
                    symbol.rules.policy.allow(source, stale_after_s, trio.current_time())
            case TimePassed():
                for symbol in self._symbols.values():
                    self._follow_market(symbol)
                    self._act(symbol, symbol.rules.policy.elapse(symbol.judged_now()), None)
                self._looked.set()
            case GetSymbol(symbol=name):
                known = self._symbols.get(name)
                return known and known.state()
            case GetScreening():
                return self._screening()
            case GetWhy(symbol=name):
                known = self._symbols.get(name)
                return known and known.why()
            case GetSymbols():
                return tuple(symbol.state() for symbol in self._symbols.values())
        return None

    async def on_batch(self) -> None:
        """Tell what was decided, and have the clock watched for the next change that needs no tick."""
        await self._tell_decided()
        if self._next_change() < self._wake_at:
            self._earlier.set()

    async def on_failure(self, *_error: object) -> None:
        """Tell what was decided before."""
        await self._tell_decided()

    def _next_change(self) -> float:
        """Loop time of the next change that needs no tick. It may have passed, since the last judgement."""
        return min(
            (s.rules.policy.next_change(s.judged_at) for s in self._symbols.values()),
            default=math.inf,
        )

    def _judge(self, symbol: _Symbol, tick: Tick) -> None:
        """What a tick means: nothing, if nobody could have traded at it, or if it is not to be believed."""
        policy, screen = symbol.rules.policy, symbol.rules.screen
        if policy.market_is_open or policy.takes(tick, in_session=symbol.in_session(tick.source_time)):
            judgement = screen.judge(tick)
            if judgement.confirmed_after_us is not None:
                log.info(
                    "jump_confirmed",
                    symbol=tick.symbol,
                    source=tick.source,
                    late_ms=judgement.confirmed_after_us // 1000,
                )
            if judgement.refused is None:
                verdict = policy.observe(tick, symbol.judged_now(), ahead_us=screen.ahead_us(tick.source))
                self._act(symbol, verdict, tick)
                return
            refused = judgement.refused
            symbol.refused.append(RefusedTick(tick=tick, reason=refused.value))
            self._say_refused(screen, tick, refused)
        else:
            refused = Refusal.MARKET_CLOSED
            screen.count(tick.source, refused)
        self._decisions.append(Decision(tick=tick, refused=refused.value))

    @staticmethod
    def _say_refused(screen: Screen, tick: Tick, reason: Refusal) -> None:
        count = screen.record(tick.source).refused[reason]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a mad provider must not flood the log
            log.warning(
                "tick_refused",
                symbol=tick.symbol,
                source=tick.source,
                reason=reason.value,
                bid=tick.bid,
                ask=tick.ask,
                last=tick.last,
                count=count,
            )

    def _screening(self) -> dict[str, SourceScreening]:
        """What is known of each source, over all its symbols."""
        found: dict[str, SourceScreening] = {}
        for symbol in self._symbols.values():
            for source in symbol.rules.policy.sources:
                record, known = symbol.rules.screen.record(source), found.get(source, SourceScreening())
                skews = [s for s in (known.clock_skew_us, record.clock_skew_us) if s is not None]
                found[source] = SourceScreening(
                    refused=dict(Counter(known.refused) + Counter(record.refused)),
                    jumps=known.jumps + record.jumps,
                    clock_skew_us=max(skews, default=None),
                )
        return found

    def _follow_market(self, symbol: _Symbol) -> None:
        """The calendar's word, as of now: the market may have opened or closed, and a session may have begun."""
        day = symbol.session.day
        opens = symbol.follow(self._clock.now())
        if symbol.session.day != day:
            self._begin_session(symbol)
        self._act(symbol, symbol.rules.policy.set_market(opens, symbol.judged_now()), None)

    def _act(self, symbol: _Symbol, verdict: Verdict, tick: Tick | None) -> None:
        """Decide what follows from a verdict."""
        status = price = decided = None
        if verdict.changed:
            before = symbol.announced
            status = symbol.status()
            log.info(
                "status_changed",
                symbol=status.symbol,
                quality=status.quality,
                market=status.market,
                source=status.source,
                before=before and before.source,
                reason=status.reason,
            )
        if verdict.publish is not None:
            price = symbol.price = symbol.priced(verdict.publish)
            if tick is not None and tick.receive_time == price.receive_time:
                decided = self._clock.now()
        if tick is not None or price is not None or status is not None:
            self._decisions.append(Decision(tick=tick, status=status, price=price, decided=decided))

    async def _tell_decided(self) -> None:
        if not self._decisions:
            return
        decided = Decided(decisions=tuple(self._decisions))
        self._decisions.clear()
        priced = any(decision.price is not None for decision in decided.decisions)
        if priced or any(decision.status is not None for decision in decided.decisions):
            await _tell(self._hub, decided)
        await _tell(self._persister, decided)
        if priced:
            # After the persister: what the candles were told is stored when they ask where they stand.
            await _tell(self._candles, decided)

    async def _last_prices(self) -> dict[str, PriceRow]:
        """What was stored last; without it we begin with the next ticks."""
        try:
            return await ask(self._persister, GetLastPrices(symbols=tuple(self._symbols)), timeout_s=LAST_S)
        except (StoreError, trio.TooSlowError, pykka.ActorDeadError, InboxFullError) as error:
            log.warning(
                "last_prices_unknown",
                reason=str(error),
                consequence="a closed market has no price until one comes",
            )
            return {}

    def _begin_session(self, symbol: _Symbol) -> None:
        """What changes are counted against from now on: our own last price, or what the store knows of it."""
        previous = symbol.rules.calendar.previous(symbol.session)
        price = symbol.price
        if price is not None and price.receive_time >= previous.end - CLOSE_WITHIN_US:
            symbol.previous = _Close(price.close, simulated=price.quality is Quality.SIMULATED)
        else:
            symbol.previous = None
            question = GetHistory(
                symbol=symbol.rules.symbol,
                start=EpochUs(previous.end - CLOSE_WITHIN_US),
                end=symbol.session.start,
                limit=1,
            )
            self.nursery.start_soon(self._learn_close, symbol, question)

    async def _learn_close(self, symbol: _Symbol, question: GetHistory) -> None:
        """Ask until the store answers, or the session is over; meanwhile changes are unknown."""
        day = symbol.session.day
        while symbol.session.day == day:
            try:
                rows = await ask(self._persister, question, timeout_s=ASK_STORE_S)
            except (StoreError, trio.TooSlowError, pykka.ActorDeadError, InboxFullError) as error:
                if isinstance(error, StoreError) and error.permanent:
                    return
                await trio.sleep(STORE_RETRY_S)
                continue
            if rows and symbol.session.day == day:
                close = Decimal(repr(rows[-1].close)).quantize(symbol.step)
                symbol.previous = _Close(close, simulated=rows[-1].quality is Quality.SIMULATED)
            return

    async def _watch_clock(self) -> None:
        # Each tick postpones the next change, so the alarm is not moved with every tick: it rings at the time that
        # was known when it was set, and is then set anew. Only an earlier change cuts it short.
        while True:
            now, wall = trio.current_time(), self._clock.now()
            self._wake_at = min(now + LOOK_S, self._next_change())
            for symbol in self._symbols.values():
                if symbol.until > wall:  # else it is being seen to
                    self._wake_at = min(self._wake_at, now + (symbol.until - wall) / SECOND_US)
            self._earlier = trio.Event()
            with trio.move_on_at(self._wake_at):
                await self._earlier.wait()
                continue
            self._looked = trio.Event()
            await tell_when_room(self.actor_ref, TimePassed())
            await self._looked.wait()


class _Close(msgspec.Struct, frozen=True, gc=False):
    """The last price of the session before."""

    price: Decimal
    simulated: bool


class _Symbol:
    """One symbol's state."""

    def __init__(self, rules: SymbolRules, clock: Clock) -> None:
        self.rules = rules
        self.step = quantum(rules.decimals)
        self.price: Price | None = None
        self.previous: _Close | None = None
        """What changes are counted against; None while that is unknown."""
        self.basis: tuple[str, tuple[str, ...]] | None = None
        """Whose the last price was, also before the start: its source and its votes."""
        self.announced: StatusChanged | None = None
        self.refused: deque[RefusedTick] = deque(maxlen=REFUSED_KEPT)
        self.judged_at = -math.inf
        """Loop time up to which the policy has been asked: what changes after it has not been seen to."""
        self._clock = clock
        self.follow(clock.now())

    def judged_now(self) -> float:
        """The loop's time, at which the policy is asked now."""
        self.judged_at = trio.current_time()
        return self.judged_at

    def follow(self, now: EpochUs) -> EpochUs | None:
        """See what the calendar says: when the market opens, or None while it is open.

        Between `since` and `until` it says the same.
        """
        calendar = self.rules.calendar
        self.session = calendar.session(now)
        is_open = now < self.session.end
        self.since = self.session.start if is_open else self.session.end
        self.until = calendar.next_change(now)
        return None if is_open else self.until

    def in_session(self, time: EpochUs) -> bool:
        """Whether it lies in the newest session."""
        return self.session.start <= time < self.session.end

    def restore(self, row: PriceRow) -> Price | None:
        """Take over what is known from before the start: whose the last price was; and that price itself, if it is the
        last of the session that has ended. One that may be traded at now is not to be guessed at.
        """
        self.basis = (row.source, row.votes)
        if not self.in_session(row.source_time) or not self.rules.policy.restore(row.votes or (row.source,)):
            return None

        def exact(stored: float | None) -> Decimal | None:
            return None if stored is None else Decimal(repr(stored)).quantize(self.step)

        tick = Tick(
            symbol=row.symbol,
            source=row.source,
            instrument=self.rules.instrument,
            source_time=row.source_time,
            receive_time=row.receive_time,
            bid=exact(row.bid),
            ask=exact(row.ask),
            last=exact(row.close),
        )
        close, change = exact(row.close), exact(row.change)
        assert close is not None
        self.price = msgspec.structs.replace(
            price_of(
                tick,
                Quality.CLOSED,
                self.step,
                None if change is None else close - change,
                confidence=exact(row.confidence),
                votes=row.votes,
            ),
            close=close,  # of a mid between two steps the rounded quotes know no more
        )
        return self.price

    def priced(self, choice: Choice) -> Price:
        """The price that was chosen, with the quality of now."""
        tick, previous = choice.tick, self.previous
        before, self.basis = self.basis, (tick.source, choice.votes)
        if previous is not None and previous.simulated is not tick.simulated:  # made up and real do not mix
            previous = None
        return price_of(
            tick,
            self.rules.policy.quality,
            self.step,
            None if previous is None else previous.price,
            confidence=choice.confidence,
            votes=choice.votes,
            rebased=before is not None and before != self.basis,
        )

    def status(self) -> StatusChanged:
        """The status as of now, to be announced."""
        policy = self.rules.policy
        self.announced = StatusChanged(
            symbol=self.rules.symbol,
            quality=policy.quality,
            market=MarketState.OPEN if policy.market_is_open else MarketState.CLOSED,
            source=policy.carrier,
            instrument=self.rules.instrument,
            reason=policy.reason,
            time=self._clock.now(),
        )
        return self.announced

    def state(self) -> SymbolState:
        """What there is to know, the price with the quality it has now."""
        rules, announced = self.rules, self.announced
        assert announced is not None
        price = self.price
        if price is not None and price.quality is not announced.quality:
            price = msgspec.structs.replace(price, quality=announced.quality)
        return SymbolState(
            symbol=rules.symbol,
            instrument=rules.instrument,
            decimals=rules.decimals,
            default=rules.default,
            quality=announced.quality,
            market=announced.market,
            source=announced.source,
            price=price,
            status_reason=announced.reason,
            status_time=announced.time,
        )

    def why(self) -> Why:
        """From what the price comes, as of now."""
        policy, now, wall = self.rules.policy, trio.current_time(), self._clock.now()
        since = policy.made_by_since
        return Why(
            state=self.state(),
            policy=policy.name,
            made_since=EpochUs(wall - int((now - since) * SECOND_US)) if since > -math.inf else None,
            session_start=self.session.start,
            session_end=self.session.end,
            next_change=self.until,
            previous_close=None if self.previous is None else self.previous.price,
            max_jump_pct=self.rules.screen.band_pct,
            return_after_s=policy.return_after_s,
            parts=tuple(self._part(candidate, now, wall) for candidate in policy.candidates),
            refused=tuple(self.refused),
        )

    def _part(self, candidate: Candidate, now: float, wall: EpochUs) -> SourcePart:
        policy, screen, tick = self.rules.policy, self.rules.screen, candidate.tick
        standing = policy.standing(candidate.source, now)
        returning = standing is Standing.RETURNING
        return SourcePart(
            source=candidate.source,
            priority=candidate.priority,
            standing=standing,
            quality=candidate.quality() if tick else None,
            tick=tick,
            age_us=max(0, wall - tick.receive_time) if tick else None,
            lag_us=max(0, int(candidate.lag_s * SECOND_US)) if tick else None,
            stale_after_s=candidate.stale_after_s,
            known_delay_s=candidate.known_delay_s,
            stale_in_s=candidate.stale_at - now if candidate.is_fresh(now) else None,
            returns_in_s=candidate.proven_at(policy.return_after_s) - now if returning else None,
            ahead_us=screen.ahead_us(candidate.source),
            refused=screen.record(candidate.source).refused,
        )


async def _tell(ref: pykka.ActorRef[Any], message: Message) -> None:
    """Tell now, or wait for room: none of those that are told ever waits for anything outside the daemon."""
    try:
        ref.tell(message)
    except InboxFullError:
        await tell_when_room(ref, message)
