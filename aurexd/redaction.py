"""Takes secrets out of what people read: logs, error texts, answers. Knows no logger and no configuration.

Two nets: the secrets this process was given, wherever they occur; and what looks like one by its name, as a
secret may also come from elsewhere (a client's token, a provider's echo).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = (
    8  # a shorter one would also take ordinary words out of every text; the names still catch it
)

_NAME = "token|api_?key|api-key|password|passwd|secret|signature|crumb|cookie|authorization"
_SECRET_NAME = re.compile(rf"(?:^|.*[_.-])(?:{_NAME})", re.IGNORECASE)

_PATTERNS = (
    # ?token=abc, apikey=abc; a bare `key=` only where a URL's query has it
    (re.compile(rf"((?:{_NAME}|[?&](?:key|auth|sig))=)[^\s&\"'<>\\]+", re.IGNORECASE), rf"\1{REDACTED}"),
    # "token": "abc", {'token': 'abc'}, token='abc', and the same inside a quoted text
    (
        re.compile(rf"((?:{_NAME})\\*[\"']?\s*[:=]\s*b?\\*[\"'])[^\"'\\]+", re.IGNORECASE),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(authorization\s*:\s*)(?:\w+ +)?[^\s\"',\\]+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"\b(bearer +)[\w.~+/=-]+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"(aurex\.token\.)[\w.~+/=-]+"), rf"\1{REDACTED}"),
    # A signed token, whatever stands before it: base64 of `{"…` or of `{` and a line end, and two parts more
    (re.compile(r"\be[yw][\w-]{8,}\.[\w-]+\.[\w-]*"), REDACTED),
    # https://user:password@host
    (re.compile(r"(://)[^/\s@\"']+@"), rf"\1{REDACTED}@"),
)

_SUSPECT = re.compile(rf"{_NAME}|[?&](?:key|auth|sig)=|bearer|\be[yw]|://", re.IGNORECASE)
"""What each of the patterns begins with: most texts of a log have none of it, and are looked at only once."""


@functools.lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Does a key of this name hold a secret itself (`token`, `api_key`, `x-authorization`)?"""
    return _SECRET_NAME.fullmatch(name) is not None


class Redactor:
    """Takes the given secrets, and whatever looks like one, out of texts and of nested values."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """`secrets`: exact texts; ones shorter than `MIN_SECRET_LENGTH` are left to the names."""
        known = {s for s in secrets if len(s) >= MIN_SECRET_LENGTH}
        known |= {quote(s, safe="") for s in known}
        # The longest first: one secret may be part of another.
        self._secrets = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        if _SUSPECT.search(text) is not None:
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
        return text

    def value(self, value: Any) -> Any:
        """The value without secrets, as JSON has it: what is no number, text, list or table becomes text."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case Mapping():
                return {
                    str(key): REDACTED if is_secret_name(str(key)) and item else self.value(item)
                    for key, item in value.items()
                }
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case _:
                return self.text(str(value))
