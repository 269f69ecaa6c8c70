"""The same questions to a running daemon, asked by aurexctl, by a client of Varlink that is not ours, and by socat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import varlink
from trio_websocket import ConnectionClosed

from tests.integration.process import Running, open_stream
from tests.integration.test_reload import next_of

pytestmark = pytest.mark.slow

CONFIG = """
[listen]
port = 0
[control]
socket = "{folder}/control"
[symbols.TESTGOLD]
instrument = "test"
calendar = "always"
[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.1
symbols = {{ TESTGOLD = "TESTGOLD" }}
"""

NAME = "io.aurex.Control"
VOLATILE = {"uptime_s", "messages_sent", "since_s", "age_ms", "close", "bid", "ask", "source_time", "waiting", "peak",
            "stored", "ticks", "tick", "price", "stale_in_ms", "last_tick", "lag_ms", "clock_skew_ms"}  # fmt: skip
"""What is another in each answer."""


def steady(reply: Any) -> Any:
    if isinstance(reply, dict):
        return {
            key: steady(value) for key, value in reply.items() if key not in VOLATILE and value is not None
        }
    return [steady(value) for value in reply] if isinstance(reply, list) else reply


class Asked:
    """One daemon, asked in every way there is."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "control"

    def aurexctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            "from aurexd.aurexctl import main; main()",
            "--socket",
            str(self.socket),
        ]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)

    def by_aurexctl(self, *arguments: str) -> Any:
        done = self.aurexctl("--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def by_varlink(self, method: str, **parameters: Any) -> Any:
        with varlink.Client(f"unix:{self.socket}") as client, client.open(NAME) as connection:
            return getattr(connection, method)(**parameters)

    def by_socat(self, method: str, **parameters: Any) -> Any:
        call = json.dumps({"method": f"{NAME}.{method}", "parameters": parameters}).encode() + b"\0"
        done = subprocess.run(
            ["socat", "-t", "10", "-", f"UNIX-CONNECT:{self.socket}"],
            input=call, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        (message,) = done.stdout.removesuffix(b"\0").split(b"\0")
        return json.loads(message)["parameters"]

    def by_varlinkctl(self, method: str, **parameters: Any) -> Any:
        """None where the distribution's systemd is too old to have it."""
        if shutil.which("varlinkctl") is None:
            return None
        command = [
            "varlinkctl",
            "--json=short",
            "call",
            str(self.socket),
            f"{NAME}.{method}",
            json.dumps(parameters),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)


def test_every_client_gets_the_same_answers(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    with Running(tmp_path, CONFIG.format(folder=tmp_path)) as daemon:
        for arguments, method in (
            (("status",), "GetStatus"),
            (("actors",), "ListActors"),
            (("sources",), "ListSources"),
            (("sessions",), "ListSessions"),
            (("log-level",), "GetLogLevel"),
            (("why", "price", "TESTGOLD"), "GetWhyPrice"),
            (("reload",), "Reload"),
        ):
            answer = steady(asked.by_aurexctl(*arguments))
            parameters = {"symbol": arguments[-1]} if arguments[0] == "why" else {}
            assert answer == steady(asked.by_varlink(method, **parameters)), method
            assert answer == steady(asked.by_socat(method, **parameters)), method
            assert steady(asked.by_varlinkctl(method, **parameters)) in (answer, None), method
        for ask in (asked.by_varlink, asked.by_socat):
            assert "aurexd_build_info{" in ask("GetMetrics")["text"]
        for ask in (asked.by_varlink, asked.by_socat):
            paused = asked.by_aurexctl("sources", "pause", "simulated")
            assert paused["source"]["state"] == "paused"
            assert ask("ResumeSource", name="simulated")["source"]["state"] in {"connecting", "connected"}
        with varlink.Client(f"unix:{asked.socket}") as client, client.open(NAME) as connection:
            seen = connection.Watch(symbols=["TESTGOLD"], _more=True)
            assert [next(seen)["symbols"][0]["symbol"] for _ in range(3)] == ["TESTGOLD"] * 3
            with pytest.raises(varlink.VarlinkError) as refused:
                asked.by_varlink("PauseSource", name="nobody")
            assert refused.value.error() == f"{NAME}.NoSuchSource"
        acted = daemon.events("operator_acted")
        assert {entry["uid"] for entry in acted} == {os.getuid()}
        assert [entry["method"] for entry in acted if entry["method"] != "Reload"] == [
            "PauseSource", "ResumeSource", "PauseSource", "ResumeSource", "PauseSource"
        ]  # fmt: skip
        assert len({entry["pid"] for entry in acted}) > 4


def test_a_session_is_found_and_kicked_and_the_daemon_drained(tmp_path: Path) -> None:
    asked = Asked(tmp_path)

    async def kicked(port: int) -> int:
        async with open_stream(port) as stream:
            await stream.get_message()
            (session,) = (await trio.to_thread.run_sync(asked.by_aurexctl, "sessions", "--ip", "127.0.0.1"))[
                "sessions"
            ]
            assert session["channels"] == ["price:TESTGOLD", "status:TESTGOLD"]
            none = await trio.to_thread.run_sync(asked.by_aurexctl, "sessions", "--ip", "192.0.2.0/24")
            assert none == {"sessions": [], "total": 1}
            await trio.to_thread.run_sync(asked.by_aurexctl, "kick", session["id"])
            with pytest.raises(ConnectionClosed) as closed:
                await next_of(stream, "never")
            assert closed.value.reason is not None
            return closed.value.reason.code

    with Running(tmp_path, CONFIG.format(folder=tmp_path)) as daemon:
        assert trio.run(kicked, daemon.port) == 4504
        assert asked.aurexctl("kick", "nobody").returncode == os.EX_DATAERR
        drained = asked.aurexctl("drain")
        assert (drained.returncode, drained.stderr) == (0, "")
        assert drained.stdout.endswith("the daemon has ended\n")
        assert daemon.process is not None
        assert daemon.process.wait(10) == 0
        assert asked.aurexctl("status").returncode == os.EX_UNAVAILABLE
        assert not asked.socket.exists()


def test_who_watches_is_told_of_a_symbol_that_is_taken_out_and_of_its_return(tmp_path: Path) -> None:
    asked, config = Asked(tmp_path), CONFIG.format(folder=tmp_path)
    both = config + '[symbols.OTHER]\ninstrument = "test"\ncalendar = "always"\n'
    with (
        Running(tmp_path, both) as daemon,
        varlink.Client(f"unix:{asked.socket}") as client,
        client.open(NAME) as connection,
    ):
        replies = connection.Watch(_more=True)
        first = next(replies)
        assert ({symbol["symbol"] for symbol in first["symbols"]}, first["gone"]) == (
            {"TESTGOLD", "OTHER"},
            [],
        )
        for text, told in ((config, lambda reply: reply["gone"] == ["OTHER"]), (both, shows_other)):
            daemon.configure(text)
            asked.by_aurexctl("reload")
            assert next(filter(told, replies))
        assert daemon.stop() == 0


def shows_other(reply: dict[str, Any]) -> bool:
    return any(symbol["symbol"] == "OTHER" for symbol in reply["symbols"])


def test_an_alert_is_seen_and_explained_whosever_it_is(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    with Running(tmp_path, CONFIG.format(folder=tmp_path)) as daemon:
        rule = {"symbol": "TESTGOLD", "condition": {"kind": "above", "level": 1}, "note": "sell"}
        url = f"http://127.0.0.1:{daemon.port}/api/v1/alerts"
        assert httpx.post(url, json=rule, timeout=10).status_code == 201
        daemon.wait_for(lambda: bool(asked.by_socat("ListAlerts")["waiting"]))
        seen = asked.by_aurexctl("alerts")
        assert (seen["owners"], seen["unacknowledged"], seen["waiting"][0]["owner"]) == (1, 1, "local")
        alert_id = seen["waiting"][0]["alert"]["alert_id"]
        why = asked.by_aurexctl("why", "alert", alert_id)
        assert steady(why) == steady(asked.by_varlink("GetWhyAlert", id=alert_id))
        assert why["price"]["close"] > 1
        assert asked.aurexctl("why", "alert", "nobody").returncode == os.EX_DATAERR
        assert daemon.stop() == 0


def test_a_reload_says_what_it_did_or_all_that_is_wrong(tmp_path: Path) -> None:
    asked, config = Asked(tmp_path), CONFIG.format(folder=tmp_path)
    with Running(tmp_path, config) as daemon:
        daemon.configure(config + "[limits]\nmax_connections = 7\n[heartbeat]\nsilence_s = 1\n")
        daemon_says = asked.by_aurexctl("reload")
        assert daemon_says == {
            "changed": ["limits.max_connections", "heartbeat.silence_s"],
            "waiting": {},
            "notes": [],
        }
        asked.by_aurexctl("log-level", "error")
        daemon.configure(config + '[limits]\nmax_connections = "many"\nmax_conections = 1\n')
        refused = asked.aurexctl("reload")
        assert refused.returncode == os.EX_CONFIG
        assert refused.stderr.count("limits.max_con") == 2
        assert asked.by_aurexctl("log-level") == {"level": "error"}
        daemon.configure(config)
        assert asked.by_aurexctl("reload")["changed"] == [
            "limits.max_connections", "heartbeat.silence_s", "log.level"
        ]  # fmt: skip
        assert [e["method"] for e in daemon.events("operator_acted")] == [
            "Reload",
            "SetLogLevel",
            "Reload",
            "Reload",
        ]


def test_a_reload_adds_removes_and_changes_sources_and_drops_nobody(tmp_path: Path) -> None:
    asked, config = Asked(tmp_path), CONFIG.format(folder=tmp_path)
    second = '[[sources]]\nname = "second"\ntype = "simulated"\npriority = 1\nsymbols = { TESTGOLD = "X" }\n'
    changed = config.replace("interval_s = 0.1", "interval_s = 0.1\npriority = 7")

    def carried_by(source: str) -> bool:
        (symbol,) = asked.by_aurexctl("status")["symbols"]
        return bool(symbol["source"] == source and symbol["quality"] == "simulated")

    async def main() -> None:
        async with open_stream(daemon.port) as stream:
            first = await next_of(stream, "price_update")
            daemon.configure(changed + second)
            reloaded = await trio.to_thread.run_sync(asked.by_aurexctl, "reload")
            assert reloaded == {
                "changed": ["sources.simulated", "sources.second"],
                "waiting": {},
                "notes": [],
            }
            await trio.to_thread.run_sync(daemon.wait_for, lambda: carried_by("second"))
            daemon.configure(config.split("[[sources]]")[0] + second)
            assert (await trio.to_thread.run_sync(asked.by_aurexctl, "reload"))["changed"] == [
                "sources.simulated"
            ]
            listed = (await trio.to_thread.run_sync(asked.by_aurexctl, "sources"))["sources"]
            assert [source["name"] for source in listed] == ["second"]
            last = first["update_count"]
            while (update := await next_of(stream, "price_update"))["data"]["source"] != "second":
                assert update["update_count"] == last + update.get("conflated", 1)
                last = update["update_count"]

    with Running(tmp_path, config) as daemon:
        trio.run(main)
        text = httpx.get(f"http://127.0.0.1:{daemon.port}/metrics").text
        assert 'actor="source:second"' in text
        assert 'actor="source:simulated"' not in text
        daemon.configure(config.replace("[symbols.TESTGOLD]", "[symbols.TESTGOLD]\ndecimals = 3"))
        waiting = asked.by_aurexctl("reload")["waiting"]
        assert list(waiting) == ["symbols.TESTGOLD.decimals", "sources.simulated"]
        assert waiting["sources.simulated"] == "it serves a symbol that waits for a restart"
        assert daemon.stop() == 0
