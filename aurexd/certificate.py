"""A certificate for development, by an authority that was made for it and can sign no other.

The authority's private key is never written and is forgotten at once: a browser that trusts it takes no risk beyond the
names in this one certificate.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aurexd.config.words import toml
from aurexd.errors import CertificateError

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")

VALID_FOR = timedelta(days=800)
"""Apple's systems take no more than 825 days, of any authority; others take more."""

CLOCK_TOLERANCE = timedelta(days=1)
"""It is valid a little before it was made: for machines whose clock is behind."""

AUTHORITY_FILE = "authority.pem"
CERTIFICATE_FILE = "certificate.pem"
PRIVATE_KEY_FILE = "private_key.pem"

_NAME = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


class Issued(NamedTuple):
    """All of it, as PEM."""

    authority: bytes
    certificate: bytes
    private_key: bytes


def issue(names: Sequence[str], now: datetime) -> Issued:
    """A certificate for host names (`*.` in front is allowed) and addresses, valid from `now` on for `VALID_FOR`.

    Raises:
        CertificateError: a name that no certificate can have.

    """
    alternatives = [_general_name(name) for name in names]
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Each authority has a name of its own: browsers list them by it, and hold two of one name for the same.
    issuer = _named(f"aurexd development {serial % 0x1000000:06x}")
    authority = (
        _begun(issuer, issuer, authority_key.public_key(), serial, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _begun(_named(names[0]), issuer, key.public_key(), x509.random_serial_number(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    return Issued(
        authority=authority.public_bytes(serialization.Encoding.PEM),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def write(issued: Issued, directory: Path) -> None:
    """Write the three files, the private key for its owner only. What is there already is never overwritten.

    Raises:
        CertificateError: one of them exists, or cannot be written; then there is none of the others either.

    """
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data, mode in (
            (PRIVATE_KEY_FILE, issued.private_key, 0o600),
            (CERTIFICATE_FILE, issued.certificate, 0o644),
            (AUTHORITY_FILE, issued.authority, 0o644),
        ):
            path = directory / name
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                written.append(path)
                file.write(data)
    except FileExistsError as error:
        _remove(written)
        raise CertificateError(
            f"{error.filename} exists already and is not overwritten — name another --directory, or move it away"
        ) from error
    except OSError as error:
        _remove(written)
        raise CertificateError(f"{error.filename or directory}: {error.strerror}") from error


def instructions(names: Sequence[str], now: datetime, directory: Path) -> str:
    """What to do with the three files: the `[tls]` table, and as its comments how clients come to trust it."""
    authority = shlex.quote(str(directory / AUTHORITY_FILE))
    return f"""\
# A certificate for {", ".join(names)}, until {now + VALID_FOR:%Y-%m-%d}. For the daemon's configuration:
[tls]
certificate = {toml(str(directory / CERTIFICATE_FILE))}
private_key = {toml(str(directory / PRIVATE_KEY_FILE))}

# Clients trust it once they trust the authority that signed it. It can sign nothing else: its key is not kept.
#   curl                --cacert {authority}
#   Python              SSL_CERT_FILE={authority}
#   Node                NODE_EXTRA_CA_CERTS={authority}
#   Chromium on Linux   certutil -d sql:"$HOME/.pki/nssdb" -A -t C,, -n aurexd-dev -i {authority}
#                       (in Debian's libnss3-tools; before the browser's first start: mkdir -p ~/.pki/nssdb)
#   Firefox             Settings, Privacy & Security, View Certificates, Authorities, Import
#   macOS               security add-trusted-cert -k ~/Library/Keychains/login.keychain-db {authority}
#   Windows             certutil -user -addstore Root {authority}
"""


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def _general_name(name: str) -> x509.GeneralName:
    if "%" not in name:  # fe80::1%eth0 means something on one machine only
        with contextlib.suppress(ValueError):
            return x509.IPAddress(ipaddress.ip_address(name))
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise CertificateError(
            f"{name!r} is neither a host name nor an address — write it as localhost, gold.example, "
            "*.gold.example (in small letters; what is not ASCII as xn--…), 192.0.2.7 or 2001:db8::7"
        )
    return x509.DNSName(name)


def _named(common_name: str) -> x509.Name:
    # The field holds 64 characters; who checks a certificate looks at the alternative names only.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
