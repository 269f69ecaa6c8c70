"""The client's end of the control socket, for a command: it calls, waits, and says in a person's words what failed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, Self

from aurexd.control import wire
from aurexd.errors import ControlError

NAME = "io.aurex.Control"

DEFAULT_SOCKET = "/run/aurexd-control/io.aurex.Control"
SOCKET_VARIABLE = "AUREXD_CONTROL__SOCKET"
"""The variable that sets the daemon's own `socket` in [control]."""

REPLY_S = 60.0
"""A call that takes longer than this is not answered at all: a restart of a source may take ten seconds."""

MAX_REPLY_BYTES = 64 * 1024 * 1024


def socket_path(argument: str | None) -> str:
    """Which socket is meant: the command line's, else the variable's, else where the unit has it."""
    return argument or os.environ.get(SOCKET_VARIABLE, "") or DEFAULT_SOCKET


class Client:
    """A connection to the daemon; every wait has an end."""

    def __init__(self, path: str, *, timeout_s: float = REPLY_S) -> None:
        """Connect.

        Raises:
            ControlError: nobody is there, or we may not.

        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self._messages = wire.Messages(MAX_REPLY_BYTES)
        self._waiting: list[bytes] = []
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise _unreachable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The reply to one call.

        Raises:
            ControlError: there is none, or it is an error.

        """
        self._send(wire.call(f"{NAME}.{method}", parameters))
        return self._reply().parameters or {}

    def stream(self, method: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The replies to a call of which there may be several.

        Raises:
            ControlError: as `call`.

        """
        self._send(wire.call(f"{NAME}.{method}", parameters, more=True))
        continues = True
        while continues:
            reply = self._reply()
            continues = bool(reply.continues)
            yield reply.parameters or {}

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until the daemon hangs up, which it does when it ends; False: it does not within the time."""
        self._socket.settimeout(timeout_s)
        try:
            return not self._socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    def _send(self, message: bytes) -> None:
        try:
            self._socket.sendall(message)
        except OSError as error:
            raise ControlError(
                "the daemon hung up: it stops, or too many are connected", os.EX_UNAVAILABLE
            ) from error

    def _reply(self) -> wire.Reply:
        try:
            while not self._waiting:
                data = self._socket.recv(65536)
                if not data:
                    raise ControlError("the daemon hung up: it stops, or its log says why", os.EX_UNAVAILABLE)
                self._waiting += self._messages.feed(data)
            reply = wire.read_reply(self._waiting.pop(0))
        except TimeoutError as error:
            text = f"the daemon did not answer within {self._timeout_s:g} s; its log may say why"
            raise ControlError(text, os.EX_UNAVAILABLE) from error
        except OSError as error:
            raise ControlError(f"the connection broke: {error.strerror}", os.EX_UNAVAILABLE) from error
        except ValueError as error:
            raise ControlError(f"what answers there is no aurexd: {error}", os.EX_PROTOCOL) from error
        if reply.error is not None:
            raise _failed(reply.error, reply.parameters or {})
        return reply


def _unreachable(path: str, error: OSError) -> ControlError:
    match error:
        case FileNotFoundError():
            text = (
                f"there is no socket {path}: aurexd does not run, or has it elsewhere — name it with --socket"
            )
        case ConnectionRefusedError():
            text = f"nobody listens on {path}: aurexd does not run — systemctl status aurexd"
        case PermissionError():
            text = f"{path}: you may not open it — be root, the daemon's user, or in its group: adduser $USER aurexd"
            return ControlError(text, os.EX_NOPERM)
        case BlockingIOError() | TimeoutError():
            text = f"{path}: the daemon does not answer; its log may say why"
        case _:
            text = f"{path}: {error.strerror or error}"
    return ControlError(text, os.EX_UNAVAILABLE)


def _failed(name: str, parameters: dict[str, Any]) -> ControlError:
    """An error of the daemon's, in words, and the exit status that goes with it."""
    match name.rpartition(".")[2]:
        case "PermissionDenied":
            return ControlError(
                "only root and the daemon's own user may do that — sudo -u aurexd", os.EX_NOPERM
            )
        case "NoSuchSource":
            known = ", ".join(parameters["known"]) or "none"
            return ControlError(
                f"there is no source {parameters['source']}; there are: {known}", os.EX_DATAERR
            )
        case "NoSuchSymbol":
            known = ", ".join(parameters["known"])
            return ControlError(
                f"there is no symbol {parameters['symbol']}; there are: {known}", os.EX_DATAERR
            )
        case "NoSuchSession":
            text = (
                f"there is no session {parameters['session']}: it has left, or never was — aurexctl sessions"
            )
            return ControlError(text, os.EX_DATAERR)
        case "NoSuchAlert":
            return ControlError(f"there is no alert {parameters['alert']} — aurexctl alerts", os.EX_DATAERR)
        case "ConfigRefused":
            lines = [f"{parameters['file'] or 'configuration'}: refused, and nothing was changed"]
            for problem in parameters["problems"]:
                where = ": ".join(problem[key] for key in ("origin", "path", "message") if problem[key])
                lines.append(f"  {where}" + (f" — {problem['suggestion']}" if problem["suggestion"] else ""))
            return ControlError("\n".join(lines), os.EX_CONFIG)
        case "NotDone":
            return ControlError(parameters["message"], os.EX_TEMPFAIL)
        case "NotAnswered":
            return ControlError(
                f"a part of the daemon did not answer: {parameters['message']}", os.EX_UNAVAILABLE
            )
        case "InvalidParameter":
            return ControlError(f"the daemon does not take this: {parameters['parameter']}", os.EX_DATAERR)
        case "MethodNotFound" | "InterfaceNotFound":
            return ControlError(
                "the daemon that runs is another version, and does not know that", os.EX_UNAVAILABLE
            )
        case _:
            return ControlError(f"{name} {parameters}", os.EX_PROTOCOL)
