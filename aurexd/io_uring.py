"""To many sockets in one system call, the same bytes or to each its own: io_uring(7), without waiting.

`Targets` holds one ready submission entry per socket, in the kernel's own layout. To write to all of them, `SendRing`
copies the data to where every entry points, puts its length into the entries, copies these to the ring and enters the
kernel, which runs the sends one after the other inside that call: what a loop of non-blocking `send` does, without the
loop. Why that is safe (io_uring/net.c and io_uring/io_uring.c of Linux 6.18):

1.  MSG_DONTWAIT sets REQ_F_NOWAIT (`io_sendmsg_prep`), and so a full socket fails at once (`io_queue_async` →
    `io_req_defer_failed`): no poll is armed, no worker thread asked, nothing is in flight when `write` returns. So the
    data may be overwritten, and a descriptor closed and used again, as after a `send`.
2.  IOSQE_CQE_SKIP_SUCCESS keeps successes silent: Python looks at the exceptions only. MSG_WAITALL makes a *short*
    send one of them (`io_send`: `ret < min_ret`), which says how much it took (`io_sendrecv_fail`); without it a
    short send would be silent too, and bytes lost. (To TCP's own send MSG_WAITALL means nothing.)
3.  `SendRing.open` sees both for itself on the running kernel, and gives None where they do not hold or io_uring is
    not to be had: kernel.io_uring_disabled and containers (EPERM), no such kernel (ENOSYS), before Linux 6.0 (EINVAL).

Memory order: the kernel's half of the ring runs in this very thread, inside the system call (no SQPOLL, no workers), so
program order is all the order there has to be, on any processor; io_uring(7)'s barriers are for the other cases.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import struct
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, islice
from typing import Final

ENTRIES: Final = 512
"""Sends per system call, a power of two: as long the loop is held. The GIL is free meanwhile."""

DATA_BYTES: Final = 1 << 17
"""The most that one `write` takes, and each part of `write_each`."""

NO_SOCKET: Final = -1
"""Among targets: this number is not to be written to; `write` says -EBADF of it."""

# include/uapi/linux/io_uring.h. The calls have these numbers on every architecture (alpha apart).
_SETUP, _ENTER = 425, 426
_SUBMIT_ALL, _SINGLE_ISSUER = 1 << 7, 1 << 12  # IORING_SETUP_…, Linux 5.18 and 6.0
_NEEDED = 1 << 0 | 1 << 11  # IORING_FEAT_SINGLE_MMAP, IORING_FEAT_CQE_SKIP: Linux 5.4 and 5.17
_OFF_RINGS, _OFF_ENTRIES = 0, 0x10000000  # IORING_OFF_SQ_RING, IORING_OFF_SQES
_OP_SEND, _SKIP_SUCCESS = 26, 1 << 6  # IORING_OP_SEND, IOSQE_CQE_SKIP_SUCCESS
_PARAMS = struct.Struct(
    "=10I 8IQ 8IQ"
)  # struct io_uring_params: 120 bytes; flags are its word 2, features word 5
_ENTRY = struct.Struct("=BBHiQQIIQ24x")  # opcode flags ioprio fd off addr len msg_flags user_data: 64 bytes
_WORDS, _FD, _ADDRESS, _LENGTH = 16, 1, 4, 6  # an entry in 32-bit words, and where in it
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_WAITALL | socket.MSG_NOSIGNAL

_NOBODY = NO_SOCKET & 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)
_setup, _enter = _libc["syscall"], _libc["syscall"]
_setup.restype = _enter.restype = ctypes.c_long
_setup.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_char_p)
_enter.argtypes = (ctypes.c_long,) * 7


def _within_4_gib(size: int) -> mmap.mmap:
    """Memory of which all addresses have the same upper half, so that the lower can be written alone."""
    kept = []
    while True:
        data = mmap.mmap(-1, size)
        if (ctypes.addressof(ctypes.c_char.from_buffer(data)) & 0xFFFFFFFF) + size <= 1 << 32:
            return data
        kept.append(data)  # else the next would be the same


class Targets:
    """Sockets that are written to together; each has a number, as in a list."""

    __slots__ = ("_data_address", "_length", "sockets", "words")

    def __init__(self, ring: SendRing) -> None:
        self._data_address = ring.data_address
        self._length = 0
        self.words = array("I")
        self.sockets = 0
        """How many of them are not `NO_SOCKET`."""

    def __len__(self) -> int:
        return len(self.words) // _WORDS

    def append(self, fd: int) -> None:
        """Add a socket's descriptor, or `NO_SOCKET`."""
        number = len(self)
        entry = _ENTRY.pack(
            _OP_SEND, _SKIP_SUCCESS, 0, fd, 0, self._data_address, self._length, _FLAGS, number
        )
        self.words.frombytes(entry)
        self.sockets += fd != NO_SOCKET

    def __setitem__(self, number: int, fd: int) -> None:
        """Do it *before* the old socket is closed: its descriptor is the next one to be given out."""
        at = number * _WORDS + _FD
        self.sockets += (fd != NO_SOCKET) - (self.words[at] != _NOBODY)
        self.words[at] = fd & 0xFFFFFFFF

    def pop(self) -> int:
        """Remove the last; its descriptor."""
        fd = self.words[_FD - _WORDS]
        del self.words[-_WORDS:]
        self.sockets -= fd != _NOBODY
        return NO_SOCKET if fd == _NOBODY else fd

    def set_length(self, size: int) -> None:
        """How much each entry is to send."""
        if size != self._length:
            self.words[_LENGTH::_WORDS] = array("I", [size]) * len(self)
            self._length = size


class SendRing:
    """A ring. It belongs to the thread that made it: in another one nothing is written (-EEXIST)."""

    def __init__(self) -> None:
        """A ring, untried; `open` is for everybody else.

        Raises:
            OSError: there is no io_uring for us.

        """
        asked = ctypes.create_string_buffer(_PARAMS.size)
        struct.pack_into("=I", asked, 8, _SUBMIT_ALL | _SINGLE_ISSUER)
        self._fd = _setup(_SETUP, ENTRIES, ctypes.cast(asked, ctypes.c_char_p))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        self._finalize = weakref.finalize(self, os.close, self._fd)
        given = _PARAMS.unpack(asked.raw)
        sq_entries, cq_entries, features, sq, cq = given[0], given[1], given[5], given[10:19], given[19:28]
        rings_bytes = max(sq[6] + sq_entries * 4, cq[5] + cq_entries * 16)
        try:
            if features & _NEEDED != _NEEDED:
                raise OSError(errno.EOPNOTSUPP, "io_uring is too old")  # noqa: TRY301
            rings = mmap.mmap(self._fd, rings_bytes, mmap.MAP_SHARED, offset=_OFF_RINGS)
            entries = mmap.mmap(self._fd, sq_entries * _ENTRY.size, mmap.MAP_SHARED, offset=_OFF_ENTRIES)
        except OSError:
            self.close()
            raise
        self._data = _within_4_gib(DATA_BYTES)
        self.data_address = ctypes.addressof(ctypes.c_char.from_buffer(self._data))
        self._low = self.data_address & 0xFFFFFFFF
        self._rings = memoryview(rings).cast("I")
        self._entries = memoryview(entries).cast("I")
        self._sq_head, self._sq_tail, self._sq_mask = sq[0] // 4, sq[1] // 4, sq_entries - 1
        self._cq_head, self._cq_tail, self._cq_mask = cq[0] // 4, cq[1] // 4, cq_entries - 1
        self._completions = cq[5] // 4
        indices = sq[6] // 4  # the ring of indices into the entries: as they come
        self._rings[indices : indices + sq_entries] = array("I", range(sq_entries))

    @classmethod
    def open(cls) -> SendRing | None:
        """A ring that was seen to work, or None: then there is `socket.send`."""
        try:
            ring = cls()
        except OSError:
            return None
        if ring._works():
            return ring
        ring.close()
        return None

    def close(self) -> None:
        """Give the ring back; the memory goes with this object. Done by itself when nobody has it any more."""
        self._finalize()

    def write(
        self, targets: Targets, data: bytes, start: int = 0, stop: int | None = None
    ) -> list[tuple[int, int]]:
        """Send `data` to the sockets numbered from `start` to before `stop`, without waiting.

        At most `DATA_BYTES`. Returns, in order, those that did not take all of it: the number, and how many bytes
        it took or its negative errno (-EAGAIN: it is full).
        """
        size, short = len(data), list[tuple[int, int]]()
        stop = len(targets) if stop is None else min(stop, len(targets))
        self._data[:size] = data
        targets.set_length(size)
        rings, sq_tail = self._rings, self._sq_tail
        with memoryview(targets.words) as words:
            while start < stop:
                place = rings[sq_tail] & self._sq_mask
                count = min(stop - start, self._sq_mask + 1 - place)  # around the corner: with the next call
                ready = words[start * _WORDS : (start + count) * _WORDS]
                self._entries[place * _WORDS : (place + count) * _WORDS] = ready
                taken, error = self._enter(count, short)
                start += taken
                if error:
                    short += [(number, error) for number in range(start, stop)]
                    break
        return short

    def write_each(self, targets: Targets, parts: Sequence[bytes], start: int = 0) -> list[tuple[int, int]]:
        """Send `parts` to the sockets numbered from `start` on, to each its own; see `write`."""
        short, stop, entries = list[tuple[int, int]](), start + len(parts), self._entries
        sizes = array("I", map(len, parts))
        done = 0
        with memoryview(targets.words) as words:
            while done < len(parts):
                place = self._rings[self._sq_tail] & self._sq_mask
                count = min(len(parts) - done, self._sq_mask + 1 - place)
                ends = list(accumulate(sizes[done : done + count]))
                if ends[-1] > DATA_BYTES:  # what does not fit now goes with the next call
                    count = bisect_right(ends, DATA_BYTES)
                    del ends[count:]
                self._data[: ends[-1]] = b"".join(parts[done : done + count])
                first, at, end = start + done, place * _WORDS, (place + count) * _WORDS
                entries[at:end] = words[first * _WORDS : (first + count) * _WORDS]
                offsets = chain((0,), islice(ends, count - 1))
                entries[at + _ADDRESS : end : _WORDS] = array("I", [self._low + offset for offset in offsets])
                entries[at + _LENGTH : end : _WORDS] = sizes[done : done + count]
                taken, error = self._enter(count, short)
                done += taken
                if error:
                    short += [(number, error) for number in range(start + done, stop)]
                    break
        return short

    def _enter(self, count: int, short: list[tuple[int, int]]) -> tuple[int, int]:
        """Have the kernel take that many entries; how many it took and, where those are not all, the negative errno."""
        rings, tail = self._rings, self._rings[self._sq_tail]
        rings[self._sq_tail] = (tail + count) & 0xFFFFFFFF
        entered = _enter(_ENTER, self._fd, count, 0, 0, 0, 0)
        taken = (rings[self._sq_head] - tail) & 0xFFFFFFFF
        if rings[self._cq_head] != rings[self._cq_tail]:
            short += self._exceptions()
        if taken == count:
            return taken, 0
        # The kernel has no memory, or so: take back what it left, it was not sent.
        rings[self._sq_tail] = rings[self._sq_head]
        return taken, -(errno.EAGAIN if entered >= 0 else ctypes.get_errno())

    def _exceptions(self) -> list[tuple[int, int]]:
        rings, head, tail = self._rings, self._rings[self._cq_head], self._rings[self._cq_tail]
        found = []
        while head != tail:
            at = (
                self._completions + (head & self._cq_mask) * 4
            )  # struct io_uring_cqe: user_data (64), res, flags
            number, result = rings[at] | rings[at + 1], rings[at + 2]  # of user_data one half is always 0
            found.append((number, result - (result >> 31 << 32)))
            head = (head + 1) & 0xFFFFFFFF
        rings[self._cq_head] = head
        return found

    def _works(self) -> bool:
        """Whether what fits is silent, what does not says how far it came, and what is full says so at once."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            ours.setblocking(False)
            theirs.setblocking(False)
            targets = Targets(self)
            targets.append(NO_SOCKET)
            targets.append(ours.fileno())
            nobody, long, received = (0, -errno.EBADF), bytes(range(256)) * 500, b""
            if self.write(targets, b"x") != [nobody] or theirs.recv(2) != b"x":
                return False
            said = self.write(targets, long), self.write(targets, long)
            with contextlib.suppress(BlockingIOError):
                while part := theirs.recv(len(long)):
                    received += part
            full = [nobody, (1, -errno.EAGAIN)]
            return said == ([nobody, (1, len(received))], full) and long.startswith(received)
