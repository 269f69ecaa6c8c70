"""How both kinds of actor are reached: the address, the reply that can be awaited, and what to say to them.

pykka's words are kept: an `Address` is a `pykka.ActorRef`, a `TrioFuture` a `pykka.ThreadingFuture`. What is
new is that an address may outlive its actor, and that nothing here can block the event loop. How an actor
runs is not here.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast

import pykka
import trio
from pykka._envelope import Envelope
from pykka._types import OptExcInfo

from aurexd.actors.inbox import DEFAULT_CAPACITY, Inbox, reply
from aurexd.actors.messages import Ask
from aurexd.errors import InboxFullError

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A", bound=pykka.Actor)


class _NotReadyError(RuntimeError):
    """A result was wanted on the loop's thread before it was there."""

    def __init__(self, future: TrioFuture[Any]) -> None:
        super().__init__(
            "the result is not there yet, and waiting for it would stop the event loop: await it"
        )
        self.future = future


class TrioFuture(pykka.ThreadingFuture[T]):
    """pykka's future; set it from any thread, await it on the loop, or `get()` it in a thread.

    An awaiter that is cancelled leaves nothing behind, and a result may come after the loop has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._awaiters: dict[trio.Event, trio.lowlevel.TrioToken] = {}

    def get(self, *, timeout: float | None = None) -> Any:
        """The result; blocks until it is there.

        Raises:
            RuntimeError: called on the loop's thread too early.
            pykka.Timeout: the result did not come in time.
            Exception: the result is an exception.

        """
        if self._result is None and self._get_hook is None and trio.lowlevel.in_trio_run():
            raise _NotReadyError(self)
        return super().get(timeout=timeout)

    def set(self, value: Any = None) -> None:
        """Give the result. A second one raises `queue.Full`, as in pykka."""
        with self._condition:
            super().set(value)
        self._wake_awaiters()

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Give an exception as the result: this one, or the one being handled."""
        with self._condition:
            super().set_exception(exc_info)
        self._wake_awaiters()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait_result().__await__()

    __iter__ = __await__

    async def _wait_result(self) -> T:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                result: T = self.get()
            except _NotReadyError as error:
                # A future that is made of others (`stop`, `map`, `join`) says which of them it misses.
                missing = error.future
            else:
                return result
            await missing._wait_ready()  # noqa: SLF001 — another instance of this class

    async def _wait_ready(self) -> None:
        ready = trio.Event()
        with self._condition:
            if self._result is not None:
                return
            self._awaiters[ready] = trio.lowlevel.current_trio_token()
        try:
            await ready.wait()
        finally:
            self._awaiters.pop(ready, None)

    def _wake_awaiters(self) -> None:
        for ready, token in list(self._awaiters.items()):
            if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is token:
                ready.set()
            else:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(ready.set)


class Address(pykka.ActorRef[A]):
    """Where an actor is told and asked: an `ActorRef` whose inbox and URN may outlive the actor.

    Told while a supervisor restarts the actor, a message waits for the next incarnation. Closed, it raises
    `ActorDeadError`.
    """

    actor_inbox: Inbox

    def __init__(self, name: str, inbox: Inbox) -> None:
        # Not pykka's: it wants the actor, and there may be none yet.
        self.name = name
        self.actor_class = cast("type[A]", AddressedActor)
        self.actor_urn = uuid.uuid4().urn
        self.actor_inbox = inbox
        self.actor_stopped = threading.Event()

    def __str__(self) -> str:
        return f"{self.name} ({self.actor_urn})"

    def tell(self, message: Any) -> None:
        """Send a message; neither blocks nor waits.

        Raises:
            InboxFullError: the inbox is full.
            pykka.ActorDeadError: the actor ended, or was given up.

        """
        self.actor_inbox.put(Envelope(message))

    def proxy(self) -> NoReturn:
        """Not offered: what an actor understands is a message."""
        raise NotImplementedError(f"{self} has no proxy: tell or ask it one of aurexd.actors.messages")

    def close(self, reason: str) -> None:
        """Nobody lives here any more: answer what waits, and whoever comes, with `ActorDeadError(reason)`."""
        self.actor_stopped.set()
        self.actor_inbox.close(reason)

    def reopen(self) -> None:
        """Somebody is to live here again."""
        self.actor_stopped.clear()
        self.actor_inbox.reopen()


if TYPE_CHECKING:

    class _PykkaActor:
        """`pykka.Actor` as the type checker is to see it: with hooks that may also be coroutine functions."""

        actor_urn: str
        actor_stopped: threading.Event
        actor_ref: Address[Any]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def stop(self) -> None: ...

        def on_receive(self, message: Any) -> Any: ...

else:
    _PykkaActor = pykka.Actor


class AddressedActor(_PykkaActor):
    """What pykka's Trio unit and its threading unit have in common here."""

    inbox_capacity: ClassVar[int] = DEFAULT_CAPACITY
    """Messages that may wait; the next one raises `InboxFullError` where it is told."""

    actor_inbox: Inbox
    _actor_ref: Address[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owns_address = False
        self.move_to(Address(type(self).__name__, self.actor_inbox))
        self._owns_address = True

    def move_to(self, address: Address[Any]) -> None:
        """Live at an address that is its supervisor's; before `run`."""
        self.actor_urn = address.actor_urn
        self.actor_inbox = address.actor_inbox
        self._actor_ref = address
        self._owns_address = False
        address.actor_class = type(self)
        address.actor_inbox.capacity = self.inbox_capacity

    @classmethod
    def start(cls, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Not offered: an actor runs in a nursery."""
        raise TypeError(
            f"{cls.__name__} runs in a nursery: use `await start_actor(nursery, {cls.__name__}(...))`"
        )

    def _start_actor_loop(self) -> NoReturn:
        self.start()

    @classmethod
    def _create_actor_inbox(cls) -> Inbox:
        return Inbox(cls.__name__, cls.inbox_capacity)

    @staticmethod
    def _create_future() -> TrioFuture[Any]:
        return TrioFuture()

    def _leave(self, stopped_by: Envelope[Any] | None) -> None:
        """End the life: nobody asks in vain. `stopped_by` is the request that ended it, if one did."""
        pykka.ActorRegistry.unregister(self._actor_ref)
        self.actor_stopped.set()
        if stopped_by is not None:
            reply(stopped_by, None)
            self.actor_inbox.answer_stops()
        if self._owns_address:
            self._actor_ref.close(f"{self._actor_ref} has ended")


async def ask(ref: pykka.ActorRef[Any], question: Ask[R], *, timeout_s: float = 5.0) -> R:
    """Ask an actor of either kind and wait for its answer.

    Raises:
        trio.TooSlowError: no answer within `timeout_s`.
        InboxFullError: its inbox is full.
        pykka.ActorDeadError: it ended, or was given up, before it answered.
        Exception: what the actor raised when it was asked.

    """
    with trio.move_on_after(timeout_s):
        answer: R = await ref.ask(question, block=False)
        return answer
    raise trio.TooSlowError(f"{ref} did not answer {type(question).__name__} within {timeout_s:g} s")


async def ask_when_room(ref: pykka.ActorRef[Any], question: Ask[R], *, timeout_s: float = 5.0) -> R:
    """The same, but wait in line while its inbox is full: a busy actor is not a dead one.

    Raises:
        trio.TooSlowError: no answer within `timeout_s`.
        pykka.ActorDeadError: it ended, or was given up, before it answered.
        Exception: what the actor raised when it was asked.

    """
    with trio.move_on_after(timeout_s):
        while True:
            try:
                return await ask(ref, question, timeout_s=timeout_s)
            except InboxFullError:
                await cast("Inbox", ref.actor_inbox).wait_room()
    raise trio.TooSlowError(f"{ref} did not answer {type(question).__name__} within {timeout_s:g} s")


async def tell_when_room(ref: pykka.ActorRef[Any], message: Any) -> None:
    """Tell an actor of either kind, waiting while its inbox is full. Cancelled, it has told nothing.

    Raises:
        pykka.ActorDeadError: it ended, or was given up.

    """
    await trio.lowlevel.checkpoint_if_cancelled()
    while True:
        try:
            ref.tell(message)
        except InboxFullError:
            await cast("Inbox", ref.actor_inbox).wait_room()
        else:
            break
    await trio.lowlevel.cancel_shielded_checkpoint()
