"""Who sits in an audience gets every byte of it, whichever way these are written, and whoever comes and goes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
import trio.lowlevel

from aurexd.actors.audience import RING_SOCKETS, SLICE, SLICE_LEAST, SLICE_S, Audience
from aurexd.actors.session import Session
from aurexd.io_uring import NO_SOCKET, SendRing
from aurexd.protocol.codec import JSON
from tests.test_io_uring import Pairs, connected

RING = SendRing.open()
WAYS = {"send": None} if RING is None else {"send": None, "io_uring": RING}


class Seated:
    """A session on one socket of a pair, as far as an audience knows it."""

    def __init__(self, pairs: Pairs, number: int) -> None:
        self.number = number
        self.socket = pairs.ours[number]
        self.seat: tuple[Audience, int] | None = None
        self.write: Callable[[bytes], int] = self.socket.send
        self.seal = None

    @property
    def descriptor(self) -> int:
        return self.socket.fileno() if self.write == self.socket.send else NO_SOCKET

    @property
    def backlogged(self) -> bool:
        return self.write != self.socket.send

    def stop(self) -> None:
        """As when something waits for the socket."""
        self.write = lambda _data: 0


def sessions(pairs: Pairs, count: int) -> list[Any]:
    return [Seated(pairs, number) for number in range(count)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, RING_SOCKETS - 1, 3 * RING_SOCKETS])
async def test_whoever_comes_goes_and_falls_behind(way: str, count: int) -> None:
    rng = random.Random(count)
    with connected(count) as pairs:
        audience = Audience(JSON, frozenset(), WAYS[way])
        seated, out = list[Any](), sessions(pairs, count)
        expected = [b""] * count
        for number in range(300):
            if out and rng.random() < 0.5:
                seated.append(out.pop(rng.randrange(len(out))))
                audience.seat(cast("Session", seated[-1]))
            elif seated and rng.random() < 0.3:
                out.append(seated.pop(rng.randrange(len(seated))))
                audience.unseat(cast("Session", out[-1]))
            elif seated and rng.random() < 0.2:
                one = rng.choice(seated)
                one.write = one.socket.send if one.descriptor == NO_SOCKET else (lambda _data: 0)
                audience.write_changed(cast("Session", one))
            assert audience.behind == {session for session in seated if session.backlogged}
            data = b"%d;" % number
            short = audience.write(data, 0, 10_000)
            assert sorted(short) == sorted((s.seat[1], 0) for s in seated if s.descriptor == NO_SOCKET)
            for session in seated:
                if session.descriptor != NO_SOCKET:
                    expected[session.number] += data
        await trio.lowlevel.checkpoint()
        assert [pairs.received(number) for number in range(count)] == expected


@pytest.mark.parametrize("way", WAYS)
async def test_a_slice_is_written_to_and_no_other_seat(way: str) -> None:
    with connected(3 * RING_SOCKETS) as pairs:
        audience = Audience(JSON, frozenset(), WAYS[way])
        for session in sessions(pairs, 3 * RING_SOCKETS):
            audience.seat(session)
        assert audience.write(b"x", 10, 40) == []
        assert [number for number in range(60) if pairs.received(number)] == list(range(10, 40))


@pytest.mark.parametrize("way", WAYS)
async def test_a_broken_and_a_full_socket_took_nothing_or_a_part(way: str) -> None:
    with connected(RING_SOCKETS + 2) as pairs:
        audience = Audience(JSON, frozenset(), WAYS[way])
        for session in sessions(pairs, RING_SOCKETS + 2):
            audience.seat(session)
        pairs.theirs[0].close()
        data = bytes(100_000)
        took = offered = 0
        for _ in range(1000):  # how much the kernel takes until it is full is its own affair
            short = dict(audience.write(data, 0, 500))
            took += short.get(1, len(data))
            offered += len(data)
            for number in range(2, RING_SOCKETS + 2):
                pairs.received(number)
            if 1 in short:
                break
        assert short[0] == 0
        assert 0 <= short[1] < len(data)
        assert 0 < took < offered


@pytest.mark.parametrize("way", WAYS)
async def test_more_than_the_ring_takes_at_once_is_written_all_the_same(way: str) -> None:
    with connected(RING_SOCKETS) as pairs:
        audience = Audience(JSON, frozenset(), WAYS[way])
        for session in sessions(pairs, RING_SOCKETS):
            audience.seat(session)
        data = bytes(200_000)
        short = dict(audience.write(data, 0, 500))
        for number in range(RING_SOCKETS):
            assert len(pairs.received(number)) <= short.get(number, len(data))


@pytest.mark.parametrize("cost_s", [1e-7, 6e-6, 8e-6, 2.7e-5, 5e-5, 2e-4, 1e-2])
async def test_a_slice_takes_about_as_long_whatever_a_write_costs(cost_s: float) -> None:
    audience = Audience(JSON, frozenset())
    for _ in range(20):
        audience.pace(audience.slice * cost_s)
    assert SLICE_LEAST <= audience.slice <= SLICE
    took_s = audience.slice * cost_s
    assert took_s <= 1.5 * SLICE_S or audience.slice == SLICE_LEAST
    assert took_s >= 0.5 * SLICE_S or audience.slice == SLICE
    steady = audience.slice
    audience.pace(took_s)
    assert audience.slice == steady
