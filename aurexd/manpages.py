"""The manual pages aurexd(8), aurexctl(1) and aurexd.toml(5), of the commands' help and the configuration's models.

`python -m aurexd.manpages DIRECTORY` writes them below a directory such as share/man; `make install` does.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from aurexd import __version__, aurexctl, cli
from aurexd.config.manual import HEAD, SOURCES, SYMBOLS, takes
from aurexd.config.model import SECTIONS, AuthKey, Symbol
from aurexd.sources import PROVIDERS, provider_class
from aurexd.sources.base import SourceSettings

STATUSES = {
    "aurexd": {
        "0": "it did what was asked; run: it stopped in order",
        "64": "the command line is wrong",
        "65": "token inspect: the token is not valid here",
        "69": "a needed service is unavailable: the port cannot be bound; doctor: there is a problem",
        "70": "a bug, or a core part kept crashing",
        "78": "the configuration is wrong",
    },
    "aurexctl": {
        "0": "what was asked happened",
        "64": "the command line is wrong",
        "65": "there is no such source, symbol or session",
        "69": "the daemon does not run, or did not answer",
        "75": "it is not done yet",
        "76": "something else answers there",
        "77": "you may not",
        "78": "the new configuration is wrong, and nothing was changed",
    },
}

FILES = {
    "/etc/aurexd/aurexd.toml": "the configuration; conf.d/*.toml beside it add to it",
    "/run/aurexd-control/io.aurex.Control": "the control socket",
    "/var/lib/aurexd/aurexd.db": "ticks, prices and candles",
}


def pages() -> dict[str, str]:
    """File name → the page."""
    return {
        "aurexd.8": _command(
            cli.parser(), 8, "a real-time gold price daemon", ["aurexctl(1)", "aurexd.toml(5)"]
        ),
        "aurexctl.1": _command(
            aurexctl.parser(),
            1,
            "look into the running aurexd, and steer it",
            ["aurexd(8)", "aurexd.toml(5)"],
        ),
        "aurexd.toml.5": _configuration(),
    }


def _command(parser: argparse.ArgumentParser, section: int, summary: str, others: list[str]) -> str:
    name = parser.prog
    lines = [
        *_head(name, section, summary),
        ".SH SYNOPSIS",
        f".B {name}",
        _text(_usage(parser)),
        ".SH DESCRIPTION",
        _text(parser.description or ""),
        ".SH OPTIONS",
        *_options(parser),
        ".SH COMMANDS",
        *(line for words, command, what in _commands(parser) for line in _subcommand(words, command, what)),
        ".SH EXIT STATUS",
        *(line for status, what in STATUSES[name].items() for line in (".TP", _bold(status), _text(what))),
        ".SH FILES",
        *(line for file, what in FILES.items() for line in (".TP", _italic(file), _text(what))),
        *_see_also(others),
    ]
    return "\n".join(lines) + "\n"


def _commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser, str]]:
    """Every command, those of a command below it included: how it is called, its parser, what it does."""
    for action in parser._actions:  # noqa: SLF001 — argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for word, command in action.choices.items():
                yield (*words, word), command, helps.get(word, "")
                yield from _commands(command, (*words, word))


def _subcommand(words: tuple[str, ...], command: argparse.ArgumentParser, what: str) -> Iterator[str]:
    yield f".SS {_text(' '.join((*words, _usage(command))))}"
    yield _text(_sentence(what))
    yield from _options(command, help_too=False)


def _usage(parser: argparse.ArgumentParser) -> str:
    usage = parser.format_usage().split(":", 1)[1].split()
    mine = usage[len(parser.prog.split()) :]
    return " ".join(mine).replace("[-h]", "").replace("  ", " ").strip()


def _options(parser: argparse.ArgumentParser, *, help_too: bool = True) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction) or (  # noqa: SLF001
            not help_too and isinstance(action, argparse._HelpAction)  # noqa: SLF001
        ):
            continue
        yield ".TP"
        yield _invocation(action)
        yield _text(_sentence(action.help or ""))


def _invocation(action: argparse.Action) -> str:
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    value = action.metavar if isinstance(action.metavar, str) else choices or action.dest.upper()
    if not action.option_strings:
        return _italic(value)
    takes_value = action.nargs != 0
    return ", ".join(_bold(o) + (f" {_italic(value)}" if takes_value else "") for o in action.option_strings)


def _configuration() -> str:
    lines = [
        *_head("aurexd.toml", 5, "the configuration of aurexd"),
        ".SH DESCRIPTION",
        *_paragraphs(HEAD),
    ]
    for name, model in SECTIONS.items():
        lines += [f".SH [{name}]", _text(inspect.cleandoc(model.__doc__ or ""))]
        for key, field in model.model_fields.items():
            lines += _setting(key, field)
        if name == "auth":
            lines += [".SS [auth.keys.ID]", _text(inspect.cleandoc(AuthKey.__doc__ or ""))]
            lines += _settings(AuthKey.model_fields)
    lines += [".SH [symbols.NAME]", _text(SYMBOLS), *_settings(Symbol.model_fields)]
    common = SourceSettings.model_fields
    lines += [".SH [[sources]]", *_paragraphs(SOURCES), *_settings(common)]
    for kind in PROVIDERS:
        provider = provider_class(kind)
        lines += [f".SS type = {_quoted(kind)}", *_paragraphs(inspect.cleandoc(provider.__doc__ or ""))]
        lines += _settings({k: f for k, f in provider.Settings.model_fields.items() if k not in common})
    lines += _see_also(["aurexd(8)", "aurexctl(1)"])
    return "\n".join(lines) + "\n"


def _settings(fields: dict[str, FieldInfo]) -> Iterator[str]:
    for key, field in fields.items():
        yield from _setting(key, field)


def _setting(key: str, field: Any) -> Iterator[str]:
    yield ".TP"
    yield _bold(key)
    yield _text(f"{field.description} {takes(field)}")


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" "{section}" "" "aurexd {__version__}" "aurexd"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(summary)}"


def _see_also(pages: list[str]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {page.replace('(', ' (')}" for page in pages).replace(",\n", " ,\n")


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n{2,}", text)):
        if number:
            yield ".PP"
        yield _text(paragraph)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text and not text.endswith(".") else text


def _quoted(text: str) -> str:
    return f"\\(dq{_text(text)}\\(dq"


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_text(text)}\\fR"


def _text(text: str) -> str:
    """Text that roff takes as it is: on one line, so that none of it can be a request."""
    line = " ".join(text.split())
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{line}" if line.startswith(".") else line


def main(directory: str) -> None:
    """Write each page into its section's directory."""
    for name, page in pages().items():
        section = Path(directory) / f"man{name[-1]}"
        section.mkdir(parents=True, exist_ok=True)
        (section / name).write_text(page)


if __name__ == "__main__":
    main(sys.argv[1])
