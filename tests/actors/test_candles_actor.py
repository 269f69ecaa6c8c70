from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import structlog.testing
import trio
import trio.testing

from aurexd.actors.candles import LATE_EVERY_S, PUBLISH_EVERY_S, CandleRules, Candles, TimePassed
from aurexd.actors.messages import CandlesChanged, Decided, Decision, GetBooks
from aurexd.actors.trio_actor import TrioActor, start_actor
from aurexd.candles import FINAL_AFTER_S, Book, KeptBook, PublishedCandle, utc_day
from aurexd.clock import LoopClock
from aurexd.errors import StoreError
from aurexd.market import SECOND_US, EpochUs, Instrument, Price
from tests.actors.probe import Probe
from tests.updates import price_at

START = EpochUs(1_761_566_400 * SECOND_US)
"""2025-10-27T12:00:00Z."""


class FakePersister(TrioActor):
    """Answers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.books: dict[str, KeptBook[float]] = {}
        self.error: Exception | None = None

    async def on_receive(self, message: object) -> object:
        assert isinstance(message, GetBooks)
        if self.error is not None:
            raise self.error
        return self.books


def decided(price: Price) -> Decided:
    return Decided(decisions=(Decision(price=price),))


class Line:
    """Candles between a persister and a hub that writes down what it is told."""

    def __init__(self) -> None:
        self.clock = LoopClock(START)
        self.persister = FakePersister()
        self.actor: Candles
        self.told: list[object] = []
        self.ref: Any = None

    async def prices(self, *closes: str) -> None:
        """All at once, of now."""
        for close in closes:
            self.ref.tell(decided(price_at(close, source_time=self.clock.now())))
        await trio.testing.wait_all_tasks_blocked()

    def seen(self, interval: str = "1m") -> list[PublishedCandle]:
        """The candles of one interval since the last time."""
        told, self.told[:] = list(self.told), []
        changes = [message for message in told if isinstance(message, CandlesChanged)]
        return [c for change in changes for c in change.candles if c.interval == interval]


@asynccontextmanager
async def line(books: dict[str, KeptBook[float]] | None = None, **how: Any) -> AsyncIterator[Line]:
    made = Line()
    made.persister.books = books or {}
    made.persister.error = how.get("error")
    rules = CandleRules("XAUUSD", Instrument.SPOT, 2, utc_day)
    async with trio.open_nursery() as nursery:
        made.actor = Candles(
            [rules],
            hub=await start_actor(nursery, Probe(made.told)),
            persister=await start_actor(nursery, made.persister),
            clock=made.clock,
        )
        for message in how.get("waiting", ()):
            made.actor.actor_ref.tell(message)
        made.ref = await start_actor(nursery, made.actor)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


def stored(*closes: str) -> dict[str, KeptBook[float]]:
    """What the database keeps after these prices of the first second."""
    book: Book[float] = Book(utc_day)
    for close in closes:
        book.add(START, START, float(close))
    assert book.progress is not None
    return {"XAUUSD": KeptBook(progress=book.progress, candles=tuple(book.current()))}


async def test_a_price_changes_a_candle_of_every_interval(autojump_clock: object) -> None:
    async with line() as served:
        await served.prices("2706.93")
        (change,) = served.told
        assert isinstance(change, CandlesChanged)
        assert {candle.interval for candle in change.candles} == {"1s", "1m", "5m", "15m", "1h", "4h", "1d"}
        (minute,) = served.seen()
        assert minute == PublishedCandle(
            symbol="XAUUSD",
            instrument=Instrument.SPOT,
            interval="1m",
            start=START,
            end=EpochUs(START + 60 * SECOND_US),
            open=Decimal("2706.93"),
            high=Decimal("2706.93"),
            low=Decimal("2706.93"),
            close=Decimal("2706.93"),
            ticks=1,
            final=False,
            revision=0,
        )


async def test_the_first_change_is_published_at_once_and_then_a_few_times_a_second(
    autojump_clock: object,
) -> None:
    async with line() as served:
        for n in range(100):
            await served.prices(f"{2000 + n}")
            await trio.sleep(0.01)
        await trio.sleep(PUBLISH_EVERY_S)
        seen = served.seen()
        assert seen[0].ticks == 1
        assert (seen[-1].ticks, seen[-1].close) == (100, Decimal(2099))
        assert len(seen) <= 1 / PUBLISH_EVERY_S + 2


async def test_every_candle_that_ends_is_published_as_final(autojump_clock: object) -> None:
    async with line() as served:
        for n in range(10):
            await served.prices(f"{2000 + n}", f"{3000 + n}")
            await trio.sleep(1)
        await trio.sleep(FINAL_AFTER_S + 2)
        final = [candle for candle in served.seen("1s") if candle.final]
        assert [(c.open, c.close, c.ticks) for c in final] == [
            (Decimal(2000 + n), Decimal(3000 + n), 2) for n in range(10)
        ]


async def test_it_goes_on_from_what_is_stored_and_says_so_at_once(autojump_clock: object) -> None:
    async with line(stored("2000.5", "2706.9")) as served:
        (minute,) = served.seen()
        assert (str(minute.open), str(minute.close), minute.ticks) == ("2000.50", "2706.90", 2)
        await trio.sleep(1)
        await served.prices("1999.99")
        (minute,) = served.seen()
        assert (minute.open, minute.low, minute.ticks) == (Decimal("2000.5"), Decimal("1999.99"), 3)


async def test_prices_that_waited_for_its_restart_are_stored_already_and_not_counted_twice(
    autojump_clock: object,
) -> None:
    waiting = [TimePassed(), decided(price_at("2706.90", source_time=START)), TimePassed()]
    async with line(stored("2000.50", "2706.90"), waiting=waiting) as served:
        await served.prices("2001.00")
        assert served.seen()[-1].ticks == 3


async def test_without_a_store_candles_begin_with_the_next_price_and_that_is_said(
    autojump_clock: object,
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with line(error=StoreError("the disk is full")) as served:
            await served.prices("2706.93")
            assert served.seen()[-1].ticks == 1
    assert [(e["event"], e["reason"]) for e in logs if e["log_level"] == "warning"] == [
        ("candles_not_continued", "the disk is full")
    ]


async def test_prices_that_are_too_late_are_counted_and_said_now_and_then(autojump_clock: object) -> None:
    with structlog.testing.capture_logs() as logs:
        async with line() as served:
            await served.prices("2706.93")
            old = price_at("1.00", source_time=EpochUs(START - 3600 * SECOND_US))
            for _ in range(5):
                served.ref.tell(decided(old))
                await trio.sleep(LATE_EVERY_S / 5)
            await trio.sleep(LATE_EVERY_S)
    said = [e for e in logs if e["event"] == "prices_late_for_candles"]
    assert [(e["symbol"], e["count"]) for e in said] == [("XAUUSD", 1), ("XAUUSD", 4)]


async def test_what_waits_is_published_when_it_stops(autojump_clock: object) -> None:
    async with line() as served:
        await served.prices("2000.00")
        await served.prices("2001.00")
        await served.ref.stop(block=False)
        await trio.testing.wait_all_tasks_blocked()
        assert [candle.ticks for candle in served.seen()] == [1, 2]
