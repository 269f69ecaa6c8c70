"""What clients ask of alerts, and what fires on its way to them.

When a rule fires is found out where prices are stored (`aurexd/alert_store.py`, docs/adr/0010); this actor judges what
clients want, has it made durable before it answers, and sees to it that what fired reaches the hub, also after a crash.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec
import pykka
import structlog
import trio
from pykka._envelope import Envelope

from aurexd.actors.messages import (
    AlertAnswer,
    AlertFired,
    AlertsAcknowledged,
    AlertsFired,
    AskAlerts,
    AskedOfAlerts,
    CatchUpAlerts,
    ChangeRule,
    CreateRule,
    DeleteRule,
    GetRules,
    GetUnacknowledged,
    StoreAcknowledged,
)
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import TrioActor, ask, tell_when_room
from aurexd.alert_rules import draft
from aurexd.clock import Clock
from aurexd.errors import AlertError, InboxFullError, StoreError
from aurexd.foreign import clean, without_directories
from aurexd.protocol import alerts as wire
from aurexd.protocol import compose
from aurexd.protocol.codes import ErrorCode
from aurexd.protocol.messages import AlertAck, AlertCreate, AlertDelete, AlertList, AlertUpdate
from aurexd.settings import Settings

log = structlog.get_logger(__name__)

ASK_S = 8.0
"""How long the store may take: a little more than the persister gives it."""

AT_ONCE = 64
"""Requests that wait for the disk at a time; more are told to come again."""

RETRY_MS = 5000
"""When it is worth while to ask again of a store that is in trouble."""

BUSY_MS = 500

CATCH_UP_EVERY_S = 5.0
"""Between two attempts to read what has not arrived yet."""

DAY_S = 86_400


class Alerts(TrioActor):
    """`AskedOfAlerts` and `AskAlerts` in, answers out; `AlertsFired` in, `AlertFired` to the hub."""

    inbox_capacity = 4096

    def __init__(
        self,
        *,
        hub: pykka.ActorRef[Any],
        persister: pykka.ActorRef[Any],
        retention_days: float,
        settings: Settings,
        clock: Clock,
    ) -> None:
        """`retention_days`: how long prices are kept; 0: for ever."""
        super().__init__()
        self._hub = hub
        self._persister = persister
        self._kept_s = retention_days * DAY_S or None
        self._settings = settings
        self._clock = clock
        self._delivered = 0
        """The number of the newest alert that the hub has been told of."""
        self._at_work = 0
        self._catching_up = trio.Lock()
        self._to_catch_up = 0
        """How often: what fires meanwhile is held, or what was missed would seem to be delivered."""
        self._held: list[AlertFired] = []

    async def on_start(self) -> None:
        """See to what an earlier run, or an earlier hub, has not delivered."""
        self._begin_catching_up()

    async def on_receive(self, message: object) -> object:
        """Pass on what fired, or act for a client."""
        match message:
            case AlertsFired(fired=fired):
                if self._to_catch_up:
                    self._held += fired  # in order, after what was missed
                else:
                    await self._deliver(fired)
            case CatchUpAlerts():
                self._begin_catching_up()
            case AskedOfAlerts(session=session, owner=owner, request=request):
                if self._at_work >= AT_ONCE:
                    self._refuse(session, request.id, _busy())
                else:
                    self._at_work += 1
                    self.nursery.start_soon(self._serve, session, owner, request)
            case AskAlerts(owner=owner, data=data):
                return await self._act(owner, data)
        return None

    async def _answer(self, envelope: Envelope[Any]) -> None:
        # These wait for the disk; what fires must not wait for them.
        self.nursery.start_soon(super()._answer, envelope)

    # --- what fired ---

    async def _deliver(self, fired: Iterable[AlertFired]) -> None:
        for alert in fired:
            if alert.number > self._delivered:
                log.info(
                    "alert_fired",
                    alert=alert.alert.alert_id,
                    owner=alert.owner,
                    symbol=alert.alert.symbol,
                    late=alert.alert.late,
                    paused_until=alert.alert.paused_until,
                )
                await self._tell_hub(alert)

    async def _tell_hub(self, alert: AlertFired) -> None:
        self._delivered = alert.number
        await tell_when_room(self._hub, alert)

    def _begin_catching_up(self) -> None:
        # From here on, not from when the task comes to run: messages that wait may be handled before it.
        self._to_catch_up += 1
        self.nursery.start_soon(self._catch_up)

    async def _catch_up(self) -> None:
        """What was stored and not acknowledged, and the hub may not know of."""
        async with self._catching_up:
            missed = await self._missed()
            just_fired = {alert.number for alert in self._held}
            for alert in missed:
                if alert.number in just_fired:
                    await self._deliver([alert])
                else:  # whoever was there before may have told its owner
                    again = msgspec.structs.replace(alert.alert, redelivered=True)
                    await self._tell_hub(msgspec.structs.replace(alert, alert=again))
            told_again = sum(alert.number not in just_fired for alert in missed)
            if told_again:
                log.info("alerts_told_again", count=told_again)
            while self._held:
                held, self._held = self._held, []
                await self._deliver(held)
            self._to_catch_up -= 1

    async def _missed(self) -> tuple[AlertFired, ...]:
        while True:
            try:
                question = GetUnacknowledged(after=self._delivered)
                return await ask(self._persister, question, timeout_s=ASK_S)
            except (StoreError, trio.TooSlowError, pykka.ActorDeadError, InboxFullError) as error:
                if isinstance(error, StoreError) and error.permanent:
                    return ()
                await trio.sleep(CATCH_UP_EVERY_S)

    # --- what clients ask ---

    async def _serve(
        self,
        session: Session,
        owner: str,
        request: AlertCreate | AlertList | AlertUpdate | AlertDelete | AlertAck,
    ) -> None:
        try:
            answer = await self._act(owner, request.data)
        except AlertError as error:
            self._refuse(session, request.id, error)
        else:
            session.send(compose.alert_answer(request, answer, self._clock.now()))
        finally:
            self._at_work -= 1

    def _refuse(self, session: Session, request_id: str | int | None, error: AlertError) -> None:
        session.send(
            compose.error(
                error.code,
                error.message,
                self._clock.now(),
                request_id=request_id,
                retry_after_ms=error.retry_after_ms,
            )
        )

    async def _act(self, owner: str, data: object) -> AlertAnswer:
        """Do what an owner wants; it is durable when this returns.

        Raises:
            AlertError: it cannot be done; the message says why.

        """
        try:
            return await self._do(owner, data)
        except StoreError as error:
            words = without_directories(str(error))
            if error.permanent:
                raise AlertError(
                    ErrorCode.NOT_AVAILABLE, f"this server has no alerts now: {words}"
                ) from error
            raise AlertError(
                ErrorCode.UNAVAILABLE, f"it cannot be made durable now: {words}", RETRY_MS
            ) from error
        except (trio.TooSlowError, pykka.ActorDeadError, InboxFullError) as error:
            log.warning("alerts_unanswered", reason=str(error))
            raise _busy() from error

    async def _do(self, owner: str, data: object) -> AlertAnswer:
        now, limits = self._clock.now(), self._settings.alerts
        match data:
            case wire.AlertCreateData(symbol=symbol):
                if symbol not in self._settings.symbols:
                    there = ", ".join(sorted(self._settings.symbols))
                    raise AlertError(
                        ErrorCode.INVALID_MESSAGE,
                        f"symbol: there is no {clean(symbol, 20)!r}; there are {there}",
                    )
                rule = await ask(
                    self._persister,
                    CreateRule(
                        rule_id=f"r-{secrets.token_hex(8)}",
                        owner=owner,
                        draft=draft(data, self._kept_s, now),
                        owner_limit=limits.max_rules_per_owner,
                        limit=limits.max_rules,
                        now=now,
                    ),
                    timeout_s=ASK_S,
                )
                return wire.AlertRuleData(rule=rule)
            case wire.AlertListData(symbol=symbol):
                question = GetRules(owner=owner, symbol=symbol, now=now)
                return wire.AlertListedData(rules=[*await ask(self._persister, question, timeout_s=ASK_S)])
            case wire.AlertUpdateData():
                wanted = ChangeRule(owner=owner, data=data, kept_s=self._kept_s, now=now)
                return wire.AlertRuleData(rule=await ask(self._persister, wanted, timeout_s=ASK_S))
            case wire.AlertDeleteData(rule_id=rule_id):
                await ask(self._persister, DeleteRule(owner=owner, rule_id=rule_id), timeout_s=ASK_S)
                return wire.AlertDeletedData(rule_id=rule_id)
            case wire.AlertAckData(alert_ids=alert_ids):
                ids = tuple(dict.fromkeys(alert_ids))
                kept = StoreAcknowledged(owner=owner, alert_ids=ids, now=now)
                await ask(self._persister, kept, timeout_s=ASK_S)
                # Before the answer: whoever subscribes after it is not sent them again.
                await tell_when_room(self._hub, AlertsAcknowledged(owner=owner, alert_ids=ids))
                return wire.AlertAckedData(alert_ids=[*ids])
            case _:
                raise AssertionError(f"nobody asks for {type(data).__name__}")


def _busy() -> AlertError:
    return AlertError(ErrorCode.UNAVAILABLE, "too much is asked of alerts at a time: try again", BUSY_MS)
