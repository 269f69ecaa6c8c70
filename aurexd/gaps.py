"""Which minutes a record lacks although the market was open, and what a provider's history makes of them. Pure.

The rules (docs/adr/0009):

1. A gap lies between two candles of a minute: only what has ended is filled. It is `LEAST_US` long at least: there are
   minutes without a price, and those are no downtime.
2. What is filled is marked, counts no tick of ours, and never takes the place of a candle that has one: the store sees
   to that. So a longer candle is either all ours, or all the provider's.
3. A minute is taken only where it lies in a gap, makes sense by itself, and is of the scale of the prices around.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from aurexd.calendar import Calendar
from aurexd.candles import INTERVALS, Candle, Days, slot_of
from aurexd.market import SECOND_US, EpochUs
from aurexd.screening import SCALE
from aurexd.sources.base import Bar
from aurexd.sources.plausible import usable

MINUTE_US = 60 * SECOND_US

LEAST_US = 3 * MINUTE_US

FILLED_INTERVALS = tuple(interval for interval, seconds in INTERVALS.items() if seconds >= 60)
"""A history of minutes tells nothing of seconds."""


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Whole minutes without a candle in an open market."""

    start: EpochUs
    """Inclusive."""
    end: EpochUs
    """Exclusive."""


def gaps(starts: Sequence[EpochUs], calendar: Calendar, since: EpochUs) -> list[Gap]:
    """Those between the minutes that begin at `starts`, oldest first; as far as they lie after `since`."""
    earliest = EpochUs(-(-since // MINUTE_US) * MINUTE_US)
    found = []
    for before, after in pairwise(starts):
        time = max(EpochUs(before + MINUTE_US), earliest)
        while after - time >= LEAST_US:
            session = calendar.session(time)
            end = min(after, session.end)
            if end - time >= LEAST_US:
                found.append(Gap(time, end))
            time = max(end, calendar.following(session).start)
    return found


def candles_of(
    bars: Iterable[Bar],
    missing: Sequence[Gap],
    *,
    near: float,
    days: Days,
    since: EpochUs,
    closed_before: EpochUs,
) -> list[Candle[float]]:
    """What a provider's minutes make of these gaps, by interval and the oldest first.

    `near` is a price of ours from around. A candle that began before `since` is left out, because the history does not
    have all of it; so is one that ends after `closed_before`, because prices of ours may still come.
    """
    taken = {bar.start: bar for bar in bars if _makes_sense(bar, near) and _lies_in(bar, missing)}
    made: list[Candle[float]] = []
    for interval in FILLED_INTERVALS:
        newest: Candle[float] | None = None
        for start in sorted(taken):
            bar = taken[start]
            if newest is None or start >= newest.end:
                newest = _opened(interval, bar, days)
                if newest.start >= since and newest.end <= closed_before:
                    made.append(newest)
            else:
                newest.high = max(newest.high, float(bar.high))
                newest.low = min(newest.low, float(bar.low))
                newest.close, newest.close_time = float(bar.close), _last_moment(bar)
    return made


def _opened(interval: str, bar: Bar, days: Days) -> Candle[float]:
    start, end = slot_of(interval, bar.start, days)
    return Candle(
        interval=interval,
        start=start,
        end=end,
        open=float(bar.open),
        high=float(bar.high),
        low=float(bar.low),
        close=float(bar.close),
        open_time=bar.start,
        close_time=_last_moment(bar),
        ticks=0,
    )


def _last_moment(bar: Bar) -> EpochUs:
    return EpochUs(bar.start + MINUTE_US - 1)


def _lies_in(bar: Bar, missing: Sequence[Gap]) -> bool:
    return bar.start % MINUTE_US == 0 and any(gap.start <= bar.start < gap.end for gap in missing)


def _makes_sense(bar: Bar, near: float) -> bool:
    prices = (bar.open, bar.high, bar.low, bar.close)
    if any(usable(price) is None for price in prices):
        return False
    in_order = bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high
    return in_order and near / SCALE < bar.low and bar.high < near * SCALE
