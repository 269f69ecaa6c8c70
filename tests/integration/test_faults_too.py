"""The other half of the schedules of `test_faults.py`: a process runs a file, and these take minutes."""

from __future__ import annotations

import pytest

from tests.integration.test_faults import PARTS, judge_schedules, nothing_but_prices

__all__ = ["nothing_but_prices"]


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS[1::2])
def test_clients_always_get_the_best_fresh_price_and_every_change(part: int) -> None:
    judge_schedules(part)
