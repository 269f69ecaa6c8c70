"""A stand-in for gold-api.com: what it answers, in its shapes; `tests/standins/http.py` serves it."""

from __future__ import annotations

import json

from tests.standins.http import Answer, Fault, Request

CAPTURED = (
    b'{"currency":"USD","currencySymbol":"$","exchangeRate":1.0,"name":"Gold","price":4392.0,"symbol":"XAU",'
    b'"updatedAt":"2026-08-18T13:29:35Z","updatedAtReadable":"a few seconds ago"}'
)
"""A live answer of 2026-08-18."""


class GoldApiStandIn:
    """Quotes gold; `fault`, while it is set, is what every request gets instead."""

    def __init__(self) -> None:
        self.fault: Answer | Fault | None = None
        self.max_age_s: int | None = None
        self._document: dict[str, object] = {}

    def quote(self, price: float, updated_at: str) -> None:
        """Set the price."""
        self._document = {**json.loads(CAPTURED), "price": price, "updatedAt": updated_at}

    def respond(self, request: Request) -> Answer | Fault:
        """The price of XAU; 404 for anything else."""
        if self.fault is not None:
            return self.fault
        if request.path != "/price/XAU":
            return Answer(b'{"error":"Symbol not found"}', 404)
        headers = {"Content-Type": "application/json", "Access-Control-Allow-Origin": "*"}
        if self.max_age_s is not None:
            headers["Cache-Control"] = f"public, max-age={self.max_age_s}"
        return Answer(json.dumps(self._document).encode(), headers=headers)
