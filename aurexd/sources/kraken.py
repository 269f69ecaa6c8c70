"""Kraken's public WebSocket v2: gold tokens such as PAXG/USD, an ounce each, traded round the clock."""

from __future__ import annotations

from decimal import Decimal
from typing import NoReturn

import msgspec
import pydantic
import trio

from aurexd.backoff import Backoff
from aurexd.errors import FeedError
from aurexd.market import EpochUs, Instrument, parse_time
from aurexd.sources.base import Feed, Provider, SourceSettings, Traits
from aurexd.sources.plausible import of_this_century, usable
from aurexd.sources.websocket import (
    RATE_LIMITED_RETRY_S,
    Connection,
    WebSocketUrl,
    open_connection,
)

GOLD_TOKENS = ("PAXG/", "XAUT/")
HALTED = frozenset({"maintenance", "cancel_only"})
"""The exchange's states in which nobody can trade, so that its quotes are no market."""


class KrakenSettings(SourceSettings):
    """One `[[sources]]` table of type kraken."""

    url: WebSocketUrl = pydantic.Field(default="wss://ws.kraken.com/v2", description="Where to connect.")


# --- the wire format ---


class Ticker(msgspec.Struct, frozen=True):
    """One symbol's prices; None for what is not quoted, or not told."""

    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    time: EpochUs | None


class Tickers(msgspec.Struct, frozen=True):
    """A snapshot or an update of the ticker channel."""

    tickers: list[Ticker]


class Status(msgspec.Struct, frozen=True):
    """The exchange's state: online, maintenance, cancel_only, post_only or limit_only."""

    system: str


class Answer(msgspec.Struct, frozen=True):
    """The answer to our subscription, for one symbol; an error may name none."""

    symbol: str
    error: str | None
    """None: accepted."""


class Idle(msgspec.Struct, frozen=True):
    """Nothing to act on: a heartbeat, or a message that we do not know."""


class _Ticker(msgspec.Struct, frozen=True):
    symbol: str
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    timestamp: str | None = None  # RFC 3339; older servers send none

    def read(self) -> Ticker:
        time = of_this_century(parse_time(self.timestamp)) if self.timestamp else None
        return Ticker(self.symbol, self.bid, self.ask, self.last, time)


class _Result(msgspec.Struct, frozen=True):
    symbol: str = ""


class _Message(msgspec.Struct, frozen=True):
    channel: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"[]")
    method: str | None = None
    success: bool = False
    error: str | None = None
    symbol: str | None = None
    result: _Result | None = None


_messages = msgspec.json.Decoder(_Message)
_tickers = msgspec.json.Decoder(list[_Ticker])  # JSON numbers, read as the decimal text they are
_statuses = msgspec.json.Decoder(list[Status])


def parse(raw: str | bytes) -> Tickers | Status | Answer | Idle:
    """What Kraken says in one WebSocket message.

    Raises:
        ValueError: it is none of its messages; says why. RecursionError for brackets nested too deep.

    """
    message = _messages.decode(raw)
    if message.channel == "ticker":
        return Tickers([ticker.read() for ticker in _tickers.decode(message.data)])
    if message.channel == "status":
        statuses = _statuses.decode(message.data)
        return statuses[-1] if statuses else Idle()
    if message.method == "subscribe" or message.error is not None:
        symbol = message.result.symbol if message.result is not None else message.symbol or ""
        return Answer(symbol, None if message.success else message.error or "no reason given")
    if message.channel is None and message.method is None:
        raise ValueError("neither a channel nor a method")
    return Idle()


def refusal(answer: Answer) -> FeedError:
    """The error that a refused subscription amounts to."""
    error = answer.error or ""
    said = f"Kraken refuses to subscribe us to {answer.symbol[:30] or 'our symbols'} ({error[:200]})"
    if "not supported" in error:
        return FeedError(f"{said}: check this source's `symbols`; a pair is written PAXG/USD", fatal=True)
    if "rate" in error:
        return FeedError(f"{said}: we wait", retry_after_s=RATE_LIMITED_RETRY_S)
    return FeedError(f"{said}; we reconnect")


# --- the connection ---


class Kraken(Provider[KrakenSettings]):
    """Listens to Kraken. Codes are its pairs: `PAXG/USD`."""

    title = "Kraken"
    traits = Traits(
        # Thinly traded, but its makers follow spot gold, so the best bid or ask should move well within this.
        stale_after_s=60.0,
        # It sends a heartbeat every second in which nothing else comes, so we need no ping of our own.
        silence_s=15.0,
        # Its limit on connections is not documented; about 150 in 10 minutes are commonly quoted.
        reconnect=Backoff(floor_s=1.0, base_s=1.0, cap_s=60.0),
    )
    Settings = KrakenSettings

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """Pairs with a gold token on the left are tokens; Kraken has other kinds too."""
        return Instrument.TOKEN if code.startswith(GOLD_TOKENS) else None

    async def run(self, feed: Feed) -> None:
        """Subscribe to every change of the best bid or ask, and listen."""
        async with open_connection(self.title, self.settings.url, feed) as connection:
            await _converse(feed, connection)


async def _converse(feed: Feed, connection: Connection) -> NoReturn:
    codes = list(dict.fromkeys(s.code for s in feed.subscriptions))
    unanswered, answered = set(codes), trio.Event()
    halted = ""
    await connection.send(
        {
            "method": "subscribe",
            # bbo: by default it reports trades alone, and tokens trade seldom.
            "params": {"channel": "ticker", "symbol": codes, "event_trigger": "bbo", "snapshot": True},
            "req_id": 1,
        }
    )
    connection.nursery.start_soon(
        connection.wait_answered, answered, "our subscription to " + ", ".join(codes)
    )
    while True:
        match await connection.receive(parse):
            case Tickers(tickers):
                for ticker in tickers:
                    await _deliver(feed, ticker, halted)
            case Status(system):
                # We stay: its end is told here too. Meanwhile the price goes stale, and others carry it.
                halted = system if system in HALTED else ""
            case Answer(error=None) as answer:
                unanswered.discard(answer.symbol)
                feed.connected()
                if not unanswered:
                    answered.set()
            case Answer() as answer:
                raise refusal(answer)
            case Idle():
                pass


async def _deliver(feed: Feed, ticker: Ticker, halted: str) -> None:
    bid, ask = usable(ticker.bid), usable(ticker.ask)
    if halted:
        feed.rejected("market_halted", halted)
    elif bid is None or ask is None:
        feed.rejected("one_sided", f"{ticker.symbol[:30]}: bid {ticker.bid}, ask {ticker.ask}")
    else:
        await feed.tick(ticker.symbol, source_time=ticker.time, bid=bid, ask=ask, last=usable(ticker.last))
