"""The words aurexd speaks about prices: instrument, quality, tick, price. No behaviour, no I/O.

Prices are `Decimal`, because a price is what somebody wrote down: 2706.93 stays 2706.93 from the provider's
text to the client's. Times are integer microseconds since the Unix epoch, UTC (`EpochUs`): the finest any
provider sends, and free of float rounding.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NewType

import msgspec

EpochUs = NewType("EpochUs", int)
"""Microseconds since 1970-01-01T00:00:00Z."""

SECOND_US = 1_000_000


class Instrument(StrEnum):
    """What a source really quotes. A symbol has one instrument and never changes it."""

    SPOT = "spot"
    FUTURE = "future"
    TOKEN = "token"  # noqa: S105 — an instrument, not a secret
    FIX = "fix"
    TEST = "test"


class Quality(StrEnum):
    """How far a price can be trusted now."""

    LIVE = "live"
    DELAYED = "delayed"
    STALE = "stale"
    CLOSED = "closed"
    SIMULATED = "simulated"


class Tick(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One price observation from one source, exactly as the provider gave it.

    At least one of `last` or the pair `bid` and `ask` is set; all are positive.
    """

    symbol: str
    source: str
    instrument: Instrument
    source_time: EpochUs
    """When the provider says the price was; the receive time where it says nothing."""
    receive_time: EpochUs
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    simulated: bool = False


class Price(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What aurexd says a symbol costs: one tick, judged and rounded to the symbol's decimals."""

    symbol: str
    close: Decimal
    """The mid where bid and ask are quoted, else the last price."""
    bid: Decimal | None
    ask: Decimal | None
    change: Decimal | None
    """Against the previous session's close; None while that is unknown."""
    change_pct: Decimal | None
    source: str
    instrument: Instrument
    quality: Quality
    source_time: EpochUs
    receive_time: EpochUs
    confidence: Decimal | None = None
    """Of a consensus: half the width of the band in which the price lies; None where there is nothing to tell it by."""
    votes: tuple[str, ...] = ()
    """Of a consensus: the sources that it is made of."""
    rebased: bool = False
    """The price before it was another source's, or other sources': what lies between the two is a step from these to
    those, not only the market's move."""


def format_time(time: EpochUs) -> str:
    """RFC 3339 in UTC with milliseconds where there are any: `2025-10-27T12:00:00Z`, `2025-10-27T12:00:00.123Z`."""
    milliseconds = time % SECOND_US // 1000
    text = _format_second(time // SECOND_US)
    return f"{text}.{milliseconds:03d}Z" if milliseconds else f"{text}Z"


_DAY_S = 86_400
_MINUTES = [f"{minute // 60:02}:{minute % 60:02}" for minute in range(_DAY_S // 60)]


@lru_cache(16)
def _format_second(second: int) -> str:
    """Each price is formatted with two or three times of the same second, and a page of candles with those of a day."""
    return f"{_format_day(second // _DAY_S)}T{_MINUTES[second % _DAY_S // 60]}:{second % 60:02}"


@lru_cache(16)
def _format_day(day: int) -> str:
    # Not strftime, which writes the year 1 as 1.
    return datetime.fromtimestamp(day * _DAY_S, UTC).date().isoformat()


def parse_time(text: str) -> EpochUs:
    """Microseconds from RFC 3339 text with a zone; more digits than microseconds are cut.

    Raises:
        ValueError: not a time, or one without a zone.

    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it as 2025-10-27T12:00:00Z")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return EpochUs((since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds)
