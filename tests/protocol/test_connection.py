"""The session's state machine: what each message calls for, and that no order of events breaks it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.market import EpochUs
from aurexd.protocol import messages
from aurexd.protocol.codec import CLIENT_TYPES, JSON, MSGPACK
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.connection import (
    TRANSITIONS,
    Acknowledge,
    AnyEffect,
    Close,
    Event,
    Reply,
    SessionProtocol,
    Snapshot,
    State,
    Subscribe,
    Unsubscribe,
)
from aurexd.protocol.data import MAX_CHANNELS, Position
from aurexd.protocol.schema import CLIENT_MESSAGES, tag_of

NOW = EpochUs(1_761_566_400_123_000)
GOLDEN = Path(__file__).parent / "golden"
SYMBOLS = frozenset({"XAUUSD", "GC"})


def session(channels: frozenset[str] = frozenset()) -> SessionProtocol:
    return SessionProtocol(JSON, SYMBOLS, channels)


def say(protocol: SessionProtocol, **message: Any) -> list[AnyEffect]:
    return protocol.receive(json.dumps(message), NOW)


def error_of(effects: list[AnyEffect]) -> messages.Error:
    assert isinstance(effects[0], Reply)
    assert isinstance(effects[0].message, messages.Error)
    return effects[0].message


# --- what messages call for ---


def test_subscribe_asks_for_the_channels_and_where_the_client_was() -> None:
    position = {"epoch": "e1", "count": 7}
    effects = say(
        session(),
        type="subscribe",
        id=1,
        data={"channels": ["price:XAUUSD", "status:XAUUSD"], "resume": {"price:XAUUSD": position}},
    )
    resume = {"price:XAUUSD": Position(epoch="e1", count=7)}
    assert effects == [Subscribe(id=1, channels=("price:XAUUSD", "status:XAUUSD"), resume=resume)]


def test_a_channel_that_is_named_twice_counts_once() -> None:
    channels = ["price:GC", "price:XAUUSD", "price:GC"]
    for kind in ("subscribe", "unsubscribe", "snapshot"):
        [effect] = say(session(), type=kind, data={"channels": channels})
        assert isinstance(effect, Subscribe | Unsubscribe | Snapshot)
        assert effect.channels == ("price:GC", "price:XAUUSD")


def test_unsubscribe_and_snapshot_need_no_subscription() -> None:
    assert say(session(), type="unsubscribe", id="a", data={"channels": ["price:GC"]}) == [
        Unsubscribe(id="a", channels=("price:GC",))
    ]
    assert say(session(), type="snapshot", data={"channels": ["status:GC"]}) == [
        Snapshot(id=None, channels=("status:GC",))
    ]


def test_ping_is_answered_with_its_id_and_the_time() -> None:
    [effect] = say(session(), type="ping", id=3)
    assert isinstance(effect, Reply)
    assert (
        JSON.encode(effect.message)
        == b'{"type":"pong","id":3,"data":{},"timestamp":"2025-10-27T12:00:00.123Z"}'
    )


def test_without_an_id_the_answer_has_none() -> None:
    [effect] = say(session(), type="ping")
    assert isinstance(effect, Reply)
    assert b'"id"' not in JSON.encode(effect.message)


@pytest.mark.parametrize(
    ("channel", "code", "says"),
    [
        ("prices:XAUUSD", ErrorCode.UNKNOWN_CHANNEL, "price:SYMBOL, status:SYMBOL"),
        ("price", ErrorCode.UNKNOWN_CHANNEL, "GC, XAUUSD"),
        ("price:", ErrorCode.UNKNOWN_CHANNEL, "GC, XAUUSD"),
        ("price:xauusd", ErrorCode.UNKNOWN_CHANNEL, "GC, XAUUSD"),
        ("status:XAUUSD:1m", ErrorCode.UNKNOWN_CHANNEL, "GC, XAUUSD"),
        ("candle:XAUUSD:1m", ErrorCode.NOT_AVAILABLE, "candle"),
        ("alert", ErrorCode.FORBIDDEN, "token"),
        ("alert:XAUUSD", ErrorCode.UNKNOWN_CHANNEL, "'alert'"),
        ("news", ErrorCode.NOT_AVAILABLE, "news"),
        ("sentiment:XAUUSD", ErrorCode.NOT_AVAILABLE, "sentiment"),
        ("signal:XAUUSD", ErrorCode.NOT_AVAILABLE, "signal"),
    ],
)
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "snapshot"])
def test_a_channel_that_is_not_served_is_refused_with_those_that_are(
    kind: str, channel: str, code: ErrorCode, says: str
) -> None:
    error = error_of(say(session(), type=kind, id=5, data={"channels": ["price:XAUUSD", channel]}))
    assert (error.id, error.data.code) == (5, code)
    assert code == ErrorCode.FORBIDDEN or repr(channel) in error.data.message
    assert says in error.data.message


def test_one_bad_channel_refuses_the_whole_message() -> None:
    names = [f"price:S{n}" for n in range(MAX_CHANNELS + 1)]
    symbols = frozenset(f"S{n}" for n in range(MAX_CHANNELS + 1))
    protocol = SessionProtocol(JSON, symbols, frozenset(names[: MAX_CHANNELS - 1]))
    error_of(say(protocol, type="subscribe", data={"channels": [names[-2], "price:NOPE"]}))
    [effect] = say(protocol, type="subscribe", data={"channels": [names[-1]]})
    assert isinstance(effect, Subscribe), "the refused one must not count towards the limit"


def test_the_symbols_in_an_error_are_not_endless() -> None:
    protocol = SessionProtocol(JSON, frozenset(f"S{n:04}" for n in range(500)))
    error = error_of(say(protocol, type="subscribe", data={"channels": ["price:NOPE"]}))
    assert error.data.message.endswith("S0018, S0019 and 480 more")


def test_a_session_has_so_many_channels_and_no_more() -> None:
    symbols = [f"S{n}" for n in range(MAX_CHANNELS + 1)]
    names = [f"price:{symbol}" for symbol in symbols]
    protocol = SessionProtocol(JSON, frozenset(symbols), frozenset(names[:1]))
    assert isinstance(say(protocol, type="subscribe", data={"channels": names[:MAX_CHANNELS]})[0], Subscribe)
    error = error_of(say(protocol, type="subscribe", id=1, data={"channels": names[MAX_CHANNELS:]}))
    assert error.data.code == ErrorCode.TOO_MANY_CHANNELS
    say(protocol, type="unsubscribe", data={"channels": names[:1]})
    assert isinstance(say(protocol, type="subscribe", data={"channels": names[MAX_CHANNELS:]})[0], Subscribe)


def test_resume_is_for_channels_that_are_asked_for() -> None:
    resume = {"price:GC": {"epoch": "e1", "count": 1}}
    error = error_of(
        say(session(), type="subscribe", id=1, data={"channels": ["price:XAUUSD"], "resume": resume})
    )
    assert error.data.code == ErrorCode.INVALID_MESSAGE
    assert "price:GC" in error.data.message


@pytest.mark.parametrize("kind", CLIENT_MESSAGES, ids=tag_of)
def test_what_this_release_does_not_have_is_refused_and_nothing_else(kind: type[msgspec.Struct]) -> None:
    request = json.loads((GOLDEN / f"{tag_of(kind)}.json").read_text())
    effects = say(SessionProtocol(JSON, SYMBOLS, owner="local"), **request)
    refused = isinstance(effects[0], Reply) and isinstance(effects[0].message, messages.Error)
    assert refused == (kind in messages.LATER)
    if refused:
        error = error_of(effects)
        assert (error.id, error.data.code) == (request["id"], ErrorCode.NOT_AVAILABLE)


def test_alerts_are_for_an_owner_only() -> None:
    ack = {"type": "alert.ack", "id": 1, "data": {"alert_ids": ["a", "b", "a"]}}
    assert error_of(say(session(), **ack)).data.code == ErrorCode.FORBIDDEN
    owned = SessionProtocol(JSON, SYMBOLS, owner="local")
    assert say(owned, **ack) == [Acknowledge(id=1, alert_ids=("a", "b"))]
    assert isinstance(say(owned, type="subscribe", data={"channels": ["alert"]})[0], Subscribe)


def test_a_bad_message_is_answered_and_the_session_goes_on() -> None:
    protocol = session()
    error = error_of(say(protocol, type="pink", id=1))
    assert (error.id, error.data.code) == (1, ErrorCode.UNKNOWN_TYPE)
    assert protocol.state is State.OPEN


@pytest.mark.parametrize(("encoding", "payload"), [(JSON, b"{}"), (MSGPACK, "{}")])
def test_the_wrong_kind_of_frame_ends_the_session(encoding: Any, payload: str | bytes) -> None:
    protocol = SessionProtocol(encoding, SYMBOLS)
    effects = protocol.receive(payload, NOW)
    assert error_of(effects).data.code == ErrorCode.UNSUPPORTED_DATA
    assert effects[1:] == [Close(code=CloseCode.UNSUPPORTED_DATA)]
    assert protocol.state is State.CLOSING


# --- states ---


def test_what_a_client_says_while_closing_is_ignored() -> None:
    protocol = session()
    protocol.close()
    assert say(protocol, type="ping", id=1) == []
    assert protocol.receive(b"not even text", NOW) == []


def happen(protocol: SessionProtocol, event: Event) -> None:
    match event:
        case Event.MESSAGE:
            say(protocol, type="ping")
        case Event.CLOSE:
            protocol.close()
        case Event.END:
            protocol.end()


def brought_to(state: State) -> SessionProtocol:
    protocol = session()
    if state is not State.OPEN:
        happen(protocol, Event.CLOSE if state is State.CLOSING else Event.END)
    assert protocol.state is state
    return protocol


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_an_event_does_what_the_table_says_or_raises_and_changes_nothing(state: State, event: Event) -> None:
    protocol = brought_to(state)
    if (state, event) in TRANSITIONS:
        happen(protocol, event)
        assert protocol.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(RuntimeError, match=f"{state.value} cannot have a {event.value}"):
            happen(protocol, event)
        assert protocol.state is state


@given(st.lists(st.sampled_from([*CLIENT_TYPES, *Event])))
def test_a_session_that_ended_stays_so_whatever_came_before(story: list[str | Event]) -> None:
    protocol, ended = session(), False
    for step in story:
        try:
            if isinstance(step, Event):
                happen(protocol, step)
                ended |= step is Event.END
            else:
                protocol.receive((GOLDEN / f"{step}.json").read_text(), NOW)
        except RuntimeError:
            assert ended
        assert (protocol.state is State.CLOSED) == ended
