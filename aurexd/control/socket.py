"""The control socket: a Unix stream socket, who may use it, and how little of one client others feel.

The socket's mode decides who may look, the credentials that the kernel gives for the other end decide who may change
things. A client can keep no more than one message, a few calls and one reply waiting here, and none of that for long.
What is answered is the operator's business (`operator.py`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog
import trio

from aurexd.control import interface
from aurexd.control.definition import Method
from aurexd.control.interface import CONTROL, NotAnsweredError, PermissionDeniedError
from aurexd.control.service import Call, GetInfo, GetInterfaceDescription, Incoming, Service
from aurexd.control.wire import Messages, error_reply, reply
from aurexd.errors import ListenError, VarlinkError

log = structlog.get_logger(__name__)

_log = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger("info"), logger_factory_args=(__name__,)
)
"""For what is logged whatever the level is: who changed something."""

MODE = 0o660
GROUP = "aurexd"

REGISTRY = Path("/run/varlink/registry")
"""Where systemd looks for the sockets of interfaces, by name."""

BACKLOG = 64

MAX_CLIENTS = 32
RESERVED = 8
"""Of those, for who may change things: nobody else can lock an operator out."""

MAX_CALLS = 16
"""That one client may have waiting; further ones wait in its socket."""

MESSAGE_S = 10.0
"""What may pass between two parts of one message."""

IDLE_S = 600.0
"""A connection over which nothing is asked for so long is closed."""

WRITE_S = 10.0
"""A client that takes nothing of a reply for so long is hung up on."""

LOOK_S = 0.25
"""How often it is looked whether who stopped talking still listens."""

EXHAUSTED_PAUSE_S = 0.1


class Peer(NamedTuple):
    """The process at the other end, when it connected."""

    pid: int
    """0 where it is in a namespace that we cannot see into."""
    uid: int
    gid: int


Replies = Callable[[msgspec.Struct], Awaitable[None]]


class Answers(Protocol):
    """Whoever does what is called."""

    async def answer(self, method: Method[Any], more: Replies | None) -> msgspec.Struct:
        """The reply. Replies before it go to `more`; None: one is all that the caller wants.

        Raises:
            VarlinkError: the answer is an error.

        """


def bind(path: str) -> socket.socket:
    """A listening socket at the path, for its group and nobody else; what a crash left there is replaced.

    Raises:
        ListenError: it cannot be; the message says why and what to do.

    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        _remove_stale(path)
        # Before `bind`, which makes the file: nobody else can open it in between.
        os.fchmod(listener.fileno(), MODE)
        listener.bind(path)
        with contextlib.suppress(LookupError, PermissionError):  # there is no such group, or we are not in it
            shutil.chown(path, group=GROUP)
        Path(path).chmod(MODE)  # whatever the umask
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(_explain(error, path)) from error
    return listener


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except BlockingIOError:
        pass  # somebody listens, and is busy


def _explain(error: OSError, path: str) -> str:
    where = f"control.socket: cannot bind {path}"
    match error.errno:
        case errno.EADDRINUSE:
            what = "another process listens there, or it is another kind of file"
            return f"{where}: {what} — stop that one, or name another"
        case errno.ENOENT | errno.ENOTDIR:
            directory = Path(path).parent
            return f'{where}: there is no directory {directory} — make it for the daemon\'s user, or write socket = ""'
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{where}: {error.strerror} — the daemon's user must be able to write to its directory"
        case _:
            return f"{where}: {error.strerror}"


def _remove(*files: str | Path | None) -> None:
    for file in files:
        if file is not None:
            with contextlib.suppress(OSError):
                Path(file).unlink()


class ControlSocket:
    """Serves operators on a listening socket until it is cancelled."""

    def __init__(self, listener: socket.socket, operator: Answers, *, path: str | None = None) -> None:
        """`path`: of the socket's file, where that is ours to remove; None where somebody else made it."""
        listener.setblocking(False)
        self._listener = listener
        self._operator = operator
        self._path = path
        self._service = Service(CONTROL)
        self._clients = 0
        self._others = 0
        """Clients that may only look."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        entry = None if self._path is None else _register(self._path)
        try:
            async with trio.open_nursery() as clients:
                task_status.started()
                await self._accept(clients)
        finally:
            _remove(entry, self._path)
            self._listener.close()

    async def _accept(self, clients: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(self._listener)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # no file descriptors, which the port says in the log
                    await trio.sleep(EXHAUSTED_PAUSE_S)
            else:
                client.setblocking(False)
                peer = peer_of(client)
                if not self._has_room(peer):
                    log.warning("operator_turned_away", uid=peer.uid, pid=peer.pid, clients=self._clients)
                    client.close()
                    continue
                clients.start_soon(self._serve_client, client, peer)

    def _has_room(self, peer: Peer) -> bool:
        if may_change(peer):
            return self._clients < MAX_CLIENTS
        return self._clients < MAX_CLIENTS and self._others < MAX_CLIENTS - RESERVED

    async def _serve_client(self, client: socket.socket, peer: Peer) -> None:
        """One connection, from accept to close: the crash barrier between a client and the daemon."""
        others = not may_change(peer)
        self._clients += 1
        self._others += others
        try:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
                await _Connection(stream, peer, self._service, self._operator).serve()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away
        except* Exception:
            log.exception("operator_call_crashed", uid=peer.uid, pid=peer.pid)
        finally:
            self._clients -= 1
            self._others -= others


class _Connection:
    """One client: its calls are answered one after the other, in their order."""

    def __init__(self, stream: trio.SocketStream, peer: Peer, service: Service, operator: Answers) -> None:
        self._stream = stream
        self._peer = peer
        self._service = service
        self._operator = operator
        self._answering: Method[Any] | None = None

    async def serve(self) -> None:
        """Serve until the client has nothing more to say, says nonsense, or takes no answer."""
        calls, waiting = trio.open_memory_channel[Incoming](MAX_CALLS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, calls, nursery.cancel_scope)
            async with waiting:
                async for call in waiting:
                    await self._answer(call)
            nursery.cancel_scope.cancel()

    async def _read(self, calls: trio.MemorySendChannel[Incoming], connection: trio.CancelScope) -> None:
        """Read calls until there are no more; then see to it that nothing is answered to nobody."""
        messages = Messages()
        async with calls:
            while data := await self._receive(messages):
                try:
                    for message in messages.feed(data):
                        await calls.send(self._service.read(message))
                except ValueError as error:
                    log.info(
                        "operator_not_understood", uid=self._peer.uid, pid=self._peer.pid, reason=str(error)
                    )
                    connection.cancel()
                    return
        while not self._gone() or (self._answering and self._answering.changes):  # noqa: ASYNC110 — no event says so
            await trio.sleep(LOOK_S)
        connection.cancel()

    async def _receive(self, messages: Messages) -> bytes:
        """What the client says next; nothing when it is done, or too slow."""
        while True:
            begun = messages.begun
            with trio.move_on_after(MESSAGE_S if begun else IDLE_S):
                return bytes(await self._stream.receive_some(65536))
            if begun or self._answering is None:
                return b""

    def _gone(self) -> bool:
        """Whether the client has closed both directions: who has only said all it had to say still listens."""
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    async def _answer(self, incoming: Incoming) -> None:
        if isinstance(incoming.asked, VarlinkError):
            message = error_reply(incoming.asked)
        else:
            self._answering = incoming.asked.method
            try:
                message = await self._reply(incoming.asked, oneway=incoming.oneway)
            finally:
                self._answering = None
        if not incoming.oneway:
            await self._write(message)

    async def _reply(self, call: Call, *, oneway: bool) -> bytes:
        method = call.method
        try:
            match method:
                case GetInfo():
                    return reply(self._service.info())
                case GetInterfaceDescription():
                    return reply(self._service.describe(method))
            if method.changes and not self._note_change(method):
                return error_reply(PermissionDeniedError())
            several = call.more and method.streams and not oneway
            return reply(await self._operator.answer(method, self._more if several else None))
        except VarlinkError as error:
            if method.changes:
                _log.info("operator_failed", method=type(method).__name__, reason=str(error))
            return error_reply(error)
        except trio.TooSlowError as error:
            log.warning("operator_unanswered", method=type(method).__name__, reason=str(error))
            return error_reply(NotAnsweredError(str(error)))

    def _note_change(self, method: Method[Any]) -> bool:
        """Log who wants what, whatever becomes of it: whether this client may."""
        asked = {"method": type(method).__name__, "parameters": msgspec.structs.asdict(method)}
        if may_change(self._peer):
            _log.info("operator_acted", uid=self._peer.uid, pid=self._peer.pid, **asked)
            return True
        _log.info("operator_refused", uid=self._peer.uid, pid=self._peer.pid, **asked)
        return False

    async def _more(self, parameters: msgspec.Struct) -> None:
        await self._write(reply(parameters, continues=True))

    async def _write(self, message: bytes) -> None:
        """Write it all, or end the connection: half a message is worse than none."""
        for start in range(0, len(message), 65536):
            with trio.move_on_after(WRITE_S) as patience:
                await self._stream.send_all(message[start : start + 65536])
            if patience.cancelled_caught:
                log.info("operator_too_slow", uid=self._peer.uid, pid=self._peer.pid)
                raise trio.BrokenResourceError


def peer_of(client: socket.socket) -> Peer:
    """Who is at the other end, by the kernel's word; see unix(7), SO_PEERCRED."""
    size = struct.calcsize("3i")
    return Peer(*struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)))


def may_change(peer: Peer) -> bool:
    """Root and the daemon's own user may."""
    return peer.uid in {0, os.geteuid()}


def _register(path: str) -> Path | None:
    """Enter our socket in the registry, where there is one that we may write to: the entry."""
    entry = REGISTRY / interface.NAME
    if not REGISTRY.is_dir():
        return None
    try:
        if entry.is_symlink():  # of a daemon that was killed
            entry.unlink()
        entry.symlink_to(Path(path).absolute())
    except OSError:
        return None
    return entry
