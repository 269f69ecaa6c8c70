"""One client's byte stream, plain or TLS, over a non-blocking socket: the only room that writes to a client.

It knows nothing of WebSocket or HTTP. What makes it more than `trio.SocketStream` is that ready frames can be
written to it by a plain call: they go straight into the socket, and only what does not fit waits in an outbox
with a task that writes it (docs/adr/0001, "Fan-out"). Everything that is written goes through here, so frames
never interleave, and nothing is ever cut in the middle of a frame while the connection lives.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
from collections.abc import Callable

import trio

from aurexd.actors.audience import Seal
from aurexd.io_uring import NO_SOCKET
from aurexd.outbox import TAKE_BYTES, Outbox
from aurexd.protocol.codec import Encoding
from aurexd.server.gate import Gate
from aurexd.server.tls import TlsConversation
from aurexd.update import Batch, Update

RECEIVE_BYTES = 4096
"""Clients say little: one read of this size holds any message they need."""

LINGER_S = 2.0
"""How long a client may take to close after us; nginx: 5 s between two reads."""


class ClientStream(trio.abc.Stream):
    """A `trio.abc.Stream` that also takes frames without waiting.

    1.  Until `start_session` it is an ordinary stream but for its end: `aclose` ends both directions, and the
        socket is its owner's to give back, by `abort`.
    2.  From then on frames may be written without waiting, and the given nursery runs the task that writes
        what did not fit; so a caller that is cancelled never leaves a frame half written.
    3.  From `end_session` on only `send_all` is listened to: what waits goes out before that.
    """

    __slots__ = (
        "_client_ended",
        "_closed",
        "_encoding",
        "_flushing",
        "_gate",
        "_in_session",
        "_nursery",
        "_outbox",
        "_read_ahead",
        "_settled",
        "_tls",
        "last_received",
        "on_write_changed",
        "remote_address",
        "socket",
        "write",
    )

    def __init__(
        self, sock: socket.socket, remote_address: str, tls: ssl.SSLContext | None, gate: Gate
    ) -> None:
        """`sock` is connected and non-blocking; the stream owns it. `tls`: do `handshake()` first."""
        self.socket = sock
        self.remote_address = remote_address
        """The client's, as far as it is known: behind a proxy it is that one's until it has told."""
        self.last_received = trio.current_time()
        """Loop time at which the client was last heard, or took something that had waited for it."""
        self._gate = gate
        self._tls = TlsConversation(tls) if tls else None
        self.write: Callable[[bytes], int] = self._write if tls else sock.send
        """How many bytes of ready frames were taken care of, without waiting; what is left goes to `keep`.
        On a plain stream with nothing queued this is the socket's own `send`, because it is called for every
        client and update; so it raises BlockingIOError and OSError as that does."""
        self.on_write_changed: Callable[[], None] | None = None
        """Called when `write` has become another function."""
        self._read_ahead = b""
        self._encoding: Encoding | None = None
        self._nursery: trio.Nursery | None = None
        self._in_session = False
        self._outbox: Outbox | None = None
        """Exists only while something waits."""
        self._flushing = False
        """Whether there is a task that writes what waits."""
        self._settled: trio.Event | None = None
        """For those who wait until what they said is out."""
        self._closed = False
        self._client_ended = False

    # --- reading ---

    async def handshake(self) -> None:
        """Complete the TLS handshake, its dear part in turn at the gate; nothing on a plain stream.

        Raises:
            trio.BrokenResourceError: the client does not speak TLS, or went away.

        """
        if self._tls is None:
            return
        try:
            first, self._read_ahead = self._read_ahead, b""
            self._tls.feed(first or await self._receive(16384))
            await self._gate.wait_turn()
            while not self._tls.try_handshake():
                await self._send_sealed()
                self._tls.feed(await self._receive(16384))
        except trio.BrokenResourceError:
            await self._send_sealed()  # the alert that says why
            raise
        # What is sealed now (in TLS 1.3 session tickets, which nobody waits for) goes out before the next wait for the
        # client, or with the first answer.

    async def receive_before_tls(self) -> bytes:
        """The next bytes as they are on the line, before `handshake`: what a proxy says; empty at the end.

        Raises:
            trio.BrokenResourceError: the connection is lost.

        """
        return await self._receive(RECEIVE_BYTES)

    def push_back(self, data: bytes) -> None:
        """Give back bytes that were read too early: they are received again first, before `handshake` by TLS."""
        self._read_ahead = data + self._read_ahead

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes from the client; empty at the end of its stream.

        Raises:
            trio.BrokenResourceError: the connection is lost.
            trio.ClosedResourceError: it was closed here.

        """
        limit = max_bytes or RECEIVE_BYTES
        if self._read_ahead:
            await trio.lowlevel.checkpoint()
            data, self._read_ahead = self._read_ahead[:limit], self._read_ahead[limit:]
            return data
        if self._tls is None:
            return await self._receive(limit)
        await trio.lowlevel.checkpoint()  # one record may be worth several reads, and those wait for nothing
        while (plain := self._tls.open(limit)) is None:
            await self._send_sealed()  # reading may owe the peer an answer: a key update, a ticket
            self._tls.feed(await self._receive(16384))
        return plain

    async def _receive(self, limit: int) -> bytes:
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this stream is closed")
            await trio.lowlevel.wait_readable(self.socket)
            try:
                data = self.socket.recv(limit)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                await self._client_left()
                raise trio.BrokenResourceError(f"connection lost: {error}") from error
            if not data:
                await self._client_left()
            self.last_received = trio.current_time()
            return data

    async def _client_left(self) -> None:
        """Nothing more is sent in the session; what else has to be done for one that left is done in its turn."""
        self._client_ended = True
        if self._in_session:
            self._in_session = False
            self._change_write(_write_nothing)
        await self._gate.wait_turn()

    # --- writing ---

    @property
    def descriptor(self) -> int:
        """Of the socket, while nothing waits for it and it may be written to directly; else `NO_SOCKET`. On TLS that is
        what `seal` gives, and what of it did not fit goes to `keep_sealed`."""
        return self.socket.fileno() if self._is_ready else NO_SOCKET

    @property
    def seal(self) -> Seal | None:
        """On TLS, while there is a `descriptor`: what gives the ciphertext for it."""
        return self._tls.ways if self._tls is not None and self._is_ready else None

    def keep_sealed(self, rest: bytes) -> None:
        """Ciphertext that is the next to be written."""
        assert self._tls is not None
        self._tls.keep(rest)
        self._backlog()

    @property
    def _is_ready(self) -> bool:
        return self.write == (self.socket.send if self._tls is None else self._write)

    @property
    def is_tls(self) -> bool:
        """Whether the client speaks TLS."""
        return self._tls is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed or aborted here."""
        return self._closed

    @property
    def backlogged(self) -> bool:
        """Whether something waits for the socket."""
        return self._outbox is not None

    @property
    def lossless_bytes(self) -> int:
        """Bytes of answers and alerts that wait."""
        return self._outbox.lossless_bytes if self._outbox else 0

    @property
    def held_bytes(self) -> int:
        """What all that waits costs in memory, about."""
        if self._outbox is None:
            return 0
        return self._outbox.held_bytes + (len(self._tls.sealed) if self._tls else 0)

    @property
    def stuck_since(self) -> float:
        """Loop time since when the client has taken nothing of what waits; `inf` when nothing waits."""
        return math.inf if self._outbox is None else self._outbox.taken_at

    def start_session(self, nursery: trio.Nursery, encoding: Encoding) -> None:
        """From here on frames are taken without waiting; `nursery` lives until after `end_session`."""
        self._nursery = nursery
        self._encoding = encoding
        self._in_session = not self._closed
        if self._outbox is not None:
            self._outbox.encoding = encoding

    def end_session(self) -> None:
        """From here on only `send_all` is listened to; what waits is still written, before what follows."""
        self._in_session = False
        self._change_write(_write_nothing)
        if self._outbox is not None:
            self._outbox.settle()

    def keep(self, batch: Batch, written: int) -> int:
        """Take over a batch of which `write` took only so many bytes, or none. Never blocks, never raises.

        Returns how many messages that waited were replaced by newer ones.
        """
        return self._backlog().keep_batch(batch, written) if self._in_session else 0

    def send_frame(self, frame: bytes) -> None:
        """Write one frame that must arrive, or keep it in its turn. Never blocks, never raises."""
        if self._in_session:
            self._put(frame)

    def replay(self, updates: list[Update]) -> None:
        """Write updates in order, each of them, or keep them in their turn. Never blocks, never raises."""
        if not self._in_session or self._encoding is None:
            return
        parts: list[bytes] = []
        size = 0
        for number, update in enumerate(updates):
            if self._outbox is not None:  # what did not fit is kept as updates, whose frames are everybody's
                self._outbox.keep_replay(updates[number:])
                return
            parts.append(update.frame(self._encoding))
            size += len(parts[-1])
            if size >= TAKE_BYTES or number == len(updates) - 1:
                self._put(b"".join(parts))
                parts, size = [], 0

    def drop_channel(self, channel: str) -> int:
        """Forget what waits of a channel that the client left or gets a snapshot of: how many messages."""
        return self._outbox.drop_channel(channel) if self._outbox is not None else 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` in its turn and wait until it is out.

        Cancelled in a session, it is written nevertheless; cancelled before one, a stream that is cut in the
        middle of it is aborted.

        Raises:
            trio.BrokenResourceError: the connection was lost, or aborted, before it was out.
            trio.ClosedResourceError: it was closed here.

        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        self._put(bytes(data))
        if self._outbox is None:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif self._flushing:
            await self._wait_settled()
        else:
            await self._flush()
        if self._closed:
            raise trio.BrokenResourceError("connection lost while writing")

    async def wait_send_all_might_not_block(self) -> None:
        """Part of the stream interface; waits until nothing but updates is queued."""
        if self._flushing:
            await self._wait_settled()
        else:
            await trio.lowlevel.checkpoint()

    def _put(self, data: bytes) -> None:
        if self._outbox is not None:
            self._outbox.keep_lossless(data)
        elif not self._closed:
            written = self._write(data)
            if written < len(data):
                self._backlog().keep_rest(data[written:])

    def _write(self, data: bytes) -> int:
        """How many bytes of `data` are taken care of: sent, or (TLS) sealed and kept to go out first."""
        try:
            if self._tls is None:
                return self.socket.send(data)
            self._tls.seal(data)
            self._push_sealed()
        except (BlockingIOError, InterruptedError):
            return 0
        except (OSError, ssl.SSLError):
            self.abort()
        return len(data)

    def _push_sealed(self) -> None:
        """Send what TLS has sealed; what does not fit waits and is, as ciphertext must be, the next to go."""
        tls = self._tls
        while tls is not None and tls.sealed:
            try:
                tls.sent(self.socket.send(tls.sealed))
            except (BlockingIOError, InterruptedError):
                self._backlog()
                return

    def _backlog(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(self._encoding, trio.current_time())
            self._change_write(_write_nothing)
            if self._nursery is not None:
                self._flushing = True
                self._nursery.start_soon(self._flush)
        return self._outbox

    async def _flush(self) -> None:
        """Write what waits as the socket takes it; ends when nothing waits or the connection is gone."""
        self._flushing = True
        try:
            while not self._closed and self._outbox is not None:
                await trio.lowlevel.wait_writable(self.socket)
                # There is room again: the client took something, so it lives, be it that it says nothing.
                self.last_received = self._outbox.taken_at = trio.current_time()
                self._write_waiting(self._outbox)
        except trio.ClosedResourceError:
            pass
        except trio.Cancelled:
            self.abort()  # a frame may be half written, and nobody will write the rest
            raise
        finally:
            self._outbox = None
            self._flushing = False
            if not self._closed and (self._in_session or self._nursery is None):
                self._change_write(self._write if self._tls else self.socket.send)
            self._settle()

    def _write_waiting(self, outbox: Outbox) -> None:
        """Write until the socket is full or nothing waits."""
        try:
            while not self._closed:
                self._push_sealed()
                if self._tls is not None and self._tls.sealed:
                    return
                if not outbox.owes:
                    self._settle()
                if not outbox:
                    self._outbox = None
                    return
                data = outbox.take()
                written = self._write(data)
                if written < len(data):
                    outbox.keep_rest(data[written:])
                    return
        except OSError:
            self.abort()

    async def _wait_settled(self) -> None:
        if self._settled is None:
            self._settled = trio.Event()
        await self._settled.wait()

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    async def _send_sealed(self) -> None:
        try:
            self._push_sealed()
        except OSError as error:
            raise trio.BrokenResourceError(f"connection lost: {error}") from error
        if self._outbox is not None and not self._flushing:
            await self._flush()

    def _change_write(self, write: Callable[[bytes], int]) -> None:
        self.write = write
        if self.on_write_changed is not None:
            self.on_write_changed()

    # --- the end ---

    def abort(self) -> None:
        """Close the socket now; whoever waits on it is woken. What waited is lost."""
        self._close()
        self.socket.close()

    async def aclose(self) -> None:
        """End both directions; a TLS client is told so if that needs no waiting.

        The socket stays open for `linger`: its owner closes it by `abort`.
        """
        if not self._closed:
            if self._tls is not None and self._outbox is None:
                self._tls.say_goodbye()
                with contextlib.suppress(OSError):
                    self._push_sealed()
            self._close()
            if not self._client_ended:
                with contextlib.suppress(OSError):
                    self.socket.shutdown(socket.SHUT_WR)
        await trio.lowlevel.checkpoint()

    async def linger(self) -> None:
        """After `aclose`: read and forget until the client has closed too, within `LINGER_S`.

        A socket that is closed with something unread in it resets the connection, and the client may lose
        what we said last (RFC 1122, 4.2.2.13).
        """
        if self._client_ended:
            return
        with trio.move_on_after(LINGER_S), contextlib.suppress(OSError, trio.ClosedResourceError):
            more = self.socket.fileno() >= 0
            while more:
                await trio.lowlevel.wait_readable(self.socket)
                with contextlib.suppress(BlockingIOError):
                    more = bool(self.socket.recv(65536))

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._in_session = False
            self._change_write(_write_nothing)
            self.on_write_changed = (
                None  # and so no cycle keeps a session of a storm until the collector comes
            )
            trio.lowlevel.notify_closing(self.socket)


def _write_nothing(_data: bytes) -> int:
    """`write` of a stream with a queue, or without a connection."""
    return 0
