"""One source: keeps one provider's connection up and passes its ticks to the aggregator.

It reconnects with full jitter, notices silence, counts, and knows why it failed and when it tries again. What is
said on the wire is the provider's own business (`aurexd/sources/`).
"""

from __future__ import annotations

import math
import random
import secrets
from decimal import Decimal
from typing import Any

import pykka
import structlog
import trio

from aurexd.actors.messages import (
    GetSource,
    PauseSource,
    ResumeSource,
    SourceState,
    SourceStatus,
    TickReceived,
)
from aurexd.actors.trio_actor import TrioActor, tell_when_room
from aurexd.clock import Clock
from aurexd.errors import FeedError, InboxFullError
from aurexd.foreign import clean
from aurexd.market import SECOND_US, EpochUs, Tick
from aurexd.sources.base import Provider, Subscription
from aurexd.sources.plausible import of_this_century, usable

log = structlog.get_logger(__name__)

MUTE_S = 60.0
"""A connection that shows life but brings no price for this long (or four times `stale_after_s`, if that is more) is
made anew: subscriptions get lost on the provider's side while its heartbeats go on."""

HEALTHY_S = 60.0
"""A connection that brought prices for this long has earned a fresh start of the backoff: one that is accepted and
then dropped has not."""


class Source(TrioActor):
    """The actor of one `[[sources]]` table; it is also the `Feed` its provider delivers to."""

    def __init__(
        self,
        provider: Provider[Any],
        subscriptions: tuple[Subscription, ...],
        aggregator: pykka.ActorRef[Any],
        *,
        clock: Clock,
        rng: random.Random,
        paused: bool = False,
    ) -> None:
        """`paused`: it does nothing until it is resumed."""
        super().__init__()
        self.clock = clock
        self.rng = rng
        self.subscriptions = subscriptions
        settings = provider.settings
        self._provider = provider
        self._name: str = settings.name
        self._by_code = {s.code: s for s in subscriptions}
        self._aggregator = aggregator
        self._log = log.bind(source=self._name)
        self._state = SourceState.PAUSED if paused else SourceState.CONNECTING
        self._since = clock.now()
        self._ticks = 0
        self._last_tick: Tick | None = None
        self._connections = 0
        self._failures = 0
        self._failures_in_a_row = 0
        self._last_error: str | None = None
        self._next_attempt: EpochUs | None = None
        self._rejected: dict[str, int] = {}
        self._heard_at = self._ticked_at = self._attempt_at = -math.inf
        self._connection: trio.CancelScope | None = None
        self._connected_at: float | None = None
        self._before = (0, 0)
        """Ticks, and what was rejected, before this connection."""
        self._wanted = trio.Event()
        if not paused:
            self._wanted.set()
        self._finished = False

    async def on_start(self) -> None:
        """Start connecting; the actor is ready at once, whatever the provider does."""
        self.nursery.start_soon(self._keep_connected)

    async def on_receive(self, message: object) -> object:
        """Answer for the source, or pause and resume it."""
        match message:
            case GetSource():
                return self._status()
            case PauseSource():
                self._rest(SourceState.PAUSED)
                self._disconnect()
            case ResumeSource():
                self._failures_in_a_row = 0
                self._wanted.set()
                self._disconnect()
        return None

    # --- the provider's Feed ---

    def connected(self) -> None:
        """See `Feed.connected`."""
        self._heard_at = trio.current_time()
        if self._state is not SourceState.CONNECTED:
            self._connected_at = self._heard_at
            self._enter(SourceState.CONNECTED)
            self._connections += 1
            self._log.info("source_connected")

    def heard(self) -> None:
        """See `Feed.heard`."""
        self._heard_at = trio.current_time()

    def rejected(self, reason: str, detail: str = "") -> None:
        """See `Feed.rejected`."""
        count = self._rejected[reason] = self._rejected.get(reason, 0) + 1
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a mad provider must not flood the log
            self._log.warning("source_input_rejected", reason=reason, detail=clean(detail, 200), count=count)

    async def tick(
        self,
        code: str,
        *,
        source_time: EpochUs | None,
        bid: Decimal | None = None,
        ask: Decimal | None = None,
        last: Decimal | None = None,
        receive_time: EpochUs | None = None,
    ) -> None:
        """See `Feed.tick`."""
        self._heard_at = self._ticked_at = trio.current_time()
        subscription = self._by_code.get(code)
        if subscription is None:
            self.rejected("unknown_code", code)
            return
        for price in (bid, ask, last):
            if price is not None and usable(price) is None:
                self.rejected("bad_price", f"{code}: {price:.12g}")
                return
        try:
            time = None if source_time is None else of_this_century(source_time)
        except ValueError as error:
            self.rejected("bad_time", f"{code}: {error}")
            return
        now = receive_time if receive_time is not None else self.clock.now()
        tick = Tick(
            symbol=subscription.symbol,
            source=self._name,
            instrument=subscription.instrument,
            source_time=now if time is None else time,
            receive_time=now,
            bid=bid,
            ask=ask,
            last=last,
            simulated=self._provider.traits.simulated,
        )
        self._ticks += 1
        self._last_tick = tick
        message = TickReceived(tick=tick)
        try:
            self._aggregator.tell(message)
        except InboxFullError:
            await tell_when_room(self._aggregator, message)

    # --- the connection ---

    async def _keep_connected(self) -> None:
        while True:
            await self._wanted.wait()
            self._finished = False
            error = await self._attempt()
            if not self._wanted.is_set():  # paused meanwhile, and whatever else went wrong is no matter
                self._log.info("source_disconnected", reason="told to", **self._figures())
            elif error is not None and error.fatal:
                self._fail(error)
                self._rest(SourceState.FAILED)
                self._log.error(
                    "source_failed",
                    reason=str(error),
                    advice="mend the cause, then: aurexctl sources resume NAME",
                    **self._figures(),
                )
            elif error is not None:
                await self._wait_to_retry(error)
            elif self._finished:
                self._rest(SourceState.FINISHED)
                self._log.info("source_finished", **self._figures())
            else:
                self._log.info("source_disconnected", reason="told to", **self._figures())

    async def _attempt(self) -> FeedError | None:
        """Connect and deliver until that fails (the error), is finished, or is interrupted (None)."""
        self._enter(SourceState.CONNECTING)
        self._log = log.bind(source=self._name, connection=secrets.token_hex(4))
        self._connected_at = None
        self._before = (self._ticks, sum(self._rejected.values()))
        self._attempt_at = self._heard_at = self._ticked_at = trio.current_time()
        error: FeedError | None = None
        async with trio.open_nursery() as nursery:
            self._connection = nursery.cancel_scope
            silence = _Silence(nursery.cancel_scope)
            nursery.start_soon(self._watch_silence, silence)
            try:
                await self._provider.run(self)
                self._finished = True
            except FeedError as raised:
                error = raised
            nursery.cancel_scope.cancel()
        self._connection = None
        return silence.error or error

    async def _watch_silence(self, silence: _Silence) -> None:
        """End a connection on which nothing moves: dead lines and lost subscriptions look alive to TCP."""
        traits = self._provider.traits
        if traits.silence_s == math.inf:
            return
        while silence.error is None:
            mute_s = max(MUTE_S, 4 * self._provider.stale_after_s)
            now = trio.current_time()
            open_since = now - self._open_for_s()
            heard_at = max(self._heard_at, open_since) if traits.rests_when_closed else self._heard_at
            silent_at, mute_at = heard_at + traits.silence_s, max(self._ticked_at, open_since) + mute_s
            if now >= silent_at:
                silence.end(f"silent: nothing received for {traits.silence_s:g} s")
            elif now >= mute_at:
                silence.end(f"mute: connected, but no price for {mute_s:g} s")
            else:
                await trio.sleep_until(min(silent_at, mute_at))

    def _open_for_s(self) -> float:
        """How long a market of its symbols has been open; 0 while all are closed, and nothing is to be expected."""
        now = self.clock.now()
        sessions = [subscription.calendar.session(now) for subscription in self.subscriptions]
        return max((now - s.start for s in sessions if now < s.end), default=0) / SECOND_US

    async def _wait_to_retry(self, error: FeedError) -> None:
        if self._ticked_at - self._attempt_at >= HEALTHY_S:
            self._failures_in_a_row = 0
        self._fail(error)
        delay_s = self._provider.traits.reconnect.delay(
            self._failures_in_a_row, self.rng, at_least_s=error.retry_after_s
        )
        self._next_attempt = EpochUs(self.clock.now() + int(delay_s * SECOND_US))
        self._enter(SourceState.WAITING)
        self._log.warning(
            "source_lost",
            reason=str(error),
            failures=self._failures,
            retry_in_s=round(delay_s, 1),
            **self._figures(),
        )
        with trio.move_on_after(delay_s) as self._connection:
            await trio.sleep_forever()
        self._connection = None
        self._next_attempt = None

    def _figures(self) -> dict[str, float]:
        """What one connection amounted to: the line at its end has them."""
        connected_s = 0.0 if self._connected_at is None else trio.current_time() - self._connected_at
        ticks, rejected = self._before
        return {
            "connected_s": round(connected_s, 1),
            "ticks": self._ticks - ticks,
            "rejected": sum(self._rejected.values()) - rejected,
        }

    def _fail(self, error: FeedError) -> None:
        self._failures += 1
        self._failures_in_a_row += 1
        self._last_error = str(error)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.cancel()

    def _rest(self, state: SourceState) -> None:
        """Do nothing more until a person says so."""
        self._wanted = trio.Event()
        self._enter(state)

    def _enter(self, state: SourceState) -> None:
        if state is not self._state:
            self._state = state
            self._since = self.clock.now()

    def _status(self) -> SourceStatus:
        tick = self._last_tick
        return SourceStatus(
            name=self._name,
            type=self._provider.settings.type,
            priority=self._provider.settings.priority,
            symbols=self._provider.settings.symbols,
            instruments={s.symbol: s.instrument for s in self.subscriptions},
            state=self._state,
            since=self._since,
            ticks=self._ticks,
            last_tick=tick.receive_time if tick else None,
            lag_ms=(tick.receive_time - tick.source_time) // 1000 if tick else None,
            connections=self._connections,
            failures=self._failures,
            last_error=self._last_error,
            next_attempt=self._next_attempt,
            rejected=dict(self._rejected),
        )


class _Silence:
    """The verdict of the silence watch over one connection."""

    def __init__(self, connection: trio.CancelScope) -> None:
        self._connection = connection
        self.error: FeedError | None = None

    def end(self, reason: str) -> None:
        self.error = FeedError(reason)
        self._connection.cancel()
