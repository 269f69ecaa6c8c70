"""The `aurexctl` command: what it asks, what it shows, and with which status it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aurexd import __version__, aurexctl
from aurexd.control import wire
from aurexd.control.tables import duration, number

SYMBOL = {
    "symbol": "XAUUSD",
    "instrument": "spot",
    "quality": "live",
    "market": "open",
    "source": "alltick",
    "reason": "alltick carries the price",
    "since": "2026-11-28T02:09:08Z",
    "close": 2700.5,
    "bid": None,
    "ask": None,
    "change": -1.25,
    "change_pct": None,
    "decimals": 2,
    "source_time": "2026-11-28T02:09:10Z",
    "age_ms": 250,
}
SOURCE = {
    "name": "alltick",
    "type": "alltick",
    "priority": 1,
    "symbols": {"XAUUSD": "GOLD"},
    "state": "waiting",
    "since": "2026-11-28T02:09:08Z",
    "ticks": 3,
    "lag_ms": 12,
    "failures": 1,
    "last_error": "refused [401]",
    "next_attempt": "2026-11-28T02:09:18Z",
    "rejected": {"duplicate": 2},
}
ACTOR = {
    "name": "hub",
    "supervisor": "core",
    "depth": 1,
    "state": "running",
    "restarts": 2,
    "since_s": 3.0,
    "last_error": "ValueError: x",
    "waiting": 1,
    "peak": 7,
    "capacity": 4096,
}
SESSION = {
    "id": "f923b51fa004",
    "address": "192.0.2.7",
    "user": "alice",
    "encoding": "json",
    "channels": ["price:XAUUSD"],
    "age_s": 61.0,
    "silent_s": 1.0,
    "waiting_bytes": 0,
    "closing": None,
}
STORE = {"state": "degraded", "reason": "the disk is full", "stored": 1, "waiting": 2, "dropped": 0}
STATUS = {
    "version": "0.1.0",
    "pid": 7,
    "phase": "serving",
    "uptime_s": 90_000.0,
    "config_file": "/etc/aurexd/aurexd.toml",
    "log_level": "info",
    "clients": 3,
    "connections": 9,
    "messages_sent": 100,
    "symbols": [SYMBOL],
    "sources": [{"name": "alltick", "state": "waiting", "last_error": "refused [401]"}],
    "store": STORE,
}
RELOADED = {
    "changed": ["limits.max_connections"],
    "waiting": {"listen.port": "the port is bound at the start"},
    "notes": [{"path": "symbols.GC", "message": "no source delivers it", "suggestion": "name it"}],
}

TICK = {"bid": 2700.1, "ask": None, "last": None, "received": "2026-11-28T02:09:10Z"}
WHY = {
    "symbol": "XAUUSD",
    "price": {"close": 2700.5},
    "quality": "live",
    "reason": "alltick carries the price",
    "since": "2026-11-28T02:09:08Z",
    "policy": "priority",
    "market": "open",
    "next_change": "2026-11-28T22:00:00Z",
    "previous_close": 2690.0,
    "max_jump_pct": 0.1,
    "sources": [
        {
            "source": "kraken",
            "priority": 2,
            "standing": "outranked",
            "quality": "live",
            "tick": TICK,
            "age_ms": 100,
            "stale_in_ms": None,
            "refused": {"bad_scale": 1},
        }
    ],
    "refused": [{"source": "kraken", "reason": "bad_scale", "tick": {**TICK, "last": 2701.1}}],
}

FIRED = {
    "alert_id": "a1",
    "rule_id": "r1",
    "symbol": "XAUUSD",
    "condition": "crosses_up",
    "close": 2700.5,
    "fired": "2026-11-28T02:09:10Z",
    "late": False,
    "note": "sell",
}
WAITING = {"owner": "local", "alert": FIRED}
WHY_ALERT = {
    "alert": FIRED,
    "acknowledged": None,
    "fires_when": "XAUUSD crosses 2700",
    "reason": "it was below",
    "previous": None,
    "price": {"close": 2700.5, "source": "alltick"},
}

Answer = Callable[[str, dict[str, Any]], list[bytes]]


@contextlib.contextmanager
def standing_in(path: Path, answer: Answer) -> Iterator[list[tuple[str, Any]]]:
    """A daemon that answers one connection from a script, and hangs up at its end; yields what it was asked."""
    asked: list[tuple[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                messages = wire.Messages()
                (message,) = messages.feed(client.recv(65536))
                call = wire.read_call(message)
                method = call.method.rpartition(".")[2]
                asked.append((method, json.loads(bytes(call.parameters))))
                client.sendall(b"".join(answer(method, asked[-1][1])))

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def says(*replies: dict[str, Any]) -> Answer:
    return lambda *_: [wire.reply(r, continues=r is not replies[-1]) for r in replies]


def fails(name: str, **parameters: Any) -> Answer:
    message = {"error": name if "." in name else f"io.aurex.Control.{name}", "parameters": parameters}
    return lambda *_: [json.dumps(message).encode() + b"\0"]


def run(path: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        aurexctl.main(["--socket", str(path), *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_version_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(tmp_path, "--version") == 0
    assert capsys.readouterr().out == f"aurexctl {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "asked", "reply", "shown"),
    [
        (
            ["status"],
            ("GetStatus", {}),
            STATUS,
            ["serving for 1 d 1 h", "2700.50", "-1.25", "refused [401]", "full"],
        ),
        (
            ["sources"],
            ("ListSources", {}),
            {"sources": [SOURCE]},
            ["duplicate 2", "XAUUSD=GOLD", "tries again at"],
        ),
        (
            ["sources", "pause", "alltick"],
            ("PauseSource", {"name": "alltick"}),
            {"source": SOURCE},
            ["alltick"],
        ),
        (["actors"], ("ListActors", {}), {"actors": [ACTOR]}, ["  hub", "4096", "ValueError: x"]),
        (
            ["sessions", "--ip", "192.0.2.7"],
            ("ListSessions", {"address": "192.0.2.7"}),
            {"sessions": [SESSION], "total": 4},
            ["alice", "1 min 1 s", "1 of 4 sessions"],
        ),
        (["kick", "f9"], ("KickSession", {"id": "f9"}), {"id": "f9"}, ["session f9 is being closed"]),
        (["log-level"], ("GetLogLevel", {}), {"level": "info"}, ["info\n"]),
        (["log-level", "debug"], ("SetLogLevel", {"level": "debug"}), {"level": "debug"}, ["debug\n"]),
        (
            ["reload"],
            ("Reload", {}),
            RELOADED,
            [
                "changed: limits.max_connections",
                "needs a restart: listen.port: the port is bound at the start",
                "note: symbols.GC",
            ],
        ),
        (["drain"], ("Drain", {}), {"left": 0}, ["0 clients are left", "the daemon has ended"]),
        (
            ["watch", "XAUUSD"],
            ("Watch", {"symbols": ["XAUUSD"]}),
            {"symbols": [SYMBOL]},
            ["XAUUSD 2700.50 live"],
        ),
        (["metrics"], ("GetMetrics", {}), {"text": "# HELP a b\n"}, ["# HELP a b\n"]),
        (
            ["why", "price", "XAUUSD"],
            ("GetWhyPrice", {"symbol": "XAUUSD"}),
            WHY,
            ["XAUUSD 2700.5 live", "outranked", "bad_scale", "2701.1"],
        ),
        (
            ["alerts"],
            ("ListAlerts", {}),
            {"rules": {"armed": 2}, "owners": 1, "alerts": 3, "unacknowledged": 1, "waiting": [WAITING]},
            ["2 armed", "3 alerts, 1 not acknowledged", "a1", "local", "crosses_up"],
        ),
        (
            ["why", "alert", "a1"],
            ("GetWhyAlert", {"id": "a1"}),
            WHY_ALERT,
            ["rule r1: XAUUSD crosses 2700", "price: 2700.5 of alltick", "not acknowledged yet"],
        ),
        (["watch"], ("Watch", {"symbols": None}), {"symbols": [SYMBOL]}, ["2026-11-28T02:09:10Z"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_command_asks_its_question_and_shows_the_answer(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    asked: tuple[str, Any],
    reply: dict[str, Any],
    shown: list[str],
) -> None:
    for flags in ([], ["--json"]):
        path = tmp_path / f"control{len(flags)}"
        with standing_in(path, says(reply)) as questions:
            assert run(path, *flags, *arguments) == 0
        assert questions == [asked]
        printed = capsys.readouterr().out
        if flags:
            document = json.loads(printed)
            assert document in (reply, *reply.get("symbols", []))
        else:
            for text in shown:
                assert text in printed


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        ([], "2026-11-28T02:09:10Z XAUUSD 2700.50 live alltick\nXAUUSD is gone: the daemon has it no more\n"),
        (["--json"], json.dumps(SYMBOL) + '\n{"symbol": "XAUUSD", "gone": true}\n'),
    ],
    ids=["for people", "for programs"],
)
def test_a_symbol_that_is_taken_out_is_said_to_who_watches_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], printed: str
) -> None:
    with standing_in(
        tmp_path / "control", says({"symbols": [SYMBOL], "gone": []}, {"symbols": [], "gone": ["XAUUSD"]})
    ):
        assert run(tmp_path / "control", *flags, "watch") == 0
    assert capsys.readouterr().out == printed


def test_sessions_in_several_replies_are_one_table_and_one_document(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = {"sessions": [SESSION], "total": 2}
    with standing_in(tmp_path / "control", says({**page}, page)):
        assert run(tmp_path / "control", "--json", "sessions") == 0
    assert json.loads(capsys.readouterr().out) == {"sessions": [SESSION, SESSION], "total": 2}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (fails("NoSuchSource", source="x", known=["a", "b"]), os.EX_DATAERR, "no source x; there are: a, b"),
        (fails("NoSuchSymbol", symbol="x", known=["a"]), os.EX_DATAERR, "there is no symbol x"),
        (fails("NoSuchSession", session="x"), os.EX_DATAERR, "aurexctl sessions"),
        (fails("NoSuchAlert", alert="x"), os.EX_DATAERR, "there is no alert x"),
        (fails("NotDone", message="it is parked"), os.EX_TEMPFAIL, "it is parked"),
        (fails("NotAnswered", message="hub"), os.EX_UNAVAILABLE, "did not answer: hub"),
        (fails("org.varlink.service.PermissionDenied"), os.EX_NOPERM, "only root"),
        (fails("org.varlink.service.InvalidParameter", parameter="address"), os.EX_DATAERR, "address"),
        (fails("org.varlink.service.MethodNotFound", method="x"), os.EX_UNAVAILABLE, "another version"),
        (fails("io.nobody.Knows", this="that"), os.EX_PROTOCOL, "io.nobody.Knows"),
        (
            fails(
                "ConfigRefused",
                file="/etc/a.toml",
                problems=[{"path": "limits.x", "message": "no such key", "suggestion": "y", "origin": ""}],
            ),
            os.EX_CONFIG,
            "/etc/a.toml: refused, and nothing was changed\n  limits.x: no such key — y\n",
        ),
        (lambda *_: [b"HTTP/1.1 400\r\n\r\n\0"], os.EX_PROTOCOL, "no aurexd"),
        (lambda *_: [], os.EX_UNAVAILABLE, "hung up"),
    ],
)
def test_what_fails_is_said_in_words_and_by_the_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, answer: Answer, status: int, said: str
) -> None:
    with standing_in(tmp_path / "control", answer):
        assert run(tmp_path / "control", "status") == status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("aurexctl: ")
    assert said in told.err


def test_a_daemon_that_does_not_run_is_said_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(tmp_path / "control", "status") == os.EX_UNAVAILABLE
    assert "there is no socket" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(tmp_path / "control"))
    assert run(tmp_path / "control", "status") == os.EX_UNAVAILABLE
    assert "nobody listens" in capsys.readouterr().err


def test_the_socket_is_found_by_the_daemons_own_variable(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUREXD_CONTROL__SOCKET", str(tmp_path / "elsewhere"))
    with standing_in(tmp_path / "elsewhere", says({"level": "info"})), pytest.raises(SystemExit) as ended:
        aurexctl.main(["log-level"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "info\n"


@pytest.mark.parametrize(
    "arguments", [[], ["nope"], ["kick"], ["log-level", "loud"], ["sources", "stop", "a"]]
)
def test_a_wrong_command_line_is_status_64(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    assert run(tmp_path, *arguments) == os.EX_USAGE
    assert "usage: aurexctl" in capsys.readouterr().err


def test_an_action_without_a_source_is_status_64(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(tmp_path, "sources", "pause") == os.EX_USAGE
    assert "name a source" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (42, "42 s"), (190, "3 min 10 s"), (7200, "2 h"), (190_000, "2 d 4 h")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_prices_have_all_their_decimals() -> None:
    assert [number(2700.5, 2), number(1.25, 2, sign=True), number(None, 2)] == ["2700.50", "+1.25", ""]
