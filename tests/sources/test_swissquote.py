"""Which of Swissquote's many quotes is taken, and the provider against its stand-in."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.errors import FeedError
from aurexd.market import Instrument
from aurexd.sources.swissquote import PROFILES, Swissquote, SwissquoteSettings
from tests.fakes import FakeFeed
from tests.standins.http import Fault, serve_http
from tests.standins.swissquote import CAPTURED, PATH, SwissquoteStandIn, platform, profile

TS = 1_787_059_781_075


def read(*platforms: dict[str, Any]) -> tuple[int | None, Decimal | None, Decimal | None] | None:
    quote = Swissquote.read(json.dumps(platforms).encode(), "XAU/USD")
    return (quote.source_time, quote.bid, quote.ask) if quote is not None else None


def test_a_captured_answer_gives_the_elite_quote_exactly() -> None:
    quote = Swissquote.read(CAPTURED, "XAU/USD")
    assert quote is not None
    assert (str(quote.bid), str(quote.ask), quote.last) == ("4389.128", "4389.632", None)
    assert quote.source_time == 1_787_059_781_075_000


def test_the_newest_platform_wins_over_a_better_profile() -> None:
    old, new = platform(TS, profile("elite", 100, 101)), platform(TS + 1, profile("standard", 98, 99))
    assert read(old, new) == read(new, old) == ((TS + 1) * 1000, Decimal(98), Decimal(99))


@pytest.mark.parametrize(("better", "worse"), list(itertools.pairwise([*PROFILES, "unheard-of"])))
def test_on_one_platform_the_narrower_profile_wins(better: str, worse: str) -> None:
    quotes = [profile(better, 100, 101), profile(worse, 99, 102)]
    for order in (quotes, quotes[::-1]):
        assert read(platform(TS, *order)) == (TS * 1000, Decimal(100), Decimal(101))


quotes_ = st.builds(
    lambda name, bid, spread: profile(name, bid, bid + spread),
    st.sampled_from([*PROFILES, "x"]),
    st.integers(1, 5),
    st.integers(0, 3),
)
platforms_ = st.lists(
    st.builds(
        lambda ts, quotes: platform(ts, *quotes),
        st.none() | st.integers(TS, TS + 2),
        st.lists(quotes_, max_size=3),
    ),
    max_size=4,
)


@settings(max_examples=100)
@given(platforms_, st.randoms())
def test_the_order_of_the_answer_does_not_matter(platforms: list[dict[str, Any]], random: Any) -> None:
    expected = read(*platforms)
    random.shuffle(platforms)
    for entry in platforms:
        random.shuffle(entry["spreadProfilePrices"])
    assert read(*platforms) == expected


def test_without_a_time_there_is_still_a_quote() -> None:
    assert read(platform(None, profile("elite", 100, 101))) == (None, Decimal(100), Decimal(101))


@pytest.mark.parametrize(
    ("bid", "ask"), [(0, 1), (-1, 1), (101, 100), ("NaN", 100), (100, "Infinity"), (None, 100)]
)
def test_a_quote_that_cannot_be_is_passed_over(bid: Any, ask: Any) -> None:
    impossible = profile("elite", bid, ask)
    assert read(platform(TS, impossible)) is None
    assert read(platform(TS, impossible, profile("prime", 99, 102))) == (TS * 1000, Decimal(99), Decimal(102))


def test_an_empty_answer_has_no_quote() -> None:
    assert read() is None
    assert read(platform(TS)) is None


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"error":"x"}', b"[1]", b'[{"ts":"late"}]', CAPTURED[:-1], b"\xff"]
)
def test_what_is_not_its_format_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Swissquote.read(body, "XAU/USD")


def test_its_pairs_are_spot() -> None:
    assert Swissquote.instrument_of("XAU/USD") is Instrument.SPOT


def provider(url: str) -> Swissquote:
    settings = SwissquoteSettings(name="sq", type="swissquote", symbols={"XAUUSD": "XAU/USD"}, url=url + PATH)
    return Swissquote(settings, update_interval_s=0.0)


def test_the_real_address_is_the_default() -> None:
    settings = SwissquoteSettings(name="sq", type="swissquote", symbols={"XAUUSD": "XAU/USD"})
    assert settings.url + "XAU/USD" == (
        "https://forex-data-feed.swissquote.com/public-quotes/bboquotes/instrument/XAU/USD"
    )


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests need not wait the 2 s that the real Swissquote is given."""
    monkeypatch.setattr(Swissquote, "min_interval_s", 0.005)


@pytest.mark.usefixtures("swift")
async def test_it_follows_the_quote_and_stays_silent_while_that_stands_still() -> None:
    standin, feed = SwissquoteStandIn(), FakeFeed("XAU/USD")
    standin.quote(4389.128, 4389.632, TS)
    with trio.fail_after(5):
        async with serve_http(standin.respond) as server, trio.open_nursery() as nursery:
            nursery.start_soon(provider(server.url).run, feed)
            await feed.wait_until(lambda: feed.signs_of_life >= 5)
            standin.quote(4389.2, 4389.7, TS + 750)
            await feed.wait_for_ticks(2)
            nursery.cancel_scope.cancel()
    assert [(tick.source_time, tick.bid, tick.ask, tick.last) for tick in feed.ticks] == [
        (TS * 1000, Decimal("4389.128"), Decimal("4389.632"), None),
        ((TS + 750) * 1000, Decimal("4389.2"), Decimal("4389.7"), None),
    ]


@pytest.mark.usefixtures("swift")
async def test_it_comes_back_after_a_fault() -> None:
    standin, feed = SwissquoteStandIn(), FakeFeed("XAU/USD")
    with trio.fail_after(5):
        async with serve_http(standin.respond) as server:
            swissquote = provider(server.url)
            standin.fault = Fault.DROP
            with pytest.raises(FeedError, match="Swissquote"):
                await swissquote.run(feed)
            standin.fault = None
            with pytest.raises(FeedError, match="without a quote"):  # an empty array
                await swissquote.run(feed)
            standin.quote(4389.128, 4389.632, TS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(swissquote.run, feed)
                await feed.wait_for_ticks(1)
                nursery.cancel_scope.cancel()
    assert feed.reasons == ["no_quote"]
