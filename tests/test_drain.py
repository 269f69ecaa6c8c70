"""Good-byes and returns: spread, in order, in time, and a slot of its own for each client."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aurexd.drain import CLOSES_PER_S, NEWCOMERS_S, RESTART_S, RETURNS_PER_S, Drain

CLIENTS = st.integers(0, 20_000)
TIMES = st.floats(0, 1e6)


@given(clients=CLIENTS, within_s=st.floats(0, 600), now=TIMES)
def test_everybody_is_told_in_order_and_in_time(clients: int, within_s: float, now: float) -> None:
    plan = Drain.plan(clients, within_s, now)
    times = [plan.close_at(number) for number in range(clients)]
    assert times == sorted(times)
    assert all(now <= time <= now + within_s + 1e-6 for time in times)


@given(clients=CLIENTS, now=TIMES)
def test_with_time_enough_nobody_is_told_faster_than_one_core_can(clients: int, now: float) -> None:
    plan = Drain.plan(clients, 600.0, now)
    assert plan.closing_s <= clients / CLOSES_PER_S
    for start in range(0, clients, 1000):
        second = [plan.close_at(number) for number in range(start, min(start + 1000, clients))]
        assert len([time for time in second if time < second[0] + 0.999]) <= CLOSES_PER_S


@given(clients=st.integers(1, 5000), within_s=st.floats(0, 60), now=TIMES)
def test_those_who_left_first_are_back_first_no_faster_than_they_can_be_served(
    clients: int, within_s: float, now: float
) -> None:
    plan = Drain.plan(clients, within_s, now)
    back = []
    for number in range(clients):
        told_at = plan.close_at(number)
        back.append(told_at + plan.retry_after_ms(number, told_at) / 1000)
    rounding_s = 0.002
    assert min(back) >= now + plan.closing_s + RESTART_S - rounding_s, "nobody comes before there is a daemon"
    for before, after in pairwise(back):
        assert math.isclose(after - before, 1 / RETURNS_PER_S, abs_tol=rounding_s)


def test_a_lone_client_is_away_no_longer_than_the_daemon() -> None:
    plan = Drain.plan(1, 20.0, 100.0)
    assert plan.close_at(0) == 100.0
    assert RESTART_S * 1000 <= plan.retry_after_ms(0, 100.0) < 2000


def test_five_thousand_are_back_within_half_a_minute() -> None:
    plan = Drain.plan(5000, 15.0, 0.0)
    assert max(plan.retry_after_ms(n, plan.close_at(n)) for n in range(5000)) < 27_000


@given(clients=CLIENTS, chance=st.floats(0, 1, exclude_max=True), now=TIMES)
def test_whoever_comes_meanwhile_is_spread_among_them(clients: int, chance: float, now: float) -> None:
    plan = Drain.plan(clients, 15.0, now)
    wait_s = plan.newcomer_after_ms(chance, now) / 1000
    spread_s = max(NEWCOMERS_S, clients / RETURNS_PER_S)
    assert plan.closing_s + RESTART_S - 0.001 <= wait_s <= plan.closing_s + RESTART_S + spread_s + 0.001


def test_whoever_is_told_late_is_not_sent_to_the_past() -> None:
    plan = Drain.plan(10, 1.0, 0.0)
    assert plan.retry_after_ms(0, 1000.0) == 1
    assert plan.newcomer_after_ms(0.5, 1000.0) == 1
