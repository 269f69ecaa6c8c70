"""The `aurexd` command: what it is asked, and the one error boundary: exception → message → exit status.

Exit statuses are those of sysexits.h: 0, 64 usage, 65 a token that is not valid, 69 a needed service is unavailable, 70
internal error, 78 configuration.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import structlog

from aurexd import __version__, cli_token, log
from aurexd.command_line import Parser, print_json, print_text
from aurexd.config import Config, config_file, load
from aurexd.errors import (
    CertificateError,
    ConfigError,
    IdentityError,
    ListenError,
    Problem,
    StoreError,
    SupervisionError,
)
from aurexd.redaction import Redactor

EX_OK = os.EX_OK
EX_USAGE = os.EX_USAGE
EX_DATA = os.EX_DATAERR
EX_UNAVAILABLE = os.EX_UNAVAILABLE
EX_INTERNAL = os.EX_SOFTWARE
EX_CONFIG = os.EX_CONFIG
INTERRUPTED = 130  # a shell's 128 + SIGINT: Ctrl-C before there was anything to stop in order

_log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status."""
    sys.exit(status_of(lambda: _command(arguments), _say))


class Report(Protocol):
    """Tells a person why the command failed."""

    def __call__(self, message: str, bug: BaseException | None = None) -> None:
        """`bug` is the exception when nobody foresaw it: its traceback is wanted."""


def status_of(command: Callable[[], int], report: Report) -> int:
    """Run a command; its failure becomes a message and an exit status."""
    try:
        return command()
    except SystemExit:
        raise
    except BaseException as error:
        errors = list(_leaves(error))
        for message in dict.fromkeys(str(e) for e in errors if isinstance(e, _FORESEEN)):
            report(message)
        if not all(isinstance(e, (*_FORESEEN, KeyboardInterrupt)) for e in errors):
            report("internal error; please report it with the traceback", bug=error)
        return min((_status(e) for e in errors), key=_FIRST.index)


_FORESEEN = (CertificateError, ConfigError, IdentityError, ListenError, StoreError, SupervisionError)
"""Errors whose message is all a person needs; any other that comes this far is a bug."""

_FIRST = (EX_INTERNAL, EX_CONFIG, EX_UNAVAILABLE, EX_DATA, EX_USAGE, INTERRUPTED)
"""When several things went wrong at once, the first of these is the status."""


def _status(error: BaseException) -> int:
    match error:
        case CertificateError():
            return EX_USAGE
        case ConfigError():
            return EX_CONFIG
        case ListenError() | StoreError():
            return EX_UNAVAILABLE
        case IdentityError():
            return EX_DATA
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return EX_INTERNAL


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _say(message: str, bug: BaseException | None = None) -> None:
    if bug is not None:
        sys.stderr.write(Redactor().text("".join(traceback.format_exception(bug))))
    sys.stderr.write(f"aurexd: {message}\n")


def _command(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    status: int = options.command(options)
    return status


def parser() -> Parser:
    """What may be asked; the manual page and the shells' completions are made from it, too."""
    parser = Parser(prog="aurexd", description="A real-time gold price daemon.")
    parser.add_argument("--version", action="version", version=f"aurexd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run", help="run the daemon until SIGTERM or Ctrl-C; SIGHUP has its configuration read again"
    )
    _add_config(run)
    run.set_defaults(command=_run)

    check = commands.add_parser("check-config", help="tell all that is wrong with the configuration")
    _add_config(check)
    check.add_argument("--json", action="store_true", help="one JSON document on standard output")
    check.set_defaults(command=_check_config)

    doctor = commands.add_parser(
        "doctor", help="look at the machine: file descriptors, clock, certificate, paths, sources"
    )
    _add_config(doctor)
    doctor.add_argument("--json", action="store_true", help="one JSON document on standard output")
    doctor.set_defaults(command=_doctor)

    default = commands.add_parser("default-config", help="print a configuration that explains every setting")
    default.set_defaults(command=_default_config)

    certificate = commands.add_parser(
        "dev-certificate", help="make a certificate to try TLS with on this machine"
    )
    certificate.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="host names and addresses it is for; default: localhost 127.0.0.1 ::1",
    )
    certificate.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        default=Path("dev-certificate"),
        help="where it is written; default: dev-certificate",
    )
    certificate.set_defaults(command=_dev_certificate)

    schema = commands.add_parser("schema", help="print what clients can rely on, for machines")
    schema.add_argument(
        "kind",
        choices=("asyncapi", "openapi", "jsonschema"),
        help="asyncapi: the WebSocket; openapi: HTTP; jsonschema: the messages",
    )
    schema.set_defaults(command=_schema)

    token = commands.add_parser("token", help="make keys and tokens for clients, and inspect them")
    cli_token.add_commands(token, _add_config)
    token.set_defaults(command=_token)
    return parser


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", help="default: $AUREXD_CONFIG, else /etc/aurexd/aurexd.toml"
    )


def _run(options: argparse.Namespace) -> int:
    file = config_file(options.config)
    config = load(file)
    log.configure(config.log.level, config.log.format, secrets=config.secrets)
    for note in _notes(config):
        _log.warning("config_noted", path=note.path, note=note.message, hint=note.suggestion)
    return status_of(lambda: _serve(config, file), _log_failure)


def _serve(config: Config, file: Path) -> int:
    # Imported here: the other commands answer faster without the whole daemon.
    import trio

    from aurexd.daemon import run_daemon

    # Killed by the watchdog (SIGABRT) or by a library's bug, it says where every thread stood.
    faulthandler.enable()
    trio.run(run_daemon, config, file)
    return EX_OK


def _log_failure(message: str, bug: BaseException | None = None) -> None:
    _log.error("daemon_failed", reason=message, exc_info=bug)


def _check_config(options: argparse.Namespace) -> int:
    file = config_file(options.config)
    problems: list[Problem] = []
    notes: list[Problem] = []
    try:
        config = load(file)
        notes = _notes(config)
    except ConfigError as error:
        if not options.json:
            raise
        problems = error.problems
    if options.json:
        print_json(
            {
                "ok": not problems,
                "file": str(file),
                "problems": [problem._asdict() for problem in problems],
                "notes": [note._asdict() for note in notes],
            }
        )
    else:
        print_text("".join(f"note: {note}\n" for note in notes))
        symbols, sources = ", ".join(config.symbols), ", ".join(source.name for source in config.sources)
        print_text(f"{file}: right; symbols: {symbols}; sources: {sources or 'none'}\n")
    return EX_CONFIG if problems else EX_OK


def _doctor(options: argparse.Namespace) -> int:
    from aurexd.doctor import examine

    findings = []
    for finding in examine(load(config_file(options.config))):
        findings.append(finding)
        if not options.json:
            advice = f" — {finding.advice}" if finding.advice else ""
            print_text(f"{finding.verdict:8} {finding.what}: {finding.message}{advice}\n")
    healthy = all(finding.verdict != "problem" for finding in findings)
    if options.json:
        print_json({"ok": healthy, "findings": [finding._asdict() for finding in findings]})
    return EX_OK if healthy else EX_UNAVAILABLE


def _notes(config: Config) -> list[Problem]:
    from aurexd.config.check import notes

    return notes(config)


def _default_config(_options: argparse.Namespace) -> int:
    from aurexd.config.manual import default_config

    print_text(default_config())
    return EX_OK


def _dev_certificate(options: argparse.Namespace) -> int:
    # Imported here, as in `_serve`.
    from datetime import UTC, datetime

    from aurexd import certificate

    names = list(dict.fromkeys(options.names or certificate.DEFAULT_NAMES))
    now = datetime.now(UTC)
    certificate.write(certificate.issue(names, now), options.directory)
    print_text(certificate.instructions(names, now, options.directory.absolute()))
    return EX_OK


def _schema(options: argparse.Namespace) -> int:
    if options.kind == "openapi":
        from aurexd.server.openapi import openapi_document

        print_json(openapi_document())
        return EX_OK
    from aurexd.protocol import schema

    print_json(schema.asyncapi_document() if options.kind == "asyncapi" else schema.json_schema())
    return EX_OK


def _token(options: argparse.Namespace) -> int:
    text, good = options.run(options)
    print_text(text)
    return EX_OK if good else EX_DATA
