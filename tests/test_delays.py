"""The hops of a price add up to its way, and what is no hop is not counted."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from aurexd.delays import PASSES, Delays
from aurexd.market import EpochUs, Instrument, Price, Quality

MS = 1000
PRICE = Price(
    symbol="XAUUSD",
    close=Decimal(2700),
    bid=None,
    ask=None,
    change=None,
    change_pct=None,
    source="alltick",
    instrument=Instrument.SPOT,
    quality=Quality.LIVE,
    source_time=EpochUs(0),
    receive_time=EpochUs(80 * MS),
)


def test_each_hop_is_counted_from_where_the_one_before_ends() -> None:
    delays = Delays()
    delays.published(PRICE, EpochUs(82 * MS))
    delays.begin(EpochUs(85 * MS))
    delays.written(0.001, 0.003, 100)
    hops = delays.taken()
    assert [hops.source.total, hops.aggregator.total, hops.hub.total] == [
        pytest.approx(s) for s in (0.08, 0.002, 0.003)
    ]
    assert [hops.socket.count, hops.delivery.count] == [100, 100]
    assert [hops.socket.total, hops.delivery.total] == [pytest.approx(0.2), pytest.approx(0.7)]


def test_what_goes_out_together_is_as_old_as_its_first() -> None:
    delays = Delays()
    for received in (0, 50 * MS):
        price = msgspec.structs.replace(PRICE, receive_time=EpochUs(received))
        delays.published(price, EpochUs(received))
    delays.begin(EpochUs(60 * MS))
    delays.written(0.0, 0.0, 1)
    assert delays.taken().hub.count == 2
    assert delays.taken().delivery.total == pytest.approx(0.06)


def test_a_pass_without_a_new_price_is_nobodys_delay() -> None:
    delays = Delays()
    delays.published(PRICE, EpochUs(81 * MS))
    delays.begin(EpochUs(82 * MS))
    delays.written(0.0, 0.1, 5)
    before = delays.taken()
    delays.begin(EpochUs(90 * MS))
    delays.written(0.0, 0.1, 5)
    assert delays.taken() == before


def test_made_up_prices_have_no_way_to_us() -> None:
    delays = Delays()
    delays.published(msgspec.structs.replace(PRICE, quality=Quality.SIMULATED), EpochUs(81 * MS))
    delays.begin(EpochUs(82 * MS))
    assert (delays.taken().source.count, delays.taken().aggregator.count) == (0, 1)


def test_what_many_passes_took_is_all_counted() -> None:
    delays = Delays()
    for number in range(2 * PASSES + 1):
        delays.published(PRICE, EpochUs((81 + number) * MS))
        delays.begin(EpochUs((83 + number) * MS))
        delays.written(0.0, 0.002, 10)
    hops = delays.taken()
    assert [hop.count for hop in (hops.source, hops.aggregator, hops.hub)] == [2 * PASSES + 1] * 3
    assert [hops.socket.count, hops.delivery.count] == [10 * (2 * PASSES + 1)] * 2
    assert hops.socket.total == pytest.approx(0.001 * hops.socket.count)
