"""Every route, its errors and its headers, over a real connection through hypercorn."""

from __future__ import annotations

import contextlib
import socket
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from trio.testing import MockClock

from aurexd import __version__
from aurexd.actors.messages import (
    Beat,
    CandlePage,
    CandleRow,
    GetCandles,
    GetStatuses,
    PriceRow,
    SourceState,
    SourceStatus,
    StatusChanged,
    StatusPage,
    StoreState,
    StoreStatus,
)
from aurexd.candles import INTERVALS
from aurexd.config.model import Limits
from aurexd.errors import StoreError
from aurexd.market import SECOND_US, EpochUs, Instrument, Quality
from aurexd.protocol.data import MarketState
from aurexd.server.api import ASK_S, LONG_ANSWER_ROWS
from aurexd.server.door import REFUSALS_BURST
from aurexd.server.http import ANSWER_TIMEOUT_S
from aurexd.server.interface import HistoryQuery, Phase, QueryError, read_query
from aurexd.server.openapi import openapi_document
from tests.issuer import ask_for_tokens
from tests.server.conftest import TlsPair
from tests.server.loopback import (
    START,
    Answer,
    Served,
    decided,
    price_of,
    read_to_the_end,
    serving,
    status_of,
)

API = "/api/v1"


def row(close: float = 2706.93, seconds: int = 0) -> PriceRow:
    time = EpochUs(START + seconds * SECOND_US)
    return PriceRow(
        symbol="XAUUSD",
        close=close,
        bid=None,
        ask=None,
        source="alltick",
        quality=Quality.LIVE,
        source_time=time,
        receive_time=time,
    )


def waiting(last_error: str) -> SourceStatus:
    return SourceStatus(
        name="alltick",
        type="alltick",
        priority=1,
        symbols={"XAUUSD": "GOLD"},
        instruments={"XAUUSD": Instrument.SPOT},
        state=SourceState.WAITING,
        since=START,
        failures=3,
        last_error=last_error,
        next_attempt=EpochUs(START + 5 * SECOND_US),
    )


def problem(answer: Answer) -> str:
    """The message of an error, whose form is always the same."""
    error = answer.json()["error"]
    assert error["status"] == answer.status
    assert answer.headers["cache-control"] == "no-store"
    message: str = error["message"]
    return message


# --- prices ---


async def test_the_latest_price_has_the_fields_of_price_update_and_its_age(
    loopback_clock: MockClock,
) -> None:
    async with serving() as served:
        await trio.sleep(2)
        answer = await served.fetch(f"{API}/prices/latest?symbol=XAUUSD")
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert 2000 <= body.pop("age_ms") < 3000
        assert body == {
            "symbol": "XAUUSD",
            "close": 2706.93,
            "change": None,
            "change_pct": None,
            "timestamp": "2025-10-27T12:00:00Z",
            "bid": None,
            "ask": None,
            "source": "alltick",
            "instrument": "spot",
            "quality": "live",
            "received": "2025-10-27T12:00:00Z",
        }
        assert b'"close":2706.93,' in answer.body


async def test_without_a_symbol_it_is_the_first_default_one() -> None:
    async with serving() as served:
        served.states.reverse()
        assert (await served.fetch(f"{API}/prices/latest")).json()["symbol"] == "XAUUSD"
        served.states[:] = [msgspec.structs.replace(state, default=False) for state in served.states]
        assert "XAGUSD" in problem(await served.fetch(f"{API}/prices/latest"))


async def test_a_symbol_without_a_price_is_not_available_yet_and_says_why() -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/prices/latest?symbol=XAGUSD")
        assert answer.status == 503
        assert problem(answer) == "XAGUSD has no price yet: no source has delivered a price yet"


async def test_why_a_price_is_what_it_is_can_be_asked() -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/prices/why?symbol=XAUUSD")
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        body = answer.json()
        alltick, gold_api = body.pop("sources")
        [refused] = body.pop("refused")
        assert body.pop("price")["close"] == 2706.93
        assert body == {
            "symbol": "XAUUSD",
            "instrument": "spot",
            "quality": "live",
            "reason": "no source has delivered a price yet",
            "since": "2025-10-27T12:00:00Z",
            "policy": "priority",
            "source": "alltick",
            "made_since": "2025-10-27T12:00:00Z",
            "market": "open",
            "session": {"start": "2025-10-27T12:00:00Z", "end": "2025-10-27T13:00:00Z"},
            "next_change": "2025-10-27T13:00:00Z",
            "previous_close": None,
            "max_jump_pct": 0.1,
            "return_after_s": 10.0,
        }
        assert alltick == {
            "source": "alltick",
            "priority": 1,
            "standing": "counts",
            "quality": "live",
            "tick": {
                "bid": 2706.915,
                "ask": 2706.945,
                "last": None,
                "timestamp": "2025-10-27T12:00:00Z",
                "received": "2025-10-27T12:00:00Z",
            },
            "age_ms": 1500,
            "lag_ms": 20,
            "stale_after_s": 15.0,
            "known_delay_s": 0.0,
            "stale_in_ms": 13500,
            "returns_in_ms": None,
            "clock_ahead_ms": 0,
            "refused": {},
        }
        assert (gold_api["standing"], gold_api["tick"]) == ("no_price", None)
        assert (refused["source"], refused["reason"], refused["tick"]["last"]) == (
            "gold-api",
            "wrong_scale",
            27.06,
        )


async def test_why_there_is_no_price_can_be_asked_too() -> None:
    async with serving() as served:
        body = (await served.fetch(f"{API}/prices/why?symbol=XAGUSD")).json()
        assert body["price"] is None


@pytest.mark.parametrize("route", ["latest", "history", "why"])
async def test_an_unknown_symbol_names_those_there_are(route: str) -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/prices/{route}?symbol=TULIPS")
        assert answer.status == 404
        assert problem(answer) == "no symbol 'TULIPS'; there are XAUUSD, XAGUSD"


async def test_history_is_what_is_stored_oldest_first() -> None:
    async with serving() as served:
        served.persister.rows = (row(1.5), row(2706.93, 1))
        answer = await served.fetch(f"{API}/prices/history?symbol=XAUUSD&interval=tick&hours=1&limit=5")
        assert answer.status == 200
        body = answer.json()
        assert (body["symbol"], body["interval"]) == ("XAUUSD", "tick")
        assert body["prices"] == [
            {
                "close": close,
                "bid": None,
                "ask": None,
                "source": "alltick",
                "quality": "live",
                "timestamp": time,
                "received": time,
            }
            for close, time in ((1.5, "2025-10-27T12:00:00Z"), (2706.93, "2025-10-27T12:00:01Z"))
        ]
        asked = served.persister.asked
        assert asked is not None
        assert (asked.symbol, asked.limit) == ("XAUUSD", 5)
        assert asked.end - asked.start == 3600 * SECOND_US
        assert served.clock.now() - SECOND_US < asked.end <= served.clock.now() + 1


async def test_history_from_and_to_win_over_hours() -> None:
    async with serving() as served:
        query = "from=2025-10-01T00:00:00Z&to=2025-10-02T02:00:00%2B02:00&hours=1"
        body = (await served.fetch(f"{API}/prices/history?{query}")).json()
        assert (body["from"], body["to"], body["prices"]) == (
            "2025-10-01T00:00:00Z",
            "2025-10-02T00:00:00Z",
            [],
        )
        assert served.persister.asked is not None
        assert served.persister.asked.limit == 1000
        assert served.persister.asked.end - served.persister.asked.start == 24 * 3600 * SECOND_US


async def test_history_is_not_sent_again_to_who_has_it() -> None:
    async with serving() as served:
        served.persister.rows = (row(),)
        url = f"{API}/prices/history"
        first = await served.fetch(url)
        etag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache", "it may be kept, and is to be asked for"
        for known in (etag, f'"x", {etag}', etag.removeprefix("W/"), "*"):
            again = await served.fetch(url, headers={"If-None-Match": known})
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert (await served.fetch(url, headers={"If-None-Match": 'W/"x"'})).status == 200
        served.persister.rows = (row(), row(1.0, 1))
        changed = await served.fetch(url, headers={"If-None-Match": etag})
        assert (changed.status, changed.headers["etag"] != etag) == (200, True)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("interval=2m", "interval: expected 15m or 1d or 1h or 1m or 1s or 4h or 5m or tick, got '2m'"),
        ("format=xml", "format: expected csv or json, got 'xml'"),
        ("limit=1.5", "limit: expected a whole number from 1 to 10000, got '1.5'"),
        (
            "from=2025-10-02T00:00:00Z&to=2025-10-01T00:00:00Z",
            "from: '2025-10-02T00:00:00Z' is not before to, 2025-10-01T00:00:00Z",
        ),
        ("limit=0", "limit: expected a whole number from 1 to 10000, got '0'"),
        ("limit=10001", "limit: expected a whole number from 1 to 10000, got '10001'"),
        ("limit=many", "limit: expected a whole number from 1 to 10000, got 'many'"),
        ("limit=nan", "limit: expected a whole number from 1 to 10000, got 'nan'"),
        ("hours=-1", "hours: expected a number from 0 to 87840, got '-1'"),
        ("hours=inf", "hours: expected a number from 0 to 87840, got 'inf'"),
        ("from=yesterday", "from: expected a time such as 2025-10-27T12:00:00Z, got 'yesterday'"),
        (f"limit={'9' * 500}", f"limit: expected a whole number from 1 to 10000, got '{'9' * 59}…'"),
        ("limit=1%0D%0A%E2%80%AE2", "limit: expected a whole number from 1 to 10000, got '1 �2'"),
        ("to=2025-10-27", "to: expected a time such as 2025-10-27T12:00:00Z, got '2025-10-27'"),
        (
            "to=9999-12-31T23:59:59-14:00",
            "to: expected a time such as 2025-10-27T12:00:00Z, got '9999-12-31T23:59:59-14:00'",
        ),
        (
            "from=0001-01-01T00:00:00%2B14:00",
            "from: expected a time such as 2025-10-27T12:00:00Z, got '0001-01-01T00:00:00+14:00'",
        ),
    ],
)
async def test_a_bad_parameter_is_named_with_what_was_expected(query: str, message: str) -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/prices/history?{query}")
        assert (answer.status, problem(answer)) == (400, message)


TIMES = st.one_of(
    st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "", "0", "Z"]),
    st.text(max_size=30),
)


@settings(max_examples=60)
@given(
    query=st.fixed_dictionaries(
        {},
        optional={
            "from": TIMES,
            "to": TIMES,
            "hours": st.one_of(st.floats().map(str), st.text(max_size=5)),
            "limit": st.one_of(st.integers().map(str), st.floats().map(str)),
            "interval": st.sampled_from(["tick", "1m", "1d"]),
            "format": st.sampled_from(["json", "csv"]),
        },
    )
)
def test_no_parameters_make_the_daemon_fail(query: dict[str, str]) -> None:
    async def ask() -> None:
        async with serving() as served:
            answer = await served.fetch(f"{API}/prices/history?{urlencode(query)}")
            assert answer.status in {200, 400}

    trio.run(ask)


async def test_history_that_cannot_be_read_says_why() -> None:
    async with serving() as served:
        served.persister.error = StoreError("the database is locked")
        answer = await served.fetch(f"{API}/prices/history")
        assert (answer.status, problem(answer)) == (
            503,
            "history is not available: the database is locked",
        )


async def test_no_reason_tells_a_client_where_the_files_are() -> None:
    async with serving() as served:
        served.persister.error = StoreError("/var/lib/aurexd/aurexd.db is locked")
        answer = await served.fetch(f"{API}/prices/history")
        assert problem(answer) == "history is not available: aurexd.db is locked"
        served.persister.store = StoreStatus(
            state=StoreState.DEGRADED, since=START, reason="/var/lib/aurexd/aurexd.db is locked"
        )
        assert (await served.fetch("/readyz")).json()["store"]["reason"] == "aurexd.db is locked"
        served.sources = [waiting("AllTick: /etc/aurexd/alltick.token is empty")]
        (source,) = (await served.fetch(f"{API}/sources")).json()["sources"]
        assert source["last_error"] == "AllTick: alltick.token is empty"


# --- candles ---


def candle(minute: int, close: float = 2706.9, *, final: bool = True) -> CandleRow:
    start = EpochUs(START + minute * 60 * SECOND_US)
    return CandleRow(
        start=start,
        end=EpochUs(start + 60 * SECOND_US),
        open=2706.0,
        high=2707.25,
        low=2705.5,
        close=close,
        ticks=118,
        final=final,
        revision=0,
    )


def page(*minutes: int, older: bool = False, closed_before: int | None = None) -> CandlePage:
    closed = None if closed_before is None else EpochUs(START + closed_before * 60 * SECOND_US)
    return CandlePage(candles=tuple(candle(n) for n in minutes), older=older, closed_before=closed)


CANDLES = f"{API}/prices/history?symbol=XAUUSD&interval=1m"


async def test_candles_are_those_of_the_channel_in_the_symbols_decimals() -> None:
    async with serving() as served:
        served.persister.page = page(0)
        answer = await served.fetch(CANDLES)
        body = answer.json()
        assert body == {
            "symbol": "XAUUSD",
            "interval": "1m",
            "from": None,
            "to": body["to"],
            "instrument": "spot",
            "candles": [
                {
                    "start": "2025-10-27T12:00:00Z",
                    "end": "2025-10-27T12:01:00Z",
                    "open": 2706.0,
                    "high": 2707.25,
                    "low": 2705.5,
                    "close": 2706.9,
                    "ticks": 118,
                    "final": True,
                    "revision": 0,
                    "filled": False,
                }
            ],
            "gaps": [],
            "next": None,
        }
        assert b'"open":2706.00,"high":2707.25,"low":2705.50,"close":2706.90' in answer.body


async def test_without_a_range_it_is_the_newest_candles_there_are() -> None:
    async with serving() as served:
        await served.fetch(f"{CANDLES}&limit=7")
        asked = served.persister.asked
        assert isinstance(asked, GetCandles)
        assert (asked.symbol, asked.interval, asked.start, asked.limit) == ("XAUUSD", "1m", 0, 7)
        await served.fetch(f"{CANDLES}&hours=1")
        asked = served.persister.asked
        assert isinstance(asked, GetCandles)
        assert asked.end - asked.start == 3600 * SECOND_US


async def test_times_without_a_price_are_named_as_gaps() -> None:
    async with serving() as served:
        served.persister.page = page(0, 1, 5)
        body = (await served.fetch(CANDLES)).json()
        assert body["gaps"] == [{"from": "2025-10-27T12:02:00Z", "to": "2025-10-27T12:05:00Z"}]


async def test_next_leads_to_the_page_before_until_there_is_none() -> None:
    async with serving() as served:
        served.persister.page = page(8, 9, older=True)
        answer = await served.fetch(f"{CANDLES}&limit=2&from=2025-10-27T12:00:00Z&to=2025-10-27T12:10:00Z")
        following = answer.json()["next"]
        assert following == (
            f"{API}/prices/history?symbol=XAUUSD&interval=1m&from=2025-10-27T12:00:00Z"
            "&to=2025-10-27T12:08:00Z&limit=2&format=json"
        )
        assert answer.headers["link"] == f'<{following}>; rel="next"'
        served.persister.page = page(6, 7)
        answer = await served.fetch(following)
        asked = served.persister.asked
        assert isinstance(asked, GetCandles)
        assert (asked.start, asked.end) == (START, START + 8 * 60 * SECOND_US)
        assert (answer.json()["next"], "link" in answer.headers) == (None, False)


async def test_only_what_cannot_change_any_more_may_be_kept_without_asking() -> None:
    async with serving() as served:
        served.persister.page = page(0, 1, closed_before=10)
        until = f"{CANDLES}&to=2025-10-27T12:%02d:00Z"
        assert (await served.fetch(until % 10)).headers["cache-control"] == "max-age=86400"
        assert (await served.fetch(until % 11)).headers["cache-control"] == "no-cache"
        assert (await served.fetch(CANDLES)).headers["cache-control"] == "no-cache"
        hours = f"{API}/prices/history?interval=%s&to=2025-10-27T12:05:00Z"
        for interval, kept in (("5m", "max-age=86400"), ("15m", "no-cache"), ("1d", "no-cache")):
            assert (await served.fetch(hours % interval)).headers["cache-control"] == kept
        etag = (await served.fetch(until % 10)).headers["etag"]
        again = await served.fetch(until % 10, headers={"If-None-Match": etag})
        assert (again.status, again.headers["cache-control"]) == (304, "max-age=86400")
        served.persister.page = page(0, 1, 2, closed_before=10)
        assert (await served.fetch(until % 10, headers={"If-None-Match": etag})).status == 200


@pytest.mark.parametrize(
    ("query", "accept", "is_csv"),
    [
        ("", "", False),
        ("", "*/*", False),
        ("", "text/csv", True),
        ("", "text/csv, application/json;q=0.5", True),
        ("", "text/csv;q=0.5, application/json", False),
        ("", "text/csv;q=0, */*", False),
        ("", "text/csv;q=lots", False),
        ("&format=csv", "application/json", True),
        ("&format=json", "text/csv", False),
    ],
)
async def test_it_is_csv_for_who_wants_that(query: str, accept: str, is_csv: bool) -> None:
    async with serving() as served:
        answer = await served.fetch(f"{CANDLES}{query}", headers={"Accept": accept})
        wanted = "text/csv; charset=utf-8" if is_csv else "application/json"
        assert (answer.status, answer.headers["content-type"]) == (200, wanted)
        assert answer.headers["vary"] == "Accept, Origin"


async def test_csv_has_the_same_numbers_and_a_line_that_names_them() -> None:
    async with serving() as served:
        served.persister.page, served.persister.rows = page(0, 5), (row(2706.93),)
        assert (await served.fetch(f"{CANDLES}&format=csv")).body.decode().splitlines() == [
            "start,end,open,high,low,close,ticks,final,revision,filled",
            "2025-10-27T12:00:00Z,2025-10-27T12:01:00Z,2706.00,2707.25,2705.50,2706.90,118,true,0,false",
            "2025-10-27T12:05:00Z,2025-10-27T12:06:00Z,2706.00,2707.25,2705.50,2706.90,118,true,0,false",
        ]
        assert (await served.fetch(f"{API}/prices/history?format=csv")).body.decode().splitlines() == [
            "timestamp,received,close,bid,ask,source,quality",
            "2025-10-27T12:00:00Z,2025-10-27T12:00:00Z,2706.93,,,alltick,live",
        ]


async def test_a_long_answer_is_the_same_as_a_short_one() -> None:
    async with serving() as served:
        served.persister.page = page(*range(LONG_ANSWER_ROWS + 1))
        answer = await served.fetch(f"{CANDLES}&limit=10000")
        assert len(answer.json()["candles"]) == LONG_ANSWER_ROWS + 1


# --- the daemon ---


async def test_the_history_of_sources_says_when_they_changed_and_why() -> None:
    failover = StatusChanged(
        symbol="XAUUSD",
        quality=Quality.LIVE,
        market=MarketState.OPEN,
        source="swissquote",
        instrument=Instrument.SPOT,
        reason="alltick: no price for 15 s; swissquote carries the price",
        time=START,
    )
    async with serving() as served:
        served.persister.statuses = StatusPage(statuses=(failover,), next=7)
        answer = await served.fetch(f"{API}/sources/history?symbol=XAUUSD&limit=1")
        assert answer.json() == {
            "statuses": [
                {
                    "symbol": "XAUUSD",
                    "quality": "live",
                    "source": "swissquote",
                    "instrument": "spot",
                    "market": "open",
                    "reason": "alltick: no price for 15 s; swissquote carries the price",
                    "since": "2025-10-27T12:00:00Z",
                }
            ],
            "next": "/api/v1/sources/history?symbol=XAUUSD&before=7&limit=1",
        }
        assert served.persister.asked_statuses == GetStatuses(symbol="XAUUSD", before=None, limit=1)
        assert (await served.fetch(answer.json()["next"])).status == 200
        assert served.persister.asked_statuses == GetStatuses(symbol="XAUUSD", before=7, limit=1)
        await served.fetch(f"{API}/sources/history")
        assert served.persister.asked_statuses == GetStatuses(symbol=None, before=None, limit=100)
        assert "no symbol" in problem(await served.fetch(f"{API}/sources/history?symbol=XPTUSD"))
        served.persister.error = StoreError("the disk is full")
        answer = await served.fetch(f"{API}/sources/history")
        assert (answer.status, problem(answer)) == (503, "history is not available: the disk is full")


async def test_sources_say_how_they_are_and_symbols_who_carries_them() -> None:
    async with serving() as served:
        served.sources = [waiting("connection refused")]
        answer = await served.fetch(f"{API}/sources")
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        (source,) = answer.json()["sources"]
        assert source == {
            "name": "alltick",
            "type": "alltick",
            "priority": 1,
            "symbols": {"XAUUSD": "GOLD"},
            "instruments": {"XAUUSD": "spot"},
            "state": "waiting",
            "since": "2025-10-27T12:00:00Z",
            "ticks": 0,
            "last_tick": None,
            "lag_ms": None,
            "clock_skew_ms": None,
            "jumps": 0,
            "connections": 0,
            "failures": 3,
            "last_error": "connection refused",
            "next_attempt": "2025-10-27T12:00:05Z",
            "rejected": {},
        }
        assert answer.json()["symbols"][0] == {
            "symbol": "XAUUSD",
            "instrument": "spot",
            "decimals": 2,
            "default": True,
            "quality": "live",
            "market": "open",
            "source": "alltick",
            "reason": "no source has delivered a price yet",
            "since": "2025-10-27T12:00:00Z",
        }


async def test_the_figures_are_those_of_the_hub() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.messages(2)
        await served.publish("1.00", "2706.93")
        await client.messages(2)
        answer = await served.fetch(f"{API}/ws/stats")
        body = answer.json()
        assert answer.headers["cache-control"] == "no-store"
        assert (body["active_connections"], body["connections"], body["update_count"]) == (1, 1, 3)
        assert body["channels"] == {"status:XAUUSD": 1, "price:XAUUSD": 2}
        assert body["last_price"]["XAUUSD"]["close"] == 2706.93
        assert body["last_price"]["XAUUSD"]["quality"] == "live"
        served.hub.tell(decided(status=status_of(Quality.STALE)))
        body = (await served.fetch(f"{API}/ws/stats")).json()
        assert body["last_price"]["XAUUSD"]["quality"] == "stale", "a price never outlives its quality"


async def test_the_figures_of_the_last_minute_are_rates_and_delays() -> None:
    async with serving() as served:
        first = (await served.fetch(f"{API}/ws/stats")).json()
        nothing = {"p50_ms": None, "p99_ms": None, "count": 0}
        assert (first["version"], first["uptime_s"]) == (__version__, 12.3)
        assert set(first["latencies"]) == {"source", "aggregator", "hub", "socket", "delivery"}
        assert first["latencies"]["delivery"] == nothing
        client = await served.connect()
        await client.messages(2)
        now = served.clock.now()
        served.hub.tell(decided(price=price_of(time=now), decided=now))
        assert (await client.message())["type"] == "price_update"
        body = (await served.fetch(f"{API}/ws/stats")).json()
        assert body["rates"]["messages_per_s"] > 0
        assert body["rates"]["bytes_per_s"] > body["rates"]["messages_per_s"]
        assert body["bytes_sent"] > 100
        delivery = body["latencies"]["delivery"]
        assert (delivery["count"], body["latencies"]["socket"]["count"]) == (1, 1)
        assert 0 < delivery["p50_ms"] <= delivery["p99_ms"] < 10_000


async def test_health_is_that_the_core_answers() -> None:
    async with serving() as served:
        answer = await served.fetch("/healthz")
        assert answer.json() == {"status": "ok", "version": __version__, "uptime_s": 12.3}


async def test_ready_says_what_is_fresh_and_what_is_stored() -> None:
    async with serving() as served:
        served.persister.store = StoreStatus(
            state=StoreState.DEGRADED, since=START, reason="the disk is full", stored=5, waiting=7, dropped=2
        )
        answer = await served.fetch("/readyz")
        assert answer.status == 200, "prices still go out"
        assert answer.json() == {
            "ready": True,
            "phase": "serving",
            "symbols": {
                name: {
                    "quality": "live",
                    "market": "open",
                    "source": "alltick",
                    "reason": "no source has delivered a price yet",
                }
                for name in ("XAUUSD", "XAGUSD")
            },
            "store": {
                "state": "degraded",
                "reason": "the disk is full",
                "stored": 5,
                "waiting": 7,
                "dropped": 2,
            },
        }


@pytest.mark.parametrize("phase", ["starting", "draining"])
async def test_it_is_not_ready_while_it_starts_or_drains(phase: Phase) -> None:
    async with serving() as served:
        served.lifecycle.phase = phase
        answer = await served.fetch("/readyz")
        assert (answer.status, answer.json()["ready"], answer.json()["phase"]) == (503, False, phase)
        assert (await served.fetch("/healthz")).status == 200


@pytest.mark.parametrize("route", ["/", f"{API}/prices/latest", f"{API}/ws/stats", "/nowhere"])
async def test_while_it_drains_everything_else_is_for_later(route: str) -> None:
    async with serving() as served:
        served.lifecycle.phase = "draining"
        answer = await served.fetch(route)
        assert (answer.status, answer.headers["retry-after"]) == (503, "7")
        assert problem(answer) == "the daemon stops: come again when it is back"


ASKING = ["/healthz", "/readyz", f"{API}/prices/latest", f"{API}/prices/history", f"{API}/sources"]


@pytest.mark.parametrize("route", ASKING)
async def test_an_actor_that_is_gone_is_said(route: str) -> None:
    async with serving() as served:
        await served.aggregator.stop(block=False)
        with structlog.testing.capture_logs() as logs:
            answer = await served.fetch(route)
        assert (answer.status, problem(answer)) == (
            503,
            "the daemon did not answer in time; its log says why",
        )
        assert [log["event"] for log in logs] == ["request_unanswered"]


async def test_an_actor_that_does_not_answer_is_not_waited_for(
    loopback_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as served:

        async def stuck(_message: object) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(served.hub_actor, "_serve", stuck)
        client = await served.connect()
        begin = trio.current_time()
        answer = await served.fetch("/healthz")
        assert answer.status == 503
        assert ASK_S <= trio.current_time() - begin < ASK_S + 1
        assert client.refusal is None


async def test_an_actor_that_is_only_busy_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a flood of prices the hub's inbox is full for long; that is no failure."""
    async with serving() as served:
        go_on = trio.Event()

        async def wait(_message: object) -> None:
            await go_on.wait()

        monkeypatch.setattr(served.hub_actor, "_serve", wait)
        served.hub.tell(Beat())
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(served.hub.actor_inbox.capacity):
            served.hub.tell(decided(status=status_of()))
        stream, _ = await served.open_stream()
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.02)
        go_on.set()
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_what_fails_in_a_route_is_logged_and_says_nothing_of_the_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as served:
        served.persister.error = RuntimeError("secret detail")
        with structlog.testing.capture_logs() as logs:
            answer = await served.fetch(f"{API}/prices/history")
        assert (answer.status, problem(answer)) == (500, "the daemon failed to answer this; its log says why")
        assert [(log["event"], log["path"]) for log in logs] == [("request_failed", f"{API}/prices/history")]
        assert (await served.fetch("/healthz")).status == 200


# --- HTTP ---


@pytest.mark.parametrize("path", ["/nowhere", f"{API}/", f"{API}/prices", "/healthz/", "//healthz", "/page/"])
async def test_an_unknown_path_is_not_found(path: str) -> None:
    async with serving() as served:
        answer = await served.fetch(path)
        assert (answer.status, problem(answer)) == (404, "Not Found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_get_is_allowed(method: str) -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/prices/latest", method)
        assert (answer.status, problem(answer)) == (405, "Method Not Allowed")
        assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


async def test_head_is_get_without_the_body() -> None:
    async with serving() as served:
        got, head = await served.fetch("/"), await served.fetch("/", "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(got.body))


async def test_the_stream_without_an_upgrade_says_what_it_is() -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/ws/stream")
        assert (answer.status, problem(answer)) == (
            426,
            "this is a WebSocket: connect to it as ws:// or wss://",
        )
        assert answer.headers["upgrade"] == "websocket"


async def test_a_websocket_elsewhere_is_refused() -> None:
    async with serving() as served:
        client = await served.connect(path="/elsewhere")
        assert client.refusal == 403


@pytest.mark.parametrize("path", ["/", "/healthz", f"{API}/ws/stats", "/nowhere", f"{API}/ws/stream"])
async def test_every_answer_closes_its_connection(path: str) -> None:
    async with serving() as served:
        for extra in ({}, {"Connection": "keep-alive"}):
            answer = await served.fetch(path, headers=extra)
            assert "close" in answer.headers["connection"].lower()


async def test_of_two_requests_at_once_the_first_is_answered() -> None:
    """So an upgrade always comes as a connection's first request."""
    async with serving() as served:
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        two = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
        (answer,) = await served.say(one + two)
        assert answer.json()["status"] == "ok"


async def test_a_second_request_on_a_connection_is_not_answered() -> None:
    async with serving() as served:
        stream, _ = await served.open_stream()
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in await read_to_the_end(stream)


async def test_a_body_that_nobody_asked_for_does_not_cost_the_answer() -> None:
    async with serving() as served:
        head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
        (answer,) = await served.say(head + bytes(3_000_000), "POST")
        assert answer.status == 405


async def test_http_1_0_is_answered_too() -> None:
    async with serving() as served:
        (answer,) = await served.say(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer.status == 200


async def test_over_tls_it_is_the_same(tls_pair: TlsPair) -> None:
    async with serving(server_tls=tls_pair.server, client_tls=tls_pair.client) as served:
        served.persister.rows = tuple(row(number + 0.25, number) for number in range(5000))
        answer = await served.fetch(f"{API}/prices/history?limit=5000")
        assert len(answer.json()["prices"]) == 5000


async def large(_request: Request) -> Response:
    """An answer that no thread has a part in, as virtual time would not wait for one."""
    return Response(bytes(3_000_000))


async def stuck_client(served: Served, target: str = f"{API}/prices/history?limit=10000") -> trio.abc.Stream:
    """A client that asks for a large answer and does not read it."""
    served.persister.rows = tuple(row(number + 0.25, number) for number in range(10_000))
    served.app.router.routes.append(Route("/large", large))
    stream, _ = await served.open_stream(rcvbuf=4096)
    await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked(0.02)
    return stream


@pytest.mark.parametrize("secure", [False, True])
async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(
    loopback_clock: MockClock, tls_pair: TlsPair, *, secure: bool
) -> None:
    server_tls, client_tls = tls_pair if secure else (None, None)
    limits = Limits(http_idle_timeout_s=5)
    async with serving(limits=limits, server_tls=server_tls, client_tls=client_tls) as served:
        stream = await stuck_client(served, "/large")
        await trio.sleep(2 * 5 + 1)
        assert len(await read_to_the_end(stream)) < 1_000_000


async def test_a_client_that_takes_its_time_is_cut_off_in_the_end(loopback_clock: MockClock) -> None:
    async with serving() as served:
        stream = await stuck_client(served, "/large")
        begin, received = trio.current_time(), 0
        with contextlib.suppress(trio.BrokenResourceError):
            while more := await stream.receive_some(8192):
                received += len(more)
                await trio.sleep(1)
        assert received < 1_000_000
        assert ANSWER_TIMEOUT_S - 1 < trio.current_time() - begin < 2 * ANSWER_TIMEOUT_S


async def test_a_client_that_does_not_take_its_answer_does_not_hold_up_the_end() -> None:
    with trio.fail_after(10):
        async with serving() as served:
            await stuck_client(served)


async def test_a_large_answer_reaches_a_slow_reader_whole() -> None:
    async with serving() as served:
        stream = await stuck_client(served)
        received = b""
        while more := await stream.receive_some(3000):
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert len(msgspec.json.decode(body)["prices"]) == 10_000


async def test_a_client_that_leaves_before_its_answer_costs_nothing() -> None:
    async with serving() as served:
        with structlog.testing.capture_logs() as logs:
            stream = await stuck_client(served)
            assert isinstance(stream, trio.SocketStream)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            await trio.aclose_forcefully(stream)
            assert (await served.fetch("/healthz")).status == 200
        assert logs == []


# --- who is turned away ---


async def test_an_address_that_asks_too_often_is_told_when_to_come_again(loopback_clock: MockClock) -> None:
    async with serving(limits=Limits(max_requests_per_second=0.5)) as served:
        for _ in range(5):
            assert (await served.fetch("/healthz")).status == 200
        answer = await served.fetch("/healthz")
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (
            429,
            "2",
            "close",
        )
        assert problem(answer) == "too many requests from your address: wait Retry-After"
        assert (await served.say(b"garbage\r\n\r\n"))[0].status == 429
        client = await served.connect()
        assert (await client.message())["type"] == "welcome", "the stream has limits of its own"
        await trio.sleep(2)
        assert (await served.fetch("/healthz")).status == 200


async def test_an_address_that_connects_too_often_is_told_so_and_then_nothing(
    loopback_clock: MockClock,
) -> None:
    async with serving(limits=Limits(max_attempts_per_second=0.2)) as served:
        assert [(await served.fetch("/healthz")).status for _ in range(3)] == [200, 200, 429]
        client = await served.connect()
        code, reason, (error,) = await client.closing()
        assert (code, reason["code"], error["data"]["code"]) == (4003, "rate_limited", "rate_limited")
        assert error["data"]["retry_after_ms"] == reason["retry_after_ms"] > 4000
        for _ in range(int(REFUSALS_BURST)):
            with contextlib.suppress(OSError):
                await served.open_stream()
        with pytest.raises((OSError, trio.BrokenResourceError)):
            await served.fetch("/healthz")
        await trio.sleep(10)
        assert (await served.fetch("/healthz")).status == 200


@pytest.mark.parametrize("head", ["GET /healthz HTTP/1.1", "GET /api/v1/stream HTTP/1.1"])
async def test_a_name_that_somebody_else_pointed_here_is_misdirected(head: str) -> None:
    async with serving(hosts=(), certified=frozenset({"gold.example"})) as served:
        for host, status in (("evil.example", 421), ("evil.example:8000", 421), ("..", 421)):
            (answer,) = await served.say(f"{head}\r\nHost: {host}\r\n\r\n".encode())
            assert answer.status == status
            assert problem(answer).startswith(f"this server is not called '{host}'")
        for host in ("gold.example:8000", "127.0.0.1", "localhost:8000", "[::1]"):
            assert (await served.fetch("/healthz", headers={"Host": host})).status == 200
        served.hosts.certified = frozenset()
        assert (await served.fetch("/healthz", headers={"Host": "gold.example"})).status == 421
        served.settings.limits = Limits(allowed_origins=("https://gold.example:8443",))
        assert (await served.fetch("/healthz", headers={"Host": "gold.example"})).status == 200


async def test_pages_of_allowed_origins_may_read_and_ask_and_no_others() -> None:
    friend, stranger = "https://friend.example", "https://evil.example"
    async with serving(limits=Limits(allowed_origins=(friend,))) as served:
        for target in ("/api/v1/prices/latest?symbol=XAUUSD", "/nowhere"):
            answer = await served.fetch(target, headers={"Origin": friend})
            assert answer.headers["access-control-allow-origin"] == friend
            assert "access-control-allow-credentials" not in answer.headers
            for headers in ({"Origin": stranger}, {}):
                answer = await served.fetch(target, headers=headers)
                assert "access-control-allow-origin" not in answer.headers
                assert "Origin" in answer.headers["vary"], "or a cache would mix them up"
        asking = {
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type",
        }
        for target in ("/api/v1/alerts/r1", "/api/v1/stream"):
            answer = await served.fetch(target, "OPTIONS", headers={"Origin": friend, **asking})
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, friend)
            answer = await served.fetch(target, "OPTIONS", headers={"Origin": stranger, **asking})
            assert answer.status == 400
            assert "access-control-allow-origin" not in answer.headers
        served.settings.limits = Limits()
        answer = await served.fetch("/api/v1/alerts/r1", "OPTIONS", headers={"Origin": friend, **asking})
        assert answer.status == 400


async def test_who_shows_no_token_may_ask_whether_a_page_may_show_one() -> None:
    async with serving(limits=Limits(allowed_origins=("https://friend.example",))) as served:
        ask_for_tokens(served.settings)
        asking = {
            "Origin": "https://friend.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        assert (await served.fetch("/api/v1/sources", "OPTIONS", headers=asking)).status == 200
        answer = await served.fetch("/api/v1/sources", headers={"Origin": "https://friend.example"})
        assert answer.status == 401
        assert answer.headers["access-control-allow-origin"] == "https://friend.example", (
            "its reason can be read"
        )


async def test_who_is_turned_away_over_tls_gets_the_whole_answer(tls_pair: TlsPair) -> None:
    async with serving(hosts=(), server_tls=tls_pair.server, client_tls=tls_pair.client) as served:
        assert (await served.fetch("/healthz", headers={"Host": "evil.example"})).status == 421


async def test_http_1_0_without_a_host_is_no_browser() -> None:
    async with serving(hosts=()) as served:
        (answer,) = await served.say(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert answer.status == 200


@pytest.mark.parametrize(("hosts", "status"), [((), 200), (("gold.example",), 421)])
async def test_which_names_a_proxy_passes_on_is_its_own_business_unless_it_is_said(
    hosts: tuple[str, ...], status: int
) -> None:
    limits = Limits(trusted_proxies=("127.0.0.1",))
    async with serving(limits=limits, hosts=hosts) as served:
        headers = {"Host": "other.example", "X-Forwarded-For": "198.51.100.7"}
        assert (await served.fetch("/healthz", headers=headers)).status == status
        assert (await served.fetch("/healthz", headers={"Host": "gold.example"})).status == 200


async def test_there_is_no_http_2_in_the_clear() -> None:
    """There, one connection could ask for ever, in the name of any host."""
    async with serving() as served:
        (answer,) = await served.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        assert answer.status == 505
        headers = {
            "Upgrade": "h2c",
            "Connection": "Upgrade, HTTP2-Settings",
            "HTTP2-Settings": "AAMAAABkAAQAAP__",
        }
        answer = await served.fetch("/healthz", headers=headers)
        assert (answer.status, answer.headers["connection"]) == (200, "close")


# --- the documents ---


def routes(app: Any) -> set[str]:
    return {route.path for route in app.routes if isinstance(route, Route)}


async def test_every_route_is_documented_and_every_documented_route_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as served:
        answer = await served.fetch(f"{API}/openapi.json")
        document = answer.json()
        assert document == msgspec.json.decode(msgspec.json.encode(openapi_document()))
        assert document["info"]["version"] == __version__
        assert set(document["paths"]) == {*routes(served.app), f"{API}/stream"}
        for path, item in document["paths"].items():
            if "get" not in item:
                continue
            target = path.replace("{name}", "page.js")
            if path == f"{API}/stream":
                target += "?channels=none"  # or it would not end
            got = await served.fetch(target)
            assert str(got.status) in item["get"]["responses"], path


def test_the_documented_ranges_are_those_that_hold() -> None:
    parameters = openapi_document()["paths"][f"{API}/prices/history"]["get"]["parameters"]
    schemas = {p["name"]: p["schema"] for p in parameters if p["in"] == "query"}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1000}
    assert schemas["hours"] == {"type": "number", "minimum": 0, "maximum": 24 * 3660}
    assert set(schemas["interval"]["enum"]) == {"tick", *INTERVALS}
    assert schemas.keys() == {"symbol", "interval", "hours", "from", "to", "limit", "format"}
    for name, schema in schemas.items():
        for text in (str(schema.get(bound)) for bound in ("minimum", "maximum") if bound in schema):
            assert read_query(HistoryQuery, {name: text}) is not None
            with pytest.raises(QueryError, match=f"{name}: expected a"):
                read_query(HistoryQuery, {name: str(float(text) + (-1 if float(text) < 2 else 1))})


def test_every_answer_has_a_schema_and_every_failure_is_an_error() -> None:
    operations = [
        (path, operation) for path, item in openapi_document()["paths"].items() for operation in item.values()
    ]
    for path, operation in operations:
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            assert content or status in {"101", "304"}, (path, status)
            if status == "default" or int(status) >= 400:
                assert "schemas/Error" in str(content["application/json"]["schema"]), (path, status)


async def test_the_stream_is_described_by_asyncapi() -> None:
    async with serving() as served:
        document = (await served.fetch(f"{API}/asyncapi.json")).json()
        assert document["asyncapi"].startswith("3.")


async def test_a_price_is_written_as_it_was_said() -> None:
    async with serving() as served:
        for close in ("2706.93", "0.10", "100000.00", "1e3"):
            served.states[0] = msgspec.structs.replace(served.states[0], price=price_of(close))
            body = (await served.fetch(f"{API}/prices/latest")).body
            assert msgspec.json.decode(body, type=dict[str, Any])["close"] == float(Decimal(close))
