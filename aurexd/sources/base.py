"""What a provider is to the rest of aurexd: its settings, its traits, and one coroutine that delivers ticks.

A provider's file holds its wire format as pure functions and a `Provider` that connects and speaks it. It does
not reconnect, count, watch for silence or decide what is fresh: `actors/source.py` does that for all of them.
"""

from __future__ import annotations

import abc
import functools
import random
import ssl
from decimal import Decimal
from typing import ClassVar, Generic, Protocol, TypeVar

import msgspec
import pydantic

from aurexd.backoff import Backoff
from aurexd.calendar import ALWAYS, Calendar
from aurexd.clock import Clock
from aurexd.market import EpochUs, Instrument


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of every source of one type, unless its settings say otherwise."""

    stale_after_s: float
    """A price older than this can no longer be trusted: the provider's rhythm, with room for a hiccup."""
    known_delay_s: float = 0.0
    """How far behind the market the provider is by its own design."""
    silence_s: float = 30.0
    """A connection on which nothing at all arrived for this long is dead; `inf` where the provider may be mute."""
    rests_when_closed: bool = False
    """It sends nothing at all while the market is closed, not even a heartbeat."""
    reconnect: Backoff
    """Floor: never faster than the provider allows."""
    simulated: bool = False
    """Its prices are not the market's now: made up, or recorded."""


class SourceSettings(pydantic.BaseModel):
    """One `[[sources]]` table: what every source has. A provider adds its own keys in a subclass."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = pydantic.Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Its name in logs, messages and commands; unique."
    )
    type: str = pydantic.Field(description="Which provider's protocol it speaks.")
    priority: int = pydantic.Field(
        default=1,
        ge=1,
        le=1000,
        description="1 is asked first; equal priorities keep whoever carries the price.",
    )
    symbols: dict[str, str] = pydantic.Field(
        min_length=1, description='Our symbol = the provider\'s name for it, e.g. { XAUUSD = "GOLD" }.'
    )
    stale_after_s: float | None = pydantic.Field(
        default=None,
        gt=0,
        description="Seconds after which its price is stale. Default: by type, from the provider's own rhythm.",
    )


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol that a source is to deliver."""

    symbol: str
    """Ours: XAUUSD."""
    code: str
    """The provider's: GOLD."""
    instrument: Instrument
    decimals: int
    calendar: Calendar = ALWAYS
    """When its market trades: outside, no price is to be expected."""


class Feed(Protocol):
    """Where a provider delivers; given to `Provider.run` by the source's actor."""

    @property
    def clock(self) -> Clock:
        """The wall clock that stamps what arrives."""

    @property
    def rng(self) -> random.Random:
        """The source's randomness: seeded in tests."""

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What to ask the provider for, in configuration order."""

    def connected(self) -> None:
        """The provider answers and accepted our subscription; prices may follow. Idempotent."""

    def heard(self) -> None:
        """Something arrived, be it a heartbeat: the line is alive."""

    def rejected(self, reason: str, detail: str = "") -> None:
        """Something arrived that cannot be used; counted by `reason`, a short constant such as `garbage`."""

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
        """Deliver one observation of the provider's `code`, stamped now. Waits while the aggregator has no room.

        Implies `heard()`. A `code` nobody asked for is rejected and counted. `source_time` is None where the
        provider tells none.
        """


class Bar(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A minute of a provider's history, as it says."""

    start: EpochUs
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


S = TypeVar("S", bound=SourceSettings)


class Provider(abc.ABC, Generic[S]):
    """Speaks one provider's protocol. One instance serves one source for the daemon's life; `run` may be called
    again after it ended.

    To add a provider: write its file here with a subclass, and name it in `aurexd/sources/__init__.py`.
    """

    traits: Traits
    """Of the type; an instance has its own where its settings change them (a plan with other limits)."""
    Settings: ClassVar[type[SourceSettings]] = SourceSettings

    def __init__(self, settings: S, *, update_interval_s: float) -> None:
        """`update_interval_s`: see `change_update_interval`."""
        self.settings = settings
        self.change_update_interval(update_interval_s)

    def change_update_interval(self, update_interval_s: float) -> None:
        """From here on a polling provider asks this often, where its own minimum allows that."""
        self.update_interval_s = update_interval_s

    @property
    def stale_after_s(self) -> float:
        """A price of this source that is older can no longer be trusted."""
        return self.settings.stale_after_s or self.traits.stale_after_s

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """What the provider's `code` really is; None when it cannot be told and the configuration is believed."""
        del code
        return None

    @abc.abstractmethod
    async def run(self, feed: Feed) -> None:
        """Connect, subscribe, and deliver ticks to `feed` until the connection ends.

        Returning means the provider is done for good (a recording's end).

        Raises:
            FeedError: the connection ended or could not be made; `fatal` when retrying cannot help. All of the
                provider's and the network's failures are translated to this, with what to do in the message.

        """


class HistoryProvider(Provider[S]):
    """One that also knows what was, minute by minute."""

    @property
    @abc.abstractmethod
    def history_hours(self) -> float:
        """How far back that reaches; 0: it is switched off."""

    @abc.abstractmethod
    async def history(self, code: str, start: EpochUs, end: EpochUs, clock: Clock) -> list[Bar]:
        """The minutes of `code` in which there were prices, from `start` to `end`, in any order. Others may be among
        them: whoever asks takes what was asked for.

        Raises:
            FeedError: as in `run`.

        """


@functools.cache
def client_tls() -> ssl.SSLContext:
    """The one TLS client context of the process: loading the system's authorities costs tens of milliseconds."""
    return ssl.create_default_context()
