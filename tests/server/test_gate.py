"""The line at the gate: one in some turns of the loop, in order, and nobody who has nothing to do holds it up."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from aurexd.actors.session import Session
from aurexd.config.model import Limits
from aurexd.server.gate import TURNS, Gate
from aurexd.server.tls import TlsConversation
from tests.server.conftest import TlsPair
from tests.server.loopback import JSON, serving

A_FEW = 2
"""In one turn: who of two runs first is left to chance, so a turn as counted here may be parts of two."""


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop, and what happened in each."""

    def __init__(self) -> None:
        self.number = 0
        self.happened: Counter[int] = Counter()

    def before_io_wait(self, timeout: float) -> None:
        del timeout
        self.number += 1

    def note(self) -> None:
        self.happened[self.number] += 1


@contextlib.asynccontextmanager
async def taken(gate: Gate) -> AsyncIterator[None]:
    """Nobody passes meanwhile."""
    async with gate._place:
        yield


async def test_one_passes_in_some_turns_in_the_order_they_came() -> None:
    gate, turns, passed = Gate(), Turns(), list[int]()

    async def arrive(number: int) -> None:
        await gate.wait_turn()
        turns.note()
        passed.append(number)

    async with trio.open_nursery() as nursery:
        async with taken(gate):
            for number in range(30):
                nursery.start_soon(arrive, number)
                await trio.testing.wait_all_tasks_blocked()
            assert passed == []
            trio.lowlevel.add_instrument(turns)
    trio.lowlevel.remove_instrument(turns)
    assert passed == list(range(30))
    assert set(turns.happened.values()) == {1}
    assert max(turns.happened) - min(turns.happened) == 29 * TURNS


async def test_where_nobody_waits_nothing_is_waited_for() -> None:
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    await Gate().wait_turn()
    trio.lowlevel.remove_instrument(turns)
    assert turns.number <= TURNS


async def test_a_cancelled_one_leaves_the_line() -> None:
    gate = Gate()
    async with taken(gate):
        with trio.move_on_after(0) as scope:
            await gate.wait_turn()
        assert scope.cancelled_caught
    with trio.fail_after(1):
        await gate.wait_turn()


def client_hello(context: ssl.SSLContext) -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def test_of_a_flood_of_handshakes_a_few_are_answered_in_each_turn(
    tls_pair: TlsPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, hello = Turns(), client_hello(tls_pair.client)
    real = TlsConversation.try_handshake

    def try_handshake(self: TlsConversation) -> bool:
        turns.note()
        return real(self)

    monkeypatch.setattr(TlsConversation, "try_handshake", try_handshake)
    async with serving(server_tls=tls_pair.server, limits=Limits(max_handshakes_per_ip=0)) as served:
        clients = [await served.open_stream() for _ in range(100)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        trio.lowlevel.add_instrument(turns)
        for _, sock in clients:
            os.write(sock.fileno(), hello)  # at once, without a turn of the loop in between
        for stream, _ in clients:
            assert await stream.receive_some()
        trio.lowlevel.remove_instrument(turns)
    assert turns.happened.total() == 100
    assert max(turns.happened.values()) <= A_FEW


async def test_those_who_say_nothing_or_half_of_it_hold_nobody_up(
    loopback_clock: trio.testing.MockClock, tls_pair: TlsPair
) -> None:
    async with serving(server_tls=tls_pair.server) as served:
        for number in range(50):
            stream, _ = await served.open_stream()
            if number % 2:
                await stream.send_all(client_hello(tls_pair.client)[:50])
        served.client_tls = tls_pair.client
        begin = trio.current_time()
        assert (await (await served.connect()).message())["type"] == "welcome"
        assert trio.current_time() - begin < 1


async def test_of_a_crowd_that_is_cut_off_a_few_are_seen_to_in_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = Turns()
    real = Session.end

    def end(self: Session) -> None:
        turns.note()
        real(self)

    monkeypatch.setattr(Session, "end", end)
    async with serving(limits=Limits(max_connections_per_ip=0)) as served:
        clients = [await served.connect(JSON) for _ in range(100)]
        for client in clients:
            await client.message()
        await trio.testing.wait_all_tasks_blocked(0.01)
        trio.lowlevel.add_instrument(turns)
        for client in clients:
            client.socket.close()
        await served.admission.wait_empty()
        trio.lowlevel.remove_instrument(turns)
    assert turns.happened.total() == 100
    assert max(turns.happened.values()) <= 2 * A_FEW


async def test_a_line_that_broke_is_not_written_to_while_it_waits_to_be_seen_to() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.messages(2)
        (session,) = served.sessions()
        line: Any = session._line
        async with taken(served.port._gate):
            client.socket.close()
            await trio.testing.wait_all_tasks_blocked(0.01)
            before = line.write
            await served.publish("1.00")
            assert line.write is before
            assert not session.backlogged
        await served.admission.wait_empty()
