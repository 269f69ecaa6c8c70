"""One symbol as its alert rules see it: its newest price, its windows, and which rules a price concerns. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from aurexd.alert_index import ABOVE_ALL, NEVER, NOTHING, Gauge, Item, Windows
from aurexd.alert_rules import Phase, Rule, Standing
from aurexd.market import SECOND_US, EpochUs, Instrument, Quality
from aurexd.protocol.alerts import (
    Above,
    AnyCondition,
    BecomesStale,
    Below,
    CrossesDown,
    CrossesUp,
    Direction,
    LeavesRange,
    MarketCloses,
    MarketOpens,
    Moves,
    MovesPercent,
    NewHigh,
    NewLow,
)
from aurexd.protocol.data import MarketState

COUNTS = frozenset({Quality.LIVE, Quality.DELAYED, Quality.SIMULATED})
"""Prices of these qualities are judged."""

STARTED_OVER_US = 3600 * SECOND_US
"""A price that is older than the one before by more than this is of a recording that was started over."""

RECOLLECT_US = 2 * STARTED_OVER_US
"""A price's time may be later than it says by the one, and be compared with one that is earlier by the other."""

STEP_US = 300 * SECOND_US
"""After a longer time between two prices the market has moved by more than their sources differ."""

ZERO, HUNDRED = Decimal(0), Decimal(100)


class SeenPrice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recorded price."""

    id: int
    """Of its row."""
    symbol: str
    close: Decimal
    source: str
    instrument: Instrument
    quality: Quality
    source_time: EpochUs
    receive_time: EpochUs
    rebased: bool

    @property
    def time(self) -> EpochUs:
        """When it was."""
        return min(self.source_time, self.receive_time)


class SeenStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recorded status."""

    id: int
    """Of its row."""
    symbol: str
    quality: Quality
    market: MarketState
    source: str | None
    instrument: Instrument
    time: EpochUs


class Calm(msgspec.Struct, frozen=True, gc=False):
    """Nothing fires while a symbol's price stays above `low` and below `high`, as far as is known."""

    low: Decimal
    high: Decimal


CALM = Calm(Decimal("-Infinity"), Decimal("Infinity"))


class Step(msgspec.Struct, frozen=True, gc=False):
    """A price that came from another source than the one before."""

    before: Decimal
    base: Decimal
    """The sum of all steps before this one."""
    origin: str | None
    """The source before; None: it has the same name."""


Kind = tuple[type[AnyCondition], Direction]
"""Of a condition with a window."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of a symbol's recorded prices."""

    last: SeenPrice | None
    time: EpochUs
    """Of that one, as judged."""
    windows: Windows
    this_run: bool
    """Whether the last one was stored since the start."""


def recollect(prices: Iterable[SeenPrice], length_us: int, run_after: int) -> Past:
    """The past from the record: a symbol's prices, oldest first, beginning `RECOLLECT_US` before the longest window.

    `run_after`: the newest price that an earlier run has stored.
    """
    symbol = Watch()
    symbol.windows = Windows(length_us)
    for price in prices:
        if price.quality in COUNTS:
            symbol.take(price)
            if length_us:
                symbol.windows.add(symbol.time, price.close)
    last = symbol.last
    return Past(
        last=last,
        time=symbol.time,
        windows=symbol.windows,
        this_run=last is not None and last.id > run_after,
    )


class Watch:
    """One symbol: its newest price, its windows, and where its rules are."""

    def __init__(self) -> None:
        self.last: SeenPrice | None = None
        self.time = NEVER
        """Of that price, as judged."""
        self.steps = Decimal(0)
        """The sum of all of them."""
        self.this_run = False
        """Whether that price was stored since the start; for the two below the same."""
        self.quality: tuple[Quality, bool] | None = None
        self.market: tuple[MarketState, bool] | None = None
        self.up = Gauge()
        self.down = Gauge()
        """Of the negated price."""
        self.gauges: dict[int, dict[Kind, Gauge]] = {}
        """By the window's length in microseconds."""
        self.windows = Windows(0)
        self.changes: dict[type[AnyCondition], set[int]] = {
            BecomesStale: set(),
            MarketOpens: set(),
            MarketCloses: set(),
        }
        self.expiring: list[tuple[EpochUs, int]] = []
        self._unjudged: set[int] = set()
        self._waking: dict[int, EpochUs] = {}
        self._by_arrival: list[tuple[EpochUs, int]] = []
        self._by_time: list[tuple[EpochUs, int]] = []

    # --- rules ---

    def first_standing(self, rule: Rule) -> Standing:
        """Of a rule that begins."""
        fired = rule.standing.fired
        armed = Standing(phase=Phase.ARMED, fired=fired)
        match rule.condition:
            case CrossesUp() | CrossesDown() | LeavesRange():
                if self.last is None:
                    return Standing(phase=Phase.DISARMED, unjudged=True, fired=fired)
                for end, _, threshold in self._ends(rule):
                    if (-self.last.close if end else self.last.close) > threshold:
                        return Standing(phase=Phase.DISARMED, out=end, fired=fired)
                return armed
            case Moves() | MovesPercent() | NewHigh() | NewLow():
                return Standing(phase=Phase.DISARMED, fired=fired)
            case _:
                return armed

    def place(self, rule: Rule) -> None:
        """Put a rule where its standing says."""
        kind, number, standing = type(rule.condition), rule.number, rule.standing
        if kind in self.changes:
            self.changes[kind].add(number)
        elif standing.unjudged:
            self._unjudged.add(number)
        elif standing.phase is Phase.ARMED:
            for end, gauge, threshold in self._ends(rule):
                wait = standing.wait
                if wait is not None and wait.end == end:
                    gauge.wait(wait.base, wait.origin).armed.add((threshold, number))
                else:
                    gauge.armed.add((threshold, number))
        else:
            gauge, item = self._disarmed_item(rule)
            if standing.wait is not None:
                gauge.wait(standing.wait.base, standing.wait.origin).disarmed.add(item)
            else:
                gauge.disarmed.add(item)

    def sort(self) -> None:
        """Have all thresholds in order."""
        gauges = [self.up, self.down, *(gauge for group in self.gauges.values() for gauge in group.values())]
        for gauge in gauges:
            gauge.armed.sort()
            gauge.disarmed.sort()

    def displace(self, rule: Rule) -> None:
        """Take a rule out, wherever it is."""
        kind, number = type(rule.condition), rule.number
        if kind in self.changes:
            self.changes[kind].discard(number)
            return
        self._unjudged.discard(number)
        for _, gauge, threshold in self._ends(rule):
            gauge.discard((threshold, number))
            gauge.discard((threshold - rule.hysteresis, number))
        if rule.window_us:
            group = self.gauges[rule.window_us]
            for key in [key for key, gauge in group.items() if not (gauge.armed or gauge.disarmed)]:
                del group[key]
            if not group:
                del self.gauges[rule.window_us]

    def arm(self, rule: Rule, end: int, close: Decimal) -> None:
        """A disarmed rule, taken out already, has come back over its end."""
        standing = rule.standing
        standing.wait = None
        match rule.condition:
            case LeavesRange(low=low, high=high):
                other = 1 - end
                if close < low if other else close > high:
                    standing.out = other
                    self.place(rule)
                    return
        standing.phase, standing.fresh = Phase.ARMED, False
        self.place(rule)

    def disarm(self, rule: Rule, end: int) -> None:
        """An armed rule, taken out at one end already, is done for now."""
        if isinstance(rule.condition, LeavesRange):
            for other, gauge, threshold in self._ends(rule):
                if other != end:
                    gauge.discard((threshold, rule.number))
        standing = rule.standing
        standing.phase, standing.fresh, standing.out = Phase.DISARMED, False, end
        self.place(rule)

    def hold(self, rule: Rule, end: int) -> None:
        """An armed rule, taken out already, must not fire yet: it is looked at when it may."""
        _, gauge, threshold = next(found for found in self._ends(rule) if found[0] == end)
        gauge.held.add((threshold, rule.number))
        self._wake_later(rule)

    def take_unjudged(self, rules: Mapping[int, Rule]) -> list[Rule]:
        """Those that waited for the first price."""
        found = [rules[number] for number in sorted(self._unjudged)]
        self._unjudged.clear()
        return found

    def wake(self, rules: Mapping[int, Rule], arrival: EpochUs) -> None:
        """Have rules judged again that may fire now."""
        woken: list[int] = []
        for heap, now in ((self._by_arrival, arrival), (self._by_time, self.time)):
            while heap and heap[0][0] <= now:
                woken.append(heapq.heappop(heap)[1])
        for number in woken:
            self._waking.pop(number, None)
            rule = rules.get(number)
            if rule is None or not rule.is_level:
                continue
            ((_, gauge, threshold),) = self._ends(rule)
            if not gauge.held.discard((threshold, number)):
                continue
            if is_held(rule, arrival, self.time):
                gauge.held.add((threshold, number))
                self._wake_later(rule)
            else:
                gauge.armed.add((threshold, number))

    def _wake_later(self, rule: Rule) -> None:
        held, over = rule.held_until(), rule.standing.session_over
        heap, at = self._by_arrival, held
        if over is not None and (held is None or over > held):
            heap, at = self._by_time, over
        assert at is not None
        if self._waking.get(rule.number, EpochUs(at + 1)) > at:
            self._waking[rule.number] = at
            heapq.heappush(heap, (at, rule.number))

    def _ends(self, rule: Rule) -> list[tuple[int, Gauge, Decimal]]:
        """Where a rule is judged: the end (1: of the negated price), the gauge and the threshold there."""
        match rule.condition:
            case Above(level=level) | CrossesUp(level=level):
                return [(0, self.up, level)]
            case Below(level=level) | CrossesDown(level=level):
                return [(1, self.down, -level)]
            case LeavesRange(low=low, high=high):
                return [(0, self.up, high), (1, self.down, -low)]
            case Moves(amount=amount, direction=direction):
                return [(0, self._gauge(rule, direction), amount)]
            case MovesPercent(percent=percent, direction=direction):
                return [(0, self._gauge(rule, direction), percent)]
            case NewHigh() | NewLow():
                return [(0, self._gauge(rule, Direction.EITHER), Decimal(0))]
            case _:
                return []

    def _gauge(self, rule: Rule, direction: Direction) -> Gauge:
        kind = type(rule.condition)
        group = self.gauges.setdefault(rule.window_us, {})
        gauge = group.get((kind, direction))
        if gauge is None:
            inclusive = kind in (Moves, MovesPercent)
            gauge = group[kind, direction] = Gauge(inclusive=inclusive)
        return gauge

    def _disarmed_item(self, rule: Rule) -> tuple[Gauge, Item]:
        for end, gauge, threshold in self._ends(rule):
            if end == rule.standing.out:
                back = threshold if rule.standing.fresh else threshold - rule.hysteresis
                return gauge, (back, rule.number)
        raise AssertionError(f"{rule.rule_id} was not left by end {rule.standing.out}")

    # --- prices ---

    def take(self, price: SeenPrice) -> Step | None:
        """The newest price; what step it is, if it is one."""
        last, time = self.last, price.time
        self.last = price
        if last is None or time < self.time - STARTED_OVER_US:
            self.time = time
            self.windows.begin_anew(time)
        elif time > self.time:
            self.time = time
        if last is None or (price.source == last.source and not price.rebased):
            return None
        if price.receive_time - last.receive_time >= STEP_US:
            return None
        step = Step(last.close, self.steps, last.source if last.source != price.source else None)
        size = price.close - last.close
        self.steps += size
        self.windows.step(size)
        return step

    def moved(self, price: Decimal) -> list[tuple[Gauge, Decimal]]:
        """The gauges of windows in which the newest price moves something, with what it measures there; then it is one
        of those before."""
        found: list[tuple[Gauge, Decimal]] = []
        if self.gauges:
            # In no window has it moved farther than in the longest.
            low, high = self.windows.extremes(EpochUs(self.time - max(self.gauges))) or (price, price)
            low, high = min(low, price), max(high, price)
            most = high - low
            most_percent = HUNDRED * most / low if low > 0 else ABOVE_ALL
        for length, gauges in self.gauges.items():
            for (kind, direction), gauge in gauges.items():
                if not gauge.rests_below(
                    most if kind is Moves else most_percent if kind is MovesPercent else ABOVE_ALL
                ):
                    measure = self._measure(kind, direction, length, price)
                    if not gauge.is_quiet(measure):
                        found.append((gauge, measure))
        if self.gauges or self.windows.length_us:  # a rule may come that looks back over this price
            self.windows.add(self.time, price)
        return found

    def _measure(
        self, kind: type[AnyCondition], direction: Direction, length_us: int, price: Decimal
    ) -> Decimal:
        """What a price measures in a window, held against those before it."""
        after = EpochUs(self.time - length_us)
        before = self.windows.extremes(after)
        if kind is NewHigh or kind is NewLow:
            if before is None or self.windows.since > after:
                return NOTHING
            return price - before[1] if kind is NewHigh else before[0] - price
        low, high = (price, price) if before is None else (min(before[0], price), max(before[1], price))
        up, down = price - low, high - price
        if kind is MovesPercent:
            up = HUNDRED * up / low if low > 0 else NOTHING
            down = HUNDRED * down / high
        match direction:
            case Direction.UP:
                return up
            case Direction.DOWN:
                return down
            case Direction.EITHER:
                return max(up, down)

    def calm(self) -> Calm:
        """Between which prices nothing fires, nor is armed."""
        if self.last is None:
            return Calm(Decimal("Infinity"), Decimal("-Infinity"))
        high = _lowest(self.up, self.steps)
        low = -_lowest(self.down, -self.steps)
        # A rule that is armed may fire at the very next price.
        low = max(low, self.up.disarmed.highest)
        high = min(high, -self.down.disarmed.highest)
        for length, gauges in self.gauges.items():
            before = self.windows.extremes(EpochUs(self.time - length))
            if before is None:
                continue
            for (kind, direction), gauge in gauges.items():
                least = gauge.armed.lowest
                if least < ABOVE_ALL:
                    rise, fall = _thresholds(kind, direction, least, *before)
                    high, low = min(high, rise), max(low, fall)
        return Calm(low, high)


def is_held(rule: Rule, arrival: EpochUs, time: EpochUs) -> bool:
    """Whether it must not fire at a price that arrived then, and has that time."""
    until, over = rule.held_until(), rule.standing.session_over
    return (until is not None and arrival < until) or (over is not None and time < over)


def _thresholds(
    kind: type[AnyCondition], direction: Direction, least: Decimal, low: Decimal, high: Decimal
) -> tuple[Decimal, Decimal]:
    """At which prices above and below a condition with a window would hold."""
    if kind is NewHigh:
        return high, CALM.low
    if kind is NewLow:
        return CALM.high, low
    if kind is MovesPercent:
        rise, fall = low + low * least / HUNDRED, high - high * least / HUNDRED
    else:
        rise, fall = low + least, high - least
    return (
        CALM.high if direction is Direction.DOWN else rise,
        CALM.low if direction is Direction.UP else fall,
    )


def _lowest(gauge: Gauge, steps: Decimal) -> Decimal:
    """The lowest measure that an armed rule is passed by; infinite: there is none."""
    found = [(gauge.armed.lowest, ZERO)]
    found += [(group.armed.lowest, steps - group.base) for group in gauge.waiting]
    return min(low + max(shift, ZERO) for low, shift in found)
