"""Turns the tree into the typed configuration, table by table, so that every problem is found, and in words.

Each table is judged by itself; what one table must know of another is `check.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from aurexd.config.environment import settings_of
from aurexd.config.model import SECTIONS, Auth, AuthKey, Config, Section, Symbol
from aurexd.config.tree import Table, Tree
from aurexd.config.words import choices, did_you_mean, expected, got, rewritten, toml, type_of
from aurexd.errors import Problem
from aurexd.identity import KEY_ID
from aurexd.redaction import Redactor, is_secret_name
from aurexd.sources import PROVIDERS
from aurexd.sources.base import SourceSettings

_SYMBOL_NAME = re.compile(r"[A-Z][A-Z0-9]{1,15}")
_SENTENCE_END = re.compile(r"(?<!e\.g)\. ")

M = TypeVar("M", bound=BaseModel)


class Valid:
    """The tables that can be judged further: what was wrong in one is left out of it."""

    def __init__(self) -> None:
        self.sections: dict[str, Section] = {}
        self.symbols: dict[str, Symbol] = {}
        self.sources: dict[str, SourceSettings] = {}
        """By path."""

    def config(self) -> Config:
        """The configuration; to be asked only when there was no problem."""
        return Config(symbols=self.symbols, sources=tuple(self.sources.values()), **self.sections)


def validate(tree: Tree, environ: Mapping[str, str]) -> tuple[Valid, list[Problem]]:
    """What is right, and all that is wrong."""
    valid = Valid()
    problems = [*_unknown_tables(tree)]
    for name, model in SECTIONS.items():
        table = tree.table.get(name, {})
        if not isinstance(table, dict):
            problems.append(tree.problem(name, f"expected a table, got {got(table)}", f"write [{name}]"))
            continue
        if name == "tls":
            table = {key: _located(value, environ) for key, value in table.items()}
        if name == "auth":
            table = {key: value for key, value in table.items() if key != "keys"}
        section = _table(tree, name, table, model, problems)
        if isinstance(section, Auth):
            section = section.model_copy(update={"keys": _auth_keys(tree, problems)})
        if section is not None:
            valid.sections[name] = section
    _symbols(tree, valid, problems)
    for path, table in tree.sources.items():
        _source(tree, path, table, environ, valid, problems)
    return valid, problems


def locate(path: str, environ: Mapping[str, str]) -> Path:
    """Where a secret's file is: a relative path starts in $CREDENTIALS_DIRECTORY where systemd sets it."""
    return Path(environ.get("CREDENTIALS_DIRECTORY", ""), path)


def _located(path: Any, environ: Mapping[str, str]) -> Any:
    return str(locate(path, environ)) if isinstance(path, str) and path else path


def _auth_keys(tree: Tree, problems: list[Problem]) -> dict[str, AuthKey]:
    keys = tree.table.get("auth", {}).get("keys", {})
    if not isinstance(keys, dict):
        problems.append(
            tree.problem("auth.keys", f"expected a table, got {got(keys)}", "write [auth.keys.ID]")
        )
        return {}
    right = {}
    for key_id, table in keys.items():
        path = f"auth.keys.{key_id}"
        if not re.fullmatch(KEY_ID, key_id):
            problems.append(tree.problem(path, "a key's id is 1 to 64 letters, digits, _ and -"))
        elif not isinstance(table, dict):
            problems.append(tree.problem(path, f"expected a table, got {got(table)}", f"write [{path}]"))
        elif (key := _table(tree, path, table, AuthKey, problems)) is not None:
            right[key_id] = key
    return right


def _symbols(tree: Tree, valid: Valid, problems: list[Problem]) -> None:
    symbols = tree.table.get("symbols", {})
    if not isinstance(symbols, dict):
        problems.append(
            tree.problem("symbols", f"expected a table, got {got(symbols)}", "write [symbols.XAUUSD]")
        )
        return
    for name, table in symbols.items():
        path = f"symbols.{name}"
        if not _SYMBOL_NAME.fullmatch(name):
            problems.append(
                tree.problem(path, "a symbol's name is 2 to 16 capital letters and digits, a letter first")
            )
        if not isinstance(table, dict):
            problems.append(tree.problem(path, f"expected a table, got {got(table)}", f"write [{path}]"))
        elif (symbol := _table(tree, path, table, Symbol, problems)) is not None:
            valid.symbols[name] = symbol


def _source(
    tree: Tree,
    path: str,
    table: Table,
    environ: Mapping[str, str],
    valid: Valid,
    problems: list[Problem],
) -> None:
    settings = settings_of(table)
    kind = table.get("type")
    known = isinstance(kind, str) and kind in PROVIDERS
    found = _secret_files(tree, path, table, settings, environ)
    source = _table(tree, path, table, settings, found)
    if isinstance(kind, str) and not known:
        found.append(
            tree.problem(
                f"{path}.type", f"there is no source type {toml(kind)}", did_you_mean(kind, PROVIDERS)
            )
        )
        # Which keys it may have depends on its type.
        common = SourceSettings.model_fields
        found = [p for p in found if p.path.removeprefix(f"{path}.").partition(".")[0] in common]
    problems += found
    if source is not None and known:
        valid.sources[path] = source


def _secret_files(
    tree: Tree, path: str, table: Table, settings: type[SourceSettings], environ: Mapping[str, str]
) -> list[Problem]:
    """Say where each `token_file` really is, and see that it can be read; the source reads it to connect."""
    problems = []
    for key in settings.model_fields:
        secret, is_file, _ = key.partition("_file")
        if not is_file or not is_secret_name(secret) or not isinstance(table.get(key), str):
            continue
        table[key] = str(locate(table[key], environ))
        try:
            with Path(table[key]).open("rb") as opened:
                opened.read(1)
        except OSError as error:
            problems.append(
                tree.problem(
                    f"{path}.{key}",
                    f"{table[key]}: {error.strerror}",
                    f"write the {secret} there, readable for the daemon's user",
                )
            )
    return problems


def _unknown_tables(tree: Tree) -> list[Problem]:
    problems = []
    for name in tree.table:
        if name in Config.model_fields:
            continue
        homes = [f"[{section}]" for section, model in SECTIONS.items() if name in model.model_fields]
        hint = (
            f"{name} belongs into {' or '.join(homes)}" if homes else did_you_mean(name, Config.model_fields)
        )
        problems.append(tree.problem(name, "there is no such table", hint))
    return problems


def _table(tree: Tree, path: str, table: Table, model: type[M], problems: list[Problem]) -> M | None:
    try:
        # As JSON, because strictness then still lets text become an enumeration, a path or a decimal.
        return model.model_validate_json(json.dumps(table), strict=True)
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False)
    problems += [_problem(tree, path, model, detail) for detail in details]
    # What is wrong in one key must not hide what is wrong with another and the other tables.
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    try:
        return model.model_validate_json(
            json.dumps({k: v for k, v in table.items() if k not in wrong}), strict=True
        )
    except pydantic.ValidationError:
        return None


def _problem(tree: Tree, path: str, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    location = [part for part in detail["loc"] if part != "[key]"]
    where = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    key = str(location[0]) if location else ""
    field = model.model_fields.get(key)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return tree.problem(where, "there is no such key", _home_of(key, model))
    if kind == "missing":
        takes = f": {expected(field)}" if field else ""
        meaning = _SENTENCE_END.split(field.description or "")[0] if field else ""
        return tree.problem(where, f"is missing{takes}", meaning)
    if kind in ("value_error", "assertion_error"):
        cause = detail.get("ctx", {}).get("error")
        return tree.problem(where, Redactor().text(str(cause or detail["msg"])))
    if field is None or len(location) > 1:  # an item of a list or of a table
        wanted = "expected text" if kind == "string_type" else detail["msg"]
        return tree.problem(where, f"{wanted}, got {_shown(key, value)}")
    allowed = choices(type_of(field))
    hint = (
        did_you_mean(value, allowed) if isinstance(value, str) and allowed else rewritten(key, field, value)
    )
    return tree.problem(where, f"expected {expected(field)}, got {_shown(key, value)}", _safe(key, hint))


def _home_of(key: str, model: type[BaseModel]) -> str:
    known = [*model.model_fields, *(f"{name}_file" for name in model.model_fields if is_secret_name(name))]
    homes = [section for section, other in SECTIONS.items() if key in other.model_fields]
    return f"it belongs into [{homes[0]}]" if homes else did_you_mean(key, known)


def _shown(key: str, value: Any) -> str:
    return "something else" if is_secret_name(key) else _safe(key, got(value))


def _safe(key: str, text: str) -> str:
    return "" if is_secret_name(key) else Redactor().text(text)
