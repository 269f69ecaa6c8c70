"""Reads the files of the keys that [auth] names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aurexd.config.model import Auth, Config
from aurexd.errors import ConfigError, KeyFileError, Problem
from aurexd.identity import Authority

if TYPE_CHECKING:  # it loads a library for cryptography, which commands and daemons without keys do not need
    from aurexd.tokens import Key, Keyring

MAX_FILE_BYTES = 65_536
"""No key is as large, and a path may name anything."""


def read_keys(auth: Auth) -> tuple[list[Key], list[Problem]]:
    """The keys that can be used, and what is wrong with the others."""
    keys, problems = [], []
    for key_id, key in auth.keys.items():
        try:
            keys.append(_read_key(key_id, key.algorithm, Path(key.file)))
        except KeyFileError as error:
            path = f"auth.keys.{key_id}.file"
            problems.append(Problem(path, f"{key.file}: {error.message}", error.suggestion))
    return keys, problems


def authority_of(config: Config) -> Authority | None:
    """Who judges tokens; None where none are asked for.

    Raises:
        ConfigError: a key cannot be read, or not any more.

    """
    return keyring(config) if config.auth.mode == "token" else None


def keyring(config: Config) -> Keyring:
    """The keys, whether tokens are asked for or not.

    Raises:
        ConfigError: a key cannot be read, or not any more.

    """
    from aurexd.tokens import Keyring

    keys, problems = read_keys(config.auth)
    if problems:
        raise ConfigError(problems)
    return Keyring(keys, audience=config.auth.audience, leeway_s=config.auth.leeway_s)


def _read_key(key_id: str, algorithm: str, file: Path) -> Key:
    from aurexd.tokens import Algorithm, read_key

    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{error.strerror}", "it must be readable for the daemon's user") from error
    if len(data) > MAX_FILE_BYTES:
        raise KeyFileError(f"has more than {MAX_FILE_BYTES} bytes", "name the file of one key")
    return read_key(key_id, Algorithm(algorithm), data)
