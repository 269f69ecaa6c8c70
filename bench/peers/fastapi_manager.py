"""The peer: a ConnectionManager as in FastAPI's tutorial, under uvicorn.

In bench/: `python -m peers.fastapi_manager PORT [CERTIFICATE]`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from peers.price import message, orders


class ConnectionManager:
    """The tutorial's."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        for connection in self.active_connections:
            await connection.send_text(message)


manager = ConnectionManager()


async def publish() -> None:
    loop, asked, number = asyncio.get_running_loop(), orders(), 0
    while (order := await asyncio.to_thread(next, asked, None)) is not None:
        rate, count = order
        began = loop.time()
        for due in range(count):
            await asyncio.sleep(began + due / rate - loop.time())
            number += 1
            await manager.broadcast(message(number))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    publishing = asyncio.create_task(publish())
    yield
    publishing.cancel()


app = FastAPI(lifespan=lifespan)


@app.websocket("/")
async def stream(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(websocket)


certificate = sys.argv[2] if len(sys.argv) > 2 else None
uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    log_level="error",
    backlog=4096,
    ssl_certfile=certificate,
    ssl_keyfile=certificate,
)
