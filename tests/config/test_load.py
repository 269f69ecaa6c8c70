"""From files and environment to a typed configuration: layers, defaults, files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurexd.config import Config, config_file, load
from aurexd.errors import ConfigError, Problem
from aurexd.market import Instrument
from aurexd.sources.swissquote import SwissquoteSettings

ROOT = Path(__file__).parents[2]

MINIMAL = """
[symbols.XAUUSD]
instrument = "spot"
"""

TWO_SOURCES = """
[listen]
port = 9000
[symbols.XAUUSD]
instrument = "spot"
default = true
[symbols.TESTGOLD]
instrument = "test"
[[sources]]
name = "swissquote"
type = "swissquote"
priority = 2
symbols = { XAUUSD = "XAU/USD" }
[[sources]]
name = "sim"
type = "simulated"
symbols = { TESTGOLD = "TESTGOLD" }
"""


def read(
    tmp_path: Path, text: str = TWO_SOURCES, parts: dict[str, str] | None = None, **environ: str
) -> Config:
    file = tmp_path / "aurexd.toml"
    file.write_text(text)
    for name, part in (parts or {}).items():
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        (tmp_path / "conf.d" / name).write_text(part)
    return load(file, environ)


def problems(
    tmp_path: Path, text: str = TWO_SOURCES, parts: dict[str, str] | None = None, **environ: str
) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, parts, **environ)
    return caught.value.problems


def test_what_the_file_leaves_out_has_the_documented_default(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert (config.realtime.enabled, config.realtime.rollout_percent, config.realtime.update_interval_s) == (
        True,
        100,
        5,
    )
    assert (config.listen.address, config.listen.port) == ("127.0.0.1", 8000)
    assert (config.tls.certificate, config.tls.private_key) == ("", "")
    limits = config.limits
    assert (limits.max_connections_per_ip, limits.max_connections_per_user, limits.max_connections) == (
        5,
        20,
        20000,
    )
    assert (limits.max_messages_per_second, limits.max_message_bytes, limits.send_queue_bytes) == (
        10,
        16384,
        65536,
    )
    assert (limits.handshake_timeout_s, limits.auth_timeout_s) == (10, 10)
    assert (limits.trusted_proxies, limits.proxy_header, limits.allowed_origins) == (
        (),
        "x-forwarded-for",
        (),
    )
    assert (limits.max_attempts_per_second, limits.max_requests_per_second) == (20, 10)
    assert (limits.max_handshakes_per_ip, limits.max_handshakes) == (64, 4096)
    assert (limits.max_control_frames_per_second, limits.max_channels) == (10, 256)
    assert (limits.idle_timeout_s, limits.http_idle_timeout_s) == (300, 15)
    assert (config.listen.allowed_hosts, config.listen.proxy_protocol) == ((), False)
    heartbeat = config.heartbeat
    assert (heartbeat.ping_interval_s, heartbeat.pong_timeout_s, heartbeat.silence_s) == (20, 10, 5)
    assert config.auth.mode == "open"
    storage = config.storage
    assert (storage.flush_interval_s, storage.retention_days, storage.backlog_ticks) == (0.5, 30, 100_000)
    assert storage.path == Path("/var/lib/aurexd/aurexd.db")
    assert config.control.socket == "/run/aurexd-control/io.aurex.Control"
    assert (config.log.level, config.log.format) == ("info", "auto")
    assert config.sources == ()


def test_tables_become_types_in_the_order_of_the_file(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert list(config.symbols) == ["XAUUSD", "TESTGOLD"]
    assert config.symbols["XAUUSD"].instrument is Instrument.SPOT
    assert [source.name for source in config.sources] == ["swissquote", "sim"]
    assert isinstance(config.sources[0], SwissquoteSettings)
    assert config.sources[0].priority == 2


def test_the_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = read(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.listen.port = 1  # type: ignore[misc]


def test_the_configuration_that_the_fan_out_benchmark_writes_is_accepted(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        '[listen]\naddress = "127.0.0.1"\nport = 40001\n'
        f'[storage]\nurl = "sqlite:///{tmp_path}/aurexd.db"\n[control]\nsocket = "{tmp_path}/control"\n'
        '[symbols.XAUUSD]\ninstrument = "spot"\ndecimals = 2\ncalendar = "always"\ndefault = true\n'
        '[[sources]]\nname = "alltick"\ntype = "alltick"\npriority = 1\nsymbols = { XAUUSD = "GOLD" }\n'
        'token = "bench"\nurl = "ws://127.0.0.1:40002/"\n',
    )
    assert config.storage.path == tmp_path / "aurexd.db"
    assert config.secrets == ("bench",)


def test_a_relative_database_path_has_three_slashes_and_an_empty_url_stores_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, MINIMAL + '[storage]\nurl = "sqlite:///var/x.db"').storage.path == Path("var/x.db")
    assert read(tmp_path, MINIMAL + '[storage]\nurl = ""').storage.path is None


def test_default_symbols_are_those_marked_or_else_all(tmp_path: Path) -> None:
    assert read(tmp_path).default_symbols == ("XAUUSD",)
    assert read(tmp_path, TWO_SOURCES.replace("default = true", "")).default_symbols == ("XAUUSD", "TESTGOLD")


def test_later_files_win_key_by_key_in_name_order(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        parts={
            "20-late.toml": "[listen]\nport = 9002",
            "10-early.toml": '[listen]\nport = 9001\naddress = "::1"\n[symbols.GC]\ninstrument = "future"',
            "ignored.txt": "not TOML",
        },
    )
    assert (config.listen.port, config.listen.address) == (9002, "::1")
    assert list(config.symbols) == ["XAUUSD", "TESTGOLD", "GC"]


def test_sources_of_the_same_name_merge_and_others_are_added(tmp_path: Path) -> None:
    part = """
    [[sources]]
    name = "swissquote"
    priority = 7
    [[sources]]
    name = "gold-api"
    type = "gold-api"
    symbols = { XAUUSD = "XAU" }
    """
    config = read(tmp_path, parts={"x.toml": part})
    assert [(s.name, s.type, s.priority) for s in config.sources] == [
        ("swissquote", "swissquote", 7),
        ("sim", "simulated", 1),
        ("gold-api", "gold-api", 1),
    ]


def test_a_problem_names_the_file_of_conf_d_that_holds_it(tmp_path: Path) -> None:
    found = problems(
        tmp_path, parts={"10-x.toml": "[listen]\nport = 70000", "20-y.toml": "[heartbeat]\nsilence_s = 3"}
    )
    assert [(p.origin, p.path) for p in found] == [("conf.d/10-x.toml", "listen.port")]
    assert str(found[0]).startswith("conf.d/10-x.toml: listen.port: expected a whole number from 0 to 65535")


def test_two_sources_of_one_name_in_one_file_are_a_problem(tmp_path: Path) -> None:
    text = TWO_SOURCES.replace('name = "sim"', 'name = "swissquote"')
    assert [p.path for p in problems(tmp_path, text)] == ["sources.swissquote"]


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "no.toml", {})
    assert str(tmp_path / "no.toml") in str(caught.value)
    assert "there is no such file" in str(caught.value)
    assert "aurexd default-config" in str(caught.value)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("[listen]\nport 9000", "line 2, column 6", "Expected '='"),
        ("[listen]\nport = x", "line 2, column 8", "Invalid value"),
        ("[listen", "end of the file", "Expected ']'"),
    ],
)
def test_a_syntax_error_has_a_line_and_a_column(tmp_path: Path, text: str, path: str, message: str) -> None:
    [problem] = problems(tmp_path, text)
    assert problem.path == path
    assert message in problem.message
    assert "(at" not in problem.message


def test_text_that_is_not_utf_8_has_a_line(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'[log]\nlevel = "\xff"\n')
    with pytest.raises(ConfigError, match="line 2: is not text in UTF-8"):
        load(tmp_path / "x.toml", {})


def test_every_broken_file_is_named_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "x =", parts={"a.toml": "y =", "b.toml": "[listen]"})
    assert [p.origin for p in found] == ["", "conf.d/a.toml"]


def test_all_problems_come_at_once_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """
    [[sources]]
    name = "swissquote"
    type = "swissquot"
    symbols = { XAUUSD = "XAU/USD" }
    [limits]
    max_message_bytes = 1
    max_conections = 5
    trusted_proxies = ["10.0.0.1/8"]
    [listen]
    port = "8000"
    address = "0.0.0.0"
    [symbols.XAUUSD]
    instrument = "spt"
    [symbols.GC]
    decimals = 1.5
    [[sources]]
    name = "yahoo"
    type = "yfinance"
    priority = 0
    symbols = { XAUSD = "GC=F" }
    """
    assert [p.path for p in problems(tmp_path, text)] == [
        "limits.max_message_bytes",
        "limits.max_conections",
        "limits.trusted_proxies[0]",
        "listen.port",
        "listen.address",
        "symbols.XAUUSD.instrument",
        "symbols.GC.instrument",
        "symbols.GC.decimals",
        "sources.swissquote.type",
        "sources.yahoo.priority",
        "sources.yahoo.symbols.XAUSD",
    ]


def test_the_message_lists_every_problem_on_a_line_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, MINIMAL + "[listen]\nport = true\n[limts]\nx = 1\n")
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'aurexd.toml'}: 2 problems",
        "  listen.port: expected a whole number from 0 to 65535, got true",
        "  limts: there is no such table — did you mean limits?",
    ]


def test_the_file_is_the_argument_or_the_variable_or_the_system_s() -> None:
    assert config_file("a.toml", {"AUREXD_CONFIG": "b.toml"}) == Path("a.toml")
    assert config_file(None, {"AUREXD_CONFIG": "b.toml"}) == Path("b.toml")
    assert config_file(None, {"AUREXD_CONFIG": ""}) == Path("/etc/aurexd/aurexd.toml")
    assert config_file(None, {}) == Path("/etc/aurexd/aurexd.toml")


def test_the_configuration_for_a_first_look_is_right() -> None:
    config = load(ROOT / "conf" / "aurexd.dev.toml", {})
    assert config.default_symbols == ("TESTGOLD",)
    assert config.storage.path == Path("var/aurexd.db")
    assert {source.type for source in config.sources} >= {
        "simulated",
        "swissquote",
        "gold-api",
        "kraken",
        "yfinance",
    }
