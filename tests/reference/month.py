"""A month of real minutes through the daemon's rooms, cut into batches and restarts in a thousand ways.

    python -m tests.reference.month --file BARS.csv.gz [--rules 2000] [--cuts 1000] [--seed 1]

The bars are a CSV with `time_utc,open,high,low,close,volume`; each bar with a volume gives four prices, and a feed that
says nothing for a while is announced as stale, or its market as closed. First comes the whole month with all rules, of
every kind as many: candles and alerts must be those of the plain fold (tests/reference/evaluator.py). Then one stretch
of it after the other, each time cut in another way: nothing may be lost, and nothing doubled. Without `--file` it is a
random walk.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.reference.evaluator import (
    SECOND,
    Alert,
    Candle,
    Condition,
    Price,
    Rule,
    Run,
    Status,
    evaluate,
    in_order,
    is_late,
)
from tests.reference.record import count_differences, make_candles, read_record
from tests.reference.rooms import Rooms, day
from tests.reference.walks import CENT, Event, quick_windows

SYMBOL = "XAUUSD"
BEGIN = 1_717_372_800 * SECOND
"""2024-06-03T00:00:00Z, a Monday: when a random month begins."""

STALE_AFTER, CLOSED_AFTER = 100 * SECOND, 1800 * SECOND
"""Without a price."""

KINDS = (
    *("above", "below", "crosses_up", "crosses_down", "leaves_range", "moves", "moves_percent"),
    *("new_high", "new_low", "becomes_stale", "market_opens", "market_closes"),
)


class Bar(NamedTuple):
    """One minute."""

    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


def read_bars(file: Path) -> list[Bar]:
    """The minutes in which there was a quote."""
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", newline="") as text:
        return [
            Bar(
                int(datetime.fromisoformat(row["time_utc"]).replace(tzinfo=UTC).timestamp()) * SECOND,
                *(Decimal(row[name]).quantize(CENT) for name in ("open", "high", "low", "close")),
            )
            for row in csv.DictReader(text)
            if float(row["volume"])
        ]


def walk_bars(seed: int, count: int) -> list[Bar]:
    """Minutes that nobody saw, with the breaks that the market makes."""
    rng = random.Random(seed)
    bars: list[Bar] = []
    close, moment = Decimal("2350.00"), BEGIN
    while len(bars) < count:
        open_ = close + CENT * round(rng.gauss(0, 5))
        close = open_ + CENT * round(rng.gauss(0, 60))
        high = max(open_, close) + CENT * abs(round(rng.gauss(0, 30)))
        low = min(open_, close) - CENT * abs(round(rng.gauss(0, 30)))
        bars.append(Bar(moment, open_, high, low, close))
        moment += 60 * SECOND * (1 if rng.random() < 0.98 else rng.choice((5, 61, 2900)))
    return bars


def prices_of(bars: Sequence[Bar], seed: int) -> list[Price]:
    """Four prices a bar, from sources that take turns now and then: the second is a little dearer."""
    rng = random.Random(seed)
    prices: list[Price] = []
    source, basis = "first", Decimal(0)
    for bar in bars:
        if rng.random() < 0.004:
            source, basis = rng.choice((("first", Decimal(0)), ("second", Decimal("0.35"))))
        between = (bar.low, bar.high) if bar.close > bar.open else (bar.high, bar.low)
        for number, close in enumerate((bar.open, *between, bar.close)):
            arrival = bar.time + (1, 20, 40, 59)[number] * SECOND + rng.randrange(900_000)
            lag = rng.choice((0, 100_000, 400_000, 12 * SECOND if rng.random() < 0.02 else 0))
            prices.append(
                Price(len(prices) + 1, SYMBOL, close + basis, source, "live", arrival - lag, arrival)
            )
    return prices


def statuses_of(prices: Sequence[Price]) -> list[Status]:
    """What is announced meanwhile: that no price comes, that the market is closed, and that all is well again."""
    statuses: list[Status] = []

    def announce(before: int, quality: str, market: str, moment: int) -> None:
        number = len(statuses) + 1
        statuses.append(Status(number, before, SYMBOL, quality, "first", market, moment))

    announce(0, "live", "open", prices[0].receive_time)
    for before, now in pairwise(prices):
        silent_for = now.receive_time - before.receive_time
        if silent_for > STALE_AFTER:
            announce(before.id, "stale", "open", before.receive_time + STALE_AFTER)
            if silent_for > CLOSED_AFTER:
                announce(before.id, "closed", "closed", before.receive_time + CLOSED_AFTER)
            announce(before.id, "live", "open", now.receive_time)
    return statuses


def rules_for(prices: Sequence[Price], statuses: Sequence[Status], count: int, seed: int) -> list[Rule]:
    """Rules made at the beginning and on the way, about prices that come later: most of them fire."""
    rng = random.Random(seed)
    begun = sorted(rng.choice((0, rng.randrange(len(prices)))) for _ in range(count))
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    rng.shuffle(kinds)
    announced = [status.price_id for status in statuses]
    return [
        _rule(rng, number, kind, prices[place:])._replace(
            price_id=place, status_id=bisect_right(announced, place)
        )
        for number, (kind, place) in enumerate(zip(kinds, begun, strict=True), 1)
    ]


def _rule(rng: random.Random, number: int, kind: str, prices: Sequence[Price]) -> Rule:
    later = rng.choice(prices)
    level = later.close + CENT * rng.randrange(-20, 21)
    condition = Condition(
        kind,
        level=level,
        low=level - rng.randrange(1, 30),
        high=level,
        amount=Decimal(rng.choice(("1.5", "4", "12"))) / (8 if kind == "moves_percent" else 1),
        window=rng.choice((60, 300, 900, 3600, 14_400, 86_400, 3 * 86_400, 7 * 86_400)) * SECOND,
        direction=rng.choice(("up", "down", "either")),
    )
    hysteresis = Decimal(rng.choice(("0", "0", "0.10", "0.50", "1.00")))
    if kind == "moves_percent":
        hysteresis /= 10
    return Rule(
        rule_id=f"r-{number}",
        owner=f"user-{rng.randrange(20)}",
        symbol=SYMBOL,
        condition=condition,
        repeat=rng.choice(("once", "every_time", "every_time", "once_per_session")),
        hysteresis=hysteresis,
        cooldown=rng.choice((900, 3600) if kind.startswith("new") else (0, 0, 60, 3600)) * SECOND,
        expires=later.receive_time if rng.random() < 0.05 else None,
        snoozed_until=later.receive_time if rng.random() < 0.05 else None,
    )


# --- through the rooms ---


Candles: TypeAlias = dict[tuple[str, str], list[Candle]]


class Cut(NamedTuple):
    """A way of cutting."""

    seed: int
    restarts: float
    """After how many of the batches aurexd starts again."""
    longest: int
    """Prices and statuses in the longest batch."""


class Part(NamedTuple):
    """What is played, and what should come of it."""

    prices: Sequence[Price]
    statuses: Sequence[Status]
    rules: Sequence[Rule]
    alerts: Sequence[Alert]
    candles: Candles


def part_of(prices: Sequence[Price], count: int, seed: int) -> Part:
    """These prices with so many rules, judged by the plain fold as if there were no restarts."""
    statuses = statuses_of(prices)
    rules = rules_for(prices, statuses, count, seed)
    runs: list[Run] = []
    alerts = evaluate(prices, statuses, runs, rules, day, quick_windows)
    return Part(prices, statuses, rules, alerts, make_candles(prices))


def play(path: Path, part: Part, cut: Cut) -> int:
    """Tell the rooms of all in order, with batches and restarts; how many restarts there were."""
    rng = random.Random(cut.seed)
    rooms = Rooms(path)
    waiting = list(part.rules)
    batch: list[Event] = []
    size = rng.randint(1, cut.longest)
    restarts = 0
    for event in in_order(part.prices, part.statuses):
        while isinstance(event, Price) and waiting and waiting[0].price_id < event.id:
            rooms.append(batch)  # a rule is made between two batches
            batch = []
            rooms.make(waiting.pop(0))
        batch.append(event)
        if len(batch) >= size:
            rooms.append(batch)
            batch = []
            size = rng.choice((1, rng.randint(1, 5), rng.randint(1, cut.longest)))
            if rng.random() < cut.restarts:
                restarts += 1
                rooms.restart(orderly=rng.random() < 0.5)
    rooms.append(batch)
    for rule in waiting:
        rooms.make(rule)
    rooms.close()
    return restarts


class Outcome(NamedTuple):
    """Of one pass."""

    fired: list[Alert]
    lost: int
    doubled: int
    invented: int
    candles: int
    """That differ."""
    restarts: int

    @property
    def is_right(self) -> bool:
        """Nothing is lost, nothing is doubled, and all is the same."""
        return not (self.lost or self.doubled or self.invented or self.candles)


def compare(path: Path, part: Part, cut: Cut) -> Outcome:
    """Play it, and hold what is in the database against what should be there."""
    restarts = play(path, part, cut)
    record = read_record(path)
    if record.prices != part.prices or record.statuses != part.statuses:
        raise RuntimeError(f"{path}: the store has not recorded what it was told")
    known = [alert._replace(late=fires_late(alert, record.runs)) for alert in part.alerts]
    fired = [row.alert for row in record.alerts]
    surplus = Counter(fired)
    surplus.subtract(Counter(known))
    doubled = sum(count for alert, count in surplus.items() if count > 0 and alert in set(known))
    lost = -sum(count for count in surplus.values() if count < 0)
    invented = sum(count for count in surplus.values() if count > 0) - doubled
    if fired != known and not (lost or invented or doubled):
        invented = 1  # the same, in another order
    return Outcome(fired, lost, doubled, invented, count_differences(part.candles, record.candles), restarts)


def fires_late(alert: Alert, runs: Sequence[Run]) -> bool:
    """Whether aurexd has started between what fired it and the one before."""
    if alert.status_id is None:
        return is_late(alert.previous_price_id, alert.price_id, runs)
    return any(alert.status_id - 1 <= run.status_id < alert.status_id for run in runs)


def stretches_of(prices: Sequence[Price], length: int) -> Iterator[list[Price]]:
    """The month in parts, each numbered from 1."""
    for start in range(0, len(prices), length):
        yield [price._replace(id=number) for number, price in enumerate(prices[start : start + length], 1)]


def main() -> int:
    """The command; the exit status is 0 when nothing is lost and nothing doubled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", type=Path, help="minutes, CSV or gzip; default: a random walk")
    parser.add_argument("--bars", type=int, default=30_000, help="of the walk")
    parser.add_argument("--rules", type=int, default=2000, help="over the whole month")
    parser.add_argument(
        "--stretch", type=int, default=1200, help="prices that one way of cutting is tried on"
    )
    parser.add_argument("--stretch-rules", type=int, default=60, help="over each of these")
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    bars = read_bars(arguments.file) if arguments.file else walk_bars(arguments.seed, arguments.bars)
    prices = prices_of(bars, arguments.seed)
    right = True
    memory = Path("/dev/shm")  # noqa: S108 — where a commit costs nothing: it is not the disk that is judged here
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        began = time.monotonic()
        month = part_of(prices, arguments.rules, arguments.seed)
        print(f"{len(bars)} minutes, {len(prices)} prices, {len(month.statuses)} statuses, ", end="")
        print(f"{len(month.rules)} rules: the reference has {len(month.alerts)} alerts", end=" ")
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
        began = time.monotonic()
        whole = compare(Path(folder) / "month.db", month, Cut(arguments.seed, 0.1, 400))
        kinds = {rule.rule_id: rule.condition.kind for rule in month.rules}
        print("fired:", dict(Counter(kinds[alert.rule_id] for alert in whole.fired).most_common()))
        report("the month", [whole], time.monotonic() - began)
        right = whole.is_right
        outcomes: list[Outcome] = []
        began = time.monotonic()
        parts = [
            part_of(own, arguments.stretch_rules, number)
            for number, own in enumerate(stretches_of(prices, arguments.stretch))
        ]
        for number in range(arguments.cuts):
            shape = random.Random(number)
            cut = Cut(number, shape.choice((0.02, 0.1, 0.4)), shape.choice((20, 100, 500)))
            path = Path(folder) / f"{number}.db"
            outcomes.append(compare(path, parts[number % len(parts)], cut))
            for file in Path(folder).glob(f"{number}.db*"):
                file.unlink()
            if not outcomes[-1].is_right:
                print(f"WRONG cut {number}: {outcomes[-1]._replace(fired=[])}")
                right = False
        if outcomes:
            report(
                f"{len(outcomes)} ways of cutting {len(parts)} stretches", outcomes, time.monotonic() - began
            )
    return 0 if right else 1


def report(what: str, outcomes: Sequence[Outcome], took_s: float) -> None:
    """One line."""
    print(
        f"{what}: {sum(len(outcome.fired) for outcome in outcomes)} alerts fired,"
        f" {sum(outcome.restarts for outcome in outcomes)} restarts;"
        f" lost {sum(outcome.lost for outcome in outcomes)},"
        f" doubled {sum(outcome.doubled for outcome in outcomes)},"
        f" invented {sum(outcome.invented for outcome in outcomes)},"
        f" candles that differ {sum(outcome.candles for outcome in outcomes)} ({took_s:.0f} s)",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
