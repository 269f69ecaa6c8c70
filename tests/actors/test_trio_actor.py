"""The two kinds of actor keep pykka's words, never block the loop, and leave nobody waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
import trio
from pykka._envelope import Envelope
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from aurexd.actors.messages import Ask
from aurexd.actors.trio_actor import (
    TrioActor,
    TrioFuture,
    WorkerActor,
    ask,
    start_actor,
    tell_when_room,
)
from aurexd.errors import InboxFullError


class Say(Ask[str], frozen=True):
    """Answered with the same words."""

    words: str


class Fail(Ask[None], frozen=True):
    """Answered with a `ValueError`; told, it is what the actor dies of."""


class Exit(Ask[None], frozen=True):
    """Raises SystemExit."""


class Wait(Ask[str], frozen=True):
    """Answered when `gate` opens."""


class Calls:
    """What an actor's hooks saw, in order; read from any thread."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.gate = threading.Event()

    def handle(self, message: Any) -> Any:
        match message:
            case Say(words=words):
                return words
            case Fail():
                raise ValueError("told to fail")
            case Exit():
                raise SystemExit(3)
            case _:
                self.seen.append(message)
                return None


class Task(TrioActor):
    """The actor under test, as a task."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls
        self.opened = trio.Event()

    async def on_start(self) -> None:
        self.calls.seen.append("start")

    async def on_receive(self, message: Any) -> Any:
        if isinstance(message, Wait):
            await self.opened.wait()
            return "opened"
        return self.calls.handle(message)

    async def on_stop(self) -> None:
        self.calls.seen.append("stop")

    async def on_failure(self, *error: Any) -> None:
        self.calls.seen.append(("failure", repr(error[1])))


class Worker(WorkerActor):
    """The same, as a thread."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def on_start(self) -> None:
        self.calls.seen.append("start")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Wait):
            assert self.calls.gate.wait(5)
            return "opened"
        return self.calls.handle(message)

    def on_stop(self) -> None:
        self.calls.seen.append("stop")

    def on_failure(self, _type: object, exception_value: BaseException | None, _traceback: object) -> None:
        self.calls.seen.append(("failure", repr(exception_value)))


class DaemonWorker(Worker):
    use_daemon_thread = True


Make = Callable[[Calls], Task | Worker]


@pytest.fixture(params=[Task, Worker])
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    threads = set(threading.enumerate())
    yield
    assert pykka.ActorRegistry.get_all() == []
    # Trio's own threads stay for a while, in case they are wanted again.
    left = [t for t in threading.enumerate() if t not in threads and not t.name.startswith("Trio thread")]
    assert left == []


@pytest.fixture(autouse=True)
async def _deadline(nursery: trio.Nursery) -> None:
    async def expire() -> None:
        await trio.sleep(20)
        raise TimeoutError("the test hangs")

    nursery.start_soon(expire)


async def until_taken(actor: TrioActor | WorkerActor, *, left: int = 0) -> None:
    """Wait until the actor has taken all but `left` messages."""
    while actor.actor_inbox.statistics().depth > left:
        await trio.sleep(0.001)


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def run_until_dead(actor: TrioActor | WorkerActor) -> BaseException | None:
    try:
        await actor.run()
    except BaseException as error:
        if isinstance(error, trio.Cancelled):
            raise
        return error
    return None


# --- pykka's words (its tests/test_ref.py), for both kinds ---


async def test_a_ref_names_its_class_and_urn(make: Make, calls: Calls, nursery: trio.Nursery) -> None:
    actor = make(calls)
    ref = await start_actor(nursery, actor)
    assert repr(ref) == f"<ActorRef for {ref}>"
    assert type(actor).__name__ in str(ref)
    assert ref.actor_urn in str(ref)
    assert ref.actor_class is type(actor)
    assert actor.actor_ref is ref
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
    await ref.stop(block=False)


async def test_stop_returns_true_when_it_stopped_and_false_when_it_was_dead(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    assert ref.is_alive()
    assert await ref.stop(block=False)
    assert not ref.is_alive()
    assert not await ref.stop(block=False)
    assert calls.seen == ["start", "stop"]


async def test_everyone_who_asks_for_the_stop_learns_of_it(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    stops = [ref.stop(block=False) for _ in range(3)]
    assert [await stop for stop in stops] == [True, True, True]


async def test_stop_from_a_thread_blocks_until_it_has_happened(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    assert await trio.to_thread.run_sync(ref.stop)
    assert not await trio.to_thread.run_sync(ref.stop)
    assert calls.seen == ["start", "stop"]


async def test_an_actor_can_stop_itself(make: Make, calls: Calls, nursery: trio.Nursery) -> None:
    actor = make(calls)
    ref = await start_actor(nursery, actor)
    actor.stop()
    assert await ref.stop(block=False)


async def test_tell_delivers_in_order(make: Make, calls: Calls, nursery: trio.Nursery) -> None:
    ref = await start_actor(nursery, make(calls))
    for number in range(200):
        ref.tell(number)
    await ref.stop(block=False)
    assert calls.seen == ["start", *range(200), "stop"]


async def test_tell_to_a_dead_actor_raises(make: Make, calls: Calls, nursery: trio.Nursery) -> None:
    ref = await start_actor(nursery, make(calls))
    await ref.stop(block=False)
    with pytest.raises(pykka.ActorDeadError, match="has ended"):
        ref.tell("anything")
    with pytest.raises(pykka.ActorDeadError):
        await tell_when_room(ref, "anything")


async def test_ask_is_awaited_on_the_loop_and_blocks_in_a_thread(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    assert await ask(ref, Say(words="gold")) == "gold"
    assert await ref.ask(Say(words="gold"), block=False) == "gold"
    assert await trio.to_thread.run_sync(ref.ask, Say(words="silver")) == "silver"
    await ref.stop(block=False)


async def test_ask_that_blocks_the_loop_raises_instead(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    with pytest.raises(RuntimeError, match="await it"):
        ref.ask(Wait())
    with pytest.raises(RuntimeError, match="await it"):
        ref.ask(Wait(), timeout=0.1)
    with pytest.raises(RuntimeError, match="await it"):
        ref.stop()
    calls.gate.set()
    nursery.cancel_scope.cancel()


async def test_ask_of_a_dead_actor_raises_through_the_future(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    await ref.stop(block=False)
    future = ref.ask(Say(words="gold"), block=False)
    with pytest.raises(pykka.ActorDeadError):
        await future
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(Say(words="gold"))  # known at once: nothing blocks
    with pytest.raises(pykka.ActorDeadError):
        await ask(ref, Say(words="gold"))


async def test_what_an_ask_raises_goes_to_the_asker_and_the_actor_lives_on(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    with pytest.raises(ValueError, match="told to fail"):
        await ask(ref, Fail())
    assert await ask(ref, Say(words="still here")) == "still here"
    await ref.stop(block=False)
    assert calls.seen == ["start", "stop"]


async def test_a_blocked_ask_in_a_thread_times_out(make: Make, calls: Calls, nursery: trio.Nursery) -> None:
    ref = await start_actor(nursery, make(calls))
    with pytest.raises(pykka.Timeout):
        await trio.to_thread.run_sync(lambda: ref.ask(Wait(), timeout=0.01))
    calls.gate.set()
    nursery.cancel_scope.cancel()


async def test_an_awaited_ask_times_out_and_says_what_was_asked(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    ref = await start_actor(nursery, make(calls))
    with pytest.raises(trio.TooSlowError, match=r"did not answer Wait within 0\.01 s"):
        await ask(ref, Wait(), timeout_s=0.01)
    calls.gate.set()
    nursery.cancel_scope.cancel()


async def test_messages_before_a_stop_are_handled_and_questions_after_it_answered_with_dead(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    actor = make(calls)
    for number in range(100):
        actor.actor_ref.tell(number)
    actor.stop()
    late = actor.actor_ref.ask(Say(words="too late"), block=False)
    actor.actor_ref.tell("too late as well")
    await actor.run()
    assert calls.seen == ["start", *range(100), "stop"]
    with pytest.raises(pykka.ActorDeadError, match="has ended"):
        await late


async def test_proxies_and_pykkas_own_start_say_what_to_use_instead(make: Make, calls: Calls) -> None:
    actor = make(calls)
    with pytest.raises(TypeError, match="start_actor"):
        type(actor).start(calls)
    with pytest.raises(NotImplementedError, match="messages"):
        actor.actor_ref.proxy()


async def test_an_actor_needs_no_hooks(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    for actor in (TrioActor(), WorkerActor()):
        ref = await start_actor(nursery, actor)
        assert await ask(ref, Say(words="anyone?")) is None
        assert "Unexpected message" in caplog.text
        caplog.clear()
        ref.tell(Say(words="anyone?"))
        assert await ref.stop(block=False)


# --- life and death, for both kinds ---


async def test_a_failing_start_is_raised_plainly_where_it_is_awaited(
    calls: Calls, nursery: trio.Nursery
) -> None:
    class BadTask(Task):
        async def on_start(self) -> None:
            raise OSError("no such provider")

    class BadWorker(Worker):
        def on_start(self) -> None:
            raise OSError("no such file")

    actor: Task | Worker
    for actor in (BadTask(calls), BadWorker(calls)):
        question = actor.actor_ref.ask(Say(words="anyone?"), block=False)
        with pytest.raises(OSError, match="no such"):
            await start_actor(nursery, actor)
        with pytest.raises(pykka.ActorDeadError):
            await question
        assert not actor.actor_ref.is_alive()
    assert calls.seen == []


async def test_what_a_tell_raises_ends_the_actor_and_is_what_run_raises(make: Make, calls: Calls) -> None:
    actor = make(calls)
    actor.actor_ref.tell("before")
    actor.actor_ref.tell(Fail())
    actor.actor_ref.tell("after")
    waiting = [actor.actor_ref.ask(Say(words="after"), block=False) for _ in range(3)]
    with pytest.raises(ValueError, match="told to fail"):
        await actor.run()
    for question in waiting:
        with pytest.raises(pykka.ActorDeadError):
            await question
    assert calls.seen == ["start", "before", ("failure", "ValueError('told to fail')")]


async def test_system_exit_ends_one_actor_and_no_other(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    other = await start_actor(nursery, make(Calls()))
    actor = make(calls)
    question = actor.actor_ref.ask(Exit(), block=False)
    with pytest.raises(SystemExit):
        await actor.run()
    with pytest.raises(pykka.ActorDeadError, match="while it was answering"):
        await question
    assert calls.seen == ["start", ("failure", "SystemExit(3)")]
    assert await ask(other, Say(words="alive")) == "alive"
    await other.stop(block=False)


async def test_a_failing_on_failure_is_logged_and_does_not_hide_the_crash(calls: Calls) -> None:
    class BadTask(Task):
        async def on_failure(self, *_error: Any) -> None:
            raise RuntimeError("cleaning up failed too")

    class BadWorker(Worker):
        def on_failure(self, _type: object, _value: object, _traceback: object) -> None:
            raise RuntimeError("cleaning up failed too")

    actor: Task | Worker
    for actor in (BadTask(calls), BadWorker(calls)):
        actor.actor_ref.tell(Fail())
        with capture_logs() as logs:
            assert isinstance(await run_until_dead(actor), ValueError)
        assert [entry["event"] for entry in logs] == ["actor_cleanup_failed"]


async def test_a_cancelled_actor_answers_its_askers_with_dead(make: Make, calls: Calls) -> None:
    actor = make(calls)
    ref = actor.actor_ref

    async def open_gate_when_stopped() -> None:
        while not actor.actor_stopped.is_set():
            await trio.sleep(0.001)
        calls.gate.set()

    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        outer.start_soon(open_gate_when_stopped)
        await start_actor(nursery, actor)
        at_hand = ref.ask(Wait(), block=False)
        waiting = ref.ask(Say(words="anyone?"), block=False)
        await until_taken(actor, left=1)
        nursery.cancel_scope.cancel()
    if isinstance(actor, Task):
        with pytest.raises(pykka.ActorDeadError, match="while it was answering"):
            await at_hand
        assert calls.seen == ["start"]  # cancelled: no hook
    else:
        assert await at_hand == "opened"  # a thread cannot be cancelled within a message
        assert calls.seen == ["start", "stop"]
    with pytest.raises(pykka.ActorDeadError):
        await waiting


# --- the inbox, for both kinds ---


async def test_a_full_inbox_raises_at_once_on_the_loop_and_in_threads(make: Make, calls: Calls) -> None:
    actor = make(calls)
    ref = actor.actor_ref
    for number in range(1024):
        ref.tell(number)
    with pytest.raises(InboxFullError, match="1024 messages"):
        ref.tell("one too many")
    with pytest.raises(InboxFullError):
        ref.ask(Say(words="one too many"), block=False)
    with pytest.raises(InboxFullError):
        await ask(ref, Say(words="one too many"))
    with pytest.raises(InboxFullError):
        await trio.to_thread.run_sync(ref.tell, "one too many")
    stop = ref.stop(block=False)  # always gets in
    assert actor.actor_inbox.statistics() == (1025, 1025, 1024)
    assert repr(actor.actor_inbox).endswith(": 1025 of 1024>")
    await actor.run()
    assert await stop
    assert calls.seen == ["start", *range(1024), "stop"]
    assert actor.actor_inbox.statistics() == (0, 1025, 1024)


async def test_tell_when_room_waits_for_room_and_keeps_the_order(
    make: Make, calls: Calls, nursery: trio.Nursery
) -> None:
    actor = make(calls)
    actor.actor_inbox.capacity = 10
    total = 500

    async def feed() -> None:
        for number in range(total):
            await tell_when_room(actor.actor_ref, number)
        actor.stop()

    nursery.start_soon(feed)
    await wait_all_tasks_blocked()
    assert actor.actor_inbox.statistics().depth == 10
    await actor.run()
    assert calls.seen == ["start", *range(total), "stop"]
    assert actor.actor_inbox.statistics().peak <= 11


async def test_who_waits_for_room_learns_of_the_death_and_a_cancelled_wait_tells_nothing(
    make: Make, calls: Calls
) -> None:
    actor = make(calls)
    ref = actor.actor_ref
    actor.actor_inbox.capacity = 1
    ref.tell(Fail())
    with trio.move_on_after(0.01) as gave_up:
        await tell_when_room(ref, "given up")
    assert gave_up.cancelled_caught
    with trio.CancelScope() as cancelled:
        cancelled.cancel()
        await tell_when_room(ref, "never tried")
    refused: list[str] = []

    async def feed() -> None:
        with pytest.raises(pykka.ActorDeadError):
            await ref_full(ref)
        refused.append("dead")

    async def ref_full(ref: pykka.ActorRef[Any]) -> None:
        while True:
            await tell_when_room(ref, "more")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        await wait_all_tasks_blocked()
        assert isinstance(await run_until_dead(actor), ValueError)
    assert refused == ["dead"]
    assert "given up" not in calls.seen


# --- the task: batches, nursery, threads that tell it ---


class Batching(Task):
    batch_messages = 4

    async def on_batch(self) -> None:
        self.calls.seen.append("batch")


async def test_on_batch_follows_each_run_of_messages_and_nothing_else(
    calls: Calls, nursery: trio.Nursery
) -> None:
    actor = Batching(calls)
    for number in range(10):
        actor.actor_ref.tell(number)
    ref = await start_actor(nursery, actor)
    await wait_all_tasks_blocked()
    assert calls.seen == ["start", 0, 1, 2, 3, "batch", 4, 5, 6, 7, "batch", 8, 9, "batch"]
    calls.seen.clear()
    await ref.stop(block=False)
    assert calls.seen == ["stop"]


async def test_the_last_batch_is_flushed_before_the_stop(calls: Calls) -> None:
    actor = Batching(calls)
    actor.actor_ref.tell("last")
    actor.stop()
    await actor.run()
    assert calls.seen == ["start", "last", "batch", "stop"]


async def test_others_run_between_two_batches(calls: Calls, nursery: trio.Nursery) -> None:
    actor = Batching(calls)

    async def tick() -> None:
        while True:
            calls.seen.append("tick")
            await trio.lowlevel.checkpoint()

    for number in range(40):
        actor.actor_ref.tell(number)
    nursery.start_soon(tick)
    actor.stop()
    await actor.run()
    nursery.cancel_scope.cancel()
    runs = "".join("." if seen == "tick" else "x" if isinstance(seen, int) else "" for seen in calls.seen)
    # Trio may let one task run last in one of its rounds and first in the next.
    assert max(len(run) for run in runs.split(".")) <= 2 * Batching.batch_messages


async def test_the_nursery_is_open_from_on_start_until_after_on_stop(calls: Calls) -> None:
    class Parent(Task):
        async def on_start(self) -> None:
            self.nursery.start_soon(self.child)

        async def child(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                calls.seen.append("child cancelled")

    actor = Parent(calls)
    actor.stop()
    await actor.run()
    assert calls.seen == ["stop", "child cancelled"]


async def test_a_crash_in_the_nursery_is_the_actors(calls: Calls, nursery: trio.Nursery) -> None:
    class Parent(Task):
        async def on_start(self) -> None:
            self.nursery.start_soon(self.child)

        async def child(self) -> None:
            await wait_all_tasks_blocked()
            raise ConnectionError("lost")

    actor = Parent(calls)
    at_hand = actor.actor_ref.ask(Wait(), block=False)
    with pytest.raises(ConnectionError, match="lost"):
        await actor.run()
    with pytest.raises(pykka.ActorDeadError):
        await at_hand
    assert calls.seen == [("failure", "ConnectionError('lost')")]


async def test_two_crashes_at_once_are_both_told(calls: Calls) -> None:
    class Parent(Task):
        async def on_start(self) -> None:
            self.nursery.start_soon(self.fail, KeyError("one"))
            self.nursery.start_soon(self.fail, OSError("two"))

        async def fail(self, error: Exception) -> None:
            raise error

    error = await run_until_dead(Parent(calls))
    assert isinstance(error, ExceptionGroup)
    assert {type(each) for each in error.exceptions} == {KeyError, OSError}


async def test_a_crash_is_seen_even_when_everything_is_being_cancelled(calls: Calls) -> None:
    class Stubborn(Task):
        async def on_receive(self, _message: Any) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("while being cancelled")

        async def on_failure(self, *_error: Any) -> None:
            await trio.lowlevel.checkpoint()
            calls.seen.append("cleaned up")

    actor = Stubborn(calls)
    actor.actor_ref.tell("wait")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_blocked, scope)
            error = await run_until_dead(actor)
    assert isinstance(error, OSError)
    assert calls.seen == ["start", "cleaned up"]


async def test_tells_of_many_threads_all_arrive_each_threads_in_order(
    calls: Calls, nursery: trio.Nursery
) -> None:
    actor = Task(calls)
    actor.actor_inbox.capacity = 4 * 500
    ref = await start_actor(nursery, actor)

    def tell(thread: int) -> None:
        for number in range(500):
            ref.tell((thread, number))

    async with trio.open_nursery() as tellers:
        for thread in range(4):
            tellers.start_soon(trio.to_thread.run_sync, tell, thread)
    await ref.stop(block=False)
    told = [seen for seen in calls.seen if isinstance(seen, tuple)]
    assert sorted(told) == [(thread, number) for thread in range(4) for number in range(500)]
    for thread in range(4):
        assert [number for who, number in told if who == thread] == list(range(500))


async def test_a_bounded_inbox_stays_bounded_however_many_threads_push(calls: Calls) -> None:
    actor = Task(calls)
    actor.actor_inbox.capacity = 50
    refused = 0
    lock = threading.Lock()

    def push() -> None:
        nonlocal refused
        for number in range(100):
            try:
                actor.actor_ref.tell(number)
            except InboxFullError:
                with lock:
                    refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(trio.to_thread.run_sync, push)
    assert refused == 350
    assert actor.actor_inbox.statistics() == (50, 50, 50)


async def test_both_kinds_ask_and_tell_each_other(nursery: trio.Nursery) -> None:
    class Clerk(WorkerActor):
        """Answers a question by asking the task, from its thread."""

        def __init__(self, desk: pykka.ActorRef[Any]) -> None:
            super().__init__()
            self.desk = desk

        def on_receive(self, message: Any) -> Any:
            self.desk.tell("asked")
            return self.desk.ask(message, timeout=5)

    calls = Calls()
    desk = await start_actor(nursery, Task(calls))
    clerk = await start_actor(nursery, Clerk(desk))
    for number in range(50):
        assert await ask(clerk, Say(words=str(number))) == str(number)
    with pytest.raises(ValueError, match="told to fail"):
        await ask(clerk, Fail())
    await clerk.stop(block=False)
    await desk.stop(block=False)
    assert calls.seen == ["start", *["asked"] * 51, "stop"]


# --- the thread: what cannot be cancelled ---


async def test_a_thread_that_does_not_end_is_reported(calls: Calls) -> None:
    class Stuck(Worker):
        finish_s = 0.01

    actor = Stuck(calls)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await start_actor(nursery, actor)
            question = actor.actor_ref.ask(Wait(), block=False)
            await until_taken(actor)
            nursery.cancel_scope.cancel()
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [("worker_left_running", "error")]
        with pytest.raises(pykka.ActorDeadError, match="was stopped while it was answering"):
            await question
        calls.gate.set()
        await trio.to_thread.run_sync(actor._thread.join)
    assert logs[-1]["event"] == "worker_ended_late"
    assert calls.seen == ["start", "stop"]


async def test_a_daemon_thread_is_left_alone_at_once_and_takes_no_further_message(calls: Calls) -> None:
    actor = DaemonWorker(calls)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await start_actor(nursery, actor)
            question = actor.actor_ref.ask(Wait(), block=False)
            await until_taken(actor)
            actor.actor_ref.tell("never seen")
            nursery.cancel_scope.cancel()
        with pytest.raises(pykka.ActorDeadError, match="was stopped while it was answering"):
            await question
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("worker_left_running", "info")]
    with capture_logs():
        calls.gate.set()
        await trio.to_thread.run_sync(actor._thread.join)
    assert "never seen" not in calls.seen


async def test_a_thread_may_outlive_the_loop(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    unhandled: list[object] = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    actors: list[DaemonWorker] = []

    async def short_loop() -> None:
        actors.append(DaemonWorker(calls))
        async with trio.open_nursery() as nursery:
            ref = await start_actor(nursery, actors[0])
            ref.ask(Wait(), block=False)
            await until_taken(actors[0])
            nursery.cancel_scope.cancel()

    def run_and_outlive() -> None:
        trio.run(short_loop)
        calls.gate.set()
        actors[0]._thread.join(5)

    with capture_logs():
        await trio.to_thread.run_sync(run_and_outlive)
    assert unhandled == []
    assert not actors[0]._thread.is_alive()


async def test_a_thread_may_empty_an_inbox_after_the_loop_of_those_who_waited_for_room(calls: Calls) -> None:
    inbox = Worker(calls).actor_inbox
    inbox.capacity = 1
    inbox.put(Envelope("only"))

    async def wait_in_vain() -> None:
        with trio.move_on_after(0.001):
            await inbox.wait_room()

    await trio.to_thread.run_sync(trio.run, wait_in_vain)
    assert inbox.get().message == "only"


# --- the future ---


async def test_a_future_is_set_from_any_thread_and_read_as_often_as_wanted(nursery: trio.Nursery) -> None:
    future: TrioFuture[str] = TrioFuture()
    answers: list[str] = []

    async def read() -> None:
        answers.append(await future)

    nursery.start_soon(read)
    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    await trio.to_thread.run_sync(future.set, "gold")
    assert await future == "gold"
    assert future.get() == "gold"
    await wait_all_tasks_blocked()
    assert answers == ["gold", "gold"]
    with pytest.raises(queue.Full):
        future.set("again")


async def test_a_future_made_of_others_is_awaited_too() -> None:
    one: TrioFuture[Any] = TrioFuture()
    two: TrioFuture[Any] = TrioFuture()
    futures = [
        one.map(lambda x: x + 1),
        one.join(two),
        one.join(two).filter(lambda x: x > 1),
        one.join(two).reduce(lambda x, y: x + y, 0),
    ]
    results: dict[int, Any] = {}

    async def read(number: int) -> None:
        results[number] = await futures[number]

    async with trio.open_nursery() as nursery:
        for number in range(len(futures)):
            nursery.start_soon(read, number)
        await wait_all_tasks_blocked()
        one.set(1)
        await wait_all_tasks_blocked()
        assert results == {0: 2}
        two.set(2)
    assert results == {0: 2, 1: [1, 2], 2: [2], 3: 3}


async def test_a_cancelled_awaiter_leaves_nothing_behind() -> None:
    future: TrioFuture[str] = TrioFuture()
    with trio.move_on_after(0.001) as scope:
        await future
    assert scope.cancelled_caught
    assert future._awaiters == {}
    future.set("late")
    assert await future == "late"


async def test_awaiting_is_a_checkpoint_even_when_the_result_is_there() -> None:
    future: TrioFuture[None] = TrioFuture()
    future.set()
    with trio.testing.assert_checkpoints():
        await future
