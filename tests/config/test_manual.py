"""The manual is complete, is true, is what `conf/aurexd.toml` holds, and loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aurexd.config import load
from aurexd.config.manual import default_config
from aurexd.config.model import SECTIONS, AuthKey, Config, Symbol
from aurexd.sources import PROVIDERS, provider_class
from aurexd.sources.base import SourceSettings

SHIPPED = Path(__file__).parents[2] / "conf" / "aurexd.toml"


def test_the_shipped_file_is_the_manual() -> None:
    assert SHIPPED.read_text() == default_config(), "make it anew: aurexd default-config > conf/aurexd.toml"


def test_the_manual_loads_with_every_default_and_a_working_example() -> None:
    config = load(SHIPPED, {})
    defaults = Config()
    for section in SECTIONS:
        assert getattr(config, section) == getattr(defaults, section)
    assert set(config.symbols) == {"XAUUSD", "GC"}
    assert {source.type for source in config.sources} == {"swissquote", "yfinance"}


def test_the_defaults_it_shows_are_the_defaults(tmp_path: Path) -> None:
    shown = re.sub(r"^#(\w+ = )", r"\1", default_config(), flags=re.MULTILINE)
    assert shown.count("\nport = 8000\n") == 1
    (tmp_path / "aurexd.toml").write_text(shown)
    assert load(tmp_path / "aurexd.toml", {}) == load(SHIPPED, {})


def test_the_examples_that_are_commented_out_are_right_too(tmp_path: Path) -> None:
    text = default_config()
    examples = text[text.index("[symbols.XAUUSD]") :]
    (tmp_path / "token").write_text("t")
    examples = re.sub(r"^# (\[.*|\w+ = .*)$", r"\1", examples, flags=re.MULTILINE)
    (tmp_path / "aurexd.toml").write_text(examples.replace("/etc/aurexd/alltick.token", f"{tmp_path}/token"))
    config = load(tmp_path / "aurexd.toml", {})
    assert "TESTGOLD" in config.symbols
    assert {source.type for source in config.sources} >= {"alltick", "simulated"}


def test_every_setting_of_a_key_is_explained() -> None:
    text = default_config()
    part = text[text.index("\n# [auth.keys.ID]\n") :].split("\n\n")[0]
    for key, field in AuthKey.model_fields.items():
        assert field.description
        assert f"#   {key}: {field.description.split()[0]}" in part


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_every_section_is_explained_with_its_default(section: str) -> None:
    text = default_config()
    part = text[text.index(f"\n[{section}]\n") :].split("\n\n")[0]
    for key, field in SECTIONS[section].model_fields.items():
        assert field.description
        if (section, key) == ("auth", "keys"):  # tables of their own
            continue
        explained = re.search(rf"((?:^# .*\n)+)#{key} = ", part, re.MULTILINE)
        assert explained, key
        assert "default" in " ".join(explained[1].split("\n# "))


def test_every_key_of_symbols_and_of_every_source_type_is_explained() -> None:
    text = default_config()
    for key, field in (Symbol.model_fields | SourceSettings.model_fields).items():
        assert field.description
        assert f"\n#   {key}: " in text
    for kind in PROVIDERS:
        part = text[text.index(f'# type = "{kind}": ') :].split("\n#\n")[0]
        own = provider_class(kind).Settings.model_fields
        for key in own.keys() - SourceSettings.model_fields.keys():
            assert own[key].description, f"{kind}: {key}"
            assert f"\n#   {key}: " in part, f"{kind}: {key}"


def test_no_line_is_longer_than_a_screen() -> None:
    assert max(map(len, default_config().splitlines())) <= 110
