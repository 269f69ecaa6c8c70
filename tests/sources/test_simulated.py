"""The simulated price: seeded, positive, never crossed, on time."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.clock import LoopClock
from aurexd.market import EpochUs, Instrument
from aurexd.sources.base import Subscription
from aurexd.sources.simulated import Simulated, SimulatedSettings, Walk
from tests.fakes import FakeFeed

START = EpochUs(1_761_566_400_000_000)


def simulated(**keys: object) -> Simulated:
    document = {"name": "sim", "type": "simulated", "symbols": {"TESTGOLD": "TESTGOLD"}, **keys}
    return Simulated(SimulatedSettings.model_validate(document), update_interval_s=5.0)


async def play(provider: Simulated, seconds: float, *codes: str) -> FakeFeed:
    feed = FakeFeed(*codes or ("TESTGOLD",), clock=LoopClock(START))
    with trio.move_on_after(seconds):
        await provider.run(feed)
    return feed


def test_it_is_never_anything_that_is_traded() -> None:
    assert Simulated.instrument_of("XAUUSD") is Instrument.TEST
    assert Simulated.traits.simulated


def test_a_rare_price_lasts_longer() -> None:
    assert simulated().traits.stale_after_s == 5.0
    assert simulated(interval_s=60).traits.stale_after_s == 600.0


async def test_it_ticks_at_its_interval_with_the_time_of_now(autojump_clock: trio.testing.MockClock) -> None:
    feed = await play(simulated(), 1.75)
    assert [tick.source_time for tick in feed.ticks] == [START + n * 500_000 for n in range(4)]
    assert feed.connections == 1


async def test_the_same_seed_gives_the_same_prices_and_another_seed_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one, same, other = [
        [(tick.bid, tick.ask) for tick in (await play(simulated(seed=seed), 100)).ticks] for seed in (7, 7, 8)
    ]
    assert one == same != other
    assert len(set(one)) > 50


async def test_each_symbol_walks_for_itself(autojump_clock: trio.testing.MockClock) -> None:
    both = await play(simulated(), 10, "A", "B")
    alone = await play(simulated(), 10, "B")
    walks = {code: [tick.bid for tick in both.ticks if tick.code == code] for code in "AB"}
    assert walks["A"] != walks["B"] == [tick.bid for tick in alone.ticks]


async def test_after_an_interruption_it_walks_on(autojump_clock: trio.testing.MockClock) -> None:
    whole = [tick.bid for tick in (await play(simulated(), 9.75)).ticks]
    provider = simulated()
    pieces = [tick.bid for _ in range(2) for tick in (await play(provider, 4.75)).ticks]
    assert pieces == whole


async def test_after_a_stall_it_does_not_catch_up_in_a_burst(autojump_clock: trio.testing.MockClock) -> None:
    feed = FakeFeed("TESTGOLD", clock=LoopClock(START))
    stall = iter([10.0])
    record = feed.tick

    async def tick(code: str, **prices: object) -> None:
        await record(code, **prices)  # type: ignore[arg-type]
        await trio.sleep(next(stall, 0.0))

    feed.tick = tick  # type: ignore[method-assign]
    with trio.move_on_after(11.2):
        await simulated().run(feed)
    assert [tick.source_time for tick in feed.ticks] == [START + int(s * 1e6) for s in (0, 10, 10.5, 11)]


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.floats(1e-6, 1e9),
    st.floats(0, 0.1),
    st.integers(0, 6),
)
def test_prices_are_positive_uncrossed_and_of_the_symbols_decimals(
    seed: int, start_price: float, volatility: float, decimals: int
) -> None:
    settings = simulated(seed=seed, start_price=start_price, volatility=volatility).settings
    walk = Walk(settings, Subscription(symbol="T", code="T", instrument=Instrument.TEST, decimals=decimals))
    for _ in range(200):
        bid, ask = walk.step()
        assert 0 < bid <= ask
        assert bid.as_tuple().exponent == ask.as_tuple().exponent == -decimals


def test_it_stays_near_its_start() -> None:
    provider = simulated()
    walk = Walk(provider.settings, Subscription(symbol="T", code="T", instrument=Instrument.TEST, decimals=2))
    bids = [walk.step()[0] for _ in range(100_000)]
    assert Decimal(2600) < min(bids) < max(bids) < Decimal(2800)


@pytest.mark.parametrize("key", ["interval_s", "start_price"])
def test_settings_that_make_no_price_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        simulated(**{key: 0})
