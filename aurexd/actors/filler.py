"""Has candles that are missing after downtime taken from a provider's history.

Which are missing, and what fills them, are the rules of `aurexd/gaps.py`; the store sees to it that nothing of ours is
overwritten. Nobody waits for this actor: when a provider does not answer it asks again later.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pykka
import structlog
import trio

from aurexd.actors.messages import FillCandles, GetCandles
from aurexd.actors.trio_actor import TrioActor, ask
from aurexd.calendar import Calendar
from aurexd.clock import Clock
from aurexd.errors import FeedError, InboxFullError, StoreError
from aurexd.gaps import MINUTE_US, Gap, candles_of, gaps
from aurexd.market import SECOND_US, EpochUs
from aurexd.sources.base import HistoryProvider

log = structlog.get_logger(__name__)

FIRST_S = 60.0
"""After the start: by then there are prices again, and what is missing has an end."""

EVERY_S = 600.0
"""How often gaps are looked for: a line may be cut while the daemon runs, too."""

ASK_STORE_S = 10.0

HOUR_US = 3600 * SECOND_US


class FillRules(msgspec.Struct, frozen=True):
    """What a symbol's gaps are filled from."""

    symbol: str
    code: str
    """The provider's name for it."""
    provider: HistoryProvider[Any]
    calendar: Calendar
    hours: float
    """How far back."""


class Filler(TrioActor):
    """Looks for gaps, asks providers, and has the store filled."""

    def __init__(self, rules: list[FillRules], *, persister: pykka.ActorRef[Any], clock: Clock) -> None:
        super().__init__()
        self._rules = rules
        self._persister = persister
        self._clock = clock
        self._asked: dict[str, set[Gap]] = {each.symbol: set() for each in rules}
        """Gaps for which the provider gave what it has."""
        self._not_before = dict.fromkeys(self._asked, -math.inf)
        """Loop time until which a provider wants to be left alone."""

    async def on_start(self) -> None:
        """Look in a while, and then again and again."""
        if self._rules:
            self.nursery.start_soon(self._keep_filling)

    async def on_receive(self, message: object) -> object:
        """Nobody tells it anything."""
        raise AssertionError(message)

    async def _keep_filling(self) -> None:
        await trio.sleep(FIRST_S)
        while True:
            for rules in self._rules:
                if trio.current_time() >= self._not_before[rules.symbol]:
                    await self._look(rules)
            await trio.sleep(EVERY_S)

    async def _look(self, rules: FillRules) -> None:
        try:
            await self._fill(rules)
        except FeedError as error:
            self._not_before[rules.symbol] = trio.current_time() + error.retry_after_s
            log.warning("gaps_not_filled", symbol=rules.symbol, reason=str(error))
        except (StoreError, trio.TooSlowError, pykka.ActorDeadError, InboxFullError) as error:
            log.warning("gaps_not_filled", symbol=rules.symbol, reason=str(error))

    async def _fill(self, rules: FillRules) -> None:
        now = self._clock.now()
        since = EpochUs(now - int(rules.hours * HOUR_US))
        # One more than the range has: what lies before it says where a gap began.
        question = GetCandles(
            symbol=rules.symbol,
            interval="1m",
            start=EpochUs(0),
            end=now,
            limit=int(rules.hours * HOUR_US // MINUTE_US) + 1,
            now=now,
        )
        page = await ask(self._persister, question, timeout_s=ASK_STORE_S)
        found = gaps([candle.start for candle in page.candles], rules.calendar, since)
        asked = self._asked[rules.symbol] = self._asked[rules.symbol].intersection(found)
        missing = [gap for gap in found if gap not in asked]
        if not missing:
            return
        bars = await rules.provider.history(rules.code, missing[0].start, missing[-1].end, self._clock)
        candles = candles_of(
            bars,
            missing,
            near=page.candles[-1].close,
            days=rules.calendar.day,
            since=since,
            closed_before=EpochUs(page.candles[-1].start),
        )
        filled = 0
        if candles:
            message = FillCandles(symbol=rules.symbol, candles=tuple(candles))
            filled = await ask(self._persister, message, timeout_s=ASK_STORE_S)
        asked.update(missing)
        log.info(
            "gaps_filled",
            symbol=rules.symbol,
            source=rules.provider.settings.name,
            minutes=sum(gap.end - gap.start for gap in missing) // MINUTE_US,
            candles=filled,
        )
