"""When alert rules fire: the fold of all rules over the recorded prices and statuses, one after the other. Pure.

The rules of firing stand in docs/alerts.md, and nowhere else. An `Evaluator` holds the rules and what they need of the
past; it is told each price once, in the order of the record, and says which rules fired and which have changed. What it
knows can all be read from the record again (`aurexd/alert_store.py`), so whoever doubts it throws it away.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from aurexd.alert_rules import Phase, Rule, Wait
from aurexd.alert_watch import CALM, COUNTS, Calm, Past, SeenPrice, SeenStatus, Step, Watch, is_held
from aurexd.calendar import Calendar
from aurexd.market import SECOND_US, EpochUs, Quality, format_time
from aurexd.protocol.alerts import (
    AlertData,
    BecomesStale,
    MarketCloses,
    MarketOpens,
    Repeat,
)
from aurexd.protocol.data import MarketState

STORM_ALERTS = 15
STORM_US = 180 * SECOND_US
"""So many alerts of one owner in that time are a storm, as with TradingView."""

PAUSE_US = 900 * SECOND_US

LATE_US = 60 * SECOND_US
"""A price that was stored so much later than it arrived is told as late."""


class Firing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rule fired."""

    rule: Rule
    """As it was, with the standing that it had before."""
    count: int
    """The how-manieth time it was."""
    price: SeenPrice | None
    previous: SeenPrice | None
    """The price before."""
    status: SeenStatus | None
    """What fired it where no price did."""
    late: bool
    paused_until: EpochUs | None
    """The owner's budget is spent: it is snoozed until then."""

    @property
    def arrival(self) -> EpochUs:
        """When what fired it arrived."""
        if self.price is not None:
            return self.price.receive_time
        assert self.status is not None
        return self.status.time


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What became of the rules since the last time."""

    fired: tuple[Firing, ...]
    rules: tuple[Rule, ...]
    """Those that are not as they were."""
    steps: dict[str, Decimal]
    """Symbol → the sum of its steps, where that is another than before."""


class Evaluator:
    """All rules, and the prices that they need."""

    def __init__(self, calendars: Mapping[str, Calendar]) -> None:
        """`calendars`: what each symbol's market calls a session; a symbol without one has no rules that fire."""
        self.rules: dict[int, Rule] = {}
        """By number."""
        self.phases: dict[Phase, int] = dict.fromkeys(Phase, 0)
        """How many rules are in each, as of the last `take_changes`."""
        self._counted: dict[int, Phase] = {}
        """Number → the phase that a rule is counted in."""
        self._calendars = calendars
        self._symbols: dict[str, Watch] = {}
        self._storms: dict[str, deque[EpochUs]] = {}
        """Owner → the arrivals of its newest alerts."""
        self._fired: list[Firing] = []
        self._changed: dict[int, Rule] = {}
        self._stepped: set[str] = set()

    # --- what is read from the record ---

    def recall_prices(self, name: str, past: Past, steps: Decimal) -> None:
        """What is known of a symbol's prices, and the sum of all its steps."""
        symbol = self._symbol(name)
        symbol.last, symbol.time, symbol.windows = past.last, past.time, past.windows
        symbol.steps = steps
        symbol.this_run = past.this_run

    def recall_statuses(
        self, name: str, quality: tuple[Quality, bool] | None, market: tuple[MarketState, bool] | None
    ) -> None:
        """A symbol's newest quality that had a source, and its market; each with whether it is of this run."""
        symbol = self._symbol(name)
        symbol.quality, symbol.market = quality, market

    def recall_alert(self, owner: str, arrival: EpochUs) -> None:
        """One of an owner's newest alerts, oldest first."""
        self._storm(owner).append(arrival)

    def recalled(self) -> None:
        """That was all: put in order now what the first price would have to wait for."""
        for symbol in self._symbols.values():
            symbol.sort()

    def longest_window(self, symbol: str) -> int:
        """In microseconds, of those in use; 0: none."""
        known = self._symbols.get(symbol)
        return max(known.gauges, default=0) if known else 0

    def known_window(self, symbol: str) -> int:
        """How far back prices are known, in microseconds."""
        known = self._symbols.get(symbol)
        return known.windows.length_us if known else 0

    # --- rules ---

    def recall_rule(self, rule: Rule) -> None:
        """A rule, as it was stored."""
        self.rules[rule.number] = rule
        self._count(rule)
        symbol = self._symbol(rule.symbol)
        if rule.is_watched:
            symbol.place(rule)
            if rule.expires is not None:
                heapq.heappush(symbol.expiring, (rule.expires, rule.number))

    def begin(self, rule: Rule) -> None:
        """A rule that is new, or begins anew: decide whether it is armed."""
        symbol = self._symbol(rule.symbol)
        rule.standing = symbol.first_standing(rule)
        self.recall_rule(rule)

    def withdraw(self, number: int) -> Rule:
        """Take a rule out, to change it or for good."""
        rule = self.rules.pop(number)
        self.phases[self._counted.pop(number)] -= 1
        if rule.is_watched:
            self._symbol(rule.symbol).displace(rule)
        return rule

    # --- prices and statuses ---

    def see_price(self, price: SeenPrice, now: EpochUs) -> None:
        """The symbol's next price; it is stored at `now`."""
        if price.quality not in COUNTS:
            return
        symbol = self._symbol(price.symbol)
        before = symbol.last
        step = symbol.take(price)
        if step is not None:
            self._stepped.add(price.symbol)
        self._forget_expired(symbol, price.receive_time)
        symbol.wake(self.rules, price.receive_time)
        passed = self._judge(symbol, price, step)
        late = (before is not None and not symbol.this_run) or now - price.receive_time > LATE_US
        for number, end in sorted(passed):
            self._pass(symbol, self.rules[number], end, price, before, late=late)
        for rule in symbol.take_unjudged(self.rules):
            self.begin(rule)
            self._changed[rule.number] = rule
        symbol.this_run = True

    def see_status(self, status: SeenStatus, now: EpochUs) -> None:
        """The symbol's next status; it is stored at `now`."""
        symbol = self._symbol(status.symbol)
        self._forget_expired(symbol, status.time)
        overdue = now - status.time > LATE_US
        fired: list[tuple[int, bool]] = []
        if status.source is not None:
            if symbol.quality is not None:
                quality, this_run = symbol.quality
                if status.quality is Quality.STALE is not quality:
                    fired += [(number, not this_run) for number in symbol.changes[BecomesStale]]
            symbol.quality = (status.quality, True)
        if symbol.market is not None:
            market, this_run = symbol.market
            if market is not status.market:
                kind = MarketOpens if status.market is MarketState.OPEN else MarketCloses
                fired += [(number, not this_run) for number in symbol.changes[kind]]
        symbol.market = (status.market, True)
        for number, late in sorted(fired):
            rule = self.rules[number]
            if not is_held(rule, status.time, status.time):
                self._fire(symbol, rule, status.time, status.time, None, None, status, late=late or overdue)

    def take_changes(self) -> Changes:
        """What became of the rules since the last time."""
        for rule in self._changed.values():
            self._count(rule)
        changes = Changes(
            tuple(self._fired),
            tuple(self._changed.values()),
            {name: self._symbols[name].steps for name in self._stepped},
        )
        self._fired, self._changed, self._stepped = [], {}, set()
        return changes

    def calm(self, symbol: str) -> Calm:
        """Between which prices nothing fires; it may be more, but is hardly ever less."""
        known = self._symbols.get(symbol)
        return CALM if known is None else known.calm()

    # --- inside ---

    def _count(self, rule: Rule) -> None:
        """Here rather than where it is asked for: to look at 100,000 rules takes a tenth of a second."""
        before, phase = self._counted.get(rule.number), rule.standing.phase
        if before is not None:
            self.phases[before] -= 1
        self.phases[phase] += 1
        self._counted[rule.number] = phase

    def _judge(self, symbol: Watch, price: SeenPrice, step: Step | None) -> list[tuple[int, int]]:
        """Arm what comes back, have wait what waits; the rules whose condition holds, with the end that was passed."""
        passed: list[tuple[int, int]] = []
        back: list[tuple[int, int]] = []
        for end, gauge in enumerate((symbol.up, symbol.down)):
            measure = -price.close if end else price.close
            if gauge.waiting:
                steps = -symbol.steps if end else symbol.steps
                through, returned, released = gauge.settle(measure, steps, price.source)
                passed += [(number, end) for _, number in through]
                back += [(number, end) for _, number in returned]
                for _, number in released:
                    rule = self.rules[number]
                    if rule.standing.wait is not None and rule.standing.wait.end == end:
                        rule.standing.wait = None
                        self._changed[number] = rule
            if step is None:
                if gauge.is_quiet(measure):
                    continue
                through, returned = gauge.pass_to(measure)
            else:
                before, base = (-step.before, -step.base) if end else (step.before, step.base)
                through, returned, waiting = gauge.step_to(measure, before, base, step.origin)
                for _, number in waiting:
                    self.rules[number].standing.wait = Wait(end, base, step.origin)
                    self._changed[number] = self.rules[number]
            passed += [(number, end) for _, number in through]
            back += [(number, end) for _, number in returned]
        for gauge, measure in symbol.moved(price.close):
            through, returned = gauge.pass_to(measure)
            passed += [(number, 0) for _, number in through]
            back += [(number, 0) for _, number in returned]
        for number, end in back:
            rule = self.rules[number]
            symbol.arm(rule, end, price.close)
            self._changed[number] = rule
        return passed

    def _forget_expired(self, symbol: Watch, arrival: EpochUs) -> None:
        while symbol.expiring and symbol.expiring[0][0] <= arrival:
            _, number = heapq.heappop(symbol.expiring)
            rule = self.rules.get(number)
            if rule is None or rule.expires is None or rule.expires > arrival or not rule.is_watched:
                continue
            symbol.displace(rule)
            rule.standing.phase = Phase.EXPIRED
            rule.standing.wait = None
            self._changed[number] = rule

    def _pass(
        self, symbol: Watch, rule: Rule, end: int, price: SeenPrice, before: SeenPrice | None, *, late: bool
    ) -> None:
        """A rule's condition holds, and it is armed."""
        if not is_held(rule, price.receive_time, symbol.time):
            self._fire(symbol, rule, price.receive_time, symbol.time, price, before, None, late=late)
            if rule.standing.phase is not Phase.DONE:
                symbol.disarm(rule, end)
        elif rule.is_level:
            rule.standing.wait = None
            symbol.hold(rule, end)
        else:
            rule.standing.wait = None
            symbol.disarm(rule, end)
        self._changed[rule.number] = rule

    def _fire(
        self,
        symbol: Watch,
        rule: Rule,
        arrival: EpochUs,
        time: EpochUs,
        price: SeenPrice | None,
        before: SeenPrice | None,
        status: SeenStatus | None,
        *,
        late: bool,
    ) -> None:
        snapshot = msgspec.structs.replace(rule, standing=msgspec.structs.replace(rule.standing))
        storm = self._storm(rule.owner)
        over = sum(fired > arrival - STORM_US for fired in storm) >= STORM_ALERTS
        storm.append(arrival)
        paused_until = None
        if over and rule.repeat is not Repeat.ONCE:
            paused_until = EpochUs(max(arrival + PAUSE_US, rule.snoozed_until or 0))
            rule.snoozed_until = paused_until
        standing = rule.standing
        standing.fired += 1
        standing.last_fired = arrival
        standing.wait = None
        if rule.repeat is Repeat.ONCE:
            standing.phase = Phase.DONE
            symbol.displace(rule)
        elif rule.repeat is Repeat.ONCE_PER_SESSION:
            calendar = self._calendars[rule.symbol]
            standing.session_over = calendar.following(calendar.session(time)).start
        self._changed[rule.number] = rule
        self._fired.append(
            Firing(
                rule=snapshot,
                count=standing.fired,
                price=price,
                previous=before,
                status=status,
                late=late,
                paused_until=paused_until,
            )
        )

    def _symbol(self, name: str) -> Watch:
        known = self._symbols.get(name)
        if known is None:
            known = self._symbols[name] = Watch()
        return known

    def _storm(self, owner: str) -> deque[EpochUs]:
        known = self._storms.get(owner)
        if known is None:
            known = self._storms[owner] = deque(maxlen=STORM_ALERTS)
        return known


# --- in words ---


def as_told(firing: Firing) -> AlertData:
    """An alert as its owner is told of it. Its id is the rule's and how often that has fired: it comes out the same
    however often it is made."""
    rule, price, previous, status = firing.rule, firing.price, firing.previous, firing.status
    seen = price if price is not None else status
    assert seen is not None
    return AlertData(
        alert_id=f"{rule.rule_id}-{firing.count}",
        rule_id=rule.rule_id,
        symbol=rule.symbol,
        condition=rule.condition,
        close=None if price is None else price.close,
        previous_close=None if price is None or previous is None else previous.close,
        source=seen.source,
        instrument=seen.instrument,
        quality=seen.quality,
        timestamp=format_time(price.source_time if price is not None else firing.arrival),
        fired=format_time(firing.arrival),
        late=firing.late,
        paused_until=None if firing.paused_until is None else format_time(firing.paused_until),
        redelivered=False,
        note=rule.note,
    )


def explain(rule: Rule, previous: SeenPrice | None, price: SeenPrice | None, alert: AlertData) -> str:
    """Why it fired, in a sentence or some."""
    if price is None:
        words = (
            f"The status of {rule.symbol} changed at {alert.fired}: its quality became {alert.quality.value}."
        )
        if not isinstance(rule.condition, BecomesStale):
            words = f"The market of {rule.symbol} changed at {alert.fired}."
    elif previous is None:
        words = f"{price.source} said {price.close}; it is the first price there is."
    else:
        words = f"{price.source} said {price.close}, after {previous.close} from {previous.source}."
        if rule.standing.wait is not None:
            words += (
                " A change of sources had taken the price over the threshold before; by now it is over it by more than"
                " the sources may differ, or the first of them has confirmed it."
            )
    if alert.late:
        words += " It may have happened earlier: aurexd was not there in between, or could not store."
    if alert.paused_until is not None:
        words += f" There had been {STORM_ALERTS} alerts in three minutes, so the rule is snoozed until then."
    return words
