"""kill -9 at a hundred random moments, with real clients: what fired must be what the record says, for everybody.

    python -m tests.reference.kill [--points 100] [--seed 1] [--folder FOLDER]

Two stand-ins of a provider feed a real daemon, and both fall silent now and then, so that the price fails over, goes
stale and comes back. Clients make rules about what the price is likely to do next, change some, read their alerts and
acknowledge most. The daemon is killed, without a word, and started again on the same database, which is looked at in a
copy, so that it is the daemon that has to recover it. At the end the plain fold judges (tests/reference/evaluator.py).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from aurexd.clock import SystemClock
from aurexd.market import SECOND_US, EpochUs, format_time
from tests.integration.process import open_stream
from tests.issuer import token
from tests.ports import free_port
from tests.reference.record import Record, Version, candles_that_differ, judge_alerts, read_record
from tests.standins.alltick import AllTickStandIn
from tests.standins.websocket import Client as StandInClient

SECRET = b"as good as any other secret of thirty-two bytes"
"""Of `tests.issuer`'s key."""

OWNERS = ("alice", "bob", "carol", "dave", "erin", "frank")
START_S = 60.0
CONNECT_S = 20.0
"""trio-websocket waits for ever when the daemon is killed before it has answered the handshake: a dead line."""
DEAD_S = 15.0
"""Three times `silence_s`."""
SETTLE_S = 60.0
GONE = (ConnectionClosed, HandshakeError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)

CONFIG = """
[listen]
port = {port}
[control]
socket = ""
[limits]
max_messages_per_second = 1000
max_connections_per_ip = 0
max_attempts_per_second = 0
[auth]
mode = "token"
[auth.keys.k1]
algorithm = "HS256"
file = "{folder}/k1"
[alerts]
max_rules_per_owner = 100000
[storage]
url = "sqlite:///{folder}/aurexd.db"
[symbols.GOLD247]
instrument = "spot"
decimals = 2
calendar = "always"
"""
SOURCE = """
[[sources]]
name = "{name}"
type = "alltick"
url = "{url}"
token = "{name}"
priority = {priority}
stale_after_s = 0.5
symbols = {{ GOLD247 = "GOLD" }}
"""


class Feed(AllTickStandIn):
    """The provider, with more patience than it has."""

    def _is_too_soon(self, client: StandInClient) -> bool:
        del client
        return False


@dataclass
class Owner:
    """One user, over all lives of the daemon: what was asked, answered and received."""

    name: str
    random: random.Random
    attempts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Note → the `data` of the request."""
    created: dict[str, str] = field(default_factory=dict)
    """Rule → note, of those that were answered."""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Rule → the `data` of its one `alert.update`."""
    changed: set[str] = field(default_factory=set)
    """Rules whose change was answered."""
    received: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    """Alert → in which session it came, and what it was."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Alert → in which session that was answered."""
    wrong: list[str] = field(default_factory=list)
    sessions: int = 0
    prices: int = 0
    unavailable: int = 0
    """Requests that were refused for want of room."""
    dead: int = 0
    """Connections on which nothing was heard."""
    silent: int = 0
    """Alerts that came again and did not say so."""
    close: Decimal | None = None
    busy: bool = True
    """Makes rules; else it only reads and acknowledges."""
    settled: set[str] = field(default_factory=set)
    """Rules that were in the database when the daemon was last killed: these may be changed."""
    _requests: dict[int, dict[str, Any]] = field(default_factory=dict)
    _number: int = 0

    async def live(self, port: int) -> None:
        """Connect, again and again."""
        who = token(self.name, now=SystemClock().now())
        while True:
            try:
                with trio.CancelScope(deadline=trio.current_time() + CONNECT_S) as attempt:
                    async with open_stream(port, subprotocol="aurex.v1.json", token=who) as stream:
                        attempt.deadline = math.inf
                        await self._converse(stream)
                self.dead += attempt.cancelled_caught
            except* GONE:
                pass
            await trio.sleep(0.03)

    async def _converse(self, stream: WebSocketConnection) -> None:
        self.sessions += 1
        channels = {"channels": ["alert", "price:GOLD247"]}
        await self._ask(stream, "subscribe", channels)
        async with trio.open_nursery() as nursery:
            if self.busy:
                nursery.start_soon(self._make_rules, stream)
            while True:
                with trio.move_on_after(DEAD_S) as patience:
                    text = await stream.get_message()
                if patience.cancelled_caught:
                    self.dead += 1
                    nursery.cancel_scope.cancel()
                    return
                await self._hear(stream, json.loads(text, parse_float=Decimal))

    async def _ask(self, stream: WebSocketConnection, kind: str, data: dict[str, Any]) -> None:
        self._number += 1
        self._requests[self._number] = data
        message = {"type": kind, "id": self._number, "data": data}
        await stream.send_message(json.dumps(message, default=float))

    async def _hear(self, stream: WebSocketConnection, message: dict[str, Any]) -> None:
        data = message["data"]
        match message["type"]:
            case "price_update":
                self.close = Decimal(data["close"])
                self.prices += 1
            case "alert":
                await self._take(stream, data)
            case "alert.created":
                self.created[data["rule"]["rule_id"]] = data["rule"]["note"]
            case "alert.updated":
                self.changed.add(data["rule"]["rule_id"])
            case "alert.acked":
                for alert_id in data["alert_ids"]:
                    self.acknowledged.setdefault(alert_id, self.sessions)
            case "error" if data["code"] == "unavailable":
                await self._hear_unavailable(stream, self._requests[message["id"]])
            case "error":
                self.wrong.append(f"{self.name}: {data} to {self._requests.get(message.get('id', 0))}")

    async def _hear_unavailable(self, stream: WebSocketConnection, data: dict[str, Any]) -> None:
        """Nothing of it was done: a rule is not there, a change may be made another time, an alert is still waiting."""
        self.unavailable += 1
        if "alert_ids" in data:
            await trio.sleep(0.05)
            await self._ask(stream, "alert.ack", data)
        elif "rule_id" in data:
            self.changes.pop(data["rule_id"], None)

    async def _take(self, stream: WebSocketConnection, data: dict[str, Any]) -> None:
        alert_id = data["alert_id"]
        before = self.received.setdefault(alert_id, [])
        if alert_id in self.acknowledged:
            self.wrong.append(f"{self.name}: {alert_id} came again after it was acknowledged")
        if before and before[-1][0] == self.sessions:
            self.wrong.append(f"{self.name}: {alert_id} came twice in one session")
        self.silent += bool(before) and not data["redelivered"]
        if before and before[0][1] | {"redelivered": None} != data | {"redelivered": None}:
            self.wrong.append(f"{self.name}: {alert_id} was {before[0][1]}, and is {data}")
        before.append((self.sessions, data))
        if not self.busy or self.random.random() < 0.7:
            await self._ask(stream, "alert.ack", {"alert_ids": [alert_id]})

    # --- rules ---

    async def _make_rules(self, stream: WebSocketConnection) -> None:
        with contextlib.suppress(*GONE):
            while True:
                await trio.sleep(self.random.uniform(0.01, 0.12))
                if self.close is None:
                    continue
                unchanged = [
                    rule for rule in self.created if rule in self.settled and rule not in self.changes
                ]
                if unchanged and self.random.random() < 0.1:
                    await self._change(stream, self.random.choice(unchanged))
                else:
                    note = f"{self.name} {len(self.attempts)}"
                    self.attempts[note] = self._rule(self.close) | {"note": note}
                    await self._ask(stream, "alert.create", self.attempts[note])

    async def _change(self, stream: WebSocketConnection, rule_id: str) -> None:
        """So that it begins anew, awake."""
        assert self.close is not None
        before = self.attempts[self.created[rule_id]]["condition"]
        while (condition := self._rule(self.close)["condition"]) == before:
            pass  # the same would not begin anew
        changed = {"condition": condition, "hysteresis": None, "snoozed_until": None}
        self.changes[rule_id] = changed
        await self._ask(stream, "alert.update", {"rule_id": rule_id, **changed})

    def _rule(self, close: Decimal) -> dict[str, Any]:
        rng = self.random
        level = close + rng.randrange(-40, 41) * Decimal("0.01")
        window_s = rng.choice((1, 2, 5, 60))
        directions = ("up", "down", "either")
        kind = rng.choice(
            (
                *("above", "below", "crosses_up", "crosses_down", "leaves_range", "moves", "moves_percent"),
                *("new_high", "new_low", "becomes_stale"),
            )
        )
        fields: dict[str, Any] = {}
        match kind:
            case "above" | "below" | "crosses_up" | "crosses_down":
                fields = {"level": level}
            case "leaves_range":
                fields = {"low": level, "high": level + Decimal(rng.choice(("0.15", "0.40", "0.90")))}
            case "moves":
                amount = Decimal(rng.choice(("0.30", "0.55", "0.80")))
                fields = {"amount": amount, "window_s": window_s, "direction": rng.choice(directions)}
            case "moves_percent":
                percent = Decimal(rng.choice(("0.01", "0.02", "0.03")))
                fields = {"percent": percent, "window_s": window_s, "direction": rng.choice(directions)}
            case "new_high" | "new_low":
                fields = {"window_s": window_s}
        soon = EpochUs(SystemClock().now() + rng.randrange(SECOND_US, 9 * SECOND_US))
        hysteresis = rng.choice((None, None, Decimal("0.10")))
        return {
            "symbol": "GOLD247",
            "condition": {"kind": kind, **fields},
            "repeat": rng.choice(("once", "once", "every_time", "once_per_session")),
            "hysteresis": None if kind == "moves_percent" else hysteresis,
            "cooldown_s": rng.choice((0, 0, 1.5, 20)),
            "expires": format_time(soon) if rng.random() < 0.1 else None,
            "snoozed_until": format_time(soon) if rng.random() < 0.1 else None,
        }


class Market:
    """What the providers say: one random walk, of which each has its own view, and its own outages."""

    def __init__(self, seed: int, feeds: list[Feed]) -> None:
        self.random = random.Random(seed)
        self.feeds = feeds
        self.pushed = 0
        self.cancel_scope = trio.CancelScope()

    async def live(self) -> None:
        """Until it is cancelled."""
        with self.cancel_scope:
            await self._move()

    async def _move(self) -> None:
        rng, mid = self.random, 270_000
        silent_until = [0.0 for _ in self.feeds]
        while True:
            await trio.sleep(rng.uniform(0.002, 0.02))
            mid += rng.choice((-7, -3, -1, 0, 0, 1, 3, 7)) + (270_000 - mid) // 400
            now = trio.current_time()
            for number, feed in enumerate(self.feeds):
                if rng.random() < 0.0015:
                    silent_until[number] = now + rng.choice((0.3, 0.8, 2.0))
                if now >= silent_until[number]:
                    self.pushed += 1
                    await feed.push(f"{(mid + number * 18) / 100:.2f}")


class Daemon:
    """The process, through all its lives."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        (folder / "aurexd.toml").write_text(text)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Start, and wait for nothing."""
        command = [sys.executable, "-m", "aurexd", "run", "--config", str(self.folder / "aurexd.toml")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def end(self, number: int) -> int:
        """Send a signal, and wait; the exit status."""
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder / "log").read_text()
            raise RuntimeError(f"the daemon ended by itself: {log[-3000:]}")
        self.process.send_signal(number)
        return self.process.wait(START_S)

    def copy(self) -> Path:
        """The database as the dead daemon left it, in a place where it may be opened."""
        place = self.folder / "copy"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for file in self.folder.glob("aurexd.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, place)
        return place / "aurexd.db"


async def run(points: int, seed: int, folder: Path) -> Verdict:
    """So many lives and deaths, and one more life in which everybody gets what is left."""
    rng = random.Random(seed)
    owners = [Owner(name, random.Random(f"{seed} {name}")) for name in OWNERS]
    versions: dict[str, list[Version]] = {}
    async with Feed(max_connections=9).running() as first, Feed(max_connections=9).running() as second:
        market = Market(seed, [first, second])
        port = free_port()
        (folder / "k1").write_bytes(SECRET)
        (folder / "k1").chmod(0o600)
        text = CONFIG.format(port=port, folder=folder)
        for priority, feed in enumerate((first, second), 1):
            text += SOURCE.format(name="ab"[priority - 1], url=feed.url, priority=priority)
        with Daemon(folder, text) as daemon:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(market.live)
                for owner in owners:
                    nursery.start_soon(owner.live, port)
                for _ in range(points):
                    daemon.start()
                    await until(rng, owners)
                    await trio.sleep(rng.uniform(0.0, 2.0))
                    daemon.end(signal.SIGKILL)
                    if daemon.copy().exists():
                        note_versions(versions, read_record(daemon.copy()), owners)
                for owner in owners:
                    owner.busy = False
                daemon.start()
                await until(rng, owners)
                market.cancel_scope.cancel()
                await settle(owners)
                status = await trio.to_thread.run_sync(daemon.end, signal.SIGTERM)
                nursery.cancel_scope.cancel()
    record = read_record(daemon.copy())
    note_versions(versions, record, owners)
    return Verdict(points, status, market.pushed, owners, record, versions)


async def until(rng: random.Random, owners: list[Owner]) -> None:
    """Most lives last until prices come again, some until somebody is connected, and some are not waited for."""
    chance = rng.uniform(0.0, 1.0)
    sessions, prices = sum(owner.sessions for owner in owners), sum(owner.prices for owner in owners)
    with trio.move_on_after(START_S):
        while chance > 0.1 and sum(owner.sessions for owner in owners) == sessions:
            await trio.sleep(0.01)
        while chance > 0.2 and sum(owner.prices for owner in owners) < prices + len(owners):
            await trio.sleep(0.01)


async def settle(owners: list[Owner]) -> None:
    """Wait until everybody has acknowledged all that came, and nothing comes any more."""
    deadline, quiet_since, before = time.monotonic() + SETTLE_S, time.monotonic(), -1
    sessions = {owner.name: owner.sessions for owner in owners}
    while time.monotonic() < deadline:
        await trio.sleep(0.2)
        received = sum(len(owner.received) for owner in owners)
        waiting = sum(len(owner.received.keys() - owner.acknowledged.keys()) for owner in owners)
        came_back = all(owner.sessions > sessions[owner.name] for owner in owners)
        if received != before or waiting or not came_back:
            before, quiet_since = received, time.monotonic()
        elif time.monotonic() - quiet_since > 3.0:
            return


def note_versions(versions: dict[str, list[Version]], record: Record, owners: list[Owner]) -> None:
    """Each rule as it was asked for, with where the record says that it began; and again when it began anew."""
    asked_by = {note: (owner, data) for owner in owners for note, data in owner.attempts.items()}
    for owner in owners:
        owner.settled = {row.rule_id for row in record.rules}
    for row in record.rules:
        owner, asked = asked_by[row.note]
        known = versions.setdefault(row.rule_id, [])
        if not known:
            known.append(Version(row, owner.name, asked))
        elif row != known[-1].row:
            known.append(Version(row, owner.name, asked | owner.changes[row.rule_id]))


class Verdict:
    """What came of it."""

    def __init__(
        self,
        points: int,
        status: int,
        pushed: int,
        owners: list[Owner],
        record: Record,
        versions: dict[str, list[Version]],
    ) -> None:
        kept = {row.rule_id for row in record.rules}
        stored = {row.alert_id: row for row in record.alerts}
        self.figures: dict[str, int] = {
            "kill points": points,
            "ticks sent": pushed,
            "prices stored": len(record.prices),
            "statuses": len(record.statuses),
            "starts that stored something": len(record.runs),
            "rules asked for": sum(len(owner.attempts) for owner in owners),
            "rules acknowledged": sum(len(owner.created) for owner in owners),
            "rules stored": len(kept),
            "rules begun anew": sum(len(known) - 1 for known in versions.values()),
            "alerts stored": len(stored),
            "alerts late": sum(row.alert.late for row in record.alerts),
            "alerts over the budget": sum(row.alert.paused_until is not None for row in record.alerts),
            "alerts received": sum(len(owner.received) for owner in owners),
            "of them more than once": sum(len(r) > 1 for owner in owners for r in owner.received.values()),
            "acknowledgements answered": sum(len(owner.acknowledged) for owner in owners),
        }
        lost_rules = [rule for owner in owners for rule in owner.created if rule not in kept]
        expected, fired, self.differences = judge_alerts(record, versions)
        self.kinds = Counter(versions[a.rule_id][0].row.condition["kind"] for a in fired)
        received = {alert for owner in owners for alert in owner.received}
        missed = [alert for alert in stored if alert not in received]
        invented = [alert for alert in received if alert not in stored]
        twice = [
            key
            for key, count in Counter((a.rule_id, a.price_id, a.status_id) for a in fired).items()
            if count > 1
        ]
        self.figures |= {
            "alerts of the reference": len(expected),
            "acknowledged rules lost": len(lost_rules),
            "alerts lost (reference has, store has not)": len(set(expected) - set(fired)),
            "alerts invented (store has, reference has not)": len(set(fired) - set(expected)),
            "alerts doubled (a rule twice at one price)": len(twice),
            "alerts stored but never received": len(missed),
            "alerts received but not stored": len(invented),
            "candles that differ": candles_that_differ(record),
            "requests refused for want of room": sum(owner.unavailable for owner in owners),
            "dead lines": sum(owner.dead for owner in owners),
            "alerts that came again and did not say so": sum(owner.silent for owner in owners),
            "wrong deliveries": sum(len(owner.wrong) for owner in owners),
            "exit status": status,
        }
        self.wrong = list(self.differences)
        self.wrong += [word for owner in owners for word in owner.wrong]
        self.wrong += [f"lost rule {rule}" for rule in lost_rules]
        self.wrong += [f"stored, never received: {alert}" for alert in missed]
        self.wrong += [f"received, not stored: {alert}" for alert in invented]
        self.wrong += [f"twice: {key}" for key in twice]
        if expected != fired and not self.differences:
            self.wrong.append("the alerts are the same, in another order")
        if self.figures["candles that differ"]:
            self.wrong.append("candles differ")


def main() -> int:
    """The command; the exit status is 0 when nothing is lost and nothing doubled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=100, help="how often it is killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where database and log are left; default: nowhere")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        verdict = trio.run(run, arguments.points, arguments.seed, folder)
    for name, figure in verdict.figures.items():
        print(f"{figure:8} {name}")
    print("fired:", dict(verdict.kinds.most_common()))
    for word in verdict.wrong[:40]:
        print("WRONG", word)
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
