"""Whether a request is meant for this server: its Host against the names that we have.

The rule is pure (`aurexd/hosts.py`); here stands which names those are.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from aurexd.config.model import Tls
from aurexd.foreign import clean
from aurexd.hosts import is_allowed, names_of
from aurexd.market import SECOND_US, EpochUs
from aurexd.server.request import Request
from aurexd.settings import Settings


class Hosts:
    """The names that we answer to."""

    def __init__(
        self, settings: Settings, named: tuple[str, ...] = (), certified: frozenset[str] = frozenset()
    ) -> None:
        """`named`: those of `listen.allowed_hosts`, and if there are any, no others."""
        self._settings = settings
        self._named = named
        self.certified = certified
        """Those in the certificate; to be replaced with it."""

    def allow(self, request: Request) -> bool:
        """Whether the request is meant for us. What a trusted proxy passes on is, unless the names are given."""
        if self._named:
            return is_allowed(request.host, self._named)
        if request.proxied:
            return True
        return is_allowed(request.host, self.certified | names_of(self._settings.limits.allowed_origins))

    def why(self, request: Request) -> str:
        """What to tell a client whose request is not."""
        return f"this server is not called {clean(request.host, 100)!r}: its operator names it in listen.allowed_hosts"


def certificate_expiry(tls: Tls) -> EpochUs | None:
    """When the certificate that is served with expires; None without one. Reads it: not for the loop."""
    if not tls.certificate:
        return None
    try:
        certificate = x509.load_pem_x509_certificates(Path(tls.certificate).read_bytes())[0]
    except ValueError:  # what OpenSSL takes and this library does not
        return None
    return EpochUs(int(certificate.not_valid_after_utc.timestamp()) * SECOND_US)


def certificate_names(tls: Tls) -> frozenset[str]:
    """The DNS names in the certificate that is served with; reads it: not for the loop."""
    if not tls.certificate:
        return frozenset()
    try:
        certificate = x509.load_pem_x509_certificates(Path(tls.certificate).read_bytes())[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):  # the latter: what OpenSSL takes and this library does not
        return frozenset()
    return frozenset(name.lower() for name in names.value.get_values_for_type(x509.DNSName))
