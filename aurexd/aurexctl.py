"""The `aurexctl` command. It will speak to the daemon's control socket, which this release does not have."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from aurexd import __version__

USAGE = """\
usage: aurexctl [--help] [--version]

Will look into the running daemon and steer it, through its control socket.
"""

NOT_YET = f"""\
aurexctl: aurexd {__version__} has no control socket yet. Until it has, the daemon answers HTTP on its port:
  GET /api/v1/sources    each source's state, its last error and its next attempt
  GET /api/v1/ws/stats   connections, the last price, the update count
  GET /healthz           whether the process works
  GET /readyz            whether it can serve, and how fresh each price is
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Say what there is, and exit: 0 where that was the question, else 69."""
    asked = list(sys.argv[1:] if arguments is None else arguments)
    if "--version" in asked:
        sys.stdout.write(f"aurexctl {__version__}\n")
        sys.exit(os.EX_OK)
    if "--help" in asked or "-h" in asked:
        sys.stdout.write(USAGE + "\n" + NOT_YET)
        sys.exit(os.EX_OK)
    sys.stderr.write(NOT_YET)
    sys.exit(os.EX_UNAVAILABLE)
