"""AllTick's messages: what they say, and which prices in them may be used. No connection, no clock."""

from __future__ import annotations

import math
from decimal import Decimal
from enum import StrEnum

import msgspec

from aurexd.errors import FeedError
from aurexd.market import EpochUs
from aurexd.sources.plausible import of_this_century, usable

HEARTBEAT, SUBSCRIBE_DEPTH, SUBSCRIBE_TRADES = 22000, 22002, 22004
DEPTH_SUBSCRIBED, TRADES_SUBSCRIBED = 22003, 22005
TRADE_PUSH, DEPTH_PUSH = 22998, 22999
OK = 200

TRADES_TAKE_OVER_S = 30.0
"""Seconds. Trades beside quotes do not move the price: one symbol, one basis. Only a code without a quote for
this long is followed by its trades: then its depth subscription got lost."""

FATAL = {
    401: "put a valid token into this source's `token_file`",
    600: "check this source's `symbols` (codes are case-sensitive: gold is GOLD) and `url`",
    604: "the token's plan lacks a code of this source's `symbols`: remove it, or change the plan",
}
BACK_OFF_S = {
    429: 60.0,  # over a rate: the windows are up to a minute long
    603: 60.0,  # a plan too low, which an upgrade or a renewal can mend
    605: 60.0,
    606: 30.0,  # requests came too close together
}
PLAN_LACKS = frozenset({603, 604})
"""What a plan without depth, or without trades, may answer to that subscription."""


class TradeTick(msgspec.Struct, frozen=True, kw_only=True):
    """A push of 22998: the last price."""

    code: str
    seq: int | None
    """Counts up per code and kind of push; None where the provider sends none."""
    time: EpochUs | None
    price: Decimal


class DepthTick(msgspec.Struct, frozen=True, kw_only=True):
    """A push of 22999: the best bid and ask; None for an empty side."""

    code: str
    seq: int | None
    time: EpochUs | None
    bid: Decimal | None
    ask: Decimal | None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's answer to a request; `cmd_id` and `seq_id` are 0 when it could not read the request."""

    ret: int
    msg: str
    cmd_id: int
    seq_id: int


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """A push that we do not know."""

    cmd_id: int


class _Frame(msgspec.Struct, frozen=True):
    cmd_id: int
    ret: int | None = None
    msg: str = ""
    seq_id: int = 0
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Level(msgspec.Struct, frozen=True):
    price: Decimal


class _Push(msgspec.Struct, frozen=True):
    code: str
    seq: int | str | None = None
    tick_time: int | str | None = None


class _TradePush(_Push, frozen=True, kw_only=True):
    price: Decimal


class _DepthPush(_Push, frozen=True):
    bids: list[_Level] | None = None
    asks: list[_Level] | None = None


_frames = msgspec.json.Decoder(_Frame)
_trades = msgspec.json.Decoder(_TradePush)
_depths = msgspec.json.Decoder(_DepthPush)


def parse(raw: str | bytes) -> TradeTick | DepthTick | Answer | Other:
    """What the provider says in one WebSocket message.

    Raises:
        ValueError: it is none of its messages; says why. RecursionError for brackets nested too deep.

    """
    frame = _frames.decode(raw)
    if frame.ret is not None:
        return Answer(ret=frame.ret, msg=frame.msg, cmd_id=frame.cmd_id, seq_id=frame.seq_id)
    if frame.cmd_id == TRADE_PUSH:
        trade = _trades.decode(frame.data)
        return TradeTick(
            code=trade.code, seq=_integer(trade.seq), time=_time(trade.tick_time), price=trade.price
        )
    if frame.cmd_id == DEPTH_PUSH:
        depth = _depths.decode(frame.data)
        return DepthTick(
            code=depth.code,
            seq=_integer(depth.seq),
            time=_time(depth.tick_time),
            bid=depth.bids[0].price if depth.bids else None,
            ask=depth.asks[0].price if depth.asks else None,
        )
    return Other(cmd_id=frame.cmd_id)


def _integer(value: int | str | None) -> int | None:
    """The provider's integers were strings until June 2026, and may be again."""
    if isinstance(value, int) or not value:
        return value or None
    if len(value) > 20 or not (value.isascii() and value.isdigit()):
        raise ValueError(f"{value[:30]!r} is not an integer")
    return int(value)


def _time(value: int | str | None) -> EpochUs | None:
    """Microseconds from the provider's milliseconds, or seconds: its documentation shows both."""
    number = _integer(value)
    if number is None:
        return None
    return of_this_century(number * 1000 if number >= 10**11 else number * 1_000_000)


def refusal(ret: int, msg: str) -> FeedError:
    """The error that a `ret` other than 200 amounts to."""
    said = f"{ret} {msg}".strip()
    if ret in FATAL:
        return FeedError(f"AllTick refuses us ({said}): {FATAL[ret]}", fatal=True)
    if ret in BACK_OFF_S:
        return FeedError(f"AllTick wants us to wait ({said})", retry_after_s=BACK_OFF_S[ret])
    return FeedError(f"AllTick did not accept a request ({said}); we reconnect")


# --- what may move the price ---


class Verdict(StrEnum):
    """What becomes of a push; from `DUPLICATE` on, the reason why it is rejected."""

    DELIVER = "deliver"
    STAND_BACK = "stand_back"
    """A trade beside quotes: good, but of another basis."""
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    CLOSED = "closed"
    """All prices are 0: the provider's way to say closed or delisted."""
    ONE_SIDED = "one_sided"
    BAD_PRICE = "bad_price"


class PushFilter:
    """Judges the pushes of one connection, in the order of their arrival."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, type], TradeTick | DepthTick] = {}
        self._quoted_at: dict[str, float] = {}

    def judge(self, push: TradeTick | DepthTick, now: float) -> Verdict:
        """May it move the price? `now` is in seconds on any clock that does not jump."""
        verdict = self._order(push)
        if verdict is Verdict.DELIVER:
            verdict = _judge_prices([push.price] if isinstance(push, TradeTick) else [push.bid, push.ask])
        if verdict is Verdict.DELIVER:
            if isinstance(push, DepthTick):
                self._quoted_at[push.code] = now
            elif now < self._quoted_at.get(push.code, -math.inf) + TRADES_TAKE_OVER_S:
                verdict = Verdict.STAND_BACK
        return verdict

    def trades_subscribed(self) -> None:
        """The provider accepted the second subscription, trades: now it shows which kinds it sends to one who
        asked for both, and earlier quotes say nothing of that."""
        self._quoted_at.clear()

    def _order(self, push: TradeTick | DepthTick) -> Verdict:
        key = push.code, type(push)
        newest = self._newest.get(key)
        if newest is not None and newest.seq is not None and push.seq is not None:
            # A count that starts anew while time goes on is a restart at the provider's, not disorder.
            later = newest.time is not None and push.time is not None and push.time > newest.time
            if push.seq <= newest.seq and not later:
                return Verdict.DUPLICATE if push.seq == newest.seq else Verdict.OUT_OF_ORDER
        self._newest[key] = push
        return Verdict.DELIVER


def _judge_prices(prices: list[Decimal | None]) -> Verdict:
    if any(price is not None and not price.is_zero() and usable(price) is None for price in prices):
        return Verdict.BAD_PRICE
    if all(price is not None and price.is_zero() for price in prices):
        return Verdict.CLOSED
    if any(price is None or price.is_zero() for price in prices):
        return Verdict.ONE_SIDED
    return Verdict.DELIVER
