"""A walk through the daemon's own rooms, from the store inwards: batches and restarts, rules made in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from aurexd.actors.messages import CreateRule, Decision, StatusChanged
from aurexd.alert_rules import draft
from aurexd.calendar import CALENDARS
from aurexd.market import EpochUs, Instrument, Quality
from aurexd.market import Price as Published
from aurexd.protocol.alerts import AlertCreateData
from aurexd.protocol.data import MarketState
from aurexd.store import Store
from tests.reference.evaluator import SECOND, Condition, Price, Rule, Run, Status
from tests.reference.walks import Event, Walk

SYMBOLS = ("XAUUSD", "TESTGOLD")
"""Of a walk."""

MARKETS = {
    "XAUUSD": CALENDARS["metals"],
    "TESTGOLD": CALENDARS["always"],
    "GOLD247": CALENDARS["always"],  # what is spot, and never closes: for daemons that are tried on a weekend
}


def day(symbol: str, time: int) -> tuple[int, int]:
    """What a time counts to in the symbol's market."""
    return MARKETS[symbol].day(EpochUs(time))


def published(price: Price) -> Published:
    """The price as the aggregator says it."""
    return Published(
        symbol=price.symbol,
        close=price.close,
        bid=None,
        ask=None,
        change=None,
        change_pct=None,
        source=price.source,
        instrument=Instrument.TEST,
        quality=Quality(price.quality),
        source_time=EpochUs(price.source_time),
        receive_time=EpochUs(price.receive_time),
        rebased=price.rebased,
    )


def announced(status: Status) -> StatusChanged:
    """The status as the aggregator says it."""
    return StatusChanged(
        symbol=status.symbol,
        quality=Quality(status.quality),
        market=MarketState(status.market),
        source=status.source,
        instrument=Instrument.TEST,
        reason="so it is",
        time=EpochUs(status.time),
    )


def asked_for(condition: Condition) -> dict[str, object]:
    """In the protocol's words."""
    window = {"window_s": condition.window / SECOND}
    match condition.kind:
        case "above" | "below" | "crosses_up" | "crosses_down":
            fields: dict[str, object] = {"level": condition.level}
        case "leaves_range":
            fields = {"low": condition.low, "high": condition.high}
        case "moves":
            fields = {"amount": condition.amount, "direction": condition.direction, **window}
        case "moves_percent":
            fields = {"percent": condition.amount, "direction": condition.direction, **window}
        case "new_high" | "new_low":
            fields = {**window}
        case _:
            fields = {}
    return {"kind": condition.kind, **fields}


class Rooms:
    """The store with all that it owns, and one run of the daemon after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs = 0
        self._abandoned: list[Store] = []
        self._store = self._open()

    def _open(self) -> Store:
        self._runs += 1
        days = {symbol: market.day for symbol, market in MARKETS.items()}
        store = Store(f"sqlite:///{self._path}", days, calendars=MARKETS, run=f"run {self._runs}")
        store.begin_run(EpochUs(self._runs))
        return store

    def append(self, events: Sequence[Event], now: int | None = None) -> None:
        """Store a batch, at `now` where it had to wait."""
        records = []
        for event in events:
            if isinstance(event, Price):
                records.append(Decision(price=published(event)))
            elif isinstance(event, Status):
                records.append(Decision(status=announced(event)))
        if records:
            self._store.append(records, None if now is None else EpochUs(now))

    def make(self, rule: Rule) -> None:
        """A new rule, as a client asks for it."""
        asked = {
            "symbol": rule.symbol,
            "condition": asked_for(rule.condition),
            "repeat": rule.repeat,
            "hysteresis": rule.hysteresis,
            "cooldown_s": rule.cooldown / SECOND,
        }
        made = draft(msgspec.convert(asked, AlertCreateData), None, EpochUs(0))
        made = msgspec.structs.replace(  # to the microsecond
            made, expires=_time(rule.expires), snoozed_until=_time(rule.snoozed_until)
        )
        create = CreateRule(
            rule_id=rule.rule_id, owner=rule.owner, draft=made, owner_limit=10**6, limit=10**6, now=EpochUs(0)
        )
        self._store.create_rule(create)

    def restart(self, *, orderly: bool = True) -> None:
        """Another run; the one before has closed its database, or has never come to that."""
        if orderly:
            self._store.close()
        else:
            self._abandoned.append(self._store)
        self._store = self._open()

    def walk(self, walk: Walk, sizes: Sequence[int]) -> None:
        """All that happened, in batches that are at most so large; runs and rules come between two of them."""
        batch: list[Event] = []
        wanted = iter(sizes)
        size = next(wanted)
        for event in walk.events:
            if isinstance(event, Price | Status):
                batch.append(event)
            if len(batch) >= size or not isinstance(event, Price | Status):
                self.append(batch)
                batch = []
                size = next(wanted, 10**6)
            if isinstance(event, Run) and (event.price_id or event.status_id):
                self.restart(orderly=event.price_id % 2 == 0)
            elif isinstance(event, Rule):
                self.make(event)
        self.append(batch)

    def close(self) -> None:
        """The end."""
        for store in (*self._abandoned, self._store):
            store.close()


def _time(time: int | None) -> EpochUs | None:
    return None if time is None else EpochUs(time)
