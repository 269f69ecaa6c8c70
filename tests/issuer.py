"""An issuer of tokens, and daemons that trust it. Its keys are secrets, because these are quick."""

from __future__ import annotations

from collections.abc import Iterable

from aurexd.config.model import Auth
from aurexd.identity import Scope
from aurexd.market import SECOND_US, EpochUs
from aurexd.settings import Settings
from aurexd.tokens import Algorithm, Key, Keyring, mint, read_key

START = EpochUs(1_761_566_400 * SECOND_US)
"""2025-10-27T12:00:00Z: when the tests' clocks begin."""

AUDIENCE = "aurexd"


KEY = read_key("k1", Algorithm.HS256, b"as good as any other secret of thirty-two bytes")
STRANGER = read_key("k1", Algorithm.HS256, b"the secret of somebody else, and as long as that")


class Still:
    """A clock that was stopped."""

    def __init__(self, time: EpochUs = START) -> None:
        self.time = time

    def now(self) -> EpochUs:
        return self.time


def token(
    user: str = "alice",
    scopes: Iterable[str] = ("read", "alerts"),
    *,
    for_s: float = 3600,
    key: Key = KEY,
    now: EpochUs = START,
) -> str:
    """A token that is valid from `now` on, for so long."""
    return mint(key, user=user, scopes=map(Scope, scopes), audience=AUDIENCE, now=now, lifetime_s=for_s)


def ask_for_tokens(
    settings: Settings, *keys: Key, leeway_s: float = 0, expiry_warning_s: float = 60
) -> Settings:
    """The settings, as if [auth] said so; KEY unless other keys are given."""
    settings.auth = Auth(mode="token", leeway_s=leeway_s, expiry_warning_s=expiry_warning_s)
    settings.authority = Keyring(keys or (KEY,), audience=AUDIENCE, leeway_s=leeway_s)
    return settings
