"""What Prometheus is told of reloads."""

from __future__ import annotations

from aurexd.market import EpochUs
from aurexd.reloads import Reloads


def test_a_daemon_that_was_never_reloaded_has_its_configuration_since_the_start() -> None:
    reloads = Reloads(EpochUs(5))
    assert (reloads.successful, reloads.succeeded_at, reloads.waiting) == (True, 5, 0)
    assert not any(reloads.counts.values())


def test_what_went_wrong_holds_until_the_next_that_is_taken_over() -> None:
    reloads = Reloads(EpochUs(5))
    reloads.done(EpochUs(6), waiting=2)
    reloads.went_wrong("refused")
    reloads.went_wrong("failed")
    assert (reloads.successful, reloads.succeeded_at, reloads.waiting) == (False, 6, 2)
    reloads.done(EpochUs(9), waiting=0)
    assert (reloads.successful, reloads.succeeded_at, reloads.waiting) == (True, 9, 0)
    assert reloads.counts == {"done": 2, "refused": 1, "failed": 1}
