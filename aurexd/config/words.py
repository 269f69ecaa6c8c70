"""Says in words what a key takes, what it was given instead, and what was probably meant. Reads nothing."""

from __future__ import annotations

import difflib
import enum
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

_LISTABLE = 12  # more choices than this are not listed in a message

_PLAIN = 1e15  # larger floats are written with an exponent
_CONTROLS = re.compile(r"[\x7f-\x9f]")

_PATTERNS = {
    "^https?://": "a URL that starts with http:// or https://",
    "^wss?://": "a URL that starts with ws:// or wss://",
    r"^[a-z0-9][a-z0-9_-]{0,31}$": "a name of 1 to 32 small letters, digits, _ and -",
}
"""A field's pattern → the same for people."""


def type_of(field: FieldInfo) -> Any:
    """The field's type without `| None`."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        if len(inner) == 1:
            annotation = inner[0]
    return typing.get_args(annotation)[0] if get_origin(annotation) is typing.Annotated else annotation


def choices(kind: Any) -> list[str]:
    """The texts an enumeration or a Literal allows; empty for other types."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [str(member.value) for member in kind]
    return []


def takes_text(kind: Any) -> bool:
    """Is the type's value written as text?"""
    return bool(choices(kind)) or kind in (str, Path, SecretStr, Decimal)


def expected(field: FieldInfo) -> str:
    """What the field takes: `a whole number from 0 to 65535`."""
    kind = type_of(field)
    if allowed := choices(kind):
        return "one of " + ", ".join(toml(choice) for choice in allowed)
    if pattern := _pattern(field):
        return _PATTERNS.get(pattern, f"text that matches {pattern}")
    if kind in (int, float, Decimal):
        return ("a whole number" if kind is int else "a number") + _range(field)
    if kind is bool:
        return "true or false"
    if kind in (str, SecretStr):
        return "text that is not empty" if _least_length(field) else "text"
    if kind is Path:
        return "a path, as text"
    if get_origin(kind) in (tuple, list):
        return "a list of texts"
    return "a table" + (" that is not empty" if _least_length(field) else "")


def got(value: Any) -> str:
    """What was given instead: `the text "80a"`."""
    if isinstance(value, str):
        return f"the text {toml(value)}" if value else "an empty text"
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, float):
        return repr(value)
    return toml(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "decimals"?`, or the whole choice where it is short and nothing is near; else empty."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    if 0 < len(by_lower) <= _LISTABLE:
        return "there " + ("are " if len(by_lower) > 1 else "is ") + ", ".join(by_lower.values())
    return ""


def rewritten(key: str, field: FieldInfo, value: Any) -> str:
    """`write port = 8000` where the value is right but for its type; else empty."""
    kind = type_of(field)
    if _pattern(field):
        return ""
    if isinstance(value, str) and kind in (int, float, bool):
        meant = from_text(kind, value)
        if isinstance(meant, bool) is (kind is bool) and isinstance(meant, int | float):
            return f"write {key} = {toml(meant)}"
    if kind is int and isinstance(value, float) and value.is_integer():
        return f"write {key} = {int(value)}"
    if kind in (str, SecretStr, Path) and isinstance(value, bool | int | float):
        return f'write {key} = "{toml(value)}"'
    if get_origin(kind) in (tuple, list) and isinstance(value, str):
        return f"write {key} = [{toml(value)}]"
    return ""


def from_text(kind: Any, text: str) -> Any:
    """The value that a text from the environment stands for; the text itself where it is none of the type."""
    if takes_text(kind):
        return text
    if kind is bool:
        return {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }.get(text.strip().lower(), text)
    if get_origin(kind) in (tuple, list) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def toml(value: Any) -> str:
    """The value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if abs(value) < _PLAIN:
            return f"{Decimal(repr(value)).normalize():f}"
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case dict():
            return (
                "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
                if value
                else "{}"
            )
        case _:
            # JSON's escapes are TOML's too, but TOML wants the other control characters escaped as well.
            return _CONTROLS.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(str(value), ensure_ascii=False))


def _pattern(field: FieldInfo) -> str:
    return next((str(m.pattern) for m in field.metadata if getattr(m, "pattern", None)), "")


def _least_length(field: FieldInfo) -> int:
    return next((m.min_length for m in field.metadata if isinstance(m, annotated_types.MinLen)), 0)


def _range(field: FieldInfo) -> str:
    bounds = {}
    for constraint in field.metadata:
        for name in ("gt", "ge", "lt", "le"):
            if (bound := getattr(constraint, name, None)) is not None:
                bounds[name] = toml(bound)
    low, high = bounds.get("ge"), bounds.get("le")
    if low and high:
        return f" from {low} to {high}"
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    said = [f"{words[name]} {bound}" for name, bound in bounds.items()]
    return ", " + " and ".join(said) if said else ""
