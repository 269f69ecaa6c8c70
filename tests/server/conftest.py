"""What tests of the server share: TLS for 127.0.0.1, both ends of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from aurexd.config.model import Tls
from aurexd.server.tls import server_tls


class TlsPair(NamedTuple):
    """The two contexts of one authority."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def certificate(
    folder: Path,
    *names: str,
    authority: trustme.CA | None = None,
    key_type: trustme.KeyType = trustme.KeyType.ECDSA,
) -> Tls:
    """The `[tls]` of a fresh certificate, in files."""
    issued = (authority or trustme.CA()).issue_cert(*names, key_type=key_type)
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    return Tls(certificate=str(folder / "both.pem"), private_key=str(folder / "both.pem"))


@pytest.fixture(scope="session")
def tls_pair(tmp_path_factory: pytest.TempPathFactory) -> TlsPair:
    """The daemon's own context, and one of a client that trusts it."""
    authority = trustme.CA()
    server = server_tls(
        certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1", "localhost", authority=authority)
    )
    assert server is not None
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return TlsPair(server, client)
