"""A whole HTTP answer that says what is wrong, for who is turned away before the HTTP side is troubled."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from aurexd.server.interface import Error
from aurexd.server.stream import ClientStream


async def answer(
    stream: ClientStream, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None
) -> None:
    """Send it, worded as the HTTP side does; the connection is to be closed then.

    Raises:
        trio.BrokenResourceError: the connection was lost before it was out.

    """
    body = msgspec.json.encode(Error.of(status.value, message))
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
