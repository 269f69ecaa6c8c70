from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pykka
import trio
from structlog.testing import capture_logs

from aurexd.actors.messages import (
    GetSource,
    PauseSource,
    ResumeSource,
    SourceState,
    SourceStatus,
    TickReceived,
)
from aurexd.actors.source import Source
from aurexd.actors.trio_actor import ask, start_actor
from aurexd.backoff import Backoff
from aurexd.calendar import METALS_CALENDAR
from aurexd.clock import LoopClock
from aurexd.errors import FeedError
from aurexd.market import EpochUs, Instrument, parse_time
from aurexd.sources.base import Feed, Provider, SourceSettings, Subscription, Traits
from tests.actors.probe import Probe

Script = Callable[[Feed], Awaitable[None]]


class Scripted(Provider[SourceSettings]):
    """A provider that does what each attempt's script says; the last script repeats."""

    traits = Traits(stale_after_s=5.0, silence_s=30.0, reconnect=Backoff(floor_s=3.0, base_s=1.0, cap_s=60.0))

    def __init__(self, *scripts: Script) -> None:
        settings = SourceSettings(name="scripted", type="scripted", symbols={"XAUUSD": "GOLD"})
        super().__init__(settings, update_interval_s=5.0)
        self._scripts = list(scripts)
        self.attempts: list[float] = []

    async def run(self, feed: Feed) -> None:
        self.attempts.append(trio.current_time())
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        await script(feed)


class Silent(Scripted):
    traits = Traits(
        stale_after_s=5.0, silence_s=math.inf, reconnect=Backoff(floor_s=3.0, base_s=1.0, cap_s=60.0)
    )


class Resting(Scripted):
    traits = Traits(
        stale_after_s=5.0,
        silence_s=30.0,
        rests_when_closed=True,
        reconnect=Backoff(floor_s=3.0, base_s=1.0, cap_s=60.0),
    )


async def refuse(_feed: Feed) -> None:
    raise FeedError("connection refused")


async def say_nothing(feed: Feed) -> None:
    feed.connected()
    await trio.sleep_forever()


async def heartbeat_only(feed: Feed) -> None:
    feed.connected()
    while True:
        await trio.sleep(10)
        feed.heard()


async def tick_every_second(feed: Feed) -> None:
    feed.connected()
    while True:
        await feed.tick("GOLD", source_time=feed.clock.now(), last=Decimal("2000.5"))
        await trio.sleep(1)


@asynccontextmanager
async def running(provider: Scripted, start: str = "2023-11-14T12:00:00Z", *, paused: bool = False) -> Any:
    messages: list[object] = []
    async with trio.open_nursery() as nursery:
        probe = await start_actor(nursery, Probe(messages))
        source = Source(
            provider,
            (
                Subscription(
                    symbol="XAUUSD",
                    code="GOLD",
                    instrument=Instrument.SPOT,
                    decimals=2,
                    calendar=METALS_CALENDAR,
                ),
            ),
            probe,
            clock=LoopClock(parse_time(start)),
            rng=random.Random(1),
            paused=paused,
        )
        ref: pykka.ActorRef[Any] = await start_actor(nursery, source)
        yield ref, messages
        nursery.cancel_scope.cancel()


async def status_of(ref: pykka.ActorRef[Any]) -> SourceStatus:
    return await ask(ref, GetSource())


async def test_a_tick_reaches_the_aggregator_with_its_source_instrument_and_times(
    autojump_clock: object,
) -> None:
    async def one(feed: Feed) -> None:
        feed.connected()
        await feed.tick("GOLD", source_time=EpochUs(1_700_000_000_000_000), bid=Decimal(1), ask=Decimal(2))
        await trio.sleep_forever()

    async with running(Scripted(one)) as (ref, messages):
        await trio.testing.wait_all_tasks_blocked()
        (message,) = messages
        assert isinstance(message, TickReceived)
        tick = message.tick
        assert (tick.symbol, tick.source, tick.instrument) == ("XAUUSD", "scripted", Instrument.SPOT)
        assert (tick.source_time, tick.bid, tick.ask, tick.last) == (
            1_700_000_000_000_000,
            Decimal(1),
            Decimal(2),
            None,
        )
        status = await status_of(ref)
        assert (status.state, status.ticks, status.last_tick) == (SourceState.CONNECTED, 1, tick.receive_time)


async def test_a_provider_that_tells_no_time_gets_the_receive_time(autojump_clock: object) -> None:
    async def one(feed: Feed) -> None:
        await feed.tick("GOLD", source_time=None, last=Decimal(1))
        await trio.sleep_forever()

    async with running(Scripted(one)) as (_, messages):
        await trio.testing.wait_all_tasks_blocked()
        assert messages[0].tick.source_time == messages[0].tick.receive_time


async def test_a_failing_provider_is_tried_again_never_faster_than_it_allows_and_says_when(
    autojump_clock: object,
) -> None:
    provider = Scripted(refuse)
    async with running(provider) as (ref, _):
        await trio.sleep(1)
        status = await status_of(ref)
        assert (status.state, status.failures, status.last_error) == (
            SourceState.WAITING,
            1,
            "connection refused",
        )
        assert status.next_attempt is not None
        assert status.next_attempt > status.since
        await trio.sleep(600)
        gaps = [b - a for a, b in zip(provider.attempts, provider.attempts[1:], strict=False)]
        assert len(gaps) > 5
        assert min(gaps) >= 3.0
        assert max(gaps) <= 63.0
        assert max(gaps) > 10.0, "the interval grows"


async def test_the_wish_of_a_provider_is_obeyed(autojump_clock: object) -> None:
    async def limited(_feed: Feed) -> None:
        raise FeedError("rate limit", retry_after_s=120.0)

    provider = Scripted(limited)
    async with running(provider):
        await trio.sleep(200)
        assert provider.attempts[1] - provider.attempts[0] >= 120.0


async def test_a_refusal_is_final_until_a_person_acts(autojump_clock: object) -> None:
    async def unauthorized(_feed: Feed) -> None:
        raise FeedError("the provider refuses the token", fatal=True)

    provider = Scripted(unauthorized)
    async with running(provider) as (ref, _):
        await trio.sleep(1000)
        assert len(provider.attempts) == 1
        status = await status_of(ref)
        assert (status.state, status.next_attempt) == (SourceState.FAILED, None)
        ref.tell(ResumeSource())
        await trio.sleep(1)
        assert len(provider.attempts) == 2


async def test_a_silent_connection_is_made_anew(autojump_clock: object) -> None:
    provider = Scripted(say_nothing)
    async with running(provider) as (ref, _):
        await trio.sleep(31)
        status = await status_of(ref)
        assert (status.state, status.last_error) == (SourceState.WAITING, "silent: nothing received for 30 s")


async def test_heartbeats_without_prices_are_silence_too(autojump_clock: object) -> None:
    provider = Scripted(heartbeat_only)
    async with running(provider) as (ref, _):
        await trio.sleep(61)
        assert (await status_of(ref)).last_error == "mute: connected, but no price for 60 s"


async def test_in_a_closed_market_no_price_is_missed(autojump_clock: object) -> None:
    provider = Scripted(heartbeat_only)
    async with running(provider, "2026-11-13T22:00:01Z") as (ref, _):
        await trio.sleep(2 * 86_400)
        assert len(provider.attempts) == 1
        await trio.sleep(3599 + 59)  # until a minute after the opening, all but a second
        assert len(provider.attempts) == 1
        await trio.sleep(3)
        assert (await status_of(ref)).last_error == "mute: connected, but no price for 60 s"


async def test_a_line_that_rests_when_closed_is_not_dead_but_others_are(autojump_clock: object) -> None:
    resting = Resting(say_nothing)
    async with running(resting, "2026-11-14T12:00:00Z"):
        await trio.sleep(3600)
        assert len(resting.attempts) == 1
    beating = Scripted(say_nothing)
    async with running(beating, "2026-11-14T12:00:00Z") as (ref, _):
        await trio.sleep(31)
        assert (await status_of(ref)).last_error == "silent: nothing received for 30 s"


async def test_a_polled_provider_is_not_expected_to_push(autojump_clock: object) -> None:
    provider = Silent(say_nothing)
    async with running(provider) as (ref, _):
        await trio.sleep(1000)
        assert (await status_of(ref)).state is SourceState.CONNECTED


async def test_a_good_stretch_starts_the_backoff_afresh(autojump_clock: object) -> None:
    async def good_for_two_minutes(feed: Feed) -> None:
        feed.connected()
        for _ in range(120):
            await feed.tick("GOLD", source_time=None, last=Decimal(1))
            await trio.sleep(1)
        raise FeedError("closed")

    provider = Scripted(refuse, refuse, refuse, refuse, refuse, refuse, good_for_two_minutes, refuse)
    async with running(provider):
        await trio.sleep(1000)
        after_good = provider.attempts[7] - (provider.attempts[6] + 120)
        assert 3.0 <= after_good <= 4.0


async def test_a_pause_disconnects_and_a_resume_connects_at_once(autojump_clock: object) -> None:
    provider = Scripted(tick_every_second)
    async with running(provider) as (ref, messages):
        await trio.sleep(10)
        ref.tell(PauseSource())
        await trio.sleep(1)
        seen = len(messages)
        await trio.sleep(100)
        assert len(messages) == seen
        assert (await status_of(ref)).state is SourceState.PAUSED
        ref.tell(ResumeSource())
        await trio.sleep(0.5)
        assert len(messages) == seen + 1


async def test_a_source_that_begins_paused_does_nothing_until_it_is_resumed(autojump_clock: object) -> None:
    provider = Scripted(tick_every_second)
    async with running(provider, paused=True) as (ref, messages):
        await trio.sleep(100)
        assert (await status_of(ref)).state is SourceState.PAUSED
        assert not provider.attempts
        ref.tell(ResumeSource())
        await trio.sleep(0.5)
        assert len(messages) == 1


async def test_a_source_that_fails_while_it_is_paused_stays_paused(autojump_clock: object) -> None:
    async def fail_when_interrupted(feed: Feed) -> None:
        feed.connected()
        try:
            await trio.sleep_forever()
        finally:
            raise FeedError("it broke")

    async with running(Scripted(fail_when_interrupted)) as (ref, _):
        await trio.sleep(1)
        ref.tell(PauseSource())
        await trio.sleep(100)
        status = await status_of(ref)
        assert (status.state, status.failures) == (SourceState.PAUSED, 0)


async def test_a_finished_recording_stays_finished(autojump_clock: object) -> None:
    async def end(feed: Feed) -> None:
        await feed.tick("GOLD", source_time=None, last=Decimal(1))

    provider = Scripted(end)
    async with running(provider) as (ref, _):
        await trio.sleep(1000)
        assert (await status_of(ref)).state is SourceState.FINISHED
        assert len(provider.attempts) == 1


async def test_unusable_input_is_counted_by_reason(autojump_clock: object) -> None:
    async def garbage(feed: Feed) -> None:
        feed.rejected("garbage", "\x00")
        feed.rejected("garbage")
        await feed.tick("SILVER", source_time=None, last=Decimal(1))
        await trio.sleep_forever()

    async with running(Scripted(garbage)) as (ref, messages):
        await trio.sleep(1)
        assert (await status_of(ref)).rejected == {"garbage": 2, "unknown_code": 1}
        assert messages == []


async def test_an_impossible_price_never_leaves_the_source(autojump_clock: object) -> None:
    async def absurd(feed: Feed) -> None:
        for text in ("0", "-1", "1e999999", "NaN", "Infinity"):
            await feed.tick("GOLD", source_time=None, last=Decimal(text))
        await trio.sleep_forever()

    async with running(Scripted(absurd)) as (ref, messages):
        await trio.sleep(1)
        assert (await status_of(ref)).rejected == {"bad_price": 5}
        assert messages == []


async def test_a_time_of_another_century_never_leaves_the_source(autojump_clock: object) -> None:
    async def absurd(feed: Feed) -> None:
        for time in (-1, 0, 10**30):
            await feed.tick("GOLD", source_time=EpochUs(time), last=Decimal(1))
        await trio.sleep_forever()

    async with running(Scripted(absurd)) as (ref, messages):
        await trio.sleep(1)
        assert (await status_of(ref)).rejected == {"bad_time": 3}
        assert messages == []


async def test_each_connection_ends_with_one_line_and_an_id_joins_all_that_was_said_of_it(
    autojump_clock: object,
) -> None:
    async def three_ticks_and_gone(feed: Feed) -> None:
        feed.connected()
        for _ in range(3):
            await feed.tick("GOLD", source_time=feed.clock.now(), last=Decimal("2000.5"))
            await trio.sleep(1)
        feed.rejected("garbage", "?")
        raise FeedError("connection lost")

    with capture_logs() as logs:
        async with running(Scripted(three_ticks_and_gone, refuse, tick_every_second)) as (ref, _):
            while (await status_of(ref)).ticks < 10:
                await trio.sleep(1)
            ref.tell(PauseSource())
            await trio.testing.wait_all_tasks_blocked()
    ids = [line["connection"] for line in logs]
    story = [(line["event"], ids.index(line["connection"])) for line in logs]
    assert story == [
        ("source_connected", 0),
        ("source_input_rejected", 0),
        ("source_lost", 0),
        ("source_lost", 3),
        ("source_connected", 4),
        ("source_disconnected", 4),
    ]
    ends = [line for line in logs if "connected_s" in line]
    assert [(line["ticks"], line["rejected"]) for line in ends] == [(3, 1), (0, 0), (7, 0)]
    assert [line["connected_s"] for line in ends[:2]] == [3.0, 0.0]
    assert ends[2]["connected_s"] > 6
