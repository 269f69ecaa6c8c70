"""The daemon's WebSocket, but for what it says: each message comes back as it is. For the Autobahn test suite.

Port, handshake, reading, framing, compression, outgoing queue and closing are the daemon's own; in the place of hub and
session there is what echoes.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

import structlog
import trio

from aurexd.actors.messages import SessionOpened
from aurexd.actors.session import Session
from aurexd.actors.trio_actor import TrioActor, start_actor
from aurexd.clock import SystemClock
from aurexd.config.model import Config, Limits
from aurexd.protocol.codec import JSON, MSGPACK, compressed
from aurexd.protocol.deflate import WINDOWS
from aurexd.server import streaming
from aurexd.server.admission import Admission
from aurexd.server.credentials import Credentials
from aurexd.server.door import Door
from aurexd.server.names import Hosts
from aurexd.server.port import Port, bind
from aurexd.server.websocket import WebSocketServer
from aurexd.settings import Settings

LIMITS = Limits(
    max_connections_per_ip=0,
    max_attempts_per_second=0,
    max_control_frames_per_second=100_000,
    # The suite's largest message has 16 MiB. It waits as a whole, and another one with it.
    max_message_bytes=16_777_216,
    send_queue_bytes=67_108_864,
)

BINARY = {JSON: MSGPACK, **{compressed(JSON, bits): compressed(MSGPACK, bits) for bits in WINDOWS}}
"""An encoding in text frames → the one in binary frames that is compressed in the same way."""


class EchoHub(TrioActor):
    """Takes every session in, and says nothing."""

    async def on_receive(self, message: object) -> object:
        """Let the session begin."""
        if isinstance(message, SessionOpened):
            message.session.greeted.set()
        return None


class EchoSession(Session):
    """Says what it was told."""

    __slots__ = ()

    async def receive(self, payload: str | bytes) -> None:
        """Send it back as the daemon sends an answer."""
        if self.closing is not None:
            return
        if isinstance(payload, str):
            self.send_frame(self.encoding.frame_payload(payload.encode()))
        else:
            self.send_frame(BINARY[self.encoding].frame_payload(payload))


async def hang_up(*_: object) -> None:
    """What becomes of who asks for something else."""


async def main() -> None:
    """Serve until interrupted; the first line of output is the port."""
    async with trio.open_nursery() as nursery:
        settings, clock = Settings(Config(limits=LIMITS)), SystemClock()
        credentials = Credentials(settings, clock)
        hub = await start_actor(nursery, EchoHub())
        sessions = streaming.Streaming(
            hub=hub,
            alerts=hub,
            credentials=credentials,
            settings=settings,
            clock=clock,
        )
        door = Door(settings)
        port = Port(
            bind("127.0.0.1", 0),
            tls=None,
            settings=settings,
            door=door,
            websocket=WebSocketServer(
                sessions, Admission(settings, credentials, door, Hosts(settings))
            ).serve,
            events=hang_up,
            http=hang_up,
        )
        await nursery.start(port.serve)
        print(port.port, flush=True)


if __name__ == "__main__":
    # Nobody reads standard output after the port: a line for each session would fill the pipe, and then stop it all.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with patch.object(streaming, "Session", EchoSession):
        trio.run(main)
