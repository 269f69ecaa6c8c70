"""Writes `conf/grafana/aurexd.json`, the dashboard: what is shown stands here, how Grafana wants it said is made of it.

    python tools/grafana.py > conf/grafana/aurexd.json

A test says when the file is stale.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

HERE = '{job="$job", instance=~"$instance"}'
STALE, CONNECTED, WELL = 'quality="stale"', 'state="connected"', 'state=~"ok|off"'
QUANTILES = (0.5, 0.99)


class Panel(NamedTuple):
    """One graph or figure."""

    title: str
    queries: dict[str, str]
    """What Grafana calls a series → PromQL."""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    """Of 24."""


def only(*matchers: str) -> str:
    """Selects this daemon's series, and of these those that match."""
    return HERE[:-1] + "".join(f", {matcher}" for matcher in matchers) + "}"


def rate(name: str, *matchers: str, by: str = "") -> str:
    """How much a counter grows each second."""
    return f"sum by ({by}) (rate({name}{only(*matchers)}[$__rate_interval]))"


def quantiles(name: str, *matchers: str, by: str = "") -> dict[str, str]:
    """What half, and 99 of a hundred, are no larger than."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({name}_bucket{only(*matchers)}[$__rate_interval]))"
    legend = f"{{{{{by}}}}} " if by else ""
    return {f"{legend}p{q * 100:g}": f"histogram_quantile({q}, {buckets})" for q in QUANTILES}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Clients", {"": f"sum(aurexd_sessions{HERE})"}, kind="stat", width=4),
        Panel("Messages", {"": rate("aurexd_sent_messages_total")}, "cps", kind="stat", width=4),
        Panel(
            "Receiving to socket, p99",
            {"": quantiles("aurexd_delivery_seconds")["p99"]},
            "s",
            kind="stat",
            width=4,
        ),
        Panel(
            "Stale symbols",
            {"": f"sum(aurexd_symbol_quality{only(STALE)})"},
            kind="stat",
            width=4,
        ),
        Panel(
            "Sources connected",
            {"": f"sum(aurexd_source_state{only(CONNECTED)})"},
            kind="stat",
            width=4,
        ),
        Panel("Store is well", {"": f"sum(aurexd_store_state{only(WELL)})"}, kind="stat", width=4),
    ),
    "Prices": (
        Panel("Price", {"{{symbol}}": f"aurexd_symbol_price{HERE}"}, "none", width=12),
        Panel("Age of the price", {"{{symbol}}": f"aurexd_symbol_price_age_seconds{HERE}"}, "s", width=6),
        Panel("Quality", {"{{symbol}} {{quality}}": f"aurexd_symbol_quality{HERE} == 1"}, width=6),
        Panel("Who carries it", {"{{symbol}} {{source}}": f"aurexd_symbol_carrier{HERE}"}),
        Panel("Market open", {"{{symbol}}": f"aurexd_symbol_market_open{HERE}"}),
        Panel("Published", {"": rate("aurexd_updates_total")}, "cps"),
    ),
    "Sources": (
        Panel("State", {"{{source}} {{state}}": f"aurexd_source_state{HERE} == 1"}),
        Panel("Ticks", {"{{source}}": rate("aurexd_source_ticks_total", by="source")}, "cps"),
        Panel("Lag of the newest tick", {"{{source}}": f"aurexd_source_lag_seconds{HERE}"}, "s"),
        Panel("Age of the newest tick", {"{{source}}": f"aurexd_source_tick_age_seconds{HERE}"}, "s"),
        Panel(
            "Refused",
            {"{{source}} {{reason}}": rate("aurexd_source_rejected_total", by="source, reason")},
            "cps",
        ),
        Panel(
            "Connections and failures, in 5 minutes",
            {
                "{{source}} connected": f"increase(aurexd_source_connections_total{HERE}[5m])",
                "{{source}} failed": f"increase(aurexd_source_failures_total{HERE}[5m])",
            },
        ),
    ),
    "From the source to the socket": (
        Panel("Each hop", quantiles("aurexd_hop_seconds", by="hop"), "s", width=12),
        Panel("From receiving to the socket", quantiles("aurexd_delivery_seconds"), "s", width=12),
        Panel("Messages to clients", {"{{kind}}": rate("aurexd_sent_messages_total", by="kind")}, "cps"),
        Panel(
            "Bytes",
            {
                "to clients": rate("aurexd_sent_bytes_total"),
                "from clients": rate("aurexd_received_bytes_total"),
            },
            "Bps",
        ),
        Panel(
            "Slow clients",
            {
                "sessions": f"aurexd_slow_sessions{HERE}",
                "writes deferred": rate("aurexd_deferred_writes_total"),
                "messages conflated": rate("aurexd_conflated_messages_total"),
            },
        ),
    ),
    "Clients": (
        Panel(
            "Sessions",
            {
                "{{transport}} {{encoding}}": f"sum by (transport, encoding) (aurexd_sessions{HERE})",
                "limit": f"aurexd_sessions_limit{HERE}",
            },
        ),
        Panel(
            "Sessions opened", {"{{transport}}": rate("aurexd_sessions_opened_total", by="transport")}, "cps"
        ),
        Panel("Sessions closed", {"{{reason}}": rate("aurexd_sessions_closed_total", by="reason")}, "cps"),
        Panel(
            "Back again, by whether nothing was missed",
            {"{{recovered}}": rate("aurexd_resumes_total", by="recovered")},
            "cps",
        ),
        Panel("Errors told", {"{{code}}": rate("aurexd_errors_sent_total", by="code")}, "cps"),
        Panel("Messages of clients", {"": rate("aurexd_received_messages_total")}, "cps"),
    ),
    "The port": (
        Panel("Connections", {"": rate("aurexd_connections_accepted_total")}, "cps"),
        Panel("Hung up on", {"{{reason}}": rate("aurexd_connections_hung_up_total", by="reason")}, "cps"),
        Panel("Turned away", {"{{reason}}": rate("aurexd_sessions_refused_total", by="reason")}, "cps"),
        Panel("Until the first request is read", quantiles("aurexd_handshake_seconds"), "s"),
        Panel("Handshakes under way", {"": f"aurexd_handshakes{HERE}"}),
        Panel(
            "HTTP",
            {
                "{{route}} {{status}}": rate("aurexd_requests_total", by="route, status"),
                "refused {{status}}": rate("aurexd_requests_refused_total", by="status"),
            },
            "cps",
        ),
    ),
    "The store": (
        Panel("State of the store", {"{{state}}": f"aurexd_store_state{HERE} == 1"}, width=6),
        Panel("Transactions", quantiles("aurexd_store_append_seconds"), "s", width=6),
        Panel("Ticks in a transaction", quantiles("aurexd_store_batch_ticks"), width=6),
        Panel("Answers about history", quantiles("aurexd_store_read_seconds"), "s", width=6),
        Panel("Ticks written", {"": rate("aurexd_store_ticks_total")}, "cps", width=6),
        Panel(
            "Ticks that wait",
            {"": f"aurexd_store_backlog_ticks{HERE}", "limit": f"aurexd_store_backlog_ticks_limit{HERE}"},
            width=6,
        ),
        Panel(
            "Lost and failed",
            {
                "ticks lost": rate("aurexd_store_dropped_ticks_total"),
                "transactions failed": rate("aurexd_store_failures_total"),
            },
            "cps",
            width=6,
        ),
        Panel("Rows deleted", {"": rate("aurexd_store_deleted_rows_total")}, "cps", width=6),
    ),
    "Alerts of users": (
        Panel(
            "Fired and acknowledged",
            {
                "fired": rate("aurexd_alerts_fired_total"),
                "acknowledged": rate("aurexd_alerts_acknowledged_total"),
            },
            "cps",
            width=12,
        ),
        Panel("Waiting for their owners", {"": f"aurexd_alerts_waiting{HERE}"}, width=12),
        Panel("From the price to the alert", quantiles("aurexd_alert_delay_seconds"), "s"),
        Panel(
            "Late, or too many",
            {
                "late": f"increase(aurexd_alerts_late_total{HERE}[5m])",
                "rules snoozed in a storm": f"increase(aurexd_alerts_storms_total{HERE}[5m])",
            },
        ),
        Panel(
            "Rules, and prices judged",
            {
                "rules {{state}}": f"sum by (state) (aurexd_alert_rules{HERE})",
                "prices a second": rate("aurexd_alerts_judged_prices_total"),
            },
        ),
    ),
    "The daemon": (
        Panel("How late the loop is", quantiles("aurexd_loop_lag_seconds"), "s", width=6),
        Panel("Inboxes", {"{{actor}}": f"aurexd_inbox_messages{HERE}"}, width=6),
        Panel(
            "Time in the garbage collector",
            {"generation {{generation}}": rate("aurexd_gc_pause_seconds_sum", by="generation")},
            "percentunit",
            width=6,
        ),
        Panel(
            "Restarts and crashes, in 5 minutes",
            {
                "{{actor}} started again": f"increase(aurexd_actor_restarts_total{HERE}[5m])",
                "{{actor}} crashed": f"increase(aurexd_actor_crashes_total{HERE}[5m])",
            },
            width=6,
        ),
        Panel("CPU", {"": rate("process_cpu_seconds_total")}, "percentunit", width=6),
        Panel("Memory", {"": f"process_resident_memory_bytes{HERE}"}, "bytes", width=6),
        Panel(
            "File descriptors",
            {"": f"process_open_fds{HERE}", "limit": f"process_max_fds{HERE}"},
            width=6,
        ),
        Panel("Who did not answer", {"{{actor}}": f"aurexd_answered{HERE} == bool 0"}, width=6),
        Panel(
            "Lines in the log",
            {"{{level}}": rate("aurexd_log_lines_total", 'level!="debug"', by="level")},
            "cps",
            width=12,
        ),
        Panel(
            "Reloads",
            {
                "the last was taken over": f"aurexd_config_last_reload_successful{HERE}",
                "{{outcome}}, in 5 minutes": f"increase(aurexd_config_reloads_total{HERE}[5m])",
                "settings that need a restart": f"aurexd_config_restart_needed_settings{HERE}",
            },
            width=6,
        ),
        Panel(
            "Configuration since",
            {"": f"time() - aurexd_config_last_reload_success_timestamp_seconds{HERE}"},
            "s",
            width=6,
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": place(0, y, 24, 1), "panels": []})
        x, y, height = 0, y + 1, 4 if row[0].kind == "stat" else 7
        for panel in row:
            if x + panel.width > 24:
                x, y = 0, y + height
            panels.append(described(panel, place(x, y, panel.width, height)))
            x += panel.width
        y += height
    for number, panel_ in enumerate(panels, 1):
        panel_["id"] = number
    return {
        "uid": "aurexd",
        "title": "aurexd",
        "tags": ["aurexd"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                variable("job", "label_values(aurexd_build_info, job)"),
                {
                    **variable("instance", 'label_values(aurexd_build_info{job="$job"}, instance)'),
                    "includeAll": True,
                    "multi": True,
                },
            ]
        },
        "panels": panels,
    }


def variable(name: str, query: str) -> dict[str, Any]:
    """What a person chooses above the graphs."""
    return {"name": name, "label": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2}


SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def described(panel: Panel, where: dict[str, int]) -> dict[str, Any]:
    """One panel."""
    targets = [
        {
            "refId": chr(ord("A") + number),
            "expr": query,
            "legendFormat": legend or panel.title,
            "datasource": SOURCE,
        }
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "gridPos": where,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": targets,
    }


def place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    """Where a panel is."""
    return {"x": x, "y": y, "w": width, "h": height}


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
