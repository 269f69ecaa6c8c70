"""Who a request comes from behind proxies: how far `Forwarded` and `X-Forwarded-For` can be believed. Pure.

Each proxy writes the address of its own client at the right end of the header, so the entries are a chain that ends
in the peer, whom we see ourselves; and each is worth as much as whoever stands on its right. The rules:

1. What a peer says that is no trusted proxy is not read at all.
2. From the right, a trusted proxy's word on its client is believed; the first address that is no trusted proxy is
   the client's. What stands left of it, the client may have made up.
3. A trusted proxy that says no address (nothing, garbage, `unknown`, a name of its own making) is as far as can be
   seen: its own address counts.
4. Where all are trusted, the first of them is the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

HeaderName = Literal["x-forwarded-for", "forwarded", "none"]
"""Which header the proxies write. Only one is read: what they do not write comes from the client as it is."""

_MAPPED = IPv6Network("::ffff:0:0/96")

_PAIR = re.compile(r"[ \t]*([\w!#$%&'*+.^`|~-]+)=(\"(?:[^\"\\]|\\.)*\"|[^\s\",;=]*)[ \t]*(;|\Z)", re.ASCII)
"""One `for=192.0.2.1` of RFC 7239, section 4; without quotes, a value may have what only proxies that err leave
unquoted: the colon and the brackets of an address."""

_PORT = re.compile(r":(?:[0-9]{1,5}|_[\w.-]+)", re.ASCII)


def plain(address: str) -> str:
    """The address in its one usual form, for comparing: IPv4 written as IPv6 is IPv4; a zone is left away.

    Raises:
        ValueError: it is none.

    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)


class Proxies:
    """The proxies that are trusted: `address in proxies`."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Addresses and networks, as `10.0.0.2` and `fd00::/8`.

        Raises:
            ValueError: an entry is neither; says why.

        """
        networks = [_network(entry) for entry in entries]
        self._v4 = [network for network in networks if isinstance(network, IPv4Network)]
        self._v6 = [network for network in networks if isinstance(network, IPv6Network)]

    def __bool__(self) -> bool:
        return bool(self._v4 or self._v6)

    def __contains__(self, address: str) -> bool:
        if not self:
            return False
        parsed = ip_address(plain(address))
        if isinstance(parsed, IPv4Address):
            return any(parsed in network for network in self._v4)
        return any(parsed in network for network in self._v6)


def _network(entry: str) -> IPv4Network | IPv6Network:
    network = ip_network(entry)
    if not network.prefixlen:
        raise ValueError(f"{entry} is everybody: each client could say that it is another")
    if isinstance(network, IPv6Network) and network.overlaps(_MAPPED):
        raise ValueError(f"{entry} is written as IPv6 and means IPv4: write it as IPv4")
    return network


def client_address(peer: str, header: str, name: HeaderName, proxies: Proxies) -> str:
    """The client's address: the peer's own, or the one that trusted proxies give.

    `header` is the value of the header called `name`; the lines of several are joined by commas.
    """
    client = plain(peer)
    if name == "none" or not header or client not in proxies:
        return client
    for said in _said(header, name):
        address = _address(said)
        if address is None:
            break
        client = address
        if client not in proxies:
            break
    return client


def _said(header: str, name: HeaderName) -> Iterator[str]:
    """What each proxy says of its client, the last proxy first."""
    if name == "forwarded":
        return (_forwarded_for(entry) for entry in _from_the_right(header))
    return (entry.strip(" \t") for entry in reversed(header.split(",")))


def _from_the_right(header: str) -> Iterator[str]:
    """The entries between commas that stand outside of quotes, the last first.

    Read from the right, because that is where those stand whom we believe: a quote that the client opened and did
    not close cannot swallow what a proxy wrote behind it.
    """
    end, quoted = len(header), False
    for place in range(len(header) - 1, -1, -1):
        character = header[place]
        if character == '"' and not _is_escaped(header, place):
            quoted = not quoted
        elif character == "," and not quoted:
            yield header[place + 1 : end]
            end = place
    yield header[:end]


def _is_escaped(text: str, place: int) -> bool:
    escaped = False
    while place and text[place - 1] == "\\":
        place -= 1
        escaped = not escaped
    return escaped


def _forwarded_for(entry: str) -> str:
    """What an entry of `Forwarded` gives as `for`; empty where it gives none, or cannot be read without doubt."""
    found: list[str] = []
    place = 0
    while place < len(entry):
        pair = _PAIR.match(entry, place)
        if pair is None:
            return ""
        if pair[1].lower() == "for":
            found.append(pair[2])
        place = pair.end()
    if len(found) != 1:
        return ""
    return re.sub(r"\\(.)", r"\1", found[0][1:-1]) if found[0].startswith('"') else found[0]


def _address(said: str) -> str | None:
    """The address in what a proxy wrote, with or without a port; None where there is none."""
    host, port = said, ""
    if said.startswith("["):
        host, bracket, port = said[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    elif said.count(":") == 1:
        host, colon, number = said.partition(":")
        port = colon + number
    if (port and not _PORT.fullmatch(port)) or "%" in host:
        return None
    try:
        return plain(host)
    except ValueError:
        return None
