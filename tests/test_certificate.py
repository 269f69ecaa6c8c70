"""The development certificate: whoever checks certificates takes it, for its names and no other."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from aurexd.certificate import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    DEFAULT_NAMES,
    PRIVATE_KEY_FILE,
    Issued,
    issue,
    write,
)
from aurexd.config.model import Tls
from aurexd.errors import CertificateError
from aurexd.server.tls import server_tls
from tests.server.tls_client import handshake

NOW = datetime.now(UTC)
NAMES = [*DEFAULT_NAMES, "gold.example", "*.gold.example", "192.0.2.7", "2001:db8::7"]
"""What it is made for here."""
REACHED = ["localhost", "127.0.0.1", "::1", "gold.example", "a.gold.example", "192.0.2.7", "2001:db8::7"]
"""What clients then call the server."""
STRANGERS = ["example.com", "b.a.gold.example", "127.0.0.2", "::2", "localhost.example"]


@pytest.fixture(scope="module")
def issued() -> Issued:
    return issue(NAMES, NOW)


@pytest.fixture
def directory(issued: Issued, tmp_path: Path) -> Path:
    write(issued, tmp_path / "new" / "tls")
    return tmp_path / "new" / "tls"


def served_and_strict(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The daemon's end, and a client's that trusts the authority and goes by the letter of RFC 5280."""
    server = server_tls(
        Tls(certificate=str(directory / CERTIFICATE_FILE), private_key=str(directory / PRIVATE_KEY_FILE))
    )
    assert server is not None
    client = ssl.create_default_context(cafile=str(directory / AUTHORITY_FILE))
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    return server, client


@pytest.mark.parametrize("name", REACHED)
def test_openssl_takes_it_for_each_of_its_names(directory: Path, name: str) -> None:
    server, client = served_and_strict(directory)
    assert handshake(server, client, name).version() == "TLSv1.3"


@pytest.mark.parametrize("name", STRANGERS)
def test_openssl_takes_it_for_no_other(directory: Path, name: str) -> None:
    server, client = served_and_strict(directory)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(server, client, name)


def test_who_does_not_trust_its_authority_does_not_take_it(directory: Path) -> None:
    server, _ = served_and_strict(directory)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(server, ssl.create_default_context(), "localhost")


def takes(issued: Issued, name: str, when: datetime) -> bool:
    """Whether the rules that browsers go by (CA/Browser Forum) take it."""
    subject: x509.GeneralName
    try:
        subject = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    trusted = Store([x509.load_pem_x509_certificate(issued.authority)])
    verifier = PolicyBuilder().store(trusted).time(when).build_server_verifier(subject)
    try:
        verifier.verify(x509.load_pem_x509_certificate(issued.certificate), [])
    except VerificationError:
        return False
    return True


def test_the_rules_of_browsers_take_it_for_its_names_as_long_as_it_says(issued: Issued) -> None:
    assert all(takes(issued, name, NOW) for name in REACHED)
    assert not any(takes(issued, name, NOW) for name in STRANGERS)
    assert takes(issued, "localhost", NOW - timedelta(hours=12)), "clocks differ"
    assert takes(issued, "localhost", NOW + timedelta(days=799))
    assert not takes(issued, "localhost", NOW + timedelta(days=801))


def test_it_lasts_no_longer_than_the_strictest_browser_allows(issued: Issued) -> None:
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=365) < lasts <= timedelta(days=825)


def test_two_authorities_have_two_names() -> None:
    one, other = (x509.load_pem_x509_certificate(issue(["a"], NOW).authority) for _ in range(2))
    assert one.subject != other.subject


def test_nobody_else_may_read_the_key_and_the_authoritys_is_nowhere(issued: Issued, directory: Path) -> None:
    assert (directory / PRIVATE_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in directory.iterdir()) == [
        AUTHORITY_FILE,
        CERTIFICATE_FILE,
        PRIVATE_KEY_FILE,
    ]
    assert b"".join(issued).count(b"PRIVATE KEY-----") == 2, "one begins, and ends"
    authority = x509.load_pem_x509_certificate(issued.authority).public_key()
    certificate = x509.load_pem_x509_certificate(issued.certificate).public_key()
    assert isinstance(authority, ec.EllipticCurvePublicKey)
    assert isinstance(certificate, ec.EllipticCurvePublicKey)
    assert authority.public_numbers() != certificate.public_numbers()


@pytest.mark.parametrize("name", [AUTHORITY_FILE, CERTIFICATE_FILE, PRIVATE_KEY_FILE])
def test_what_is_there_is_not_overwritten_and_nothing_is_added(
    issued: Issued, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(CertificateError, match=f"{name} exists already and is not overwritten"):
        write(issued, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_link_is_not_followed(issued: Issued, tmp_path: Path) -> None:
    (tmp_path / PRIVATE_KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CertificateError, match="exists already"):
        write(issued, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_cannot_be_made_is_said(issued: Issued, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificateError, match=r"file/tls: Not a directory"):
        write(issued, tmp_path / "file" / "tls")


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a..b", "-a.example", "a_b.example", "https://gold.example", "gold.example:8000"),
        *("10.0.0", "gold.*", "*", "Gold.example", "münze.example", "fe80::1%eth0"),
        *("a" * 64, ".".join(["a" * 60] * 5)),
    ],
)
def test_what_is_no_name_is_refused_with_what_one_looks_like(name: str) -> None:
    with pytest.raises(CertificateError, match="neither a host name nor an address"):
        issue([name], NOW)


def test_a_long_name_is_fine() -> None:
    name = ".".join(["a" * 60] * 4)
    assert takes(issue([name], NOW), name, NOW)
