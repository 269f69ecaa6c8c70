"""Until there is a control socket, `aurexctl` says so and names what answers instead."""

from __future__ import annotations

import pytest

import aurexd
from aurexd import aurexctl


def status(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        aurexctl.main(arguments)
    return caught.value.code


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert capsys.readouterr().out == f"aurexctl {aurexd.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("status",), ("--json", "sources"), ("sources", "restart", "x")])
def test_every_command_is_unavailable_and_says_what_answers(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert status(*arguments) == 69
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no control socket yet" in captured.err
    for path in ("/api/v1/sources", "/api/v1/ws/stats", "/healthz", "/readyz"):
        assert f"GET {path} " in captured.err


def test_help_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: aurexctl")
    assert "no control socket yet" in out
