"""The alerts' part of the database: rules, what fired, and the statuses that some rules watch. Owned by `store.py`.

It judges what is about to be stored (`aurexd/alerts.py`) and writes what follows in the same transaction. What it holds
in memory is what the tables say; when a transaction fails, it is thrown away and read again (docs/adr/0010).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from aurexd.actors.messages import (
    AlertFired,
    AlertPage,
    AlertRecord,
    AlertTotals,
    AlertWhy,
    ChangeRule,
    CreateRule,
    Decision,
    StatusChanged,
    StatusPage,
)
from aurexd.alert_rules import Draft, Phase, Rule, Standing, change, describe
from aurexd.alert_watch import RECOLLECT_US, Calm, SeenPrice, SeenStatus, recollect
from aurexd.alerts import STORM_ALERTS, Changes, Evaluator, as_told, explain
from aurexd.calendar import Calendar
from aurexd.errors import AlertError
from aurexd.mailbox import MAX_WAITING
from aurexd.market import EpochUs, Instrument, Quality
from aurexd.protocol.alerts import AlertData, AlertRule, AnyCondition, Repeat
from aurexd.protocol.codes import ErrorCode
from aurexd.protocol.data import MarketState

TABLES = (
    # Each start of the daemon, and up to where the record was another's.
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, started INTEGER NOT NULL,
        price_id INTEGER NOT NULL, status_id INTEGER NOT NULL
    ) STRICT
    """,
    # `price_id`: the newest price stored before it, of any symbol.
    """
    CREATE TABLE statuses (
        id INTEGER PRIMARY KEY, price_id INTEGER NOT NULL,
        symbol TEXT NOT NULL, quality TEXT NOT NULL, market TEXT NOT NULL,
        source TEXT, instrument TEXT NOT NULL, reason TEXT NOT NULL, time INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX statuses_symbol ON statuses (symbol, id)",
    # Rules are judged on what was stored after `price_id` and `status_id`.
    """
    CREATE TABLE alert_rules (
        number INTEGER PRIMARY KEY AUTOINCREMENT, rule_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL, symbol TEXT NOT NULL, condition TEXT NOT NULL, repeat TEXT NOT NULL,
        hysteresis TEXT NOT NULL, cooldown_us INTEGER NOT NULL, expires INTEGER, snoozed_until INTEGER,
        note TEXT NOT NULL, created INTEGER NOT NULL,
        price_id INTEGER NOT NULL, status_id INTEGER NOT NULL, standing TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE alert_steps (symbol TEXT PRIMARY KEY, total TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # What fired, with the rule and the prices as they were: these may be deleted long before.
    """
    CREATE TABLE alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL, rule_id TEXT NOT NULL, symbol TEXT NOT NULL,
        fired INTEGER NOT NULL, stored INTEGER NOT NULL,
        price_id INTEGER, previous_price_id INTEGER, status_id INTEGER,
        alert TEXT NOT NULL, rule TEXT NOT NULL, price TEXT, previous TEXT, acknowledged INTEGER
    ) STRICT
    """,
    "CREATE INDEX alerts_owner ON alerts (owner, id)",
    "CREATE INDEX alerts_waiting ON alerts (owner, id) WHERE acknowledged IS NULL",
    "CREATE INDEX alerts_fired ON alerts (fired)",
)

_RULE = (
    "number, rule_id, owner, symbol, condition, repeat, hysteresis, cooldown_us, expires, snoozed_until, note, created,"
    " standing"
)
_SEEN_PRICE = "id, symbol, close, source, instrument, quality, source_time, receive_time, rebased"
_SEEN_STATUS = "id, symbol, quality, market, source, instrument, time"

_to_json = msgspec.json.Encoder().encode
_to_condition = msgspec.json.Decoder(AnyCondition).decode
_to_standing = msgspec.json.Decoder(Standing).decode
_to_rule = msgspec.json.Decoder(Rule).decode
_to_alert = msgspec.json.Decoder(AlertData).decode
_to_price = msgspec.json.Decoder(SeenPrice).decode


def create_tables(db: sqlite3.Connection) -> None:
    """The migration."""
    for statement in TABLES:
        db.execute(statement)


class Judged(msgspec.Struct, frozen=True):
    """A batch, and what follows from it."""

    statuses: tuple[tuple[object, ...], ...]
    """Rows to insert."""
    changes: Changes
    symbols: frozenset[str]


class AlertStore:
    """The rules and alerts of one open database."""

    def __init__(self, connection: sqlite3.Connection, calendars: Mapping[str, Calendar], run: str) -> None:
        """`run` names this run of the daemon, also when the database is opened again."""
        self._db = connection
        self._calendars = calendars
        self._run = run
        self._loaded: Evaluator | None = None
        self._owned: defaultdict[str, set[int]] = defaultdict(set)
        """Owner → the numbers of the rules."""
        self._next_price = self._next_status = 0

    def follow(self, calendars: Mapping[str, Calendar]) -> None:
        """There may be prices of these markets, too; rules for them may be there already."""
        if calendars.keys() - self._calendars.keys():
            self._calendars = {**calendars, **self._calendars}
            self.forget()

    def forget(self) -> None:
        """What is in memory may not be what is on the disk: read it again when it is needed."""
        self._loaded = None

    @property
    def next_price_id(self) -> int:
        """Of the next price to be stored."""
        self._evaluator()
        return self._next_price

    # --- with each batch ---

    @property
    def is_loaded(self) -> bool:
        """Whether the rules are in memory."""
        return self._loaded is not None

    def begin_run(self, now: EpochUs) -> None:
        """Note where the record is this run's from here on, once."""
        self._db.execute(
            "INSERT OR IGNORE INTO runs (name, started, price_id, status_id) VALUES (?, ?,"
            " (SELECT coalesce(max(id), 0) FROM prices), (SELECT coalesce(max(id), 0) FROM statuses))",
            (self._run, now),
        )

    def judge(self, records: Sequence[Decision], now: EpochUs | None) -> Judged:
        """What follows from a batch, before it is written; prices get the ids from `next_price_id` on, in order."""
        evaluator = self._evaluator()
        statuses, symbols = [], set()
        for record in records:
            if (status := record.status) is not None:
                seen = SeenStatus(
                    id=self._next_status,
                    symbol=status.symbol,
                    quality=status.quality,
                    market=status.market,
                    source=status.source,
                    instrument=status.instrument,
                    time=status.time,
                )
                statuses.append(
                    (
                        seen.id,
                        self._next_price - 1,
                        seen.symbol,
                        seen.quality.value,
                        seen.market.value,
                        seen.source,
                        seen.instrument.value,
                        status.reason,
                        seen.time,
                    )
                )
                self._next_status += 1
                evaluator.see_status(seen, seen.time if now is None else now)
            if (price := record.price) is not None:
                evaluator.see_price(
                    SeenPrice(
                        id=self._next_price,
                        symbol=price.symbol,
                        close=price.close,
                        source=price.source,
                        instrument=price.instrument,
                        quality=price.quality,
                        source_time=price.source_time,
                        receive_time=price.receive_time,
                        rebased=price.rebased,
                    ),
                    price.receive_time if now is None else now,
                )
                self._next_price += 1
                symbols.add(price.symbol)
        return Judged(tuple(statuses), evaluator.take_changes(), frozenset(symbols))

    def write(self, judged: Judged, now: EpochUs | None) -> tuple[AlertFired, ...]:
        """Write what follows from a batch; what fired."""
        if judged.statuses:
            self._db.executemany(
                "INSERT INTO statuses (id, price_id, symbol, quality, market, source, instrument, reason, time)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                judged.statuses,
            )
        changes = judged.changes
        if changes.rules:
            self._db.executemany(
                "UPDATE alert_rules SET standing = ?, snoozed_until = ? WHERE number = ?",
                [(_text(rule.standing), rule.snoozed_until, rule.number) for rule in changes.rules],
            )
        for symbol, total in changes.steps.items():
            self._db.execute("INSERT OR REPLACE INTO alert_steps VALUES (?, ?)", (symbol, str(total)))
        fired = []
        for firing in changes.fired:
            alert = as_told(firing)
            price, previous, status = firing.price, firing.previous, firing.status
            cursor = self._db.execute(
                "INSERT INTO alerts (alert_id, owner, rule_id, symbol, fired, stored, price_id, previous_price_id,"
                " status_id, alert, rule, price, previous) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    alert.alert_id,
                    firing.rule.owner,
                    firing.rule.rule_id,
                    firing.rule.symbol,
                    firing.arrival,
                    firing.arrival if now is None else now,
                    price.id if price else None,
                    previous.id if previous else None,
                    status.id if status else None,
                    _text(alert),
                    _text(firing.rule),
                    _text(price) if price else None,
                    _text(previous) if previous else None,
                ),
            )
            assert cursor.lastrowid is not None
            fired.append(
                AlertFired(
                    owner=firing.rule.owner, alert=alert, number=cursor.lastrowid, arrived=firing.arrival
                )
            )
        return tuple(fired)

    @property
    def phases(self) -> dict[str, int]:
        """How many rules are in each phase."""
        return {phase.value: count for phase, count in self._evaluator().phases.items()}

    def calm(self, symbols: Iterable[str]) -> dict[str, Calm]:
        """Between which prices of each nothing fires."""
        evaluator = self._evaluator()
        return {symbol: evaluator.calm(symbol) for symbol in symbols}

    # --- rules ---

    def create(self, asked: CreateRule) -> AlertRule:
        """A new rule; the owner's oldest that is over makes room where there is none.

        Raises:
            AlertError: the owner, or all together, have as many as they may.

        """
        evaluator = self._evaluator()
        owned = self._owned[asked.owner]
        if len(owned) >= asked.owner_limit:
            self._make_room(asked)
        elif len(evaluator.rules) >= asked.limit:
            raise AlertError(
                ErrorCode.TOO_MANY_RULES,
                f"the server has as many alert rules as it may: {asked.limit} — the operator can allow more "
                "(alerts.max_rules)",
            )
        cursor = self._db.execute(
            "INSERT INTO alert_rules (rule_id, owner, symbol, condition, repeat, hysteresis, cooldown_us, expires,"
            " snoozed_until, note, created, price_id, status_id, standing)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, '')",
            (asked.rule_id, asked.owner, asked.draft.symbol, *_columns(asked.draft), asked.now),
        )
        assert cursor.lastrowid is not None
        made = Rule(
            number=cursor.lastrowid,
            rule_id=asked.rule_id,
            owner=asked.owner,
            created=asked.now,
            standing=Standing(phase=Phase.ARMED),
            **{name: getattr(asked.draft, name) for name in Draft.__struct_fields__},
        )
        self._begin(made)
        owned.add(made.number)
        return made.as_told(asked.now)

    def change(self, asked: ChangeRule) -> AlertRule:
        """A rule, changed.

        Raises:
            AlertError: there is no such rule of this owner, or it would make no sense.

        """
        evaluator = self._evaluator()
        rule = self._find(asked.owner, asked.data.rule_id)
        draft, anew = change(rule, asked.data, asked.kept_s)
        evaluator.withdraw(rule.number)
        for name in Draft.__struct_fields__:
            setattr(rule, name, getattr(draft, name))
        self._db.execute(
            "UPDATE alert_rules SET condition = ?, repeat = ?, hysteresis = ?, cooldown_us = ?, expires = ?,"
            " snoozed_until = ?, note = ? WHERE number = ?",
            (*_columns(draft), rule.number),
        )
        if anew:
            self._begin(rule)
        else:
            evaluator.recall_rule(rule)
        return rule.as_told(asked.now)

    def delete(self, owner: str, rule_id: str) -> None:
        """A rule is gone.

        Raises:
            AlertError: there is no such rule of this owner.

        """
        self._remove(self._find(owner, rule_id))

    def rules(self, owner: str, symbol: str | None, now: EpochUs) -> tuple[AlertRule, ...]:
        """An owner's rules, oldest first."""
        found = [self._evaluator().rules[number] for number in sorted(self._owned[owner])]
        return tuple(rule.as_told(now) for rule in found if symbol is None or rule.symbol == symbol)

    # --- what fired ---

    def page(self, owner: str, before: int | None, limit: int) -> AlertPage:
        """An owner's alerts, newest first: those before one."""
        rows = self._db.execute(
            "SELECT id, alert, acknowledged FROM alerts WHERE owner = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (owner, 2**63 - 1 if before is None else before, limit + 1),
        ).fetchall()
        return AlertPage(
            alerts=tuple(
                AlertRecord(alert=_to_alert(alert), acknowledged=acked) for _, alert, acked in rows[:limit]
            ),
            next=rows[limit - 1][0] if len(rows) > limit else None,
        )

    def statuses(self, symbol: str | None, before: int | None, limit: int) -> StatusPage:
        """What sources and qualities symbols had, newest first: those before one, of one symbol or (None) of all."""
        rows = self._db.execute(
            "SELECT id, symbol, quality, market, source, instrument, reason, time FROM statuses"
            " WHERE id < ?1 AND (?2 IS NULL OR symbol = ?2) ORDER BY id DESC LIMIT ?3",
            (2**63 - 1 if before is None else before, symbol, limit + 1),
        ).fetchall()
        return StatusPage(
            statuses=tuple(
                StatusChanged(
                    symbol=of,
                    quality=Quality(quality),
                    market=MarketState(market),
                    source=source,
                    instrument=Instrument(instrument),
                    reason=reason,
                    time=EpochUs(time),
                )
                for _, of, quality, market, source, instrument, reason, time in rows[:limit]
            ),
            next=rows[limit - 1][0] if len(rows) > limit else None,
        )

    def why(self, owner: str | None, alert_id: str) -> AlertWhy:
        """Why an alert fired. `owner`: None may see everybody's.

        Raises:
            AlertError: there is no such alert of this owner.

        """
        row = self._db.execute(
            "SELECT owner, fired, alert, rule, price, previous, acknowledged FROM alerts"
            " WHERE alert_id = ?1 AND (?2 IS NULL OR owner = ?2)",
            (alert_id, owner),
        ).fetchone()
        if row is None:
            raise AlertError(
                ErrorCode.NOT_FOUND, "there is no such alert of yours, or it is not kept any more"
            )
        _, fired, alert, rule, price, previous, acknowledged = row
        kept, told = _to_rule(rule), _to_alert(alert)
        first, second = previous and _to_price(previous), price and _to_price(price)
        return AlertWhy(
            alert=told,
            rule=kept.as_told(EpochUs(fired)),
            rule_words=describe(kept),
            words=explain(kept, first, second, told),
            previous=first,
            price=second,
            acknowledged=acknowledged,
        )

    def acknowledge(self, owner: str, alert_ids: Sequence[str], now: EpochUs) -> None:
        """These arrived; one that is not the owner's, or arrived before, is left as it is."""
        self._db.executemany(
            "UPDATE alerts SET acknowledged = ? WHERE alert_id = ? AND owner = ? AND acknowledged IS NULL",
            [(now, alert_id, owner) for alert_id in alert_ids],
        )

    def unacknowledged(self, after: int) -> tuple[AlertFired, ...]:
        """What nobody has acknowledged, oldest first: of each owner the newest that a mailbox holds."""
        rows = self._db.execute(
            "SELECT id, owner, alert FROM (SELECT id, owner, alert,"
            " row_number() OVER (PARTITION BY owner ORDER BY id DESC) AS place"
            " FROM alerts WHERE acknowledged IS NULL AND id > ?) WHERE place <= ? ORDER BY id",
            (after, MAX_WAITING),
        )
        return tuple(
            AlertFired(owner=owner, alert=_to_alert(alert), number=number) for number, owner, alert in rows
        )

    def totals(self, now: EpochUs) -> AlertTotals:
        """How many there are."""
        states: defaultdict[str, int] = defaultdict(int)
        for rule in self._evaluator().rules.values():
            states[rule.state(now).value] += 1
        fired, waiting = self._db.execute(
            "SELECT count(*), count(*) - count(acknowledged) FROM alerts"
        ).fetchone()
        owners = sum(1 for owned in self._owned.values() if owned)
        return AlertTotals(rules=dict(states), owners=owners, alerts=fired, unacknowledged=waiting)

    def delete_before(self, prices: EpochUs | None, alerts: EpochUs | None, limit: int) -> int:
        """One pass of retention: statuses as prices, but for each symbol's newest, and alerts; the rows deleted."""
        deleted = 0
        if prices is not None:
            deleted += self._db.execute(
                "DELETE FROM statuses WHERE id IN (SELECT id FROM statuses WHERE time < ?1 AND id NOT IN"
                " (SELECT max(id) FROM statuses GROUP BY symbol, source IS NULL) LIMIT ?2)",
                (prices, limit),
            ).rowcount
        if alerts is not None:
            deleted += self._db.execute(
                "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE fired < ? LIMIT ?)",
                (alerts, limit),
            ).rowcount
        return deleted

    # --- inside ---

    def _begin(self, rule: Rule) -> None:
        """A rule begins: on the record from here on."""
        evaluator = self._evaluator()
        known = evaluator.known_window(rule.symbol)
        evaluator.begin(rule)
        if evaluator.longest_window(rule.symbol) > known:
            self._recall_prices(evaluator, rule.symbol, *self._run_began())
        self._db.execute(
            "UPDATE alert_rules SET price_id = ?, status_id = ?, standing = ? WHERE number = ?",
            (self._next_price - 1, self._next_status - 1, _text(rule.standing), rule.number),
        )

    def _make_room(self, asked: CreateRule) -> None:
        rules = self._evaluator().rules
        for number in sorted(self._owned[asked.owner]):
            if rules[number].is_over(asked.now):
                self._remove(rules[number])
                return
        raise AlertError(
            ErrorCode.TOO_MANY_RULES,
            f"you have {asked.owner_limit} alert rules that may still fire, and no more are allowed: delete some",
        )

    def _find(self, owner: str, rule_id: str) -> Rule:
        row = self._db.execute(
            "SELECT number FROM alert_rules WHERE rule_id = ? AND owner = ?", (rule_id, owner)
        ).fetchone()
        if row is None:
            raise AlertError(ErrorCode.NOT_FOUND, "there is no such alert rule of yours")
        return self._evaluator().rules[row[0]]

    def _remove(self, rule: Rule) -> None:
        self._evaluator().withdraw(rule.number)
        self._owned[rule.owner].discard(rule.number)
        self._db.execute("DELETE FROM alert_rules WHERE number = ?", (rule.number,))

    def _evaluator(self) -> Evaluator:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> Evaluator:
        """All rules, and what of the record they need."""
        evaluator = Evaluator(self._calendars)
        run_price, run_status = self._run_began()
        self._next_price = self._newest("prices", run_price) + 1
        self._next_status = self._newest("statuses", run_status) + 1
        self._owned.clear()
        for row in self._db.execute(f"SELECT {_RULE} FROM alert_rules ORDER BY number"):  # noqa: S608 — ours
            rule = _rule(row)
            evaluator.recall_rule(rule)
            self._owned[rule.owner].add(rule.number)
        for symbol in self._calendars:
            self._recall_prices(evaluator, symbol, run_price, run_status)
            self._recall_statuses(evaluator, symbol, run_status)
        for owner, fired in self._db.execute(
            "SELECT owner, fired FROM (SELECT id, owner, fired,"
            " row_number() OVER (PARTITION BY owner ORDER BY id DESC) AS place FROM alerts)"
            " WHERE place <= ? ORDER BY id",
            (STORM_ALERTS,),
        ):
            evaluator.recall_alert(owner, EpochUs(fired))
        evaluator.recalled()
        return evaluator

    def _run_began(self) -> tuple[int, int]:
        """The newest price and status of before."""
        row = self._db.execute("SELECT price_id, status_id FROM runs WHERE name = ?", (self._run,)).fetchone()
        return row if row is not None else (self._newest("prices", 0), self._newest("statuses", 0))

    def _newest(self, table: str, at_least: int) -> int:
        (newest,) = self._db.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 — the names are ours
        return max(newest or 0, at_least)

    def _recall_prices(self, evaluator: Evaluator, symbol: str, run_price: int, _run_status: int) -> None:
        row = self._db.execute("SELECT total FROM alert_steps WHERE symbol = ?", (symbol,)).fetchone()
        length = evaluator.longest_window(symbol)
        past = recollect(self._past(symbol, length), length, run_price)
        evaluator.recall_prices(symbol, past, Decimal(row[0]) if row else Decimal(0))

    def _past(self, symbol: str, length_us: int) -> Iterator[SeenPrice]:
        """A symbol's prices from far enough back, oldest first."""
        first, until = None, None
        backwards = self._db.execute(
            "SELECT id, min(source_time, receive_time) FROM prices WHERE symbol = ?"
            " AND quality IN ('live', 'delayed', 'simulated') ORDER BY id DESC",
            (symbol,),
        )
        for first, time in backwards:  # noqa: B007 — the last is wanted
            if until is None:
                until = time - length_us - RECOLLECT_US
            elif time <= until:
                break
        backwards.close()
        rows = self._db.execute(
            f"SELECT {_SEEN_PRICE} FROM prices WHERE symbol = ? AND id >= ? ORDER BY id",  # noqa: S608 — ours
            (symbol, first),
        )
        for number, name, close, source, instrument, quality, source_time, receive_time, rebased in rows:
            yield SeenPrice(
                id=number,
                symbol=name,
                close=Decimal(repr(close)),
                source=source,
                instrument=Instrument(instrument),
                quality=Quality(quality),
                source_time=EpochUs(source_time),
                receive_time=EpochUs(receive_time),
                rebased=bool(rebased),
            )

    def _recall_statuses(self, evaluator: Evaluator, symbol: str, run_status: int) -> None:
        newest = "SELECT id, {column} FROM statuses WHERE symbol = ?{sourced} ORDER BY id DESC LIMIT 1"
        quality = self._db.execute(
            newest.format(column="quality", sourced=" AND source IS NOT NULL"), (symbol,)
        ).fetchone()
        market = self._db.execute(newest.format(column="market", sourced=""), (symbol,)).fetchone()
        evaluator.recall_statuses(
            symbol,
            (Quality(quality[1]), quality[0] > run_status) if quality else None,
            (MarketState(market[1]), market[0] > run_status) if market else None,
        )


def _columns(draft: Draft) -> tuple[object, ...]:
    return (
        _text(draft.condition),
        draft.repeat.value,
        str(draft.hysteresis),
        draft.cooldown_us,
        draft.expires,
        draft.snoozed_until,
        draft.note,
    )


def _rule(row: tuple[Any, ...]) -> Rule:
    """From a row of `_RULE`."""
    (
        number,
        rule_id,
        owner,
        symbol,
        condition,
        repeat,
        hysteresis,
        cooldown,
        expires,
        snoozed,
        note,
        created,
        standing,
    ) = row
    return Rule(
        number=number,
        rule_id=rule_id,
        owner=owner,
        symbol=symbol,
        condition=_to_condition(condition),
        repeat=Repeat(repeat),
        hysteresis=Decimal(hysteresis),
        cooldown_us=cooldown,
        expires=expires,
        snoozed_until=snoozed,
        note=note,
        created=created,
        standing=_to_standing(standing),
    )


def _text(thing: object) -> str:
    return _to_json(thing).decode()
