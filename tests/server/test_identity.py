"""Tokens over real sockets: the three ways to show one, what follows without, and that nobody ever reads one."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from aurexd import log
from aurexd.actors.messages import AlertFired
from aurexd.actors.trio_actor import tell_when_room
from aurexd.config.model import Limits
from aurexd.market import SECOND_US, EpochUs
from tests.issuer import KEY, START, STRANGER, ask_for_tokens, token
from tests.logging_state import restored_logging
from tests.server.loopback import JSON, MSGPACK, PATH, Served, serving
from tests.server.test_events import EVENTS, open_events
from tests.updates import alert

API = "/api/v1"
PRICE = "price:XAUUSD"
OLD = token(now=EpochUs(START - 7200 * SECOND_US))
FORGED = token(key=STRANGER)

header = "header"
subprotocol = "subprotocol"
message = "message"
each_way = pytest.mark.parametrize("way", [header, subprotocol, message])


async def show(served: Served, way: str, text: str, encoding: str = JSON) -> Any:
    """A client that shows a token in one of the three ways, and asks for nothing else."""
    if way == header:
        return await served.connect(encoding, headers=[("Authorization", f"Bearer {text}")])
    if way == subprotocol:
        return await served.connect(f"aurex.token.{text}", encoding)
    client = await served.connect(encoding)
    await client.send({"type": "auth", "id": "a", "data": {"token": text}})
    return client


def seconds(served: Served) -> float:
    """How long it has been served."""
    return (served.clock.now() - START) / SECOND_US


# --- the three ways ---


@each_way
@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_a_token_opens_a_session_in_each_of_three_ways(way: str, encoding: str) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await show(served, way, token(for_s=600), encoding)
        assert client.subprotocol == encoding
        welcome, authenticated = await client.messages(2)
        assert (welcome["type"], welcome["data"]["auth"]) == ("welcome", "token")
        assert authenticated["type"] == "authenticated"
        assert authenticated.get("id") == ("a" if way == message else None)
        assert authenticated["data"] == {
            "user": "alice",
            "scopes": ["read", "alerts"],
            "expires": "2025-10-27T12:10:00Z",
        }
        assert (await client.ask("subscribe", {"channels": [PRICE]}))["type"] == "subscribed"
        await served.publish("2706.93")
        assert (await client.message())["update_count"] == 1


@each_way
@pytest.mark.parametrize(
    ("text", "close", "code"),
    [(FORGED, 4500, "bad_token"), ("nonsense", 4500, "bad_token"), (OLD, 4006, "token_expired")],
    ids=["forged", "nonsense", "expired"],
)
async def test_a_token_that_is_not_valid_is_told_why_and_closed(
    way: str, text: str, close: int, code: str
) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await show(served, way, text)
        number, reason, seen = await client.closing()
        assert (number, reason["code"]) == (close, code)
        assert ("retry_after_ms" in reason) == (close == 4006)
        error = seen[-1]
        assert (error["type"], error["data"]["code"]) == ("error", code)
        assert "the token is not valid here: " in error["data"]["message"]
        assert [m["type"] for m in seen[:-1]] == (["welcome"] if way == message else [])
        assert (await (await show(served, way, token())).message())["type"] == "welcome"


async def test_a_token_in_the_url_is_refused_with_words() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await served.connect(JSON, path=f"{PATH}?token={token()}")
        number, _, (error,) = await client.closing()
        assert (number, error["data"]["code"]) == (4500, "bad_token")
        assert "stands in the URL, where logs and histories keep it" in error["data"]["message"]
        for target in (f"{API}/sources?access_token={token()}", f"{EVENTS}?token={token()}"):
            answer = await served.fetch(target)
            assert answer.status == 401
            assert "stands in the URL" in answer.json()["error"]["message"]


async def test_only_the_real_subprotocol_is_selected() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await served.connect(f"aurex.token.{token()}")
        assert client.subprotocol is None
        assert [m["type"] for m in await client.messages(3)] == ["welcome", "authenticated", "status"]


async def test_the_simplest_client_with_a_token_is_told_everything_without_asking() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        await served.publish("2706.93")
        client = await served.connect(headers=[("Authorization", f"Bearer {token()}")])
        seen = [m["type"] for m in await client.messages(4)]
        assert seen == ["welcome", "authenticated", "price_update", "status"]
        later = await served.connect()
        assert (await later.message())["type"] == "welcome"
        assert (await later.ask("auth", {"token": token()}))["type"] == "authenticated"
        seen = [m["type"] for m in await later.messages(3)]
        assert seen == ["subscribed", "price_update", "status"]


# --- without one ---


async def test_without_a_token_nothing_is_told_but_that_one_is_needed(loopback_clock: MockClock) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await served.connect()
        assert (await client.message())["type"] == "welcome"
        await served.publish("2706.93")
        error = await client.ask("subscribe", {"channels": [PRICE]})
        assert (error["id"], error["data"]["code"]) == (1, "unauthenticated")
        assert (await client.ask("ping", {}))["type"] == "pong"
        begin = trio.current_time()
        number, reason, seen = await client.closing()
        assert (number, reason) == (4008, {"code": "auth_timeout"})
        assert [m["type"] for m in seen if m["type"] != "heartbeat"] == ["error"]
        assert 10 <= trio.current_time() - begin <= 16


async def test_a_client_that_only_sends_pings_is_closed_all_the_same(loopback_clock: MockClock) -> None:
    async with serving(limits=Limits(auth_timeout_s=3)) as served:
        ask_for_tokens(served.settings)
        client = await served.connect(JSON)
        served.nursery.start_soon(_keep_pinging, client)
        assert (await client.closing())[0] == 4008


async def _keep_pinging(client: Any) -> None:
    for _ in range(20):
        await client.ping()
        await client.send({"type": "ping", "data": {}})
        await trio.sleep(0.5)


# --- expiry ---


async def test_a_session_is_warned_renewed_and_at_last_closed(loopback_clock: MockClock) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings, expiry_warning_s=60)
        client = await show(served, header, token(for_s=70))
        await client.messages(2)
        assert (await client.until("token_expiring"))["data"] == {"expires": "2025-10-27T12:01:10Z"}
        assert 10 <= seconds(served) <= 16
        await client.send({"type": "auth", "id": 2, "data": {"token": token(for_s=150)}})
        assert (await client.until("authenticated"))["data"]["expires"] == "2025-10-27T12:02:30Z"
        assert (await client.until("token_expiring"))["data"] == {"expires": "2025-10-27T12:02:30Z"}
        number, reason, _ = await client.closing()
        assert (number, reason["code"]) == (4006, "token_expired")
        assert reason["retry_after_ms"] > 0
        assert 150 <= seconds(served) <= 156


async def test_when_a_key_goes_its_sessions_go(loopback_clock: MockClock) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await show(served, subprotocol, token())
        await client.messages(2)
        ask_for_tokens(served.settings, STRANGER)
        assert (await client.closing())[0] == 4006
        assert (await (await show(served, header, token())).closing())[0] == 4500
        assert (await (await show(served, header, FORGED)).message())["type"] == "welcome"


# --- scopes and users ---


async def test_alerts_go_to_their_owner_wherever_he_is() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        alice, bob = [await show(served, header, token(user)) for user in ("alice", "bob")]
        for client in (alice, bob):
            await client.messages(2)
            assert (await client.ask("subscribe", {"channels": ["alert"]}))["type"] == "subscribed"
        await tell_when_room(served.hub, AlertFired(owner="bob", alert=alert(1).data))
        assert (await bob.message())["type"] == "alert"
        assert (await alice.ask("ping", {}))["type"] == "pong"


async def test_without_the_scope_it_is_forbidden_and_the_session_goes_on() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        client = await show(served, header, token(scopes=["read"]))
        await client.messages(2)
        error = await client.ask("subscribe", {"channels": [PRICE, "alert"]})
        assert (error["id"], error["data"]["code"]) == (1, "forbidden")
        await served.publish("1.00")
        assert (await client.ask("ping", {}))["type"] == "pong"


@each_way
async def test_users_have_so_many_sessions_from_wherever(way: str) -> None:
    limits = Limits(max_connections_per_ip=2, max_connections_per_user=3)
    async with serving(limits=limits) as served:
        ask_for_tokens(served.settings)
        clients = [await show(served, way, token()) for _ in range(3)]
        for client in clients:
            assert [m["type"] for m in await client.messages(2)] == ["welcome", "authenticated"]
        number, reason, seen = await (await show(served, way, token())).closing()
        assert (number, reason["code"]) == (4004, "too_many_connections")
        data = seen[-1]["data"]
        assert data["code"] == "too_many_connections"
        assert data["message"] == "more than 3 connections of this user"
        assert [m["type"] for m in await (await show(served, way, token("bob"))).messages(2)][
            1
        ] == "authenticated"
        await clients[0].close()
        assert [m["type"] for m in await (await show(served, way, token())).messages(2)][1] == "authenticated"


async def test_who_has_shown_no_token_is_counted_by_address() -> None:
    async with serving(limits=Limits(max_connections_per_ip=1)) as served:
        ask_for_tokens(served.settings)
        first = await served.connect(JSON)
        await first.message()
        assert (await (await served.connect(JSON)).closing())[0] == 4004
        assert (await first.ask("auth", {"token": token()}))["type"] == "authenticated"
        assert (await (await served.connect(JSON)).message())["type"] == "welcome"


# --- HTTP ---

PUBLIC = ["/", "/healthz", "/readyz", f"{API}/openapi.json", f"{API}/asyncapi.json"]
GUARDED = [
    f"{API}/prices/latest",
    f"{API}/prices/history",
    f"{API}/sources",
    f"{API}/ws/stats",
    f"{API}/new",
]


@pytest.mark.parametrize("path", PUBLIC)
async def test_health_the_page_and_the_schemas_need_no_token(path: str) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        assert (await served.fetch(path)).status == 200


async def test_the_files_of_the_page_need_none_either() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        assert (await served.fetch("/page/none.js")).status == 404


@pytest.mark.parametrize("path", GUARDED)
async def test_all_else_does_be_it_there_or_not(path: str) -> None:
    async with serving() as served:
        open_status = (await served.fetch(path)).status
        ask_for_tokens(served.settings)
        for headers, status, challenge in [
            ({}, 401, "Bearer"),
            ({"Authorization": "Basic YTpi"}, 401, "Bearer"),
            ({"Authorization": f"Bearer {FORGED}"}, 401, 'Bearer error="invalid_token"'),
            ({"Authorization": f"Bearer {OLD}"}, 401, 'Bearer error="invalid_token"'),
            (
                {"Authorization": f"Bearer {token(scopes=['alerts', 'admin'])}"},
                403,
                'Bearer error="insufficient_scope", scope="read"',
            ),
        ]:
            answer = await served.fetch(path, headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (status, challenge)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json()["error"]["status"] == status
        answer = await served.fetch(path, headers={"Authorization": f"Bearer {token()}"})
        assert answer.status == open_status


async def test_a_path_that_is_written_otherwise_is_no_way_around() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        for path in (
            "/%61pi/v1/sources",
            "/api/v1/sources/",
            "//api/v1/sources",
            "/page/../api/v1/sources",
            "/page/..%2fapi/v1/sources",
            "/api/v1/openapi.json/../sources",
            "/API/v1/sources",
        ):
            assert (await served.fetch(path)).status in (401, 404)
        assert (await served.fetch(f"{API}/sources", "HEAD")).status == 401


async def test_two_authorizations_are_none() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        head = f"GET {API}/sources HTTP/1.1\r\nHost: x\r\n" + f"Authorization: Bearer {token()}\r\n" * 2
        (answer,) = await served.say(f"{head}\r\n".encode())
        assert answer.status == 401


# --- the event stream ---


async def test_the_event_stream_asks_for_a_token_too() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        answer = await served.fetch(EVENTS)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        answer = await served.fetch(EVENTS, headers={"Authorization": f"Bearer {token(scopes=['alerts'])}"})
        assert answer.status == 403
        answer = await served.fetch(
            f"{EVENTS}?channels=alert", headers={"Authorization": f"Bearer {token(scopes=['read'])}"}
        )
        assert answer.status == 403
        assert "the scope 'alerts'" in answer.json()["error"]["message"]
        source = await open_events(served, headers={"Authorization": f"Bearer {token()}"})
        assert [(await source.message())["type"] for _ in range(3)] == ["welcome", "authenticated", "status"]


async def test_an_event_stream_is_warned_and_ends_with_its_token(loopback_clock: MockClock) -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        source = await open_events(served, headers={"Authorization": f"Bearer {token(for_s=90)}"})
        seen = []
        while event := await source.message():
            if event["type"] != "heartbeat":
                seen.append(event)
        assert [event["type"] for event in seen] == [
            "welcome",
            "authenticated",
            "status",
            "token_expiring",
            "error",
        ]
        assert seen[-1]["data"]["code"] == "token_expired"
        assert 90 <= seconds(served) <= 96


async def test_an_event_stream_counts_as_a_session_of_its_user() -> None:
    async with serving(limits=Limits(max_connections_per_user=1)) as served:
        ask_for_tokens(served.settings)
        source = await open_events(served, headers={"Authorization": f"Bearer {token()}"})
        await source.message()
        assert (await (await show(served, header, token())).closing())[0] == 4004


# --- nobody reads one ---


async def test_no_token_is_ever_in_the_log_or_in_an_answer() -> None:
    tokens = [token(), FORGED, OLD, token("bob"), token(scopes=["alerts"])]
    stream = io.TextIOWrapper(io.BytesIO())
    with restored_logging():
        log.configure("debug", "json", stream=stream)
        async with serving(limits=Limits(max_connections_per_user=1, max_connections_per_ip=0)) as served:
            ask_for_tokens(served.settings)
            heard: list[Any] = []
            for text in tokens:
                for way in (header, subprotocol, message):
                    client = await show(served, way, text)
                    try:
                        heard += await client.messages(2)
                        await client.send({"type": "auth", "data": {"token": text, "surprise": 1}})
                        await client.send({"type": text, "data": {}})
                        await client.send({"type": "auth", "data": {"token": [text]}})
                        heard += await client.messages(2)
                        await client.close()
                    except Exception as error:
                        heard.append(repr(error))
                client = await served.connect(JSON, path=f"{PATH}?token={text}")
                heard.append(await client.closing())
                for target in (
                    f"{API}/sources",
                    f"{API}/sources?token={text}",
                    EVENTS + f"?token={text}",
                    f"/{text}",
                ):
                    answer = await served.fetch(target, headers={"Authorization": f"Bearer {text}"})
                    heard.append(answer.body.decode())
            bad = [
                "Upgrade: websocket",
                f"Sec-WebSocket-Protocol: aurex.token.{token()}",
                f"Authorization: Bearer {token()}",
            ]
            await served.say("\r\n".join([f"GET {PATH} HTTP/1.1", "Host: x", *bad, "", ""]).encode())
    written = stream.buffer.getvalue().decode()
    assert "session_refused" in written
    for text in tokens:
        signature = text.rpartition(".")[2]
        assert signature not in written
        assert signature not in json.dumps(heard)


async def test_a_refusal_is_logged_with_its_reason() -> None:
    async with serving() as served:
        ask_for_tokens(served.settings)
        with structlog.testing.capture_logs() as logs:
            await (await show(served, header, FORGED)).closing()
        (entry,) = logs
        assert entry["event"] == "session_refused"
        assert (
            entry["reason"]
            == f"the token is not valid here: its signature is not of the key {KEY.id}, or it was changed"
        )
