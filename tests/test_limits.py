from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.limits import SessionCounts, TokenBucket, address_group


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
