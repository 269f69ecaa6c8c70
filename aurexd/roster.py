"""The sources there are: their actors, their supervisor, how each is, and what an operator does with one."""

from __future__ import annotations

import contextlib
import functools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pykka
import trio

from aurexd.actors.address import Address
from aurexd.actors.filler import Filler, FillRules
from aurexd.actors.messages import (
    GetScreening,
    GetSource,
    PauseSource,
    ResumeSource,
    SourceScreening,
    SourceState,
    SourceStatus,
    StaleAfterChanged,
)
from aurexd.actors.source import Source
from aurexd.actors.supervisor import ChildSpec, ChildStatus, OnExhausted, Strategy, Supervisor
from aurexd.actors.trio_actor import ask, tell_when_room
from aurexd.backoff import Backoff
from aurexd.calendar import CALENDARS
from aurexd.clock import Clock
from aurexd.config import Config
from aurexd.errors import InboxFullError, SupervisionError
from aurexd.sources import provider_class
from aurexd.sources.base import HistoryProvider, Provider, SourceSettings, Subscription

ANSWER_S = 1.0
"""A source that does not answer within this is told of by its supervisor instead."""

RESTART_S = 10.0
"""A source that an operator restarts is up again within this: five seconds to stop, and it is ready at once."""

CRASHED = "it crashed, or hung; the log says how"
"""What is said of a source that a bug took down: the exception's own text is nobody else's business."""

RESTARTS = Backoff(floor_s=1.0, base_s=1.0, cap_s=60.0)


class Roster:
    """All sources, in the configuration's order."""

    def __init__(
        self,
        config: Config,
        *,
        aggregator: Callable[[], Address[Any]],
        persister: Callable[[], Address[Any]],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """`aggregator`, `persister`: where they are, once there are actors."""
        self._config = config
        self._aggregator = aggregator
        self._persister = persister
        self._clock = clock
        self._rng = rng
        self._paused: set[str] = set()
        """Those that are to rest, whatever happens to their actors."""
        self.providers: list[Provider[Any]] = [self._provider(settings) for settings in config.sources]
        # one_for_one: a source that keeps dying is parked, and the others carry the price.
        self.supervisor = Supervisor(
            "sources",
            self._specs(),
            strategy=Strategy.ONE_FOR_ONE,
            intensity=5,
            period_s=300.0,
            backoff=RESTARTS,
            rng=rng,
            on_exhausted=OnExhausted.PARK,
        )

    def replace(self, config: Config) -> None:
        """Have the sources of this configuration, from the supervisor's next start on."""
        known = {provider.settings.name: provider for provider in self.providers}
        self._config = config
        self.providers = [
            known[settings.name]
            if settings.name in known and known[settings.name].settings == settings
            else self._provider(settings)
            for settings in config.sources
        ]
        self._paused &= {settings.name for settings in config.sources}
        self.supervisor.reconfigure(self._specs())

    def _provider(self, settings: SourceSettings) -> Provider[Any]:
        interval_s = self._config.realtime.update_interval_s
        return provider_class(settings.type)(settings, update_interval_s=interval_s)

    def _specs(self) -> list[ChildSpec]:
        return [
            *(
                ChildSpec(provider.settings.name, functools.partial(self._source, provider))
                for provider in self.providers
            ),
            ChildSpec("candle filler", self._filler),
        ]

    def _source(self, provider: Provider[Any]) -> Source:
        settings: SourceSettings = provider.settings
        symbols = self._config.symbols
        subscriptions = tuple(
            Subscription(
                symbol=symbol,
                code=code,
                instrument=symbols[symbol].instrument,
                decimals=symbols[symbol].decimals,
                calendar=CALENDARS[symbols[symbol].calendar],
            )
            for symbol, code in settings.symbols.items()
        )
        return Source(
            provider,
            subscriptions,
            self._aggregator(),
            clock=self._clock,
            rng=random.Random(self._rng.getrandbits(64)),
            paused=settings.name in self._paused,
        )

    def _filler(self) -> Filler:
        return Filler(self.fill_rules(), persister=self._persister(), clock=self._clock)

    def fill_rules(self) -> list[FillRules]:
        """Of each symbol: the first of its sources that has a history."""
        config = self._config
        hours = config.storage.fill_gaps_hours if config.storage.url else 0.0
        rules: dict[str, FillRules] = {}
        for provider in sorted(self.providers, key=lambda provider: provider.settings.priority):
            if not isinstance(provider, HistoryProvider):
                continue
            reach = min(hours, provider.history_hours)
            for symbol, code in provider.settings.symbols.items() if reach else ():
                calendar = CALENDARS[config.symbols[symbol].calendar]
                rules.setdefault(symbol, FillRules(symbol, code, provider, calendar, reach))
        return list(rules.values())

    async def pace(self, update_interval_s: float) -> None:
        """Have the sources that are asked be asked at this pace from now on."""
        for provider in self.providers:
            stale_after_s = provider.stale_after_s
            provider.change_update_interval(update_interval_s)
            if provider.stale_after_s != stale_after_s:
                name = provider.settings.name
                change = StaleAfterChanged(source=name, stale_after_s=provider.stale_after_s)
                with contextlib.suppress(pykka.ActorDeadError):  # the daemon stops
                    await tell_when_room(self._aggregator(), change)

    # --- how they are ---

    async def statuses(self) -> list[SourceStatus]:
        """How every source is; one whose actor was given up is `parked`."""
        supervised = {child.name: child for child in self.supervisor.children()}
        statuses = []
        screening = await self._screening()
        for provider in self.providers:
            name = provider.settings.name
            try:
                status = await ask(self.supervisor.address(name), GetSource(), timeout_s=ANSWER_S)
                statuses.append(screened(status, screening.get(name, SourceScreening())))
            except (pykka.ActorDeadError, trio.TooSlowError, InboxFullError):
                statuses.append(self._parked(provider.settings, supervised.get(name)))
        return statuses

    def _parked(self, settings: SourceSettings, child: ChildStatus | None) -> SourceStatus:
        """`child` is None for one that a reload has brought, until it is started."""
        return SourceStatus(
            name=settings.name,
            type=settings.type,
            priority=settings.priority,
            symbols=settings.symbols,
            instruments={name: self._config.symbols[name].instrument for name in settings.symbols},
            state=SourceState.PARKED if child else SourceState.CONNECTING,
            since=self._clock.now(),
            failures=child.restarts if child else 0,
            last_error=CRASHED if child and child.last_error else None,
        )

    async def _screening(self) -> dict[str, SourceScreening]:
        try:
            return await ask(self._aggregator(), GetScreening(), timeout_s=ANSWER_S)
        except (pykka.ActorDeadError, trio.TooSlowError, InboxFullError):
            return {}  # how the sources are is worth knowing all the more

    # --- what an operator does with one ---

    async def pause(self, name: str) -> None:
        """Disconnect it and leave it so, also when its actor starts afresh, until `resume` or `restart`.

        Raises:
            SupervisionError: it is parked.

        """
        self._paused.add(name)
        try:
            await tell_when_room(self.supervisor.address(name), PauseSource())
        except pykka.ActorDeadError as error:
            raise SupervisionError(
                f"{error}; it is not connected now, and paused when it is restarted"
            ) from error

    async def resume(self, name: str) -> None:
        """Connect it again at once, whatever state it is in.

        Raises:
            SupervisionError: it is parked, and does not come up again.

        """
        self._paused.discard(name)
        try:
            await tell_when_room(self.supervisor.address(name), ResumeSource())
        except pykka.ActorDeadError:
            await self.restart(name)

    async def restart(self, name: str) -> None:
        """Have its actor start afresh, parked or not.

        Raises:
            SupervisionError: it cannot, or does not within `RESTART_S`.

        """
        self._paused.discard(name)
        await self.supervisor.wait_restarted(name, within_s=RESTART_S)


def screened(status: SourceStatus, screening: SourceScreening) -> SourceStatus:
    """What a source says of itself, with what the aggregator thinks of it."""
    skew_us = screening.clock_skew_us
    return msgspec.structs.replace(
        status,
        rejected=dict(Counter(status.rejected) + Counter(screening.refused)),
        jumps=screening.jumps,
        clock_skew_ms=None if skew_us is None else skew_us // 1000,
        lag_ms=None if status.lag_ms is None else max(0, status.lag_ms + max(0, skew_us or 0) // 1000),
    )
