"""docs/alerts.md as a plain fold, one rule at a time, with no thought of speed: what the evaluator is held against."""

from __future__ import annotations

from decimal import Decimal
from itertools import takewhile
from typing import NamedTuple

from aurexd.alert_rules import Rule
from aurexd.alert_watch import COUNTS, SeenPrice, SeenStatus
from aurexd.calendar import Calendar
from aurexd.market import SECOND_US, EpochUs, Quality
from aurexd.protocol.alerts import (
    Above,
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
    Repeat,
)
from aurexd.protocol.data import MarketState


class Fired(NamedTuple):
    rule_id: str
    price: int | None
    previous: int | None
    status: int | None
    late: bool
    paused: bool


class Known(NamedTuple):
    """A price, as a window sees it."""

    time: int
    close: Decimal
    shift: Decimal
    """Steps after it."""


class End:
    """A threshold of a rule on the price; `sign` -1 for those that are passed downwards."""

    def __init__(self, sign: int, level: Decimal, hysteresis: Decimal) -> None:
        self.sign, self.level, self.hysteresis = sign, level * sign, hysteresis
        self.wait: Decimal | None = None
        self.origin: str | None = None

    def holds(self, price: Decimal) -> bool:
        return price * self.sign > self.level

    def is_back(self, price: Decimal, fresh: bool) -> bool:
        return price * self.sign <= self.level - (0 if fresh else self.hysteresis)

    def judge(self, price: SeenPrice, before: SeenPrice | None, step: bool, armed: bool, fresh: bool) -> bool:
        """Whether what it looks for (holding or being back) happens at this price."""

        def wanted(close: Decimal) -> bool:
            return self.holds(close) if armed else self.is_back(close, fresh)

        if self.wait is not None:
            if step:
                assert before
                self.wait += price.close - before.close
            shift = Decimal(0) if price.source == self.origin else self.wait
            if not wanted(price.close):
                self.wait = None
                return False
            if wanted(price.close - shift):
                self.wait = None
                return True
            if price.source == self.origin:
                self.wait = None
            return False
        if not wanted(price.close):
            return False
        if step and before and not wanted(before.close):
            self.wait = price.close - before.close
            self.origin = before.source if before.source != price.source else None
            return False
        return True


class One:
    """One rule's state."""

    def __init__(self, rule: Rule, last: SeenPrice | None) -> None:
        self.rule = rule
        self.done = self.expired = False
        self.snoozed = rule.snoozed_until
        self.last_fired: int | None = None
        self.session_over: int | None = None
        self.armed, self.fresh, self.out, self.unjudged = False, True, 0, False
        h = rule.hysteresis
        self.ends: list[End] = []
        match rule.condition:
            case Above(level=level):
                self.ends, self.armed = [End(1, level, h)], True
            case Below(level=level):
                self.ends, self.armed = [End(-1, level, h)], True
            case CrossesUp(level=level):
                self.ends, self.unjudged = [End(1, level, h)], True
            case CrossesDown(level=level):
                self.ends, self.unjudged = [End(-1, level, h)], True
            case LeavesRange(low=low, high=high):
                self.ends, self.unjudged = [End(1, high, h), End(-1, low, h)], True
            case BecomesStale() | MarketOpens() | MarketCloses():
                self.armed = True
        if self.unjudged and last is not None:
            self.begin(last)

    def begin(self, price: SeenPrice) -> None:
        self.unjudged = False
        beyond = [n for n, end in enumerate(self.ends) if end.holds(price.close)]
        self.armed, self.out = not beyond, beyond[0] if beyond else 0

    def held(self, arrival: int, time: int) -> bool:
        cool = self.last_fired is not None and arrival < self.last_fired + self.rule.cooldown_us
        snoozed = self.snoozed is not None and arrival < self.snoozed
        return cool or snoozed or (self.session_over is not None and time < self.session_over)

    def passes(
        self, price: SeenPrice, before: SeenPrice | None, step: bool, window: list[Known], reaches: bool
    ) -> bool:
        """Arm, or see to arming; whether the rule's condition holds while it is armed."""
        if self.unjudged:
            self.begin(price)
            return False
        if not self.ends:
            if not self.rule.window_us:
                return False
            return self.passes_window(price, window, reaches)
        if not self.armed:
            other = 1 - self.out
            if self.ends[self.out].judge(price, before, step, False, self.fresh):
                if len(self.ends) == 2 and self.ends[other].holds(price.close):
                    self.out = other
                else:
                    self.armed, self.fresh = True, False
            return False
        found = [n for n, end in enumerate(self.ends) if end.judge(price, before, step, True, False)]
        if not found:
            return False
        (self.out,) = found
        return True

    def disarm(self) -> None:
        self.armed = self.fresh = False
        for end in self.ends:
            end.wait = None

    def passes_window(self, price: SeenPrice, window: list[Known], reaches: bool) -> bool:
        others = [known.close + known.shift for known in window]
        measure: Decimal | None
        match self.rule.condition:
            case NewHigh() | NewLow() as condition:
                if not others or not reaches:
                    measure = None
                elif isinstance(condition, NewHigh):
                    measure = price.close - max(others)
                else:
                    measure = min(others) - price.close
                holds = measure is not None and measure > 0
                back = measure is None or measure <= -(0 if self.fresh else self.rule.hysteresis)
            case Moves(direction=direction) | MovesPercent(direction=direction) as condition:
                low, high = min([*others, price.close]), max([*others, price.close])
                up, down = price.close - low, high - price.close
                if isinstance(condition, MovesPercent):
                    up = up * 100 / low if low > 0 else Decimal(-1000)
                    down = down * 100 / high
                    least = condition.percent
                else:
                    least = condition.amount
                measure = {Direction.UP: up, Direction.DOWN: down, Direction.EITHER: max(up, down)}[direction]
                holds = measure >= least
                back = measure < least - (0 if self.fresh else self.rule.hysteresis)
            case _:
                raise AssertionError
        if self.armed:
            return holds
        if back:
            self.armed, self.fresh = True, False
        return False


class Naive:
    """All rules over all that was recorded."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.ones: dict[str, One] = {}
        self.fired: list[Fired] = []
        self.arrivals: dict[str, list[int]] = {}
        self.last: dict[str, SeenPrice] = {}
        self.time: dict[str, int] = {}
        self.known: dict[str, list[Known]] = {}
        self.since: dict[str, int] = {}
        self.statuses: dict[str, list[SeenStatus]] = {}
        self.run_prices = self.run_statuses = 0

    def start(self, price_id: int, status_id: int) -> None:
        self.run_prices, self.run_statuses = price_id, status_id

    def begin(self, rule: Rule) -> None:
        self.ones[rule.rule_id] = One(rule, self.last.get(rule.symbol))

    def price(self, price: SeenPrice, now: int) -> None:
        if price.quality not in COUNTS:
            return
        name = price.symbol
        before = self.last.get(name)
        time: int = min(price.source_time, price.receive_time)
        step = (
            before is not None
            and (price.source != before.source or price.rebased)
            and price.receive_time - before.receive_time < 300 * SECOND_US
        )
        if before is None or time < self.time[name] - 3600 * SECOND_US:
            self.known[name], self.since[name] = [], time
        else:
            time = max(time, self.time[name])
        if step:
            assert before
            size = price.close - before.close
            self.known[name] = [k._replace(shift=k.shift + size) for k in self.known[name]]
        for one in self._of(name, price.receive_time):
            begin = time - one.rule.window_us
            window = [*takewhile(lambda known: known.time > begin, reversed(self.known[name]))]  # noqa: B023
            if one.passes(price, before, step, window, self.since[name] <= begin):
                if not one.held(price.receive_time, time):
                    late = before is not None and before.id <= self.run_prices
                    late = late or now - price.receive_time > 60 * SECOND_US
                    self._fire(one, price.receive_time, time, price, before, None, late)
                    one.disarm()
                elif not isinstance(one.rule.condition, Above | Below):
                    one.disarm()
        self.known[name].append(Known(time, price.close, Decimal(0)))
        self.last[name], self.time[name] = price, time

    def status(self, status: SeenStatus, now: int) -> None:
        past = self.statuses.setdefault(status.symbol, [])
        sourced = [s for s in past if s.source is not None]
        for one in self._of(status.symbol, status.time):
            before: SeenStatus | None = None
            match one.rule.condition:
                case BecomesStale() if (
                    status.source is not None and status.quality is Quality.STALE and sourced
                ):
                    before = sourced[-1] if sourced[-1].quality is not Quality.STALE else None
                case MarketOpens() if past and status.market is MarketState.OPEN:
                    before = past[-1] if past[-1].market is not MarketState.OPEN else None
                case MarketCloses() if past and status.market is MarketState.CLOSED:
                    before = past[-1] if past[-1].market is not MarketState.CLOSED else None
            if before is not None and not one.held(status.time, status.time):
                late = before.id <= self.run_statuses or now - status.time > 60 * SECOND_US
                self._fire(one, status.time, status.time, None, None, status, late)
        past.append(status)

    def _of(self, symbol: str, arrival: int) -> list[One]:
        found = [one for one in self.ones.values() if one.rule.symbol == symbol]
        for one in found:
            if one.rule.expires is not None and arrival >= one.rule.expires:
                one.expired = True
        return sorted(
            (one for one in found if not one.done and not one.expired), key=lambda one: one.rule.number
        )

    def _fire(
        self,
        one: One,
        arrival: int,
        time: int,
        price: SeenPrice | None,
        before: SeenPrice | None,
        status: SeenStatus | None,
        late: bool,
    ) -> None:
        arrivals = self.arrivals.setdefault(one.rule.owner, [])
        newest = arrivals[-15:]
        over = len(newest) == 15 and all(fired > arrival - 180 * SECOND_US for fired in newest)
        arrivals.append(arrival)
        paused = over and one.rule.repeat is not Repeat.ONCE
        if paused:
            one.snoozed = EpochUs(max(arrival + 900 * SECOND_US, one.snoozed or 0))
        one.last_fired = arrival
        if one.rule.repeat is Repeat.ONCE:
            one.done = True
        elif one.rule.repeat is Repeat.ONCE_PER_SESSION:
            session = self.calendar.session(time)  # type: ignore[arg-type]
            one.session_over = self.calendar.following(session).start
        self.fired.append(
            Fired(
                one.rule.rule_id,
                price.id if price else None,
                before.id if before else None,
                status.id if status else None,
                late,
                paused,
            )
        )
