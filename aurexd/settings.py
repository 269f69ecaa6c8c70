"""The live part of the configuration: what may change while clients are served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aurexd.config.keys import authority_of
from aurexd.config.model import (
    SECTIONS,
    Alerts,
    Auth,
    Config,
    Heartbeat,
    Limits,
    ReadOnce,
    Realtime,
    Section,
    Symbol,
)
from aurexd.identity import Authority
from aurexd.sources.base import SourceSettings

LIVE = ("realtime", "tls", "limits", "heartbeat", "auth", "alerts", "log")
"""The tables that a reload replaces, but for the keys marked `ReadOnce`. Neither TLS nor the asking for tokens is
switched on or off by one: where a table was left out by mistake, everybody could read what few should."""


LIVE_SYMBOL_KEYS = ("policy", "max_jump_pct", "default")
"""What a reload changes of a symbol: how its price is made, and who gets it without asking."""

REASONS = {
    "tls": "TLS is switched on and off by a restart only, lest a mistake shows to all what few should read",
    "auth": "tokens are switched on and off by a restart only, lest a mistake shows to all what few should read",
    "listen": "the port is bound at the start",
    "storage": "the database is opened at the start",
    "control": "the control socket is bound at the start",
    "symbols": "a source that serves it waits for a restart",
    "sources": "it serves a symbol that waits for a restart",
    "realtime.io_uring": "the fan-out sets it up at the start",
    "realtime.resume_messages": "the fan-out makes room for them at the start",
    "alerts.history_days": "retention is set up at the start",
}
"""Why a setting waits for a restart: by its name, or the table it is in."""

SYMBOL_REASON = (
    "its clients, candles and alert rules count on it; a symbol with another name can be had at once"
)


class Settings:
    """The sections that hold now. Read them where they are used, each time, and keep nothing of them: a reload
    replaces all of them at once."""

    __slots__ = (
        "alerts",
        "auth",
        "authority",
        "default_channels",
        "heartbeat",
        "limits",
        "realtime",
        "symbols",
    )

    realtime: Realtime
    limits: Limits
    heartbeat: Heartbeat
    auth: Auth
    alerts: Alerts
    symbols: Mapping[str, Symbol]
    """Those that are served, by name."""
    default_channels: frozenset[str]
    """What a client gets that asks for nothing: the price and the status of the default symbols."""

    def __init__(self, config: Config) -> None:
        """Begin with this configuration.

        Raises:
            ConfigError: a key's file cannot be read any more.

        """
        self.authority: Authority | None = authority_of(config)
        """Who judges tokens; None: none are asked for. Its keys stand in files, so whoever reloads reads them first,
        and sets it together with the sections."""
        self.replace(config)

    def replace(self, config: Config) -> None:
        """From here on the sections of `config` hold."""
        self.realtime = config.realtime
        self.limits = config.limits
        self.heartbeat = config.heartbeat
        self.auth = config.auth
        self.alerts = config.alerts
        self.symbols = config.symbols
        self.default_channels = frozenset(
            f"{kind}:{symbol}" for symbol in config.default_symbols for kind in ("price", "status")
        )


class Plan(NamedTuple):
    """What a reload does. Settings are named as in `limits.max_connections`, `symbols.GC.policy`, `sources.kraken`."""

    config: Config
    """What holds from then on."""
    changed: list[str]
    """What is another than before."""
    waiting: dict[str, str]
    """What was asked for and needs a restart, and why; it stays as it was."""
    added: frozenset[str] = frozenset()
    """Symbols that were not there before."""
    removed: frozenset[str] = frozenset()
    """Symbols that are there no more."""

    @property
    def remakes_prices(self) -> bool:
        """Whether prices come from other sources, or are made in another way."""
        return any(setting.partition(".")[0] in {"symbols", "sources"} for setting in self.changed)


def plan_reload(running: Config, wanted: Config) -> Plan:
    """How a daemon that runs with one configuration comes as near to another as it can without a restart."""
    switched = {
        "tls": bool(running.tls.certificate) != bool(wanted.tls.certificate),
        "auth": running.auth.mode != wanted.auth.mode,
    }
    live = [name for name in LIVE if not switched.get(name)]
    symbols = {
        name: running.symbols[name].model_copy(update={key: getattr(symbol, key) for key in LIVE_SYMBOL_KEYS})
        if name in running.symbols
        else symbol
        for name, symbol in wanted.symbols.items()
    }
    sources = [*_sources(running, wanted, symbols)]
    # What a source that waits serves cannot go either.
    served = [name for source in sources for name in source.symbols]
    symbols |= {name: running.symbols[name] for name in served if name not in symbols}
    config = running.model_copy(
        update={
            **{name: _replaced(getattr(running, name), getattr(wanted, name)) for name in live},
            "symbols": symbols,
            "sources": tuple(sources),
        }
    )
    return Plan(
        config,
        [*_differences(running, config)],
        {setting: _reason(setting) for setting in _differences(config, wanted)},
        added=frozenset(symbols.keys() - running.symbols.keys()),
        removed=frozenset(running.symbols.keys() - symbols.keys()),
    )


def _sources(running: Config, wanted: Config, symbols: dict[str, Symbol]) -> Iterator[SourceSettings]:
    """Those that are wanted; one that serves a symbol that has to wait for a restart waits with it."""
    before = {source.name: source for source in running.sources}
    for source in wanted.sources:
        if all(symbols[name] == wanted.symbols[name] for name in source.symbols):
            yield source
        elif source.name in before:
            yield before[source.name]


def _reason(setting: str) -> str:
    """Why it waits for a restart."""
    table, _, rest = setting.partition(".")
    if table == "symbols" and "." in rest:
        return SYMBOL_REASON
    return REASONS.get(setting) or REASONS[table]


def _replaced(running: Section, wanted: Section) -> Section:
    fields = type(running).model_fields
    kept = [key for key, field in fields.items() if any(isinstance(m, ReadOnce) for m in field.metadata)]
    return wanted.model_copy(update={key: getattr(running, key) for key in kept})


def _differences(one: Config, other: Config) -> Iterator[str]:
    for section, model in SECTIONS.items():
        for key in model.model_fields:
            if getattr(getattr(one, section), key) != getattr(getattr(other, section), key):
                yield f"{section}.{key}"
    for name, symbol in one.symbols.items():
        for key in Symbol.model_fields if name in other.symbols else ():
            if getattr(symbol, key) != getattr(other.symbols[name], key):
                yield f"symbols.{name}.{key}"
    both = one.symbols.keys() & other.symbols.keys()
    yield from (f"symbols.{name}" for name in {**one.symbols, **other.symbols} if name not in both)
    if one.symbols == other.symbols and list(one.symbols) != list(other.symbols):
        yield "symbols"  # the order has a meaning, too
    before, after = {s.name: s for s in one.sources}, {s.name: s for s in other.sources}
    yield from (f"sources.{name}" for name in {**before, **after} if before.get(name) != after.get(name))
    if before == after and list(before) != list(after):
        yield "sources"  # the same
