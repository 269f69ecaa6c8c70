"""Keeps docs/protocol.md true: writes its tables and examples from the types and from the golden files.

`python -m aurexd.protocol.manual`, in a checkout, rewrites what stands between `<!-- made: NAME -->` and
`<!-- end -->`; the prose around them is written by hand. A test fails while the document is stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from aurexd.protocol import alerts, messages
from aurexd.protocol.channels import KINDS
from aurexd.protocol.codes import CloseCode, ErrorCode
from aurexd.protocol.schema import ANSWERS, json_schema, summary_of, tag_of

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "protocol.md"
GOLDEN = ROOT / "tests" / "protocol" / "golden"

WIDTH = 100
"""Characters in a line of an example: what a page shows without scrolling."""

NOT_YET = "*Not in this release.*"

_MARKED = re.compile(r"(<!-- made: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_DEFINITIONS: dict[str, Any] = json_schema()["$defs"]
_CONDITIONS = {kind.__name__ for kind in get_args(alerts.AnyCondition)}
_APART = {"AlertRule": "[alert rule](#alert-rules)"}
"""Objects with a table of their own, and how to refer to it."""


def examples() -> dict[str, str]:
    """Message type → its golden example, as it goes over the wire."""
    return {
        path.name.removesuffix(".json"): path.read_text().strip() for path in sorted(GOLDEN.glob("*.json"))
    }


def fill(document: str, golden: Mapping[str, str]) -> str:
    """The document with every marked part made anew.

    Raises:
        KeyError: a part that is not known here, or a message without an example.

    """

    def part(match: re.Match[str]) -> str:
        return match[1] + "\n".join(_PARTS[match[2]](golden)) + "\n" + match[3]

    return _MARKED.sub(part, document)


def spread(example: str) -> str:
    """A message on several lines of at most `WIDTH` characters where its values allow that; the same JSON."""
    return "\n".join(_spread(example, room=WIDTH))


def _spread(text: str, room: int) -> list[str]:
    """The lines of one object or list, each within `room`, as far as its values can be broken up."""
    opening, closing = text[0], text[-1]
    items: list[list[str]] = []
    for head, value in _members(text):
        whole = head + value
        if len(whole) + 2 > room and value[0] in "{[" and len(value) > 2:
            first, *others = _spread(value, room - len(head) - 2)
            items.append([head + first, *(" " * len(head) + line for line in others)])
        else:
            items.append([whole])
    lines = [opening]
    for number, (first, *others) in enumerate(items, start=1):
        end = closing if number == len(items) else ","
        fits = not others and len(lines[-1]) + len(first) + 2 <= room
        if number == 1:
            lines[-1] += first
        elif fits and not items[number - 2][1:]:
            lines[-1] += f" {first}"
        else:
            lines.append(f" {first}")
        lines += [f" {line}" for line in others]
        lines[-1] += end
    return lines if items else [opening + closing]


def _members(text: str) -> Iterator[tuple[str, str]]:
    """What an object or a list has in it: the name with its colon, and the value on one line."""
    if text.startswith("{"):
        for name, raw in msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items():
            yield f'"{name}": ', msgspec.json.format(bytes(raw), indent=0).decode()
    else:
        for raw in msgspec.json.decode(text, type=list[msgspec.Raw]):
            yield "", msgspec.json.format(bytes(raw), indent=0).decode()


# --- the parts ---


def _requests(golden: Mapping[str, str]) -> Iterator[str]:
    for kind, answer in ANSWERS.items():
        yield from _message(kind, golden, f" Answered by `{tag_of(answer)}`.")


def _answers(golden: Mapping[str, str]) -> Iterator[str]:
    for kind in get_args(messages.AnswerMessage):
        yield from _message(kind, golden)


def _notices(golden: Mapping[str, str]) -> Iterator[str]:
    for kind in get_args(messages.NoticeMessage):
        yield from _message(kind, golden)


def _updates(golden: Mapping[str, str]) -> Iterator[str]:
    for kind in get_args(messages.ChannelMessage):
        yield from _message(kind, golden)


def _message(kind: type[msgspec.Struct], golden: Mapping[str, str], more: str = "") -> Iterator[str]:
    tag = tag_of(kind)
    yield f"### `{tag}`"
    yield (f"{NOT_YET} " if kind in messages.LATER else "") + summary_of(kind) + more
    yield f"```json\n{spread(golden[tag])}\n```"
    data = _DEFINITIONS[kind.__name__]["properties"]["data"]
    yield from _fields(data["$ref"].rpartition("/")[2])
    yield ""


def _channels(_golden: Mapping[str, str]) -> Iterator[str]:
    yield "| channel | sends | a slow reader gets | |"
    yield "|---|---|---|---|"
    for kind in KINDS.values():
        what = "the latest, saying how many it stands for" if kind.conflated else "each of them"
        yield f"| `{kind.pattern}` | `{kind.message}` | {what} | {NOT_YET if kind.later else ''} |"


def _errors(_golden: Mapping[str, str]) -> Iterator[str]:
    yield "| code | meaning | |"
    yield "|---|---|---|"
    for code in ErrorCode:
        yield f"| `{code}` | {code.meaning} | {NOT_YET if code.later else ''} |"


def _closes(_golden: Mapping[str, str]) -> Iterator[str]:
    yield "| code | name | reconnect? | meaning | |"
    yield "|---|---|---|---|---|"
    for code in CloseCode:
        again = "yes" if code.reconnect else "no"
        yield f"| {code.value} | `{code.word}` | {again} | {code.meaning} | {NOT_YET if code.later else ''} |"


def _conditions(_golden: Mapping[str, str]) -> Iterator[str]:
    yield "| `kind` | fires when | fields |"
    yield "|---|---|---|"
    for kind in get_args(alerts.AnyCondition):
        schema = _DEFINITIONS[kind.__name__]
        fields = [
            f"`{name}` ({_type(field)}{'' if name in schema['required'] else '; optional'})"
            for name, field in schema["properties"].items()
            if name != "kind"
        ]
        yield f"| `{tag_of(kind)}` | {summary_of(kind)} | {', '.join(fields)} |"


def _alert_rule(_golden: Mapping[str, str]) -> Iterator[str]:
    yield from _fields("AlertRule")


_PARTS = {
    "requests": _requests,
    "answers": _answers,
    "notices": _notices,
    "updates": _updates,
    "channels": _channels,
    "errors": _errors,
    "closes": _closes,
    "conditions": _conditions,
    "alert-rule": _alert_rule,
}

# --- fields ---


def _fields(name: str) -> Iterator[str]:
    """The table of an object's fields, those of the objects inside it included."""
    rows = list(_rows(name, ""))
    if rows:
        yield "| field | | meaning |"
        yield "|---|---|---|"
        yield from rows


def _rows(name: str, prefix: str) -> Iterator[str]:
    schema = _DEFINITIONS[name]
    for field, content in schema.get("properties", {}).items():
        optional = "" if field in schema.get("required", ()) else "; optional"
        yield f"| `{prefix}{field}` | {_type(content)}{optional} | {content.get('description', '')} |"
        for inner, step in _inside(content):
            yield from _rows(inner, f"{prefix}{field}.{step}")


def _inside(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The objects whose fields are shown under a field, and how their path goes on."""
    match content:
        case {"$ref": ref}:
            step = ""
        case {"additionalProperties": {"$ref": ref}}:
            step = "CHANNEL."
        case _:
            return
    name = ref.rpartition("/")[2]
    if "properties" in _DEFINITIONS[name] and name not in _APART:
        yield name, step


def _type(content: dict[str, Any]) -> str:
    match content:
        case {"$ref": ref}:
            return _named(ref.rpartition("/")[2])
        case {"anyOf": [{"$ref": first}, *_]} if first.rpartition("/")[2] in _CONDITIONS:
            return "[condition](#alert-rules)"
        case {"anyOf": alternatives}:
            return " or ".join(_type(alternative) for alternative in alternatives)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object"}:
            return "object"
        case {"format": "date-time"}:
            return "time"
        case _:
            return str(content["type"])


def _named(name: str) -> str:
    schema = _DEFINITIONS[name]
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    return _APART.get(name, "object")


def main() -> None:
    """Write docs/protocol.md anew."""
    DOCUMENT.write_text(fill(DOCUMENT.read_text(), examples()))


if __name__ == "__main__":
    main()
