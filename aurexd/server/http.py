"""The seam to the HTTP server: hands an open stream to hypercorn, which speaks HTTP and calls the app.

hypercorn's protocol engine is internal to it, so its version is pinned and nothing outside this room imports it
(docs/adr/0005). Its server around that engine is not used: there, a client could change to HTTP/2 in the clear, and
its address would be the proxy's. Each connection is closed after its answer: see `port.py`.
"""

from __future__ import annotations

from typing import Any

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from aurexd.server.admission import Admission
from aurexd.server.answer import answer
from aurexd.server.request import HEAD_BYTES, Request
from aurexd.server.stream import ClientStream
from aurexd.settings import Settings

ANSWER_TIMEOUT_S = 60.0
"""A client that has not taken its answer by then is cut off: a history of a thousand prices is 100 KB."""


class HttpServer:
    """Serves an ASGI application on streams that somebody else accepted."""

    def __init__(self, app: Any, admission: Admission, settings: Settings) -> None:
        """`app` is any ASGI application without a lifespan.

        It finds in its scope, as `state["relayed"]`, what `Request` says of it.
        """
        self._app = ASGIWrapper(app)
        self._admission = admission
        self._settings = settings
        self._config = Config()
        self._config.keep_alive_max_requests = 0  # `Connection: close` with every answer
        self._config.h11_max_incomplete_size = HEAD_BYTES
        self._config.include_server_header = False
        self._config.accesslog = None
        self._config.errorlog = None

    async def serve(self, stream: ClientStream, request: Request | None) -> None:
        """Answer one request; returns when the connection is closed. None: what came is none, and is told so."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_off, stream)
            turned_away = self._admission.http_refusal(stream.remote_address, request)
            if turned_away is not None:
                await answer(stream, turned_away.status, turned_away.message, turned_away.headers)
                await stream.aclose()
            else:
                await self._converse(stream, relayed=request is None or request.relayed)
            nursery.cancel_scope.cancel()

    async def _converse(self, stream: ClientStream, *, relayed: bool) -> None:
        sending = trio.Lock()

        async def send(event: Event) -> None:
            if isinstance(event, RawData):
                async with sending:
                    try:
                        with trio.CancelScope(shield=True):
                            await stream.send_all(event.data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        await protocol.handle(Closed())
            elif isinstance(event, Closed):
                await stream.aclose()
                await protocol.handle(Closed())

        async with TaskGroup() as group:
            protocol = _Http11(
                self._app,
                self._config,
                WorkerContext(None),
                group,
                ConnectionState(LifespanState(relayed=relayed)),
                stream.is_tls,
                (stream.remote_address, 0),  # behind a proxy nobody knows the port
                None,
                send,
            )
            try:
                while not stream.closed:
                    data = await stream.receive_some()
                    await protocol.handle(RawData(data))
                    if not data:
                        break
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            await protocol.handle(Closed())
        vars(protocol).clear()  # or it would be a cycle, and every request work for the garbage collector

    async def _cut_off(self, stream: ClientStream) -> None:
        """Cut off a client that stands still or takes its time, or that is not done when the daemon is.

        hypercorn shields its writes from cancellation, so to end them the stream itself has to go.
        """
        try:
            with trio.move_on_after(ANSWER_TIMEOUT_S):
                while True:
                    idle_s = self._settings.limits.http_idle_timeout_s
                    await trio.sleep(idle_s)
                    if stream.backlogged and trio.current_time() - stream.last_received >= idle_s:
                        break
        finally:
            if not stream.closed:
                stream.abort()


class _Http11(H11Protocol):
    """HTTP/1.1 and nothing else."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Where hypercorn would change to HTTP/2. An offer to do so may be ignored (RFC 9110, 7.8)."""
