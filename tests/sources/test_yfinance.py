"""The real yfinance library over TLS against a stand-in for Yahoo: what it asks, what becomes of answers."""

from __future__ import annotations

import math
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import trio

from aurexd.clock import SystemClock
from aurexd.errors import FeedError
from aurexd.market import SECOND_US, EpochUs, Instrument
from aurexd.sources import yfinance as room
from aurexd.sources.base import Bar
from aurexd.sources.yfinance import YFinance, YFinanceSettings
from tests.fakes import FakeFeed
from tests.standins.http import Answer, Fault, Request
from tests.standins.yahoo import (
    COOKIE,
    CRUMB,
    DOWN,
    ERROR_PAGE,
    NOT_FOUND,
    RATE_LIMITED,
    YahooStandIn,
    chart,
    minutes,
    serve_yahoo,
)

pytestmark = pytest.mark.slow  # the library's import alone takes a second

TIME = 1_787_059_182
CHART = "query2.finance.yahoo.com/v8/finance/chart/GC=F"
COLD = ["fc.yahoo.com/", "query1.finance.yahoo.com/v1/test/getcrumb", CHART, CHART]


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library keeps session, cookie and caches for the process: each test imports it anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "yfinance"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(YFinance, "min_interval_s", 0.01)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "yfinance"]:
        del sys.modules[name]


@pytest.fixture
async def yahoo(tmp_path: Path) -> AsyncIterator[YahooStandIn]:
    async with serve_yahoo(tmp_path) as standin:
        yield standin


def provider(yahoo: YahooStandIn, **keys: object) -> YFinance:
    document = {
        "name": "yahoo",
        "type": "yfinance",
        "symbols": {"GC": "GC=F"},
        "proxy": yahoo.proxy,
        "ca_file": yahoo.ca_file,
        "cache_dir": yahoo.ca_file.parent,
        **keys,
    }
    return YFinance(YFinanceSettings.model_validate(document), update_interval_s=0.01)


async def play(source: YFinance, until: Callable[[FakeFeed], bool], feed: FakeFeed | None = None) -> FakeFeed:
    feed = feed or FakeFeed("GC=F")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run, feed)
            await feed.wait_until(lambda: until(feed))
            nursery.cancel_scope.cancel()
    return feed


async def failure(source: YFinance, feed: FakeFeed | None = None) -> FeedError:
    with trio.fail_after(20), pytest.raises(FeedError) as caught:
        await source.run(feed or FakeFeed("GC=F"))
    return caught.value


async def test_a_cold_start_fetches_cookie_crumb_and_time_zone_then_one_chart_per_poll(
    yahoo: YahooStandIn,
) -> None:
    feed = await play(provider(yahoo), lambda feed: feed.signs_of_life >= 5)
    assert yahoo.seen[:4] == COLD
    assert set(yahoo.seen[4:]) == {CHART}
    assert len(yahoo.seen) - 3 in {feed.signs_of_life, feed.signs_of_life + 1}  # one may be under way
    poll = yahoo.server.requests[-1]
    assert poll.query["range"] == poll.query["interval"] == "1d"
    assert poll.query["crumb"] == CRUMB
    assert f"A3={COOKIE}" in poll.headers["cookie"]
    assert {name.rpartition(":")[0] for name in yahoo.tunnels} == {
        "fc.yahoo.com",
        "query1.finance.yahoo.com",
        "query2.finance.yahoo.com",
    }
    assert len(yahoo.tunnels) == 3, "connections are kept"


async def test_a_tick_is_the_metadatas_last_price_at_its_own_time(yahoo: YahooStandIn) -> None:
    feed = await play(provider(yahoo), lambda feed: len(feed.ticks) == 1)
    (tick,) = feed.ticks
    assert (tick.code, tick.source_time, str(tick.last)) == ("GC=F", TIME * 1_000_000, "4448.40")
    assert (tick.bid, tick.ask) == (None, None)
    assert feed.connections >= 1


@pytest.mark.parametrize(
    ("price", "hint", "text"),
    [
        (4448.39990234375, 2, "4448.40"),
        (4448.39990234375, None, "4448.40"),
        (4448, 1, "4448.0"),
        (1.08347, 4, "1.0835"),
    ],
)
async def test_the_noise_of_floats_is_rounded_away(
    yahoo: YahooStandIn, price: float, hint: int | None, text: str
) -> None:
    yahoo.chart = lambda _: chart("GC=F", price, TIME, price_hint=hint)
    feed = await play(provider(yahoo), lambda feed: len(feed.ticks) == 1)
    assert str(feed.ticks[0].last) == text


async def test_a_price_that_stands_still_is_not_ticked_again(yahoo: YahooStandIn) -> None:
    feed = await play(provider(yahoo), lambda feed: feed.signs_of_life >= 4)
    assert len(feed.ticks) == 1
    yahoo.chart = lambda _: chart("GC=F", 4449.1, TIME + 60)
    source = provider(yahoo)
    await play(source, lambda feed: feed.ticks[-1:] != [] and feed.ticks[-1].last == Decimal("4449.1"), feed)


def failing(answer: Answer | Fault, *, after: int) -> Callable[[Request], Answer | Fault]:
    """Good charts first, then `answer` for ever; the first chart is the look-up of the time zone."""
    served = iter(range(1_000_000))
    return lambda _: chart("GC=F", 4448.4, TIME) if next(served) < after else answer


@pytest.mark.parametrize("after", [0, 2], ids=["at first", "later"])
@pytest.mark.parametrize(
    ("answer", "says", "wait_s", "rejected"),
    [
        (RATE_LIMITED, "we ask too often", 60.0, []),
        (NOT_FOUND, "check this source's `symbols`", 60.0, []),
        (ERROR_PAGE, "what is not JSON", 0.0, ["garbage"]),
        (Answer(b"<html>Oops</html>"), "what is not JSON", 0.0, ["garbage"]),
        (Answer(b'{"chart": 7}'), "cannot read", 0.0, ["garbage"]),
        (Fault.DROP, "cannot be reached", 0.0, []),
        (Fault.HALF, "cannot be reached", 0.0, []),
        (Fault.NOISE, "cannot be reached", 0.0, []),
    ],
    ids=["429", "404", "500", "html", "garbage", "drop", "half", "noise"],
)
async def test_a_failure_is_a_feed_error_from_the_first_one_on(
    yahoo: YahooStandIn, answer: Answer | Fault, after: int, says: str, wait_s: float, rejected: list[str]
) -> None:
    yahoo.chart = failing(answer, after=after)
    feed = FakeFeed("GC=F")
    error = await failure(provider(yahoo), feed)
    assert says in str(error)
    assert (error.fatal, error.retry_after_s) == (False, wait_s)
    assert feed.reasons == rejected
    assert len(feed.ticks) == (1 if after else 0)


async def test_an_answer_that_does_not_come_meets_the_librarys_own_timeout(
    yahoo: YahooStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "CHART_TIMEOUT_S", 0.1)
    yahoo.chart = failing(Fault.STALL, after=2)
    assert "timed out" in str(await failure(provider(yahoo)))


@pytest.mark.parametrize(
    "answer", [RATE_LIMITED, Answer(b"<html></html>"), Fault.DROP], ids=["429", "html", "drop"]
)
async def test_without_a_crumb_there_are_still_prices(yahoo: YahooStandIn, answer: Answer | Fault) -> None:
    yahoo.crumb = answer
    await play(provider(yahoo), lambda feed: feed.signs_of_life >= 2)


async def test_yahoo_may_say_that_it_is_down(yahoo: YahooStandIn) -> None:
    yahoo.chart = failing(DOWN, after=1)
    assert "is down" in str(await failure(provider(yahoo)))


async def test_a_chart_without_a_price_is_a_feed_error(yahoo: YahooStandIn) -> None:
    yahoo.chart = lambda _: chart("GC=F", None, TIME)
    assert "price" in str(await failure(provider(yahoo)))


@pytest.mark.parametrize("price", [-1.0, 0.0, math.nan])
async def test_a_price_that_cannot_be_is_garbage(yahoo: YahooStandIn, price: float) -> None:
    yahoo.chart = lambda _: chart("GC=F", price, TIME)
    feed = FakeFeed("GC=F")
    await failure(provider(yahoo), feed)
    assert (feed.reasons, feed.ticks) == (["garbage"], [])


async def test_an_error_page_at_the_start_is_not_remembered(yahoo: YahooStandIn) -> None:
    """The library keeps the answer to its look-up of the time zone for ever, whatever that was."""
    good = yahoo.chart
    yahoo.chart = lambda _: ERROR_PAGE
    source = provider(yahoo)
    await failure(source)
    yahoo.chart = good
    await play(source, lambda feed: len(feed.ticks) == 1)


async def test_refusals_in_a_row_double_the_wait_up_to_a_quarter_of_an_hour(yahoo: YahooStandIn) -> None:
    good = yahoo.chart
    source = provider(yahoo)
    yahoo.chart = lambda _: RATE_LIMITED
    assert [(await failure(source)).retry_after_s for _ in range(6)] == [60, 120, 240, 480, 900, 900]
    yahoo.chart = good
    await play(source, lambda feed: len(feed.ticks) == 1)
    yahoo.chart = lambda _: RATE_LIMITED
    assert (await failure(source)).retry_after_s == 60


async def test_a_server_without_a_trusted_certificate_is_refused(yahoo: YahooStandIn) -> None:
    error = await failure(provider(yahoo, ca_file=None))
    assert "cannot be reached" in str(error)
    assert "certificate" in str(error)
    assert "curl.se" not in str(error)


async def test_a_proxy_that_is_not_there_is_said(yahoo: YahooStandIn) -> None:
    error = await failure(provider(yahoo, proxy="http://127.0.0.1:9"))
    assert "check the network and this source's `proxy`" in str(error)


async def stop(source: YFinance) -> None:
    """Wait for the calls under way, and their threads, to end."""
    for thread in source._threads:
        assert await trio.to_thread.run_sync(thread.actor_stopped.wait, 5.0)


async def test_no_thread_outlives_its_connection(yahoo: YahooStandIn) -> None:
    source = provider(yahoo)
    await play(source, lambda feed: feed.signs_of_life == 2)
    await stop(source)


async def test_a_stuck_call_is_abandoned_at_the_deadline_and_the_next_one_is_fresh(
    yahoo: YahooStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, good = provider(yahoo), yahoo.chart
    await play(source, lambda feed: len(feed.ticks) == 1)  # warm, so that a call takes milliseconds
    await stop(source)
    yahoo.chart = lambda _: Fault.STALL
    monkeypatch.setattr(room, "CALL_TIMEOUT_S", 0.2)
    error = await failure(source)
    assert "no answer for 'GC=F' within 0.2 s; the call is abandoned" in str(error)
    assert not error.fatal
    (stuck,) = source._threads
    yahoo.chart = good
    monkeypatch.setattr(room, "CALL_TIMEOUT_S", 10.0)
    await play(source, lambda feed: feed.connections == 1)
    assert stuck.is_alive()
    assert source._threads[0] is stuck
    assert len(source._threads) == 2


async def test_threads_that_never_return_are_not_piled_up(
    yahoo: YahooStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = provider(yahoo)
    await play(source, lambda feed: len(feed.ticks) == 1)
    await stop(source)
    yahoo.chart = lambda _: Fault.STALL
    monkeypatch.setattr(room, "CALL_TIMEOUT_S", 0.05)
    for _ in range(room.MAX_STUCK_THREADS):
        assert "abandoned" in str(await failure(source))
    before = threading.active_count()
    assert "3 calls have not returned" in str(await failure(source))
    assert threading.active_count() == before


def test_a_reply_after_the_daemons_end_is_nobodys_and_harms_nobody() -> None:
    replies: list[Callable[[object], None]] = []

    class Stuck:
        def tell(self, message: room.Poll) -> None:
            replies.append(message.reply)  # type: ignore[arg-type]

    async def main() -> None:
        with trio.move_on_after(0):
            await room._call(Stuck(), partial(room.Poll, "GC=F"), "GC=F")  # type: ignore[arg-type]

    trio.run(main)
    replies[0](FeedError("late"))


async def test_its_cache_is_private_and_where_it_was_told(yahoo: YahooStandIn) -> None:
    cache = yahoo.ca_file.parent / "cache"
    await play(provider(yahoo, cache_dir=cache), lambda feed: len(feed.ticks) == 1)
    assert {file.name for file in (cache / "yfinance").iterdir()} >= {"cookies.db", "tkr-tz.db"}
    assert stat.S_IMODE((cache / "yfinance").stat().st_mode) == 0o700


async def test_a_later_process_finds_cookie_and_time_zone_in_the_cache(yahoo: YahooStandIn) -> None:
    source = provider(yahoo)
    await play(source, lambda feed: len(feed.ticks) == 1)
    await stop(source)
    yahoo.server.requests.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "yfinance"]:
        del sys.modules[name]
    room._session.cache_clear()
    await play(provider(yahoo), lambda feed: len(feed.ticks) == 1)
    assert yahoo.seen[:2] == ["query1.finance.yahoo.com/v1/test/getcrumb", CHART]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CACHE_DIRECTORY": "{}/systemd:/elsewhere"}, "systemd/yfinance"),
        ({"CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "{}/xdg"}, "xdg/aurexd/yfinance"),
        ({"CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "", "HOME": "{}/home"}, "home/.cache/aurexd/yfinance"),
    ],
)
def test_by_default_its_cache_is_systemds_or_the_users(
    environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert room._private_directory(None) == tmp_path / expected


def test_where_it_cannot_write_it_takes_a_passing_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    directory = room._private_directory(tmp_path / "file")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.rmdir()


async def test_a_missing_library_is_fatal(yahoo: YahooStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", None)
    error = await failure(provider(yahoo))
    assert error.fatal
    assert "cannot be loaded" in str(error)


@pytest.mark.parametrize(
    ("code", "instrument"), [("GC=F", Instrument.FUTURE), ("GLD", None), ("PAXG-USD", None)]
)
def test_only_its_futures_are_known(code: str, instrument: Instrument | None) -> None:
    assert YFinance.instrument_of(code) is instrument


# --- its history ---

START = 1_787_059_140
"""A whole minute."""


async def history_of(yahoo: YahooStandIn) -> list[Bar]:
    with trio.fail_after(20):
        start, end = EpochUs(START * SECOND_US), EpochUs((START + 180) * SECOND_US)
        return await provider(yahoo).history("GC=F", start, end, SystemClock())


async def test_its_minutes_are_rounded_to_its_own_precision(yahoo: YahooStandIn) -> None:
    def respond(request: Request) -> Answer:
        if request.query["interval"] != "1m":
            return chart("GC=F", 4448.4, TIME)
        return minutes(
            "GC=F",
            (START, 4448.39990234375, 4449.0, 4448.0, 4448.5),
            (START + 60, None, None, None, None),
            (START + 120, 4448.5, 4448.60009765625, 4448.5, 4448.60009765625),
        )

    yahoo.chart = respond
    bars = await history_of(yahoo)
    assert [(bar.start // SECOND_US - START, str(bar.open), str(bar.close)) for bar in bars] == [
        (0, "4448.40", "4448.50"),
        (120, "4448.50", "4448.60"),
    ]
    asked = yahoo.server.requests[-1].query
    assert (asked["interval"], asked["period1"], asked["period2"]) == ("1m", str(START), str(START + 180))
    assert provider(yahoo).history_hours == 168


async def test_a_history_that_is_not_to_be_had_says_why(yahoo: YahooStandIn) -> None:
    yahoo.chart = lambda _: RATE_LIMITED
    with pytest.raises(FeedError, match="we ask too often"):
        await history_of(yahoo)
    yahoo.chart = lambda _: minutes("GC=F", (START, 4448.4, 4449.0, -1.0, 4448.5))
    with pytest.raises(FeedError, match="a minute of"):
        await history_of(yahoo)
