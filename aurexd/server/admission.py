"""Who may stream: the one place where a client is let in or turned away, and counted while it is there.

Both kinds of streaming sessions come through here. The counts are `limits.py`'s; how a client is told is the business
of the room that serves it.
"""

from __future__ import annotations

import math
import random
import secrets
from collections import Counter
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
import structlog
import trio

from aurexd.drain import Drain
from aurexd.errors import IdentityError
from aurexd.foreign import clean
from aurexd.limits import SessionCounts, TokenBucket, address_group
from aurexd.protocol.codes import CloseCode
from aurexd.rollout import is_open_to
from aurexd.server.credentials import Credentials
from aurexd.server.door import Door
from aurexd.server.names import Hosts
from aurexd.server.request import Request
from aurexd.settings import Settings

log = structlog.get_logger(__name__)

EMPTY_LOOK_S = 0.05
"""How often `wait_empty` looks."""

KNOCK_SPREAD_MS = 1000
"""Those behind one address that knocked too often come back within this, each at its own time."""

SAYS_PER_S = 10.0
"""Lines in the log about clients that were refused; ten seconds' worth at once."""


ROLLOUT_ADVICE = (
    "WebSockets are not open to you at present: read /api/v1/stream, or poll /api/v1/prices/latest"
)


class Refusal(msgspec.Struct, frozen=True):
    """Why a client may not enter, in a code for programs and words for people."""

    code: CloseCode
    message: str
    retry_after_ms: int | None = None
    """When it may; None: whenever others may that are turned away."""
    status: HTTPStatus = HTTPStatus.FORBIDDEN
    """What HTTP says where the client should not come back."""


class HttpRefusal(msgspec.Struct, frozen=True):
    """Why an HTTP request is not answered."""

    status: HTTPStatus
    message: str
    retry_after_s: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Those that the answer has beside the usual ones."""
        return {"Retry-After": str(self.retry_after_s)} if self.retry_after_s is not None else {}


class Admission:
    """Decides about each client, and knows who is there. Whoever is in stays in, also when a limit is lowered."""

    def __init__(self, settings: Settings, credentials: Credentials, door: Door, hosts: Hosts) -> None:
        self._settings = settings
        self._credentials = credentials
        self._door = door
        self._hosts = hosts
        self.refused: Counter[str] = Counter()
        """Streaming clients that were turned away, by the close code's word."""
        self.requests_refused: Counter[int] = Counter()
        """HTTP requests that were not let through to the routes, by status."""
        self._counts = SessionCounts()
        self._says = TokenBucket.full(0.0)
        self._unsaid = 0
        self._drain: Drain | None = None
        self._random = random.Random()

    @property
    def sessions(self) -> int:
        """How many are in."""
        return self._counts.total

    @property
    def limit(self) -> int:
        """How many may be; 0: any number."""
        return self._settings.limits.max_connections

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
        """None, or why this client may not enter now: it is to be told, and that counts against its address. Who it has
        shown to be stands in the request then."""
        refusal = self._refusal(request)
        if refusal is not None:
            self.refused[refusal.code.word] += 1
        # Who comes while we stop has done nothing, and who knocked too often was counted then.
        if refusal is not None and refusal.code is not CloseCode.GOING_AWAY:
            if not request.retry_after_s:
                self._door.refused(request.address)
            self._say(request, refusal)
        return refusal

    def http_refusal(self, address: str, request: Request | None) -> HttpRefusal | None:
        """None, or why an HTTP request is not answered, which counts against its address as well. None for `request`:
        it is none, which costs as much."""
        refusal = self._http_refusal(address, request)
        if refusal is not None:
            self.requests_refused[refusal.status] += 1
        if refusal is not None and not (request is not None and request.retry_after_s):
            self._door.refused(address)
        return refusal

    def _http_refusal(self, address: str, request: Request | None) -> HttpRefusal | None:
        wait_s = (request.retry_after_s if request is not None else 0.0) or self._door.ask(address)
        if wait_s:
            status, message = (
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many requests from your address: wait Retry-After",
            )
            return HttpRefusal(status, message, math.ceil(wait_s))
        if request is None:
            return None
        if request.method == "PRI":
            return HttpRefusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1")
        if not self._hosts.allow(request):
            return HttpRefusal(HTTPStatus.MISDIRECTED_REQUEST, self._hosts.why(request))
        return None

    def _say(self, request: Request, refusal: Refusal) -> None:
        """One line for each, but not thousands a second: those that were left out are counted."""
        if self._says.take(self._door.now(), rate=SAYS_PER_S, burst=10 * SAYS_PER_S):
            self._unsaid += 1
            return
        more = {"unsaid": self._unsaid} if self._unsaid else {}
        log.info(
            "session_refused",
            client=request.address,
            code=refusal.code.value,
            reason=refusal.message,
            **more,
        )
        self._unsaid = 0

    def _refusal(self, request: Request) -> Refusal | None:
        limits = self._settings.limits
        if not self._hosts.allow(request):
            return Refusal(
                CloseCode.FORBIDDEN, self._hosts.why(request), status=HTTPStatus.MISDIRECTED_REQUEST
            )
        if request.origin is not None and not self._is_allowed(request.origin, request.host):
            return Refusal(
                CloseCode.FORBIDDEN, f"pages from {clean(request.origin, 100)} may not connect here"
            )
        if self._drain is not None:
            return Refusal(CloseCode.GOING_AWAY, "the server stops", self.retry_after_ms)
        if request.retry_after_s:
            return Refusal(
                CloseCode.RATE_LIMITED,
                "too many connections from your address in too short a time",
                int(request.retry_after_s * 1000) + 1 + secrets.randbelow(KNOCK_SPREAD_MS),
            )
        if limits.max_connections and self._counts.total >= limits.max_connections:
            return Refusal(CloseCode.OVER_CAPACITY, "the server is full")
        try:
            request.identity = self._credentials.identify(request)
        except IdentityError as error:
            code = CloseCode.TOKEN_EXPIRED if error.expired else CloseCode.BAD_TOKEN
            return Refusal(code, f"the token is not valid here: {error}", status=HTTPStatus.UNAUTHORIZED)
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
