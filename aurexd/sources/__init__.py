"""Which provider types exist and where each is written. Importing this loads none of them.

To add a provider: write its file here, and name it in `PROVIDERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from aurexd.sources.base import Provider


class ProviderPath(NamedTuple):
    """Where a provider's class is written."""

    module: str
    class_name: str


PROVIDERS: Mapping[str, ProviderPath] = MappingProxyType(
    {
        "alltick": ProviderPath("aurexd.sources.alltick", "AllTick"),
        "yfinance": ProviderPath("aurexd.sources.yfinance", "YFinance"),
        "yahoo-stream": ProviderPath("aurexd.sources.yahoo_stream", "YahooStream"),
        "swissquote": ProviderPath("aurexd.sources.swissquote", "Swissquote"),
        "gold-api": ProviderPath("aurexd.sources.gold_api", "GoldApi"),
        "kraken": ProviderPath("aurexd.sources.kraken", "Kraken"),
        "replay": ProviderPath("aurexd.sources.replay", "Replay"),
        "simulated": ProviderPath("aurexd.sources.simulated", "Simulated"),
    }
)
"""Type name, as configured → its class."""


def provider_class(type_name: str) -> type[Provider[Any]]:
    """The provider class for a configured `type`; its module is imported now, if it was not before.

    Raises:
        KeyError: no provider of that name; `PROVIDERS` lists them.

    """
    path = PROVIDERS[type_name]
    return cast("type[Provider[Any]]", getattr(importlib.import_module(path.module), path.class_name))
