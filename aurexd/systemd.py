"""What systemd hands to a service through the environment, and wants to hear of it.

The protocols are those of sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3), which promise to stay as they
are and invite to be spoken without libsystemd. There is no library to lean on instead: `sdnotify` has not moved since
2017 and knows neither sockets nor the watchdog; `systemd-python` and `cysystemd` are compiled against libsystemd.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

import structlog

log = structlog.get_logger(__name__)

FIRST_FD = 3
"""SD_LISTEN_FDS_START: the sockets that are handed over begin here."""

UNNAMED = "unknown"
"""What sd_listen_fds(3) calls a socket without a name."""


class Notifier:
    """Tells systemd how the service is; started by anybody else, it tells nobody.

    Each message is one datagram that is never waited for, and may be sent from any thread.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """`address`: of $NOTIFY_SOCKET; a path, or `@` and an abstract name. Empty: nobody listens."""
        self.watchdog_s = watchdog_s
        """Within how many seconds `alive` is to be said again and again; None: it need not."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The one that the environment names; taken out of it, so that no child process speaks in our name."""
        return cls(environ.pop("NOTIFY_SOCKET", ""), _watchdog_s(environ))

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """It serves; also said after each reload, whether or not that changed anything."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload begins. Type=notify-reload wants to know when, so that it takes no older `ready` for its end."""
        monotonic_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def stopping(self, status: str, within_s: float) -> None:
        """It ends, and needs so many seconds for it from now on, whatever TimeoutStopSec says; may be said again."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}", _status(status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._send(_status(status))

    def alive(self) -> None:
        """Answer the watchdog."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Tell no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            log.warning("systemd_not_told", state=assignments[0], reason=error.strerror)


def _status(text: str) -> str:
    return "STATUS=" + text.replace("\n", " ")


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    with contextlib.suppress(KeyError, ValueError):
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            return int(environ["WATCHDOG_USEC"]) / 1e6 or None
    return None


def take_sockets(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets that were handed over, by the names of their units (`FileDescriptorName=`), once and for all: they
    are taken out of the environment and are no child's."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, list[socket.socket]] = {}
    if pid == str(os.getpid()) and count.isdigit():
        for number in range(int(count)):
            name = names[number] if number < len(names) and names[number] else UNNAMED
            os.set_inheritable(FIRST_FD + number, False)
            sockets.setdefault(name, []).append(socket.socket(fileno=FIRST_FD + number))
    return sockets
