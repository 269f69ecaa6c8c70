"""What the daemon offers over TLS, and to whom: both ends of a handshake in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization

from aurexd.config.model import Tls
from aurexd.errors import ConfigError
from aurexd.server.tls import server_tls
from tests.server.conftest import TlsPair, certificate
from tests.server.tls_client import handshake


def stranger() -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_tls(Tls()) is None


@pytest.mark.parametrize(
    ("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_both_versions_are_spoken_with_forward_secrecy(
    tls_pair: TlsPair, version: ssl.TLSVersion, name: str
) -> None:
    client = stranger()
    client.minimum_version = client.maximum_version = version
    shaken = handshake(tls_pair.server, client)
    cipher = shaken.cipher()
    assert cipher is not None
    assert shaken.version() == name
    assert cipher[0].startswith(("ECDHE-", "TLS_"))
    assert "GCM" in cipher[0] or "POLY1305" in cipher[0]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_older_versions_are_not(tls_pair: TlsPair) -> None:
    client = stranger()
    client.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL itself would not even offer it
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed"):
        handshake(tls_pair.server, client)


@pytest.mark.parametrize("ciphers", ["AES256-SHA", "ECDHE-RSA-AES256-SHA384", "DHE-RSA-AES256-GCM-SHA384"])
def test_ciphers_without_forward_secrecy_or_authentication_and_costly_ones_are_not(
    tmp_path: Path, ciphers: str
) -> None:
    server = server_tls(certificate(tmp_path, "localhost", key_type=trustme.KeyType.RSA))
    assert server is not None
    client = stranger()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    handshake(server, client)  # the key itself is no obstacle
    client.set_ciphers(ciphers)
    with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed"):
        handshake(server, client)


def test_no_client_can_ask_for_handshake_after_handshake(tls_pair: TlsPair) -> None:
    assert tls_pair.server.options & ssl.OP_NO_RENEGOTIATION


def test_a_certificate_and_another_ones_key_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mine, other = certificate(tmp_path, "localhost"), certificate(tmp_path / "other", "localhost")
    with pytest.raises(ConfigError, match="tls: the certificate and the key cannot be used"):
        server_tls(Tls(certificate=mine.certificate, private_key=other.private_key))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with pytest.raises(ConfigError, match="cannot be used"):
        server_tls(Tls(certificate=str(tmp_path / "cert.pem"), private_key=str(tmp_path / "key.pem")))
