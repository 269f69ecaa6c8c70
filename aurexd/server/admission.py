"""Who may stream: the one place where a client is let in or turned away, and counted while it is there.

Both kinds of streaming sessions come through here. The counts are `limits.py`'s; how a client is told is the business
of the room that serves it.
"""

from __future__ import annotations

import random
from urllib.parse import urlsplit

import msgspec
import trio

from aurexd.drain import Drain
from aurexd.errors import IdentityError
from aurexd.limits import SessionCounts, address_group
from aurexd.protocol.codes import CloseCode
from aurexd.rollout import is_open_to
from aurexd.server.credentials import Credentials
from aurexd.server.request import Request
from aurexd.settings import Settings

EMPTY_LOOK_S = 0.05
"""How often `wait_empty` looks."""


ROLLOUT_ADVICE = (
    "WebSockets are not open to you at present: read /api/v1/stream, or poll /api/v1/prices/latest"
)


class Refusal(msgspec.Struct, frozen=True):
    """Why a client may not enter, in a code for programs and words for people."""

    code: CloseCode
    message: str
    retry_after_ms: int | None = None
    """When it may; None: whenever others may that are turned away."""


class Admission:
    """Decides about each client, and knows who is there. Whoever is in stays in, also when a limit is lowered."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._counts = SessionCounts()
        self._drain: Drain | None = None
        self._random = random.Random()

    @property
    def sessions(self) -> int:
        """How many are in."""
        return self._counts.total

    def drain(self, plan: Drain) -> None:
        """Let nobody in any more: whoever comes is given a time among those who are sent away."""
        self._drain = plan

    @property
    def retry_after_ms(self) -> int:
        """While it drains: a time to come back, another one each time."""
        assert self._drain is not None
        return self._drain.newcomer_after_ms(self._random.random(), trio.current_time())

    async def wait_empty(self) -> None:
        """Return when nobody is in."""
        while self._counts.total:  # noqa: ASYNC110 — once in a life; a session that ends need not know who waits
            await trio.sleep(EMPTY_LOOK_S)

    def refusal(self, request: Request) -> Refusal | None:
        """None, or why this client may not enter now; who it has shown to be stands in the request then."""
        limits = self._settings.limits
        if request.origin is not None and not self._is_allowed(request.origin, request.host):
            return Refusal(CloseCode.FORBIDDEN, f"pages from {request.origin[:100]} may not connect here")
        if self._drain is not None:
            return Refusal(CloseCode.GOING_AWAY, "the server stops", self.retry_after_ms)
        if limits.max_connections and self._counts.total >= limits.max_connections:
            return Refusal(CloseCode.OVER_CAPACITY, "the server is full")
        try:
            request.identity = self._credentials.identify(request)
        except IdentityError as error:
            code = CloseCode.TOKEN_EXPIRED if error.expired else CloseCode.BAD_TOKEN
            return Refusal(code, f"the token is not valid here: {error}")
        if request.upgrade and not self._is_open_to(_group(request)):
            return Refusal(CloseCode.ROLLOUT_CLOSED, ROLLOUT_ADVICE)
        if request.identity is not None and request.identity.has_token:
            return self.refusal_of_user(request.identity.user)
        most = limits.max_connections_per_ip
        if most and self._counts.of(address_group(request.address)) >= most:
            return Refusal(CloseCode.TOO_MANY_CONNECTIONS, f"more than {most} connections from your address")
        return None

    def refusal_of_user(self, user: str) -> Refusal | None:
        """None, or why there cannot be one more session of this user."""
        most = self._settings.limits.max_connections_per_user
        if most and self._counts.of(_user_group(user)) >= most:
            return Refusal(CloseCode.TOO_MANY_CONNECTIONS, f"more than {most} connections of this user")
        return None

    def enter(self, request: Request) -> Place:
        """A session begins; its place is to be left when it ends."""
        return Place(self, self._counts, _group(request))

    def _is_open_to(self, who: str) -> bool:
        """The feature flag, which is about WebSockets only: the event stream is what those use whom it excludes."""
        realtime = self._settings.realtime
        return realtime.enabled and is_open_to(who, realtime.rollout_percent)

    def _is_allowed(self, origin: str, host: str) -> bool:
        """A page may connect to where it came from, and from where the configuration allows."""
        if origin in self._settings.limits.allowed_origins:
            return True
        try:
            return urlsplit(origin).netloc == host != ""
        except ValueError:
            return False


class Place:
    """One session's place in the counts: by the address it comes from, or by the user that it has shown to be."""

    __slots__ = ("_admission", "_counts", "_group")

    def __init__(self, admission: Admission, counts: SessionCounts, group: str) -> None:
        self._admission = admission
        self._counts = counts
        self._group = group
        counts.add(group)

    def move_to_user(self, user: str) -> str | None:
        """Count the session as this user's from now on; or say why that cannot be, and change nothing."""
        group = _user_group(user)
        if group == self._group:
            return None
        refusal = self._admission.refusal_of_user(user)
        if refusal is not None:
            return refusal.message
        self._counts.remove(self._group)
        self._counts.add(group)
        self._group = group
        return None

    def leave(self) -> None:
        """The session ended."""
        self._counts.remove(self._group)


def _group(request: Request) -> str:
    """Whom a client is counted with: its user's other sessions, or those of its address."""
    if request.identity is not None and request.identity.has_token:
        return _user_group(request.identity.user)
    return address_group(request.address)


def _user_group(user: str) -> str:
    """How a user is counted; no address looks like it."""
    return f"user {user}"
