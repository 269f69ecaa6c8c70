"""The table of injected faults: what clients saw, next to what they should see.

    python -m tests.faults_table            # prints it
    python -m tests.faults_table --write    # writes it into docs/truth.md

Each line is a life of the whole daemon on virtual time: AllTick stand-ins on loopback sockets, and a WebSocket client
that writes down what it is told. All lives go side by side, so that the whole takes seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
import trio.testing
from structlog.testing import capture_logs
from trio_websocket import WebSocketConnection, open_websocket_url

from aurexd.clock import LoopClock
from aurexd.config import load
from aurexd.config.model import Config, Listen, Realtime, Storage, Symbol
from aurexd.daemon import Daemon
from aurexd.errors import ConfigError
from aurexd.market import SECOND_US, EpochUs, Instrument, parse_time
from aurexd.sources.alltick import AllTick
from tests.standins.alltick import AllTickStandIn

DOCUMENT = Path(__file__).parent.parent / "docs" / "truth.md"
HEAD = "| fault | clients should see | clients saw | counted as |\n|---|---|---|---|\n"
_MARKED = re.compile(r"(<!-- made: faults -->\n).*?(<!-- end -->)", re.DOTALL)

SETTLE_S = 9.0
"""Connecting and subscribing takes AllTick's request spacing."""

STALE_AFTER_S = 5.0
WEDNESDAY = "2026-11-18T12:00:00Z"


class StageClock(LoopClock):
    """A wall clock that can be set, so that nobody has to live through a weekend."""

    def __init__(self, start: EpochUs) -> None:
        super().__init__(start)
        self._set = 0

    def now(self) -> EpochUs:
        return EpochUs(super().now() + self._set)

    def set(self, text: str) -> None:
        self._set += parse_time(text) - self.now()


class Stage:
    """One daemon with its sources, and what its client was told since the warm-up."""

    def __init__(self, daemon: Daemon, clock: StageClock, standins: dict[str, AllTickStandIn]) -> None:
        self.daemon = daemon
        self.clock = clock
        self.standins = standins
        self._told: list[str] = []
        self._price = self._status = ""
        self._counted: Counter[str] = Counter()

    async def say(
        self, price: str, source: str = "a", *, spread: str = "0.10", age_s: float = 0.0, **fields: Any
    ) -> None:
        """A source quotes around a price; `age_s`: so old by its own clock."""
        mid, half = Decimal(price), Decimal(spread) / 2
        time = (self.clock.now() - int(age_s * SECOND_US)) // 1000
        await self.standins[source].push(
            str(mid - half), str(mid + half), **{"tick_time": str(time), **fields}
        )
        await trio.sleep(0.01)

    async def steady(self, seconds: int, price: str = "2000.00", sources: str = "a", **how: Any) -> None:
        """Each of these sources says so every second."""
        for _ in range(seconds):
            for source in sources:
                await self.say(price, source, **how)
            await trio.sleep(1 - 0.01 * len(sources))

    async def warm_up(self, sources: str = "a", **how: Any) -> None:
        """Everybody agrees for a while; what was told up to here is no part of the story."""
        await self.steady(10, "2000.00", sources, **how)
        self._told.clear()
        self._counted = await self._rejected()

    async def listen(self, connection: WebSocketConnection) -> None:
        """Write down what a client is told, shortly."""
        while True:
            message = json.loads(await connection.get_message())
            data = message["data"]
            if message["type"] == "price_update":
                text = f"{data['close']:.2f}{'*' if data.get('rebased') else ''}"
                if text != self._price:
                    self._told.append(text)
                self._price = text.removesuffix("*")
            elif message["type"] == "status":
                status = f"{data['quality']} by {data['source']}"
                if status != self._status:
                    self._told.append(f"[{status}]")
                self._status = status

    async def outcome(self) -> tuple[str, str]:
        """What was told, and what was counted, since the warm-up."""
        counted = await self._rejected()
        counted.subtract(self._counted)
        told = [f"`{reason}` {count}" for reason, count in sorted(counted.items()) if count]
        for status in await self.daemon._roster.statuses():
            skew_s = round((status.clock_skew_ms or 0) / 1000)
            told += [f"`clock_skew_ms` {skew_s} thousand"] if skew_s else []
        return " ".join(self._told) or "nothing", ", ".join(told) or "–"

    async def _rejected(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for status in await self.daemon._roster.statuses():
            counted.update(status.rejected)
            counted["jump"] += status.jumps
        return counted


@contextlib.asynccontextmanager
async def stage(
    sources: str = "a", *, start: str = WEDNESDAY, calendar: str = "metals", policy: str = "priority"
) -> AsyncIterator[Stage]:
    """A daemon of one spot symbol, whose sources have the priorities of their letters, in front of a client."""
    clock = StageClock(EpochUs(parse_time(start) - int(SETTLE_S * SECOND_US)))
    standins = {name: AllTickStandIn(clock=clock) for name in sources}
    async with trio.open_nursery() as nursery:
        for standin in standins.values():
            await nursery.start(standin.serve)
        config = Config.model_construct(
            listen=Listen(port=0),
            realtime=Realtime(drain_s=0),
            storage=Storage(url=""),
            symbols={
                "XAUUSD": Symbol.model_validate(
                    {"instrument": Instrument.SPOT, "calendar": calendar, "policy": policy}
                )
            },
            sources=tuple(
                AllTick.Settings(
                    name=name,
                    type="alltick",
                    priority=number,
                    symbols={"XAUUSD": "GOLD"},
                    stale_after_s=STALE_AFTER_S,
                    url=standin.url,
                    token="token",
                    plan="paid",
                )
                for number, (name, standin) in enumerate(standins.items(), 1)
            ),
        )
        daemon = Daemon(config, clock=clock, rng=random.Random(1))
        await nursery.start(daemon.run)
        found = Stage(daemon, clock, standins)
        url = f"ws://127.0.0.1:{daemon.port.port}/api/v1/ws/stream"
        async with open_websocket_url(url) as connection:
            nursery.start_soon(found.listen, connection)
            await trio.sleep(SETTLE_S)
            yield found
            nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class Line:
    """One fault."""

    fault: str
    should: str
    counted: str
    live: Callable[[], Awaitable[tuple[str, str]]]


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    line: Line
    saw: str
    counted: str

    @property
    def right(self) -> bool:
        return (self.saw, self.counted) == (self.line.should, self.line.counted)


LINES: list[Line] = []


def fault(
    description: str, should: str, counted: str = "–", **how: Any
) -> Callable[[Callable[[Stage], Awaitable[None]]], None]:
    """One line of the table: a story on a stage that is made as `how` says."""

    def add(story: Callable[[Stage], Awaitable[None]]) -> None:
        async def live() -> tuple[str, str]:
            async with stage(**how) as s:
                await story(s)
                return await s.outcome()
            raise AssertionError("the stage was left without an outcome")

        LINES.append(Line(description, should, counted, live))

    return add


# --- bad ticks ---


def bad_tick(description: str, counted: str, **tick: Any) -> None:
    """One bad tick among good ones is never seen."""

    async def story(s: Stage) -> None:
        await s.warm_up()
        await s.say(**({"price": "2000.00"} | tick))
        await s.steady(3, "2000.20")

    fault(description, "2000.20", counted)(story)


bad_tick("Crossed book: the bid is above the ask", "`crossed_book` 1", spread="-0.40")
bad_tick("An absurd spread: 100 dollars", "`wide_spread` 1", spread="100")
bad_tick("A price of zero", "`one_sided` 1", bids=[{"price": "0", "volume": "0"}])
bad_tick("A negative price", "`bad_price` 1", bids=[{"price": "-2000", "volume": "0"}])
bad_tick("A number that is none", "`garbage` 1", bids=[{"price": "N/A", "volume": "0"}])
bad_tick("Wrong scale: cents for dollars", "`wrong_scale` 1", price="200000.00")
bad_tick("Wrong scale: an ounce for a kilogram", "`wrong_scale` 1", price="64.30")
bad_tick("Time runs backwards: a tick from 4 s ago", "`out_of_order` 1", price="1999.00", age_s=4)
bad_tick("A time ten minutes ahead of ours", "`from_the_future` 1", price="2001.00", age_s=-600)
bad_tick("A spike of 1 % that reverts at once", "`outlier` 1", price="2020.00")


@fault("The same tick again and again", "2000.20", "`duplicate` 3")
async def _(s: Stage) -> None:
    await s.warm_up()
    time = str(s.clock.now() // 1000)
    await s.say("2000.20", tick_time=time)
    for number in range(3):
        await s.say("2000.20", tick_time=time, seq=str(9 * 10**15 + number))


# --- jumps ---


@fault("News: the price falls by 1 % and stays there; a single source", "1980.00", "`jump` 1, `outlier` 2")
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(4, "1980.00")


@fault("The same, shown by a second source within a second", "1980.00", "`jump` 2, `outlier` 1", sources="ab")
async def _(s: Stage) -> None:
    await s.warm_up("ab")
    await s.steady(3, "1980.00", "ab")


@fault(
    "The carrier leaves the market: two others agree on something else",
    "[live by b] 2000.30*",
    "`off_market` 7, `outlier` 1",
    sources="abc",
)
async def _(s: Stage) -> None:
    await s.warm_up("abc")
    for _second in range(8):
        await s.steady(1, "2030.00", "a")
        for source in "bc":
            await s.say("2000.30", source)


@fault(
    "A future's price in a spot feed, 30 dollars higher, against two spot sources",
    "2000.10 2000.10*",
    "`off_market` 7, `outlier` 1",
    sources="abc",
    policy="consensus",
)
async def _(s: Stage) -> None:
    await s.warm_up("abc")
    for _second in range(8):
        await s.steady(1, "2030.00", "a")
        for source in "bc":
            await s.say("2000.10", source)


# --- feeds ---


@fault("The line lives, but brings no price", "[stale by a] [live by a] 2000.50")
async def _(s: Stage) -> None:
    await s.warm_up()
    await trio.sleep(8)
    await s.steady(2, "2000.50")


@fault("The feed is frozen: it repeats its last price with its old time", "[stale by a]", "`duplicate` 8")
async def _(s: Stage) -> None:
    await s.warm_up()
    time = str(s.clock.now() // 1000 - 1000)
    for number in range(8):
        await s.say("2000.00", tick_time=time, seq=str(9 * 10**15 + number))
        await trio.sleep(1)


@fault("The feed is 20 minutes behind all of a sudden", "[stale by a]", "`out_of_order` 8")
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(8, "2000.00", age_s=1200)


@fault(
    "The source is gone; another takes over, and gives the price back",
    "[live by b] 2000.30* 2000.40 [live by a] 2000.40*",
    sources="ab",
)
async def _(s: Stage) -> None:
    await s.warm_up("ab")
    await s.steady(7, "2000.30", "b")
    await s.steady(14, "2000.40", "ab")


@fault(
    "The best source flaps: silent for 6 s, there for 3 s, and so on",
    "[live by b] 2000.30*",
    sources="ab",
)
async def _(s: Stage) -> None:
    await s.warm_up("ab")
    for _turn in range(5):
        await s.steady(6, "2000.30", "b")
        await s.steady(3, "2000.30", "ab")


@fault(
    "Two of three sources go; a consensus is made of whoever is left",
    "2000.10* 2000.20*",
    sources="abc",
    policy="consensus",
)
async def _(s: Stage) -> None:
    await s.warm_up("abc")
    await s.steady(7, "2000.20", "c")


@fault(
    "A source drifts 90 cents away, too little to be refused; the consensus does not follow",
    "2000.10",
    sources="abc",
    policy="consensus",
)
async def _(s: Stage) -> None:
    await s.warm_up("abc")
    for cents in range(1, 10):
        await s.say(f"2000.{cents}0", "a")
        await s.steady(1, "2000.10", "bc")


@fault("The provider sends garbage, in its answers to heartbeats, too", "[stale by a]", "`garbage` 9")
async def _(s: Stage) -> None:
    await s.warm_up()
    s.standins["a"].mode = "garbling"
    await s.steady(8)


# --- clocks ---


@fault(
    "The provider's clock is ten minutes ahead, from now on",
    "[stale by a] [live by a] 2000.70",
    "`from_the_future` 10, `clock_skew_ms` 600 thousand",
)
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(13, "2000.70", age_s=-600)


@fault("It is half a minute behind: still believed", "2000.70", "`clock_skew_ms` -30 thousand")
async def _(s: Stage) -> None:
    await s.steady(10, age_s=30)
    await s.warm_up(age_s=30)
    await s.steady(3, "2000.70", age_s=30)


# --- the market ---


@fault(
    "Friday evening, and a feed that goes on answering over the weekend",
    "2000.10 [closed by a] [live by a] 2000.60",
    "`market_closed` 6",
    start="2026-11-13T21:59:45Z",
)
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(5, "2000.10")
    await s.steady(6, "2003.00")
    s.clock.set("2026-11-15T22:58:57Z")
    await trio.sleep(63)
    await s.steady(2, "2000.60")


@fault(
    "Christmas: the early close on the 24th, and nothing on the 25th",
    "[closed by a]",
    "`market_closed` 4",
    start="2026-12-24T18:44:50Z",
)
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(2, "2003.00")
    s.clock.set("2026-12-25T15:00:00Z")
    await s.steady(2, "2004.00")


@fault(
    "The daily break at 17:00 in New York, and no price after it",
    "[closed by a] [stale by a]",
    "`market_closed` 2",
    start="2026-11-18T21:59:50Z",
)
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(2, "2003.00")
    s.clock.set("2026-11-18T22:58:57Z")
    await trio.sleep(63 + STALE_AFTER_S + 1)


@fault(
    "The Sunday on which New York goes back to winter time: opens an hour later by UTC",
    "[live by a] 2000.60",
    "`market_closed` 2",
    start="2026-11-01T21:59:50Z",
)
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(2, "2003.00")  # 22:00 UTC: there was trade at that hour on the Sunday before
    s.clock.set("2026-11-01T22:58:57Z")
    await trio.sleep(63)
    await s.steady(2, "2000.60")


@fault(
    "The Sunday on which New York goes over to summer time: opens an hour earlier by UTC",
    "[live by a] 2000.60",
    "`market_closed` 4",
    start="2027-03-14T21:59:46Z",
)
async def _(s: Stage) -> None:
    await s.warm_up()
    await s.steady(6, "2000.60")


async def a_future_under_a_spot_symbol() -> tuple[str, str]:
    """It does not get as far as a daemon."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "aurexd.toml"
        file.write_text(
            '[symbols.XAUUSD]\ninstrument = "spot"\n'
            '[[sources]]\nname = "yahoo"\ntype = "yfinance"\nsymbols = { XAUUSD = "GC=F" }\n'
        )
        try:
            load(file, {})
        except ConfigError as error:
            return f"no daemon: {error.problems[0].message}", "–"
    return "a daemon", "–"


LINES.append(
    Line(
        "A source of futures, configured under a spot symbol",
        "no daemon: GC=F is a future, XAUUSD is a spot price",
        "–",
        a_future_under_a_spot_symbol,
    )
)


# --- the table ---


async def outcomes() -> list[Outcome]:
    """Live through all of them, side by side."""
    found: dict[int, Outcome] = {}

    async def run(number: int, line: Line) -> None:
        saw, counted = await line.live()
        found[number] = Outcome(line, saw, counted)

    async with trio.open_nursery() as nursery:
        for number, line in enumerate(LINES):
            nursery.start_soon(run, number, line)
    return [found[number] for number in sorted(found)]


def run() -> list[Outcome]:
    """The same, on virtual time and without a log."""
    with capture_logs():
        return trio.run(outcomes, clock=trio.testing.MockClock(autojump_threshold=0.002))


def table(found: list[Outcome]) -> str:
    """As it stands in the document."""
    rows = [f"| {o.line.fault} | {o.line.should} | {o.saw} | {o.counted} |\n" for o in found]
    return HEAD + "".join(rows)


def fill(document: str, found: list[Outcome]) -> str:
    """The document with the table made anew."""
    return _MARKED.sub(lambda match: match[1] + table(found) + match[2], document)


def main() -> None:
    """Print the table, or write it; 1 when something was seen that should not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCUMENT.name}")
    arguments = parser.parse_args()
    found = run()
    if arguments.write:
        DOCUMENT.write_text(fill(DOCUMENT.read_text(), found))
    else:
        print(table(found), end="")  # noqa: T201
    wrong = [o for o in found if not o.right]
    for o in wrong:
        print(f"WRONG: {o.line.fault}: counted {o.counted}, should be {o.line.counted}")  # noqa: T201
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
