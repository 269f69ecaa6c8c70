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
from aurexd.market import SECOND_US, EpochUs
from aurexd.protocol.codec import JSON, MSGPACK, Encoding, ping_frame
from aurexd.protocol.codes import CloseCode
from aurexd.settings import Settings
from tests.actors.lines import FakeClient
from tests.actors.probe import Probe

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
    encoding: Encoding = JSON, settings: Settings | None = None, **limits: Any
) -> AsyncIterator[Room]:
    """`limits` of the configuration, or `settings` to be changed later."""
    settings = settings or Settings(Config(limits=Limits(**limits)))
    told: list[object] = []
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            hub = await start_actor(nursery, Probe(told))
            clock = LoopClock(EpochUs(1_761_566_400 * SECOND_US))
            yield Room(FakeClient(hub, clock, encoding=encoding, settings=settings), told)
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
            "max_channels": 256,
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
    settings = Settings(Config(limits=Limits(max_messages_per_second=1)))
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
    settings = Settings(Config(heartbeat=Heartbeat(ping_interval_s=20, pong_timeout_s=10)))
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
