"""The server's messages as they are made: the golden examples come out of what the daemon knows."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from aurexd.identity import Identity, Scope
from aurexd.market import Instrument, Price, Quality, parse_time
from aurexd.protocol import compose
from aurexd.protocol.codec import JSON
from aurexd.protocol.codes import ErrorCode
from aurexd.protocol.data import HeartbeatData, LimitsData, MarketState
from aurexd.protocol.messages import ServerMessage

NOW = parse_time("2025-10-27T12:00:00.123Z")
EPOCH = "5f1c0a7be2d94e36"
PRICE = Price(
    symbol="XAUUSD",
    close=Decimal("2043.50"),
    bid=Decimal("2043.40"),
    ask=Decimal("2043.60"),
    change=Decimal("5.20"),
    change_pct=Decimal("0.25"),
    source="alltick",
    instrument=Instrument.SPOT,
    quality=Quality.LIVE,
    source_time=parse_time("2025-10-27T12:00:00Z"),
    receive_time=NOW,
)


def golden(name: str) -> str:
    return (Path(__file__).parent / "golden" / f"{name}.json").read_text().strip()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("price_update", compose.price_update(PRICE, NOW, 12345)),
        (
            "status",
            compose.status(
                "XAUUSD",
                Quality.LIVE,
                "swissquote",
                Instrument.SPOT,
                MarketState.OPEN,
                "alltick: no price for 15 s; swissquote takes over",
                since=parse_time("2025-10-27T11:58:31.400Z"),
                now=NOW,
                update_count=3,
            ),
        ),
        (
            "welcome",
            compose.welcome(
                "c41f9e27a0b3",
                "0.1.0",
                EPOCH,
                LimitsData(
                    max_message_bytes=16384,
                    max_messages_per_second=10.0,
                    max_control_frames_per_second=10.0,
                    max_channels=256,
                    idle_timeout_s=300.0,
                    send_queue_bytes=65536,
                    auth_timeout_s=10.0,
                ),
                HeartbeatData(ping_interval_s=20.0, pong_timeout_s=10.0, silence_s=5.0),
                NOW,
                asks_for_token=True,
            ),
        ),
        (
            "authenticated",
            compose.authenticated(
                1,
                Identity(
                    user="alice",
                    scopes=frozenset({Scope.ALERTS, Scope.READ}),
                    expires=parse_time("2025-10-27T13:00:00Z"),
                ),
                NOW,
            ),
        ),
        ("token_expiring", compose.token_expiring(parse_time("2025-10-27T12:01:00Z"), NOW)),
        (
            "subscribed",
            compose.subscribed(2, EPOCH, {"price:XAUUSD": (12345, True), "status:XAUUSD": (3, False)}, NOW),
        ),
        ("unsubscribed", compose.unsubscribed(3, ("status:XAUUSD",), NOW)),
        ("snapshot_sent", compose.snapshot_sent("s-1", EPOCH, {"price:XAUUSD": 12345}, NOW)),
        ("pong", compose.pong(4, NOW)),
        ("heartbeat", compose.heartbeat(NOW)),
        ("going_away", compose.going_away("the server restarts", 1730, NOW)),
        (
            "error",
            compose.error(
                ErrorCode.RATE_LIMITED,
                "more than 10 messages a second; this one was not acted on",
                NOW,
                request_id=10,
                retry_after_ms=180,
            ),
        ),
    ],
)
def test_a_message_is_made_as_documented(name: str, message: ServerMessage) -> None:
    assert JSON.encode(message).decode() == golden(name)


def test_what_is_unknown_is_null_and_what_does_not_apply_is_absent() -> None:
    price = Price(
        symbol="GC",
        close=Decimal("2050.1"),
        bid=None,
        ask=None,
        change=None,
        change_pct=None,
        source="yahoo",
        instrument=Instrument.FUTURE,
        quality=Quality.DELAYED,
        source_time=NOW,
        receive_time=NOW,
    )
    message = json.loads(JSON.encode(compose.price_update(price, NOW, 1)))
    assert list(message) == ["type", "data", "timestamp", "update_count"]
    assert [name for name, value in message["data"].items() if value is None] == [
        "change",
        "change_pct",
        "bid",
        "ask",
    ]
    error = json.loads(JSON.encode(compose.error(ErrorCode.FORBIDDEN, "no", NOW)))
    assert list(error) == ["type", "data", "timestamp"]
    assert list(error["data"]) == ["code", "message"]
