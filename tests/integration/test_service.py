"""As a service of systemd, whose end is played here: what it passes is used, and it is told in time. `make systemd`
shows the same under a real one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.integration.process import START_S, Running, open_stream
from tests.integration.test_reload import TESTGOLD

pytestmark = pytest.mark.slow


class Manager:
    """systemd's end of the notification socket, and all that was heard on it."""

    def __init__(self, folder: Path) -> None:
        self.environ = {"NOTIFY_SOCKET": f"{folder}/notify"}
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.environ["NOTIFY_SOCKET"])
        self._socket.settimeout(START_S)

    def wait_for(self, state: str) -> dict[str, str]:
        """The next message that tells this state."""
        while True:
            lines = self._socket.recv(4096).decode().split("\n")
            self.heard.append(dict(line.split("=", 1) for line in lines))
            if state in self.heard[-1]:
                return self.heard[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def test_systemd_hears_of_the_start_of_reloads_good_and_bad_and_of_the_stop(
    tmp_path: Path, manager: Manager
) -> None:
    with Running(tmp_path, TESTGOLD, environ=manager.environ) as daemon:
        assert manager.wait_for("READY")["STATUS"].startswith("TESTGOLD")
        assert daemon.get("/readyz")["ready"] is True

        daemon.reload(TESTGOLD.replace("port = 0", "prot = 0"))
        assert manager.wait_for("RELOADING").keys() == {"RELOADING", "MONOTONIC_USEC"}
        assert "the last reload was refused" in manager.wait_for("READY")["STATUS"]

        daemon.reload(TESTGOLD)
        began = manager.wait_for("RELOADING")
        status = manager.wait_for("READY")["STATUS"]
        assert int(began["MONOTONIC_USEC"]) > 0
        assert "refused" not in status
        assert " simulated from simulated, " in status
        assert status.endswith("; 0 clients")

        assert daemon.stop() == 0
        draining, stopping = manager.wait_for("STOPPING"), manager.wait_for("STOPPING")
        assert draining["STATUS"] == "draining: 0 clients are sent away"
        assert int(draining["EXTEND_TIMEOUT_USEC"]) >= 20e6
        assert stopping["STATUS"].startswith("stopping")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 50e6


def test_no_connection_is_refused_while_one_daemon_follows_another_on_a_passed_socket(tmp_path: Path) -> None:
    async def welcome(port: int) -> None:
        with trio.fail_after(START_S):
            async with open_stream(port) as stream:
                assert json.loads(await stream.get_message())["type"] == "welcome"

    async def come_while_nobody_is_there(daemon: Running, port: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(welcome, port)
            await trio.sleep(
                0.1
            )  # they are in the kernel's queue by now; if not, nothing is lost but the point
            await trio.to_thread.run_sync(daemon.start)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Running(tmp_path, TESTGOLD, listener=listener) as daemon:
            assert daemon.port == port
            trio.run(welcome, port)
            assert daemon.stop() == 0
            trio.run(partial(come_while_nobody_is_there, daemon, port))
            daemon.kill()
            trio.run(partial(come_while_nobody_is_there, daemon, port))
            (line,) = daemon.events("sockets_taken_over")[-1:]
            assert (line["addresses"], line["port"]) == (["127.0.0.1"], port)
            assert daemon.stop() == 0


def test_a_passed_socket_that_others_can_reach_needs_tls(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        daemon = Running(tmp_path, TESTGOLD, listener=listener)
        with pytest.raises(AssertionError, match="can be reached from other machines"):
            daemon.start()
        assert daemon.process is not None
        assert daemon.process.returncode == 78
