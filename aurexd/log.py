"""The log: one structlog chain for aurexd's own events and for the libraries', redacted, to where it is read.

Levels: `error` a person must look; `warning` we coped; `info` a life began or ended; `debug` each message.
An event is a constant `noun_verbed`; what varies stands in keys, with units in their names. Warnings and errors that
repeat themselves without end are left out, and counted (`repeats.py`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Literal, TextIO, get_args

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from aurexd import journal
from aurexd.foreign import escape
from aurexd.journal import Journal
from aurexd.redaction import Redactor
from aurexd.repeats import KIND, Repeats, kind_of

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json", "journal"]

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Level → syslog's severity, which is the journal's."""

LEVELS: tuple[Level, ...] = get_args(Level)

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

    `auto` is for people on a terminal, the journal where that listens to the stream, else JSON lines. `secrets` are
    texts that must never be seen.
    """
    stream = sys.stderr if stream is None else stream
    if format == "auto":
        format = "console" if stream.isatty() else "journal" if _is_journal(stream) else "json"  # noqa: A001
    redactor = Redactor(secrets)
    former = structlog.get_config()["logger_factory"]
    if isinstance(former, _Entries):
        former.journal.close()
    counts = written()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_logger_name,
            _leave_out_repeats(Repeats()),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Tracebacks become text before they are redacted: they hold URLs too.
            structlog.processors.format_exc_info,
            _redact(redactor),
            _count(counts),
            *_RENDERERS[format](stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Entries(Journal(), counts) if format == "journal" else _Lines(stream, counts),
        # Uncached, so that a later call changes the level of every logger there is.
        cache_logger_on_first_use=False,
    )
    _take_in_libraries()


def written() -> dict[str, int]:
    """Level → lines so far."""
    former = structlog.get_config()["logger_factory"]
    return former.counts if isinstance(former, _Lines | _Entries) else dict.fromkeys(LEVELS, 0)


class _Lines:
    """Makes the loggers that write to one stream. They share its lock: several threads log."""

    def __init__(self, stream: TextIO, counts: dict[str, int]) -> None:
        self.counts = counts
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


class _Entries:
    """Makes the loggers that write to the journal."""

    def __init__(self, journal: Journal, counts: dict[str, int]) -> None:
        self.journal = journal
        self.counts = counts

    def __call__(self, name: str = "") -> _LineLogger:
        return _LineLogger(name, self)

    def write(self, **fields: str) -> None:
        """Write one entry."""
        self.journal.send(fields)


class _LineLogger:
    """What structlog calls with what was rendered; `name` is the module that logs."""

    def __init__(self, name: str, to: _Lines | _Entries) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = to.write


def _is_journal(stream: TextIO) -> bool:
    try:
        return journal.is_listening_to(stream.fileno(), os.environ)
    except (OSError, ValueError):  # a stream of a test, or a closed one
        return False


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


_now = time.monotonic


def _leave_out_repeats(repeats: Repeats) -> Processor:
    lock, log = threading.Lock(), structlog.get_logger(__name__)

    def leave_out(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        now = _now()
        with lock:
            overdue = list(repeats.overdue(now))
            swallowed = repeats.admit(kind_of(event), now) if event["level"] not in {"debug", "info"} else 0
        for kind, count in overdue:
            about = {f"of_{key}": value for key, value in zip(KIND, kind, strict=True) if value}
            log.warning("lines_left_out", swallowed=count, **about)
        if swallowed is None:
            raise structlog.DropEvent
        if swallowed:
            event["swallowed"] = swallowed
        return event

    return leave_out


def _count(counts: dict[str, int]) -> Processor:
    lock = threading.Lock()

    def count(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        level = "error" if event["level"] == "critical" else event["level"]
        with lock:
            counts[level] = counts.get(level, 0) + 1
        return event

    return count


def _redact(redactor: Redactor) -> Processor:
    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        redacted: EventDict = redactor.value(event)
        return redacted

    return redact


def _console(stream: TextIO) -> list[Processor]:
    return [
        _escape_controls,
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What a provider or a client sent must not steer the operator's terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = escape(value, "\\x{:02x}")
    return event


def _journal_entry(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> dict[str, str]:
    """One field for each key, and all of them in the message, because that is what people see."""
    level, name = event.pop("level"), str(event.pop("event"))
    event.pop("timestamp", None)  # the journal has its own
    texts = {key: _text(value) for key, value in event.items() if value is not None}
    exception = texts.pop("exception", "")
    words = [name, *(f"{key}={_quoted(text)}" for key, text in texts.items() if key not in _UNSAID)]
    message = " ".join(words)
    return {
        "MESSAGE": f"{message}\n{exception}" if exception else message,
        "PRIORITY": str(PRIORITIES.get(level, 6)),
        "SYSLOG_IDENTIFIER": "aurexd",
        "EVENT": name,
        **{journal.field_name(key): text for key, text in texts.items()},
    }


_UNSAID = frozenset({"logger"})
"""What is a field of the journal and does not have to be read each time."""


def _text(value: Any) -> str:
    return escape(value if isinstance(value, str) else _json(value).decode(), "\\x{:02x}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=') else text


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        # Half a surrogate pair from a provider's JSON, or an integer beyond 64 bits.
        return json.dumps(value).encode()


def _json_line(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> bytes:
    ordered = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    ordered.update(event)
    return escape(
        _json(ordered).decode()
    ).encode()  # JSON itself escapes the first 32 control characters only


_RENDERERS: dict[str, Callable[[TextIO], list[Processor]]] = {
    "console": _console,
    "json": lambda _stream: [_json_line],
    "journal": lambda _stream: [_journal_entry],
}
