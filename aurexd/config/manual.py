"""Prints the manual of every setting, `conf/aurexd.toml`, from the models' descriptions."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from aurexd.config.model import SECTIONS, AuthKey, ReadOnce, Section, Symbol
from aurexd.config.words import expected, toml
from aurexd.sources import PROVIDERS, provider_class
from aurexd.sources.base import SourceSettings

_WIDTH = 110

HEAD = """\
The configuration of aurexd: what every setting means, its unit, its default, how to switch it off. Printed
by `aurexd default-config`; `aurexd check-config` tells all that is wrong with a file at once.

A line `#key = value` shows a default: take the # away and change the value. What stands without # is an
example that works, to be changed: the symbols and the sources at the end.

Read in this order, the later wins: this file; conf.d/*.toml beside it, by name (tables merge by key, sources
by `name`); the environment. There AUREXD_LISTEN__PORT is `port` in [listen], AUREXD_SYMBOLS__GC__DECIMALS
is `decimals` in [symbols.GC], and AUREXD_SOURCES__GOLD_API__PRIORITY is `priority` of the source named
gold-api. REALTIME_ENABLED and WS_UPDATE_INTERVAL are understood too.

SIGHUP has all of it read again. [realtime], [limits], [heartbeat], [auth], [log] and the certificate and key of
[tls] then change without anybody being dropped, and the sources and symbols, but for `instrument`, `decimals` and
`calendar` of a symbol that is there; all else, and what is marked "read at the start only", needs a restart, and the
log names it and says why.

A token can be kept out of this file: as `token_file`, the path of a file that holds it, or in the environment
as AUREXD_SOURCES__ALLTICK__TOKEN. A relative path starts in the working directory; that of a `token_file`, of
`certificate` and of `private_key` in $CREDENTIALS_DIRECTORY, where systemd sets it."""

SYMBOLS = "Symbols: what clients subscribe to. There must be at least one."

SOURCES = """\
Sources: where prices come from, one [[sources]] table each. For each symbol, the fresh source with the lowest
priority number carries the price. Keys of every source:"""

_EXAMPLE = """\
[symbols.XAUUSD]
instrument = "spot"
decimals = 2
calendar = "metals"
default = true

[symbols.GC]
instrument = "future"
decimals = 1
calendar = "metals"

# [symbols.TESTGOLD]
# instrument = "test"
# decimals = 2
# calendar = "always"

# Needs a token: https://alltick.co
# [[sources]]
# name = "alltick"
# type = "alltick"
# priority = 1
# symbols = { XAUUSD = "GOLD" }
# token_file = "/etc/aurexd/alltick.token"

[[sources]]
name = "swissquote"
type = "swissquote"
priority = 2
symbols = { XAUUSD = "XAU/USD" }

# One price without bid and ask, up to a minute old: for when nobody else answers. On weekends its price
# stands still while its time moves on, so only under a symbol with the calendar "metals".
# [[sources]]
# name = "gold-api"
# type = "gold-api"
# priority = 3
# symbols = { XAUUSD = "XAU" }

# A future, some ten minutes late, and never under XAUUSD: the two differ by tens of dollars.
[[sources]]
name = "yahoo"
type = "yfinance"
priority = 1
symbols = { GC = "GC=F" }

# Made-up prices, for trying things out.
# [[sources]]
# name = "simulated"
# type = "simulated"
# priority = 1
# symbols = { TESTGOLD = "TESTGOLD" }
"""


def default_config() -> str:
    """The manual as one TOML document: every key explained, defaults commented out, examples that work."""
    return "\n".join([*_comment(HEAD), "", *_sections(), *_symbols(), *_sources(), _EXAMPLE])


def _sections() -> Iterator[str]:
    for name, model in SECTIONS.items():
        yield from _comment(_doc(model))
        yield f"[{name}]"
        for key, field in model.model_fields.items():
            if name == "auth" and key == "keys":
                yield from _auth_keys(field)
            else:
                yield from _key(key, field)
        yield ""


def _auth_keys(keys: FieldInfo) -> Iterator[str]:
    yield from _comment(f"{keys.description} {_doc(AuthKey)}")
    yield "#"
    yield "# [auth.keys.ID]"
    for key, field in AuthKey.model_fields.items():
        yield from _key(key, field, indent="#   ")


def _symbols() -> Iterator[str]:
    yield from _comment(f"{SYMBOLS} {_doc(Symbol)}")
    yield "#"
    yield "# [symbols.NAME]"
    for key, field in Symbol.model_fields.items():
        yield from _key(key, field, indent="#   ")
    yield ""


def _sources() -> Iterator[str]:
    common = SourceSettings.model_fields
    yield from _comment(SOURCES)
    for key, field in common.items():
        if key == "type":
            types = f"{field.description} One of {', '.join(PROVIDERS)}."
            yield from _key(key, FieldInfo(annotation=str, description=types), indent="#   ")
        else:
            yield from _key(key, field, indent="#   ")
    for kind in PROVIDERS:
        provider = provider_class(kind)
        own = {k: f for k, f in provider.Settings.model_fields.items() if k not in common}
        yield "#"
        meaning = inspect.cleandoc(provider.__doc__ or "").split("\n\n", maxsplit=1)[0]
        yield from _comment(
            f'type = "{kind}": {meaning} Stale after {toml(provider.traits.stale_after_s)} s.'
        )
        for key, field in own.items():
            yield from _key(key, field, indent="#   ")
    yield ""


def _key(key: str, field: FieldInfo, indent: str = "") -> Iterator[str]:
    """A key's meaning, what it takes, and its default as a line to uncomment."""
    if indent:
        first, *rest = _wrap(f"{key}: {field.description} {takes(field)}", _WIDTH - len(indent) - 2)
        yield indent + first
        yield from (f"{indent}  {line}" for line in rest)
    else:
        yield from _comment(f"{field.description} {takes(field)}")
        yield f"#{key} = {toml(field.default)}"


def takes(field: FieldInfo) -> str:
    """What a key takes, and what it is where it is not given."""
    default = "" if field.default is None else f"; default {toml(field.default)}"
    once = "; read at the start only" if any(isinstance(m, ReadOnce) for m in field.metadata) else ""
    return f"({expected(field)}{'; needed' if field.is_required() else default}{once})"


def _comment(text: str) -> Iterator[str]:
    """Paragraphs as comment lines."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield "#"
        yield from (f"# {line}" for line in _wrap(paragraph, _WIDTH - 2))


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _doc(model: type[Section]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())
