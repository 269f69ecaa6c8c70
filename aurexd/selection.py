"""Who makes a symbol's price, and how far it can be trusted: what all policies have in common, and `priority`. Pure.

One policy object per symbol, so a price is never made of two instruments. Time is the event loop's, in seconds, passed
in: `now` never goes backwards. Who is told what stands in `actors/aggregator.py`.

The rules of all policies:

1. A source is *fresh* while its newest tick is younger than its `stale_after_s`, counted from its arrival here. A
   tick that was already too old when it arrived (a frozen feed replaying its last quote) makes nobody fresh.
2. A source that was lost makes the price again after it has been fresh for `return_after_s` without a gap, or when
   nobody else is fresh.
3. When nobody is fresh, the last price stays and the quality is stale.
4. While the market is closed those who made the price stay, the quality is closed, and the price only moves by what
   belongs to the session that has ended (a delayed provider's last minutes) or is made up or recorded. Where there is
   no price yet it is made of the first that each source gives, so that a daemon started on a weekend can show one.
5. When the market opens, nobody counts as lost for having been silent. The price stays closed until the first fresh
   one, for as long as who made the last may need to give one; then it is stale.

`priority`, the rule of `Selection`: while its carrier is fresh it keeps the price, unless a fresh source of better
priority may have it; when it is no longer, the best fresh source takes over at once. (`consensus.py` has the other.)
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from aurexd.market import SECOND_US, EpochUs, Quality, Tick, format_time

CLOCK_TOLERANCE_S = 60.0
"""A live source's time may differ from ours by this much before its price counts as delayed: clocks are not exact,
and calling a good price delayed because of a wrong clock helps nobody."""


NO_PRICE = "no source has delivered a price yet"


class Candidate(msgspec.Struct, eq=False):
    """One source of the symbol and what was last heard from it."""

    source: str
    priority: int
    stale_after_s: float
    known_delay_s: float = 0.0
    simulated: bool = False
    """Its prices are made up or recorded."""
    tick: Tick | None = None
    lag_s: float = 0.0
    """How old that tick was when it arrived."""
    stale_at: float = -math.inf
    """Loop time at which its price goes stale."""
    fresh_since: float = math.inf
    lost: bool = False
    """It went stale once: a return has to prove itself."""

    def is_fresh(self, now: float) -> bool:
        return now < self.stale_at

    def observe(self, tick: Tick, now: float, ahead_us: int) -> None:
        was_fresh = self.is_fresh(now)
        self.tick = tick
        self.lag_s = (tick.receive_time - tick.source_time + ahead_us) / SECOND_US
        if not tick.simulated and self.lag_s > self.known_delay_s + max(
            self.stale_after_s, CLOCK_TOLERANCE_S
        ):
            self.stale_at = -math.inf
        else:
            self.stale_at = now + self.stale_after_s
            if not was_fresh:
                self.lost = self.lost or self.fresh_since < math.inf
                self.fresh_since = now

    def allow(self, stale_after_s: float, now: float) -> None:
        if self.is_fresh(now):
            self.stale_at += max(0.0, stale_after_s - self.stale_after_s)
        self.stale_after_s = stale_after_s

    def forgive(self, now: float) -> None:
        """The market was closed: to have been silent is no loss."""
        self.lost = False
        if not self.is_fresh(now):
            self.fresh_since = math.inf

    def proven_at(self, return_after_s: float) -> float:
        """Loop time from which it may carry the price again, while it stays fresh."""
        return self.fresh_since + return_after_s if self.lost else -math.inf

    def quality(self) -> Quality:
        """How far its price can be trusted while it is fresh."""
        assert self.tick is not None
        if self.tick.simulated:
            return Quality.SIMULATED
        return Quality.DELAYED if self.known_delay_s or self.lag_s > CLOCK_TOLERANCE_S else Quality.LIVE


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What the price is made of."""

    tick: Tick
    """A source's own, or what several amount to."""
    votes: tuple[str, ...] = ()
    """Of several: whose; in configuration order."""
    confidence: Decimal | None = None
    """Of several: how near to it the price lies; see `consensus.py`."""


class Verdict(msgspec.Struct, frozen=True):
    """What follows from a tick or from time passing."""

    publish: Choice | None
    """The symbol's price now; None when it did not move."""
    changed: bool
    """Who makes the price, or the quality, is another than before."""
    reason: str = ""
    """Why it changed, for people."""


class Standing(StrEnum):
    """Whether a source has a part in the price, and why not."""

    COUNTS = "counts"
    NO_PRICE = "no_price"
    """It has not given any that counts."""
    STALE = "stale"
    RETURNING = "returning"
    """It was lost, and has to be fresh for a while."""
    WORSE_QUALITY = "worse_quality"
    """Its price is older by design, or made up, and others' are not."""
    OUTRANKED = "outranked"
    """Another of its kind carries the price, by priority or because it did already."""
    MARKET_CLOSED = "market_closed"
    """Those who made the price when the market closed keep it."""


NOTHING = Verdict(publish=None, changed=False)


class Policy(abc.ABC):
    """How one price is made of one symbol's sources."""

    name: str
    passed_over: Standing
    """What a source is that might have a part in the price and has none."""

    def __init__(self, candidates: list[Candidate], *, return_after_s: float) -> None:
        """`candidates` in configuration order: of equal priorities the earlier is better."""
        self._candidates = {c.source: c for c in candidates}
        self._ranked = sorted(candidates, key=lambda c: c.priority)  # stable: configuration order breaks ties
        self.return_after_s = return_after_s
        self._makers: tuple[Candidate, ...] = ()
        """Who makes the price."""
        self.made_by_since = -math.inf
        """Loop time since when these do."""
        self._opens: EpochUs | None = None
        """When the market opens; None while it is open."""
        self._awaited_until = -math.inf
        """Loop time until which the first price of a session is awaited."""
        self._provisional = True
        """Nobody has been fresh in an open market yet."""
        self.quality = Quality.STALE
        self.reason = NO_PRICE

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All that serve the symbol, in configuration order, as they stand: to be looked at only."""
        return tuple(self._candidates.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of all that serve the symbol, in configuration order."""
        return tuple(self._candidates)

    @property
    @abc.abstractmethod
    def carrier(self) -> str | None:
        """What the price's source is called; None while nobody ever delivered one."""

    @property
    def market_is_open(self) -> bool:
        """Whether the market trades, as far as it was told."""
        return self._opens is None

    def set_market(self, opens: EpochUs | None, now: float) -> Verdict:
        """The market is open (None), or closed until `opens`."""
        if opens == self._opens:
            return NOTHING
        self._opens = opens
        if opens is None:
            for candidate in self._ranked:
                candidate.forgive(now)
            needs_s = [c.stale_after_s + c.known_delay_s for c in self._makers or self._ranked[:1]]
            self._awaited_until = now + max(needs_s, default=-math.inf)
        before = self._makers
        verdict = self._judge(now, None)
        self.reason = self._explain(before, now)
        return Verdict(verdict.publish, changed=True, reason=self.reason)

    def restore(self, sources: Iterable[str]) -> bool:
        """The last price, from before a start, was made by these; whether that is still worth something.

        To be told before anything else but the market's state, which must be closed. It is worth nothing when one of
        them no longer serves the symbol, or made its prices up: whoever plays a recording again does not want its end.
        """
        makers = [self._candidates.get(source) for source in sources]
        known = tuple(maker for maker in makers if maker is not None and not maker.simulated)
        if self._opens is None or not known or len(known) < len(makers):
            return False
        self._makers, self._provisional = known, False
        return True

    def takes(self, tick: Tick, *, in_session: bool) -> bool:
        """Whether `tick` can count at all now; `in_session`: its source time lies in the newest session.

        Raises:
            KeyError: the tick's source does not serve this symbol.

        """
        first = self._provisional and self._candidates[tick.source].tick is None
        return self._opens is None or tick.simulated or in_session or first

    def observe(self, tick: Tick, now: float, *, ahead_us: int = 0) -> Verdict:
        """A source delivered `tick`, which counts (see `takes`); its clock is ahead of ours by `ahead_us`.

        Raises:
            KeyError: the tick's source does not serve this symbol.

        """
        self._candidates[tick.source].observe(tick, now, ahead_us)
        return self._judge(now, tick)

    def allow(self, source: str, stale_after_s: float, now: float) -> None:
        """From here on a price of `source` may be that old. One that is fresh now is not stale any sooner for it.

        A source that does not serve this symbol is none of its business.
        """
        if source in self._candidates:
            self._candidates[source].allow(stale_after_s, now)

    def elapse(self, now: float) -> Verdict:
        """Time passed; to be called at `next_change()`, harmless at any other time."""
        return self._judge(now, None)

    def next_change(self, now: float) -> float:
        """Loop time before which nothing changes without a tick; later than `now`, `inf` when only a tick can."""
        if self._opens is not None:
            return math.inf
        if not _any_fresh(self._makers, now):
            return self._awaited_until if self._awaited_until > now else math.inf
        change = math.inf
        for c in self._makers:
            if now < c.stale_at < change:
                change = c.stale_at
        for c in self._ranked:
            # Of those that were lost and are fresh: the others have nothing to prove.
            if (
                c.lost
                and now < c.stale_at
                and now < c.proven_at(self.return_after_s) < change
                and self._awaits(c)
            ):
                change = c.proven_at(self.return_after_s)
        return change

    def standing(self, source: str, now: float) -> Standing:
        """What part a source has in the price, as of `now`.

        Raises:
            KeyError: it does not serve this symbol.

        """
        candidate = self._candidates[source]
        if candidate in self._makers and (candidate.is_fresh(now) or self._opens is not None):
            return Standing.COUNTS
        if candidate.tick is None:
            return Standing.NO_PRICE
        if self._opens is not None:
            return Standing.MARKET_CLOSED
        if not candidate.is_fresh(now):
            return Standing.STALE
        if candidate.proven_at(self.return_after_s) > now and self._awaits(candidate):
            return Standing.RETURNING
        return self.passed_over

    @abc.abstractmethod
    def _choose(self, now: float) -> tuple[Candidate, ...]:
        """Who makes the price now."""

    @abc.abstractmethod
    def _awaits(self, candidate: Candidate) -> bool:
        """Whether a fresh source will have a part in the price once it has proved itself."""

    @abc.abstractmethod
    def _choice(self, makers: Sequence[Candidate]) -> Choice:
        """The price that they make; each has a tick, and there is one at least."""

    @abc.abstractmethod
    def _made(self, before: tuple[Candidate, ...], now: float) -> str:
        """How it came that these make the price and not those before, for people; they are fresh."""

    def _judge(self, now: float, tick: Tick | None) -> Verdict:
        before, quality_before = self._makers, self.quality
        makers = self._makers = self._choose(now)
        fresh = _any_fresh(makers, now)
        if fresh and self._opens is None:
            self._provisional = False
        self.quality = self._quality(now, fresh=fresh)
        others = makers != before
        changed = others or self.quality is not quality_before
        if others:
            self.made_by_since = now
        if changed:
            self.reason = self._explain(before, now)
        publish = None
        if others or (tick is not None and (fresh or self._opens is not None) and _has(makers, tick)):
            publish = self._choice(makers)
        if not changed and publish is None:
            return NOTHING
        return Verdict(publish, changed, self.reason if changed else "")

    def _quality(self, now: float, *, fresh: bool) -> Quality:
        if self._opens is not None:
            return Quality.CLOSED
        if fresh:
            return self._makers[0].quality()
        return Quality.CLOSED if now < self._awaited_until else Quality.STALE

    def _explain(self, before: tuple[Candidate, ...], now: float) -> str:
        if self._opens is not None:
            return f"the market is closed until {format_time(self._opens)}"
        if self.quality is Quality.CLOSED:
            return "the market has opened; its first price is awaited"
        if not self._makers:
            return NO_PRICE
        if self.quality is Quality.STALE:
            return f"{lost(self._makers)}, and no other source is fresh"
        return self._made(before, now)


def lost(makers: Sequence[Candidate]) -> str:
    """That these are no longer fresh, for people."""
    return "; ".join(f"{c.source}: no fresh price for {c.stale_after_s:g} s" for c in makers)


# Asked several times a tick, of one or a few: a generator takes five times as long.


def _has(makers: tuple[Candidate, ...], tick: Tick) -> bool:
    for maker in makers:  # noqa: SIM110
        if maker.tick is tick:
            return True
    return False


def _any_fresh(makers: tuple[Candidate, ...], now: float) -> bool:
    for maker in makers:  # noqa: SIM110
        if now < maker.stale_at:
            return True
    return False


class Selection(Policy):
    """`priority`: the best fresh source alone, with hysteresis."""

    name = "priority"
    passed_over = Standing.OUTRANKED

    @property
    def carrier(self) -> str | None:
        """The source whose price this is; None while nobody ever delivered one."""
        return self._makers[0].source if self._makers else None

    def _awaits(self, candidate: Candidate) -> bool:
        return candidate.priority < self._makers[0].priority

    def _choose(self, now: float) -> tuple[Candidate, ...]:
        makers = self._makers
        if self._opens is not None:
            heard = tuple(c for c in self._ranked if c.tick is not None)
            return heard[:1] if self._provisional else makers
        if not _any_fresh(makers, now):
            fresh = next((c for c in self._ranked if c.is_fresh(now)), None)
            return (fresh,) if fresh is not None else makers
        for candidate in self._ranked:
            if candidate.priority >= makers[0].priority:
                break
            if candidate.is_fresh(now) and now >= candidate.proven_at(self.return_after_s):
                return (candidate,)
        return makers

    def _choice(self, makers: Sequence[Candidate]) -> Choice:
        tick = makers[0].tick
        assert tick is not None
        return Choice(tick)

    def _made(self, before: tuple[Candidate, ...], now: float) -> str:
        carrier = self._makers[0]
        if not before or before == self._makers:
            return f"{carrier.source} carries the price"
        if not before[0].is_fresh(now):
            return f"{lost(before)}; {carrier.source} carries the price"
        return f"{carrier.source} is {'back' if carrier.lost else 'there'} and has the better priority"
