"""The manual pages say all that the commands and the configuration have, and roff takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from aurexd import aurexctl, cli, manpages
from aurexd.command_line import Parser
from aurexd.config.model import SECTIONS, Symbol
from aurexd.sources import PROVIDERS, provider_class


def plain(page: str) -> str:
    return (
        manpages.pages()[page].replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "")
    )


@pytest.mark.parametrize(("page", "parser"), [("aurexd.8", cli.parser()), ("aurexctl.1", aurexctl.parser())])
def test_every_command_and_option_is_in_its_page(page: str, parser: Parser) -> None:
    text = plain(page)
    commands = list(manpages._commands(parser))
    assert len(commands) > 5
    for words, command, _ in commands:
        assert f".SS {' '.join(words)}" in text
        for action in command._actions:
            for option in action.option_strings:
                assert option in {"-h", "--help"} or f"\n{option}" in text


def test_every_setting_is_in_its_page() -> None:
    text = plain("aurexd.toml.5")
    models: list[type[BaseModel]] = [*SECTIONS.values(), Symbol]
    models += [provider_class(kind).Settings for kind in PROVIDERS]
    for model in models:
        for key in model.model_fields:
            assert key == "keys" or f".TP\n{key}\n" in text, key


def test_the_statuses_are_those_of_the_commands() -> None:
    statuses = {value for name, value in vars(cli).items() if name.startswith("EX_")}
    assert set(manpages.STATUSES["aurexd"]) == {str(status) for status in statuses}


@pytest.mark.slow
def test_man_shows_every_page_without_a_warning(tmp_path: Path) -> None:
    manpages.main(str(tmp_path))
    for file in sorted(tmp_path.rglob("*.*")):
        done = subprocess.run(
            ["man", "--warnings", "-l", str(file)], capture_output=True, timeout=60, check=True
        )
        assert not done.stderr, done.stderr.decode()
        assert len(done.stdout) > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parser"), [("aurexd", "aurexd.cli.parser"), ("aurexctl", "aurexd.aurexctl.parser")]
)
def test_bash_completes_the_commands(name: str, parser: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shtab", "--shell", "bash", "--prog", name, "--prefix", name, parser],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    script = f'{done.stdout}\nCOMP_WORDS=({name} st); COMP_CWORD=1; _shtab_{name}; echo "${{COMPREPLY[@]}}"'
    if name == "aurexd":
        script = script.replace("st)", "doc)")
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert shown.stdout.strip() == {"aurexd": "doctor", "aurexctl": "status"}[name], shown.stderr
