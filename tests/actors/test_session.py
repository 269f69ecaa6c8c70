"""What one client may do, and how fast: a session on a fake line, in virtual time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from aurexd.actors.messages import SendSnapshot, Subscribe, Unsubscribe
from aurexd.actors.session import BURST_SECONDS, OFFENCES
from aurexd.actors.trio_actor import start_actor
from aurexd.clock import LoopClock
from aurexd.config.model import Config, Heartbeat, Limits
from aurexd.identity import ANYBODY, Identity
from aurexd.market import SECOND_US, EpochUs
from aurexd.protocol.codec import JSON, MSGPACK, Encoding, ping_frame
from aurexd.protocol.codes import CloseCode
from aurexd.settings import Settings
from aurexd.tokens import Algorithm, read_key
from tests.actors.lines import SYMBOLS, FakeClient
from tests.actors.probe import Probe
from tests.issuer import KEY, START, ask_for_tokens, token

PING = '{"type":"ping","id":1}'


class Room:
    """One client, and what its session told the hub."""

    def __init__(self, client: FakeClient, told: list[object]) -> None:
        self.client = client
        self.told = told

    async def say(self, payload: str | bytes | dict[str, Any]) -> list[dict[str, Any]]:
        """Say something; the answers."""
        text = json.dumps(payload) if isinstance(payload, dict) else payload
        await self.client.session.receive(text)
        await trio.testing.wait_all_tasks_blocked()
        return self.client.line.take()

    async def is_heard(self) -> bool:
        return [m["type"] for m in await self.say(PING)] == ["pong"]


@contextlib.asynccontextmanager
async def room(
    encoding: Encoding = JSON,
    settings: Settings | None = None,
    identity: Identity | None = ANYBODY,
    **limits: Any,
) -> AsyncIterator[Room]:
    """`limits` of the configuration, or `settings` to be changed later."""
    settings = settings or Settings(Config(symbols=SYMBOLS, limits=Limits(**limits)))
    told: list[object] = []
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            hub = await start_actor(nursery, Probe(told))
            clock = LoopClock(EpochUs(1_761_566_400 * SECOND_US))
            yield Room(FakeClient(hub, clock, encoding=encoding, settings=settings, identity=identity), told)
            nursery.cancel_scope.cancel()


async def test_the_welcome_says_what_the_client_may_rely_on(autojump_clock: object) -> None:
    async with room(max_messages_per_second=7, max_message_bytes=1000, send_queue_bytes=2000) as r:
        r.client.session.greet("e1")
        (welcome,) = r.client.line.take()
        data = welcome["data"]
        assert (welcome["type"], data["session"], data["epoch"]) == ("welcome", "s1", "e1")
        assert data["limits"] == {
            "max_messages_per_second": 7,
            "max_message_bytes": 1000,
            "max_control_frames_per_second": 10,
            "max_channels": 256,
            "idle_timeout_s": 300,
            "send_queue_bytes": 2000,
        }
        heartbeat = Heartbeat()
        assert data["heartbeat"] == {
            "silence_s": heartbeat.silence_s,
            "ping_interval_s": heartbeat.ping_interval_s,
            "pong_timeout_s": heartbeat.pong_timeout_s,
        }


@pytest.mark.parametrize(
    ("kind", "message"),
    [("subscribe", Subscribe), ("unsubscribe", Unsubscribe), ("snapshot", SendSnapshot)],
)
async def test_what_concerns_channels_is_the_hubs_to_do(
    autojump_clock: object, kind: str, message: type[Subscribe | Unsubscribe | SendSnapshot]
) -> None:
    async with room() as r:
        assert await r.say({"type": kind, "id": "x", "data": {"channels": ["price:XAUUSD"]}}) == []
        assert r.told == [message(session=r.client.session, channels=("price:XAUUSD",), request_id="x")]


async def test_what_is_wrong_is_answered_and_the_session_goes_on(autojump_clock: object) -> None:
    async with room() as r:
        for wrong in (
            "{",
            "[]",
            '{"type":"dance","id":3}',
            '{"type":"subscribe","data":{"channels":["a:b"]}}',
        ):
            (error,) = await r.say(wrong)
            assert error["type"] == "error"
        assert await r.is_heard()
        assert (r.client.closed, r.told) == ([], [])


async def test_the_wrong_kind_of_frame_ends_the_session(autojump_clock: object) -> None:
    async with room() as r:
        (error,) = await r.say(b"\x80")
        assert error["data"]["code"] == "unsupported_data"
        assert r.client.closed == [CloseCode.UNSUPPORTED_DATA]
        assert await r.say(PING) == []


async def test_a_burst_is_fine_and_the_message_after_it_is_not_acted_on(autojump_clock: object) -> None:
    async with room(max_messages_per_second=10) as r:
        for _ in range(int(10 * BURST_SECONDS)):
            assert await r.is_heard()
        (error,) = await r.say({"type": "subscribe", "id": "late", "data": {"channels": ["price:XAUUSD"]}})
        assert (error["id"], error["data"]["code"]) == ("late", "rate_limited")
        assert r.told == []
        await trio.sleep(error["data"]["retry_after_ms"] / 1000)
        assert await r.is_heard()


async def test_whoever_waits_as_long_as_he_is_told_is_never_closed(autojump_clock: object) -> None:
    async with room(max_messages_per_second=10) as r:
        for _ in range(3 * OFFENCES):
            while not (answers := await r.say(PING)) or answers[0]["type"] != "error":
                assert answers
            await trio.sleep(answers[0]["data"]["retry_after_ms"] / 1000)
            assert await r.is_heard()
            await trio.sleep(BURST_SECONDS)
        assert r.client.closed == []


async def test_another_rate_holds_from_the_next_message_on(autojump_clock: object) -> None:
    settings = Settings(Config(symbols=SYMBOLS, limits=Limits(max_messages_per_second=1)))
    async with room(settings=settings) as r:
        while await r.is_heard():
            pass
        settings.replace(Config(limits=Limits(max_messages_per_second=10)))
        await trio.sleep(1)
        assert [await r.is_heard() for _ in range(11)] == [True] * 10 + [False]
        settings.replace(Config(limits=Limits(max_messages_per_second=1)))
        await trio.sleep(10)
        assert [await r.is_heard() for _ in range(3)] == [True, True, False]
        (error,) = await r.say(PING)
        assert error["data"]["message"].startswith("more than 1 messages a second")


@pytest.mark.parametrize("times_the_rate", [2, 5, 100])
async def test_a_persistent_offender_is_closed(autojump_clock: object, times_the_rate: int) -> None:
    async with room(max_messages_per_second=10) as r:
        begin = trio.current_time()
        while not r.client.closed:
            await r.say(PING)
            await trio.sleep(1 / (10 * times_the_rate))
            assert trio.current_time() - begin < 10
        assert r.client.closed == [CloseCode.RATE_LIMITED]
        assert await r.say(PING) == []


async def test_whoever_keeps_to_the_rate_is_never_refused(autojump_clock: object) -> None:
    async with room(max_messages_per_second=10) as r:
        for _ in range(300):
            assert await r.is_heard()
            await trio.sleep(0.1001)


async def test_a_rate_below_one_a_second_lets_a_message_through_at_all(autojump_clock: object) -> None:
    async with room(max_messages_per_second=0.1) as r:
        assert await r.is_heard()
        assert not await r.is_heard()
        await trio.sleep(10.001)
        assert await r.is_heard()


async def test_a_messagepack_client_is_told_which_message_was_too_many(autojump_clock: object) -> None:
    async with room(MSGPACK, max_messages_per_second=0.5) as r:
        ping = b"\x82\xa4type\xa4ping\xa2id\x05"
        assert [m["type"] for m in await r.say(ping)] == ["pong"]
        (error,) = await r.say(ping)
        assert (error["id"], error["data"]["code"]) == (5, "rate_limited")


async def test_the_first_reason_to_close_stands(autojump_clock: object) -> None:
    async with room() as r:
        r.client.session.close(CloseCode.SLOW_CONSUMER)
        r.client.session.close(CloseCode.GOING_AWAY)
        assert r.client.closed == [CloseCode.SLOW_CONSUMER]
        assert r.client.session.closing is CloseCode.SLOW_CONSUMER


async def test_a_connection_that_is_gone_is_not_closed(autojump_clock: object) -> None:
    async with room() as r:
        r.client.session.end()
        r.client.session.close(CloseCode.HEARTBEAT_TIMEOUT)
        assert r.client.closed == []


async def test_too_many_bytes_of_answers_end_the_session(autojump_clock: object) -> None:
    async with room(send_queue_bytes=1024, max_messages_per_second=1000) as r:
        r.client.line.full = True
        said = 0
        while not r.client.closed:
            assert r.client.line.lossless_bytes <= 1024
            await r.say(PING)
            said += 1
        assert r.client.closed == [CloseCode.SLOW_CONSUMER]
        assert said > 5


async def test_a_ping_goes_out_once_per_silence(autojump_clock: object) -> None:
    async with room() as r:
        session, line = r.client.session, r.client.line
        sent: list[bytes] = []
        line.send_frame = sent.append  # type: ignore[method-assign, assignment]
        for _ in range(3):
            heard = trio.current_time()
            r.client.hear()
            session.check_alive(heard + 19.9)
            assert sent == []
            for later in (20, 21, 29.9):
                session.check_alive(heard + later)
            assert sent == [ping_frame()]
            sent.clear()
            await trio.sleep(25)
        assert r.client.closed == []
        session.check_alive(heard + 30)
        assert r.client.closed == [CloseCode.HEARTBEAT_TIMEOUT]


@pytest.mark.parametrize(
    ("now", "ping_at", "closed_after"),
    [
        (Heartbeat(ping_interval_s=5, pong_timeout_s=2), 5, 10),
        (Heartbeat(ping_interval_s=60, pong_timeout_s=30), 20, 30),
    ],
    ids=["shorter", "longer"],
)
async def test_a_session_keeps_what_its_welcome_promised_when_the_heartbeat_changes(
    autojump_clock: object, now: Heartbeat, ping_at: float, closed_after: float
) -> None:
    """Pinged sooner it may be, but never later, and it has its time to answer."""
    settings = Settings(Config(symbols=SYMBOLS, heartbeat=Heartbeat(ping_interval_s=20, pong_timeout_s=10)))
    async with room(settings=settings) as r:
        session, line = r.client.session, r.client.line
        sent: list[bytes] = []
        line.send_frame = sent.append  # type: ignore[method-assign, assignment]
        settings.replace(Config(heartbeat=now))
        heard = trio.current_time()
        session.check_alive(heard + ping_at - 0.1)
        assert sent == []
        session.check_alive(heard + ping_at)
        assert sent == [ping_frame()]
        session.check_alive(heard + ping_at + closed_after - 0.1)
        assert r.client.closed == []
        session.check_alive(heard + ping_at + closed_after)
        assert r.client.closed == [CloseCode.HEARTBEAT_TIMEOUT]


# --- tokens ---


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


def asking(expiry_warning_s: float = 60, leeway_s: float = 0, **limits: Any) -> Settings:
    settings = Settings(Config(symbols=SYMBOLS, limits=Limits(**limits)))
    return ask_for_tokens(settings, leeway_s=leeway_s, expiry_warning_s=expiry_warning_s)


def bearer(settings: Settings, **claims: Any) -> Identity:
    assert settings.authority is not None
    return settings.authority.verify(token(**claims), START)


def show(text: str) -> dict[str, Any]:
    return {"type": "auth", "id": "a", "data": {"token": text}}


async def live(r: Room, seconds: float) -> list[dict[str, Any]]:
    """Let so much time pass, with the hub's patrol; what the client is sent meanwhile, pings apart."""
    end = trio.current_time() + seconds
    sent: list[dict[str, Any]] = []
    while (left := end - trio.current_time()) > 0:
        await trio.sleep(min(1.0, left))
        r.client.hear()
        r.client.session.check_alive(trio.current_time())
        sent += r.client.line.take()
    return sent


async def test_the_welcome_says_that_a_token_is_asked_for_and_how_long(autojump_clock: object) -> None:
    async with room(settings=asking(auth_timeout_s=7), identity=None) as r:
        r.client.session.greet("e1")
        (welcome,) = r.client.line.take()
        assert (welcome["data"]["auth"], welcome["data"]["limits"]["auth_timeout_s"]) == ("token", 7)
    async with room() as r:
        r.client.session.greet("e1")
        (welcome,) = r.client.line.take()
        assert welcome["data"]["auth"] == "open"


async def test_who_came_with_a_token_is_told_after_the_welcome_who_he_is(autojump_clock: object) -> None:
    settings = asking()
    async with room(settings=settings, identity=bearer(settings)) as r:
        r.client.session.greet("e1")
        welcome, authenticated = r.client.line.take()
        assert (welcome["type"], authenticated["type"]) == ("welcome", "authenticated")
        assert "id" not in authenticated
        assert authenticated["data"] == {
            "user": "alice",
            "scopes": ["read", "alerts"],
            "expires": "2025-10-27T13:00:00Z",
        }


async def test_who_shows_no_token_in_time_is_told_and_closed(autojump_clock: object) -> None:
    async with room(settings=asking(auth_timeout_s=10), identity=None) as r:
        assert await live(r, 9.9) == []
        assert await r.is_heard()
        assert r.client.closed == []
        (error,) = await live(r, 1)
        assert (error["type"], error["data"]["code"]) == ("error", "unauthenticated")
        assert "id" not in error
        assert error["data"]["message"] == "no token was shown within 10 s"
        assert await live(r, 60) == []
        assert r.client.closed == [CloseCode.AUTH_TIMEOUT]


async def test_who_shows_one_in_time_stays(autojump_clock: object) -> None:
    async with room(settings=asking(auth_timeout_s=10), identity=None) as r:
        await live(r, 9)
        (authenticated,) = await r.say(show(token()))
        assert (authenticated["type"], authenticated["id"]) == ("authenticated", "a")
        assert r.client.session.identity is not None
        assert (r.client.session.identity.user, r.client.session.owner) == ("alice", "alice")
        await live(r, 60)
        assert r.client.closed == []


async def test_a_token_that_is_not_valid_is_answered_and_ends_the_session(autojump_clock: object) -> None:
    for text, code, close in [
        ("nonsense", "bad_token", CloseCode.BAD_TOKEN),
        (token(now=EpochUs(START - 7200 * SECOND_US)), "token_expired", CloseCode.TOKEN_EXPIRED),
    ]:
        async with room(settings=asking(), identity=None) as r:
            (error,) = await r.say(show(text))
            assert (error["type"], error["id"], error["data"]["code"]) == ("error", "a", code)
            assert r.client.closed == [close]
            assert await r.say(show(token())) == []


async def test_a_user_with_too_many_sessions_is_told_and_closed(autojump_clock: object) -> None:
    async with room(settings=asking(), identity=None) as r:
        r.client.full_for.add("alice")
        (error,) = await r.say(show(token()))
        assert (error["id"], error["data"]) == ("a", {"code": "too_many_connections", "message": "too many"})
        assert r.client.closed == [CloseCode.TOO_MANY_CONNECTIONS]
        assert r.told == []


@pytest.mark.parametrize("leeway_s", [0, 30])
async def test_a_session_is_warned_before_its_token_expires_and_closed_after(
    autojump_clock: object, leeway_s: float
) -> None:
    settings = asking(expiry_warning_s=60, leeway_s=leeway_s)
    async with room(settings=settings, identity=bearer(settings, for_s=300)) as r:
        assert await live(r, 239) == []
        (warning,) = await live(r, 2)
        assert (warning["type"], warning["data"]) == ("token_expiring", {"expires": "2025-10-27T12:05:00Z"})
        assert await live(r, 58 + leeway_s) == [], "it is said once"
        assert r.client.closed == []
        await live(r, 2)
        assert r.client.closed == [CloseCode.TOKEN_EXPIRED]


async def test_a_token_that_is_short_lived_is_warned_of_at_once(autojump_clock: object) -> None:
    settings = asking()
    async with room(settings=settings, identity=bearer(settings, for_s=20)) as r:
        assert kinds(await live(r, 1)) == ["token_expiring"]


async def test_the_warning_can_be_switched_off(autojump_clock: object) -> None:
    settings = asking(expiry_warning_s=0)
    async with room(settings=settings, identity=bearer(settings, for_s=20)) as r:
        assert await live(r, 21) == []
        assert r.client.closed == [CloseCode.TOKEN_EXPIRED]


async def test_a_new_token_renews_the_session_and_the_next_warning_is_of_that(autojump_clock: object) -> None:
    settings = asking()
    async with room(settings=settings, identity=bearer(settings, for_s=100)) as r:
        assert kinds(await live(r, 50)) == ["token_expiring"]
        (authenticated,) = await r.say(show(token(for_s=200)))
        assert authenticated["data"]["expires"] == "2025-10-27T12:03:20Z"
        assert r.told == [], "nothing else changes"
        assert await live(r, 89) == []
        assert kinds(await live(r, 2)) == ["token_expiring"]
        await live(r, 60)
        assert r.client.closed == [CloseCode.TOKEN_EXPIRED]


@pytest.mark.parametrize(
    ("text", "code"),
    [("nonsense", "bad_token"), (token(user="bob"), "forbidden"), (token(for_s=1), "token_expired")],
)
async def test_a_token_that_cannot_renew_leaves_the_old_one(
    autojump_clock: object, text: str, code: str
) -> None:
    settings = asking()
    async with room(settings=settings, identity=bearer(settings, for_s=100)) as r:
        await live(r, 5)
        (error,) = await r.say(show(text))
        assert (error["id"], error["data"]["code"]) == ("a", code)
        assert await r.is_heard()
        await live(r, 94)
        assert r.client.closed == []
        await live(r, 2)
        assert r.client.closed == [CloseCode.TOKEN_EXPIRED]


async def test_what_a_new_token_does_not_allow_is_taken_from_the_session(autojump_clock: object) -> None:
    settings = asking()
    async with room(settings=settings, identity=bearer(settings)) as r:
        await r.say({"type": "subscribe", "data": {"channels": ["alert", "price:XAUUSD"]}})
        r.told.clear()
        (authenticated,) = await r.say(show(token(scopes=["read"])))
        assert authenticated["data"]["scopes"] == ["read"]
        assert r.told == [Unsubscribe(session=r.client.session, channels=("alert",), request_id=None)]


async def test_who_loses_his_key_has_to_come_back(autojump_clock: object) -> None:
    settings = asking()
    async with room(settings=settings, identity=bearer(settings)) as r:
        fresh = read_key("k2", Algorithm.HS256, b"another secret, which is as long as the first")
        ask_for_tokens(settings, KEY, fresh)
        assert await live(r, 10) == []
        ask_for_tokens(settings, fresh)
        await live(r, 1)
        assert r.client.closed == [CloseCode.TOKEN_EXPIRED]


async def test_a_client_without_a_token_has_no_more_messages_than_others(autojump_clock: object) -> None:
    async with room(settings=asking(max_messages_per_second=1), identity=None) as r:
        for _ in range(2):
            (error,) = await r.say({"type": "subscribe", "data": {"channels": ["price:XAUUSD"]}})
            assert error["data"]["code"] == "unauthenticated"
        (error,) = await r.say(show(token()))
        assert error["data"]["code"] == "rate_limited"
        assert r.client.session.identity is None
