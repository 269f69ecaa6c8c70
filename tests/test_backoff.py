from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aurexd.backoff import Backoff

schedules = st.builds(Backoff, floor_s=st.floats(0, 20), base_s=st.floats(0.1, 10), cap_s=st.floats(10, 600))


@given(schedules, st.integers(1, 10_000), st.integers())
def test_a_delay_lies_between_the_floor_and_the_floor_plus_the_cap(
    backoff: Backoff, failures: int, seed: int
) -> None:
    delay = backoff.delay(failures, random.Random(seed))
    assert (
        backoff.floor_s
        <= delay
        <= backoff.floor_s + min(backoff.cap_s, backoff.base_s * 2.0 ** min(failures, 60))
    )


@given(schedules, st.integers(1, 100), st.floats(0, 1000))
def test_a_provider_that_says_when_to_come_back_is_obeyed(
    backoff: Backoff, failures: int, at_least_s: float
) -> None:
    assert backoff.delay(failures, random.Random(1), at_least_s=at_least_s) >= at_least_s


def test_the_interval_doubles_up_to_the_cap() -> None:
    backoff = Backoff(floor_s=0, base_s=1, cap_s=8)
    spread = [max(backoff.delay(n, random.Random(seed)) for seed in range(500)) for n in (1, 2, 3, 4, 5, 50)]
    assert [round(top) for top in spread] == [1, 2, 4, 8, 8, 8]
