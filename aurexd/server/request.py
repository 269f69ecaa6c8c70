"""A connection's first request: its head, parsed once, and what of it the rooms behind the port want to know.

It is bounded in size here and in time by `port.py`, and sans-IO but for the reading itself (docs/adr/0005).
"""

from __future__ import annotations

import h11
import msgspec

from aurexd.identity import Identity
from aurexd.server.origin import Origin
from aurexd.server.stream import ClientStream

HEAD_BYTES = 16384
"""A request head larger than this is refused; nginx and h11 allow about as much."""

TOKEN_SUBPROTOCOL = "aurex.token."  # noqa: S105 — what comes before the secret
"""What a token follows among the offered subprotocols."""


class Request(msgspec.Struct, gc=False):
    """What is still wanted of a head once it was read; the rest is let go, because a session keeps this."""

    address: str
    """Whom the request comes from."""
    method: str
    path: str
    query: str
    host: str
    origin: str | None = None
    upgrade: bool = False
    """Whether it asks for a WebSocket."""
    subprotocols: tuple[str, ...] = ()
    authorization: str | None = None
    last_event_id: str | None = None
    proxied: bool = False
    """Whether a trusted proxy passed it on."""
    relayed: bool = False
    """Whether there is a proxy between, trusted or not, as far as can be seen."""
    retry_after_s: float = 0.0
    """More than 0: its address knocks too often, and may come again after so long."""
    identity: Identity | None = None
    """Who it comes from, once that was judged."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} from {self.address}>"

    def forget_token(self) -> None:
        """Keep no token for as long as the session lasts: it was judged."""
        self.authorization = None
        self.query = ""
        self.subprotocols = tuple(
            name for name in self.subprotocols if not name.startswith(TOKEN_SUBPROTOCOL)
        )


async def read_request(stream: ClientStream, origin: Origin) -> Request | None:
    """Read the first request's head and put it back, for whoever answers it. `origin` learns what it says of that.

    None for what is no HTTP, too large or cut short: the HTTP side says what is wrong with it.
    """
    head = b""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    request: object = h11.NEED_DATA
    try:
        while request is h11.NEED_DATA:
            data = await stream.receive_some(HEAD_BYTES)
            head += data
            parser.receive_data(data)
            request = parser.next_event()
    except h11.RemoteProtocolError:
        request = None
    stream.push_back(head)
    return _request(request, origin) if isinstance(request, h11.Request) else None


def _request(request: h11.Request, origin: Origin) -> Request:
    headers: dict[bytes, str] = {}
    for name, value in request.headers:
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    path, _, query = request.target.decode("latin-1").partition("?")
    offered = headers.get(b"sec-websocket-protocol", "")
    origin.read_headers(headers)
    return Request(
        address=origin.address,
        method=request.method.decode("latin-1"),
        path=path,
        query=query,
        host=headers.get(b"host", ""),
        origin=headers.get(b"origin"),
        upgrade=headers.get(b"upgrade", "").lower() == "websocket",
        subprotocols=tuple(name.strip() for name in offered.split(",") if name.strip()),
        authorization=headers.get(b"authorization"),
        last_event_id=headers.get(b"last-event-id"),
        proxied=origin.proxied,
        relayed=origin.relayed,
    )
