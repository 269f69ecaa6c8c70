"""The daemon as its users run it: a process of its own, with a configuration file, over real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Self

import httpx
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

STREAM = "/api/v1/ws/stream"

START_S = 30.0
"""A shared machine may be slow; a daemon that is not there by then never will be."""


HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="aurexd.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does between fork and exec, and systemd-socket-activate only at the first connection."""


class Running:
    """One run of `aurexd run`; ended by `stop` or `kill`, at the latest when the context ends."""

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        environ: dict[str, str] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """`text`: the configuration but for `[storage]`, with `port = 0` under `[listen]`. `listener` is passed to the
        daemon as systemd passes that of `aurexd.socket`."""
        self.folder = folder
        self.database = folder / "aurexd.db"
        self.log_file = folder / "log"
        self._config = folder / "aurexd.toml"
        self.configure(text)
        self._environ = {**os.environ, **(environ or {})}
        self._listener = listener
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Start (again), and wait until it serves."""
        seen = len(self.events("daemon_started"))
        command = [sys.executable, "-m", "aurexd", "run", "--config", str(self._config)]
        passed: tuple[int, ...] = ()
        if self._listener is not None:
            passed = (self._listener.fileno(),)
            command = [sys.executable, "-c", HAND_OVER, str(passed[0]), *command]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, env=self._environ, pass_fds=passed)
        self.wait_for(lambda: len(self.events("daemon_started")) > seen)
        self.port = self.events("daemon_started")[-1]["port"]

    def configure(self, text: str) -> None:
        """Write another configuration; it counts from the next start or reload on."""
        self._config.write_text(f'[storage]\nurl = "sqlite:///{self.database}"\n{text}')

    def reload(self, text: str) -> None:
        """Write another configuration, SIGHUP, and wait until the daemon took it over or refused it."""
        self.configure(text)
        judged = self._judged()
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: self._judged() > judged)

    def _judged(self) -> int:
        return len(self.events("config_reloaded")) + len(self.events("config_refused"))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Ask until it holds, as somebody at a terminal would."""
        deadline = time.monotonic() + START_S
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, f"the daemon ended: {self.log_file.read_text()[-2000:]}"
            assert time.monotonic() < deadline, self.log_file.read_text()[-2000:]
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON answer of a GET."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", params=query, timeout=10)
        return answer.json()

    def text(self, path: str) -> str:
        """The same, where it is no JSON."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10).text

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        if not self.log_file.exists():
            return []
        lines = self.log_file.read_text().splitlines()
        return [
            entry for line in lines if f'"{name}"' in line and (entry := json.loads(line))["event"] == name
        ]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query of the database gives."""
        with closing(sqlite3.connect(self.database)) as database:
            return database.execute(sql).fetchall()


@asynccontextmanager
async def open_stream(
    port: int, *, receive_buffer_bytes: int | None = None, subprotocol: str | None = None, token: str = ""
) -> AsyncIterator[WebSocketConnection]:
    """A client. trio-websocket's own `open_websocket` leaks the socket when the server closes."""
    sock = trio.socket.socket()
    if receive_buffer_bytes is not None:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer_bytes)
    await sock.connect(("127.0.0.1", port))
    async with trio.SocketStream(sock) as tcp, trio.open_nursery() as nursery:
        offered = [*([subprotocol] if subprotocol else []), *([f"aurex.token.{token}"] if token else [])]
        yield await wrap_client_stream(
            nursery, tcp, f"127.0.0.1:{port}", STREAM, subprotocols=offered or None
        )
        nursery.cancel_scope.cancel()
