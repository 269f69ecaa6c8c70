"""Problems in words: what was expected, what was found, what to write. And never anything but problems."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.config.check import check
from aurexd.config.model import SECTIONS
from aurexd.config.tree import Tree
from aurexd.config.validate import validate
from aurexd.errors import Problem
from aurexd.sources import PROVIDERS

SPOT = {"symbols": {"XAUUSD": {"instrument": "spot"}}}


def judge(*layers: dict[str, Any]) -> list[Problem]:
    tree = Tree()
    for layer in layers:
        tree.lay(layer)
    valid, problems = validate(tree, {})
    problems = [*tree.problems, *problems, *check(tree, valid)]
    if not problems:
        valid.config()
    return problems


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"listen": {"port": "8000"}},
            'a whole number from 0 to 65535, got the text "8000" — write port = 8000',
        ),
        ({"listen": {"port": True}}, "a whole number from 0 to 65535, got true"),
        ({"listen": {"port": 80.0}}, "a whole number from 0 to 65535, got 80.0 — write port = 80"),
        ({"listen": {"port": {}}}, "a whole number from 0 to 65535, got an empty table"),
        ({"listen": {"address": ""}}, "text that is not empty, got an empty text"),
        ({"listen": {"address": 5}}, 'text that is not empty, got 5 — write address = "5"'),
        ({"realtime": {"enabled": "yes"}}, 'true or false, got the text "yes" — write enabled = true'),
        ({"realtime": {"update_interval_s": 0}}, "a number from 0.1 to 3600, got 0"),
        ({"heartbeat": {"silence_s": 0}}, "a number, more than 0 and at most 3600, got 0"),
        ({"heartbeat": {"silence_s": float("nan")}}, "a number, more than 0 and at most 3600, got nan"),
        ({"log": {"level": "warn"}}, '"error", got the text "warn" — did you mean warning?'),
        ({"log": {"level": 3}}, 'one of "debug", "info", "warning", "error", got 3'),
        (
            {"limits": {"allowed_origins": "x"}},
            'a list of texts, got the text "x" — write allowed_origins = ["x"]',
        ),
        ({"limits": {"allowed_origins": [5]}}, "allowed_origins[0]: expected text, got 5"),
        ({"limits": {"silence_s": 5}}, "there is no such key — it belongs into [heartbeat]"),
        ({"heartbeat": {"zzz": 5}}, "there is no such key — there are ping_interval_s, "),
        ({"limits": 5}, "limits: expected a table, got 5 — write [limits]"),
        ({"port": 5}, "port: there is no such table — port belongs into [listen]"),
        ({"symbols": {"GC": {"decimals": 1}}}, 'symbols.GC.instrument: is missing: one of "spot", "future"'),
        ({"symbols": {"GC": {"instrument": "futures"}}}, "did you mean future?"),
        ({"symbols": {"GC": 5}}, "symbols.GC: expected a table, got 5 — write [symbols.GC]"),
        ({"symbols": 5}, "symbols: expected a table, got 5"),
        ({"sources": {"name": "x"}}, "sources: expected [[sources]] tables"),
        ({"sources": ["x"]}, "sources: expected [[sources]] tables"),
    ],
)
def test_a_problem_says_what_is_expected_what_was_given_and_what_to_write(
    table: dict[str, Any], said: str
) -> None:
    assert said in "\n".join(map(str, judge(SPOT, table)))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"type": "swissquot"},
            'sources.x.type: there is no source type "swissquot" — did you mean swissquote?',
        ),
        ({"type": "zzz"}, "there are alltick, yfinance, "),
        ({"type": 5}, "sources.x.type: expected text, got 5"),
        ({"priority": 0}, "sources.x.priority: expected a whole number from 1 to 1000, got 0"),
        ({"priority": "1"}, "write priority = 1"),
        ({"symbols": {}}, "sources.x.symbols: expected a table that is not empty, got an empty table"),
        ({"symbols": {"XAUUSD": 5}}, "sources.x.symbols.XAUUSD: expected text, got 5"),
        ({"url": "ftp://h/"}, "expected a URL that starts with http:// or https://"),
        ({"stale_after": 5}, "sources.x.stale_after: there is no such key — did you mean stale_after_s?"),
        ({"name": "Über"}, "sources.Über.name: expected a name of 1 to 32 small letters, digits, _ and -"),
        ({"name": ""}, "sources[0].name: expected a name"),
    ],
)
def test_a_source_s_problem_has_its_name_in_the_path(keys: dict[str, Any], said: str) -> None:
    source = {"name": "x", "type": "swissquote", "symbols": {"XAUUSD": "XAU/USD"}}
    assert said in "\n".join(map(str, judge(SPOT, {"sources": [source | keys]})))


def test_a_source_of_an_unknown_type_is_not_blamed_for_its_own_keys() -> None:
    source = {"name": "x", "type": "no", "symbols": {"XAUUSD": "XAU"}, "token": "t", "priority": 0}
    assert [p.path for p in judge(SPOT, {"sources": [source]})] == ["sources.x.priority", "sources.x.type"]


def test_a_source_without_a_name_is_called_by_its_place() -> None:
    first = {"name": "x", "type": "swissquote", "symbols": {"XAUUSD": "XAU/USD"}}
    assert [p.path for p in judge(SPOT, {"sources": [first, {}]})] == [
        "sources[1].name",
        "sources[1].type",
        "sources[1].symbols",
    ]


@pytest.mark.parametrize("token", ["SECRETSECRET", 1234567890, "", ["SECRETSECRET"]])
def test_a_secret_is_never_repeated(token: Any) -> None:
    source = {"name": "x", "type": "alltick", "symbols": {"XAUUSD": "GOLD"}, "token": token, "priority": 0}
    source["url"] = "http://user:SECRETSECRET@host/?token=SECRETSECRET"
    said = "\n".join(map(str, judge(SPOT, {"sources": [source]})))
    assert said
    assert "SECRET" not in said
    assert "1234567890" not in said


def test_settings_of_a_source_are_strict_where_its_types_are_text(tmp_path: Path) -> None:
    source = {"name": "x", "type": "replay", "symbols": {"XAUUSD": "x"}, "file": str(tmp_path), "speed": "2"}
    [problem] = judge(SPOT, {"sources": [source]})
    assert str(problem).endswith('got the text "2" — write speed = 2')


SCALARS = st.one_of(
    st.none().map(lambda _: {}),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["", "0.0.0.0", "localhost", "spot", "token", "sqlite:///x", "debug", "XAU/USD"]),
)
KEYS = [*sorted({key for model in SECTIONS.values() for key in model.model_fields}), "zzz", "", "a.b"]
SYMBOL_TABLES = st.one_of(
    SCALARS,
    st.dictionaries(
        st.sampled_from(["instrument", "decimals", "calendar", "default", "x"]), SCALARS, max_size=4
    ),
    st.just({"instrument": "spot"}),
)
SOURCE_KEYS = [
    "name",
    "type",
    "priority",
    "symbols",
    "stale_after_s",
    "url",
    "token",
    "token_file",
    "file",
    "seed",
]
SOURCE_TABLES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(SOURCE_KEYS, SCALARS),
        "name": st.one_of(SCALARS, st.text(string.ascii_lowercase, min_size=1, max_size=2)),
        "type": st.one_of(SCALARS, st.sampled_from(sorted(PROVIDERS))),
        "symbols": st.one_of(
            SCALARS, st.dictionaries(st.sampled_from(["XAUUSD", "GC", "x"]), st.text(max_size=3))
        ),
    },
)
LAYERS = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: st.one_of(SCALARS, st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=4))
            for name in SECTIONS
        },
        "symbols": st.one_of(
            SCALARS, st.dictionaries(st.sampled_from(["XAUUSD", "GC", "x", "a.b"]), SYMBOL_TABLES)
        ),
        "sources": st.one_of(SCALARS, st.lists(SOURCE_TABLES, max_size=4)),
        "zzz": SCALARS,
    },
)


@given(st.lists(LAYERS, min_size=1, max_size=3))
def test_whatever_is_written_there_is_a_configuration_or_problems_in_words(
    layers: list[dict[str, Any]],
) -> None:
    for problem in judge(*layers):
        assert problem.message
        assert "\n" not in problem.path
