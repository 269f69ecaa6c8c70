"""Hands messages from the task that reads them to the one that acts on them, one at a time. It knows no message.

What `trio.open_memory_channel(1)` does for one sender and one receiver, in a tenth of its two kilobytes: each session
has one, for as long as it lasts.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Handoff(Generic[T]):
    """The receiver's end; `Sender` is the other."""

    __slots__ = ("_closed", "_ended", "_messages", "_sleeper")

    def __init__(self) -> None:
        self._messages: tuple[T, ...] = ()
        """At most one."""
        self._closed = self._ended = False
        self._sleeper: trio.lowlevel.Task | None = None
        """Either end, when it has to wait for the other; never both."""

    async def receive(self) -> T:
        """The next message.

        Raises:
            trio.EndOfChannel: there will be none, because the sender has closed.
            trio.ClosedResourceError: this end was closed.

        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._messages:
                (message,), self._messages = self._messages, ()
                self._wake()
                await trio.lowlevel.cancel_shielded_checkpoint()
                return message
            if self._ended:
                raise trio.EndOfChannel
            await self._sleep()

    async def aclose(self) -> None:
        """Take nothing more; what waits is thrown away."""
        self._closed, self._messages = True, ()
        self._wake()
        await trio.lowlevel.checkpoint()

    async def _put(self, message: T) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._closed and not self._ended:
            if not self._messages:
                self._messages = (message,)
                self._wake()
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
            await self._sleep()
        raise trio.ClosedResourceError if self._ended else trio.BrokenResourceError

    async def _end(self) -> None:
        self._ended = True
        self._wake()
        await trio.lowlevel.checkpoint()

    async def _sleep(self) -> None:
        assert self._sleeper is None
        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_sleep)

    def _abort_sleep(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper)


class Sender(Generic[T]):
    """The sender's end of a `Handoff`; a context manager that closes it."""

    __slots__ = ("_handoff",)

    def __init__(self, handoff: Handoff[T]) -> None:
        self._handoff = handoff

    async def send(self, message: T) -> None:
        """Hand a message over; waits while the one before it was not received.

        Raises:
            trio.BrokenResourceError: the receiver has closed.
            trio.ClosedResourceError: this end was closed.

        """
        await self._handoff._put(message)  # noqa: SLF001 — the two ends of one thing

    async def aclose(self) -> None:
        """Send nothing more; what waits is still received."""
        await self._handoff._end()  # noqa: SLF001

    async def __aenter__(self) -> Sender[T]:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()
