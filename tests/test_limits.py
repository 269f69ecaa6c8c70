from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.limits import Rates, SessionCounts, TokenBucket, address_group


@given(st.lists(st.floats(0, 2), max_size=200), st.floats(0.5, 50), st.integers(1, 40))
def test_no_stretch_of_time_lets_more_through_than_rate_and_burst(
    gaps: list[float], rate: float, burst: int
) -> None:
    bucket = TokenBucket.full(0.0)
    now, passed = 0.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now, rate=rate, burst=burst) == 0.0
    assert passed <= burst + now * rate + 1e-6


def test_a_refusal_says_when_to_come_back() -> None:
    bucket = TokenBucket.full(0.0)
    assert bucket.take(0.0, rate=2, burst=1) == 0.0
    wait = bucket.take(0.0, rate=2, burst=1)
    assert wait == 0.5
    assert bucket.take(wait, rate=2, burst=1) == 0.0


def test_another_rate_holds_from_the_next_token_on() -> None:
    bucket = TokenBucket.full(0.0)
    assert [bucket.take(0.0, rate=10, burst=20) for _ in range(5)] == [0.0] * 5
    assert [bucket.take(0.0, rate=1, burst=2) == 0.0 for _ in range(3)] == [True, True, False]
    assert [bucket.take(1.0, rate=10, burst=20) == 0.0 for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_an_ipv6_household_is_one_address(address: str, group: str) -> None:
    assert address_group(address) == group


@given(st.lists(st.sampled_from("abc"), max_size=50))
def test_sessions_are_counted_by_group_and_in_all(groups: list[str]) -> None:
    counts = SessionCounts()
    for group in groups:
        counts.add(group)
    assert counts.total == len(groups)
    assert all(counts.of(group) == groups.count(group) for group in "abc")
    for group in groups:
        counts.remove(group)
    assert counts.total == 0
    assert all(counts.of(group) == 0 for group in "abc")


STEPS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 2)), max_size=120)


@given(STEPS, st.floats(0.5, 50), st.integers(1, 20))
def test_each_key_has_a_bucket_of_its_own(steps: list[tuple[str, float]], rate: float, burst: int) -> None:
    rates, buckets, now = Rates(100), dict[str, TokenBucket](), 0.0
    for key, gap in steps:
        now += gap
        expected = buckets.setdefault(key, TokenBucket.full(now)).take(now, rate=rate, burst=burst)
        assert rates.wait(key, now, rate=rate, burst=burst) == pytest.approx(expected, abs=1e-5)
        assert rates.take(key, now, rate=rate, burst=burst) == pytest.approx(expected, abs=1e-5)


@given(STEPS, st.lists(st.sampled_from([0.5, 2.0, 10.0]), min_size=120, max_size=120))
def test_another_rate_holds_at_once_and_locks_nobody_out(
    steps: list[tuple[str, float]], changes: list[float]
) -> None:
    rates, now = Rates(100), 0.0
    for (key, gap), rate in zip(steps, changes, strict=False):
        now += gap
        assert rates.take(key, now, rate=rate, burst=3) <= 1 / rate + 1e-9


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 0.01)), max_size=300), st.integers(1, 50))
def test_a_flood_from_many_addresses_makes_the_table_no_larger(
    knocks: list[tuple[int, float]], capacity: int
) -> None:
    rates, now = Rates(capacity), 0.0
    for address, gap in knocks:
        now += gap
        rates.take(str(address), now, rate=0.1, burst=5)
        assert len(rates) <= capacity


def test_a_table_that_is_full_forgets_who_was_quiet_for_the_longest() -> None:
    rates = Rates(3)
    for second in range(10):
        rates.take("flood", float(second), rate=0.01, burst=5)
        rates.take(f"other {second}", float(second), rate=0.01, burst=5)
    assert rates.take("flood", 10.0, rate=0.01, burst=5) > 0.0


def test_who_has_all_tokens_again_is_forgotten() -> None:
    rates = Rates(1000)
    for number in range(500):
        rates.take(str(number), 0.0, rate=1, burst=5)
    for number in range(500):
        rates.take("one", 10.0 + number, rate=1, burst=5)
    assert len(rates) == 1


def test_a_rate_of_zero_is_none_and_keeps_nothing() -> None:
    rates = Rates(10)
    assert [rates.take("a", 0.0, rate=0, burst=1) for _ in range(100)] == [0.0] * 100
    assert rates.wait("a", 0.0, rate=0, burst=1) == 0.0
    assert len(rates) == 0
