"""Text from outside, made safe to show: on a page, on a terminal, in a log. Pure.

It stays text, not markup: a page sets it as `textContent`. What is done about secrets is `redaction.py`'s.
"""

from __future__ import annotations

import re

REASON_CHARACTERS = 500
"""Of a reason that quotes somebody else's words: a few lines on a page."""

JOINERS = "\u200c\u200d"
"""Not printable by Unicode's own account, and part of words: Persian and Hindi need them, and so do emoji."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor or turns a line around; tab and line feed, which tracebacks have, are not among it."""

_DIRECTORIES = re.compile(r"(?<![\w:/.~-])/(?:[^\s/:;,'\"()<>]+/)*(?=[^\s/:;,'\"()<>])")
"""A path's directories, where the path begins a word; a URL's are behind its host."""


def clean(text: str, characters: int = REASON_CHARACTERS) -> str:
    """One line of what somebody else wrote, at most so many characters.

    White space of any kind becomes single spaces. What cannot be seen, and may steer whoever shows it (controls,
    bidirectional overrides, halves of surrogate pairs, tags), becomes `�`; where something was cut off stands `…`.
    """
    cut = text[: 4 * characters]  # most of a megabyte need not be looked at
    if not cut.isprintable():
        cut = "".join(
            character
            if character.isprintable() or character in JOINERS
            else " "
            if character.isspace()
            else _REPLACEMENT
            for character in cut
        )
    line = " ".join(cut.split())
    if len(line) <= characters and len(cut) == len(text):
        return line
    return line[: characters - 1] + "…"


def escape(text: str, form: str = "\\u{:04x}") -> str:
    """The text with what steers a terminal written out; `form` says how, and is JSON's unless said otherwise."""
    return _STEERING.sub(lambda found: form.format(ord(found[0])), text)


def without_directories(text: str) -> str:
    """The text with the names of files but not the directories they are in, which are nobody else's business."""
    return _DIRECTORIES.sub("", text)
