"""The socket itself, with real connections: who may do what, and what one client cannot do to others."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from aurexd.control import interface
from aurexd.control import socket as control
from aurexd.control.definition import Method, Struct
from aurexd.control.interface import Draining, Kicked, KickSession, LogLevel, Seen, SetLogLevel
from aurexd.control.socket import ControlSocket, Peer, Replies, bind
from aurexd.errors import ListenError
from tests.control.caller import Caller, RefusedError, calling

Clock = trio.testing.MockClock


class Scripted:
    """An operator that answers without a daemon. `Drain` streams until it is cancelled, `Reload` takes ten seconds."""

    def __init__(self) -> None:
        self.asked: list[Method[Any]] = []
        self.streaming = 0
        self.reloaded = trio.Event()

    async def answer(self, method: Method[Any], more: Replies | None) -> Struct:
        self.asked.append(method)
        match method:
            case SetLogLevel(level=level):
                return LogLevel(level=level)
            case KickSession(id="none"):
                raise interface.NoSuchSessionError("none")
            case KickSession(id="bug"):
                raise RuntimeError
            case KickSession(id=session_id):
                return Kicked(id=session_id)
            case interface.ListSources():
                raise trio.TooSlowError("nobody is at home")
            case interface.Watch(symbols=symbols):
                if more is None:
                    return Seen(symbols=[], gone=[])
                self.streaming += 1
                try:
                    while symbols is None or len(symbols) > 1:
                        await more(interface.Draining(left=7 if symbols is None else "x" * 10_000))  # type: ignore[arg-type]
                        await trio.sleep(1)
                finally:
                    self.streaming -= 1
                return Seen(symbols=[], gone=[])
            case interface.Reload():
                await trio.sleep(10)
                self.reloaded.set()
                return interface.Reloaded(changed=[], waiting={}, notes=[])
        return Draining(left=0)


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Scripted, Path]]:
    operator, path = Scripted(), folder / "control"
    with trio.fail_after(10_000):
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlSocket(bind(str(path)), operator, path=str(path)).serve)
            yield operator, path
            nursery.cancel_scope.cancel()
    assert not path.exists()


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects is somebody else, who may look only."""
    monkeypatch.setattr(control, "peer_of", lambda _client: Peer(pid=7, uid=4711, gid=4711))


# --- what is said ---


async def test_what_is_called_is_answered_in_its_order(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as caller:
        for level in ("debug", "info"):
            await caller.send("SetLogLevel", level=level)
        await caller.send("org.varlink.service.GetInfo")
        assert [(await caller.reply())[0] for _ in range(2)] == [{"level": "debug"}, {"level": "info"}]
        assert (await caller.reply())[0]["interfaces"] == ["org.varlink.service", "io.aurex.Control"]


async def test_an_interface_describes_itself(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as caller:
        for name in ("org.varlink.service", interface.NAME):
            reply = await caller.call("org.varlink.service.GetInterfaceDescription", interface=name)
            assert f"\ninterface {name}\n" in reply["description"]
        with pytest.raises(RefusedError) as refused:
            await caller.call("org.varlink.service.GetInterfaceDescription", interface="io.nobody")
        assert refused.value.name == "org.varlink.service.InterfaceNotFound"


async def test_an_error_is_a_reply_and_the_connection_goes_on(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as caller:
        with pytest.raises(RefusedError) as refused:
            await caller.call("KickSession", id="none")
        assert (refused.value.name, refused.value.parameters) == (
            "io.aurex.Control.NoSuchSession",
            {"session": "none"},
        )
        with pytest.raises(RefusedError) as refused:
            await caller.call("ListSources")
        assert refused.value.name == "io.aurex.Control.NotAnswered"
        assert await caller.call("KickSession", id="a") == {"id": "a"}


async def test_a_oneway_call_is_done_and_not_answered(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (operator, path), calling(path) as caller:
        await caller.send("KickSession", oneway=True, id="a")
        await caller.send("KickSession", oneway=True, id="none")
        await caller.send("KickSession", oneway=True, wrong="a")
        assert await caller.call("KickSession", id="b") == {"id": "b"}
        assert operator.asked == [KickSession(id=name) for name in ("a", "none", "b")]


async def test_who_has_only_said_all_it_had_to_say_is_answered(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as caller:
        await caller.send("Watch", more=True)
        await caller.stream.send_eof()
        for _ in range(3):
            assert await caller.reply() == ({"left": 7}, True)


async def test_nothing_is_asked_for_somebody_who_is_gone(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (operator, path):
        async with calling(path) as caller:
            await caller.send("Watch", more=True)
            await caller.reply()
            assert operator.streaming == 1
        await trio.sleep(2)
        assert operator.streaming == 0


async def test_what_was_ordered_is_done_though_who_ordered_it_has_gone(
    tmp_path: Path, loopback_clock: Clock
) -> None:
    async with serving(tmp_path) as (operator, path):
        async with calling(path) as caller:
            await caller.send("Reload")
            await trio.sleep(1)
        await operator.reloaded.wait()


# --- who may ---


@pytest.mark.usefixtures("stranger")
async def test_a_stranger_may_look_and_change_nothing(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (operator, path), calling(path) as caller:
        assert await caller.call("Watch") == {"symbols": [], "gone": []}
        for method in (m for m in interface.METHODS if m.changes):
            parameters = dict.fromkeys(method.__struct_fields__, "info")
            with capture_logs() as logs, pytest.raises(RefusedError) as refused:
                await caller.call(method.__name__, **parameters)
            assert refused.value.name == "org.varlink.service.PermissionDenied"
            assert [(e["event"], e["uid"], e["pid"]) for e in logs] == [("operator_refused", 4711, 7)]
        assert operator.asked == [interface.Watch()]


async def test_every_change_is_logged_with_who_made_it(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as caller:
        with capture_logs() as logs:
            await caller.call("Watch")
            await caller.call("SetLogLevel", level="error")
    assert logs == [
        {
            "event": "operator_acted",
            "log_level": "info",
            "uid": os.getuid(),
            "pid": os.getpid(),
            "method": "SetLogLevel",
            "parameters": {"level": "error"},
        }
    ]


async def test_the_socket_is_for_its_group_whatever_the_umask(tmp_path: Path, loopback_clock: Clock) -> None:
    before = os.umask(0)
    try:
        async with serving(tmp_path) as (_, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


# --- what there may be in the way ---


async def test_what_a_crash_left_is_replaced_and_what_is_in_use_is_not(
    tmp_path: Path, loopback_clock: Clock
) -> None:
    path = tmp_path / "control"
    bind(str(path)).close()
    assert path.exists()
    async with serving(tmp_path) as (_, path):
        with pytest.raises(ListenError, match="another process listens there"):
            bind(str(path))
        async with calling(path) as caller:
            await caller.call("Watch")


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere/control", "there is no directory"), ("file", "another kind of file")]
)
async def test_why_there_can_be_no_socket_is_said(
    tmp_path: Path, name: str, why: str, loopback_clock: Clock
) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match=why):
        bind(str(tmp_path / name))
    assert (tmp_path / "file").read_text() == "precious"


async def test_it_is_in_the_registry_as_long_as_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback_clock: Clock
) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    entry = registry / interface.NAME
    entry.symlink_to("/nowhere")
    monkeypatch.setattr(control, "REGISTRY", registry)
    async with serving(tmp_path) as (_, path):
        assert entry.readlink() == path
        async with calling(entry) as caller:
            await caller.call("Watch")
    assert not entry.is_symlink()


# --- what one client cannot do to others ---


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1\r\n\r\n\0", b"\0", b"{}\0", b"x" * 70_000])
async def test_who_does_not_speak_varlink_is_hung_up_on(
    tmp_path: Path, nonsense: bytes, loopback_clock: Clock
) -> None:
    async with serving(tmp_path) as (_, path):
        async with calling(path) as caller:
            with contextlib.suppress(trio.BrokenResourceError):
                await caller.stream.send_all(nonsense)
            assert await caller.hung_up_on()
        async with calling(path) as caller:
            await caller.call("Watch")


async def test_half_a_message_and_an_idle_connection_have_their_time(
    tmp_path: Path, loopback_clock: Clock
) -> None:
    async with serving(tmp_path) as (_, path):
        for said, allowed_s in ((b'{"method":', control.MESSAGE_S), (b"", control.IDLE_S)):
            async with calling(path) as caller:
                began = trio.current_time()
                await caller.stream.send_all(said)
                assert await caller.hung_up_on()
                assert allowed_s <= trio.current_time() - began < allowed_s + 2


async def test_who_takes_no_answer_is_hung_up_on(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (operator, path), calling(path) as caller:
        await caller.send("Watch", more=True, symbols=["a", "b"])
        with trio.fail_after(1000):
            while not operator.streaming:
                await trio.sleep(0.1)
            while operator.streaming:
                await trio.sleep(1)


async def test_calls_that_are_not_read_yet_wait_in_the_clients_socket(
    tmp_path: Path, loopback_clock: Clock
) -> None:
    async with serving(tmp_path) as (operator, path), calling(path) as caller:
        await caller.send("Reload")
        with trio.move_on_after(5):
            while True:
                await caller.send("KickSession", id="a" * 60)
        assert operator.asked == [interface.Reload()]
        await operator.reloaded.wait()


async def test_there_are_only_so_many_clients_and_strangers_leave_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback_clock: Clock
) -> None:
    async with serving(tmp_path) as (_, path), contextlib.AsyncExitStack() as stack:
        strangers: list[Caller] = []
        with monkeypatch.context() as patch:
            patch.setattr(control, "peer_of", lambda _client: Peer(pid=7, uid=4711, gid=4711))
            for _ in range(control.MAX_CLIENTS - control.RESERVED):
                strangers.append(await stack.enter_async_context(calling(path)))
                await strangers[-1].call("Watch")
            one_more = await stack.enter_async_context(calling(path))
            assert await one_more.hung_up_on()
        for _ in range(control.RESERVED):
            await (await stack.enter_async_context(calling(path))).call("SetLogLevel", level="info")
        one_more = await stack.enter_async_context(calling(path))
        assert await one_more.hung_up_on()
        await strangers.pop().stream.aclose()
        await trio.sleep(1)
        await (await stack.enter_async_context(calling(path))).call("Watch")


async def test_a_bug_ends_one_connection_and_no_more(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as other, calling(path) as caller:
        with capture_logs() as logs:
            await caller.send("KickSession", id="bug")
            assert await caller.hung_up_on()
            await trio.testing.wait_all_tasks_blocked()
        assert [entry["event"] for entry in logs] == ["operator_acted", "operator_call_crashed"]
        await other.call("Watch")


async def test_the_peer_is_told_by_the_kernel(loopback_clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert control.peer_of(ours) == (os.getpid(), os.getuid(), os.getgid())
    assert control.may_change(Peer(1, 0, 0))
    assert control.may_change(Peer(1, os.geteuid(), 0))
    assert not control.may_change(Peer(1, 4711, 0))


async def test_a_reply_is_one_json_object_and_a_nul(tmp_path: Path, loopback_clock: Clock) -> None:
    async with serving(tmp_path) as (_, path), calling(path) as caller:
        await caller.send("KickSession", id="ü\u2028")
        message = bytes(await caller.stream.receive_some())
        assert message.endswith(b"\0")
        assert json.loads(message[:-1]) == {"parameters": {"id": "ü\u2028"}}
