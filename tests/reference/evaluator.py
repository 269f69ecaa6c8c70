"""What should have fired, and which candles there should be: a plain fold over what the store recorded.

Written from docs/alerts.md and docs/adr/0007 alone, without a look at the daemon's own rooms for it, and as simple as
possible: no index, no state that is kept from one evaluation to the next, every rule judged at every price.
Where this and the daemon disagree, one of them has the page against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, TypeAlias

SECOND = 1_000_000
"""All times are microseconds since 1970, UTC."""

COUNTING = ("live", "delayed", "simulated")
STARTED_OVER = 3600 * SECOND
STEP_WITHIN = 300 * SECOND
STORM_WINDOW, STORM_BUDGET, STORM_PAUSE = 180 * SECOND, 15, 900 * SECOND
STORED_LATE = 60 * SECOND
NEVER = Decimal("-Infinity")

Measure: TypeAlias = Decimal | Fraction
"""Exact: a percentage is seldom a decimal number."""


# --- the record ---


class Price(NamedTuple):
    """A row of `prices`."""

    id: int
    symbol: str
    close: Decimal
    source: str
    quality: str
    source_time: int
    receive_time: int
    rebased: bool = False
    stored: int = 0
    """When it was stored; 0: soon after it arrived."""


class Status(NamedTuple):
    """A row of `statuses`."""

    id: int
    price_id: int
    symbol: str
    quality: str
    source: str | None
    market: str
    time: int
    stored: int = 0


class Run(NamedTuple):
    """A row of `runs`."""

    price_id: int
    status_id: int


class Condition(NamedTuple):
    """When a rule fires; what the kind does not need is not looked at."""

    kind: str
    level: Decimal = Decimal()
    low: Decimal = Decimal()
    high: Decimal = Decimal()
    amount: Decimal = Decimal()
    """Of `moves`; in percent, of `moves_percent`."""
    window: int = 0
    direction: str = "either"


class Rule(NamedTuple):
    """A row of `alert_rules`, as it was when it was made or begun anew: judged on what comes after these ids."""

    rule_id: str
    owner: str
    symbol: str
    condition: Condition
    repeat: str = "once"
    hysteresis: Decimal = Decimal()
    cooldown: int = 0
    expires: int | None = None
    snoozed_until: int | None = None
    price_id: int = 0
    status_id: int = 0
    until_price_id: int | None = None
    until_status_id: int | None = None
    """Where it began anew, as another one."""


class Alert(NamedTuple):
    """What fired; without `stored` and what can be looked up by the ids."""

    rule_id: str
    price_id: int | None
    previous_price_id: int | None
    status_id: int | None
    late: bool
    paused_until: int | None


# --- prices, as rules see them ---


class Seen(NamedTuple):
    """A price that counts."""

    price: Price
    before: Price | None
    time: int
    recording: int
    """Grows when a recording was started over."""
    step: Decimal | None
    """By how much it is off the price before for its source's sake; None: it is no step."""
    steps: Decimal
    """The sum of all steps so far: a price less it can be compared with any other price less it."""


def seen(prices: Iterable[Price]) -> list[Seen]:
    """The prices of one symbol that count."""
    found: list[Seen] = []
    for price in prices:
        if price.quality not in COUNTING:
            continue
        time = min(price.source_time, price.receive_time)
        if not found:
            found.append(Seen(price, None, time, 0, None, Decimal()))
            continue
        last = found[-1]
        recording = last.recording
        if time < last.time - STARTED_OVER:
            recording += 1
        else:
            time = max(time, last.time)
        step = None
        elsewhere = price.source != last.price.source or price.rebased
        if elsewhere and price.receive_time - last.price.receive_time < STEP_WITHIN:
            step = price.close - last.price.close
        found.append(Seen(price, last.price, time, recording, step, last.steps + (step or 0)))
    return found


class Window(NamedTuple):
    """The lowest and highest in the window of a price, each less all steps so far; None: there is no other price."""

    lowest: Decimal
    highest: Decimal
    lowest_before: Decimal | None
    highest_before: Decimal | None
    whole: bool
    """The record reaches back to its beginning."""


def windows(prices: Sequence[Seen], length: int) -> list[Window]:
    """The window of each price."""
    return [_window(prices, place, length) for place in range(len(prices))]


def _window(prices: Sequence[Seen], place: int, length: int) -> Window:
    now = prices[place]
    recording = [p for p in prices[:place] if p.recording == now.recording]
    before = [p.price.close - p.steps for p in recording if p.time > now.time - length]
    own = now.price.close - now.steps
    return Window(
        lowest=min([*before, own]),
        highest=max([*before, own]),
        lowest_before=min(before, default=None),
        highest_before=max(before, default=None),
        whole=any(p.time <= now.time - length for p in recording),
    )


# --- conditions with a window: their measure, and when they hold and come back ---


def moves_up(price: Seen, window: Window) -> Decimal:
    """The price less the window's lowest."""
    return price.price.close - (window.lowest + price.steps)


def moves_down(price: Seen, window: Window) -> Decimal:
    """The window's highest less the price."""
    return (window.highest + price.steps) - price.price.close


def moves(condition: Condition, price: Seen, window: Window) -> Measure:
    """The move in the direction that is looked at."""
    up, down = moves_up(price, window), moves_down(price, window)
    return {"up": up, "down": down, "either": max(up, down)}[condition.direction]


def moves_percent(condition: Condition, price: Seen, window: Window) -> Measure:
    """The same in percent of the window's lowest or highest."""
    lowest = window.lowest + price.steps
    highest = window.highest + price.steps
    up = Fraction(100 * moves_up(price, window)) / Fraction(lowest) if lowest > 0 else NEVER
    down = Fraction(100 * moves_down(price, window)) / Fraction(highest)
    return {"up": up, "down": down, "either": max(up, down)}[condition.direction]


def new_high(condition: Condition, price: Seen, window: Window) -> Measure:
    """The price less the highest before it."""
    if window.highest_before is None or not window.whole:
        return NEVER
    return price.price.close - (window.highest_before + price.steps)


def new_low(condition: Condition, price: Seen, window: Window) -> Measure:
    """The lowest before the price less the price."""
    if window.lowest_before is None or not window.whole:
        return NEVER
    return (window.lowest_before + price.steps) - price.price.close


MEASURES: dict[str, Callable[[Condition, Seen, Window], Measure]] = {
    "moves": moves,
    "moves_percent": moves_percent,
    "new_high": new_high,
    "new_low": new_low,
}


def window_holds(condition: Condition, measure: Measure) -> bool:
    """Whether a condition with a window holds."""
    if condition.kind in ("moves", "moves_percent"):
        return measure >= condition.amount
    return measure > 0


def window_is_back(condition: Condition, measure: Measure, hysteresis: Decimal) -> bool:
    """Whether its measure has come back."""
    if condition.kind in ("moves", "moves_percent"):
        return measure < condition.amount - hysteresis
    return measure <= -hysteresis


# --- conditions on the price: one level, or the two ends of a range ---


def ends(condition: Condition) -> dict[str, Decimal]:
    """Upwards of which level a condition holds, and downwards of which."""
    match condition.kind:
        case "above" | "crosses_up":
            return {"up": condition.level}
        case "below" | "crosses_down":
            return {"down": condition.level}
        case _:
            return {"down": condition.low, "up": condition.high}


def is_beyond(end: str, level: Decimal, price: Decimal) -> bool:
    """Whether the condition holds at this end."""
    return price > level if end == "up" else price < level


def end_beyond(condition: Condition, price: Decimal) -> str | None:
    """The end at which the condition holds."""
    beyond = [end for end, level in ends(condition).items() if is_beyond(end, level, price)]
    return beyond[0] if beyond else None


def is_back(end: str, level: Decimal, price: Decimal, hysteresis: Decimal) -> bool:
    """Whether the price has come back at this end."""
    return price <= level - hysteresis if end == "up" else price >= level + hysteresis


# --- a rule ---


class Wait(NamedTuple):
    """A step made it hold or come back at one end: it is judged by the price less the steps since then."""

    steps: Decimal
    """The sum of all steps before it."""
    source: str | None
    """Whose price settles it; None when the step was one of the same source."""


class State:
    """A rule and where it stands."""

    def __init__(self, rule: Rule, newest: Decimal | None) -> None:
        """`newest`: the symbol's newest price that counts when the rule was made."""
        self.rule = rule
        kind = rule.condition.kind
        self.on_price = kind in ("above", "below", "crosses_up", "crosses_down", "leaves_range")
        self.armed = kind in ("above", "below")
        self.left: str | None = None
        """The end by which a disarmed rule on the price has to come back; None: no price was seen yet."""
        if kind in ("crosses_up", "crosses_down", "leaves_range") and newest is not None:
            self.left = end_beyond(rule.condition, newest)
            self.armed = self.left is None
        self.new = not self.armed
        """It was never armed: the first time goes without the hysteresis."""
        self.waits: dict[str, Wait] = {}
        self.done = self.expired = False
        self.fired: tuple[int, int] | None = None
        """Arrival and time of what fired it last."""
        self.snoozed_until = rule.snoozed_until


def has_passed(state: State, end: str, level: Decimal, price: Decimal) -> bool:
    """Whether a price is where an armed rule fires, or a disarmed one is armed, as far as this end goes."""
    if state.armed:
        return is_beyond(end, level, price)
    return is_back(end, level, price, Decimal() if state.new else state.rule.hysteresis)


def judge_end(state: State, end: str, level: Decimal, now: Seen) -> bool:
    """The same with steps between sources taken into account."""
    close = now.price.close
    passed = has_passed(state, end, level, close)
    wait = state.waits.get(end)
    if wait is not None:
        if not passed:
            del state.waits[end]  # back on its old side: nothing has happened
            return False
        if now.price.source == wait.source or has_passed(state, end, level, close - (now.steps - wait.steps)):
            del state.waits[end]
            return True
        return False
    before, step = now.before, now.step
    if passed and before is not None and step is not None and not has_passed(state, end, level, before.close):
        same = before.source == now.price.source
        state.waits[end] = Wait(now.steps - step, None if same else before.source)
        return False
    return passed


def judge_on_price(state: State, now: Seen) -> bool:
    """Whether an armed rule on the price would fire; a disarmed one is armed where it is to be."""
    levels = ends(state.rule.condition)
    if state.armed:
        for end, level in levels.items():
            if judge_end(state, end, level, now):
                state.left = end
                state.waits.clear()
                return True
        return False
    if state.left is None or judge_end(state, state.left, levels[state.left], now):
        state.left = end_beyond(state.rule.condition, now.price.close)  # it may have gone through the range
        state.waits.clear()
        if state.left is None:
            state.armed, state.new = True, False
    return False


def judge_window(state: State, measure: Measure) -> bool:
    """The same of one with a window."""
    condition = state.rule.condition
    if state.armed:
        return window_holds(condition, measure)
    if state.new:
        back = not window_holds(condition, measure)
    else:
        back = window_is_back(condition, measure, state.rule.hysteresis)
    if back:
        state.armed, state.new = True, False
    return False


def is_held(state: State, arrival: int, time: int, day: Callable[[int], tuple[int, int]]) -> bool:
    """Whether a rule that would fire does not for now."""
    if state.snoozed_until is not None and arrival < state.snoozed_until:
        return True
    if state.fired is None:
        return False
    fired_arrival, fired_time = state.fired
    if state.rule.cooldown and arrival - fired_arrival < state.rule.cooldown:
        return True
    return state.rule.repeat == "once_per_session" and time < day(fired_time)[1]


def is_late(before: int | None, now: int | None, runs: Sequence[Run]) -> bool:
    """Whether an earlier run of aurexd stored the price before."""
    return before is not None and now is not None and any(before <= run.price_id < now for run in runs)


# --- the fold ---


class Fold:
    """All rules over all of the record."""

    def __init__(self, day: Callable[[str, int], tuple[int, int]]) -> None:
        self.alerts: list[Alert] = []
        self.fired: dict[str, list[int]] = {}
        """Of each owner's alerts the arrival."""
        self._day = day

    def is_over(self, state: State, arrival: int) -> bool:
        """Whether the rule is expired or done, as of now."""
        if state.done or state.expired:
            return True
        state.expired = state.rule.expires is not None and arrival >= state.rule.expires
        return state.expired

    def held(self, state: State, arrival: int, time: int) -> bool:
        """Whether it does not fire for now."""
        return is_held(state, arrival, time, lambda t: self._day(state.rule.symbol, t))

    def price(self, state: State, now: Seen, measure: Measure | None, runs: Sequence[Run]) -> None:
        """Judge one rule at one price."""
        arrival = now.price.receive_time
        if self.is_over(state, arrival):
            return
        if not (judge_on_price(state, now) if measure is None else judge_window(state, measure)):
            return
        if self.held(state, arrival, now.time):
            if state.rule.condition.kind not in ("above", "below"):
                state.armed = False
            return
        state.armed = False
        before = now.before
        before_id = before.id if before else None
        late = is_late(before_id, now.price.id, runs) or now.price.stored - arrival > STORED_LATE
        paused = self._fire(state, arrival, now.time)
        self.alerts.append(Alert(state.rule.rule_id, now.price.id, before_id, None, late, paused))

    def status(self, state: State, now: Status, known: Sequence[Status], runs: Sequence[Run]) -> None:
        """Judge one rule at one status; `known`: those of the symbol before it."""
        if self.is_over(state, now.time) or state.rule.condition.kind not in THIRD_KIND:
            return
        before = status_before(state.rule.condition.kind, now, known)
        if before is None or self.held(state, now.time, now.time):
            return
        late = any(before.id <= run.status_id < now.id for run in runs) or now.stored - now.time > STORED_LATE
        paused = self._fire(state, now.time, now.time)
        self.alerts.append(Alert(state.rule.rule_id, None, None, now.id, late, paused))

    def _fire(self, state: State, arrival: int, time: int) -> int | None:
        rule = state.rule
        state.fired = (arrival, time)
        state.done = rule.repeat == "once"
        fired = self.fired.setdefault(rule.owner, [])
        newest = fired[-STORM_BUDGET:]
        over = len(newest) == STORM_BUDGET and all(arrival - earlier < STORM_WINDOW for earlier in newest)
        fired.append(arrival)
        if not over or state.done:
            return None
        state.snoozed_until = max(arrival + STORM_PAUSE, state.snoozed_until or 0)
        return state.snoozed_until


THIRD_KIND = ("becomes_stale", "market_opens", "market_closes")


def status_before(kind: str, now: Status, known: Sequence[Status]) -> Status | None:
    """The status against which this one is a change of that kind; None: it is no such change."""
    if kind == "becomes_stale":
        named = [status for status in known if status.source is not None]
        if now.source is None or now.quality != "stale" or not named or named[-1].quality == "stale":
            return None
        return named[-1]
    was, becomes = ("closed", "open") if kind == "market_opens" else ("open", "closed")
    if not known or known[-1].market != was or now.market != becomes:
        return None
    return known[-1]


def evaluate(
    prices: Sequence[Price],
    statuses: Sequence[Status],
    runs: Sequence[Run],
    rules: Sequence[Rule],
    day: Callable[[str, int], tuple[int, int]],
    windows_of: Callable[[Sequence[Seen], int], list[Window]] = windows,
) -> list[Alert]:
    """What fires, in order.

    `rules` in the order in which they were made; `day`: from when to when what counts to one session lasts, by symbol
    and a time in it; `windows_of` may be a quicker `windows`.
    """
    by_symbol: dict[str, list[Price]] = {}
    for price in prices:
        by_symbol.setdefault(price.symbol, []).append(price)
    seen_of = {symbol: seen(own) for symbol, own in by_symbol.items()}
    window_lengths = {(r.symbol, r.condition.window) for r in rules if r.condition.kind in MEASURES}
    window_of = {
        (symbol, length): windows_of(seen_of.get(symbol, []), length) for symbol, length in window_lengths
    }
    places = {now.price.id: place for own in seen_of.values() for place, now in enumerate(own)}

    fold = Fold(day)
    states = [State(rule, _newest(seen_of.get(rule.symbol, []), rule.price_id)) for rule in rules]
    known: dict[str, list[Status]] = {}
    for event in in_order(prices, statuses):
        if isinstance(event, Status):
            earlier = known.setdefault(event.symbol, [])
            for state in states:
                rule = state.rule
                if rule.symbol == event.symbol and is_within(event.id, rule.status_id, rule.until_status_id):
                    fold.status(state, event, earlier, runs)
            earlier.append(event)
        elif event.id in places:
            place = places[event.id]
            now = seen_of[event.symbol][place]
            measures: dict[tuple[str, str, int], Measure] = {}
            """The same for all rules of a kind, a direction and a window."""
            for state in states:
                rule, condition = state.rule, state.rule.condition
                if state.done or rule.symbol != event.symbol:
                    continue
                if not is_within(event.id, rule.price_id, rule.until_price_id):
                    continue
                if state.on_price:
                    fold.price(state, now, None, runs)
                elif condition.kind in MEASURES:
                    same = (condition.kind, condition.direction, condition.window)
                    if same not in measures:
                        window = window_of[rule.symbol, condition.window][place]
                        measures[same] = MEASURES[condition.kind](condition, now, window)
                    fold.price(state, now, measures[same], runs)
                else:
                    fold.is_over(state, event.receive_time)  # it may expire
    return fold.alerts


def is_within(number: int, after: int, until: int | None) -> bool:
    """Whether a rule is judged on this row."""
    return number > after and (until is None or number <= until)


def in_order(prices: Sequence[Price], statuses: Sequence[Status]) -> list[Price | Status]:
    """Prices by id; each status after the price that it names."""

    def place(event: Price | Status) -> tuple[int, int, int]:
        return (event.id, 0, 0) if isinstance(event, Price) else (event.price_id, 1, event.id)

    return sorted([*prices, *statuses], key=place)


def _newest(prices: Sequence[Seen], price_id: int) -> Decimal | None:
    newest = None
    for now in prices:
        if now.price.id <= price_id:
            newest = now.price.close
    return newest


# --- candles ---

LATE = 10 * SECOND
FINAL_AFTER = 5 * SECOND
INTERVALS = {
    "1s": SECOND,
    "1m": 60 * SECOND,
    "5m": 300 * SECOND,
    "15m": 900 * SECOND,
    "1h": 3600 * SECOND,
    "4h": 14_400 * SECOND,
}
"""And `1d`, which is the market's."""


class Candle(NamedTuple):
    """One interval's prices."""

    start: int
    end: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    ticks: int
    revision: int


def candles(
    prices: Iterable[Price], interval: str, day: Callable[[int], tuple[int, int]]
) -> tuple[list[Candle], int]:
    """The candles of one symbol, oldest first, and until when they are final."""
    taken: dict[tuple[int, int], list[tuple[int, Decimal]]] = {}
    revisions: dict[tuple[int, int], int] = {}
    newest: tuple[int, int] | None = None
    """Time of the newest price, and when it was first heard of."""
    final_until = 0
    for price in prices:
        time = min(price.source_time, price.receive_time)
        if newest is not None:
            if time < newest[0] - LATE:
                continue
            passed = price.receive_time - newest[1]
            final_until = max(final_until, newest[0], newest[0] + passed - FINAL_AFTER)
        start, end = span(interval, time, day)
        taken.setdefault((start, end), []).append((time, price.close))
        if end <= final_until:
            revisions[start, end] = revisions.get((start, end), 0) + 1
        if newest is None or time > newest[0]:
            newest = (time, price.receive_time)
            final_until = max(final_until, time)
    return [
        _candle(start, end, own, revisions.get((start, end), 0))
        for (start, end), own in sorted(taken.items())
    ], final_until


def span(interval: str, time: int, day: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
    """The interval that a time lies in."""
    if interval == "1d":
        return day(time)
    length = INTERVALS[interval]
    start = time - time % length
    return start, start + length


def _candle(start: int, end: int, own: Sequence[tuple[int, Decimal]], revision: int) -> Candle:
    by_time = sorted(own, key=lambda each: each[0])  # stable: of equal times the first that came is the first
    closes = [close for _, close in own]
    return Candle(start, end, by_time[0][1], max(closes), min(closes), by_time[-1][1], len(own), revision)
