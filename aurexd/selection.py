"""Which source carries a symbol's price: the best fresh one by priority, with hysteresis. Pure.

One `Selection` per symbol, so a price never fails over across instruments. Time is the event loop's, in seconds,
passed in: `now` never goes backwards. Who is told what stands in `actors/aggregator.py`.

The rules:

1. A source is *fresh* while its newest tick is younger than its `stale_after_s`, counted from its arrival here. A
   tick that was already too old when it arrived (a frozen feed replaying its last quote) makes nobody fresh.
2. While the carrier is fresh it keeps the price, unless a source of better priority is fresh: at once if that one
   has never been lost, else after it has been fresh for `return_after_s` without a gap.
3. When the carrier is no longer fresh, the best fresh source takes over at once.
4. When nobody is fresh, the last carrier keeps the symbol and the quality is stale.
5. While the market is closed the carrier stays, the quality is closed, and the price only moves by what belongs to
   the session that has ended (a delayed provider's last minutes) or is made up or recorded. Who carries no price yet
   takes the first that each source gives, so that a daemon started on a weekend can show one.
6. When the market opens, nobody counts as lost for having been silent. The price stays closed until the first fresh
   one, for as long as the carrier may need to give one; then it is stale.
"""

from __future__ import annotations

import math

import msgspec

from aurexd.market import SECOND_US, EpochUs, Quality, Tick, format_time

CLOCK_TOLERANCE_S = 60.0
"""A live source's time may differ from ours by this much before its price counts as delayed: clocks are not exact,
and calling a good price delayed because of a wrong clock helps nobody."""


NO_PRICE = "no source has delivered a price yet"


class Candidate(msgspec.Struct):
    """One source of the symbol and what was last heard from it."""

    source: str
    priority: int
    stale_after_s: float
    known_delay_s: float = 0.0
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

    def quality(self) -> Quality:
        """How far its price can be trusted while it is fresh."""
        assert self.tick is not None
        if self.tick.simulated:
            return Quality.SIMULATED
        return Quality.DELAYED if self.known_delay_s or self.lag_s > CLOCK_TOLERANCE_S else Quality.LIVE


class Verdict(msgspec.Struct, frozen=True):
    """What follows from a tick or from time passing."""

    publish: Tick | None
    """The tick that is the symbol's price now; None when the price did not move."""
    changed: bool
    """The carrier or the quality is another than before."""
    reason: str = ""
    """Why it changed, for people."""


NOTHING = Verdict(publish=None, changed=False)


class Selection:
    """The choice among one symbol's sources."""

    def __init__(self, candidates: list[Candidate], *, return_after_s: float) -> None:
        """`candidates` in configuration order: of equal priorities the earlier is better."""
        self._candidates = {c.source: c for c in candidates}
        self._ranked = sorted(candidates, key=lambda c: c.priority)  # stable: configuration order breaks ties
        self._return_after_s = return_after_s
        self._carrier: Candidate | None = None
        self._opens: EpochUs | None = None
        """When the market opens; None while it is open."""
        self._awaited_until = -math.inf
        """Loop time until which the first price of a session is awaited."""
        self._provisional = True
        """Nobody has been fresh in an open market yet."""
        self.quality = Quality.STALE
        self.reason = NO_PRICE

    @property
    def sources(self) -> tuple[str, ...]:
        """All that serve the symbol, in configuration order."""
        return tuple(self._candidates)

    @property
    def carrier(self) -> str | None:
        """The source whose price this is; None while nobody ever delivered one."""
        return self._carrier.source if self._carrier else None

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
            first = self._carrier or next(iter(self._ranked), None)
            if first is not None:
                self._awaited_until = now + first.stale_after_s + first.known_delay_s
        before = self._carrier
        verdict = self._judge(now, None)
        self.reason = self._explain(before, now)
        return Verdict(verdict.publish, changed=True, reason=self.reason)

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
        carrier = self._carrier
        if self._opens is not None:
            return math.inf
        if carrier is None or not carrier.is_fresh(now):
            return self._awaited_until if self._awaited_until > now else math.inf
        returning = [
            c.fresh_since + self._return_after_s
            for c in self._ranked
            if c.priority < carrier.priority
            and c.is_fresh(now)
            and c.fresh_since + self._return_after_s > now
        ]
        return min([carrier.stale_at, *returning])

    def _judge(self, now: float, tick: Tick | None) -> Verdict:
        before, quality_before = self._carrier, self.quality
        carrier = self._carrier = self._choose(now)
        fresh = carrier is not None and carrier.is_fresh(now)
        self._provisional = self._provisional and not (fresh and self._opens is None)
        self.quality = self._quality(now)
        changed = carrier is not before or self.quality is not quality_before
        if changed:
            self.reason = self._explain(before, now)
        if carrier is not None and carrier is not before:
            return Verdict(carrier.tick, changed=True, reason=self.reason)
        counts = tick is not None and carrier is not None and tick is carrier.tick
        publish = tick if counts and (fresh or self._opens is not None) else None
        if not changed and publish is None:
            return NOTHING
        return Verdict(publish, changed, self.reason if changed else "")

    def _quality(self, now: float) -> Quality:
        carrier = self._carrier
        if self._opens is not None:
            return Quality.CLOSED
        if carrier is not None and carrier.is_fresh(now):
            return carrier.quality()
        return Quality.CLOSED if now < self._awaited_until else Quality.STALE

    def _choose(self, now: float) -> Candidate | None:
        carrier = self._carrier
        if self._opens is not None:
            heard = (c for c in self._ranked if c.tick is not None)
            return next(heard, None) if self._provisional else carrier
        if carrier is None or not carrier.is_fresh(now):
            return next((c for c in self._ranked if c.is_fresh(now)), carrier)
        for candidate in self._ranked:
            if candidate.priority >= carrier.priority:
                break
            # The same sum as in `next_change`: the difference of the two may fall short of it by a rounding error.
            proven = not candidate.lost or now >= candidate.fresh_since + self._return_after_s
            if candidate.is_fresh(now) and proven:
                return candidate
        return carrier

    def _explain(self, before: Candidate | None, now: float) -> str:
        carrier = self._carrier
        if self._opens is not None:
            return f"the market is closed until {format_time(self._opens)}"
        if self.quality is Quality.CLOSED:
            return "the market has opened; its first price is awaited"
        if carrier is None:
            return NO_PRICE
        if self.quality is Quality.STALE:
            return f"{carrier.source}: no fresh price for {carrier.stale_after_s:g} s, and no other source is fresh"
        if before is None or before is carrier:
            return f"{carrier.source} carries the price"
        if not before.is_fresh(now):
            return f"{before.source}: no fresh price for {before.stale_after_s:g} s; {carrier.source} carries the price"
        return f"{carrier.source} is {'back' if carrier.lost else 'there'} and has the better priority"
