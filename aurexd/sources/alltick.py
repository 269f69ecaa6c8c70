"""AllTick: spot gold by WebSocket. Connects, subscribes and beats; what is said is read in `alltick_wire.py`.

It has depth ticks (bid and ask) and trade ticks (last price). Which of them a token gets depends on its plan,
so both are asked for; quotes win where both come.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, Literal, NoReturn, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pydantic
import trio

from aurexd.backoff import Backoff
from aurexd.errors import FeedError
from aurexd.market import Instrument
from aurexd.redaction import Redactor
from aurexd.sources.alltick_wire import (
    BACK_OFF_S,
    DEPTH_SUBSCRIBED,
    FATAL,
    HEARTBEAT,
    OK,
    PLAN_LACKS,
    SUBSCRIBE_DEPTH,
    SUBSCRIBE_TRADES,
    TRADES_SUBSCRIBED,
    Answer,
    DepthTick,
    Other,
    PushFilter,
    TradeTick,
    Verdict,
    parse,
    refusal,
)
from aurexd.sources.base import Feed, Provider, SourceSettings, Traits
from aurexd.sources.websocket import Connection, UpgradeRefusedError, WebSocketUrl, open_connection

HEARTBEAT_S = 10.0  # the provider's wish; it closes after 30 s without
REQUEST_SPACING_S = 1.1  # at least 1 s on one connection, and some: the way takes not always equally long
TOKEN_SPACING_S = 3.1  # at least 3 s between requests on different connections of one token
FREE_SYMBOLS = 5  # a Free subscription's cap; what is beyond is silently ignored


class AllTickSettings(SourceSettings):
    """One `[[sources]]` table of type alltick."""

    url: WebSocketUrl = pydantic.Field(
        default="wss://quote.alltick.co/quote-b-ws-api",
        description="Where to connect; the token is added to its query.",
    )
    token: pydantic.SecretStr | None = pydantic.Field(
        default=None, min_length=1, description="The token itself; better `token_file`."
    )
    token_file: Path | None = pydantic.Field(
        default=None, description="A file with the token alone, read anew for each connection."
    )
    plan: Literal["free", "paid"] = pydantic.Field(
        default="free",
        description="The token's plan: on `free` we reconnect no faster than every 10 s, else 3 s.",
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("exactly one of token and token_file is needed: write token_file = '/path'")
        if "token" in parse_qs(urlsplit(self.url).query, keep_blank_values=True):
            raise ValueError("the token must not stand in url: put it into token_file")
        if self.plan == "free" and len(set(self.symbols.values())) > FREE_SYMBOLS:
            raise ValueError(
                f"the Free plan serves {FREE_SYMBOLS} codes and ignores the rest: list fewer symbols"
            )
        return self


class Pacer:
    """Spaces the requests of one token, over all its connections. Whoever makes some holds `turn`."""

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self._last_connection: object = None
        self._last_at = -math.inf

    async def wait(self, connection: object) -> None:
        """Wait until `connection` may send its next request."""
        spacing_s = REQUEST_SPACING_S if connection is self._last_connection else TOKEN_SPACING_S
        await trio.sleep_until(self._last_at + spacing_s)
        self._last_connection, self._last_at = connection, trio.current_time()


_pacers: trio.lowlevel.RunVar[dict[tuple[str, str], Pacer]] = trio.lowlevel.RunVar("alltick_pacers")
"""By host and token: several sources may share a token, and with it the provider's patience."""


def _pacer(host: str, token: str) -> Pacer:
    pacers = _pacers.get({})
    _pacers.set(pacers)
    return pacers.setdefault((host, token), Pacer())


class AllTick(Provider[AllTickSettings]):
    """Listens to AllTick. Codes are its own: `GOLD`."""

    title = "AllTick"
    traits = Traits(
        # In an open market gold ticks several times a second; 15 s without one is a fault, not a pause.
        stale_after_s=15.0,
        # Heartbeats are answered, so something comes every 10 s even from a closed market: two are missing.
        silence_s=25.0,
        # The Free plan's minimum between connections.
        reconnect=Backoff(floor_s=10.0, base_s=5.0, cap_s=60.0),
    )
    Settings = AllTickSettings

    def __init__(self, settings: AllTickSettings, *, update_interval_s: float) -> None:
        super().__init__(settings, update_interval_s=update_interval_s)
        if settings.plan == "paid":
            self.traits = msgspec.structs.replace(
                self.traits, reconnect=Backoff(floor_s=3.0, base_s=3.0, cap_s=60.0)
            )

    @staticmethod
    def instrument_of(code: str) -> Instrument | None:
        """`GOLD` is spot; AllTick has other kinds too."""
        return Instrument.SPOT if code == "GOLD" else None

    async def run(self, feed: Feed) -> None:
        """Subscribe to depth and trades of every code, and listen."""
        token = self._token()
        parts = urlsplit(self.settings.url)
        query = "&".join(filter(None, [parts.query, urlencode({"token": token})]))
        redactor = Redactor([token])
        try:
            async with open_connection(
                self.title, parts._replace(query=query).geturl(), feed, redactor
            ) as connection:
                await _Conversation(feed, connection, _pacer(parts.netloc, token), redactor).run()
        except UpgradeRefusedError as refused:
            raise _upgrade_refusal(refused, redactor) from refused

    def _token(self) -> str:
        if self.settings.token is not None:
            return self.settings.token.get_secret_value()
        assert self.settings.token_file is not None
        try:
            token = self.settings.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise FeedError(f"AllTick: the token_file cannot be read ({error})", fatal=True) from error
        if not token:
            raise FeedError(f"AllTick: {self.settings.token_file} is empty: put the token in it", fatal=True)
        return token


class _Conversation:
    """What is said on one connection."""

    def __init__(self, feed: Feed, connection: Connection, pacer: Pacer, redactor: Redactor) -> None:
        self._feed = feed
        self._connection = connection
        self._pacer = pacer
        self._redactor = redactor
        self._codes = list(dict.fromkeys(s.code for s in feed.subscriptions))
        self._filter = PushFilter()
        self._sent: list[int] = []
        """The cmd_id of each request; its seq_id is its place, counted from 1."""
        self._accepted = trio.Event()
        self._refused: set[int] = set()

    async def run(self) -> NoReturn:
        self._connection.nursery.start_soon(self._make_requests)
        while True:
            match await self._connection.receive(parse):
                case Answer() as answer:
                    self._answered(answer)
                case Other(cmd_id=cmd_id):
                    self._feed.rejected("unknown_message", f"cmd_id {cmd_id}")
                case push:
                    await self._pushed(push)

    async def _make_requests(self) -> None:
        opened = trio.current_time()
        codes = self._codes  # all of them each time: a subscription replaces the one before
        async with self._pacer.turn:
            await self._request(HEARTBEAT, {})
            await self._request(
                SUBSCRIBE_DEPTH, {"symbol_list": [{"code": code, "depth_level": 1} for code in codes]}
            )
            await self._request(SUBSCRIBE_TRADES, {"symbol_list": [{"code": code} for code in codes]})
        self._connection.nursery.start_soon(
            self._connection.wait_answered, self._accepted, "our subscription to " + ", ".join(codes)
        )
        for beat in itertools.count(1):
            await trio.sleep_until(opened + beat * HEARTBEAT_S)
            async with self._pacer.turn:
                await self._request(HEARTBEAT, {})

    async def _request(self, cmd_id: int, data: dict[str, Any]) -> None:
        await self._pacer.wait(self._connection)
        self._sent.append(cmd_id)
        await self._connection.send(
            {
                "cmd_id": cmd_id,
                "seq_id": len(self._sent),
                "trace": f"{self._feed.rng.getrandbits(64):016x}-{len(self._sent)}",
                "data": data,
            }
        )

    def _answered(self, answer: Answer) -> None:
        subscription = self._subscription_of(answer)
        if answer.ret == OK:
            if subscription == SUBSCRIBE_TRADES:
                self._filter.trades_subscribed()
            if subscription is not None:
                self._accepted.set()
                self._feed.connected()
            return
        error = refusal(answer.ret, self._redactor.text(answer.msg[:200]))
        if subscription is not None and answer.ret in PLAN_LACKS:
            self._refused.add(subscription)
            if len(self._refused) < 2:  # the other kind may be in the plan, and serves as well
                self._feed.rejected("subscription_refused", f"{subscription}: {error}")
                return
        raise error

    def _subscription_of(self, answer: Answer) -> int | None:
        """Which subscription is answered: errors do not always say it in the same way."""
        if answer.cmd_id in {DEPTH_SUBSCRIBED, TRADES_SUBSCRIBED}:
            return answer.cmd_id - 1
        if 1 <= answer.seq_id <= len(self._sent) and self._sent[answer.seq_id - 1] != HEARTBEAT:
            return self._sent[answer.seq_id - 1]
        return None

    async def _pushed(self, push: TradeTick | DepthTick) -> None:
        if push.code not in self._codes:
            self._feed.rejected("unknown_code", push.code[:100])
            return
        verdict = self._filter.judge(push, trio.current_time())
        if verdict is Verdict.DELIVER:
            match push:
                case TradeTick():
                    await self._feed.tick(push.code, source_time=push.time, last=push.price)
                case DepthTick():
                    await self._feed.tick(push.code, source_time=push.time, bid=push.bid, ask=push.ask)
        elif verdict is not Verdict.STAND_BACK:
            self._feed.rejected(verdict.value, str(push)[:200])


class _Refusal(msgspec.Struct, frozen=True):
    """The body of a refused upgrade."""

    ret: int
    msg: str = ""


def _upgrade_refusal(refused: UpgradeRefusedError, redactor: Redactor) -> FeedError:
    """AllTick says in the body why; its HTTP status may be anything."""
    try:
        body = msgspec.json.decode(refused.body, type=_Refusal)
    except (ValueError, RecursionError):
        body = _Refusal(ret=refused.status)
    if body.ret in FATAL or body.ret in BACK_OFF_S:
        return refusal(body.ret, redactor.text(body.msg[:200]))
    return refused
