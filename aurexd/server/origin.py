"""Who a connection comes from: the peer, or whom a proxy speaks for that is trusted to.

The rules are pure (`aurexd/proxy_protocol.py`, `aurexd/forwarded.py`); here it is read.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from aurexd.forwarded import Proxies, client_address, plain
from aurexd.proxy_protocol import ProxyHeader, read_proxy_header
from aurexd.server.stream import ClientStream
from aurexd.settings import Settings

RELAYED = (b"x-forwarded-for", b"forwarded", b"via")
"""Headers that only proxies write."""


@functools.lru_cache(maxsize=4)
def proxies_of(entries: tuple[str, ...]) -> Proxies:
    """The proxies that `limits.trusted_proxies` names: read once, and asked for each connection."""
    return Proxies(entries)


class Origin:
    """Whom one connection comes from, as far as that is known by now."""

    __slots__ = ("_settings", "address", "proxied", "relayed", "speaks")

    def __init__(self, peer: str, settings: Settings) -> None:
        self._settings = settings
        self.address = plain(peer)
        self.speaks = self.address in proxies_of(settings.limits.trusted_proxies)
        """Whether the one at `address` is trusted to name somebody else, and may yet do so."""
        self.proxied = False
        """Whether a trusted proxy passed the request on: it has read it, and not just moved its bytes."""
        self.relayed = self.speaks
        """Whether there is any proxy between us and the client, as far as can be seen."""

    async def read_proxy_header(self, stream: ClientStream) -> bool:
        """Read the PROXY header that the connection begins with; False: it ended without a byte.

        Raises:
            ValueError: it begins with something else; says what.
            trio.BrokenResourceError: it was lost.

        """
        data = b""
        header: ProxyHeader | None = None
        while header is None:
            more = await stream.receive_before_tls()
            if not more and not data:
                return False
            if not more:
                raise ValueError("the connection ended within the header")
            data += more
            header = read_proxy_header(data)
        stream.push_back(data[header.size :])
        if header.address is None:
            # For whom it speaks the proxy does not know, so nor do the request's headers.
            self.speaks = False
        else:
            self.address = plain(header.address)
            self.speaks = self.address in proxies_of(self._settings.limits.trusted_proxies)
        return True

    def read_headers(self, headers: Mapping[bytes, str]) -> None:
        """Take from a request's headers whom a proxy says it comes from. Names are in lower case."""
        limits = self._settings.limits
        self.relayed = self.relayed or any(name in headers for name in RELAYED)
        if self.speaks:
            said = headers.get(limits.proxy_header.encode(), "")
            proxies = proxies_of(limits.trusted_proxies)
            self.address = client_address(self.address, said, limits.proxy_header, proxies)
            self.speaks = False
            self.proxied = True
