"""The journal's own protocol, by its letter, and an end of it played here."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.journal import Journal, encode, field_name, is_listening_to


class Journald:
    """Reads entries as journald does: from datagrams, and from files in memory that come with them."""

    def __init__(self, folder: Path) -> None:
        self.path = f"{folder}/socket"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(5)

    def read(self) -> dict[str, str]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        for descriptor in descriptors:
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                data = file.read()
        return decode(data)


def decode(data: bytes) -> dict[str, str]:
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path)
    with journald.socket:
        yield journald


@pytest.fixture
def journal(journald: Journald) -> Iterator[Journal]:
    journal = Journal(journald.path)
    yield journal
    journal.close()


names = st.from_regex(r"[A-Z][A-Z0-9_]{0,10}", fullmatch=True)
values = st.text(st.characters(codec="utf-8"))


@given(fields=st.dictionaries(names, values, max_size=4))
def test_what_is_encoded_is_read_back_whatever_is_in_it(fields: dict[str, str]) -> None:
    assert decode(encode(fields)) == fields


@given(key=st.text())
def test_every_key_gives_a_name_that_the_journal_takes_and_that_is_not_its_own(key: str) -> None:
    name = field_name(key)
    assert name.isascii()
    assert len(name) <= 64
    assert name[0].isalpha()
    assert name == name.upper()
    assert name not in {"MESSAGE", "PRIORITY"}
    assert not name.startswith(("_", "SYSLOG_", "CODE_"))


def test_a_key_is_found_under_its_own_name() -> None:
    assert [field_name(key) for key in ("source", "lag_ms", "message", "1st")] == [
        "SOURCE",
        "LAG_MS",
        "AUREXD_MESSAGE",
        "AUREXD_1ST",
    ]


def test_an_entry_arrives_whether_it_fits_into_a_datagram_or_not(
    journald: Journald, journal: Journal
) -> None:
    journal.send({"MESSAGE": "short"})
    assert journald.read() == {"MESSAGE": "short"}
    long = "long\n" * 200_000
    journal.send({"MESSAGE": long, "SOURCE": "alltick"})
    assert journald.read() == {"MESSAGE": long, "SOURCE": "alltick"}


def test_a_journal_that_does_not_read_is_not_waited_for_and_hears_how_much_it_missed(
    journald: Journald, journal: Journal
) -> None:
    sent = 2000
    for number in range(sent):
        journal.send({"NUMBER": str(number)})
    taken = [journald.read()]
    journald.socket.setblocking(False)
    while True:
        try:
            taken.append(journald.read())
        except BlockingIOError:
            break
    assert len(taken) < sent
    journal.send({"NUMBER": "last"})
    assert journald.read() == {"NUMBER": "last", "LOST": str(sent - len(taken))}
    journal.send({"NUMBER": "after"})
    assert journald.read() == {"NUMBER": "after"}


def test_no_journal_stops_nobody(tmp_path: Path) -> None:
    journal = Journal(f"{tmp_path}/none")
    journal.send({"MESSAGE": "never mind"})
    journal.close()


def test_it_listens_to_the_stream_that_systemd_names_and_to_no_other(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        status = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_listening_to(stream.fileno(), named)
        with (tmp_path / "other").open("w") as other:
            assert not is_listening_to(other.fileno(), named)
        assert not is_listening_to(stream.fileno(), {"JOURNAL_STREAM": "8:1"})
        assert not is_listening_to(stream.fileno(), {})
        number = stream.fileno()
    assert not is_listening_to(number, named)
