"""The token that a request shows, and who its bearer is.

It stands in the header `Authorization: Bearer …` or, because a page cannot set that for a WebSocket, among the offered
subprotocols as `aurex.token.…`; never in the URL, where logs and histories keep it.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from aurexd.clock import Clock
from aurexd.config.check import is_loopback
from aurexd.errors import IdentityError
from aurexd.identity import ANYBODY, LOCAL, Identity, Scope
from aurexd.market import EpochUs
from aurexd.server.request import TOKEN_SUBPROTOCOL, Request
from aurexd.settings import Settings

PUBLIC = frozenset(
    {"/", "/healthz", "/readyz", "/api/v1/openapi.json", "/api/v1/asyncapi.json", "/api/v1/ws/stream"}
)
"""What anybody may ask for over HTTP, besides the page's files; the last only says that it is a WebSocket."""

FOR_OPERATORS = frozenset({"/metrics"})
"""What is answered to who is on this machine, whether or not tokens are asked for, and elsewhere to those with the
scope `admin`."""

ALERTS = "/api/v1/alerts"
"""This and what lies below it is its owner's alone."""

QUERY_NAMES = frozenset({"token", "access_token", "auth", "authorization", "bearer", "jwt"})
"""Under which names tokens are put into URLs elsewhere."""


INVALID = 'Bearer error="invalid_token"'
"""What HTTP says to programs of a token that is not valid (RFC 6750, 3)."""


class Unauthorized(msgspec.Struct, frozen=True):
    """Why an HTTP request is not answered: its status, the words, and what RFC 6750 says of it to programs."""

    status: int
    message: str
    challenge: str


def needs_token(path: str) -> bool:
    """Whether this is answered only to who shows a token, where tokens are asked for; also for what is not there."""
    return path not in PUBLIC and not path.startswith("/page/")


def scope_of(path: str) -> Scope:
    """What somebody must be allowed to do to be answered this."""
    return Scope.ALERTS if path == ALERTS or path.startswith(f"{ALERTS}/") else Scope.READ


class Credentials:
    """Says who a request comes from, by the keys that hold now."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def identify(self, request: Request) -> Identity | None:
        """Who the request comes from; None where a token is asked for and none was shown.

        Raises:
            IdentityError: what it shows is not valid here and now.

        """
        if self._settings.authority is None:
            return LOCAL if _is_local(request) else ANYBODY
        if any(name.lower() in QUERY_NAMES for name, _ in parse_qsl(request.query, keep_blank_values=True)):
            raise IdentityError(
                "it stands in the URL, where logs and histories keep it: send it as `Authorization: Bearer …`, "
                f"as the subprotocol {TOKEN_SUBPROTOCOL}… or in an `auth` message"
            )
        shown = {
            name.removeprefix(TOKEN_SUBPROTOCOL)
            for name in request.subprotocols
            if name.startswith(TOKEN_SUBPROTOCOL)
        }
        scheme, _, bearer = (request.authorization or "").strip().partition(" ")
        if scheme.lower() == "bearer":  # a proxy may have its own use for another
            shown.add(bearer.strip())
        if len(shown) > 1:
            raise IdentityError("there are two of them")
        return self.verify(shown.pop(), self._clock.now()) if shown else None

    def verify(self, token: str, now: EpochUs) -> Identity:
        """Who shows this token.

        Raises:
            IdentityError: it is not valid here and now.

        """
        authority = self._settings.authority
        assert authority is not None, "whether tokens are asked for does not change while it runs"
        return authority.verify(token, now)

    def authorize(self, request: Request, scope: Scope) -> Identity | Unauthorized:
        """Who an HTTP request comes from, if that is somebody who may do this."""
        try:
            return self.permit(self.identify(request), scope)
        except IdentityError as error:
            return Unauthorized(401, f"the token is not valid here: {error}", INVALID)

    def authorize_operator(self, request: Request) -> Identity | Unauthorized:
        """Who asks for what is an operator's: somebody on this very machine, or with a token of the scope `admin`."""
        if _is_local(request):
            return LOCAL
        answer = self.authorize(request, Scope.ADMIN)
        if isinstance(answer, Unauthorized) and self._settings.authority is None:
            return Unauthorized(
                403, "this is answered on the daemon's own machine only, and not through a proxy", "Bearer"
            )
        return answer

    def permit(self, identity: Identity | None, scope: Scope) -> Identity | Unauthorized:
        """The same, when it is known who that is; None: nobody has shown a token."""
        if identity is None:
            return Unauthorized(401, "show a token: Authorization: Bearer …", "Bearer")
        if scope is Scope.ALERTS and scope not in identity.scopes and not identity.has_token:
            words = "alerts have an owner: show a token, or ask from the machine that aurexd runs on"
            return Unauthorized(403, words, "Bearer")
        if scope not in identity.scopes:
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            return Unauthorized(403, f"this needs a token with the scope {scope.value!r}", challenge)
        return identity


def _is_local(request: Request) -> bool:
    """Whether the client is on this machine; who comes through a proxy on it is not."""
    return is_loopback(request.address) and not request.relayed
