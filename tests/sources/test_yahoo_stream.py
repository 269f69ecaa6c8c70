"""Yahoo's push stream: its messages against captured ones and yfinance's, the provider on virtual time."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from decimal import Decimal
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from aurexd.clock import LoopClock
from aurexd.errors import FeedError
from aurexd.market import EpochUs, Instrument
from aurexd.sources.websocket import MAX_GARBAGE_IN_A_ROW
from aurexd.sources.yahoo_stream import (
    RESUBSCRIBE_S,
    Idle,
    LastPrice,
    PricingData,
    YahooStream,
    YahooStreamSettings,
    parse,
)
from tests.fakes import FakeFeed
from tests.standins.websocket import Refusal, run_provider
from tests.standins.yahoo_stream import YahooStreamStandIn, frame

NOW = EpochUs(1795411594_000_000)
SUBSCRIBED_S = 0.5

# From yfinance's tests/test_live.py, and one for gold in the same form.
BTC = (
    "CgdCVEMtVVNEFYoMuUcYwLCVgIplIgNVU0QqA0NDQzApOAFFPWrEP0iAgOrxvANVx/25R12csrRHZYD8skR9/7i0R7ABgIDq8bwD"
    "2AEE4AGAgOrxvAPoAYCA6vG8A/IBA0JUQ4ECAAAAwPrjckGJAgAA2P5ZT3tC"
)
GOLD = "CgRHQz1GFTMDi0UYoKz27cBoIgNVU0QqA0NNWDASOAFF16MwP0iA8QZlzcz0QWoLR29sZCBEZWMgMjbYAQQ="


def pricing(message: str) -> str:
    return json.dumps({"type": "pricing", "message": message})


def yahoo(url: str) -> YahooStream:
    settings = YahooStreamSettings(name="yahoo", type="yahoo-stream", symbols={"GC": "GC=F"}, url=url)
    return YahooStream(settings, update_interval_s=5.0)


async def error_of(provider: YahooStream) -> FeedError:
    async with run_provider(provider, FakeFeed("GC=F")) as run:
        return await run.error()


# --- parsing ---


@pytest.mark.parametrize(
    ("message", "price"),
    [
        (BTC, LastPrice("BTC-USD", Decimal("94745.08"), EpochUs(1736509140000_000))),
        (GOLD, LastPrice("GC=F", Decimal("4448.40"), EpochUs(1795411594000_000))),
    ],
)
def test_captured_messages_are_read(message: str, price: LastPrice) -> None:
    assert parse(pricing(message)) == price
    assert parse(pricing(message).encode()) == price


@given(
    st.text(st.characters(codec="utf-8")),
    st.floats(width=32),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
)
@example("GC=F", 4448.39990234375, 1795411594000, 18, 2)
def test_our_fields_are_where_yfinances_are(
    code: str, price: float, time: int, quote_type: int, price_hint: int
) -> None:
    from yfinance.pricing_pb2 import PricingData as Theirs  # it takes a second to import

    fields = {"id": code, "price": price, "time": time, "quote_type": quote_type, "price_hint": price_hint}
    theirs = Theirs(**fields, short_name="Gold Dec 26", market_cap=1.5, day_volume=56384)
    ours = PricingData.FromString(theirs.SerializeToString())
    for field in fields:
        assert repr(getattr(ours, field)) == repr(getattr(theirs, field))


@pytest.mark.parametrize(
    ("price", "fields", "expected"),
    [
        (4448.4, {}, "4448.40"),
        (4448.4, {"price_hint": 1}, "4448.4"),
        (4448.45, {"price_hint": 3}, "4448.450"),
        (4448.4, {"price_hint": 0}, "4448.40"),
        (4448.4, {"price_hint": -5}, "4448.40"),
        (4448.4, {"price_hint": 10**12}, "4448.40"),
        (0.0, {}, None),
        (0.001, {}, None),
        (-4448.4, {}, None),
        (float("nan"), {}, None),
        (float("inf"), {}, None),
        (3e38, {}, None),
    ],
)
def test_a_price_has_the_decimals_that_were_hinted(
    price: float, fields: dict[str, Any], expected: str | None
) -> None:
    message = parse(json.dumps(frame("GC=F", price, 1795411594000, **fields)))
    assert isinstance(message, LastPrice)
    assert (message.price and str(message.price)) == expected


@given(st.decimals(min_value="0.01", max_value="9999.99", places=2), st.integers(946_684_800_000, 4 * 10**12))
def test_a_float_gives_back_the_price_it_was(price: Decimal, time: int) -> None:
    message = parse(json.dumps(frame("GC=F", float(price), time)))
    assert message == LastPrice("GC=F", price, EpochUs(time * 1000))


def test_no_time_is_none() -> None:
    assert parse(json.dumps(frame("GC=F", 4448.4, 0))) == LastPrice("GC=F", Decimal("4448.40"), None)


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(frame("GC=F", 4448.4, 1795411594000, quote_type=7)),
        '{"type":"status","message":{"anything":1}}',
        '{"type":"ping"}',
    ],
)
def test_heartbeats_and_other_types_are_nothing_to_act_on(raw: str) -> None:
    assert parse(raw) == Idle()


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{}",
        "null",
        GOLD,
        pricing(GOLD)[:-5],
        pricing(GOLD[:-3]),
        pricing("****"),
        pricing(base64.b64encode(b"\xff\xff\xff").decode()),
        pricing(base64.b64encode(b"\x0a\x02\xff\xfe").decode()),
        '{"type":"pricing","message":7}',
        '{"type":"pricing","message":"é"}',
        json.dumps(frame("GC=F", 4448.4, 1795411594)),
        json.dumps(frame("GC=F", 4448.4, -1)),
    ],
)
def test_what_is_none_of_its_messages_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
nearly_right = st.fixed_dictionaries(
    {"type": st.just("pricing")},
    optional={"message": json_values | st.binary().map(lambda raw: base64.b64encode(raw).decode())},
)


@given(st.binary() | st.text() | json_values.map(json.dumps) | nearly_right.map(json.dumps))
def test_whatever_comes_is_read_or_refused(raw: str | bytes) -> None:
    with contextlib.suppress(ValueError):
        parse(raw)


def test_an_equals_f_is_a_future() -> None:
    assert YahooStream.instrument_of("GC=F") is Instrument.FUTURE
    assert YahooStream.instrument_of("PAXG-USD") is None


# --- the connection ---


async def test_it_subscribes_at_once_and_again_and_again(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GC=F", "SI=F")
    async with YahooStreamStandIn().running() as standin, run_provider(yahoo(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        assert feed.connections
        assert standin.clients[0].query == {"version": "2"}
        await trio.sleep(RESUBSCRIBE_S * 4)
    assert [request.message for request in standin.requests] == [{"subscribe": ["GC=F", "SI=F"]}] * 5
    times = [request.time - standin.opened[0] for request in standin.requests]
    assert times == pytest.approx([RESUBSCRIBE_S * n for n in range(5)], abs=0.1)


async def test_that_keeps_the_stream_alive(loopback_clock: MockClock) -> None:
    async with YahooStreamStandIn(patience_s=60.0).running() as standin:
        async with run_provider(yahoo(standin.url), FakeFeed("GC=F")):
            await trio.sleep(600.0)
            assert len(standin.clients) == 1


async def test_prices_arrive_with_their_time(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GC=F", "SI=F")
    async with YahooStreamStandIn(clock=LoopClock(NOW)).running() as standin:
        async with run_provider(yahoo(standin.url), feed):
            await trio.sleep(SUBSCRIBED_S)
            await standin.push(4448.4)
            await standin.push(52.125, code="SI=F", price_hint=3)
            await feed.wait_for_ticks(2)
    gold, silver = feed.ticks
    assert (gold.code, str(gold.last), gold.bid, gold.ask) == ("GC=F", "4448.40", None, None)
    assert (silver.code, str(silver.last)) == ("SI=F", "52.125")
    assert gold.source_time is not None
    assert gold.source_time == pytest.approx(NOW - 600 * 10**6, abs=2 * 10**6)


async def test_what_cannot_be_used_is_counted(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GC=F")
    async with YahooStreamStandIn().running() as standin, run_provider(yahoo(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        await standin.push(0.0)
        await standin.push(1.0, quote_type=7)
        await standin.say('{"type":"news"}')
        await standin.say(GOLD)
        await standin.push(4448.4)
        await feed.wait_for_ticks(1)
    assert feed.reasons == ["no_price", "garbage"]


async def test_a_garbling_stream_is_left(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GC=F")
    async with YahooStreamStandIn().running() as standin, run_provider(yahoo(standin.url), feed) as run:
        await trio.sleep(SUBSCRIBED_S)
        standin.mode = "garbling"
        for _ in range(MAX_GARBAGE_IN_A_ROW):
            await standin.push(4448.4)
        assert "unreadable" in str(await run.error())


@pytest.mark.parametrize("code", [1000, 1001, None])
async def test_a_disconnected_source_starts_over(loopback_clock: MockClock, code: int | None) -> None:
    feed = FakeFeed("GC=F")
    async with YahooStreamStandIn().running() as standin:
        provider = yahoo(standin.url)
        async with run_provider(provider, feed) as run:
            await trio.sleep(SUBSCRIBED_S)
            await standin.disconnect(code=code)
            assert not (await run.error()).fatal
        async with run_provider(provider, feed):
            await trio.sleep(SUBSCRIBED_S)
            await standin.push(4448.4)
            await feed.wait_for_ticks(1)


async def test_a_refused_upgrade_is_tried_again(loopback_clock: MockClock) -> None:
    async with YahooStreamStandIn().running() as standin:
        standin.refusal = Refusal(503)
        assert not (await error_of(yahoo(standin.url))).fatal


async def test_it_works_over_tls(loopback_clock: MockClock, server_tls: ssl.SSLContext) -> None:
    feed = FakeFeed("GC=F")
    async with (
        YahooStreamStandIn(tls=server_tls).running() as standin,
        run_provider(yahoo(standin.url), feed),
    ):
        await trio.sleep(SUBSCRIBED_S)
        await standin.push(4448.4)
        await feed.wait_for_ticks(1)
