"""Providers that die, stall, talk garbage and come back, in any order: what clients see all the while.

The whole daemon on virtual time, with two AllTick stand-ins and a Swissquote one under one symbol, over real loopback
sockets. Three hundred seeded schedules; each is judged afterwards against what the stand-ins really delivered.
"""

from __future__ import annotations

import json
import random
import socket
from bisect import bisect_right
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio_websocket import open_websocket_url

from aurexd import stalls
from aurexd.actors import candles
from aurexd.clock import LoopClock
from aurexd.config.model import Config, Listen, Storage, Symbol
from aurexd.daemon import RETURN_AFTER_S, Daemon
from aurexd.market import SECOND_US, EpochUs, Instrument
from aurexd.sources.alltick import AllTick
from aurexd.sources.swissquote import Swissquote
from tests.standins.alltick import AllTickStandIn
from tests.standins.http import Answer, Fault, Request, serve_http
from tests.standins.swissquote import PATH, SwissquoteStandIn
from tests.standins.websocket import Client, Mode

SCHEDULES = 300
PER_TEST = 25
"""Schedules of one test, so that the tests can be run side by side."""

LENGTH_S = 60.0
SETTLE_S = 8.0
"""Connecting and subscribing takes AllTick's request spacing."""

TICK_S = 2.0
LIMIT_S = 7.0
EPSILON_S = 0.25
"""Virtual time that may pass between a delivery and what a client sees of it: sockets, not time, lie between."""

TCP_ESTABLISHED = 1
"""From <netinet/tcp.h>."""

START = EpochUs(1_760_000_000 * SECOND_US)
PRIORITY = {"first": 1, "second": 2, "third": 3}
FIRST_PRICE = {"first": 200_000, "second": 200_100, "third": 200_200}
MODES: dict[str, Mode] = {"stalled": "stalled", "garbling": "garbling", "frozen": "frozen"}
HTTP_FAULTS: list[Answer | Fault | None] = [
    Answer(b"oops", 500),
    Answer(b"<html>", 200),
    Fault.STALL,
    Fault.DROP,
    Fault.HALF,
    Fault.NOISE,
    None,
    None,
]


class World:
    """The providers, what they delivered, and what a client saw."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = LoopClock(START)
        self.delivered: dict[str, list[float]] = defaultdict(list)
        self.offered: dict[str, set[Decimal]] = defaultdict(set)
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.faults: list[tuple[float, str, str]] = []
        self.alltick = {
            name: AllTickStandIn(clock=self.clock, seed=self.rng.getrandbits(32))
            for name in ("first", "second")
        }
        self.swissquote = SwissquoteStandIn(seed=self.rng.getrandbits(32))
        self._swissquote_ts = 0
        self._swissquote_seen = 0

    def config(self, swissquote_url: str) -> Config:
        alltick = [
            AllTick.Settings(
                name=name,
                type="alltick",
                priority=PRIORITY[name],
                symbols={"XAUUSD": "GOLD"},
                stale_after_s=LIMIT_S,
                url=standin.url,
                token=f"token-{name}",
                plan="paid",
            )
            for name, standin in self.alltick.items()
        ]
        swissquote = Swissquote.Settings(
            name="third",
            type="swissquote",
            priority=PRIORITY["third"],
            symbols={"XAUUSD": "XAU/USD"},
            stale_after_s=LIMIT_S,
            url=swissquote_url,
        )
        return Config.model_construct(
            listen=Listen(port=0),
            storage=Storage(url=""),
            symbols={"XAUUSD": Symbol(instrument=Instrument.SPOT, decimals=2, default=True)},
            sources=(*alltick, swissquote),
        ).model_copy(update={"realtime": Config().realtime.model_copy(update={"update_interval_s": TICK_S})})

    # --- the providers ---

    async def feed_alltick(self, name: str) -> None:
        standin = self.alltick[name]
        await trio.sleep(self.rng.random() * TICK_S)
        cents = FIRST_PRICE[name]
        while True:
            cents += 1
            price = Decimal(cents) / 100
            self.offered[name].add(price)
            if standin.mode == "ok" and any(is_established(client) for client in standin.depth):
                self.delivered[name].append(trio.current_time())
            await standin.push(str(price))
            await trio.sleep(TICK_S)

    async def feed_swissquote(self) -> None:
        cents = FIRST_PRICE["third"]
        while True:
            cents += 1
            self.offered["third"].add(Decimal(cents) / 100)
            self._swissquote_ts = self.clock.now() // 1000
            self.swissquote.quote(cents / 100, cents / 100, self._swissquote_ts)
            await trio.sleep(TICK_S)

    def respond(self, request: Request) -> Answer | Fault:
        answer = self.swissquote.respond(request)
        if self.swissquote.fault is None and self._swissquote_ts > self._swissquote_seen:
            self._swissquote_seen = self._swissquote_ts
            self.delivered["third"].append(trio.current_time())
        return answer

    async def break_things(self) -> None:
        await trio.sleep(SETTLE_S)
        while True:
            await trio.sleep(self.rng.uniform(0.5, 8.0))
            name = self.rng.choice(["first", "second", "third"])
            action = await self.break_one(name)
            self.faults.append((trio.current_time(), name, action))

    async def break_one(self, name: str) -> str:
        if name == "third":
            self.swissquote.fault = self.rng.choice(HTTP_FAULTS)
            return str(self.swissquote.fault)
        standin = self.alltick[name]
        action = self.rng.choice(
            ["kill", "revive", "revive", "stalled", "garbling", "frozen", "drop", "reset"]
        )
        if action == "kill":
            await standin.kill()
        elif action == "revive":
            standin.mode = "ok"
            await standin.revive()
        elif action == "drop":
            await standin.disconnect(code=1001)
        elif action == "reset":
            await standin.disconnect(code=None)
        else:
            standin.mode = MODES[action]
        return action

    # --- the client ---

    async def watch(self, port: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with open_websocket_url(f"ws://127.0.0.1:{port}/api/v1/ws/stream") as stream:
            task_status.started()
            while True:
                message = json.loads(await stream.get_message())
                self.seen.append((trio.current_time(), message))


def is_established(client: Client) -> bool:
    """Whether the daemon has not hung up: a stand-in that was frozen has yet to find out."""
    try:
        return client.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED
    except OSError:
        return False


async def live(world: World) -> None:
    """One schedule, from the daemon's start to its orderly end."""
    async with trio.open_nursery() as nursery, serve_http(world.respond) as http:
        for standin in world.alltick.values():
            await nursery.start(standin.serve)
        for name in world.alltick:
            nursery.start_soon(world.feed_alltick, name)
        nursery.start_soon(world.feed_swissquote)
        daemon = Daemon(
            world.config(http.url + PATH), clock=world.clock, rng=random.Random(world.rng.getrandbits(32))
        )
        async with trio.open_nursery() as life:
            await life.start(daemon.run)
            watching = await open_watch(nursery, world, daemon.port.port)
            with trio.move_on_after(LENGTH_S):
                await world.break_things()
            watching.cancel()
            daemon.stop()
        nursery.cancel_scope.cancel()


async def open_watch(nursery: trio.Nursery, world: World, port: int) -> trio.CancelScope:
    scope = trio.CancelScope()

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await world.watch(port, task_status=task_status)

    await nursery.start(watch)
    return scope


# --- the judgement ---


def fresh(world: World, name: str, time: float, margin: float) -> bool:
    """Whether the source delivered within its limit before `time`; a positive margin makes that harder."""
    times = world.delivered[name]
    last = bisect_right(times, time - max(margin, 0)) - 1
    return last >= 0 and time - times[last] < LIMIT_S - margin


def fresh_since(world: World, name: str, time: float) -> float:
    """For how long the source has been fresh without a gap."""
    times = [t for t in world.delivered[name] if t <= time]
    start = time
    for t in reversed(times):
        if start - t >= LIMIT_S - EPSILON_S:
            break
        start = t
    return time - start


def judge(world: World) -> None:
    """What clients saw is what the rules say, given what the providers delivered."""
    updates = [(t, m) for t, m in world.seen if m["type"] == "price_update"]
    statuses = [(t, m) for t, m in world.seen if m["type"] == "status"]
    for messages in (updates, statuses):
        counts = [m["update_count"] for _, m in messages]
        assert counts == list(range(counts[0], counts[0] + len(counts))), "no hole and no repeat"
    for _, message in updates:
        data = message["data"]
        assert Decimal(str(data["close"])) in world.offered[data["source"]], "a price that nobody quoted"
        assert data["instrument"] == "spot"
    for (_, before), (_, after) in pairwise(statuses):
        old, new = before["data"], after["data"]
        assert (old["quality"], old["source"]) != (new["quality"], new["source"]), "a status is a change"
    source = None
    for _, message in world.seen:
        if message["type"] == "status":
            source = message["data"]["source"]
        elif message["type"] == "price_update":
            assert source in (message["data"]["source"], None), (
                "a change of source is announced before its price"
            )

    times = [t for t, _ in statuses]
    time = SETTLE_S
    while time < world.seen[-1][0]:
        time += 0.5
        status = statuses[bisect_right(times, time) - 1][1]["data"]
        surely_fresh = [name for name in PRIORITY if fresh(world, name, time, EPSILON_S)]
        carrier, quality = status["source"], status["quality"]
        if surely_fresh:
            assert quality == "live", f"{time}: stale although {surely_fresh} delivered"
            assert fresh(world, carrier, time, -EPSILON_S), f"{time}: {carrier} is past its limit"
            for name in surely_fresh:
                if PRIORITY[name] < PRIORITY[carrier]:
                    proven_s = fresh_since(world, name, time)
                    assert proven_s <= RETURN_AFTER_S + EPSILON_S, f"{time}: {carrier}, but {name} is better"
        elif not any(fresh(world, name, time, -EPSILON_S) for name in PRIORITY):
            assert quality == "stale", f"{time}: nobody delivered, and the price is called {quality}"


def judge_log(world: World, logs: list[Any]) -> None:
    """The daemon's own log tells the story: each change of status, and each connection that was lost."""
    told = [(e["quality"], e["source"]) for e in logs if e["event"] == "status_changed"]
    for message in (m for _, m in world.seen if m["type"] == "status" and m["update_count"] > 1):
        data = message["data"]
        # The first status says that nothing is known yet, and is no change.
        assert (data["quality"], data["source"]) == told[message["update_count"] - 2]
    lost = {e["source"] for e in logs if e["event"] == "source_lost"}
    cut = {
        name
        for time, name, action in world.faults
        if action in ("kill", "drop", "reset") and time < LENGTH_S - 10
    }
    assert cut <= lost
    assert not [e for e in logs if e["event"] in ("actor_crashed", "client_crashed", "session_crashed")]


@pytest.fixture(autouse=True)
def nothing_but_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of all that happens in virtual time are candles and the watch over the loop, four times a second each,
    of which nobody asks anything here. Each jump in time costs a millisecond of the real one."""
    monkeypatch.setattr(candles, "PUBLISH_EVERY_S", TICK_S)
    monkeypatch.setattr(stalls, "LOOK_S", TICK_S)


PARTS = range(SCHEDULES // PER_TEST)
"""Every second one is `test_faults_too.py`'s, so that two processes share them."""


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS[::2])
def test_clients_always_get_the_best_fresh_price_and_every_change(part: int) -> None:
    judge_schedules(part)


def judge_schedules(part: int) -> None:
    """Live through the schedules of one part, and judge each."""
    for seed in range(part * PER_TEST, (part + 1) * PER_TEST):

        async def schedule(seed: int = seed) -> World:
            world = World(seed)
            await live(world)
            return world

        with capture_logs() as logs:
            world = trio.run(schedule, clock=trio.testing.MockClock(autojump_threshold=0.001))
        try:
            judge(world)
            judge_log(world, logs)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}\nfaults: {world.faults}") from error
