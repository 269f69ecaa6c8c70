"""The session's state machine: what each message calls for, and that no order of events breaks it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.errors import IdentityError
from aurexd.identity import ANYBODY, LOCAL, Identity, Scope
from aurexd.market import EpochUs
from aurexd.protocol import messages
from aurexd.protocol.alerts import AlertAckData
from aurexd.protocol.codec import CLIENT_TYPES, JSON, MSGPACK
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.connection import (
    TRANSITIONS,
    AnyEffect,
    AskAlerts,
    Authenticate,
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
    return SessionProtocol(JSON, channels)


TOKENS = {
    "alice": Identity(user="alice", scopes=frozenset({Scope.READ, Scope.ALERTS}), expires=NOW, voucher=1),
    "alice, later": Identity(
        user="alice", scopes=frozenset({Scope.READ, Scope.ALERTS}), expires=EpochUs(NOW + 9), voucher=1
    ),
    "alice, less": Identity(user="alice", scopes=frozenset({Scope.READ}), expires=NOW, voucher=1),
    "alice, alerts": Identity(user="alice", scopes=frozenset({Scope.ALERTS}), expires=NOW, voucher=1),
    "bob": Identity(user="bob", scopes=frozenset(Scope), expires=NOW, voucher=1),
}


def verify(token: str, now: EpochUs) -> Identity:
    """Stands in for a keyring: any other token is bad, but `old` has expired."""
    assert now == NOW
    if token not in TOKENS:
        raise IdentityError("no good", expired=token == "old")
    return TOKENS[token]


def asked(token: str | None = None, channels: frozenset[str] = frozenset()) -> SessionProtocol:
    """A session where tokens are asked for; it came with one, or with none."""
    return SessionProtocol(JSON, channels, TOKENS[token] if token else None, verify)


def show(protocol: SessionProtocol, token: str) -> list[AnyEffect]:
    return say(protocol, type="auth", id="a", data={"token": token})


def say(protocol: SessionProtocol, **message: Any) -> list[AnyEffect]:
    return say_where(SYMBOLS, protocol, **message)


def say_where(symbols: AbstractSet[str], protocol: SessionProtocol, /, **message: Any) -> list[AnyEffect]:
    """Where these symbols are served."""
    return protocol.receive(json.dumps(message), NOW, symbols)


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
        ("candle:XAUUSD", ErrorCode.UNKNOWN_CHANNEL, "candle:XAUUSD: and one of 1s, 1m"),
        ("candle:XAUUSD:2m", ErrorCode.UNKNOWN_CHANNEL, "1m, 5m"),
        ("candle:xauusd:1m", ErrorCode.UNKNOWN_CHANNEL, "GC, XAUUSD"),
        ("candle:XAUUSD:1m:", ErrorCode.UNKNOWN_CHANNEL, "1m, 5m"),
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
    protocol = SessionProtocol(JSON, frozenset(names[: MAX_CHANNELS - 1]))
    error_of(say_where(symbols, protocol, type="subscribe", data={"channels": [names[-2], "price:NOPE"]}))
    [effect] = say_where(symbols, protocol, type="subscribe", data={"channels": [names[-1]]})
    assert isinstance(effect, Subscribe), "the refused one must not count towards the limit"


def test_the_symbols_in_an_error_are_not_endless() -> None:
    symbols = frozenset(f"S{n:04}" for n in range(500))
    error = error_of(say_where(symbols, session(), type="subscribe", data={"channels": ["price:NOPE"]}))
    assert error.data.message.endswith("S0018, S0019 and 480 more")


def test_a_session_has_so_many_channels_and_no_more() -> None:
    symbols = frozenset(f"S{n}" for n in range(MAX_CHANNELS + 1))
    names = [f"price:{symbol}" for symbol in symbols]
    protocol = SessionProtocol(JSON, frozenset(names[:1]))

    def ask(kind: str, channels: list[str]) -> list[AnyEffect]:
        return say_where(symbols, protocol, type=kind, id=1, data={"channels": channels})

    assert isinstance(ask("subscribe", names[:MAX_CHANNELS])[0], Subscribe)
    error = error_of(ask("subscribe", names[MAX_CHANNELS:]))
    assert error.data.code == ErrorCode.TOO_MANY_CHANNELS
    ask("unsubscribe", names[:1])
    assert isinstance(ask("subscribe", names[MAX_CHANNELS:])[0], Subscribe)


def test_channels_of_a_symbol_that_is_served_no_more_are_lost_and_count_for_nothing() -> None:
    protocol = session(frozenset({"price:GC", "status:GC", "candle:GC:1m", "price:XAUUSD"}))
    protocol.withdraw({"GC"})
    assert protocol.channels == {"price:XAUUSD"}
    left = frozenset({"XAUUSD"})
    error = error_of(say_where(left, protocol, type="subscribe", data={"channels": ["price:GC"]}))
    assert error.data.code == ErrorCode.UNKNOWN_CHANNEL
    assert isinstance(say(protocol, type="subscribe", data={"channels": ["price:GC"]})[0], Subscribe), (
        "and when it is there again it may be had again"
    )


def test_the_set_that_many_have_is_kept_once_and_changes_nobodys_channels() -> None:
    shared = frozenset({"price:GC", "price:XAUUSD"})
    same, other = session(frozenset(sorted(shared))), session(frozenset({"price:GC"}))
    for protocol in (same, other):
        protocol.share(shared)
    assert same.channels is shared
    assert other.channels == {"price:GC"}


def test_who_shows_a_token_after_a_symbol_has_gone_is_not_subscribed_to_it() -> None:
    protocol = asked(channels=frozenset({"price:GC", "price:XAUUSD"}))
    protocol.withdraw({"GC"})
    [effect] = show(protocol, "alice")
    assert isinstance(effect, Authenticate)
    assert effect.subscribe == ("price:XAUUSD",)


def test_alerts_are_of_no_symbol() -> None:
    owned = SessionProtocol(JSON, frozenset({"alert", "price:GC"}), LOCAL)
    owned.withdraw({"GC", "alert"})
    assert owned.channels == {"alert"}


def test_the_limit_of_channels_may_be_lower_and_takes_nothing_away() -> None:
    names = [f"price:S{n}" for n in range(4)]
    symbols = frozenset(f"S{n}" for n in range(4))
    protocol = SessionProtocol(JSON, frozenset(names[:3]))

    def subscribe(*channels: str) -> Any:
        text = json.dumps({"type": "subscribe", "data": {"channels": channels}})
        return protocol.receive(text, NOW, symbols, 2)

    assert isinstance(subscribe(*names[:3])[0], Subscribe), "what it has it may ask for again"
    error = error_of(subscribe(names[3]))
    assert error.data.message == "subscribe: it would make 4 channels, and 2 are allowed"


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
    effects = say(SessionProtocol(JSON, identity=TOKENS["bob"], verify=lambda *_: TOKENS["bob"]), **request)
    refused = isinstance(effects[0], Reply) and isinstance(effects[0].message, messages.Error)
    assert refused == (kind in messages.LATER)
    if refused:
        error = error_of(effects)
        assert (error.id, error.data.code) == (request["id"], ErrorCode.NOT_AVAILABLE)


def test_alerts_are_for_an_owner_only() -> None:
    ack = {"type": "alert.ack", "id": 1, "data": {"alert_ids": ["a", "b"]}}
    assert error_of(say(session(), **ack)).data.code == ErrorCode.FORBIDDEN
    owned = SessionProtocol(JSON, identity=LOCAL)
    request = messages.AlertAck(id=1, data=AlertAckData(alert_ids=["a", "b"]))
    assert say(owned, **ack) == [AskAlerts(owner="local", request=request)]
    assert isinstance(say(owned, type="subscribe", data={"channels": ["alert"]})[0], Subscribe)


def test_a_bad_message_is_answered_and_the_session_goes_on() -> None:
    protocol = session()
    error = error_of(say(protocol, type="pink", id=1))
    assert (error.id, error.data.code) == (1, ErrorCode.UNKNOWN_TYPE)
    assert protocol.state is State.OPEN


@pytest.mark.parametrize(("encoding", "payload"), [(JSON, b"{}"), (MSGPACK, "{}")])
def test_the_wrong_kind_of_frame_ends_the_session(encoding: Any, payload: str | bytes) -> None:
    protocol = SessionProtocol(encoding)
    effects = protocol.receive(payload, NOW, SYMBOLS)
    assert error_of(effects).data.code == ErrorCode.UNSUPPORTED_DATA
    assert effects[1:] == [Close(code=CloseCode.UNSUPPORTED_DATA)]
    assert protocol.state is State.CLOSING


# --- tokens ---


def test_where_none_is_asked_for_auth_is_not_available() -> None:
    for protocol in (session(), SessionProtocol(JSON, identity=LOCAL)):
        assert not protocol.asks_for_token
        error = error_of(show(protocol, "alice"))
        assert (error.id, error.data.code) == ("a", ErrorCode.NOT_AVAILABLE)
        assert protocol.state is State.OPEN


@pytest.mark.parametrize("kind", CLIENT_MESSAGES, ids=tag_of)
def test_before_a_token_was_shown_only_auth_and_ping_are_acted_on(kind: type[msgspec.Struct]) -> None:
    protocol = asked()
    request = json.loads((GOLDEN / f"{tag_of(kind)}.json").read_text())
    if kind is messages.Auth:
        request["data"]["token"] = "alice"
    effects = say(protocol, **request)
    if kind is messages.Auth:
        assert isinstance(effects[0], Authenticate)
    elif kind is messages.Ping:
        assert isinstance(effects[0], Reply)
        assert isinstance(effects[0].message, messages.Pong)
    else:
        error = error_of(effects)
        assert (error.id, error.data.code) == (request["id"], ErrorCode.UNAUTHENTICATED)
        assert error.data.message.startswith(f"{tag_of(kind)}: ")
    assert (protocol.state is State.OPEN) == (kind is messages.Auth)
    assert protocol.channels == frozenset()


def test_a_token_opens_the_session_and_what_was_due_without_asking_follows() -> None:
    protocol = asked(channels=frozenset({"price:GC", "status:GC"}))
    assert (protocol.identity, protocol.owner, protocol.channels) == (None, None, frozenset())
    assert show(protocol, "alice") == [
        Authenticate(id="a", identity=TOKENS["alice"], subscribe=("price:GC", "status:GC"), unsubscribe=())
    ]
    assert (protocol.state, protocol.identity, protocol.owner) == (State.OPEN, TOKENS["alice"], "alice")
    assert protocol.channels == {"price:GC", "status:GC"}


def test_a_token_that_may_not_read_opens_the_session_and_nothing_follows() -> None:
    protocol = asked(channels=frozenset({"price:GC"}))
    [effect] = show(protocol, "alice, alerts")
    assert isinstance(effect, Authenticate)
    assert (effect.subscribe, protocol.channels) == ((), frozenset())
    assert asked("alice, alerts", frozenset({"price:GC"})).channels == frozenset()


@pytest.mark.parametrize(
    ("token", "error", "close"),
    [
        ("forged", ErrorCode.BAD_TOKEN, CloseCode.BAD_TOKEN),
        ("old", ErrorCode.TOKEN_EXPIRED, CloseCode.TOKEN_EXPIRED),
    ],
)
def test_a_first_token_that_is_not_valid_ends_the_session(
    token: str, error: ErrorCode, close: CloseCode
) -> None:
    protocol = asked()
    effects = show(protocol, token)
    assert (error_of(effects).id, error_of(effects).data.code) == ("a", error)
    assert error_of(effects).data.message == "auth: the token is not valid here: no good"
    assert effects[1:] == [Close(code=close)]
    assert protocol.state is State.CLOSING
    assert show(protocol, "alice") == []


@pytest.mark.parametrize(
    ("token", "code"),
    [("forged", ErrorCode.BAD_TOKEN), ("old", ErrorCode.TOKEN_EXPIRED), ("bob", ErrorCode.FORBIDDEN)],
)
def test_a_token_that_cannot_renew_changes_nothing(token: str, code: ErrorCode) -> None:
    protocol = asked("alice", frozenset({"price:GC"}))
    [effect] = show(protocol, token)
    assert error_of([effect]).data.code == code
    assert "bob" not in error_of([effect]).data.message
    assert (protocol.state, protocol.identity) == (State.OPEN, TOKENS["alice"])
    assert protocol.channels == {"price:GC"}


def test_a_new_token_renews_in_place() -> None:
    protocol = asked("alice", frozenset({"price:GC"}))
    assert show(protocol, "alice, later") == [
        Authenticate(id="a", identity=TOKENS["alice, later"], subscribe=(), unsubscribe=())
    ]
    assert protocol.identity == TOKENS["alice, later"]
    assert protocol.channels == {"price:GC"}


def test_what_a_new_token_does_not_allow_ends() -> None:
    protocol = asked("alice", frozenset({"price:GC"}))
    say(protocol, type="subscribe", data={"channels": ["alert"]})
    assert show(protocol, "alice, less") == [
        Authenticate(id="a", identity=TOKENS["alice, less"], subscribe=(), unsubscribe=("alert",))
    ]
    assert protocol.channels == {"price:GC"}
    assert protocol.owner == "alice", "so that the hub knows whose channel it is that ends"


@pytest.mark.parametrize(
    ("token", "request_", "scope"),
    [
        ("alice, less", {"type": "subscribe", "data": {"channels": ["price:GC", "alert"]}}, "alerts"),
        ("alice, less", {"type": "snapshot", "data": {"channels": ["alert"]}}, "alerts"),
        ("alice, less", {"type": "alert.ack", "data": {"alert_ids": ["a"]}}, "alerts"),
        ("alice, less", {"type": "alert.list", "data": {}}, "alerts"),
        ("alice, alerts", {"type": "subscribe", "data": {"channels": ["price:GC"]}}, "read"),
        ("alice, alerts", {"type": "snapshot", "data": {"channels": ["alert", "status:GC"]}}, "read"),
    ],
)
def test_without_the_scope_it_is_forbidden_and_nothing_happens(
    token: str, request_: dict[str, Any], scope: str
) -> None:
    protocol = asked(token)
    error = error_of(say(protocol, id=1, **request_))
    assert (error.id, error.data.code) == (1, ErrorCode.FORBIDDEN)
    assert f"a token with the scope '{scope}'" in error.data.message
    assert (protocol.state, protocol.channels) == (State.OPEN, frozenset())


def test_whoever_is_nobody_in_particular_may_read_and_has_no_alerts() -> None:
    protocol = SessionProtocol(JSON, identity=ANYBODY)
    assert protocol.owner is None
    assert isinstance(say(protocol, type="subscribe", data={"channels": ["price:GC"]})[0], Subscribe)
    for request in (
        {"type": "subscribe", "data": {"channels": ["alert"]}},
        {"type": "alert.list", "data": {}},
    ):
        error = error_of(say(protocol, **request))
        assert error.data.code == ErrorCode.FORBIDDEN
        assert "from the machine that aurexd runs on" in error.data.message


def test_a_token_in_a_message_is_never_shown() -> None:
    request = JSON.decode('{"type":"auth","data":{"token":"a secret one"}}')
    assert "secret" not in f"{request!r} {request}"


# --- states ---


def test_what_a_client_says_while_closing_is_ignored() -> None:
    protocol = session()
    protocol.close()
    assert say(protocol, type="ping", id=1) == []
    assert protocol.receive(b"not even text", NOW, SYMBOLS) == []


def happen(protocol: SessionProtocol, event: Event) -> None:
    match event:
        case Event.MESSAGE:
            say(protocol, type="ping")
        case Event.AUTHENTICATED:
            if (protocol.state, event) in TRANSITIONS:
                show(protocol, "alice")
            else:
                protocol._apply(event)  # a token that comes too late is a message, and that is ignored
        case Event.CLOSE:
            protocol.close()
        case Event.END:
            protocol.end()


def brought_to(state: State) -> SessionProtocol:
    protocol = asked(None if state is State.UNAUTHENTICATED else "alice")
    if state in (State.CLOSING, State.CLOSED):
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


@given(st.lists(st.sampled_from([*CLIENT_TYPES, Event.MESSAGE, Event.CLOSE, Event.END])), st.booleans())
def test_a_session_that_ended_stays_so_whatever_came_before(story: list[str | Event], shown: bool) -> None:
    protocol, ended = asked("alice" if shown else None), False
    for step in story:
        try:
            if isinstance(step, Event):
                happen(protocol, step)
                ended |= step is Event.END
            else:
                protocol.receive((GOLDEN / f"{step}.json").read_text(), NOW, SYMBOLS)
        except RuntimeError:
            assert ended
        assert (protocol.state is State.CLOSED) == ended


MESSAGES = [
    *(
        {"type": kind, "data": {"channels": [channel]}}
        for kind in ("subscribe", "unsubscribe", "snapshot")
        for channel in ("price:GC", "alert")
    ),
    *({"type": "auth", "data": {"token": token}} for token in [*TOKENS, "forged", "old"]),
    {"type": "alert.ack", "data": {"alert_ids": ["x"]}},
    {"type": "ping"},
]


@given(st.lists(st.sampled_from(MESSAGES)), st.sampled_from([None, *TOKENS]))
def test_nothing_is_ever_done_that_the_token_shown_last_does_not_allow(
    story: list[dict[str, Any]], shown: str | None
) -> None:
    protocol = asked(shown, frozenset({"price:GC"}))
    for message in story:
        before = protocol.identity
        for effect in say(protocol, **message):
            identity = protocol.identity
            match effect:
                case (
                    Subscribe(channels=channels)
                    | Unsubscribe(channels=channels)
                    | Snapshot(channels=channels)
                ):
                    assert identity is not None
                    assert identity is before
                    needed = {Scope.ALERTS if channel == "alert" else Scope.READ for channel in channels}
                    assert needed <= identity.scopes
                case AskAlerts():
                    assert identity is not None
                    assert effect.owner == identity.user
                    assert Scope.ALERTS in identity.scopes
                case Authenticate():
                    assert before is None or before.user == effect.identity.user
        if protocol.identity is None:
            assert protocol.channels == frozenset()
        elif Scope.ALERTS not in protocol.identity.scopes:
            assert "alert" not in protocol.channels
        if before is not None:
            assert protocol.owner == before.user
