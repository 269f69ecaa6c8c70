from __future__ import annotations

from aurexd.actors.messages import SourceScreening, SourceState, SourceStatus
from aurexd.market import EpochUs, Instrument
from aurexd.roster import screened


def status(lag_ms: int | None, rejected: dict[str, int]) -> SourceStatus:
    return SourceStatus(
        name="alltick",
        type="alltick",
        priority=1,
        symbols={"XAUUSD": "GOLD"},
        instruments={"XAUUSD": Instrument.SPOT},
        state=SourceState.CONNECTED,
        since=EpochUs(0),
        lag_ms=lag_ms,
        rejected=rejected,
    )


def test_what_was_refused_anywhere_is_counted_together() -> None:
    seen = screened(
        status(12, {"garbage": 2, "duplicate": 1}), SourceScreening(refused={"duplicate": 3, "outlier": 4})
    )
    assert seen.rejected == {"garbage": 2, "duplicate": 4, "outlier": 4}


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    seen = screened(status(-4950, {}), SourceScreening(clock_skew_us=5_000_000))
    assert (seen.lag_ms, seen.clock_skew_ms) == (50, 5000)


def test_a_clock_that_is_behind_cannot_be_told_from_a_long_way() -> None:
    seen = screened(status(300, {}), SourceScreening(clock_skew_us=-250_000))
    assert (seen.lag_ms, seen.clock_skew_ms) == (300, -250)


def test_what_is_not_known_is_not_told() -> None:
    seen = screened(status(None, {}), SourceScreening())
    assert (seen.lag_ms, seen.clock_skew_ms, seen.jumps) == (None, None, 0)
