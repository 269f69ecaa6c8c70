"""What `aurexd doctor` finds, and with which status it ends."""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from aurexd import cli, doctor
from aurexd.sources.replay import Replay
from aurexd.sources.simulated import Simulated
from aurexd.sources.swissquote import Swissquote

CONFIG = """
[limits]
max_connections = 10
[storage]
url = "sqlite:///{folder}/aurexd.db"
[control]
socket = "{folder}/control"
[tls]
certificate = "{folder}/cert.pem"
private_key = "{folder}/key.pem"
[symbols.TESTGOLD]
instrument = "test"
[[sources]]
name = "made-up"
type = "simulated"
symbols = {{ TESTGOLD = "TESTGOLD" }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "aurexd.toml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path / "aurexd.toml"


def status(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *arguments])
    return ended.value.code


def test_a_healthy_machine_is_status_0_and_each_look_is_told(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    assert status("--config", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    for what in (
        "file descriptors",
        "somaxconn",
        "clock",
        "certificate",
        "database",
        "control",
        "source made-up",
    ):
        assert any(what in line for line in lines), what
    assert not [line for line in lines if line.startswith("problem")]
    assert status("--json", "--config", str(file)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert len(document["findings"]) == len(lines)


def test_a_problem_is_status_69_with_what_to_do(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(file.read_text().replace("/control", "/nowhere/control"))
    assert status("--config", str(file)) == 69
    assert "there is no directory" in capsys.readouterr().out
    file.write_text("[limits]\nmax_conections = 1\n")
    assert status("--config", str(file)) == 78


@pytest.mark.parametrize(
    ("clients", "limit", "verdict"),
    [(800, 1024, "ok"), (20_000, 1024, "problem"), (20_000, -1, "ok"), (0, 1024, "note")],
)
def test_every_client_needs_a_file_descriptor(clients: int, limit: int, verdict: str) -> None:
    assert doctor.file_descriptors(clients, limit).verdict == verdict


@pytest.mark.parametrize(("text", "verdict"), [("4096", "ok"), ("128", "note"), ("many", "note")])
def test_the_kernels_queue_is_looked_at(tmp_path: Path, text: str, verdict: str) -> None:
    (tmp_path / "somaxconn").write_text(text)
    assert doctor.listen_queue(tmp_path / "somaxconn").verdict == verdict


@pytest.mark.parametrize(
    ("kept", "off_us", "verdict"), [(True, 900, "ok"), (True, 900_000, "note"), (False, 0, "note")]
)
def test_a_clock_that_nothing_keeps_right_is_noted(kept: bool, off_us: int, verdict: str) -> None:
    assert doctor.clock(kept, off_us).verdict == verdict
    assert isinstance(doctor.kernel_clock()[1], int)


def test_a_certificate_is_told_of_before_it_ends(tmp_path: Path) -> None:
    now = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    for days, verdict in ((30, "ok"), (3, "note"), (-1, "problem")):
        issued = trustme.CA().issue_cert("localhost", not_after=now + datetime.timedelta(days=days))
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        assert doctor.certificate(tmp_path / "cert.pem", now).verdict == verdict
    (tmp_path / "cert.pem").write_text("no certificate")
    assert doctor.certificate(tmp_path / "cert.pem", now).verdict == "problem"


def test_a_directory_may_be_made_for_the_database_but_not_for_the_socket(tmp_path: Path) -> None:
    assert doctor.directory("database", tmp_path / "new", made_if_missing=True).verdict == "ok"
    assert doctor.directory("control socket", tmp_path / "new").verdict == "problem"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def test_a_source_is_reached_or_why_not(listener: socket.socket, tmp_path: Path) -> None:
    def swissquote(port: int) -> doctor.Finding:
        url = f"http://127.0.0.1:{port}/"
        return doctor.source(
            Swissquote.Settings(name="s", type="swissquote", url=url, symbols={"XAUUSD": "XAU/USD"})
        )

    port = listener.getsockname()[1]
    assert swissquote(port).verdict == "ok"
    listener.close()
    refused = swissquote(port)
    assert refused.verdict == "problem"
    assert "refused" in refused.message
    symbols = {"TESTGOLD": "x"}
    assert doctor.source(Simulated.Settings(name="s", type="simulated", symbols=symbols)).verdict == "ok"
    (tmp_path / "there.csv").touch()
    for name, verdict in (("there.csv", "ok"), ("nowhere.csv", "problem")):
        settings = Replay.Settings.model_construct(
            name="s", type="replay", file=tmp_path / name, symbols=symbols
        )
        assert doctor.source(settings).verdict == verdict
