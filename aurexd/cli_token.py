"""The `aurexd token` command: makes keys and tokens, and tells what a token says."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aurexd.clock import SystemClock
from aurexd.config import config_file, load
from aurexd.config.keys import keyring, read_keys
from aurexd.config.model import AuthKey
from aurexd.config.words import choices, did_you_mean, toml
from aurexd.errors import ConfigError, IdentityError, Problem
from aurexd.identity import KEY_ID, MAX_USER_LENGTH, Scope, is_user
from aurexd.market import SECOND_US, EpochUs, format_time

if TYPE_CHECKING:  # it loads a library for cryptography, which other commands need not wait for
    from aurexd.tokens import Key

MAX_INPUT = 65_536
"""Characters that `inspect` reads: a token has at most 8192."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_commands(
    token: argparse.ArgumentParser, add_config: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Add `mint`, `inspect` and `key`; `run` is what each of them does: options in, text and success out."""
    commands = token.add_subparsers(metavar="COMMAND", required=True)

    mint = commands.add_parser("mint", help="make a token and print it, and nothing else")
    add_config(mint)
    mint.add_argument("--user", required=True, type=_user, help="whom it is for")
    mint.add_argument(
        "--scope", type=_scopes, default=(Scope.READ,), help="read, alerts, admin, with commas; default: read"
    )
    mint.add_argument(
        "--for",
        dest="lifetime_s",
        metavar="TIME",
        type=_lifetime,
        default=3600,
        help="30m, 1h, 7d; default: 1h",
    )
    mint.add_argument("--key", metavar="ID", help="which of [auth.keys] signs it, where several can")
    mint.set_defaults(run=_mint, parser=mint)

    inspect = commands.add_parser("inspect", help="tell what a token says, and whether it is valid here")
    add_config(inspect)
    inspect.add_argument("file", nargs="?", help="a file with the token; default: standard input")
    inspect.set_defaults(run=_inspect, parser=inspect)

    key = commands.add_parser("key", help="make a key, and print how to configure it")
    key.add_argument(
        "--algorithm", required=True, choices=choices(AuthKey.model_fields["algorithm"].annotation)
    )
    key.add_argument(
        "--id", required=True, type=_key_id, help="what tokens will call it: letters, digits, _ and -"
    )
    key.add_argument(
        "--file", required=True, help="where to write it; a file that is there is never overwritten"
    )
    key.set_defaults(run=_key, parser=key)


# --- what is typed ---


def _user(text: str) -> str:
    if not is_user(text):
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_USER_LENGTH} characters that can be printed")
    return text


def _scopes(text: str) -> tuple[Scope, ...]:
    words = re.split(r"[,\s]+", text.strip(", "))
    for word in words:
        if word not in list(Scope):
            raise argparse.ArgumentTypeError(f"there is no scope {word!r}; {did_you_mean(word, Scope)}")
    return tuple(Scope(word) for word in dict.fromkeys(words))


def _lifetime(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found or found[1].strip("0") == "":
        raise argparse.ArgumentTypeError(f"expected a time such as 30m, 1h or 7d, got {text!r}")
    return int(found[1]) * _UNITS_S[found[2]]


def _key_id(text: str) -> str:
    if not re.fullmatch(KEY_ID, text):
        raise argparse.ArgumentTypeError(f"expected 1 to 64 letters, digits, _ and -, got {text!r}")
    return text


# --- the commands ---


def _mint(options: argparse.Namespace) -> tuple[str, bool]:
    from aurexd.tokens import mint

    config = load(config_file(options.config))
    keys, problems = read_keys(config.auth)
    if problems:
        raise ConfigError(problems)
    token = mint(
        _signing_key(options, keys),
        user=options.user,
        scopes=options.scope,
        audience=config.auth.audience,
        now=SystemClock().now(),
        lifetime_s=options.lifetime_s,
    )
    return f"{token}\n", True


def _signing_key(options: argparse.Namespace, keys: list[Key]) -> Key:
    wanted = [key for key in keys if options.key in (None, key.id)]
    if not wanted and keys:
        options.parser.error(
            f"--key: there is no key {options.key}; {did_you_mean(options.key, [k.id for k in keys])}"
        )
    able = [key for key in wanted if key.can_sign]
    if not able:
        what = "they are public keys, which cannot sign" if wanted else "there is none"
        raise ConfigError(
            [Problem("auth.keys", what, "make one: aurexd token key --algorithm EdDSA --id ID --file FILE")]
        )
    if len(able) > 1:
        options.parser.error(f"--key: say which is to sign: {', '.join(key.id for key in able)}")
    return able[0]


def _inspect(options: argparse.Namespace) -> tuple[str, bool]:
    from aurexd.tokens import unverified

    config = load(config_file(options.config))
    token = _read(options).strip()
    now = SystemClock().now()
    said = unverified(token)
    try:
        keyring(config).verify(token, now)
        verdict = "yes"
    except IdentityError as error:
        verdict = f"no: {error}"
    claims, header = said.claims, said.header
    lines = {
        "user": claims.get("sub"),
        "scopes": claims.get("scope"),
        "audience": claims.get("aud"),
        "key": header.get("kid"),
        "algorithm": header.get("alg"),
        "issued": _time(claims.get("iat"), now),
        "valid from": _time(claims.get("nbf"), now),
        "expires": _time(claims.get("exp"), now),
        "valid here": verdict,
    }
    text = "".join(f"{name:<12}{_shown(value)}\n" for name, value in lines.items() if value is not None)
    return text, verdict == "yes"


def _read(options: argparse.Namespace) -> str:
    parser: argparse.ArgumentParser = options.parser
    try:
        if options.file is None:
            return sys.stdin.read(MAX_INPUT)
        with Path(options.file).open() as opened:
            return opened.read(MAX_INPUT)
    except UnicodeDecodeError:
        raise IdentityError("it cannot be read as a signed token") from None
    except OSError as error:
        parser.error(f"{options.file}: {error.strerror}")


def _key(options: argparse.Namespace) -> tuple[str, bool]:
    from aurexd.tokens import Algorithm, generate_key

    file = Path(options.file).absolute()
    algorithm = Algorithm(options.algorithm)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(generate_key(algorithm))
    except FileExistsError:
        options.parser.error(
            f"{file} is there, and a key is never overwritten: choose another name, and another id"
        )
    except OSError as error:
        options.parser.error(f"{file}: {error.strerror}")
    return f"[auth.keys.{options.id}]\nalgorithm = {toml(algorithm)}\nfile = {toml(str(file))}\n", True


# --- what is shown ---


def _time(seconds: Any, now: EpochUs) -> Any:
    """When that is, and how far from now; what is no time stays as it is."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return seconds
    try:
        time = EpochUs(int(seconds * SECOND_US))
        text = format_time(time)
    except (ValueError, OverflowError, OSError):
        return seconds
    away_s = abs(time - now) // SECOND_US
    unit = next((u for u in ("d", "h", "m") if away_s >= 2 * _UNITS_S[u]), "s")
    distance = f"{away_s // _UNITS_S[unit]} {unit}"
    return f"{text} ({f'in {distance}' if time >= now else f'{distance} ago'})"


def _shown(value: Any) -> str:
    """As text that cannot steer a terminal."""
    text = value if isinstance(value, str) else repr(value)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
