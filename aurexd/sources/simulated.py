"""A made-up price: a seeded random walk, for demonstrations and tests. The same seed walks the same way."""

from __future__ import annotations

import math
import random
from decimal import Decimal

import msgspec
import pydantic
import trio

from aurexd.backoff import Backoff
from aurexd.market import Instrument
from aurexd.sources.base import Feed, Provider, SourceSettings, Subscription, Traits

HALF_SPREAD = 0.00005  # of the price: 0.27 USD between bid and ask at 2700, as retail spot has
PULL = 0.0001  # of the distance to the start, per step: keeps the walk within some 70 steps' deviation of it


class SimulatedSettings(SourceSettings):
    """One `[[sources]]` table of type simulated."""

    seed: int = pydantic.Field(default=1, description="Another seed, another walk.")
    interval_s: float = pydantic.Field(
        default=0.5, gt=0, description="Seconds between two ticks of a symbol."
    )
    start_price: float = pydantic.Field(default=2700.0, gt=0, le=1e9, description="Where the walk starts.")
    volatility: float = pydantic.Field(
        default=0.00005,
        ge=0,
        le=0.1,
        description="Standard deviation of one step, as a part of the price: 0.00005 is 0.14 at 2700.",
    )


class Simulated(Provider[SimulatedSettings]):
    """Walks a price for each symbol; its codes are any names."""

    traits = Traits(
        stale_after_s=5.0,  # ten ticks at the default interval
        silence_s=math.inf,  # no line that could be dead
        reconnect=Backoff(floor_s=1.0, base_s=1.0, cap_s=10.0),
        simulated=True,
    )
    Settings = SimulatedSettings

    def __init__(self, settings: SimulatedSettings, *, update_interval_s: float) -> None:
        super().__init__(settings, update_interval_s=update_interval_s)
        stale_after_s = max(self.traits.stale_after_s, 10 * settings.interval_s)
        self.traits = msgspec.structs.replace(self.traits, stale_after_s=stale_after_s)
        self._walks: dict[str, Walk] = {}

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """Never anything that is traded."""
        del code
        return Instrument.TEST

    async def run(self, feed: Feed) -> None:
        """Tick for ever; a later `run` walks on from where the last one stopped."""
        feed.connected()
        due = trio.current_time()
        while True:
            for subscription in feed.subscriptions:
                walk = self._walks.setdefault(subscription.code, Walk(self.settings, subscription))
                bid, ask = walk.step()
                await feed.tick(subscription.code, source_time=feed.clock.now(), bid=bid, ask=ask)
            # After a long stall it goes on from now rather than catch up in one burst.
            due = max(due + self.settings.interval_s, trio.current_time())
            await trio.sleep_until(due)


class Walk:
    """One symbol's random walk: of the logarithm of the price, so that it stays positive."""

    def __init__(self, settings: SimulatedSettings, subscription: Subscription) -> None:
        self._random = random.Random(f"{settings.seed}:{subscription.code}")
        self._volatility = settings.volatility
        self._start = settings.start_price
        self._away = 0.0  # log(price / start)
        self._decimals = subscription.decimals

    def step(self) -> tuple[Decimal, Decimal]:
        """The next bid and ask, with the symbol's decimals."""
        self._away += self._random.gauss(0.0, self._volatility) - PULL * self._away
        price = self._start * math.exp(self._away)
        smallest = 10.0**-self._decimals
        half = max(price * HALF_SPREAD, smallest / 2)
        return self._decimal(max(price - half, smallest)), self._decimal(max(price + half, smallest))

    def _decimal(self, price: float) -> Decimal:
        return Decimal(f"{price:.{self._decimals}f}")
