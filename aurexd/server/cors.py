"""Which pages of other sites may read and ask over HTTP: those of `allowed_origins`, as for the WebSocket."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from aurexd.settings import Settings

METHODS = ("GET", "POST", "PATCH", "DELETE")

ASKED = ("Authorization", "If-None-Match", "Last-Event-ID")
"""What pages send beyond what every page may."""

TOLD = ("ETag", "Link", "Retry-After", "WWW-Authenticate")
"""What they may read beyond what every page may."""


class Cors(CORSMiddleware):
    """In front of the routes, and of whoever asks for a token: a browser's question whether it may ask has none.

    There are no credentials that a browser would add by itself.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(app, allow_methods=METHODS, allow_headers=ASKED, expose_headers=TOLD)
        self._settings = settings

    def is_allowed_origin(self, origin: str) -> bool:
        """By the setting of now."""
        return origin in self._settings.limits.allowed_origins
