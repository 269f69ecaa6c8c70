"""What tests of the server share: TLS for 127.0.0.1, both ends of it."""

from __future__ import annotations

import ssl
from typing import NamedTuple

import pytest
import trustme


class TlsPair(NamedTuple):
    """The two contexts of one authority."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def tls_pair() -> TlsPair:
    """A server's context as `daemon.server_tls` makes it, and one of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.set_alpn_protocols(["http/1.1"])
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return TlsPair(server, client)
