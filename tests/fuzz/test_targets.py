"""A few hundred inputs of each fuzz target; `python -m tests.fuzz` tries as many as there is time for."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import targets

opcodes = st.sampled_from([0x0, 0x1, 0x2, 0x8, 0x9, 0xA, 0x3, 0xB])
flags = st.sampled_from([0x80, 0x00, 0xC0, 0x40, 0x90])


@st.composite
def frame(draw: st.DrawFn) -> bytes:
    """A client's frame, masked with zeros; its length may be a lie."""
    payload = draw(st.binary(max_size=200) | st.sampled_from([b'{"type":"ping"}', b"\x03\xe8", b"\x03\xe9x"]))
    length = draw(st.just(len(payload)) | st.integers(0, 2**40))
    first = draw(flags) | draw(opcodes)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    return head + bytes(4) + payload


@given(st.integers(0, len(targets.OFFERS) - 1), st.lists(frame() | st.binary(max_size=30), max_size=6))
@settings(max_examples=150, deadline=None)
def test_frames(offer: int, parts: list[bytes]) -> None:
    targets.frames(bytes([offer]) + b"".join(parts))


@given(
    st.lists(
        st.sampled_from(targets.HEAD.splitlines(keepends=True))
        | st.sampled_from([b"Authorization: Bearer ", b"Sec-WebSocket-Protocol: aurex.token.", b"\r\n"])
        | st.binary(max_size=30),
        max_size=10,
    )
)
@settings(max_examples=100, deadline=None)
def test_connection(parts: list[bytes]) -> None:
    targets.connection(b"".join(parts))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_messages(data: bytes) -> None:
    targets.messages(data)


@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from([b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0", b"e30", b".", b"A", b"_"]), max_size=6
    ).map(b"".join)
    | st.dictionaries(
        st.sampled_from(["sub", "exp", "aud", "nbf", "scope"]),
        st.text()
        | st.integers()
        | st.floats()
        | st.none()
        | st.just("aurexd")
        | st.integers(1_761_566_401, 2**40),
    ).map(lambda claims: json.dumps(claims).encode())
)
@settings(max_examples=300, deadline=None)
def test_tokens(data: bytes) -> None:
    targets.tokens(data)


@given(
    st.lists(
        st.sampled_from(
            [
                b"PROXY ",
                b"TCP4 ",
                b"UNKNOWN",
                b"\r\n",
                b"\r\n\r\n\0\r\nQUIT\n",
                b"\x21\x11\0\x0c",
                b'for="',
                b'"',
                b",",
                *(b"10.0.0.9", b"198.51.100.7", b"[2001:db8::7]:1", b";", b"=", b"\\"),
            ]
        )
        | st.binary(max_size=20),
        max_size=12,
    )
)
@settings(max_examples=300, deadline=None)
def test_proxies(parts: list[bytes]) -> None:
    targets.proxies(b"".join(parts))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_at_all(name: str) -> None:
    targets.TARGETS[name](b"")


@given(
    st.lists(
        st.sampled_from(
            [
                b'{"method":"io.aurex.Control.',
                b"KickSession",
                b'","parameters":{',
                b'"id":',
                b"}}",
                b"\0",
                b'"x"',
                b"}",
            ]
        )
        | st.binary(max_size=10),
        max_size=14,
    )
)
@settings(max_examples=200, deadline=None)
def test_operators(parts: list[bytes]) -> None:
    targets.operators(b"".join(parts))
    targets.operators(
        b'{"method":"io.aurex.Control.KickSession","parameters":{"id":"x"}}\0' + b"".join(parts)
    )
