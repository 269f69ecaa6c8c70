from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from aurexd.alert_rules import DAY_S, Phase, change, describe, draft
from aurexd.errors import AlertError
from aurexd.market import EpochUs
from aurexd.protocol.alerts import (
    Above,
    AlertCreateData,
    AlertUpdateData,
    AnyCondition,
    Direction,
    LeavesRange,
    Moves,
    MovesPercent,
    NewHigh,
    Repeat,
    RuleState,
)
from aurexd.protocol.codes import ErrorCode
from tests.test_alerts import MIDNIGHT, at, rule

ABOVE = Above(level=Decimal(2000))


def asked(condition: AnyCondition = ABOVE, **fields: Any) -> AlertCreateData:
    return AlertCreateData(symbol="TESTGOLD", condition=condition, **fields)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (asked(Above(level=Decimal(0))), "level: expected more than 0 and at most 1000000000, got 0"),
        (asked(Above(level=Decimal("NaN"))), "level: expected more than 0 and at most 1000000000, got NaN"),
        (asked(Above(level=Decimal("0.000000001"))), "level: at most 8 decimals, got 1E-9"),
        (asked(LeavesRange(low=Decimal(3), high=Decimal(2))), "low: it is 3, which is not below high, 2"),
        (
            asked(Moves(amount=Decimal(-1), window_s=60)),
            "amount: expected more than 0 and at most 1000000000, got -1",
        ),
        (
            asked(MovesPercent(percent=Decimal(2000), window_s=60)),
            "percent: expected more than 0 and at most 1000, got 2000",
        ),
        (
            asked(MovesPercent(percent=Decimal("0.00001"), window_s=60)),
            "percent: at most 4 decimals, got 0.00001",
        ),
        (
            asked(NewHigh(window_s=90)),
            "window_s: up to 3600 it is a whole number of minutes: write 60 or 120",
        ),
        (asked(NewHigh(window_s=0.5)), "window_s: up to 60 it is a whole number of seconds: write 1"),
        (
            asked(NewHigh(window_s=5000)),
            "window_s: up to 86400 it is a whole number of hours: write 3600 or 7200",
        ),
        (
            asked(NewHigh(window_s=30 * DAY_S)),
            "window_s: prices are kept for 30 days (storage.retention_days), and it must be a day shorter",
        ),
        (asked(hysteresis=Decimal(-1)), "hysteresis: expected 0 or more with at most 8 decimals, got -1"),
        (
            asked(LeavesRange(low=Decimal(1), high=Decimal(2)), hysteresis=Decimal(2)),
            "hysteresis: it is 2, more than the range is wide: 1",
        ),
        (
            asked(Moves(amount=Decimal(2), window_s=60), hysteresis=Decimal(2)),
            "hysteresis: it is 2, and must be less than the move: 2",
        ),
        (asked(cooldown_s=1e12), "cooldown_s: at most 31622400, got 1000000000000.0"),
        (asked(expires="2025-10-26T00:00:00Z"), "expires: it is past"),
        (asked(expires="tomorrow"), "expires: expected a time with its zone, as 2025-10-27T12:00:00Z"),
        (
            asked(snoozed_until="2025-10-27"),
            "snoozed_until: expected a time with its zone, as 2025-10-27T12:00:00Z",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_what_to_write(wrong: AlertCreateData, says: str) -> None:
    with pytest.raises(AlertError) as refusal:
        draft(wrong, 30 * DAY_S, MIDNIGHT)
    assert refusal.value.code == ErrorCode.INVALID_MESSAGE
    assert str(refusal.value) == says


@pytest.mark.parametrize("window_s", [1, 59, 60, 120, 3600, 7200, DAY_S, 29 * DAY_S])
def test_windows_of_whole_units_are_taken(window_s: float) -> None:
    made = draft(asked(NewHigh(window_s=window_s)), 30 * DAY_S, MIDNIGHT)
    assert made.condition == NewHigh(window_s=window_s)


def test_where_prices_are_kept_for_ever_a_window_may_have_its_whole_length() -> None:
    draft(asked(NewHigh(window_s=31 * DAY_S)), None, MIDNIGHT)


def test_a_change_of_what_it_is_about_begins_it_anew_and_another_does_not() -> None:
    old = rule(1, ABOVE)
    _, anew = change(old, AlertUpdateData(rule_id="r-1", note="sell", cooldown_s=5), None)
    assert not anew
    made, anew = change(old, AlertUpdateData(rule_id="r-1", hysteresis=Decimal(1)), None)
    assert anew
    assert made.hysteresis == 1
    assert made.condition == ABOVE


def test_a_rule_that_has_expired_begins_anew_when_it_may_live_on() -> None:
    old = rule(1, ABOVE, expires=at(1))
    old.standing.phase = Phase.EXPIRED
    _, anew = change(old, AlertUpdateData(rule_id="r-1", note="sell"), None)
    assert not anew
    _, anew = change(old, AlertUpdateData(rule_id="r-1", expires=None), None)
    assert anew


def test_what_a_rule_is_doing_is_told_as_of_now() -> None:
    made = rule(1, ABOVE, expires=at(100), snoozed_until=at(10), cooldown_us=20_000_000)
    made.standing.last_fired = at(5)
    assert [made.state(EpochUs(at(seconds))) for seconds in (9, 10, 25, 100)] == [
        RuleState.SNOOZED,
        RuleState.RESTING,
        RuleState.ARMED,
        RuleState.EXPIRED,
    ]
    made.standing.phase = Phase.DISARMED
    assert made.state(at(25)) is RuleState.DISARMED
    made.standing.phase = Phase.DONE
    assert made.state(at(100)) is RuleState.DONE


def test_a_rule_survives_being_written_down() -> None:
    made = rule(
        1, Moves(amount=Decimal("1.50"), window_s=60, direction=Direction.UP), hysteresis=Decimal("0.5")
    )
    assert msgspec.json.decode(msgspec.json.encode(made), type=type(made)) == made


def test_a_rule_is_told_in_words() -> None:
    made = rule(
        1,
        Moves(amount=Decimal("1.50"), window_s=60, direction=Direction.UP),
        hysteresis=Decimal("0.5"),
        cooldown_us=5_000_000,
        repeat=Repeat.ONCE_PER_SESSION,
    )
    assert describe(made) == (
        "TESTGOLD: the price moves up by 1.50 within 60 s, armed again when it comes back by 0.5; once per session, "
        "5 s apart"
    )
