"""The interface: its file is what its types say, others read it, and calls are judged by it."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from varlink.scanner import Interface as PublicInterface

from aurexd.control import interface
from aurexd.control.definition import Struct, reply_of
from aurexd.control.interface import CONTROL, METHODS, NAME
from aurexd.control.service import SERVICE, Call, Service
from aurexd.errors import VarlinkError
from aurexd.log import Level


def asked(method: str, parameters: object, **flags: bool) -> Call | VarlinkError:
    message = {"method": f"{NAME}.{method}", "parameters": parameters, **flags}
    return Service(CONTROL).read(json.dumps(message).encode()).asked


def refusal(method: str, parameters: object) -> tuple[str, dict[str, Any]]:
    error = asked(method, parameters)
    assert isinstance(error, VarlinkError)
    return error.name, error.parameters


def test_the_file_that_is_shipped_is_what_the_types_say() -> None:
    file = importlib.resources.files("aurexd.control") / f"{NAME}.varlink"
    assert file.read_text() == CONTROL.definition, (
        f"python -m aurexd.control.interface > aurexd/control/{NAME}.varlink"
    )


@pytest.mark.parametrize("defined", [CONTROL, SERVICE], ids=lambda defined: defined.name)
def test_another_reader_of_the_language_finds_the_same_methods(defined: Any) -> None:
    read = PublicInterface(defined.definition)
    assert read.name == defined.name
    for name, method in defined.methods.items():
        found = read.get_method(name)
        assert list(found.in_type.fields) == list(method.__struct_fields__)
        assert list(found.out_type.fields) == list(reply_of(method).__struct_fields__)


def test_every_method_error_and_field_is_documented() -> None:
    for line, before in zip(*(lambda t: (t[1:], t))(CONTROL.definition.splitlines()), strict=False):
        if line.startswith(("method ", "type ", "error ")):
            assert before.startswith("# "), line
    for method in METHODS:
        for struct in (method, reply_of(method)):
            for field in msgspec.structs.fields(struct):
                notes = [note.description for note in get_args(field.type) if isinstance(note, msgspec.Meta)]
                assert [note for note in notes if note], (struct, field.name)


def test_levels_are_those_of_the_log() -> None:
    assert get_args(Level) == interface.LEVELS


def test_a_call_with_what_it_takes_is_taken() -> None:
    assert asked("PauseSource", {"name": "alltick"}) == (interface.PauseSource(name="alltick"), False)
    assert asked("GetStatus", None) == (interface.GetStatus(), False)
    assert asked("ListSessions", {"address": None}, more=True) == (interface.ListSessions(), True)


@pytest.mark.parametrize(
    ("method", "parameters", "named"),
    [
        ("PauseSource", {"nam": "a", "name": "a"}, "nam"),
        ("PauseSource", {}, "name"),
        ("PauseSource", {"name": 1}, "name"),
        ("PauseSource", {"name": None}, "name"),
        ("PauseSource", ["alltick"], "parameters"),
        ("SetLogLevel", {"level": "loud"}, "level"),
        ("Watch", {"symbols": ["XAUUSD", 1]}, "symbols"),
        ("GetStatus", {"more": True}, "more"),
    ],
)
def test_what_it_does_not_take_is_named(method: str, parameters: object, named: str) -> None:
    assert refusal(method, parameters) == ("org.varlink.service.InvalidParameter", {"parameter": named})


def test_what_there_is_not_is_said() -> None:
    assert refusal("Nope", {}) == ("org.varlink.service.MethodNotFound", {"method": f"{NAME}.Nope"})
    error = Service(CONTROL).read(b'{"method": "io.systemd.Nope.Call"}').asked
    assert isinstance(error, VarlinkError)
    assert error.parameters == {"interface": "io.systemd.Nope"}
    upgrade = asked("GetStatus", {}, upgrade=True)
    assert isinstance(upgrade, VarlinkError)
    assert upgrade.parameters == {"parameter": "upgrade"}


@given(st.sampled_from(METHODS), st.dictionaries(st.text(max_size=8), st.integers() | st.text() | st.none()))
def test_parameters_are_taken_or_refused_and_nothing_else_happens(
    method: type[Any], parameters: dict[str, Any]
) -> None:
    answer = asked(method.__name__, parameters)
    assert isinstance(answer, (Call, VarlinkError))
    if isinstance(answer, Call):
        assert isinstance(answer.method, Struct)
        assert set(parameters) <= set(method.__struct_fields__)
