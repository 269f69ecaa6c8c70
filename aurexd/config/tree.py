"""The configuration as written: files and environment laid over each other, and who said what. No types.

A path is what the operator would write: `listen.port`, `sources.alltick.symbols.XAUUSD`; a source without a
usable name is called by its place, `sources[2]`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from aurexd.errors import Problem

Table = dict[str, Any]


class Tree:
    """What all layers say together. Later layers win; tables merge by key, sources by `name`."""

    def __init__(self) -> None:
        self.table: Table = {}
        """All but the sources."""
        self.sources: dict[str, Table] = {}
        """By path (`sources.alltick`), in the order of their first mention."""
        self.problems: list[Problem] = []
        self._origins: dict[str, str] = {}

    def lay(self, table: Table, origin: str = "") -> None:
        """Lay one file over what there is. `origin` names it in problems; empty for the main file."""
        sources = table.get("sources", [])
        self._merge(self.table, {key: value for key, value in table.items() if key != "sources"}, "", origin)
        if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
            self.problems.append(
                Problem(
                    "sources", "expected [[sources]] tables", "write each source under [[sources]]", origin
                )
            )
            return
        seen: set[str] = set()
        for source in sources:
            path = self._path(source)
            if path in seen:
                self.problems.append(
                    Problem(path, "two sources have this name", "give each its own `name`", origin)
                )
                continue
            seen.add(path)
            self._merge(self.sources.setdefault(path, {}), source, path, origin)
            self._origins.setdefault(path, origin)

    def set(self, container: Table, path: str, key: str, value: Any, origin: str) -> None:
        """Set one key of a table that stands at `path`."""
        self._merge(container, {key: value}, path, origin)

    def problem(self, path: str, message: str, suggestion: str = "") -> Problem:
        """A problem at the path, with its origin."""
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in path)  # keys may be any text
        return Problem(shown, message, suggestion, self.origin(path))

    def origin(self, path: str) -> str:
        """Who said what stands at the path; for a missing key, who said the nearest table above."""
        return next((self._origins[p] for p in _upwards(path) if p in self._origins), "")

    def place(self, path: str) -> int:
        """Where in the file's order the path stands, for sorting; -1 where the file says nothing of it."""
        places = [name for table in self.table for name in (*self._below(table), table)]
        for place, name in enumerate([*places, *self.sources]):
            if path == name or path.startswith((f"{name}.", f"{name}[")):
                return place
        return -1

    def _below(self, table: str) -> list[str]:
        below = self.table[table]
        return [f"{table}.{name}" for name in below] if isinstance(below, dict) else []

    def _path(self, source: Table) -> str:
        name = source.get("name")
        if isinstance(name, str) and name and not set(name) & set(".[]"):
            return f"sources.{name}"
        return f"sources[{len(self.sources)}]"

    def _merge(self, under: Table, over: Table, path: str, origin: str) -> None:
        for key, value in over.items():
            here = f"{path}.{key}" if path else key
            # `token` takes the place of an earlier layer's `token_file`, and the other way round.
            for twin in (f"{key}_file", key.removesuffix("_file")):
                if twin not in over:
                    under.pop(twin, None)
            if isinstance(value, dict) and isinstance(under.get(key), dict):
                self._merge(under[key], value, here, origin)
                continue
            under[key] = _plain(value)
            self._forget(here)
            self._origins[here] = origin

    def _forget(self, path: str) -> None:
        for known in [known for known in self._origins if known.startswith((f"{path}.", f"{path}["))]:
            del self._origins[known]


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def _plain(value: Any) -> Any:
    """A copy as JSON can hold it: TOML's dates become their text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    return value
