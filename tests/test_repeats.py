"""Lines that repeat themselves without end are left out, and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurexd.repeats import BURST, EVERY_S, QUIET_S, Repeats, kind_of

LOST = kind_of({"logger": "aurexd.actors.source", "event": "source_lost", "source": "alltick"})
OTHER = kind_of({"logger": "aurexd.actors.source", "event": "source_lost", "source": "kraken"})


def test_a_burst_is_written_and_then_one_in_a_while_that_says_how_many_were_left_out() -> None:
    repeats = Repeats()
    assert [repeats.admit(LOST, 0.0) for _ in range(BURST + 7)] == [0] * BURST + [None] * 7
    assert repeats.admit(OTHER, 0.0) == 0
    assert repeats.admit(LOST, EVERY_S) == 7
    assert repeats.admit(LOST, EVERY_S) is None


def test_what_was_left_out_last_is_said_once_when_it_has_been_quiet() -> None:
    repeats = Repeats()
    for _ in range(BURST + 3):
        repeats.admit(LOST, 0.0)
    assert list(repeats.overdue(QUIET_S - 1)) == []
    assert list(repeats.overdue(QUIET_S)) == [(LOST, 3)]
    assert list(repeats.overdue(QUIET_S)) == []
    assert repeats.admit(LOST, QUIET_S) == 0


@given(
    gaps=st.lists(st.tuples(st.sampled_from([LOST, OTHER]), st.floats(0, 30)), max_size=300),
)
def test_every_line_is_written_or_counted(gaps: list[tuple[tuple[str, ...], float]]) -> None:
    repeats, now, written, counted = Repeats(), 0.0, 0, 0
    for kind, gap in gaps:
        now += gap
        counted += sum(count for _, count in repeats.overdue(now))
        swallowed = repeats.admit(kind, now)
        if swallowed is not None:
            written += 1
            counted += swallowed
    counted += sum(count for _, count in repeats.overdue(now + QUIET_S))
    assert written + counted == len(gaps)
