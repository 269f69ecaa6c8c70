"""Values as TOML writes them, and guesses at what was meant."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.config.words import did_you_mean, from_text, toml

VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(["a", "b-c", "D_1"]), inner)),
    max_leaves=5,
)


@given(VALUES)
def test_what_is_written_as_toml_reads_back_as_the_same(value: Any) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(5.0, "5"), (0.00005, "0.00005"), (1e9, "1000000000"), (True, "true"), ("a\x7f", '"a\\u007f"')],
)
def test_numbers_are_written_as_people_write_them(value: Any, text: str) -> None:
    assert toml(value) == text


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("prot", ["port", "address"], "did you mean port?"),
        ("xauusd", ["XAUUSD", "GC"], "did you mean XAUUSD?"),
        ("zzz", ["port"], "there is port"),
        ("zzz", ["port", "address"], "there are port, address"),
        ("zzz", [], ""),
        ("zzz", [str(n) for n in range(100)], ""),
    ],
)
def test_the_nearest_is_guessed_or_a_short_choice_is_listed(word: str, known: list[str], said: str) -> None:
    assert did_you_mean(word, known) == said


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "5", 5),
        (int, "5x", "5x"),
        (float, "0.5", 0.5),
        (bool, "On", True),
        (bool, "0", False),
        (bool, "maybe", "maybe"),
        (str, "5", "5"),
        (tuple[str, ...], "a, b", ["a", "b"]),
        (tuple[str, ...], "", []),
        (tuple[str, ...], '["a"]', ["a"]),
        (tuple[str, ...], "[a", "[a"),
        (dict[str, str], '{ a = "b" }', {"a": "b"}),
    ],
)
def test_text_from_the_environment_becomes_a_value_of_the_type(kind: Any, text: str, value: Any) -> None:
    assert from_text(kind, text) == value
    assert type(from_text(kind, text)) is type(value)
