"""An actor's bounded inbox: filled from any thread, emptied by one task or one thread. It knows no actor.

It belongs to an actor's address, not to the actor: what waits in it survives a restart.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pykka
import trio
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from aurexd.errors import InboxFullError

DEFAULT_CAPACITY = 1024


class InboxStatistics(NamedTuple):
    """How full an inbox is, in messages."""

    depth: int
    peak: int
    """The greatest depth there ever was."""
    capacity: int


class Inbox:
    """Messages in the order they came. `put` never blocks: on the loop and in a thread, a full inbox raises.

    A request to stop is let in even when the inbox is full.
    """

    def __init__(self, owner: str, capacity: int = DEFAULT_CAPACITY) -> None:
        self.capacity = capacity
        self._owner = owner
        self._envelopes: deque[Envelope[Any]] = deque()
        self._peak = 0
        self._closed_because: str | None = None
        self._lock = threading.Lock()
        # A reading thread sleeps on `_arrived`; a reading task is `_sleeper`, and is woken on its loop.
        self._arrived = threading.Condition(self._lock)
        self._thread_sleeps = False
        self._sleeper: trio.lowlevel.Task | None = None
        self._room: trio.Event | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._loop_thread = 0

    def __repr__(self) -> str:
        return f"<Inbox of {self._owner}: {len(self._envelopes)} of {self.capacity}>"

    # --- from any thread ---

    def put(self, envelope: Envelope[Any], /) -> None:
        """Append an envelope.

        Raises:
            InboxFullError: there is no room.
            pykka.ActorDeadError: nobody will ever read it.

        """
        with self._lock:
            if self._closed_because is not None:
                raise pykka.ActorDeadError(self._closed_because)
            depth = len(self._envelopes)
            if depth >= self.capacity and not isinstance(envelope.message, _ActorStop):
                raise InboxFullError(
                    f"{self._owner}: its inbox is full, {depth} messages wait: tell it less, or wait for room"
                )
            self._envelopes.append(envelope)
            if depth >= self._peak:
                self._peak = depth + 1
            if self._thread_sleeps:
                self._arrived.notify_all()
        # Without the lock: a reader looks into the inbox once more after it has become the sleeper.
        if self._sleeper is not None:
            self._on_loop(self._wake_sleeper)

    def empty(self) -> bool:
        """Is nothing waiting?"""
        return not self._envelopes

    def waiting(self, kind: type) -> int:
        """How many messages of a kind wait."""
        with self._lock:
            return sum(isinstance(envelope.message, kind) for envelope in self._envelopes)

    def statistics(self) -> InboxStatistics:
        """How full it is."""
        return InboxStatistics(len(self._envelopes), self._peak, self.capacity)

    # --- by the one reading task ---

    async def wait_message(self) -> None:
        """Wait until something may be waiting; may return early. Always a checkpoint."""
        self._bind()
        if self._envelopes:
            await trio.lowlevel.checkpoint()
            return
        self._sleeper = trio.lowlevel.current_task()
        if self._envelopes:
            self._sleeper = None
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.wait_task_rescheduled(self._abort_sleep)

    def take(self) -> Envelope[Any] | None:
        """The next envelope, or None when nothing waits."""
        if not self._envelopes:
            return None
        envelope = self._envelopes.popleft()
        if self._room is not None:
            self._announce_room()
        return envelope

    # --- by the one reading thread ---

    def get(self) -> Envelope[Any]:
        """The next envelope; blocks the calling thread until there is one."""
        envelope = self.get_until(threading.Event())
        assert envelope is not None
        return envelope

    def get_until(self, stopped: threading.Event) -> Envelope[Any] | None:
        """The next envelope; None as soon as `stopped` is set and `interrupt` called, whatever waits."""
        with self._lock:
            while not stopped.is_set() and not self._envelopes:
                self._thread_sleeps = True
                self._arrived.wait()
                self._thread_sleeps = False
            if stopped.is_set():
                return None
            envelope = self._envelopes.popleft()
        if self._room is not None:
            self._announce_room()
        return envelope

    def interrupt(self) -> None:
        """Have the reading thread look at its `stopped`."""
        with self._lock:
            self._arrived.notify_all()

    # --- on the loop ---

    async def wait_room(self) -> None:
        """Wait until the inbox has room, or is closed. Another may be quicker to take it."""
        self._bind()
        with self._lock:
            full = self._closed_because is None and len(self._envelopes) >= self.capacity
            if full and self._room is None:
                self._room = trio.Event()
            room = self._room
        if full and room is not None:
            await room.wait()
        else:
            await trio.lowlevel.checkpoint()

    def close(self, reason: str) -> None:
        """Let nothing in any more, and answer what waits with `ActorDeadError(reason)`."""
        with self._lock:
            if self._closed_because is not None:
                return
            self._closed_because = reason
            left = list(self._envelopes)
            self._envelopes.clear()
        for envelope in left:
            if isinstance(envelope.message, _ActorStop):
                reply(envelope, None)
            else:
                reply_dead(envelope, reason)
        if self._room is not None:
            self._announce_room()

    def reopen(self) -> None:
        """Let messages in again."""
        self._closed_because = None

    def answer_stops(self) -> None:
        """Take out every waiting request to stop: what they asked for has happened."""
        with self._lock:
            stops = [envelope for envelope in self._envelopes if isinstance(envelope.message, _ActorStop)]
            if stops:
                others = [e for e in self._envelopes if not isinstance(e.message, _ActorStop)]
                self._envelopes.clear()
                self._envelopes.extend(others)
        for envelope in stops:
            reply(envelope, None)

    # --- waking ---

    def _bind(self) -> None:
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
            self._loop_thread = threading.get_ident()

    def _on_loop(self, function: Callable[[], None]) -> None:
        if threading.get_ident() == self._loop_thread:
            function()
        elif self._token is not None:
            try:
                self._token.run_sync_soon(function, idempotent=True)
            except trio.RunFinishedError:
                raise pykka.ActorDeadError(f"{self._owner}: its event loop has ended") from None

    def _wake_sleeper(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper)

    def _abort_sleep(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _announce_room(self) -> None:
        with contextlib.suppress(pykka.ActorDeadError):  # the loop has ended, and with it whoever waited
            self._on_loop(self._wake_waiters_for_room)

    def _wake_waiters_for_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set()


def reply(envelope: Envelope[Any], value: object) -> None:
    """Answer, if an answer is wanted and was not given yet."""
    if envelope.reply_to is not None:
        with contextlib.suppress(queue.Full):  # pykka's word for: there is an answer already
            envelope.reply_to.set(value)


def reply_error(envelope: Envelope[Any], error: BaseException) -> None:
    """Answer with an exception, if an answer is wanted and was not given yet."""
    if envelope.reply_to is not None:
        with contextlib.suppress(queue.Full):
            envelope.reply_to.set_exception((type(error), error, error.__traceback__))


def reply_dead(envelope: Envelope[Any], reason: str) -> None:
    """Answer that nobody will."""
    reply_error(envelope, pykka.ActorDeadError(reason))
