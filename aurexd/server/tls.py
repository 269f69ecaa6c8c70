"""TLS as a pure conversation: ciphertext in, ciphertext out. The socket is `stream.py`'s."""

from __future__ import annotations

import contextlib
import ssl

import trio


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
