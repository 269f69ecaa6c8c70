"""Reads a database of aurexd as docs/alerts.md ("The record") says, and holds it against the plain fold."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aurexd.market import parse_time
from tests.reference.evaluator import (
    INTERVALS,
    SECOND,
    Alert,
    Candle,
    Condition,
    Price,
    Rule,
    Run,
    Status,
    candles,
    evaluate,
)
from tests.reference.rooms import day
from tests.reference.walks import CENT, quick_windows

MILLISECOND = 1000


class RuleRow(NamedTuple):
    """A row of `alert_rules`: what is the same all the time, and from where on it is judged."""

    rule_id: str
    note: str
    price_id: int
    status_id: int
    condition: dict[str, Any]


class AlertRow(NamedTuple):
    """A row of `alerts`."""

    alert_id: str
    owner: str
    stored: int
    acknowledged: bool
    alert: Alert


class Record(NamedTuple):
    """What a database has."""

    prices: list[Price]
    statuses: list[Status]
    runs: list[Run]
    rules: list[RuleRow]
    alerts: list[AlertRow]
    candles: dict[tuple[str, str], list[Candle]]


class Version(NamedTuple):
    """A rule from where it was made, or begun anew, until it began anew."""

    row: RuleRow
    owner: str
    asked: Mapping[str, Any]
    """The `data` of `alert.create`, with what `alert.update` changed."""


def read_record(path: Path) -> Record:
    """All that the tables say. Whoever writes them must have ended, or be willing to wait."""
    with closing(sqlite3.connect(path)) as database:
        return Record(
            prices=[
                Price(number, symbol, exact(close), source, quality, source_time, receive_time, bool(rebased))
                for number, symbol, close, source, quality, source_time, receive_time, rebased in database.execute(
                    "SELECT id, symbol, close, source, quality, source_time, receive_time, rebased"
                    " FROM prices ORDER BY id"
                )
            ],
            statuses=[
                Status(*row)
                for row in database.execute(
                    "SELECT id, price_id, symbol, quality, source, market, time FROM statuses ORDER BY id"
                )
            ],
            runs=[Run(*row) for row in database.execute("SELECT price_id, status_id FROM runs ORDER BY id")],
            rules=[
                RuleRow(rule_id, note, price_id, status_id, json.loads(condition))
                for rule_id, note, price_id, status_id, condition in database.execute(
                    "SELECT rule_id, note, price_id, status_id, condition FROM alert_rules ORDER BY number"
                )
            ],
            alerts=[
                AlertRow(alert_id, owner, stored, acknowledged is not None, _alert(*rest))
                for alert_id, owner, stored, acknowledged, *rest in database.execute(
                    "SELECT alert_id, owner, stored, acknowledged, rule_id, price_id, previous_price_id,"
                    " status_id, alert FROM alerts ORDER BY id"
                )
            ],
            candles=_candles(database),
        )


def _alert(
    rule_id: str, price_id: int | None, previous_price_id: int | None, status_id: int | None, alert: str
) -> Alert:
    said = json.loads(alert)
    paused = said["paused_until"]
    return Alert(
        rule_id,
        price_id,
        previous_price_id,
        status_id,
        said["late"],
        None if paused is None else parse_time(paused),
    )


def _candles(database: sqlite3.Connection) -> dict[tuple[str, str], list[Candle]]:
    found: dict[tuple[str, str], list[Candle]] = {}
    for symbol, interval, start, end, open_, high, low, close, ticks, revision in database.execute(
        'SELECT symbol, interval, start, "end", open, high, low, close, ticks, revision FROM candles'
        " ORDER BY symbol, interval, start"
    ):
        candle = Candle(start, end, exact(open_), exact(high), exact(low), exact(close), ticks, revision)
        found.setdefault((symbol, interval), []).append(candle)
    return found


def exact(price: float) -> Decimal:
    """The price that was stored."""
    return Decimal(repr(price)).quantize(CENT)


# --- against the fold ---


def make_candles(prices: Sequence[Price]) -> dict[tuple[str, str], list[Candle]]:
    """The candles that there should be, by symbol and interval."""
    return {
        (symbol, interval): candles(
            [p for p in prices if p.symbol == symbol], interval, partial(day, symbol)
        )[0]
        for symbol in {price.symbol for price in prices}
        for interval in (*INTERVALS, "1d")
    }


def count_differences(
    made: Mapping[tuple[str, str], list[Candle]], stored: Mapping[tuple[str, str], list[Candle]]
) -> int:
    """How many candles are in the one and not in the other."""
    return sum(
        len(set(made.get(key, [])).symmetric_difference(stored.get(key, []))) for key in {*made, *stored}
    )


def candles_that_differ(record: Record) -> int:
    """Stored candles that are not those of the stored prices, or are not there."""
    return count_differences(make_candles(record.prices), record.candles)


def as_told(alerts: Sequence[Alert]) -> list[Alert]:
    """As they are kept: times to the millisecond."""
    return [
        alert._replace(paused_until=alert.paused_until - alert.paused_until % MILLISECOND)
        if alert.paused_until is not None
        else alert
        for alert in alerts
    ]


def judge_alerts(
    record: Record, versions: Mapping[str, Sequence[Version]]
) -> tuple[list[Alert], list[Alert], list[str]]:
    """What should have fired, what has, and in words what is not the same."""
    rules: list[Rule] = []
    for known in versions.values():
        rules += [rule_of(version, after) for version, after in zip(known, [*known[1:], None], strict=True)]
    stored = {row.alert.price_id: row.stored for row in record.alerts if row.alert.price_id is not None}
    prices = [price._replace(stored=stored.get(price.id, 0)) for price in record.prices]
    expected = as_told(evaluate(prices, record.statuses, record.runs, rules, day, windows_of=quick_windows))
    fired = [row.alert for row in record.alerts]
    should, are = set(expected), set(fired)
    differences = [f"lost: {alert}" for alert in expected if alert not in are]
    differences += [f"invented: {alert}" for alert in fired if alert not in should]
    return expected, fired, differences


def rule_of(version: Version, after: Version | None) -> Rule:
    """The rule as the fold has it, until it began anew."""
    asked = version.asked
    return Rule(
        rule_id=version.row.rule_id,
        owner=version.owner,
        symbol=asked["symbol"],
        condition=condition_of(asked["condition"]),
        repeat=asked["repeat"],
        hysteresis=Decimal(str(asked["hysteresis"] or 0)),
        cooldown=round(asked["cooldown_s"] * SECOND),
        expires=_time(asked["expires"]),
        snoozed_until=_time(asked["snoozed_until"]),
        price_id=version.row.price_id,
        status_id=version.row.status_id,
        until_price_id=after.row.price_id if after else None,
        until_status_id=after.row.status_id if after else None,
    )


def condition_of(asked: Mapping[str, Any]) -> Condition:
    """From the protocol's words."""
    numbers = {
        name: Decimal(str(asked[name])) for name in ("level", "low", "high", "amount") if name in asked
    }
    if "percent" in asked:
        numbers["amount"] = Decimal(str(asked["percent"]))
    window = round(asked.get("window_s", 0) * SECOND)
    return Condition(asked["kind"], window=window, direction=asked.get("direction", "either"), **numbers)


def _time(text: str | None) -> int | None:
    return None if text is None else parse_time(text)
