"""The standard's frames, right and wrong, byte for byte on a real socket: what the Autobahn test suite tries, and more.

The suite itself is run by `make autobahn`; its verdict is docs/autobahn.md.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
import structlog.testing
import trio
from wsproto.frame_protocol import Opcode

from aurexd.config.model import Limits
from aurexd.protocol.deflate import COMPRESS_FROM_BYTES, TAIL, Compression
from tests.server.loopback import (
    JSON,
    MSGPACK,
    Client,
    Served,
    decided,
    read_to_the_end,
    serving,
    status_of,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = Opcode
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
GENEROUS = Limits(max_connections_per_ip=0, max_messages_per_second=100_000)
STATUS = "status:XAUUSD"
PING_TEXT = '{"type":"ping","id":"größer"}'
"""A message that is answered, with more than ASCII in it."""


def frame(
    bits: int, payload: bytes = b"", *, mask: bytes = b"\x37\xfa\x21\x3d", length: bytes = b""
) -> bytes:
    """A client's frame: `bits` is its first byte. `length` in the place of the right one."""
    size = len(payload)
    if not length:
        long = struct.pack("!H", size) if size < 65536 else struct.pack("!Q", size)
        length = bytes([size]) if size < 126 else bytes([126 if size < 65536 else 127]) + long
    covered = bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))
    return bytes([bits, 0x80 | length[0]]) + length[1:] + mask + covered


def message(text: str = PING_TEXT) -> bytes:
    return frame(FIN | TEXT, text.encode())


def deflated(payload: bytes | str, bits: int = 15) -> bytes:
    compressor = zlib.compressobj(wbits=-bits)
    data = payload.encode() if isinstance(payload, str) else payload
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


async def greeted(served: Served, offer: str | None = None, subprotocol: str = JSON) -> Client:
    client = await served.connect(subprotocol, offer=offer)
    assert (await client.message())["type"] == "welcome"
    return client


async def code_for(client: Client, data: bytes) -> int | None:
    """What the server closes with when it is sent this."""
    await client.send_raw(data)
    code, reason, seen = await client.closing()
    assert not seen
    if code in {1002, 1007, 1009}:
        assert reason == {
            "code": {1002: "websocket_error", 1007: "invalid_text", 1009: "message_too_big"}[code]
        }
    return code


# --- fragments, and what comes between them ---


async def answers(client: Client, count: int) -> list[Any]:
    return [m.get("id", m["type"]) for m in await client.messages(count)]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("compressed", [False, True])
async def test_control_frames_may_come_between_fragments_and_are_answered_first(
    *, at_once: bool, compressed: bool
) -> None:
    async with serving() as served:
        client = await greeted(served, "" if compressed else None)
        data = deflated(PING_TEXT) if compressed else PING_TEXT.encode()
        said = b"".join(
            [
                frame((RSV1 if compressed else 0) | TEXT, data[:1]),
                frame(FIN | PING, b"1"),
                frame(CONTINUATION, data[1:20]),
                frame(CONTINUATION),
                frame(FIN | PONG, b"nobody asked"),
                frame(FIN | PING, b"2" * 125),
                frame(CONTINUATION, data[20:-1]),
                frame(FIN | CONTINUATION, data[-1:]),
                frame(FIN | PING),
                message(),
            ]
        )
        if at_once:
            await client.send_raw(said)
        else:
            for byte in said:
                await client.send_raw(bytes([byte]))
                await trio.lowlevel.checkpoint()
        pong = "websocket pong"
        assert sorted(await answers(client, 5)) == ["größer", "größer", pong, pong, pong]
        for payload in (b"1", b"2" * 125, b""):
            assert bytes([FIN | PONG, len(payload)]) + payload in client.received


async def test_fragments_of_every_size_make_one_message() -> None:
    async with serving(limits=GENEROUS) as served:
        client = await greeted(served)
        text = PING_TEXT.encode()
        for size in range(1, len(text) + 1):
            parts = [text[start : start + size] for start in range(0, len(text), size)]
            for number, part in enumerate(parts):
                bits = (CONTINUATION if number else TEXT) | (FIN if number == len(parts) - 1 else 0)
                await client.send_raw(frame(bits, part))
            assert await answers(client, 1) == ["größer"]


BROKEN = {
    "RSV1 without an extension": frame(FIN | RSV1 | TEXT, b"{}"),
    "RSV2": frame(FIN | RSV2 | TEXT, b"{}"),
    "RSV3": frame(FIN | RSV3 | TEXT, b"{}"),
    "RSV1 on a ping": frame(FIN | RSV1 | PING),
    "RSV3 on a close": frame(FIN | RSV3 | CLOSE),
    **{f"opcode {code}": frame(FIN | code) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a continuation of nothing": frame(FIN | CONTINUATION, b"{}"),
    "a continuation of nothing, not the last": frame(CONTINUATION, b"{}"),
    "a message within a message": frame(TEXT, b"{") + message(),
    "a binary message within a text": frame(TEXT, b"{") + frame(FIN | BINARY, b"}"),
    "a ping of 126 bytes": frame(FIN | PING, b"x" * 126),
    "a close of 126 bytes": frame(FIN | CLOSE, b"\x03\xe8" + b"x" * 124),
    "a ping in fragments": frame(PING, b"x") + frame(FIN | CONTINUATION, b"y"),
    "a close in fragments": frame(CLOSE, b"\x03\xe8"),
    "a length in two bytes too many": frame(FIN | TEXT, b"{}", length=b"\x7e\0\2"),
    "a length in eight bytes too many": frame(FIN | TEXT, b"{}", length=b"\x7f\0\0\0\0\0\0\0\2"),
    "a length with its highest bit set": frame(FIN | TEXT, b"{}", length=b"\x7f\x80\0\0\0\0\0\0\2"),
    "no mask": b"\x81\x02{}",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_frames_that_break_the_standard_are_refused(name: str) -> None:
    async with serving() as served:
        with structlog.testing.capture_logs() as logs:
            assert await code_for(await greeted(served), BROKEN[name]) == 1002
            assert await code_for(await greeted(served), frame(FIN | PONG) + BROKEN[name] + message()) == 1002
        assert not [log for log in logs if log["log_level"] in {"error", "warning"}]


# --- text ---

NO_TEXT = {
    "a lone continuation byte": b"\x80",
    "a byte that never comes": b"\xff",
    "too long for what it says": b"\xc0\x80",
    "too long, of three bytes": b"\xe0\x80\xaf",
    "half a surrogate pair": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "of five bytes": b"\xf8\x88\x80\x80\x80",
    "a letter that is cut": "ü".encode()[:1] + b'"',
}


@pytest.mark.parametrize("name", NO_TEXT)
async def test_text_that_is_no_utf8_is_refused_in_one_frame_in_fragments_and_compressed(name: str) -> None:
    text = b'{"type":"' + NO_TEXT[name]
    async with serving() as served:
        for data in (
            frame(FIN | TEXT, text),
            b"".join(
                [frame(TEXT, text[:1]), *(frame(CONTINUATION, text[n : n + 1]) for n in range(1, len(text)))]
            ),
        ):
            assert await code_for(await greeted(served), data) == 1007
        compressed = deflated(text)
        assert await code_for(await greeted(served, ""), frame(FIN | RSV1 | TEXT, compressed)) == 1007


async def test_a_letter_that_is_cut_at_the_end_of_a_message_is_refused() -> None:
    async with serving() as served:
        for data in (frame(FIN | TEXT, b"\xc3"), frame(TEXT, b"\xe2\x82") + frame(FIN | CONTINUATION)):
            assert await code_for(await greeted(served), data) == 1007


async def test_a_letter_may_be_cut_between_fragments_with_a_ping_in_it() -> None:
    async with serving() as served:
        client = await greeted(served)
        start, end = PING_TEXT.encode().split(b"\xb6")  # in the middle of ö
        await client.send_raw(
            frame(TEXT, start) + frame(FIN | PING) + frame(FIN | CONTINUATION, b"\xb6" + end)
        )
        assert sorted(await answers(client, 2)) == ["größer", "websocket pong"]


# --- closing ---


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
)
async def test_a_close_is_answered_with_its_code(code: int) -> None:
    async with serving() as served:
        client = await greeted(served)
        await client.send_raw(frame(FIN | CLOSE, struct.pack("!H", code) + b"because") + message())
        answer = await read_to_the_end(client.stream)
        assert answer[0] == FIN | CLOSE
        assert answer[2:4] == struct.pack("!H", code)
        assert len(answer) == 2 + answer[1], "nothing follows"


@pytest.mark.parametrize("reason", ["", "because", "ü" * 61])
async def test_a_close_may_have_a_reason_and_need_not_have_a_code(reason: str) -> None:
    async with serving() as served:
        for payload in (b"\x03\xe8" + reason.encode(), b""):
            client = await greeted(served)
            await client.send_raw(frame(FIN | CLOSE, payload))
            answer = await read_to_the_end(client.stream)
            assert answer[0] == FIN | CLOSE
            assert answer[2:4] == payload[:2]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
async def test_a_close_with_a_code_that_nobody_may_send_is_refused(code: int) -> None:
    async with serving() as served:
        assert await code_for(await greeted(served), frame(FIN | CLOSE, struct.pack("!H", code))) == 1002


async def test_a_close_with_half_a_code_or_a_reason_that_is_no_text_is_refused() -> None:
    async with serving() as served:
        assert await code_for(await greeted(served), frame(FIN | CLOSE, b"\x03")) == 1002
        assert await code_for(await greeted(served), frame(FIN | CLOSE, b"\x03\xe8\xff")) == 1007


async def test_a_client_may_close_in_the_middle_of_a_message() -> None:
    async with serving() as served:
        for offer, bits in ((None, TEXT), ("", RSV1 | TEXT)):
            client = await greeted(served, offer)
            await client.send_raw(frame(bits, b"\x00") + frame(FIN | CLOSE, b"\x03\xe8"))
            assert (await client.closing())[0] == 1000


# --- compression ---

AGREED = "server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("", AGREED),
        ("client_max_window_bits", AGREED),
        ("server_max_window_bits=12; client_max_window_bits=12", f"{AGREED}; server_max_window_bits=12"),
        ("server_max_window_bits=10", f"{AGREED}; server_max_window_bits=9"),
        (
            "server_max_window_bits=8, permessage-deflate; server_max_window_bits=9, permessage-deflate",
            f"{AGREED}; server_max_window_bits=9",
        ),
        ("x=1, x-webkit-deflate-frame, permessage-deflate", AGREED),
    ],
)
async def test_compression_is_agreed_on_with_those_who_offer_it(offer: str, answer: str) -> None:
    async with serving() as served:
        client = await greeted(served, offer)
        assert client.compression
        assert client.compression.answer == f"permessage-deflate; {answer}"


@pytest.mark.parametrize("offer", ["server_max_window_bits=8", "x=1", "server_max_window_bits"])
async def test_an_offer_that_cannot_be_met_makes_a_plain_session(offer: str) -> None:
    async with serving() as served:
        client = await greeted(served, offer)
        assert client.compression
        assert client.compression.answer is None
        assert (await client.ask("ping", {}))["type"] == "pong"
        assert await code_for(client, frame(FIN | RSV1 | TEXT, deflated(PING_TEXT))) == 1002


async def test_where_compression_is_switched_off_nobody_gets_it() -> None:
    async with serving(compression=False) as served:
        client = await greeted(served, "")
        assert client.compression
        assert client.compression.answer is None
        assert await code_for(client, frame(FIN | RSV1 | TEXT, deflated(PING_TEXT))) == 1002


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
@pytest.mark.parametrize("offer", ["", "server_max_window_bits=9"])
async def test_large_answers_are_compressed_and_small_ones_are_not(subprotocol: str, offer: str) -> None:
    async with serving() as served:
        opcode = TEXT if subprotocol == JSON else BINARY
        client = await greeted(served, offer, subprotocol)
        client.received.clear()
        assert (await client.ask("subscribe", {"channels": [STATUS]}))["type"] == "subscribed"
        assert (await client.message())["type"] == "status"
        assert client.received[0] == FIN | opcode
        client.received.clear()
        await publish_long_status(served)
        assert (await client.message())["data"]["reason"] == LONG
        assert client.received[0] == FIN | RSV1 | opcode
        assert len(client.received) < len(LONG) / 2


LONG = "alltick: no price for 15 s; " * 40


async def publish_long_status(served: Served) -> None:
    served.hub.tell(decided(status=status_of(reason=LONG)))
    await trio.lowlevel.checkpoint()


async def test_a_large_update_is_compressed_once_for_all_with_the_same_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compressions: list[int] = []
    real = Compression.frame_outbound

    def frame_outbound(self: Compression, *args: Any) -> Any:
        if len(args[3]) >= COMPRESS_FROM_BYTES:
            compressions.append(self._window_bits)
        return real(self, *args)

    async with serving(limits=GENEROUS) as served:
        windows = [await served.connect(offer="") for _ in range(5)]
        windows += [await served.connect(offer="server_max_window_bits=14") for _ in range(5)]
        small = [await served.connect(offer="server_max_window_bits=9") for _ in range(5)]
        plain = [await served.connect() for _ in range(5)]
        everybody = [*windows, *small, *plain]
        for client in everybody:
            await client.messages(2)
            client.received.clear()
        monkeypatch.setattr(Compression, "frame_outbound", frame_outbound)
        await publish_long_status(served)
        for client in everybody:
            assert (await client.message())["data"]["reason"] == LONG
        assert sorted(compressions) == [9, 12]
        for alike in (windows, small, plain):
            assert len({bytes(client.received) for client in alike}) == 1
        assert plain[0].received[0] == FIN | TEXT
        assert len(windows[0].received) < len(plain[0].received) / 2


COMPRESSED = {
    "the standard's way of saying nothing": (b"\x00", None),
    "nothing at all": (b"", 1002),
    "no deflate data": (b"\xff\xff", 1002),
    "cut short": (deflated(PING_TEXT)[:-5], 1002),
    "more after its end": (zlib.compress(b"{}", wbits=-15) + b"more", 1002),
    "too large by one byte": (deflated(b"x" * 16_385), 1009),
    "a bomb": (deflated(bytes(10_000_000)), 1009),
}


@pytest.mark.parametrize("name", COMPRESSED)
async def test_a_compressed_message_is_judged_by_what_it_inflates_to(name: str) -> None:
    data, code = COMPRESSED[name]
    async with serving() as served:
        for said in (
            frame(FIN | RSV1 | TEXT, data),
            frame(RSV1 | TEXT) + frame(CONTINUATION, data[:100]) + frame(FIN | CONTINUATION, data[100:]),
        ):
            client = await greeted(served, "")
            if code is None:
                await client.send_raw(said)
                assert (await client.message())["data"]["code"] == "invalid_message"
                await client.send_raw(message())
                assert await answers(client, 1) == ["größer"]
            else:
                assert await code_for(client, said) == code


async def test_a_compressed_message_may_be_as_large_as_any() -> None:
    async with serving() as served:
        client = await greeted(served, "")
        text = PING_TEXT + " " * (16_384 - len(PING_TEXT.encode()))
        await client.send_raw(frame(FIN | RSV1 | TEXT, deflated(text)))
        await client.send_raw(frame(FIN | RSV1 | TEXT, deflated(PING_TEXT, bits=9)) + message())
        assert await answers(client, 3) == ["größer"] * 3


@pytest.mark.parametrize(
    "said",
    [
        frame(FIN | RSV1 | PING),
        frame(TEXT, b"{") + frame(FIN | RSV1 | CONTINUATION, b"}"),
        frame(RSV1 | TEXT, b"\x00") + frame(FIN | RSV1 | CONTINUATION, b"\x00"),
        frame(FIN | RSV1 | RSV2 | TEXT, b"\x00"),
        frame(RSV1 | TEXT, b"\x00") + frame(FIN | RSV1 | TEXT, b"\x00"),
    ],
)
async def test_the_mark_of_compression_belongs_on_a_messages_first_frame(said: bytes) -> None:
    async with serving() as served:
        assert await code_for(await greeted(served, ""), said) == 1002
