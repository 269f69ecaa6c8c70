"""Who a client is, and what it may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from aurexd.market import EpochUs

MAX_TOKEN_LENGTH = 8192
"""Characters. A token with a user and a few scopes has some 250."""

MAX_USER_LENGTH = 256
"""Characters."""

KEY_ID = r"[A-Za-z0-9_-]{1,64}"
"""What a key may be called."""


class Scope(StrEnum):
    """What somebody may do. None of them contains another."""

    READ = "read"
    """See prices, status and the like."""
    ALERTS = "alerts"
    """Have alert rules, and be alerted."""
    ADMIN = "admin"
    """Look at the daemon itself."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody, for as long as that holds."""

    user: str
    """What alert rules belong to, and what limits are counted by; empty: nobody in particular."""
    scopes: frozenset[Scope]
    expires: EpochUs | None = None
    """When the token says that it expires; None: never."""
    ends: EpochUs | None = None
    """When that is acted on: `expires`, and the leeway for clocks that differ."""
    voucher: object = None
    """By what the authority that vouched for it can tell whether it still does; None: nobody did."""

    @property
    def has_token(self) -> bool:
        """Whether a token says so."""
        return self.voucher is not None


ANYBODY = Identity(user="", scopes=frozenset({Scope.READ}))
"""Whoever reaches a daemon that asks for no tokens: may read, and owns nothing."""

LOCAL = Identity(user="local", scopes=frozenset(Scope))
"""The same from this very machine."""


def is_user(name: str) -> bool:
    """Whether somebody may be called so: it is shown to people, so it must be printable."""
    return 0 < len(name) <= MAX_USER_LENGTH and name.isprintable()


class Authority(Protocol):
    """Who says who a token's bearer is."""

    def verify(self, token: str, now: EpochUs) -> Identity:
        """Who shows this token.

        Raises:
            IdentityError: it is not valid here and now.

        """

    def vouches_for(self, identity: Identity) -> bool:
        """Whether it stands by what it once said; its keys may have changed since."""
