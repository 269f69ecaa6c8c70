"""gold-api.com: one spot price by HTTP, refreshed about every 30 s. No account.

On weekends its `updatedAt` keeps moving while the price stands still, so only the market's calendar tells that its
price is not live then: a moving time is no proof of freshness here.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pydantic

from aurexd.backoff import Backoff
from aurexd.market import Instrument, parse_time
from aurexd.sources.base import Traits
from aurexd.sources.plausible import usable
from aurexd.sources.polling import HttpPolling, HttpPollingSettings, Quote


class PriceAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """What it answers, as far as we use it. Older answers have no `currency`."""

    symbol: str
    price: Decimal | None = None
    updated_at: str | None = None
    currency: str | None = None


_decoder = msgspec.json.Decoder(PriceAnswer)


class GoldApiSettings(HttpPollingSettings):
    """One `[[sources]]` table of type gold-api."""

    url: str = pydantic.Field(
        default="https://api.gold-api.com/price/",
        pattern=r"^https?://",
        description="Where to ask; the code follows it.",
    )


class GoldApi(HttpPolling[GoldApiSettings]):
    """Polls gold-api.com. Codes are `XAU`, or `XAU/EUR` for another currency than the dollar."""

    title = "gold-api.com"
    # "Please cache the response for 30 seconds"; a longer Cache-Control wins.
    min_interval_s = 30.0
    traits = Traits(
        # Three polls, and the 30 s for which the provider itself keeps a price.
        stale_after_s=120.0,
        # Each request has its own deadline, and polls may be far apart.
        silence_s=float("inf"),
        reconnect=Backoff(floor_s=30.0, base_s=5.0, cap_s=300.0),
    )
    Settings = GoldApiSettings

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """Its metals are spot; it also has crypto coins, which are for the configuration to name."""
        return Instrument.SPOT if code.partition("/")[0] in {"XAU", "XAG", "XPT", "XPD"} else None

    @staticmethod
    def read(body: bytes, code: str) -> Quote | None:
        """Its one price, as the last one; None while it has none."""
        answer = _decoder.decode(body)
        symbol, _, currency = code.partition("/")
        currency = currency or "USD"
        if answer.symbol != symbol or (answer.currency or currency) != currency:
            raise ValueError(f"it is for {answer.symbol} in {answer.currency}")
        if usable(answer.price) is None:
            return None
        source_time = parse_time(answer.updated_at) if answer.updated_at is not None else None
        return Quote(source_time=source_time, last=answer.price)
