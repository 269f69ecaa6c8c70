"""Names that are ours are answered to, and a name that somebody else pointed at us is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.hosts import is_allowed, is_name, names_of

NAMES = ["gold.example", "*.aurex.example"]


@pytest.mark.parametrize(
    "host",
    [
        "",  # HTTP/1.0
        *(
            "gold.example",
            "gold.example:8443",
            "GOLD.Example",
            "gold.example.",
            "gold.example.:443",
            "gold.example:",
        ),
        *("eu.aurex.example", "eu.aurex.example:8443"),
        *("localhost", "localhost:8000", "LOCALHOST", "app.localhost:3000"),
        *("127.0.0.1", "127.0.0.1:8000", "192.0.2.7", "[::1]", "[::1]:8000", "[2001:db8::7]"),
    ],
)
def test_our_names_and_what_cannot_be_rebound_are_good(host: str) -> None:
    assert is_allowed(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "gold.example.evil.example",
            "evilgold.example",
            "a.gold.example",
            "gold",
            "example",
        ),
        *("aurex.example", "a.eu.aurex.example", ".aurex.example", "evil.localhost.example", "notlocalhost"),
        *("127.0.0.1.evil.example", "0x7f.1", "127.1", "2130706433", "[::1", "::1", "[evil.example]", "[]"),
        *(
            "gold.example:8443:1",
            "gold.example:x",
            "gold.example/",
            "user@gold.example",
            "gold.example,evil.example",
        ),
        *(" gold.example", "gold.example\t", "*.aurex.example", "*", "gold\u212a.example", ":8000", "."),
    ],
)
def test_other_names_and_what_is_no_name_are_not(host: str) -> None:
    assert not is_allowed(host, NAMES)


def test_without_names_only_what_cannot_be_rebound_is_good() -> None:
    assert is_allowed("localhost", ())
    assert not is_allowed("gold.example", ())


@given(st.text(max_size=40))
def test_any_name_is_good_where_all_are_and_no_text_fails(host: str) -> None:
    assert is_allowed(host, ()) in {True, False}
    if is_name(host):
        assert is_allowed(host, ["*"])
        assert host.startswith("*.") or is_allowed(host, [host])


@pytest.mark.parametrize(
    ("text", "good"),
    [
        *(("gold.example", True), ("*.gold.example", True), ("gold", True), ("xn--gld-2ra.example", True)),
        *(
            ("Gold.example", False),
            ("gold.example:8443", False),
            ("https://gold.example", False),
            ("", False),
        ),
        *(("*", False), ("*.", False), ("a.*.example", False), ("-a.example", False), ("a..b", False)),
        ("a." * 127 + "a", False),
    ],
)
def test_what_is_a_name_in_a_configuration(text: str, *, good: bool) -> None:
    assert is_name(text) is good


def test_origins_give_their_hosts() -> None:
    assert names_of(["https://gold.example:8443", "http://localhost", "http://[::1]:80"]) == {
        "gold.example",
        "localhost",
        "::1",
    }
