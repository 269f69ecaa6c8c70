"""Who may stream while streaming is open to some only: the same ones at every start. Pure."""

from __future__ import annotations

from hashlib import blake2b

_KEY = b"aurexd rollout"
"""Not secret: it only keeps these shares apart from what anybody else makes of the same names by the same hash."""


def is_open_to(who: str, percent: int) -> bool:
    """Whether `who`, a user or an address group, is among these percent.

    A higher percentage has all those of a lower one, and some more.
    """
    digest = blake2b(who.encode(), digest_size=8, key=_KEY).digest()
    return int.from_bytes(digest, "big") % 100 < percent
