"""What a reload may change, what needs a restart, and what each is called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.config import Config
from aurexd.config.model import (
    SECTIONS,
    Auth,
    AuthKey,
    Control,
    Heartbeat,
    Limits,
    Listen,
    Log,
    Realtime,
    Section,
    Storage,
    Symbol,
    Tls,
)
from aurexd.market import Instrument
from aurexd.settings import LIVE, LIVE_SYMBOL_KEYS, Settings, plan_reload
from aurexd.sources.base import SourceSettings

KEYS = {"k1": AuthKey(algorithm="EdDSA", file="k1.pem")}
CHOICES: dict[str, list[Section]] = {
    "realtime": [Realtime(), Realtime(update_interval_s=1), Realtime(io_uring=False)],
    "listen": [Listen(), Listen(port=8443), Listen(address="0.0.0.0")],
    "tls": [Tls(), Tls(certificate="a", private_key="b"), Tls(certificate="c", private_key="b")],
    "limits": [Limits(), Limits(max_connections=1), Limits(allowed_origins=("https://a.example",))],
    "heartbeat": [Heartbeat(), Heartbeat(silence_s=1)],
    "auth": [Auth(), Auth(mode="token", keys=KEYS), Auth(mode="token", audience="gold", leeway_s=0)],
    "storage": [Storage(), Storage(url="")],
    "control": [Control(), Control(socket="")],
    "log": [Log(), Log(level="debug"), Log(format="json")],
}
READ_ONCE = {"io_uring", "resume_messages"}
SYMBOLS = {
    "XAUUSD": Symbol(instrument=Instrument.SPOT),
    "GC": Symbol(instrument=Instrument.FUTURE),
    "TESTGOLD": Symbol(instrument=Instrument.TEST),
}


def source(name: str, priority: int = 1, *symbols: str) -> SourceSettings:
    served = dict.fromkeys(symbols or ("TESTGOLD",), "x")
    return SourceSettings(name=name, type="simulated", priority=priority, symbols=served)


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    names = draw(st.lists(st.sampled_from(sorted(SYMBOLS)), min_size=1, unique=True))
    keys = {
        "max_jump_pct": st.sampled_from([None, 3.0]),
        "decimals": st.sampled_from([2, 3]),
        "default": st.booleans(),
    }
    symbols = {name: SYMBOLS[name].model_copy(update=draw(st.fixed_dictionaries(keys))) for name in names}
    some = st.lists(st.sampled_from(names), min_size=1, unique=True)
    sources = [
        source(name, draw(st.integers(1, 2)), *draw(some))
        for name in draw(st.lists(st.sampled_from("ab"), unique=True))
    ]
    sections = {name: draw(st.sampled_from(choices)) for name, choices in CHOICES.items()}
    return Config.model_validate({}).model_copy(
        update={"symbols": symbols, "sources": tuple(sources), **sections}
    )


configs = configurations()


@given(configs, configs)
def test_a_reload_takes_all_it_may_and_leaves_the_rest_as_it_was(running: Config, wanted: Config) -> None:
    plan = plan_reload(running, wanted)
    switched = {
        *(["tls"] if bool(running.tls.certificate) != bool(wanted.tls.certificate) else []),
        *(["auth"] if running.auth.mode != wanted.auth.mode else []),
    }
    for name in SECTIONS:
        live = name in LIVE and name not in switched
        for key in SECTIONS[name].model_fields:
            side = wanted if live and key not in READ_ONCE else running
            assert getattr(getattr(plan.config, name), key) == getattr(getattr(side, name), key)
    for name, symbol in wanted.symbols.items():
        before = running.symbols.get(name, symbol)
        update = {key: getattr(symbol, key) for key in LIVE_SYMBOL_KEYS}
        assert plan.config.symbols[name] == before.model_copy(update=update)
    for name in plan.config.symbols.keys() - wanted.symbols.keys():
        assert plan.config.symbols[name] == running.symbols[name]
        waits = [s for s in plan.config.sources if name in s.symbols]
        assert waits, "only what a source serves that waits is kept"
        assert all(f"sources.{s.name}" in plan.waiting for s in waits)
    assert plan.added == plan.config.symbols.keys() - running.symbols.keys()
    assert plan.removed == running.symbols.keys() - plan.config.symbols.keys()
    for source in plan.config.sources:
        assert source in (*running.sources, *wanted.sources)
        assert set(source.symbols) <= set(plan.config.symbols)
    if plan.config.symbols == wanted.symbols:
        assert plan.config.sources == wanted.sources


@given(configs, configs)
def test_what_was_asked_for_is_either_changed_or_waits_for_a_restart(running: Config, wanted: Config) -> None:
    plan = plan_reload(running, wanted)
    assert not set(plan.changed) & set(plan.waiting)
    assert all(plan.waiting.values()), "each has its reason"
    assert (not plan.changed and not plan.waiting) == (
        running == wanted and list(running.symbols) == list(wanted.symbols)
    )
    again = plan_reload(plan.config, wanted)
    assert (again.changed, again.waiting) == ([], plan.waiting)
    back = plan_reload(plan.config, running)
    assert (sorted(back.changed), back.waiting) == (sorted(plan.changed), {})


TESTGOLD = SYMBOLS["TESTGOLD"]
TWO = {"TESTGOLD": TESTGOLD, "GC": SYMBOLS["GC"]}


@pytest.mark.parametrize(
    ("wanted", "changed", "waiting"),
    [
        ({"limits": Limits(max_connections=7)}, ["limits.max_connections"], []),
        ({"log": Log(level="debug")}, ["log.level"], []),
        (
            {"realtime": Realtime(update_interval_s=1, io_uring=False, resume_messages=5)},
            ["realtime.update_interval_s"],
            ["realtime.io_uring", "realtime.resume_messages"],
        ),
        ({"tls": Tls(certificate="new", private_key="key")}, ["tls.certificate"], []),
        ({"tls": Tls()}, [], ["tls.certificate", "tls.private_key"]),
        ({"auth": Auth(mode="token", keys=KEYS | {"k2": KEYS["k1"]})}, ["auth.keys"], []),
        ({"auth": Auth(mode="token", keys=KEYS, leeway_s=5)}, ["auth.leeway_s"], []),
        ({"auth": Auth()}, [], ["auth.mode", "auth.keys"]),
        ({"listen": Listen(port=1)}, [], ["listen.port"]),
        (
            {"symbols": {"TESTGOLD": TESTGOLD.model_copy(update={"decimals": 3})}},
            ["symbols.GC"],
            ["symbols.TESTGOLD.decimals"],
        ),
        ({"symbols": {**TWO, "XAUUSD": SYMBOLS["XAUUSD"]}}, ["symbols.XAUUSD"], []),
        ({"symbols": {"GC": SYMBOLS["GC"], "TESTGOLD": TESTGOLD}}, ["symbols"], []),
        ({"sources": (source("a", 2), source("c"))}, ["sources.a", "sources.b", "sources.c"], []),
        ({"sources": (source("b"), source("a"))}, ["sources"], []),
        (
            {"symbols": {**TWO, "TESTGOLD": TESTGOLD.model_copy(update={"max_jump_pct": 3.0})}},
            ["symbols.TESTGOLD.max_jump_pct"],
            [],
        ),
        (
            {
                "symbols": {**TWO, "TESTGOLD": TESTGOLD.model_copy(update={"decimals": 3})},
                "sources": (source("a", 2), source("b"), source("c")),
            },
            [],
            ["symbols.TESTGOLD.decimals", "sources.a", "sources.c"],
        ),
    ],
)
def test_each_setting_is_named_as_it_is_written(
    wanted: dict[str, Any], changed: list[str], waiting: list[str]
) -> None:
    running = Config(
        tls=Tls(certificate="old", private_key="key"),
        auth=Auth(mode="token", keys=KEYS),
        symbols={"TESTGOLD": TESTGOLD, "GC": SYMBOLS["GC"]},
        sources=(source("a"), source("b")),
    )
    plan = plan_reload(running, running.model_copy(update=wanted))
    assert (plan.changed, [*plan.waiting]) == (changed, waiting)


def test_a_symbol_that_a_waiting_source_serves_waits_with_it() -> None:
    running = Config(symbols=TWO, sources=(source("a", 1, "TESTGOLD", "GC"),))
    wanted = running.model_copy(
        update={
            "symbols": {"TESTGOLD": TESTGOLD.model_copy(update={"decimals": 3})},
            "sources": (source("a"),),
        }
    )
    plan = plan_reload(running, wanted)
    assert plan.config == running
    assert [*plan.waiting] == ["symbols.TESTGOLD.decimals", "symbols.GC", "sources.a"]
    assert plan.waiting["symbols.GC"] == "a source that serves it waits for a restart"
    assert plan.removed == frozenset()


def test_all_live_sections_change_at_once() -> None:
    settings = Settings(Config())
    wanted = Config(
        limits=Limits(max_connections=1),
        heartbeat=Heartbeat(silence_s=1),
        realtime=Realtime(update_interval_s=1),
        auth=Auth(audience="gold"),
        symbols={"TESTGOLD": TESTGOLD},
    )
    settings.replace(wanted)
    assert settings.default_channels == {"price:TESTGOLD", "status:TESTGOLD"}
    assert settings.symbols == wanted.symbols
    for name in set(Settings.__slots__) - {"authority", "symbols", "default_channels"}:
        assert name in LIVE
        assert getattr(settings, name) is getattr(wanted, name)
