"""The channels there are: how they are named, and which of them this release serves."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec

from aurexd.candles import INTERVALS
from aurexd.errors import ProtocolError
from aurexd.identity import Identity, Scope
from aurexd.protocol.codes import ErrorCode


class ChannelKind(msgspec.Struct, frozen=True):
    """One kind of channel: the part of the name before the first colon."""

    pattern: str
    """How a name is built; capitals are filled in."""
    message: str
    """The `type` of what it sends."""
    conflated: bool
    """Whether a slow reader is sent the latest message only; otherwise each of them."""
    scope: Scope = Scope.READ
    """What a client must be allowed to do."""
    later: bool = False
    """A place that is kept: this release does not serve it."""

    @property
    def takes_symbol(self) -> bool:
        """Whether a symbol follows the kind."""
        return "SYMBOL" in self.pattern

    @property
    def takes_interval(self) -> bool:
        """Whether an interval follows the symbol."""
        return "INTERVAL" in self.pattern


KINDS = {
    "price": ChannelKind("price:SYMBOL", "price_update", conflated=True),
    "status": ChannelKind("status:SYMBOL", "status", conflated=True),
    "candle": ChannelKind("candle:SYMBOL:INTERVAL", "candle", conflated=True),
    "alert": ChannelKind("alert", "alert", conflated=False, scope=Scope.ALERTS),
    "news": ChannelKind("news", "news", conflated=False, later=True),
    "sentiment": ChannelKind("sentiment:SYMBOL", "sentiment", conflated=True, later=True),
    "signal": ChannelKind("signal:SYMBOL", "signal", conflated=True, later=True),
}


OWNED = frozenset({"alert"})
"""Kinds of which each owner has a channel of their own."""


def owned(channel: str, owner: str | None) -> str:
    """A channel as the hub knows it: everybody's, or one owner's own, which clients know by its kind alone."""
    return f"{channel}:{owner}" if channel in OWNED else channel


def scope_of(channel: str) -> Scope:
    """What a client must be allowed to do to be sent this channel."""
    return KINDS[channel.partition(":")[0]].scope


def symbol_of(channel: str) -> str | None:
    """The symbol that a channel is about; None: it is about none."""
    kind, _, rest = channel.partition(":")
    return rest.partition(":")[0] if KINDS[kind].takes_symbol else None


def check_scope(scope: Scope, identity: Identity | None) -> None:
    """Pass when somebody may do this.

    Raises:
        ProtocolError: `forbidden`, with what is needed.

    """
    if identity is None or scope not in identity.scopes:
        if identity is not None and not identity.has_token:
            advice = "alerts have an owner: connect with a token, or from the machine that aurexd runs on"
        else:
            advice = f"it needs a token with the scope {scope.value!r}"
        raise ProtocolError(ErrorCode.FORBIDDEN, advice)


def check_channel(name: str, symbols: AbstractSet[str], identity: Identity | None) -> None:
    """Pass when the channel is served to this client.

    Raises:
        ProtocolError: `unknown_channel`, naming those there are; `not_available`; or `forbidden`.

    """
    word, _, rest = name.partition(":")
    kind = KINDS.get(word)
    served = ", ".join(kind.pattern for kind in KINDS.values() if not kind.later)
    if kind is None:
        raise ProtocolError(ErrorCode.UNKNOWN_CHANNEL, f"unknown channel {name!r}; there are {served}")
    if kind.later:
        raise ProtocolError(
            ErrorCode.NOT_AVAILABLE,
            f"{name!r} is not available: this server has no {word} channels; it has {served}",
        )
    if not kind.takes_symbol:
        if name != word:
            raise ProtocolError(ErrorCode.UNKNOWN_CHANNEL, f"unknown channel {name!r}; there is {word!r}")
    else:
        _check_symbol(name, kind, rest, symbols)
    check_scope(kind.scope, identity)


def _check_symbol(name: str, kind: ChannelKind, rest: str, symbols: AbstractSet[str]) -> None:
    symbol, _, interval = rest.partition(":") if kind.takes_interval else (rest, "", "")
    if symbol not in symbols:
        raise ProtocolError(
            ErrorCode.UNKNOWN_CHANNEL, f"unknown symbol in {name!r}; there are {_listing(symbols)}"
        )
    if kind.takes_interval and interval not in INTERVALS:
        word = name.partition(":")[0]
        raise ProtocolError(
            ErrorCode.UNKNOWN_CHANNEL,
            f"{name!r} names no interval: write {word}:{symbol}: and one of {', '.join(INTERVALS)}",
        )


def _listing(symbols: AbstractSet[str]) -> str:
    """The symbols, at most twenty of them."""
    names = sorted(symbols)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
