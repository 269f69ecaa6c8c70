"""A stand-in for Yahoo Finance's push stream, version 2: base64 protobuf in JSON, and no answers."""

from __future__ import annotations

import base64
import ssl
from typing import Any

import trio

from aurexd.clock import Clock
from aurexd.sources.yahoo_stream import PricingData
from tests.standins.websocket import Client, WebSocketStandIn

FUTURE = 18
REGULAR = 1


def frame(code: str, price: float, time_ms: int, **fields: Any) -> dict[str, Any]:
    """One message, as Yahoo sends it; `fields` are PricingData's, and replace what stands here."""
    given = {"id": code, "price": price, "time": time_ms, "quote_type": FUTURE, "price_hint": 2}
    pricing = PricingData(**{**given, **fields}).SerializeToString()
    return {"type": "pricing", "message": base64.b64encode(pricing).decode()}


class YahooStreamStandIn(WebSocketStandIn):
    """The stream. It closes connections that were not heard of for `patience_s`."""

    path = "/?version=2"

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        seed: int = 1,
        patience_s: float = 1200.0,
    ) -> None:
        super().__init__(tls=tls, clock=clock, seed=seed)
        self.patience_s = patience_s
        self.delay_s = 600
        """How late its prices are."""
        self.subscribed: dict[Client, set[str]] = {}

    async def push(self, price: float, *, code: str = "GC=F", **fields: Any) -> None:
        """Push a price to those who subscribed to it."""
        clients = [client for client, codes in self.subscribed.items() if code in codes]
        time_ms = self.clock.now() // 1000 - self.delay_s * 1000
        await self.send(frame(code, price, time_ms, **fields), clients)

    async def greet(self, client: Client) -> None:
        self.heard(client, None)

    def heard(self, client: Client, message: Any) -> None:
        del message
        client.patience.deadline = trio.current_time() + self.patience_s

    async def answer(self, client: Client, message: Any) -> None:
        match message:
            case {"subscribe": list(codes)}:
                self.subscribed.setdefault(client, set()).update(codes)
            case {"unsubscribe": list(codes)}:
                self.subscribed.setdefault(client, set()).difference_update(codes)

    def forget(self, client: Client) -> None:
        self.subscribed.pop(client, None)
