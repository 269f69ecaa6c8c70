"""Bytes, messages and frames: a client can read what is written; what a client writes is read or refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode

from aurexd.errors import ProtocolError
from aurexd.market import EpochUs, Instrument, Price, Quality
from aurexd.protocol import compose, messages
from aurexd.protocol.codec import (
    CLIENT_TYPES,
    JSON,
    MAX_ERROR_CHARACTERS,
    MSGPACK,
    Encoding,
    close_frame,
    negotiate,
    ping_frame,
)
from aurexd.protocol.codes import CloseCode, ErrorCode, close_reason

NOW = EpochUs(1_761_566_400_123_000)
GOLDEN = Path(__file__).parent / "golden"
REQUESTS = [(GOLDEN / f"{tag}.json").read_text() for tag in CLIENT_TYPES]


def price(close: Decimal, bid: Decimal | None = None) -> Price:
    return Price(
        symbol="XAUUSD",
        close=close,
        bid=bid,
        ask=None,
        change=None,
        change_pct=None,
        source="alltick",
        instrument=Instrument.SPOT,
        quality=Quality.LIVE,
        source_time=NOW,
        receive_time=NOW,
    )


def as_client(data: bytes) -> list[Frame]:
    """What a client's WebSocket library makes of the bytes."""
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(data)
    return list(client.received_frames())


def refusal(encoding: Encoding, payload: str | bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        encoding.decode(payload)
    return caught.value


# --- writing ---


def test_a_price_keeps_the_digits_it_was_rounded_to() -> None:
    text = JSON.encode(compose.price_update(price(Decimal("2043.50")), NOW, 1))
    assert b'"close":2043.50,' in text
    assert b'"bid":null,"ask":null,' in text


@given(st.decimals(min_value=0, max_value=10**7, places=3))
def test_a_price_in_json_is_the_number_itself(close: Decimal) -> None:
    text = JSON.encode(compose.price_update(price(close, bid=close), NOW, 1))
    data = json.loads(text, parse_float=Decimal)["data"]
    assert str(data["close"]) == str(data["bid"]) == str(close)


def test_a_price_in_messagepack_is_a_float64() -> None:
    packed = MSGPACK.encode(compose.price_update(price(Decimal("2043.50")), NOW, 1))
    assert msgspec.msgpack.decode(packed)["data"]["close"] == 2043.5
    assert b"\xa5close\xcb" in packed


@pytest.mark.parametrize(("encoding", "opcode"), [(JSON, Opcode.TEXT), (MSGPACK, Opcode.BINARY)])
@pytest.mark.parametrize("length", [0, 1, 30, 200, 65_000, 70_000])
def test_a_frame_is_one_whole_message_to_a_client(encoding: Encoding, opcode: Opcode, length: int) -> None:
    message = compose.error(ErrorCode.FORBIDDEN, "€" * length, NOW)
    frame = encoding.frame(message)
    assert isinstance(frame, bytes)
    [received] = as_client(frame)
    assert received.opcode is opcode
    assert received.frame_finished
    assert received.message_finished
    payload = received.payload
    assert (payload.encode() if isinstance(payload, str) else payload) == encoding.encode(message)


def test_frames_can_be_put_one_after_the_other() -> None:
    updates = [compose.price_update(price(Decimal(n)), NOW, n) for n in range(1, 4)]
    frames = as_client(
        b"".join([JSON.frame(u) for u in updates] + [ping_frame(), JSON.frame(compose.heartbeat(NOW))])
    )
    assert [json.loads(f.payload)["type"] if isinstance(f.payload, str) else f.opcode for f in frames] == [
        *["price_update"] * 3,
        Opcode.PING,
        "heartbeat",
    ]


def test_a_ping_carries_its_payload() -> None:
    [frame] = as_client(ping_frame(b"42"))
    assert (frame.opcode, frame.payload) == (Opcode.PING, b"42")


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_carries_its_code_and_reason(code: CloseCode) -> None:
    [frame] = as_client(close_frame(code, close_reason(code, 2**31)))
    assert frame.opcode is Opcode.CLOSE
    assert frame.payload == (code, close_reason(code, 2**31))


# --- reading ---


@pytest.mark.parametrize("text", REQUESTS)
def test_both_encodings_read_the_same_request(text: str) -> None:
    assert JSON.decode(text) == MSGPACK.decode(msgspec.msgpack.encode(json.loads(text)))


def test_data_may_be_left_out_where_there_is_nothing_to_say() -> None:
    assert JSON.decode('{"type":"ping"}') == messages.Ping()


def test_a_number_from_a_client_keeps_its_digits() -> None:
    request = JSON.decode((GOLDEN / "alert.create.json").read_text())
    assert isinstance(request, messages.AlertCreate)
    assert str(request.data.hysteresis) == "1.50"


def test_the_wrong_kind_of_frame_is_refused() -> None:
    for encoding, payload in ((JSON, b'{"type":"ping"}'), (MSGPACK, '{"type":"ping"}')):
        error = refusal(encoding, payload)
        assert error.code == ErrorCode.UNSUPPORTED_DATA
        assert encoding.subprotocol in error.message


@pytest.mark.parametrize(
    ("text", "code", "request_id", "says"),
    [
        ("", "invalid_message", None, "cannot be read as json"),
        ("{", "invalid_message", None, "cannot be read as json"),
        ("[1]", "invalid_message", None, "a message is an object"),
        ('{"id":7}', "invalid_message", 7, "missing required field `type`"),
        ('{"type":7,"id":7}', "invalid_message", 7, "`$.type`"),
        ('{"type":"pink","id":"a"}', "unknown_type", "a", "'pink'; there are auth, subscribe,"),
        ('{"type":"price_update"}', "unknown_type", None, "unknown type 'price_update'"),
        (
            '{"type":"ping","id":7,"extra":1}',
            "invalid_message",
            7,
            "ping: Object contains unknown field `extra`",
        ),
        ('{"type":"ping","id":7,"data":{"a":1}}', "invalid_message", 7, "unknown field `a` - at `$.data`"),
        ('{"type":"subscribe","id":7}', "invalid_message", 7, "missing required field `data`"),
        ('{"type":"subscribe","id":7,"data":{"channels":[]}}', "invalid_message", 7, "length >= 1"),
        (
            '{"type":"subscribe","id":7,"data":{"channels":["a",3]}}',
            "invalid_message",
            7,
            "`$.data.channels[1]`",
        ),
        ('{"type":"ping","id":true}', "invalid_message", None, "`$.id`"),
        ('{"type":"ping","id":9007199254740992}', "invalid_message", None, "`$.id`"),
        (f'{{"type":"ping","id":"{"x" * 65}"}}', "invalid_message", None, "length <= 64"),
        ('{"x":' + "[" * 8000 + "]" * 8000 + "}", "invalid_message", None, "nested too deeply"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_to_whom(
    text: str, code: str, request_id: str | int | None, says: str
) -> None:
    error = refusal(JSON, text)
    assert (error.code, error.request_id) == (code, request_id)
    assert says in error.message


@pytest.mark.parametrize(
    ("text", "request_id"),
    [
        ('{"type":"pink","id":7,"x":[1]}', 7),
        ('{"id":"a"}', "a"),
        ("{}", None),
        ('{"id":{}}', None),
        ("{", None),
    ],
)
def test_the_id_of_a_message_can_be_read_alone(text: str, request_id: str | int | None) -> None:
    assert JSON.request_id(text) == request_id
    if text != "{":
        assert MSGPACK.request_id(msgspec.msgpack.encode(json.loads(text))) == request_id


def test_too_many_channels_in_one_message_are_refused() -> None:
    channels = json.dumps([f"price:S{n}" for n in range(257)])
    error = refusal(JSON, f'{{"type":"subscribe","data":{{"channels":{channels}}}}}')
    assert "length <= 256" in error.message


def test_a_refusal_does_not_repeat_everything_a_client_sent() -> None:
    for text in (f'{{"type":"ping","{"x" * 9000}":1}}', f'{{"type":"{"x" * 9000}"}}'):
        assert len(refusal(JSON, text).message) <= MAX_ERROR_CHARACTERS


def read_or_refuse(encoding: Encoding, payload: str | bytes) -> None:
    """Whatever comes: a message, or a refusal that can be sent to the client."""
    try:
        encoding.decode(payload)
    except ProtocolError as error:
        for answer in (JSON, MSGPACK):
            answer.frame(compose.error(error.code, error.message, NOW, request_id=error.request_id))


@given(st.one_of(st.text(st.characters(), max_size=200), st.binary(max_size=200)))
@example("\ud800")
@example('{"type":"\\ud800"}')
@example(b"\x81\xa4type\xa1\xff")
@example(b"\x81\xa1x" + b"\x91" * 9000)
def test_nothing_a_client_sends_is_more_than_an_error(payload: str | bytes) -> None:
    read_or_refuse(JSON, payload)
    read_or_refuse(MSGPACK, payload)


@given(st.sampled_from(REQUESTS), st.integers(0), st.integers(0), st.text(max_size=6))
def test_a_damaged_request_is_read_or_refused(text: str, start: int, length: int, patch: str) -> None:
    start, length = start % len(text), length % 8
    read_or_refuse(JSON, text[:start] + patch + text[start + length :])
    packed = msgspec.msgpack.encode(json.loads(text))
    start %= len(packed)
    read_or_refuse(MSGPACK, packed[:start] + patch.encode() + packed[start + length :])


# --- negotiating ---


@pytest.mark.parametrize(
    ("offered", "encoding", "selected"),
    [
        ([], JSON, None),
        (["aurex.v1.json"], JSON, "aurex.v1.json"),
        (["aurex.v1.msgpack"], MSGPACK, "aurex.v1.msgpack"),
        (["aurex.v1.msgpack", "aurex.v1.json"], MSGPACK, "aurex.v1.msgpack"),
        (["aurex.v2.json", "aurex.v1.json", "aurex.v1.msgpack"], JSON, "aurex.v1.json"),
        (["aurex.token.c2VjcmV0", "aurex.v1.msgpack"], MSGPACK, "aurex.v1.msgpack"),
        (["aurex.token.c2VjcmV0"], JSON, None),
        (["graphql-ws"], JSON, None),
    ],
)
def test_the_first_known_subprotocol_is_selected(
    offered: list[str], encoding: Encoding, selected: str | None
) -> None:
    assert negotiate(offered) == (encoding, selected)
