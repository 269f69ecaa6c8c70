"""The daemon's end of TLS, without a socket: ciphertext in, ciphertext out. The socket is `stream.py`'s."""

from __future__ import annotations

import contextlib
import ssl

import trio

from aurexd.actors.audience import Seal
from aurexd.config.model import Tls
from aurexd.errors import ConfigError, Problem

TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only, as TLS 1.3 has them anyway: Mozilla's "intermediate" without DHE,
whose key exchange costs the server far more than the client."""


def server_tls(tls: Tls) -> ssl.SSLContext | None:
    """The context clients are served with, or None for plain connections. Reads the files: not for the loop.

    Raises:
        ConfigError: the certificate and the key cannot be used together.

    """
    if not tls.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS_1_2_CIPHERS)
    # In TLS 1.2 a client could ask for a new handshake, the dearest thing there is, again and again (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Over h2, browsers would open their WebSocket inside h2 (RFC 8441), which nobody here speaks.
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The passphrase keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(tls.certificate, tls.private_key, password="not asked for")  # noqa: S106
    except (OSError, ssl.SSLError) as error:
        problem = Problem(
            "tls", f"the certificate and the key cannot be used: {error}", "check that they belong together"
        )
        raise ConfigError([problem]) from error
    return context


class TlsConversation:
    """The server's side of one connection: an `ssl.SSLObject` over memory buffers."""

    __slots__ = ("_incoming", "_object", "_outgoing", "sealed")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.sealed: bytes | memoryview = b""
        """Ciphertext to be sent, oldest first."""

    def try_handshake(self) -> bool:
        """Whether the handshake is complete; else feed it more."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(f"TLS handshake failed: {error}") from error
        finally:
            self._collect()
        return True

    def feed(self, data: bytes) -> None:
        """Ciphertext from the peer; empty: its end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def open(self, limit: int) -> bytes | None:
        """Plain bytes; empty at the end; None when more ciphertext is needed."""
        try:
            return self._object.read(limit)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(f"TLS failed: {error}") from error
        finally:
            self._collect()

    def seal(self, data: bytes) -> None:
        """Encrypt all of `data` onto `sealed`."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
        self._collect()

    @property
    def ways(self) -> Seal:
        """To encrypt at most a record's worth, and to take the ciphertext: for who does it a thousand times a price,
        and sends it all or lets `keep` have the rest. Only while nothing is `sealed`."""
        # `SSLObject.write` is a Python function around this one, whose frame is a twentieth of what a message costs.
        return self._object._sslobj.write, self._outgoing.read  # type: ignore[attr-defined]  # noqa: SLF001

    def keep(self, rest: bytes) -> None:
        """Ciphertext that was taken and is not out."""
        self.sealed = rest if not self.sealed else bytes(self.sealed) + rest

    def sent(self, count: int) -> None:
        """The first `count` bytes of `sealed` are out."""
        self.sealed = memoryview(self.sealed)[count:] if count < len(self.sealed) else b""

    def say_goodbye(self) -> None:
        """Seal a close_notify; the peer's is not awaited."""
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        self._collect()

    def _collect(self) -> None:
        if self._outgoing.pending:
            fresh = self._outgoing.read()
            self.sealed = fresh if not self.sealed else bytes(self.sealed) + fresh
