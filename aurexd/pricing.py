"""How a tick becomes a price: the mid or the last, rounded to the symbol's decimals. Pure.

Which tick is used is decided in `selection.py`; this room only does the arithmetic.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

from aurexd.market import Price, Quality, Tick

PERCENT_STEP = Decimal("0.01")


def quantum(decimals: int) -> Decimal:
    """The smallest step of a price with that many decimals: 2 → 0.01."""
    return Decimal(1).scaleb(-decimals)


def price_of(
    tick: Tick,
    quality: Quality,
    step: Decimal,
    previous_close: Decimal | None = None,
    *,
    confidence: Decimal | None = None,
    votes: tuple[str, ...] = (),
    rebased: bool = False,
) -> Price:
    """The price that `tick` states, rounded half to even to `step` (see `quantum`).

    The mid where bid and ask are quoted, else the last price: rounding comes after the mid, so that the mid of
    two odd quotes is not off by half a step. The change is against `previous_close`, which is a multiple of `step`;
    None while that is unknown. The confidence is rounded up: it never claims more than there is.

    Raises:
        ValueError: the tick has neither both sides nor a last price.

    """
    bid, ask = tick.bid, tick.ask
    if bid is not None and ask is not None:
        close = (bid + ask) / 2
    elif tick.last is not None:
        close = tick.last
    else:
        raise ValueError(f"{tick.source}: a tick of {tick.symbol} without a price")
    close = close.quantize(step, ROUND_HALF_EVEN)
    change = change_pct = None
    if previous_close is not None:
        change = close - previous_close
        change_pct = (100 * change / previous_close).quantize(PERCENT_STEP, ROUND_HALF_EVEN)
    return Price(
        symbol=tick.symbol,
        close=close,
        bid=None if bid is None else bid.quantize(step, ROUND_HALF_EVEN),
        ask=None if ask is None else ask.quantize(step, ROUND_HALF_EVEN),
        change=change,
        change_pct=change_pct,
        source=tick.source,
        instrument=tick.instrument,
        quality=quality,
        source_time=tick.source_time,
        receive_time=tick.receive_time,
        confidence=None if confidence is None else confidence.quantize(step, ROUND_CEILING),
        votes=votes,
        rebased=rebased,
    )
