from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.calendar import ALWAYS, METALS_CALENDAR
from aurexd.candles import INTERVALS, utc_day
from aurexd.gaps import LEAST_US, MINUTE_US, Gap, candles_of, gaps
from aurexd.market import EpochUs, parse_time
from aurexd.sources.base import Bar

NOON = parse_time("2026-11-25T12:00:00Z")


def minute(number: int) -> EpochUs:
    return EpochUs(NOON + number * MINUTE_US)


def bar(number: int, open_: str = "2000", high: str = "2002", low: str = "1999", close: str = "2001") -> Bar:
    return Bar(
        start=minute(number), open=Decimal(open_), high=Decimal(high), low=Decimal(low), close=Decimal(close)
    )


def made(
    *bars: Bar, missing: list[Gap] | None = None, since: int = -10_000, closed: int = 10_000
) -> list[tuple[object, ...]]:
    found = candles_of(
        bars,
        missing or [Gap(minute(0), minute(600))],
        near=2000.0,
        days=utc_day,
        since=minute(since),
        closed_before=minute(closed),
    )
    return [
        (c.interval, (c.start - NOON) // MINUTE_US, c.open, c.high, c.low, c.close, c.ticks) for c in found
    ]


# --- which are missing ---


def test_a_gap_lies_between_two_minutes() -> None:
    assert gaps([minute(0), minute(1), minute(6), minute(7)], ALWAYS, EpochUs(0)) == [
        Gap(minute(2), minute(6))
    ]


def test_a_minute_or_two_without_a_price_are_no_downtime() -> None:
    assert gaps([minute(0), minute(3), minute(4)], ALWAYS, EpochUs(0)) == []


def test_what_is_longer_ago_is_left_out() -> None:
    starts = [minute(0), minute(100), minute(110)]
    since = EpochUs(minute(60) + 1)
    assert gaps(starts, ALWAYS, since) == [Gap(minute(61), minute(100)), Gap(minute(101), minute(110))]


def test_a_closed_market_leaves_no_gap() -> None:
    friday, monday = parse_time("2026-11-13T21:59:00Z"), parse_time("2026-11-15T23:00:00Z")
    assert gaps([friday, monday], METALS_CALENDAR, EpochUs(0)) == []
    before, after = parse_time("2026-11-13T21:00:00Z"), parse_time("2026-11-16T00:30:00Z")
    assert gaps([before, after], METALS_CALENDAR, EpochUs(0)) == [
        Gap(parse_time("2026-11-13T21:01:00Z"), parse_time("2026-11-13T22:00:00Z")),
        Gap(monday, after),
    ]


@given(st.sets(st.integers(0, 400), min_size=2))
def test_gaps_and_minutes_that_are_there_make_up_the_whole(numbers: set[int]) -> None:
    ordered = sorted(numbers)
    found = gaps([minute(n) for n in ordered], ALWAYS, EpochUs(0))
    missing = {
        m for gap in found for m in range((gap.start - NOON) // MINUTE_US, (gap.end - NOON) // MINUTE_US)
    }
    assert not missing & numbers
    assert all(gap.end - gap.start >= LEAST_US for gap in found)
    untold = set(range(ordered[0], ordered[-1])) - missing - numbers
    assert all({n - 2, n - 1, n, n + 1, n + 2} & numbers for n in untold)


# --- what fills them ---


def test_minutes_make_the_candles_of_every_longer_interval() -> None:
    found = made(bar(1), bar(0, "1998", "2003", "1997", "1999.5"), bar(7, "2001", "2001", "2000.5", "2000.5"))
    assert found == [
        ("1m", 0, 1998.0, 2003.0, 1997.0, 1999.5, 0),
        ("1m", 1, 2000.0, 2002.0, 1999.0, 2001.0, 0),
        ("1m", 7, 2001.0, 2001.0, 2000.5, 2000.5, 0),
        ("5m", 0, 1998.0, 2003.0, 1997.0, 2001.0, 0),
        ("5m", 5, 2001.0, 2001.0, 2000.5, 2000.5, 0),
        ("15m", 0, 1998.0, 2003.0, 1997.0, 2000.5, 0),
        ("1h", 0, 1998.0, 2003.0, 1997.0, 2000.5, 0),
        ("4h", 0, 1998.0, 2003.0, 1997.0, 2000.5, 0),
        ("1d", -720, 1998.0, 2003.0, 1997.0, 2000.5, 0),
    ]


def test_only_what_was_missing_is_taken() -> None:
    missing = [Gap(minute(1), minute(3)), Gap(minute(10), minute(12))]
    starts = [
        start for interval, start, *_ in made(*map(bar, range(15)), missing=missing) if interval == "1m"
    ]
    assert starts == [1, 2, 10, 11]


def test_a_candle_that_began_before_the_history_is_not_made_of_a_part() -> None:
    assert [interval for interval, *_ in made(bar(20), since=15)] == ["1m", "5m", "15m"]


def test_a_candle_that_may_still_get_a_price_of_ours_is_left_to_us() -> None:
    assert [interval for interval, *_ in made(bar(1), closed=5)] == ["1m", "5m"]


@pytest.mark.parametrize(
    "bad",
    [
        bar(0, high="2000.5", close="2001"),
        bar(0, low="2000.5"),
        bar(0, "20.00", "20.02", "19.99", "20.01"),
        bar(0, high="4100"),
        bar(0, open_="NaN"),
        bar(0, low="-1"),
        Bar(
            start=EpochUs(NOON + 1),
            open=Decimal(2000),
            high=Decimal(2000),
            low=Decimal(2000),
            close=Decimal(2000),
        ),
    ],
    ids=[
        "close above high",
        "open below low",
        "another scale",
        "twice as high",
        "no number",
        "negative",
        "no minute",
    ],
)
def test_a_minute_that_makes_no_sense_is_left_out(bad: Bar) -> None:
    assert made(bad) == []


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1500, 2500), st.integers(1500, 2500)), min_size=1))
def test_a_longer_candle_has_the_extremes_and_the_ends_of_its_minutes(
    rows: list[tuple[int, int, int]],
) -> None:
    last = {n: (o, c) for n, o, c in rows}
    bars = [bar(n, str(o), str(max(o, c)), str(min(o, c)), str(c)) for n, (o, c) in last.items()]
    for interval, start, open_, high, low, close, _ in made(*bars):
        assert isinstance(start, int)
        within = [last[n] for n in sorted(last) if start <= n < start + INTERVALS[str(interval)] // 60]
        assert (open_, close) == (within[0][0], within[-1][1])
        assert (high, low) == (max(map(max, within)), min(map(min, within)))
