"""Makes candles of the prices as they are published, and tells the hub what becomes of them.

The rules are `aurexd/candles.py`'s. The database makes the same candles of the same prices (`aurexd/store.py`), in
the transaction that stores them; this actor goes on from those when it starts.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pykka
import structlog
import trio

from aurexd.actors.messages import CandlesChanged, Decided, GetBooks, Message
from aurexd.actors.trio_actor import TrioActor, ask, tell_when_room
from aurexd.beat import next_beat
from aurexd.candles import Book, Candle, Days, KeptBook, PublishedCandle, time_of
from aurexd.clock import Clock
from aurexd.errors import StoreError
from aurexd.market import Instrument, Price
from aurexd.pricing import quantum

log = structlog.get_logger(__name__)

PUBLISH_EVERY_S = 0.25
"""Nobody can look at a candle more often, and seven of them change with every price."""

PIECE = 256
"""Candles of one message to the hub: a millisecond of its time."""

BOOKS_S = 8.0
"""How long the store may take to write what waits and to say where the candles stand."""

LATE_EVERY_S = 60.0
"""Prices that came too late are said at once, and then no more often than this: they come in their hundreds."""


class CandleRules(msgspec.Struct, frozen=True):
    """What the configuration says of a symbol's candles."""

    symbol: str
    instrument: Instrument
    decimals: int
    days: Days


class TimePassed(Message, frozen=True, kw_only=True, gc=False):
    """The actor to itself: candles may have become final, or wait to be published."""


class Candles(TrioActor):
    """`Decided` in, `CandlesChanged` to the hub: at once, then at most every `PUBLISH_EVERY_S`."""

    inbox_capacity = 4096

    def __init__(
        self,
        symbols: list[CandleRules],
        *,
        hub: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        clock: Clock,
    ) -> None:
        super().__init__()
        self._rules = {rules.symbol: rules for rules in symbols}
        self._books: dict[str, Book[Decimal]] = {rules.symbol: Book(rules.days) for rules in symbols}
        self._hub = hub
        self._persister = persister
        self._clock = clock
        self._known = 0
        """So many `Decided` of the inbox are in the books already."""
        self._publish_at = 0.0
        self._late: dict[str, int] = {}
        self._late_said_at = -LATE_EVERY_S

    async def on_start(self) -> None:
        """Go on from what is stored, say where each candle stands, then watch the clock."""
        try:
            kept = await ask(self._persister, GetBooks(), timeout_s=BOOKS_S)
        except (trio.TooSlowError, pykka.ActorDeadError, StoreError) as error:
            log.warning(
                "candles_not_continued", reason=str(error), consequence="they begin with the next price"
            )
        else:
            # After a crash: who told us these told the persister before, and has not come back yet.
            self._known = self.actor_inbox.waiting(Decided)
            for symbol, rules in self._rules.items():
                if symbol in kept:
                    book = self._books[symbol] = Book(rules.days, _exact(kept[symbol], rules.decimals))
                    await self._tell_hub([_published(rules, book, c) for c in book.current()])
        self._publish_at = trio.current_time()
        self.nursery.start_soon(self._watch_clock)

    async def on_receive(self, message: object) -> object:
        """Fold a price, or see to time passing."""
        match message:
            case Decided(decisions=decisions):
                if self._known:
                    self._known -= 1
                    return None
                for decision in decisions:
                    if decision.price is not None:
                        self._add(decision.price)
            case TimePassed():
                now = self._clock.now()
                for book in self._books.values():
                    book.elapse(now)
                self._say_late()
        return None

    def _add(self, price: Price) -> None:
        if not self._books[price.symbol].add(time_of(price), price.receive_time, price.close):
            self._late[price.symbol] = self._late.get(price.symbol, 0) + 1

    async def on_batch(self) -> None:
        """Publish, unless that was just done."""
        if trio.current_time() >= self._publish_at:
            await self._publish()

    async def on_stop(self) -> None:
        """Publish what waits: the hub leaves it to the next."""
        await self._publish()

    async def _publish(self) -> None:
        changed = [
            _published(self._rules[symbol], book, candle)
            for symbol, book in self._books.items()
            for candle in book.take_changes()
        ]
        if changed:
            self._publish_at = trio.current_time() + PUBLISH_EVERY_S
            await self._tell_hub(changed)

    async def _tell_hub(self, changed: list[PublishedCandle]) -> None:
        rest = iter(changed)
        while piece := tuple(islice(rest, PIECE)):
            await tell_when_room(self._hub, CandlesChanged(candles=piece))

    async def _watch_clock(self) -> None:
        while True:
            await trio.sleep_until(next_beat(PUBLISH_EVERY_S))
            await tell_when_room(self.actor_ref, TimePassed())

    def _say_late(self) -> None:
        now = trio.current_time()
        if self._late and now >= self._late_said_at + LATE_EVERY_S:
            for symbol, count in self._late.items():
                log.info("prices_late_for_candles", symbol=symbol, count=count)
            self._late.clear()
            self._late_said_at = now


def _published(rules: CandleRules, book: Book[Decimal], candle: Candle[Decimal]) -> PublishedCandle:
    return PublishedCandle(
        symbol=rules.symbol,
        instrument=rules.instrument,
        interval=candle.interval,
        start=candle.start,
        end=candle.end,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        ticks=candle.ticks,
        final=book.is_final(candle),
        revision=candle.revision,
    )


def _exact(kept: KeptBook[float], decimals: int) -> KeptBook[Decimal]:
    """The stored prices as they were published."""
    step = quantum(decimals)

    def exact(price: float) -> Decimal:
        return Decimal(repr(price)).quantize(step)

    candles = tuple(
        Candle(
            interval=candle.interval,
            start=candle.start,
            end=candle.end,
            open=exact(candle.open),
            high=exact(candle.high),
            low=exact(candle.low),
            close=exact(candle.close),
            open_time=candle.open_time,
            close_time=candle.close_time,
            ticks=candle.ticks,
            revision=candle.revision,
        )
        for candle in kept.candles
    )
    return KeptBook(progress=kept.progress, candles=candles)
