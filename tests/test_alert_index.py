from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from aurexd.alert_index import ABOVE_ALL, COMPACT_AFTER, Chain, Thresholds, Windows
from aurexd.market import EpochUs

numbers = st.integers(0, 20).map(Decimal)
items = st.tuples(numbers, st.integers(1, 9))


@given(st.lists(items, unique=True, max_size=40), st.lists(items, unique=True), numbers, st.booleans())
def test_what_a_measure_passes_is_taken_out_and_nothing_else(
    first: list[tuple[Decimal, int]], more: list[tuple[Decimal, int]], value: Decimal, inclusive: bool
) -> None:
    more = [item for item in more if item not in first]
    for below in (True, False):
        thresholds = Thresholds()
        for item in first:
            thresholds.add(item)
        thresholds.update(sorted(more))
        everything = sorted(first + more)

        def is_taken(item: tuple[Decimal, int], below: bool = below) -> bool:
            if item[0] == value:
                return inclusive
            return item[0] < value if below else item[0] > value

        taken = (thresholds.take_below if below else thresholds.take_above)(value, inclusive=inclusive)
        assert taken == [item for item in everything if is_taken(item)]
        left = [item for item in everything if not is_taken(item)]
        assert thresholds.lowest == (left[0][0] if left else ABOVE_ALL)
        assert len(thresholds) == len(left)
        assert all(thresholds.discard(item) for item in left)
        assert not any(thresholds.discard(item) for item in taken)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), max_size=60),
    st.lists(st.integers(0, 50), max_size=3),
)
def test_any_window_finds_its_lowest_and_highest(moves: list[tuple[int, int]], lengths: list[int]) -> None:
    windows = Windows(max(lengths, default=0))
    seen: list[tuple[int, int]] = []
    time = 0
    for after, price in moves:
        time += after
        for length in lengths:
            inside = [p for t, p in seen if t > time - length]
            found = windows.extremes(EpochUs(time - length))
            assert found == ((Decimal(min(inside)), Decimal(max(inside))) if inside else None)
        windows.add(EpochUs(time), Decimal(price))
        seen.append((time, price))


def test_a_step_shifts_what_came_before_it() -> None:
    windows = Windows(100)
    windows.add(EpochUs(1), Decimal(100))
    windows.step(Decimal(5))
    windows.add(EpochUs(2), Decimal(104))
    assert windows.extremes(EpochUs(0)) == (Decimal(104), Decimal(105))


def test_a_chain_that_only_rises_forgets_what_no_window_reaches() -> None:
    chain = Chain()
    for time in range(4 * COMPACT_AFTER):
        chain.add(EpochUs(time), Decimal(time))
        chain.forget(EpochUs(time - 10))
    assert chain.lowest(EpochUs(0)) == 4 * COMPACT_AFTER - 10
    assert len(chain._times) <= COMPACT_AFTER + 10
