"""Decides what each symbol costs now and how far that can be trusted, from the ticks of all its sources.

The rules are `selection.py`'s (who carries the price) and `pricing.py`'s (what a tick amounts to); this actor owns
their state, wakes up when time alone changes a verdict, and tells the hub and the persister.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pykka
import structlog
import trio

from aurexd.actors.messages import (
    GetSymbol,
    GetSymbols,
    Message,
    PriceChanged,
    Recorded,
    StaleAfterChanged,
    StatusChanged,
    SymbolState,
    TickReceived,
)
from aurexd.actors.trio_actor import TrioActor, tell_when_room
from aurexd.clock import Clock
from aurexd.errors import InboxFullError
from aurexd.market import Instrument, Price, Tick
from aurexd.pricing import price_of, quantum
from aurexd.selection import Selection, Verdict

log = structlog.get_logger(__name__)


class SymbolRules(msgspec.Struct, frozen=True):
    """What the configuration says of a symbol, and the choice among its sources."""

    symbol: str
    instrument: Instrument
    decimals: int
    default: bool
    selection: Selection


class TimePassed(Message, frozen=True, kw_only=True, gc=False):
    """The aggregator to itself: a verdict may have changed without a tick."""


class Aggregator(TrioActor):
    """Ticks in; `PriceChanged` and `StatusChanged` to the hub, `Recorded` to the persister."""

    inbox_capacity = 4096  # a few hundred milliseconds of the fastest replay

    def __init__(
        self,
        symbols: list[SymbolRules],
        *,
        hub: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        clock: Clock,
    ) -> None:
        super().__init__()
        self._symbols = {rules.symbol: _Symbol(rules, clock) for rules in symbols}
        self._hub = hub
        self._persister = persister
        self._clock = clock
        self._wake_at = math.inf
        self._earlier = trio.Event()

    async def on_start(self) -> None:
        """Say what is known of each symbol, then watch the clock."""
        for symbol in self._symbols.values():
            await _tell(self._hub, symbol.status())
        self.nursery.start_soon(self._watch_clock)

    async def on_receive(self, message: object) -> object:
        """Judge a tick, see to time passing, or answer."""
        match message:
            case TickReceived(tick=tick):
                symbol = self._symbols[tick.symbol]
                verdict = symbol.rules.selection.observe(tick, trio.current_time())
                await self._act(symbol, verdict, tick)
            case StaleAfterChanged(source=source, stale_after_s=stale_after_s):
                for symbol in self._symbols.values():
                    symbol.rules.selection.allow(source, stale_after_s, trio.current_time())
            case TimePassed():
                for symbol in self._symbols.values():
                    await self._act(symbol, symbol.rules.selection.elapse(trio.current_time()), None)
            case GetSymbol(symbol=name):
                known = self._symbols.get(name)
                return known and known.state()
            case GetSymbols():
                return tuple(symbol.state() for symbol in self._symbols.values())
        return None

    async def on_batch(self) -> None:
        """Have the clock watched for the next change that needs no tick."""
        now = trio.current_time()
        next_change = min(
            (s.rules.selection.next_change(now) for s in self._symbols.values()), default=math.inf
        )
        if next_change < self._wake_at:
            self._earlier.set()

    async def _act(self, symbol: _Symbol, verdict: Verdict, tick: Tick | None) -> None:
        """Publish what follows from a verdict: the change of status first, then the price."""
        if verdict.changed:
            before = symbol.announced
            status = symbol.status()
            log.info(
                "status_changed",
                symbol=status.symbol,
                quality=status.quality,
                source=status.source,
                before=before and before.source,
                reason=status.reason,
            )
            await _tell(self._hub, status)
        price = None
        if verdict.publish is not None:
            price = symbol.price = price_of(verdict.publish, symbol.rules.selection.quality, symbol.step)
            await _tell(self._hub, PriceChanged(price=price))
        if tick is not None or price is not None:
            await _tell(self._persister, Recorded(tick=tick, price=price))

    async def _watch_clock(self) -> None:
        # Each tick postpones the next change, so the alarm is not moved with every tick: it rings at the time that
        # was known when it was set, and is then set anew. Only an earlier change cuts it short.
        while True:
            now = trio.current_time()
            self._wake_at = min(s.rules.selection.next_change(now) for s in self._symbols.values())
            self._earlier = trio.Event()
            with trio.move_on_at(self._wake_at):
                await self._earlier.wait()
                continue
            await tell_when_room(self.actor_ref, TimePassed())


class _Symbol:
    """One symbol's state."""

    def __init__(self, rules: SymbolRules, clock: Clock) -> None:
        self.rules = rules
        self.step = quantum(rules.decimals)
        self.price: Price | None = None
        self.announced: StatusChanged | None = None
        self._clock = clock

    def status(self) -> StatusChanged:
        """The status as of now, to be announced."""
        selection = self.rules.selection
        self.announced = StatusChanged(
            symbol=self.rules.symbol,
            quality=selection.quality,
            source=selection.carrier,
            instrument=self.rules.instrument,
            reason=selection.reason,
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
            source=announced.source,
            price=price,
            status_reason=announced.reason,
            status_time=announced.time,
        )


async def _tell(ref: pykka.ActorRef[Any], message: Message) -> None:
    """Tell now, or wait for room: neither the hub nor the persister ever waits for anything outside the daemon."""
    try:
        ref.tell(message)
    except InboxFullError:
        await tell_when_room(ref, message)
