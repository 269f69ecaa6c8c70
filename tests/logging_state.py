"""Puts the process's logging back as it was: `log.configure` changes it for everybody."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import structlog

from aurexd import log


@contextlib.contextmanager
def restored_logging() -> Iterator[None]:
    """Whatever happens to logging inside is gone afterwards."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in log.LIBRARY_LEVELS}
    shown = warnings.showwarning
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        warnings.showwarning = shown
        root.handlers[:] = [
            handler for handler in root.handlers if not isinstance(handler, log.FromLibraries)
        ]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
