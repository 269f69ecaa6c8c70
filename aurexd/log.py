"""The log: one structlog chain for aurexd's own events and for the libraries', redacted, to standard error.

Levels: `error` a person must look; `warning` we coped; `info` a life began or ended; `debug` each message.
An event is a constant `noun_verbed`; what varies stands in keys, with units in their names.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from aurexd.foreign import escape
from aurexd.redaction import Redactor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

LIBRARY_LEVELS = {
    # pykka, trio-websocket, hypercorn: from warning on. Their info tells of every request, with its URL.
    "": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    # It logs as errors what it also raises, and the source reports that.
    "yfinance": logging.CRITICAL,
}
"""Logger → the least severe of its records that are let in, whatever our own level is."""


def configure(
    level: Level = "info",
    format: Format = "auto",  # noqa: A002 — the configuration's word
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send the process's log to `stream` (standard error). May be called again: the latest call holds.

    `auto` is for people on a terminal and JSON lines otherwise. `secrets` are texts that must never be seen.
    """
    stream = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and stream.isatty())
    redactor = Redactor(secrets)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Tracebacks become text before they are redacted: they hold URLs too.
            structlog.processors.format_exc_info,
            _redact(redactor),
            *(_console(colors=stream.isatty()) if console else [_json_line]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines(stream),
        # Uncached, so that a later call changes the level of every logger there is.
        cache_logger_on_first_use=False,
    )
    _take_in_libraries()


class _Lines:
    """Makes the loggers that write to one stream. They share its lock: several threads log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, name: str = "") -> _LineLogger:
        return _LineLogger(name, self)

    def write(self, line: str | bytes) -> None:
        """Write one line. A full disk or a closed pipe under the log must not end the daemon."""
        if isinstance(line, str):
            line = line.encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                self._stream.buffer.write(line + b"\n")
                self._stream.buffer.flush()
            except (OSError, ValueError):  # ValueError: it is closed
                pass


class _LineLogger:
    """What structlog calls with a rendered line; `name` is the module that logs."""

    def __init__(self, name: str, lines: _Lines) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = lines.write


class FromLibraries(logging.Handler):
    """Brings what libraries log through the standard module into our chain."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as ours: the library's own words are a key, not the event."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the library's arguments do not fit its own text
            message = f"{record.msg} {record.args}"
        log = structlog.get_logger(record.name)
        level = next((n for n in _LEVELS if record.levelno >= n), logging.DEBUG)
        log.log(level, "library_logged", message=message.strip(), exc_info=record.exc_info)


_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)


def _take_in_libraries() -> None:
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, FromLibraries):
            root.removeHandler(handler)
    root.addHandler(FromLibraries())
    for name, level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)


def _add_logger_name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if name := getattr(logger, "name", ""):
        event.setdefault("logger", name)
    return event


def _redact(redactor: Redactor) -> Processor:
    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        redacted: EventDict = redactor.value(event)
        return redacted

    return redact


def _console(*, colors: bool) -> list[Processor]:
    return [
        _escape_controls,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What a provider or a client sent must not steer the operator's terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = escape(value, "\\x{:02x}")
    return event


def _json_line(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> bytes:
    ordered = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    ordered.update(event)
    try:
        line = msgspec.json.encode(ordered)
    except (UnicodeEncodeError, OverflowError):
        # Half a surrogate pair from a provider's JSON, or an integer beyond 64 bits.
        return json.dumps(ordered).encode()
    return escape(line.decode()).encode()  # JSON itself escapes the first 32 control characters only
