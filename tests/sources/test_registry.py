"""Every provider type can be named, loaded and described; naming them loads nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aurexd.sources import PROVIDERS, provider_class
from aurexd.sources.base import Provider, SourceSettings, Traits

ROOT = Path(__file__).parents[2]
CONTRACT = {
    "alltick",
    "yfinance",
    "yahoo-stream",
    "swissquote",
    "gold-api",
    "kraken",
    "replay",
    "simulated",
}


def test_the_types_are_those_of_the_contract() -> None:
    assert set(PROVIDERS) == CONTRACT


@pytest.mark.parametrize("type_name", sorted(PROVIDERS))
def test_each_type_loads_a_whole_provider(type_name: str) -> None:
    provider = provider_class(type_name)
    assert issubclass(provider, Provider)
    assert issubclass(provider.Settings, SourceSettings)
    assert isinstance(provider.traits, Traits)
    assert provider.traits.stale_after_s > 0
    assert provider.traits.reconnect.floor_s > 0
    assert not getattr(provider, "__abstractmethods__", None)


@pytest.mark.parametrize("type_name", sorted(PROVIDERS))
def test_each_setting_is_described(type_name: str) -> None:
    for name, field in provider_class(type_name).Settings.model_fields.items():
        assert field.description, name


def test_an_unknown_type_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        provider_class("bloomberg")


@pytest.mark.parametrize(
    ("load", "heavy"),
    [
        ("", {"httpx", "trio_websocket", "yfinance", "pandas", "aurexd.sources.swissquote"}),
        ("simulated", {"httpx", "trio_websocket", "yfinance", "pandas"}),
        ("replay", {"httpx", "trio_websocket", "yfinance", "pandas"}),
        ("yfinance", {"trio_websocket", "yfinance", "pandas", "curl_cffi"}),
    ],
)
def test_what_is_not_used_is_not_loaded(load: str, heavy: set[str]) -> None:
    program = (
        "import sys; from aurexd.sources import provider_class\n"
        f"if {load!r}: provider_class({load!r})\n"
        f"print(*({heavy!r} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
