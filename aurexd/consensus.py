"""`consensus`: one price of all fresh sources of a symbol, that no single one can move far. Pure.

Each source that is fresh and has proved itself (`selection.py`) has one vote, its bid and ask, or its last price for
both. Only the best quality votes: what is late by design is not held against what is live, and made-up prices not
against real ones.

- The price is the *marginal median*: the median of the bids, the median of the asks, and their mid. It lies among those
  that agree as long as they are more than half, whatever the others say, and its bid is never above its ask.
- The *confidence* is half the width of the band in which the price lies: 1.4826 times the median absolute deviation of
  the votes' mids from it (a standard deviation, estimated robustly), or half its spread where that is more.
- Its time is the newest vote's.

No vote is thrown out for lying too far off: the median does not need it, and at a threshold votes would come and go
with every tick. A source that has left the market has been refused before (`screening.py`), and is not fresh then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from aurexd.market import Quality, Tick
from aurexd.selection import Candidate, Choice, Policy, Selection, Standing, lost

CONSENSUS = "consensus"
"""What its price's source is called."""

ROBUST_DEVIATION = Decimal("1.4826")
"""A median absolute deviation times this estimates the standard deviation of a normal distribution."""

_BEST_FIRST = (Quality.LIVE, Quality.DELAYED, Quality.SIMULATED)


class Consensus(Policy):
    """The robust centre of all fresh sources."""

    name = CONSENSUS
    passed_over = Standing.WORSE_QUALITY

    @property
    def carrier(self) -> str | None:
        """That it is nobody's alone; None while nobody ever delivered a price."""
        return CONSENSUS if self._makers else None

    def _awaits(self, candidate: Candidate) -> bool:
        return candidate not in self._makers

    def _choose(self, now: float) -> tuple[Candidate, ...]:
        makers = self._makers
        if self._opens is not None:
            return _best(c for c in self.candidates if c.tick) if self._provisional else makers
        fresh = [c for c in self.candidates if c.is_fresh(now)]
        proven = [c for c in fresh if c in makers or now >= c.proven_at(self.return_after_s)]
        return _best(proven or fresh) or makers

    def _choice(self, makers: Sequence[Candidate]) -> Choice:
        ticks = [maker.tick for maker in makers if maker.tick is not None]
        return centre(ticks)

    def _made(self, before: tuple[Candidate, ...], now: float) -> str:
        votes = _listed([maker.source for maker in self._makers])
        gone = [c for c in before if c not in self._makers and not c.is_fresh(now)]
        return f"{lost(gone)}; {votes}" if gone else votes


POLICIES: dict[str, type[Policy]] = {policy.name: policy for policy in (Selection, Consensus)}
"""By the name that the configuration has for it."""


def centre(ticks: Sequence[Tick]) -> Choice:
    """What these amount to; one of each source, in configuration order, one at least."""
    books = [_book(tick) for tick in ticks]
    bid, ask = _median([bid for bid, _ in books]), _median([ask for _, ask in books])
    mid = (bid + ask) / 2
    apart = ROBUST_DEVIATION * _median([abs((bid + ask) / 2 - mid) for bid, ask in books])
    confidence = max(apart, (ask - bid) / 2)
    quoted = any(tick.bid is not None and tick.ask is not None for tick in ticks)
    newest = max(ticks, key=lambda tick: tick.receive_time)
    tick = Tick(
        symbol=newest.symbol,
        source=CONSENSUS,
        instrument=newest.instrument,
        source_time=max(tick.source_time for tick in ticks),
        receive_time=newest.receive_time,
        bid=bid if quoted else None,
        ask=ask if quoted else None,
        last=None if quoted else mid,
        simulated=newest.simulated,
    )
    alone = len(ticks) == 1 and not quoted
    return Choice(tick, tuple(tick.source for tick in ticks), None if alone else confidence)


def _median(values: list[Decimal]) -> Decimal:
    """As `statistics.median`, which takes three times as long."""
    values.sort()
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def _book(tick: Tick) -> tuple[Decimal, Decimal]:
    if tick.bid is not None and tick.ask is not None:
        return tick.bid, tick.ask
    if tick.last is None:
        raise ValueError(f"{tick.source}: a tick of {tick.symbol} without a price")
    return tick.last, tick.last


def _best(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Those of the best quality that one of them has."""
    qualities = [(candidate, candidate.quality()) for candidate in candidates]
    for best in _BEST_FIRST:
        if voters := tuple(candidate for candidate, quality in qualities if quality is best):
            return voters
    return ()


def _listed(names: Sequence[str]) -> str:
    """`a votes`, `a, b and c vote`."""
    if len(names) == 1:
        return f"{names[0]} votes alone"
    return f"{', '.join(names[:-1])} and {names[-1]} vote"
