"""The names that this server answers to: those given, or those of its certificate and its friends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aurexd.config.model import Config, Limits, Tls
from aurexd.market import SECOND_US, EpochUs
from aurexd.server.names import Hosts, certificate_expiry, certificate_names
from aurexd.server.request import Request
from aurexd.settings import Settings

SETTINGS = Settings(Config(limits=Limits(allowed_origins=("https://friend.example:3000",))))
CERTIFIED = frozenset({"gold.example", "*.aurex.example"})


def names_in(file: Path) -> frozenset[str]:
    return certificate_names(Tls(certificate=str(file), private_key="unused"))


def expiry_of(file: Path) -> EpochUs | None:
    return certificate_expiry(Tls(certificate=str(file), private_key="unused"))


def request(host: str, *, proxied: bool = False) -> Request:
    return Request(address="192.0.2.7", method="GET", path="/", query="", host=host, proxied=proxied)


@pytest.mark.parametrize(
    ("named", "host", "proxied", "allowed"),
    [
        *(
            ((), host, False, True)
            for host in ("gold.example", "eu.aurex.example:443", "friend.example", "[::1]:80")
        ),
        *(
            ((), host, False, False)
            for host in ("evil.example", "aurex.example", "friend.example.evil.example")
        ),
        ((), "whatever.example", True, True),
        (("other.example",), "other.example", False, True),
        (("other.example",), "gold.example", False, False),
        (("other.example",), "whatever.example", True, False),
        (("other.example",), "localhost", False, True),
        (("*",), "evil.example", False, True),
    ],
)
def test_a_request_is_for_us_by_its_name(
    named: tuple[str, ...], host: str, *, proxied: bool, allowed: bool
) -> None:
    assert Hosts(SETTINGS, named, CERTIFIED).allow(request(host, proxied=proxied)) is allowed


def test_what_is_told_shows_no_more_of_the_name_than_is_fit() -> None:
    why = Hosts(SETTINGS).why(request("\x9b31m" + "x" * 5000))
    assert why.startswith("this server is not called '�31mxxx")
    assert len(why) < 200


def test_the_names_of_a_certificate_are_those_of_its_hosts(tmp_path: Path) -> None:
    made = trustme.CA().issue_cert("gold.example", "*.Aurex.example", "192.0.2.7", "::1")
    for pem in made.cert_chain_pems:
        pem.write_to_path(str(tmp_path / "chain.pem"), append=True)
    assert names_in(tmp_path / "chain.pem") == {"gold.example", "*.aurex.example"}


def test_a_certificate_without_names_has_none_but_expires(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gold.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "cert.pem").write_bytes(pem)
    assert names_in(tmp_path / "cert.pem") == frozenset()
    assert expiry_of(tmp_path / "cert.pem") == int((now + timedelta(days=1)).timestamp()) * SECOND_US
    assert certificate_names(Tls()) == frozenset()
    assert certificate_expiry(Tls()) is None
    (tmp_path / "cert.pem").write_bytes(b"no certificate")
    assert names_in(tmp_path / "cert.pem") == frozenset()
    assert expiry_of(tmp_path / "cert.pem") is None
