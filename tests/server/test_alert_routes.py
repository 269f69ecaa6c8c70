"""Alert rules over HTTP, from the route to the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from aurexd.actors.trio_actor import ask
from aurexd.identity import Identity, Scope
from aurexd.server.alerts import BODY_BYTES, AlertRoutes
from aurexd.server.credentials import scope_of
from tests.actors.test_alerts_actor import House, opened
from tests.test_alert_store import priced

RULES = "/api/v1/alerts"
CROSSES = {"symbol": "TESTGOLD", "condition": {"kind": "crosses_up", "level": 100}, "note": "sell"}


def identity(request: Request) -> Identity:
    return Identity(user=request.headers.get("x-user", "alice"), scopes=frozenset({Scope.ALERTS}))


async def asking(ref: Any, question: Any, timeout_s: float) -> Any:
    return await ask(ref, question, timeout_s=timeout_s)


def answer(body: Any, status: int) -> Response:
    return Response(msgspec.json.Encoder(decimal_format="number").encode(body), status)


@asynccontextmanager
async def serving(path: Path | None) -> AsyncIterator[tuple[House, httpx.AsyncClient]]:
    async with opened(path) as house:
        routes = AlertRoutes(
            alerts=house.alerts, persister=house.persister, owner=identity, ask=asking, answer=answer
        ).routes
        transport = httpx.ASGITransport(app=Starlette(routes=routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            yield house, client


async def test_a_rule_is_made_changed_fires_and_is_explained(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as (house, client):
        made = await client.post(RULES, json=CROSSES)
        assert made.status_code == 201
        rule_id = made.json()["rule"]["rule_id"]
        changed = await client.patch(f"{RULES}/{rule_id}", json={"note": "buy"})
        assert changed.json()["rule"]["note"] == "buy"
        listed = (await client.get(RULES, params={"symbol": "TESTGOLD"})).json()
        assert [rule["rule_id"] for rule in listed["rules"]] == [rule_id]
        assert (await client.get(RULES, params={"symbol": "GC"})).json() == {"rules": []}
        house.record(priced("99", 1), priced("101", 2))
        await house.told(bool)
        history = (await client.get(f"{RULES}/history")).json()
        [kept] = history["alerts"]
        assert (kept["alert"]["close"], kept["alert"]["note"], kept["acknowledged"]) == (101, "buy", None)
        alert_id = kept["alert"]["alert_id"]
        why = (await client.get(f"{RULES}/{alert_id}/why")).json()
        assert why["fires_when"] == "TESTGOLD: the price crosses 100 upwards; once"
        assert (why["previous"]["close"], why["price"]["close"], why["price"]["row"]) == (99, 101, 2)
        assert (await client.get(f"{RULES}/{alert_id}/why", headers={"x-user": "bob"})).status_code == 404
        acked = await client.post(f"{RULES}/ack", json={"alert_ids": [alert_id]})
        assert acked.json() == {"alert_ids": [alert_id]}
        assert (await client.get(f"{RULES}/history")).json()["alerts"][0]["acknowledged"]
        assert (await client.delete(f"{RULES}/{rule_id}")).status_code == 200
        assert (await client.delete(f"{RULES}/{rule_id}")).status_code == 404


async def test_history_leads_to_what_is_older(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as (house, client):
        await client.post(RULES, json=CROSSES | {"repeat": "every_time"})
        house.record(*(priced("101" if n % 2 else "99", n) for n in range(10)))
        await house.told(lambda told: len(told) == 5)
        page = (await client.get(f"{RULES}/history", params={"limit": 3})).json()
        assert page["next"] == f"{RULES}/history?before=3&limit=3"
        older = (await client.get(page["next"])).json()
        assert (len(older["alerts"]), older["next"]) == (2, None)


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{}", {"content-type": "text/plain"}, 415, "Content-Type: application/json"),
        (b"[" * 100_000, {}, 413, "larger than"),
        (b"{", {}, 400, "truncated"),
        (b"[" * (BODY_BYTES - 1), {}, 400, ""),
        (b'{"symbol": "TESTGOLD"}', {}, 400, "condition"),
        (b'{"symbol": "TESTGOLD", "condition": {"kind": "above", "level": -1}}', {}, 400, "level: expected"),
        (
            b'{"symbol": "TULIPS", "condition": {"kind": "above", "level": 1}}',
            {},
            400,
            "there is no 'TULIPS'",
        ),
    ],
)
async def test_what_cannot_be_a_rule_is_refused_with_why(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    async with serving(tmp_path / "a.db") as (_, client):
        answered = await client.post(
            RULES, content=body, headers={"content-type": "application/json", **headers}
        )
        assert answered.status_code == status
        assert says in answered.text


async def test_without_a_store_there_are_no_alerts() -> None:
    async with serving(None) as (_, client):
        for answered in (await client.post(RULES, json=CROSSES), await client.get(f"{RULES}/history")):
            assert answered.status_code == 503
            assert "set storage.url" in answered.text


def test_everything_about_alerts_needs_their_scope() -> None:
    for path in (RULES, f"{RULES}/history", f"{RULES}/r-1"):
        assert scope_of(path) is Scope.ALERTS
    for path in ("/api/v1/alertsx", "/api/v1/prices/latest"):
        assert scope_of(path) is Scope.READ
