"""AllTick over a real socket against a stand-in that keeps its rules, on virtual time."""

from __future__ import annotations

import itertools
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, wrap_client_stream

from aurexd.clock import LoopClock
from aurexd.errors import FeedError
from aurexd.market import EpochUs, Instrument
from aurexd.sources.alltick import AllTick, AllTickSettings
from aurexd.sources.alltick_wire import TRADES_TAKE_OVER_S
from aurexd.sources.websocket import ANSWER_TIMEOUT_S, MAX_GARBAGE_IN_A_ROW
from tests.fakes import FakeFeed
from tests.standins.alltick import (
    HEARTBEAT,
    HEARTBEAT_TIMEOUT_S,
    SUBSCRIBE_DEPTH,
    SUBSCRIBE_TRADES,
    AllTickStandIn,
)
from tests.standins.websocket import Refusal, huge, run_provider

ROOT = Path(__file__).parent.parent.parent
TOKEN = "0123456789abcdef-c-app"
NOW = EpochUs(1787059182_123_000)
SUBSCRIBED_S = 6.0  # by then both subscriptions are answered, on a second connection too


def settings(url: str = "ws://127.0.0.1/", **keys: Any) -> AllTickSettings:
    given = {"name": "alltick", "type": "alltick", "symbols": {"XAUUSD": "GOLD"}, "url": url, "token": TOKEN}
    return AllTickSettings.model_validate({**given, **keys})


def alltick(url: str, **keys: Any) -> AllTick:
    return AllTick(settings(url, **keys), update_interval_s=5.0)


async def error_of(provider: AllTick, feed: FakeFeed | None = None) -> FeedError:
    async with run_provider(provider, feed or FakeFeed("GOLD")) as run:
        return await run.error()


def last_prices(feed: FakeFeed) -> list[str]:
    return [str(tick.last) for tick in feed.ticks]


# --- settings ---


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"token": None}, "exactly one of token and token_file"),
        ({"token_file": "/x"}, "exactly one of token and token_file"),
        ({"token": ""}, "at least 1 item"),
        ({"url": "wss://quote.alltick.co/x?token=abc"}, "must not stand in url"),
        ({"url": "https://quote.alltick.co/x"}, "wss://host/path"),
        ({"plan": "premium"}, "'free' or 'paid'"),
        ({"symbols": {f"S{n}": f"C{n}" for n in range(6)}}, "5 codes"),
        ({"tokens": "x"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=why):
        settings(**keys)


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(settings())


def test_it_reconnects_no_faster_than_the_plan_allows() -> None:
    assert alltick("ws://127.0.0.1/").traits.reconnect.floor_s == 10.0
    assert alltick("ws://127.0.0.1/", plan="paid").traits.reconnect.floor_s == 3.0
    assert AllTick.traits.reconnect.floor_s == 10.0


def test_gold_is_spot_and_case_matters() -> None:
    assert AllTick.instrument_of("GOLD") is Instrument.SPOT
    assert AllTick.instrument_of("gold") is None
    assert AllTick.instrument_of("XAUUSD") is None


# --- subscribing ---


async def test_it_beats_then_subscribes_to_both_kinds_at_the_allowed_pace(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD", "Silver")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
    beat, depth, trades = (request.message for request in standin.requests)
    assert (beat["cmd_id"], beat["data"]) == (HEARTBEAT, {})
    assert depth["cmd_id"] == SUBSCRIBE_DEPTH
    assert depth["data"] == {
        "symbol_list": [{"code": "GOLD", "depth_level": 1}, {"code": "Silver", "depth_level": 1}]
    }
    assert trades["cmd_id"] == SUBSCRIBE_TRADES
    assert trades["data"] == {"symbol_list": [{"code": "GOLD"}, {"code": "Silver"}]}
    assert all(b.time - a.time >= 1.0 for a, b in itertools.pairwise(standin.requests))
    assert len({request.message["trace"] for request in standin.requests}) == 3
    assert feed.rejections == []


async def test_it_is_connected_once_a_subscription_is_accepted(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        await feed.wait_until(lambda: feed.signs_of_life >= 1)
        assert feed.connections == 0  # the heartbeat's answer is no acceptance
        await feed.wait_until(lambda: feed.connections >= 1)
        assert [r.message["cmd_id"] for r in standin.requests] == [HEARTBEAT, SUBSCRIBE_DEPTH]


async def test_it_beats_every_10_s_from_the_opening(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), FakeFeed("GOLD")):
        await trio.sleep(HEARTBEAT_TIMEOUT_S * 3 + 5)
        assert len(standin.clients) == 1
    opened = standin.opened[0]
    beats = [r.time - opened for r in standin.requests if r.message["cmd_id"] == HEARTBEAT]
    assert beats == pytest.approx([10.0 * n for n in range(10)], abs=0.01)


async def test_the_token_is_added_to_the_urls_own_query(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        provider = alltick(f"{standin.url}?region=eu", token="a b&c=d/ü")
        async with run_provider(provider, FakeFeed("GOLD")):
            await trio.sleep(SUBSCRIBED_S)
            assert standin.clients[0].query == {"region": "eu", "token": "a b&c=d/ü"}


async def test_sources_with_one_token_share_its_patience(loopback_clock: MockClock) -> None:
    feeds = [FakeFeed("GOLD"), FakeFeed("Silver")]
    async with AllTickStandIn(max_connections=2).running() as standin:
        async with (
            run_provider(alltick(standin.url), feeds[0]),
            run_provider(alltick(standin.url), feeds[1]),
        ):
            await trio.sleep(60.0)
    assert [feed.connections > 0 for feed in feeds] == [True, True]
    requests = standin.requests
    for before, after in itertools.pairwise(requests):
        assert after.time - before.time >= (1.0 if before.client == after.client else 3.0)
    for client in (1, 2):
        beats = [r.time for r in requests if r.client == client and r.message["cmd_id"] == HEARTBEAT]
        assert max(b - a for a, b in itertools.pairwise(beats)) < HEARTBEAT_TIMEOUT_S / 2


async def test_sources_with_different_tokens_do_not_wait_for_each_other(loopback_clock: MockClock) -> None:
    feeds = [FakeFeed("GOLD"), FakeFeed("GOLD")]
    async with AllTickStandIn().running() as standin:
        async with (
            run_provider(alltick(standin.url, token="first-token"), feeds[0]),
            run_provider(alltick(standin.url, token="second-token"), feeds[1]),
        ):
            await trio.sleep(SUBSCRIBED_S)
            assert len(standin.trades) == 2
            assert max(request.time for request in standin.requests) - standin.opened[0] < 3.0


# --- prices ---


@pytest.mark.parametrize(("integers", "seconds"), [(False, False), (True, False), (True, True)])
async def test_quotes_arrive_exactly_with_their_time(
    loopback_clock: MockClock, integers: bool, seconds: bool
) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn(clock=LoopClock(NOW)).running() as standin:
        standin.integers, standin.seconds = integers, seconds
        async with run_provider(alltick(standin.url), feed):
            await trio.sleep(SUBSCRIBED_S)
            sent_at = standin.clock.now()
            await standin.push("4389.050", "4389.71")
            await feed.wait_for_ticks(1)
    (tick,) = feed.ticks
    assert (tick.code, tick.bid, tick.ask, tick.last) == (
        "GOLD",
        Decimal("4389.050"),
        Decimal("4389.71"),
        None,
    )
    unit = 1_000_000 if seconds else 1000
    assert tick.source_time == sent_at // unit * unit


async def test_trades_alone_drive_the_price(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        for price in ("4389.38", "4389.39"):
            await standin.push_trade(price)
        await feed.wait_for_ticks(2)
    assert last_prices(feed) == ["4389.38", "4389.39"]


async def test_beside_quotes_trades_do_not_move_the_price(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD", "Silver")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        await standin.push("4389.05", "4389.71")
        await standin.push_trade("4000.00")
        await standin.push_trade("50.00", code="Silver")
        await feed.wait_for_ticks(2)
        assert [tick.code for tick in feed.ticks] == ["GOLD", "Silver"]
        assert feed.rejections == []

        await trio.sleep(TRADES_TAKE_OVER_S)
        await standin.push_trade("4389.38")
        await feed.wait_for_ticks(3)
    assert feed.ticks[2].last == Decimal("4389.38")


async def test_a_feed_that_sends_one_kind_only_is_followed_all_the_way(loopback_clock: MockClock) -> None:
    """To one who asked for both, such a feed sends trades alone; before that, quotes."""
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        sent = 0
        with trio.move_on_after(5.0):
            while True:
                await trio.sleep(0.1)
                if standin.trades:
                    await standin.push_trade(f"{2000 + sent}")
                elif standin.depth:
                    await standin.push(f"{2000 + sent}")
                sent += bool(standin.trades or standin.depth)
        await feed.wait_for_ticks(sent)
    assert [tick.last or tick.bid for tick in feed.ticks] == [2000 + number for number in range(sent)]


async def test_what_cannot_be_used_is_counted_by_its_reason(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD", "Silver")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        await standin.push("0", "0")
        await standin.push("4389.05", asks=[])
        await standin.push("-1", "4389.71")
        await standin.push("4389.05", "4389.71", seq="1605509068000009")
        await standin.push("4389.05", "4389.71", seq="1605509068000009", tick_time="1605509068000")
        await standin.push("4389.05", "4389.71", seq="1605509068000008", tick_time="1605509068000")
        await standin.push("4389.05", "4389.71", code="GOLD", tick_time="soon")
        await standin.say('{"cmd_id":22997,"data":{}}')
        await standin.say('{"cmd_id":22998,"data":{"code":"gold","price":"1"}}')
        await standin.push("50.05", "50.07", code="Silver")
        await feed.wait_for_ticks(2)
    assert feed.reasons == [
        "closed",
        "one_sided",
        "bad_price",
        "duplicate",
        "out_of_order",
        "garbage",
        "unknown_message",
        "unknown_code",
    ]
    assert [tick.code for tick in feed.ticks] == ["GOLD", "Silver"]


# --- refusals ---


@pytest.mark.parametrize("how", ["http", "frame"])
async def test_a_bad_token_is_fatal_however_it_is_told(loopback_clock: MockClock, how: str) -> None:
    async with AllTickStandIn(tokens=["another"]).running() as standin:
        standin.refuse_by = "http" if how == "http" else "frame"
        error = await error_of(alltick(standin.url))
    assert error.fatal
    assert "401 token invalid" in str(error)
    assert "token_file" in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    ("refusal", "fatal", "retry_after_s"),
    [
        (Refusal(401), True, 0.0),
        (Refusal(401, b"<html>"), True, 0.0),
        (Refusal(403, b'{"ret":604,"msg":"code unauthorized"}'), True, 0.0),
        (Refusal(200, b'{"ret":605,"msg":"too many requests"}'), False, 60.0),
        (Refusal(429), False, 60.0),
        (Refusal(502, b"Bad Gateway"), False, 0.0),
        (Refusal(503, b"", ((b"Retry-After", b"90"),)), False, 90.0),
    ],
)
async def test_other_refused_upgrades_go_by_the_body_then_the_status(
    loopback_clock: MockClock, refusal: Refusal, fatal: bool, retry_after_s: float
) -> None:
    async with AllTickStandIn().running() as standin:
        standin.refusal = refusal
        error = await error_of(alltick(standin.url))
    assert (error.fatal, error.retry_after_s) == (fatal, retry_after_s)


@pytest.mark.parametrize(
    ("ret", "fatal", "waits"),
    [
        (400, False, False),
        (401, True, False),
        (402, False, False),
        (429, False, True),
        (600, True, False),
        (603, False, True),
        (604, True, False),
        (605, False, True),
        (606, False, True),
    ],
)
async def test_an_error_that_answers_nothing_ends_the_connection(
    loopback_clock: MockClock, ret: int, fatal: bool, waits: bool
) -> None:
    async with AllTickStandIn().running() as standin:
        async with run_provider(alltick(standin.url), FakeFeed("GOLD")) as run:
            await trio.sleep(SUBSCRIBED_S)
            await standin.send_error(ret, f"no, {TOKEN}")
            error = await run.error()
    assert (error.fatal, error.retry_after_s >= 30.0) == (fatal, waits)
    assert str(ret) in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize("ret", [603, 604])
async def test_a_plan_without_depth_is_served_by_its_trades(loopback_clock: MockClock, ret: int) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin:
        standin.refusals = {SUBSCRIBE_DEPTH: ret}
        async with run_provider(alltick(standin.url), feed):
            await trio.sleep(SUBSCRIBED_S + ANSWER_TIMEOUT_S)
            await standin.push_trade("4389.38")
            await feed.wait_for_ticks(1)
    assert feed.connections
    assert feed.reasons == ["subscription_refused"]


async def test_a_refusal_may_name_the_request_by_its_number_alone(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin, run_provider(alltick(standin.url), feed):
        await trio.sleep(SUBSCRIBED_S)
        await standin.say('{"ret":604,"msg":"code unauthorized","cmd_id":0,"seq_id":2,"trace":"","data":{}}')
        await feed.wait_until(lambda: bool(feed.rejections))
    assert feed.reasons == ["subscription_refused"]


async def test_a_plan_with_neither_is_told(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        standin.refusals = {SUBSCRIBE_DEPTH: 603, SUBSCRIBE_TRADES: 604}
        assert (await error_of(alltick(standin.url))).fatal


async def test_an_unknown_code_is_fatal(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        error = await error_of(alltick(standin.url), FakeFeed("XAUUSD"))
    assert error.fatal
    assert "gold is GOLD" in str(error)


async def test_a_connection_too_many_is_dropped_and_tried_again(loopback_clock: MockClock) -> None:
    async with AllTickStandIn(max_connections=1).running() as standin:
        async with run_provider(alltick(standin.url), FakeFeed("GOLD")):
            await trio.sleep(SUBSCRIBED_S)
            error = await error_of(alltick(standin.url))
            assert not error.fatal
            assert len(standin.clients) == 1


# --- the token's file ---


async def test_the_token_file_is_read_anew_for_each_connection(
    loopback_clock: MockClock, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    async with AllTickStandIn(tokens=["new"]).running() as standin:
        provider = alltick(standin.url, token=None, token_file=str(file))
        file.write_text("old\n")
        assert (await error_of(provider)).fatal
        file.write_text("new\n")
        feed = FakeFeed("GOLD")
        async with run_provider(provider, feed):
            await feed.wait_until(lambda: feed.connections > 0)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
async def test_a_token_file_without_a_token_is_fatal(
    loopback_clock: MockClock, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    error = await error_of(alltick("ws://127.0.0.1:1/", token=None, token_file=str(file)))
    assert error.fatal
    assert "token" in str(error)


# --- faults ---


async def test_silence_after_subscribing_ends_the_connection(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        standin.mode = "stalled"
        error = await error_of(alltick(standin.url))
    assert "did not answer our subscription to GOLD" in str(error)


async def test_a_garbling_provider_is_left_and_found_again(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin:
        provider = alltick(standin.url)
        async with run_provider(provider, feed) as run:
            await trio.sleep(SUBSCRIBED_S)
            standin.mode = "garbling"
            for _ in range(MAX_GARBAGE_IN_A_ROW):
                await standin.push("4389.05", "4389.71")
            assert "unreadable" in str(await run.error())
        assert feed.reasons == ["garbage"] * MAX_GARBAGE_IN_A_ROW

        standin.mode = "ok"
        async with run_provider(provider, feed):
            await trio.sleep(SUBSCRIBED_S)
            await standin.push("4389.05", "4389.71")
            await feed.wait_for_ticks(1)


async def test_a_message_without_end_ends_the_connection(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        standin.garbage = [huge]
        async with run_provider(alltick(standin.url), FakeFeed("GOLD")) as run:
            await trio.sleep(SUBSCRIBED_S)
            standin.mode = "garbling"
            await standin.push("4389.05", "4389.71")
            assert not (await run.error()).fatal


@pytest.mark.parametrize("code", [1000, 1011, None])
async def test_a_disconnected_source_subscribes_to_everything_again(
    loopback_clock: MockClock, code: int | None
) -> None:
    feed = FakeFeed("GOLD", "Silver")
    async with AllTickStandIn().running() as standin:
        provider = alltick(standin.url)
        async with run_provider(provider, feed) as run:
            await trio.sleep(SUBSCRIBED_S)
            await standin.disconnect(code=code)
            assert not (await run.error()).fatal
        async with run_provider(provider, feed):
            await trio.sleep(SUBSCRIBED_S)
            assert list(standin.depth.values()) == list(standin.trades.values()) == [["GOLD", "Silver"]]


async def test_a_killed_provider_refuses_until_it_is_revived(loopback_clock: MockClock) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn().running() as standin:
        provider = alltick(standin.url)
        async with run_provider(provider, feed) as run:
            await trio.sleep(SUBSCRIBED_S)
            await standin.kill()
            assert "broke off" in str(await run.error())
        assert "cannot be reached" in str(await error_of(provider))
        await standin.revive()
        async with run_provider(provider, feed):
            await trio.sleep(SUBSCRIBED_S)
            await standin.push("4389.05", "4389.71")
            await feed.wait_for_ticks(1)


async def test_it_works_over_tls(loopback_clock: MockClock, server_tls: ssl.SSLContext) -> None:
    feed = FakeFeed("GOLD")
    async with AllTickStandIn(tls=server_tls).running() as standin:
        assert standin.url.startswith("wss://")
        async with run_provider(alltick(standin.url), feed):
            await trio.sleep(SUBSCRIBED_S)
            await standin.push("4389.05", "4389.71")
            await feed.wait_for_ticks(1)


# --- the stand-in's own rules ---


def request(cmd_id: int, **data: Any) -> str:
    return json.dumps({"cmd_id": cmd_id, "seq_id": 1, "trace": "t", "data": data})


async def talk(standin: AllTickStandIn, *said: tuple[float, str]) -> list[dict[str, Any]]:
    """Say each thing after its pause, and return what the stand-in answered until it closed."""
    heard = []
    async with (
        await trio.open_tcp_stream("127.0.0.1", standin.port) as stream,
        trio.open_nursery() as nursery,
    ):
        websocket = await wrap_client_stream(nursery, stream, "127.0.0.1", "/?token=t")

        async def say_all() -> None:
            for pause, text in said:
                await trio.sleep(pause)
                await websocket.send_message(text)

        nursery.start_soon(say_all)
        try:
            while True:
                heard.append(json.loads(await websocket.get_message()))
        except ConnectionClosed:
            pass
        nursery.cancel_scope.cancel()
    return heard


async def test_the_stand_in_closes_without_a_heartbeat(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        start = trio.current_time()
        assert await talk(standin) == []
        assert trio.current_time() - start == pytest.approx(HEARTBEAT_TIMEOUT_S, abs=0.01)


async def test_the_stand_in_closes_when_requests_come_too_fast(loopback_clock: MockClock) -> None:
    async with AllTickStandIn().running() as standin:
        heard = await talk(standin, (0.0, request(HEARTBEAT)), (0.9, request(HEARTBEAT)))
    assert [answer["ret"] for answer in heard] == [200, 606]


async def test_the_stand_in_replaces_and_caps_and_checks(loopback_clock: MockClock) -> None:
    codes: Callable[..., dict[str, Any]] = lambda *codes: {"symbol_list": [{"code": code} for code in codes]}  # noqa: E731
    async with AllTickStandIn(max_symbols=1).running() as standin:
        heard: list[dict[str, Any]] = []
        async with trio.open_nursery() as nursery:

            async def client() -> None:
                heard.extend(
                    await talk(
                        standin,
                        (0.0, request(SUBSCRIBE_TRADES, **codes("Silver"))),
                        (1.0, request(SUBSCRIBE_TRADES, **codes("GOLD", "Silver"))),
                        (1.0, request(SUBSCRIBE_DEPTH, **codes("FAKE"))),
                        (1.0, "not JSON"),
                    )
                )

            nursery.start_soon(client)
            await trio.sleep(0.5)
            assert list(standin.trades.values()) == [["Silver"]]
            await trio.sleep(1.0)
            assert list(standin.trades.values()) == [["GOLD"]]
    assert [(answer["ret"], answer["cmd_id"]) for answer in heard] == [
        (200, 22005),
        (200, 22005),
        (600, 22003),
        (400, 0),
    ]


@pytest.mark.slow
def test_the_stand_in_obeys_as_a_process_of_its_own() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.standins.alltick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    commands = ["push 4389.05 4389.71", "trade 4389.38", "mode stalled", "kill", "revive"]
    out, _ = process.communicate("\n".join(commands) + "\n", timeout=30)
    port, *answers = out.split()
    assert int(port) > 0
    assert answers == ["ok"] * len(commands)
    assert process.returncode == 0
