"""A partial rollout: stable, growing, and as large as it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.rollout import is_open_to

CROWD = [f"192.0.{a}.{b}" for a in range(40) for b in range(250)]


@given(who=st.text(), percent=st.integers(0, 99))
def test_whoever_was_in_stays_in_when_it_grows(who: str, percent: int) -> None:
    assert is_open_to(who, percent) <= is_open_to(who, percent + 1)


@given(who=st.text())
def test_none_is_nobody_and_all_is_everybody(who: str) -> None:
    assert not is_open_to(who, 0)
    assert is_open_to(who, 100)


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_it_is_as_large_as_it_says(percent: int) -> None:
    share = sum(is_open_to(who, percent) for who in CROWD) / len(CROWD) * 100
    assert abs(share - percent) < 2


def test_it_is_the_same_at_every_start() -> None:
    """Written down once: whoever changes the hash moves clients from one side to the other."""
    assert [n for n in range(100) if is_open_to(f"192.0.2.{n}", 10)] == [16, 22, 23, 32, 45, 68, 91, 97]
