"""A stand-in for Swissquote: what it answers, in its shapes; `tests/standins/http.py` serves it."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.standins.http import Answer, Fault, Request

PATH = "/public-quotes/bboquotes/instrument/"
CAPTURED = (
    b'[{"topo":{"platform":"SwissquoteLtd","server":"Live5"},"spreadProfilePrices":['
    b'{"spreadProfile":"premium","bidSpread":25.60,"askSpread":25.60,"bid":4389.049,"ask":4389.711},'
    b'{"spreadProfile":"prime","bidSpread":24.20,"askSpread":24.20,"bid":4389.063,"ask":4389.697},'
    b'{"spreadProfile":"elite","bidSpread":17.70,"askSpread":17.70,"bid":4389.128,"ask":4389.632}],'
    b'"ts":1787059781075},'
    b'{"topo":{"platform":"AT","server":"AT"},"spreadProfilePrices":['
    b'{"spreadProfile":"standard","bidSpread":27.00,"askSpread":27.00,"bid":4389.035,"ask":4389.725}],'
    b'"ts":1787059781075}]'
)
"""A live answer of 2026-08-18."""


def profile(name: str, bid: float, ask: float) -> dict[str, Any]:
    """One spread profile's prices."""
    return {"spreadProfile": name, "bidSpread": 17.7, "askSpread": 17.7, "bid": bid, "ask": ask}


def platform(ts: int | None, *profiles: dict[str, Any], name: str = "SwissquoteLtd") -> dict[str, Any]:
    """One platform's entry; without `ts` where that is None."""
    entry = {"topo": {"platform": name, "server": "Live5"}, "spreadProfilePrices": list(profiles)}
    return entry if ts is None else {**entry, "ts": ts}


class SwissquoteStandIn:
    """Quotes one pair as Swissquote does: several platforms and profiles, in an order that varies.

    `fault`, while it is set, is what every request gets instead.
    """

    def __init__(self, pair: str = "XAU/USD", *, seed: int = 1) -> None:
        self.fault: Answer | Fault | None = None
        self._pair = pair
        self._random = random.Random(seed)
        self._entries: list[dict[str, Any]] = []

    def quote(self, bid: float, ask: float, ts: int) -> None:
        """Set the best profile's prices; `ts` in milliseconds. The others' are worse, or older."""
        profiles = [profile("elite", bid, ask), profile("prime", bid - 0.05, ask + 0.05)]
        self._random.shuffle(profiles)
        self._entries = [
            platform(ts, *profiles),
            platform(ts, profile("standard", bid - 0.1, ask + 0.1), name="AT"),
            platform(ts - 500, profile("elite", bid - 1, ask + 1), name="SwissquoteCapitalMarkets"),
        ]

    def respond(self, request: Request) -> Answer | Fault:
        """An array for the pair, empty before the first quote; 404 for anything else."""
        if self.fault is not None:
            return self.fault
        if request.path != PATH + self._pair:
            return Answer(b"Not Found", 404)
        self._random.shuffle(self._entries)
        return Answer(json.dumps(self._entries).encode(), headers={"Content-Type": "application/json"})
