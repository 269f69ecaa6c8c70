"""The unit files: systemd finds nothing wrong with them, and their numbers are those of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aurexd import cli, daemon
from aurexd.actors.child import ACTOR_SHUTDOWN_S
from aurexd.actors.persister import StoreWorker
from aurexd.config.model import Alerts, Control, Limits, Realtime, Storage
from aurexd.server.port import SEND_BUFFER_BYTES

UNITS = Path(__file__).parents[1] / "systemd"
SERVICE = UNITS / "aurexd.service"
SOURCES = 5
"""How many sources the unit's time to stop is meant for; the daemon asks for more by itself."""

KB, MB, GIB = 1000, 1_000_000, 1 << 30

DIRECTIVE = re.compile(r"([A-Z]\w+)=(.*)")


def settings(name: str) -> dict[str, list[str]]:
    """Directive → its values, in the file's order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if match := DIRECTIVE.fullmatch(line):
            found.setdefault(match[1], []).append(match[2])
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_stopping_may_take_what_the_daemon_s_deadlines_take_together() -> None:
    stop_s = (
        Realtime().drain_s
        + (2 + SOURCES) * ACTOR_SHUTDOWN_S
        + 2 * daemon.STORE_STOP_S
        + StoreWorker.finish_s
        + daemon.SESSIONS_CLOSE_S
    )
    assert seconds(settings("aurexd.service")["TimeoutStopSec"][0]) >= stop_s


def test_it_is_started_again_after_all_that_can_be_over_the_next_time() -> None:
    service = settings("aurexd.service")
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == [f"{cli.EX_USAGE} {cli.EX_CONFIG}"]


def test_there_is_a_file_descriptor_for_every_client() -> None:
    assert int(settings("aurexd.service")["LimitNOFILE"][0]) > 2 * Limits().max_connections


def test_no_configuration_by_default_reaches_the_limit_of_memory() -> None:
    """With every limit of the daemon's reached at once; what each takes is measured: docs/operations.md."""
    itself, client, kernel_s_client, tick, rule = 175 * MB, 36 * KB, 2 * KB, KB, KB  # with TLS, and yfinance
    buffers = 2 * SEND_BUFFER_BYTES  # the kernel counts what it needs around the bytes as well
    limits = Limits()
    most = (
        itself
        + limits.max_connections * (client + kernel_s_client + buffers)
        + limits.send_queue_total_bytes
        + Storage().backlog_ticks * tick
        + Alerts().max_rules * rule
    )
    (limit,) = settings("aurexd.service")["MemoryMax"]
    assert most < int(limit.removesuffix("G")) * GIB < 1.2 * most


def test_the_sockets_have_the_names_and_places_that_the_daemon_knows() -> None:
    assert settings("aurexd.socket")["FileDescriptorName"] == [daemon.PORT_SOCKET]
    control = settings("aurexd-control.socket")
    assert control["FileDescriptorName"] == ["aurexd-control.socket"]
    assert control["ListenStream"] == [Control().socket]
    assert Path(Control().socket).parent.name not in settings("aurexd.service")["RuntimeDirectory"]


@pytest.mark.parametrize("name", ["aurexd.service", "aurexd.socket", "aurexd-control.socket"])
def test_every_setting_has_a_reason(name: str) -> None:
    """Above it, or above the first of those that it stands with."""
    for block in re.split(r"\n\n|^(?=\[)", (UNITS / name).read_text(), flags=re.MULTILINE):
        lines = block.strip().splitlines()
        if lines and DIRECTIVE.fullmatch(lines[0]):
            pytest.fail(f"{lines[0]} begins a block without a reason")


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The units, with a program that is there."""
    for unit in UNITS.glob("aurexd*.s*"):
        text = re.sub(r"/usr/local/lib/aurexd/bin/\w+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert shutil.which("systemd-analyze"), "systemd-analyze is not installed: as root, `make servers`"
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.slow
def test_systemd_has_nothing_to_say_against_them(copies: Path) -> None:
    units = [f"./{unit.name}" for unit in copies.iterdir()]
    assert len(units) == 3
    result = analyze("verify", "--man=no", *units, folder=copies)
    # It exits with 0 after unknown keys and bad values, too.
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_the_daemon_is_exposed_by_no_more_than_one_point_one(copies: Path) -> None:
    result = analyze("security", "--offline=true", "--threshold=11", "./aurexd.service", folder=copies)
    assert result.returncode == 0, result.stdout
