"""Who may stream, and who is turned away with which words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import structlog.testing
import trio
from hypothesis import given
from hypothesis import strategies as st

from aurexd.config.model import Config, Limits, Realtime
from aurexd.drain import Drain
from aurexd.identity import LOCAL
from aurexd.market import SECOND_US, EpochUs
from aurexd.protocol.codes import CloseCode
from aurexd.server.admission import KNOCK_SPREAD_MS, SAYS_PER_S, Admission, Place, Refusal
from aurexd.server.credentials import Credentials
from aurexd.server.door import REFUSALS_BURST, Door
from aurexd.server.names import Hosts
from aurexd.server.request import Request
from aurexd.settings import Settings
from tests.issuer import START, Still, ask_for_tokens, token


def limited(**limits: Any) -> Settings:
    return Settings(Config(limits=Limits.model_validate(limits)))


def admission_of(settings: Settings) -> Admission:
    return Admission(
        settings, Credentials(settings, Still()), Door(settings, lambda: 0.0), Hosts(settings, ("*",))
    )


def from_address(address: str, origin: str | None = None, user: str | None = None) -> Request:
    return Request(
        address=address,
        method="GET",
        path="/",
        query="",
        host="gold.example",
        origin=origin,
        upgrade=True,
        authorization=f"Bearer {token(user)}" if user else None,
    )


def test_the_sixth_session_of_an_address_is_refused_until_one_leaves() -> None:
    admission = admission_of(limited(max_connections_per_ip=5))
    places = [admission.enter(from_address("192.0.2.7")) for _ in range(5)]
    refusal = admission.refusal(from_address("192.0.2.7"))
    assert refusal is not None
    assert refusal.code is CloseCode.TOO_MANY_CONNECTIONS
    assert "5 connections" in refusal.message
    assert admission.refusal(from_address("192.0.2.8")) is None
    places[0].leave()
    assert admission.refusal(from_address("192.0.2.7")) is None


def test_an_ipv6_household_counts_as_one_address() -> None:
    admission = admission_of(limited(max_connections_per_ip=1))
    admission.enter(from_address("2001:db8:1:2::3"))
    assert admission.refusal(from_address("2001:db8:1:2::4")) is not None
    assert admission.refusal(from_address("2001:db8:1:3::3")) is None


def test_a_full_daemon_refuses_everybody() -> None:
    admission = admission_of(limited(max_connections=1))
    admission.enter(from_address("192.0.2.7"))
    refusal = admission.refusal(from_address("192.0.2.8"))
    assert refusal is not None
    assert refusal.code is CloseCode.OVER_CAPACITY


# --- the feature flag ---


def flagged(**realtime: object) -> Settings:
    return Settings(Config(realtime=Realtime.model_validate(realtime)))


def test_with_the_flag_off_no_websocket_is_let_in_and_told_what_to_do_instead() -> None:
    refusal = admission_of(flagged(enabled=False)).refusal(from_address("192.0.2.7"))
    assert refusal is not None
    assert refusal.code is CloseCode.ROLLOUT_CLOSED
    assert "/api/v1/stream" in refusal.message
    assert "/api/v1/prices/latest" in refusal.message


def test_a_rollout_lets_in_the_same_ones_at_every_start_and_more_when_it_grows() -> None:
    def let_in(percent: int) -> set[int]:
        admission = admission_of(flagged(rollout_percent=percent))
        return {n for n in range(250) if admission.refusal(from_address(f"192.0.2.{n}")) is None}

    assert let_in(0) == set()
    assert let_in(100) == set(range(250))
    assert 0 < len(let_in(20)) < len(let_in(50)) < 250
    assert let_in(20) == let_in(20) < let_in(50)


def test_a_household_is_on_one_side_of_the_rollout() -> None:
    admission = admission_of(flagged(rollout_percent=50))
    for household in range(50):
        inside = {
            admission.refusal(from_address(f"2001:db8:1:{household:x}::{host:x}")) is None
            for host in range(1, 5)
        }
        assert len(inside) == 1


def test_a_user_is_on_one_side_of_the_rollout_wherever_he_comes_from() -> None:
    admission = admission_of(ask_for_tokens(flagged(rollout_percent=50)))
    for number in range(50):
        sides = {
            admission.refusal(from_address(f"192.0.{net}.7", user=f"user{number}")) is None
            for net in range(4)
        }
        assert len(sides) == 1


def test_the_event_stream_is_open_to_those_whom_the_flag_excludes() -> None:
    reader = msgspec.structs.replace(from_address("192.0.2.7"), upgrade=False)
    assert admission_of(flagged(enabled=False)).refusal(reader) is None
    assert admission_of(flagged(rollout_percent=0)).refusal(reader) is None


def test_the_flag_holds_for_those_who_come_after_it_has_changed() -> None:
    settings = flagged(enabled=False)
    admission = admission_of(settings)
    settings.replace(Config())
    assert admission.refusal(from_address("192.0.2.7")) is None
    settings.replace(Config(realtime=Realtime(rollout_percent=0)))
    assert admission.refusal(from_address("192.0.2.7")) is not None


# --- the drain ---


async def test_in_a_drain_everybody_is_sent_away_with_a_time_of_his_own(autojump_clock: object) -> None:
    admission = admission_of(limited())
    places = [admission.enter(from_address("192.0.2.7")) for _ in range(3)]
    plan = Drain.plan(admission.sessions, 15.0, trio.current_time())
    admission.drain(plan)
    refusals = [admission.refusal(from_address("192.0.2.8")) for _ in range(20)]
    assert {refusal.code for refusal in refusals if refusal is not None} == {CloseCode.GOING_AWAY}
    waits = {refusal.retry_after_ms for refusal in refusals if refusal is not None}
    assert len(waits) > 10
    with trio.move_on_after(10) as waiting:
        await admission.wait_empty()
    assert waiting.cancelled_caught
    for place in places:
        place.leave()
    with trio.fail_after(1):
        await admission.wait_empty()


def test_a_limit_of_zero_is_none() -> None:
    admission = admission_of(limited(max_connections=0, max_connections_per_ip=0))
    for _ in range(100):
        admission.enter(from_address("192.0.2.7"))
    assert admission.refusal(from_address("192.0.2.7")) is None


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://gold.example", True),
        ("https://friend.example", True),
        ("https://evil.example", False),
        ("https://gold.example.evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_a_page_may_come_from_here_and_from_where_it_is_allowed(origin: str, allowed: bool) -> None:
    admission = admission_of(limited(allowed_origins=("https://friend.example",)))
    refusal = admission.refusal(from_address("192.0.2.7", origin=origin))
    assert (refusal is None) is allowed
    assert allowed or (refusal is not None and refusal.code is CloseCode.FORBIDDEN)


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
def test_a_limit_that_changes_holds_for_the_next_and_ends_nobody(limit: str) -> None:
    settings = limited(**{limit: 2})
    admission = admission_of(settings)
    places = [admission.enter(from_address("192.0.2.7")) for _ in range(2)]
    assert admission.refusal(from_address("192.0.2.7")) is not None
    settings.replace(Config(limits=Limits.model_validate({limit: 3})))
    assert admission.refusal(from_address("192.0.2.7")) is None
    settings.replace(Config(limits=Limits.model_validate({limit: 1})))
    places[0].leave()
    assert admission.refusal(from_address("192.0.2.7")) is not None


def test_an_origin_that_is_allowed_later_may_come_later() -> None:
    settings = limited()
    admission = admission_of(settings)
    page = from_address("192.0.2.7", origin="https://friend.example")
    assert admission.refusal(page) is not None
    settings.replace(Config(limits=Limits(allowed_origins=("https://friend.example",))))
    assert admission.refusal(page) is None


# --- users ---


def asking(**limits: Any) -> Admission:
    return admission_of(ask_for_tokens(limited(**limits)))


def enter(admission: Admission, request: Request) -> Place | Refusal:
    """As the port does it."""
    return admission.refusal(request) or admission.enter(request)


def let_in(admission: Admission, request: Request) -> Place:
    place = enter(admission, request)
    assert isinstance(place, Place)
    return place


def alice(address: str = "192.0.2.7") -> Request:
    return from_address(address, user="alice")


def test_a_user_is_counted_by_name_from_whatever_address_and_not_by_that() -> None:
    admission = asking(max_connections_per_ip=1, max_connections_per_user=2)
    places = [let_in(admission, alice("192.0.2.7")), let_in(admission, alice("192.0.2.8"))]
    refusal = enter(admission, alice("192.0.2.9"))
    assert refusal == Refusal(CloseCode.TOO_MANY_CONNECTIONS, "more than 2 connections of this user")
    let_in(admission, from_address("192.0.2.7", user="bob"))
    let_in(admission, from_address("192.0.2.7"))  # an office behind one address is not full of its users
    places[0].leave()
    let_in(admission, alice())


def test_who_shows_a_token_later_moves_from_the_address_to_the_user() -> None:
    admission = asking(max_connections_per_ip=1, max_connections_per_user=1)
    here = from_address("192.0.2.7")
    first = let_in(admission, here)
    assert isinstance(enter(admission, here), Refusal)
    assert first.move_to_user("alice") is None
    second = let_in(admission, here)
    assert second.move_to_user("alice") == "more than 1 connections of this user"
    assert isinstance(enter(admission, here), Refusal), "who is refused stays where it was"
    assert first.move_to_user("alice") is None, "a new token of the same user is no new session"
    first.leave()
    assert second.move_to_user("alice") is None
    second.leave()
    let_in(admission, here)
    let_in(admission, alice())


def test_a_token_that_is_not_valid_is_refused_and_nobody_is_counted() -> None:
    admission = asking()
    for text, code in [
        ("nonsense", CloseCode.BAD_TOKEN),
        (token(now=EpochUs(START - 7200 * SECOND_US)), CloseCode.TOKEN_EXPIRED),
    ]:
        request = from_address("192.0.2.7")
        request.authorization = f"Bearer {text}"
        refusal = enter(admission, request)
        assert isinstance(refusal, Refusal)
        assert refusal.code is code
        assert refusal.message.startswith("the token is not valid here: ")
    assert admission.sessions == 0


def test_a_limit_of_zero_users_sessions_is_none() -> None:
    admission = asking(max_connections_per_user=0)
    for _ in range(100):
        let_in(admission, alice())


def test_a_user_may_be_called_like_an_address() -> None:
    admission = asking(max_connections_per_ip=1, max_connections_per_user=1)
    let_in(admission, from_address("192.0.2.8", user="192.0.2.7"))
    let_in(admission, from_address("192.0.2.7"))


def test_without_tokens_the_local_user_is_counted_by_address() -> None:
    admission = admission_of(limited(max_connections_per_ip=2, max_connections_per_user=1))
    here = from_address("127.0.0.1")
    for _ in range(2):
        let_in(admission, here)
        assert here.identity is LOCAL
    refusal = enter(admission, here)
    assert isinstance(refusal, Refusal)
    assert "from your address" in refusal.message


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "enter as", "move", "leave"]), st.integers(0, 4), st.integers(0, 2)
        )
    )
)
def test_whatever_happens_the_counts_come_back_to_nothing(story: list[tuple[str, int, int]]) -> None:
    admission = asking(max_connections_per_user=2)
    places: list[Place] = []
    for what, which, who in story:
        if what.startswith("enter"):
            user = f"u{who}" if what == "enter as" else None
            place = enter(admission, from_address(f"192.0.2.{which}", user=user))
            places += [place] if isinstance(place, Place) else []
        elif places and what == "move":
            places[which % len(places)].move_to_user(f"u{who}")
        elif places:
            places.pop(which % len(places)).leave()
        assert admission.sessions == len(places)
        assert all(admission._counts.of(f"user u{number}") <= 2 for number in range(3))
    for place in places:
        place.leave()
    assert not admission._counts._by_group


# --- what a refusal costs ---


def test_who_is_refused_again_and_again_is_hung_up_on_and_nobody_else() -> None:
    settings = limited(max_connections_per_ip=1)
    door = Door(settings, lambda: 0.0)
    admission = Admission(settings, Credentials(settings, Still()), door, Hosts(settings, ("*",)))
    admission.enter(from_address("192.0.2.7"))
    for _ in range(int(REFUSALS_BURST)):
        assert door.knock("192.0.2.7") is not None
        assert admission.refusal(from_address("192.0.2.7")) is not None
    assert door.knock("192.0.2.7") is None
    assert door.knock("192.0.2.8") is not None


def test_a_flood_of_refusals_does_not_flood_the_log() -> None:
    admission = admission_of(limited(max_connections=1))
    admission.enter(from_address("192.0.2.7"))
    with structlog.testing.capture_logs() as logs:
        for number in range(10_000):
            admission.refusal(from_address(f"198.51.{number // 250}.{number % 250}"))
    assert len(logs) == 10 * SAYS_PER_S
    assert {log["event"] for log in logs} == {"session_refused"}


def test_who_knocked_too_often_is_told_when_to_come_and_is_not_counted_twice() -> None:
    settings = limited()
    door = Door(settings, lambda: 0.0)
    admission = Admission(settings, Credentials(settings, Still()), door, Hosts(settings, ("*",)))
    for _ in range(2 * int(REFUSALS_BURST)):
        request = from_address("192.0.2.7")
        request.retry_after_s = 3.0
        refusal = admission.refusal(request)
        assert refusal is not None
        assert refusal.code is CloseCode.RATE_LIMITED
        assert refusal.retry_after_ms is not None
        assert 3000 < refusal.retry_after_ms <= 3000 + KNOCK_SPREAD_MS + 1
    assert door.knock("192.0.2.7") is not None
