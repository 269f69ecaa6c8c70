"""Kraken's public WebSocket v2: gold tokens such as PAXG/USD, an ounce each, traded round the clock."""

from __future__ import annotations

from decimal import Decimal
from typing import NoReturn
from urllib.parse import urlencode

import msgspec
import pydantic
import trio

from aurexd.backoff import Backoff
from aurexd.clock import Clock
from aurexd.errors import FeedError
from aurexd.market import SECOND_US, EpochUs, Instrument, parse_time
from aurexd.sources.base import Bar, Feed, HistoryProvider, SourceSettings, Traits
from aurexd.sources.plausible import excerpt, of_this_century, usable
from aurexd.sources.polling import fetch, http_client
from aurexd.sources.websocket import (
    RATE_LIMITED_RETRY_S,
    Connection,
    WebSocketUrl,
    open_connection,
)

GOLD_TOKENS = ("PAXG/", "XAUT/")
HALTED = frozenset({"maintenance", "cancel_only"})
"""The exchange's states in which nobody can trade, so that its quotes are no market."""


URL = "wss://ws.kraken.com/v2"
HISTORY_URL = "https://api.kraken.com/0/public/OHLC"
HISTORY_HOURS = 12.0
"""It gives the newest 720 minutes, whatever is asked for."""
MAX_HISTORY_BYTES = 1_048_576  # 720 minutes are some 70 KB


class KrakenSettings(SourceSettings):
    """One `[[sources]]` table of type kraken."""

    url: WebSocketUrl = pydantic.Field(default=URL, description="Where to connect.")
    history_url: str | None = pydantic.Field(
        default=None,
        pattern=r"^(https?://.*)?$",
        description="Where the minutes of the last hours are to be had, for gaps after downtime: its OHLC resource. "
        'Default: Kraken\'s own, if `url` is. "" switches it off.',
    )


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


class _History(msgspec.Struct, frozen=True):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_Row = tuple[int, str, str, str, str, str, str, int]
"""Time in seconds, open, high, low, close, vwap, volume, trades."""

_histories = msgspec.json.Decoder(_History)
_rows = msgspec.json.Decoder(list[_Row])


def read_history(body: bytes) -> list[Bar]:
    """The minutes in an answer of the OHLC resource; those without a trade repeat the last price, and are left out.

    Raises:
        ValueError: it is no such answer, or an error; says why.

    """
    answer = _histories.decode(body)
    if answer.error:
        raise ValueError("; ".join(answer.error))
    bars = []
    for name, rows in answer.result.items():
        if name == "last":
            continue
        for time, *prices, _vwap, _volume, trades in _rows.decode(rows):
            if trades:
                open_, high, low, close = map(_decimal, prices)
                start = of_this_century(time * SECOND_US)
                bars.append(Bar(start=start, open=open_, high=high, low=low, close=close))
    return bars


def _decimal(text: object) -> Decimal:
    try:
        return Decimal(str(text))
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is no price") from error


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


class Kraken(HistoryProvider[KrakenSettings]):
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

    @property
    def history_hours(self) -> float:
        """See `HistoryProvider.history_hours`."""
        return HISTORY_HOURS if self._history_url else 0.0

    @property
    def _history_url(self) -> str:
        # Who stands in for one of its addresses does not want the other to be called.
        given = self.settings.history_url
        return (HISTORY_URL if self.settings.url == URL else "") if given is None else given

    async def history(self, code: str, start: EpochUs, end: EpochUs, clock: Clock) -> list[Bar]:
        """See `HistoryProvider.history`."""
        del end  # there is no such parameter
        query = urlencode({"pair": code.replace("/", ""), "interval": 1, "since": start // SECOND_US - 60})
        async with http_client(self.title, None) as client:
            _, body = await fetch(
                client,
                f"{self._history_url}?{query}",
                title=self.title,
                code=code,
                clock=clock,
                max_bytes=MAX_HISTORY_BYTES,
            )
        try:
            return read_history(body)
        except ValueError as error:
            raise FeedError(
                f"{self.title} answered for the history of {code!r} what is none ({error}): {excerpt(body)}"
            ) from error

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
