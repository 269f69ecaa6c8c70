from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurexd.backlog import Backlog

actions = st.lists(st.one_of(st.just("append"), st.integers(1, 5), st.booleans()), max_size=100)


def test_records_leave_in_their_order_and_only_when_committed() -> None:
    backlog: Backlog[int] = Backlog(10)
    for n in range(5):
        backlog.append(n)
    assert backlog.take(3) == (0, 1, 2)
    backlog.put_back()
    assert backlog.take(3) == (0, 1, 2)
    backlog.committed()
    assert backlog.take(9) == (3, 4)


def test_a_full_backlog_loses_its_oldest_and_counts_it() -> None:
    backlog: Backlog[int] = Backlog(3)
    for n in range(5):
        backlog.append(n)
    assert backlog.take(9) == (2, 3, 4)
    assert backlog.dropped == 2


def test_what_is_being_written_is_not_dropped_meanwhile() -> None:
    backlog: Backlog[int] = Backlog(3)
    for n in range(3):
        backlog.append(n)
    assert backlog.take(2) == (0, 1)
    backlog.append(3)
    backlog.committed()
    assert backlog.take(9) == (3,)
    assert backlog.dropped == 1


def test_a_batch_about_which_nothing_was_said_is_taken_again() -> None:
    backlog: Backlog[int] = Backlog(10)
    for n in range(5):
        backlog.append(n)
    assert backlog.take(2) == (0, 1)
    assert backlog.take(3) == (0, 1, 2)
    assert len(backlog) == 5


@given(actions, st.integers(1, 6))
def test_every_record_is_committed_once_in_order_or_counted_as_dropped(
    schedule: list[str | int | bool], capacity: int
) -> None:
    backlog: Backlog[int] = Backlog(capacity)
    committed: list[int] = []
    batch: tuple[int, ...] = ()
    appended = 0
    for action in schedule:
        if action == "append":
            backlog.append(appended)
            appended += 1
        elif action is True:
            committed += batch
            backlog.committed()
            batch = ()
        elif action is False:
            backlog.put_back()
            batch = ()
        else:
            assert isinstance(action, int)
            batch = backlog.take(action)
        assert len(backlog) <= capacity
    assert committed == sorted(set(committed))
    assert len(committed) + len(backlog) + backlog.dropped == appended
