"""Which names this server answers to: the Host header against DNS rebinding. Pure.

A page of evil.example can have its own name point at this machine, and is then of the same origin in the browser's
eyes; but the browser goes on sending that name as `Host`. An IP address and `localhost` cannot be made to point
elsewhere, so they are always good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

ANY = "*"
"""In place of a name: all names are good."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|\w[\w.-]*)(?::[0-9]{0,5})?", re.ASCII)
_NAME = re.compile(
    r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)


def is_name(text: str) -> bool:
    """Whether it is a host's name, or `*.` and one: small letters, without a port."""
    return _NAME.fullmatch(text) is not None and len(text) <= 253


def is_allowed(host: str, names: Iterable[str]) -> bool:
    """Whether a request with this `Host` is meant for us. `names`: those we have; `*.example.org` is one label more.

    Empty is good: HTTP/1.0 has none, and no browser speaks that.
    """
    if not host:
        return True
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or _is_address(name):
        return True
    _, _, parent = name.partition(".")
    wanted = {name, f"*.{parent}", ANY}
    return any(known in wanted for known in names)


def names_of(origins: Iterable[str]) -> set[str]:
    """The names of hosts in origins such as `https://example.org:8443`."""
    return {name for origin in origins if (name := urlsplit(origin).hostname)}


def _is_address(name: str) -> bool:
    try:
        if name.startswith("["):
            IPv6Address(name[1:-1])
        else:
            IPv4Address(name)
    except ValueError:
        return False
    return True
