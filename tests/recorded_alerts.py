"""What a database says that fired, and what the naive fold over its record says that should have."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from aurexd.alert_rules import Phase, Rule, Standing
from aurexd.alert_watch import SeenPrice, SeenStatus
from aurexd.calendar import ALWAYS
from aurexd.market import Instrument, Quality
from aurexd.protocol.alerts import AnyCondition, Repeat
from aurexd.protocol.data import MarketState
from tests.naive_alerts import Fired, Naive

Place = tuple[int, int, int, int]


class Start(msgspec.Struct):
    """A run's beginning."""

    price_id: int
    status_id: int


def read_record(path: Path) -> tuple[list[Fired], list[Fired]]:
    """Both, in the order in which it happened. No rule was made snoozed, or changed."""
    with closing(sqlite3.connect(path)) as db:
        things: list[tuple[Place, Any]] = [*_prices(db), *_statuses(db), *_rules(db)]
        for number, price_id, status_id in db.execute("SELECT id, price_id, status_id FROM runs"):
            things.append(((price_id, status_id, 2, number), Start(price_id, status_id)))
        alerts = [
            Fired(rule_id, price, previous, status, told["late"], told["paused_until"] is not None)
            for rule_id, price, previous, status, alert in db.execute(
                "SELECT rule_id, price_id, previous_price_id, status_id, alert FROM alerts ORDER BY id"
            )
            for told in (msgspec.json.decode(alert),)
        ]
    naive = Naive(ALWAYS)
    for _, thing in sorted(things, key=lambda found: found[0]):
        match thing:
            case SeenPrice():
                naive.price(thing, thing.receive_time)
            case SeenStatus():
                naive.status(thing, thing.time)
            case Rule():
                naive.begin(thing)
            case Start():
                naive.start(thing.price_id, thing.status_id)
    return alerts, naive.fired


def _prices(db: sqlite3.Connection) -> list[tuple[Place, SeenPrice]]:
    return [
        (
            (number, 0, 0, 0),
            SeenPrice(
                id=number,
                symbol=symbol,
                close=Decimal(repr(close)),
                source=source,
                instrument=Instrument.TEST,
                quality=Quality(quality),
                source_time=source_time,
                receive_time=receive_time,
                rebased=bool(rebased),
            ),
        )
        for number, symbol, close, source, quality, source_time, receive_time, rebased in db.execute(
            "SELECT id, symbol, close, source, quality, source_time, receive_time, rebased FROM prices"
        )
    ]


def _statuses(db: sqlite3.Connection) -> list[tuple[Place, SeenStatus]]:
    return [
        (
            (price_id, number, 0, 0),
            SeenStatus(
                id=number,
                symbol=symbol,
                quality=Quality(quality),
                market=MarketState(market),
                source=source,
                instrument=Instrument.TEST,
                time=time,
            ),
        )
        for number, price_id, symbol, quality, market, source, time in db.execute(
            "SELECT id, price_id, symbol, quality, market, source, time FROM statuses"
        )
    ]


def _rules(db: sqlite3.Connection) -> list[tuple[Place, Rule]]:
    return [
        (
            (price_id, status_id, 1, number),
            Rule(
                number=number,
                rule_id=rule_id,
                owner=owner,
                symbol=symbol,
                condition=msgspec.json.decode(condition, type=AnyCondition),
                repeat=Repeat(repeat),
                hysteresis=Decimal(hysteresis),
                cooldown_us=cooldown_us,
                expires=expires,
                snoozed_until=None,  # that of the row may be a storm's
                note="",
                created=created,
                standing=Standing(phase=Phase.ARMED),
            ),
        )
        for (
            number,
            rule_id,
            owner,
            symbol,
            condition,
            repeat,
            hysteresis,
            cooldown_us,
            expires,
            created,
            price_id,
            status_id,
        ) in db.execute(
            "SELECT number, rule_id, owner, symbol, condition, repeat, hysteresis, cooldown_us, expires, created,"
            " price_id, status_id FROM alert_rules"
        )
    ]
