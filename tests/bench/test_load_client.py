"""The benchmark's clients in C: they understand what the daemon says, and notice whatever a server does wrong."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from load import Load, prices
from peers.price import message, price_now

from aurexd.market import SECOND_US, EpochUs, Instrument, Price, Quality
from aurexd.protocol import compose
from aurexd.protocol.codec import JSON, MSGPACK, Encoding

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
PING = b"\x89\x02hi"
PONG = b"\x8a\x82\0\0\0\0hi"
NOW = EpochUs(1_761_566_400 * SECOND_US)

pytestmark = pytest.mark.slow  # compiles the program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program is."""
    return tmp_path_factory.mktemp("load")


@contextlib.contextmanager
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def upgraded(listener: socket.socket, more: bytes = b"") -> socket.socket:
    """The next client, let in; `more` comes with the answer."""
    client, _ = listener.accept()
    client.settimeout(10)
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    client.sendall(ANSWER + more)
    return client


def loaded(listener: socket.socket, folder: Path, **options: bool | tuple[str, ...]) -> Load:
    port: int = listener.getsockname()[1]
    return Load(folder, port, "/", 2 if options.get("mixed") else 1, **options)  # type: ignore[arg-type]


def price(symbol: str, count: int, encoding: Encoding = JSON, conflated: int = 1) -> bytes:
    """A price that is sent now, as the daemon would."""
    close = Decimal(f"{price_now():.6f}")
    it = Price(
        symbol=symbol,
        close=close,
        bid=close,
        ask=close,
        change=None,
        change_pct=None,
        source="kraken",
        instrument=Instrument.TOKEN,
        quality=Quality.LIVE,
        source_time=NOW,
        receive_time=NOW,
    )
    update = compose.price_update(it, NOW, count)
    return encoding.frame(update if conflated == 1 else msgspec.structs.replace(update, conflated=conflated))


def test_it_counts_each_channel_by_itself_and_knows_the_delay(folder: Path) -> None:
    with server() as listener, loaded(listener, folder) as load:
        client = upgraded(listener, price("GOLD0", 7))
        assert load.wait_open()["opened"] == 1
        client.sendall(price("GOLD0", 8) + price("GOLD1", 1) + PING)
        assert client.recv(100) == PONG
        found = load.report()
        client.close()
    assert found["channels"] == {"price_update GOLD0": 2, "price_update GOLD1": 1}
    assert prices(found) == found["delivered"] == 3
    assert (found["lost"], found["repeated"], found["conflated"], found["behind"]) == (0, 0, 0, 0)
    assert found["delay_ms"]["n"] == 3
    assert found["delay_ms"]["max"] < 10_000


def test_a_message_may_come_byte_by_byte(folder: Path) -> None:
    with server() as listener, loaded(listener, folder) as load:
        client = upgraded(listener)
        load.wait_open()
        for byte in price("GOLD0", 1) + price("GOLD0", 2):
            client.sendall(bytes([byte]))
        client.sendall(PING)
        client.recv(100)
        found = load.look()
        client.close()
    assert (found["delivered"], found["lost"], found["repeated"]) == (2, 0, 0)


def test_it_notices_what_is_lost_repeated_or_out_of_order(folder: Path) -> None:
    with server() as listener, loaded(listener, folder) as load:
        client = upgraded(listener)
        load.wait_open()
        counts = (1, 2, 2, 5, 4, 6)  # 2 is repeated, 3 and 4 are lost, 4 comes too late
        client.sendall(b"".join(price("GOLD0", count) for count in counts) + PING)
        client.recv(100)
        found = load.look()
        client.close()
    assert (found["delivered"], found["lost"], found["repeated"]) == (4, 2, 2)


def test_a_message_may_stand_for_several(folder: Path) -> None:
    with server() as listener, loaded(listener, folder) as load:
        client = upgraded(listener)
        load.wait_open()
        client.sendall(
            price("GOLD0", 1) + price("GOLD0", 4, conflated=3) + price("GOLD0", 9, conflated=4) + PING
        )
        client.recv(100)
        found = load.look()
        client.close()
    assert (found["delivered"], found["conflated"], found["lost"]) == (3, 5, 1)
    assert prices(found) == 8


def test_every_second_client_may_speak_messagepack(folder: Path) -> None:
    with server() as listener, loaded(listener, folder, channels=("price:GOLD0",), mixed=True) as load:
        clients = [upgraded(listener), upgraded(listener)]
        assert load.wait_open()["opened"] == 2
        for client in clients:
            asked = client.recv(1000)
            encoding = MSGPACK if asked[0] == 0x82 else JSON
            for count in (127, 128, 65_536):
                client.sendall(price("GOLD0", count, encoding, conflated=count))
            client.sendall(PING)
            client.recv(100)
        found = load.report()
        for client in clients:
            client.close()
    assert (found["delivered"], found["behind"], found["delay_ms"]["n"]) == (6, 0, 6)
    assert found["delay_ms"]["max"] < 10_000


def test_who_lacks_the_newest_is_behind(folder: Path) -> None:
    with server() as listener, loaded(listener, folder, channels=("price:GOLD0",), mixed=True) as load:
        clients = [upgraded(listener), upgraded(listener)]
        load.wait_open()
        for client, counts in zip(clients, ((1, 2), (1,)), strict=True):
            encoding = MSGPACK if client.recv(1000)[0] == 0x82 else JSON
            client.sendall(b"".join(price("GOLD0", count, encoding) for count in counts) + PING)
            client.recv(100)
        found = load.look()
        for client in clients:
            client.close()
    assert found["behind"] == 1


def test_a_refusal_is_told(folder: Path) -> None:
    with server() as listener, loaded(listener, folder) as load:
        client, _ = listener.accept()
        client.recv(4096)
        client.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        came = load.wait_open()
        client.close()
    assert (came["opened"], came["failed"]) == (0, 1)
    assert "503" in came["error"]


def test_the_peers_publish_a_message_of_the_very_size_of_ours() -> None:
    assert abs(len(message(1)) - len(price("GOLD0", 1)) + 4) <= 8
