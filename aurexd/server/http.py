"""The seam to the HTTP server: hands an open stream to hypercorn, which speaks HTTP and calls the app.

hypercorn's `TCPServer` is internal to it, so its version is pinned and nothing outside this room imports it
(docs/adr/0005). Each connection is closed after its answer: see `port.py`.
"""

from __future__ import annotations

import socket
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from aurexd.server.request import HEAD_BYTES
from aurexd.server.stream import ClientStream

ANSWER_TIMEOUT_S = 60.0
"""A client that has not taken its answer by then is cut off: a history of a thousand prices is 100 KB."""


class HttpServer:
    """Serves an ASGI application on streams that somebody else accepted."""

    def __init__(self, app: Any) -> None:
        """`app` is any ASGI application without a lifespan."""
        self._app = ASGIWrapper(app)
        self._config = Config()
        self._config.keep_alive_max_requests = 0  # `Connection: close` with every answer
        self._config.h11_max_incomplete_size = HEAD_BYTES
        self._config.include_server_header = False
        self._config.accesslog = None
        self._config.errorlog = None

    async def serve(self, stream: ClientStream) -> None:
        """Answer one request; returns when the connection is closed."""
        adapter = _TlsAdapter(stream) if stream.is_tls else _PlainAdapter(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_off, stream)
            await TCPServer(
                self._app,
                self._config,
                WorkerContext(None),
                ConnectionState(LifespanState()),
                adapter,  # type: ignore[arg-type]  # it says SSLStream, and takes what looks like one
            )
            nursery.cancel_scope.cancel()


async def _cut_off(stream: ClientStream) -> None:
    """Cut off a client that takes its time, or that is not done when the daemon is.

    hypercorn shields its writes from cancellation, so to end them the stream itself has to go.
    """
    try:
        await trio.sleep(ANSWER_TIMEOUT_S)
    finally:
        if not stream.closed:
            stream.abort()


class _PlainAdapter:
    """What hypercorn asks of a plain stream."""

    def __init__(self, stream: ClientStream) -> None:
        self.socket: socket.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_all = stream.send_all
        self.aclose = stream.aclose


class _TlsAdapter:
    """What hypercorn asks of a TLS stream; the handshake is already done."""

    def __init__(self, stream: ClientStream) -> None:
        self.transport_stream = _PlainAdapter(stream)
        self.receive_some = stream.receive_some
        self.send_all = stream.send_all
        self.aclose = stream.aclose

    async def do_handshake(self) -> None:
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str:
        return "http/1.1"
