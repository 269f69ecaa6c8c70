"""gold-api.com's answers, and the provider against its stand-in."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio

from aurexd.errors import FeedError
from aurexd.market import Instrument, parse_time
from aurexd.sources.gold_api import GoldApi, GoldApiSettings
from tests.fakes import FakeFeed
from tests.standins.gold_api import CAPTURED, GoldApiStandIn
from tests.standins.http import serve_http


def test_a_captured_answer_gives_one_last_price() -> None:
    quote = GoldApi.read(CAPTURED, "XAU")
    assert quote is not None
    assert (str(quote.last), quote.bid, quote.ask) == ("4392.0", None, None)
    assert quote.source_time == parse_time("2026-08-18T13:29:35Z")


def test_older_answers_name_no_currency() -> None:
    quote = GoldApi.read(
        b'{"name":"Gold","price":4377.600098,"symbol":"XAU","updatedAt":"2026-08-15T22:41:00Z"}', "XAU"
    )
    assert quote is not None
    assert str(quote.last) == "4377.600098"


def test_without_a_time_there_is_still_a_quote() -> None:
    quote = GoldApi.read(b'{"price":4377.6,"symbol":"XAU"}', "XAU")
    assert quote is not None
    assert quote.source_time is None


@pytest.mark.parametrize("price", [b"null", b"0", b"-1", b'"NaN"'])
def test_a_price_that_cannot_be_is_no_quote(price: bytes) -> None:
    assert GoldApi.read(b'{"symbol":"XAU","price":%s}' % price, "XAU") is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (CAPTURED, "XAG"),
        (CAPTURED, "XAU/EUR"),
        (CAPTURED.replace(b"USD", b"EUR"), "XAU"),
        (CAPTURED.replace(b"2026-08-18T", b"yesterday "), "XAU"),
        (CAPTURED.replace(b"29:35Z", b"29:35"), "XAU"),
        (CAPTURED[:-1], "XAU"),
        (b'{"error":"x"}', "XAU"),
        (b"[]", "XAU"),
        (b"", "XAU"),
    ],
)
def test_another_metal_or_currency_or_no_format_of_its_is_a_value_error(body: bytes, code: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        GoldApi.read(body, code)


@pytest.mark.parametrize(
    ("code", "instrument"), [("XAU", Instrument.SPOT), ("XAG/EUR", Instrument.SPOT), ("BTC", None)]
)
def test_its_metals_are_spot(code: str, instrument: Instrument | None) -> None:
    assert GoldApi.instrument_of(code) is instrument


def provider(url: str) -> GoldApi:
    settings = GoldApiSettings(name="ga", type="gold-api", symbols={"XAUUSD": "XAU"}, url=url + "/price")
    return GoldApi(settings, update_interval_s=0.0)


def test_the_real_address_is_the_default() -> None:
    settings = GoldApiSettings(name="ga", type="gold-api", symbols={"XAUUSD": "XAU"})
    assert settings.url + "XAU" == "https://api.gold-api.com/price/XAU"


def test_it_is_asked_every_30_s_at_most() -> None:
    assert GoldApi.min_interval_s == 30.0


async def test_it_follows_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GoldApi, "min_interval_s", 0.005)
    standin, feed = GoldApiStandIn(), FakeFeed("XAU")
    standin.quote(4392.0, "2026-08-18T13:29:35Z")
    with trio.fail_after(5):
        async with serve_http(standin.respond) as server, trio.open_nursery() as nursery:
            nursery.start_soon(provider(server.url).run, feed)
            await feed.wait_until(lambda: feed.signs_of_life >= 3)
            standin.quote(4392.0, "2026-08-18T13:30:05Z")
            await feed.wait_for_ticks(2)
            nursery.cancel_scope.cancel()
    assert [(tick.source_time, tick.last) for tick in feed.ticks] == [
        (parse_time("2026-08-18T13:29:35Z"), Decimal("4392.0")),
        (parse_time("2026-08-18T13:30:05Z"), Decimal("4392.0")),
    ]


async def test_it_waits_as_long_as_the_answer_may_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GoldApi, "min_interval_s", 0.005)
    standin, feed = GoldApiStandIn(), FakeFeed("XAU")
    standin.quote(4392.0, "2026-08-18T13:29:35Z")
    standin.max_age_s = 3600
    async with serve_http(standin.respond) as server:
        with trio.move_on_after(0.1):
            await provider(server.url).run(feed)
        assert len(server.requests) == 1


async def test_a_symbol_it_does_not_have_is_said() -> None:
    async with serve_http(GoldApiStandIn().respond) as server:
        with (
            trio.fail_after(5),
            pytest.raises(FeedError, match=r"does not know that: check this source's `symbols`"),
        ):
            await provider(server.url).run(FakeFeed("XXX"))
