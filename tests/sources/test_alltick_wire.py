"""AllTick's messages as it documents them, as it really sends them, and as nobody should."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.market import EpochUs
from aurexd.sources.alltick_wire import (
    BACK_OFF_S,
    FATAL,
    TRADES_TAKE_OVER_S,
    Answer,
    DepthTick,
    Other,
    PushFilter,
    TradeTick,
    Verdict,
    parse,
    refusal,
)

TIME = EpochUs(1787059182123000)
TRADE = (
    b'{"cmd_id":22998,"data":{"code":"GOLD","seq":"1605509068000001","tick_time":"1787059182123",'
    b'"price":"4389.38","volume":"0","turnover":"0","trade_direction":0}}'
)
DEPTH = (
    b'{"cmd_id":22999,"data":{"code":"GOLD","seq":"1605509068000001","tick_time":"1787059182123",'
    b'"bids":[{"price":"4389.05","volume":"0"}],"asks":[{"price":"4389.71","volume":"0"}]}}'
)


def trade(price: str = "4389.38", *, seq: int | None = 1, time: int | None = TIME) -> TradeTick:
    return TradeTick(code="GOLD", seq=seq, time=None if time is None else EpochUs(time), price=Decimal(price))


def depth(
    bid: str | None = "4389.05", ask: str | None = "4389.71", *, seq: int | None = 1, code: str = "GOLD"
) -> DepthTick:
    sides = [None if side is None else Decimal(side) for side in (bid, ask)]
    return DepthTick(code=code, seq=seq, time=TIME, bid=sides[0], ask=sides[1])


# --- parsing ---


def test_a_documented_trade_is_read() -> None:
    assert parse(TRADE) == trade(seq=1605509068000001)


def test_a_documented_quote_is_read() -> None:
    assert parse(DEPTH.decode()) == depth(seq=1605509068000001)


@pytest.mark.parametrize(
    ("seq", "tick_time"),
    [
        ("1605509068000001", "1787059182123"),
        (1605509068000001, 1787059182123),
        ("1605509068000001", 1787059182123),
    ],
)
def test_integers_may_be_strings(seq: str | int, tick_time: str | int) -> None:
    data = {"code": "GOLD", "seq": seq, "tick_time": tick_time, "price": "4389.38"}
    assert parse(json.dumps({"cmd_id": 22998, "data": data})) == trade(seq=1605509068000001)


@pytest.mark.parametrize("tick_time", ["1605509068", 1605509068, "1605509068000", 1605509068000])
def test_times_may_be_in_seconds(tick_time: str | int) -> None:
    message = parse(json.dumps({"cmd_id": 22998, "data": {"code": "G", "tick_time": tick_time, "price": 1}}))
    assert isinstance(message, TradeTick)
    assert message.time == 1605509068_000_000


@pytest.mark.parametrize("nothing", [{}, {"seq": "", "tick_time": ""}, {"seq": None, "tick_time": 0}])
def test_seq_and_time_may_be_missing(nothing: dict[str, Any]) -> None:
    message = parse(json.dumps({"cmd_id": 22998, "data": {"code": "GOLD", "price": "4389.38", **nothing}}))
    assert message == trade(seq=None, time=None)


@pytest.mark.parametrize("side", [{}, {"bids": []}, {"bids": None}])
def test_a_side_may_be_empty(side: dict[str, Any]) -> None:
    data = {"code": "GOLD", "seq": 1, "tick_time": 1787059182123, "asks": [{"price": "4389.71"}], **side}
    assert parse(json.dumps({"cmd_id": 22999, "data": data})) == depth(None)


def test_answers_and_unknown_pushes_are_told_apart() -> None:
    ack = b'{"ret":200,"msg":"ok","cmd_id":22003,"seq_id":3,"trace":"d-3","data":{}}'
    assert parse(ack) == Answer(ret=200, msg="ok", cmd_id=22003, seq_id=3)
    error = b'{"ret":201,"msg":"request header param invalid","cmd_id":0,"seq_id":0,"trace":"","data":{}}'
    assert parse(error) == Answer(ret=201, msg="request header param invalid", cmd_id=0, seq_id=0)
    assert parse(b'{"cmd_id":23001,"data":{"anything":1}}') == Other(cmd_id=23001)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        TRADE[:-20],
        b"\xff\xfe",
        "\ud800",
        b'{"cmd_id":"22998","data":{}}',
        TRADE.replace(b'"4389.38"', b'"n/a"'),
        TRADE.replace(b'"4389.38"', b"[]"),
        TRADE.replace(b'"4389.38"', b'"1e99999999999999999999"'),
        TRADE.replace(b'"1605509068000001"', b'"1_0"'),
        TRADE.replace(b'"1605509068000001"', b"1.5"),
        TRADE.replace(b'"1605509068000001"', b'"' + b"9" * 5000 + b'"'),
        TRADE.replace(b'"1787059182123"', b'"17870591821230000"'),
        TRADE.replace(b'"1787059182123"', b'"-1"'),
        TRADE.replace(b'"GOLD"', b"5"),
        DEPTH.replace(b'[{"price":"4389.05","volume":"0"}]', b'{"price":"4389.05"}'),
        DEPTH.replace(b'[{"price":"4389.05","volume":"0"}]', b"[{}]"),
    ],
)
def test_what_is_none_of_its_messages_is_refused(raw: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
nearly_right = st.fixed_dictionaries(
    {"cmd_id": st.sampled_from([22998, 22999, 22003])},
    optional={
        "ret": json_values,
        "data": json_values
        | st.fixed_dictionaries(
            {"code": st.just("GOLD")},
            optional=dict.fromkeys(("seq", "tick_time", "price", "bids", "asks"), json_values),
        ),
    },
)


@given(st.binary() | st.text() | json_values.map(json.dumps) | nearly_right.map(json.dumps))
def test_whatever_comes_is_read_or_refused(raw: str | bytes) -> None:
    try:
        message = parse(raw)
    except ValueError:
        return
    if isinstance(message, TradeTick | DepthTick):
        PushFilter().judge(message, 0.0)


prices = st.decimals(min_value="0.01", max_value="99999.999", places=3)
times = st.integers(946_684_800_000, 4_102_444_799_999)
seqs = st.integers(1, 10**19)


@given(prices, prices, times, seqs, st.sampled_from([int, str]))
def test_what_it_means_is_what_is_read(
    bid: Decimal, ask: Decimal, time: int, seq: int, kind: type[int | str]
) -> None:
    head = {"code": "GOLD", "seq": kind(seq), "tick_time": kind(time)}
    sides = {"bids": [{"price": str(bid)}], "asks": [{"price": str(ask)}]}
    assert parse(json.dumps({"cmd_id": 22999, "data": {**head, **sides}})) == DepthTick(
        code="GOLD", seq=seq, time=EpochUs(time * 1000), bid=bid, ask=ask
    )
    assert parse(json.dumps({"cmd_id": 22998, "data": {**head, "price": str(bid)}})) == TradeTick(
        code="GOLD", seq=seq, time=EpochUs(time * 1000), price=bid
    )


# --- refusals ---


def test_each_code_is_fatal_or_waits_or_is_tried_again() -> None:
    for ret in (400, 401, 402, 429, 600, 601, 603, 604, 605, 606, 999):
        error = refusal(ret, "token invalid")
        assert f"{ret} token invalid" in str(error)
        assert error.fatal == (ret in {401, 600, 604}) == (ret in FATAL)
        assert (error.retry_after_s >= 30) == (ret in {429, 603, 605, 606}) == (ret in BACK_OFF_S)


# --- judging ---


@pytest.mark.parametrize(
    ("push", "verdict"),
    [
        (depth(), Verdict.DELIVER),
        (depth("4389.05", "4389.05"), Verdict.DELIVER),
        (depth("0", "0"), Verdict.CLOSED),
        (depth("0.00", "0.00"), Verdict.CLOSED),
        (depth("4389.05", None), Verdict.ONE_SIDED),
        (depth("0", "4389.71"), Verdict.ONE_SIDED),
        (depth(None, None), Verdict.ONE_SIDED),
        (depth("-1", "4389.71"), Verdict.BAD_PRICE),
        (depth("NaN", "4389.71"), Verdict.BAD_PRICE),
        (depth("4389.05", "sNaN"), Verdict.BAD_PRICE),
        (depth("1E+999999", "Infinity"), Verdict.BAD_PRICE),
        (trade(), Verdict.DELIVER),
        (trade("0"), Verdict.CLOSED),
        (trade("-5"), Verdict.BAD_PRICE),
        (trade("sNaN"), Verdict.BAD_PRICE),
    ],
)
def test_only_whole_prices_move_the_price(push: TradeTick | DepthTick, verdict: Verdict) -> None:
    assert PushFilter().judge(push, 0.0) is verdict


def test_repeats_and_stragglers_are_rejected() -> None:
    judged = PushFilter()
    verdicts = [judged.judge(depth(seq=seq), 0.0) for seq in (5, 5, 4, 6, 8)]
    assert verdicts == ["deliver", "duplicate", "out_of_order", "deliver", "deliver"]


def test_each_code_and_kind_counts_for_itself() -> None:
    judged = PushFilter()
    assert judged.judge(trade(seq=7), 0.0) is Verdict.DELIVER
    assert judged.judge(depth(seq=7), 0.0) is Verdict.DELIVER
    assert judged.judge(depth(seq=7, code="Silver"), 0.0) is Verdict.DELIVER


def test_a_count_that_starts_anew_is_followed_when_time_goes_on() -> None:
    judged = PushFilter()
    assert judged.judge(trade(seq=1000, time=TIME), 0.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=1, time=TIME + 1000), 0.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=2, time=TIME + 1000), 0.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=1000, time=TIME), 0.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=999, time=TIME), 0.0) is Verdict.OUT_OF_ORDER


def test_without_a_count_everything_is_taken() -> None:
    judged = PushFilter()
    assert [judged.judge(trade(seq=None), 0.0) for _ in range(3)] == ["deliver"] * 3


def test_trades_stand_back_while_there_are_quotes() -> None:
    judged = PushFilter()
    assert judged.judge(trade(seq=1), 0.0) is Verdict.DELIVER
    assert judged.judge(depth(seq=1), 1.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=2), 2.0) is Verdict.STAND_BACK
    assert judged.judge(depth("0", "0", seq=2), 20.0) is Verdict.CLOSED
    assert judged.judge(trade(seq=3), 0.9 + TRADES_TAKE_OVER_S) is Verdict.STAND_BACK
    assert judged.judge(trade(seq=4), 1.0 + TRADES_TAKE_OVER_S) is Verdict.DELIVER
    assert judged.judge(depth(seq=3), 40.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=5), 41.0) is Verdict.STAND_BACK


def test_quotes_from_before_trades_were_subscribed_do_not_hold_trades_back() -> None:
    judged = PushFilter()
    assert judged.judge(depth(seq=1), 0.0) is Verdict.DELIVER
    judged.trades_subscribed()
    assert judged.judge(trade(seq=1), 1.0) is Verdict.DELIVER
    assert judged.judge(depth(seq=2), 2.0) is Verdict.DELIVER
    assert judged.judge(trade(seq=2), 3.0) is Verdict.STAND_BACK


@given(st.lists(st.integers(1, 20), max_size=30))
def test_of_one_moment_each_number_is_delivered_once_and_upwards(numbers: list[int]) -> None:
    judged = PushFilter()
    delivered = [n for n in numbers if judged.judge(depth(seq=n), 0.0) is Verdict.DELIVER]
    assert delivered == sorted(set(delivered))
    assert not numbers or delivered[-1] == max(numbers)
