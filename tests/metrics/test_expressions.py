"""The dashboard and the alerting rules ask for what there is, and each rule says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aurexd.server.measures import MEASURES
from tests.integration.process import Running
from tests.integration.test_daemon import TESTGOLD
from tests.metrics.expressions import DASHBOARD, ROOT, RULES, expressions, grouped, panels, rules, selected
from tests.test_docs import anchors
from tools.grafana import dashboard

OPERATIONS_MD = (ROOT / "docs" / "operations.md").read_text()
NAMED = {
    name: measure
    for group in MEASURES.values()
    for measure in group
    for name in (
        [f"{measure.name}_{part}" for part in ("bucket", "sum", "count")]
        if measure.kind == "histogram"
        else [measure.full_name]
    )
}
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""

PROCESS = {"cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"}


@pytest.mark.parametrize("expression", expressions())
def test_each_query_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    asked = selected(expression)
    assert asked or "up{" in expression
    labels = SCRAPED | {"le"}
    for name, by in asked:
        if name.startswith("process_"):
            assert name.removeprefix("process_") in PROCESS
            assert by <= SCRAPED
        else:
            assert by <= SCRAPED | set(NAMED[name].labels)
            labels |= set(NAMED[name].labels)
    assert grouped(expression) <= labels


def test_what_only_grows_is_asked_for_its_growth() -> None:
    for expression in expressions():
        for name, _ in selected(expression):
            if name.endswith(("_total", "_bucket", "_sum")):
                assert re.search(rf"(rate|increase)\({name}", expression), expression


def test_the_dashboard_is_what_it_is_made_of() -> None:
    assert json.loads(DASHBOARD.read_text()) == dashboard(), "stale: tools/grafana.py says how"


def test_every_metric_is_shown_or_is_for_who_looks_closer() -> None:
    shown = {
        NAMED[name].name for expression in expressions() for name, _ in selected(expression) if name in NAMED
    }
    rare = {
        *("aurexd_build_info", "aurexd_phase", "aurexd_actor_running", "aurexd_inbox_messages_peak"),
        *("aurexd_source_jumps", "aurexd_send_queue_bytes", "aurexd_symbol_confidence"),
    }
    assert shown | rare == {measure.name for measure in NAMED.values()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_rule_says_how_urgent_it_is_what_it_means_and_where_it_stands_what_to_do(
    rule: dict[str, Any],
) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors((ROOT / document).read_text())


def test_every_rule_is_in_the_manual_and_no_other() -> None:
    section = OPERATIONS_MD.split("\n### Alerting rules\n")[1].split("\n## ")[0]
    assert re.findall(r"^#### (\w+)$", section, re.MULTILINE) == [rule["alert"] for rule in rules()]


def test_panels_have_names_of_their_own() -> None:
    described = json.loads(DASHBOARD.read_text())["panels"]
    assert len(panels()) == len([panel for panel in described if "targets" in panel])


@pytest.mark.slow
def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True)
    with Running(tmp_path, TESTGOLD) as daemon:
        text = daemon.text("/metrics")
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
