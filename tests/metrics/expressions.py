"""What is asked of Prometheus: the queries of the dashboard, and those of the alerting rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "conf" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "conf" / "grafana" / "aurexd.json"

SELECTED = re.compile(r"\b((?:aurexd|process)_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
LABEL = re.compile(r"(\w+)\s*(?:=|!=|=~|!~)")


def rules() -> list[dict[str, Any]]:
    """The alerting rules."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> dict[str, list[str]]:
    """Panel → its queries."""
    described = json.loads(DASHBOARD.read_text())["panels"]
    return {p["title"]: [target["expr"] for target in p["targets"]] for p in described if "targets" in p}


def expressions() -> list[str]:
    """All of them."""
    return [rule["expr"] for rule in rules()] + [query for queries in panels().values() for query in queries]


def selected(expression: str) -> list[tuple[str, set[str]]]:
    """Each metric that it names, and the labels by which it is selected."""
    return [(name, set(LABEL.findall(labels))) for name, labels in SELECTED.findall(expression)]


def grouped(expression: str) -> set[str]:
    """The labels by which it sums up."""
    return {
        label.strip()
        for labels in GROUPED.findall(expression)
        for label in labels.split(",")
        if label.strip()
    }
