"""What any provider's input is held against before it is believed: prices, times, and how it is quoted in a message."""

from __future__ import annotations

import email.utils
from datetime import UTC
from decimal import Decimal

from aurexd.market import SECOND_US, EpochUs

MAX_PRICE = Decimal(10**9)  # no price comes near; 1e999999 is finite, too, and would break the arithmetic
MAX_RETRY_AFTER_S = 3600.0  # a provider's wish is followed up to here: a broken header must not end a source

_EARLIEST_US, _LATEST_US = 946_684_800_000_000, 4_102_444_800_000_000  # the years 2000 and 2100


def usable(price: Decimal | None) -> Decimal | None:
    """The price, or None where it is not a finite positive number below `MAX_PRICE`: not a quote."""
    return price if price is not None and price.is_finite() and 0 < price < MAX_PRICE else None


def of_this_century(microseconds: int) -> EpochUs:
    """The provider's time, given in microseconds since the epoch.

    Raises:
        ValueError: it is of another century: the unit is not what we think, or it is no time at all.

    """
    if not _EARLIEST_US <= microseconds < _LATEST_US:
        raise ValueError(f"{microseconds} µs is not a time between the years 2000 and 2100")
    return EpochUs(microseconds)


def retry_after_s(header: str, now: EpochUs) -> float:
    """Seconds from an HTTP `Retry-After` (RFC 9110 10.2.3: seconds or a date); 0 where unusable."""
    if header.isascii() and header.isdigit():
        seconds = float(header)
    else:
        try:
            moment = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now / SECOND_US
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def excerpt(body: bytes, length: int = 80) -> str:
    """The start of an answer, fit for a message."""
    text = body[:length].decode("utf-8", "replace")
    return repr(text) + ("…" if len(body) > length else "")
