"""A PROXY header is read wherever it ends, and anything else gets a clean verdict within bounds."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aurexd.proxy_protocol import MAX_BYTES, ProxyHeader, read_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_1(source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, port: int) -> bytes:
    return f"PROXY TCP{source.version} {source} {destination} {port} 8443\r\n".encode()


def version_2(payload: bytes, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload) if size is None else size) + payload


def packed(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, extra: bytes = b""
) -> bytes:
    family = 0x11 if source.version == 4 else 0x21
    ports = struct.pack("!HH", 40000, 8443)
    return version_2(source.packed + destination.packed + ports + extra, family=family)


PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


@given(pair=PAIRS, port=st.integers(0, 65535), extra=st.binary(max_size=200), follows=st.binary(max_size=40))
def test_either_version_gives_the_source_and_where_the_clients_own_bytes_begin(
    pair: tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address], port: int, extra: bytes, follows: bytes
) -> None:
    for header in (version_1(*pair, port), packed(*pair, extra)):
        read = read_proxy_header(header + follows)
        assert read is not None
        assert read.address is not None
        assert ip_address(read.address) == pair[0]
        assert read.size == len(header)
        for cut in range(len(header)):
            assert read_proxy_header(header[:cut]) is None, "it takes no part for the whole"


HEADERS = st.one_of(
    st.builds(
        version_2,
        st.binary(max_size=60),
        command=st.one_of(st.sampled_from([0x20, 0x21]), st.integers(0, 255)),
        family=st.one_of(st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31]), st.integers(0, 255)),
        size=st.one_of(st.none(), st.integers(0, 65535)),
    ),
    st.lists(
        st.sampled_from(
            [b"PROXY", b" ", b"TCP4", b"TCP6", b"UNKNOWN", b"192.0.2.1", b"::1", b"80", b"\r\n", b"\n"]
        )
    )
    .map(b"".join)
    .map(lambda line: b"PROXY " + line),
    st.binary(max_size=200),
)


@given(HEADERS)
@example(b"")
@example(b"PROXY \xff\r\n")
@example(b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n")
def test_any_bytes_get_a_verdict_that_more_bytes_do_not_change(data: bytes) -> None:
    verdicts: list[ProxyHeader | str | None] = []
    for end in range(len(data) + 1):
        try:
            verdicts.append(read_proxy_header(data[:end]))
        except ValueError as error:
            verdicts.append(str(error))
    known = [verdict for verdict in verdicts if verdict is not None]
    assert verdicts[len(verdicts) - len(known) :] == known, "a verdict is for good"
    headers = [verdict for verdict in known if isinstance(verdict, ProxyHeader)]
    assert not headers or len(set(map(repr, headers))) == len({repr(verdict) for verdict in known}) == 1
    for header in headers:
        assert header.size <= len(data)
        assert header.address is None or str(ip_address(header.address)) == header.address


@given(HEADERS, st.integers(0, 255))
def test_nobody_is_listened_to_for_longer_than_the_bound(data: bytes, filler: int) -> None:
    with contextlib.suppress(ValueError):
        assert read_proxy_header(data + bytes([filler]) * MAX_BYTES) is not None


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        version_2(b"", command=0x20, family=0x00),
        version_2(b"\1" * 12, command=0x20),  # a LOCAL header's addresses are to be ignored
        version_2(b"", command=0x20, family=0xFF),
        version_2(b"", family=0x00),
        version_2(b"\3\0\4abcd", family=0x00),
        version_2(bytes(216), family=0x31),  # the proxy was reached over a Unix socket
    ],
)
def test_a_proxy_may_speak_for_itself_or_for_nobody_it_knows(header: bytes) -> None:
    assert read_proxy_header(header + b"GET") == ProxyHeader(None, len(header))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"G", "no PROXY header"),
        (b"\x16\x03\x01", "no PROXY header"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "without an end"),
        (b"PROXY " + b"x" * 101, "without an end"),
        (b"PROXY \r\n", "neither TCP4"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "neither TCP4"),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "not of six words"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "not of six words"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "a port that is none"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n", "a port that is none"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "'::1'"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.999 1 2\r\n", "192.0.2.999"),
        (b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n", "192.0.2.1"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "a zone"),
        (b"PROXY TCP4 \xb1.0.0.1 192.0.2.1 1 2\r\n", "decimal digits"),
        (version_2(b"\1" * 11), "without room"),
        (version_2(b"\1" * 35, family=0x21), "without room"),
        (version_2(b"\1" * 12, family=0x12), "family and transport 0x12"),
        (version_2(b"\1" * 12, family=0x41), "family and transport 0x41"),
        (version_2(b"\1" * 12, command=0x22), "command 0x22"),
        (version_2(b"\1" * 12, command=0x11), "command 0x11"),
        (version_2(b"", size=65535), "of 65551 bytes"),
    ],
)
def test_what_is_none_is_refused_as_soon_as_it_can_be_told(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_proxy_header(data)
