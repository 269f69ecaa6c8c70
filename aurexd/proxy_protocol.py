"""The PROXY protocol, versions 1 and 2: how a proxy says whom a connection comes from, before anything else. Pure.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. What is read says where the header ends, because TLS or
HTTP follows at once; nothing behind that is looked at. Whose word this is, and whether it is believed, is not known
here.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import msgspec

MAX_BYTES = 4096
"""A header with its extensions is no larger; nginx: 4096."""

_V1 = b"PROXY "
_V1_BYTES = 107  # section 2.1: the longest line there can be, its end included
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12xBBH")  # version and command, family and transport, bytes that follow

_LOCAL, _PROXY = 0x20, 0x21
_TCP = {0x11: 4, 0x21: 16}  # → bytes of one address; behind both addresses come both ports
_WITHOUT_ADDRESS = frozenset({0x00, 0x31})  # not told, and a Unix socket

_V1_FAMILIES: dict[bytes, type[IPv4Address | IPv6Address]] = {
    b"TCP4": IPv4Address,
    b"TCP6": IPv6Address,
}


class ProxyHeader(msgspec.Struct, frozen=True):
    """What one header says."""

    address: str | None
    """The client's; None: the proxy speaks for itself (a health check), or does not say for whom."""
    size: int
    """Bytes of it; what follows is the client's."""


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of `data`; None while more is needed, of which `MAX_BYTES` are always enough.

    Raises:
        ValueError: this is none, whatever may follow; says why.

    """
    if data.startswith(_V2):
        return _version_2(data)
    if data.startswith(_V1):
        return _version_1(data)
    if _V2.startswith(data) or _V1.startswith(data):
        return None
    raise ValueError("no PROXY header")


def _version_1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:_V1_BYTES].partition(b"\r\n")
    if not end:
        if len(data) >= _V1_BYTES or b"\n" in data:
            raise ValueError("a PROXY line without an end")
        return None
    size = len(line) + len(end)
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":  # whatever else there is, is to be ignored
        return ProxyHeader(None, size)
    family = _V1_FAMILIES.get(words[1])
    if family is None or len(words) != 6:
        raise ValueError("a PROXY line that is neither TCP4, TCP6 nor UNKNOWN, or not of six words")
    source, destination, *ports = words[2:]
    if not all(port.isdigit() and port == b"%d" % int(port) and int(port) < 65536 for port in ports):
        raise ValueError("a PROXY line with a port that is none")
    if b"%" in line:
        raise ValueError("a PROXY line with a zone in an address")
    family(destination.decode("ascii", "replace"))
    return ProxyHeader(str(family(source.decode("ascii", "replace"))), size)


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD.size:
        return None
    command, family, rest = _V2_HEAD.unpack_from(data)
    size = _V2_HEAD.size + rest
    if command not in {_LOCAL, _PROXY}:
        raise ValueError(f"PROXY version and command {command:#04x}")
    if size > MAX_BYTES:
        raise ValueError(f"a PROXY header of {size} bytes")
    address_bytes = _TCP.get(family, 0)
    if command == _PROXY:
        if not address_bytes and family not in _WITHOUT_ADDRESS:
            raise ValueError(f"PROXY family and transport {family:#04x}")
        if address_bytes and rest < 2 * address_bytes + 4:
            raise ValueError("a PROXY header without room for its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL or not address_bytes:
        return ProxyHeader(None, size)
    source = data[_V2_HEAD.size : _V2_HEAD.size + address_bytes]
    return ProxyHeader(str(IPv4Address(source) if address_bytes == 4 else IPv6Address(source)), size)
