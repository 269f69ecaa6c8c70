"""Counts by size: nothing is lost, quantiles are right within a bucket, and the last minute is the last minute's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.histogram import LONG_SECONDS, SECONDS, Histogram, Recent

BOUNDS = (1.0, 2.0, 5.0)
sizes = st.floats(0, 20)


@given(st.lists(st.tuples(sizes, st.integers(1, 1000)), min_size=1))
def test_each_is_in_the_first_bucket_that_is_large_enough(seen: list[tuple[float, int]]) -> None:
    histogram = Histogram(BOUNDS)
    for value, count in seen:
        histogram.observe(value, count)
    taken = histogram.taken()
    for bound, count in taken.cumulative():
        assert count == sum(n for value, n in seen if value <= bound)
    assert taken.count == sum(count for _, count in seen)
    assert taken.total == pytest.approx(sum(value * count for value, count in seen))


@given(sizes, sizes, st.integers(1, 10_000))
def test_many_at_once_lie_evenly_between_two_sizes(one: float, other: float, count: int) -> None:
    first, last = sorted((one, other))
    histogram = Histogram(BOUNDS)
    histogram.spread(first, last, count)
    taken = histogram.taken()
    assert taken.count == count
    assert all(n >= 0 for n in taken.counts)
    assert taken.total == pytest.approx(count * (first + last) / 2)
    for bound, below in taken.cumulative():
        share = 1.0 if bound >= last else 0.0 if bound < first else (bound - first) / (last - first)
        assert below == pytest.approx(count * share, abs=1)


@given(st.lists(sizes, min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seen: list[float], share: float) -> None:
    histogram = Histogram(BOUNDS)
    for value in seen:
        histogram.observe(value)
    true = sorted(seen)[math.ceil(share * len(seen)) - 1]
    found = histogram.taken().quantile(share)
    assert found is not None
    low, high = next(
        (low, high) for low, high in zip((0.0, *BOUNDS), (*BOUNDS, math.inf), strict=True) if true <= high
    )
    assert low <= found <= high


def test_of_nothing_there_is_no_quantile() -> None:
    assert Histogram().taken().quantile(0.5) is None


def test_a_clock_that_was_set_back_makes_no_negative_durations() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(-3.0)
    histogram.spread(-2.0, -1.0, 4)
    assert (histogram.taken().count, histogram.taken().total) == (5, 0.0)


@given(st.lists(sizes), st.lists(sizes))
def test_what_came_since_is_what_was_counted_after(before: list[float], after: list[float]) -> None:
    both, later = Histogram(BOUNDS), Histogram(BOUNDS)
    for value in before:
        both.observe(value)
    then = both.taken()
    for value in after:
        both.observe(value)
        later.observe(value)
    assert both.taken().since(then).counts == later.taken().counts


@pytest.mark.parametrize("bounds", [SECONDS, LONG_SECONDS])
def test_the_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


@given(st.lists(st.floats(0.1, 30), min_size=1))
def test_the_oldest_sample_is_about_a_span_old_and_few_are_kept(steps: list[float]) -> None:
    recent = Recent(0.0, 0.0, span_s=60, every_s=5)
    now = 0.0
    for step in steps:
        now += step
        if recent.is_due(now):
            recent.note(now, now)
        assert now - recent.oldest < 60 + 5 + 30
    assert len(recent._samples) <= 14
