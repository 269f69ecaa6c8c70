"""Messages go from one task to another, one at a time, none lost and none twice, whoever closes or is cancelled.

What is promised here is what trio's own channel does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from aurexd.server.handoff import Handoff, Sender


def handoff() -> tuple[Any, Any]:
    receiver = Handoff[int]()
    return Sender(receiver), receiver


def channel() -> tuple[Any, Any]:
    return trio.open_memory_channel[int](1)


@pytest.fixture(params=[handoff, channel])
def ends(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    make: Callable[[], tuple[Any, Any]] = request.param
    return make()


async def test_messages_come_in_order_and_one_waits_at_most(ends: tuple[Any, Any]) -> None:
    sender, receiver = ends
    sent = 0

    async def send() -> None:
        nonlocal sent
        async with sender:
            for number in range(100):
                await sender.send(number)
                sent = number + 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        for number in range(100):
            if number % 3 == 0:
                await trio.testing.wait_all_tasks_blocked()
                assert sent == number + 1
            assert await receiver.receive() == number
        with pytest.raises(trio.EndOfChannel):
            await receiver.receive()


async def test_what_waits_is_received_after_the_sender_has_closed(ends: tuple[Any, Any]) -> None:
    sender, receiver = ends
    await sender.send(1)
    await sender.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await sender.send(2)
    assert await receiver.receive() == 1
    with pytest.raises(trio.EndOfChannel):
        await receiver.receive()


async def test_what_waits_is_thrown_away_when_the_receiver_closes(ends: tuple[Any, Any]) -> None:
    sender, receiver = ends
    await sender.send(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.BrokenResourceError, lambda: sender.send(2))
        await trio.testing.wait_all_tasks_blocked()
        await receiver.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await receiver.receive()
    with pytest.raises(trio.BrokenResourceError):
        await sender.send(3)


@pytest.mark.parametrize(
    ("close", "error"), [("sender", trio.EndOfChannel), ("receiver", trio.ClosedResourceError)]
)
async def test_who_waits_for_a_message_is_told_of_the_end(
    ends: tuple[Any, Any], close: str, error: type[Exception]
) -> None:
    sender, receiver = ends
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, error, receiver.receive)
        await trio.testing.wait_all_tasks_blocked()
        await (sender if close == "sender" else receiver).aclose()


async def test_who_is_cancelled_has_taken_and_sent_nothing(ends: tuple[Any, Any]) -> None:
    sender, receiver = ends
    with trio.CancelScope() as scope:
        scope.cancel()
        await sender.send(1)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await sender.send(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send, 3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await receiver.receive()
    assert scope.cancelled_caught
    await sender.aclose()
    assert await receiver.receive() == 2
    with pytest.raises(trio.EndOfChannel):
        await receiver.receive()


async def expect(error: type[Exception], call: Callable[[], Any]) -> None:
    with pytest.raises(error):
        await call()
