"""Swissquote's public quotes: spot bid and ask by HTTP, with a time in milliseconds. No account needed.

The answer holds one entry per trading platform, in varying order, each with a price per spread profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pydantic

from aurexd.backoff import Backoff
from aurexd.market import EpochUs, Instrument
from aurexd.sources.base import Traits
from aurexd.sources.plausible import usable
from aurexd.sources.polling import HttpPolling, HttpPollingSettings, Quote

PROFILES = ("elite", "prime", "premium", "standard")
"""From the narrowest spread, which is nearest to the market, to the widest."""


class ProfilePrices(msgspec.Struct, frozen=True, rename="camel"):
    """What one kind of customer would get."""

    spread_profile: str = ""
    bid: Decimal | None = None
    ask: Decimal | None = None


class Platform(msgspec.Struct, frozen=True, rename="camel"):
    """One trading platform's quote; `ts` is milliseconds since the epoch."""

    spread_profile_prices: tuple[ProfilePrices, ...] = ()
    ts: int | None = None


_decoder = msgspec.json.Decoder(tuple[Platform, ...])


class SwissquoteSettings(HttpPollingSettings):
    """One `[[sources]]` table of type swissquote."""

    url: str = pydantic.Field(
        default="https://forex-data-feed.swissquote.com/public-quotes/bboquotes/instrument/",
        pattern=r"^https?://",
        description="Where to ask; the code follows it.",
    )


class Swissquote(HttpPolling[SwissquoteSettings]):
    """Polls Swissquote. Codes are pairs: `XAU/USD`."""

    title = "Swissquote"
    # Its limits are unknown; others are known to poll every 1 to 4 s.
    min_interval_s = 2.0
    traits = Traits(
        # In an open market its time moves with each answer: three polls at the default 5 s brought nothing.
        stale_after_s=15.0,
        # Each request has its own deadline, and polls may be far apart.
        silence_s=float("inf"),
        reconnect=Backoff(floor_s=2.0, base_s=2.0, cap_s=120.0),
    )
    Settings = SwissquoteSettings

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """All its pairs are spot."""
        del code
        return Instrument.SPOT

    @staticmethod
    def read(body: bytes, code: str) -> Quote | None:
        """The newest platform's best profile, whatever the order; None for an empty array."""
        del code
        best = max(_candidates(_decoder.decode(body)), default=None)
        if best is None:
            return None
        ts, _rank, negative_spread, bid = best
        return Quote(source_time=EpochUs(ts * 1000) if ts else None, bid=bid, ask=bid - negative_spread)


def _candidates(platforms: tuple[Platform, ...]) -> Iterator[tuple[int, int, Decimal, Decimal]]:
    """Quotes as (ts, profile rank, -spread, bid): the greatest is the one to take, on ties the narrowest."""
    for platform in platforms:
        for prices in platform.spread_profile_prices:
            bid, ask = usable(prices.bid), usable(prices.ask)
            if bid is None or ask is None or bid > ask:
                continue
            profile = prices.spread_profile
            rank = -PROFILES.index(profile) if profile in PROFILES else -len(PROFILES)
            yield platform.ts or 0, rank, bid - ask, bid
