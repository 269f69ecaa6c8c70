from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aurexd.market import SECOND_US, EpochUs, Instrument, Tick
from aurexd.screening import BANDS_PCT, Judgement, Screen

START_US = 1_700_000_000 * SECOND_US
BAND_PCT = BANDS_PCT[Instrument.SPOT]


class Market:
    """A screen, and ticks for it: seconds since the start, prices as text or float."""

    def __init__(self, *sources: str, delayed: tuple[str, ...] = (), band_pct: float = BAND_PCT) -> None:
        self.screen = Screen(sources or ("a",), delayed=delayed, band_pct=band_pct)

    def tick(
        self,
        at: float,
        price: float | str | None = None,
        source: str = "a",
        *,
        book: tuple[str, str] | None = None,
        source_at: float | None = None,
        simulated: bool = False,
    ) -> Judgement:
        received = EpochUs(START_US + int(at * SECOND_US))
        return self.screen.judge(
            Tick(
                symbol="XAUUSD",
                source=source,
                instrument=Instrument.SPOT,
                source_time=received if source_at is None else EpochUs(START_US + int(source_at * SECOND_US)),
                receive_time=received,
                bid=Decimal(book[0]) if book else None,
                ask=Decimal(book[1]) if book else None,
                last=None if price is None else Decimal(str(price)),
                simulated=simulated,
            )
        )

    def refused(self, source: str = "a") -> dict[str, int]:
        return self.screen.record(source).refused

    def settle(self, *sources: str, until: int = 100, price: float = 2000.0) -> Market:
        """Ticks of each source every second, up to but without `until`."""
        for second in range(until):
            for source in sources or ("a",):
                assert self.tick(second, price, source).refused is None
        return self


# --- the tick by itself ---


def test_a_crossed_book_says_nothing_and_a_locked_one_does() -> None:
    market = Market().settle()
    assert market.tick(100, book=("2000.10", "2000.00")).refused == "crossed_book"
    assert market.tick(101, book=("2000.00", "2000.00")).refused is None


def test_an_absurd_spread_says_nothing() -> None:
    assert Market().settle().tick(100, book=("1970", "2030")).refused == "wide_spread"


def test_a_tick_without_a_price_says_nothing() -> None:
    assert Market().tick(0).refused == "no_price"


def test_the_same_tick_again_says_nothing_new_but_another_price_of_the_same_time_does() -> None:
    market = Market()
    market.tick(0, "2000", source_at=0)
    assert market.tick(1, "2000", source_at=0).refused == "duplicate"
    assert market.tick(2, "2000.5", source_at=0).refused is None


def test_an_older_tick_says_nothing() -> None:
    market = Market().settle()
    assert market.tick(100, "2000", source_at=50).refused == "out_of_order"
    assert market.tick(101, "2000").refused is None


def test_a_tick_from_the_future_says_nothing() -> None:
    assert Market().settle().tick(100, "2000", source_at=200).refused == "from_the_future"


@pytest.mark.parametrize("step_s", [-3000.0, 3000.0])
def test_a_provider_whose_clock_was_set_is_believed_after_ten_seconds(step_s: float) -> None:
    market = Market().settle()
    believed = [s for s in range(100, 130) if market.tick(s, "2000", source_at=s + step_s).refused is None]
    assert believed == list(range(110, 130))


# --- against its own past ---


@pytest.mark.parametrize("factor", [0.01, 1 / 31.1035, 0.1, 10.0, 31.1035, 100.0])
def test_another_scale_is_never_believed_however_long_it_lasts(factor: float) -> None:
    market = Market().settle()
    for second in range(100, 400):
        assert market.tick(second, 2000 * factor).refused == "wrong_scale"
    assert market.tick(400, "2000").refused is None


def test_a_wrong_scale_at_the_very_start_is_found_out() -> None:
    market = Market()
    market.tick(0, "200000")
    believed = [second for second in range(1, 10) if market.tick(second, "2000").refused is None]
    assert believed == list(range(3, 10))


def test_a_spike_that_reverts_is_never_seen() -> None:
    market = Market().settle()
    for at in (100.0, 100.5, 101.0, 101.5):
        assert market.tick(at, "2020").refused == "outlier"
    assert market.tick(102, "2000.10").refused is None
    assert market.refused() == {"outlier": 4}
    assert market.screen.record("a").jumps == 0


def test_a_jump_is_believed_after_two_seconds() -> None:
    market = Market().settle()
    judged = [market.tick(100 + n / 4, 1985 - n / 10) for n in range(12)]
    assert [j.refused is None for j in judged] == [False] * 8 + [True] * 4
    assert judged[8].confirmed_after_us == 2 * SECOND_US
    assert market.screen.record("a").jumps == 1


def test_after_a_pause_more_is_believed_at_once() -> None:
    market = Market().settle()
    assert market.tick(99 + 3600, "2040").refused is None


def test_what_is_usual_in_a_wild_market_is_no_outlier() -> None:
    market, rng, refused = Market(), random.Random(1), 0
    for second in range(600):
        refused += market.tick(second, 2000 * (1 + rng.gauss(0, 0.002))).refused is not None
    assert refused < 60, "the first ones, until it is known how wild it is"


def test_without_a_band_every_price_is_believed() -> None:
    market = Market(band_pct=0.0)
    assert [market.tick(n, price).refused for n, price in enumerate((2000, 20, 200_000))] == [None] * 3


walks = st.lists(st.floats(-1, 1), min_size=1, max_size=200)


@given(walks, st.floats(0.05, 60.0))
def test_whatever_wanders_within_the_band_is_believed(steps: list[float], interval_s: float) -> None:
    market, price = Market(), 2000.0
    market.tick(0, price)
    for n, step in enumerate(steps, 1):
        price *= 1 + step * 0.99 * BAND_PCT / 100
        assert market.tick(n * interval_s, price).refused is None


@given(walks, st.floats(0.01, 0.4), st.lists(st.floats(0, 1.9), min_size=1, max_size=20), st.booleans())
def test_no_spike_of_less_than_two_seconds_is_seen(
    steps: list[float], height: float, moments: list[float], up: bool
) -> None:
    market, price = Market(), 2000.0
    for n, step in enumerate(steps):
        price *= 1 + step * 0.0001
        market.tick(n, price)
    for moment in sorted(moments):
        spike = price * (1 + height if up else 1 - height)
        assert market.tick(len(steps) + moment, spike).refused is not None
    assert market.tick(len(steps) + 2, price).refused is None


@given(
    st.lists(st.tuples(st.floats(0.01, 20), st.floats(1500, 2500)), max_size=60),
    st.floats(1500, 2500),
    st.floats(0.1, 30),
)
def test_a_price_that_stays_is_believed_within_a_bounded_time_whatever_came_before(
    before: list[tuple[float, float]], level: float, interval_s: float
) -> None:
    market, at = Market(), 0.0
    for gap, price in before:
        at += gap
        market.tick(at, price)
    arrived = at = at + interval_s
    while market.tick(at, level).refused is not None:
        at += interval_s
        assert at - arrived <= 2.0 + interval_s + 0.001
    assert market.tick(at + interval_s, level).refused is None, "and goes on to be"


# --- against the others ---


def test_a_jump_that_another_source_sees_too_is_believed_at_once() -> None:
    market = Market("a", "b").settle("a", "b")
    assert market.tick(100.0, "1980", "a").refused == "outlier"
    assert market.tick(100.1, "1980.3", "b").refused is None
    assert market.tick(100.2, "1980", "a").refused is None


def test_one_that_stands_alone_against_another_waits_for_a_minute() -> None:
    market = Market("a", "b").settle("a", "b")
    believed = []
    for second in range(100, 200):
        believed.append(market.tick(second, "2026", "a").refused is None)
        market.tick(second + 0.5, "2000", "b")
    assert believed.index(True) == 60


def test_a_future_in_place_of_spot_is_never_believed_against_two_others() -> None:
    market = Market("a", "b", "c").settle("b", "c")
    for second in range(100, 1000):
        assert market.tick(second, "2026", "a").refused in {"outlier", "off_market"}
        for source in ("b", "c"):
            assert market.tick(second + 0.5, "2000", source).refused is None


def test_a_source_that_drifts_away_from_two_others_is_found_out() -> None:
    market = Market("a", "b", "c").settle("a", "b", "c")
    believed = []
    for second in range(100, 1000):
        price = 2000 + (second - 100) / 10
        believed.append(market.tick(second, price, "a").refused is None)
        for source in ("b", "c"):
            assert market.tick(second + 0.5, "2000", source).refused is None
    assert sum(believed) == 100 + 60, "half a percent off after 100 s, and a minute"


def test_slow_others_do_not_keep_a_fast_source_from_moving() -> None:
    market = Market("fast", "b", "c").settle("fast", "b", "c")
    refused = 0
    for second in range(100, 200):
        price = 2000 - (second - 100) * 1.5
        refused += market.tick(second, price, "fast").refused is not None
        if second % 30 == 29:
            market.tick(second + 0.1, price, "b")
            market.tick(second + 0.2, price, "c")
    assert refused == 0


def test_a_delayed_source_is_not_held_against_the_others() -> None:
    market = Market("now", "late", delayed=("late",)).settle("now", "late")
    assert market.tick(100, "1980", "now").refused == "outlier"
    market.tick(101, "2000", "late")
    assert market.tick(102, "1980", "now").refused is None


# --- clocks and recordings ---


@given(st.floats(-50, 50), st.lists(st.floats(0.02, 5), min_size=5, max_size=50))
def test_the_skew_is_told_to_within_the_quickest_way(skew_s: float, ways_s: list[float]) -> None:
    # A tick whose time is exactly that of its arrival tells none.
    assume(all(abs(way_s - skew_s) > 0.001 for way_s in ways_s))
    market = Market()
    at = 0.0
    for way_s in ways_s:
        at += 5
        market.tick(at, "2000", source_at=at - way_s + skew_s)
    told = market.screen.record("a").clock_skew_us
    assert told is not None
    assert told / SECOND_US <= skew_s
    assert skew_s - told / SECOND_US == pytest.approx(min(ways_s), abs=1e-5)
    assert market.screen.ahead_us("a") == max(0, told)


def test_a_recording_s_times_are_its_own_and_it_may_start_over() -> None:
    market = Market()
    for _ in range(2):
        for minute in range(200):
            assert market.tick(0, 2000 + minute / 10, source_at=minute * 60, simulated=True).refused is None
    assert market.tick(0, "2040", source_at=200 * 60, simulated=True).refused == "outlier"
    assert market.tick(0, "2041", source_at=201 * 60, simulated=True).refused is None
