from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import trio

from aurexd.actors.aggregator import Aggregator, SymbolRules
from aurexd.actors.messages import (
    GetSymbol,
    GetSymbols,
    PriceChanged,
    Recorded,
    StaleAfterChanged,
    StatusChanged,
    TickReceived,
)
from aurexd.actors.trio_actor import ask, start_actor
from aurexd.clock import LoopClock
from aurexd.market import SECOND_US, EpochUs, Instrument, Quality, Tick
from aurexd.selection import Candidate, Selection
from tests.actors.probe import Probe

START = EpochUs(1_700_000_000 * SECOND_US)


class Pipeline:
    """An aggregator of one symbol between two probes."""

    def __init__(self) -> None:
        self.clock = LoopClock(START)
        self.hub: list[object] = []
        self.persister: list[object] = []
        self.ref: Any = None

    async def tick(self, source: str, price: str) -> Tick:
        now = self.clock.now()
        tick = Tick(
            symbol="XAUUSD",
            source=source,
            instrument=Instrument.SPOT,
            source_time=now,
            receive_time=now,
            last=Decimal(price),
        )
        self.ref.tell(TickReceived(tick=tick))
        await trio.testing.wait_all_tasks_blocked()
        return tick

    def seen(self) -> list[object]:
        out = list(self.hub)
        self.hub.clear()
        return out


@asynccontextmanager
async def pipeline() -> Any:
    p = Pipeline()
    async with trio.open_nursery() as nursery:
        selection = Selection([Candidate("best", 1, 5.0), Candidate("second", 2, 5.0)], return_after_s=10.0)
        rules = SymbolRules("XAUUSD", Instrument.SPOT, 2, default=True, selection=selection)
        hub, persister = Probe(p.hub), Probe(p.persister)
        aggregator = Aggregator(
            [rules],
            hub=await start_actor(nursery, hub),
            persister=await start_actor(nursery, persister),
            clock=p.clock,
        )
        p.ref = await start_actor(nursery, aggregator)
        await trio.testing.wait_all_tasks_blocked()
        yield p
        nursery.cancel_scope.cancel()


async def test_it_says_at_once_that_nothing_is_known_yet(autojump_clock: object) -> None:
    async with pipeline() as p:
        (status,) = p.seen()
        assert (status.quality, status.source) == (Quality.STALE, None)
        assert status.reason == "no source has delivered a price yet"


async def test_a_price_is_announced_with_its_status_first_and_both_are_recorded(
    autojump_clock: object,
) -> None:
    async with pipeline() as p:
        p.seen()
        tick = await p.tick("best", "2000.456")
        status, price = p.seen()
        assert isinstance(status, StatusChanged)
        assert (status.quality, status.source) == (Quality.LIVE, "best")
        assert isinstance(price, PriceChanged)
        assert price.price.close == Decimal("2000.46")
        assert p.persister == [Recorded(tick=tick, price=price.price)]


async def test_ticks_of_the_others_are_recorded_but_not_announced(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        p.seen()
        other = await p.tick("second", "2001")
        assert p.seen() == []
        assert p.persister[-1] == Recorded(tick=other, price=None)


async def test_a_source_that_falls_silent_is_replaced_without_a_tick(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        await trio.sleep(3)
        await p.tick("second", "2001")
        p.seen()
        await trio.sleep(2.5)
        status, price = p.seen()
        assert (status.source, status.quality) == ("second", Quality.LIVE)
        assert (price.price.source, price.price.close) == ("second", Decimal("2001.00"))
        assert p.persister[-1] == Recorded(tick=None, price=price.price)


async def test_when_all_fall_silent_the_quality_is_pushed_and_the_price_says_it(
    autojump_clock: object,
) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        p.seen()
        await trio.sleep(6)
        (status,) = p.seen()
        assert status.quality is Quality.STALE
        state = await ask(p.ref, GetSymbol(symbol="XAUUSD"))
        assert state is not None
        assert state.price is not None
        assert (state.price.close, state.price.quality) == (Decimal("2000.00"), Quality.STALE)


async def test_steady_ticks_are_never_called_stale(autojump_clock: object) -> None:
    async with pipeline() as p:
        for n in range(100):
            await p.tick("best", f"{2000 + n}")
            await trio.sleep(4.9)
        kinds = [type(message) for message in p.seen()]
        assert kinds.count(PriceChanged) == 100
        assert kinds.count(StatusChanged) == 2  # nothing known, then live


async def test_a_source_that_is_asked_less_often_is_not_called_stale_for_it(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        p.seen()
        p.ref.tell(StaleAfterChanged(source="best", stale_after_s=60.0))
        await trio.sleep(59)
        assert p.seen() == []
        await trio.sleep(2)
        (status,) = p.seen()
        assert status.quality is Quality.STALE
        p.ref.tell(StaleAfterChanged(source="best", stale_after_s=2.0))
        await p.tick("best", "2001")
        await trio.sleep(3)
        assert [type(message) for message in p.seen()] == [StatusChanged, PriceChanged, StatusChanged]


async def test_an_unknown_symbol_is_none(autojump_clock: object) -> None:
    async with pipeline() as p:
        assert await ask(p.ref, GetSymbol(symbol="XAGUSD")) is None
        assert [state.symbol for state in await ask(p.ref, GetSymbols())] == ["XAUUSD"]
