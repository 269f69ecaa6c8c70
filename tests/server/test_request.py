"""The first request of a connection: any bytes at all are judged, and put back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st

from aurexd.config.model import Config
from aurexd.server.origin import Origin
from aurexd.server.request import Request, read_request
from aurexd.settings import Settings
from tests.server.loopback import PATH


class Bytes:
    """Stands in for a stream: gives what it has in pieces, then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.left = pieces
        self.read = b""
        self.back = b""

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        data = self.left.pop(0)[:max_bytes] if self.left else b""
        self.read += data
        return data

    def push_back(self, data: bytes) -> None:
        self.back = data


TOKENS = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        PATH.encode(),
        b"/",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\n",
        b"Host: x",
        b"Host: \xff",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Origin: http://[",
        b"Sec-WebSocket-Protocol: \xff,,",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b": ",
        b"\x16\x03\x01",
    ]
)


@given(pieces=st.lists(st.one_of(st.binary(min_size=1), TOKENS)))
def test_whatever_a_client_says_is_judged_and_put_back(pieces: list[bytes]) -> None:
    stream = Bytes(list(pieces))
    read: Callable[[Any, Origin], Awaitable[Request | None]] = read_request
    request = trio.run(read, stream, Origin("192.0.2.1", Settings(Config())))
    assert stream.back == stream.read
    assert request is None or request.path.encode("latin-1") in stream.read
