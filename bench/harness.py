"""What the benchmarks share: a server process, a crowd of WebSocket clients, and the CPU time a process used."""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

PATH = "/api/v1/ws/stream"

__all__ = ["Crowd", "Delays", "address", "aurexd", "cpu_s", "free_port", "process", "rss_kb", "wait_port"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_port(port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, to the nanosecond: its clock, clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@contextmanager
def process(command: list[str], port: int, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on `port`; stopped at the end."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    try:
        wait_port(port)
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


TEXT, PING, PONG = 0x1, 0x9, 0xA
"""Opcodes of frames: RFC 6455, section 5.2."""

UNLIMITED = "".join(
    f"{limit} = 0\n"
    for limit in (
        "max_connections_per_ip",
        "max_attempts_per_second",
        "max_handshakes_per_ip",
        "max_requests_per_second",
    )
)
"""All clients come from this machine."""


def aurexd(folder: Path, port: int, text: str, limits: str = UNLIMITED) -> list[str]:
    """The command that runs aurexd on `port` with the rest of the configuration as `text`."""
    file = folder / "aurexd.toml"
    file.write_text(
        f'[listen]\nport = {port}\n[limits]\n{limits}[log]\nlevel = "warning"\n'
        f'[storage]\nurl = "sqlite:///{folder}/aurexd.db"\n{text}'
    )
    return [sys.executable, "-m", "aurexd", "run", "--config", str(file)]


def address(network: int, number: int) -> str:
    """One of this machine's own addresses: 127.NETWORK.x.y."""
    return f"127.{network}.{number // 250}.{number % 250 + 1}"


def frames_of(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of the whole frames at the front of `buffer`, which they leave; a server's frames are
    unmasked and whole."""
    while len(buffer) >= 4:
        start, size = 2, buffer[1]
        if size == 126:
            start, size = 4, int.from_bytes(buffer[2:4], "big")
        if len(buffer) < start + size:
            return
        yield buffer[0] & 0x0F, bytes(buffer[start : start + size])
        del buffer[: start + size]


class Delays:
    """Milliseconds from a price's publication to its arrival at each client."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def note(self, _client: int, message: dict[str, Any]) -> None:
        if message["type"] == "price_update":
            published = datetime.fromisoformat(message["timestamp"]).timestamp()
            self.ms.append((time.time() - published) * 1000)

    def quantile(self, percent: int) -> float:
        return statistics.quantiles(self.ms, n=100)[percent - 1] if len(self.ms) > 100 else float("nan")


class Crowd:
    """Many WebSocket clients in one thread, reading text frames."""

    def __init__(
        self,
        port: int,
        count: int,
        path: str = PATH,
        *,
        network: int = 0,
        token: str = "",
        tls: bool = False,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        """`network`: connect from the addresses 127.NETWORK.x.y, five clients each."""
        self._selector = selectors.DefaultSelector()
        self._receive_buffer_bytes = receive_buffer_bytes
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.create_default_context()
            self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._head = f"Authorization: Bearer {token}\r\n" if token else ""
        self.clients = [self._connect(port, path, number, network) for number in range(count)]

    def _connect(self, port: int, path: str, number: int, network: int) -> socket.socket:
        client = socket.socket()
        if self._receive_buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        if network:
            client.bind((address(network, number // 5), 0))
        client.connect(("127.0.0.1", port))
        if self._tls is not None:
            client = self._tls.wrap_socket(client)
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{self._head}\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = client.recv(4096)
            if not data:
                raise ConnectionError(f"handshake refused: {answer[:60]!r}")
            answer += data
        client.setblocking(False)
        buffer = bytearray()
        self._selector.register(client, selectors.EVENT_READ, (number, buffer))
        rest = answer.split(b"\r\n\r\n", 1)[1]
        buffer += rest
        return client

    def read(
        self, seconds: float, on_message: Callable[[int, dict[str, Any]], None], sample: int = 1
    ) -> None:
        """Hand every message to `on_message(client, message)` for that long; of every `sample`th client only: the
        others' are thrown away, pings too."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                number, buffer = key.data
                assert isinstance(key.fileobj, socket.socket)
                try:
                    data = key.fileobj.recv(262144)
                except ssl.SSLWantReadError:
                    continue
                if not data:
                    self._selector.unregister(key.fileobj)
                if number % sample:
                    continue
                buffer += data
                for opcode, payload in frames_of(buffer):
                    if opcode == PING:
                        key.fileobj.send(struct.pack("!BB4x", 0x80 | PONG, 0x80 | len(payload)) + payload)
                    elif opcode == TEXT:
                        on_message(number, json.loads(payload))

    def count(self, seconds: float, needle: bytes) -> int:
        """How often `needle` arrives at all clients together: cheaper than decoding."""
        deadline = time.monotonic() + seconds
        total = 0
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                total += key.fileobj.recv(262144).count(needle)
        return total

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self._selector.close()
