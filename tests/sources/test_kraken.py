"""Kraken's WebSocket v2: its messages, and the provider against a stand-in on virtual time."""

from __future__ import annotations

import contextlib
import json
import math
import ssl
from decimal import Decimal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from aurexd.clock import LoopClock
from aurexd.errors import FeedError
from aurexd.market import SECOND_US, EpochUs, Instrument, format_time, parse_time
from aurexd.sources.base import Bar
from aurexd.sources.kraken import (
    Answer,
    Idle,
    Kraken,
    KrakenSettings,
    Status,
    Ticker,
    Tickers,
    parse,
    refusal,
)
from aurexd.sources.websocket import ANSWER_TIMEOUT_S, MAX_GARBAGE_IN_A_ROW
from tests.fakes import FakeFeed
from tests.standins.http import Answer as HttpAnswer
from tests.standins.http import Fault, Request, serve_http
from tests.standins.kraken import KrakenStandIn, ohlc, ohlc_error
from tests.standins.websocket import Refusal, run_provider

NOW = EpochUs(1795410000_123_456)
SUBSCRIBED_S = 0.5
TICKER = (
    b'{"channel":"ticker","type":"snapshot","data":[{"symbol":"PAXG/USD","bid":4380.1,"bid_qty":0.5,'
    b'"ask":4381.2,"ask_qty":1.1,"last":4380.6,"volume":215.3,"vwap":4375.2,"low":4350.0,"high":4400.0,'
    b'"change":-2.9,"change_pct":-0.07,"timestamp":"2026-11-23T05:00:00.123456Z"}]}'
)


def kraken(url: str) -> Kraken:
    settings = KrakenSettings(name="kraken", type="kraken", symbols={"PAXG": "PAXG/USD"}, url=url)
    return Kraken(settings, update_interval_s=5.0)


async def error_of(provider: Kraken, *codes: str) -> FeedError:
    async with run_provider(provider, FakeFeed(*(codes or ("PAXG/USD",)))) as run:
        return await run.error()


# --- parsing ---


def test_a_ticker_is_read_exactly() -> None:
    assert parse(TICKER) == Tickers(
        [
            Ticker(
                "PAXG/USD",
                bid=Decimal("4380.1"),
                ask=Decimal("4381.2"),
                last=Decimal("4380.6"),
                time=parse_time("2026-11-23T05:00:00.123456Z"),
            )
        ]
    )


def test_numbers_keep_every_digit() -> None:
    message = parse(TICKER.replace(b"4380.1,", b"4380.10000000000000001,"))
    assert isinstance(message, Tickers)
    assert message.tickers[0].bid == Decimal("4380.10000000000000001")


@pytest.mark.parametrize("timestamp", [b"", b',"timestamp":null', b',"timestamp":""'])
def test_older_servers_send_no_time(timestamp: bytes) -> None:
    message = parse(TICKER.replace(b',"timestamp":"2026-11-23T05:00:00.123456Z"', timestamp))
    assert isinstance(message, Tickers)
    assert message.tickers[0].time is None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b'{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online",'
            b'"api_version":"v2","connection_id":15113583034416118705}]}',
            Status("online"),
        ),
        (b'{"channel":"status","type":"update","data":[]}', Idle()),
        (b'{"channel":"heartbeat"}', Idle()),
        (b'{"channel":"book","type":"update","data":[{"x":1}]}', Idle()),
        (b'{"method":"pong","req_id":9,"time_in":"..","time_out":".."}', Idle()),
        (
            b'{"method":"subscribe","result":{"channel":"ticker","snapshot":true,"symbol":"PAXG/USD",'
            b'"event_trigger":"bbo","warnings":["x"]},"success":true,"req_id":1}',
            Answer("PAXG/USD", None),
        ),
        (
            b'{"error":"Currency pair not supported FAKECOIN/USD","method":"subscribe","success":false,'
            b'"symbol":"FAKECOIN/USD","req_id":1}',
            Answer("FAKECOIN/USD", "Currency pair not supported FAKECOIN/USD"),
        ),
        (b'{"error":"Exceeded msg rate","success":false}', Answer("", "Exceeded msg rate")),
    ],
)
def test_its_other_messages_are_told_apart(raw: bytes, message: object) -> None:
    assert parse(raw) == message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        TICKER[:-9],
        b"\xff",
        TICKER.replace(b"[{", b"{").replace(b"}]", b"}"),
        TICKER.replace(b"4380.1,", b'"x",'),
        TICKER.replace(b'"PAXG/USD"', b"1"),
        TICKER.replace(b"2026-11-23T05:00:00.123456Z", b"today"),
        TICKER.replace(b"2026-11-23T05:00:00.123456Z", b"2026-11-23T05:00:00"),
        TICKER.replace(b"2026-11-23T05:00:00.123456Z", b"0001-01-01T00:00:00Z"),
        b'{"channel":"status","data":[{"system":7}]}',
    ],
)
def test_what_is_none_of_its_messages_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
tickers = st.fixed_dictionaries(
    {"symbol": st.just("PAXG/USD")},
    optional=dict.fromkeys(("bid", "ask", "last", "timestamp"), json_values),
)
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["ticker", "status", "heartbeat"]),
        "method": st.sampled_from(["subscribe", "pong"]),
        "data": json_values | st.lists(tickers, max_size=2),
        "error": json_values,
        "result": json_values,
    },
)


@given(st.binary() | st.text() | json_values.map(json.dumps) | nearly_right.map(json.dumps))
def test_whatever_comes_is_read_or_refused(raw: str | bytes) -> None:
    with contextlib.suppress(ValueError):
        parse(raw)


@given(
    st.decimals(min_value="0.01", max_value="99999", places=2),
    st.decimals(min_value="0.01", max_value="99999", places=5),
    st.integers(946_684_800_000, 4_102_444_799_999),
)
def test_what_it_means_is_what_is_read(bid: Decimal, ask: Decimal, time_ms: int) -> None:
    time = EpochUs(time_ms * 1000)
    raw = (
        f'{{"channel":"ticker","data":[{{"symbol":"XAUT/USD","bid":{bid},"ask":{ask},'
        f'"timestamp":"{format_time(time)}"}}]}}'
    )
    assert parse(raw) == Tickers([Ticker("XAUT/USD", bid=bid, ask=ask, last=None, time=time)])


@pytest.mark.parametrize(
    ("error", "fatal", "waits"),
    [
        ("Currency pair not supported FAKECOIN/USD", True, False),
        ("Exceeded msg rate", False, True),
        ("Market data unavailable", False, False),
    ],
)
def test_a_refusal_is_fatal_or_waits_or_is_tried_again(error: str, fatal: bool, waits: bool) -> None:
    raised = refusal(Answer("FAKECOIN/USD", error))
    assert (raised.fatal, raised.retry_after_s > 0) == (fatal, waits)
    assert error in str(raised)


def test_gold_tokens_are_tokens() -> None:
    assert Kraken.instrument_of("PAXG/USD") is Instrument.TOKEN
    assert Kraken.instrument_of("XAUT/EUR") is Instrument.TOKEN
    assert Kraken.instrument_of("BTC/USD") is None


# --- the connection ---


async def test_it_subscribes_to_all_its_pairs_by_best_bid_and_offer(loopback_clock: MockClock) -> None:
    feed = FakeFeed("PAXG/USD", "XAUT/USD")
    async with KrakenStandIn().running() as standin, run_provider(kraken(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        assert list(standin.subscribed.values()) == [{"PAXG/USD", "XAUT/USD"}]
    (request,) = standin.requests
    assert request.message["params"] == {
        "channel": "ticker",
        "symbol": ["PAXG/USD", "XAUT/USD"],
        "event_trigger": "bbo",
        "snapshot": True,
    }
    assert feed.connections


async def test_a_snapshot_and_updates_become_ticks(loopback_clock: MockClock) -> None:
    feed = FakeFeed("PAXG/USD", "XAUT/USD")
    async with KrakenStandIn(clock=LoopClock(NOW)).running() as standin:
        await standin.push("4380.10", "4381.2", last="4380.6")
        async with run_provider(kraken(standin.url), feed):
            await trio.sleep(SUBSCRIBED_S)
            await standin.push("4390.10", "4391.2", symbol="XAUT/USD")
            standin.timestamps = False
            await standin.push("4380.30", "4381.3")
            await feed.wait_for_ticks(3)
    assert [(tick.code, str(tick.bid), str(tick.ask)) for tick in feed.ticks] == [
        ("PAXG/USD", "4380.10", "4381.2"),
        ("XAUT/USD", "4390.10", "4391.2"),
        ("PAXG/USD", "4380.30", "4381.3"),
    ]
    assert feed.ticks[0].last == Decimal("4380.6")
    assert feed.ticks[0].source_time == NOW
    assert feed.ticks[2].source_time is None


async def test_its_heartbeats_are_signs_of_life(loopback_clock: MockClock) -> None:
    feed = FakeFeed("PAXG/USD")
    async with KrakenStandIn().running() as standin, run_provider(kraken(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        before = feed.signs_of_life
        await trio.sleep(20.0)
        assert feed.signs_of_life - before == 20
        assert len(standin.requests) == 1
    assert feed.rejections == []


@pytest.mark.parametrize(
    ("bid", "ask"), [("null", "4381.2"), ("4380.1", "0"), ("-1.5", "4381.2"), ("4380.1", "null")]
)
async def test_a_quote_with_one_side_is_rejected(loopback_clock: MockClock, bid: str, ask: str) -> None:
    feed = FakeFeed("PAXG/USD")
    async with KrakenStandIn().running() as standin, run_provider(kraken(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        await standin.push(bid, ask)
        await standin.push("4380.1", "4381.2")
        await feed.wait_for_ticks(1)
    assert feed.reasons == ["one_sided"]
    assert len(feed.ticks) == 1


@pytest.mark.parametrize(("system", "reasons"), [("maintenance", ["market_halted"]), ("post_only", [])])
async def test_prices_of_a_halted_exchange_are_none(
    loopback_clock: MockClock, system: str, reasons: list[str]
) -> None:
    feed = FakeFeed("PAXG/USD")
    async with KrakenStandIn().running() as standin, run_provider(kraken(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        await standin.change_system(system)
        await standin.push("1.0", "2.0")
        await standin.change_system("online")
        await standin.push("4380.1", "4381.2")
        await feed.wait_for_ticks(2 - len(reasons))
        assert standin.connections == 1
    assert feed.reasons == reasons
    assert str(feed.ticks[-1].bid) == "4380.1"


async def test_an_unsupported_pair_is_fatal(loopback_clock: MockClock) -> None:
    async with KrakenStandIn().running() as standin:
        error = await error_of(kraken(standin.url), "PAXG/USD", "FAKECOIN/USD")
    assert error.fatal
    assert "FAKECOIN/USD" in str(error)


async def test_over_its_rate_we_wait(loopback_clock: MockClock) -> None:
    async with KrakenStandIn().running() as standin:
        standin.over_rate = True
        error = await error_of(kraken(standin.url))
    assert not error.fatal
    assert error.retry_after_s >= 30.0


async def test_a_pair_that_is_not_answered_ends_the_connection(loopback_clock: MockClock) -> None:
    async with KrakenStandIn().running() as standin:
        standin.mode = "stalled"
        start = trio.current_time()
        assert "did not answer" in str(await error_of(kraken(standin.url)))
        assert trio.current_time() - start == pytest.approx(ANSWER_TIMEOUT_S, abs=0.1)


async def test_a_garbling_exchange_is_left(loopback_clock: MockClock) -> None:
    feed = FakeFeed("PAXG/USD")
    async with KrakenStandIn().running() as standin, run_provider(kraken(standin.url), feed) as run:
        await trio.sleep(SUBSCRIBED_S)
        standin.mode = "garbling"
        assert "unreadable" in str(await run.error())
    assert feed.reasons == ["garbage"] * MAX_GARBAGE_IN_A_ROW


async def test_a_refused_upgrade_is_tried_again(loopback_clock: MockClock) -> None:
    async with KrakenStandIn().running() as standin:
        standin.refusal = Refusal(429, b"error code: 1015")
        error = await error_of(kraken(standin.url))
    assert not error.fatal
    assert 0 < error.retry_after_s < math.inf


@pytest.mark.parametrize("code", [1000, 1012, None])
async def test_a_disconnected_source_starts_over(loopback_clock: MockClock, code: int | None) -> None:
    feed = FakeFeed("PAXG/USD")
    async with KrakenStandIn().running() as standin:
        provider = kraken(standin.url)
        async with run_provider(provider, feed) as run:
            await trio.sleep(SUBSCRIBED_S)
            await standin.push("4380.1", "4381.2")
            await standin.disconnect(code=code)
            assert not (await run.error()).fatal
        async with run_provider(provider, feed):
            await feed.wait_for_ticks(2)  # the snapshot
    assert standin.connections == 2


async def test_it_works_over_tls(loopback_clock: MockClock, server_tls: ssl.SSLContext) -> None:
    feed = FakeFeed("PAXG/USD")
    async with KrakenStandIn(tls=server_tls).running() as standin:
        await standin.push("4380.1", "4381.2")
        async with run_provider(kraken(standin.url), feed):
            await feed.wait_for_ticks(1)


# --- its history ---

FIVE = 1_795_410_000
"""2026-11-23T05:00:00Z, in seconds."""


def historian(url: str) -> Kraken:
    settings = KrakenSettings(name="kraken", type="kraken", symbols={"PAXG": "PAXG/USD"}, history_url=url)
    return Kraken(settings, update_interval_s=5.0)


async def history_of(answer: HttpAnswer | Fault) -> tuple[list[Bar] | FeedError, list[Request]]:
    async with serve_http(lambda _: answer) as server:
        start, end = EpochUs(FIVE * SECOND_US), EpochUs((FIVE + 600) * SECOND_US)
        source = historian(f"{server.url}/0/public/OHLC")
        try:
            return await source.history("PAXG/USD", start, end, LoopClock(NOW)), server.requests
        except FeedError as error:
            return error, server.requests


async def test_the_minutes_of_the_last_hours_are_read_exactly() -> None:
    bars, [request] = await history_of(
        ohlc(
            (FIVE, "4380.10", "4381.00", "4379.95", "4380.6"),
            (FIVE + 60, "4380.6", "4380.6", "4380.6", "4380.6"),
        )
    )
    assert isinstance(bars, list)
    assert bars[0] == Bar(
        start=EpochUs(FIVE * SECOND_US),
        open=Decimal("4380.10"),
        high=Decimal("4381.00"),
        low=Decimal("4379.95"),
        close=Decimal("4380.6"),
    )
    assert [bar.start // SECOND_US - FIVE for bar in bars] == [0, 60]
    assert request.path == "/0/public/OHLC"
    assert request.query == {"pair": "PAXGUSD", "interval": "1", "since": str(FIVE - 60)}


async def test_a_minute_without_a_trade_is_none() -> None:
    bars, _ = await history_of(ohlc((FIVE, "4380", "4380", "4380", "4380"), trades=0))
    assert bars == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (ohlc_error("EQuery:Unknown asset pair"), "EQuery:Unknown asset pair"),
        (HttpAnswer(b"<html>"), "what is none"),
        (HttpAnswer(b'{"error":[],"result":{"PAXGUSD":[[1,2,3]]}}'), "what is none"),
        (ohlc((FIVE, "x", "1", "1", "1")), "'x' is no price"),
        (ohlc((FIVE * 1000, "1", "1", "1", "1")), "not a time between"),
        (HttpAnswer(b"x" * 2_000_000), "more than"),
        (HttpAnswer(b"", 503), "HTTP 503"),
        (Fault.DROP, "the connection broke"),
    ],
)
async def test_an_answer_that_is_no_history_says_why(answer: HttpAnswer | Fault, says: str) -> None:
    error, _ = await history_of(answer)
    assert says in str(error)


@pytest.mark.parametrize(
    ("keys", "hours"),
    [
        ({}, 12.0),
        ({"history_url": ""}, 0.0),
        ({"url": "ws://127.0.0.1:1/v2"}, 0.0),
        ({"url": "ws://127.0.0.1:1/v2", "history_url": "http://127.0.0.1:1"}, 12.0),
    ],
)
def test_who_stands_in_for_its_stream_does_not_ask_the_real_history(
    keys: dict[str, str], hours: float
) -> None:
    document = {"name": "kraken", "type": "kraken", "symbols": {"PAXG": "PAXG/USD"}, **keys}
    assert Kraken(KrakenSettings.model_validate(document), update_interval_s=5.0).history_hours == hours
