"""Messages of channels, for tests of what is published."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from aurexd.market import EpochUs, Instrument, Price, Quality
from aurexd.protocol import compose
from aurexd.protocol.messages import Alert, PriceUpdate

NOW = EpochUs(1_761_566_400_000_000)
GOLDEN_ALERT = Path(__file__).parent / "protocol" / "golden" / "alert.json"


def price_at(
    close: str = "2706.93",
    *,
    symbol: str = "XAUUSD",
    source_time: EpochUs = NOW,
    receive_time: EpochUs | None = None,
) -> Price:
    """A published price; without a `receive_time` it came at once."""
    return Price(
        symbol=symbol,
        close=Decimal(close),
        bid=None,
        ask=None,
        change=None,
        change_pct=None,
        source="alltick",
        instrument=Instrument.SPOT,
        quality=Quality.LIVE,
        source_time=source_time,
        receive_time=source_time if receive_time is None else receive_time,
    )


def price_update(count: int, symbol: str = "XAUUSD") -> PriceUpdate:
    """The price of the `count`th update is `count` and a half."""
    return compose.price_update(price_at(f"{count}.50", symbol=symbol), NOW, count)


def alert(count: int, alert_id: str | None = None) -> Alert:
    """The alert `a1`, `a2`, … by its count."""
    golden = msgspec.json.decode(GOLDEN_ALERT.read_bytes(), type=Alert)
    data = msgspec.structs.replace(golden.data, alert_id=alert_id or f"a{count}")
    return msgspec.structs.replace(golden, data=data, update_count=count)
