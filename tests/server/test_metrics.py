"""What Prometheus scrapes: who may, in which formats, and that each figure is that of what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest
import trio
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as plain

from aurexd.actors.messages import (
    AlertFired,
    AlertsAcknowledged,
    SourceState,
    SourceStatus,
    StoreState,
    StoreStatus,
)
from aurexd.config.model import Limits
from aurexd.market import EpochUs, Instrument
from aurexd.server import measures, metrics
from aurexd.server.measures import MEASURES
from tests.issuer import ask_for_tokens, token
from tests.server.loopback import JSON, MSGPACK, START, Served, decided, price_of, serving
from tests.server.test_events import open_events
from tests.updates import alert

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}
NAMED = {m.full_name: m for group in MEASURES.values() for m in group}

openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Scrape:
    """What one answer says."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = {family.name: family for family in families}
        self.values: dict[tuple[str, Labels], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.values.get((name, frozenset(labels.items())))


async def scrape(served: Served, headers: dict[str, str] | None = None) -> Scrape:
    answer = await served.fetch("/metrics", headers=headers)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    parse = openmetrics if headers == OPENMETRICS else plain
    return Scrape(parse(answer.body.decode()))


def source(rejected: dict[str, int] | None = None) -> SourceStatus:
    return SourceStatus(
        name="alltick",
        type="alltick",
        priority=1,
        symbols={"XAUUSD": "GOLD"},
        instruments={"XAUUSD": Instrument.SPOT},
        state=SourceState.CONNECTED,
        since=START,
        ticks=7,
        last_tick=START,
        lag_ms=1500,
        connections=2,
        failures=1,
        rejected=rejected or {},
    )


# --- the format ---


async def test_both_formats_are_what_the_librarys_own_parsers_read() -> None:
    async with serving() as served:
        served.sources = [source({"outlier": 3})]
        client = await served.connect()
        await client.messages(2)
        await served.fetch("/healthz")
        old = await served.fetch("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
        assert old.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        new = await served.fetch("/metrics", headers=OPENMETRICS)
        assert new.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        by_plain = Scrape(plain(old.body.decode()))
        by_openmetrics = Scrape(openmetrics(new.body.decode()))
        ours = {name for name, _ in by_openmetrics.values if name.startswith("aurexd_")}
        assert ours == {name for name, _ in by_plain.values if name.startswith("aurexd_")}
        assert by_plain("process_start_time_seconds")
        assert {"python_info", "process_open_fds"} <= by_plain.families.keys()


async def test_every_metric_is_there_with_its_kind_its_meaning_and_its_labels() -> None:
    async with serving() as served:
        found = (await scrape(served, OPENMETRICS)).families
        for measure in NAMED.values():
            family = found[measure.name]
            assert (family.type, family.documentation) == (measure.kind, measure.meaning)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(measure.labels)
        assert {name for name in found if name.startswith("aurexd_")} == {m.name for m in NAMED.values()}


def test_names_are_prometheus_way() -> None:
    for name, measure in NAMED.items():
        assert name.startswith("aurexd_")
        assert not any(word in name for word in ("_ms", "_us", "_milli", "_minutes", "_kb")), "base units"
        assert not measure.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert measure.meaning.endswith(".")


def test_each_is_in_the_manual() -> None:
    document = measures.DOCUMENT.read_text()
    assert measures.fill(document) == document, "stale: python -m aurexd.server.measures"


# --- who may ask ---


async def test_on_this_machine_nobody_is_asked_for_a_token() -> None:
    async with serving() as served:
        await scrape(served)
        ask_for_tokens(served.settings)
        await scrape(served)


@pytest.mark.parametrize("limits", [Limits(), Limits(trusted_proxies=("127.0.0.1",))])
async def test_who_comes_through_a_proxy_is_elsewhere_and_needs_a_token_for_admins(limits: Limits) -> None:
    async with serving(limits=limits) as served:
        answer = await served.fetch("/metrics", headers=ELSEWHERE)
        assert answer.status == 403
        assert "own machine" in answer.json()["error"]["message"]
        ask_for_tokens(served.settings)
        assert (await served.fetch("/metrics", headers=ELSEWHERE)).status == 401
        for scopes, status in (["read"], 403), (["admin"], 200):
            shown = {"Authorization": f"Bearer {token(scopes=scopes)}", **ELSEWHERE}
            assert (await served.fetch("/metrics", headers=shown)).status == status


async def test_a_trusted_proxy_that_names_nobody_is_not_on_this_machine_either() -> None:
    async with serving(limits=Limits(trusted_proxies=("127.0.0.1",))) as served:
        assert (await served.fetch("/metrics")).status == 403


async def test_it_is_answered_to_the_last() -> None:
    async with serving() as served:
        served.lifecycle.phase = "draining"
        found = await scrape(served)
        assert (found("aurexd_phase", phase="draining"), found("aurexd_phase", phase="serving")) == (1, 0)


# --- what it says ---


async def test_sessions_are_counted_by_kind_while_they_are_there_and_by_how_they_end() -> None:
    async with serving() as served:
        kind = {"transport": "websocket", "compressed": "no", "tls": "no"}
        quiet, packed, wild = [await served.connect(encoding) for encoding in (JSON, MSGPACK, JSON)]
        for client in (quiet, packed, wild):
            await client.message()
        await open_events(served)
        found = await scrape(served)
        assert found("aurexd_sessions", encoding="json", **kind) == 2
        assert found("aurexd_sessions", encoding="msgpack", **kind) == 1
        assert found("aurexd_sessions", encoding="json", **{**kind, "transport": "event_stream"}) == 1
        await quiet.close()
        await packed.send("a text frame")
        assert (await packed.closing())[0] == 1003
        await wild.send_raw(b"\xff\xff\xff\xff\xff\xff")
        assert (await wild.closing())[0] == 1002
        with trio.fail_after(5):
            while (found := await scrape(served))("aurexd_sessions", encoding="json", **kind):
                await trio.sleep(0.001)
        assert found("aurexd_sessions_opened_total", encoding="json", **kind) == 2
        assert found("aurexd_sessions_closed_total", reason="websocket_error") == 1
        assert found("aurexd_sessions_closed_total", reason="unsupported_data") == 1
        assert found("aurexd_sessions_closed_total", reason="client_left") == 1


async def test_what_is_published_is_counted_by_kind_with_its_delays() -> None:
    async with serving() as served:
        client = await served.connect()
        await client.messages(2)
        now = served.clock.now()
        served.hub.tell(decided(price=price_of(time=now), decided=now))
        await client.message()
        found = await scrape(served)
        assert found("aurexd_sent_messages_total", kind="price") == 1
        assert found("aurexd_sent_messages_total", kind="alert") == 0, "there from the start"
        sent = found("aurexd_sent_bytes_total")
        assert sent is not None
        assert sent > 100
        for hop in ("aggregator", "hub", "socket"):
            assert found("aurexd_hop_seconds_count", hop=hop) == 1
            assert found("aurexd_hop_seconds_bucket", hop=hop, le="+Inf") == 1
        assert found("aurexd_delivery_seconds_count") == 1
        assert found("aurexd_updates_total") == 2


async def test_errors_and_refusals_are_counted_by_reason() -> None:
    async with serving(limits=Limits(max_connections_per_ip=1)) as served:
        client = await served.connect(JSON)
        await client.message()
        assert (await client.ask("subscribe", {"channels": ["price:TULIPS"]}))["type"] == "error"
        assert (await (await served.connect(JSON)).closing())[0] == 4004
        await served.fetch("/nowhere", headers={"Host": "127.0.0.1"})
        served.door.hung_up("attempts", None)
        found = await scrape(served)
        assert found("aurexd_errors_sent_total", code="unknown_channel") == 1
        assert found("aurexd_sessions_refused_total", reason="too_many_connections") == 1
        assert found("aurexd_connections_hung_up_total", reason="attempts") == 1
        assert found("aurexd_requests_total", route="other", status="404") == 1, "a path is no label"
        assert found("aurexd_received_messages_total") == 1
        accepted = found("aurexd_connections_accepted_total")
        assert accepted == 4
        assert found("aurexd_handshake_seconds_count") == accepted


async def test_clients_that_come_back_are_counted_by_what_they_get() -> None:
    async with serving() as served:
        await served.publish("1.00", "2.00")
        client = await served.connect(JSON)
        epoch = (await client.message())["data"]["epoch"]
        for position in ({"epoch": epoch, "count": 1}, {"epoch": "another", "count": 1}):
            channels = {"channels": ["price:XAUUSD"]}
            await client.ask("unsubscribe", channels)
            await client.ask("subscribe", {**channels, "resume": {"price:XAUUSD": position}})
        found = await scrape(served)
        assert found("aurexd_resumes_total", recovered="yes") == 1
        assert found("aurexd_resumes_total", recovered="no") == 1


async def test_symbols_and_sources_say_how_they_are() -> None:
    async with serving() as served:
        served.sources = [source({"outlier": 3})]
        found = await scrape(served)
        assert found("aurexd_symbol_price", symbol="XAUUSD") == 2706.93
        assert found("aurexd_symbol_quality", symbol="XAUUSD", quality="live") == 1
        assert found("aurexd_symbol_quality", symbol="XAUUSD", quality="stale") == 0
        assert found("aurexd_symbol_carrier", symbol="XAUUSD", source="alltick") == 1
        assert found("aurexd_symbol_market_open", symbol="XAUUSD") == 1
        assert found("aurexd_symbol_price", symbol="XAGUSD") is None
        assert found("aurexd_source_state", source="alltick", state="connected") == 1
        assert found("aurexd_source_ticks_total", source="alltick") == 7
        assert found("aurexd_source_lag_seconds", source="alltick") == 1.5
        assert found("aurexd_source_rejected_total", source="alltick", reason="outlier") == 3
        age = found("aurexd_symbol_price_age_seconds", symbol="XAUUSD")
        assert age is not None
        assert 0 <= age < 60


async def test_alerts_are_counted_until_they_are_acknowledged() -> None:
    async with serving() as served:
        for number in (1, 2):
            served.hub.tell(
                AlertFired(owner="local", alert=alert(number, f"a{number}").data, arrived=served.clock.now())
            )
        again = msgspec.structs.replace(alert(3, "a3").data, redelivered=True)
        served.hub.tell(AlertFired(owner="local", alert=again))
        served.hub.tell(AlertsAcknowledged(owner="local", alert_ids=("a1", "a1", "unknown")))
        found = await scrape(served)
        assert found("aurexd_alerts_fired_total") == 2, "what is told of again did not fire now"
        assert found("aurexd_alert_delay_seconds_count") == 2
        assert found("aurexd_alerts_acknowledged_total") == 1
        assert found("aurexd_alerts_waiting") == 2


async def test_alerts_that_came_late_or_were_too_many_are_told_apart() -> None:
    async with serving() as served:
        late = msgspec.structs.replace(alert(1, "a1").data, late=True)
        storm = msgspec.structs.replace(alert(2, "a2").data, paused_until="2026-01-01T00:00:00Z")
        served.hub.tell(AlertFired(owner="local", alert=late, arrived=EpochUs(0)))
        served.hub.tell(AlertFired(owner="local", alert=storm, arrived=served.clock.now()))
        found = await scrape(served)
        assert (found("aurexd_alerts_late_total"), found("aurexd_alerts_storms_total")) == (1, 1)
        assert found("aurexd_alert_delay_seconds_count") == 1


async def test_a_reload_that_went_wrong_is_seen() -> None:
    async with serving() as served:
        assert (await scrape(served))("aurexd_config_last_reload_successful") == 1
        served.reloads.went_wrong("refused")
        found = await scrape(served)
        assert found("aurexd_config_last_reload_successful") == 0
        assert found("aurexd_config_reloads_total", outcome="refused") == 1
        assert found("aurexd_config_reloads_total", outcome="failed") == 0, "there from the start"
        served.reloads.done(EpochUs(7_000_000), waiting=2)
        found = await scrape(served)
        assert found("aurexd_config_last_reload_successful") == 1
        assert found("aurexd_config_last_reload_success_timestamp_seconds") == 7
        assert found("aurexd_config_restart_needed_settings") == 2


async def test_rules_are_told_by_their_state() -> None:
    async with serving() as served:
        assert (await scrape(served))("aurexd_alert_rules", state="armed") is None, "not known yet"
        served.persister.store = StoreStatus(
            state=StoreState.OK, since=START, alert_rules={"armed": 3, "disarmed": 0}
        )
        found = await scrape(served)
        assert found("aurexd_alert_rules", state="armed") == 3
        assert found("aurexd_alert_rules", state="disarmed") == 0


async def test_the_store_says_how_it_is() -> None:
    async with serving() as served:
        state = StoreState.DEGRADED
        served.persister.store = StoreStatus(
            state=state, since=START, stored=5, waiting=3, dropped=1, capacity=9
        )
        found = await scrape(served)
        assert found("aurexd_store_state", state="degraded") == 1
        assert found("aurexd_store_ticks_total") == 5
        assert found("aurexd_store_backlog_ticks") == 3
        assert found("aurexd_store_backlog_ticks_limit") == 9
        assert found("aurexd_store_dropped_ticks_total") == 1


async def test_who_does_not_answer_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> list[SourceStatus]:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(metrics, "GATHER_S", 0.05)
    monkeypatch.setattr(Served, "source_statuses", staticmethod(never))
    async with serving() as served:
        found = await scrape(served)
        assert found("aurexd_answered", actor="sources") == 0
        assert found("aurexd_answered", actor="hub") == 1
        assert found("aurexd_symbol_price", symbol="XAUUSD") == 2706.93
        assert "aurexd_source_ticks" in found.families, "it is there, but says nothing"
