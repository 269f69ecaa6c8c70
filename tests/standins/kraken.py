"""Stand-ins for Kraken's public WebSocket v2 (status, tickers by pair, heartbeats, errors) and its OHLC."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import trio

from aurexd.clock import Clock
from aurexd.market import EpochUs
from tests.standins.http import Answer as HttpAnswer
from tests.standins.websocket import Client, WebSocketStandIn

HEARTBEAT_S = 1.0


class KrakenStandIn(WebSocketStandIn):
    """The exchange."""

    path = "/v2"

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        seed: int = 1,
        pairs: Iterable[str] = ("PAXG/USD", "XAUT/USD"),
    ) -> None:
        super().__init__(tls=tls, clock=clock, seed=seed)
        self.pairs = set(pairs)
        self.system = "online"
        self.over_rate = False
        """Answer every request with `Exceeded msg rate`."""
        self.timestamps = True
        """Newer servers send one with each ticker."""
        self.subscribed: dict[Client, set[str]] = {}
        self._tickers: dict[str, dict[str, Any]] = {}
        self._said_at: dict[Client, float] = {}

    # --- control ---

    async def push(
        self, bid: str, ask: str, *, last: str | None = None, symbol: str = "PAXG/USD", **fields: Any
    ) -> None:
        """Push an update of the best bid or ask; prices are numbers on the wire, exactly as written here."""
        ticker = {
            "symbol": symbol,
            "bid": msgspec.Raw(bid.encode()),
            "bid_qty": 0.5,
            "ask": msgspec.Raw(ask.encode()),
            "ask_qty": 1.1,
            "last": msgspec.Raw((last or bid).encode()),
            "volume": 215.3,
        }
        if self.timestamps:
            ticker["timestamp"] = _rfc3339(self.clock.now())
        self._tickers[symbol] = {**ticker, **fields}
        clients = [client for client, symbols in self.subscribed.items() if symbol in symbols]
        await self._send_ticker("update", symbol, clients)

    async def change_system(self, system: str) -> None:
        """Enter another state, and say so."""
        self.system = system
        for client in list(self.clients):
            await self._send_status(client)

    # --- the exchange ---

    async def greet(self, client: Client) -> None:
        await self._send_status(client)

    async def answer(self, client: Client, message: Any) -> None:
        match message:
            case {"method": "subscribe", "params": {"channel": "ticker", "symbol": list(symbols)}}:
                for symbol in symbols:
                    await self._subscribe(client, symbol, message)
            case {"method": "ping"}:
                await self._say_to(client, {"method": "pong", "req_id": message.get("req_id")})
            case _:
                await self._say_to(client, {"error": "Malformed request", "success": False})

    async def _subscribe(self, client: Client, symbol: str, request: dict[str, Any]) -> None:
        answer = {"method": "subscribe", "req_id": request.get("req_id"), **_times(self.clock.now())}
        if self.over_rate or symbol not in self.pairs:
            error = "Exceeded msg rate" if self.over_rate else f"Currency pair not supported {symbol}"
            await self._say_to(client, {**answer, "error": error, "success": False, "symbol": symbol})
            return
        result = {"channel": "ticker", "snapshot": True, "symbol": symbol}
        await self._say_to(client, {**answer, "result": result, "success": True})
        if client not in self.subscribed:
            self.subscribed[client] = set()
            client.nursery.start_soon(self._beat, client)
        self.subscribed[client].add(symbol)
        if symbol in self._tickers and request["params"].get("snapshot", True):
            await self._send_ticker("snapshot", symbol, [client])

    def forget(self, client: Client) -> None:
        self.subscribed.pop(client, None)
        self._said_at.pop(client, None)

    async def _beat(self, client: Client) -> None:
        """A heartbeat whenever nothing else was sent for a second."""
        while True:
            due = self._said_at.get(client, trio.current_time()) + HEARTBEAT_S
            await trio.sleep_until(due)
            if self._said_at.get(client, 0.0) + HEARTBEAT_S <= trio.current_time():
                await self._say_to(client, {"channel": "heartbeat"})

    async def _send_status(self, client: Client) -> None:
        status = {
            "version": "2.0.10",
            "system": self.system,
            "api_version": "v2",
            "connection_id": 15113583034416118705,
        }
        await self._say_to(client, {"channel": "status", "type": "update", "data": [status]})

    async def _send_ticker(self, kind: str, symbol: str, clients: list[Client]) -> None:
        for client in clients:
            await self._say_to(client, {"channel": "ticker", "type": kind, "data": [self._tickers[symbol]]})

    async def _say_to(self, client: Client, message: dict[str, Any]) -> None:
        self._said_at[client] = trio.current_time()
        await self.send(message, [client])


def _rfc3339(time: EpochUs) -> str:
    return datetime.fromtimestamp(time / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _times(time: EpochUs) -> dict[str, str]:
    return {"time_in": _rfc3339(time), "time_out": _rfc3339(time)}


def ohlc(*rows: tuple[int, str, str, str, str], trades: int = 3, pair: str = "PAXGUSD") -> HttpAnswer:
    """An answer of the REST resource: (seconds, open, high, low, close) of each minute; the last one is under way."""
    listed = [[time, *prices, prices[-1], "1.5", trades] for time, *prices in rows]
    last = rows[-2][0] if len(rows) > 1 else 0
    return HttpAnswer(msgspec.json.encode({"error": [], "result": {pair: listed, "last": last}}))


def ohlc_error(text: str) -> HttpAnswer:
    """What it says with status 200 all the same."""
    return HttpAnswer(msgspec.json.encode({"error": [text]}))
