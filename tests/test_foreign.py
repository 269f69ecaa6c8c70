"""Whatever comes from outside can be shown anywhere, and what was fit to be shown stays as it was."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.errors import FeedError
from aurexd.foreign import JOINERS, REASON_CHARACTERS, clean, escape, without_directories

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)
"""Halves of surrogate pairs and characters that do not exist included."""


@given(ANY_TEXT, st.integers(2, 40))
def test_whatever_comes_becomes_one_line_that_steers_nothing(text: str, characters: int) -> None:
    line = clean(text, characters)
    assert len(line) <= characters
    assert all(character.isprintable() or character in JOINERS for character in line)
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cs", "Co", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(character) for character in line} & {
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    }
    assert line == line.strip()
    assert "  " not in line
    line.encode()


@given(ANY_TEXT)
def test_what_is_clean_stays_as_it_is(text: str) -> None:
    line = clean(text)
    assert clean(line) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Gold steadies ahead of rate decision", "Gold steadies ahead of rate decision"),
        ("Zürich: Gold fällt – 金価格 — ذهب", "Zürich: Gold fällt – 金価格 — ذهب"),
        ("می‌خواهم", "می‌خواهم"),
        ("two\r\nlines\tand\u2028three\u00a0 ", "two lines and three"),
        ("\x1b[2Jcleared", "�[2Jcleared"),
        ("\x9b31mred", "�31mred"),
        ("1.00\u202e00.4712\u202c", "1.00�00.4712�"),
        ("half a \ud83d pair", "half a � pair"),
        ("a\U000e0041 tag", "a� tag"),
        ("<b>bold</b> & co", "<b>bold</b> & co"),
        ("", ""),
    ],
)
def test_letters_of_every_script_stay_and_what_cannot_be_seen_is_marked(text: str, line: str) -> None:
    assert clean(text) == line


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert clean("x" * 100, 10) == "x" * 9 + "…"
    assert clean("x" * 10, 10) == "x" * 10
    assert clean(" " * 41 + "x", 10) == "…"
    assert len(clean("x" * 5_000_000)) == REASON_CHARACTERS


def test_what_a_provider_says_is_clean_from_where_it_comes_in() -> None:
    error = FeedError("AllTick refuses us (605 \x1b]0;owned\x07\u202eevil): " + "x" * 1000)
    assert str(error).startswith("AllTick refuses us (605 �]0;owned��evil): xxx")
    assert len(str(error)) == REASON_CHARACTERS


@given(ANY_TEXT.map(lambda text: text.encode("utf-8", "replace").decode()))
def test_escaped_json_means_the_same_and_shows_nothing_that_steers(text: str) -> None:
    written = escape(json.dumps(text, ensure_ascii=False))
    assert json.loads(written) == text
    assert not {unicodedata.category(character) for character in written} & {"Cc"} - {"\n", "\t"}


def test_for_people_it_is_written_out() -> None:
    assert escape("\x1b[31m\u202e\tx\n", "<{:x}>") == "<1b>[31m<202e>\tx\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/var/lib/aurexd/aurexd.db is locked", "aurexd.db is locked"),
        ("AllTick: /etc/aurexd/alltick.token is empty", "AllTick: alltick.token is empty"),
        (
            "[Errno 13] Permission denied: '/etc/aurexd/alltick.token'",
            "[Errno 13] Permission denied: 'alltick.token'",
        ),
        ("the disk with /aurexd.db is full", "the disk with aurexd.db is full"),
        ("check https://example.org/a/b and wss://x/y", "check https://example.org/a/b and wss://x/y"),
        ("a pair is written PAXG/USD, 3 / 4 of it", "a pair is written PAXG/USD, 3 / 4 of it"),
        ("relative/path.csv does not exist", "relative/path.csv does not exist"),
        ("move it away, with its -wal and -shm files", "move it away, with its -wal and -shm files"),
    ],
)
def test_files_are_named_without_where_they_are(text: str, shown: str) -> None:
    assert without_directories(text) == shown
