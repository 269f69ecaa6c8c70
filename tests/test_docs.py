"""The documents are true: what they name exists, what exists is named, and their examples load."""

from __future__ import annotations

import ast
import math
import os
import re
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from aurexd import cli, daemon
from aurexd.actors.child import ACTOR_SHUTDOWN_S
from aurexd.actors.messages import SourceState, StoreState
from aurexd.actors.persister import StoreWorker
from aurexd.config import load
from aurexd.config.environment import ALIASES
from aurexd.config.model import SECTIONS, Limits, Realtime
from aurexd.market import Quality
from aurexd.screening import Refusal
from aurexd.server import door
from aurexd.server.openapi import OPERATIONS
from aurexd.sources import PROVIDERS, provider_class
from aurexd.sources.alltick_wire import Verdict
from aurexd.sources.polling import Polling
from aurexd.store import Store
from aurexd.tokens import Algorithm, generate_key

ROOT = Path(__file__).parents[1]
PROVIDERS_MD = (ROOT / "docs" / "providers.md").read_text()
SECURITY_MD = (ROOT / "docs" / "security.md").read_text()
OPERATIONS_MD = (ROOT / "docs" / "operations.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SEVERITY = {"debug": 0, "info": 1, "warning": 2, "error": 3, "exception": 3, "critical": 3}
COMPOSED = {"store_": {f"store_{state}" for state in (StoreState.DEGRADED, StoreState.FAILED)}}
"""Events that are put together: the constant they begin with → what they can be."""


def table(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading, without its head."""
    after = document.split(f"\n{heading}\n", 1)
    assert len(after) == 2, f"there is no heading {heading!r}"
    lines = re.search(r"^\|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", after[1], re.MULTILINE)
    assert lines, f"there is no table after {heading!r}"
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1].splitlines()]


def quoted(text: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def first_cells(document: str, heading: str) -> set[str]:
    """What stands in backticks in the first column of a table."""
    return {word for row in table(document, heading) for word in quoted(row[0])}


def first_arguments(path: Path, function: str) -> set[str]:
    """The texts that a module gives to a function, or a method, of that name as its first argument."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(text)), *_]
            ) if name == function:
                found.add(text)
    return found


def without_code(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


# --- providers.md ---


def test_every_source_type_has_a_section_and_a_line_in_both_tables() -> None:
    assert set(re.findall(r"^## `(.+)`$", PROVIDERS_MD, re.MULTILINE)) == set(PROVIDERS)
    assert first_cells(PROVIDERS_MD, "## At a glance") == set(PROVIDERS)
    assert {row[0].strip("`") for row in clocks()} == set(PROVIDERS)


def clocks() -> list[list[str]]:
    start = PROVIDERS_MD.index("The clocks, in seconds.")
    return table("\n## Clocks\n" + PROVIDERS_MD[start:], "## Clocks")


@pytest.mark.parametrize("row", clocks(), ids=lambda row: row[0].strip("`"))
def test_the_clocks_of_each_type_are_those_of_the_code(row: list[str]) -> None:
    provider = provider_class(row[0].strip("`"))
    traits = provider.traits
    asks_s = provider.min_interval_s if issubclass(provider, Polling) else math.inf
    expected = [
        traits.stale_after_s,
        traits.known_delay_s,
        traits.silence_s,
        traits.reconnect.floor_s,
        traits.reconnect.base_s,
        traits.reconnect.cap_s,
        asks_s,
    ]
    numbers = ", ".join(row[1:]).split(", ")
    assert [math.inf if number == "–" else float(number) for number in numbers] == expected


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_section_says_what_it_quotes_its_terms_its_traps_and_what_was_verified(name: str) -> None:
    section = re.split(r"^## ", PROVIDERS_MD.split(f"\n## `{name}`\n", 1)[1], flags=re.MULTILINE)[0]
    for must in ("| Quotes |", "| How |", "| Freshness |", "| Verified live |", "**Terms.**", "**Traps**"):
        assert must in section
    (example,) = re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert [source["type"] for source in tomllib.loads(example)["sources"]] == [name]


# --- operations.md: the log ---


def is_log(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id in {"log", "_log"}) or (
        isinstance(node, ast.Attribute) and node.attr == "_log"
    )


def log_levels(node: ast.expr) -> set[str]:
    """The levels of all the log's methods that an expression names: `log.info if … else log.error`."""
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and inner.attr in {*SEVERITY, "log"} and is_log(inner.value)
    }


def events_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Every (event, level) that a module logs."""
    aliases = {
        target.id: log_levels(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            levels = aliases.get(node.func.id, set())
        else:
            levels = log_levels(node.func) if isinstance(node.func, ast.Attribute) else set()
        for level in levels:
            argument = node.args[1 if level == "log" else 0]
            for event in events_of(argument):
                yield event, level


def events_of(argument: ast.expr) -> set[str]:
    match argument:
        case ast.Constant(value=str(event)):
            return {event}
        case ast.BinOp(left=ast.Constant(value=str(begin))) if begin in COMPOSED:
            return COMPOSED[begin]
    raise AssertionError(f"cannot tell what is logged by {ast.unparse(argument)}: add it to COMPOSED")


def logged() -> dict[str, str]:
    """Event → its gravest level; `any` for what libraries log."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "aurexd").rglob("*.py")):
        for event, level in events_in(ast.parse(path.read_text())):
            if level == "log":
                found[event] = "any"
            elif SEVERITY[level] >= SEVERITY.get(found.get(event, "debug"), 0):
                found[event] = next(name for name, number in SEVERITY.items() if number == SEVERITY[level])
    return found


def test_every_warning_and_error_is_explained_with_its_level_and_what_to_do() -> None:
    explained = {}
    for event, level, meaning, todo in table(OPERATIONS_MD, "### Warnings and errors"):
        assert meaning
        assert todo
        explained[event.strip("`")] = level
    grave = {event: level for event, level in logged().items() if level not in {"debug", "info"}}
    assert len(grave) > 20
    assert explained == grave


def test_every_other_event_is_named_as_normal() -> None:
    normal = {event for event, level in logged().items() if level == "info"}
    assert first_cells(OPERATIONS_MD, "### What is normal") == normal


def test_every_reason_for_rejecting_what_a_provider_sent_is_explained() -> None:
    reasons = {verdict.value for verdict in Verdict} - {Verdict.DELIVER.value, Verdict.STAND_BACK.value}
    for path in [*(ROOT / "aurexd" / "sources").glob("*.py"), ROOT / "aurexd" / "actors" / "source.py"]:
        reasons |= first_arguments(path, "rejected")
    reasons |= {refusal.value for refusal in Refusal}
    sources = OPERATIONS_MD[OPERATIONS_MD.index("What a provider sends and aurexd cannot use") :]
    assert first_cells("\n## Rejected\n" + sources, "## Rejected") == reasons


# --- operations.md: what can be asked, and what comes back ---


def test_every_http_route_is_named_and_no_other() -> None:
    routes = set(OPERATIONS)
    assert len(routes) > 5
    listening = OPERATIONS_MD[OPERATIONS_MD.index("| path | |") - 1 :]
    assert first_cells("\n## Routes\n" + listening, "## Routes") == routes


def test_every_state_and_quality_is_named() -> None:
    health = OPERATIONS_MD.split("\n## Health\n")[1].split("\n## ")[0]
    quality = health[health.index("| quality | |") - 1 :]
    assert first_cells("\n## Quality\n" + quality, "## Quality") == set(Quality)
    assert first_cells(health, "### Sources") == set(SourceState)
    (states,) = re.findall(r"^\| `store\.state`.*$", health, re.MULTILINE)
    assert quoted(states) >= set(StoreState)


def test_every_exit_status_is_explained() -> None:
    statuses = {value for name, value in vars(cli).items() if name.startswith("EX_") or name == "INTERRUPTED"}
    assert {int(row[0]) for row in table(OPERATIONS_MD, "## Exit statuses")} == statuses


def test_the_time_a_stop_may_take_is_the_sum_of_its_deadlines() -> None:
    steps_s = (
        Realtime().drain_s
        + 2 * ACTOR_SHUTDOWN_S
        + 2 * daemon.STORE_STOP_S
        + StoreWorker.finish_s
        + daemon.SESSIONS_CLOSE_S
    )
    assert f"**{steps_s:g} s plus {ACTOR_SHUTDOWN_S:g} s per source**" in OPERATIONS_MD
    rows = [
        re.fullmatch(r"(\d+) s( each)?", row[1]) for row in table(OPERATIONS_MD, "## Stopping and restarting")
    ]
    assert sum(float(row[1]) for row in rows if row and not row[2]) == steps_s


@pytest.mark.parametrize("name", ["statuses", "alert_rules", "alerts", "ticks", "prices"])
def test_the_columns_of_the_database_are_those_described(name: str, tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/aurexd.db").close()
    with closing(sqlite3.connect(tmp_path / "aurexd.db")) as database:
        columns = [(row[1], row[2]) for row in database.execute(f"PRAGMA table_info({name})")]
    assert [(row[0].strip("`"), row[1]) for row in table(OPERATIONS_MD, f"### `{name}`")] == columns


# --- examples ---


def toml_blocks() -> list[object]:
    return [
        pytest.param(block, id=f"{path.name}-{number}")
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for number, block in enumerate(
            re.findall(r"^```toml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL), 1
        )
    ]


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for /etc/aurexd, with the files that examples name."""
    directory = tmp_path_factory.mktemp("etc")
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(directory / "privkey.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "fullchain.pem")
    (directory / "alltick.token").write_text("a token")
    (directory / "2026-11.pub.pem").write_bytes(generate_key(Algorithm.EDDSA))
    return directory


@pytest.mark.parametrize("block", toml_blocks())
def test_every_example_of_a_configuration_loads(block: str, etc: Path, tmp_path: Path) -> None:
    main = tmp_path / "aurexd.toml"
    text = block.replace("/etc/aurexd/", f"{etc}/")
    if block.startswith("# /etc/aurexd/conf.d/"):
        main.write_text((ROOT / "conf" / "aurexd.toml").read_text())
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "example.toml").write_text(text)
    else:
        main.write_text(text + "\n".join(missing_symbols(block)))
    config = load(main, {})
    named = {source.get("name") for source in tomllib.loads(block).get("sources", [])}
    assert named <= {source.name for source in config.sources}


def missing_symbols(block: str) -> Iterator[str]:
    """Tables for the symbols that an example takes for granted, each of what its source quotes."""
    example = tomllib.loads(block)
    symbols = {"TESTGOLD": "test"}
    for source in example.get("sources", []):
        for name, code in source["symbols"].items():
            symbols[name] = provider_class(source["type"]).instrument_of(code) or "test"
    for name in symbols.keys() - example.get("symbols", {}).keys():
        yield f'\n[symbols.{name}]\ninstrument = "{symbols[name]}"\n'


def test_every_example_of_a_variable_is_understood() -> None:
    examples = dict(re.findall(r"`(AUREXD_\w+__\w+)=([^`]*)`", OPERATIONS_MD))
    assert len(examples) > 3
    load(ROOT / "conf" / "aurexd.toml", examples)
    assert set(ALIASES) <= quoted(without_code(OPERATIONS_MD))


# --- links ---


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^()\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(document.parent / path)) if path else document
        found = target.is_relative_to(ROOT) and target.exists()
        if found and anchor:
            found = target.suffix == ".md" and anchor in anchors(target.read_text())
        if not found:
            broken.append(link)
    assert not broken


def anchors(text: str) -> set[str]:
    """What a document's headings are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- limits and threats ---


def test_the_limits_in_the_table_are_there_with_the_numbers_it_gives() -> None:
    limits = Limits()
    for names, numbers, over in table(OPERATIONS_MD, "### Limits"):
        assert over
        said = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", numbers)]
        for name in quoted(names):
            default = getattr(limits, name)
            assert default in said or default / 1024 in said, name
    text = OPERATIONS_MD.split("\n### Limits\n")[1]
    assert f"told {door.REFUSALS_PER_S:g} times a second ({door.REFUSALS_BURST:g} at once)" in text
    assert f"{door.ADDRESSES:,} addresses" in text
    assert f"{limits.max_attempts_per_second * door.BURST_S:g} at once" in text
    assert f"{limits.max_requests_per_second * door.BURST_S:g} at once" in text


def test_every_limit_is_in_the_table() -> None:
    known = {name for row in table(OPERATIONS_MD, "### Limits") for name in quoted(row[0])}
    others = {
        "trusted_proxies",
        "proxy_header",
        "allowed_origins",
        "auth_timeout_s",
        "max_connections_per_user",
    }
    assert known | others == set(Limits.model_fields)


def test_what_meets_a_threat_is_there() -> None:
    named = quoted(SECURITY_MD)
    assert not [name for name in named if name.startswith("aurexd/") and not (ROOT / name).exists()]
    keys = {key for section in SECTIONS.values() for key in section.model_fields}
    settings = {
        name.rpartition(".")[2] for name in named if re.fullmatch(r"(?:[a-z]+\.)?[a-z]+(?:_[a-z]+)+", name)
    }
    assert settings - keys <= {"mode"}
