"""The cadence, what counts as news, and every way an HTTP answer can fail, on providers made for this."""

from __future__ import annotations

import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import httpx
import msgspec
import pytest
import trio
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.backoff import Backoff
from aurexd.errors import FeedError
from aurexd.market import EpochUs, parse_time
from aurexd.sources import polling
from aurexd.sources.base import Feed, Traits
from aurexd.sources.plausible import MAX_RETRY_AFTER_S, excerpt, retry_after_s
from aurexd.sources.polling import (
    RATE_LIMITED_RETRY_S,
    REFUSED_RETRY_S,
    Answer,
    Asking,
    HttpPolling,
    HttpPollingSettings,
    Polling,
    PollingSettings,
    Quote,
    max_age_s,
)
from tests.fakes import FakeFeed
from tests.standins import http
from tests.standins.http import Fault, HttpStandIn, serve_http

TRAITS = Traits(stale_after_s=10.0, silence_s=math.inf, reconnect=Backoff(1.0, 1.0, 1.0))


def quote(time: int, last: str) -> Quote:
    return Quote(source_time=EpochUs(time), last=Decimal(last))


class Asked(Polling[PollingSettings]):
    """A provider without a wire: the test answers."""

    title = "Asked"
    min_interval_s = 2.0
    traits = TRAITS

    def __init__(self, answer: Callable[[str], Awaitable[Answer]], *, update_interval_s: float) -> None:
        settings = PollingSettings(name="asked", type="asked", symbols={"A": "a"})
        super().__init__(settings, update_interval_s=update_interval_s)
        self.asked: list[tuple[str, float]] = []
        self._answer = answer

    @contextlib.asynccontextmanager
    async def asking(self, feed: Feed) -> AsyncIterator[Asking]:
        del feed

        async def ask(code: str) -> Answer:
            self.asked.append((code, trio.current_time()))
            return await self._answer(code)

        yield ask


async def times_asked(provider: Asked, feed: FakeFeed, seconds: float) -> list[tuple[str, float]]:
    start = trio.current_time()
    with trio.move_on_after(seconds):
        await provider.run(feed)
    return [(code, time - start) for code, time in provider.asked]


@pytest.mark.parametrize(("update_interval_s", "stale_after_s"), [(0.1, 10.0), (3.0, 10.0), (60.0, 180.0)])
def test_a_price_lasts_for_three_polls_at_least(update_interval_s: float, stale_after_s: float) -> None:
    async def answer(code: str) -> Answer:
        return Answer(quote(1, "1"))

    assert Asked(answer, update_interval_s=update_interval_s).traits.stale_after_s == stale_after_s
    assert Asked.traits.stale_after_s == 10.0


@pytest.mark.parametrize(("configured_s", "real_s"), [(5.0, 5.0), (0.1, 2.0)])
async def test_it_asks_as_often_as_configured_but_not_more_than_the_provider_allows(
    configured_s: float, real_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    async def answer(code: str) -> Answer:
        await trio.sleep(1.5)
        return Answer(quote(1, "1"))

    asked = await times_asked(Asked(answer, update_interval_s=configured_s), FakeFeed("a"), real_s * 3.5)
    assert [time for _, time in asked] == pytest.approx([real_s * n for n in range(4)])


@pytest.mark.parametrize(
    ("changed_s", "expected"),
    [(30.0, [0, 10, 40, 70]), (3.0, [0, 10, 14, 17, 20]), (0.1, [0, 10, 14, 16, 18])],
    ids=["longer", "shorter", "shorter than the provider allows"],
)
async def test_another_interval_holds_for_the_poll_that_is_waited_for(
    changed_s: float, expected: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    async def answer(code: str) -> Answer:
        return Answer(quote(1, "1"))

    async def change() -> None:
        await trio.sleep(14)
        provider.change_update_interval(changed_s)
        assert provider.stale_after_s == max(10.0, 3 * changed_s)

    provider = Asked(answer, update_interval_s=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        asked = await times_asked(provider, FakeFeed("a"), expected[-1] + 1)
    assert [time for _, time in asked] == pytest.approx(expected)


async def test_several_symbols_are_asked_in_turn_evenly_spread(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(code: str) -> Answer:
        return Answer(quote(1, "1"))

    asked = await times_asked(Asked(answer, update_interval_s=6), FakeFeed("a", "b", "c"), 9)
    assert "".join(code for code, _ in asked) == "abcab"
    assert [time for _, time in asked] == pytest.approx([0, 2, 4, 6, 8])


async def test_one_request_at_a_time_and_no_burst_after_a_slow_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    delays = iter([25.0, 0.0, 0.0, 0.0])

    async def answer(code: str) -> Answer:
        await trio.sleep(next(delays))
        return Answer(quote(1, "1"))

    asked = await times_asked(Asked(answer, update_interval_s=10), FakeFeed("a"), 40)
    assert [time for _, time in asked] == pytest.approx([0, 25, 35])


async def test_an_answer_may_ask_for_more_patience(autojump_clock: trio.testing.MockClock) -> None:
    async def answer(code: str) -> Answer:
        return Answer(quote(1, "1"), fresh_for_s=12.0)

    asked = await times_asked(Asked(answer, update_interval_s=5), FakeFeed("a"), 30)
    assert [time for _, time in asked] == pytest.approx([0, 12, 24])


async def test_a_retry_or_a_resume_asks_no_sooner(autojump_clock: trio.testing.MockClock) -> None:
    async def answer(code: str) -> Answer:
        raise FeedError("no")

    provider = Asked(answer, update_interval_s=5)
    for _ in range(3):
        with pytest.raises(FeedError):
            await provider.run(FakeFeed("a"))
    first = provider.asked[0][1]
    assert [time - first for _, time in provider.asked] == pytest.approx([0, 5, 10])


async def test_only_what_moved_is_a_tick_but_every_answer_is_a_sign_of_life(
    autojump_clock: trio.testing.MockClock,
) -> None:
    answers = iter([quote(1, "10"), quote(1, "10"), quote(1, "11"), quote(2, "11"), quote(2, "11")])

    async def answer(code: str) -> Answer:
        return Answer(next(answers))

    feed = FakeFeed("a")
    await times_asked(Asked(answer, update_interval_s=2), feed, 9)
    assert [(tick.source_time, tick.last) for tick in feed.ticks] == [
        (1, Decimal(10)),
        (1, Decimal(11)),
        (2, Decimal(11)),
    ]
    assert feed.signs_of_life == 5


async def test_a_frozen_answer_is_no_news_after_a_reconnect_either(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(code: str) -> Answer:
        return Answer(quote(1, "10"))

    feed, provider = FakeFeed("a"), Asked(answer, update_interval_s=5)
    for _ in range(2):
        with trio.move_on_after(7):
            await provider.run(feed)
    assert len(feed.ticks) == 1


async def test_it_counts_as_connected_from_the_first_good_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    feed = FakeFeed("a")
    connections: list[int] = []

    async def answer(code: str) -> Answer:
        connections.append(feed.connections)
        return Answer(quote(1, "10"))

    await times_asked(Asked(answer, update_interval_s=2), feed, 3)
    assert connections == [0, 1]


# --- HTTP ---


class Document(msgspec.Struct):
    last: Decimal | None = None


class Shop(HttpPolling[HttpPollingSettings]):
    """A provider with the simplest wire format there is."""

    title = "Shop"
    min_interval_s = 0.0
    traits = TRAITS

    @staticmethod
    def read(body: bytes, code: str) -> Quote | None:
        del code
        document = msgspec.json.decode(body, type=Document)
        return Quote(source_time=None, last=document.last) if document.last is not None else None


def shop(url: str, *, proxy: str | None = None) -> Shop:
    settings = HttpPollingSettings(name="shop", type="shop", symbols={"A": "XAU/USD"}, url=url, proxy=proxy)
    return Shop(settings, update_interval_s=0.01)


async def failure(provider: Shop, feed: FakeFeed | None = None) -> FeedError:
    with trio.fail_after(5), pytest.raises(FeedError) as caught:
        await provider.run(feed or FakeFeed("XAU/USD"))
    return caught.value


async def failure_on(answer: http.Answer | Fault) -> tuple[FeedError, FakeFeed]:
    feed = FakeFeed("XAU/USD")
    async with serve_http(lambda _: answer) as server:
        return await failure(shop(server.url), feed), feed


async def two_ticks(server: HttpStandIn, provider: Shop) -> FakeFeed:
    prices = iter(range(10, 1000))
    server.respond = lambda _: http.Answer(b'{"last": %d}' % next(prices))
    feed = FakeFeed("XAU/USD")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provider.run, feed)
            await feed.wait_for_ticks(2)
            nursery.cancel_scope.cancel()
    return feed


async def test_it_gets_url_and_code_over_one_kept_connection() -> None:
    async with serve_http(lambda _: Fault.DROP) as server:
        feed = await two_ticks(server, shop(server.url + "/quotes/"))
    assert [tick.last for tick in feed.ticks][:2] == [Decimal(10), Decimal(11)]
    assert {request.target for request in server.requests} == {"/quotes/XAU/USD"}
    assert server.connections == 1
    assert server.requests[0].headers["user-agent"].startswith("aurexd/")


async def test_a_code_is_escaped_in_the_address() -> None:
    async with serve_http(lambda _: http.Answer(b"{}")) as server:
        settings = HttpPollingSettings(name="s", type="s", symbols={"A": "a"}, url=server.url)
        provider = Shop(settings, update_interval_s=1)
        await failure(provider, FakeFeed("GC=F?x#y z"))
    assert server.requests[0].target == "/GC%3DF%3Fx%23y%20z"


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serve_http(lambda _: Fault.DROP) as server:
        await two_ticks(server, shop(server.url))


async def test_the_configuration_may_name_a_proxy() -> None:
    async with serve_http(lambda _: Fault.DROP) as proxy:
        await two_ticks(proxy, shop("http://shop.invalid/quotes", proxy=proxy.url))
    assert proxy.requests[0].target == "http://shop.invalid/quotes/XAU/USD"


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    authority, trusted = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusted)
    monkeypatch.setattr(polling, "client_tls", lambda: trusted)
    return authority


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(tls)
    return tls


async def test_it_speaks_tls(authority: trustme.CA) -> None:
    async with serve_http(lambda _: Fault.DROP, tls=server_tls(authority, "localhost")) as server:
        await two_ticks(server, shop(server.url))
    assert server.connections == 1


async def test_a_certificate_for_another_name_is_refused_and_said(authority: trustme.CA) -> None:
    async with serve_http(lambda _: Fault.DROP, tls=server_tls(authority, "elsewhere.example")) as server:
        error = await failure(shop(server.url))
    assert "Hostname mismatch" in str(error)
    assert not error.fatal


@pytest.mark.parametrize(
    ("status", "wait_s", "advice"),
    [
        (400, REFUSED_RETRY_S, "check this source's `symbols` and `url`"),
        (401, REFUSED_RETRY_S, "refuses us"),
        (403, REFUSED_RETRY_S, "refuses us"),
        (404, REFUSED_RETRY_S, "does not know"),
        (301, REFUSED_RETRY_S, "check this source's"),
        (204, REFUSED_RETRY_S, "check this source's"),
        (408, 0.0, "in trouble"),
        (429, RATE_LIMITED_RETRY_S, "too often"),
        (500, 0.0, "in trouble"),
        (503, 0.0, "in trouble"),
    ],
)
async def test_a_status_that_is_not_ok_ends_the_connection_with_advice(
    status: int, wait_s: float, advice: str
) -> None:
    error, feed = await failure_on(http.Answer(b"", status, {"Location": "http://127.0.0.1:9/"}))
    assert (error.fatal, error.retry_after_s) == (False, wait_s)
    assert f"Shop answered HTTP {status} for 'XAU/USD'" in str(error)
    assert advice in str(error)
    assert feed.connections == 0


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_a_provider_that_says_when_to_come_back_is_obeyed(status: int) -> None:
    error, _ = await failure_on(http.Answer(b"", status, {"Retry-After": "17"}))
    assert error.retry_after_s == 17.0


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe\x00", b"<html>busy</html>", b'{"last": "soon"}', b"[]", b'{"last": 4389.04']
)
async def test_garbage_is_counted_quoted_and_ends_the_connection(body: bytes) -> None:
    error, feed = await failure_on(http.Answer(body))
    assert feed.reasons == ["garbage"]
    assert "what is not a quote" in str(error)
    assert excerpt(body) in str(error)
    assert (error.fatal, feed.connections, feed.ticks) == (False, 0, [])


async def test_an_answer_without_a_quote_is_counted_and_ends_the_connection() -> None:
    error, feed = await failure_on(http.Answer(b"{}"))
    assert feed.reasons == ["no_quote"]
    assert "without a quote" in str(error)


async def test_an_endless_answer_is_cut_off() -> None:
    error, _ = await failure_on(http.Answer(b" " * (polling.MAX_ANSWER_BYTES + 1)))
    assert "65536 bytes" in str(error)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.HALF, Fault.NOISE])
async def test_a_connection_that_breaks_is_a_feed_error(fault: Fault) -> None:
    error, _ = await failure_on(fault)
    assert str(error).startswith("Shop: the connection broke (")
    assert not error.fatal


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.DRIP])
async def test_an_answer_that_does_not_end_meets_its_deadline(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "ANSWER_TIMEOUT_S", 0.05)
    error, _ = await failure_on(fault)
    assert "did not answer completely within 0.05 s" in str(error)


async def test_a_server_that_takes_the_connection_and_no_more_meets_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "CONNECT_TIMEOUT_S", 0.05)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        error = await failure(shop(f"https://127.0.0.1:{listener.socket.getsockname()[1]}"))
    assert "could not be reached within 0.05 s" in str(error)


async def test_a_refused_connection_is_said_with_its_address() -> None:
    async with serve_http(lambda _: Fault.DROP) as server:
        pass
    error = await failure(shop(server.url))
    assert f"127.0.0.1:{server.port}" in str(error)
    assert "check the network and this source's `url`" in str(error)


async def test_an_address_that_cannot_be_used_is_fatal() -> None:
    error = await failure(shop("http://[::1/"))
    assert error.fatal


async def test_a_proxy_that_cannot_be_used_is_fatal_and_not_quoted() -> None:
    error = await failure(shop("http://127.0.0.1:9", proxy="http://user:password@[::1"))
    assert error.fatal
    assert "password" not in str(error)


async def test_the_line_survives_a_server_that_closes_between_polls() -> None:
    """Keep-alive ends at the server's whim; that alone is no failure."""
    async with serve_http(lambda _: Fault.DROP) as server:
        prices = iter(range(10, 1000))
        server.respond = lambda _: http.Answer(
            b'{"last": %d}' % next(prices), headers={"Connection": "close"}
        )
        feed, provider = FakeFeed("XAU/USD"), shop(server.url)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(provider.run, feed)
                await feed.wait_for_ticks(3)
                nursery.cancel_scope.cancel()
    assert server.connections >= 3


# --- headers ---

NOW = parse_time("2026-11-23T12:00:00Z")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("99999999999", MAX_RETRY_AFTER_S),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 12:00:30", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("-5", 0.0),
        ("²", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOW) == seconds


@settings(max_examples=50)
@given(st.text())
def test_any_retry_after_is_a_sane_wait(header: str) -> None:
    assert 0.0 <= retry_after_s(header, NOW) <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("max-age=45", 45.0), ('public, Max-Age="7"', 7.0), ("no-store", 0.0), ("max-age=soon", 0.0), ("", 0.0)],
)
def test_max_age_is_read_from_cache_control(header: str, seconds: float) -> None:
    assert max_age_s(header) == seconds


def test_the_cause_of_an_error_is_its_innermost_text() -> None:
    error = httpx.ConnectError("")
    error.__cause__ = OSError("certificate has expired")
    assert polling.cause(error) == "certificate has expired"
    assert polling.cause(httpx.ReadError("")) == "ReadError"
