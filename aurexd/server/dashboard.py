"""The dashboard as it is served: its files as they were built, their headers, and what stands there when none were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from aurexd.server.interface import quoted

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)

SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

REVALIDATED = "no-cache"
"""May be kept, and is asked for each time: it names the files of this release."""

IMMUTABLE = "public, max-age=31536000, immutable"
"""A file has its content's hash in its name: another content is another file."""

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
    "webmanifest": "application/manifest+json",
    "txt": "text/plain; charset=utf-8",
}

ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""Content coding → what the build adds to the name of the file that has it; the better first."""

NOT_BUILT = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>aurexd</title>
<h1>aurexd is running</h1>
<p>Its dashboard was not built. In the source's directory, with Node 20 or newer and npm, run
<code>make dashboard</code> and restart aurexd. An installed release brings it along.</p>
<p>Without it: <a href="api/v1/prices/latest">the latest price</a>, <a href="api/v1/sources">the sources</a>,
<a href="api/v1/ws/stats">clients and messages</a>, <a href="api/v1/openapi.json">all there is</a>.</p>
</html>
"""


@dataclass(frozen=True)
class File:
    """One file, in each coding that it was built in; `identity` is the plain one."""

    type: str
    bodies: Mapping[str, bytes]

    def answer(self, request: Request, caching: str) -> Response:
        """It, in the best coding that the client takes; 304 where the client has it."""
        accepted = _accepted(request.headers.get("accept-encoding", ""))
        coding = next((name for name in ENCODINGS if name in self.bodies and name in accepted), "identity")
        body = self.bodies[coding]
        headers = {**SAFE, "Cache-Control": caching, "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}
        if len(self.bodies) > 1:
            headers["Vary"] = "Accept-Encoding"
        known = [
            tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")
        ]
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        if coding != "identity":
            headers["Content-Encoding"] = coding
        return Response(body, headers={**headers, "Content-Type": self.type})


class Dashboard:
    """Every file in memory, read once: there are some twenty, of 1 MB together."""

    def __init__(self, directory: Traversable) -> None:
        """`directory` is what the build made, with `index.html`; it need not be there."""
        self._index = _read(directory, "index.html") or File(TYPES["html"], {"identity": NOT_BUILT})
        page = directory / "page"
        names = [entry.name for entry in page.iterdir()] if page.is_dir() else []
        files = {name: _read(page, name) for name in names}
        self._files = {name: file for name, file in files.items() if file is not None}

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return self._index.answer(request, REVALIDATED)

    async def file(self, request: Request) -> Response:
        """What the page loads."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404, f"the page has no file {quoted(name)}")
        return self._files[name].answer(request, IMMUTABLE)


def _read(directory: Traversable, name: str) -> File | None:
    """None for what is not there, or is none of the page's: the codings belong to their file."""
    kind = TYPES.get(name.rpartition(".")[2])
    if kind is None or not (directory / name).is_file():
        return None
    bodies = {"identity": (directory / name).read_bytes()}
    for coding, suffix in ENCODINGS.items():
        if (encoded := directory / f"{name}{suffix}").is_file():
            bodies[coding] = encoded.read_bytes()
    return File(kind, bodies)


def _accepted(header: str) -> set[str]:
    """The codings that a client names and does not refuse (RFC 9110, 12.5.3)."""
    accepted = set()
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            accepted.add(coding.strip())
    return accepted
