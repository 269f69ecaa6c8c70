"""Reference clients: many TLS WebSocket clients in one process, each as docs/protocol.md wants a client to be.

Exponential backoff with full jitter from 1 s to 30 s, close codes and `retry_after_ms` obeyed, one number per
channel, `resume` on return. Written for numbers, not for beauty: epoll, non-blocking sockets, and no more of
WebSocket than a server's unmasked frames.
"""

from __future__ import annotations

import base64
import errno
import heapq
import json
import os
import random
import select
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

BASE_S, CAP_S = 1.0, 30.0
"""The reference backoff: full jitter over 1 s, 2 s, 4 s … 30 s."""

ATTEMPT_S = 20.0
"""An attempt that has not led to `welcome` by then is given up."""

SILENCE_S = 15.0
"""Nothing for three times the default `silence_s`: the line is dead."""

PATH = "/api/v1/ws/stream"


class Data(msgspec.Struct):
    symbol: str = ""
    timestamp: str = ""
    epoch: str = ""
    retry_after_ms: int = 0
    channels: dict[str, dict[str, Any]] = {}


class Message(msgspec.Struct):
    type: str
    data: Data
    update_count: int = 0
    conflated: int = 1


decode = msgspec.json.Decoder(Message).decode


def should_reconnect(code: int) -> bool:
    """As the protocol says, for codes known or not."""
    return code not in {1002, 1003, 1007, 1009} and not 4500 <= code <= 4999


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame; masked with zeros, which the standard allows nobody and no server can tell."""
    size = len(payload)
    head = (
        bytes([0x80 | opcode, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    )
    return head + bytes(4) + payload


def frames_of(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """The whole frames at the front of `buffer`, which they leave."""
    while len(buffer) >= 2:
        start, size = 2, buffer[1]
        if size == 126:
            start, size = 4, int.from_bytes(buffer[2:4], "big")
        elif size == 127:
            start, size = 10, int.from_bytes(buffer[2:10], "big")
        if len(buffer) < start + size:
            return
        yield buffer[0] & 15, bytes(buffer[start : start + size])
        del buffer[: start + size]


class Return(msgspec.Struct):
    """One way back: from the line's end until the client knows again what is now. Monotonic time."""

    lost: float
    welcome: float
    current: float
    attempts: int
    missed: int
    """Updates between where the client was and where it is."""
    recovered: bool
    same_epoch: bool


class Tally(msgspec.Struct):
    """What all clients of a process saw."""

    returns: list[Return] = []
    connects: list[float] = []
    """Seconds from the first byte sent to being current, of each attempt that got there."""
    delays: list[tuple[float, float]] = []
    """(monotonic, seconds from when a tick was due to when the client had it); only if asked for."""
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    """Attempts that led nowhere, by why."""
    closes: Counter[str] = msgspec.field(default_factory=Counter)
    """Ends of sessions, by close code."""
    cuts: Counter[str] = msgspec.field(default_factory=Counter)
    """Ends that we made ourselves, by where."""
    problems: list[str] = []
    """What must never happen: a hole, a repeat, a reason not to come back."""
    cpu_s: float = 0.0


class Client:
    """One client, from attempt to attempt."""

    __slots__ = (
        "attempts",
        "buffer",
        "counts",
        "current",
        "cut",
        "epoch",
        "failures",
        "heard",
        "lost",
        "number",
        "pending",
        "retry_s",
        "returning",
        "sock",
        "started",
        "state",
        "target",
        "ticket",
        "was",
        "welcome",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = "idle"
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.counts: dict[str, int] = {}
        self.epoch = ""
        self.was: tuple[str, dict[str, int]] = ("", {})
        self.target: dict[str, int] = {}
        self.pending: set[str] = set()
        """Channels whose snapshot is still to come."""
        self.returning: Return | None = None
        self.failures = 0
        self.attempts = 0
        self.lost = 0.0
        self.started = 0.0
        self.welcome = 0.0
        self.heard = 0.0
        self.retry_s: float | None = None
        self.current = False
        self.cut = ""
        self.ticket = 0
        """Tells a timer of this attempt from one of an earlier."""


class Crowd:
    """The clients of one process."""

    def __init__(
        self,
        port: int,
        channels: list[str],
        *,
        context: ssl.SSLContext | None,
        seed: int,
        eager: bool = False,
        timed: bool = False,
        cut: Callable[[random.Random], str] | None = None,
    ) -> None:
        """`eager`: try again every 50 ms, unless told when to come. `timed`: note each tick's delay. `cut`: where to
        cut an attempt, if at all."""
        self.port = port
        self.channels = channels
        self.context = context
        self.tally = Tally()
        self.clients: list[Client] = []
        self.current = 0
        self.started = 0
        self._random = random.Random(seed)
        self._eager = eager
        self._timed = timed
        self._cut = cut
        self._poll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._timers: list[tuple[float, int, int, Client, str]] = []
        self._serial = 0
        self._silent: list[socket.socket] = []
        self._wall = time.time() - time.monotonic()

    def add(self, count: int, over_s: float) -> None:
        """So many more clients, spread over some time."""
        now = time.monotonic()
        for number in range(count):
            client = Client(len(self.clients))
            client.lost = now
            self.clients.append(client)
            self._at(now + over_s * number / count, client, "connect")

    def run(self, seconds: float) -> None:
        """Live for that long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while self._timers and self._timers[0][0] <= now:
                _, _, ticket, client, what = heapq.heappop(self._timers)
                if ticket == client.ticket:
                    getattr(self, f"_{what}")(client)
            wait = min(end, self._timers[0][0] if self._timers else end) - time.monotonic()
            for fd, _ in self._poll.poll(max(0.0, wait), 256):
                if fd in self._by_fd:
                    self._ready(self._by_fd[fd])

    def close(self) -> None:
        for client in self.clients:
            self._drop(client)
        for sock in self._silent:
            sock.close()
        self._poll.close()

    # --- an attempt ---

    def _at(self, when: float, client: Client, what: str) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, client.ticket, client, what))

    def _connect(self, client: Client) -> None:
        client.attempts += 1
        client.started = client.heard = time.monotonic()
        client.buffer = bytearray()
        client.retry_s = None
        client.cut = self._cut(self._random) if self._cut else ""
        self.started += 1
        sock = client.sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.state = "connecting"
        self._by_fd[sock.fileno()] = client
        error = sock.connect_ex(("127.0.0.1", self.port))
        if error not in {0, errno.EINPROGRESS}:
            self._end(client, os.strerror(error))
            return
        self._poll.register(sock.fileno(), select.EPOLLOUT)
        self._at(client.started + ATTEMPT_S, client, "give_up")

    def _give_up(self, client: Client) -> None:
        if client.state != "open":
            self._end(client, f"gave up while {client.state}")

    def _ready(self, client: Client) -> None:
        try:
            match client.state:
                case "connecting":
                    self._connected(client)
                case "handshaking":
                    assert isinstance(client.sock, ssl.SSLSocket)
                    self._handshake(client, client.sock)
                case _:
                    self._read(client)
        except (ssl.SSLWantReadError, BlockingIOError):
            self._wait(client, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._wait(client, select.EPOLLOUT)
        except OSError as error:
            why = getattr(error, "reason", None) or error.strerror or type(error).__name__
            self._end(client, f"{client.state}: {why}")

    def _wait(self, client: Client, events: int) -> None:
        if client.sock is not None:
            self._poll.modify(client.sock.fileno(), events)

    def _connected(self, client: Client) -> None:
        sock = client.sock
        assert sock is not None
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._end(client, os.strerror(error))
            return
        if client.cut == "connected":
            self._make_cut(client)
            return
        if self.context is not None:
            wrapped = self.context.wrap_socket(
                sock, server_hostname="localhost", do_handshake_on_connect=False
            )
            client.sock = wrapped
            client.state = "handshaking"
            self._handshake(client, wrapped)
        else:
            self._upgrade(client)

    def _handshake(self, client: Client, sock: ssl.SSLSocket) -> None:
        if client.cut == "handshaking" and client.attempts % 2:
            self._make_cut(client)
            return
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            if client.cut == "handshaking":
                self._make_cut(client)
                return
            raise
        self._upgrade(client)

    def _upgrade(self, client: Client) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {PATH} HTTP/1.1\r\nHost: localhost:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: aurex.v1.json\r\n\r\n"
        ).encode()
        client.state = "upgrading"
        assert client.sock is not None
        if client.cut == "upgrading":
            client.sock.send(request[: self._random.randrange(len(request))])
            self._make_cut(client)
            return
        client.sock.send(request)
        self._wait(client, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        while client.sock is not None:
            data = client.sock.recv(65536)  # raises what ends the loop
            if not data:
                self._end(client, f"{client.state}: end of stream")
                return
            client.heard = time.monotonic()
            client.buffer += data
            if client.state == "upgrading":
                head, found, rest = bytes(client.buffer).partition(b"\r\n\r\n")
                if not found:
                    continue
                if b" 101 " not in head[:16]:
                    self._end(client, f"refused: {head[:12].decode('latin-1')}")
                    return
                client.state = "upgraded"
                client.buffer = bytearray(rest)
                if client.cut == "upgraded":
                    self._make_cut(client)
                    return
            for opcode, payload in frames_of(client.buffer):
                self._hear(client, opcode, payload)
                if client.state == "idle":  # that was the end
                    return

    # --- what the server says ---

    def _hear(self, client: Client, opcode: int, payload: bytes) -> None:
        assert client.sock is not None
        if opcode == 9:
            client.sock.send(frame(10, payload))
        elif opcode == 8:
            self._closed(client, payload)
        elif opcode == 1:
            self._take(client, decode(payload))

    def _closed(self, client: Client, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        if len(payload) > 2:
            retry_ms = json.loads(payload[2:]).get("retry_after_ms")
            client.retry_s = None if retry_ms is None else retry_ms / 1000
        assert client.sock is not None
        client.sock.send(frame(8, payload[:2]))
        if not should_reconnect(code):
            self.tally.problems.append(f"client {client.number} was told not to come back: {code}")
        self._end(client, f"closed with {code}")

    def _take(self, client: Client, message: Message) -> None:
        match message.type:
            case "welcome":
                client.state = "open"
                client.welcome = time.monotonic()
                client.was = (client.epoch, dict(client.counts))
                client.epoch = message.data.epoch
                self._subscribe(client)
            case "subscribed":
                self._subscribed(client, message.data)
            case "price_update" | "status":
                self._update(client, message)
            case "error":
                self.tally.problems.append(f"client {client.number}: error")

    def _subscribe(self, client: Client) -> None:
        epoch, counts = client.was
        resume = {channel: {"epoch": epoch, "count": count} for channel, count in counts.items()}
        data: dict[str, Any] = {"channels": self.channels}
        if resume:
            data["resume"] = resume
        assert client.sock is not None
        client.sock.send(frame(1, json.dumps({"type": "subscribe", "id": 1, "data": data}).encode()))

    def _subscribed(self, client: Client, data: Data) -> None:
        epoch, counts = client.was
        client.target = {channel: position["count"] for channel, position in data.channels.items()}
        recovered = all(position["recovered"] for position in data.channels.values())
        missed = sum(count - counts.get(channel, 0) for channel, count in client.target.items())
        client.counts = {
            channel: counts[channel] if position["recovered"] else position["count"]
            for channel, position in data.channels.items()
        }
        client.pending = {
            channel
            for channel, position in data.channels.items()
            if position["count"] and not position["recovered"]
        }
        client.returning = None
        if epoch:
            client.returning = Return(
                client.lost, client.welcome, 0.0, client.attempts, missed, recovered, epoch == client.epoch
            )
            self.tally.returns.append(client.returning)
        self._look(client)
        if self._cut is not None:  # those that are not cut leave in order, so that others come
            ending = "make_cut" if client.cut == "open" else "leave"
            self._at(time.monotonic() + self._random.random() * 5.0, client, ending)

    def _update(self, client: Client, message: Message) -> None:
        kind = "price" if message.type == "price_update" else "status"
        channel = f"{kind}:{message.data.symbol}"
        known, count = client.counts[channel], message.update_count
        if channel in client.pending:
            if count != known:
                self.tally.problems.append(f"client {client.number}: {channel} {count} before the snapshot")
            client.pending.discard(channel)
        elif count != known:
            if count - known != message.conflated:
                self.tally.problems.append(
                    f"client {client.number}: {channel} from {known} to {count} with {message.conflated}"
                )
            client.counts[channel] = count
        else:
            self.tally.problems.append(f"client {client.number}: {channel} {count} twice")
        if not client.current:
            self._look(client)
        elif self._timed and kind == "price":
            now = time.monotonic()
            stamp = message.data.timestamp
            second = _second(stamp[:19])
            part = float(f"0{stamp[19:-1]}") if len(stamp) > 20 else 0.0
            self.tally.delays.append((now, now + self._wall - second - part))

    def _look(self, client: Client) -> None:
        """Is it current? It is when it has all that there was when it subscribed."""
        if client.pending or any(client.counts[channel] < count for channel, count in client.target.items()):
            return
        now = time.monotonic()
        client.current = True
        self.current += 1
        self.tally.connects.append(now - client.started)
        if client.returning is not None:
            client.returning.current = now
        client.failures = client.attempts = 0
        self._at(now + SILENCE_S, client, "check_silence")

    def _check_silence(self, client: Client) -> None:
        silent = time.monotonic() - client.heard
        if silent >= SILENCE_S:
            self._end(client, "silent")
        else:
            self._at(client.heard + SILENCE_S, client, "check_silence")

    # --- the end of an attempt ---

    def _make_cut(self, client: Client) -> None:
        """Cut the line ourselves: by a reset, by an end, or by falling silent, which the server has to find out."""
        assert client.sock is not None
        kind = self._random.choice(["reset", "end", "silence"])
        if kind == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "silence":
            self._poll.unregister(client.sock.fileno())
            del self._by_fd[client.sock.fileno()]
            self._silent.append(client.sock)
            client.sock = None
        self.tally.cuts[f"{client.state} ({kind})"] += 1
        self._end(client, "")

    def _leave(self, client: Client) -> None:
        assert client.sock is not None
        client.sock.send(frame(8, (1000).to_bytes(2, "big")))
        self._end(client, "left")

    def _end(self, client: Client, why: str) -> None:
        """The line is gone; come back when it is time."""
        now = time.monotonic()
        if client.current:
            client.lost = now
            if why:
                self.tally.closes[why.removeprefix("open: ")] += 1
        elif why:
            self.tally.failures[why] += 1
        self._drop(client)
        client.failures += 1
        wait_s = 0.05 if self._eager and client.retry_s is None else client.retry_s
        if wait_s is None:
            wait_s = self._random.random() * min(CAP_S, BASE_S * 2.0 ** (client.failures - 1))
        else:
            client.failures = 0
        self._at(now + wait_s, client, "connect")

    def _drop(self, client: Client) -> None:
        client.ticket += 1
        client.state = "idle"
        if client.current:
            client.current = False
            self.current -= 1
        sock, client.sock = client.sock, None
        if sock is not None:
            self._by_fd.pop(sock.fileno(), None)
            sock.close()


@lru_cache(16)
def _second(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()
