"""What the environment overrides, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurexd.config import Config, load
from aurexd.config.model import Config as Model
from aurexd.errors import ConfigError

BASE = """
[symbols.XAUUSD]
instrument = "spot"
[[sources]]
name = "gold-api"
type = "gold-api"
symbols = { XAUUSD = "XAU" }
[[sources]]
name = "alltick"
type = "alltick"
symbols = { XAUUSD = "GOLD" }
token = "from the file"
"""


def read(tmp_path: Path, base: str = BASE, **environ: str) -> Config:
    file = tmp_path / "aurexd.toml"
    file.write_text(base)
    return load(file, environ)


def complaint(tmp_path: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **environ)
    return "\n".join(map(str, caught.value.problems))


def test_a_variable_overrides_the_file_for_every_kind_of_value(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        AUREXD_LISTEN__PORT="9000",
        AUREXD_LISTEN__ADDRESS="::1",
        AUREXD_STORAGE__FLUSH_INTERVAL_S="0.5",
        AUREXD_STORAGE__URL="",
        AUREXD_REALTIME__ENABLED="yes",
        AUREXD_LOG__LEVEL="debug",
        AUREXD_SYMBOLS__XAUUSD__DECIMALS="3",
        AUREXD_SYMBOLS__TESTGOLD__INSTRUMENT="test",
    )
    assert (config.listen.port, config.listen.address) == (9000, "::1")
    assert (config.storage.flush_interval_s, config.storage.url) == (0.5, "")
    assert (config.realtime.enabled, config.log.level) == (True, "debug")
    assert config.symbols["XAUUSD"].decimals == 3
    assert list(config.symbols) == ["XAUUSD", "TESTGOLD"]


@pytest.mark.parametrize(
    "text",
    ["https://a.org,https://b.org", "https://a.org, https://b.org,", '["https://a.org", "https://b.org"]'],
)
def test_a_list_is_written_with_commas_or_as_in_the_file(tmp_path: Path, text: str) -> None:
    config = read(tmp_path, AUREXD_LIMITS__ALLOWED_ORIGINS=text)
    assert config.limits.allowed_origins == ("https://a.org", "https://b.org")


def test_a_source_is_called_by_its_name_in_capitals(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        AUREXD_SOURCES__GOLD_API__PRIORITY="3",
        AUREXD_SOURCES__GOLD_API__URL="http://127.0.0.1:1/",
        AUREXD_SOURCES__ALLTICK__SYMBOLS__XAUUSD="GOLD2",
    )
    assert (config.sources[0].priority, config.sources[0].url) == (3, "http://127.0.0.1:1/")  # type: ignore[attr-defined]
    assert config.sources[1].symbols == {"XAUUSD": "GOLD2"}


def test_a_table_is_written_as_in_the_file_and_merges(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        AUREXD_SYMBOLS__XAUEUR__INSTRUMENT="spot",
        AUREXD_SOURCES__GOLD_API__SYMBOLS='{ XAUEUR = "XAU/EUR" }',
    )
    assert config.sources[0].symbols == {"XAUUSD": "XAU", "XAUEUR": "XAU/EUR"}


def test_a_token_from_the_environment_takes_the_file_s_place(tmp_path: Path) -> None:
    assert read(tmp_path, AUREXD_SOURCES__ALLTICK__TOKEN="from the environment").secrets == (
        "from the environment",
    )
    (tmp_path / "token").write_text("from its own file\n")
    by_file = read(tmp_path, AUREXD_SOURCES__ALLTICK__TOKEN_FILE=str(tmp_path / "token"))
    assert by_file.sources[1].token_file == tmp_path / "token"  # type: ignore[attr-defined]
    assert by_file.secrets == ()


def test_the_plain_names_are_honoured_and_ours_win(tmp_path: Path) -> None:
    assert read(tmp_path, WS_UPDATE_INTERVAL="2").realtime.update_interval_s == 2
    both = read(tmp_path, WS_UPDATE_INTERVAL="2", AUREXD_REALTIME__UPDATE_INTERVAL_S="7")
    assert both.realtime.update_interval_s == 7
    assert read(tmp_path, REALTIME_ENABLED="True").realtime.enabled
    assert not read(tmp_path, REALTIME_ENABLED="false").realtime.enabled
    assert "REALTIME_ENABLED: realtime.enabled: expected true or false" in complaint(
        tmp_path, REALTIME_ENABLED="perhaps"
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "AUREXD_LISTEN__PORT",
            "80a",
            "AUREXD_LISTEN__PORT: listen.port: expected a whole number from 0 to 65535",
        ),
        ("AUREXD_LISTEN__PORT", "", "got an empty text"),
        (
            "AUREXD_LISTEN__PROT",
            "80",
            "AUREXD_LISTEN__PROT: listen.prot: there is no such key — did you mean port?",
        ),
        ("AUREXD_LISTN__PORT", "80", "there is no such section — did you mean AUREXD_LISTEN__…?"),
        ("AUREXD_LISTEN_PORT", "80", "did you mean AUREXD_LISTEN__PORT?"),
        (
            "AUREXD_SOURCES__GOLDAPI__PRIORITY",
            "1",
            "no source of this name is in the file — did you mean GOLD_API?",
        ),
        ("AUREXD_SOURCES__GOLD_API__TOKN", "1", "sources.gold-api.tokn: there is no such key"),
        ("AUREXD_SYMBOLS__XAUUSD", "1", "symbols.XAUUSD.: there is no such key"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    assert said in complaint(tmp_path, **{variable: value})


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    # Kubernetes sets the last three for a service that is called aurexd.
    read(
        tmp_path,
        AUREXD_CONFIG="/elsewhere",
        PATH="/bin",
        AUREXD_SERVICE_HOST="10.0.0.1",
        AUREXD_PORT="tcp://10.0.0.1:80",
        AUREXD_PORT_80_TCP_ADDR="10.0.0.1",
    )


def test_every_section_can_be_reached_from_the_environment(tmp_path: Path) -> None:
    for section in Model.model_fields:
        if section not in {"symbols", "sources"}:
            said = complaint(tmp_path, **{f"AUREXD_{section.upper()}__NO_SUCH": "1"})
            assert f"{section}.no_such: there is no such key" in said
