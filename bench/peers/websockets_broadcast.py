"""The peer: websockets' broadcast. In bench/: `python -m peers.websockets_broadcast PORT [CERTIFICATE]`."""

from __future__ import annotations

import asyncio
import ssl
import sys

from peers.price import message, orders
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(port: int, certificate: str | None) -> None:
    clients: set[ServerConnection] = set()

    async def handle(client: ServerConnection) -> None:
        clients.add(client)
        try:
            async for _ in client:
                pass
        finally:
            clients.discard(client)

    tls: ssl.SSLContext | None = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    loop, asked, number = asyncio.get_running_loop(), orders(), 0
    async with serve(handle, "127.0.0.1", port, compression=None, ssl=tls, backlog=4096):
        while (order := await asyncio.to_thread(next, asked, None)) is not None:
            rate, count = order
            began = loop.time()
            for due in range(count):
                await asyncio.sleep(began + due / rate - loop.time())
                number += 1
                broadcast(clients, message(number))


asyncio.run(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
