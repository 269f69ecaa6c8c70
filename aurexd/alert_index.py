"""Thresholds in order, and the lows and highs of all windows: what lets a price find the rules that it concerns. Pure.

Which rule has which threshold, and what follows when one is passed, is `alerts.py`'s.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Decimal

from aurexd.market import EpochUs

NEVER = EpochUs(-(2**63))
NOTHING = Decimal("-Infinity")
"""The measure of what is not there: it holds for no threshold, and has come back from all."""

_LAST = 2**63
"""Greater than any rule's number."""

COMPACT_AFTER = 1024
"""So many forgotten entries of a chain are cut off at once: each cut moves all that is left."""

_MANY = 200
"""From so many on, new thresholds are sorted in all together: that looks at each there is, once."""

BELOW_ALL, ABOVE_ALL = Decimal("-Infinity"), Decimal("Infinity")

Item = tuple[Decimal, int]
"""A threshold, and the number of the rule that has it."""


class Thresholds:
    """A sorted list of them: what a measure passes is a slice."""

    __slots__ = ("_items", "_new", "highest", "lowest")

    def __init__(self) -> None:
        self.lowest, self.highest = ABOVE_ALL, BELOW_ALL
        """Of them; so when there are none."""
        self._items: list[Item] = []
        self._new: list[Item] = []
        """Not sorted in yet: that is done when somebody looks."""

    def __len__(self) -> int:
        return len(self._items) + len(self._new)

    def __bool__(self) -> bool:
        return self.highest is not BELOW_ALL

    def add(self, item: Item) -> None:
        """One more."""
        self._new.append(item)
        self.lowest = min(self.lowest, item[0])
        self.highest = max(self.highest, item[0])

    def update(self, items: list[Item]) -> None:
        """Some more."""
        for item in items:
            self.add(item)

    def discard(self, item: Item) -> bool:
        """Take one out; whether it was in."""
        items = self.sort()
        place = bisect_left(items, item)
        found = place < len(items) and items[place] == item
        if found:
            del items[place]
            self._look()
        return found

    def take_below(self, value: Decimal, *, inclusive: bool) -> list[Item]:
        """Take out all that are lower; `inclusive`: or equal."""
        items = self.sort()
        if not items or items[0][0] > value:
            return []
        place = _place(items, value, after=inclusive)
        taken = items[:place]
        del items[:place]
        self._look()
        return taken

    def take_above(self, value: Decimal, *, inclusive: bool) -> list[Item]:
        """Take out all that are higher; `inclusive`: or equal."""
        items = self.sort()
        if not items or items[-1][0] < value:
            return []
        place = _place(items, value, after=not inclusive)
        taken = items[place:]
        del items[place:]
        self._look()
        return taken

    def sort(self) -> list[Item]:
        """All, in order."""
        new = self._new
        if new:
            if len(new) < _MANY:
                for item in new:
                    insort(self._items, item)
            else:
                self._items += new
                self._items.sort()
            new.clear()
        return self._items

    def _look(self) -> None:
        items = self._items
        self.lowest, self.highest = (items[0][0], items[-1][0]) if items else (ABOVE_ALL, BELOW_ALL)


def _place(items: list[Item], value: Decimal, *, after: bool) -> int:
    return bisect_left(items, (value, _LAST if after else -1))


class Waiting:
    """The rules of a gauge that a step between sources took over their threshold; see docs/alerts.md."""

    __slots__ = ("armed", "base", "disarmed", "origin")

    def __init__(self, base: Decimal, origin: str | None) -> None:
        """`base`: the sum of all steps before that one; `origin`: whose price was the one before it."""
        self.base = base
        self.origin = origin
        self.armed = Thresholds()
        self.disarmed = Thresholds()


class Gauge:
    """The thresholds of one measure: armed ones are passed upwards, disarmed ones come back downwards.

    `inclusive`: a measure that is equal to its threshold has passed it, and one that is equal has not come back; else
    the other way round. An item of an armed rule has its threshold, of a disarmed one the measure it must come back to.
    """

    __slots__ = ("armed", "disarmed", "held", "inclusive", "waiting")

    def __init__(self, *, inclusive: bool = False) -> None:
        self.inclusive = inclusive
        self.armed = Thresholds()
        self.disarmed = Thresholds()
        self.held = Thresholds()
        """Of armed rules whose condition holds, and that must not fire yet."""
        self.waiting: list[Waiting] = []

    def discard(self, item: Item) -> None:
        """Take a rule's item out, wherever it is."""
        if self.armed.discard(item) or self.disarmed.discard(item) or self.held.discard(item):
            return
        for group in self.waiting:
            if group.armed.discard(item) or group.disarmed.discard(item):
                return

    def wait(self, base: Decimal, origin: str | None) -> Waiting:
        """The group of those that wait since that step."""
        for group in self.waiting:
            if group.base == base and group.origin == origin:
                return group
        group = Waiting(base, origin)
        self.waiting.append(group)
        return group

    def is_quiet(self, measure: Decimal) -> bool:
        """Whether the measure passes nothing, and nothing comes back."""
        return self.armed.lowest > measure and self.disarmed.highest < measure and self.held.highest < measure

    def rests_below(self, most: Decimal) -> bool:
        """Whether no measure up to that passes anything or brings anything back."""
        return self.armed.lowest > most and not self.disarmed and not self.held

    def pass_to(self, measure: Decimal) -> tuple[list[Item], list[Item]]:
        """Take out what the measure passes, and what it has come back from."""
        if self.held:
            self.armed.update(self.held.take_above(measure, inclusive=not self.inclusive))
        passed = self.armed.take_below(measure, inclusive=self.inclusive)
        back = self.disarmed.take_above(measure, inclusive=not self.inclusive)
        return passed, back

    def step_to(
        self, measure: Decimal, before: Decimal, base: Decimal, origin: str | None
    ) -> tuple[list[Item], list[Item], list[Item]]:
        """The same for a step from `before`: what only the step passes, or comes back from, waits from now on."""
        if self.held:
            self.armed.update(self.held.take_above(measure, inclusive=True))
        passed = self.armed.take_below(min(measure, before), inclusive=False)
        back = self.disarmed.take_above(max(measure, before), inclusive=True)
        waits = self.armed.take_below(measure, inclusive=False)
        waits_back = self.disarmed.take_above(measure, inclusive=True)
        if waits or waits_back:
            group = self.wait(base, origin)
            group.armed.update(waits)
            group.disarmed.update(waits_back)
        return passed, back, waits + waits_back

    def settle(
        self, measure: Decimal, steps: Decimal, source: str
    ) -> tuple[list[Item], list[Item], list[Item]]:
        """See to those that wait: what passes, what has come back, and for whom nothing has happened after all.

        `steps`: the sum of all steps, in the gauge's direction.
        """
        passed: list[Item] = []
        back: list[Item] = []
        released: list[Item] = []
        for group in self.waiting:
            corrected = measure if group.origin == source else measure - (steps - group.base)
            not_passed = group.armed.take_above(measure, inclusive=True)
            not_back = group.disarmed.take_below(measure, inclusive=False)
            self.armed.update(not_passed)
            self.disarmed.update(not_back)
            released += not_passed + not_back
            passed += group.armed.take_below(corrected, inclusive=False)
            back += group.disarmed.take_above(corrected, inclusive=True)
        if self.waiting:
            self.waiting = [group for group in self.waiting if group.armed or group.disarmed]
        return passed, back, released


class Chain:
    """The values that are lower than all that came after them: any window's lowest is the first of them in it."""

    __slots__ = ("_start", "_times", "_values")

    def __init__(self) -> None:
        self._times: list[EpochUs] = []
        self._values: list[Decimal] = []
        self._start = 0

    def clear(self) -> None:
        """Forget all."""
        self._times.clear()
        self._values.clear()
        self._start = 0

    def add(self, time: EpochUs, value: Decimal) -> None:
        """The next value; no time is earlier than the one before."""
        times, values = self._times, self._values
        while len(values) > self._start and values[-1] >= value:
            values.pop()
            times.pop()
        times.append(time)
        values.append(value)

    def forget(self, until: EpochUs) -> None:
        """No window reaches back to that time, or before."""
        times = self._times
        while self._start < len(times) and times[self._start] <= until:
            self._start += 1
        if self._start >= COMPACT_AFTER:
            del times[: self._start], self._values[: self._start]
            self._start = 0

    def lowest(self, after: EpochUs) -> Decimal | None:
        """Of the values later than that; None when there are none."""
        place = bisect_left(self._times, after + 1, self._start)
        return self._values[place] if place < len(self._values) else None


class Windows:
    """The lows and highs of one symbol's prices, in any window up to the longest that is in use.

    Prices are kept less the sum of all steps so far, so that a step shifts whatever came before it.
    """

    __slots__ = ("_highs", "_lows", "_steps", "length_us", "since")

    def __init__(self, length_us: int) -> None:
        self.length_us = length_us
        """Of the longest window."""
        self.since = NEVER
        """The time of the first price that is known."""
        self._steps = Decimal(0)
        self._lows = Chain()
        self._highs = Chain()
        """Of the negated values."""

    def begin_anew(self, time: EpochUs) -> None:
        """What came before is of another time."""
        self._lows.clear()
        self._highs.clear()
        self.since = time

    def step(self, size: Decimal) -> None:
        """The price moved so far because its source is another."""
        self._steps += size

    def add(self, time: EpochUs, price: Decimal) -> None:
        """The next price; no time is earlier than the one before, unless all begins anew."""
        value = price - self._steps
        self._lows.add(time, value)
        self._highs.add(time, -value)
        until = EpochUs(time - self.length_us)
        self._lows.forget(until)
        self._highs.forget(until)

    def extremes(self, after: EpochUs) -> tuple[Decimal, Decimal] | None:
        """The lowest and the highest price later than that, as the present source would show them; None: no price."""
        low, high = self._lows.lowest(after), self._highs.lowest(after)
        if low is None or high is None:
            return None
        return low + self._steps, self._steps - high
