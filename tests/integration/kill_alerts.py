"""kill -9 at random moments, again and again, and then the question what became of the alerts.

    python -m tests.integration.kill_alerts --points 100

runs a daemon with a quick random walk and some hundred rules, has a client listen and make more rules, kills it, starts
it again, and in the end holds what fired against the naive fold over what the database recorded: nothing may be lost,
nothing doubled, every rule that was acknowledged must be there, and the client must have got every alert that was its.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from aurexd.actors.messages import CreateRule
from aurexd.alert_rules import draft
from aurexd.calendar import ALWAYS
from aurexd.market import EpochUs
from aurexd.protocol.alerts import (
    Above,
    AlertCreateData,
    AnyCondition,
    Below,
    CrossesDown,
    CrossesUp,
    LeavesRange,
    Moves,
    NewHigh,
    NewLow,
    Repeat,
)
from aurexd.store import Store
from tests.integration.process import Running, open_stream
from tests.naive_alerts import Fired
from tests.recorded_alerts import read_record

SYMBOL = "TESTGOLD"

CONFIG = """
[listen]
port = 0
[limits]
max_attempts_per_second = 0
max_requests_per_second = 0
[symbols.TESTGOLD]
instrument = "test"
calendar = "always"
[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.005
volatility = 0.0003
seed = {seed}
symbols = {{ TESTGOLD = "TESTGOLD" }}
"""

OWNERS = 60
RULES = 180
LONGEST_LIFE_S = 0.8
FINISH_S = 1.0


class Victim:
    """A daemon, what its client got and was promised, over all its lives."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.rng = random.Random(seed)
        self.running = Running(folder, CONFIG.format(seed=seed))
        self.promised: set[str] = set()
        """Rules that were acknowledged."""
        self.got: Counter[str] = Counter()
        """Alerts by id, how often."""
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        with closing(Store(f"sqlite:///{self.running.database}", calendars={SYMBOL: ALWAYS})) as store:
            for number in range(RULES):
                asked = self._rule(self.rng.choice(list(Repeat)))
                store.create_rule(
                    CreateRule(
                        rule_id=f"r-{number}",
                        owner=f"owner-{number % OWNERS}",
                        draft=draft(asked, None, EpochUs(0)),
                        owner_limit=RULES,
                        limit=RULES,
                        now=EpochUs(0),
                    )
                )
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self.running.__exit__(*error)

    def live_and_die(self) -> None:
        """Live for a while, make rules meanwhile, and be killed at any moment."""
        until = time.monotonic() + self.rng.uniform(0.0, LONGEST_LIFE_S)
        with httpx.Client(base_url=f"http://127.0.0.1:{self.running.port}") as client:
            while time.monotonic() < until:
                body = msgspec.json.Encoder(decimal_format="number").encode(self._rule(Repeat.ONCE))
                answer = client.post(
                    "/api/v1/alerts", content=body, headers={"Content-Type": "application/json"}
                )
                assert answer.status_code == 201, answer.text
                self.promised.add(answer.json()["rule"]["rule_id"])
                time.sleep(0.02)
        self.running.kill()
        self._hear_out()
        self._start()

    def finish(self) -> None:
        """A last life that ends in order, with time for what is sent again."""
        time.sleep(FINISH_S)
        assert self.running.stop() == 0
        self._hear_out()

    def _start(self) -> None:
        self.running.start()
        self._listener = threading.Thread(
            target=trio.run, args=(self._listen, self.running.port), daemon=True
        )
        self._listener.start()

    def _hear_out(self) -> None:
        assert self._listener is not None
        self._listener.join(10)

    async def _listen(self, port: int) -> None:
        try:
            async with open_stream(port, subprotocol="aurex.v1.json") as stream:
                await stream.send_message('{"type": "subscribe", "data": {"channels": ["alert"]}}')
                while True:
                    message: dict[str, Any] = json.loads(await stream.get_message())
                    if message["type"] == "alert":
                        self.got[message["data"]["alert_id"]] += 1
        except* (ConnectionClosed, HandshakeError, OSError):
            pass  # it was killed

    def _rule(self, repeat: Repeat) -> AlertCreateData:
        rng = self.rng
        level = Decimal(rng.randint(268_000, 272_000)) / 100
        conditions: list[AnyCondition] = [
            Above(level=level),
            Below(level=level),
            CrossesUp(level=level),
            CrossesDown(level=level),
            LeavesRange(low=level, high=level + 5),
            Moves(amount=Decimal(rng.randint(3, 12)), window_s=rng.choice([1, 5])),
            NewHigh(window_s=rng.choice([1, 5])),
            NewLow(window_s=rng.choice([1, 5])),
        ]
        condition = rng.choice(conditions)
        hysteresis = Decimal(rng.choice([0, 1, 2]))
        return AlertCreateData(symbol=SYMBOL, condition=condition, repeat=repeat, hysteresis=hysteresis)


class Verdict(msgspec.Struct):
    """What became of the alerts."""

    prices: int
    alerts: int
    late: int
    rules: int
    lost: list[Fired]
    """Should have fired by the record."""
    doubled: list[Fired]
    """Fired, and should not have."""
    undelivered: list[str]
    """The client's, which it never got."""
    broken: list[str]
    """Rules that were acknowledged, and are gone."""


class Judge:
    """Holds the record against what happened."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim

    def judge(self) -> Verdict:
        """After the last life."""
        alerts, expected = read_record(self._victim.running.database)
        rows = self._victim.running.rows
        mine = {alert_id for (alert_id,) in rows("SELECT alert_id FROM alerts WHERE owner = 'local'")}
        kept = {rule_id for (rule_id,) in rows("SELECT rule_id FROM alert_rules")}
        ((prices,),) = rows("SELECT count(*) FROM prices")
        return Verdict(
            prices=prices,
            alerts=len(alerts),
            late=sum(fired.late for fired in alerts),
            rules=len(kept),
            lost=[*(Counter(expected) - Counter(alerts)).elements()],
            doubled=[*(Counter(alerts) - Counter(expected)).elements()],
            undelivered=sorted(mine - self._victim.got.keys()),
            broken=sorted(self._victim.promised - kept),
        )


def main() -> int:
    """Kill, judge, and say what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Victim(Path(folder), seed=arguments.seed) as victim:
        for _ in range(arguments.points):
            victim.live_and_die()
        victim.finish()
        verdict = Judge(victim).judge()
    found = (verdict.lost, verdict.doubled, verdict.undelivered, verdict.broken)
    sys.stdout.write(
        f"{arguments.points} kills: {verdict.prices} prices, {verdict.rules} rules, {verdict.alerts} alerts "
        f"({verdict.late} late); lost {len(found[0])}, doubled {len(found[1])}, undelivered {len(found[2])}, "
        f"rules lost {len(found[3])}\n"
    )
    for each in found:
        sys.stdout.writelines(f"  {item}\n" for item in each[:10])
    return int(any(found))


if __name__ == "__main__":
    sys.exit(main())
