"""The evaluator, held against a naive reading of docs/alerts.md."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.alert_rules import Phase, Rule, Standing
from aurexd.alert_watch import SeenPrice, SeenStatus, recollect
from aurexd.alerts import Evaluator, Firing
from aurexd.calendar import ALWAYS
from aurexd.market import SECOND_US, EpochUs, Instrument, Quality
from aurexd.protocol.alerts import (
    Above,
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
)
from aurexd.protocol.data import MarketState
from tests.naive_alerts import Fired, Naive

MIDNIGHT = EpochUs(1_761_523_200 * SECOND_US)
"""2025-10-27T00:00:00Z."""

SYMBOL = "TESTGOLD"


def at(seconds: float) -> EpochUs:
    return EpochUs(MIDNIGHT + round(seconds * SECOND_US))


def rule(number: int, condition: AnyCondition, **fields: Any) -> Rule:
    made: dict[str, Any] = {
        "rule_id": f"r-{number}",
        "owner": "alice",
        "symbol": SYMBOL,
        "repeat": Repeat.EVERY_TIME,
        "hysteresis": Decimal(0),
        "cooldown_us": 0,
        "expires": None,
        "snoozed_until": None,
        "note": "",
        "created": MIDNIGHT,
        "standing": Standing(phase=Phase.ARMED),
    }
    return Rule(number=number, condition=condition, **(made | fields))


def price(number: int, close: str | int, seconds: float, **fields: Any) -> SeenPrice:
    made: dict[str, Any] = {
        "symbol": SYMBOL,
        "source": "a",
        "instrument": Instrument.TEST,
        "quality": Quality.LIVE,
        "source_time": at(seconds),
        "receive_time": at(seconds),
        "rebased": False,
    }
    return SeenPrice(id=number, close=Decimal(close), **(made | fields))


def status(
    number: int, quality: Quality, market: MarketState, seconds: float, source: str | None = "a"
) -> SeenStatus:
    return SeenStatus(
        id=number,
        symbol=SYMBOL,
        quality=quality,
        market=market,
        source=source,
        instrument=Instrument.TEST,
        time=at(seconds),
    )


def told(firing: Firing) -> Fired:
    return Fired(
        firing.rule.rule_id,
        firing.price.id if firing.price else None,
        firing.previous.id if firing.previous else None,
        firing.status.id if firing.status else None,
        firing.late,
        firing.paused_until is not None,
    )


class Record:
    """The evaluator as the store uses it: what it knows can be thrown away and read again after every step."""

    def __init__(self) -> None:
        self.prices: list[SeenPrice] = []
        self.statuses: list[SeenStatus] = []
        self.rules: dict[int, bytes] = {}
        self.alerts: list[tuple[str, EpochUs]] = []
        self.steps: dict[str, Decimal] = {}
        self.fired: list[Fired] = []
        self.run = (0, 0)
        self.evaluator = Evaluator({SYMBOL: ALWAYS})

    def reload(self) -> None:
        self.evaluator = Evaluator({SYMBOL: ALWAYS})
        for kept in self.rules.values():
            self.evaluator.recall_rule(msgspec.json.decode(kept, type=Rule))
        self._recall()
        for owner, arrival in self.alerts:
            self.evaluator.recall_alert(owner, arrival)

    def restart(self) -> None:
        self.run = (len(self.prices), len(self.statuses))
        self.reload()

    def _recall(self) -> None:
        length = self.evaluator.longest_window(SYMBOL)
        past = recollect(self.prices, length, self.run[0])
        self.evaluator.recall_prices(SYMBOL, past, self.steps.get(SYMBOL, Decimal(0)))
        sourced = [s for s in self.statuses if s.source is not None]
        self.evaluator.recall_statuses(
            SYMBOL,
            (sourced[-1].quality, sourced[-1].id > self.run[1]) if sourced else None,
            (self.statuses[-1].market, self.statuses[-1].id > self.run[1]) if self.statuses else None,
        )

    def begin(self, made: Rule) -> None:
        known = self.evaluator.known_window(SYMBOL)
        self.evaluator.begin(made)
        if self.evaluator.longest_window(SYMBOL) > known:
            self._recall()
        self.rules[made.number] = msgspec.json.encode(made)

    def see(self, thing: SeenPrice | SeenStatus, stored_s: float = 0.0) -> None:
        if isinstance(thing, SeenPrice):
            self.prices.append(thing)
            self.evaluator.see_price(thing, EpochUs(thing.receive_time + round(stored_s * SECOND_US)))
        else:
            self.statuses.append(thing)
            self.evaluator.see_status(thing, EpochUs(thing.time + round(stored_s * SECOND_US)))
        self._take()

    def _take(self) -> None:
        changes = self.evaluator.take_changes()
        for firing in changes.fired:
            self.fired.append(told(firing))
            self.alerts.append((firing.rule.owner, firing.arrival))
        for changed in changes.rules:
            self.rules[changed.number] = msgspec.json.encode(changed)
        self.steps |= changes.steps
        phases = Counter(rule.standing.phase for rule in self.evaluator.rules.values())
        assert Counter(self.evaluator.phases) == phases


# --- against the naive fold ---

levels = st.integers(98, 104).map(Decimal)
hystereses = st.sampled_from([Decimal(0), Decimal(0), Decimal(1), Decimal(2)])
windows = st.sampled_from([1.0, 5.0, 60.0, 600.0])
directions = st.sampled_from(list(Direction))

conditions = st.one_of(
    *(st.builds(kind, level=levels) for kind in (Above, Below, CrossesUp, CrossesDown)),
    st.tuples(levels, st.integers(2, 4)).map(lambda made: LeavesRange(low=made[0], high=made[0] + made[1])),
    st.builds(Moves, amount=st.integers(3, 4).map(Decimal), window_s=windows, direction=directions),
    st.builds(
        MovesPercent,
        percent=st.sampled_from([Decimal("2.5"), Decimal(3)]),
        window_s=windows,
        direction=directions,
    ),
    st.builds(NewHigh, window_s=windows),
    st.builds(NewLow, window_s=windows),
    st.sampled_from([BecomesStale(), MarketOpens(), MarketCloses()]),
)


class Shape(msgspec.Struct):
    """Of a rule."""

    condition: AnyCondition
    repeat: Repeat
    hysteresis: Decimal
    cooldown_s: int
    expires_s: int | None
    snoozed_s: int | None
    owner: str


shapes = st.builds(
    Shape,
    condition=conditions,
    repeat=st.sampled_from([Repeat.EVERY_TIME, Repeat.EVERY_TIME, Repeat.ONCE, Repeat.ONCE_PER_SESSION]),
    hysteresis=hystereses,
    cooldown_s=st.sampled_from([0, 0, 0, 10]),
    expires_s=st.sampled_from([None, None, None, 120]),
    snoozed_s=st.sampled_from([None, None, None, 60]),
    owner=st.sampled_from(["alice", "bob"]),
)


class Move(msgspec.Struct):
    """Of the price, or the status that comes instead."""

    to: int
    after_s: float
    source: str
    rebased: bool
    quality: Quality
    behind_s: float
    stored_s: float
    market: MarketState | None


moves = st.builds(
    Move,
    to=st.integers(96, 106),
    after_s=st.sampled_from([0.0, 1.0, 1.0, 4.0, 30.0, 400.0, 30_000.0]),
    source=st.sampled_from("aaaaabbc"),
    rebased=st.sampled_from([False] * 7 + [True]),
    quality=st.sampled_from([Quality.LIVE] * 6 + [Quality.STALE, Quality.CLOSED, Quality.DELAYED]),
    behind_s=st.sampled_from([0.0] * 8 + [-3.0, 20.0, 4000.0, 100_000.0]),
    stored_s=st.sampled_from([0.0] * 8 + [61.0]),
    market=st.sampled_from([None] * 8 + list(MarketState)),
)

steps = st.lists(
    st.one_of(moves, moves, moves, moves, moves, shapes, st.sampled_from(["reload", "restart"])), max_size=60
)


def play(happens: list[Any]) -> tuple[Record, Naive]:
    record, naive = Record(), Naive(ALWAYS)
    seconds = 0.0
    for number, thing in enumerate(happens, 1):
        match thing:
            case Shape():
                hysteresis = thing.hysteresis
                if isinstance(thing.condition, LeavesRange):
                    hysteresis = min(hysteresis, thing.condition.high - thing.condition.low)
                made = rule(
                    number,
                    thing.condition,
                    owner=thing.owner,
                    repeat=thing.repeat,
                    hysteresis=hysteresis,
                    cooldown_us=thing.cooldown_s * SECOND_US,
                    expires=None if thing.expires_s is None else at(seconds + thing.expires_s),
                    snoozed_until=None if thing.snoozed_s is None else at(seconds + thing.snoozed_s),
                )
                naive.begin(msgspec.convert(made, Rule, from_attributes=True))
                record.begin(made)
            case Move(market=None):
                seconds += thing.after_s
                seen = price(
                    len(record.prices) + 1,
                    thing.to,
                    seconds,
                    source=thing.source,
                    rebased=thing.rebased,
                    quality=thing.quality,
                    source_time=at(seconds - thing.behind_s),
                )
                record.see(seen, thing.stored_s)
                naive.price(seen, seen.receive_time + round(thing.stored_s * SECOND_US))
            case Move(market=MarketState() as market):
                seconds += thing.after_s
                said = status(
                    len(record.statuses) + 1,
                    thing.quality,
                    market,
                    seconds,
                    None if thing.source == "c" else thing.source,
                )
                record.see(said, thing.stored_s)
                naive.status(said, said.time + round(thing.stored_s * SECOND_US))
            case "reload":
                record.reload()
            case "restart":
                record.restart()
                naive.start(len(record.prices), len(record.statuses))
    return record, naive


@settings(max_examples=400, deadline=None)
@given(steps)
def test_what_fires_is_what_the_plain_fold_says_however_often_it_is_read_again(happens: list[Any]) -> None:
    record, naive = play(happens)
    assert record.fired == naive.fired


# --- what people ask about ---


def fired_by(made: Rule, *closes: str | SeenPrice, before: str | None = None) -> list[int]:
    """At which of the prices, a second apart, the rule fires; the first is number 1, `before` it was made is 0."""
    record = Record()
    if before is not None:
        record.see(price(0, before, 0))
    record.begin(made)
    for number, close in enumerate(closes, 1):
        record.see(close if isinstance(close, SeenPrice) else price(number, close, number))
    return [fired.price for fired in record.fired if fired.price is not None]


L100 = Decimal(100)


def test_a_price_that_is_above_from_the_start_fires_at_once_and_a_crossing_has_to_be_crossed() -> None:
    assert fired_by(rule(1, Above(level=L100)), "101", "102", before="101") == [1]
    assert fired_by(rule(1, CrossesUp(level=L100)), "101", "102", "100", "100.01", before="101") == [4]


def test_a_price_on_the_level_has_not_crossed_it() -> None:
    assert fired_by(rule(1, CrossesDown(level=L100)), "100", "99.99", before="101") == [2]


def test_within_the_hysteresis_a_crossing_is_one() -> None:
    made = rule(1, CrossesUp(level=L100), hysteresis=Decimal(1))
    assert fired_by(made, "101", "99.5", "101", "99", "101", before="100") == [1, 5]


def test_a_failover_crosses_nothing_until_the_market_has_gone_further_than_the_sources_differ() -> None:
    def other(number: int, close: str) -> SeenPrice:
        return price(number, close, number, source="b")

    made = rule(1, CrossesUp(level=L100))
    assert fired_by(made, other(1, "100.5"), other(2, "101"), other(3, "101.01"), before="99.5") == [3]


def test_a_source_that_flaps_fires_nothing() -> None:
    flapping = [price(n, "100.5" if n % 2 else "99.5", n, source="b" if n % 2 else "a") for n in range(1, 30)]
    for kind in (Above, Below, CrossesUp, CrossesDown):
        assert fired_by(rule(1, kind(level=L100)), *flapping, before="99.5") in (
            [],
            [1] if kind is Below else [],
        )


def test_a_crossing_during_a_failover_is_seen_when_the_first_source_is_back() -> None:
    prices = [price(1, "103", 1, source="b"), price(2, "101", 2)]
    assert fired_by(rule(1, CrossesUp(level=L100)), *prices, before="99") == [2]


def test_after_a_long_gap_another_source_is_no_step() -> None:
    assert fired_by(rule(1, CrossesUp(level=L100)), price(1, "101", 300, source="b"), before="99") == [1]


def test_a_stale_price_fires_nothing_and_is_not_the_price_before() -> None:
    prices = [price(1, "99", 1, quality=Quality.STALE), price(2, "101", 2)]
    assert fired_by(rule(1, CrossesUp(level=L100)), *prices, before="101") == []


def test_a_window_has_no_hole_where_no_rule_looked_at_it() -> None:
    record = Record()
    record.begin(rule(1, NewLow(window_s=120.0), repeat=Repeat.ONCE))
    for number, close, seconds in ((1, 105, 0), (2, 104, 60), (3, 105, 70), (4, 103, 121)):
        record.see(price(number, close, seconds))
    assert [fired.rule_id for fired in record.fired] == ["r-1"]
    record.see(price(5, 100, 200))  # nobody looks
    record.begin(rule(2, NewLow(window_s=60.0), repeat=Repeat.ONCE))
    record.see(price(6, 99, 201))  # lower than that, so the rule is not armed yet
    record.see(price(7, 98, 202))
    assert [fired.rule_id for fired in record.fired] == ["r-1"]


def test_what_a_move_is_measured_against_lies_within_the_window() -> None:
    made = rule(1, Moves(amount=Decimal(2), window_s=5, direction=Direction.UP))
    prices = [
        price(n, close, t)
        for n, (close, t) in enumerate([("100", 0), ("101", 5), ("102", 9.9), ("103", 9.9)], 1)
    ]
    assert fired_by(made, *prices) == [4]


def test_a_new_high_needs_a_record_that_reaches_back() -> None:
    made = rule(1, NewHigh(window_s=5))
    assert fired_by(made, "100", "101", "102", "103", "104", "105", "104", "106") == [6, 8]


def test_nothing_is_swallowed_in_a_storm_but_it_ends() -> None:
    record = Record()
    record.begin(rule(1, CrossesUp(level=L100)))
    for number in range(1, 80):
        record.see(price(number, "101" if number % 2 else "99", number))
    assert len(record.fired) == 16
    assert [fired.paused for fired in record.fired] == [False] * 15 + [True]
    paused = record.evaluator.rules[1]
    last = record.fired[-1].price
    assert last is not None
    assert paused.snoozed_until == at(last + 900)


def test_between_calm_prices_nothing_fires() -> None:
    record = Record()
    record.see(price(0, "100", 0))
    watched: list[AnyCondition] = [
        Above(level=Decimal(103)),
        Below(level=Decimal(97)),
        Moves(amount=Decimal(2), window_s=60),
        NewLow(window_s=60),
        MovesPercent(percent=Decimal(5), window_s=60),
    ]
    for number, condition in enumerate(watched, 1):
        record.begin(rule(number, condition))
    record.see(price(1, "100", 61))
    calm = record.evaluator.calm(SYMBOL)
    assert (calm.low, calm.high) == (Decimal(100), Decimal(102))
    record.see(price(2, "101.99", 62))
    assert not record.fired
    record.see(price(3, "102", 63))
    assert [fired.rule_id for fired in record.fired] == ["r-3"]


def test_where_there_are_no_rules_every_price_is_calm() -> None:
    calm = Evaluator({}).calm(SYMBOL)
    assert calm.low < Decimal(-(10**9))
    assert calm.high > Decimal(10**9)
