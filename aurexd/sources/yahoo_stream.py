"""Yahoo Finance's push stream: last prices as protobuf in base64 in JSON; gold futures, ten minutes late.

It speaks the stream's three-line protocol itself: yfinance's own streaming classes freeze or never reconnect.
"""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any, NoReturn

import msgspec
import pydantic
import trio
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
)

from aurexd.backoff import Backoff
from aurexd.market import EpochUs, Instrument
from aurexd.sources.base import Feed, Provider, SourceSettings, Traits
from aurexd.sources.plausible import of_this_century, usable
from aurexd.sources.websocket import Connection, WebSocketUrl, open_connection

RESUBSCRIBE_S = 15.0  # as yfinance does: without, the stream is known to end after some 20 minutes
DEFAULT_DECIMALS = 2  # where Yahoo gives no price_hint
MAX_DECIMALS = 8
HEARTBEAT = 7  # a quote_type


class YahooStreamSettings(SourceSettings):
    """One `[[sources]]` table of type yahoo-stream."""

    url: WebSocketUrl = pydantic.Field(
        default="wss://streamer.finance.yahoo.com/?version=2", description="Where to connect."
    )


# --- the wire format ---


def _pricing_data() -> type[Any]:
    """The class of Yahoo's PricingData, with the fields used here; the others are skipped in parsing.

    Built here because yfinance's own brings pandas with it; in a pool of its own, because names are global in
    the default one.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="aurexd/pricing.proto", package="aurexd", syntax="proto3")
    pricing = file.message_type.add(name="PricingData")
    for name, number, kind in (
        ("id", 1, field.TYPE_STRING),
        ("price", 2, field.TYPE_FLOAT),
        ("time", 3, field.TYPE_SINT64),  # milliseconds since the epoch
        ("quote_type", 6, field.TYPE_INT32),
        ("price_hint", 27, field.TYPE_SINT64),  # decimals of the price
    ):
        pricing.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    made: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("aurexd.PricingData"))
    return made


PricingData = _pricing_data()


class LastPrice(msgspec.Struct, frozen=True):
    """One code's last price, rounded to the decimals Yahoo quotes it with; None when it sends none."""

    code: str
    price: Decimal | None
    time: EpochUs | None


class Idle(msgspec.Struct, frozen=True):
    """Nothing to act on: a heartbeat, or a message of a type that we do not know."""


class _Message(msgspec.Struct, frozen=True):
    type: str
    message: msgspec.Raw = msgspec.Raw(b'""')  # text in a pricing message; who knows in others


_messages = msgspec.json.Decoder(_Message)
_texts = msgspec.json.Decoder(str)


def parse(raw: str | bytes) -> LastPrice | Idle:
    """What Yahoo says in one WebSocket message.

    Raises:
        ValueError: it is none of its messages; says why. RecursionError for brackets nested too deep.

    """
    outer = _messages.decode(raw)
    if outer.type != "pricing":
        return Idle()
    try:
        pricing = PricingData.FromString(base64.b64decode(_texts.decode(outer.message), validate=True))
    except message.DecodeError as error:
        raise ValueError(str(error)) from error
    if pricing.quote_type == HEARTBEAT:
        return Idle()
    return LastPrice(
        code=pricing.id,
        price=_decimal(pricing.price, pricing.price_hint),
        time=of_this_century(pricing.time * 1000) if pricing.time else None,
    )


def _decimal(price: float, price_hint: int) -> Decimal | None:
    """The price as it was before it became a float32: 4448.39990234375 was 4448.40."""
    exact = usable(Decimal(price))
    if exact is None:
        return None
    # proto3 sends no zeros, so 0 means that it is not told.
    decimals = price_hint if 0 < price_hint <= MAX_DECIMALS else DEFAULT_DECIMALS
    return usable(exact.quantize(Decimal(1).scaleb(-decimals)))


# --- the connection ---


class YahooStream(Provider[YahooStreamSettings]):
    """Listens to Yahoo's stream. Codes are Yahoo's: `GC=F`."""

    title = "Yahoo (stream)"
    traits = Traits(
        # In a thin hour the future trades once in minutes; an open market moves it several times a minute.
        stale_after_s=300.0,
        # COMEX through Yahoo is about ten minutes late.
        known_delay_s=600.0,
        # It pushes trades alone: in an open market this long without one is a dead line.
        silence_s=300.0,
        rests_when_closed=True,
        # Its limits are not documented.
        reconnect=Backoff(floor_s=2.0, base_s=2.0, cap_s=300.0),
    )
    Settings = YahooStreamSettings

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """`…=F` is a future; of the others Yahoo has all kinds."""
        return Instrument.FUTURE if code.endswith("=F") else None

    async def run(self, feed: Feed) -> None:
        """Subscribe, again and again, and listen."""
        async with open_connection(self.title, self.settings.url, feed) as connection:
            connection.nursery.start_soon(_keep_subscribed, feed, connection)
            await _listen(feed, connection)


async def _keep_subscribed(feed: Feed, connection: Connection) -> NoReturn:
    codes = list(dict.fromkeys(s.code for s in feed.subscriptions))
    while True:
        await connection.send({"subscribe": codes})
        feed.connected()  # nothing acknowledges a subscription; that it was taken is all there is to know
        await trio.sleep(RESUBSCRIBE_S)


async def _listen(feed: Feed, connection: Connection) -> NoReturn:
    while True:
        match await connection.receive(parse):
            case LastPrice(code, None):
                feed.rejected("no_price", code[:30])
            case LastPrice(code, price, time):
                await feed.tick(code, source_time=time, last=price)
            case Idle():
                pass
