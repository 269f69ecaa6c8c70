"""Which ticks are believed: each is held against its source's own past and against the other sources. Pure.

One `Screen` per symbol, so prices of different instruments are never compared. What it refuses makes nobody fresh and
moves no price. Times are those of arrival; for recorded ticks the recording's own.

The rules, in their order:

1. A tick without a price, with a bid above its ask, or with an absurd spread says nothing.
2. A tick that came before, one older than its source's newest, or one from the future says nothing. When a source sends
   only such for `CLOCK_STEP_US`, its clock was set, and what it says now is believed.
3. A price that lies twice as high, or half as high, is of another scale. It is only believed when another source says
   the same, or when we know the source by fewer than `PAST_TICKS` prices, and by fewer of the old scale than of it.
4. A price may be as far from its source's last as the band allows: a part of the price in a second, growing with the
   square root of the time between, because that is how prices wander. Or as far as `MAD_TIMES` the median absolute
   deviation of its moves in the last five minutes: in a wild market more is normal.
5. What is farther off is an outlier until it is confirmed: at once when as many other sources say the same as say
   otherwise; when the source stays on that side for `CONFIRM_US`; in any case when it was refused for `RESET_US` on
   end. So a spike that reverts is never seen, and a genuine jump is late by no more than `CONFIRM_US` and the time
   until the next tick.
6. While one other source that has spoken since says otherwise, that takes `CONTRADICTED_US`. While two or more do that
   agree with each other, the source is off the market and not believed at all; nor is one that has drifted away from
   two or more such for `CONTRADICTED_US`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from statistics import median

import msgspec

from aurexd.market import SECOND_US, Instrument, Tick

BANDS_PCT: dict[Instrument, float] = {
    Instrument.SPOT: 0.1,  # some thirty times what gold usually moves in a second
    Instrument.FUTURE: 0.1,
    Instrument.TOKEN: 0.3,  # thin: single orders move it
    Instrument.FIX: 1.0,  # a few prices a day
    Instrument.TEST: 0.0,  # made up: nothing to hold it against
}
"""Percent that a price may move in a second without question; 0 switches rules 3 to 6 and the spread off."""

APART_TIMES = 5
"""Two sources of an instrument may stand apart by so many bands: brokers, and who is slower, differ."""

SPREAD_TIMES = 20
"""A spread of more bands than this is no market: a broker's in the quietest hour has two."""

GAP_MAX_S = 2500.0
"""A gap longer than this, such as a weekend's, widens the band no more: it is fifty-fold then."""

SCALE = 2.0

MAD_TIMES = 8 * 1.4826
"""Eight standard deviations, as the median absolute deviation estimates them."""

PAST_US = 300 * SECOND_US
PAST_TICKS = 64
PAST_ENOUGH = 8
"""With fewer moves there is no distribution."""

CONFIRM_US = 2 * SECOND_US
RESET_US = 10 * SECOND_US
CONTRADICTED_US = 60 * SECOND_US
WITNESS_US = 120 * SECOND_US
"""A source that has said nothing for longer than this is not heard on others."""

CLOCK_STEP_US = 10 * SECOND_US
AHEAD_US = 60 * SECOND_US
"""How far a time may lie ahead of ours, and of what is known of that source's clock."""

SKEW_US = 300 * SECOND_US
REWOUND_US = 3600 * SECOND_US
"""A recording whose time falls back by more than this has started over."""


class Refusal(StrEnum):
    """Why a tick is not believed."""

    NO_PRICE = "no_price"
    CROSSED_BOOK = "crossed_book"
    WIDE_SPREAD = "wide_spread"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    FROM_THE_FUTURE = "from_the_future"
    WRONG_SCALE = "wrong_scale"
    OUTLIER = "outlier"
    OFF_MARKET = "off_market"
    MARKET_CLOSED = "market_closed"
    """Nobody could have traded at it; the aggregator knows."""


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """What became of a tick."""

    refused: Refusal | None = None
    """Why it is not believed; None: it is."""
    confirmed_after_us: int | None = None
    """It confirms a jump that was held back for so long."""


BELIEVED = Judgement()


class Record(msgspec.Struct, gc=False):
    """What was refused of one source, and what is known of its clock."""

    refused: dict[str, int]
    """Ticks, by reason."""
    jumps: int = 0
    """Moves that were outliers first and then confirmed."""
    clock_skew_us: int | None = None
    """Its clock less ours by its quickest tick of the last ten minutes; None while unknown."""


class Screen:
    """The judgement on one symbol's ticks."""

    def __init__(self, sources: Iterable[str], *, delayed: Iterable[str] = (), band_pct: float) -> None:
        """`delayed`: those of the sources that are late by design; they are not held against the others."""
        self._pasts = {source: _Past() for source in sources}
        late = set(delayed)
        self._others = {
            source: [
                past
                for name, past in self._pasts.items()
                if name != source and name not in late and source not in late
            ]
            for source in self._pasts
        }
        self._late = late
        self._band = band_pct / 100
        self.band_pct = band_pct

    def judge(self, tick: Tick) -> Judgement:
        """Whether `tick` is believed.

        Raises:
            KeyError: its source does not serve this symbol.

        """
        past = self._pasts[tick.source]
        price, complaint = self._price(tick)
        if not complaint and not tick.simulated:
            complaint = past.clock.complain(tick)
        if complaint:
            past.count(complaint)
            return Judgement(complaint)
        at = tick.source_time if tick.simulated else tick.receive_time
        if past.at - at > REWOUND_US:
            past.forget()
        judgement = self._weigh(price, at, past, self._others[tick.source]) if self._band else BELIEVED
        if judgement.refused is None:
            past.believe(price, at)
            past.clock.believe(tick)
        return judgement

    def count(self, source: str, reason: Refusal) -> None:
        """Count a tick that was refused by somebody else."""
        self._pasts[source].count(reason)

    def record(self, source: str) -> Record:
        """What is known of a source."""
        past = self._pasts[source]
        least = past.clock.least_lag
        return Record(
            dict(past.refused), past.jumps, None if least is None or source in self._late else -least
        )

    def ahead_us(self, source: str) -> int:
        """How far a source's clock is ahead of ours at least: so much older are its prices than they seem."""
        return self._pasts[source].clock.ahead

    def _price(self, tick: Tick) -> tuple[float, Refusal | None]:
        """What it is weighed by, or what is wrong with it."""
        bid, ask = tick.bid, tick.ask
        if bid is not None and ask is not None:
            low, high = float(bid), float(ask)
            if low > high:
                return 0.0, Refusal.CROSSED_BOOK
            if self._band and high - low > SPREAD_TIMES * self._band * high:
                return 0.0, Refusal.WIDE_SPREAD
            return (low + high) / 2, None
        if tick.last is None:
            return 0.0, Refusal.NO_PRICE
        return float(tick.last), None

    def _weigh(self, price: float, at: int, past: _Past, others: list[_Past]) -> Judgement:
        witnesses = [o for o in others if o.price and abs(at - o.at) <= WITNESS_US] if others else others
        expected = past.price or (median(w.price for w in witnesses) if witnesses else price)
        if past.price:
            expects = past.expects(price, at, self._band)
        else:
            expects = abs(price - expected) <= APART_TIMES * self._band * expected
        if not expects:
            judgement = self._doubt(price, expected, at, past, witnesses)
        elif len(witnesses) > 1 and self._has_drifted(price, at, past, witnesses):
            judgement = Judgement(Refusal.OFF_MARKET)
        else:
            judgement = BELIEVED
        if judgement.refused is not None:
            past.count(judgement.refused)
        return judgement

    def _doubt(
        self, price: float, expected: float, at: int, past: _Past, witnesses: list[_Past]
    ) -> Judgement:
        """Hold a price back that nobody expected, or believe it now."""
        past.hold(price, at, above=price > expected)
        reach = APART_TIMES * self._band * price
        agree, against = 0, []
        for witness in witnesses:
            says = witness.held_price or witness.price
            if abs(says - price) < abs(says - expected):
                agree += abs(says - price) <= reach
            elif witness.at > past.held_since:
                against.append(says)
        waited = at - past.held_since
        if agree and agree >= len(against):
            return past.confirm(waited)
        if not expected / SCALE < price < expected * SCALE:
            unknown = past.believed < min(past.held, PAST_TICKS)
            if against or not unknown or waited < CONFIRM_US:
                return Judgement(Refusal.WRONG_SCALE)
            return past.confirm(waited)
        if len(against) > 1 and max(against) - min(against) <= reach:
            return Judgement(Refusal.OFF_MARKET)
        patience = CONTRADICTED_US if against else CONFIRM_US
        if waited >= patience or at - past.refused_since >= max(patience, RESET_US):
            return past.confirm(waited)
        return Judgement(Refusal.OUTLIER)

    def _has_drifted(self, price: float, at: int, past: _Past, witnesses: list[_Past]) -> bool:
        """Whether it has been far from what two or more others agree on, for long, and they have spoken since."""
        prices = [witness.price for witness in witnesses]
        reach = APART_TIMES * self._band * price
        if abs(median(prices) - price) <= reach or max(prices) - min(prices) > reach:
            past.apart_since = at
            return False
        spoken = all(witness.at > past.apart_since for witness in witnesses)
        return spoken and at - past.apart_since >= CONTRADICTED_US


class _Past:
    """What one source has said of the symbol. Prices of 0: none."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.jumps = 0
        self.clock = _Clock()
        self.forget()

    def forget(self) -> None:
        """Know nothing of its prices."""
        self.price = 0.0
        self.at = 0
        self.believed = 0
        self._moves: deque[tuple[int, float]] = deque(maxlen=PAST_TICKS)
        self.held = 0
        """Ticks on one side that were not believed, up to now."""
        self.held_price = 0.0
        self.held_since = 0
        self.refused_since = 0
        self.apart_since = 0
        self._above = False

    def count(self, reason: Refusal) -> None:
        """Count a tick that is refused."""
        self.refused[reason.value] = self.refused.get(reason.value, 0) + 1

    def expects(self, price: float, at: int, band: float) -> bool:
        """Whether the price is near enough to what came before."""
        move = abs(price - self.price)
        gap_s = min(max((at - self.at) / SECOND_US, 1.0), GAP_MAX_S)
        if move <= band * math.sqrt(gap_s) * self.price:
            return True
        recent = [size for time, size in self._moves if at - time <= PAST_US]
        return len(recent) >= PAST_ENOUGH and move <= MAD_TIMES * median(recent)

    def believe(self, price: float, at: int) -> None:
        """It is what the source says now."""
        if self.price:
            self._moves.append((at, abs(price - self.price)))
        else:
            self.apart_since = at
        self.price, self.at = price, at
        self.believed += 1
        self.held, self.held_price, self.refused_since = 0, 0.0, 0

    def hold(self, price: float, at: int, *, above: bool) -> None:
        """Keep a price back, with those before it on the same side."""
        if not self.held or above is not self._above:
            self.held, self.held_since, self._above = 0, at, above
        self.held += 1
        self.held_price = price
        self.refused_since = self.refused_since or at

    def confirm(self, waited: int) -> Judgement:
        """The price really has jumped."""
        self.jumps += 1
        return Judgement(confirmed_after_us=waited)


class _Clock:
    """What the times of one source are worth."""

    def __init__(self) -> None:
        self._newest: Tick | None = None
        self._complained_since: int | None = None
        self.least_lag: int | None = None
        """Of the ticks of the last five to ten minutes, in µs: what is less than its way took is its clock's error."""
        self.ahead = 0
        """How far it is ahead at least, in µs."""
        self._lags: list[int | None] = [None, None]
        """The least of the present `SKEW_US` and of the one before."""
        self._since = 0

    def complain(self, tick: Tick) -> Refusal | None:
        """What is wrong with the time of a tick; None: nothing."""
        newest = self._newest
        if tick.source_time > tick.receive_time + self.ahead + AHEAD_US:
            complaint = Refusal.FROM_THE_FUTURE
        elif newest is None or tick.source_time > newest.source_time:
            return None
        elif tick.source_time == newest.source_time:
            same = (tick.bid, tick.ask, tick.last) == (newest.bid, newest.ask, newest.last)
            return Refusal.DUPLICATE if same else None
        else:
            complaint = Refusal.OUT_OF_ORDER
        if self._complained_since is None:
            self._complained_since = tick.receive_time
        if tick.receive_time - self._complained_since < CLOCK_STEP_US:
            return complaint
        self._learn([None, None])  # its clock was set
        return None

    def believe(self, tick: Tick) -> None:
        """Its time is what the source's clock says."""
        self._newest = tick
        self._complained_since = None
        if tick.simulated or tick.source_time == tick.receive_time:
            return  # it tells no time of its own
        lag = tick.receive_time - tick.source_time
        if tick.receive_time - self._since > SKEW_US:
            self._since = tick.receive_time
            self._learn([lag, self._lags[0]])
        elif (least := self._lags[0]) is None or lag < least:
            self._learn([lag, self._lags[1]])

    def _learn(self, lags: list[int | None]) -> None:
        self._lags = lags
        self.least_lag = min((lag for lag in lags if lag is not None), default=None)
        self.ahead = max(0, -(self.least_lag or 0))
