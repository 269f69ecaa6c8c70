"""How the dashboard is served: what may be kept, in which coding, what the page may do; and its absence."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from aurexd.server.dashboard import NOT_BUILT, Dashboard
from tests.server.loopback import serving

BUILT = {
    "index.html": b"<!doctype html><title>aurexd</title>",
    "index.html.gz": b"index, smaller",
    "page/index-4f1c.js": b"console.log(1)",
    "page/index-4f1c.js.br": b"brotli",
    "page/index-4f1c.js.gz": b"gzip",
    "page/inter-9a.woff2": b"wOF2",
    "page/notes": b"none of the page's",
}


def client(directory: Path) -> httpx.AsyncClient:
    dashboard = Dashboard(directory)
    routes = [Route("/", dashboard.index), Route("/page/{name}", dashboard.file)]
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes)),
        base_url="http://aurexd",
        headers={"Accept-Encoding": "identity"},
    )


@pytest.fixture
def page(tmp_path: Path) -> httpx.AsyncClient:
    (tmp_path / "page").mkdir()
    for name, body in BUILT.items():
        (tmp_path / name).write_bytes(body)
    return client(tmp_path)


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/page/index-4f1c.js", "page/index-4f1c.js", "text/javascript; charset=utf-8"),
        ("/page/inter-9a.woff2", "page/inter-9a.woff2", "font/woff2"),
    ],
)
async def test_each_file_is_served_as_what_it_is(
    page: httpx.AsyncClient, path: str, name: str, kind: str
) -> None:
    answer = await page.get(path)
    assert answer.status_code == 200
    assert answer.content == BUILT[name]
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_page_is_asked_for_each_time_and_its_files_once(page: httpx.AsyncClient) -> None:
    assert (await page.get("/")).headers["cache-control"] == "no-cache"
    assert (await page.get("/page/index-4f1c.js")).headers[
        "cache-control"
    ] == "public, max-age=31536000, immutable"


async def test_who_has_the_page_is_not_sent_it_again(page: httpx.AsyncClient) -> None:
    tag = (await page.get("/")).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = await page.get("/", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert (await page.get("/", headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("br;q=0, GZIP;q=0.5", "gzip"),
        ("zstd", None),
        ("identity", None),
        ("", None),
    ],
)
async def test_a_file_goes_in_the_best_coding_that_the_client_takes(
    page: httpx.AsyncClient, accepted: str, coding: str | None
) -> None:
    # Without decoding: what is sent here is no brotli.
    async with page.stream("GET", "/page/index-4f1c.js", headers={"Accept-Encoding": accepted}) as answer:
        body = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers.get("content-encoding") == coding
    assert body == {"br": b"brotli", "gzip": b"gzip", None: BUILT["page/index-4f1c.js"]}[coding]
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "name", ["other.js", "index-4f1c.js.br", "notes", "../index.html", "..%2Findex.html", "%2e%2e/index.html"]
)
async def test_there_are_no_other_files(page: httpx.AsyncClient, name: str) -> None:
    assert (await page.get(f"/page/{name}")).status_code == 404


async def test_the_page_may_load_and_ask_only_what_comes_from_here(page: httpx.AsyncClient) -> None:
    policy = (await page.get("/")).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (
        rules["default-src"] == rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    )
    assert "unsafe" not in policy


async def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    page = client(tmp_path / "nowhere")
    answer = await page.get("/")
    assert answer.status_code == 200
    assert "make dashboard" in answer.text
    assert (await page.get("/page/index-4f1c.js")).status_code == 404


async def test_the_port_serves_a_page_built_or_not() -> None:
    async with serving() as served:
        answer = await served.fetch("/")
        assert answer.status == 200
        assert b"<title>aurexd</title>" in answer.body
        assert answer.headers["cache-control"] == "no-cache"


async def test_what_the_page_without_a_build_links_to_is_there() -> None:
    async with serving() as served:
        links = [part.partition('"')[0] for part in NOT_BUILT.decode().split('href="')[1:]]
        assert links
        for link in links:
            assert not link.startswith(("/", "http")), "it also has to work under another path"
            assert (await served.fetch(f"/{link}")).status == 200
