"""The filler on virtual time: a real store, and a provider with a history that is written down."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
import trio.testing
from structlog.testing import capture_logs

from aurexd.actors.filler import EVERY_S, FIRST_S, Filler, FillRules
from aurexd.actors.messages import Decision, FillCandles, GetCandles
from aurexd.actors.trio_actor import TrioActor, start_actor
from aurexd.calendar import ALWAYS
from aurexd.clock import Clock, LoopClock
from aurexd.errors import FeedError
from aurexd.market import EpochUs, parse_time
from aurexd.sources.base import Bar, Feed, HistoryProvider, SourceSettings
from aurexd.store import Store
from tests.updates import price_at

NOON = parse_time("2026-11-25T12:00:00Z")
MINUTE_US = 60_000_000


class Historian(HistoryProvider[SourceSettings]):
    """Knows every minute; the last that was asked for is `asked`."""

    def __init__(self) -> None:
        settings = SourceSettings(name="historian", type="fake", symbols={"XAUUSD": "XAU"})
        super().__init__(settings, update_interval_s=1.0)
        self.asked: list[tuple[str, int, int]] = []
        self.error: FeedError | None = None

    @property
    def history_hours(self) -> float:
        return 12.0

    async def run(self, feed: Feed) -> None:
        raise AssertionError(feed)

    async def history(self, code: str, start: EpochUs, end: EpochUs, clock: Clock) -> list[Bar]:
        del clock
        self.asked.append((code, (start - NOON) // MINUTE_US, (end - NOON) // MINUTE_US))
        if self.error is not None:
            raise self.error
        price = Decimal("2000.50")
        return [
            Bar(start=EpochUs(time), open=price, high=price, low=price, close=price)
            for time in range(start - MINUTE_US, end + MINUTE_US, MINUTE_US)
        ]


class Keeper(TrioActor):
    """A persister that answers at once."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    async def on_receive(self, message: object) -> object:
        match message:
            case GetCandles():
                m = message
                return self.store.candles(m.symbol, m.interval, m.start, m.end, m.limit, m.now)
            case FillCandles(symbol=symbol, candles=candles):
                return self.store.fill_candles(symbol, candles)
        raise AssertionError(message)


class Place:
    """A filler, and the store that it fills."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.provider = Historian()

    def prices(self, *minutes: float) -> None:
        """One at the beginning of each of these minutes after noon."""
        for minute in minutes:
            time = EpochUs(NOON + int(minute * MINUTE_US))
            self.store.append([Decision(price=price_at("2000.00", source_time=time))])

    def filled(self, interval: str = "1m") -> list[int]:
        """Minutes after noon at which the candles begin that are not ours."""
        page = self.store.candles("XAUUSD", interval, EpochUs(0), EpochUs(2**62), 10_000, EpochUs(0))
        return [(c.start - NOON) // MINUTE_US for c in page.candles if c.filled]


@contextlib.asynccontextmanager
async def place(tmp_path: Path, *, hours: float = 12.0, at: float = 60.0) -> AsyncIterator[Place]:
    """The filler starts so many minutes after noon."""
    with contextlib.closing(Store(f"sqlite:///{tmp_path}/a.db")) as store:
        async with trio.open_nursery() as nursery:
            place = Place(store)
            keeper: Any = await start_actor(nursery, Keeper(store))
            clock = LoopClock(EpochUs(NOON + int(at * MINUTE_US)))
            rules = FillRules("XAUUSD", "XAU", place.provider, ALWAYS, hours)
            await start_actor(nursery, Filler([rules], persister=keeper, clock=clock))
            yield place
            nursery.cancel_scope.cancel()


async def first_look() -> None:
    await trio.sleep(FIRST_S + 0.1)
    await trio.testing.wait_all_tasks_blocked()


async def test_what_was_missed_while_it_was_down_is_filled_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with place(tmp_path) as p:
        p.prices(0, 1, 60)
        with capture_logs() as logs:
            await first_look()
            await trio.sleep(5 * EVERY_S)
        assert p.filled() == list(range(2, 60))
        assert p.filled("5m") == list(range(5, 60, 5))
        assert p.filled("1h") == []
        assert p.provider.asked == [("XAU", 2, 60)]
        [said] = [entry for entry in logs if entry["event"] == "gaps_filled"]
        assert (said["minutes"], said["candles"], said["source"]) == (58, 58 + 11 + 3, "historian")


async def test_a_gap_that_comes_later_is_filled_too(tmp_path: Path, autojump_clock: object) -> None:
    async with place(tmp_path) as p:
        p.prices(0, 60)
        await first_look()
        p.prices(65)
        await trio.sleep(EVERY_S)
        assert p.provider.asked == [("XAU", 1, 60), ("XAU", 61, 65)]
        assert p.filled()[-4:] == [61, 62, 63, 64]


async def test_nothing_is_asked_where_nothing_is_missing(tmp_path: Path, autojump_clock: object) -> None:
    async with place(tmp_path) as p:
        p.prices(*range(58, 61))
        await first_look()
        assert p.provider.asked == []


async def test_what_is_too_long_ago_stays_a_gap(tmp_path: Path, autojump_clock: object) -> None:
    async with place(tmp_path, hours=0.5) as p:
        p.prices(0, 60)
        await first_look()
        assert p.filled() == list(range(31, 60))  # 30 and something: the minute had begun
        assert p.filled("15m") == [45], "of the one before, the history has a part"


async def test_a_provider_that_fails_is_asked_again_when_it_wants_to(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with place(tmp_path) as p:
        p.prices(0, 60)
        p.provider.error = FeedError("busy", retry_after_s=1.5 * EVERY_S)
        with capture_logs() as logs:
            await first_look()
            await trio.sleep(EVERY_S)
        assert len(p.provider.asked) == 1
        assert [(e["event"], e["reason"]) for e in logs if e["log_level"] == "warning"] == [
            ("gaps_not_filled", "busy")
        ]
        p.provider.error = None
        await trio.sleep(EVERY_S)
        assert len(p.filled()) == 59
