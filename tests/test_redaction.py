"""Secrets never come through: not the known ones, not what looks like one; the rest is left as it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aurexd.redaction import MIN_SECRET_LENGTH, REDACTED, Redactor, is_secret_name

SECRET = "c0ffee-42d5e4a3"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.XbPfbIHMI6arZ3Y922BhjWgQzWXcXNrz0ogtVhfEd2o"


@pytest.mark.parametrize(
    "text",
    [
        f"wss://quote.alltick.co/quote-b-ws-api?token={SECRET}",
        f"https://h/p?a=1&apikey={SECRET}&b=2",
        f"https://h/p?api_key={SECRET}#x",
        f"https://h/p?key={SECRET}",
        f"https://user:{SECRET}@h/p",
        f"http://{SECRET}@h",
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}",
        f"[(b'authorization', b'Bearer {SECRET}')]",
        f"Sec-WebSocket-Protocol: aurex.v1.json, aurex.token.{SECRET}",
        f'{{"token": "{SECRET}", "x": 1}}',
        f"{{'token': b'{SECRET}'}}",
        f"Settings(name='a', token='{SECRET}', url='u')",
        f"access_token={SECRET} and password={SECRET}",
        json.dumps({"body": json.dumps({"token": SECRET})}),
        json.dumps(f"GET /?token={SECRET} HTTP/1.1"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_and_its_surroundings_stay(text: str) -> None:
    redacted = Redactor().text(text)
    assert SECRET not in redacted
    assert REDACTED in redacted
    assert redacted.startswith(text[:6])


@pytest.mark.parametrize(
    "text",
    [
        f"the token {JWT} is not valid",
        f"('{JWT}', 5)",
        f"GET /x?t={JWT}&y=1 HTTP/1.1",
        f"{JWT}",
        f"aurex.token.{JWT}",
        f"Sec-WebSocket-Protocol: aurex.v1.json,{JWT}",
        JWT.replace("eyJh", "ewog", 1),
    ],
)
def test_a_signed_token_is_known_by_its_looks(text: str) -> None:
    redacted = Redactor().text(text)
    assert REDACTED in redacted
    for part in JWT.split(".")[1:]:
        assert part not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "GET https://api.gold-api.com/price/XAU?x=1#token",
        "token invalid",
        "sources.alltick.token: expected text, got something else",
        "Bearer",
        "a PAXG token = 1 troy ounce",
        "AllTick: 401 {'msg': 'token is required', 'ret': 401}",
        "key=value",
        "wss://h:443/p",
        "eye.catcher.js",
        "key.of.XAUUSD, ewe.lamb.wool, eyewitness.account",
    ],
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert Redactor([SECRET]).text(text) == text


@pytest.mark.parametrize(
    "name", ["token", "Token", "x_token", "api_key", "apikey", "X-Authorization", "password", "cookie"]
)
def test_keys_that_hold_secrets_are_known_by_name(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["token_file", "tokens", "keyboard", "symbol", "secretary", ""])
def test_other_keys_are_not(name: str) -> None:
    assert not is_secret_name(name)


def test_values_under_such_a_key_are_taken_out_whole_and_deep() -> None:
    value = {"a": [{"token": 5, "x": 5}], "headers": {"Authorization": ["Basic", "x"]}, "password": None}
    assert Redactor().value(value) == {
        "a": [{"token": REDACTED, "x": 5}],
        "headers": {"Authorization": REDACTED},
        "password": None,
    }


def test_what_json_does_not_know_becomes_text() -> None:
    value = {1: Decimal("4380.10"), "e": ValueError(f"?token={SECRET}"), "t": (1, 2.5, None, True)}
    assert Redactor().value(value) == {"1": "4380.10", "e": f"?token={REDACTED}", "t": [1, 2.5, None, True]}


def test_a_known_secret_is_found_in_its_percent_encoded_form_too() -> None:
    assert Redactor(["sec/ret+word"]).text("x=sec%2Fret%2Bword") == f"x={REDACTED}"


def test_a_short_secret_takes_no_words_out_of_other_texts() -> None:
    assert Redactor(["bench"]).text("the benchmark") == "the benchmark"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@given(st.text(min_size=MIN_SECRET_LENGTH, max_size=12), TEXTS, TEXTS, VALUES)
def test_a_known_secret_is_found_wherever_it_stands(secret: str, before: str, after: str, other: Any) -> None:
    assume(secret not in REDACTED)
    text = Redactor([secret]).text(before + secret + after)
    assert secret not in text.replace(REDACTED, "\0")
    nested = Redactor([secret]).value({"x": [before + secret, other]})
    assert secret not in str(nested["x"][0]).replace(REDACTED, "\0")


@given(st.one_of(TEXTS, st.text(st.sampled_from(list("token=:?&\"' [redacted]")), max_size=30)))
def test_what_was_redacted_once_stays_as_it_is(text: str) -> None:
    once = Redactor([SECRET]).text(text)
    assert Redactor([SECRET]).text(once) == once
