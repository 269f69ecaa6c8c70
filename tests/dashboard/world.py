"""A whole world for the dashboard's end-to-end tests: providers, the daemon, and the network between it and a browser.

It prints its address, then takes one command per line, a JSON object, and answers each with one:
`{"do": "cut"}` → `{"ok": true}`. What there is to do stands in `World.COMMANDS`.

    python -m tests.dashboard.world [--hours HOURS]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import trio

from aurexd.candles import utc_day
from aurexd.clock import SystemClock
from aurexd.config.load import load
from aurexd.config.model import Config
from aurexd.daemon import Daemon
from aurexd.market import SECOND_US, EpochUs
from tests.issuer import KEY, token
from tests.standins.alltick import AllTickStandIn
from tests.standins.kraken import KrakenStandIn

STALE_AFTER_S = 2.0
"""Longer than a busy machine keeps the providers from speaking."""
HALF_SPREAD = 0.11
CHUNK = 65536

BASE = """
[listen]
port = {port}
[storage]
url = "sqlite:///{folder}/aurexd.db"
flush_interval_s = 0.2
[control]
socket = ""
[realtime]
enabled = {enabled}
drain_s = 0
[limits]
max_connections_per_ip = 50
max_requests_per_second = 1000
max_attempts_per_second = 1000
allowed_origins = ["{origin}"]
[heartbeat]
silence_s = 1
{auth}
[symbols.XAUUSD]
instrument = "spot"
calendar = "{calendar}"
default = true
[[sources]]
name = "alltick"
type = "alltick"
priority = 1
url = "{alltick}"
token = "secret"
stale_after_s = {stale}
symbols = {{ XAUUSD = "GOLD" }}
[[sources]]
name = "backup"
type = "alltick"
priority = 2
url = "{backup}"
token = "secret"
stale_after_s = {stale}
symbols = {{ XAUUSD = "GOLD" }}
{paxg}
"""

PAXG = """
[symbols.PAXGUSD]
instrument = "token"
calendar = "always"
[[sources]]
name = "kraken"
type = "kraken"
url = "{kraken}"
symbols = {{ PAXGUSD = "PAXG/USD" }}
"""

AUTH = """
[auth]
mode = "token"
leeway_s = 0
expiry_warning_s = 1
audience = "aurexd"
[auth.keys.k1]
algorithm = "HS256"
file = "{folder}/key"
"""


INSERT_CANDLE = """
INSERT OR REPLACE INTO candles
    (symbol, interval, start, "end", open, high, low, close, open_time, close_time, ticks, revision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class ShiftedClock:
    """The machine's clock, and so much more."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now(self) -> EpochUs:
        return EpochUs(SystemClock().now() + int(self.shift_s * SECOND_US))


class Network:
    """What lies between the browser and the daemon. Cut, it swallows everything, and says nothing."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._open = trio.Event()
        self._open.set()
        self.port = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._carry, listeners)
            task_status.started()

    def cut(self) -> None:
        self._open = trio.Event()

    def mend(self) -> None:
        self._open.set()

    async def _carry(self, near: trio.SocketStream) -> None:
        await self._open.wait()
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._target())
        except OSError:
            await trio.aclose_forcefully(near)
            return
        async with near, far, trio.open_nursery() as nursery:

            async def one_way(a: trio.SocketStream, b: trio.SocketStream) -> None:
                try:
                    while data := await a.receive_some(CHUNK):
                        await self._open.wait()
                        await b.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(one_way, near, far)
            nursery.start_soon(one_way, far, near)


class World:
    """Everything there is; each method named in `COMMANDS` is a command."""

    COMMANDS: ClassVar[tuple[str, ...]] = (
        *("price", "tick", "silence", "speak", "stop", "start", "restart"),
        *("rollout", "paxg", "calendar", "clock", "cut", "mend", "ask_for_tokens", "token"),
    )

    def __init__(self, folder: Path, nursery: trio.Nursery, hours: float) -> None:
        self._folder = folder
        self._nursery = nursery
        self._hours = hours
        self._clock = ShiftedClock()
        self._sources = {
            "alltick": AllTickStandIn(clock=self._clock),
            "backup": AllTickStandIn(clock=self._clock),
        }
        self._kraken = KrakenStandIn(clock=self._clock)
        self._speaking = {"alltick", "backup", "kraken"}
        self._network = Network(lambda: self._port)
        self._rng = random.Random(4)
        self._mid = 4389.38
        self._port = 0
        self._every_s = 0.0
        self._settings: dict[str, Any] = {"enabled": "true", "calendar": "always", "auth": ""}
        self._paxg = True
        self._daemon: Daemon | None = None
        self._ended = trio.Event()

    async def open(self) -> str:
        """Begin. Returns the address for the browser."""
        for standin in (*self._sources.values(), self._kraken):
            await self._nursery.start(standin.serve)
        await self._nursery.start(self._network.serve)
        (self._folder / "key").write_bytes(b"as good as any other secret of thirty-two bytes")
        (self._folder / "key").chmod(0o600)
        await self.start()
        if self._hours:
            await self.stop()
            self._remember()
            await self.start()
        self._nursery.start_soon(self._tick)
        return f"http://127.0.0.1:{self._network.port}/"

    # --- prices ---

    async def price(self, mid: float) -> None:
        """One price of every source that speaks."""
        self._mid = mid
        await self._say()

    async def tick(self, every_s: float) -> None:
        """A price every so often from now on, a little up or down; 0: the same one each time, four a second."""
        self._every_s = every_s

    async def silence(self, source: str) -> None:
        """A source says nothing any more, and stays connected."""
        self._speaking.discard(source)

    async def speak(self, source: str) -> None:
        """It speaks again."""
        self._speaking.add(source)

    async def _tick(self) -> None:
        while True:
            if self._every_s:
                self._mid = max(1000.0, self._mid + self._rng.gauss(0, 0.05))
            await self._say()
            await trio.sleep(self._every_s or 0.25)

    async def _say(self) -> None:
        for nth, (name, standin) in enumerate(self._sources.items()):
            if name in self._speaking:
                mid = self._mid + 0.05 * nth
                await standin.push(f"{mid - HALF_SPREAD:.2f}", f"{mid + HALF_SPREAD:.2f}")
        if "kraken" in self._speaking and self._kraken.subscribed:
            await self._kraken.push(f"{self._mid - 4.1:.2f}", f"{self._mid - 3.6:.2f}")

    # --- the daemon ---

    async def start(self) -> None:
        """As after a stop: the same port, the same database."""
        self._ended = trio.Event()
        await self._nursery.start(self._live)

    async def stop(self) -> None:
        """In order, with good-byes."""
        if self._daemon is not None:
            self._daemon.stop()
            await self._ended.wait()

    async def restart(self) -> None:
        """Both."""
        await self.stop()
        await self.start()

    async def _live(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            daemon = Daemon(self._config(), clock=self._clock)
            await nursery.start(daemon.run)
            self._daemon = daemon
            self._port = daemon.port.port
            task_status.started()
        self._daemon = None
        self._ended.set()

    def _config(self) -> Config:
        file = self._folder / "aurexd.toml"
        file.write_text(
            BASE.format(
                port=self._port,
                folder=self._folder,
                origin=f"http://127.0.0.1:{self._network.port}",
                alltick=self._sources["alltick"].url,
                backup=self._sources["backup"].url,
                stale=STALE_AFTER_S,
                paxg=PAXG.format(kraken=self._kraken.url) if self._paxg else "",
                **self._settings,
            )
        )
        return load(file, {})

    async def _reload(self, **changes: str) -> None:
        self._settings |= changes
        assert self._daemon is not None
        await self._daemon.reload(self._config())

    async def rollout(self, enabled: bool) -> None:
        """Whether WebSockets are open to the browser; who is in is sent away when they no longer are."""
        await self._reload(enabled="true" if enabled else "false")

    async def paxg(self, served: bool) -> None:
        """Whether the daemon has that symbol; nobody is dropped for it."""
        self._paxg = served
        await self._reload()

    async def calendar(self, name: str) -> None:
        """After which the spot price trades; needs a restart."""
        self._settings["calendar"] = name
        await self.restart()

    async def clock(self, time: float) -> None:
        """It is so many seconds since 1970 now, for all but the browser."""
        self._clock.shift_s = time - SystemClock().now() / SECOND_US

    # --- the network ---

    async def cut(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._network.cut()

    async def mend(self) -> None:
        """It comes through again, what was under way included."""
        self._network.mend()

    # --- tokens ---

    async def ask_for_tokens(self) -> None:
        """The daemon lets in only who shows one, from the restart on that this makes."""
        self._settings["auth"] = AUTH.format(folder=self._folder)
        await self.restart()

    async def token(self, for_s: float) -> str:
        """One that is valid for so long."""
        return token(for_s=for_s, key=KEY, now=self._clock.now())

    # --- the past ---

    def _remember(self) -> None:
        """Candles of some hours, as if the daemon had been there, with a pause in which it was not."""
        now = self._clock.now() // SECOND_US
        rows = []
        for interval, seconds in (
            ("1s", 1),
            ("1m", 60),
            ("5m", 300),
            ("15m", 900),
            ("1h", 3600),
            ("4h", 14400),
        ):
            rows += self._candles(interval, seconds, now)
        rows += self._days(now)
        with closing(sqlite3.connect(self._folder / "aurexd.db")) as database, database:
            database.executemany(INSERT_CANDLE, rows)
            # The last price of the session before: what a change is against.
            begin, _ = utc_day(self._clock.now())
            for symbol, source, instrument, off in [
                ("XAUUSD", "alltick", "spot", 0.0),
                ("PAXGUSD", "kraken", "token", -3.85),
            ]:
                time = begin - SECOND_US
                close = round(self._level(time / SECOND_US) + off, 2)
                database.execute(
                    "INSERT INTO prices (symbol, close, source, instrument, quality, source_time, receive_time)"
                    " VALUES (?, ?, ?, ?, 'live', ?, ?)",
                    (symbol, close, source, instrument, time, time),
                )

    def _level(self, time: float) -> float:
        """Where the price was then: some waves, the same for every interval."""
        back = time - self._clock.now() / SECOND_US
        waves = ((9000, 4.2), (2600, 2.1), (770, 1.1), (190, 0.55), (43, 0.22), (11, 0.1), (3.1, 0.05))
        return self._mid + back * 0.00022 + sum(size * math.sin(back / length) for length, size in waves)

    def _candles(self, interval: str, seconds: int, now: int) -> list[tuple[Any, ...]]:
        count = min(int(self._hours * 3600 / seconds), 900)
        rows = []
        for start in range(now // seconds * seconds - count * seconds, now // seconds * seconds, seconds):
            pause = 5400 < now - start < 6300 and seconds <= 300  # a quarter of an hour without prices
            if pause:
                continue
            points = [self._level(start + seconds * part / 24) for part in range(25)]
            rows.append(self._row(interval, start, start + seconds, points, max(2, min(seconds, 3000) * 3)))
        return rows

    def _days(self, now: int) -> list[tuple[Any, ...]]:
        rows = []
        for back in range(int(self._hours // 24), -1, -1):
            begin, finish = utc_day(EpochUs((now - back * 86_400) * SECOND_US))
            start, end = begin // SECOND_US, min(finish // SECOND_US, now)
            points = [self._level(start + (end - start) * part / 200) for part in range(201)]
            rows.append(self._row("1d", start, finish // SECOND_US, points, 90_000))
        return rows

    def _row(self, interval: str, start: int, end: int, points: list[float], ticks: int) -> tuple[Any, ...]:
        ohlc = [round(value, 2) for value in (points[0], max(points), min(points), points[-1])]
        times = (start * SECOND_US, end * SECOND_US)
        return ("XAUUSD", interval, *times, *ohlc, times[0], times[1] - SECOND_US // 2, ticks, 0)


async def obey(world: World) -> None:
    """Read commands until there are no more."""
    lines = trio.wrap_file(sys.stdin)
    async for line in lines:
        command = json.loads(line)
        name = command.pop("do")
        assert name in World.COMMANDS, name
        act: Callable[..., Awaitable[Any]] = getattr(world, name)
        answer = await act(**command)
        print(json.dumps({"ok": True, "answer": answer}), flush=True)  # noqa: T201 - that is how it answers


async def main(hours: float) -> None:
    """One world, until the commands end."""
    with tempfile.TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            world = World(Path(folder), nursery, hours)
            print(json.dumps({"url": await world.open()}), flush=True)  # noqa: T201
            await obey(world)
            await world.stop()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=0, help="of history")
    trio.run(main, parser.parse_args().hours)
