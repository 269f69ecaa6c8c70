"""Alerts of the whole daemon: over its port, and across kill -9."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.integration.kill_alerts import Judge, Victim
from tests.integration.process import Running, open_stream
from tests.integration.test_daemon import TESTGOLD, read

pytestmark = pytest.mark.slow

POINTS = 3


def test_an_alert_arrives_is_explained_and_is_sent_again_after_kill_9_until_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    with Running(tmp_path, TESTGOLD) as daemon:

        async def until_it_fires() -> dict[str, Any]:
            async with open_stream(daemon.port, subprotocol="aurex.v1.json") as stream:
                await stream.send_message('{"type": "subscribe", "data": {"channels": ["alert"]}}')
                request = {
                    "type": "alert.create",
                    "id": 1,
                    "data": {"symbol": "TESTGOLD", "condition": {"kind": "above", "level": 1}},
                }
                await stream.send_message(json.dumps(request))
                (created,) = await read(stream, 1, kind="alert.created")
                assert created["data"]["rule"]["owner"] == "local"
                (alert,) = await read(stream, 1, kind="alert")
                return alert

        alert_id = trio.run(until_it_fires)["data"]["alert_id"]
        daemon.kill()
        daemon.start()

        async def again() -> list[dict[str, Any]]:
            async with open_stream(daemon.port, subprotocol="aurex.v1.json") as stream:
                await stream.send_message('{"type": "subscribe", "data": {"channels": ["alert"]}}')
                (alert,) = await read(stream, 1, kind="alert")
                ack = {"type": "alert.ack", "id": 2, "data": {"alert_ids": [alert["data"]["alert_id"]]}}
                await stream.send_message(json.dumps(ack))
                return [alert, *await read(stream, 1, kind="alert.acked")]

        alert, _ = trio.run(again)
        assert (alert["data"]["alert_id"], alert["data"]["redelivered"]) == (alert_id, True)
        url = f"http://127.0.0.1:{daemon.port}/api/v1/alerts"
        assert httpx.get(f"{url}/{alert_id}/why").json()["price"]["source"] == "simulated"
        assert httpx.get(f"{url}/history").json()["alerts"][0]["acknowledged"]
        (rule,) = httpx.get(url).json()["rules"]
        assert (rule["state"], rule["fired_count"]) == ("done", 1)
        page = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
        assert httpx.post(url, content="{}", headers=page).status_code == 415
        assert daemon.stop() == 0


def test_nothing_is_lost_and_nothing_doubled_across_kill_9(tmp_path: Path) -> None:
    with Victim(tmp_path, seed=1) as victim:
        for _ in range(POINTS):
            victim.live_and_die()
        victim.finish()
        judged = Judge(victim).judge()
    assert judged.alerts > 0
    assert not any((judged.lost, judged.doubled, judged.undelivered, judged.broken)), judged
