"""Bytes on the wire: our messages in JSON, MessagePack and compressed, and what framing them costs.

    python bench/wire.py

Prints the table of docs/performance.md. A message of each kind is framed by the daemon's own code; the time is the
process's CPU time for one frame, the least of several runs.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality, format_time
from aurexd.protocol import compose
from aurexd.protocol.alerts import AlertListedData, AlertRule, CrossesUp, Repeat, RuleState
from aurexd.protocol.codec import JSON, MSGPACK, Encoding, compressed
from aurexd.protocol.data import MarketState
from aurexd.protocol.deflate import TAIL, WINDOWS
from aurexd.protocol.messages import AlertListed, ServerMessage

START = EpochUs(1_761_566_400 * SECOND_US)
COLUMNS = (JSON, MSGPACK, *(compressed(encoding, bits) for encoding in (JSON, MSGPACK) for bits in WINDOWS))

rng = random.Random(1)


def price_update(number: int) -> ServerMessage:
    """A price as a source that quotes makes it, one a second."""
    close = Decimal(rng.randint(203_850, 204_850)) / 100
    price = Price(
        symbol="XAUUSD",
        close=close,
        bid=close - Decimal("0.10"),
        ask=close + Decimal("0.10"),
        change=Decimal(rng.randint(-999, 999)) / 100,
        change_pct=Decimal(rng.randint(-99, 99)) / 100,
        source="alltick",
        instrument=Instrument.SPOT,
        quality=Quality.LIVE,
        source_time=EpochUs(START + number * SECOND_US),
        receive_time=EpochUs(START + number * SECOND_US),
    )
    return compose.price_update(
        price, EpochUs(price.receive_time + rng.randint(1, 999) * 1000), 12_345 + number
    )


def status() -> ServerMessage:
    return compose.status(
        "XAUUSD",
        Quality.LIVE,
        "swissquote",
        Instrument.SPOT,
        MarketState.OPEN,
        "alltick: no price for 15 s; swissquote takes over",
        since=START,
        now=START,
        update_count=3,
    )


def subscribed(channels: int) -> ServerMessage:
    counts = {f"candle:SYMBOL{number}:1m": (rng.randint(1, 99_999), False) for number in range(channels)}
    return compose.subscribed(1, "5f1c0a7be2d94e36", counts, START)


def alert_list(rules: int) -> ServerMessage:
    def rule(number: int) -> AlertRule:
        return AlertRule(
            rule_id=f"r-{rng.getrandbits(32):08x}",
            owner="user-42",
            state=RuleState.ARMED,
            symbol="XAUUSD",
            condition=CrossesUp(level=Decimal(rng.randint(190_000, 220_000)) / 100),
            repeat=Repeat.ONCE,
            hysteresis=None,
            cooldown_s=60.0,
            expires=None,
            snoozed_until=None,
            note=f"sell {number}",
            created=format_time(EpochUs(START - rng.randint(0, 86_400) * SECOND_US)),
            fired_count=0,
            last_fired=None,
        )

    data = AlertListedData(rules=[rule(number) for number in range(rules)])
    return AlertListed(id=1, data=data, timestamp=format_time(START))


MESSAGES: dict[str, Sequence[ServerMessage]] = {
    "`price_update`": [price_update(0)],
    "`status`": [status()],
    "`subscribed`, 5 channels": [subscribed(5)],
    "`subscribed`, 50 channels": [subscribed(50)],
    "`alert.listed`, 10 rules": [alert_list(10)],
    "`alert.listed`, 100 rules": [alert_list(100)],
    "a replay of 100 `price_update`": [price_update(number) for number in range(100)],
}


def cpu_us(work: Callable[[], object]) -> float:
    """CPU time of one call in µs: the least of many short runs, which others on the machine disturb the least."""
    best = float("inf")
    for _ in range(100):
        begin, calls = time.process_time_ns(), 0
        while (spent := time.process_time_ns() - begin) < 2_000_000:
            work()
            calls += 1
        best = min(best, spent / calls)
    return best / 1000


def framed(messages: Sequence[ServerMessage], encoding: Encoding) -> bytes:
    return b"".join(map(encoding.frame, messages))


def deflated(payload: bytes, bits: int) -> bytes:
    compressor = zlib.compressobj(wbits=-bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflated(data: bytes) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data + TAIL)


def main() -> None:
    print("| message | " + " | ".join(encoding.name for encoding in COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for name, messages in MESSAGES.items():
        cells = [
            f"{len(framed(messages, encoding)):,} B, {cpu_us(partial(framed, messages, encoding)):.0f} µs"
            for encoding in COLUMNS
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(
        "\nEach message's JSON compressed, whatever its size: bytes with windows of 15, 12 and 9 bits, µs to inflate"
    )
    for name, (message, *_) in MESSAGES.items():
        payload = JSON.encode(message)
        sizes = [len(deflated(payload, bits)) for bits in (15, 12, 9)]
        print(f"{name}: {len(payload)} to {sizes}, {cpu_us(partial(inflated, deflated(payload, 12))):.0f}")


if __name__ == "__main__":
    main()
