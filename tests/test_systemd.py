"""What systemd is told, and what it passes: by the letter of its protocols."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aurexd import systemd
from aurexd.systemd import Notifier, take_sockets


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(5)

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = f"{tmp_path}/notify"
    manager = Manager(path if request.param == "path" else f"@{path}")
    with manager.socket:
        yield manager


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    notifier = Notifier.of(manager.environ)
    yield notifier
    notifier.close()


def test_each_state_is_one_datagram(manager: Manager, notifier: Notifier) -> None:
    notifier.ready("1 client")
    assert manager.heard() == ["READY=1", "STATUS=1 client"]
    notifier.status("two\nlines are one")
    assert manager.heard() == ["STATUS=two lines are one"]
    notifier.stopping("draining", 30.5)
    assert manager.heard() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30500000", "STATUS=draining"]
    notifier.alive()
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_reload_says_when_it_began_by_the_monotonic_clock(manager: Manager, notifier: Notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    state, stamp = manager.heard()
    assert state == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= after


def test_the_address_is_taken_out_of_the_environment(manager: Manager, notifier: Notifier) -> None:
    assert notifier.is_heard
    assert manager.environ == {}


def test_without_systemd_nobody_is_told() -> None:
    notifier = Notifier.of({})
    assert not notifier.is_heard
    notifier.ready("never mind")


def test_a_manager_that_is_gone_or_does_not_read_stops_nobody(tmp_path: Path) -> None:
    notifier = Notifier(f"{tmp_path}/nobody")
    with capture_logs() as logs:
        notifier.ready("never mind")
    assert [(line["event"], line["state"]) for line in logs] == [("systemd_not_told", "READY=1")]
    notifier.close()

    deaf = Manager(f"{tmp_path}/deaf")
    notifier = Notifier.of(deaf.environ)
    with capture_logs() as logs, deaf.socket:
        for _ in range(10_000):
            notifier.alive()
    assert logs
    assert {line["event"] for line in logs} == {"systemd_not_told"}
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_s_time_counts_for_the_process_it_is_meant_for(
    environ: dict[str, str], expected: float | None
) -> None:
    assert Notifier.of(environ).watchdog_s == expected


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two listening sockets at file descriptors that stand for 3 and 4; their addresses."""
    first = 400
    monkeypatch.setattr(systemd, "FIRST_FD", first)
    addresses = []
    for number in range(2):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            os.dup2(listener.fileno(), first + number)
            addresses.append(listener.getsockname())
    yield addresses
    for number in range(2):
        with contextlib.suppress(OSError):
            os.close(first + number)


def test_sockets_are_known_by_their_units_names_and_are_no_child_s(passed: list[str]) -> None:
    environ = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "aurexd.socket:other",
        "HOME": "/",
    }
    sockets = take_sockets(environ)
    assert environ == {"HOME": "/"}
    assert {name: [s.getsockname() for s in each] for name, each in sockets.items()} == {
        "aurexd.socket": passed[:1],
        "other": passed[1:],
    }
    for (each,) in sockets.values():
        assert not each.get_inheritable()
        each.close()


def test_several_sockets_of_one_unit_have_one_name_and_one_may_have_none(passed: list[str]) -> None:
    pid = str(os.getpid())
    for names, expected in (("a:a", {"a": 2}), ("", {systemd.UNNAMED: 2})):
        sockets = take_sockets({"LISTEN_PID": pid, "LISTEN_FDS": "2", "LISTEN_FDNAMES": names})
        assert {name: len(each) for name, each in sockets.items()} == expected
        for each in sockets.values():
            for one in each:
                one.detach()


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2"}
    assert take_sockets(environ) == {}
    assert environ == {}
    assert take_sockets({}) == {}
