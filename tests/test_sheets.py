"""Sheets give what the table has, whatever was read before, and read what is final once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from aurexd.market import EpochUs
from aurexd.sheets import LONG_AGO, SHEET_ROWS, Sheets


class Row(NamedTuple):
    """Of the table."""

    start: EpochUs


class Table:
    """Rows in order, and how many of them were read."""

    def __init__(self, starts: Sequence[int]) -> None:
        self.rows = [Row(EpochUs(start)) for start in sorted(starts)]
        self.final_until = 10**9
        self.read_rows = 0

    def between(self, begin: int, end: int, count: int) -> list[Row]:
        """The newest of the range, oldest first."""
        found = [row for row in self.rows if begin <= row.start < end]
        return found[max(0, len(found) - count) :]

    def read(self, begin: EpochUs, end: EpochUs, count: int) -> list[Row]:
        """The same, and it is counted."""
        rows = self.between(begin, end, count)
        self.read_rows += len(rows)
        return rows

    def is_final(self, until: EpochUs) -> bool:
        """Up to a time of its own."""
        return until <= self.final_until


def ask(sheets: Sheets[Row], table: Table, begin: int, end: int, count: int, name: str = "t") -> list[Row]:
    return sheets.newest(name, EpochUs(begin), EpochUs(end), count, table.read, table.is_final)


LATEST = 3000


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to some hundred rows, close together or far apart."""
    apart = draw(st.integers(1, 4))
    missing = draw(st.sets(st.integers(0, LATEST // apart), max_size=40))
    return Table([n * apart for n in range(LATEST // apart) if n not in missing])


times = st.integers(-5, LATEST + 5)


@given(tables(), st.lists(st.tuples(times, times, st.integers(1, 700)), max_size=12), st.integers(0, 4))
def test_whatever_was_asked_before_the_answer_is_what_the_table_has(
    table: Table, questions: list[tuple[int, int, int]], most: int
) -> None:
    sheets: Sheets[Row] = Sheets(most)
    for begin, end, count in questions:
        assert ask(sheets, table, begin, end, count) == table.between(begin, end, count)
        assert len(sheets) <= most


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 50), st.integers(1, 700)), max_size=12))
def test_rows_that_come_and_rows_that_are_not_final_are_always_seen(
    steps: list[tuple[int, int, int]],
) -> None:
    table, sheets = Table([]), Sheets[Row](8)
    now = 0
    for new, open_rows, count in steps:
        table.rows += [Row(EpochUs(n)) for n in range(now, now + new)]
        now += new
        table.final_until = now - open_rows
        assert ask(sheets, table, LONG_AGO, now + 1, count) == table.between(LONG_AGO, now + 1, count)
        if open_rows:
            taken = table.rows.pop(-min(open_rows, now))  # nobody said that it would stay
            assert ask(sheets, table, LONG_AGO, now + 1, count) == table.between(LONG_AGO, now + 1, count)
            insort(table.rows, taken)


def test_what_is_final_is_read_once_however_many_rows_come() -> None:
    table, sheets = Table(range(10 * SHEET_ROWS)), Sheets[Row](20)
    for now in range(4 * SHEET_ROWS, 10 * SHEET_ROWS):
        table.final_until = now - 3
        table.read_rows = 0
        assert len(ask(sheets, table, LONG_AGO, now, 4 * SHEET_ROWS)) == 4 * SHEET_ROWS
        if now > 4 * SHEET_ROWS:
            assert table.read_rows < SHEET_ROWS + 4
    assert len(sheets) < 11


def test_pages_one_after_the_other_are_read_once() -> None:
    table, sheets = Table(range(0, 50_000, 50)), Sheets[Row](20)
    for _ in range(2):
        end, seen = 60_000, 0
        while rows := ask(sheets, table, LONG_AGO, end, 100):
            end, seen = rows[0].start, seen + len(rows)
        assert seen == 1000
    assert table.read_rows <= 1000 + 3 * SHEET_ROWS


def test_of_more_sheets_than_may_be_kept_the_last_used_ones_stay() -> None:
    table, sheets = Table(range(4 * SHEET_ROWS)), Sheets[Row](2)
    end = 4 * SHEET_ROWS
    for name in ("a", "b", "a", "c"):
        ask(sheets, table, 0, end, 1, name)
    table.read_rows = 0
    ask(sheets, table, 0, end, SHEET_ROWS, "c")
    assert (len(sheets), table.read_rows) == (2, 0)


def test_whoever_changes_final_rows_says_so() -> None:
    table, sheets = Table(range(2 * SHEET_ROWS)), Sheets[Row](4)
    ask(sheets, table, 0, 10**6, 10)
    del table.rows[bisect_left(table.rows, Row(EpochUs(2 * SHEET_ROWS - 1)))]
    sheets.clear()
    assert ask(sheets, table, 0, 10**6, 10) == table.between(0, 10**6, 10)
    assert len(sheets) == 1
