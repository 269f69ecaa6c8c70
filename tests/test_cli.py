"""The command line: what it prints where, and which exit status says what."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

import aurexd
from aurexd import cli
from aurexd.config import Config, load
from aurexd.config.manual import default_config
from aurexd.errors import ConfigError, InboxFullError, ListenError, Problem, StoreError, SupervisionError
from tests.logging_state import restored_logging

ROOT = Path(__file__).parents[1]
RIGHT = """
[symbols.TESTGOLD]
instrument = "test"
[[sources]]
name = "sim"
type = "simulated"
symbols = { TESTGOLD = "x" }
"""


@pytest.fixture(autouse=True)
def _no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("AUREXD_") or name in {"REALTIME_ENABLED", "WS_UPDATE_INTERVAL"}:
            monkeypatch.delenv(name)
    with restored_logging():
        yield


@pytest.fixture
def right(tmp_path: Path) -> str:
    (tmp_path / "right.toml").write_text(RIGHT)
    return str(tmp_path / "right.toml")


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    (tmp_path / "wrong.toml").write_text(RIGHT + "[listen]\nport = 70000\n[realtime]\nenabled = 'off'\n")
    return str(tmp_path / "wrong.toml")


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


Run = Callable[[Config, Path], Awaitable[None]]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Puts a coroutine in the daemon's place."""

    def install(run: Run) -> None:
        monkeypatch.setitem(sys.modules, "aurexd.daemon", SimpleNamespace(run_daemon=run))

    return install


def raising(error: BaseException) -> Run:
    async def run(_config: Config, _file: Path) -> None:
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                raise error

            nursery.start_soon(fail)

    return run


# --- usage ---


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert capsys.readouterr().out == f"aurexd {aurexd.__version__}\n"


def test_help_lists_the_commands_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == 0
    out = capsys.readouterr().out
    for command in ("run", "check-config", "doctor", "default-config", "dev-certificate", "schema", "token"):
        assert command in out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("rnu",),
        ("run", "--confg", "x"),
        ("run", "--conf", "x"),
        ("schema",),
        ("schema", "xml"),
        ("run", "x"),
    ],
)
def test_a_wrong_command_line_is_status_64_and_shows_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert status(*arguments) == 64
    captured = capsys.readouterr()
    assert captured.err.startswith("usage: aurexd")
    assert captured.out == ""


# --- configuration ---


def test_check_config_tells_that_all_is_right(capsys: pytest.CaptureFixture[str], right: str) -> None:
    assert status("check-config", "--config", right) == 0
    assert capsys.readouterr().out == f"{right}: right; symbols: TESTGOLD; sources: sim\n"


def test_check_config_tells_all_problems_and_exits_with_78(
    capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert status("check-config", "--config", wrong) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == f"aurexd: {wrong}: 2 problems"
    assert "  listen.port: " in captured.err
    assert "  realtime.enabled: " in captured.err


def test_check_config_in_json_is_one_document_either_way(
    capsys: pytest.CaptureFixture[str], right: str, wrong: str
) -> None:
    assert status("check-config", "--json", "--config", right) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "file": right, "problems": [], "notes": []}
    assert status("check-config", "--json", "--config", wrong) == 78
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["ok"], document["file"], captured.err) == (False, wrong, "")
    assert [problem["path"] for problem in document["problems"]] == ["listen.port", "realtime.enabled"]
    assert set(document["problems"][0]) == {"path", "message", "suggestion", "origin"}


def test_check_config_notes_what_may_not_be_meant(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(RIGHT + '[symbols.GC]\ninstrument = "future"')
    assert status("check-config", "--config", str(file)) == 0
    assert capsys.readouterr().out.startswith("note: symbols.GC: no source delivers it")


def test_the_file_is_found_by_the_variable_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    monkeypatch.setenv("AUREXD_CONFIG", right)
    assert status("check-config") == 0
    assert right in capsys.readouterr().out


def test_a_missing_file_is_a_configuration_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status("run", "--config", str(tmp_path / "no.toml")) == 78
    assert "there is no such file" in capsys.readouterr().err


def test_default_config_prints_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("default-config") == 0
    assert capsys.readouterr().out == default_config()


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("asyncapi", "asyncapi", "3."),
        ("openapi", "openapi", "3."),
        ("jsonschema", "$schema", "https://json-schema.org/"),
    ],
)
def test_schema_prints_a_document_of_its_kind(
    capsys: pytest.CaptureFixture[str], kind: str, key: str, value: str
) -> None:
    assert status("schema", kind) == 0
    assert json.loads(capsys.readouterr().out)[key].startswith(value)


# --- run ---


def test_run_gives_the_daemon_the_configuration_and_ends_with_it(
    daemon: Callable[[Run], None], right: str
) -> None:
    seen = []

    async def run(config: Config, _file: Path) -> None:
        seen.append(config)

    daemon(run)
    assert status("run", "--config", right) == 0
    assert list(seen[0].symbols) == ["TESTGOLD"]


IN_USE = OSError(errno.EADDRINUSE, "Address already in use")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ListenError("127.0.0.1:8000 is in use: set another listen.port"), 69, "set another listen.port"),
        (StoreError("the disk is full"), 69, "the disk is full"),
        (SupervisionError("the hub kept dying"), 70, "the hub kept dying"),
        (ConfigError([Problem("tls", "the files are gone")]), 78, "tls: the files are gone"),
        (RuntimeError("oops"), 70, "RuntimeError: oops"),
        (InboxFullError("a bug"), 70, "InboxFullError: a bug"),
        (BrokenPipeError("a bug"), 70, "BrokenPipeError: a bug"),
        (KeyboardInterrupt(), 130, ""),
        (ExceptionGroup("x", [ExceptionGroup("y", [ListenError("in use")])]), 69, "in use"),
        (ExceptionGroup("x", [ListenError("in use"), ValueError("bug")]), 70, "ValueError: bug"),
        (ExceptionGroup("x", [ListenError("in use"), SupervisionError("dead")]), 70, "dead"),
    ],
)
def test_a_failing_daemon_says_why_in_the_log_and_by_its_status(
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    daemon: Callable[[Run], None],
    right: str,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("AUREXD_LOG__FORMAT", "json")
    daemon(raising(error))
    assert status("run", "--config", right) == code
    captured = capfdbinary.readouterr()
    assert captured.out == b""
    logged = [json.loads(line) for line in captured.err.splitlines()]
    assert all(line["event"] == "daemon_failed" for line in logged)
    assert said in "\n".join(line["reason"] + line.get("exception", "") for line in logged)
    expected = isinstance(error, ListenError | StoreError | SupervisionError | ConfigError)
    assert not (expected and any("exception" in line for line in logged))


def test_run_logs_what_may_not_be_meant(
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    daemon: Callable[[Run], None],
    tmp_path: Path,
) -> None:
    async def run(_config: Config, _file: Path) -> None:
        pass

    daemon(run)
    monkeypatch.setenv("AUREXD_LOG__FORMAT", "json")
    file = tmp_path / "x.toml"
    file.write_text(RIGHT + '[symbols.GC]\ninstrument = "future"')
    assert status("run", "--config", str(file)) == 0
    [line] = map(json.loads, capfdbinary.readouterr().err.splitlines())
    assert (line["event"], line["level"], line["path"]) == ("config_noted", "warning", "symbols.GC")


def test_a_bug_before_the_log_is_configured_shows_its_traceback_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    def broken(_file: Path) -> Config:
        raise RuntimeError("wss://h/?token=abcdef")

    monkeypatch.setattr(cli, "load", broken)
    assert status("check-config", "--config", right) == 70
    captured = capsys.readouterr()
    assert "RuntimeError: wss://h/?token=[redacted]" in captured.err
    assert captured.err.endswith("aurexd: internal error; please report it with the traceback\n")
    assert captured.out == ""


# --- dev-certificate ---


def test_dev_certificate_prints_what_the_configuration_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory = tmp_path / "it's here"
    assert status("dev-certificate", "gold.example", "::1", "--directory", str(directory)) == 0
    out = capsys.readouterr().out
    assert "A certificate for gold.example, ::1, until 20" in out
    assert "Chromium" in out
    (tmp_path / "aurexd.toml").write_text(RIGHT + out)
    tls = load(tmp_path / "aurexd.toml").tls
    assert Path(tls.private_key).parent == directory


def test_dev_certificate_says_what_it_cannot_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status("dev-certificate", "--directory", str(tmp_path)) == 0
    capsys.readouterr()
    assert status("dev-certificate", "--directory", str(tmp_path)) == 64
    assert status("dev-certificate", "a b", "--directory", str(tmp_path / "new")) == 64
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert first.startswith(f"aurexd: {tmp_path}/private_key.pem exists already")
    assert second.startswith("aurexd: 'a b' is neither a host name nor an address")
    assert captured.out == ""
    assert not (tmp_path / "new").exists()


# --- the process ---


@pytest.mark.slow
def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aurexd", "run", "--config", "/nowhere/aurexd.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.startswith("aurexd: /nowhere/aurexd.toml: 1 problem")


@pytest.mark.slow
def test_a_reader_that_stops_early_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "aurexd", "default-config"],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
