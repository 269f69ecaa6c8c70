"""What a supervisor promises, one promise at a time; all together, against a model:
test_supervisor_model.py."""

from __future__ import annotations

import functools
import math
import random
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from aurexd.actors.messages import Ask
from aurexd.actors.supervisor import ChildSpec, ChildState, OnExhausted, Restart, Strategy, Supervisor
from aurexd.actors.trio_actor import TrioActor, WorkerActor, ask
from aurexd.backoff import Backoff
from aurexd.errors import InboxFullError, SupervisionError

OTHERS = ("first", "second", "third")


class Say(Ask[str], frozen=True):
    """Answered with the same words."""

    words: str


class Crash(Ask[None], frozen=True):
    """Told, it is what the actor dies of."""

    error: BaseException = ValueError("told to crash")


class Wait(Ask[str], frozen=True):
    """Handled for so long."""

    seconds: float


class Player(TrioActor):
    """Writes down its life, and does what it is told."""

    inbox_capacity = 5

    def __init__(
        self, name: str, seen: list[Any], *, fail_starts: int = 0, start_s: float = 0, stop_s: float = 0
    ):
        super().__init__()
        self.name = name
        self.seen = seen
        self.fail_starts = fail_starts
        self.start_s = start_s
        self.stop_s = stop_s

    async def on_start(self) -> None:
        self.seen.append(f"+{self.name}")
        if self.seen.count(f"+{self.name}") <= self.fail_starts:
            raise OSError("cannot start")
        await trio.sleep(self.start_s)

    async def on_receive(self, message: Any) -> Any:
        match message:
            case Say(words=words):
                return words
            case Crash(error=error):
                raise error
            case Wait(seconds=seconds):
                await trio.sleep(seconds)
        self.seen.append(message)
        return None

    async def on_stop(self) -> None:
        self.seen.append(f"-{self.name}")
        try:
            await trio.sleep(self.stop_s)
        except trio.Cancelled:
            self.seen.append(f"cut {self.name}")
            raise


def spec(name: str, seen: list[Any], *, restart: Restart = Restart.PERMANENT, **behaviour: Any) -> ChildSpec:
    return ChildSpec(name, functools.partial(Player, name, seen, **behaviour), restart=restart)


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    threads = set(threading.enumerate())
    yield
    assert pykka.ActorRegistry.get_all() == []
    left = [t for t in threading.enumerate() if t not in threads and not t.name.startswith("Trio thread")]
    assert left == []


@pytest.fixture(autouse=True)
async def _deadline(nursery: trio.Nursery) -> None:
    async def expire() -> None:
        await trio.sleep(10_000 if isinstance(trio.lowlevel.current_clock(), MockClock) else 20)
        raise TimeoutError("the test hangs")

    nursery.start_soon(expire)


async def outcome(supervisor: Supervisor) -> BaseException | None:
    try:
        await supervisor.run()
    except (Exception, SystemExit) as error:
        return error
    return None


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.name: child.state.value for child in supervisor.children()}


def delays(*, base_s: float) -> Backoff:
    return Backoff(floor_s=base_s, base_s=0.0, cap_s=0.0)


# --- start and stop ---


async def test_children_start_in_order_each_when_the_one_before_is_ready_and_stop_in_reverse(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec(name, seen, start_s=1, stop_s=1) for name in OTHERS])
    await nursery.start(supervisor.run)
    assert states(supervisor) == dict.fromkeys(OTHERS, "running")
    assert [child.since for child in supervisor.children()] == [1, 2, 3]
    supervisor.stop()
    await trio.sleep(1.5)
    assert states(supervisor) == {"first": "running", "second": "running", "third": "stopped"}
    await trio.sleep(2)
    assert states(supervisor) == dict.fromkeys(OTHERS, "stopped")
    assert seen == ["+first", "+second", "+third", "-third", "-second", "-first"]


async def test_a_failing_start_stops_those_before_it_and_is_raised_plainly(
    seen: list[Any], nursery: trio.Nursery
) -> None:
    specs = [
        spec("first", seen),
        spec("second", seen),
        spec("third", seen, fail_starts=1),
        spec("fourth", seen),
    ]
    supervisor = Supervisor("s", specs, intensity=5)
    question = supervisor.address("fourth").ask(Say(words="anyone?"), block=False)
    with pytest.raises(OSError, match="cannot start"):
        await nursery.start(supervisor.run)
    assert seen == ["+first", "+second", "+third", "-second", "-first"]
    with pytest.raises(pykka.ActorDeadError):
        await question


async def test_a_factory_that_fails_is_a_failing_start(seen: list[Any]) -> None:
    def broken() -> Player:
        raise TypeError("no such argument")

    supervisor = Supervisor("s", [spec("first", seen), ChildSpec("second", broken)])
    assert isinstance(await outcome(supervisor), TypeError)
    assert seen == ["+first", "-first"]


async def test_a_child_that_is_not_ready_in_time_has_failed(
    seen: list[Any], autojump_clock: MockClock
) -> None:
    slow = ChildSpec("slow", functools.partial(Player, "slow", seen, start_s=100), start_s=2)
    error = await outcome(Supervisor("s", [spec("first", seen), slow]))
    assert isinstance(error, SupervisionError)
    assert str(error) == "slow was not ready within 2 s"
    assert trio.current_time() == 2
    assert seen == ["+first", "+slow", "-first"]


async def test_a_stop_lets_each_child_handle_what_is_in_its_inbox(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)])
    await nursery.start(supervisor.run)
    address = supervisor.address("only")
    for number in range(3):
        address.tell(Wait(seconds=1))
        address.tell(number)
        await wait_all_tasks_blocked()
    supervisor.stop()
    await trio.sleep(4)
    assert [each for each in seen if isinstance(each, int)] == [0, 1, 2]
    assert seen[-1] == "-only"


async def test_a_child_that_takes_too_long_to_stop_is_cancelled(
    seen: list[Any], logs: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stuck = ChildSpec("stuck", functools.partial(Player, "stuck", seen, stop_s=100), shutdown_s=3)
    supervisor = Supervisor("s", [spec("first", seen), stuck])
    assert supervisor.shutdown_s == 3 + 5
    await nursery.start(supervisor.run)
    supervisor.stop()
    await trio.sleep(2.9)
    assert states(supervisor)["stuck"] == "running"
    await trio.sleep(0.2)
    assert seen == ["+first", "+stuck", "-stuck", "cut stuck", "-first"]
    assert "actor_stop_overdue" in [entry["event"] for entry in logs]


async def test_cancellation_stops_in_order_too(seen: list[Any], autojump_clock: MockClock) -> None:
    supervisor = Supervisor("s", [spec(name, seen, stop_s=1) for name in OTHERS])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.address("third").tell("last words")
        nursery.cancel_scope.cancel()
    assert seen == ["+first", "+second", "+third", "last words", "-third", "-second", "-first"]
    assert trio.current_time() == 3


async def test_cancellation_of_a_supervisor_that_stops_already_waits_for_no_inbox(
    seen: list[Any], autojump_clock: MockClock
) -> None:
    nested = Supervisor("nested", [spec("inner", seen, stop_s=100)])
    specs = [spec("outer", seen, stop_s=100), ChildSpec("nested", nested), spec("last", seen, stop_s=2)]
    supervisor = Supervisor("s", specs)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.stop()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 1
    assert seen == [
        "+outer",
        "+inner",
        "+last",
        "-last",
        "cut last",
        "-inner",
        "cut inner",
        "-outer",
        "cut outer",
    ]


async def test_a_stop_during_the_start_stops_what_has_started(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec(name, seen, start_s=1) for name in OTHERS])
    nursery.start_soon(supervisor.run)
    await trio.sleep(1.5)
    supervisor.stop()
    await trio.sleep(0.1)
    assert seen == ["+first", "+second", "-first"]
    assert states(supervisor) == dict.fromkeys(OTHERS, "stopped")


async def test_addresses_are_there_before_the_start_and_die_with_the_stop(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("first", seen, stop_s=1), spec("second", seen, stop_s=1)])
    address = supervisor.address("second")
    assert address.is_alive()
    address.tell("early")
    question = address.ask(Say(words="early"), block=False)
    await nursery.start(supervisor.run)
    assert await question == "early"
    assert supervisor.address("second") is address
    supervisor.stop()
    await trio.sleep(1.5)  # `first` is still stopping
    assert not address.is_alive()
    with pytest.raises(pykka.ActorDeadError, match="second was stopped"):
        address.tell("late")
    assert not await address.stop(block=False)
    await trio.sleep(1)
    assert seen == ["+first", "+second", "early", "-second", "-first"]


async def test_a_supervisor_says_what_it_does_not_know(seen: list[Any]) -> None:
    supervisor = Supervisor("core", [spec("first", seen), spec("second", seen)])
    with pytest.raises(LookupError, match="core supervises first, second, not third"):
        supervisor.address("third")
    with pytest.raises(LookupError):
        supervisor.restart_child("third")
    with pytest.raises(LookupError, match="core is a supervisor"):
        Supervisor("outer", [ChildSpec("core", supervisor)]).address("core")
    with pytest.raises(SupervisionError, match="core is not serving"):
        supervisor.restart_child("first")
    with pytest.raises(ValueError, match="different names"):
        Supervisor("core", [spec("first", seen), spec("first", seen)])
    with pytest.raises(ValueError, match="use one_for_one"):
        Supervisor("core", [], strategy=Strategy.REST_FOR_ONE, on_exhausted=OnExhausted.PARK)


# --- restarts ---


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        (Strategy.ONE_FOR_ONE, ["+second"]),
        (Strategy.REST_FOR_ONE, ["-third", "+second", "+third"]),
        (Strategy.ONE_FOR_ALL, ["-third", "-first", "+first", "+second", "+third"]),
    ],
)
async def test_a_crash_restarts_whom_the_strategy_says(
    strategy: Strategy, restarted: list[str], seen: list[Any], nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("s", [spec(name, seen) for name in OTHERS], strategy=strategy)
    await nursery.start(supervisor.run)
    seen.clear()
    supervisor.address("second").tell(Crash())
    await wait_all_tasks_blocked()
    assert seen == restarted
    assert states(supervisor) == dict.fromkeys(OTHERS, "running")
    supervisor.stop()


@pytest.mark.parametrize("restart", list(Restart))
@pytest.mark.parametrize("message", [Crash(), Crash(error=SystemExit(1)), None])
async def test_an_end_restarts_whom_its_kind_says(
    restart: Restart, message: Crash | None, seen: list[Any], nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("s", [spec("first", seen), spec("second", seen, restart=restart)], intensity=3)
    await nursery.start(supervisor.run)
    address = supervisor.address("second")
    if message is None:
        assert await address.stop(block=False)
    else:
        address.tell(message)
    await wait_all_tasks_blocked()
    expected = {
        (Restart.PERMANENT, True): ChildState.RUNNING,
        (Restart.PERMANENT, False): ChildState.RUNNING,
        (Restart.TRANSIENT, True): ChildState.FINISHED,
        (Restart.TRANSIENT, False): ChildState.RUNNING,
        (Restart.TEMPORARY, True): ChildState.FINISHED,
        (Restart.TEMPORARY, False): ChildState.STOPPED,
    }[restart, message is None]
    assert states(supervisor) == {"first": "running", "second": expected}
    assert address.is_alive() == (expected is ChildState.RUNNING)
    if expected is not ChildState.RUNNING:
        with pytest.raises(pykka.ActorDeadError):
            address.tell("anyone?")
    supervisor.stop()


async def test_a_temporary_sibling_is_stopped_but_not_restarted_and_a_finished_one_is_restarted(
    seen: list[Any], nursery: trio.Nursery
) -> None:
    specs = [
        spec("first", seen),
        spec("finished", seen, restart=Restart.TRANSIENT),
        spec("temporary", seen, restart=Restart.TEMPORARY),
    ]
    supervisor = Supervisor("s", specs, strategy=Strategy.REST_FOR_ONE)
    await nursery.start(supervisor.run)
    await supervisor.address("finished").stop(block=False)
    await wait_all_tasks_blocked()
    seen.clear()
    supervisor.address("first").tell(Crash())
    await wait_all_tasks_blocked()
    assert seen == ["-temporary", "+first", "+finished"]
    assert await ask(supervisor.address("finished"), Say(words="back")) == "back"
    with pytest.raises(pykka.ActorDeadError):
        await ask(supervisor.address("temporary"), Say(words="anyone?"))
    with pytest.raises(SupervisionError, match="it is temporary"):
        supervisor.restart_child("temporary")
    supervisor.stop()


async def test_what_waits_survives_the_restart_and_what_it_crashed_on_does_not(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)], backoff=delays(base_s=2), intensity=3)
    await nursery.start(supervisor.run)
    address = supervisor.address("only")
    urn = address.actor_urn
    address.tell(Crash())
    address.tell("waited in the inbox")
    waited = address.ask(Say(words="asked before"), block=False)
    await trio.sleep(1)
    assert states(supervisor) == {"only": "restarting"}
    assert address.is_alive()
    address.tell("told while it was down")
    with pytest.raises(trio.TooSlowError):
        await ask(address, Say(words="asked while it was down"), timeout_s=0.5)
    assert await ask(address, Say(words="asked with patience"), timeout_s=5) == "asked with patience"
    assert trio.current_time() == 2
    assert await waited == "asked before"
    assert seen == ["+only", "+only", "waited in the inbox", "told while it was down"]
    assert (supervisor.address("only"), address.actor_urn) == (address, urn)
    supervisor.stop()


async def test_the_inbox_is_as_large_as_the_actors_class_says_also_while_it_is_down(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)], backoff=delays(base_s=2))
    await nursery.start(supervisor.run)
    address = supervisor.address("only")
    address.tell(Crash())
    await wait_all_tasks_blocked()
    for number in range(5):
        address.tell(number)
    with pytest.raises(InboxFullError, match="only: its inbox is full, 5 messages wait"):
        address.tell(5)
    supervisor.stop()


async def test_restarts_wait_longer_and_longer_with_jitter(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    backoff = Backoff(floor_s=1, base_s=2, cap_s=6)
    supervisor = Supervisor(
        "s", [spec("only", seen)], intensity=9, period_s=1000, backoff=backoff, rng=random.Random(7)
    )
    await nursery.start(supervisor.run)
    rng = random.Random(7)
    for crashes in (1, 2, 3, 4):
        crashed_at = trio.current_time()
        supervisor.address("only").tell(Crash())
        await ask(supervisor.address("only"), Say(words="back?"), timeout_s=100)
        assert trio.current_time() - crashed_at == pytest.approx(backoff.delay(crashes, rng))
    supervisor.stop()


async def test_a_failing_restart_is_one_more_crash(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Weak(Player):
        async def on_start(self) -> None:
            self.seen.append("+only")
            if len(self.seen) in {2, 3}:
                raise OSError("cannot start")

    supervisor = Supervisor(
        "s",
        [ChildSpec("only", lambda: Weak("only", seen))],
        intensity=3,
        backoff=delays(base_s=1),
        period_s=10,
    )
    await nursery.start(supervisor.run)
    supervisor.address("only").tell(Crash())
    assert await ask(supervisor.address("only"), Say(words="back?"), timeout_s=100) == "back?"
    assert trio.current_time() == 3
    (child,) = supervisor.children()
    assert (child.restarts, child.last_error, child.since) == (3, "OSError: cannot start", 3)
    assert child.crashes == 3
    supervisor.stop()


async def test_a_crash_while_the_others_start_is_seen_to_when_all_have_started(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    specs = [spec(name, seen, start_s=1) for name in OTHERS]
    supervisor = Supervisor("s", specs, strategy=Strategy.REST_FOR_ONE, intensity=1)
    supervisor.address("first").tell(Crash())
    supervisor.address("second").tell(Crash())
    await nursery.start(supervisor.run)
    assert seen == ["+first", "+second", "+third"]
    await trio.sleep(10)
    # Two crashes, one restart: the first's took the second with it.
    assert seen == ["+first", "+second", "+third", "-third", "+first", "+second", "+third"]
    assert [child.restarts for child in supervisor.children()] == [1, 1, 1]
    supervisor.stop()


async def test_a_crash_during_a_restart_starts_it_over_without_forgetting_anyone(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    specs = [spec(name, seen, start_s=1) for name in OTHERS]
    supervisor = Supervisor("s", specs, strategy=Strategy.REST_FOR_ONE, intensity=5)
    await nursery.start(supervisor.run)
    supervisor.address("second").tell(Crash())
    await trio.sleep(1.5)
    assert seen[3:] == ["-third", "+second", "+third"]
    supervisor.address("second").tell(Crash())  # while the third starts
    await trio.sleep(0.5)
    assert seen[6:] == ["+second"]
    supervisor.address("first").tell(Crash())  # while the second starts
    await trio.sleep(10)
    assert seen[7:] == ["+first", "+second", "+third"]
    assert states(supervisor) == dict.fromkeys(OTHERS, "running")
    supervisor.stop()


async def test_a_restart_by_hand_takes_with_it_what_another_restart_has_not_brought_up_yet(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    specs = [spec(name, seen) for name in OTHERS]
    supervisor = Supervisor("s", specs, strategy=Strategy.REST_FOR_ONE, backoff=delays(base_s=100))
    await nursery.start(supervisor.run)
    supervisor.address("first").tell(Crash())
    await trio.sleep(1)
    assert states(supervisor) == dict.fromkeys(OTHERS, "restarting")
    supervisor.restart_child("third")
    await wait_all_tasks_blocked()
    assert states(supervisor) == dict.fromkeys(OTHERS, "running")
    assert seen[3:] == ["-third", "-second", "+first", "+second", "+third"]
    supervisor.stop()


async def test_what_fails_in_a_restart_that_was_called_off_is_not_counted(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Sulking(Player):
        async def on_start(self) -> None:
            try:
                await trio.sleep(1)
            finally:
                if trio.current_effective_deadline() == -math.inf:
                    raise OSError("cancelled while starting")

    sulking = ChildSpec("sulking", lambda: Sulking("sulking", seen))
    supervisor = Supervisor("s", [spec("first", seen), sulking], strategy=Strategy.ONE_FOR_ALL, intensity=2)
    await nursery.start(supervisor.run)
    for _ in range(2):
        supervisor.address("first").tell(Crash())
        await trio.sleep(0.5)
    await trio.sleep(5)
    assert states(supervisor) == {"first": "running", "sulking": "running"}
    assert supervisor.children()[1].last_error == "OSError: cancelled while starting"
    supervisor.stop()


async def test_a_request_to_stop_does_not_outlive_the_incarnation_it_was_meant_for(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor(
        "s", [spec(name, seen) for name in OTHERS], strategy=Strategy.REST_FOR_ONE, intensity=9
    )
    await nursery.start(supervisor.run)
    # The third crashes while its supervisor waits for it to stop.
    supervisor.address("third").tell(Wait(seconds=1))
    supervisor.address("third").tell(Crash())
    await wait_all_tasks_blocked()
    supervisor.address("second").tell(Crash())
    await trio.sleep(2)
    assert seen[3:] == [Wait(seconds=1), "+second", "+third"]
    # Stopped by three at once, it is restarted once.
    stops = [supervisor.address("third").stop(block=False) for _ in range(3)]
    assert [await stop for stop in stops] == [True, True, True]
    await wait_all_tasks_blocked()
    assert seen[6:] == ["-third", "+third"]
    supervisor.stop()


# --- the budget ---


async def test_a_spent_budget_stops_all_in_reverse_and_raises_with_the_last_crash_as_cause(
    seen: list[Any], logs: list[Any], nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("core", [spec(name, seen) for name in OTHERS], intensity=1, period_s=60)
    errors: list[BaseException | None] = []

    async def run() -> None:
        errors.append(await outcome(supervisor))

    nursery.start_soon(run)
    await wait_all_tasks_blocked()
    supervisor.address("first").tell(Crash())
    await wait_all_tasks_blocked()
    assert errors == []
    last = ValueError("the last straw")
    supervisor.address("second").tell(Crash(error=last))
    await wait_all_tasks_blocked()
    (error,) = errors
    assert isinstance(error, SupervisionError)
    assert str(error) == "core gave up: its children ended more than 1 times within 60 s, second last"
    assert error.__cause__ is last
    assert seen == ["+first", "+second", "+third", "+first", "-third", "-first"]
    assert "supervisor_gave_up" in [entry["event"] for entry in logs]
    with pytest.raises(pykka.ActorDeadError):
        supervisor.address("first").tell("anyone?")


async def test_the_budget_is_for_the_period_only(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("first", seen), spec("second", seen)], intensity=2, period_s=10)
    await nursery.start(supervisor.run)
    for number in range(20):
        supervisor.address(["first", "second"][number % 2]).tell(Crash())
        await trio.sleep(5.1)
    assert states(supervisor) == {"first": "running", "second": "running"}
    assert [child.restarts for child in supervisor.children()] == [10, 10]
    supervisor.stop()


async def test_parking_gives_up_on_one_child_and_leaves_the_others_their_budgets(
    seen: list[Any], logs: list[Any], nursery: trio.Nursery
) -> None:
    supervisor = Supervisor(
        "s", [spec("first", seen), spec("second", seen)], intensity=2, on_exhausted=OnExhausted.PARK
    )
    await nursery.start(supervisor.run)
    for name in ("first", "first", "second", "second", "first"):
        supervisor.address(name).tell(Crash())
        await wait_all_tasks_blocked()
    events = [(entry["event"], entry["actor"]) for entry in logs]
    assert events[-2:] == [("actor_crashed", "first"), ("actor_parked", "first")]
    assert events.count(("actor_restarting", "second")) == 2
    assert states(supervisor) == {"first": "parked", "second": "running"}
    assert supervisor.children()[0].last_error == "ValueError: told to crash"
    with pytest.raises(pykka.ActorDeadError, match="first was given up"):
        supervisor.address("first").tell("anyone?")
    assert await ask(supervisor.address("second"), Say(words="still here")) == "still here"
    supervisor.stop()
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"first": "parked", "second": "stopped"}


async def test_what_waits_for_a_child_that_is_given_up_is_answered_at_once(
    seen: list[Any], nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)], intensity=0, on_exhausted=OnExhausted.PARK)
    await nursery.start(supervisor.run)
    supervisor.address("only").tell(Crash())
    with pytest.raises(pykka.ActorDeadError, match="only was given up"):
        await ask(supervisor.address("only"), Say(words="anyone?"))
    supervisor.stop()


async def test_restart_child_brings_back_a_parked_child_with_a_fresh_budget(
    seen: list[Any], nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)], intensity=1, on_exhausted=OnExhausted.PARK)
    await nursery.start(supervisor.run)
    address = supervisor.address("only")
    for state in ("running", "parked"):
        address.tell(Crash())
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"only": state}
    supervisor.restart_child("only")
    await wait_all_tasks_blocked()
    assert await ask(address, Say(words="back")) == "back"
    address.tell(Crash())
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"only": "running"}
    supervisor.stop()


async def test_restart_child_restarts_a_running_child_in_order_and_cuts_a_delay_short(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)], backoff=delays(base_s=100))
    await nursery.start(supervisor.run)
    supervisor.restart_child("only")
    await wait_all_tasks_blocked()
    assert seen == ["+only", "-only", "+only"]
    supervisor.address("only").tell(Crash())
    await trio.sleep(1)
    supervisor.restart_child("only")
    await wait_all_tasks_blocked()
    assert seen == ["+only", "-only", "+only", "+only"]
    await trio.sleep(200)
    assert len(seen) == 4
    assert supervisor.children()[0].crashes == 1, "what somebody restarts has not crashed"
    supervisor.stop()


async def test_a_stop_ends_the_wait_for_a_restart(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor("s", [spec("only", seen)], backoff=delays(base_s=100))
    await nursery.start(supervisor.run)
    supervisor.address("only").tell(Crash())
    waiting = supervisor.address("only").ask(Say(words="anyone?"), block=False)
    await wait_all_tasks_blocked()
    supervisor.stop()
    with pytest.raises(pykka.ActorDeadError):
        await waiting
    assert trio.current_time() == 0
    assert seen == ["+only"]


async def test_the_log_tells_the_story(seen: list[Any], logs: list[Any], nursery: trio.Nursery) -> None:
    supervisor = Supervisor("core", [spec("only", seen)])
    await nursery.start(supervisor.run)
    supervisor.address("only").tell(Crash())
    await wait_all_tasks_blocked()
    supervisor.stop()
    await wait_all_tasks_blocked()
    assert isinstance(logs[1].pop("exc_info"), ValueError)
    assert logs == [
        {"event": "actor_started", "actor": "only", "restarts": 0, "log_level": "info"},
        {"event": "actor_crashed", "actor": "only", "log_level": "error"},
        {
            "event": "actor_restarting",
            "supervisor": "core",
            "actor": "only",
            "delay_s": 0.0,
            "log_level": "warning",
        },
        {"event": "actor_started", "actor": "only", "restarts": 1, "log_level": "info"},
        {"event": "actor_stopped", "actor": "only", "log_level": "info"},
    ]


# --- supervisors below supervisors ---


def nest(seen: list[Any], **inner: Any) -> tuple[Supervisor, Supervisor]:
    nested = Supervisor("nested", [spec("a", seen), spec("b", seen)], intensity=0, **inner)
    outer = Supervisor(
        "outer",
        [ChildSpec("nested", nested), spec("last", seen)],
        strategy=Strategy.REST_FOR_ONE,
        intensity=1,
    )
    return outer, nested


async def test_a_nested_supervisor_that_gives_up_is_restarted_and_its_addresses_live_on(
    seen: list[Any], nursery: trio.Nursery
) -> None:
    outer, nested = nest(seen)
    await nursery.start(outer.run)
    address = nested.address("b")
    nested.address("a").tell(Crash())
    address.tell("waits for both")
    await wait_all_tasks_blocked()
    assert seen == ["+a", "+b", "+last", "waits for both", "-b", "-last", "+a", "+b", "+last"]
    assert await ask(address, Say(words="back")) == "back"
    assert outer.children()[0].last_error == (
        "SupervisionError: nested gave up: its children ended more than 0 times within 5 s, a last"
    )
    outer.stop()


async def test_giving_up_goes_all_the_way_up(seen: list[Any], nursery: trio.Nursery) -> None:
    outer, nested = nest(seen)
    errors: list[BaseException | None] = []

    async def run() -> None:
        errors.append(await outcome(outer))

    nursery.start_soon(run)
    for _ in range(2):
        await wait_all_tasks_blocked()
        nested.address("a").tell(Crash())
    await wait_all_tasks_blocked()
    (error,) = errors
    assert isinstance(error, SupervisionError)
    assert isinstance(error.__cause__, SupervisionError)
    assert isinstance(error.__cause__.__cause__, ValueError)
    assert seen[-2:] == ["-b", "-last"]
    for name in ("a", "b"):
        with pytest.raises(pykka.ActorDeadError):
            nested.address(name).tell("anyone?")


async def test_a_parked_supervisors_addresses_are_dead_until_it_is_restarted(
    seen: list[Any], nursery: trio.Nursery
) -> None:
    nested = Supervisor("nested", [spec("a", seen), spec("b", seen)], intensity=0)
    outer = Supervisor("outer", [ChildSpec("nested", nested)], intensity=0, on_exhausted=OnExhausted.PARK)
    await nursery.start(outer.run)
    nested.address("a").tell(Crash())
    await wait_all_tasks_blocked()
    assert states(outer) == {"nested": "parked"}
    with pytest.raises(pykka.ActorDeadError):
        await ask(nested.address("b"), Say(words="anyone?"))
    outer.restart_child("nested")
    await wait_all_tasks_blocked()
    assert await ask(nested.address("b"), Say(words="back")) == "back"
    outer.stop()


async def test_a_nested_supervisor_closes_each_address_as_it_stops_for_good(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nested = Supervisor("nested", [spec("a", seen, stop_s=3), spec("b", seen)])
    outer = Supervisor("outer", [ChildSpec("nested", nested)])
    assert outer.shutdown_s == nested.shutdown_s == 10
    await nursery.start(outer.run)
    outer.stop()
    await trio.sleep(1)
    assert not nested.address("b").is_alive()
    assert nested.address("a").is_alive()


async def test_one_that_never_started_is_closed_as_well(seen: list[Any]) -> None:
    nested = Supervisor("nested", [spec("a", seen)])
    outer = Supervisor("outer", [spec("first", seen, fail_starts=1), ChildSpec("nested", nested)])
    question = nested.address("a").ask(Say(words="anyone?"), block=False)
    assert isinstance(await outcome(outer), OSError)
    with pytest.raises(pykka.ActorDeadError):
        await question


async def test_ctrl_c_is_nobodys_crash(seen: list[Any]) -> None:
    supervisor = Supervisor("s", [spec("first", seen), spec("second", seen)], intensity=9)
    supervisor.address("second").tell(Crash(error=KeyboardInterrupt()))
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await supervisor.run()
    assert not supervisor.address("first").is_alive()


# --- threads ---


class Machine(WorkerActor):
    """An actor that blocks; `gate` lets it go on."""

    finish_s = 0.05

    def __init__(self, seen: list[Any], gate: threading.Event) -> None:
        super().__init__()
        self.seen = seen
        self.gate = gate

    def on_start(self) -> None:
        self.seen.append("+machine")

    def on_receive(self, message: Any) -> Any:
        match message:
            case Say(words=words):
                return words
            case Crash(error=error):
                raise error
            case Wait():
                assert self.gate.wait(5)
        self.seen.append(message)
        return None

    def on_stop(self) -> None:
        self.seen.append("-machine")


class DaemonMachine(Machine):
    use_daemon_thread = True


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_thread_is_restarted_at_its_address_too(
    seen: list[Any], gate: threading.Event, nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("s", [ChildSpec("machine", lambda: Machine(seen, gate))])
    await nursery.start(supervisor.run)
    address = supervisor.address("machine")
    address.tell(Crash())
    address.tell("waited in the inbox")
    assert await ask(address, Say(words="back")) == "back"
    assert seen == ["+machine", "+machine", "waited in the inbox"]
    supervisor.stop()
    with pytest.raises(pykka.ActorDeadError):
        await tell_for_ever(address)
    assert seen[-1] == "-machine"


async def test_a_thread_whose_start_fails_is_a_failing_start(seen: list[Any], gate: threading.Event) -> None:
    class Broken(Machine):
        def on_start(self) -> None:
            raise OSError("no such file")

    supervisor = Supervisor("s", [spec("first", seen), ChildSpec("machine", lambda: Broken(seen, gate))])
    error = await outcome(supervisor)
    assert isinstance(error, OSError)
    assert seen == ["+first", "-first"]


async def test_a_busy_thread_finishes_its_message_after_its_time_and_leaves_the_rest(
    seen: list[Any], logs: list[Any], gate: threading.Event, nursery: trio.Nursery
) -> None:
    machine = ChildSpec("machine", lambda: Machine(seen, gate), shutdown_s=0.01)
    supervisor = Supervisor("s", [machine])
    await nursery.start(supervisor.run)
    assert supervisor.shutdown_s == pytest.approx(0.06)
    address = supervisor.address("machine")
    address.tell(Wait(seconds=0))
    await until_taken(address)
    rest = address.ask(Say(words="the rest"), block=False)
    supervisor.stop()
    await trio.sleep(0.03)
    gate.set()
    with pytest.raises(pykka.ActorDeadError):
        await rest
    assert [entry["event"] for entry in logs[1:]] == ["actor_stop_overdue", "actor_stopped"]
    assert seen == ["+machine", Wait(seconds=0), "-machine"]


async def test_a_stuck_daemon_thread_is_abandoned_and_its_successor_has_the_address_to_itself(
    seen: list[Any], logs: list[Any], gate: threading.Event, nursery: trio.Nursery
) -> None:
    machines: list[DaemonMachine] = []

    def make() -> DaemonMachine:
        machines.append(DaemonMachine(seen, gate))
        return machines[-1]

    supervisor = Supervisor("s", [ChildSpec("machine", make, shutdown_s=0.01)])
    await nursery.start(supervisor.run)
    address = supervisor.address("machine")
    stuck = address.ask(Wait(seconds=0), block=False)
    await until_taken(address)
    supervisor.restart_child("machine")
    with pytest.raises(pykka.ActorDeadError, match="was stopped while it was answering"):
        await stuck
    assert await ask(address, Say(words="from the successor")) == "from the successor"
    gate.set()
    await trio.to_thread.run_sync(machines[0]._thread.join)
    for number in range(20):
        assert await ask(address, Say(words=str(number))) == str(number)
    events = [entry["event"] for entry in logs]
    assert events[1:4] == ["actor_stop_overdue", "worker_left_running", "actor_stopped"]
    assert "worker_ended_late" in events
    supervisor.stop()
    await trio.to_thread.run_sync(machines[1]._thread.join)


async def tell_for_ever(address: pykka.ActorRef[Any]) -> None:
    while True:
        await ask(address, Say(words="anyone?"))


async def until_taken(address: pykka.ActorRef[Any]) -> None:
    while not address.actor_inbox.empty():
        await trio.sleep(0.001)


# --- giving up on one that lives ---


async def test_a_living_child_can_be_given_up_where_the_others_do_without_it(
    seen: list[Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor(
        "top",
        [ChildSpec(name, functools.partial(Player, name, seen)) for name in ("first", "second")],
        on_exhausted=OnExhausted.PARK,
    )
    await nursery.start(supervisor.run)
    supervisor.address("first").tell(Wait(seconds=100))
    await wait_all_tasks_blocked()
    with pytest.raises(LookupError):
        supervisor.park_child("third", "why")
    supervisor.park_child("first", "it is stuck")
    with pytest.raises(pykka.ActorDeadError, match="first was given up: it is stuck"):
        supervisor.address("first").tell(Say(words="anybody?"))
    first, second = supervisor.children()
    assert (first.state, first.last_error, second.state) == (
        ChildState.PARKED,
        "it is stuck",
        ChildState.RUNNING,
    )
    assert [child.spec.name for _, child in supervisor.actors()] == ["second"]
    supervisor.restart_child("first")
    await wait_all_tasks_blocked()
    assert await ask(supervisor.address("first"), Say(words="again")) == "again"
    supervisor.stop()


async def test_a_child_that_others_depend_on_is_not_given_up(seen: list[Any], nursery: trio.Nursery) -> None:
    supervisor = Supervisor("top", [ChildSpec("first", functools.partial(Player, "first", seen))])
    await nursery.start(supervisor.run)
    with pytest.raises(SupervisionError, match="its siblings in top depend on it"):
        supervisor.park_child("first", "why")
    supervisor.stop()


# --- looked at, and made anew, from outside ---


async def test_a_family_is_told_from_the_top_with_its_inboxes(
    autojump_clock: MockClock, seen: list[Any]
) -> None:
    inner = Supervisor("inner", [spec("third", seen)])
    outer = Supervisor("outer", [spec("first", seen), ChildSpec("inner", inner), spec("last", seen)])
    async with trio.open_nursery() as nursery:
        await nursery.start(outer.run)
        family = [(m.supervisor, m.depth, m.child.name, m.inbox and m.inbox.capacity) for m in outer.family()]
        assert family == [
            ("outer", 0, "first", 5),
            ("outer", 0, "inner", None),
            ("inner", 1, "third", 5),
            ("outer", 0, "last", 5),
        ]
        outer.stop()


async def test_other_children_come_with_the_next_run_and_who_stays_keeps_its_address(
    autojump_clock: MockClock, seen: list[Any]
) -> None:
    inner = Supervisor("inner", [spec("stays", seen), spec("goes", seen)])
    outer = Supervisor(
        "outer", [spec("first", seen), ChildSpec("inner", inner)], strategy=Strategy.REST_FOR_ONE
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(outer.run)
        stays, goes = inner.address("stays"), inner.address("goes")
        inner.reconfigure([spec("comes", seen), spec("stays", seen)])
        assert states(inner) == {"stays": "running", "goes": "running"}
        waiting = inner.address("comes").ask(Say(words="already"), block=False)
        await outer.wait_restarted("first", within_s=10)
        assert states(inner) == {"comes": "running", "stays": "running"}
        assert await ask(stays, Say(words="still")) == "still"
        assert await waiting == "already"
        with pytest.raises(pykka.ActorDeadError):
            await ask(goes, Say(words="x"))
        with pytest.raises(LookupError):
            inner.address("goes")
        outer.stop()


async def test_who_waits_for_a_restart_hears_when_it_fails(
    autojump_clock: MockClock, seen: list[Any]
) -> None:
    supervisor = Supervisor("s", [spec("first", seen), spec("second", seen)], strategy=Strategy.REST_FOR_ONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.wait_restarted("first", within_s=10)
        assert [child.restarts for child in supervisor.children()] == [1, 1]
        assert seen == ["+first", "+second", "-second", "-first", "+first", "+second"]
        supervisor.address("second").tell(Wait(seconds=4))
        with pytest.raises(SupervisionError, match="not up again within 1 s"):
            await supervisor.wait_restarted("first", within_s=1)
        supervisor.stop()
    with pytest.raises(SupervisionError, match="not serving"):
        await supervisor.wait_restarted("first", within_s=1)
