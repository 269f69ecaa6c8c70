"""One client's stream, over real sockets, plain and TLS."""

from __future__ import annotations

import contextlib
import math
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

import pytest
import trio
import trio.testing

from aurexd.actors.audience import RING_SOCKETS, Audience
from aurexd.actors.session import Session
from aurexd.io_uring import SendRing
from aurexd.protocol import compose
from aurexd.protocol.codec import JSON
from aurexd.server.gate import Gate
from aurexd.server.stream import LINGER_S, ClientStream
from aurexd.update import Batch, Update
from tests.frames import FrameReader
from tests.server.conftest import TlsPair
from tests.server.loopback import START, price_of

CHANNEL = "price:S0"
SAFETY_S = 30.0


class Ends(NamedTuple):
    """The two ends of one connection."""

    stream: ClientStream
    """Ours."""
    peer: trio.abc.HalfCloseableStream | trio.SSLStream[trio.SocketStream]
    raw: trio.SocketStream
    """The peer's socket, below TLS."""


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, tls_pair: TlsPair) -> TlsPair | None:
    return tls_pair if request.param == "tls" else None


@contextlib.asynccontextmanager
async def connected(
    contexts: TlsPair | None = None, *, sndbuf: int = 65536, rcvbuf: int | None = None, shake: bool = True
) -> AsyncIterator[Ends]:
    """A connection, after the TLS handshake if there is one."""
    with trio.fail_after(SAFETY_S), socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the port does
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs = trio.socket.socket()
        if rcvbuf is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        await theirs.connect(listener.getsockname())
        ours, address = listener.accept()
        ours.setblocking(False)
        stream = ClientStream(ours, address[0], contexts and contexts.server, Gate())
        raw = trio.SocketStream(theirs)
        peer: Any = raw
        if contexts is not None:
            peer = trio.SSLStream(raw, contexts.client, server_hostname="127.0.0.1", https_compatible=True)
        try:
            if shake and contexts is not None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.handshake)
                    nursery.start_soon(peer.do_handshake)
                await stream.send_all(b"!")
                await peer.receive_some()  # and with it the session tickets
            yield Ends(stream, peer, raw)
        finally:
            stream.abort()
            await trio.aclose_forcefully(raw)


@contextlib.asynccontextmanager
async def session(stream: ClientStream) -> AsyncIterator[trio.Nursery]:
    """A running session on the stream."""
    async with trio.open_nursery() as nursery:
        stream.start_session(nursery, JSON)
        yield nursery
        stream.end_session()
        nursery.cancel_scope.cancel()


class Publisher:
    """Publishes prices on one channel as the hub does."""

    def __init__(self, stream: ClientStream) -> None:
        self.stream = stream
        self.count = 0

    def publish(self, updates: int = 1, *, symbols: int = 1) -> None:
        """So many updates of each of so many symbols, all due together."""
        numbers = range(self.count + 1, self.count + updates + 1)
        self.count += updates
        batch = Batch(
            [
                Update.of(
                    f"price:S{symbol}",
                    compose.price_update(price_of("1.00", f"S{symbol}"), START, number),
                    "e",
                    number,
                )
                for number in numbers
                for symbol in range(symbols)
            ],
            JSON,
        )
        try:
            written = self.stream.write(batch.data)
        except OSError:
            written = 0
        if written != len(batch.data):
            self.stream.keep(batch, written)

    def clog(self) -> None:
        """Publish until something waits."""
        while not self.stream.backlogged:
            self.publish(7)


def answer(number: int, size: int = 0) -> bytes:
    return JSON.frame(compose.error("invalid_message", f"{number}:{'x' * size}", START))


class Reader(FrameReader):
    """The peer's view: whole frames only, and what is in them."""

    def __init__(self, ends: Ends) -> None:
        super().__init__()
        self.peer = ends.peer

    async def read(self, max_bytes: int = 65536) -> bool:
        """Read once; False at the end, which never comes inside a frame."""
        data = bytes(await self.peer.receive_some(max_bytes))
        self.feed(data)
        if not data:
            self.check_complete()
        return bool(data)

    async def read_until(self, done: Callable[[], bool]) -> None:
        while not done():
            assert await self.read()

    async def read_to_the_end(self) -> None:
        while await self.read():
            pass

    @property
    def counts(self) -> list[int]:
        return [m["update_count"] for m in self.messages if m["type"] == "price_update"]

    @property
    def answers(self) -> list[int]:
        texts = [m["data"]["message"] for m in self.messages if m["type"] == "error"]
        return [int(text.partition(":")[0]) for text in texts]

    def check(self) -> None:
        """Counts grow by what they say they stand for, answers by one."""
        last: Counter[str] = Counter()
        for message in self.messages:
            if message["type"] == "price_update":
                symbol, count = message["data"]["symbol"], message["update_count"]
                assert count - last[symbol] == message.get("conflated", 1)
                last[symbol] = count
        assert self.answers == list(range(1, len(self.answers) + 1))


class Seated:
    """A session as its audience knows it, on a stream."""

    def __init__(self, stream: ClientStream) -> None:
        self.stream = stream
        self.seat: tuple[Audience, int] | None = None
        stream.on_write_changed = self.write_changed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write_changed(self) -> None:
        if self.seat is not None:
            self.seat[0].write_changed(cast("Session", self))


async def read_all(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(1 << 20)
        assert more
        data += more
    return data


# --- an ordinary stream ---


async def test_it_carries_bytes_both_ways_at_once(contexts: TlsPair | None) -> None:
    there, back = random.Random(1).randbytes(1 << 20), random.Random(2).randbytes(1 << 20)
    async with connected(contexts) as ends:
        received = {}

        async def read(name: str, stream: trio.abc.ReceiveStream) -> None:
            received[name] = await read_all(stream, 1 << 20)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.peer.send_all, there)
            nursery.start_soon(ends.stream.send_all, back)
            nursery.start_soon(read, "there", ends.stream)
            nursery.start_soon(read, "back", ends.peer)
        assert received == {"there": there, "back": back}


async def test_it_is_never_given_more_than_it_asked_for(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        await ends.peer.send_all(b"0123456789")
        assert [await ends.stream.receive_some(4) for _ in range(3)] == [b"0123", b"4567", b"89"]


async def test_bytes_that_are_pushed_back_come_first(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        await ends.peer.send_all(b"cd")
        assert await ends.stream.receive_some() == b"cd"
        ends.stream.push_back(b"cd")
        ends.stream.push_back(b"ab")
        await ends.peer.send_all(b"ef")
        assert [await ends.stream.receive_some(3) for _ in range(2)] == [b"abc", b"d"]
        assert await ends.stream.receive_some() == b"ef"


async def test_the_peers_end_is_an_empty_read(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        await ends.peer.aclose()
        assert await ends.stream.receive_some() == b""


async def test_a_tls_peer_that_hangs_up_without_a_word_is_an_empty_read_too(tls_pair: TlsPair) -> None:
    async with connected(tls_pair) as ends:
        await ends.raw.aclose()
        assert await ends.stream.receive_some() == b""


async def test_a_reset_is_a_broken_stream(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        ends.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(ends.raw)
        with pytest.raises(trio.BrokenResourceError):
            await ends.stream.receive_some()


async def test_garbage_in_the_middle_of_tls_is_a_broken_stream(tls_pair: TlsPair) -> None:
    async with connected(tls_pair) as ends:
        await ends.raw.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError, match="TLS failed"):
            await ends.stream.receive_some()


@pytest.mark.parametrize("action", ["abort", "aclose"])
async def test_whoever_reads_is_woken_when_it_is_closed(contexts: TlsPair | None, action: str) -> None:
    async with connected(contexts) as ends:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ends.stream.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            if action == "abort":
                ends.stream.abort()
            else:
                await ends.stream.aclose()
        assert ends.stream.closed
        with pytest.raises(trio.ClosedResourceError):
            await ends.stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await ends.stream.send_all(b"x")


async def test_whoever_writes_is_woken_when_it_is_aborted(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:

        async def write() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await ends.stream.send_all(bytes(16 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            ends.stream.abort()


async def test_a_write_that_is_cancelled_before_a_session_ends_the_connection(
    contexts: TlsPair | None,
) -> None:
    async with connected(contexts) as ends:
        with trio.move_on_after(0.01):
            await ends.stream.send_all(bytes(16 << 20))
        assert ends.stream.closed
        with pytest.raises(trio.ClosedResourceError):
            await ends.stream.send_all(b"x")


async def test_a_write_that_is_cancelled_before_it_began_leaves_no_trace(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ends.stream.send_all(b"no")
        assert scope.cancelled_caught
        await ends.stream.send_all(b"yes")
        assert await ends.peer.receive_some(100) == b"yes"


async def test_every_read_and_write_is_a_checkpoint(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        await ends.peer.send_all(b"abcd")
        with trio.testing.assert_checkpoints():
            await ends.stream.receive_some(2)
        with trio.testing.assert_checkpoints():
            await ends.stream.receive_some(2)
        ends.stream.push_back(b"x")
        for step in (
            ends.stream.receive_some,
            lambda: ends.stream.send_all(b"x"),
            lambda: ends.stream.send_all(b""),
            ends.stream.wait_send_all_might_not_block,
            ends.stream.aclose,
        ):
            with trio.testing.assert_checkpoints():
                await step()


async def test_two_writers_before_a_session_do_not_mix_their_bytes(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.stream.send_all, b"a" * 1_000_000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ends.stream.send_all, b"b" * 1_000_000)
        assert await read_all(ends.peer, 2_000_000) == b"a" * 1_000_000 + b"b" * 1_000_000


async def test_a_tls_stream_can_be_read_while_a_write_is_stuck(tls_pair: TlsPair) -> None:
    async with connected(tls_pair) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.stream.send_all, bytes(1 << 20))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ends.peer.send_all, b"still here")
        assert await ends.stream.receive_some() == b"still here"
        await read_all(ends.peer, 1 << 20)


# --- the TLS handshake ---


async def test_a_plain_stream_needs_no_handshake() -> None:
    async with connected() as ends:
        await ends.stream.handshake()
        assert not ends.stream.is_tls


async def test_a_plain_client_fails_the_handshake(tls_pair: TlsPair) -> None:
    async with connected(tls_pair, shake=False) as ends:
        await ends.raw.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed"):
            await ends.stream.handshake()


async def test_a_client_that_hangs_up_fails_the_handshake(tls_pair: TlsPair) -> None:
    async with connected(tls_pair, shake=False) as ends:
        await ends.raw.aclose()
        with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed"):
            await ends.stream.handshake()


async def test_a_client_whose_tls_is_refused_is_told_why(tls_pair: TlsPair) -> None:
    picky = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    picky.minimum_version = ssl.TLSVersion.TLSv1_3
    old = ssl.create_default_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def refuse(stream: ClientStream) -> None:
        with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed"):
            await stream.handshake()

    async with connected(TlsPair(picky, old), shake=False) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(refuse, ends.stream)
        assert isinstance(ends.peer, trio.SSLStream)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ends.peer.do_handshake()
        assert "alert protocol version" in str(caught.value.__cause__)


# --- a session ---


async def test_a_client_that_keeps_up_gets_everything_unconflated(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends, session(ends.stream):
        publisher, reader = Publisher(ends.stream), Reader(ends)
        for _ in range(300):
            publisher.publish(random.Random(publisher.count).randint(1, 5))
            await reader.read_until(lambda: publisher.count in reader.counts[-1:])
        assert reader.counts == list(range(1, publisher.count + 1))
        assert not any("conflated" in message for message in reader.messages)


async def test_a_reader_that_stops_misses_updates_and_is_told_how_many(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream):
        publisher, reader = Publisher(ends.stream), Reader(ends)
        publisher.clog()
        for _ in range(1000):
            publisher.publish()
        await reader.read_until(lambda: publisher.count in reader.counts[-1:])
        reader.check()
        assert reader.messages[-1]["conflated"] >= 1000
        # It has caught up, and is written to directly again.
        await trio.testing.wait_all_tasks_blocked()
        assert not ends.stream.backlogged
        publisher.publish()
        await reader.read_until(lambda: publisher.count in reader.counts[-1:])
        assert "conflated" not in reader.messages[-1]


async def test_what_must_arrive_arrives_in_order_however_slow_the_reader(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096, sndbuf=4096) as ends, session(ends.stream):
        publisher, reader, rng = Publisher(ends.stream), Reader(ends), random.Random(3)
        said = 0
        while said < 400:
            said += 1
            ends.stream.send_frame(answer(said, rng.choice([0, 10, 3000])))
            publisher.publish(rng.randint(1, 4))
            if rng.random() < 0.2:
                await reader.read(rng.choice([1, 100, 5000]))
        await reader.read_until(
            lambda: reader.answers[-1:] == [400] and publisher.count in reader.counts[-1:]
        )
        reader.check()
        assert ends.stream.lossless_bytes == 0


async def test_the_bytes_that_wait_are_counted(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream):
        Publisher(ends.stream).clog()
        frames = [answer(number, 5000) for number in range(1, 21)]
        for frame in frames:
            ends.stream.send_frame(frame)
        assert ends.stream.lossless_bytes == sum(map(len, frames))


async def test_a_slow_reader_does_not_make_what_waits_uncountable(contexts: TlsPair | None) -> None:
    """What is taken for a write is bounded, so a trickle of room does not hide how much waits."""
    async with connected(contexts, rcvbuf=4096, sndbuf=4096) as ends, session(ends.stream):
        Publisher(ends.stream).clog()
        for number in range(1, 201):
            ends.stream.send_frame(answer(number, 5000))
            await ends.peer.receive_some(1000)
            await trio.testing.wait_all_tasks_blocked()
        assert ends.stream.lossless_bytes > 700_000


async def test_a_write_that_is_cancelled_in_a_session_never_cuts_a_frame(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096, sndbuf=4096) as ends, session(ends.stream) as nursery:
        publisher, reader, rng = Publisher(ends.stream), Reader(ends), random.Random(4)
        scopes = []

        async def say(number: int) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await ends.stream.send_all(answer(number, rng.choice([0, 2000, 20_000])))

        for number in range(1, 101):
            nursery.start_soon(say, number)
            await trio.testing.wait_all_tasks_blocked()
            publisher.publish(2)
            if rng.random() < 0.5:
                scopes.pop(rng.randrange(len(scopes))).cancel()
            await reader.read(rng.choice([1, 700, 9000]))
        await reader.read_until(
            lambda: reader.answers[-1:] == [100] and publisher.count in reader.counts[-1:]
        )
        reader.check()


async def test_who_waits_for_his_words_to_be_out_does_not_wait_for_ever_among_updates(
    contexts: TlsPair | None,
) -> None:
    """With updates that come faster than the reader reads the queue is never empty, and need not be."""
    async with connected(contexts, rcvbuf=4096, sndbuf=4096) as ends, session(ends.stream) as nursery:
        publisher, reader = Publisher(ends.stream), Reader(ends)
        while not ends.stream.backlogged:
            publisher.publish(symbols=200)
        out = trio.Event()

        async def say() -> None:
            await ends.stream.send_all(answer(1))
            out.set()

        nursery.start_soon(say)
        await trio.testing.wait_all_tasks_blocked()
        assert not out.is_set()
        while not out.is_set():
            publisher.publish(symbols=200)
            await reader.read(500)
            assert ends.stream.backlogged
        await reader.read_until(lambda: reader.answers == [1])
        reader.check()


async def test_nothing_follows_the_end_of_a_session_but_what_waited_and_what_is_said_last(
    contexts: TlsPair | None,
) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream) as nursery:
        publisher, reader = Publisher(ends.stream), Reader(ends)
        publisher.clog()
        ends.stream.send_frame(answer(1))
        publisher.publish(3)
        last = publisher.count
        ends.stream.end_session()
        publisher.publish(3)
        ends.stream.send_frame(answer(99))
        nursery.start_soon(ends.stream.send_all, answer(2))
        await reader.read_until(lambda: reader.answers == [1, 2])
        await trio.testing.wait_all_tasks_blocked()
        publisher.publish(3)
        ends.stream.send_frame(answer(99))
        await ends.stream.aclose()
        await reader.read_to_the_end()
        reader.check()
        assert reader.counts[-1] == last
        assert reader.messages[-1]["type"] == "error"


async def test_a_dropped_channel_says_nothing_more(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream):
        publisher, reader = Publisher(ends.stream), Reader(ends)
        assert ends.stream.drop_channel(CHANNEL) == 0
        publisher.clog()
        ends.stream.drop_channel(CHANNEL)
        seen_at_most = publisher.count
        publisher.publish(5)
        assert ends.stream.drop_channel(CHANNEL) == 5
        ends.stream.send_frame(answer(1))
        await reader.read_until(lambda: reader.answers == [1])
        reader.check()
        assert reader.counts[-1] <= seen_at_most


async def test_whoever_keeps_the_write_function_is_told_when_it_changes(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream):
        changes = []
        ends.stream.on_write_changed = lambda: changes.append(ends.stream.write(b""))
        publisher, reader = Publisher(ends.stream), Reader(ends)
        direct = ends.stream.write
        publisher.clog()
        assert len(changes) == 1
        assert ends.stream.write is not direct
        assert ends.stream.write(b"not now") == 0
        await reader.read_until(lambda: publisher.count in reader.counts[-1:])
        await trio.testing.wait_all_tasks_blocked()
        assert len(changes) == 2
        assert ends.stream.write == direct


async def test_a_peer_that_is_gone_ends_the_stream_and_nobody_else(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends, session(ends.stream):
        publisher = Publisher(ends.stream)
        ends.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(ends.raw)
        while not ends.stream.closed:
            publisher.publish()
            ends.stream.send_frame(answer(1))
            await trio.testing.wait_all_tasks_blocked()
        assert ends.stream.write(b"x") == 0
        publisher.publish()
        ends.stream.send_frame(answer(2))
        assert not ends.stream.backlogged


async def test_abort_in_the_middle_of_a_backlog_wakes_the_writers(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream) as nursery:
        publisher = Publisher(ends.stream)
        publisher.clog()

        async def say() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await ends.stream.send_all(answer(1))

        nursery.start_soon(say)
        await trio.testing.wait_all_tasks_blocked()
        ends.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert not ends.stream.backlogged


async def test_a_session_that_is_cancelled_with_a_backlog_is_aborted(contexts: TlsPair | None) -> None:
    """A frame is half written by then: nothing may follow it."""
    async with connected(contexts, rcvbuf=4096) as ends:
        publisher = Publisher(ends.stream)
        async with trio.open_nursery() as nursery:
            ends.stream.start_session(nursery, JSON)
            publisher.clog()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert ends.stream.closed
        publisher.publish()


async def test_it_knows_when_the_client_was_heard(
    contexts: TlsPair | None, loopback_clock: trio.testing.MockClock
) -> None:
    async with connected(contexts) as ends, session(ends.stream):
        begin = trio.current_time()
        await trio.sleep(2)
        Publisher(ends.stream).publish()
        assert ends.stream.last_received - begin < 0.5
        await ends.peer.send_all(b"x")
        await ends.stream.receive_some()
        assert trio.current_time() - ends.stream.last_received < 0.5


async def test_a_client_that_reads_slowly_and_says_nothing_lives(
    contexts: TlsPair | None, loopback_clock: trio.testing.MockClock
) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream):
        assert ends.stream.stuck_since == math.inf
        Publisher(ends.stream).clog()
        assert ends.stream.held_bytes > 0
        await trio.sleep(10)
        asleep, stuck = ends.stream.last_received, ends.stream.stuck_since
        assert stuck <= trio.current_time() - 9
        while ends.stream.last_received == asleep:
            await ends.peer.receive_some(5000)
            await trio.sleep(0.05)
        assert ends.stream.last_received > asleep + 9
        assert ends.stream.stuck_since > stuck + 9


async def test_what_waits_for_a_client_is_free_again_when_it_has_taken_it(contexts: TlsPair | None) -> None:
    async with connected(contexts, rcvbuf=4096) as ends, session(ends.stream):
        publisher = Publisher(ends.stream)
        publisher.clog()
        ends.stream.send_frame(b"x" * 100_000)
        assert ends.stream.held_bytes > 100_000
        while ends.stream.backlogged:
            await ends.peer.receive_some(65536)
        assert (ends.stream.held_bytes, ends.stream.stuck_since) == (0, math.inf)


# --- the end ---


async def test_the_peer_is_told_of_an_orderly_end(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends:
        await ends.stream.send_all(b"bye")
        await ends.stream.aclose()
        await ends.stream.aclose()
        assert await read_all(ends.peer, 3) == b"bye"
        assert await ends.peer.receive_some(10) == b""


async def test_what_the_client_still_says_does_not_cost_it_our_last_words(contexts: TlsPair | None) -> None:
    async with connected(contexts) as ends, trio.open_nursery() as nursery:
        await ends.peer.send_all(bytes(100_000))
        await ends.stream.send_all(b"too large")
        await ends.stream.aclose()
        nursery.start_soon(ends.stream.linger)
        await ends.raw.send_all(bytes(100_000))
        assert await read_all(ends.peer, 9) == b"too large"
        assert await ends.peer.receive_some(10) == b""
        await ends.raw.aclose()


async def linger_for(ends: Ends, meanwhile: Callable[[], Awaitable[None]]) -> float:
    await ends.stream.aclose()
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(meanwhile)
        await ends.stream.linger()
        nursery.cancel_scope.cancel()
    return trio.current_time() - begin


async def test_lingering_ends_when_the_client_closes(loopback_clock: trio.testing.MockClock) -> None:
    async with connected() as ends:
        assert await linger_for(ends, ends.raw.aclose) < LINGER_S / 2


async def test_lingering_ends_by_itself_with_a_client_that_does_not_close(
    loopback_clock: trio.testing.MockClock,
) -> None:
    async with connected() as ends:
        assert LINGER_S <= await linger_for(ends, trio.sleep_forever) < LINGER_S + 1


async def test_lingering_ends_by_itself_with_a_client_that_talks_on(
    loopback_clock: trio.testing.MockClock,
) -> None:
    async with connected() as ends:

        async def talk() -> None:
            while True:
                await ends.raw.send_all(bytes(1000))
                await trio.sleep(0.1)

        assert LINGER_S <= await linger_for(ends, talk) < LINGER_S + 1


async def test_there_is_nothing_to_linger_for_after_an_abort() -> None:
    async with connected() as ends:
        ends.stream.abort()
        ends.stream.abort()
        await ends.stream.linger()
        await ends.stream.aclose()


@pytest.mark.parametrize("way", ["send", "io_uring"])
async def test_an_audience_gets_what_each_of_it_would_get_alone(contexts: TlsPair | None, way: str) -> None:
    """With one that reads nothing for a while, and one that hangs up."""
    ring = SendRing.open() if way == "io_uring" else None
    count = RING_SOCKETS + 3
    async with contextlib.AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(connected(contexts, rcvbuf=20_000)) for _ in range(count)]
        audience = Audience(JSON, frozenset(), ring, tls=contexts is not None)
        readers = [Reader(each) for each in ends]
        for each in ends:
            await stack.enter_async_context(session(each.stream))
            audience.seat(cast("Session", Seated(each.stream)))
        published = 0

        def publish(updates: int) -> None:
            nonlocal published
            numbers = range(published + 1, published + updates + 1)
            published += updates
            prices = [compose.price_update(price_of("1.00"), START, number) for number in numbers]
            batch = Batch([Update.of("price:XAUUSD", p, "e", p.update_count) for p in prices], JSON)
            for seat, written in audience.write(batch.data, 0, count):
                audience.sessions[seat].keep(batch, written)

        async def keep_up(few: Sequence[Reader]) -> None:
            for reader in few:
                while reader.counts[-1:] != [published]:
                    assert await reader.read()

        slow, gone, *others = readers
        while not ends[0].stream.backlogged:
            publish(20)
            await keep_up([gone, *others])
        await trio.aclose_forcefully(ends[1].raw)
        for updates in (1, 7, 100, 1):  # a hundred are more than TLS seals at once
            publish(updates)
            await keep_up(others)
        await keep_up([slow])
        publish(1)
        await keep_up([slow, *others])
        for reader in (slow, *others):
            reader.check()
        assert all(reader.counts == list(range(1, published + 1)) for reader in others)
        assert len(slow.counts) < published
