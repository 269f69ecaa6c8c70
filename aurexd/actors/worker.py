"""pykka's threading unit, as the loop sees it: an actor for what blocks, with a thread of its own.

Its hooks are plain functions and run in the thread. Its start, its end and its replies are awaited on the
loop.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pykka
import structlog
import trio
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from aurexd.actors.address import Address, AddressedActor
from aurexd.actors.inbox import Inbox, reply, reply_dead, reply_error

log = structlog.get_logger(__name__)

_numbers = itertools.count()


class WorkerActor(AddressedActor, pykka.ThreadingActor):
    """An actor that runs in a thread; its life is a `TrioActor`'s, with hooks that may block.

    A thread cannot be cancelled. When `run` is, the thread is to end after the message at hand, with
    `on_stop`. A daemon thread (`use_daemon_thread`) is left to itself at once: it gets no further message,
    and its late answers reach nobody. Any other owns something worth waiting for, and gets `finish_s`.
    """

    # Both bases have them; ours are meant.
    actor_inbox: Inbox
    _actor_ref: Address[Any]

    finish_s: ClassVar[float] = 5.0
    """How long a cancelled `run` waits for a thread that is not a daemon: longer than any one transaction."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ready, self._ended = trio.Event(), trio.Event()
        self._started = False
        self._failure: BaseException | None = None
        self._at_hand: Envelope[Any] | None = None
        self._stopped_by: Envelope[Any] | None = None
        self._left_alone = False

    async def run(self, *, task_status: trio.TaskStatus[Address[Any]] = trio.TASK_STATUS_IGNORED) -> None:
        """Live, from `on_start` to the end; `started` gives the address when `on_start` has returned.

        Raises:
            BaseException: what the actor died of.

        """
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(
            target=self._actor_loop,
            name=f"{self._actor_ref.name}-{next(_numbers)}",
            daemon=self.use_daemon_thread,
        )
        pykka.ActorRegistry.register(self._actor_ref)
        try:
            self._thread.start()
            await self._watch_thread(task_status)
        finally:
            self._leave(self._stopped_by)
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame

    async def _watch_thread(self, task_status: trio.TaskStatus[Address[Any]]) -> None:
        try:
            await self._ready.wait()
            if self._started:
                task_status.started(self._actor_ref)
            await self._ended.wait()
        except trio.Cancelled:
            self.actor_stopped.set()
            self.actor_inbox.interrupt()
            if not self.use_daemon_thread:
                with trio.move_on_after(self.finish_s, shield=True):
                    await self._ended.wait()
            if not self._ended.is_set():
                self._leave_alone()
            elif self._failure is not None:
                log.error("worker_crashed", actor=str(self._actor_ref), exc_info=self._failure)
            raise
        finally:
            if self._ended.is_set():
                self._thread.join()  # no wait to speak of: saying so was the last thing it did

    def _leave_alone(self) -> None:
        self._left_alone = True
        if (at_hand := self._at_hand) is not None:
            reply_dead(at_hand, f"{self._actor_ref} was stopped while it was answering")
        report = log.info if self.use_daemon_thread else log.error
        report("worker_left_running", actor=str(self._actor_ref), thread=self._thread.name)

    # --- in the thread ---

    def _actor_loop(self) -> None:
        try:
            self.on_start()
            self._started = True
            self._on_loop(self._ready.set)
            try:
                self._receive_until_stopped()
                self.on_stop()
            except BaseException:
                self._clean_up_after(*sys.exc_info())
                raise
        except BaseException as error:  # `run` raises it where a supervisor sees it
            self._failure = error
        if self._left_alone:
            log.info("worker_ended_late", actor=str(self._actor_ref), exc_info=self._failure)
        self._on_loop(self._report_end)

    def _receive_until_stopped(self) -> None:
        while (envelope := self.actor_inbox.get_until(self.actor_stopped)) is not None:
            if isinstance(envelope.message, _ActorStop):
                self._stopped_by = envelope
                return
            if envelope.reply_to is None:
                self.on_receive(envelope.message)
            else:
                self._at_hand = envelope
                self._answer(envelope)
                self._at_hand = None

    def _answer(self, envelope: Envelope[Any]) -> None:
        try:
            answer = self.on_receive(envelope.message)
        except Exception as error:  # whatever it is, it is the asker's
            reply_error(envelope, error)
        except BaseException:
            reply_dead(envelope, f"{self._actor_ref} ended while it was answering")
            raise
        else:
            reply(envelope, answer)

    def _clean_up_after(self, *failure: Any) -> None:
        try:
            self.on_failure(*failure)
        except Exception:
            log.exception("actor_cleanup_failed", actor=str(self._actor_ref))

    def _report_end(self) -> None:
        self._ready.set()
        self._ended.set()

    def _on_loop(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # left alone until after the end of the loop
            self._token.run_sync_soon(function)
