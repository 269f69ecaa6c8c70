from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from aurexd.actors.aggregator import Aggregator, SymbolRules
from aurexd.actors.messages import (
    Decided,
    Decision,
    GetHistory,
    GetLastPrices,
    GetScreening,
    GetSymbol,
    GetSymbols,
    GetWhy,
    PriceRestored,
    PriceRow,
    RefusedTick,
    StaleAfterChanged,
    StatusChanged,
    SymbolState,
    TickReceived,
    Why,
)
from aurexd.actors.trio_actor import ask, start_actor
from aurexd.calendar import ALWAYS, METALS_CALENDAR
from aurexd.clock import LoopClock
from aurexd.consensus import Consensus
from aurexd.errors import StoreError
from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality, Tick, parse_time
from aurexd.protocol.data import MarketState
from aurexd.screening import Screen
from aurexd.selection import Candidate, Policy, Selection, Standing
from tests.actors.probe import Probe

START = EpochUs(1_700_000_000 * SECOND_US)


class Archive(Probe):
    """A persister that answers what it has stored."""

    def __init__(self, messages: list[object], stored: list[PriceRow], broken: list[StoreError]) -> None:
        super().__init__(messages)
        self._stored = stored
        self._broken = broken

    async def on_receive(self, message: object) -> object:
        if isinstance(message, GetLastPrices):
            if self._broken:
                raise self._broken.pop()
            return {row.symbol: row for row in sorted(self._stored, key=lambda row: row.receive_time)}
        if not isinstance(message, GetHistory):
            return await super().on_receive(message)
        if self._broken:
            raise self._broken.pop()
        rows = [row for row in self._stored if message.start <= row.receive_time < message.end]
        return tuple(rows[-message.limit :])


class Pipeline:
    """An aggregator of one symbol between two probes."""

    def __init__(self, start: EpochUs) -> None:
        self.clock = LoopClock(start)
        self.stored: list[PriceRow] = []
        self.broken: list[StoreError] = []
        self.hub: list[object] = []
        self.persister: list[object] = []
        self.candles: list[object] = []
        self.ref: Any = None

    async def tick(
        self, source: str, price: str, *, source_time: EpochUs | None = None, simulated: bool = False
    ) -> Tick:
        now = self.clock.now()
        tick = Tick(
            symbol="XAUUSD",
            source=source,
            instrument=Instrument.SPOT,
            source_time=now if source_time is None else source_time,
            receive_time=now,
            last=Decimal(price),
            simulated=simulated,
        )
        self.ref.tell(TickReceived(tick=tick))
        await trio.testing.wait_all_tasks_blocked()
        return tick

    def seen(self) -> list[object]:
        """What the hub was told since the last time: statuses and prices, in their order."""
        told, out = list(self.hub), list[object]()
        self.hub.clear()
        for message in told:
            if isinstance(message, Decided):
                for decision in message.decisions:
                    out += [part for part in (decision.status, decision.price) if part is not None]
            else:
                out.append(message)
        return out

    @property
    def recorded(self) -> list[Decision]:
        """What is to be stored so far."""
        return [d for message in self.persister if isinstance(message, Decided) for d in message.decisions]

    async def sleep_until(self, text: str) -> None:
        """Until the wall clock says so, and what that makes happen has happened."""
        await trio.sleep((parse_time(text) - self.clock.now()) / SECOND_US)
        await trio.testing.wait_all_tasks_blocked()

    async def state(self) -> SymbolState:
        state = await ask(self.ref, GetSymbol(symbol="XAUUSD"))
        assert state is not None
        return state

    async def why(self) -> Why:
        why = await ask(self.ref, GetWhy(symbol="XAUUSD"))
        assert why is not None
        return why


@asynccontextmanager
async def pipeline(
    start: str | None = None,
    *,
    stored: tuple[PriceRow, ...] = (),
    broken: tuple[StoreError, ...] = (),
    band_pct: float = 1.0,
    policy: type[Policy] = Selection,
    actor: type[Aggregator] = Aggregator,
) -> Any:
    """From `start` on gold's hours count; without it the market is always open."""
    p = Pipeline(START if start is None else parse_time(start))
    p.stored += stored
    p.broken += broken
    async with trio.open_nursery() as nursery:
        candidates = [
            Candidate("best", 1, 5.0),
            Candidate("second", 2, 5.0),
            Candidate("recorded", 3, 5.0, simulated=True),
        ]
        rules = SymbolRules(
            "XAUUSD",
            Instrument.SPOT,
            2,
            default=True,
            policy=policy(candidates, return_after_s=10.0),
            screen=Screen(("best", "second", "recorded"), band_pct=band_pct),
            calendar=ALWAYS if start is None else METALS_CALENDAR,
        )
        hub, persister = Probe(p.hub), Archive(p.persister, p.stored, p.broken)
        aggregator = actor(
            [rules],
            hub=await start_actor(nursery, hub),
            persister=await start_actor(nursery, persister),
            candles=await start_actor(nursery, Probe(p.candles)),
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
        assert isinstance(price, Price)
        assert price.close == Decimal("2000.46")
        assert p.recorded[1:] == [Decision(tick=tick, price=price, status=status, decided=p.clock.now())]
        assert p.candles == p.persister[1:]


async def test_ticks_of_the_others_are_recorded_but_not_announced(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        p.seen()
        other = await p.tick("second", "2001")
        assert p.seen() == []
        assert p.recorded[-1] == Decision(tick=other)


async def test_a_source_that_falls_silent_is_replaced_without_a_tick(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        await trio.sleep(3)
        await p.tick("second", "2001")
        p.seen()
        await trio.sleep(2.5)
        status, price = p.seen()
        assert (status.source, status.quality) == ("second", Quality.LIVE)
        assert (price.source, price.close) == ("second", Decimal("2001.00"))
        assert p.recorded[-1] == Decision(price=price, status=status)


async def test_a_price_says_that_the_one_before_it_came_from_elsewhere(autojump_clock: object) -> None:
    async with pipeline() as p:
        for source, wait_s in (
            ("best", 3),
            ("second", 3),
            ("second", 1),
            ("second", 1),
            ("best", 6),
            ("second", 0),
        ):
            await p.tick(source, "2000")
            await trio.sleep(wait_s)
        prices = [m for m in p.seen() if isinstance(m, Price)]
        assert [(price.source, price.rebased) for price in prices] == [
            ("best", False),
            ("second", True),
            ("second", False),
            ("second", False),
            ("best", True),
            ("second", True),
        ]


async def test_it_is_known_when_a_price_was_decided_that_a_tick_has_just_made(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        await trio.sleep(3)
        await p.tick("second", "2001")
        await trio.sleep(2.5)  # the best one falls silent: the price is the second's last
        await p.tick("second", "2002")
        decided = [d.decided for d in p.recorded if d.price is not None]
        assert [time is not None for time in decided] == [True, False, True]


async def test_a_source_that_falls_silent_right_after_the_one_it_replaced_is_noticed(
    autojump_clock: object,
) -> None:
    class Busy(Aggregator):
        """There are ticks of other symbols before each message and after it."""

        async def on_receive(self, message: object) -> object:
            await trio.sleep(0.02)
            return await super().on_receive(message)

        async def on_batch(self) -> None:
            await trio.sleep(0.05)
            await super().on_batch()

    async with pipeline(actor=Busy) as p:
        await p.tick("best", "2000")
        await p.tick("second", "2001")
        await trio.sleep(1)
        p.seen()
        await trio.sleep(6)
        statuses = [m for m in p.seen() if isinstance(m, StatusChanged)]
        assert [(status.source, status.quality) for status in statuses] == [
            ("second", Quality.LIVE),
            ("second", Quality.STALE),
        ]


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
        assert kinds.count(Price) == 100
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
        assert [type(message) for message in p.seen()] == [StatusChanged, Price, StatusChanged]


async def test_an_unknown_symbol_is_none(autojump_clock: object) -> None:
    async with pipeline() as p:
        assert await ask(p.ref, GetSymbol(symbol="XAGUSD")) is None
        assert [state.symbol for state in await ask(p.ref, GetSymbols())] == ["XAUUSD"]


# --- the market ---

FRIDAY_NIGHT = "2026-11-13T21:59:50Z"  # ten seconds before the weekend


async def test_the_market_s_close_and_opening_are_pushed_without_a_tick(autojump_clock: object) -> None:
    async with pipeline(FRIDAY_NIGHT) as p:
        await p.tick("best", "2000")
        for _ in range(2):
            await trio.sleep(4)
            await p.tick("best", "2001")
        p.seen()
        await p.sleep_until("2026-11-13T22:00:00.001Z")
        (closed,) = p.seen()
        assert (closed.quality, closed.market, closed.source) == (Quality.CLOSED, MarketState.CLOSED, "best")
        assert closed.reason == "the market is closed until 2026-11-15T23:00:00Z"
        assert closed.time == parse_time("2026-11-13T22:00:00Z")
        await p.sleep_until("2026-11-15T22:59:59Z")
        assert p.seen() == []
        assert (await p.state()).price.quality is Quality.CLOSED
        await p.sleep_until("2026-11-15T23:00:00.001Z")
        (opened,) = p.seen()
        assert (opened.quality, opened.market) == (Quality.CLOSED, MarketState.OPEN)
        await p.tick("best", "2002")
        live, price = p.seen()
        assert (live.quality, price.quality) == (Quality.LIVE, Quality.LIVE)


async def test_an_opening_without_a_price_is_stale_after_a_while(autojump_clock: object) -> None:
    async with pipeline(FRIDAY_NIGHT) as p:
        await p.tick("best", "2000")
        await p.sleep_until("2026-11-15T23:00:04.9Z")
        p.seen()
        await p.sleep_until("2026-11-15T23:00:05.1Z")
        (stale,) = p.seen()
        assert (stale.quality, stale.market) == (Quality.STALE, MarketState.OPEN)


async def test_a_feed_that_goes_on_answering_on_a_weekend_moves_nothing(autojump_clock: object) -> None:
    async with pipeline(FRIDAY_NIGHT) as p:
        await p.tick("best", "2000")
        await p.sleep_until("2026-11-14T12:00:00Z")
        p.seen()
        for _ in range(10):
            await p.tick("best", "2000")
            await p.tick("second", "2003")
            await trio.sleep(30)
        assert p.seen() == []
        assert sum(d.status is None and d.price is None for d in p.recorded) == 20, "but is recorded"


async def test_the_last_minutes_of_a_delayed_source_still_count(autojump_clock: object) -> None:
    async with pipeline(FRIDAY_NIGHT) as p:
        await p.tick("best", "2000", source_time=parse_time("2026-11-13T21:49:50Z"))
        await p.sleep_until("2026-11-13T22:08:00Z")
        p.seen()
        await p.tick("best", "2005", source_time=parse_time("2026-11-13T21:58:00Z"))
        (price,) = p.seen()
        assert (price.close, price.quality) == (Decimal("2005.00"), Quality.CLOSED)


async def test_a_daemon_started_on_a_weekend_shows_the_best_price_it_is_given(autojump_clock: object) -> None:
    async with pipeline("2026-11-14T12:00:00Z") as p:
        (status,) = p.seen()
        assert (status.quality, status.market, status.source) == (Quality.CLOSED, MarketState.CLOSED, None)
        await p.tick("second", "2000")
        await p.tick("second", "2000.5")
        await p.tick("best", "2001")
        prices = [m for m in p.seen() if isinstance(m, Price)]
        assert [(x.source, x.close, x.quality) for x in prices] == [
            ("second", Decimal("2000.00"), Quality.CLOSED),
            ("best", Decimal("2001.00"), Quality.CLOSED),
        ]


async def test_a_recording_goes_on_in_a_closed_market_but_its_price_says_so(autojump_clock: object) -> None:
    async with pipeline("2026-11-14T12:00:00Z") as p:
        for price in ("2000", "2001"):
            await p.tick("best", price, source_time=EpochUs(1), simulated=True)
        prices = [m for m in p.seen() if isinstance(m, Price)]
        assert [price.quality for price in prices] == [Quality.CLOSED] * 2


async def test_to_have_been_silent_on_a_weekend_is_no_loss(autojump_clock: object) -> None:
    async with pipeline(FRIDAY_NIGHT) as p:
        await p.tick("best", "2000")
        await p.tick("second", "2000")
        await p.sleep_until("2026-11-15T23:00:01Z")
        await p.tick("second", "2001")
        await p.tick("best", "2002")
        assert (await p.state()).source == "best"


# --- the change ---


def row(close: float, received: str, quality: Quality = Quality.LIVE) -> PriceRow:
    time = parse_time(received)
    return PriceRow(
        symbol="XAUUSD",
        close=close,
        bid=None,
        ask=None,
        source="best",
        quality=quality,
        source_time=time,
        receive_time=time,
    )


async def changes(
    p: Pipeline, price: str, *, simulated: bool = False
) -> tuple[Decimal | None, Decimal | None]:
    await p.tick("best", price, simulated=simulated)
    *_, changed = p.seen()
    assert isinstance(changed, Price)
    return changed.change, changed.change_pct


async def test_the_change_is_against_the_last_price_of_the_session_before(autojump_clock: object) -> None:
    async with pipeline(FRIDAY_NIGHT) as p:
        assert await changes(p, "2000") == (None, None)
        await p.sleep_until("2026-11-15T23:00:01Z")
        assert await changes(p, "2005.25") == (Decimal("5.25"), Decimal("0.26"))
        assert await changes(p, "1990") == (Decimal("-10.00"), Decimal("-0.50"))


async def test_the_close_is_known_after_a_restart(autojump_clock: object) -> None:
    stored = row(1999.5, "2026-11-12T21:59:59Z"), row(2001.5, "2026-11-13T21:59:59Z")
    async with pipeline("2026-11-15T23:30:00Z", stored=stored) as p:
        assert await changes(p, "2003") == (Decimal("1.50"), Decimal("0.07"))
    gone = tuple(
        msgspec.structs.replace(row, source="gone") for row in stored
    )  # else its price were restored
    async with pipeline("2026-11-14T12:00:00Z", stored=gone) as p:  # the weekend shows Friday's change
        assert await changes(p, "2003") == (Decimal("3.50"), Decimal("0.18"))


async def test_a_store_in_trouble_is_asked_again(autojump_clock: object) -> None:
    stored = (row(2001.5, "2026-11-13T21:59:59Z"),)
    trouble = (StoreError("locked"), StoreError("locked"))
    async with pipeline("2026-11-15T23:30:00Z", stored=stored, broken=trouble) as p:
        assert await changes(p, "2003") == (None, None)
        await trio.sleep(120)
        assert await changes(p, "2003") == (Decimal("1.50"), Decimal("0.07"))


async def test_a_price_long_before_the_end_is_no_close(autojump_clock: object) -> None:
    async with pipeline("2026-11-15T23:30:00Z", stored=(row(2001.5, "2026-11-13T21:40:00Z"),)) as p:
        assert await changes(p, "2003") == (None, None)


async def test_a_real_price_is_not_held_against_a_made_up_one(autojump_clock: object) -> None:
    stored = (row(2001.5, "2026-11-13T21:59:59Z", Quality.SIMULATED),)
    async with pipeline("2026-11-15T23:30:00Z", stored=stored) as p:
        assert await changes(p, "2003", simulated=True) == (Decimal("1.50"), Decimal("0.07"))
        assert await changes(p, "2003.50") == (None, None)


# --- a restart ---

SATURDAY = "2026-11-14T12:00:00Z"


def closing(**changes: Any) -> PriceRow:
    """The last price before the weekend."""
    return msgspec.structs.replace(row(2001.5, "2026-11-13T21:59:59Z"), **changes)


async def test_a_closed_market_has_its_last_price_after_a_restart(autojump_clock: object) -> None:
    stored = (row(1990, "2026-11-13T21:59:58Z"), closing(bid=2001.43, ask=2001.57, change=3.5))
    async with pipeline(SATURDAY, stored=stored) as p:
        status, restored = p.seen()
        assert (status.quality, status.source) == (Quality.CLOSED, "best")
        assert isinstance(restored, PriceRestored)
        price = restored.price
        assert (price.close, price.bid, price.ask) == (
            Decimal("2001.50"),
            Decimal("2001.43"),
            Decimal("2001.57"),
        )
        assert (price.change, price.change_pct) == (Decimal("3.50"), Decimal("0.18"))
        assert (price.quality, price.source) == (Quality.CLOSED, "best")
        assert price.source_time == parse_time("2026-11-13T21:59:59Z")
        assert (await p.state()).price == price
        assert p.recorded == [Decision(status=status)]
        assert p.candles == [], "it was stored and counted before"
        await p.tick("second", "2003")
        assert p.seen() == [], "those who made the price when the market closed keep it"
        await p.sleep_until("2026-11-15T23:00:00.001Z")
        [opened] = p.seen()
        assert (opened.quality, opened.market) == (Quality.CLOSED, MarketState.OPEN)
        await p.sleep_until("2026-11-15T23:00:05.001Z")
        assert (await p.state()).price.quality is Quality.STALE
        await p.tick("best", "2005")
        *_, changed = p.seen()
        assert (changed.change, changed.rebased) == (Decimal("3.50"), False)


@pytest.mark.parametrize(
    ("start", "stored"),
    [
        ("2026-11-13T12:00:00Z", row(2001.5, "2026-11-13T11:59:59Z")),
        (SATURDAY, row(2001.5, "2026-11-12T21:59:59Z")),
        (SATURDAY, closing(source="gone")),
        (SATURDAY, closing(source="consensus", votes=("best", "gone"))),
        (SATURDAY, closing(source="recorded")),
    ],
    ids=["open market", "of a session before", "its source is gone", "so is a vote", "a recording"],
)
async def test_what_may_not_be_true_any_more_is_not_restored(
    start: str, stored: PriceRow, autojump_clock: object
) -> None:
    async with pipeline(start, stored=(stored,)) as p:
        [status] = p.seen()
        assert isinstance(status, StatusChanged)
        assert status.source is None
        assert (await p.state()).price is None


async def test_the_votes_of_a_consensus_are_restored(autojump_clock: object) -> None:
    stored = closing(source="consensus", votes=("best", "second"), confidence=0.12)
    async with pipeline(SATURDAY, stored=(stored,), policy=Consensus) as p:
        price = (await p.state()).price
        assert (price.source, price.votes, price.confidence) == (
            "consensus",
            ("best", "second"),
            Decimal("0.12"),
        )


@pytest.mark.parametrize(("before", "rebased"), [("best", False), ("second", True), ("gone", True)])
async def test_the_first_price_after_a_restart_says_whether_the_last_came_from_elsewhere(
    before: str, rebased: bool, autojump_clock: object
) -> None:
    async with pipeline(stored=(msgspec.structs.replace(closing(), source=before),)) as p:
        await p.tick("best", "2003")
        *_, changed = p.seen()
        assert changed.rebased is rebased


async def test_a_store_that_does_not_answer_keeps_nobody_waiting_for_long(autojump_clock: object) -> None:
    async with pipeline(SATURDAY, stored=(closing(),), broken=(StoreError("locked"),) * 2) as p:
        [status] = p.seen()
        assert status.source is None


# --- why ---


async def test_why_tells_each_source_s_part_in_the_price(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("second", "2001")
        await trio.sleep(2)
        best = await p.tick("best", "2000", source_time=EpochUs(p.clock.now() - 3 * SECOND_US))
        await trio.sleep(1)
        bad = await p.tick("second", "20")
        why = await p.why()
        assert (why.policy, why.state.source, why.max_jump_pct) == ("priority", "best", 1.0)
        assert why.made_since == best.receive_time
        first, second, _ = why.parts
        assert (first.source, first.standing, first.tick) == ("best", Standing.COUNTS, best)
        assert (first.age_us, first.lag_us, first.stale_in_s) == (SECOND_US, 3 * SECOND_US, 4.0)
        assert (second.standing, second.stale_in_s, second.refused) == (
            Standing.OUTRANKED,
            2.0,
            {"wrong_scale": 1},
        )
        assert why.refused == (RefusedTick(tick=bad, reason="wrong_scale"),)


async def test_why_tells_when_who_was_lost_is_back(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        await trio.sleep(4)
        await p.tick("second", "2000")
        await trio.sleep(2)
        why = await p.why()
        assert why.parts[0].standing is Standing.STALE
        await p.tick("best", "2000")
        await trio.sleep(2)
        why = await p.why()
        assert (why.parts[0].standing, why.parts[0].returns_in_s) == (Standing.RETURNING, 8.0)
        assert why.parts[2].standing is Standing.NO_PRICE
        assert why.state.status_reason == "best: no fresh price for 5 s; second carries the price"


async def test_why_is_none_for_an_unknown_symbol(autojump_clock: object) -> None:
    async with pipeline() as p:
        assert await ask(p.ref, GetWhy(symbol="XAGUSD")) is None


# --- what is not believed ---


async def test_a_bad_tick_is_recorded_but_moves_no_price_and_keeps_nobody_fresh(
    autojump_clock: object,
) -> None:
    async with pipeline() as p:
        for _ in range(10):
            await p.tick("best", "2000")
            await trio.sleep(1)
        p.seen()
        for _ in range(6):
            await trio.sleep(1)
            bad = await p.tick("best", "20")
        (stale,) = p.seen()
        assert isinstance(stale, StatusChanged)
        assert stale.quality is Quality.STALE
        assert p.recorded[-1] == Decision(tick=bad, refused="wrong_scale")
        screening = await ask(p.ref, GetScreening())
        assert screening["best"].refused == {"wrong_scale": 6}
        assert screening["second"].refused == {}


async def test_what_comes_while_the_market_is_closed_is_counted(autojump_clock: object) -> None:
    async with pipeline("2026-11-14T12:00:00Z") as p:
        for price in ("2000", "2001", "2002"):
            await p.tick("best", price)
        assert (await ask(p.ref, GetScreening()))["best"].refused == {"market_closed": 2}


async def test_a_jump_passes_and_is_told_in_the_log(autojump_clock: object) -> None:
    async with pipeline() as p:
        await p.tick("best", "2000")
        p.seen()
        with capture_logs() as logs:
            for _ in range(4):
                await trio.sleep(1)
                await p.tick("best", "1900")
        assert [price.close for price in p.seen()] == [Decimal("1900.00")] * 2
        assert [entry["late_ms"] for entry in logs if entry["event"] == "jump_confirmed"] == [2000]
        assert (await ask(p.ref, GetScreening()))["best"].jumps == 1


async def test_the_age_of_a_price_is_told_by_what_its_clock_is_ahead(autojump_clock: object) -> None:
    """A frozen feed whose clock is ten minutes ahead would seem fresh for ten minutes more."""
    async with pipeline() as p:
        for _ in range(20):
            ahead = EpochUs(p.clock.now() + 600 * SECOND_US)
            await p.tick("best", "2000", source_time=ahead)
            await trio.sleep(1)
        assert (await ask(p.ref, GetScreening()))["best"].clock_skew_us == 600 * SECOND_US
        assert (await p.state()).quality is Quality.LIVE
        for n in range(80):  # its time stands still from now on, but for a microsecond
            await p.tick("best", "2000", source_time=EpochUs(ahead + n + 1))
            await trio.sleep(1)
        assert (await p.state()).quality is Quality.STALE


# --- consensus ---


async def test_a_consensus_is_published_with_its_votes_and_each_change_of_them_says_so(
    autojump_clock: object,
) -> None:
    async with pipeline(policy=Consensus) as p:
        await p.tick("best", "2000.001")
        await p.tick("second", "2000.105")
        await p.tick("best", "2000.205")
        await trio.sleep(3)
        await p.tick("second", "2000.305")
        await trio.sleep(3)
        seen = p.seen()
        prices = [m for m in seen if isinstance(m, Price)]
        assert [(x.source, x.close, x.votes, x.confidence, x.rebased) for x in prices] == [
            ("consensus", Decimal("2000.00"), ("best",), None, False),
            ("consensus", Decimal("2000.05"), ("best", "second"), Decimal("0.08"), True),
            ("consensus", Decimal("2000.16"), ("best", "second"), Decimal("0.08"), False),
            ("consensus", Decimal("2000.26"), ("best", "second"), Decimal("0.08"), False),
            ("consensus", Decimal("2000.30"), ("second",), None, True),
        ]
        reasons = [m.reason for m in seen if isinstance(m, StatusChanged)][1:]
        assert reasons == [
            "best votes alone",
            "best and second vote",
            "best: no fresh price for 5 s; second votes alone",
        ]
