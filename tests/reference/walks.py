"""Random walks of what may be recorded: prices, statuses, restarts and rules, from a seed; and quicker windows."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from tests.reference.evaluator import SECOND, Condition, Price, Rule, Run, Seen, Status, Window

BEGIN = 1_761_868_800 * SECOND
"""2025-10-31T00:00:00Z, a Friday: then comes a weekend, and the night on which New York's clock is set."""

DAY = 86_400 * SECOND
CENT = Decimal("0.01")

Event: TypeAlias = Price | Status | Run | Rule
"""In the order of the record."""


class Walk(NamedTuple):
    """What happened, and in which order."""

    events: tuple[Event, ...]

    @property
    def prices(self) -> list[Price]:
        """All prices, oldest first."""
        return [event for event in self.events if isinstance(event, Price)]

    @property
    def statuses(self) -> list[Status]:
        """All statuses, oldest first."""
        return [event for event in self.events if isinstance(event, Status)]

    @property
    def runs(self) -> list[Run]:
        """All starts, oldest first."""
        return [event for event in self.events if isinstance(event, Run)]

    @property
    def rules(self) -> list[Rule]:
        """All rules, in the order in which they were made."""
        return [event for event in self.events if isinstance(event, Rule)]


KINDS = (
    *("above", "above", "below", "crosses_up", "crosses_up", "crosses_down", "leaves_range", "leaves_range"),
    *("moves", "moves_percent", "new_high", "new_low", "becomes_stale", "market_opens", "market_closes"),
)


class Walker:
    """Makes a walk, step by step: nothing in it is likely, and everything possible."""

    def __init__(self, seed: int, symbols: Sequence[str], *, wild: bool = True, stormy: bool = False) -> None:
        """`wild`: with clocks that are set back, and recordings that are started over; `stormy`: all fires at once."""
        self.random = random.Random(seed)
        self.wild, self.stormy = wild, stormy
        self.now = BEGIN + self.random.randrange(4 * DAY)
        self.price_id = self.status_id = 0
        self.rule_count = 0
        self.symbols = symbols
        self.mids = dict.fromkeys(symbols, Decimal(100))
        self.sources = dict.fromkeys(symbols, "a")
        self.lags = dict.fromkeys(symbols, 0.0)
        self.qualities = dict.fromkeys(symbols, "live")
        self.markets = dict.fromkeys(symbols, "open")
        self.pace = 1.0
        self.owners = ("alice",) if stormy else ("alice", "bob", "carol")
        self.recording_starts = BEGIN
        self.recorded = False

    def walk(self, length: int, rules: int, *, restarts: float = 0.02) -> Walk:
        """A walk of so many prices; the rules are made on the way."""
        choose = self.random.random
        events: list[Event] = [Run(0, 0)]
        for _ in range(length):
            while self.rule_count < rules and choose() < max(0.5 * rules / length, 0.05):
                events.append(self.rule(self.random.choice(self.symbols)))
            if choose() < restarts:
                events.append(Run(self.price_id, self.status_id))
                if choose() < 0.7:
                    events += [self.status(symbol, source=None) for symbol in self.symbols]
            symbol = self.random.choice(self.symbols)
            if choose() < 0.06:
                self.turn(symbol)
                events.append(self.status(symbol, source=self.sources[symbol]))
            events.append(self.price(symbol))
        return Walk(tuple(events))

    def turn(self, symbol: str) -> None:
        """Something changes: the quality, the market, the pace, …"""
        rng = self.random
        if self.qualities[symbol] != "live" and rng.random() < 0.5:
            self.qualities[symbol] = "live"
            return
        match rng.randrange(6):
            case 0 | 1:
                self.qualities[symbol] = rng.choice(("live", "delayed", "stale", "closed", "simulated"))
            case 2:
                self.markets[symbol] = rng.choice(("open", "closed"))
            case 3:
                self.pace = rng.choice((0.2, 1.0, 1.0, 1.0, 5.0, 60.0))
            case 4:
                self.lags[symbol] = rng.choice((0.0, 0.0, 0.3, 8.0, 11.0, 700.0, -40.0))
            case 5:
                self.recorded = self.wild and rng.random() < 0.2
                self.recording_starts = self.now

    def pass_time(self) -> None:
        """Usually some seconds, now and then a weekend."""
        rng = self.random
        kind = rng.random()
        if kind < 0.9:
            passed = (0.2 if self.stormy else self.pace) * rng.choice((0.0, 0.1, 0.5, 1.0, 1.0, 2.0, 3.3))
        elif kind < 0.99:
            passed = rng.choice(
                (4.999999, 5.0, 10.0, 59.0, 60.0, 179.999999, 180.0, 299.999999, 300.0, 900.0)
            )
        else:
            passed = rng.choice((3600.0, 86_400.0, 200_000.0))
        if self.wild and rng.random() < 0.004:
            passed = -rng.choice((0.000001, 2.0, 400.0, 5000.0))
        self.now += round(passed * SECOND)

    def price(self, symbol: str) -> Price:
        """The next price."""
        rng = self.random
        self.pass_time()
        rebased = False
        self.mids[symbol] += CENT * rng.choice((-6, -3, -2, -1, 0, 0, 1, 2, 3, 6))
        if rng.random() < 0.02:
            self.mids[symbol] += CENT * rng.randrange(-15, 16)
        if abs(self.mids[symbol] - 100) > Decimal("0.3"):  # do not leave the levels behind
            self.mids[symbol] = 100 + (self.mids[symbol] - 100) / 2
        if rng.random() < 0.06:
            self.sources[symbol] = rng.choice(("a", "a", "b", "c", "d"))
        if rng.random() < 0.02:
            rebased = True
            self.mids[symbol] += CENT * rng.randrange(-6, 7)
        basis = {"a": 0, "b": 7, "c": -4, "d": 25}[self.sources[symbol]] * CENT
        lag = round(self.lags[symbol] * rng.choice((1.0, 1.0, 0.5)) * SECOND)
        source_time = self.now - lag
        if self.recorded and rng.random() < 0.2:
            source_time = BEGIN - DAY + (self.now - self.recording_starts) % (7200 * SECOND)
        self.price_id += 1
        return Price(
            self.price_id,
            symbol,
            (self.mids[symbol] + basis).quantize(CENT),
            self.sources[symbol],
            self.qualities[symbol],
            source_time,
            self.now,
            rebased,
        )

    def status(self, symbol: str, source: str | None) -> Status:
        """What is announced now."""
        self.status_id += 1
        quality = self.qualities[symbol] if source is not None else "stale"
        return Status(self.status_id, self.price_id, symbol, quality, source, self.markets[symbol], self.now)

    def rule(self, symbol: str, owner: str | None = None) -> Rule:
        """A rule about what may well happen."""
        rng = self.random
        self.rule_count += 1
        condition = self.condition()
        hysteresis = rng.choice((0, 0, 0, 1, 2, 5, 12)) * CENT
        if condition.kind in ("moves", "moves_percent"):
            hysteresis = min(hysteresis, condition.amount - CENT)
        if condition.kind == "leaves_range":
            hysteresis = min(hysteresis, condition.high - condition.low)
        return Rule(
            rule_id=f"r-{self.rule_count}",
            owner=owner or rng.choice(self.owners),
            symbol=symbol,
            condition=condition,
            repeat=rng.choice(("once", "every_time", "every_time", "every_time", "once_per_session")),
            hysteresis=hysteresis,
            cooldown=round(rng.choice((0, 0, 0, 1.5, 30, 0 if self.stormy else 600)) * SECOND),
            expires=self.soon() if rng.random() < 0.15 else None,
            snoozed_until=self.soon() if rng.random() < 0.15 else None,
            price_id=self.price_id,
            status_id=self.status_id,
        )

    def soon(self) -> int:
        """When a price may come, to the microsecond."""
        return self.now + self.random.choice((1, 2, 5, 10, 30, 60, 300, 3600)) * SECOND

    def condition(self) -> Condition:
        """Any condition, about prices around 100."""
        rng = self.random
        kind = rng.choice(KINDS)
        low = 100 + rng.randrange(-14, 20) * CENT
        return Condition(
            kind=kind,
            level=low,
            low=low,
            high=low + rng.choice((1, 3, 10, 40)) * CENT,
            amount=rng.choice((2, 5, 10, 20, 30)) * CENT,
            window=rng.choice((1, 7, 60, 60, 120, 300, 300, 3600, 86_400, 259_200)) * SECOND,
            direction=rng.choice(("up", "down", "either")),
        )


def quick_windows(prices: Sequence[Seen], length: int) -> list[Window]:
    """The same as `windows`, in one pass: of the prices in the window those are kept that may yet be an extreme."""
    found: list[Window] = []
    lows: deque[Seen] = deque()
    highs: deque[Seen] = deque()
    first: Seen | None = None
    for now in prices:
        if first is None or first.recording != now.recording:
            first = now
            lows.clear()
            highs.clear()
        own = now.price.close - now.steps
        for chain in (lows, highs):
            while chain and chain[0].time <= now.time - length:
                chain.popleft()
        low = _own(lows[0]) if lows else None
        high = _own(highs[0]) if highs else None
        found.append(
            Window(
                own if low is None else min(low, own),
                own if high is None else max(high, own),
                low,
                high,
                first is not now and first.time <= now.time - length,
            )
        )
        while lows and _own(lows[-1]) >= own:
            lows.pop()
        lows.append(now)
        while highs and _own(highs[-1]) <= own:
            highs.pop()
        highs.append(now)
    return found


def _own(price: Seen) -> Decimal:
    return price.price.close - price.steps


def cut(seed: int, count: int, longest: int) -> list[int]:
    """A way of cutting so many things into batches: how many are in each."""
    rng = random.Random(seed)
    sizes: list[int] = []
    while (done := sum(sizes)) < count:
        sizes.append(min(count - done, rng.choice((1, 1, 2, 3, rng.randint(1, longest)))))
    return sizes


def places(sizes: Sequence[int]) -> list[int]:
    """Where each batch ends."""
    return list(accumulate(sizes))


Days: TypeAlias = Callable[[str, int], tuple[int, int]]
