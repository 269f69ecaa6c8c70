"""Stand-ins for rooms of aurexd itself, in the simplest way possible; providers' live in `standins/`."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal

import msgspec
import trio

from aurexd.clock import Clock, SystemClock
from aurexd.market import EpochUs, Instrument
from aurexd.sources.base import Subscription


class ObservedTick(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `Feed.tick`."""

    code: str
    source_time: EpochUs | None
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    receive_time: EpochUs | None = None


class FakeFeed:
    """A `Feed` that writes down what a provider delivers."""

    def __init__(self, *codes: str, clock: Clock | None = None, seed: int = 1, decimals: int = 2) -> None:
        """Subscribe to `codes`, as symbols S0, S1 …, or to `XAU` where none are given."""
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.rng = random.Random(seed)
        self.subscriptions = tuple(
            Subscription(symbol=f"S{number}", code=code, instrument=Instrument.SPOT, decimals=decimals)
            for number, code in enumerate(codes or ("XAU",))
        )
        self.ticks: list[ObservedTick] = []
        self.rejections: list[tuple[str, str]] = []
        """(reason, detail) each."""
        self.connections = 0
        """Calls of `connected()`."""
        self.signs_of_life = 0
        """Calls of `heard()`, and ticks."""
        self._changed = trio.Event()

    @property
    def reasons(self) -> list[str]:
        """Why something was rejected, in order."""
        return [reason for reason, _ in self.rejections]

    def connected(self) -> None:
        """See `Feed.connected`."""
        self.connections += 1
        self._change()

    def heard(self) -> None:
        """See `Feed.heard`."""
        self.signs_of_life += 1
        self._change()

    def rejected(self, reason: str, detail: str = "") -> None:
        """See `Feed.rejected`."""
        self.rejections.append((reason, detail))
        self._change()

    async def tick(
        self,
        code: str,
        *,
        source_time: EpochUs | None,
        bid: Decimal | None = None,
        ask: Decimal | None = None,
        last: Decimal | None = None,
        receive_time: EpochUs | None = None,
    ) -> None:
        """See `Feed.tick`; there is always room, so it does not pause."""
        self.ticks.append(
            ObservedTick(
                code=code, source_time=source_time, bid=bid, ask=ask, last=last, receive_time=receive_time
            )
        )
        self.heard()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; it is asked whenever something was delivered."""
        while not condition():
            await self._changed.wait()

    async def wait_for_ticks(self, count: int) -> None:
        """Return once `count` ticks have come."""
        await self.wait_until(lambda: len(self.ticks) >= count)

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
