"""ARCHITECTURE.md names every module and nothing else, and imports point one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aurexd"
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py"}
)

LAYERS = [
    {"aurexd.errors", "aurexd.foreign", "aurexd.market", "aurexd.holidays"},
    {
        "aurexd.beat",
        "aurexd.calendar",
        "aurexd.clock",
        "aurexd.drain",
        "aurexd.garbage",
        "aurexd.backoff",
        "aurexd.histogram",
        "aurexd.identity",
        "aurexd.forwarded",
        "aurexd.hosts",
        "aurexd.limits",
        "aurexd.proxy_protocol",
        "aurexd.pricing",
        "aurexd.screening",
        "aurexd.candles",
        "aurexd.selection",
        "aurexd.consensus",
        "aurexd.redaction",
        "aurexd.reloads",
        "aurexd.rollout",
        "aurexd.journal",
        "aurexd.sheets",
    },
    {"aurexd.repeats"},
    {"aurexd.protocol", "aurexd.tokens", "aurexd.delays", "aurexd.stalls"},
    {"aurexd.alert_index", "aurexd.alert_rules", "aurexd.alert_watch", "aurexd.alerts"},
    {
        "aurexd.update",
        "aurexd.mailbox",
        "aurexd.rings",
        "aurexd.outbox",
        "aurexd.tally",
        "aurexd.sources",
        "aurexd.gaps",
    },
    {"aurexd.config", "aurexd.log", "aurexd.io_uring", "aurexd.systemd"},
    {"aurexd.settings", "aurexd.certificate", "aurexd.doctor"},
    {"aurexd.store", "aurexd.alert_store", "aurexd.backlog", "aurexd.actors"},
    {"aurexd.summary", "aurexd.watchdog"},
    {"aurexd.server", "aurexd.roster"},
    {"aurexd.control"},
    {"aurexd.daemon"},
    {"aurexd.command_line"},
    {"aurexd.cli", "aurexd.cli_token", "aurexd.aurexctl"},
    {"aurexd.manpages"},
]
"""From the rooms that lean on nobody to the one that wires them all. A room imports its own layer or those above it
in this list; `aurexd` itself, which is the version, may be imported by all."""

PURE = [
    "protocol",
    "backoff.py",
    "drain.py",
    "identity.py",
    "tokens.py",
    "histogram.py",
    "delays.py",
    "tally.py",
    "limits.py",
    "pricing.py",
    "rollout.py",
    "candles.py",
    "gaps.py",
    "selection.py",
    "consensus.py",
    "screening.py",
    "alert_index.py",
    "alert_rules.py",
    "alert_watch.py",
    "alerts.py",
    "update.py",
    "rings.py",
    "mailbox.py",
    "outbox.py",
    "market.py",
    "calendar.py",
    "foreign.py",
    "forwarded.py",
    "hosts.py",
    "proxy_protocol.py",
    "backlog.py",
    "reloads.py",
    "sheets.py",
    "repeats.py",
    "summary.py",
]
"""Rules: no event loop, no clock, no database, no log."""

IMPURE_LIBRARIES = {
    "trio",
    "trio_websocket",
    "time",
    "sqlite3",
    "sqlite_utils",
    "structlog",
    "httpx",
    "socket",
    "pykka",
}


def name_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(name: str) -> int | None:
    for number, rooms in enumerate(LAYERS):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return number
    return None


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*.py")))
def test_imports_point_one_way(path: str) -> None:
    layer = layer_of(name_of(path))
    if layer is None:
        assert path in {"aurexd/__init__.py", "aurexd/__main__.py"}, (
            f"{path} has no layer: give it one in LAYERS"
        )
        return
    above = {name for name in imports_of(ROOT / path) if (layer_of(name) or 0) > layer}
    assert not above


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_know_no_loop_no_clock_and_no_io(room: str) -> None:
    place = PACKAGE / room
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        assert not {name.split(".")[0] for name in imports_of(path)} & IMPURE_LIBRARIES, path


def test_the_architecture_document_names_every_module_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`(aurexd/[\w/]+\.py)`", text))
    assert sorted(named) == MODULES
