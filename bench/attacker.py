"""One attack on a server on this machine, bounded in count and time; `attacks.py` runs it and measures the server.

    python bench/attacker.py KIND PORT SECONDS [TOKEN]

prints `{"events": …, "seconds": …, "outcomes": {…}}`: what was done how often, and how the connections ended.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from harness import PATH, address

HEAD = (
    f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
)
TCP_REPAIR = 19
CROWD = 500
"""Connections of the attacks that hold many: five from each of a hundred addresses."""


class Attack:
    """The counters that all tasks of one attack share."""

    def __init__(self, port: int, seconds: float, token: str) -> None:
        self.port = port
        self.token = token
        self.deadline = trio.current_time() + seconds
        self.events = 0
        self.outcomes: Counter[str] = Counter()
        self._early: dict[trio.SocketStream, bytes] = {}
        """What came together with the answer to the handshake."""

    @property
    def over(self) -> bool:
        return trio.current_time() >= self.deadline

    async def connect(self, source: str) -> trio.SocketStream | None:
        sock = trio.socket.socket()
        try:
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", self.port))
        except OSError as error:
            sock.close()
            self.outcomes[error.strerror or "refused"] += 1
            return None
        return trio.SocketStream(sock)

    async def upgrade(self, source: str, *headers: str) -> trio.SocketStream | None:
        stream = await self.connect(source)
        if stream is None:
            return None
        try:
            await stream.send_all((HEAD + "".join(f"{h}\r\n" for h in headers) + "\r\n").encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                data = await stream.receive_some(4096)
                answer += data
                if not data:
                    break
        except trio.BrokenResourceError:
            answer = b""
        if b"\r\n\r\n" not in answer:
            self.outcomes["closed in the handshake"] += 1
            await trio.aclose_forcefully(stream)
            return None
        if not answer.startswith(b"HTTP/1.1 101"):
            self.outcomes[f"HTTP {answer[9:12].decode()}"] += 1
        self._early[stream] = answer.partition(b"\r\n\r\n")[2]
        return stream

    async def ending(self, stream: trio.SocketStream, until: float | None = None) -> None:
        """Read, and note how the server ends it, or says that it will."""
        tail = self._early.pop(stream, b"")
        with trio.move_on_at(until or self.deadline), suppress(trio.BrokenResourceError):
            while close_code(tail) == "closed" and (data := await stream.receive_some(65536)):
                tail = (tail + bytes(data))[-256:]
            self.outcomes[close_code(tail)] += 1
            return
        self.outcomes["still open" if self.over or until else "reset"] += 1


def close_code(tail: bytes) -> str:
    at = tail.rfind(b'{"code":"')
    return tail[at + 9 :].split(b'"')[0].decode() if at >= 0 else "closed"


def frame(opcode: int, payload: bytes, *, size: int | None = None) -> bytes:
    """A client's frame, masked with zeros; `size` may promise more than there is."""
    length = len(payload) if size is None else size
    if length < 126:
        head = struct.pack("!BB", opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", opcode, 0x80 | 127, length)
    return head + bytes(4) + payload


# --- the attacks ---


async def each_of_a_crowd(attack: Attack, one: Callable[[str], Awaitable[None]], count: int = CROWD) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            attack.events += 1
            nursery.start_soon(one, address(10, number // 5))
            await trio.sleep(0.001)


async def slow_heads(attack: Attack) -> None:
    """A request's head, one byte a second."""

    async def one(source: str) -> None:
        stream = await attack.connect(source)
        if stream is not None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for byte in HEAD.encode():
                    if attack.over:
                        break
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)
            await attack.ending(stream)
            await trio.aclose_forcefully(stream)

    await each_of_a_crowd(attack, one)


async def slow_frames(attack: Attack) -> None:
    """One large message, one byte a second."""

    async def one(source: str) -> None:
        stream = await attack.upgrade(source)
        if stream is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attack.ending, stream)
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    for byte in frame(0x81, b"x" * 16000):
                        if attack.over:
                            break
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(1)
            await trio.aclose_forcefully(stream)

    await each_of_a_crowd(attack, one)


async def never_pong(attack: Attack) -> None:
    """Sessions that read everything and answer no ping."""

    async def one(source: str) -> None:
        stream = await attack.upgrade(source)
        if stream is not None:
            await attack.ending(stream)
            await trio.aclose_forcefully(stream)

    await each_of_a_crowd(attack, one)


async def zero_window(attack: Attack) -> None:
    """Sessions that never read."""

    async def one(source: str) -> None:
        stream = await attack.upgrade(source)
        if stream is not None:
            await trio.sleep_until(attack.deadline - 1)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            await attack.ending(stream)
            await trio.aclose_forcefully(stream)

    await each_of_a_crowd(attack, one)


async def half_open(attack: Attack) -> None:
    """Sessions whose client vanishes without a word (TCP repair mode closes without FIN or RST)."""

    async def one(source: str) -> None:
        stream = await attack.upgrade(source)
        if stream is not None:
            await trio.sleep(0.5)
            stream.socket.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            await stream.aclose()
            attack.outcomes["vanished"] += 1

    await each_of_a_crowd(attack, one)
    await trio.sleep_until(attack.deadline)


async def flood(attack: Attack, one: Callable[[int], Awaitable[None]], at_once: int) -> None:
    async def again_and_again(lane: int) -> None:
        number = lane
        while not attack.over:
            attack.events += 1
            await one(number)
            number += at_once

    async with trio.open_nursery() as nursery:
        for lane in range(at_once):
            nursery.start_soon(again_and_again, lane)


async def flood_from_one_address(attack: Attack) -> None:
    """Connections, held open, from one address, as fast as they come."""

    async def one(_number: int) -> None:
        stream = await attack.upgrade(address(11, 0))
        if stream is not None:
            await attack.ending(stream, min(attack.deadline, trio.current_time() + 2))
            await trio.aclose_forcefully(stream)

    await flood(attack, one, 50)


async def flood_from_many_addresses(attack: Attack) -> None:
    """Connections from ever new addresses, closed again at once."""

    async def one(number: int) -> None:
        stream = await attack.upgrade(address(12 + number // 50_000 % 80, number % 50_000))
        if stream is not None:
            await trio.aclose_forcefully(stream)
            attack.outcomes["served"] += 1

    await flood(attack, one, 50)


async def handshakes_cut_off(attack: Attack) -> None:
    """TLS handshakes that are begun (one ClientHello) and never finished, from many addresses."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def one(number: int) -> None:
        stream = await attack.connect(address(13, number % 50_000))
        if stream is not None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with suppress(ssl.SSLWantReadError):
                context.wrap_bio(incoming, outgoing).do_handshake()
            with suppress(trio.BrokenResourceError):
                await stream.send_all(outgoing.read())
                with trio.move_on_after(1):
                    await stream.receive_some(65536)
            await trio.aclose_forcefully(stream)

    await flood(attack, one, 50)


async def many_messages(attack: Attack, data: bytes) -> None:
    async def one(source: str) -> None:
        stream = await attack.upgrade(source)
        if stream is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attack.ending, stream)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while not attack.over:
                    await stream.send_all(data * 20)
                    attack.events += 20
                    await trio.sleep(0.02)
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, address(14, number // 5))


async def message_flood(attack: Attack) -> None:
    """Fifty sessions that send a thousand messages a second each."""
    await many_messages(attack, frame(0x81, b'{"type":"ping","id":1}'))


async def control_flood(attack: Attack) -> None:
    """Fifty sessions that send a thousand WebSocket pings a second each."""
    await many_messages(attack, frame(0x89, b"x" * 125))


async def over_and_over(attack: Attack, data: bytes, *headers: str) -> None:
    async def one(number: int) -> None:
        stream = await attack.upgrade(address(15, number % 50_000), *headers)
        if stream is not None:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            await attack.ending(stream, trio.current_time() + 5)
            await trio.aclose_forcefully(stream)

    await flood(attack, one, 100)


async def oversized(attack: Attack) -> None:
    """A frame that promises a gigabyte, and sends 32 KB of it."""
    await over_and_over(attack, frame(0x81, b"x" * 32768, size=1 << 30))


async def compressed_bomb(attack: Attack) -> None:
    """16 KB that inflate to 16 MB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(b" " * (16 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    await over_and_over(
        attack,
        frame(0xC1, bomb[:-4]),
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover",
    )


async def wrong_origin(attack: Attack) -> None:
    """Pages of another site."""
    await over_and_over(attack, b"", "Origin: https://evil.example")


async def unauthenticated(attack: Attack) -> None:
    """Ten thousand connections that never show a token."""

    async def one(number: int) -> None:
        stream = await attack.upgrade(address(16, number // 5))
        if stream is not None:
            await attack.ending(stream)
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for number in range(10_000):
            if attack.over:
                break
            attack.events += 1
            nursery.start_soon(one, number)
            if number % 10 == 0:
                await trio.sleep(0.005)


async def forged_token(attack: Attack) -> None:
    """A real token with another signature, another in every connection."""
    head, _, _ = attack.token.rpartition(".")

    async def one(number: int) -> None:
        forged = f"{head}.{base64.urlsafe_b64encode(os.urandom(64)).decode().rstrip('=')}"
        message = json.dumps({"type": "auth", "data": {"token": forged}}).encode()
        stream = await attack.upgrade(address(17, number % 50_000), "Sec-WebSocket-Protocol: aurex.v1.json")
        if stream is not None:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(frame(0x81, message))
            await attack.ending(stream, trio.current_time() + 5)
            await trio.aclose_forcefully(stream)

    await flood(attack, one, 20)


async def expired_token(attack: Attack) -> None:
    """A token that was good once, in the handshake."""
    await over_and_over(attack, b"", f"Authorization: Bearer {attack.token}")


ATTACKS = {
    attack.__name__: attack
    for attack in (
        slow_heads,
        slow_frames,
        never_pong,
        zero_window,
        half_open,
        flood_from_one_address,
        flood_from_many_addresses,
        handshakes_cut_off,
        message_flood,
        control_flood,
        oversized,
        compressed_bomb,
        wrong_origin,
        unauthenticated,
        forged_token,
        expired_token,
    )
}


async def run(kind: str, port: int, seconds: float, token: str) -> dict[str, object]:
    attack = Attack(port, seconds, token)
    began = time.monotonic()
    with trio.move_on_after(seconds + 10):
        await ATTACKS[kind](attack)
    return {
        "events": attack.events,
        "seconds": round(time.monotonic() - began, 1),
        "outcomes": dict(attack.outcomes.most_common(6)),
    }


if __name__ == "__main__":
    _, name, number, duration, *rest = sys.argv
    print(json.dumps(trio.run(run, name, int(number), float(duration), rest[0] if rest else "")))
