"""Whatever a client is, when it has gone nothing of it is left for the garbage collector; see `aurexd/garbage.py`."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from wsproto.frame_protocol import FrameProtocol

from aurexd.config.model import Limits
from aurexd.protocol.codes import CloseCode
from tests.server.conftest import TlsPair
from tests.server.loopback import JSON, Served, serving

Visit = Callable[[Served], Awaitable[None]]


async def visit(served: Served) -> Any:
    client = await served.connect(JSON)
    await client.message()
    await client.ask("subscribe", {"channels": ["price:XAUUSD"]})
    await served.publish("1.00")
    return client


async def says_goodbye(served: Served) -> None:
    await (await visit(served)).close()


async def is_cut_off(served: Served) -> None:
    (await visit(served)).socket.close()


async def says_nothing(served: Served) -> None:
    client = await served.connect()
    await client.messages(2)
    client.socket.close()


async def is_sent_away(served: Served) -> None:
    client = await visit(served)
    served.sessions()[0].close(CloseCode.GOING_AWAY, 1)
    await client.closing()


async def asks(served: Served) -> None:
    assert (await served.fetch("/healthz")).status == 200


async def reads_events(served: Served) -> None:
    stream, sock = await served.open_stream()
    await stream.send_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await stream.receive_some()
    sock.close()


def parsers() -> int:
    """How many of wsproto's there are of a server's."""
    return sum(type(each) is FrameProtocol and not each.client for each in gc.get_objects())


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "come_and_go", [says_goodbye, is_cut_off, says_nothing, is_sent_away, asks, reads_events]
)
async def test_whoever_comes_and_goes_leaves_no_cycle_behind(
    tls_pair: TlsPair, come_and_go: Visit, *, secure: bool
) -> None:
    server_tls, client_tls = tls_pair if secure else (None, None)
    limits = Limits(max_connections_per_ip=0)
    with structlog.testing.capture_logs():
        async with serving(limits=limits, server_tls=server_tls, client_tls=client_tls) as served:
            for _ in range(3):  # what is made once is no garbage
                await come_and_go(served)
            await served.admission.wait_empty()
            await trio.testing.wait_all_tasks_blocked(0.01)
            gc.collect()
            gc.disable()
            before = parsers()
            try:
                for _ in range(5):
                    await come_and_go(served)
                await served.admission.wait_empty()
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert parsers() == before, "which the collector does not count"
                assert gc.collect() == 0
            finally:
                gc.enable()
