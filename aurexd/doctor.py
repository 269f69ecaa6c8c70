"""The `aurexd doctor`: looks at the machine as the daemon will find it, and says what to mend before it starts."""

from __future__ import annotations

import concurrent.futures
import ctypes
import datetime
import errno
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from aurexd.config.model import Config
from aurexd.sources.base import SourceSettings

Verdict = Literal["ok", "note", "problem"]

OTHER_FILES = 200
"""File descriptors beside those of the clients: the database, the sources, libraries."""

BACKLOG = 4096
"""Connections that the port asks the kernel to hold, which net.core.somaxconn may cut."""

EXPIRES_SOON_DAYS = 14
"""Let's Encrypt's own tools renew at 30."""

CLOCK_OFF_US = 100_000
"""A clock that may be off by more makes prices look late, or early."""

CONNECT_S = 5.0

STA_UNSYNC = 0x0040
"""adjtimex(2): nothing keeps the clock right."""

YAHOO = "https://query2.finance.yahoo.com"
"""What yfinance asks."""


class Finding(NamedTuple):
    """What one look brought to light."""

    verdict: Verdict
    what: str
    """What was looked at: `file descriptors`, `source alltick`."""
    message: str
    advice: str = ""


def examine(config: Config) -> Iterator[Finding]:
    """Look at everything, one after the other; sources all at once, each for `CONNECT_S` at most."""
    yield file_descriptors(config.limits.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield listen_queue(Path("/proc/sys/net/core/somaxconn"))
    yield clock(*kernel_clock())
    if config.tls.certificate:
        yield certificate(Path(config.tls.certificate), datetime.datetime.now(datetime.UTC))
    if config.storage.path is not None:
        yield directory("database", config.storage.path.absolute().parent, made_if_missing=True)
    if config.control.socket:
        yield directory("control socket", Path(config.control.socket).absolute().parent)
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as threads:
        yield from threads.map(source, config.sources)


def file_descriptors(max_connections: int, limit: int) -> Finding:
    """Each client needs one."""
    what, needed = "file descriptors", max_connections + OTHER_FILES
    if limit == resource.RLIM_INFINITY or (max_connections and limit >= needed):
        return Finding("ok", what, f"{limit} may be open")
    if not max_connections:
        return Finding("note", what, f"{limit} may be open, and max_connections is 0: no limit", "set it")
    return Finding(
        "problem",
        what,
        f"{limit} may be open, {max_connections} clients need {needed}",
        f"ulimit -n {needed} (systemd: LimitNOFILE={needed}), or lower limits.max_connections",
    )


def listen_queue(file: Path) -> Finding:
    """What waits while the daemon is busy."""
    what = "net.core.somaxconn"
    try:
        most = int(file.read_text())
    except (OSError, ValueError):
        return Finding("note", what, "cannot be read here", "see to it that it is 4096 or more")
    if most >= BACKLOG:
        return Finding("ok", what, f"{most} connections may wait")
    advice = f"sysctl -w net.core.somaxconn={BACKLOG}"
    return Finding("note", what, f"only {most} connections may wait when many come at once", advice)


def kernel_clock() -> tuple[bool, int]:
    """Whether something keeps the clock right, and by how many microseconds it may be off at most; see adjtimex(2)."""
    timex = ctypes.create_string_buffer(512)  # more than the kernel writes; mode 0: only read
    ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    return not struct.unpack_from("i", timex, 40)[0] & STA_UNSYNC, struct.unpack_from("q", timex, 24)[0]


def clock(synchronised: bool, may_be_off_us: int) -> Finding:
    """Prices are stamped with it, and tokens judged by it."""
    if not synchronised:
        advice = "run chrony or systemd-timesyncd, here or on the host"
        return Finding("note", "clock", "the kernel does not know that anything keeps it right", advice)
    text = f"kept right, off by {may_be_off_us / 1000:.0f} ms at most"
    if may_be_off_us > CLOCK_OFF_US:
        return Finding("note", "clock", text, "chronyc tracking, or timedatectl, says why")
    return Finding("ok", "clock", text)


def certificate(file: Path, now: datetime.datetime) -> Finding:
    """Until when it is valid: nothing else warns."""
    from cryptography import x509

    what = "certificate"
    try:
        ends = x509.load_pem_x509_certificates(file.read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError) as error:
        return Finding("problem", what, f"{file} cannot be read: {error}", "name a certificate in PEM")
    days, until = (ends - now).days, f"{ends:%Y-%m-%d %H:%M} UTC"
    if ends <= now:
        return Finding("problem", what, f"{file} was valid until {until}", "renew it, then reload")
    if days < EXPIRES_SOON_DAYS:
        return Finding("note", what, f"{file} is valid until {until}, {days} days", "renew it, then reload")
    return Finding("ok", what, f"valid until {until}")


def directory(what: str, path: Path, *, made_if_missing: bool = False) -> Finding:
    """Whether the user who asks may write there."""
    if made_if_missing and not path.exists() and path.parent.is_dir():
        path = path.parent
    if not path.is_dir():
        return Finding("problem", what, f"there is no directory {path}", "make it, for the daemon's user")
    if not os.access(path, os.W_OK | os.X_OK):
        user = f"user {os.geteuid()}"
        return Finding(
            "problem", what, f"{user} may not write to {path}", "chown it, or ask as the daemon's user"
        )
    free = os.statvfs(path)
    return Finding("ok", what, f"{path} can be written to, {free.f_bavail * free.f_frsize >> 20} MiB free")


def source(settings: SourceSettings) -> Finding:
    """Whether a connection to the provider can be made; it is asked nothing."""
    what = f"source {settings.name}"
    if settings.type == "simulated":
        return Finding("ok", what, "simulated: it needs nobody")
    file = getattr(settings, "file", None)
    if file is not None:
        there = os.access(file, os.R_OK)
        return Finding("ok", what, f"{file} can be read") if there else Finding(
            "problem", what, f"{file} cannot be read", "name a file that the daemon's user may read"
        )  # fmt: skip
    url = urlsplit(getattr(settings, "url", YAHOO))
    host, port = url.hostname or "", url.port or (443 if url.scheme in {"wss", "https"} else 80)
    began = time.monotonic()
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError as error:
        return Finding(
            "problem", what, f"{host}:{port}: {_why(error)}", "check the network, DNS and the firewall"
        )
    return Finding("ok", what, f"{host}:{port} answers within {(time.monotonic() - began) * 1000:.0f} ms")


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_S:g} s"
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror})"
    return error.strerror or errno.errorcode.get(error.errno or 0, str(error))
