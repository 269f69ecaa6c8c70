"""docs/protocol.md is true: what is made from the types is up to date, and nothing is missing."""

from __future__ import annotations

import json
import re

import pytest

from aurexd.protocol import manual
from aurexd.protocol.channels import KINDS
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.schema import CLIENT_MESSAGES, SERVER_MESSAGES, tag_of

DOCUMENT = manual.DOCUMENT.read_text()


def test_the_document_is_up_to_date() -> None:
    assert manual.fill(DOCUMENT, manual.examples()) == DOCUMENT, "run `python -m aurexd.protocol.manual`"


def test_every_message_has_a_section_with_its_golden_example() -> None:
    sections = dict(
        re.findall(r"^### `([a-z_.]+)`\n.*?```json\n(.*?)```", DOCUMENT, re.DOTALL | re.MULTILINE)
    )
    assert {tag: json.loads(text) for tag, text in sections.items()} == {
        tag: json.loads(text) for tag, text in manual.examples().items()
    }
    assert sorted(sections) == sorted(tag_of(kind) for kind in CLIENT_MESSAGES + SERVER_MESSAGES)


def test_every_code_and_every_channel_is_in_it() -> None:
    for code in CloseCode:
        assert f"| {code.value} | `{code.word}` |" in DOCUMENT
    for error in ErrorCode:
        assert f"| `{error}` |" in DOCUMENT
    for kind in KINDS.values():
        assert f"| `{kind.pattern}` |" in DOCUMENT


def test_making_it_keeps_the_prose_and_replaces_the_rest() -> None:
    text = "before\n<!-- made: errors -->\nold\n<!-- end -->\nafter\n"
    made = manual.fill(text, {})
    assert made.startswith("before\n<!-- made: errors -->\n| code |")
    assert made.endswith("|\n<!-- end -->\nafter\n")
    assert "old" not in made
    assert manual.fill(made, {}) == made


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(KeyError):
        manual.fill("<!-- made: nonsense -->\n<!-- end -->", {})


@pytest.mark.parametrize("tag", sorted(manual.examples()))
def test_an_example_is_spread_over_lines_that_fit_and_stays_the_same(tag: str) -> None:
    text = manual.examples()[tag]
    lines = manual.spread(text)
    assert json.loads(lines) == json.loads(text)
    assert max(map(len, lines.splitlines())) <= manual.WIDTH
