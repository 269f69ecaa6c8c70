"""The alerts' actor with the persister and the database's thread behind it, and a hub that only listens."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pykka
import pytest
import trio
import trio.testing

from aurexd.actors.alerts import AT_ONCE, Alerts
from aurexd.actors.messages import (
    AlertFired,
    AlertsAcknowledged,
    AlertsFired,
    AskAlerts,
    AskedOfAlerts,
    CatchUpAlerts,
    Decided,
    Decision,
    GetAlertWhy,
    GetUnacknowledged,
)
from aurexd.actors.persister import Persister, StoreWorker
from aurexd.actors.trio_actor import TrioActor, ask, start_actor
from aurexd.backlog import Backlog
from aurexd.calendar import ALWAYS
from aurexd.clock import SystemClock
from aurexd.config.model import Alerts as AlertLimits
from aurexd.config.model import Config, Symbol
from aurexd.errors import AlertError
from aurexd.market import Instrument, Quality
from aurexd.protocol.alerts import (
    Above,
    AlertAckData,
    AlertAckedData,
    AlertCreateData,
    AlertData,
    AlertDeleteData,
    AlertListData,
    AlertListedData,
    AlertRuleData,
    CrossesUp,
    Repeat,
)
from aurexd.protocol.codes import ErrorCode
from aurexd.protocol.messages import AlertCreate
from aurexd.settings import Settings
from tests.actors.lines import FakeClient
from tests.test_alert_store import priced
from tests.test_alerts import SYMBOL

L100 = Decimal(100)
LONG_S = 30.0
"""An interval that no test waits for: what is seen sooner did not wait for it."""


class Listening(TrioActor):
    """Stands for the hub."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    async def on_receive(self, message: object) -> object:
        self.told.append(message)
        return None


class House:
    """The actors, started in the daemon's order."""

    def __init__(self, nursery: trio.Nursery, path: Path | None, **limits: Any) -> None:
        self.nursery = nursery
        self.path = path
        self.hub_actor = Listening()
        self.settings = Settings(
            Config(alerts=AlertLimits(**limits), symbols={SYMBOL: Symbol(instrument=Instrument.TEST)})
        )

    async def start(self) -> None:
        clock = SystemClock()
        self.hub = await start_actor(self.nursery, self.hub_actor)
        url = f"sqlite:///{self.path}"
        worker = None
        if self.path is not None:
            worker = await start_actor(self.nursery, StoreWorker(url, calendars={SYMBOL: ALWAYS}, run="r"))
        # Both know each other, as in the daemon, where addresses are there before the actors.
        relay = await start_actor(self.nursery, relaying := Relay())
        self.persister = await start_actor(
            self.nursery,
            Persister(
                worker,
                Backlog(1000),
                flush_interval_s=LONG_S,
                retention_days=0,
                candle_days={},
                clock=clock,
                rng=random.Random(1),
                alerts=relay,
            ),
        )
        self.alerts = await start_actor(
            self.nursery,
            Alerts(
                hub=self.hub,
                persister=self.persister,
                retention_days=0,
                settings=self.settings,
                clock=clock,
            ),
        )
        relaying.to = self.alerts

    async def ask(self, data: Any, owner: str = "alice") -> Any:
        return await ask(self.alerts, AskAlerts(owner=owner, data=data), timeout_s=10)

    async def told(self, condition: Callable[[list[Any]], bool]) -> list[Any]:
        while not condition(self.hub_actor.told):
            await trio.sleep(0.005)
        return self.hub_actor.told

    def told_of(self) -> list[AlertData]:
        return [m.alert for m in self.hub_actor.told if isinstance(m, AlertFired)]

    def alert_ids(self) -> list[str]:
        return [alert.alert_id for alert in self.told_of()]

    def record(self, *records: Decision) -> None:
        for each in records:
            self.persister.tell(Decided(decisions=(each,)))


class Relay(TrioActor):
    """Keeps what is told until there is somebody to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.to: pykka.ActorRef[Any] | None = None

    async def on_receive(self, message: object) -> object:
        while self.to is None:
            await trio.sleep(0.005)
        self.to.tell(message)
        return None


@asynccontextmanager
async def opened(path: Path | None, **limits: Any) -> AsyncIterator[House]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            house = House(nursery, path, **limits)
            await house.start()
            yield house
            nursery.cancel_scope.cancel()


def create(level: Decimal = L100, symbol: str = SYMBOL) -> AlertCreateData:
    return AlertCreateData(symbol=symbol, condition=CrossesUp(level=level))


async def test_a_rule_is_on_the_disk_when_it_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as house:
        made = await house.ask(create())
        assert isinstance(made, AlertRuleData)
        with closing(sqlite3.connect(tmp_path / "a.db")) as db:
            assert db.execute("SELECT rule_id, owner FROM alert_rules").fetchall() == [
                (made.rule.rule_id, "alice")
            ]
        listed = await house.ask(AlertListData())
        assert isinstance(listed, AlertListedData)
        assert [rule.rule_id for rule in listed.rules] == [made.rule.rule_id]
        await house.ask(AlertDeleteData(rule_id=made.rule.rule_id))
        assert (await house.ask(AlertListData())).rules == []


async def test_a_price_that_fires_is_written_at_once_and_the_hub_is_told_when_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as house:
        house.record(priced("99", 1))
        rule = (await house.ask(create())).rule
        house.record(priced("99.5", 2), priced("101", 3))
        await house.told(bool)
        assert house.alert_ids() == [f"{rule.rule_id}-1"]
        why = await ask(house.persister, GetAlertWhy(owner="alice", alert_id=house.alert_ids()[0]))
        assert why.price is not None
        assert why.price.close == 101


async def test_what_fires_while_a_batch_is_written_does_not_wait_for_the_next_flush(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as house:
        house.record(priced("99", 0))
        await house.ask(msgspec.structs.replace(create(), repeat=Repeat.EVERY_TIME))
        for second in range(1, 9):
            house.record(priced("101" if second % 2 else "99", second))
            await trio.sleep(0.001)
        await house.told(lambda told: len(told) == 4)


async def test_what_nobody_acknowledged_is_told_again_after_a_crash_and_what_was_is_not(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "a.db") as house:
        for level in (100, 101):
            await house.ask(create(Decimal(level)))
        house.record(priced("99", 1), priced("102", 2))
        await house.told(lambda told: len(told) == 2)
        first, second = house.alert_ids()
        acked = await house.ask(AlertAckData(alert_ids=[first, first]))
        assert acked == AlertAckedData(alert_ids=[first])
        assert house.hub_actor.told[-1] == AlertsAcknowledged(owner="alice", alert_ids=(first,))
    async with opened(tmp_path / "a.db") as house:
        await house.told(bool)
        assert house.alert_ids() == [second]
        assert house.told_of()[0].redelivered, "who was there before may have told its owner"


class Unread(TrioActor):
    """Stands for the persister: has stored some alerts that nobody acknowledged."""

    def __init__(self, stored: list[AlertFired]) -> None:
        super().__init__()
        self.stored = stored

    async def on_receive(self, message: object) -> object:
        assert isinstance(message, GetUnacknowledged)
        return tuple(alert for alert in self.stored if alert.number > message.after)


@pytest.mark.parametrize("crashes", [True, False])
async def test_what_fired_before_is_not_passed_over_for_what_fires_now(
    *, crashes: bool, autojump_clock: trio.abc.Clock
) -> None:
    """When it starts after a crash, or is told to catch up, what just fired is in its inbox already."""
    del autojump_clock
    stored = [fired(number) for number in range(1, 5)]
    for _ in range(16):  # which task runs first is drawn
        async with trio.open_nursery() as nursery:
            hub = Listening()
            alerts = Alerts(
                hub=await start_actor(nursery, hub),
                persister=await start_actor(nursery, persister := Unread(stored if crashes else [])),
                retention_days=0,
                settings=Settings(Config()),
                clock=SystemClock(),
            )
            if not crashes:
                await start_actor(nursery, alerts)
                await trio.testing.wait_all_tasks_blocked()
                persister.stored = stored
                alerts.actor_ref.tell(CatchUpAlerts())
            alerts.actor_ref.tell(AlertsFired(fired=(stored[-1],)))
            if crashes:
                await start_actor(nursery, alerts)
            await trio.testing.wait_all_tasks_blocked()
            assert [message.number for message in hub.told] == [1, 2, 3, 4]
            nursery.cancel_scope.cancel()


def fired(number: int) -> AlertFired:
    return AlertFired(
        owner="alice",
        number=number,
        alert=AlertData(
            alert_id=f"r-{number}",
            rule_id="r",
            symbol=SYMBOL,
            condition=Above(level=L100),
            close=L100,
            previous_close=None,
            source="a",
            instrument=Instrument.TEST,
            quality=Quality.LIVE,
            timestamp="2025-10-27T12:00:00Z",
            fired="2025-10-27T12:00:00Z",
            late=False,
            paused_until=None,
            redelivered=False,
            note="",
        ),
    )


async def test_without_a_store_rules_are_refused_with_what_to_do() -> None:
    async with opened(None) as house:
        with pytest.raises(AlertError, match=r"set storage\.url") as refusal:
            await house.ask(create())
        assert refusal.value.code == ErrorCode.NOT_AVAILABLE


async def test_while_the_database_cannot_be_written_rules_are_refused_and_alerts_wait(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as house:
        house.record(priced("99", 1))
        await house.ask(create())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            house.record(priced("101", 2))
            with pytest.raises(AlertError, match=r"cannot be made durable now: .*locked") as refusal:
                await house.ask(create())
            assert refusal.value.code == ErrorCode.UNAVAILABLE
            assert refusal.value.retry_after_ms
            assert house.alert_ids() == []
            other.execute("ROLLBACK")
        await house.told(bool)
        assert len(house.alert_ids()) == 1


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db", max_rules_per_owner=1) as house:
        with pytest.raises(AlertError, match="there is no 'TULIPS'; there are TESTGOLD"):
            await house.ask(create(symbol="TULIPS"))
        with pytest.raises(AlertError, match="there is no such alert rule of yours"):
            await house.ask(AlertDeleteData(rule_id="r-1"))
        await house.ask(create())
        with pytest.raises(AlertError) as refusal:
            await house.ask(create())
        assert refusal.value.code == ErrorCode.TOO_MANY_RULES


async def test_a_session_is_answered_and_too_many_at_once_are_told_to_come_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as house:
        client = FakeClient(house.hub, SystemClock(), owner="alice")
        data = AlertCreateData(symbol=SYMBOL, condition=Above(level=L100))
        for number in range(AT_ONCE + 1):
            request = AlertCreate(id=number, data=data)
            house.alerts.tell(AskedOfAlerts(session=client.session, owner="alice", request=request))
        answers: list[Any] = []
        while len(answers) < AT_ONCE + 1:
            answers += client.line.take()
            await trio.sleep(0.005)
        kinds = [(answer["type"], answer["id"]) for answer in answers]
        assert kinds[0] == ("error", AT_ONCE)
        assert answers[0]["data"]["code"] == "unavailable"
        assert sorted(kinds[1:]) == [("alert.created", number) for number in range(AT_ONCE)]
