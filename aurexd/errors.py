"""Every error aurexd raises on purpose, by whose fault it is.

AurexError
├── ConfigError          the operator's: the configuration cannot be used; carries every problem found
├── ProtocolError        a client's: a message that breaks docs/protocol.md
├── AlertError           a client's: an alert rule that cannot be made, changed or found
├── IdentityError        a client's: a token that is not valid here and now
├── KeyFileError         the operator's: the file of a key that cannot be used
├── CertificateError     the operator's: no certificate can be made for that name, or written there
├── ListenError          the operator's or the machine's: the address cannot be bound
├── FeedError            a provider's: its connection, its answer or its refusal
├── StoreError           the database's: it cannot be opened, read or written now
├── VarlinkError         an operator's: what was asked over the control socket cannot be done; a typed reply
├── ControlError         an operator's: the daemon cannot be reached, or did not do what `aurexctl` asked
├── InboxFullError       ours: an actor's inbox is full and the caller chose not to wait
└── SupervisionError     ours: an actor kept dying and its supervisor's budget is spent
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from aurexd.foreign import clean


class AurexError(Exception):
    """The root: whoever catches this catches all that aurexd raises on purpose."""


class Problem(NamedTuple):
    """One thing wrong with a configuration."""

    path: str
    """Where, as the operator would write it: `sources.alltick.symbols.XAUUSD`; empty for a whole file."""
    message: str
    """What is wrong."""
    suggestion: str = ""
    """What to write instead; empty when there is nothing better to say than the message."""
    origin: str = ""
    """The other file, or the environment's variable, that says so; empty for the main file."""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.origin, self.path, self.message) if part)
        return where + (f" — {self.suggestion}" if self.suggestion else "")


class ConfigError(AurexError):
    """The configuration cannot be used. `problems` holds all of them, in the file's order."""

    def __init__(self, problems: list[Problem], file: str = "") -> None:
        super().__init__(problems, file)
        self.problems = problems
        self.file = file

    def __str__(self) -> str:
        head = f"{self.file or 'configuration'}: {len(self.problems)} problem{'s'[: len(self.problems) != 1]}"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


class CertificateError(AurexError):
    """A certificate cannot be made for that name, or written there; the message says why, and what to do."""


class ProtocolError(AurexError):
    """A client broke the protocol. `code` is one of `aurexd.protocol.codes.ErrorCode`."""

    def __init__(self, code: str, message: str, request_id: str | int | None = None) -> None:
        super().__init__(code, message, request_id)
        self.code = code
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return self.message


class AlertError(AurexError):
    """An alert rule cannot be made, changed or found. `code` is one of `aurexd.protocol.codes.ErrorCode`."""

    def __init__(self, code: str, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(code, message, retry_after_ms)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return self.message


class IdentityError(AurexError):
    """A token is not valid here and now. The message never has anything of the token but the id of its key.

    `expired`: it was valid before, so its bearer should come back with a new one.
    """

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class KeyFileError(AurexError):
    """A key's file cannot be used: the message goes on after the file's name; `suggestion` is what to do."""

    def __init__(self, message: str, suggestion: str) -> None:
        super().__init__(message, suggestion)
        self.message = message
        self.suggestion = suggestion

    def __str__(self) -> str:
        return f"{self.message} — {self.suggestion}"


class ListenError(AurexError):
    """The address cannot be bound; the message says why, and what to do."""


class FeedError(AurexError):
    """A provider's connection ended or could not be made.

    `fatal`: trying again cannot help (a refused token, an unknown instrument): a person must act.
    `retry_after_s`: the provider's own wish, a floor under our backoff. The message may quote the provider: it is
    cleaned here, once, because from here it goes to logs, pages and terminals.
    """

    def __init__(self, message: str, *, fatal: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(clean(message))
        self.fatal = fatal
        self.retry_after_s = retry_after_s


class StoreError(AurexError):
    """The database cannot be used now. `permanent`: not until a person acts (a corrupt file)."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class VarlinkError(AurexError):
    """What was asked over the control socket cannot be done; `name` and `parameters` are what the reply says."""

    name: ClassVar[str]
    """With the interface in front: `io.aurex.Control.NoSuchSource`."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(parameters)
        self.parameters = parameters

    def __str__(self) -> str:
        return f"{self.name} {self.parameters}"


class ControlError(AurexError):
    """The daemon cannot be reached, or did not do what was asked; the message says why. `status`: by sysexits.h."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class InboxFullError(AurexError):
    """An actor's inbox is full, and the caller asked not to wait."""


class SupervisionError(AurexError):
    """A supervised actor died more often than its supervisor allows."""
