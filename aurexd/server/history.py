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
from starlette.exceptions import HTTPException

from aurexd.actors.messages import CandlePage, CandleRow, PriceRow
from aurexd.candles import INTERVALS, all_over_by
from aurexd.market import SECOND_US, EpochUs, Instrument, format_time, parse_time

PATH = "/api/v1/prices/history"

TICK = "tick"
"""Not an interval: every price, one by one."""

LIMIT = 1000
LIMIT_MAX = 10_000
TICK_HOURS = 24.0
MAX_HOURS = 24.0 * 3660

FINAL_MAX_AGE_S = 86_400
"""How long candles that cannot change any more may be kept without asking again; the store deletes them some day."""

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


def read_query(query: Mapping[str, str], accept: str, now: EpochUs) -> Asked:
    """What is wanted.

    Raises:
        HTTPException: 400, with what is wrong and what would be right.

    """
    interval = query.get("interval", TICK)
    if interval != TICK and interval not in INTERVALS:
        raise HTTPException(400, f"interval: {interval!r} is none — use {TICK}, {', '.join(INTERVALS)}")
    end = _time(query, "to", EpochUs(now + 1))
    start: EpochUs | None
    if "from" in query:
        start = _time(query, "from", end)
        if start >= end:
            raise HTTPException(
                400,
                f"from: {query['from']!r} is not before {'to' if 'to' in query else 'now'}, {format_time(end)}",
            )
    elif "hours" in query or interval == TICK:
        hours = _number(query, "hours", TICK_HOURS, 0.0, MAX_HOURS)
        start = EpochUs(max(0, end - int(hours * 3600 * SECOND_US)))
    else:
        start = None
    return Asked(
        interval=interval,
        start=start,
        end=end,
        until_now="to" not in query,
        limit=_whole_number(query, "limit", LIMIT, 1, LIMIT_MAX),
        form=_form(query, accept),
    )


def tick_answer(asked: Asked, symbol: str, rows: Sequence[PriceRow]) -> Answer:
    """The answer for every price, one by one."""
    prices = [_price(row) for row in rows]
    if asked.form == "csv":
        columns = ("timestamp", "received", "close", "bid", "ask", "source", "quality")
        body = listing = _csv(columns, ([price[name] for name in columns] for price in prices))
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
        body = listing = "\r\n".join([head, *_rows(page.candles, _csv_row(decimals)), ""]).encode()
    else:
        listing = f"[{','.join(_rows(page.candles, _json_row(decimals)))}]".encode()
        gaps = [
            {"from": _time_text(before.end), "to": _time_text(after.start)}
            for before, after in pairwise(page.candles)
            if before.end != after.start
        ]
        body = _encode(
            {
                **_head(asked, symbol),
                "instrument": instrument,
                "candles": msgspec.Raw(listing),
                "gaps": gaps,
                "next": following,
            }
        )
    closed = page.closed_before
    final = closed is not None and not asked.until_now and all_over_by(asked.interval, asked.end) <= closed
    return Answer(body=body, headers=_headers(asked, listing, following, final=final))


# Candles are many, and numbers and times need no escaping: measured at 2 µs a row, against 10 µs for an encoder's
# objects. A stored price is binary64; printed with the symbol's decimals it is the text that was published.


def _json_row(decimals: int) -> str:
    price = f"%.{decimals}f"
    fields = dict.fromkeys(CANDLE_COLUMNS, price) | {
        "start": '"%s"',
        "end": '"%s"',
        "ticks": "%d",
        "final": "%s",
        "revision": "%d",
        "filled": "false",  # until a provider's history is asked for what was missed
    }
    return "{" + ",".join(f'"{name}":{form}' for name, form in fields.items()) + "}"


def _csv_row(decimals: int) -> str:
    return ",".join(["%s", "%s", *[f"%.{decimals}f"] * 4, "%d", "%s", "%d", "false"])


def _rows(candles: Sequence[CandleRow], form: str) -> list[str]:
    return [
        form
        % (
            _time_text(candle.start),
            _time_text(candle.end),
            candle.open,
            candle.high,
            candle.low,
            candle.close,
            candle.ticks,
            "true" if candle.final else "false",
            candle.revision,
        )
        for candle in candles
    ]


_time_text = lru_cache(2 * LIMIT_MAX)(format_time)
"""A candle's end is the next one's start, and the same chart is asked for again."""


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


def _price(row: PriceRow) -> dict[str, Any]:
    return {
        "close": row.close,
        "bid": row.bid,
        "ask": row.ask,
        "source": row.source,
        "quality": row.quality,
        "timestamp": format_time(row.source_time),
        "received": format_time(row.receive_time),
    }


def _csv(columns: Sequence[str], rows: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _form(query: Mapping[str, str], accept: str) -> str:
    form = query.get("format")
    if form is None:
        wanted = _accepted(accept)
        named = wanted.get("text/csv", 0.0)
        return "csv" if named > wanted.get("application/json", 0.0) else "json"
    if form not in MEDIA_TYPES:
        raise HTTPException(400, f"format: {form!r} is none — use {' or '.join(MEDIA_TYPES)}")
    return form


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


def _number(query: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise HTTPException(400, f"{name}: expected a number from {least:g} to {most:g}, got {text!r}")
    return value


def _whole_number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
        raise HTTPException(400, f"{name}: expected a number from {least} to {most}, got {text!r}")
    return int(text)


def _time(query: Mapping[str, str], name: str, default: EpochUs) -> EpochUs:
    text = query.get(name)
    if text is None:
        return default
    try:
        time = parse_time(text)
        format_time(time)  # an offset may lead out of the years that can be written
    except ValueError as error:
        raise HTTPException(
            400, f"{name}: expected a time such as 2025-10-27T12:00:00Z, got {text!r}"
        ) from error
    return time
