"""Rules and alerts in the database, held against what the record says when it is read afterwards."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aurexd.actors.messages import AlertFired, ChangeRule, CreateRule, Decision, StatusChanged
from aurexd.alert_rules import draft
from aurexd.calendar import ALWAYS
from aurexd.errors import AlertError, StoreError
from aurexd.market import EpochUs, Instrument, Price, Quality
from aurexd.protocol.alerts import (
    Above,
    AlertCreateData,
    AlertUpdateData,
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
    Repeat,
    RuleState,
)
from aurexd.protocol.codes import ErrorCode
from aurexd.protocol.data import MarketState
from aurexd.store import Store
from tests.recorded_alerts import read_record
from tests.test_alerts import MIDNIGHT, SYMBOL, at
from tests.updates import price_at

SEEDS = 1000
GROUPS = 20

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder is made in it, by tempfile

CALENDARS = {SYMBOL: ALWAYS, "XAUUSD": ALWAYS}


def open_store(path: Path, run: str = "r") -> Store:
    return Store(f"sqlite:///{path}", calendars=CALENDARS, run=run)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "aurexd.db")) as opened:
        opened.begin_run(MIDNIGHT)
        yield opened


def priced(close: str | int, seconds: float, **fields: Any) -> Decision:
    made: dict[str, Any] = {"symbol": SYMBOL, "instrument": Instrument.TEST, "source": "a"}
    return Decision(
        tick=None,
        price=msgspec.structs.replace(
            price_at("2000.00", source_time=at(seconds), receive_time=at(seconds)),
            close=Decimal(close),
            **(made | fields),
        ),
    )


def announced(quality: Quality, market: MarketState, seconds: float, source: str | None = "a") -> Decision:
    status = StatusChanged(
        symbol=SYMBOL,
        quality=quality,
        market=market,
        source=source,
        instrument=Instrument.TEST,
        reason="",
        time=at(seconds),
    )
    return Decision(status=status)


def asked(condition: AnyCondition, rule_id: str = "r-1", owner: str = "alice", **fields: Any) -> CreateRule:
    now = fields.pop("now", MIDNIGHT)
    limits = {"owner_limit": fields.pop("owner_limit", 100), "limit": fields.pop("limit", 1000)}
    data = AlertCreateData(symbol=SYMBOL, condition=condition, **fields)
    return CreateRule(rule_id=rule_id, owner=owner, draft=draft(data, None, now), now=now, **limits)


def ids(fired: tuple[AlertFired, ...]) -> list[str]:
    return [alert.alert.alert_id for alert in fired]


L100 = Decimal(100)


def test_what_fires_is_told_with_the_batch_that_fired_it_and_kept_until_it_is_acknowledged(
    store: Store,
) -> None:
    store.append([priced("99.00", 0)])
    made = store.create_rule(asked(CrossesUp(level=L100), note="sell"))
    assert made.state is RuleState.ARMED
    (fired,) = store.append([priced("99.50", 1), priced("100.50", 2)]).fired
    assert (fired.owner, fired.alert.alert_id, fired.alert.note) == ("alice", "r-1-1", "sell")
    assert (fired.alert.previous_close, fired.alert.close, fired.alert.late) == (
        Decimal("99.5"),
        Decimal("100.5"),
        False,
    )
    waiting = msgspec.structs.replace(fired, arrived=None)  # what is read again is not of now
    assert store.unacknowledged(0) == (waiting,)
    store.acknowledge("bob", ["r-1-1"], at(3))
    assert store.unacknowledged(0) == (waiting,), "it is not his"
    store.acknowledge("alice", ["r-1-1", "unknown"], at(3))
    assert store.unacknowledged(0) == ()
    (kept,) = store.alerts("alice", None, 10).alerts
    assert (kept.alert, kept.acknowledged) == (fired.alert, at(3))
    assert store.rules("alice", None, at(3))[0].state is RuleState.DONE


def test_a_crossing_over_a_restart_is_late(tmp_path: Path) -> None:
    path = tmp_path / "aurexd.db"
    with closing(open_store(path, "first")) as store:
        store.begin_run(at(0))
        store.append([priced("99", 0)])
        store.create_rule(asked(CrossesUp(level=L100)))
    with closing(open_store(path, "second")) as store:
        store.begin_run(at(10))
        (fired,) = store.append([priced("101", 20)]).fired
        assert fired.alert.late


def test_a_price_that_waited_long_for_the_disk_fires_late(store: Store) -> None:
    store.append([priced("99", 0)], at(0))
    store.create_rule(asked(CrossesUp(level=L100)))
    (fired,) = store.append([priced("101", 1)], at(62.5)).fired
    assert fired.alert.late


def test_a_batch_that_cannot_be_written_fires_nothing_until_it_is(store: Store) -> None:
    store.append([priced("99", 0)])
    store.create_rule(asked(CrossesUp(level=L100)))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError):
            store.append([priced("101", 1)])
        assert other.execute("SELECT count(*) FROM alerts").fetchone() == (0,)
        other.execute("ROLLBACK")
    assert ids(store.append([priced("101", 1)]).fired) == ["r-1-1"]
    assert ids(store.append([priced("99", 2), priced("101", 3)]).fired) == []


def test_a_rule_that_cannot_be_written_is_not_there(store: Store) -> None:
    store.append([priced("99", 0)])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError):
            store.create_rule(asked(CrossesUp(level=L100)))
        other.execute("ROLLBACK")
    assert store.rules("alice", None, MIDNIGHT) == ()
    assert store.append([priced("101", 1)]).fired == ()


def test_an_owner_sees_only_what_is_theirs(store: Store) -> None:
    store.create_rule(asked(Above(level=L100)))
    store.append([priced("101", 1)])
    assert store.rules("bob", None, MIDNIGHT) == ()
    assert store.alerts("bob", None, 10).alerts == ()
    for attempt in (
        lambda: store.delete_rule("bob", "r-1"),
        lambda: store.change_rule(
            ChangeRule(owner="bob", data=AlertUpdateData(rule_id="r-1", note="x"), kept_s=None, now=MIDNIGHT)
        ),
        lambda: store.alert_why("bob", "r-1-1"),
    ):
        with pytest.raises(AlertError) as refusal:
            attempt()
        assert refusal.value.code == ErrorCode.NOT_FOUND


def test_a_rule_that_is_over_makes_room_and_others_do_not(store: Store) -> None:
    for number in (1, 2):
        store.create_rule(asked(Above(level=L100), f"r-{number}", owner_limit=2))
    with pytest.raises(AlertError) as refusal:
        store.create_rule(asked(Above(level=L100), "r-3", owner_limit=2))
    assert refusal.value.code == ErrorCode.TOO_MANY_RULES
    store.append([priced("101", 1)])
    store.create_rule(asked(Above(level=L100), "r-3", owner_limit=2))
    assert [kept.rule_id for kept in store.rules("alice", None, MIDNIGHT)] == ["r-2", "r-3"]
    with pytest.raises(AlertError, match="the server has as many"):
        store.create_rule(asked(Above(level=L100), "r-4", owner="bob", limit=2))


def test_a_changed_rule_begins_anew_and_its_alerts_go_on_counting(store: Store) -> None:
    store.create_rule(asked(Above(level=L100)))
    store.append([priced("101", 1)])
    data = AlertUpdateData(rule_id="r-1", condition=Above(level=Decimal(102)))
    changed = store.change_rule(ChangeRule(owner="alice", data=data, kept_s=None, now=at(2)))
    assert (changed.state, changed.fired_count) == (RuleState.ARMED, 1)
    assert ids(store.append([priced("103", 3)]).fired) == ["r-1-2"]


def test_a_rule_can_be_snoozed_woken_and_deleted(store: Store) -> None:
    def change(**fields: Any) -> None:
        data = AlertUpdateData(rule_id="r-1", **fields)
        store.change_rule(ChangeRule(owner="alice", data=data, kept_s=None, now=at(0)))

    store.create_rule(asked(Above(level=L100), repeat=Repeat.EVERY_TIME))
    change(snoozed_until="2025-10-28T00:00:00Z")
    assert store.append([priced("101", 1)]).fired == ()
    change(snoozed_until=None)
    assert ids(store.append([priced("101", 2)]).fired) == ["r-1-1"]
    store.delete_rule("alice", "r-1")
    assert store.append([priced("99", 3), priced("101", 4)]).fired == ()


def test_why_an_alert_fired_can_be_asked_when_its_prices_are_gone(store: Store) -> None:
    store.create_rule(asked(CrossesUp(level=L100)))
    store.append([priced("99", 1), priced("101", 2)])
    while store.delete_before(at(100)):
        pass
    why = store.alert_why("alice", "r-1-1")
    assert why.rule_words == "TESTGOLD: the price crosses 100 upwards; once"
    assert why.words == "a said 101, after 99 from a."
    assert why.previous
    assert why.price
    assert (why.previous.id, why.price.id) == (1, 2)
    assert why.rule.state is RuleState.ARMED, "as it was"
    assert store.alert_why(None, "r-1-1") == why


def test_alerts_are_paged_from_the_newest(store: Store) -> None:
    store.create_rule(asked(CrossesUp(level=L100), repeat=Repeat.EVERY_TIME))
    for second in range(10):
        store.append([priced("101" if second % 2 else "99", second)])
    first = store.alerts("alice", None, 3)
    assert [kept.alert.alert_id for kept in first.alerts] == ["r-1-5", "r-1-4", "r-1-3"]
    second_page = store.alerts("alice", first.next, 3)
    assert [kept.alert.alert_id for kept in second_page.alerts] == ["r-1-2", "r-1-1"]
    assert second_page.next is None


def test_retention_deletes_old_alerts_and_statuses_but_not_the_newest_status(store: Store) -> None:
    store.create_rule(asked(BecomesStale(), repeat=Repeat.EVERY_TIME))
    store.append(
        [
            announced(Quality.LIVE, MarketState.OPEN, 1),
            announced(Quality.STALE, MarketState.OPEN, 2),
            announced(Quality.LIVE, MarketState.OPEN, 3),
        ]
    )
    assert store.delete_alerts(at(100), at(100)) == 3
    assert store.delete_alerts(at(100), at(100)) == 0
    assert ids(store.append([announced(Quality.STALE, MarketState.OPEN, 200)]).fired) == ["r-1-2"]


def test_statuses_are_told_newest_first_of_one_symbol_or_of_all(store: Store) -> None:
    store.append([announced(Quality.LIVE, MarketState.OPEN, second, f"s{second}") for second in range(5)])
    newest = store.statuses(None, None, 3)
    assert [status.source for status in newest.statuses] == ["s4", "s3", "s2"]
    older = store.statuses(SYMBOL, newest.next, 3)
    assert [status.source for status in older.statuses] == ["s1", "s0"]
    assert older.next is None
    assert older.statuses[0] == announced(Quality.LIVE, MarketState.OPEN, 1, "s1").status
    assert store.statuses("XAUUSD", None, 3).statuses == ()


def test_everything_is_counted(store: Store) -> None:
    store.create_rule(asked(Above(level=L100)))
    store.create_rule(asked(Above(level=L100), "r-2", owner="bob", snoozed_until="2025-10-28T00:00:00Z"))
    store.append([priced("101", 1)])
    totals = store.alert_totals(at(2))
    assert totals.rules == {"done": 1, "snoozed": 1}
    assert (totals.owners, totals.alerts, totals.unacknowledged) == (2, 1, 1)


def test_with_each_batch_it_is_said_how_many_rules_are_armed_and_how_many_are_not(store: Store) -> None:
    store.create_rule(asked(Above(level=L100)))
    store.create_rule(asked(CrossesUp(level=L100), "r-2", repeat=Repeat.EVERY_TIME))
    store.create_rule(asked(Above(level=Decimal(200)), "r-3", expires="2025-10-27T00:00:05Z"))
    seen = [
        store.append([priced(close, s)]).rules for close, s in [("99", 1), ("101", 2), ("99", 3), ("99", 6)]
    ]
    assert [tuple(rules.values()) for rules in seen] == [
        (3, 0, 0, 0),
        (1, 1, 1, 0),
        (2, 0, 1, 0),
        (1, 0, 1, 1),
    ]
    assert list(seen[0]) == ["armed", "disarmed", "done", "expired"]
    store.delete_rule("alice", "r-2")
    assert sum(store.append([priced("99", 7)]).rules.values()) == 2


# --- what fired is what the record says, however it was cut ---


def random_condition(rng: random.Random) -> AnyCondition:
    level = Decimal(rng.randint(98, 104))
    window_s = rng.choice([1.0, 5.0, 60.0, 600.0])
    direction = rng.choice(list(Direction))
    there_are: list[AnyCondition] = [
        Above(level=level),
        Below(level=level),
        CrossesUp(level=level),
        CrossesDown(level=level),
        LeavesRange(low=level, high=level + rng.randint(1, 4)),
        Moves(amount=Decimal(rng.randint(3, 4)), window_s=window_s, direction=direction),
        MovesPercent(percent=Decimal("2.5"), window_s=window_s, direction=direction),
        NewHigh(window_s=window_s),
        NewLow(window_s=window_s),
        BecomesStale(),
        MarketOpens(),
        MarketCloses(),
    ]
    return rng.choice(there_are)


class Ticker:
    """Random prices and statuses, never far from where a rule is."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._close = 100
        self.seconds = 0.0

    def next(self) -> Decision:
        rng = self._rng
        self.seconds += rng.choice([0.0, 1.0, 1.0, 4.0, 30.0, 400.0])
        quality = rng.choice([*[Quality.LIVE] * 9, Quality.STALE])
        source = rng.choice("aaaaabbc")
        if rng.random() < 0.05:
            market = rng.choice(list(MarketState))
            return announced(quality, market, self.seconds, None if source == "c" else source)
        self._close = max(94, min(108, self._close + rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 3])))
        behind_s = rng.choice([0.0] * 20 + [-3.0, 20.0, 4000.0])
        return priced(
            self._close,
            self.seconds,
            source=source,
            quality=quality,
            source_time=at(self.seconds - behind_s),
            rebased=rng.random() < 0.05,
        )


def record_at_random(path: Path, rng: random.Random) -> None:
    """Prices in batches of random size, rules in between, restarts, and batches that fail."""
    made = 0
    ticker = Ticker(rng)
    runs = 0
    store = open_store(path)
    try:
        happens = rng.choices(["batch", "rule", "restart", "failure"], [6, 2, 1, 1], k=rng.randint(6, 12))
        for thing in ["rule", "rule", "rule", *happens]:
            match thing:
                case "batch":
                    batch = [ticker.next() for _ in range(rng.choice([1, 1, 2, 5, 20]))]
                    store.begin_run(at(ticker.seconds))
                    store.append(batch)
                case "failure":
                    worse = [ticker.next(), Decision(price=TOO_LATE)]
                    store.begin_run(at(ticker.seconds))
                    with pytest.raises(OverflowError):
                        store.append(worse)
                    store.append(worse[:1])
                case "rule":
                    made += 1
                    condition = random_condition(rng)
                    measured = isinstance(condition, Moves | MovesPercent | LeavesRange)
                    asked_for = asked(
                        condition,
                        f"r-{made}",
                        rng.choice(["alice", "bob"]),
                        repeat=rng.choice([Repeat.EVERY_TIME, Repeat.EVERY_TIME, *Repeat]),
                        hysteresis=Decimal(rng.choice([0, 0, 1] if measured else [0, 0, 1, 2])),
                        cooldown_s=rng.choice([0, 0, 10]),
                    )
                    store.begin_run(at(ticker.seconds))
                    store.create_rule(asked_for)
                case "restart":
                    store.close()
                    runs += 1
                    store = open_store(path, f"run-{runs}")
    finally:
        store.close()


TOO_LATE: Price = msgspec.structs.replace(price_at(), symbol=SYMBOL, receive_time=EpochUs(2**63))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it: to make one takes longer than all the rest."""
    path = tmp_path_factory.mktemp("empty") / "aurexd.db"
    open_store(path).close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where the system is Linux: a disk takes as long as all the rest, and is not what is tested."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        yield Path(made)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_however_the_prices_are_cut_into_batches_and_runs_what_fired_is_what_the_record_says(
    group: int, empty: Path, folder: Path
) -> None:
    fired = 0
    for seed in range(group * SEEDS // GROUPS, (group + 1) * SEEDS // GROUPS):
        path = folder / f"{seed}.db"
        shutil.copy(empty, path)
        record_at_random(path, random.Random(seed))
        alerts, expected = read_record(path)
        assert alerts == expected, f"seed {seed}"
        fired += len(alerts)
        path.unlink()
    assert fired > 100


# --- symbols that come while the database is open ---


@pytest.fixture
def of_one_symbol(tmp_path: Path) -> Iterator[Store]:
    """A database in which there are a rule and prices of XAUUSD, opened by a daemon that has only the other symbol."""
    path = tmp_path / "aurexd.db"
    with closing(open_store(path)) as before:
        before.begin_run(MIDNIGHT)
        before.append([priced("99.00", 0, symbol="XAUUSD")])
        condition = CrossesUp(level=L100)
        data = AlertCreateData(symbol="XAUUSD", condition=condition, repeat=Repeat.ONCE_PER_SESSION)
        made = draft(data, None, MIDNIGHT)
        before.create_rule(
            CreateRule(rule_id="r-1", owner="alice", draft=made, owner_limit=9, limit=9, now=MIDNIGHT)
        )
    with closing(Store(f"sqlite:///{path}", calendars={SYMBOL: ALWAYS}, run="r2")) as opened:
        opened.begin_run(at(1))
        opened.append([priced("5.00", 1)])
        yield opened


def test_a_rule_for_a_symbol_that_comes_back_goes_on_from_its_last_price(of_one_symbol: Store) -> None:
    of_one_symbol.follow(CALENDARS, 0)
    (fired,) = of_one_symbol.append([priced("101.00", 2, symbol="XAUUSD")]).fired
    assert (fired.alert.symbol, fired.alert.close) == ("XAUUSD", Decimal("101.00"))
    assert fired.alert.previous_close == Decimal("99.0")


def test_what_still_comes_of_a_symbol_that_has_gone_is_judged_as_before(of_one_symbol: Store) -> None:
    of_one_symbol.follow(CALENDARS, 0)
    of_one_symbol.follow({SYMBOL: ALWAYS}, 0)
    assert ids(of_one_symbol.append([priced("101.00", 2, symbol="XAUUSD")]).fired) == ["r-1-1"]
