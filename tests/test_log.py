"""The log: for people on a terminal, JSON otherwise, without secrets; and it never takes the daemon down."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog

from aurexd import log
from aurexd.log import Format, Level
from aurexd.repeats import BURST, EVERY_S, QUIET_S
from tests.logging_state import restored_logging

SECRET = "c0ffee-42d5e4a3"


@pytest.fixture(autouse=True)
def _logging_is_put_back() -> Iterator[None]:
    with restored_logging():
        yield


class Target(io.BytesIO):
    """Where the log goes: stays readable when its text layer is collected."""

    def close(self) -> None:
        pass


class Terminal(io.TextIOWrapper):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def configured(level: Level = "debug", style: Format = "json", secrets: tuple[str, ...] = ()) -> Target:
    target = Target()
    log.configure(level, style, secrets=secrets, stream=io.TextIOWrapper(target, write_through=True))
    return target


def lines(target: Target) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.getvalue().splitlines()]


def test_lines_are_counted_by_level_over_every_change_of_it() -> None:
    configured("info")
    before = dict(log.written())
    some = structlog.get_logger("aurexd.hub")
    some.debug("message_sent")
    some.info("status_changed")
    configured("warning")
    some.info("status_changed")
    some.error("store_failed")
    logging.getLogger("hypercorn").critical("it is on fire")
    grown = {level: count - before[level] for level, count in log.written().items()}
    assert grown == {"debug": 0, "info": 1, "warning": 0, "error": 2}


def test_an_event_is_one_json_line_with_its_time_level_name_and_logger() -> None:
    target = configured()
    structlog.get_logger("aurexd.actors.source").info("source_connected", source="alltick", lag_ms=12)
    [line] = lines(target)
    assert list(line) == ["timestamp", "level", "event", "logger", "source", "lag_ms"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["logger"]) == (
        "info",
        "source_connected",
        "aurexd.actors.source",
    )
    assert (line["source"], line["lag_ms"]) == ("alltick", 12)


def test_a_logger_without_a_name_has_none() -> None:
    target = configured()
    structlog.get_logger().info("source_connected")
    assert "logger" not in lines(target)[0]


def test_context_bound_to_a_task_is_on_its_lines() -> None:
    target = configured()
    with structlog.contextvars.bound_contextvars(session="s1"):
        structlog.get_logger().info("session_opened")
    assert lines(target)[0]["session"] == "s1"


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_less_severe_than_the_level_is_left_out(level: Level, seen: list[str]) -> None:
    target = configured(level)
    logger = structlog.get_logger()
    for method in ("debug", "info", "warning", "error"):
        getattr(logger, method)("event_happened")
    assert [line["level"] for line in lines(target)] == seen


def test_a_later_call_changes_loggers_that_are_already_there() -> None:
    logger = structlog.get_logger()
    first = configured("error")
    logger.info("event_happened")
    second = configured("info")
    logger.info("event_happened")
    assert (len(lines(first)), len(lines(second))) == (0, 1)


def test_secrets_are_taken_out_of_keys_texts_and_nested_values() -> None:
    target = configured(secrets=(SECRET,))
    structlog.get_logger().info(
        "source_failed",
        url="wss://h/?token=abcdef&x=1",
        token="abcdef",
        headers={"Authorization": "Bearer abcdef"},
        error=ValueError(f"refused {SECRET}"),
    )
    text = target.getvalue().decode()
    assert "abcdef" not in text
    assert SECRET not in text
    assert "x=1" in text


@pytest.mark.parametrize("style", ["json", "console"])
def test_secrets_are_taken_out_of_tracebacks(style: Format) -> None:
    target = configured(style=style, secrets=(SECRET,))
    error = ExceptionGroup("several", [RuntimeError(SECRET)])
    error.__cause__ = OSError("wss://h/?token=abcdef")
    structlog.get_logger().error("source_crashed", exc_info=error)
    text = target.getvalue().decode()
    assert "ExceptionGroup" in text
    assert "OSError" in text
    assert "abcdef" not in text
    assert f"RuntimeError: {SECRET}" not in text


@pytest.mark.parametrize(
    "value",
    [Decimal("1.5"), 1 << 80, "\ud800", b"\xff", {1: {2}}, float("nan"), object(), [None], io.BytesIO],
)
@pytest.mark.parametrize("style", ["json", "console"])
def test_no_value_can_make_a_log_call_fail(value: Any, style: Format) -> None:
    target = configured(style=style)
    structlog.get_logger().info("event_happened", value=value)
    assert b"event_happened" in target.getvalue()


def test_auto_is_for_people_on_a_terminal_and_json_elsewhere() -> None:
    on_terminal = Target()
    log.configure(stream=Terminal(on_terminal, write_through=True))
    structlog.get_logger().info("event_happened", n=1)
    assert b"\x1b[" in on_terminal.getvalue()
    elsewhere = configured(style="auto")
    structlog.get_logger().info("event_happened", n=1)
    assert lines(elsewhere)[0]["n"] == 1


def test_console_into_a_file_has_no_colours() -> None:
    target = configured(style="console")
    structlog.get_logger("aurexd.x").warning("event_happened", n=1)
    text = target.getvalue().decode()
    assert "\x1b" not in text
    assert "warning" in text
    assert "event_happened" in text
    assert "n=1" in text


def test_what_a_provider_sent_cannot_steer_the_terminal() -> None:
    target = configured(style="console")
    structlog.get_logger().info("event_happened", said="\x1b]0;owned\x07\x9b2J\rx", message="a\x1b[2Jb")
    assert not {0x1B, 0x07, 0x0D} & set(target.getvalue())
    assert "\x9b" not in target.getvalue().decode()


def test_what_libraries_log_arrives_in_the_same_form_from_warning_on() -> None:
    target = configured()
    logging.getLogger("pykka").warning("actor %s died\n", "x")
    logging.getLogger("httpx").info("GET https://h/?token=abcdef")
    logging.getLogger("trio-websocket").error("GET %s", f"https://h/?token={SECRET}")
    logging.getLogger("yfinance").error("$GC=F: possibly delisted")
    found = [(line["logger"], line["level"], line["event"], line["message"]) for line in lines(target)]
    assert found == [
        ("pykka", "warning", "library_logged", "actor x died"),
        ("trio-websocket", "error", "library_logged", "GET https://h/?token=[redacted]"),
    ]


def test_a_library_s_traceback_and_a_broken_record_and_odd_levels_are_logged_too() -> None:
    logging.getLogger().handlers.clear()  # pytest's raise where a record is broken
    target = configured()
    logging.getLogger("pykka").error("failed", exc_info=RuntimeError("inside"))
    logging.getLogger("pykka").warning("%d", "no number")
    logging.getLogger("pykka").log(35, "odd")
    first, second, third = lines(target)
    assert "RuntimeError: inside" in first["exception"]
    assert "no number" in second["message"]
    assert (third["message"], third["level"]) == ("odd", "warning")


def test_python_s_warnings_arrive_as_lines() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        target = configured()
        warnings.warn("old", UserWarning, stacklevel=1)
    assert [line["logger"] for line in lines(target)] == ["py.warnings"]


def test_configuring_twice_logs_once() -> None:
    configured()
    target = configured()
    logging.getLogger("pykka").warning("once")
    assert len(lines(target)) == 1


class Full(io.RawIOBase):
    """A file on a disk that is full until `room`."""

    room = False
    written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        self.written += bytes(data)
        return len(data)


def test_a_full_disk_under_the_log_does_not_stop_the_daemon_and_it_goes_on_later() -> None:
    raw = Full()
    log.configure("info", "json", stream=io.TextIOWrapper(io.BufferedWriter(raw, 256)))
    logger = structlog.get_logger()
    for n in range(50):
        logger.info("event_happened", n=n)
    raw.room = True
    logger.info("event_happened", n=99)
    logger.info("event_happened", n=100)
    assert json.loads(raw.written.splitlines()[-1])["n"] == 100


def test_a_closed_log_does_not_stop_the_daemon() -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    log.configure("info", "json", stream=stream)
    stream.close()
    structlog.get_logger().info("event_happened")


def test_lines_of_several_threads_do_not_mix() -> None:
    target = configured()

    def chatter(n: int) -> None:
        for _ in range(50):
            structlog.get_logger().info("event_happened", text=str(n) * 500)

    threads = [threading.Thread(target=chatter, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted({line["text"] for line in lines(target)}) == [str(n) * 500 for n in range(4)]
    assert len(lines(target)) == 200


def test_the_default_is_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(target, write_through=True))
    log.configure()
    structlog.get_logger().info("event_happened")
    assert lines(target)[0]["event"] == "event_happened"


# --- the journal ---


class Entries:
    """A journal that keeps what it is sent."""

    def __init__(self) -> None:
        self.kept: list[dict[str, str]] = []

    def send(self, fields: dict[str, str]) -> None:
        self.kept.append(dict(fields))

    def close(self) -> None:
        pass


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    journal = Entries()
    monkeypatch.setattr(log, "Journal", lambda: journal)
    log.configure("debug", "journal", secrets=(SECRET,))
    return journal.kept


def test_an_entry_has_a_message_for_people_a_priority_and_a_field_for_each_key(
    entries: list[dict[str, str]],
) -> None:
    structlog.get_logger("aurexd.actors.source").warning(
        "source_lost", source="alltick", reason="no answer", retry_in_s=1.5, next=None, failures=3
    )
    assert entries == [
        {
            "MESSAGE": 'source_lost source=alltick reason="no answer" retry_in_s=1.5 failures=3',
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "aurexd",
            "EVENT": "source_lost",
            "LOGGER": "aurexd.actors.source",
            "SOURCE": "alltick",
            "REASON": "no answer",
            "RETRY_IN_S": "1.5",
            "FAILURES": "3",
        }
    ]


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_each_level_has_syslog_s_priority(entries: list[dict[str, str]], level: str, priority: str) -> None:
    getattr(structlog.get_logger(), level)("event_happened")
    assert entries[0]["PRIORITY"] == priority


def test_a_traceback_stands_under_its_message_and_nothing_secret_or_unprintable_in_either(
    entries: list[dict[str, str]],
) -> None:
    error = RuntimeError(f"token {SECRET} \x1b[2J")
    structlog.get_logger().error("source_crashed", said="a\x1b]0;b", message="c", exc_info=error)
    (entry,) = entries
    first, *rest = entry["MESSAGE"].splitlines()
    assert first.startswith("source_crashed said=")
    assert rest[-1].startswith("RuntimeError: token [redacted]")
    assert entry["AUREXD_MESSAGE"] == "c"
    assert not any("\x1b" in text or SECRET in text for text in entry.values())


@pytest.mark.parametrize("value", [Decimal("1.5"), 1 << 80, "\ud800", b"\xff", {1: {2}}, object(), [None]])
def test_no_value_can_make_an_entry_fail(entries: list[dict[str, str]], value: Any) -> None:
    structlog.get_logger().info("event_happened", value=value)
    assert entries[0]["EVENT"] == "event_happened"


def test_auto_is_the_journal_where_systemd_says_that_it_listens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    journal = Entries()
    monkeypatch.setattr(log, "Journal", lambda: journal)
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        log.configure(stream=stream)
        structlog.get_logger().info("event_happened")
        log.configure(format="json", stream=stream)
        structlog.get_logger().info("event_happened")
        assert (tmp_path / "stream").read_text().count("event_happened") == 1
    assert [entry["EVENT"] for entry in journal.kept] == ["event_happened"]


# --- repeats ---


def test_warnings_that_repeat_without_end_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(log, "_now", lambda: now[0])
    target = configured()
    logger = structlog.get_logger("aurexd.x")
    for _ in range(BURST + 5):
        logger.warning("event_happened", source="mad")
        logger.info("life_ended")
    now[0] = EVERY_S
    logger.warning("event_happened", source="mad")
    logger.warning("event_happened", source="mad")
    now[0] = EVERY_S + QUIET_S
    logger.info("life_ended")
    written = lines(target)
    assert [line["event"] for line in written].count("life_ended") == BURST + 6
    warnings_ = [line for line in written if line["event"] == "event_happened"]
    assert [line.get("swallowed") for line in warnings_] == [None] * BURST + [5]
    (left,) = [line for line in written if line["event"] == "lines_left_out"]
    assert (left["swallowed"], left["of_event"], left["of_source"]) == (1, "event_happened", "mad")
