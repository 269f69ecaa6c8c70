"""The numbers of the contract, and the promise behind their ranges."""

from __future__ import annotations

import json

import pytest

from aurexd.protocol.codes import MAX_REASON_BYTES, CloseCode, ErrorCode, close_reason, should_reconnect

PUBLISHED = {
    4000: "going_away",
    4001: "slow_consumer",
    4002: "heartbeat_timeout",
    4003: "rate_limited",
    4004: "too_many_connections",
    4005: "over_capacity",
    4006: "token_expired",
    4007: "idle_timeout",
    4008: "auth_timeout",
    4500: "bad_token",
    4502: "protocol_error",
    4503: "forbidden",
    4504: "kicked",
    4505: "rollout_closed",
}


def test_the_published_numbers_keep_their_names() -> None:
    assert {code.value: code.word for code in CloseCode if code >= 4000} == PUBLISHED


def test_the_ranges_tell_whether_to_come_back_even_for_codes_nobody_knows() -> None:
    assert all(map(should_reconnect, [1000, 1001, 1006, 1011, 1012, 1013, *range(4000, 4500)]))
    assert not any(map(should_reconnect, [1002, 1003, 1007, 1009, *range(4500, 5000)]))


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_code_says_the_same_as_its_range(code: CloseCode) -> None:
    assert code.reconnect == should_reconnect(code.value)
    assert code.meaning


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_reason_is_json_that_fits(code: CloseCode) -> None:
    reason = close_reason(code, 2**63)
    assert len(reason.encode()) <= MAX_REASON_BYTES
    assert json.loads(reason) == {"code": code.word, "retry_after_ms": 2**63}
    assert json.loads(close_reason(code)) == {"code": code.word}


def test_an_error_code_is_its_word() -> None:
    assert f"{ErrorCode.RATE_LIMITED}" == "rate_limited"
    assert all(code.meaning for code in ErrorCode)
