"""One client's byte stream, plain or TLS, over a non-blocking socket: the only room that writes to a client.

It knows nothing of WebSocket or HTTP. What makes it more than `trio.SocketStream` is that a ready frame can be
*offered* to it by a plain call: it goes straight into the socket, and only what does not fit waits in an outbox
with a task that writes it (docs/adr/0001, "Fan-out"). Everything that is written goes through here, so frames never
interleave, and nothing is ever cut in the middle of a frame while the connection lives.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import trio

from aurexd.outbox import Batch, Outbox
from aurexd.protocol.codec import Encoding

RECEIVE_BYTES = 4096
"""Clients say little: one read of this size holds any message they need."""


class ClientStream(trio.abc.Stream):
    """A `trio.abc.Stream` that also takes frames without waiting.

    Until `start_session` it is an ordinary stream. After it, the given nursery runs the task that writes what did
    not fit, so a caller that is cancelled never leaves a frame half written.
    """

    __slots__ = (
        "_closed",
        "_drained",
        "_encoding",
        "_limit",
        "_nursery",
        "_outbox",
        "_read_ahead",
        "_tls",
        "last_received",
        "last_sent",
        "on_write_changed",
        "remote_address",
        "socket",
        "write",
    )

    def __init__(self, sock: socket.socket, remote_address: str, tls: ssl.SSLContext | None) -> None:
        """`sock` is connected and non-blocking; the stream owns it. `tls`: do `handshake()` first."""
        self.socket = sock
        self.remote_address = remote_address
        self.last_received = trio.current_time()
        """Loop time at which the client was last heard."""
        self.last_sent = self.last_received
        """Loop time at which something was written for this client alone; fan-out is not counted here."""
        self._tls = _Tls(tls) if tls else None
        self.write: Callable[[bytes], int] = self._write if tls else sock.send
        """How many bytes of ready frames were taken care of, without waiting; what is left goes to `keep`. On a plain
        stream with nothing queued this is the socket's own `send`, because it is called for every client and update;
        so it raises BlockingIOError and OSError as that does."""
        self.on_write_changed: Callable[[], None] | None = None
        """Called when `write` has become another function."""
        self._read_ahead = b""
        self._encoding: Encoding | None = None
        self._limit = 0
        self._nursery: trio.Nursery | None = None
        self._outbox: Outbox | None = None
        """Exists only while something waits."""
        self._drained: trio.Event | None = None
        self._closed = False

    # --- reading ---

    async def handshake(self) -> None:
        """Complete the TLS handshake; nothing on a plain stream.

        Raises:
            trio.BrokenResourceError: the client does not speak TLS, or went away.

        """
        if self._tls is None:
            return
        while not self._tls.try_handshake():
            await self._send_sealed()
            self._tls.feed(await self._receive(16384))
        await self._send_sealed()

    def push_back(self, data: bytes) -> None:
        """Give back bytes that were read too early: they are received again first."""
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
                raise trio.BrokenResourceError(f"connection lost: {error}") from error
            self.last_received = trio.current_time()
            return data

    # --- writing ---

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

    def start_session(self, nursery: trio.Nursery, encoding: Encoding) -> None:
        """From here on frames may be offered; `nursery` lives as long as the connection."""
        self._nursery = nursery
        self._encoding = encoding

    def keep(self, batch: Batch, written: int) -> None:
        """Take over a batch of which `write` took only `written` bytes, or failed to. Never blocks, never raises."""
        if not self._closed:
            self._backlog().keep_batch(batch, written)

    def send_frame(self, frame: bytes) -> None:
        """Write one frame that must arrive, or keep it in its turn. Never blocks, never raises."""
        self.last_sent = trio.current_time()
        if self._outbox is not None:
            self._outbox.keep_lossless(frame)
        elif not self._closed:
            written = self._write(frame)
            if written < len(frame):
                self._backlog().keep_rest(frame[written:])

    def drop_channel(self, channel: str) -> None:
        """Forget what waits of a channel that the client left or got a snapshot of."""
        if self._outbox is not None:
            self._outbox.drop_channel(channel)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data` in its turn and wait until it is out."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")
        self.send_frame(bytes(data))
        if self._outbox is None:
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif self._nursery is None:
            await self._flush()
        else:
            assert self._drained is not None
            await self._drained.wait()
        if self._closed:
            raise trio.BrokenResourceError("connection lost while writing")

    async def wait_send_all_might_not_block(self) -> None:
        """Part of the stream interface; waits until nothing is queued."""
        if self._drained is not None:
            await self._drained.wait()
        await trio.lowlevel.checkpoint()

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
        assert self._tls is not None
        while self._tls.sealed:
            try:
                self._tls.sent(self.socket.send(self._tls.sealed))
            except (BlockingIOError, InterruptedError):
                self._backlog()
                return

    def _backlog(self) -> Outbox:
        if self._outbox is None:
            assert self._encoding is not None or self._nursery is None
            self._outbox = Outbox(self._encoding)
            self._drained = trio.Event()
            self._change_write(_write_nothing)
            if self._nursery is not None:
                self._nursery.start_soon(self._flush)
        return self._outbox

    async def _flush(self) -> None:
        """Write what waits as the socket takes it; ends when nothing waits or the connection is gone."""
        try:
            while not self._closed:
                try:
                    await trio.lowlevel.wait_writable(self.socket)
                except trio.ClosedResourceError:
                    return
                if self._write_waiting():
                    return
        finally:
            self._outbox = None
            if not self._closed:
                self._change_write(self._write if self._tls else self.socket.send)
            drained, self._drained = self._drained, None
            if drained is not None:
                drained.set()

    def _write_waiting(self) -> bool:
        """Write once; whether nothing waits any more."""
        outbox = self._outbox
        assert outbox is not None
        try:
            if self._tls is not None:
                self._push_sealed()
                if self._tls.sealed:
                    return False
            data = outbox.take()
            outbox.keep_rest(data[self._write(data) :])
        except (OSError, ssl.SSLError):
            self.abort()
            return True
        return not outbox and not (self._tls and self._tls.sealed)

    async def _send_sealed(self) -> None:
        assert self._tls is not None
        try:
            self._push_sealed()
        except OSError as error:
            raise trio.BrokenResourceError(f"connection lost: {error}") from error
        if self._outbox is not None and self._nursery is None:
            await self._flush()

    def _change_write(self, write: Callable[[bytes], int]) -> None:
        self.write = write
        if self.on_write_changed is not None:
            self.on_write_changed()

    # --- the end ---

    def abort(self) -> None:
        """Close the socket now; whoever waits on it is woken. What waited is lost."""
        if not self._closed:
            self._closed = True
            self._change_write(_write_nothing)
            self.on_write_changed = None  # and so no cycle keeps a session of a storm until the collector comes
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    async def aclose(self) -> None:
        """Close; a TLS client is told so if that needs no waiting."""
        if not self._closed and self._tls is not None and not self.backlogged:
            self._tls.say_goodbye()
            try:
                self._push_sealed()
            except OSError:
                self.abort()
        self.abort()
        await trio.lowlevel.checkpoint()


def _write_nothing(_data: bytes) -> int:
    """`write` of a stream with a queue, or without a connection."""
    return 0


class _Tls:
    """TLS as a pure conversation: ciphertext in, ciphertext out (`ssl.SSLObject` over memory buffers)."""

    __slots__ = ("_incoming", "_object", "_outgoing", "sealed")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.sealed: bytes | memoryview = b""
        """Ciphertext to be sent, oldest first."""

    def try_handshake(self) -> bool:
        """Whether the handshake is complete; else feed it more."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(f"TLS handshake failed: {error.reason}") from error
        finally:
            self._collect()
        return True

    def feed(self, data: bytes) -> None:
        """Ciphertext from the peer; empty: its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def open(self, limit: int) -> bytes | None:
        """Plain bytes; empty at the end; None when more ciphertext is needed."""
        try:
            return self._object.read(limit)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(f"TLS failed: {error.reason}") from error
        finally:
            self._collect()

    def seal(self, data: bytes) -> None:
        """Encrypt all of `data` onto `sealed`."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
        self._collect()

    def sent(self, count: int) -> None:
        """The first `count` bytes of `sealed` are out."""
        self.sealed = memoryview(self.sealed)[count:] if count < len(self.sealed) else b""

    def say_goodbye(self) -> None:
        """Seal a close_notify; the peer's is not awaited."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass
        self._collect()

    def _collect(self) -> None:
        if self._outgoing.pending:
            fresh = self._outgoing.read()
            self.sealed = fresh if not self.sealed else bytes(self.sealed) + fresh
