"""The `aurexctl` command: looks into the running daemon and steers it, through its control socket.

A table for people, one JSON document with `--json`. The exit status is 0 only when what was asked happened; else one
of sysexits.h.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from aurexd import __version__
from aurexd.command_line import Parser, print_json, print_text
from aurexd.control.client import DEFAULT_SOCKET, SOCKET_VARIABLE, Client, socket_path
from aurexd.errors import ControlError

if TYPE_CHECKING:  # what draws tables is loaded when one is wanted
    from rich.console import Console, RenderableType

LEVELS = ("debug", "info", "warning", "error")

WIDE = 250
"""Columns where there is no terminal: what reads a table there wants whole lines."""

STOP_S = 180.0
"""How long a drained daemon may take to end: what its own stop may take, and room."""

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status."""
    options = parser().parse_args(arguments)
    if getattr(options, "action", None) is not None and options.name is None:
        options.parser.error(f"{options.action} which? name a source; aurexctl sources lists them")
    try:
        with Client(socket_path(options.socket)) as client:
            options.command(client, options)
    except ControlError as error:
        sys.stderr.write(f"aurexctl: {error}\n")
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(os.EX_OK)


def parser() -> Parser:
    """What may be asked; the manual page and the shells' completions are made from it, too."""
    parser = Parser(prog="aurexctl", description="Look into the running aurexd, and steer it.")
    parser.add_argument("--version", action="version", version=f"aurexctl {__version__}")
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help=f"the control socket; default: ${SOCKET_VARIABLE}, else {DEFAULT_SOCKET}",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on standard output; watch: one a line"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    status = commands.add_parser("status", help="how the daemon is: prices, sources, store, clients")
    status.set_defaults(command=_status)

    sources = commands.add_parser("sources", help="every source; or pause, resume or restart one")
    sources.add_argument(
        "action",
        nargs="?",
        choices=("pause", "resume", "restart"),
        help="pause: disconnect it and leave it so; resume: connect it at once; restart: have it start afresh",
    )
    sources.add_argument("name", nargs="?", metavar="NAME", help="the source's name in the configuration")
    sources.set_defaults(command=_sources, parser=sources)

    actors = commands.add_parser("actors", help="the daemon's parts: states, restarts, inboxes")
    actors.set_defaults(command=_actors)

    sessions = commands.add_parser("sessions", help="who streams")
    sessions.add_argument(
        "--ip", metavar="ADDRESS", help="only from this address, or network as 192.0.2.0/24"
    )
    sessions.set_defaults(command=_sessions)

    kick = commands.add_parser("kick", help="close a session (4504): it is not to come back")
    kick.add_argument("id", metavar="ID", help="the session's, as `sessions` and the log have it")
    kick.set_defaults(command=_kick)

    level = commands.add_parser("log-level", help="what is logged; or change it until the next reload")
    level.add_argument("level", nargs="?", choices=LEVELS, help="the least severe that is to be logged")
    level.set_defaults(command=_log_level)

    reload = commands.add_parser("reload", help="read the configuration again; a wrong one changes nothing")
    reload.set_defaults(command=_reload)

    drain = commands.add_parser("drain", help="send the clients away in order, and stop the daemon")
    drain.set_defaults(command=_drain)

    watch = commands.add_parser("watch", help="live prices, until Ctrl-C")
    watch.add_argument("symbols", nargs="*", metavar="SYMBOL", help="which; default: all")
    watch.set_defaults(command=_watch)

    metrics = commands.add_parser("metrics", help="what Prometheus is told at /metrics")
    metrics.set_defaults(command=_metrics)

    alerts = commands.add_parser(
        "alerts", help="rules and alerts of all owners, and what nobody has acknowledged"
    )
    alerts.set_defaults(command=_alerts)

    why = commands.add_parser("why", help="why a price is what it is, or why an alert fired: ticks and rules")
    why.add_argument("kind", choices=("price", "alert"), help="what is asked for")
    why.add_argument("name", metavar="NAME", help="the symbol, or the alert's id")
    why.set_defaults(command=_why)
    return parser


# --- looking ---


def _status(client: Client, options: argparse.Namespace) -> None:
    _show(options, client.call("GetStatus"), "status")


def _actors(client: Client, options: argparse.Namespace) -> None:
    _show(options, client.call("ListActors"), "actors")


def _sessions(client: Client, options: argparse.Namespace) -> None:
    found: list[Any] = []
    total = 0
    for reply in client.stream("ListSessions", address=options.ip):
        found += reply["sessions"]
        total = reply["total"]
    _show(options, {"sessions": found, "total": total}, "sessions")


def _metrics(client: Client, options: argparse.Namespace) -> None:
    reply = client.call("GetMetrics")
    _say(options, reply, reply["text"].rstrip())


def _why(client: Client, options: argparse.Namespace) -> None:
    if options.kind == "price":
        _show(options, client.call("GetWhyPrice", symbol=options.name), "why_price")
    else:
        _show(options, client.call("GetWhyAlert", id=options.name), "why_alert")


def _alerts(client: Client, options: argparse.Namespace) -> None:
    _show(options, client.call("ListAlerts"), "alerts")


def _watch(client: Client, options: argparse.Namespace) -> None:
    replies = client.stream("Watch", symbols=options.symbols or None)
    if options.json:
        for reply in replies:
            for symbol in reply["symbols"]:
                print_json(symbol, indent=None)
            for name in reply.get("gone", ()):
                print_json({"symbol": name, "gone": True}, indent=None)
        return
    console = _console()
    if console.is_terminal:
        _watch_live(console, replies)
        return
    from aurexd.control.tables import price_line

    for reply in replies:
        for symbol in reply["symbols"]:
            print_text(price_line(symbol) + "\n")
        for name in reply.get("gone", ()):
            print_text(f"{name} is gone: the daemon has it no more\n")


def _watch_live(console: Console, replies: Iterator[dict[str, Any]]) -> None:
    from rich.live import Live

    from aurexd.control.tables import prices

    known: dict[str, Any] = {}
    with Live(console=console, auto_refresh=False) as live:
        for reply in replies:
            known |= {symbol["symbol"]: symbol for symbol in reply["symbols"]}
            for name in reply.get("gone", ()):
                known.pop(name, None)
            live.update(prices(known.values()), refresh=True)


# --- steering ---


def _sources(client: Client, options: argparse.Namespace) -> None:
    if options.action is None:
        _show(options, client.call("ListSources"), "sources")
        return
    reply = client.call(f"{options.action.capitalize()}Source", name=options.name)
    if options.json:
        print_json(reply)
    else:
        _print(_table_of("sources", {"sources": [reply["source"]]}))


def _kick(client: Client, options: argparse.Namespace) -> None:
    _say(options, client.call("KickSession", id=options.id), f"session {options.id} is being closed")


def _log_level(client: Client, options: argparse.Namespace) -> None:
    reply = client.call("SetLogLevel", level=options.level) if options.level else client.call("GetLogLevel")
    _say(options, reply, reply["level"])


def _reload(client: Client, options: argparse.Namespace) -> None:
    _show(options, client.call("Reload"), "reloaded")


def _drain(client: Client, options: argparse.Namespace) -> None:
    left = 0
    for reply in client.stream("Drain"):
        left = reply["left"]
        if not options.json:
            print_text(f"{left} clients are left\n")
    if not client.wait_closed(STOP_S):
        raise ControlError(
            f"the clients are gone, but the daemon has not ended within {STOP_S:g} s", os.EX_TEMPFAIL
        )
    _say(options, {"left": left}, "the daemon has ended" + (f"; {left} clients were cut off" if left else ""))


# --- printing ---


def _show(options: argparse.Namespace, reply: dict[str, Any], table: str) -> None:
    if options.json:
        print_json(reply)
    else:
        _print(_table_of(table, reply))


def _say(options: argparse.Namespace, reply: dict[str, Any], text: str) -> None:
    if options.json:
        print_json(reply)
    else:
        print_text(text + "\n")


def _table_of(name: str, reply: dict[str, Any]) -> RenderableType:
    from aurexd.control import tables

    table: RenderableType = getattr(tables, name)(reply)
    return table


def _print(what: RenderableType) -> None:
    """Print it as it is: without what a terminal would be asked to do, where there is none."""
    console = _console()
    with console.capture() as captured:
        console.print(what)
    lines = captured.get().splitlines()
    print_text("\n".join(line.rstrip() for line in lines) + "\n")


def _console() -> Console:
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console
