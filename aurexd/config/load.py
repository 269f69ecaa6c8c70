"""Reads the configuration: the file, what lies in conf.d beside it, the environment; all problems at once.

`load` is the only way in. It knows no defaults and no rules: those are `model.py`'s and `check.py`'s.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from aurexd.config.check import check
from aurexd.config.environment import lay_environment
from aurexd.config.model import Config
from aurexd.config.tree import Table, Tree
from aurexd.config.validate import validate
from aurexd.errors import ConfigError, Problem

DEFAULT_FILE = Path("/etc/aurexd/aurexd.toml")
FILE_VARIABLE = "AUREXD_CONFIG"

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def config_file(argument: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Which file to read: the command line's, else `$AUREXD_CONFIG`, else /etc/aurexd/aurexd.toml."""
    return Path(argument or environ.get(FILE_VARIABLE, "") or DEFAULT_FILE)


def load(file: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration that `file`, `conf.d/*.toml` beside it and `environ` make together.

    Raises:
        ConfigError: it cannot be used; with every problem, in the order of the file.

    """
    tree, problems = Tree(), []
    for layer in [file, *sorted((file.parent / "conf.d").glob("*.toml"))]:
        origin = "" if layer == file else f"conf.d/{layer.name}"
        try:
            tree.lay(_read(layer, origin), origin)
        except ConfigError as error:
            problems += error.problems
    if problems:
        # What a broken file would have said is unknown, so nothing else can be judged.
        raise ConfigError(problems, str(file))
    lay_environment(tree, environ)
    valid, problems = validate(tree, environ)
    problems = [*tree.problems, *problems, *check(tree, valid)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: tree.place(problem.path)), str(file))
    return valid.config()


def _read(file: Path, origin: str) -> Table:
    path, message, suggestion = "", "", ""
    try:
        return tomllib.loads(file.read_bytes().decode())
    except FileNotFoundError:
        message = "there is no such file"
        suggestion = (
            f"name one with --config or ${FILE_VARIABLE}, or make one: aurexd default-config > {DEFAULT_FILE}"
        )
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        path = f"line {line}"
        message = "is not text in UTF-8"
    except tomllib.TOMLDecodeError as error:
        message = f"is not TOML: {_POSITION.sub('', str(error))}"
        if position := _POSITION.search(str(error)):
            path = f"line {position[1]}, column {position[2]}" if position[1] else "end of the file"
    raise ConfigError([Problem(path, message, suggestion, origin)], str(file))
