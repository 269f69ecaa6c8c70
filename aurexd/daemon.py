"""The map in code: what the daemon is made of, in which order it starts, and how it stops.

What others lean on starts first: store, persister, hub, alerts, candles, aggregator, sources, and then the port. It
stops the other way round along the data's way, so that each stage drains into the next and nothing in flight is lost.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import random
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pykka
import structlog
import trio

from aurexd import __version__, garbage
from aurexd.actors.address import Address
from aurexd.actors.aggregator import Aggregator, SymbolRules
from aurexd.actors.alerts import Alerts
from aurexd.actors.candles import CandleRules, Candles
from aurexd.actors.filler import HOUR_US
from aurexd.actors.hub import Hub
from aurexd.actors.messages import (
    Decision,
    DrainSessions,
    GetStore,
    GetSymbols,
    MarketsChanged,
    SymbolsRemoved,
)
from aurexd.actors.persister import Persister, StoreWorker
from aurexd.actors.supervisor import ChildSpec, ChildStatus, Strategy, Supervisor
from aurexd.actors.trio_actor import ask, tell_when_room
from aurexd.backlog import Backlog
from aurexd.backoff import Backoff
from aurexd.calendar import CALENDARS
from aurexd.clock import Clock, SystemClock
from aurexd.config import Config, load
from aurexd.config.check import is_loopback, notes
from aurexd.config.keys import authority_of
from aurexd.consensus import POLICIES
from aurexd.control.interface import Level
from aurexd.control.operator import Operator
from aurexd.control.socket import ControlSocket
from aurexd.control.socket import bind as bind_control
from aurexd.drain import Drain
from aurexd.errors import ConfigError, InboxFullError, ListenError, Problem
from aurexd.log import configure as configure_log
from aurexd.reloads import Reloads
from aurexd.roster import Roster
from aurexd.screening import BANDS_PCT, Screen
from aurexd.selection import Candidate
from aurexd.server.admission import Admission
from aurexd.server.api import Api
from aurexd.server.cors import Cors
from aurexd.server.credentials import Credentials
from aurexd.server.door import Door
from aurexd.server.events import EventStreamServer
from aurexd.server.http import HttpServer
from aurexd.server.interface import Phase
from aurexd.server.metrics import Metrics
from aurexd.server.names import Hosts, certificate_expiry, certificate_names
from aurexd.server.port import Port, adopt, bind
from aurexd.server.streaming import CLOSE_S, Streaming
from aurexd.server.tls import server_tls
from aurexd.server.websocket import WebSocketServer
from aurexd.settings import Plan, Settings, plan_reload
from aurexd.stalls import Stalls
from aurexd.summary import summary
from aurexd.systemd import Notifier, take_sockets
from aurexd.watchdog import Watchdog

log = structlog.get_logger(__name__)

RETURN_AFTER_S = 10.0
"""A lost source carries the price again after it has been fresh for this long: a flapping one would be a price that
jumps back and forth."""

SESSIONS_CLOSE_S = 8.0
"""How long clients may take to close when the daemon stops: a little more than one closing handshake."""

STOP_SLACK_S = 10.0
"""What systemd is asked to wait longer than a stop may take: a busy machine."""

STORE_STOP_S = 15.0
"""What the persister and the database each may take to finish: one append at its deadline, and room."""

STATUS_S = 5.0
"""How often systemd is told how the daemon is."""

WATCH_S = 30.0
"""After half of this without an answer, what is stuck is said, or parked; systemd's own time wins."""

PORT_SOCKET = "aurexd.socket"
"""The unit whose sockets are the port."""

CONTROL_SOCKET = "aurexd-control.socket"
"""The unit whose socket is the control socket."""

START_S = 10.0
"""What the aggregator and the sources may take to be up again after a reload."""

CORE_RESTARTS = Backoff(floor_s=0.0, base_s=0.1, cap_s=1.0)


class Daemon:
    """One run of aurexd. `run` is the whole life; the rest is there for tests and for the routes."""

    def __init__(
        self,
        config: Config,
        *,
        file: Path | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        notifier: Notifier | None = None,
        listeners: list[socket.socket] | None = None,
        control: socket.socket | None = None,
    ) -> None:
        """`file`: what a reload reads; None: there is nothing to reload. `listeners`: the port, where it is bound
        already, whatever `config` says; `control`: the control socket, likewise.

        Raises:
            ConfigError: they can be reached from other machines, and there is no TLS.
            ListenError: the port cannot be bound, or served on `listeners`.

        """
        self._config = config
        self._file = file
        self.notifier = notifier or Notifier()
        self.trouble = ""
        """What a person should know, besides what can be asked; empty: nothing."""
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._started_at = trio.current_time()
        self._stop = trio.Event()
        self._run = secrets.token_hex(8)
        self.settings = Settings(config)
        self.phase: Phase = "starting"
        self._roster = Roster(
            config,
            aggregator=lambda: self._core.address("aggregator"),
            persister=lambda: self._storage.address("persister"),
            clock=self._clock,
            rng=self._rng,
        )
        self._storage = self._storage_supervisor()
        self._core = self._core_supervisor()
        self._credentials = Credentials(self.settings, self._clock)
        self._door = Door(self.settings)
        self._stalls = Stalls()
        self._reloads = Reloads(self._clock.now())
        self._hosts = Hosts(self.settings, config.listen.allowed_hosts)
        self._admission = Admission(self.settings, self._credentials, self._door, self._hosts)
        self.port = self._make_port(listeners)
        self._control = self._make_control(control)
        self._reloading = trio.Lock()
        self.drained = trio.Event()
        """Set when the clients have been sent away, for the daemon stops."""

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return trio.current_time() - self._started_at

    @property
    def clients(self) -> int:
        """Streaming sessions."""
        return self._admission.sessions

    @property
    def retry_after_s(self) -> int:
        """While it drains: seconds until it is worth while to come again."""
        return math.ceil(self._admission.retry_after_ms / 1000)

    def stop(self) -> None:
        """Ask the daemon to stop in order."""
        self._stop.set()

    async def run(self, *, task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, serve until `stop()`, and stop in order.

        Raises:
            SupervisionError: a core actor kept dying.

        """
        async with self._steered(), trio.open_nursery() as nursery:
            await nursery.start(self._core.run)
            async with self._stalls.watched(), garbage.timetable():
                await nursery.start(self.port.serve)
                self.phase = "serving"
                log.info("daemon_started", version=__version__, port=self.port.port)
                async with self._attended():
                    task_status.started(self)
                    await self._stop.wait()
                    log.info("daemon_stopping")
                    await self._drain()
            self.port.stop_accepting()
            self._core.stop()
            within_s = self._core.shutdown_s + SESSIONS_CLOSE_S
            self.notifier.stopping("stopping: what was received is being stored", within_s + STOP_SLACK_S)
            nursery.cancel_scope.deadline = trio.current_time() + within_s
        log.info("daemon_stopped", uptime_s=round(self.uptime_s, 1))

    @contextlib.asynccontextmanager
    async def _steered(self) -> AsyncIterator[None]:
        """While this lasts, operators are answered: before anything else starts, until all has stopped."""
        async with trio.open_nursery() as nursery:
            if self._control is not None:
                await nursery.start(self._control.serve)
            yield
            nursery.cancel_scope.cancel()

    @property
    def config_file(self) -> str:
        """What it was configured with; empty: with no file."""
        return str(self._file or "")

    @property
    def log_level(self) -> Level:
        """The least severe that is logged."""
        return self._config.log.level

    def set_log_level(self, level: Level) -> None:
        """Log from this level on, until the next reload."""
        log_settings = self._config.log.model_copy(update={"level": level})
        self._config = self._config.model_copy(update={"log": log_settings})
        configure_log(level, log_settings.format, secrets=self._config.secrets)

    async def reload_file(self) -> tuple[Plan, list[Problem]]:
        """Read the configuration again and take over what can be: what became of it, and what may not be meant.

        Raises:
            ConfigError: it is wrong, or there is no file; nothing has changed, and it was said.

        """
        if self._file is None:
            raise ConfigError(
                [Problem("", "the daemon was started without a file", "restart it with --config")]
            )
        async with self._reloading:
            self.notifier.reloading()
            self.trouble = "the last reload crashed; the log says how"
            try:
                config = await trio.to_thread.run_sync(load, self._file, abandon_on_cancel=True)
                plan = await self.reload(config)
                self._reloads.done(self._clock.now(), len(plan.waiting))
                self.trouble = ""
            except ConfigError as error:
                self._reloads.went_wrong("refused")
                for problem in error.problems:
                    log.error("config_refused", file=error.file, problem=str(problem))
                self.trouble = "the last reload was refused; the log says why"
                raise
            except Exception:
                self._reloads.went_wrong("failed")
                raise
            finally:
                self.notifier.ready(await self.summary())
        found = notes(config)
        for note in found:
            log.warning("config_noted", path=note.path, note=note.message, hint=note.suggestion)
        return plan, found

    async def reload(self, config: Config) -> Plan:
        """Take over what of `config` can change while clients are served; nobody is dropped for it.

        Raises:
            ConfigError: the certificate and the key cannot be used together, or a key of tokens cannot be read;
                nothing has changed.
            SupervisionError: the sources did not start afresh.

        """
        plan = plan_reload(self._config, config)
        # What must be read from files comes first: it may fail. The names may be the same, what they hold is not.
        tls = await trio.to_thread.run_sync(server_tls, plan.config.tls)
        authority = await trio.to_thread.run_sync(authority_of, plan.config)
        certified = await trio.to_thread.run_sync(certificate_names, plan.config.tls)
        expires = await trio.to_thread.run_sync(certificate_expiry, plan.config.tls)
        # From here on nothing fails and nothing waits, so that nobody sees one half of it.
        self._config = plan.config
        self.settings.replace(plan.config)
        self.settings.authority = authority
        self.port.tls = tls
        self._hosts.certified = certified
        self._certificate_expires = expires
        configure_log(
            plan.config.log.level,
            plan.config.log.format,
            secrets={*self._config.secrets, *config.secrets},
        )
        log.info("config_reloaded", changed=plan.changed)
        for setting, reason in plan.waiting.items():
            log.warning("restart_needed", setting=setting, reason=reason)
        if plan.remakes_prices:
            await self._remake_prices(plan)
        await self._roster.pace(self.settings.realtime.update_interval_s)
        return plan

    async def _remake_prices(self, plan: Plan) -> None:
        """Have the sources start afresh, and who judges what they say. The hub goes on, and with it everybody who
        listens; the candles go on from what is stored, where there are other symbols."""
        self._roster.replace(plan.config)
        if plan.config.storage.url:
            # The database's thread goes by its inbox: it knows a market before it gets a price of it.
            with contextlib.suppress(pykka.ActorDeadError):
                await tell_when_room(self._storage.address("store"), self._markets())
        first = "candles" if plan.added or plan.removed else "aggregator"
        await self._core.wait_restarted(first, within_s=self._core.shutdown_s + START_S)
        if plan.removed:
            # Those who told the hub of these symbols have ended: this comes after the last that they said.
            await tell_when_room(self._core.address("hub"), SymbolsRemoved(symbols=plan.removed))

    def _markets(self) -> MarketsChanged:
        return MarketsChanged(
            calendars={name: CALENDARS[symbol.calendar] for name, symbol in self._config.symbols.items()},
            fill_us=int(max((rules.hours for rules in self._roster.fill_rules()), default=0.0) * HOUR_US),
        )

    @contextlib.asynccontextmanager
    async def _attended(self) -> AsyncIterator[None]:
        """Tell systemd that the daemon is ready, and from then on how it is; watch over it."""
        async with trio.open_nursery() as nursery:
            self.notifier.ready(await self.summary())
            watchdog = Watchdog(
                self._core, limit_s=self.notifier.watchdog_s or WATCH_S, alive=self.notifier.alive
            )
            nursery.start_soon(watchdog.run)
            if self.notifier.is_heard:
                nursery.start_soon(self._keep_status)
            yield
            nursery.cancel_scope.cancel()

    async def _keep_status(self) -> None:
        while self.phase == "serving":
            await trio.sleep(STATUS_S)
            self.notifier.status(await self.summary())

    async def summary(self) -> str:
        """How the daemon is, in one line."""
        try:
            states = await ask(self._core.address("aggregator"), GetSymbols(), timeout_s=1.0)
            store = await ask(self._storage.address("persister"), GetStore(), timeout_s=1.0)
        except (pykka.ActorDeadError, trio.TooSlowError, InboxFullError):
            return "the core does not answer; the log says why"
        return summary(states, store, self._admission.sessions, self._clock.now(), trouble=self.trouble)

    async def _drain(self) -> None:
        """Send the clients away one after the other, while prices go on and newcomers are told to come later."""
        drain_s = self.settings.realtime.drain_s
        clients = self._admission.sessions
        self.notifier.stopping(f"draining: {clients} clients are sent away", drain_s + STOP_SLACK_S)
        # The last one needs time for its answer.
        within_s = max(0.0, drain_s - CLOSE_S)
        plan = Drain.plan(self._admission.sessions, within_s, trio.current_time())
        self._admission.drain(plan)
        self.phase = "draining"
        with trio.move_on_after(drain_s), contextlib.suppress(pykka.ActorDeadError):
            await tell_when_room(self._core.address("hub"), DrainSessions(plan=plan))
            await self._admission.wait_empty()
        log.info("clients_drained", clients=plan.clients, left=self._admission.sessions)
        self.drained.set()

    # --- the parts, in the order they start ---

    def _core_supervisor(self) -> Supervisor:
        """rest_for_one: when an actor dies, those that feed it start afresh as well."""
        config, clock = self._config, self._clock
        core = Supervisor(
            "core",
            [
                ChildSpec("storage", self._storage),
                ChildSpec(
                    "hub",
                    lambda: Hub(
                        persister=self._storage.address("persister"),
                        settings=self.settings,
                        clock=clock,
                    ),
                ),
                ChildSpec(
                    "alerts",
                    lambda: Alerts(
                        hub=core.address("hub"),
                        persister=self._storage.address("persister"),
                        retention_days=config.storage.retention_days,
                        settings=self.settings,
                        clock=clock,
                    ),
                ),
                ChildSpec(
                    "candles",
                    lambda: Candles(
                        [self._candle_rules(name) for name in self._config.symbols],
                        hub=core.address("hub"),
                        persister=self._storage.address("persister"),
                        clock=clock,
                    ),
                ),
                ChildSpec(
                    "aggregator",
                    lambda: Aggregator(
                        [self._symbol_rules(name) for name in self._config.symbols],
                        hub=core.address("hub"),
                        persister=self._storage.address("persister"),
                        candles=core.address("candles"),
                        clock=clock,
                    ),
                ),
                ChildSpec("sources", self._roster.supervisor),
            ],
            strategy=Strategy.REST_FOR_ONE,
            intensity=5,
            period_s=60.0,
            backoff=CORE_RESTARTS,
            rng=self._rng,
        )
        return core

    def _storage_supervisor(self) -> Supervisor:
        """one_for_one: the stream goes on while the database's thread or the persister starts afresh."""
        storage = self._config.storage
        backlog: Backlog[Decision] = Backlog(storage.backlog_ticks)

        def persister() -> Persister:
            return Persister(
                supervisor.address("store") if storage.url else None,
                backlog,
                flush_interval_s=storage.flush_interval_s,
                retention_days=storage.retention_days,
                candle_days=storage.candle_days,
                alert_days=self._config.alerts.history_days,
                alerts=self._core.address("alerts"),
                clock=self._clock,
                rng=self._rng,
            )

        def store_worker() -> StoreWorker:
            markets = self._markets()
            return StoreWorker(
                storage.url, fill_us=markets.fill_us, calendars=markets.calendars, run=self._run
            )

        store = ChildSpec("store", store_worker, shutdown_s=STORE_STOP_S)
        supervisor = Supervisor(
            "storage",
            [*([store] if storage.url else []), ChildSpec("persister", persister, shutdown_s=STORE_STOP_S)],
            strategy=Strategy.ONE_FOR_ONE,
            intensity=5,
            period_s=60.0,
            backoff=CORE_RESTARTS,
            rng=self._rng,
        )
        return supervisor

    def _candle_rules(self, name: str) -> CandleRules:
        symbol = self._config.symbols[name]
        return CandleRules(name, symbol.instrument, symbol.decimals, CALENDARS[symbol.calendar].day)

    def _symbol_rules(self, name: str) -> SymbolRules:
        symbol = self._config.symbols[name]
        candidates = [
            Candidate(
                source=provider.settings.name,
                priority=provider.settings.priority,
                stale_after_s=provider.stale_after_s,
                known_delay_s=provider.traits.known_delay_s,
                simulated=provider.traits.simulated,
            )
            for provider in self._roster.providers
            if name in provider.settings.symbols
        ]
        band_pct = BANDS_PCT[symbol.instrument] if symbol.max_jump_pct is None else symbol.max_jump_pct
        return SymbolRules(
            symbol=name,
            instrument=symbol.instrument,
            decimals=symbol.decimals,
            default=name in self._config.default_symbols,
            policy=POLICIES[symbol.policy](candidates, return_after_s=RETURN_AFTER_S),
            screen=Screen(
                (candidate.source for candidate in candidates),
                delayed=[candidate.source for candidate in candidates if candidate.known_delay_s],
                band_pct=band_pct,
            ),
            calendar=CALENDARS[symbol.calendar],
        )

    def _make_port(self, listeners: list[socket.socket] | None) -> Port:
        config, hub = self._config, self._core.address("hub")
        tls = server_tls(config.tls)
        self._hosts.certified = certificate_names(config.tls)
        self._certificate_expires = certificate_expiry(config.tls)
        streaming = Streaming(
            hub=hub,
            alerts=self._core.address("alerts"),
            credentials=self._credentials,
            settings=self.settings,
            clock=self._clock,
        )
        metrics = Metrics(
            phase=lambda: self.phase,
            addresses=self._addresses,
            actors=self._actors,
            sources=self._roster.statuses,
            tally=streaming.tally,
            door=self._door,
            admission=self._admission,
            certificate_expires=lambda: self._certificate_expires,
            reloads=self._reloads,
            stalls=self._stalls,
            clock=self._clock,
        )
        api = Api(
            aggregator=self._core.address("aggregator"),
            hub=hub,
            alerts=self._core.address("alerts"),
            persister=self._storage.address("persister"),
            sources=self._roster.statuses,
            lifecycle=self,
            credentials=self._credentials,
            clock=self._clock,
            metrics=metrics,
        )
        self._scrape = functools.partial(metrics.scrape, "", api.answered)
        return Port(
            bind(config.listen.address, config.listen.port) if listeners is None else _adopt(listeners, tls),
            tls=tls,
            settings=self.settings,
            door=self._door,
            proxy_protocol=config.listen.proxy_protocol,
            websocket=WebSocketServer(streaming, self._admission).serve,
            events=EventStreamServer(streaming, self._admission).serve,
            http=HttpServer(Cors(api.app, self.settings), self._admission, self.settings).serve,
        )

    def _addresses(self) -> dict[str, Address[Any]]:
        """Of all actors, by name."""
        return {
            **{name: self._core.address(name) for name in ("hub", "alerts", "candles", "aggregator")},
            **{child.name: self._storage.address(child.name) for child in self._storage.children()},
            **{
                _source_actor(child.name): self._roster.supervisor.address(child.name)
                for child in self._roster.supervisor.children()
            },
        }

    def _actors(self) -> dict[str, ChildStatus]:
        """How every actor is, and every supervisor but the first."""
        children = {child.name: child for child in [*self._core.children(), *self._storage.children()]}
        return children | {_source_actor(child.name): child for child in self._roster.supervisor.children()}

    async def _metrics_text(self) -> str:
        text, _ = await self._scrape()
        return text.decode()

    def _make_control(self, listener: socket.socket | None) -> ControlSocket | None:
        """None: it is switched off, or cannot be had, which is no reason to have no prices either."""
        path = None if listener is not None else self._config.control.socket
        if path == "":
            return None
        try:
            bound = bind_control(path) if path is not None else listener
        except ListenError as error:
            log.warning("control_unavailable", reason=str(error))
            return None
        assert bound is not None
        operator = Operator(
            self,
            core=self._core,
            roster=self._roster,
            aggregator=self._core.address("aggregator"),
            hub=self._core.address("hub"),
            persister=self._storage.address("persister"),
            metrics=self._metrics_text,
            clock=self._clock,
        )
        return ControlSocket(bound, operator, path=path)


def _adopt(listeners: list[socket.socket], tls: ssl.SSLContext | None) -> list[socket.socket]:
    """As `adopt`, with the rule that the configuration's own addresses are held to."""
    adopt(listeners)
    addresses = [listener.getsockname()[0] for listener in listeners]
    public = [address for address in addresses if not is_loopback(address)]
    if public and tls is None:
        raise ConfigError(
            [
                Problem(
                    "tls",
                    f"there is none, and the socket from systemd, {public[0]}, can be reached from other machines",
                    f"give a certificate and a private_key, or set ListenStream=127.0.0.1:8000 in {PORT_SOCKET}",
                )
            ]
        )
    log.info("sockets_taken_over", addresses=addresses, port=listeners[0].getsockname()[1])
    return listeners


def _source_actor(source: str) -> str:
    """What a source's actor is called among all: a source may be called as it likes."""
    return f"source:{source}"


async def run_daemon(config: Config, file: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second signal ends it at once. SIGHUP has `file` read again.

    What systemd passes in the environment is taken from there.
    """
    sockets = take_sockets(os.environ)
    controls = sockets.pop(CONTROL_SOCKET, None)
    daemon = Daemon(
        config,
        file=file,
        notifier=Notifier.of(os.environ),
        listeners=sockets.pop(PORT_SOCKET, None),
        control=controls[0] if controls else None,
    )
    for name, unknown in sockets.items():
        log.warning("socket_unused", name=name, count=len(unknown), known=[PORT_SOCKET, CONTROL_SOCKET])
        for each in unknown:
            each.close()
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, daemon)
        await nursery.start(_reload_on_signal, daemon)
        await daemon.run()
        nursery.cancel_scope.cancel()


async def _stop_on_signal(
    daemon: Daemon, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal_received", signal=signal.Signals(number).name)
            daemon.stop()
            break


async def _reload_on_signal(
    daemon: Daemon, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            log.info("signal_received", signal=signal.SIGHUP.name)
            await _reload(daemon)


async def _reload(daemon: Daemon) -> None:
    """Whatever goes wrong, the daemon goes on as it was."""
    try:
        await daemon.reload_file()
    except ConfigError:
        pass  # which was said
    except Exception:
        log.exception("reload_crashed", file=daemon.config_file)
