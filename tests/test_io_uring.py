"""What one system call writes to many sockets is what a loop of `send` would have written.

Where the kernel has no io_uring for us there is nothing to be tested but that it is said; `test_audience.py` holds the
same promises for both ways.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import socket
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurexd import io_uring
from aurexd.io_uring import ENTRIES, NO_SOCKET, SendRing, Targets


class Pairs:
    """Connected sockets over loopback: what was written to each, and what arrived."""

    def __init__(self, count: int) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(4096)
            self.ours, self.theirs = [], []
            for _ in range(count):
                theirs = socket.create_connection(listener.getsockname())
                ours, _ = listener.accept()
                ours.setblocking(False)
                theirs.setblocking(False)
                self.ours.append(ours)
                self.theirs.append(theirs)

    def received(self, number: int) -> bytes:
        """All that was written to it: over loopback, too, a busy kernel takes its time."""
        data = b""
        while True:
            on_the_way = unacknowledged(self.ours[number])
            with contextlib.suppress(BlockingIOError):
                while more := self.theirs[number].recv(1 << 20):
                    data += more
            if not on_the_way:
                return data

    def close(self) -> None:
        for sock in (*self.ours, *self.theirs):
            sock.close()


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that were written and have not arrived; see tcp(7), SIOCOUTQ."""
    if sock.fileno() < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@contextlib.contextmanager
def connected(count: int) -> Iterator[Pairs]:
    pairs = Pairs(count)
    try:
        yield pairs
    finally:
        pairs.close()


def ring_or_none() -> Iterator[SendRing]:
    ring = SendRing.open()
    if ring is not None:
        yield ring
        ring.close()


def test_everybody_gets_every_byte_in_order_and_once() -> None:
    for ring in ring_or_none():
        with connected(ENTRIES + 100) as pairs:
            targets = Targets(ring)
            for sock in pairs.ours:
                targets.append(sock.fileno())
            said = b""
            for number in range(30):
                data = b"%03d" % number + bytes(random.Random(number).randrange(300))
                assert ring.write(targets, data) == []
                said += data
            assert all(pairs.received(n) == said for n in range(len(pairs.ours)))


def test_who_does_not_read_is_told_of_with_what_it_took() -> None:
    for ring in ring_or_none():
        with connected(40) as pairs:
            targets = Targets(ring)
            for sock in pairs.ours:
                targets.append(sock.fileno())
            slow, taken = {3, 39}, dict.fromkeys((3, 39), b"")
            data = os.urandom(60_000)
            results: set[int] = set()
            for _ in range(200):
                short = dict(ring.write(targets, data))
                assert short.keys() <= slow
                for number in slow:
                    result = short.get(number, len(data))
                    results.add(result if result < 0 else 0 if result < len(data) else 1)
                    taken[number] += data[: max(result, 0)]
                for number in set(range(40)) - slow:
                    assert pairs.received(number)
            assert -errno.EAGAIN in results
            assert all(drained(pairs, number, len(taken[number])) == taken[number] for number in slow)


def test_each_gets_its_own_in_order_and_once_however_much_it_is() -> None:
    rng = random.Random(1)
    for ring in ring_or_none():
        with connected(ENTRIES + 100) as pairs:
            targets = Targets(ring)
            for sock in pairs.ours:
                targets.append(sock.fileno())
            said = [b""] * len(targets)
            for number, most in enumerate((10, 300, 300, 2000, 16_000, 300)):
                parts = [rng.randbytes(rng.randrange(most)) for _ in range(len(targets))]
                assert ring.write_each(targets, parts) == []
                said = [before + part for before, part in zip(said, parts, strict=True)]
                if number % 2:
                    assert ring.write_each(targets, [b"few"] * 3, 7) == []
                    assert ring.write(targets, b"all") == []
                    said = [
                        before + (b"few" if n in range(7, 10) else b"") + b"all"
                        for n, before in enumerate(said)
                    ]
                assert [pairs.received(n) for n in range(len(targets))] == said
                said = [b""] * len(targets)


def test_of_those_that_get_their_own_too_is_told_who_does_not_read() -> None:
    for ring in ring_or_none():
        with connected(40) as pairs:
            targets = Targets(ring)
            for sock in pairs.ours:
                targets.append(sock.fileno())
            targets[5] = NO_SOCKET
            taken = b""
            for number in range(400):
                parts = [bytes([number % 256]) * (16_000 + n) for n in range(2, 40)]
                short = dict(ring.write_each(targets, parts, 2))
                assert short.pop(5) == -errno.EBADF
                assert short.keys() <= {39}
                taken += parts[37][: max(short.get(39, len(parts[37])), 0)]
                for n in set(range(2, 39)) - {5}:
                    assert pairs.received(n) == parts[n - 2]
                if 39 in short:
                    break
            assert drained(pairs, 39, len(taken)) == taken


def drained(pairs: Pairs, number: int, size: int) -> bytes:
    pairs.theirs[number].setblocking(True)
    pairs.theirs[number].settimeout(10)
    data = b""
    while len(data) < size:
        data += pairs.theirs[number].recv(1 << 20)
    return data


def test_a_closed_socket_and_nobody_are_told_of_and_hurt_nobody() -> None:
    for ring in ring_or_none():
        with connected(5) as pairs:
            targets = Targets(ring)
            for sock in pairs.ours:
                targets.append(sock.fileno())
            targets[1] = NO_SOCKET
            pairs.ours[2].shutdown(socket.SHUT_WR)
            pairs.ours[3].close()
            assert ring.write(targets, b"x") == [
                (1, -errno.EBADF),
                (2, -errno.EPIPE),
                (3, -errno.EBADF),
            ]
            assert [pairs.received(n) for n in (0, 1, 4)] == [b"x", b"", b"x"]


@given(st.lists(st.sampled_from(["append", "nobody", "pop", "set", "unset"]), max_size=40))
@settings(deadline=None)
def test_targets_are_a_list_of_descriptors(steps: list[str]) -> None:
    for ring in ring_or_none():
        targets, model = Targets(ring), list[int]()
        for fd, step in enumerate(steps, 100):
            if step in {"append", "nobody"}:
                model.append(fd if step == "append" else NO_SOCKET)
                targets.append(model[-1])
            elif model and step == "pop":
                assert targets.pop() == model.pop()
            elif model:
                model[fd % len(model)] = fd if step == "set" else NO_SOCKET
                targets[fd % len(model)] = model[fd % len(model)]
            assert len(targets) == len(model)
            assert targets.sockets == sum(each != NO_SOCKET for each in model)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_where_the_kernel_refuses_there_is_none(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(io_uring, "_setup", refuse)
    assert SendRing.open() is None


def test_a_ring_that_does_not_do_as_it_should_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SendRing, "_works", lambda _: False)
    assert SendRing.open() is None


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_ring_is_given_back_when_nobody_has_it_any_more() -> None:
    for ring in ring_or_none():
        before = descriptors()
        ring.close()
        ring.close()
        assert descriptors() == before - 1
