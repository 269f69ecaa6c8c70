"""Who may stream, and who is turned away with which words."""

from __future__ import annotations

import pytest

from aurexd.config.model import Limits
from aurexd.protocol.codes import CloseCode
from aurexd.server.admission import Admission
from aurexd.server.request import Request


def from_address(address: str, origin: str | None = None) -> Request:
    return Request(
        address=address, method="GET", path="/", query="", host="gold.example", origin=origin, upgrade=True
    )


def test_the_sixth_session_of_an_address_is_refused_until_one_leaves() -> None:
    admission = Admission(Limits(max_connections_per_ip=5))
    places = [admission.enter(from_address("192.0.2.7")) for _ in range(5)]
    refusal = admission.refusal(from_address("192.0.2.7"))
    assert refusal is not None
    assert refusal.code is CloseCode.TOO_MANY_CONNECTIONS
    assert "5 connections" in refusal.message
    assert admission.refusal(from_address("192.0.2.8")) is None
    places[0].leave()
    assert admission.refusal(from_address("192.0.2.7")) is None


def test_an_ipv6_household_counts_as_one_address() -> None:
    admission = Admission(Limits(max_connections_per_ip=1))
    admission.enter(from_address("2001:db8:1:2::3"))
    assert admission.refusal(from_address("2001:db8:1:2::4")) is not None
    assert admission.refusal(from_address("2001:db8:1:3::3")) is None


def test_a_full_daemon_refuses_everybody() -> None:
    admission = Admission(Limits(max_connections=1))
    admission.enter(from_address("192.0.2.7"))
    refusal = admission.refusal(from_address("192.0.2.8"))
    assert refusal is not None
    assert refusal.code is CloseCode.OVER_CAPACITY


def test_a_limit_of_zero_is_none() -> None:
    admission = Admission(Limits(max_connections=0, max_connections_per_ip=0))
    for _ in range(100):
        admission.enter(from_address("192.0.2.7"))
    assert admission.refusal(from_address("192.0.2.7")) is None


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://gold.example", True),
        ("https://friend.example", True),
        ("https://evil.example", False),
        ("https://gold.example.evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_a_page_may_come_from_here_and_from_where_it_is_allowed(origin: str, allowed: bool) -> None:
    admission = Admission(Limits(allowed_origins=("https://friend.example",)))
    refusal = admission.refusal(from_address("192.0.2.7", origin=origin))
    assert (refusal is None) is allowed
    assert allowed or (refusal is not None and refusal.code is CloseCode.FORBIDDEN)
