"""The commands of this folder, on a small scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference.evaluator import Alert
from tests.reference.month import KINDS, Cut, compare, part_of, prices_of, walk_bars


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_in_a_month_that_nobody_saw_however_it_is_cut(tmp_path: Path) -> None:
    part = part_of(prices_of(walk_bars(seed=7, count=250), seed=7), 60, seed=7)
    fired: set[Alert] = set()
    for seed in range(2):
        outcome = compare(tmp_path / f"{seed}.db", part, Cut(seed, restarts=0.6, longest=40))
        assert outcome.is_right
        assert outcome.restarts > 5, "cut in more pieces"
        fired |= set(outcome.fired)
    assert len(fired) > 100
    kinds = {rule.rule_id: rule.condition.kind for rule in part.rules}
    assert {kinds[alert.rule_id] for alert in fired} == set(KINDS)
