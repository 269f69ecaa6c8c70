"""The systemd journal's own protocol: an entry is one datagram, with fields that can be searched for.

It is https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, which is stable; `systemd-python` and `cysystemd`, which speak it
too, are compiled against libsystemd. Lines on standard error reach the journal as well, but as text without fields.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import sys
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)

_TAKEN = frozenset(
    {"MESSAGE", "MESSAGE_ID", "PRIORITY", "ERRNO", "TID", "UNIT", "USER_UNIT", "INVOCATION_ID"}
)
"""Names whose meaning is the journal's, beside `CODE_…` and `SYSLOG_…`."""


def is_listening_to(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Does what is written to this descriptor go to the journal, as $JOURNAL_STREAM says?"""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def field_name(key: str) -> str:
    """How the field of a key is called: in capitals, with a prefix where that name is the journal's, or none at all."""
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper(), flags=re.ASCII)
    if name in _TAKEN or name.startswith(("CODE_", "SYSLOG_")) or not _NAME.fullmatch(name):
        name = f"AUREXD_{name}"[:64]
    return name


def encode(fields: Mapping[str, str]) -> bytes:
    """An entry of the protocol."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), data))
    return b"".join(parts)


class Journal:
    """Sends entries, from any thread, and waits for nobody: what the journal does not take is counted, and the next
    entry that it takes says how many were lost."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._lost = 0

    def send(self, fields: Mapping[str, str]) -> None:
        """Send one entry."""
        entry = encode({**fields, "LOST": str(self._lost)} if self._lost else fields)
        try:
            try:
                self._socket.sendto(entry, socket.MSG_DONTWAIT, self._path)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                self._send_long(entry)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def close(self) -> None:
        """Send no more."""
        self._socket.close()

    def _send_long(self, entry: bytes) -> None:
        """What does not fit into a datagram goes as a sealed file in memory."""
        descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(entry)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            # Not `socket.send_fds`, which forgets the address.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))
            self._socket.sendmsg([], [rights], socket.MSG_DONTWAIT, self._path)
        finally:
            os.close(descriptor)
