"""What a client writes never makes it another; what trusted proxies write is followed exactly as far as they go."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aurexd.forwarded import HeaderName, Proxies, client_address, plain

PROXIES = Proxies(["10.0.0.0/8", "fd00::/8", "192.0.2.1"])

NAMES: list[HeaderName] = ["x-forwarded-for", "forwarded"]

HEADER_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60
)
TOKENS = st.lists(
    st.sampled_from(
        [
            *(
                '"',
                "\\",
                ",",
                ";",
                "=",
                " ",
                "for=",
                "For=",
                "by=",
                "host=",
                "proto=https",
                "[",
                "]",
                ":",
                "%",
                "_x",
            ),
            *("10.0.0.9", "198.51.100.7", "2001:db8::7", "[fd00::1]", "unknown", "443", '"[2001:db8::7]:1"'),
        ]
    ),
    max_size=12,
).map("".join)
CLIENT_TEXT = st.one_of(HEADER_TEXT, TOKENS)
"""What a client may write into a header."""

TRUSTED = st.one_of(
    st.ip_addresses(network="10.0.0.0/8"),
    st.ip_addresses(network="fd00::/8"),
    st.just(ip_address("192.0.2.1")),
)
STRANGERS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: str(address) not in PROXIES
)

Address = IPv4Address | IPv6Address


def entries(address: Address, name: HeaderName) -> st.SearchStrategy[str]:
    """The ways in which proxies write one address."""
    bare = str(address)
    bracketed = bare if address.version == 4 else f"[{bare}]"
    if name == "x-forwarded-for":
        return st.sampled_from([bare, bracketed, f"{bracketed}:4711", f" {bare} "])
    quoted = [f'"{bracketed}"', f'"{bracketed}:4711"', f'"{bracketed}:_port"']
    written = [bracketed, f"{bracketed}:4711", *quoted]
    return st.sampled_from(
        [
            f"{word}={node}{rest}"
            for word in ("for", "For")
            for node in written
            for rest in ("", ";proto=https")
        ]
        + [f'proto=http;for={node};by="_a,b;c";host="x\\",\\\\"' for node in written]
    )


@st.composite
def chains(draw: st.DrawFn, name: HeaderName) -> tuple[str, str, str]:
    """(the peer, the header it sends, the client), where each proxy did as it should."""
    client = draw(STRANGERS)
    hops = draw(st.lists(TRUSTED, min_size=1, max_size=4))
    header = draw(CLIENT_TEXT)
    for address in [client, *hops[:-1]]:
        header += ", " * bool(header) + draw(entries(address, name))
    return str(hops[-1]), header, plain(str(client))


@given(st.data(), st.sampled_from(NAMES))
def test_the_client_is_the_first_that_is_no_proxy_whatever_it_wrote_itself(
    data: st.DataObject, name: HeaderName
) -> None:
    peer, header, client = data.draw(chains(name))
    assert client_address(peer, header, name, PROXIES) == client


@given(STRANGERS, CLIENT_TEXT, st.sampled_from([*NAMES, "none"]))
@example(ip_address("203.0.113.9"), "10.0.0.9", "x-forwarded-for")
def test_a_header_never_changes_the_address_of_an_untrusted_peer(
    peer: Address, header: str, name: HeaderName
) -> None:
    assert client_address(str(peer), header, name, PROXIES) == plain(str(peer))


@given(TRUSTED, CLIENT_TEXT, st.sampled_from(NAMES))
@example(ip_address("10.0.0.1"), '"' * 16000, "forwarded")
@example(ip_address("10.0.0.1"), "\\" * 16000, "forwarded")
@example(ip_address("10.0.0.1"), "," * 16000, "x-forwarded-for")
def test_whatever_a_proxy_says_an_address_comes_out(peer: Address, header: str, name: HeaderName) -> None:
    client = client_address(str(peer), header, name, PROXIES)
    assert plain(client) == client


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "said", ["unknown", "_hidden", "", "10.0.0", "1.2.3.4.5", "[::1", "fe80::1%eth0", "1.2.3.4:x"]
)
def test_a_proxy_that_says_no_address_is_as_far_as_can_be_seen(name: HeaderName, said: str) -> None:
    wrap = "{}" if name == "x-forwarded-for" else 'for="{}"'
    header = ", ".join(wrap.format(node) for node in ("198.51.100.7", said, "10.0.0.2"))
    assert client_address("10.0.0.3", header, name, PROXIES) == "10.0.0.2"


@pytest.mark.parametrize(
    "entry",
    [
        "proto=https",  # says nothing of the client
        "for=198.51.100.7;for=198.51.100.8",
        "for=198.51.100.7 proto=https",
        "for=198.51.100.7;=x",
        'for="198.51.100.7',
        "198.51.100.7",
    ],
)
def test_an_entry_that_leaves_a_doubt_says_nothing(entry: str) -> None:
    assert client_address("10.0.0.3", f"for=198.51.100.9, {entry}", "forwarded", PROXIES) == "10.0.0.3"


def test_only_the_header_that_the_proxies_write_is_read() -> None:
    assert client_address("10.0.0.3", "198.51.100.7", "none", PROXIES) == "10.0.0.3"
    assert client_address("10.0.0.3", "", "x-forwarded-for", PROXIES) == "10.0.0.3"


def test_where_all_are_trusted_the_first_is_the_client() -> None:
    assert client_address("10.0.0.3", "10.0.0.1, 10.0.0.2", "x-forwarded-for", PROXIES) == "10.0.0.1"


def test_one_address_has_one_form() -> None:
    assert plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain("FE80::0001%eth0") == "fe80::1"
    assert "::ffff:10.0.0.1" in PROXIES
    assert "::ffff:11.0.0.1" not in PROXIES
    assert (
        client_address("::ffff:10.0.0.1", "::ffff:198.51.100.7", "x-forwarded-for", PROXIES) == "198.51.100.7"
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("proxy.example", "does not appear to be an IPv4 or IPv6 network"),
        ("10.0.0.1/8", "has host bits set"),
        ("0.0.0.0/0", "is everybody"),
        ("::/0", "is everybody"),
        ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ("::/8", "write it as IPv4"),
    ],
)
def test_what_names_no_proxy_is_refused(entry: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Proxies([entry])


def test_without_proxies_nobody_is_trusted() -> None:
    assert not Proxies()
    assert "10.0.0.1" not in Proxies()
