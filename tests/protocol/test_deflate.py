"""Compression: what is negotiated, what is worth compressing, and that nothing inflates beyond its bound."""

from __future__ import annotations

import tracemalloc
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed, RsvBits

from aurexd.protocol.deflate import (
    COMPRESS_FROM_BYTES,
    TAIL,
    WINDOWS,
    Compression,
    Inflation,
    SessionDeflate,
    TooBigError,
)
from tests.frames import inflating

NO_TAKEOVER = "server_no_context_takeover; client_no_context_takeover"
LARGE = 1_000_000

payloads = st.one_of(
    st.binary(max_size=2000),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=50), st.integers(0, 2000)),
)
cuts = st.lists(st.integers(0, 100_000), max_size=5)


def deflated(
    payload: bytes, bits: int = 15, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY
) -> bytes:
    """A message as some client might compress it."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits, 8, strategy)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


def inflated(data: list[bytes], max_bytes: int = LARGE) -> bytes:
    inflation = Inflation(max_bytes)
    return b"".join([*map(inflation.feed, data), inflation.finish()])


# --- negotiation ---

OFFERS = {
    "": "",
    "client_max_window_bits": "",
    "client_max_window_bits=10": "",
    "server_no_context_takeover; client_no_context_takeover": "",
    "server_max_window_bits=15": "; server_max_window_bits=12",
    "server_max_window_bits=12": "; server_max_window_bits=12",
    "client_max_window_bits; server_max_window_bits=11": "; server_max_window_bits=9",
    'server_max_window_bits = "9"': "; server_max_window_bits=9",
}


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_is_accepted_without_context_takeover_and_with_no_more_than_its_window(offer: str) -> None:
    deflate = SessionDeflate(lambda: LARGE)
    assert deflate.accept(f"permessage-deflate; {offer}" if offer else "permessage-deflate") == (
        NO_TAKEOVER + OFFERS[offer]
    )
    assert deflate.enabled()
    assert deflate.window_bits in WINDOWS


@pytest.mark.parametrize(
    "offer",
    [
        "server_max_window_bits=8",  # zlib cannot
        "server_max_window_bits",
        "server_max_window_bits=16",
        "server_max_window_bits=7",
        "server_max_window_bits=012",
        "server_max_window_bits=",
        'server_max_window_bits="12',
        "client_max_window_bits=x",
        "client_max_window_bits; client_max_window_bits=9",
        "server_no_context_takeover; server_no_context_takeover",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "dictionary=gold",
        ";",
        "=",
        "server_max_window_bits=१२",
    ],
)
def test_an_offer_that_is_wrong_or_cannot_be_met_is_declined(offer: str) -> None:
    deflate = SessionDeflate(lambda: LARGE)
    assert deflate.accept(f"permessage-deflate; {offer}") is None
    assert not deflate.enabled()


def test_of_several_offers_the_first_that_can_be_met_is_accepted() -> None:
    deflate = SessionDeflate(lambda: LARGE)
    answers = [deflate.accept(f"permessage-deflate; server_max_window_bits={bits}") for bits in (8, 9, 12)]
    assert answers == [None, f"{NO_TAKEOVER}; server_max_window_bits=9", None]
    assert deflate.window_bits == 9


@given(st.text())
def test_no_offer_makes_it_fail(offer: str) -> None:
    SessionDeflate(lambda: LARGE).accept(f"permessage-deflate; {offer}")


# --- what is sent ---


def frames_of(compression: Compression, *messages: str | bytes) -> bytes:
    server = FrameProtocol(client=False, extensions=[compression])
    return b"".join(bytes(server.send_data(message)) for message in messages)


def as_client(data: bytes, bits: int) -> list[Frame]:
    """What a client makes of it that has no more than this window, and keeps nothing between two messages."""
    client = FrameProtocol(client=True, extensions=[inflating(bits)])
    client.receive_bytes(data)
    return list(client.received_frames())


@pytest.mark.parametrize("bits", WINDOWS)
@given(messages=st.lists(st.one_of(payloads, st.text(max_size=2000)), max_size=4))
def test_a_client_with_that_window_reads_what_was_sent(bits: int, messages: list[str | bytes]) -> None:
    frames = as_client(frames_of(Compression(bits), *messages), bits)
    assert [frame.payload for frame in frames] == messages
    assert all(frame.message_finished for frame in frames)


def test_the_same_message_is_the_same_bytes_whatever_was_sent_before() -> None:
    compression = Compression(12)
    first = frames_of(compression, "gold " * 500)
    frames_of(compression, "silver " * 500)
    assert frames_of(compression, "gold " * 500) == first


def test_only_large_messages_are_compressed() -> None:
    compression, plain = Compression(12), RsvBits(False, False, False)
    for size, is_compressed in ((0, False), (COMPRESS_FROM_BYTES - 1, False), (COMPRESS_FROM_BYTES, True)):
        data = b"a" * size
        rsv, sent = compression.frame_outbound(
            FrameProtocol(client=False, extensions=[]), Opcode.TEXT, plain, data, True
        )
        assert rsv.rsv1 is is_compressed
        assert (sent == data) is not is_compressed


def test_what_compression_would_make_larger_is_sent_as_it_is() -> None:
    noise = b"".join(zlib.crc32(bytes([n % 256, n // 256])).to_bytes(4) for n in range(1000))
    assert frames_of(Compression(12), noise).endswith(noise)


# --- what comes in ---


@given(
    payload=payloads,
    places=cuts,
    bits=st.integers(9, 15),
    level=st.integers(0, 9),
    strategy=st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE]),
)
def test_what_any_client_compressed_is_read_in_whatever_pieces_it_comes(
    payload: bytes, places: list[int], bits: int, level: int, strategy: int
) -> None:
    assert inflated(pieces(deflated(payload, bits, level, strategy), places)) == payload


@given(payload=payloads, places=cuts, max_bytes=st.integers(0, 5000))
def test_never_more_than_one_byte_beyond_the_bound_is_inflated(
    payload: bytes, places: list[int], max_bytes: int
) -> None:
    inflation, made = Inflation(max_bytes), b""
    try:
        for piece in pieces(deflated(payload), places):
            made += inflation.feed(piece)
        made += inflation.finish()
    except TooBigError:
        assert len(payload) > max_bytes
        assert len(made) <= max_bytes
    else:
        assert made == payload
        assert len(payload) <= max_bytes


def test_a_bomb_takes_no_memory() -> None:
    bomb = deflated(bytes(100_000_000))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(TooBigError):
            Inflation(16_384).feed(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # zlib's own window and state, what was inflated, and a copy of the bomb, which is what was read.
    assert peak < 2 * 16_384 + 50_000 + len(bomb)


def test_what_is_in_one_read_is_inflated_one_message_at_a_time() -> None:
    deflate = SessionDeflate(lambda: 16_384)
    deflate.accept("permessage-deflate")
    server = FrameProtocol(client=False, extensions=[deflate])
    data = masked(0xC2, deflated(bytes(16_384))) * 100
    assert len(data) < 4096
    tracemalloc.start()
    try:
        server.receive_bytes(data)
        assert [len(frame.payload) for frame in server.received_frames()] == [16_384] * 100
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


RFC_7692 = {
    "one block": ("f248cdc9c90700", b"Hello"),
    "a block without compression": ("000500faff48656c6c6f00", b"Hello"),
    "a block marked as the last": ("f348cdc9c9070000", b"Hello"),
    "two blocks": ("f248050000 00ffffcac9c90700", b"Hello"),
    "nothing": ("00", b""),
    "nothing, in another way": ("0200", b""),
}


@pytest.mark.parametrize("name", RFC_7692)
def test_the_standards_own_examples_are_read(name: str) -> None:
    data, message = RFC_7692[name]
    assert inflated([bytes.fromhex(data)]) == message
    assert inflated([bytes([byte]) for byte in bytes.fromhex(data)]) == message


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xff\xff", b"Hello", b"\x05", b"\x00\x00\x00"])
def test_what_is_no_deflate_data_is_refused(data: bytes) -> None:
    with pytest.raises(zlib.error):
        inflated([data])


def test_what_follows_the_end_of_the_data_is_refused_and_not_kept() -> None:
    ended = zlib.compress(b"Hello", wbits=-15)
    for more in (b"\x00\x00", b"x", ended, bytes(1000)):
        with pytest.raises(zlib.error):
            inflated([ended + more])
        with pytest.raises(zlib.error):
            inflated([ended, *(bytes([byte]) for byte in more)])


def test_a_message_that_is_cut_short_is_refused() -> None:
    whole = deflated(b'{"type":"subscribe","id":1,"data":{"channels":["price:XAUUSD","status:XAUUSD"]}}' * 20)
    for end in range(len(whole)):
        with pytest.raises(zlib.error):
            inflated([whole[:end]])


@given(st.binary(max_size=200), cuts)
def test_any_bytes_are_read_or_refused_and_within_the_bound(data: bytes, places: list[int]) -> None:
    with suppress(zlib.error, TooBigError):
        assert len(inflated(pieces(data, places), max_bytes=1000)) <= 1000


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame; its mask changes nothing."""
    assert len(payload) < 126
    return bytes([opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def as_server(data: bytes, *, at_once: bool) -> list[Frame]:
    deflate = SessionDeflate(lambda: 1000)
    deflate.accept("permessage-deflate")
    server = FrameProtocol(client=False, extensions=[deflate])
    frames: list[Frame] = []
    for piece in [data] if at_once else [bytes([byte]) for byte in data]:
        server.receive_bytes(piece)
        frames += server.received_frames()
    return frames


@pytest.mark.parametrize("at_once", [True, False])
def test_compressed_plain_and_control_frames_may_follow_one_another(*, at_once: bool) -> None:
    hello = deflated(b"Hello" * 20)
    data = b"".join(
        [
            masked(0x41, hello[:3]),
            masked(0x89, b"ping"),
            masked(0x00, hello[3:5]),
            masked(0x00, b""),
            masked(0x8A, b"pong"),
            masked(0x80, hello[5:]),
            masked(0x81, b"plain"),
            masked(0x02, b"pla"),
            masked(0x89, b"ping"),
            masked(0x80, b"in"),
            masked(0xC2, hello),
            masked(0xC1, b"\x00"),
        ]
    )
    messages: list[str | bytes] = []
    controls, payload = [], b""
    for frame in as_server(data, at_once=at_once):
        assert not isinstance(frame.payload, tuple)
        if frame.opcode.iscontrol():
            controls.append(frame.payload)
            continue
        payload += frame.payload.encode() if isinstance(frame.payload, str) else frame.payload
        if frame.message_finished:
            messages.append(payload.decode() if frame.opcode is Opcode.TEXT else payload)
            payload = b""
    assert messages == ["Hello" * 20, "plain", b"plain", b"Hello" * 20, ""]
    assert controls == [b"ping", b"pong", b"ping"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(0xC9, b""), 1002),  # a control frame
        (masked(0x01, b"a") + masked(0xC0, b"b"), 1002),  # a continuation
        (masked(0x41, b"\x00") + masked(0xC0, b"\x00"), 1002),
        (masked(0xA1, b""), 1002),  # the other two bits mean nothing
        (masked(0x91, b""), 1002),
        (masked(0xC1, b"\xff\xff"), 1002),
        (masked(0xC1, deflated(bytes(1001))), 1009),
        (masked(0xC1, deflated(b"\xff")), 1007),
    ],
)
def test_what_breaks_the_rules_is_named(data: bytes, code: int) -> None:
    for at_once in (True, False):
        with pytest.raises(ParseFailed) as caught:
            as_server(data, at_once=at_once)
        assert caught.value.code == code


def test_between_two_messages_a_session_keeps_nothing_of_zlibs() -> None:
    deflate = SessionDeflate(lambda: 100_000)
    deflate.accept("permessage-deflate")
    server = FrameProtocol(client=False, extensions=[deflate])
    data = masked(0xC2, deflated(b"gold" * 10_000))
    tracemalloc.start()
    try:
        for _ in range(3):
            server.receive_bytes(data)
            kept = tracemalloc.get_traced_memory()[0]
            assert sum(len(frame.payload) for frame in server.received_frames()) == 40_000
        assert tracemalloc.get_traced_memory()[0] - kept < 1000
    finally:
        tracemalloc.stop()
