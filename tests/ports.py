"""Ports for servers that are told theirs before they start."""

from __future__ import annotations

import contextlib
import secrets
import socket

LOWEST, MANY = 10_000, 20_000
"""All are below the range from which the kernel gives a connection its own end: no test's connection takes one between
this choice and its use, and no client is connected to itself (Linux: 32768 to 60999)."""


def free_port() -> int:
    """One that nobody has now."""
    while True:
        number = LOWEST + secrets.randbelow(MANY)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", number))
            return number
