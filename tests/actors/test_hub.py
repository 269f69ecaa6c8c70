"""Who gets what, in which order, and how often: the hub with real sessions on fake lines, in virtual time."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd.actors.audience import SLICE
from aurexd.actors.hub import Hub
from aurexd.actors.messages import (
    AlertFired,
    AlertsAcknowledged,
    CandlesChanged,
    Decided,
    Decision,
    DrainSessions,
    GetSessions,
    GetStats,
    HubStats,
    KeepHandover,
    KickSession,
    PriceRestored,
    SendSnapshot,
    SessionClosed,
    SessionOpened,
    StatusChanged,
    Subscribe,
    SymbolsRemoved,
    TakeHandover,
    Unsubscribe,
)
from aurexd.actors.trio_actor import TrioActor, ask, start_actor
from aurexd.candles import PublishedCandle
from aurexd.clock import LoopClock
from aurexd.config.model import Config, Heartbeat, Limits, Realtime
from aurexd.drain import Drain
from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality
from aurexd.protocol.codec import JSON, MSGPACK
from aurexd.protocol.codes import CloseCode
from aurexd.protocol.data import MarketState, Position
from aurexd.settings import Settings
from tests.actors.lines import SYMBOLS, FakeClient
from tests.updates import alert, price_at

START = EpochUs(1_761_566_400 * SECOND_US)
PRICE = "price:XAUUSD"
STATUS = "status:XAUUSD"


def priced(close: str, symbol: str = "XAUUSD") -> Price:
    return price_at(close, symbol=symbol, source_time=START)


def price(close: str, symbol: str = "XAUUSD") -> Decided:
    return Decided(decisions=(Decision(price=priced(close, symbol)),))


def status(quality: Quality = Quality.LIVE, symbol: str = "XAUUSD") -> Decided:
    changed = StatusChanged(
        symbol=symbol,
        quality=quality,
        market=MarketState.OPEN,
        source="alltick",
        instrument=Instrument.SPOT,
        reason="because",
        time=START,
    )
    return Decided(decisions=(Decision(status=changed),))


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


class FakePersister(TrioActor):
    """Keeps what a hub leaves to the next; shared by the hubs of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.handover: bytes | None = None

    async def on_receive(self, message: object) -> object:
        match message:
            case KeepHandover(handover=handover):
                self.handover = handover
            case TakeHandover():
                taken, self.handover = self.handover, None
                return taken
        return None


class House:
    """A hub and the sessions that came to it."""

    hub: Hub
    ref: Any
    nursery: trio.Nursery

    def __init__(self, heartbeat: Heartbeat, resume_messages: int) -> None:
        self.clock = LoopClock(START)
        realtime = Realtime(resume_messages=resume_messages)
        self.settings = Settings(Config(heartbeat=heartbeat, realtime=realtime, symbols=SYMBOLS))
        self.persister = FakePersister()

    async def start(self, nursery: trio.Nursery) -> None:
        """Start a hub; it takes over from the one before if that stopped in order."""
        self.hub = Hub(
            persister=self.persister.actor_ref,
            settings=self.settings,
            clock=self.clock,
        )
        self.ref = await start_actor(nursery, self.hub)

    async def tell(self, *messages: object) -> None:
        """All at once: so they are one batch."""
        for message in messages:
            self.ref.tell(message)
        await trio.testing.wait_all_tasks_blocked()

    async def open(self, *channels: str, **how: Any) -> FakeClient:
        """A session that has read what it is told at first."""
        how.setdefault("settings", self.settings)
        client = FakeClient(self.ref, self.clock, channels=frozenset(channels), **how)
        await self.tell(SessionOpened(session=client.session, channels=client.channels))
        client.line.take()
        return client

    async def stats(self) -> HubStats:
        return await ask(self.ref, GetStats())


@contextlib.asynccontextmanager
async def opened(heartbeat: Heartbeat | None = None, resume_messages: int = 100) -> AsyncIterator[House]:
    house = House(heartbeat or Heartbeat(), resume_messages)
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            await start_actor(nursery, house.persister)
            await house.start(nursery)
            house.nursery = nursery
            yield house
            nursery.cancel_scope.cancel()


# --- the first words, and the snapshots ---


async def test_a_session_is_welcomed_and_told_where_its_channels_stand(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(status(), price("1.00"), price("2.00"))
        client = FakeClient(house.ref, house.clock, channels=frozenset({PRICE, STATUS, "price:GC"}))
        await house.tell(SessionOpened(session=client.session, channels=client.channels))
        welcome, current, state = client.line.take()
        assert (welcome["type"], welcome["data"]["epoch"]) == ("welcome", house.hub.epoch)
        assert (current["type"], current["update_count"], current["data"]["close"]) == ("price_update", 2, 2)
        assert (state["type"], state["update_count"], state["data"]["quality"]) == ("status", 1, "live")


async def test_every_hub_has_an_epoch_of_its_own(autojump_clock: object) -> None:
    async with opened() as one, opened() as other:
        assert one.hub.epoch != other.hub.epoch


async def test_no_price_is_sent_before_there_is_one(autojump_clock: object) -> None:
    async with opened() as house:
        client = FakeClient(house.ref, house.clock, channels=frozenset({PRICE, STATUS}))
        await house.tell(SessionOpened(session=client.session, channels=client.channels))
        assert kinds(client.line.take()) == ["welcome"]


async def test_a_snapshot_has_the_quality_of_now_not_of_then(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(status(), price("1.00"), status(Quality.STALE))
        client = await house.open()
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=1))
        _, current = client.line.take()
        assert current["data"]["quality"] == "stale"


async def test_a_price_nobody_vouches_for_is_stale(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(price("1.00"))
        client = await house.open()
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=1))
        assert client.line.take()[1]["data"]["quality"] == "stale"


# --- publishing ---


async def test_counts_are_per_channel_and_have_no_holes(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(PRICE, STATUS, "price:GC")
        await house.tell(price("1.00"), price("9.0", "GC"), status())
        await house.tell(price("2.00"), status(Quality.STALE), price("3.00"), price("8.0", "GC"))
        seen = [(m["type"], m["data"]["symbol"], m["update_count"]) for m in client.line.take()]
        assert seen == [
            ("price_update", "XAUUSD", 1),
            ("price_update", "GC", 1),
            ("status", "XAUUSD", 1),
            ("price_update", "XAUUSD", 2),
            ("status", "XAUUSD", 2),
            ("price_update", "XAUUSD", 3),
            ("price_update", "GC", 2),
        ]


async def test_what_is_due_together_leaves_in_one_write(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(PRICE)
        await house.tell(*(price(f"{number}.00") for number in range(1, 31)))
        assert len(client.line.writes) == 1
        assert [m["update_count"] for m in client.line.take()] == list(range(1, 31))


async def test_clients_with_the_same_wishes_get_the_very_same_bytes(autojump_clock: object) -> None:
    async with opened() as house:
        one, two = await house.open(PRICE, STATUS), await house.open(STATUS, PRICE)
        other = await house.open(PRICE)
        packed = await house.open(PRICE, STATUS, encoding=MSGPACK)
        await house.tell(price("1.00"), status())
        assert one.line.writes[0] is two.line.writes[0]
        assert kinds(one.line.take()) == kinds(packed.line.take()) == ["price_update", "status"]
        assert kinds(other.line.take()) == ["price_update"]


async def test_nobody_is_told_of_channels_he_does_not_have(autojump_clock: object) -> None:
    async with opened() as house:
        client, stranger = await house.open(PRICE), await house.open()
        await house.tell(price("1.00", "GC"), status())
        assert client.line.take() == stranger.line.take() == []


async def test_what_is_sent_waits_and_is_conflated_is_counted(autojump_clock: object) -> None:
    async with opened() as house:
        slow, quick = await house.open(PRICE), await house.open(PRICE)
        await house.tell(price("1.00"))
        frame = len(quick.line.writes[-1])
        slow.line.full = True
        for _ in range(3):
            await house.tell(price("2.00"))
        stats = await house.stats()
        assert (stats.messages_sent, stats.sent) == (8, {"price": 8})
        assert stats.bytes_sent == 5 * frame, "what waits is not sent"
        assert (stats.deferred, stats.conflated, stats.behind) == (3, 2, 1)
        assert stats.held_bytes > 0
        slow.line.full = False
        assert (await house.stats()).behind == 0


async def test_each_client_s_delay_is_counted_of_those_that_had_room(autojump_clock: object) -> None:
    async with opened() as house:
        clients = [await house.open(*channels) for channels in ((PRICE,), (PRICE,), (PRICE, STATUS), ())]
        clients[0].line.full = True
        now = house.clock.now()
        changed = msgspec.structs.replace(
            priced("1.00"), source_time=now - 2 * SECOND_US, receive_time=now - SECOND_US
        )
        await house.tell(Decided(decisions=(Decision(price=changed, decided=EpochUs(now - 1000)),)))
        await house.tell(price("1.00"), status())  # nobody's delay
        hops = (await house.stats()).hops
        assert [hops.source.total, hops.aggregator.total, hops.hub.total] == [
            pytest.approx(s) for s in (1, 0.999, 0.001)
        ]
        assert (hops.socket.count, hops.delivery.count) == (2, 2)
        assert hops.delivery.total == pytest.approx(2)


async def test_the_last_minute_is_the_last_minute_s(autojump_clock: object) -> None:
    async with opened() as house:
        await house.open(PRICE)
        await house.tell(*[price("1.00")] * 10)
        await trio.sleep(30)
        recent = (await house.stats()).recent
        assert (recent.messages_sent, 25 < recent.seconds <= 30) == (10, True)
        await trio.sleep(60)
        await house.tell(price("2.00"))
        recent = (await house.stats()).recent
        assert (recent.messages_sent, recent.updates, 60 <= recent.seconds < 66) == (1, 1, True)


async def test_a_slow_client_costs_the_others_nothing(autojump_clock: object) -> None:
    async with opened() as house:
        slow, quick = await house.open(PRICE), await house.open(PRICE)
        await house.tell(price("1.00"))
        slow.line.full = True
        for number in range(2, 102):
            await house.tell(price(f"{number}.00"))
        assert [m["update_count"] for m in quick.line.take()] == list(range(1, 102))
        slow.line.full = False
        first, last = slow.line.take()
        assert first["update_count"] == 1
        assert (last["update_count"], last["conflated"], last["data"]["close"]) == (101, 100, 101)
        await house.tell(price("0.50"))
        assert [m["update_count"] for m in slow.line.take()] == [102]


async def test_a_large_fan_out_lets_others_have_their_turn(autojump_clock: object) -> None:
    async with opened() as house:
        turns = 0
        writes_in: Counter[int] = Counter()

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        def count() -> None:
            writes_in[turns] += 1

        for _ in range(4 * SLICE):
            client = FakeClient(house.ref, house.clock)
            client.line.on_write = count
            house.ref.tell(SessionOpened(session=client.session, channels=frozenset({PRICE})))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            house.ref.tell(price("1.00"))
            while writes_in.total() < 4 * SLICE:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        # Who of two runs first in a turn is left to chance.
        assert max(writes_in.values()) <= 2 * SLICE


# --- coming and going ---


async def test_a_subscription_is_answered_then_comes_the_snapshot_then_what_is_new(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        await house.tell(price("1.00"), price("2.00"))
        client = await house.open()
        await house.tell(
            price("3.00"),
            Subscribe(session=client.session, channels=(PRICE, "price:GC"), request_id="a"),
            price("4.00"),
        )
        await house.tell(price("5.00"))
        answer, current, fresh = client.line.take()
        assert (answer["type"], answer["id"]) == ("subscribed", "a")
        where = {"epoch": house.hub.epoch, "recovered": False}
        assert answer["data"]["channels"] == {PRICE: {**where, "count": 4}, "price:GC": {**where, "count": 0}}
        assert [current["update_count"], fresh["update_count"]] == [4, 5], "neither a hole nor a repeat"


async def test_in_a_storm_there_is_one_pass_for_all_prices_that_are_due(autojump_clock: object) -> None:
    async with opened() as house:
        there = await house.open(PRICE)
        there.line.writes.clear()
        coming = [FakeClient(house.ref, house.clock, channels=frozenset({PRICE})) for _ in range(5)]
        arrivals = [SessionOpened(session=client.session, channels=client.channels) for client in coming]
        await house.tell(*(message for arrival in arrivals for message in (price("1.00"), arrival)))
        assert len(there.line.writes) == 1
        assert [m["update_count"] for m in there.line.take()] == [1, 2, 3, 4, 5]
        for client in coming:
            welcome, *rest = client.line.take()
            assert (welcome["type"], [m["update_count"] for m in rest]) == ("welcome", [5])


async def test_a_subscription_adds_and_what_is_there_twice_comes_once(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(PRICE)
        await house.tell(Subscribe(session=client.session, channels=(PRICE, STATUS), request_id=1))
        client.line.take()
        await house.tell(price("1.00"), status())
        assert kinds(client.line.take()) == ["price_update", "status"]


async def test_nothing_of_a_channel_follows_the_answer_to_unsubscribe(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(PRICE, STATUS)
        client.line.full = True
        await house.tell(price("1.00"), status())
        await house.tell(
            price("2.00"), Unsubscribe(session=client.session, channels=(PRICE,), request_id=7), price("3.00")
        )
        client.line.full = False
        answer, left = client.line.take()
        assert (answer["type"], answer["id"], answer["data"]) == ("unsubscribed", 7, {"channels": [PRICE]})
        assert left["type"] == "status"
        await house.tell(price("4.00"), status(Quality.STALE))
        assert kinds(client.line.take()) == ["status"]


async def test_a_snapshot_needs_no_subscription_and_makes_none(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(price("1.00"))
        client = await house.open()
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE, STATUS), request_id=1))
        answer, current = client.line.take()
        assert answer["type"] == "snapshot_sent"
        assert {name: position["count"] for name, position in answer["data"]["channels"].items()} == {
            PRICE: 1,
            STATUS: 0,
        }
        assert current["update_count"] == 1
        await house.tell(price("2.00"))
        assert client.line.take() == []


async def test_a_snapshot_stands_for_what_waited_too(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(PRICE)
        await house.tell(price("1.00"))
        client.line.full = True
        await house.tell(price("2.00"), price("3.00"))
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=1))
        await house.tell(price("4.00"))
        client.line.full = False
        first, answer, current, fresh = client.line.take()
        assert answer["type"] == "snapshot_sent"
        assert [m["update_count"] for m in (first, current, fresh)] == [1, 3, 4]
        assert (current["conflated"], "conflated" in fresh) == (2, False)


async def test_a_session_that_closed_is_forgotten(autojump_clock: object) -> None:
    async with opened() as house:
        client, other = await house.open(PRICE), await house.open(PRICE)
        await house.tell(SessionClosed(session=client.session))
        await house.tell(price("1.00"))
        assert client.line.take() == []
        assert len(other.line.take()) == 1
        await house.tell(SessionClosed(session=client.session))
        for request in (Subscribe, Unsubscribe):
            await house.tell(request(session=client.session, channels=(PRICE,), request_id=1))
        assert client.line.take() == []
        assert (await house.stats()).active_connections == 1


async def test_the_figures_are_those_of_what_happened(autojump_clock: object) -> None:
    async with opened() as house:
        one, two = await house.open(PRICE, STATUS), await house.open(PRICE)
        await house.tell(price("1.00"), price("2.00"), status())
        await house.tell(SessionClosed(session=two.session), price("3.00"), status(Quality.STALE))
        stats = await house.stats()
        assert (stats.active_connections, stats.connections) == (1, 2)
        assert stats.messages_sent == len(one.line.take()) + len(two.line.take())
        assert (stats.update_count, stats.channels) == (5, {PRICE: 3, STATUS: 2})
        assert stats.last_price["XAUUSD"].close == Decimal("3.00")
        assert stats.last_price["XAUUSD"].quality is Quality.STALE
        assert stats.epoch == house.hub.epoch


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_whoever_comes_and_goes_gets_what_was_published_while_he_was_there(seed: int) -> None:
    channels = [PRICE, STATUS, "price:GC", "status:GC", "price:XAGUSD"]

    async def play() -> None:
        rng = random.Random(seed)
        async with opened() as house:
            clients: dict[FakeClient, set[str]] = {}
            expected: dict[FakeClient, list[tuple[str, int]]] = {}
            counts: Counter[str] = Counter()
            for _ in range(60):
                client = rng.choice([*clients, None])
                some = tuple(rng.sample(channels, rng.randint(1, 3)))
                match rng.choice(["open", "close", "subscribe", "unsubscribe", "publish", "publish"]):
                    case "open":
                        client = await house.open(*some, encoding=rng.choice([JSON, MSGPACK]))
                        clients[client] = set(some)
                        expected[client] = []
                    case "close" if client is not None:
                        await house.tell(SessionClosed(session=client.session))
                        clients[client] = set()
                    case "subscribe" if client is not None and clients[client]:
                        await house.tell(Subscribe(session=client.session, channels=some, request_id=1))
                        clients[client] |= set(some)
                        del client.line.reader.messages[len(expected[client]) :]
                    case "unsubscribe" if client is not None and clients[client]:
                        some = tuple(c for c in some if len(clients[client] - set(some)) > 0)
                        await house.tell(Unsubscribe(session=client.session, channels=some, request_id=1))
                        clients[client] -= set(some)
                        del client.line.reader.messages[len(expected[client]) :]
                    case "publish":
                        channel = rng.choice(channels)
                        counts[channel] += 1
                        kind, _, symbol = channel.partition(":")
                        await house.tell(price("1.0", symbol) if kind == "price" else status(symbol=symbol))
                        for each, wishes in clients.items():
                            if channel in wishes:
                                expected[each].append((channel, counts[channel]))
            for each, wanted in expected.items():
                names = {"price_update": "price", "status": "status"}
                seen = [
                    (f"{names[m['type']]}:{m['data']['symbol']}", m["update_count"]) for m in each.line.take()
                ]
                assert seen == wanted

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


class Counting:
    """A client that keeps one number per channel, as docs/protocol.md says, and so loses nothing unnoticed."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.closes: dict[str, float] = {}

    def take(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "subscribed" | "snapshot_sent", "data": {"channels": channels}}:
                self.numbers |= {name: position["count"] for name, position in channels.items()}
            case {"type": "unsubscribed", "data": {"channels": channels}}:
                for name in channels:
                    self.numbers.pop(name, None)
            case {"type": "price_update", "data": {"symbol": symbol, "close": close}, "update_count": count}:
                channel = f"price:{symbol}"
                if count != self.numbers[channel]:
                    assert count - self.numbers[channel] == message.get("conflated", 1)
                self.numbers[channel] = count
                self.closes[channel] = close


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_a_client_that_counts_never_misses_anything_unnoticed(seed: int) -> None:
    channels = [PRICE, "price:GC", "price:XAGUSD"]

    async def play() -> None:
        rng = random.Random(seed)
        async with opened() as house:
            client, counting = await house.open(), Counting()
            wishes: set[str] = set()
            latest: dict[str, float] = {}
            for number in range(80):
                some = tuple(rng.sample(channels, rng.randint(1, 3)))
                ask: dict[str, Any] = {"session": client.session, "channels": some, "request_id": number}
                match rng.choice(["subscribe", "unsubscribe", "snapshot", "stop", "read", *["publish"] * 5]):
                    case "subscribe":
                        wishes |= set(some)
                        await house.tell(Subscribe(**ask))
                    case "unsubscribe":
                        wishes -= set(some)
                        await house.tell(Unsubscribe(**ask))
                    case "snapshot":
                        # Only of what it is subscribed to: of others it gets no updates to count.
                        known = tuple(channel for channel in some if channel in wishes)
                        await house.tell(SendSnapshot(**{**ask, "channels": known}))
                    case "stop":
                        client.line.full = True
                    case "read":
                        client.line.full = False
                    case "publish":
                        for channel in some:
                            latest[channel] = number + 0.5
                        await house.tell(*(price(f"{number}.5", name.partition(":")[2]) for name in some))
            client.line.full = False
            for message in client.line.take():
                counting.take(message)
            stats = await house.stats()
            for channel in wishes:
                assert counting.numbers[channel] == stats.channels.get(channel, 0)
                assert counting.closes.get(channel) == latest.get(channel)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


# --- slow, silent and dead clients ---


async def test_a_client_that_lets_answers_pile_up_is_closed(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(price("1.00"))
        house.settings.replace(Config(limits=Limits(send_queue_bytes=2048)))
        client = await house.open(PRICE)
        client.line.full = True
        for _ in range(100):
            await house.tell(price("2.00"))
        assert client.closed == [], "prices do not pile up"
        for number in range(20):
            await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=number))
        assert client.closed == [CloseCode.SLOW_CONSUMER]


async def clogged(house: House, answers: int) -> FakeClient:
    """A client that has stopped reading, with so many answers of some hundred bytes waiting for it."""
    client = await house.open(PRICE)
    client.line.full = True
    for number in range(answers):
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=number))
    return client


async def test_over_the_limit_of_all_queues_together_those_go_for_whom_most_waits(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        house.settings.replace(
            Config(limits=Limits(send_queue_bytes=1_000_000, send_queue_total_bytes=100_000))
        )
        await house.tell(price("1.00"))
        small = [await clogged(house, 20) for _ in range(3)]
        large = [await clogged(house, 60 + number) for number in range(5)]
        quick = await house.open(PRICE)
        for client in [*small, *large]:
            assert client.closed == []
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                await trio.sleep(1)
                for client in [*small, *large, quick]:
                    client.hear()
        assert [client.closed for client in [*small, quick]] == [[]] * 4
        shed = [bool(client.closed) for client in large]
        assert shed == sorted(shed), "the largest first"
        assert 0 < sum(shed) < 5, "no more than had to"
        assert all(client.closed == [CloseCode.SLOW_CONSUMER] for client in large if client.closed)
        left = [client for client in [*small, *large] if not client.closed]
        assert sum(client.session.held_bytes for client in left) <= 100_000
        assert [log["event"] for log in logs] == ["send_queues_full"], "those on their way out do not count"


async def test_a_client_that_takes_nothing_is_closed_although_it_speaks(autojump_clock: object) -> None:
    async with opened(Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as house:
        stuck, slow, idle = [await house.open(PRICE) for _ in range(3)]
        stuck.line.full = slow.line.full = True
        await house.tell(price("1.00"))
        idle.line.take()
        for second in range(1, 100):
            await trio.sleep(1)
            for client in (stuck, slow, idle):
                client.hear()
            if second % 25 == 0:
                slow.line.full = True  # it took something
            assert second >= 30 or stuck.closed == []
            assert second < 37 or stuck.closed == [CloseCode.HEARTBEAT_TIMEOUT]
        assert slow.closed == idle.closed == []


async def test_a_silent_line_gets_a_heartbeat_and_a_busy_one_none(autojump_clock: object) -> None:
    async with opened(Heartbeat(silence_s=5)) as house:
        silent, busy = await house.open(STATUS), await house.open(PRICE)
        for _ in range(62):
            await trio.sleep(1)
            silent.hear()
            busy.hear()
            await house.tell(price("1.00"))
        assert kinds(silent.line.take()) == ["heartbeat"] * 12
        assert "heartbeat" not in kinds(busy.line.take())


async def test_whoever_was_spoken_to_alone_needs_no_heartbeat(autojump_clock: object) -> None:
    async with opened(Heartbeat(silence_s=5)) as house:
        one, two = await house.open(PRICE), await house.open(PRICE)
        for _ in range(22):
            await trio.sleep(1)
            await house.tell(SendSnapshot(session=one.session, channels=(PRICE,), request_id=1))
        assert "heartbeat" not in kinds(one.line.take())
        assert kinds(two.line.take()) == ["heartbeat"] * 4


@pytest.mark.parametrize("silence_s", [0.2, 0.5, 1, 5, 7.3])
async def test_no_line_is_silent_for_three_times_the_time_it_may_be(
    autojump_clock: object, silence_s: float
) -> None:
    async with opened(Heartbeat(silence_s=silence_s)) as house:
        clients = [await house.open(PRICE) for _ in range(3)]
        rng = random.Random(1)
        last = dict.fromkeys(clients, trio.current_time())
        for _ in range(400):
            await trio.sleep(silence_s / 10)
            if rng.random() < 0.02:
                await house.tell(
                    SendSnapshot(session=rng.choice(clients).session, channels=(PRICE,), request_id=1)
                )
            if rng.random() < 0.02:
                await house.tell(price("1.00"))
            for client in clients:
                client.hear()
                if client.line.take():
                    last[client] = trio.current_time()
                assert trio.current_time() - last[client] < 3 * silence_s


async def test_a_shorter_silence_holds_for_all_and_a_longer_one_for_those_who_come_then(
    autojump_clock: object,
) -> None:
    """Whoever was told `silence_s` holds a line for dead that is silent for three times that."""
    async with opened(Heartbeat(silence_s=5)) as house:
        first = await house.open(PRICE)
        house.settings.replace(Config(heartbeat=Heartbeat(silence_s=30)))
        second = await house.open(PRICE)
        for _ in range(61):
            await trio.sleep(1)
            first.hear()
            second.hear()
        assert kinds(first.line.take()) == ["heartbeat"] * 12
        assert kinds(second.line.take()) == ["heartbeat"] * 2
        house.settings.replace(Config(heartbeat=Heartbeat(silence_s=1)))
        for _ in range(20):
            await trio.sleep(1)
            first.hear()
            second.hear()
        assert len(first.line.take()) >= 15
        assert len(second.line.take()) >= 15


async def test_a_line_that_is_full_gets_no_heartbeats(autojump_clock: object) -> None:
    async with opened(Heartbeat(silence_s=5)) as house:
        client = await house.open(PRICE)
        client.line.full = True
        await house.tell(price("1.00"))
        for _ in range(20):
            await trio.sleep(1)
            client.hear()
        client.line.full = False
        assert kinds(client.line.take()) == ["price_update"]


async def test_a_quiet_client_is_pinged_and_lives_when_it_answers(autojump_clock: object) -> None:
    async with opened(Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as house:
        client = await house.open(PRICE)
        for _ in range(100):
            before = len(client.line.reader.controls)
            await trio.sleep(1)
            if len(client.line.reader.controls) > before:
                await trio.sleep(5)
                client.hear()
        assert client.closed == []
        assert len(client.line.reader.controls) >= 4


async def test_a_dead_client_is_pinged_once_and_closed(autojump_clock: object) -> None:
    async with opened(Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as house:
        client, other = await house.open(PRICE), await house.open(PRICE)
        for _ in range(29):
            await trio.sleep(1)
            other.hear()
        assert client.closed == []
        for _ in range(5):
            await trio.sleep(1)
            other.hear()
        assert client.closed == [CloseCode.HEARTBEAT_TIMEOUT]
        assert len(client.line.reader.controls) == 1
        assert other.closed == []


async def test_a_heartbeat_that_becomes_shorter_finds_the_dead_in_time(autojump_clock: object) -> None:
    async with opened(Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as house:
        house.settings.replace(Config(heartbeat=Heartbeat(ping_interval_s=2, pong_timeout_s=2)))
        client = await house.open(PRICE)
        await trio.sleep(7.5)
        assert client.closed == [CloseCode.HEARTBEAT_TIMEOUT]


async def test_nobody_is_dead_who_was_not_pinged(autojump_clock: trio.testing.MockClock) -> None:
    """After the whole process was held up, every client looks silent."""
    async with opened(Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as house:
        client = await house.open(PRICE)
        autojump_clock.jump(600)
        await trio.sleep(1.5)
        assert (client.closed, len(client.line.reader.controls)) == ([], 1)
        client.hear()
        await trio.sleep(15)
        assert client.closed == []


async def test_who_wants_nothing_and_says_nothing_is_closed(autojump_clock: object) -> None:
    async with opened() as house:
        idle, listener = await house.open(), await house.open(PRICE)
        for _ in range(40):
            await trio.sleep(10)
            idle.hear()  # its library answers pings
            listener.hear()
        assert (idle.closed, listener.closed) == ([CloseCode.IDLE_TIMEOUT], [])


async def test_who_says_something_now_and_then_is_not_idle(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open()
        for second in range(0, 3000, 10):
            await trio.sleep(10)
            client.hear()
            if second % 290 == 0:
                await client.session.receive('{"type":"ping"}')
        assert client.closed == []


async def test_the_time_to_be_idle_may_change_and_be_switched_off(autojump_clock: object) -> None:
    async with opened() as house:
        house.settings.replace(Config(limits=Limits(idle_timeout_s=0)))
        client = await house.open()
        for _ in range(100):
            await trio.sleep(10)
            client.hear()
        assert client.closed == []
        house.settings.replace(Config(limits=Limits(idle_timeout_s=15)))
        await trio.sleep(10)
        assert client.closed == [CloseCode.IDLE_TIMEOUT]


async def test_a_connection_that_is_already_gone_is_not_closed_again(autojump_clock: object) -> None:
    async with opened(Heartbeat(ping_interval_s=20, pong_timeout_s=10)) as house:
        client = await house.open(PRICE)
        client.session.end()
        await trio.sleep(100)
        await house.ref.stop(block=False)
        assert client.closed == []


async def test_a_full_inbox_does_not_stop_the_beat(autojump_clock: trio.testing.MockClock) -> None:
    """Under a flood of prices the inbox is full for long; the hub must not die of its own beat."""
    async with opened(Heartbeat(silence_s=1)) as house:
        client = await house.open(STATUS)
        for _ in range(20):
            for _ in range(Hub.inbox_capacity):
                house.ref.tell(price("1.00"))
            autojump_clock.jump(1.5)
            await trio.testing.wait_all_tasks_blocked()
        assert kinds(client.line.take()).count("heartbeat") >= 15


# --- the end ---


async def test_a_hub_that_stops_sends_what_is_due_and_says_goodbye(autojump_clock: object) -> None:
    async with opened() as house:
        clients = [await house.open(PRICE), await house.open(PRICE, STATUS, encoding=MSGPACK)]
        house.ref.tell(price("1.00"))
        await house.ref.stop(block=False)
        for client in clients:
            assert kinds(client.line.take()) == ["price_update"]
            assert client.closed == [CloseCode.GOING_AWAY]


async def test_a_hub_that_dies_sends_its_clients_away(autojump_clock: object) -> None:
    """The counts are lost: they must not go on as if nothing had happened."""
    client = None
    with pytest.RaisesGroup(AttributeError), structlog.testing.capture_logs():
        async with opened() as house:
            client = await house.open(PRICE)
            house.ref.tell(Decided(decisions=(None,)))  # type: ignore[arg-type]
            await trio.sleep(1)
    assert client is not None
    assert client.closed == [CloseCode.GOING_AWAY]


async def test_a_hub_that_dies_spreads_its_clients_returns(autojump_clock: object) -> None:
    clients: list[FakeClient] = []
    with pytest.RaisesGroup(AttributeError), structlog.testing.capture_logs():
        async with opened() as house:
            clients += [await house.open(PRICE) for _ in range(50)]
            house.ref.tell(Decided(decisions=(None,)))  # type: ignore[arg-type]
            await trio.sleep(1)
    assert len({client.retry_after_ms for client in clients}) == 50


# --- the drain ---


def drain_of(clients: int, within_s: float = 15.0) -> Drain:
    return Drain.plan(clients, within_s, trio.current_time())


async def test_in_a_drain_prices_go_on_until_a_clients_own_good_bye(autojump_clock: object) -> None:
    async with opened() as house:
        clients = [await house.open(PRICE) for _ in range(100)]
        plan, begin = drain_of(2000), trio.current_time()  # as slow as if there were more of them
        await house.tell(DrainSessions(plan=plan))
        gone: list[int] = []
        for number in range(1, 41):
            await trio.sleep(plan.closing_s / 2000 * 2.5)
            await house.tell(price(f"{number}.00"))
            gone.append(sum(bool(client.closed) for client in clients))
        assert gone == sorted(gone)
        assert len(set(gone)) > 30, "one after the other, not all at once"
        assert all(client.closed == [CloseCode.GOING_AWAY] for client in clients)
        first, last = clients[0], clients[-1]
        assert trio.current_time() - begin < plan.closing_s
        assert len(last.line.take()) == 40
        assert first.retry_after_ms is not None
        assert last.retry_after_ms is not None
        slots = [client.retry_after_ms for client in clients]
        assert len(set(slots)) == 100
        assert slots[0] == plan.retry_after_ms(0, begin)


async def test_who_has_something_to_take_yet_is_sent_away_last(autojump_clock: object) -> None:
    async with opened() as house:
        slow, *others = [await house.open(PRICE) for _ in range(10)]
        slow.line.full = True
        await house.tell(price("1.00"))
        await house.tell(DrainSessions(plan=drain_of(10)))
        while not all(client.closed for client in others):
            assert not slow.closed
            await trio.sleep(0.0005)
        await trio.sleep(1)
        assert slow.closed == [CloseCode.GOING_AWAY]


async def test_whoever_was_on_his_way_in_when_a_drain_began_is_sent_away_at_once(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        await house.tell(DrainSessions(plan=drain_of(0)))
        client = await house.open(PRICE)
        assert client.closed == [CloseCode.GOING_AWAY]
        assert client.retry_after_ms is not None
        assert client.retry_after_ms > 0


async def test_whoever_is_left_when_the_hub_stops_in_a_drain_is_sent_away_then(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        clients = [await house.open(PRICE) for _ in range(10)]
        await house.tell(DrainSessions(plan=drain_of(5000)))
        await house.ref.stop(block=False)
        assert all(client.closed == [CloseCode.GOING_AWAY] for client in clients)


# --- coming back ---


def updates(messages: list[dict[str, Any]]) -> list[int]:
    return [message["update_count"] for message in messages if "update_count" in message]


async def come_back(house: House, client: FakeClient, **counts: int) -> dict[str, Any]:
    """Subscribe where the client was; the answer, without what follows it."""
    resume = {name.replace("_", ":"): Position(epoch=house.hub.epoch, count=n) for name, n in counts.items()}
    await house.tell(Subscribe(session=client.session, channels=tuple(resume), request_id=1, resume=resume))
    answer: dict[str, Any] = client.line.reader.messages.pop(0)
    return answer


async def test_who_comes_back_gets_what_it_missed_and_no_snapshot(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(*(price(f"{n}.00") for n in range(1, 6)), status())
        client = await house.open()
        answer = await come_back(house, client, price_XAUUSD=2, status_XAUUSD=1)
        assert answer["data"]["channels"][PRICE] == {
            "epoch": house.hub.epoch,
            "count": 5,
            "recovered": True,
        }
        assert updates(client.line.take()) == [3, 4, 5]
        await house.tell(price("6.00"))
        assert updates(client.line.take()) == [6]


async def test_who_missed_more_than_is_kept_gets_the_snapshot(autojump_clock: object) -> None:
    async with opened(resume_messages=3) as house:
        await house.tell(*(price(f"{n}.00") for n in range(1, 6)))
        client = await house.open()
        answer = await come_back(house, client, price_XAUUSD=1)
        assert answer["data"]["channels"][PRICE]["recovered"] is False
        assert updates(client.line.take()) == [5]


async def test_a_channel_that_the_session_has_already_is_not_sent_twice(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(PRICE)
        await house.tell(price("1.00"), price("2.00"))
        client.line.take()
        answer = await come_back(house, client, price_XAUUSD=0)
        assert answer["data"]["channels"][PRICE]["recovered"] is False
        assert updates(client.line.take()) == [2]


async def test_a_slow_client_that_comes_back_is_not_closed_for_what_it_missed(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(*(price(f"{n}.00") for n in range(1, 91)))
        client = await house.open(settings=Settings(Config(limits=Limits(send_queue_bytes=1024))))
        client.line.full = True
        await house.tell(
            Subscribe(
                session=client.session,
                channels=(PRICE,),
                request_id=1,
                resume={PRICE: Position(epoch=house.hub.epoch, count=0)},
            )
        )
        await house.tell(price("91.00"), price("92.00"))
        client.line.full = False
        assert client.closed == []
        messages = client.line.take()
        assert updates(messages) == [*range(1, 91), 92]
        assert messages[-1]["conflated"] == 2


@given(cuts=st.lists(st.integers(1, 30), max_size=12), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_wherever_the_line_is_cut_there_is_neither_hole_nor_repeat(cuts: list[int], seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        async with opened() as house:
            seen: list[int] = []
            number = 0
            for length in [*cuts, 1]:
                client = await house.open()
                answer = await come_back(house, client, price_XAUUSD=seen[-1] if seen else 0)
                assert answer["data"]["channels"][PRICE]["recovered"] is True
                for _ in range(length):
                    number += 1
                    await house.tell(price(f"{number}.00"))
                heard = updates(client.line.take())
                seen += heard[: rng.randint(0, len(heard))] if length != 1 else heard
                await house.tell(SessionClosed(session=client.session))
            client = await house.open()
            await come_back(house, client, price_XAUUSD=seen[-1] if seen else 0)
            seen += updates(client.line.take())
            assert seen == list(range(1, number + 1))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_hub_that_stopped_in_order_leaves_everything_to_the_next(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(*(price(f"{n}.00") for n in range(1, 6)), status(), fired("a1"))
        epoch = house.hub.epoch
        await house.ref.stop(block=False)
        await house.start(house.nursery)
        assert house.hub.epoch == epoch
        client = await house.open(owner="local")
        await come_back(house, client, price_XAUUSD=3)
        assert updates(client.line.take()) == [4, 5]
        await house.tell(price("6.00"))
        assert updates(client.line.take()) == [6]
        await house.tell(Subscribe(session=client.session, channels=("alert",), request_id=2))
        [_, alert] = client.line.take()
        assert (alert["data"]["alert_id"], alert["data"]["redelivered"]) == ("a1", True)
        fresh = await house.open()
        await house.tell(Subscribe(session=fresh.session, channels=(PRICE,), request_id=3))
        assert updates(fresh.line.take()) == [6]


async def test_a_price_from_before_a_restart_is_no_snapshot(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(price("1.00"), price("2.00"))
        await house.ref.stop(block=False)
        await house.start(house.nursery)
        client = await house.open()
        await house.tell(Subscribe(session=client.session, channels=(PRICE,), request_id=1))
        [answer] = client.line.take()
        assert answer["data"]["channels"][PRICE]["count"] == 2
        await house.tell(price("1.00"))
        assert updates(client.line.take()) == [3]


async def test_the_last_price_of_a_closed_market_is_a_snapshot_with_its_own_time(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        restored = msgspec.structs.replace(priced("2.00"), quality=Quality.CLOSED)
        await house.tell(status(Quality.CLOSED), PriceRestored(price=restored))
        client = await house.open(PRICE)
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=1))
        _, snapshot = client.line.take()
        assert (snapshot["update_count"], snapshot["data"]["close"]) == (0, 2.0)
        assert (snapshot["data"]["quality"], snapshot["data"]["timestamp"]) == (
            "closed",
            "2025-10-27T12:00:00Z",
        )
        await house.tell(price("3.00"))
        assert updates(client.line.take()) == [1]
        await house.tell(SendSnapshot(session=client.session, channels=(PRICE,), request_id=1))
        _, snapshot = client.line.take()
        assert (snapshot["update_count"], snapshot["data"]["close"]) == (1, 3.0)


async def test_what_was_left_is_taken_once(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(price("1.00"))
        await house.ref.stop(block=False)
        await house.start(house.nursery)
        epoch, house.persister.handover = house.hub.epoch, None  # as after kill -9
        await house.start(house.nursery)
        assert house.hub.epoch != epoch


@pytest.mark.parametrize("left", [b"", b"\xc1", b"\x81\xa1x\x01"])
async def test_what_another_version_left_makes_a_new_epoch(autojump_clock: object, left: bytes) -> None:
    async with opened() as house:
        house.persister.handover = left
        with structlog.testing.capture_logs() as logs:
            await house.start(house.nursery)
        assert logs[0]["event"] == "handover_unreadable"
        await house.tell(price("1.00"))


# --- alerts ---


def fired(alert_id: str, owner: str = "local") -> AlertFired:
    return AlertFired(owner=owner, alert=alert(1, alert_id).data)


def delivered(client: FakeClient) -> list[tuple[str, bool]]:
    return [
        (m["data"]["alert_id"], m["data"]["redelivered"]) for m in client.line.take() if m["type"] == "alert"
    ]


async def test_an_alert_goes_to_all_sessions_of_its_owner_and_to_nobody_else(autojump_clock: object) -> None:
    async with opened() as house:
        mine = [await house.open("alert:alice", owner="alice") for _ in range(2)]
        other = await house.open("alert:bob", owner="bob")
        await house.tell(fired("a1", "alice"), fired("b1", "bob"), fired("a2", "alice"))
        assert [delivered(client) for client in mine] == [[("a1", False), ("a2", False)]] * 2
        assert delivered(other) == [("b1", False)]


async def test_an_alert_is_sent_again_until_it_is_acknowledged(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(fired("a1"), fired("a2"), fired("a3"))
        client = await house.open(owner="local")
        await house.tell(Subscribe(session=client.session, channels=("alert",), request_id=1))
        assert delivered(client) == [("a1", True), ("a2", True), ("a3", True)]
        await house.tell(AlertsAcknowledged(owner="local", alert_ids=("a2", "x")))
        assert client.line.take() == []
        again = await house.open(owner="local")
        await house.tell(Subscribe(session=again.session, channels=("alert",), request_id=1))
        assert delivered(again) == [("a1", True), ("a3", True)]


async def test_an_alert_that_is_told_again_is_not_published_again(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open("alert:local", owner="local")
        await house.tell(fired("a1"), fired("a1"))
        assert delivered(client) == [("a1", False)]


async def test_who_comes_back_gets_each_unacknowledged_alert_once(autojump_clock: object) -> None:
    async with opened() as house:
        await house.tell(fired("a1"), fired("a2"), fired("a3"), fired("a4"))
        client = await house.open(owner="local")
        answer = await come_back(house, client, alert=2)
        assert answer["data"]["channels"]["alert"]["recovered"] is True
        assert delivered(client) == [("a1", True), ("a2", True), ("a3", False), ("a4", False)]


async def test_alerts_wait_for_a_slow_client_up_to_its_bound(autojump_clock: object) -> None:
    async with opened() as house:
        client = await house.open(
            "alert:local", owner="local", settings=Settings(Config(limits=Limits(send_queue_bytes=4096)))
        )
        client.line.full = True
        for n in range(20):
            await house.tell(fired(f"a{n}"))
        assert client.closed == [CloseCode.SLOW_CONSUMER]


# --- candles ---

MINUTE = "candle:XAUUSD:1m"


def candles(*closes: str, interval: str = "1m") -> CandlesChanged:
    """The same candle, again and again."""
    return CandlesChanged(
        candles=tuple(
            PublishedCandle(
                symbol="XAUUSD",
                instrument=Instrument.SPOT,
                interval=interval,
                start=START,
                end=EpochUs(START + 60 * SECOND_US),
                open=Decimal(1),
                high=Decimal(9),
                low=Decimal(1),
                close=Decimal(close),
                ticks=1,
                final=False,
                revision=0,
            )
            for close in closes
        )
    )


def candle_closes(messages: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(m["update_count"], m["data"]["close"]) for m in messages if m["type"] == "candle"]


async def test_a_channel_of_candles_that_nobody_asked_for_has_no_messages(autojump_clock: object) -> None:
    async with opened() as h:
        await h.tell(candles("1", "2", "3"), candles("4", interval="1s"))
        stats = await h.stats()
        assert (stats.channels, stats.update_count) == ({}, 0)


async def test_who_asks_for_candles_gets_the_newest_and_then_each(autojump_clock: object) -> None:
    async with opened() as h:
        await h.tell(candles("1", "2", "3"))
        client = await h.open()
        await h.tell(Subscribe(session=client.session, channels=(MINUTE,), request_id=1))
        messages = client.line.take()
        assert kinds(messages) == ["subscribed", "candle"]
        assert messages[0]["data"]["channels"][MINUTE]["count"] == 1
        assert candle_closes(messages) == [(1, 3)]
        await h.tell(candles("4", "5"), candles("6", interval="1s"))
        assert candle_closes(client.line.take()) == [(2, 4), (3, 5)]


async def test_who_comes_before_the_first_candle_misses_none(autojump_clock: object) -> None:
    async with opened() as h:
        client = await h.open()
        await h.tell(Subscribe(session=client.session, channels=(MINUTE,), request_id=1))
        assert kinds(client.line.take()) == ["subscribed"]
        await h.tell(candles("4"))
        assert candle_closes(client.line.take()) == [(1, 4)]


async def test_a_snapshot_of_candles_needs_no_subscription(autojump_clock: object) -> None:
    async with opened() as h:
        await h.tell(candles("1", "2"))
        client = await h.open()
        await h.tell(SendSnapshot(session=client.session, channels=(MINUTE,), request_id=1))
        assert candle_closes(client.line.take()) == [(1, 2)]
        await h.tell(candles("3"))
        assert client.line.take() == []


async def test_candles_that_were_missed_are_sent_to_who_comes_back(autojump_clock: object) -> None:
    async with opened() as h:
        first = await h.open(MINUTE)
        await h.tell(candles("1", "2"))
        await h.tell(SessionClosed(session=first.session), candles("3", "4"))
        client = await h.open()
        position = Position(epoch=h.hub.epoch, count=2)
        await h.tell(
            Subscribe(session=client.session, channels=(MINUTE,), request_id=1, resume={MINUTE: position})
        )
        assert candle_closes(client.line.take()) == [(3, 3), (4, 4)]


# --- operators ---


async def test_who_is_there_is_told_and_who_is_kicked_is_not_to_come_back(autojump_clock: object) -> None:
    async with opened() as house:
        kicked, stays = await house.open(PRICE), await house.open(STATUS)
        stays.session.id = "s2"
        assert {session.id for session in await ask(house.ref, GetSessions())} == {"s1", "s2"}
        assert await ask(house.ref, KickSession(session_id="s1"))
        assert not await ask(house.ref, KickSession(session_id="nobody"))
        assert (kicked.closed, stays.closed) == ([CloseCode.KICKED], [])


# --- symbols come and go ---


async def test_who_is_subscribed_to_a_symbol_that_goes_is_told_so_and_keeps_the_rest(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        both, other = await house.open(PRICE, "price:GC", "candle:GC:1m"), await house.open(PRICE)
        await house.tell(price("2000.00"), price("2100.0", "GC"), PriceRestored(price=priced("1", "GC")))
        both.line.take()
        other.line.take()
        house.settings.replace(Config(symbols={"XAUUSD": SYMBOLS["XAUUSD"]}))
        await house.tell(SymbolsRemoved(symbols=frozenset({"GC"})), price("2001.00"))
        error, unsubscribed, update = both.line.take()
        assert (error["type"], error["data"]["code"]) == ("error", "unknown_channel")
        assert error["data"]["message"] == "GC: this server has it no more"
        assert unsubscribed["type"] == "unsubscribed"
        assert unsubscribed["data"]["channels"] == ["candle:GC:1m", "price:GC"]
        assert not {"id"} & (error.keys() | unsubscribed.keys()), "nobody had asked"
        assert update["data"]["symbol"] == "XAUUSD"
        assert kinds(other.line.take()) == ["price_update"]
        stats = await house.stats()
        assert stats.last_price.keys() == {"XAUUSD"}
        assert stats.channels == {PRICE: 2}


async def test_what_waits_of_a_symbol_that_goes_is_dropped(autojump_clock: object) -> None:
    async with opened() as house:
        slow = await house.open("price:GC", PRICE)
        slow.line.full = True
        await house.tell(price("9.0", "GC"), price("1.00"), SymbolsRemoved(symbols=frozenset({"GC"})))
        slow.line.full = False
        assert kinds(told := slow.line.take()) == ["error", "unsubscribed", "price_update"]
        assert told[-1]["data"]["symbol"] == "XAUUSD"


async def test_a_symbol_that_comes_back_goes_on_counting_and_shows_no_old_price(
    autojump_clock: object,
) -> None:
    async with opened() as house:
        await house.tell(price("9.0", "GC"), price("8.0", "GC"), SymbolsRemoved(symbols=frozenset({"GC"})))
        client = await house.open()
        was = {"price:GC": Position(epoch=house.hub.epoch, count=1)}
        again = Subscribe(session=client.session, channels=("price:GC",), request_id=1, resume=was)
        await house.tell(again)
        await house.tell(price("7.0", "GC"))
        subscribed, update = client.line.take()
        position = subscribed["data"]["channels"]["price:GC"]
        assert (position["count"], position["recovered"]) == (2, False)
        assert (update["update_count"], update["data"]["close"]) == (3, 7)


async def test_of_many_who_lose_a_symbol_each_is_told_once(autojump_clock: object) -> None:
    async with opened() as house:
        clients = [await house.open(PRICE, "price:GC") for _ in range(SLICE + 3)]
        await house.tell(SymbolsRemoved(symbols=frozenset({"GC"})), price("1.00"))
        wanted = ["error", "unsubscribed", "price_update"]
        assert all(kinds(client.line.take()) == wanted for client in clients)
