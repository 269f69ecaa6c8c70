"""pykka's Trio unit: an actor that is one task, with a bounded inbox and a nursery of its own.

Also the one door to actors of both kinds: who writes or talks to one imports from here.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, ClassVar

import pykka
import structlog
import trio
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from aurexd.actors.address import (
    Address,
    AddressedActor,
    TrioFuture,
    ask,
    ask_when_room,
    tell_when_room,
)
from aurexd.actors.inbox import reply, reply_dead, reply_error
from aurexd.actors.messages import Ping
from aurexd.actors.worker import WorkerActor

__all__ = [
    "Address",
    "TrioActor",
    "TrioFuture",
    "WorkerActor",
    "ask",
    "ask_when_room",
    "start_actor",
    "tell_when_room",
]

log = structlog.get_logger(__name__)

CLEANUP_S = 1.0
"""What `on_failure` may take. It is shielded, as a crash must be seen even while all is being cancelled."""


class TrioActor(AddressedActor):
    """An actor that runs in a task.

    1.  It is made; whoever runs it may give it an address.
    2.  `run` opens its `nursery`, then awaits `on_start`. A failure until here is `run`'s, plainly.
    3.  `on_receive` is awaited for each message, one after the other, and `on_batch` after each run of
        messages. What it raises goes to the asker; if nobody asked, it ends the actor, as does what its
        nursery raises.
    4.  Told to stop, it handles what came before, awaits `on_stop`, and cancels its nursery.
    5.  If it crashed instead, its nursery is cancelled, `on_failure` is awaited, and `run` raises what it
        died of. If it was cancelled, neither hook runs: what must be undone stands in a `finally`.
    """

    batch_messages: ClassVar[int] = 64
    """At most this many messages are handled between two checkpoints of the actor's loop."""

    nursery: trio.Nursery
    """Where the actor's own tasks live; open from before `on_start` until after `on_stop`."""

    # The hooks are awaited. `Any` says so for subclasses, whose hooks are `async def`.

    def on_start(self) -> Any:
        """Set up; the actor is ready when this has returned."""
        return _nothing()

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what is returned answers a question."""
        super().on_receive(message)
        return _nothing()

    async def on_batch(self) -> None:
        """Flush: the inbox is empty, or `batch_messages` were handled."""

    def on_stop(self) -> Any:
        """Clean up after the last message of an orderly life."""
        return _nothing()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002 — for subclasses
        exception_value: BaseException | None,  # noqa: ARG002
        traceback: TracebackType | None,  # noqa: ARG002
        /,
    ) -> Any:
        """Clean up after a crash, within `CLEANUP_S`."""
        return _nothing()

    def stack(self) -> str:
        """Where its task stands, the innermost call last. To be asked by another task of its loop."""
        return "".join(traceback.StackSummary.extract(self._task.iter_await_frames()).format())

    async def run(self, *, task_status: trio.TaskStatus[Address[Any]] = trio.TASK_STATUS_IGNORED) -> None:
        """Live, from `on_start` to the end; `started` gives the address when `on_start` has returned.

        Raises:
            BaseException: what the actor died of; plain, unless several tasks of it failed together.

        """
        self._ready = False
        self._task = trio.lowlevel.current_task()
        self._stopped_by: Envelope[Any] | None = None
        pykka.ActorRegistry.register(self._actor_ref)
        try:
            failure = await self._live(task_status)
            if failure is not None:
                if self._ready:
                    await self._clean_up_after(failure)
                raise failure
        finally:
            failure = None  # a traceback that holds this frame would keep the actor alive
            self._leave(self._stopped_by)

    async def _live(self, task_status: trio.TaskStatus[Address[Any]]) -> BaseException | None:
        """Live and return what ended it; None after a request to stop."""
        try:
            async with trio.open_nursery() as self.nursery:
                await self.on_start()
                self._ready = True
                task_status.started(self._actor_ref)
                self._stopped_by = await self._receive_until_stopped()
                await self.on_stop()
                self.nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if group.split(trio.Cancelled)[1] is None:
                raise
            # The nursery's own wrapping says nothing when one thing went wrong.
            return group.exceptions[0] if len(group.exceptions) == 1 else group
        return None

    async def _receive_until_stopped(self) -> Envelope[Any]:
        inbox, on_receive, batch_messages = self.actor_inbox, self.on_receive, self.batch_messages
        while True:
            await inbox.wait_message()
            handled = 0
            while handled < batch_messages and (envelope := inbox.take()) is not None:
                if isinstance(envelope.message, _ActorStop):
                    if handled:
                        await self.on_batch()
                    return envelope
                if envelope.reply_to is None:
                    await on_receive(envelope.message)
                elif isinstance(envelope.message, Ping):
                    reply(envelope, None)
                else:
                    await self._answer(envelope)
                handled += 1
            if handled:
                await self.on_batch()

    async def _answer(self, envelope: Envelope[Any]) -> None:
        try:
            answer = await self.on_receive(envelope.message)
        except Exception as error:  # whatever it is, it is the asker's
            reply_error(envelope, error)
        except BaseException:
            reply_dead(envelope, f"{self._actor_ref} ended while it was answering")
            raise
        else:
            reply(envelope, answer)

    async def _clean_up_after(self, failure: BaseException) -> None:
        with trio.move_on_after(CLEANUP_S, shield=True):
            try:
                await self.on_failure(type(failure), failure, failure.__traceback__)
            except Exception:
                log.exception("actor_cleanup_failed", actor=str(self._actor_ref))


async def start_actor(nursery: trio.Nursery, actor: TrioActor | WorkerActor) -> Address[Any]:
    """Run an actor without a supervisor; returns when it is ready. A crash is the nursery's.

    Raises:
        BaseException: what its `on_start` raised.

    """
    address: Address[Any] = await nursery.start(actor.run)
    return address


async def _nothing() -> None:
    """What a hook awaits that nobody has written."""
