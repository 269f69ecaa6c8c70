"""Who may stream, and who is turned away with which words."""

from __future__ import annotations

from typing import Any

import pytest

from aurexd.config.model import Config, Limits
from aurexd.protocol.codes import CloseCode
from aurexd.server.admission import Admission
from aurexd.server.request import Request
from aurexd.settings import Settings


def limited(**limits: Any) -> Settings:
    return Settings(Config(limits=Limits.model_validate(limits)))


def from_address(address: str, origin: str | None = None) -> Request:
    return Request(
        address=address, method="GET", path="/", query="", host="gold.example", origin=origin, upgrade=True
    )


def test_the_sixth_session_of_an_address_is_refused_until_one_leaves() -> None:
    admission = Admission(limited(max_connections_per_ip=5))
    places = [admission.enter(from_address("192.0.2.7")) for _ in range(5)]
    refusal = admission.refusal(from_address("192.0.2.7"))
    assert refusal is not None
    assert refusal.code is CloseCode.TOO_MANY_CONNECTIONS
    assert "5 connections" in refusal.message
    assert admission.refusal(from_address("192.0.2.8")) is None
    places[0].leave()
    assert admission.refusal(from_address("192.0.2.7")) is None


def test_an_ipv6_household_counts_as_one_address() -> None:
    admission = Admission(limited(max_connections_per_ip=1))
    admission.enter(from_address("2001:db8:1:2::3"))
    assert admission.refusal(from_address("2001:db8:1:2::4")) is not None
    assert admission.refusal(from_address("2001:db8:1:3::3")) is None


def test_a_full_daemon_refuses_everybody() -> None:
    admission = Admission(limited(max_connections=1))
    admission.enter(from_address("192.0.2.7"))
    refusal = admission.refusal(from_address("192.0.2.8"))
    assert refusal is not None
    assert refusal.code is CloseCode.OVER_CAPACITY


def test_a_limit_of_zero_is_none() -> None:
    admission = Admission(limited(max_connections=0, max_connections_per_ip=0))
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
    admission = Admission(limited(allowed_origins=("https://friend.example",)))
    refusal = admission.refusal(from_address("192.0.2.7", origin=origin))
    assert (refusal is None) is allowed
    assert allowed or (refusal is not None and refusal.code is CloseCode.FORBIDDEN)


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip"])
def test_a_limit_that_changes_holds_for_the_next_and_ends_nobody(limit: str) -> None:
    settings = limited(**{limit: 2})
    admission = Admission(settings)
    places = [admission.enter(from_address("192.0.2.7")) for _ in range(2)]
    assert admission.refusal(from_address("192.0.2.7")) is not None
    settings.replace(Config(limits=Limits.model_validate({limit: 3})))
    assert admission.refusal(from_address("192.0.2.7")) is None
    settings.replace(Config(limits=Limits.model_validate({limit: 1})))
    places[0].leave()
    assert admission.refusal(from_address("192.0.2.7")) is not None


def test_an_origin_that_is_allowed_later_may_come_later() -> None:
    settings = limited()
    admission = Admission(settings)
    page = from_address("192.0.2.7", origin="https://friend.example")
    assert admission.refusal(page) is not None
    settings.replace(Config(limits=Limits(allowed_origins=("https://friend.example",))))
    assert admission.refusal(page) is None
