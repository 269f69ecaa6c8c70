from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.candles import (
    FINAL_AFTER_S,
    INTERVALS,
    LATE_S,
    Book,
    Candle,
    Days,
    KeptBook,
    Progress,
    time_of,
    utc_day,
)
from aurexd.market import SECOND_US, EpochUs
from tests.updates import price_at

MIDNIGHT = EpochUs(1_761_523_200 * SECOND_US)
"""2025-10-27T00:00:00Z."""


class Observed(NamedTuple):
    """One price, as a book is told of it."""

    time: EpochUs
    received: EpochUs
    price: Decimal


def at(seconds: float) -> EpochUs:
    return EpochUs(MIDNIGHT + round(seconds * SECOND_US))


def seen(seconds: float, price: str, late_s: float = 0.0) -> Observed:
    return Observed(at(seconds), at(seconds + late_s), Decimal(price))


def evening_day(time: EpochUs) -> tuple[EpochUs, EpochUs]:
    """A market whose days begin at 22:00 UTC."""
    shift = 22 * 3600 * SECOND_US
    start, end = utc_day(EpochUs(time - shift))
    return EpochUs(start + shift), EpochUs(end + shift)


class Plain(NamedTuple):
    """A candle as the naive fold sees it."""

    end: EpochUs
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    ticks: int
    revision: int


def naive(prices: Iterable[Observed], days: Days) -> dict[tuple[str, EpochUs], Plain]:
    """The rules once more, as simple as they can be said: every price is kept, and every candle made at the end."""
    let_in: dict[tuple[str, EpochUs, EpochUs], list[tuple[EpochUs, int, Decimal, bool]]] = defaultdict(list)
    newest, heard, over = 0, 0, 0
    for number, (time, received, price) in enumerate(prices):
        if number == 0:
            newest, heard = time, received
        if time < newest - LATE_S * SECOND_US:
            continue
        over = max(over, newest + (received - heard) - FINAL_AFTER_S * SECOND_US)
        for name, seconds in INTERVALS.items():
            length = seconds * SECOND_US
            start, end = (time // length * length, time // length * length + length)
            if name == "1d":
                start, end = days(time)
            let_in[name, EpochUs(start), EpochUs(end)].append((time, number, price, end <= over))
        if time > newest:
            newest, heard = time, received
        over = max(over, newest)
    candles = {}
    for (name, start, end), those in let_in.items():
        ordered = sorted(those, key=lambda each: each[:2])
        prices_of = [each[2] for each in ordered]
        candles[name, start] = Plain(
            end=end,
            open=prices_of[0],
            high=max(prices_of),
            low=min(prices_of),
            close=prices_of[-1],
            ticks=len(those),
            revision=sum(each[3] for each in those),
        )
    return candles


def plain(candle: Candle[Decimal]) -> Plain:
    return Plain(
        candle.end, candle.open, candle.high, candle.low, candle.close, candle.ticks, candle.revision
    )


class Archive:
    """Keeps the last state of every candle that a book says has changed, as a database does."""

    def __init__(self, days: Days = utc_day) -> None:
        self.days = days
        self.book: Book[Decimal] = Book(days)
        self.candles: dict[tuple[str, EpochUs], Candle[Decimal]] = {}

    def add(self, prices: Iterable[Observed]) -> None:
        for each in prices:
            self.book.add(*each)
        for candle in self.book.take_changes():
            self.candles[candle.interval, candle.start] = msgspec.structs.replace(candle)

    def restart(self) -> None:
        """Go on from what was kept, and nothing else."""
        if self.book.progress is not None:
            progress = self.book.progress
            may_change = [c for c in self.candles.values() if c.end > progress.closed_before]
            kept = KeptBook(
                progress=progress,
                candles=tuple(msgspec.structs.replace(c) for c in sorted(may_change, key=lambda c: c.start)),
            )
            self.book = Book(self.days, kept)

    def plain(self) -> dict[tuple[str, EpochUs], Plain]:
        return {key: plain(candle) for key, candle in self.candles.items()}

    def of(self, interval: str) -> list[Candle[Decimal]]:
        return [candle for (name, _), candle in sorted(self.candles.items()) if name == interval]


@st.composite
def streams(draw: st.DrawFn) -> list[Observed]:
    """Prices as they come: mostly on, sometimes back, with gaps; on the edges of seconds as often as between."""
    steps = draw(
        st.lists(
            st.tuples(
                st.one_of(
                    st.integers(-3, 3).map(lambda n: n * SECOND_US // 2),
                    st.integers(-12_000_000, 12_000_000),
                    st.sampled_from([60, 3600, 86_400, 3 * 86_400]).map(lambda s: s * SECOND_US),
                ),
                st.integers(0, 8 * SECOND_US),
                st.integers(1, 9),
            ),
            max_size=60,
        )
    )
    time, received, out = MIDNIGHT, MIDNIGHT, []
    for step, passed, price in steps:
        time = EpochUs(time + step)
        received = EpochUs(max(received + passed, time))
        out.append(Observed(time, received, Decimal(price)))
    return out


@settings(max_examples=100, deadline=None)
@given(streams(), st.sampled_from([utc_day, evening_day]), st.data())
def test_candles_are_a_naive_fold_of_the_prices_however_they_are_batched_and_restarted(
    prices: list[Observed], days: Days, data: st.DataObject
) -> None:
    archive, done = Archive(days), 0
    while done < len(prices):
        size = data.draw(st.integers(1, 12))
        archive.add(prices[done : done + size])
        done += size
        match data.draw(st.sampled_from(["go on", "look", "restart"])):
            case "look":
                archive.book.elapse(prices[min(done, len(prices)) - 1].received)
            case "restart":
                archive.restart()
    assert archive.plain() == naive(prices, days)


@given(streams())
def test_floats_give_the_same_candles_as_decimals(prices: list[Observed]) -> None:
    exact: Book[Decimal] = Book(utc_day)
    binary: Book[float] = Book(utc_day)
    for time, received, price in prices:
        price = price + Decimal("2706.93")
        assert exact.add(time, received, price) == binary.add(time, received, float(price))
        assert [
            (c.start, repr(float(c.open)), float(c.high), float(c.low), float(c.close))
            for c in exact.current()
        ] == [(c.start, repr(c.open), c.high, c.low, c.close) for c in binary.current()]


@given(streams())
def test_a_candle_that_was_final_stays_final_and_changes_only_with_its_revision(
    prices: list[Observed],
) -> None:
    book: Book[Decimal] = Book(utc_day)
    final: dict[tuple[str, EpochUs], Candle[Decimal]] = {}
    for each in prices:
        book.elapse(each.received)
        for candle in book.take_changes():
            if book.is_final(candle):
                final[candle.interval, candle.start] = msgspec.structs.replace(candle)
        book.add(*each)
        for candle in book.take_changes():
            before = final.get((candle.interval, candle.start))
            if before is not None:
                assert book.is_final(candle)
                assert candle == before or candle.revision > before.revision


def test_a_candle_is_the_first_highest_lowest_and_last_price_of_its_interval() -> None:
    archive = Archive()
    archive.add([seen(1, "2000"), seen(20, "2003"), seen(40, "1999"), seen(59.999999, "2001"), seen(60, "5")])
    first, second = archive.of("1m")
    assert plain(first) == (at(60), Decimal(2000), Decimal(2003), Decimal(1999), Decimal(2001), 4, 0)
    assert (second.start, second.open) == (at(60), Decimal(5))
    assert (archive.book.is_final(first), archive.book.is_final(second)) == (True, False)


def test_an_interval_without_a_price_has_no_candle() -> None:
    archive = Archive()
    archive.add([seen(1, "2000"), seen(200, "2001")])
    assert [candle.start for candle in archive.of("1m")] == [at(0), at(180)]


def test_a_day_is_the_markets_own() -> None:
    archive = Archive(evening_day)
    archive.add([seen(21.9 * 3600, "2000"), seen(22 * 3600, "2001")])
    assert [(c.start, c.end) for c in archive.of("1d")] == [
        (at(-2 * 3600), at(22 * 3600)),
        (at(22 * 3600), at(46 * 3600)),
    ]


def test_a_late_price_changes_a_final_candle_and_its_revision_says_so() -> None:
    archive = Archive()
    archive.add([seen(59, "2000"), seen(61, "2001")])
    archive.add([seen(58, "1990")])
    first, second = archive.of("1m")
    assert plain(first) == (at(60), Decimal(1990), Decimal(2000), Decimal(1990), Decimal(2000), 2, 1)
    assert plain(second) == plain(archive.of("1m")[1])
    assert second.revision == 0


def test_a_price_that_is_too_late_is_left_out() -> None:
    archive = Archive()
    archive.add([seen(100, "2000")])
    assert not archive.book.add(*seen(100 - LATE_S - 0.000001, "1"))
    assert archive.book.add(*seen(100 - LATE_S, "2"))


def test_after_a_change_of_an_older_candle_the_newest_is_said_last() -> None:
    book: Book[Decimal] = Book(utc_day)
    book.add(*seen(61, "2001"))
    book.take_changes()
    book.add(*seen(58, "1990"))
    minutes = [candle.start for candle in book.take_changes() if candle.interval == "1m"]
    assert minutes == [at(0), at(60)]
    assert book.take_changes() == []


def test_where_no_price_comes_a_candle_is_final_by_the_symbols_own_time() -> None:
    book: Book[Decimal] = Book(utc_day)
    delay = 600.0  # a source that is ten minutes behind
    book.add(*seen(58, "2000", late_s=delay))
    book.take_changes()
    book.elapse(at(delay + 60 + FINAL_AFTER_S - 0.1))
    assert "1m" not in [candle.interval for candle in book.take_changes()]
    book.elapse(at(delay + 60 + FINAL_AFTER_S))
    (minute,) = book.take_changes()
    assert (minute.interval, book.is_final(minute)) == ("1m", True)


def test_a_price_after_that_is_counted_as_a_revision() -> None:
    book: Book[Decimal] = Book(utc_day)
    book.add(*seen(50, "2000"))
    book.add(*seen(51, "2001", late_s=30))
    minute = book.current()[1]
    assert (minute.ticks, minute.revision, book.is_final(minute)) == (2, 1, True)


def test_no_candle_lies_in_the_future() -> None:
    price = price_at(source_time=at(3600), receive_time=at(1))
    assert time_of(price) == at(1)
    assert time_of(price_at(source_time=at(1), receive_time=at(3600))) == at(1)


def test_how_far_a_symbols_time_has_come() -> None:
    progress = Progress(newest=at(100), received=at(160), settled=at(100))
    assert progress.settled_at(at(160)) == at(100)
    assert progress.settled_at(at(170)) == at(110 - FINAL_AFTER_S)
    assert progress.settled_at(at(0)) == at(100), "a clock that was set back takes nothing back"
    assert progress.closed_before == at(100 - LATE_S)
