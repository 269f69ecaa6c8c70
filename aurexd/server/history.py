"""What `prices/history` was asked, and how its answer looks: JSON or CSV, in pages, and for how long it is true."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, UnsetType

from aurexd.actors.messages import CandlePage, CandleRow, PriceRow
from aurexd.candles import all_over_by
from aurexd.market import SECOND_US, EpochUs, Instrument, format_time, parse_time
from aurexd.server.interface import (
    HistoryPrice,
    HistoryQuery,
    QueryError,
    quoted,
    read_query,
)

PATH = "/api/v1/prices/history"

TICK = "tick"
"""Not an interval: every price, one by one."""

TICK_HOURS = 24.0
"""How far back ticks go where nobody says."""

FINAL_MAX_AGE_S = 86_400
"""How long candles that cannot change any more may be kept without asking again; the store deletes them some day."""

KEPT_TEXTS = 32_768
"""Candles whose text is kept: a month of minutes, some 400 bytes each."""

MEDIA_TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8"}

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that makes sense."""

    interval: str
    start: EpochUs | None
    """None: as far back as there is something."""
    end: EpochUs
    until_now: bool
    """`end` was not asked for: the next time it will be another."""
    limit: int
    form: str
    """`json` or `csv`."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent back."""

    body: bytes
    headers: dict[str, str]


CANDLE_COLUMNS = ("start", "end", "open", "high", "low", "close", "ticks", "final", "revision", "filled")
"""Of a candle as in the message `candle`, without what all have in common."""


def read_asked(parameters: Mapping[str, str], accept: str, now: EpochUs) -> Asked:
    """What is wanted.

    Raises:
        QueryError: what is wrong, and what would be right.

    """
    query = read_query(HistoryQuery, parameters)
    end = _time("to", query.end, EpochUs(now + 1))
    start: EpochUs | None = None
    if query.start is not UNSET:
        start = _time("from", query.start, end)
        if start >= end:
            until = "now" if query.end is UNSET else "to"
            raise QueryError(f"from: {quoted(query.start)} is not before {until}, {format_time(end)}")
    elif query.hours is not UNSET or query.interval == TICK:
        hours = TICK_HOURS if query.hours is UNSET else query.hours
        start = EpochUs(max(0, end - int(hours * 3600 * SECOND_US)))
    return Asked(
        interval=query.interval,
        start=start,
        end=end,
        until_now=query.end is UNSET,
        limit=query.limit,
        form=_form(accept) if query.format is UNSET else query.format,
    )


def tick_answer(asked: Asked, symbol: str, rows: Sequence[PriceRow]) -> Answer:
    """The answer for every price, one by one."""
    prices = [HistoryPrice.of(row) for row in rows]
    if asked.form == "csv":
        columns = ("timestamp", "received", "close", "bid", "ask", "source", "quality")
        body = listing = _csv(columns, ([getattr(price, name) for name in columns] for price in prices))
    else:
        listing = _encode(prices)
        body = _encode({**_head(asked, symbol), "prices": msgspec.Raw(listing)})
    return Answer(body=body, headers=_headers(asked, listing, None, final=False))


def candle_answer(
    asked: Asked, symbol: str, instrument: Instrument, decimals: int, page: CandlePage
) -> Answer:
    """The answer for candles. `next` leads to the page before: the newest come first, as a chart asks for them."""
    following = None
    if page.older:
        following = _next(asked, symbol, page.candles[0].start)
    if asked.form == "csv":
        head = ",".join(CANDLE_COLUMNS)
        form = _csv_form(decimals)
        body = listing = "\r\n".join([head, *(_row(candle, form) for candle in page.candles), ""]).encode()
    else:
        form = _json_form(decimals)
        listing = f"[{','.join([_row(candle, form) for candle in page.candles])}]".encode()
        gaps = [
            _gap(before.end, after.start)
            for before, after in pairwise(page.candles)
            if before.end != after.start
        ]
        body = _encode(
            {
                **_head(asked, symbol),
                "instrument": instrument,
                "candles": msgspec.Raw(listing),
                "gaps": msgspec.Raw(f"[{','.join(gaps)}]".encode()),
                "next": following,
            }
        )
    closed = page.closed_before
    final = closed is not None and not asked.until_now and all_over_by(asked.interval, asked.end) <= closed
    return Answer(body=body, headers=_headers(asked, listing, following, final=final))


# Candles are many, and numbers and times need no escaping: measured at 2 µs a row, against 10 µs for an encoder's
# objects, and 0.4 µs where it was written before: final ones do not change, and the same chart is asked for again.
# A stored price is binary64; printed with the symbol's decimals it is the text that was published.


@lru_cache
def _json_form(decimals: int) -> str:
    price = f"%.{decimals}f"
    fields = dict.fromkeys(CANDLE_COLUMNS, price) | {
        "start": '"%s"',
        "end": '"%s"',
        "ticks": "%d",
        "final": "%s",
        "revision": "%d",
        "filled": "%s",
    }
    return "{" + ",".join(f'"{name}":{form}' for name, form in fields.items()) + "}"


@lru_cache
def _csv_form(decimals: int) -> str:
    return ",".join(["%s", "%s", *[f"%.{decimals}f"] * 4, "%d", "%s", "%d", "%s"])


@lru_cache(KEPT_TEXTS)
def _row(candle: CandleRow, form: str) -> str:
    return form % (
        _time_text(candle.start),
        _time_text(candle.end),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.ticks,
        "true" if candle.final else "false",
        candle.revision,
        "true" if candle.filled else "false",
    )


@lru_cache(KEPT_TEXTS)
def _gap(end: EpochUs, start: EpochUs) -> str:
    return f'{{"from":"{_time_text(end)}","to":"{_time_text(start)}"}}'


_time_text = lru_cache(4096)(format_time)
"""A candle's end is the next one's start, or a gap begins with it: more than a page has."""


def _head(asked: Asked, symbol: str) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "interval": asked.interval,
        "from": None if asked.start is None else format_time(asked.start),
        "to": format_time(asked.end),
    }


def _headers(asked: Asked, listing: bytes, following: str | None, *, final: bool) -> dict[str, str]:
    # Weak: the same rows under another `to`, which moves on with the time, are the same history.
    etag = hashlib.blake2b(listing, digest_size=12, key=b"more" if following else b"")
    headers = {
        "Content-Type": MEDIA_TYPES[asked.form],
        "ETag": f'W/"{etag.hexdigest()}"',
        "Cache-Control": f"max-age={FINAL_MAX_AGE_S}" if final else "no-cache",
        "Vary": "Accept",
    }
    if following is not None:
        headers["Link"] = f'<{following}>; rel="next"'
    return headers


def _next(asked: Asked, symbol: str, oldest: EpochUs) -> str:
    query = {"symbol": symbol, "interval": asked.interval}
    if asked.start is not None:
        query["from"] = format_time(asked.start)
    query |= {"to": format_time(oldest), "limit": str(asked.limit), "format": asked.form}
    return f"{PATH}?{urlencode(query, safe=':')}"


def _csv(columns: Sequence[str], rows: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _form(accept: str) -> str:
    wanted = _accepted(accept)
    return "csv" if wanted.get("text/csv", 0.0) > wanted.get("application/json", 0.0) else "json"


def _accepted(accept: str) -> dict[str, float]:
    """Media type → how much it is wanted, 0 to 1 (RFC 9110, 12.5.1); what cannot be read is not wanted."""
    wanted = {}
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        try:
            wanted[media_type] = float(weight)
        except ValueError:
            continue
    return wanted


def _time(name: str, text: str | UnsetType, default: EpochUs) -> EpochUs:
    if text is UNSET:
        return default
    try:
        time = parse_time(text)
        format_time(time)  # an offset may lead out of the years that can be written
    except ValueError as error:
        raise QueryError(
            f"{name}: expected a time such as 2025-10-27T12:00:00Z, got {quoted(text)}"
        ) from error
    return time
