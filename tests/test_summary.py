"""One line that says how the daemon is."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from aurexd.actors.messages import StoreState, StoreStatus, SymbolState
from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality
from aurexd.protocol.data import MarketState
from aurexd.summary import summary

NOW = EpochUs(1_790_000_000 * SECOND_US)
STORE = StoreStatus(state=StoreState.OK, since=NOW)


def state_of(symbol: str = "XAUUSD", *, default: bool = True, age_s: float | None = 0.4) -> SymbolState:
    price = None
    if age_s is not None:
        time = EpochUs(NOW - int(age_s * SECOND_US))
        price = Price(
            symbol=symbol,
            close=Decimal("2706.93"),
            bid=None,
            ask=None,
            change=None,
            change_pct=None,
            source="swissquote",
            instrument=Instrument.SPOT,
            quality=Quality.LIVE,
            source_time=time,
            receive_time=time,
        )
    return SymbolState(
        symbol=symbol,
        instrument=Instrument.SPOT,
        decimals=2,
        default=default,
        quality=Quality.LIVE,
        market=MarketState.OPEN,
        source="swissquote" if price else None,
        price=price,
        status_reason="swissquote carries the price",
        status_time=NOW,
    )


def test_it_tells_price_source_age_and_clients() -> None:
    text = summary([state_of()], STORE, 12, NOW)
    assert text == "XAUUSD 2706.93 live from swissquote, 0.4 s old; 12 clients"


def test_only_default_symbols_are_told_and_one_client_is_one() -> None:
    states = [state_of(), state_of("GC", default=False), state_of("PAXGUSD", age_s=None)]
    text = summary(states, STORE, 1, NOW)
    assert text == "XAUUSD 2706.93 live from swissquote, 0.4 s old; PAXGUSD: no price yet; 1 client"


@pytest.mark.parametrize("state", StoreState)
def test_the_store_is_told_when_it_is_not_well(state: StoreState) -> None:
    text = summary([], msgspec.structs.replace(STORE, state=state), 0, NOW)
    assert text == ("0 clients" if state in {StoreState.OK, StoreState.OFF} else f"0 clients; store {state}")


def test_trouble_stands_at_the_end() -> None:
    assert summary([], STORE, 0, NOW, trouble="the last reload was refused") == (
        "0 clients; the last reload was refused"
    )


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(0, "0.0 s"), (-3, "0.0 s"), (59.6, "60 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_an_age_has_the_unit_that_fits(age_s: float, text: str) -> None:
    assert f", {text} old" in summary([state_of(age_s=age_s)], STORE, 0, NOW)
