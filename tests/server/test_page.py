"""The page until the dashboard: its files, their headers, and that script and markup know the same names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import aurexd
from tests.server.loopback import serving

PAGE = Path(aurexd.__file__).parent / "page"


class Markup(HTMLParser):
    """Every id, field and file that index.html names."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fields: set[str] = set()
        self.files: set[str] = set()
        self.columns = 0
        self.inline: list[str] = []
        self.feed((PAGE / "index.html").read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                assert value is not None
                assert value not in self.ids
                self.ids.add(value)
            elif name == "data-field":
                self.fields.add(value or "")
            elif name in {"src", "href"} and value and not value.startswith("data:"):
                self.files.add(value)
            elif name == "style" or name.startswith("on"):
                self.inline.append(name)
        if tag == "th":
            self.columns += 1
        if tag == "style" or (tag == "script" and "src" not in dict(attrs)):
            self.inline.append(tag)


SCRIPT = (PAGE / "page.js").read_text()
STYLE = (PAGE / "page.css").read_text()


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html"),
        ("/page/page.css", "page.css", "text/css"),
        ("/page/page.js", "page.js", "text/javascript"),
    ],
)
async def test_each_file_is_served_as_what_it_is(path: str, name: str, kind: str) -> None:
    async with serving() as served:
        answer = await served.fetch(path)
        assert answer.status == 200
        assert answer.body == (PAGE / name).read_bytes()
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"


async def test_the_page_may_load_and_ask_only_what_comes_from_here() -> None:
    async with serving() as served:
        policy = (await served.fetch("/")).headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["other.js", "../api.py", "..%2Fapi.py", "%2e%2e/api.py", "INDEX.HTML"])
async def test_there_are_no_other_files(name: str) -> None:
    async with serving() as served:
        assert (await served.fetch(f"/page/{name}")).status == 404


async def test_everything_the_page_links_to_is_there() -> None:
    async with serving() as served:
        files = Markup().files
        assert files
        for file in files:
            assert not file.startswith(("/", "http")), "it also has to work under another path"
            assert (await served.fetch(f"/{file}")).status == 200


def test_the_page_has_nothing_inline_that_its_policy_forbids() -> None:
    assert Markup().inline == []


def test_every_id_that_the_script_asks_for_is_in_the_page() -> None:
    asked = set(re.findall(r'getElementById\("([^"]+)"\)', SCRIPT))
    assert asked
    assert asked <= Markup().ids


def test_every_field_that_the_script_fills_is_in_the_page_and_the_other_way_round() -> None:
    filled = set(re.findall(r"\bfields\.(\w+)", SCRIPT))
    assert filled == Markup().fields


def test_the_table_has_as_many_columns_as_the_script_fills() -> None:
    found = re.search(r"const cells = \[(.*?)\n    \];", SCRIPT, re.DOTALL)
    assert found is not None
    cells = [line for line in found.group(1).splitlines() if line.strip()]
    assert len(cells) == Markup().columns


def test_every_class_and_id_that_is_styled_is_used() -> None:
    markup = (PAGE / "index.html").read_text()
    rules = re.sub(r"\{[^{}]*\}", "{}", STYLE)
    for name in set(re.findall(r"[.#]([a-z][\w-]*)", rules)):
        stem = name.partition("-")[0] if name.startswith("state-") else name
        assert stem in markup or f"{stem}-" in SCRIPT, name


async def test_the_script_speaks_to_routes_that_exist() -> None:
    async with serving() as served:
        for path in set(re.findall(r'"(api/v1/[^"?]+)"', SCRIPT)):
            assert (await served.fetch(f"/{path}")).status in {200, 426}
