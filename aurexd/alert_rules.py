"""What a rule is, what of it changes as prices come, and which rules may be made. Pure.

When one fires is decided in `alerts.py`; what it all means to people stands in docs/alerts.md.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec import UNSET

from aurexd.errors import AlertError
from aurexd.market import SECOND_US, EpochUs, format_time, parse_time
from aurexd.protocol import alerts as wire
from aurexd.protocol.alerts import (
    Above,
    AnyCondition,
    Below,
    CrossesDown,
    CrossesUp,
    Direction,
    LeavesRange,
    Moves,
    MovesPercent,
    NewHigh,
    NewLow,
    Repeat,
)
from aurexd.protocol.codes import ErrorCode

DAY_S = 86_400

WINDOW_GRID = ((60, 1, "seconds"), (3600, 60, "minutes"), (DAY_S, 3600, "hours"), (31 * DAY_S, DAY_S, "days"))
"""Up to so many seconds a window is a whole number of these: 172 lengths in all, so that rules share them."""

LEVEL_MAX = Decimal(10) ** 9
DECIMALS_MAX = 8
"""Of a level; the most that a price may have."""

PERCENT_MAX = 1000
PERCENT_DECIMALS = 4

COOLDOWN_MAX_S = 366 * DAY_S


class Phase(StrEnum):
    """Whether a rule may fire."""

    ARMED = "armed"
    DISARMED = "disarmed"
    DONE = "done"
    EXPIRED = "expired"


class Wait(msgspec.Struct, frozen=True, gc=False):
    """A step between sources took the price over the rule's threshold."""

    end: int
    """Of a range: 0 the upper, 1 the lower; else 0."""
    base: Decimal
    """The sum of the symbol's steps before it."""
    origin: str | None
    """Whose price was the one before; None: the step's source has the same name."""


class Standing(msgspec.Struct, kw_only=True, gc=False):
    """What of a rule changes as prices come."""

    phase: Phase
    fresh: bool = True
    """Disarmed since it was made: it comes back without the hysteresis."""
    out: int = 0
    """By which end a disarmed range was left; see `Wait.end`."""
    unjudged: bool = False
    """No price has come since it was made, and there was none before."""
    wait: Wait | None = None
    fired: int = 0
    """How often."""
    last_fired: EpochUs | None = None
    """The arrival of the price that fired it last."""
    session_over: EpochUs | None = None
    """Once per session: when the next one begins."""


class Rule(msgspec.Struct, kw_only=True, gc=False):
    """One rule. Its fields change when its owner changes it, its standing as prices come."""

    number: int
    """Rules that fire at the same price fire in this order."""
    rule_id: str
    owner: str
    symbol: str
    condition: AnyCondition
    repeat: Repeat
    hysteresis: Decimal
    """0: none."""
    cooldown_us: int
    expires: EpochUs | None
    snoozed_until: EpochUs | None
    note: str
    created: EpochUs
    standing: Standing

    @property
    def is_level(self) -> bool:
        """Whether it is about what the price is, rather than what it does."""
        return isinstance(self.condition, Above | Below)

    @property
    def is_watched(self) -> bool:
        """Whether it may fire again."""
        return self.standing.phase in (Phase.ARMED, Phase.DISARMED)

    def is_over(self, now: EpochUs) -> bool:
        """Whether it will never fire again as it is."""
        return self.state(now) in (wire.RuleState.DONE, wire.RuleState.EXPIRED)

    @property
    def window_us(self) -> int:
        """0: it has no window."""
        condition = self.condition
        if isinstance(condition, Moves | MovesPercent | NewHigh | NewLow):
            return int(condition.window_s) * SECOND_US
        return 0

    def held_until(self) -> EpochUs | None:
        """Before which arrival it does not fire; None: it may."""
        standing, until = self.standing, self.snoozed_until
        if self.cooldown_us and standing.last_fired is not None:
            cool = EpochUs(standing.last_fired + self.cooldown_us)
            until = cool if until is None else max(until, cool)
        return until

    def state(self, now: EpochUs) -> wire.RuleState:
        """As its owner sees it."""
        standing = self.standing
        if standing.phase is Phase.DONE:
            return wire.RuleState.DONE
        if standing.phase is Phase.EXPIRED or (self.expires is not None and now >= self.expires):
            return wire.RuleState.EXPIRED
        if self.snoozed_until is not None and now < self.snoozed_until:
            return wire.RuleState.SNOOZED
        held = self.held_until()
        over = standing.session_over
        if (held is not None and now < held) or (over is not None and now < over):
            return wire.RuleState.RESTING
        return wire.RuleState.ARMED if standing.phase is Phase.ARMED else wire.RuleState.DISARMED

    def as_told(self, now: EpochUs) -> wire.AlertRule:
        """As its owner is told of it."""
        return wire.AlertRule(
            rule_id=self.rule_id,
            owner=self.owner,
            state=self.state(now),
            symbol=self.symbol,
            condition=self.condition,
            repeat=self.repeat,
            hysteresis=self.hysteresis or None,
            cooldown_s=self.cooldown_us / SECOND_US,
            expires=_text(self.expires),
            snoozed_until=_text(self.snoozed_until),
            note=self.note,
            created=format_time(self.created),
            fired_count=self.standing.fired,
            last_fired=_text(self.standing.last_fired),
        )


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rule that may be made."""

    symbol: str
    condition: AnyCondition
    repeat: Repeat
    hysteresis: Decimal
    cooldown_us: int
    expires: EpochUs | None
    snoozed_until: EpochUs | None
    note: str


def draft(asked: wire.AlertCreateData, kept_s: float | None, now: EpochUs) -> Draft:
    """What a client asks for, if it makes sense. `kept_s`: how long prices are kept; None: for ever.

    Raises:
        AlertError: it does not; the message says why.

    """
    made = Draft(
        symbol=asked.symbol,
        condition=_checked(asked.condition, kept_s),
        repeat=asked.repeat,
        hysteresis=asked.hysteresis or Decimal(0),
        cooldown_us=_cooldown_us(asked.cooldown_s),
        expires=_time("expires", asked.expires),
        snoozed_until=_time("snoozed_until", asked.snoozed_until),
        note=asked.note,
    )
    if made.expires is not None and made.expires <= now:
        raise _wrong("expires", "it is past")
    _check_hysteresis(made.condition, made.hysteresis)
    return made


def change(rule: Rule, asked: wire.AlertUpdateData, kept_s: float | None) -> tuple[Draft, bool]:
    """The rule as it is to be, and whether it begins anew.

    Raises:
        AlertError: that makes no sense; the message says why.

    """
    hysteresis = asked.hysteresis
    expires, snoozed_until, cooldown_s = asked.expires, asked.snoozed_until, asked.cooldown_s
    made = Draft(
        symbol=rule.symbol,
        condition=rule.condition if asked.condition is UNSET else _checked(asked.condition, kept_s),
        repeat=rule.repeat if asked.repeat is UNSET else asked.repeat,
        hysteresis=rule.hysteresis if hysteresis is UNSET else hysteresis or Decimal(0),
        cooldown_us=rule.cooldown_us if cooldown_s is UNSET else _cooldown_us(cooldown_s),
        expires=rule.expires if expires is UNSET else _time("expires", expires),
        snoozed_until=rule.snoozed_until if snoozed_until is UNSET else _time("snoozed_until", snoozed_until),
        note=rule.note if asked.note is UNSET else asked.note,
    )
    _check_hysteresis(made.condition, made.hysteresis)
    anew = (made.condition, made.repeat, made.hysteresis) != (rule.condition, rule.repeat, rule.hysteresis)
    revived = rule.standing.phase is Phase.EXPIRED and made.expires != rule.expires
    return made, anew or revived


def _checked(condition: AnyCondition, kept_s: float | None) -> AnyCondition:
    match condition:
        case Above(level=level) | Below(level=level) | CrossesUp(level=level) | CrossesDown(level=level):
            _check_price("level", level)
        case LeavesRange(low=low, high=high):
            _check_price("low", low)
            _check_price("high", high)
            if low >= high:
                raise _wrong("low", f"it is {low}, which is not below high, {high}")
        case Moves(amount=amount):
            _check_price("amount", amount)
        case MovesPercent(percent=percent):
            if not (percent.is_finite() and 0 < percent <= PERCENT_MAX):
                raise _wrong("percent", f"expected more than 0 and at most {PERCENT_MAX}, got {percent}")
            if _decimals(percent) > PERCENT_DECIMALS:
                raise _wrong("percent", f"at most {PERCENT_DECIMALS} decimals, got {percent}")
    if isinstance(condition, Moves | MovesPercent | NewHigh | NewLow):
        _check_window(condition.window_s, kept_s)
    return condition


def _check_window(window_s: float, kept_s: float | None) -> None:
    longest, unit, words = next(grid for grid in WINDOW_GRID if window_s <= grid[0])
    if window_s % unit:
        lower = int(window_s // unit) * unit
        near = " or ".join(str(length) for length in (lower, lower + unit) if length)
        raise _wrong("window_s", f"up to {longest} it is a whole number of {words}: write {near}")
    if kept_s is not None and window_s > kept_s - DAY_S:
        raise _wrong(
            "window_s",
            f"prices are kept for {kept_s / DAY_S:g} days (storage.retention_days), and it must be a day shorter",
        )


def _check_hysteresis(condition: AnyCondition, hysteresis: Decimal) -> None:
    if not (hysteresis.is_finite() and 0 <= hysteresis <= LEVEL_MAX) or _decimals(hysteresis) > DECIMALS_MAX:
        raise _wrong(
            "hysteresis", f"expected 0 or more with at most {DECIMALS_MAX} decimals, got {hysteresis}"
        )
    match condition:
        case LeavesRange(low=low, high=high) if hysteresis > high - low:
            raise _wrong("hysteresis", f"it is {hysteresis}, more than the range is wide: {high - low}")
        case Moves(amount=most) | MovesPercent(percent=most) if hysteresis >= most:
            raise _wrong("hysteresis", f"it is {hysteresis}, and must be less than the move: {most}")


def _check_price(name: str, price: Decimal) -> None:
    if not (price.is_finite() and 0 < price <= LEVEL_MAX):
        raise _wrong(name, f"expected more than 0 and at most {LEVEL_MAX}, got {price}")
    if _decimals(price) > DECIMALS_MAX:
        raise _wrong(name, f"at most {DECIMALS_MAX} decimals, got {price}")


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def _cooldown_us(cooldown_s: float) -> int:
    if not cooldown_s <= COOLDOWN_MAX_S:
        raise _wrong("cooldown_s", f"at most {COOLDOWN_MAX_S}, got {cooldown_s}")
    return round(cooldown_s * SECOND_US)


def _time(name: str, text: str | None) -> EpochUs | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise _wrong(name, "expected a time with its zone, as 2025-10-27T12:00:00Z") from None


def _wrong(field: str, message: str) -> AlertError:
    return AlertError(ErrorCode.INVALID_MESSAGE, f"{field}: {message}")


def _text(time: EpochUs | None) -> str | None:
    return None if time is None else format_time(time)


# --- in words ---


def describe(rule: Rule) -> str:
    """When it fires, in one sentence."""
    words = f"{rule.symbol}: {_condition(rule.condition)}"
    if rule.hysteresis:
        words += f", armed again when it comes back by {rule.hysteresis}"
    match rule.repeat:
        case Repeat.ONCE:
            words += "; once"
        case Repeat.EVERY_TIME:
            words += "; every time"
        case Repeat.ONCE_PER_SESSION:
            words += "; once per session"
    if rule.cooldown_us:
        words += f", {rule.cooldown_us / SECOND_US:g} s apart"
    return words


def _condition(condition: AnyCondition) -> str:
    match condition:
        case Above(level=level):
            return f"the price is above {level}"
        case Below(level=level):
            return f"the price is below {level}"
        case CrossesUp(level=level):
            return f"the price crosses {level} upwards"
        case CrossesDown(level=level):
            return f"the price crosses {level} downwards"
        case Moves(amount=amount, window_s=window_s, direction=direction):
            return f"the price moves {_way(direction)}by {amount} within {window_s:g} s"
        case MovesPercent(percent=percent, window_s=window_s, direction=direction):
            return f"the price moves {_way(direction)}by {percent} % within {window_s:g} s"
        case LeavesRange(low=low, high=high):
            return f"the price leaves {low} to {high}"
        case NewHigh(window_s=window_s):
            return f"the price is higher than any in the last {window_s:g} s"
        case NewLow(window_s=window_s):
            return f"the price is lower than any in the last {window_s:g} s"
        case wire.BecomesStale():
            return "its price becomes stale"
        case wire.MarketOpens():
            return "its market opens"
        case wire.MarketCloses():
            return "its market closes"


def _way(direction: Direction) -> str:
    return "" if direction is Direction.EITHER else f"{direction.value} "
