"""How prices become candles: one book per symbol, the same for the live stream and for what is stored. Pure.

The rules (docs/adr/0006):

1. A price belongs to the interval in which its *time* lies: its source's, or its receive time where the source's
   clock is ahead of ours, so that no candle lies in the future.
2. `open` is a candle's earliest price and `close` its latest, by time; of equal times the first and the last to come.
3. A price more than `LATE_S` older than the symbol's newest is left out: that time had its prices.
4. A candle is *final* once a newer price lies past its end or, where none comes, once the symbol's own time is
   `FINAL_AFTER_S` past it. A late price may still change it, and `revision` counts those.
5. An interval without a price has no candle.

What a book holds follows from the order of its prices alone, however they are batched and whenever it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Generic, TypeAlias, TypeVar

import msgspec

from aurexd.market import SECOND_US, EpochUs, Instrument, Price

N = TypeVar("N", Decimal, float)
"""Prices as the stream has them, or as the database does: binary64 keeps their order."""

DAY = "1d"
INTERVALS = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, DAY: 86_400}
"""Name → seconds, counted from midnight UTC; a day is what the symbol's market calls one."""

LATE_S = 10
"""Sources differ by seconds in how late their prices come; a failover must not tear a hole."""

FINAL_AFTER_S = 5
"""A source that is asked every five seconds may still have a price of an interval that is over."""

NEVER = EpochUs(-(2**63))

_LONGEST_DAY_US = 4 * 86_400 * SECOND_US
"""A market's day may have a long weekend in it."""

_LATE_US, _FINAL_AFTER_US = LATE_S * SECOND_US, FINAL_AFTER_S * SECOND_US

Days: TypeAlias = Callable[[EpochUs], tuple[EpochUs, EpochUs]]
"""The day that a time belongs to: its start (inclusive) and its end (exclusive), with the time in between."""


def utc_day(time: EpochUs) -> tuple[EpochUs, EpochUs]:
    """The day of a market that never closes."""
    return _slot(time, INTERVALS[DAY])


def _slot(time: EpochUs, seconds: int) -> tuple[EpochUs, EpochUs]:
    length = seconds * SECOND_US
    start = time - time % length
    return EpochUs(start), EpochUs(start + length)


def slot_of(interval: str, time: EpochUs, days: Days) -> tuple[EpochUs, EpochUs]:
    """The start (inclusive) and the end (exclusive) of the candle that a time belongs to."""
    return days(time) if interval == DAY else _slot(time, INTERVALS[interval])


def all_over_by(interval: str, time: EpochUs) -> EpochUs:
    """When every candle of the interval that begins before `time` has ended for sure."""
    if interval == DAY:
        return EpochUs(time + _LONGEST_DAY_US)
    start, end = _slot(time, INTERVALS[interval])
    return start if start == time else end


def time_of(price: Price) -> EpochUs:
    """When a price was, as candles see it."""
    return min(price.source_time, price.receive_time)


class Candle(msgspec.Struct, Generic[N], kw_only=True, gc=False):
    """The prices of one interval; its book changes it."""

    interval: str
    start: EpochUs
    """Inclusive."""
    end: EpochUs
    """Exclusive."""
    open: N
    high: N
    low: N
    close: N
    open_time: EpochUs
    close_time: EpochUs
    ticks: int = 1
    """How many prices made it."""
    revision: int = 0
    """How many of them came when it was final already."""

    def fold(self, time: EpochUs, price: N) -> None:
        """One more price of the interval."""
        if time < self.open_time:
            self.open, self.open_time = price, time
        if time >= self.close_time:
            self.close, self.close_time = price, time
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.ticks += 1


class PublishedCandle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A candle as it was when it was published."""

    symbol: str
    instrument: Instrument
    interval: str
    start: EpochUs
    end: EpochUs
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    ticks: int
    final: bool
    revision: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a symbol's own time has come."""

    newest: EpochUs
    """The time of its newest price."""
    received: EpochUs
    """When that came in."""
    settled: EpochUs
    """Candles that end by then are final."""

    def settled_at(self, now: EpochUs) -> EpochUs:
        """The same as of now: while no price comes, the symbol's time goes on as ours does."""
        passed = now - self.received
        return max(self.settled, EpochUs(self.newest + passed - _FINAL_AFTER_US))

    @property
    def closed_before(self) -> EpochUs:
        """No price before this will ever be let in."""
        return EpochUs(self.newest - _LATE_US)


class KeptBook(msgspec.Struct, Generic[N], frozen=True, kw_only=True, gc=False):
    """A book, to be continued: its progress, and its candles that may still change, oldest first."""

    progress: Progress
    candles: tuple[Candle[N], ...]


class Book(Generic[N]):
    """The candles of one symbol that may still change, of every interval."""

    def __init__(self, days: Days, kept: KeptBook[N] | None = None) -> None:
        """Begin, or go on from what was kept."""
        self._days = days
        self._recent: list[list[Candle[N]]] = [[] for _ in INTERVALS]
        """Of each interval those that a late price may change, oldest first."""
        self._ended: list[list[Candle[N]]] = [[] for _ in INTERVALS]
        """Of each interval those that a newer one has followed since the last look, oldest first."""
        self._changed: dict[tuple[str, EpochUs], Candle[N]] = {}
        """What changed since then in any other way: rare, and may be among the ended or the newest, too."""
        self._moved = False
        """The newest candle of every interval changed."""
        self._empty = kept is None
        self._newest, self._received, self._settled = NEVER, NEVER, NEVER  # see `Progress`
        if kept is not None:
            progress = kept.progress
            self._newest, self._received, self._settled = progress.newest, progress.received, progress.settled
            for interval, recent in zip(INTERVALS, self._recent, strict=True):
                recent += [candle for candle in kept.candles if candle.interval == interval]
        self._final_before = self._settled
        """What `elapse` found, for who looks at the candles; what comes of the next price is the same without it."""
        self._current: list[Candle[N] | None] = [recent[-1] if recent else None for recent in self._recent]
        self._ticks = 0
        """So many of the newest prices are in none of these yet: a look folds them in, or the end of the shortest."""
        self._high: N
        self._low: N
        self._close: N
        self._close_time = NEVER
        self._until = NEVER
        """None of these ends before."""

    @property
    def progress(self) -> Progress | None:
        """None before the first price."""
        if self._empty:
            return None
        return Progress(newest=self._newest, received=self._received, settled=self._settled)

    def add(self, time: EpochUs, received: EpochUs, price: N) -> bool:
        """The symbol's next price; whether it was let in. `received` is when it came, `time` is `time_of` it."""
        newest = self._newest
        if time < newest - _LATE_US:
            return False
        if self._empty:
            self._empty = False
        else:  # as in `Progress.settled_at`
            settled = EpochUs(newest + received - self._received - _FINAL_AFTER_US)
            if settled > self._settled:
                self._settled = settled
        if time < newest:
            self._add_late(time, price)
        else:
            self._add_newest(time, price)
            if time > newest:  # the symbol's time goes on from when it was first heard of
                self._newest, self._received = time, received
                if time > self._settled:
                    self._settled = time
        self._moved = True
        return True

    def elapse(self, now: EpochUs) -> None:
        """Time passed: candles may have become final."""
        progress = self.progress
        if progress is None:
            return
        before, after = self._final_before, progress.settled_at(now)
        if after > before:
            self._final_before = after
            for candle in self.current():
                if before < candle.end <= after:
                    self._changed[candle.interval, candle.start] = candle

    def is_final(self, candle: Candle[N]) -> bool:
        """Whether the interval is over, as far as is known."""
        return candle.end <= max(self._settled, self._final_before)

    def current(self) -> list[Candle[N]]:
        """The newest candle of each interval."""
        self._fold_in()
        return [candle for candle in self._current if candle is not None]

    def take_changes(self) -> list[Candle[N]]:
        """Candles that changed, or became final, since the last time, by interval and the oldest first.

        Where one of an interval changed its newest is among them, so that it is the last to be said.
        """
        self._fold_in()
        in_order: list[Candle[N]] = []
        for ended, newest in zip(self._ended, self._current, strict=True):
            in_order += ended
            ended.clear()
            if self._moved and newest is not None:
                in_order.append(newest)
        self._moved = False
        if not self._changed:
            return in_order
        changed, self._changed = self._changed, {}
        changed |= {(candle.interval, candle.start): candle for candle in in_order}
        return [changed[key] for key in sorted(changed)]

    def _add_newest(self, time: EpochUs, price: N) -> None:
        settled = self._settled
        if time < self._until and settled < self._until:  # it opens no candle, and none is final
            if not self._ticks:
                self._high = self._low = price
            elif price > self._high:
                self._high = price
            elif price < self._low:
                self._low = price
            self._close, self._close_time = price, time
            self._ticks += 1
            return
        self._fold_in()
        for number, candle in enumerate(self._current):
            # `Candle.fold` for what is not late, written out: this is done seven times a price.
            if candle is not None and time < candle.end:
                candle.close = price
                candle.close_time = time
                if price > candle.high:
                    candle.high = price
                elif price < candle.low:
                    candle.low = price
                candle.ticks += 1
                if candle.end <= settled:
                    candle.revision += 1
                continue
            recent = self._recent[number]
            if candle is not None:
                self._ended[number].append(candle)
                while recent and recent[0].end <= time - _LATE_US:
                    del recent[0]
            self._current[number] = opened = self._open(number, time, price)
            recent.append(opened)
        self._until = min(candle.end for candle in self._current if candle is not None)

    def _fold_in(self) -> None:
        """The newest prices go into the newest candle of every interval."""
        if not self._ticks:
            return
        for candle in self._current:
            assert candle is not None
            candle.close = self._close
            candle.close_time = self._close_time
            if self._high > candle.high:
                candle.high = self._high
            if self._low < candle.low:
                candle.low = self._low
            candle.ticks += self._ticks
        self._ticks = 0

    def _add_late(self, time: EpochUs, price: N) -> None:
        self._fold_in()
        for number, recent in enumerate(self._recent):
            place = len(recent)
            while place and time < recent[place - 1].start:
                place -= 1
            if place and time < recent[place - 1].end:
                candle = recent[place - 1]
                candle.fold(time, price)
                if candle.end <= self._settled:
                    candle.revision += 1
            else:
                candle = self._open(number, time, price)
                recent.insert(place, candle)
                self._current[number] = recent[-1]
            self._changed[candle.interval, candle.start] = candle

    def _open(self, number: int, time: EpochUs, price: N) -> Candle[N]:
        interval, length = _NUMBERED[number]
        if interval == DAY:
            start, end = self._days(time)
        else:
            start = EpochUs(time - time % length)
            end = EpochUs(start + length)
        return Candle(
            interval=interval,
            start=start,
            end=end,
            open=price,
            high=price,
            low=price,
            close=price,
            open_time=time,
            close_time=time,
            revision=1 if end <= self._settled else 0,
        )


_NUMBERED = tuple((interval, seconds * SECOND_US) for interval, seconds in INTERVALS.items())
