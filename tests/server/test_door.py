"""Who may begin, who is told to come later, and who is hung up on; in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from aurexd.config.model import Config, Limits
from aurexd.server.door import ADDRESSES, BURST_S, GRACE_S, REFUSALS_BURST, REFUSALS_PER_S, SAY_S, Door, Visit
from aurexd.settings import Settings

ONE, OTHER = "192.0.2.7", "192.0.2.8"


def limited(**limits: Any) -> Settings:
    return Settings(Config(limits=Limits.model_validate(limits)))


def knock(door: Door, address: str | None = ONE) -> Visit | None:
    """A connection that sends its request at once."""
    visit = door.knock(address)
    if visit is not None:
        door.leave(visit)
    return visit


def outcomes(door: Door, count: int, address: str = ONE) -> list[str]:
    visits = [knock(door, address) for _ in range(count)]
    return ["hung up" if visit is None else "late" if visit.retry_after_s else "in" for visit in visits]


async def test_an_address_may_connect_in_bursts_is_then_told_to_wait_and_then_hung_up_on(
    autojump_clock: MockClock,
) -> None:
    door = Door(limited(max_attempts_per_second=3))
    burst, told = int(3 * BURST_S), int(REFUSALS_BURST)
    assert outcomes(door, burst + told + 20) == ["in"] * burst + ["late"] * told + ["hung up"] * 20
    assert outcomes(door, 3, OTHER) == ["in"] * 3
    await trio.sleep(1.0)
    assert outcomes(door, 10) == ["in"] * 3 + ["late"] * int(REFUSALS_PER_S) + ["hung up"] * 2
    await trio.sleep(60.0)
    assert outcomes(door, burst) == ["in"] * burst


async def test_who_is_told_to_wait_hears_how_long(autojump_clock: MockClock) -> None:
    door = Door(limited(max_attempts_per_second=0.1))
    assert outcomes(door, 2) == ["in", "late"]
    visit = knock(door)
    assert visit is not None
    assert 0.0 < visit.retry_after_s <= 10.0
    await trio.sleep(visit.retry_after_s)
    assert outcomes(door, 1) == ["in"]


async def test_who_is_refused_again_and_again_is_hung_up_on_whatever_the_reason(
    autojump_clock: MockClock,
) -> None:
    """One that has its five sessions and comes back without a pause costs a handshake each time."""
    door = Door(limited(max_attempts_per_second=0))
    for _ in range(int(REFUSALS_BURST)):
        assert knock(door) is not None
        door.refused(ONE)
    assert knock(door) is None
    assert knock(door, OTHER) is not None
    await trio.sleep(1.0)
    assert knock(door) is not None


async def test_an_ipv6_household_is_one_address() -> None:
    door = Door(limited(max_attempts_per_second=0.1))
    assert outcomes(door, 1, "2001:db8:1:2::3") == ["in"]
    assert outcomes(door, 1, "2001:db8:1:2:ffff::4") == ["late"]
    assert outcomes(door, 1, "2001:db8:1:3::3") == ["in"]


async def test_an_address_has_only_so_many_requests_under_way() -> None:
    door = Door(limited(max_handshakes_per_ip=2))
    first, second = door.knock(ONE), door.knock(ONE)
    assert first is not None
    assert second is not None
    assert door.knock(ONE) is None
    assert knock(door, OTHER) is not None
    door.leave(first)
    assert knock(door) is not None
    door.leave(second)
    assert door.visits == 0


async def test_where_there_is_no_room_the_oldest_gives_way_if_it_had_its_time(
    autojump_clock: MockClock,
) -> None:
    door = Door(limited(max_handshakes=2))
    oldest, newer = door.knock("192.0.2.1"), door.knock("192.0.2.2")
    assert oldest is not None
    assert newer is not None
    assert door.knock("192.0.2.3") is None, "nobody had time enough"
    await trio.sleep(GRACE_S)
    assert door.knock("192.0.2.3") is not None
    assert oldest.scope.cancel_called
    assert not newer.scope.cancel_called
    assert door.visits == 2
    door.leave(oldest)
    assert door.visits == 2, "it was no longer counted"


async def test_a_proxy_is_not_taken_for_its_clients(autojump_clock: MockClock) -> None:
    door = Door(limited(max_attempts_per_second=0.1, max_handshakes_per_ip=1))
    visits = [door.knock(None) for _ in range(50)]
    assert None not in visits
    assert door.visits == 50
    met = [door.meet(visit, ONE) for visit in visits[:2] if visit is not None]
    assert met == [True, False]
    assert door.meet(visits[2] or Visit(0, 0), OTHER)


async def test_a_visit_has_the_time_that_holds_when_it_begins(autojump_clock: MockClock) -> None:
    settings = limited(handshake_timeout_s=10)
    door = Door(settings)
    settings.replace(Config(limits=Limits(handshake_timeout_s=3)))
    visit = door.knock(ONE)
    assert visit is not None
    assert visit.scope.deadline == trio.current_time() + 3


async def test_requests_have_a_rate_of_their_own(autojump_clock: MockClock) -> None:
    settings = limited(max_requests_per_second=0.5)
    door = Door(settings)
    assert [door.ask(ONE) for _ in range(6)] == [0.0] * 5 + [2.0]
    assert door.ask(OTHER) == 0.0
    settings.replace(Config(limits=Limits(max_requests_per_second=0)))
    assert door.ask(ONE) == 0.0


async def test_all_limits_can_be_switched_off() -> None:
    off = {
        "max_attempts_per_second": 0,
        "max_handshakes_per_ip": 0,
        "max_handshakes": 0,
        "max_requests_per_second": 0,
    }
    door = Door(limited(**off))
    assert None not in [door.knock(ONE) for _ in range(10_000)]
    assert not any(door.ask(ONE) for _ in range(10_000))


async def test_a_flood_from_many_addresses_makes_no_table_larger(autojump_clock: MockClock) -> None:
    door = Door(limited())
    for number in range(2 * ADDRESSES):
        address = f"2001:db8:{number >> 8:x}:{number & 0xFF:x}::1"
        knock(door, address)
        door.ask(address)
        door.refused(address)
    assert len(door._attempts) == len(door._requests) == len(door._refusals) == ADDRESSES
    assert door.visits == 0


async def test_a_flood_is_one_line_a_minute_in_the_log(autojump_clock: MockClock) -> None:
    door = Door(limited(max_handshakes_per_ip=1))
    assert door.knock(ONE) is not None
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            assert door.knock(ONE) is None
        await trio.sleep(SAY_S)
        door.hung_up("proxy_header", OTHER, "no PROXY header")
    assert logs == [
        {"event": "connections_hung_up", "log_level": "warning", "client": ONE, "handshakes_per_ip": 1},
        {
            "event": "connections_hung_up",
            "log_level": "warning",
            "client": OTHER,
            "handshakes_per_ip": 99,
            "proxy_header": 1,
            "detail": "no PROXY header",
        },
    ]


@pytest.mark.parametrize("address", [ONE, "2001:db8::1", "::1"])
async def test_one_after_the_other_anybody_may_come_for_ever(autojump_clock: MockClock, address: str) -> None:
    door = Door(limited())
    for _ in range(500):
        assert outcomes(door, 1, address) == ["in"]
        assert door.ask(address) == 0.0
        await trio.sleep(0.1)
