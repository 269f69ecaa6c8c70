"""The peer: the websockets library's broadcast of a message like ours, ten times a second. Usage: PORT"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(port: int) -> None:
    clients: set[ServerConnection] = set()

    async def handle(client: ServerConnection) -> None:
        clients.add(client)
        try:
            async for _ in client:
                pass
        finally:
            clients.discard(client)

    async with serve(handle, "127.0.0.1", port, compression=None, backlog=4096):
        count = 0
        while True:
            count += 1
            data = {
                "symbol": "XAUUSD",
                "close": 2000 + count / 100,
                "change": None,
                "timestamp": "2025-10-27T12:00:00Z",
            }
            message = {
                "type": "price_update",
                "data": data,
                "timestamp": "2025-10-27T12:00:00Z",
                "update_count": count,
            }
            broadcast(clients, json.dumps(message))
            await asyncio.sleep(0.1)


asyncio.run(main(int(sys.argv[1])))
