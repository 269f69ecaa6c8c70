"""A stand-in for AllTick's WebSocket feed: envelope, replacing subscriptions, limits, heartbeats, errors.

As a process of its own it prints its port, then takes one command per line and answers each with `ok`:
`push BID [ASK]`, `trade PRICE`, `mode MODE`, `kill`, `revive`.

    python -m tests.standins.alltick [--port PORT]
"""

from __future__ import annotations

import argparse
import math
import os
import ssl
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal

import trio

from aurexd.clock import Clock
from tests.standins.websocket import Client, Refusal, WebSocketStandIn

HEARTBEAT, SUBSCRIBE_DEPTH, SUBSCRIBE_TRADES, CANCEL = 22000, 22002, 22004, 22006
TRADE_PUSH, DEPTH_PUSH = 22998, 22999
HEARTBEAT_TIMEOUT_S = 30.0
FIRST_SEQ = 1605509068000001

MESSAGES = {
    200: "ok",
    400: "request data param invalid",
    401: "token invalid",
    402: "query invalid",
    429: "rate limit",
    600: "code invalid",
    603: "token level not enough",
    604: "code unauthorized",
    605: "too many requests",
    606: "too many requests and connection will be closed",
}

Price = Decimal | str


class AllTickStandIn(WebSocketStandIn):
    """The provider. Its limits are those of the Free plan, unless told otherwise."""

    path = "/quote-b-ws-api"

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        seed: int = 1,
        tokens: Iterable[str] | None = None,
        refuse_by: Literal["http", "frame"] = "http",
        max_connections: int = 1,
        max_symbols: int = 5,
        codes: Iterable[str] = ("GOLD", "Silver"),
    ) -> None:
        """`tokens`: the valid ones (None: any), and how others are refused. `codes`: what it knows."""
        super().__init__(tls=tls, clock=clock, seed=seed)
        self.tokens = None if tokens is None else set(tokens)
        self.refuse_by = refuse_by
        self.max_connections = max_connections
        self.max_symbols = max_symbols
        self.codes = set(codes)
        self.integers = False
        """Send `seq` and `tick_time` as integers, as documented since June 2026, or as strings."""
        self.seconds = False
        """Send `tick_time` in seconds, as in one documented example, or in milliseconds."""
        self.refusals: dict[int, int] = {}
        """cmd_id → the `ret` with which such requests are answered."""
        self.depth: dict[Client, list[str]] = {}
        self.trades: dict[Client, list[str]] = {}
        self._seq: defaultdict[str, int] = defaultdict(lambda: FIRST_SEQ - 1)
        self._last_request: dict[str, tuple[float, Client]] = {}

    # --- control ---

    async def push(self, bid: Price, ask: Price | None = None, *, code: str = "GOLD", **fields: Any) -> None:
        """Push one quote to those who subscribed to depth; `ask` is the bid where it is not given.

        `fields` replace the message's own (`seq`, `tick_time`, `bids`, `asks`) or add to them.
        """
        sides = {"bids": [_level(bid)], "asks": [_level(bid if ask is None else ask)]}
        await self._push(DEPTH_PUSH, self.depth, {**self._head(code), **sides, **fields})

    async def push_trade(self, price: Price, *, code: str = "GOLD", **fields: Any) -> None:
        """Push one trade to those who subscribed to trades."""
        trade = {"price": str(price), "volume": "0", "turnover": "0", "trade_direction": 0}
        await self._push(TRADE_PUSH, self.trades, {**self._head(code), **trade, **fields})

    async def send_error(self, ret: int, message: str | None = None) -> None:
        """Send an error that belongs to no request; after 606 the connection is closed."""
        for client in list(self.clients):
            await self._reply(client, {}, ret, message=message)

    def _head(self, code: str) -> dict[str, Any]:
        self._seq[code] += 1
        time = self.clock.now() // (1_000_000 if self.seconds else 1000)
        kind = int if self.integers else str
        return {"code": code, "seq": kind(self._seq[code]), "tick_time": kind(time)}

    async def _push(self, cmd_id: int, subscribers: dict[Client, list[str]], data: dict[str, Any]) -> None:
        clients = [client for client, codes in subscribers.items() if data["code"] in codes]
        await self.send({"cmd_id": cmd_id, "data": data}, clients)

    # --- the provider ---

    def refuse(self, query: dict[str, str]) -> Refusal | None:
        if self.refusal is not None:
            return self.refusal
        if "token" not in query:
            return Refusal(401, b'{"msg":"token is required","ret":401}')
        if self._is_bad(query["token"]) and self.refuse_by == "http":
            return Refusal(401, b'{"msg":"token invalid","ret":401}')
        return None

    async def greet(self, client: Client) -> None:
        token = client.query["token"]
        if self._is_bad(token):
            await self._reply(client, {}, 401, close=True)
        elif sum(other.query["token"] == token for other in self.clients) > self.max_connections:
            await trio.aclose_forcefully(client.stream)
        client.patience.deadline = trio.current_time() + HEARTBEAT_TIMEOUT_S

    def heard(self, client: Client, message: Any) -> None:
        if isinstance(message, dict) and message.get("cmd_id") == HEARTBEAT:
            client.patience.deadline = trio.current_time() + HEARTBEAT_TIMEOUT_S

    async def answer(self, client: Client, message: Any) -> None:
        if self._is_too_soon(client):
            await self._reply(client, message, 606)
            return
        match message:
            case {"cmd_id": int(cmd_id), "seq_id": int(), "trace": str(trace), "data": dict(data)}:
                ret = 400 if len(trace) > 64 else self.refusals.get(cmd_id) or self._act(client, cmd_id, data)
                await self._reply(client, message, ret)
            case _:
                await self._reply(client, {}, 400)

    def forget(self, client: Client) -> None:
        self.depth.pop(client, None)
        self.trades.pop(client, None)

    def _act(self, client: Client, cmd_id: int, data: dict[str, Any]) -> int:
        if cmd_id == HEARTBEAT:
            return 200
        if cmd_id == CANCEL:
            self.forget(client)
            return 200
        if cmd_id not in {SUBSCRIBE_DEPTH, SUBSCRIBE_TRADES} or not isinstance(data.get("symbol_list"), list):
            return 400
        codes = [symbol["code"] for symbol in data["symbol_list"]]
        if not set(codes) <= self.codes:
            return 600
        # Replaced, not added to; and what is over the cap is ignored without a word.
        (self.depth if cmd_id == SUBSCRIBE_DEPTH else self.trades)[client] = codes[: self.max_symbols]
        return 200

    def _is_bad(self, token: str) -> bool:
        return self.tokens is not None and token not in self.tokens

    def _is_too_soon(self, client: Client) -> bool:
        token, now = client.query["token"], trio.current_time()
        last, who = self._last_request.get(token, (-math.inf, client))
        self._last_request[token] = now, client
        return now - last < (1.0 if who is client else 3.0)

    async def _reply(
        self, client: Client, request: Any, ret: int, *, message: str | None = None, close: bool = False
    ) -> None:
        request = request if isinstance(request, dict) else {}
        await self.send(
            {
                "ret": ret,
                "msg": MESSAGES.get(ret, "") if message is None else message,
                "cmd_id": request["cmd_id"] + 1 if "cmd_id" in request else 0,
                "seq_id": request.get("seq_id", 0),
                "trace": request.get("trace", ""),
                "data": {},
            },
            [client],
        )
        if close or ret == 606:
            client.nursery.start_soon(client.websocket.aclose)


def _level(price: Price) -> dict[str, str]:
    return {"price": str(price), "volume": "0"}


# --- as a process of its own ---


async def obey(standin: AllTickStandIn, command: str, *arguments: str) -> None:
    """Do what one line says."""
    match command, *arguments:
        case "push", bid:
            await standin.push(bid)
        case "push", bid, ask:
            await standin.push(bid, ask)
        case "trade", price:
            await standin.push_trade(price)
        case "mode", ("ok" | "stalled" | "garbling" | "frozen") as mode:
            standin.mode = mode
        case ("kill",):
            await standin.kill()
        case ("revive",):
            await standin.revive()
        case _:
            raise ValueError(f"no such command: {command} {arguments}")


async def main(port: int) -> None:
    """Serve until standard input ends."""
    standin = AllTickStandIn()
    standin.port = port
    async with standin.running():
        print(standin.port, flush=True)  # noqa: T201 — the caller reads it
        rest = b""
        async for chunk in trio.lowlevel.FdStream(os.dup(0)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await obey(standin, *line.decode().split())
                print("ok", flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    trio.run(main, parser.parse_args().port)
