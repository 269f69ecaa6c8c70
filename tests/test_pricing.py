from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.market import EpochUs, Instrument, Quality, Tick
from aurexd.pricing import price_of, quantum

prices = st.decimals(Decimal("0.0001"), Decimal(1_000_000), places=4)


def tick(bid: Decimal | None = None, ask: Decimal | None = None, last: Decimal | None = None) -> Tick:
    return Tick(
        symbol="XAUUSD",
        source="s",
        instrument=Instrument.SPOT,
        source_time=EpochUs(1),
        receive_time=EpochUs(2),
        bid=bid,
        ask=ask,
        last=last,
    )


def test_the_close_is_the_mid_where_both_sides_are_quoted() -> None:
    price = price_of(tick(Decimal("4389.128"), Decimal("4389.632"), Decimal(1)), Quality.LIVE, quantum(2))
    assert (price.close, price.bid, price.ask) == (Decimal("4389.38"), Decimal("4389.13"), Decimal("4389.63"))


def test_the_close_is_the_last_price_otherwise() -> None:
    assert price_of(tick(last=Decimal("4448.4")), Quality.DELAYED, quantum(1)).close == Decimal("4448.4")


def test_a_tick_without_a_price_is_refused() -> None:
    with pytest.raises(ValueError, match="without a price"):
        price_of(tick(bid=Decimal(1)), Quality.LIVE, quantum(2))


@given(prices, prices, st.integers(0, 4))
def test_a_price_has_exactly_the_symbols_decimals(bid: Decimal, spread: Decimal, decimals: int) -> None:
    price = price_of(tick(bid, bid + spread), Quality.LIVE, quantum(decimals))
    for value in (price.close, price.bid, price.ask):
        assert value is not None
        assert value.as_tuple().exponent == -decimals
    assert price.bid is not None
    assert price.ask is not None
    assert price.bid <= price.close <= price.ask
