"""The channels there are: how they are named, and which of them this release serves."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import msgspec

from aurexd.errors import ProtocolError
from aurexd.protocol.codes import ErrorCode


class ChannelKind(msgspec.Struct, frozen=True):
    """One kind of channel: the part of the name before the first colon."""

    pattern: str
    """How a name is built; capitals are filled in."""
    message: str
    """The `type` of what it sends."""
    conflated: bool
    """Whether a slow reader is sent the latest message only; otherwise each of them."""
    later: bool = False
    """A place that is kept: this release does not serve it."""

    @property
    def takes_symbol(self) -> bool:
        """Whether a symbol follows the kind."""
        return "SYMBOL" in self.pattern


KINDS = {
    "price": ChannelKind("price:SYMBOL", "price_update", conflated=True),
    "status": ChannelKind("status:SYMBOL", "status", conflated=True),
    "candle": ChannelKind("candle:SYMBOL:INTERVAL", "candle", conflated=True, later=True),
    "alert": ChannelKind("alert", "alert", conflated=False),
    "news": ChannelKind("news", "news", conflated=False, later=True),
    "sentiment": ChannelKind("sentiment:SYMBOL", "sentiment", conflated=True, later=True),
    "signal": ChannelKind("signal:SYMBOL", "signal", conflated=True, later=True),
}


OWNED = frozenset({"alert"})
"""Kinds of which each owner has a channel of their own."""


def is_conflated(channel: str) -> bool:
    """Whether a slow reader of the channel is sent the latest message only."""
    return KINDS[channel.partition(":")[0]].conflated


def owned(channel: str, owner: str | None) -> str:
    """A channel as the hub knows it: everybody's, or one owner's own, which clients know by its kind alone."""
    return f"{channel}:{owner}" if channel in OWNED else channel


def check_owner(owner: str | None) -> None:
    """Pass when there is somebody whose alerts are meant.

    Raises:
        ProtocolError: `forbidden`: the client is nobody.

    """
    if owner is None:
        raise ProtocolError(
            ErrorCode.FORBIDDEN,
            "alerts have an owner: connect with a token, or from the machine that aurexd runs on",
        )


def check_channel(name: str, symbols: AbstractSet[str], owner: str | None) -> None:
    """Pass when the channel is served to a client of this owner.

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
        if word in OWNED:
            check_owner(owner)
        return
    if rest not in symbols:
        raise ProtocolError(
            ErrorCode.UNKNOWN_CHANNEL, f"unknown symbol in {name!r}; there are {_listing(symbols)}"
        )


def _listing(symbols: AbstractSet[str]) -> str:
    """The symbols, at most twenty of them."""
    names = sorted(symbols)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
