"""Layers over each other: the later wins, key by key, and every path knows who said it."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aurexd.config.tree import Tree

KEYS = st.sampled_from(["a", "b", "c"])
TABLES = st.recursive(
    st.dictionaries(KEYS, st.integers(), max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(st.integers(), inner), max_size=3),
    max_leaves=6,
)


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


@given(st.lists(TABLES, max_size=4))
def test_tables_merge_by_key_and_the_later_wins(layers: list[dict[str, Any]]) -> None:
    tree = Tree()
    model: dict[str, Any] = {}
    for layer in layers:
        tree.lay(layer)
        model = merged(model, layer)
    assert tree.table == model
    assert not tree.problems


@given(TABLES, TABLES)
def test_every_leaf_comes_from_the_last_layer_that_has_it(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    def leaves(table: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for key, value in table.items():
            here = f"{path}.{key}" if path else key
            found |= leaves(value, here) if isinstance(value, dict) else {here}
        return found

    tree = Tree()
    tree.lay(first, "one")
    tree.lay(second, "two")
    for leaf in leaves(tree.table):
        assert tree.origin(leaf) == ("two" if leaf in leaves(second) else "one")


def test_a_layer_is_not_changed_by_laying_it() -> None:
    layer = {"a": {"b": 1}, "sources": [{"name": "x"}]}
    tree = Tree()
    tree.lay(layer)
    tree.lay({"a": {"b": 2}, "sources": [{"name": "x", "y": 1}]})
    assert layer == {"a": {"b": 1}, "sources": [{"name": "x"}]}


def test_sources_merge_by_name_in_the_order_of_their_first_mention() -> None:
    tree = Tree()
    tree.lay({"sources": [{"name": "b", "x": 1, "y": 1}, {"name": "a"}]}, "one")
    tree.lay({"sources": [{"name": "a", "x": 2}, {"name": "b", "x": 2}, {"x": 3}]}, "two")
    assert tree.sources == {
        "sources.b": {"name": "b", "x": 2, "y": 1},
        "sources.a": {"name": "a", "x": 2},
        "sources[2]": {"x": 3},
    }
    assert [tree.origin(f"sources.b.{key}") for key in ("x", "y", "missing")] == ["two", "one", "one"]
    assert tree.origin("sources[2].x") == "two"


def test_a_secret_and_its_file_take_each_other_s_place_between_layers_but_not_within_one() -> None:
    tree = Tree()
    tree.lay({"sources": [{"name": "x", "token": "t"}]})
    tree.lay({"sources": [{"name": "x", "token_file": "f"}]})
    assert tree.sources["sources.x"] == {"name": "x", "token_file": "f"}
    tree.lay({"sources": [{"name": "x", "token": "t", "token_file": "f"}]})
    assert tree.sources["sources.x"] == {"name": "x", "token": "t", "token_file": "f"}


def test_dates_become_their_text() -> None:
    tree = Tree()
    tree.lay({"a": {"b": [datetime.date(2026, 11, 24), datetime.time(1, 2)]}})
    assert tree.table == {"a": {"b": ["2026-11-24", "01:02:00"]}}
