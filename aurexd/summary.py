"""How the daemon is, in one line: what `systemctl status` shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aurexd.actors.messages import StoreState, StoreStatus, SymbolState
from aurexd.market import SECOND_US, EpochUs

WELL = frozenset({StoreState.OK, StoreState.OFF})


def summary(
    states: Iterable[SymbolState], store: StoreStatus, clients: int, now: EpochUs, *, trouble: str = ""
) -> str:
    """The default symbols' prices, with source and age; the clients; and what is not as it should be.

    `trouble`: what a person should know besides.
    """
    parts = [_price(state, now) for state in states if state.default]
    parts.append(f"{clients} client{'s'[: clients != 1]}")
    if store.state not in WELL:
        parts.append(f"store {store.state}")
    if trouble:
        parts.append(trouble)
    return "; ".join(parts)


def _price(state: SymbolState, now: EpochUs) -> str:
    price = state.price
    if price is None:
        return f"{state.symbol}: no price yet"
    age_s = max(0, now - price.source_time) / SECOND_US
    return f"{state.symbol} {price.close} {state.quality} from {price.source}, {_age(age_s)} old"


def _age(age_s: float) -> str:
    if age_s < 10:
        return f"{age_s:.1f} s"
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * size_s:
            return f"{age_s / size_s:.0f} {unit}"
    return f"{age_s:.0f} s"
