"""What the environment overrides: which variables are ours, which key each means, and how its text is read.

`AUREXD_SECTION__KEY`: sections and keys in capitals, two underscores between. A source is called by its name
in capitals, _ for each -: `AUREXD_SOURCES__GOLD_API__PRIORITY`. Numbers, true and false are written as in
the file, texts without quotes, lists with commas between or as in the file, tables as `{ XAUUSD = "GOLD" }`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from aurexd.config.model import SECTIONS, Config, Symbol
from aurexd.config.tree import Table, Tree
from aurexd.config.words import did_you_mean, from_text, type_of
from aurexd.errors import Problem
from aurexd.sources import PROVIDERS, provider_class
from aurexd.sources.base import SourceSettings

PREFIX = "AUREXD_"
ALIASES = {
    "REALTIME_ENABLED": ("realtime", "enabled"),
    "WS_UPDATE_INTERVAL": ("realtime", "update_interval_s"),
}
"""Variables without our prefix that are honoured too; ours win over them."""


def lay_environment(tree: Tree, environ: Mapping[str, str]) -> None:
    """Lay what the environment says over the files; what makes no sense becomes a problem of the tree."""
    for variable, (section, key) in ALIASES.items():
        if variable in environ:
            _set(tree, SECTIONS[section], (section,), key, environ[variable], variable)
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        section, parted, rest = variable.removeprefix(PREFIX).partition("__")
        if parted:
            _lay(tree, variable, section.lower(), rest, environ[variable])
        elif meant := _single_underscore(variable):
            # Any other is left alone: AUREXD_CONFIG, and what Kubernetes sets for a service called aurexd.
            tree.problems.append(
                Problem("", "two underscores part a section and its key", f"did you mean {meant}?", variable)
            )


def variable_of(source: str) -> str:
    """How a source's name is written in a variable's: `gold-api` → `GOLD_API`."""
    return source.upper().replace("-", "_")


def settings_of(source: Table) -> type[SourceSettings]:
    """The settings of the source's type; where that is missing or unknown, what all sources have."""
    kind = source.get("type")
    return provider_class(kind).Settings if isinstance(kind, str) and kind in PROVIDERS else SourceSettings


def _lay(tree: Tree, variable: str, section: str, rest: str, text: str) -> None:
    if section in SECTIONS:
        _set(tree, SECTIONS[section], (section,), rest.lower(), text, variable)
    elif section == "symbols":
        name, _, key = rest.partition("__")
        _set(tree, Symbol, ("symbols", name), key.lower(), text, variable)
    elif section == "sources":
        _set_source(tree, variable, rest, text)
    else:
        known = [f"{PREFIX}{name.upper()}__…" for name in Config.model_fields]
        tree.problems.append(
            Problem("", "there is no such section", did_you_mean(f"{PREFIX}{section}__…", known), variable)
        )


def _set_source(tree: Tree, variable: str, rest: str, text: str) -> None:
    found = [
        path
        for path, table in tree.sources.items()
        if rest.startswith(variable_of(str(table.get("name", ""))) + "__")
    ]
    if len(found) != 1:
        known = [variable_of(str(table["name"])) for table in tree.sources.values() if "name" in table]
        trouble = "two sources answer to this name" if found else "no source of this name is in the file"
        tree.problems.append(Problem("", trouble, did_you_mean(rest.partition("__")[0], known), variable))
        return
    path = found[0]
    source = tree.sources[path]
    key, _, symbol = rest[len(variable_of(str(source["name"]))) + 2 :].partition("__")
    if symbol and key == "SYMBOLS":
        tree.set(source, path, "symbols", {symbol: text}, variable)
        return
    settings = settings_of(source)
    name = key.lower()
    field = settings.model_fields.get(name)
    tree.set(source, path, name, from_text(type_of(field), text) if field else text, variable)


def _set(
    tree: Tree, model: type[BaseModel], path: tuple[str, ...], key: str, text: str, variable: str
) -> None:
    container = tree.table
    for name in path:
        container = container.setdefault(name, {})
        if not isinstance(container, dict):
            return  # the file's problem is reported as such
    field = model.model_fields.get(key)
    value = from_text(type_of(field), text) if field else text
    tree.set(container, ".".join(path), key, value, variable)


def _single_underscore(variable: str) -> str:
    """The variable that was meant by `AUREXD_LISTEN_PORT`; empty where none was."""
    for section, model in SECTIONS.items():
        for key in model.model_fields:
            if variable == f"{PREFIX}{section}_{key}".upper():
                return f"{PREFIX}{section}__{key}".upper()
    return ""
