"""What was read of a table ordered by time and will never change, kept to be had again: sheets of so many rows. Pure.

A sheet has all rows of a stretch of time. Where stretches begin follows from what was asked for first; whoever changes
rows that were said to be final says so (`clear`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from aurexd.market import EpochUs

SHEET_ROWS = 64
"""Of a sheet. So many, and twice as many where new rows come, are read again each time."""

LONG_AGO = EpochUs(-(2**63))


class Row(Protocol):
    """What is found by its time."""

    @property
    def start(self) -> EpochUs:
        """No two rows have the same."""


R = TypeVar("R", bound=Row)

Read: TypeAlias = Callable[[EpochUs, EpochUs, int], Sequence[R]]
"""The newest rows with `begin <= start < end`, at most so many, oldest first."""

IsFinal: TypeAlias = Callable[[EpochUs], bool]
"""Whether no row that starts before then will ever change, or come."""

_start = attrgetter("start")


class Sheet(NamedTuple, Generic[R]):
    """All rows with `begin <= start < end`, oldest first."""

    begin: EpochUs
    end: EpochUs
    rows: Sequence[R]


class Sheets(Generic[R]):
    """Sheets of many tables; of more than may be kept those that were used last."""

    def __init__(self, most: int) -> None:
        """`most`: sheets that are kept."""
        self._most = most
        self._kept: OrderedDict[tuple[Hashable, EpochUs], Sheet[R]] = OrderedDict()
        """By table and end, the least recently used first. They do not overlap."""
        self._ends: dict[Hashable, list[EpochUs]] = {}
        """Of each table's sheets, in order."""

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Read all again."""
        self._kept.clear()
        self._ends.clear()

    def newest(
        self, table: Hashable, begin: EpochUs, end: EpochUs, count: int, read: Read[R], is_final: IsFinal
    ) -> list[R]:
        """The newest rows with `begin <= start < end`, at most so many, oldest first."""
        found: list[Sequence[R]] = []
        while count > 0 and end > begin:
            sheet = self._find(table, end) or self._read(table, end, read, is_final)
            until = bisect_left(sheet.rows, end, key=_start)
            first = max(bisect_left(sheet.rows, begin, key=_start), until - count)
            found.append(sheet.rows[first:until])
            count -= until - first
            end = sheet.begin
        return [row for rows in reversed(found) for row in rows]

    def _find(self, table: Hashable, end: EpochUs) -> Sheet[R] | None:
        """The sheet with what comes right before `end`."""
        ends = self._ends.get(table, [])
        place = bisect_left(ends, end)
        if place == len(ends) or self._kept[table, ends[place]].begin >= end:
            return None
        self._kept.move_to_end((table, ends[place]))
        return self._kept[table, ends[place]]

    def _read(self, table: Hashable, end: EpochUs, read: Read[R], is_final: IsFinal) -> Sheet[R]:
        """Read what comes right before `end`, and keep of it what is a whole sheet and final."""
        ends = self._ends.get(table, [])
        place = bisect_left(ends, end)
        begin = ends[place - 1] if place else LONG_AGO
        # Whole ones begin where the one before ends: else each new row would make a sheet that has no other.
        rows = read(begin, end, 2 * SHEET_ROWS)
        if len(rows) == 2 * SHEET_ROWS:
            begin = rows[0].start
        while len(rows) >= SHEET_ROWS:
            until = rows[SHEET_ROWS].start if len(rows) > SHEET_ROWS else end
            if not is_final(until):
                break
            sheet = Sheet(begin, until, rows[:SHEET_ROWS])
            self._keep(table, sheet)
            if until == end:
                return sheet
            begin, rows = until, rows[SHEET_ROWS:]
        return Sheet(begin, end, rows)

    def _keep(self, table: Hashable, sheet: Sheet[R]) -> None:
        insort(self._ends.setdefault(table, []), sheet.end)
        self._kept[table, sheet.end] = sheet
        if len(self._kept) > self._most:
            (other, end), _ = self._kept.popitem(last=False)
            self._ends[other].remove(end)
