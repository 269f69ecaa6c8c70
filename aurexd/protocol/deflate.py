"""permessage-deflate (RFC 7692): its negotiation, messages compressed to be shared, messages inflated up to a bound.

Compression is without context takeover, both ways. So a compressed frame means the same to every client with that
window and is made once for all of them; and between two messages no session keeps anything of zlib's. No message has a
secret of one party beside what another one chose, so its length gives nothing away (CRIME, BREACH).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

COMPRESS_FROM_BYTES = 512
"""Smaller messages, prices among them, are sent as they are. From about here on a message shrinks to less than half;
of what a price would save, TCP/IP and the client's inflating eat most (docs/performance.md)."""

WINDOWS = (12, 9)
"""The windows, in bits, that messages are compressed with. Few, because clients with different ones share no frame.

12 is for all who can take it: on the largest of our messages it is within 3 % of zlib's largest, 15. 9 is for those who
ask for less than 12. Whoever asks for 8 is served uncompressed: zlib makes no such stream.
"""

MEMORY_LEVEL = 5
"""zlib's. Its default makes a hash table that is larger than these windows, and twice as slow to slide along."""

TAIL = b"\x00\x00\xff\xff"
"""What ends a message's deflate data and is not sent (RFC 7692, 7.2.1)."""

_FINAL_BLOCK = b"\x03\x00"
"""An empty block that is marked as the last one: put after data that is cut short, it is not understood as that."""

_PARAMETER = re.compile(
    r"""(?P<plain> (?:server|client)_no_context_takeover | client_max_window_bits)
    | (?P<limit> (?:server|client)_max_window_bits) \s*=\s* (?P<quote>"?) (?P<bits>8|9|1[0-5]) (?P=quote)""",
    re.VERBOSE,
)


class Compression(Extension):
    """Compresses what is sent, message by message, with one window. Keeps nothing, so all sessions share it."""

    name = "permessage-deflate"

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits

    def enabled(self) -> bool:
        """Always: there is one only where it was negotiated."""
        return True

    def offer(self) -> bool:
        """Nothing: a server offers no extensions."""
        return False

    def frame_outbound(
        self, _proto: FrameDecoder | FrameProtocol, _opcode: Opcode, rsv: RsvBits, data: bytes, _fin: bool
    ) -> tuple[RsvBits, bytes]:
        """A whole message, compressed if that is worth it."""
        if len(data) >= COMPRESS_FROM_BYTES:
            compressor = zlib.compressobj(wbits=-self._window_bits, memLevel=MEMORY_LEVEL)
            deflated = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
            deflated = deflated.removesuffix(TAIL)
            if len(deflated) < len(data):
                return RsvBits(True, False, False), deflated
        return rsv, data


class TooBigError(Exception):
    """A message inflates to more than it may."""


class Inflation:
    """One compressed message on its way in. Of one that is too big, one byte more than allowed is ever inflated."""

    __slots__ = ("_left", "_stream")

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes + 1
        # Whatever window the client uses, it is no larger than this.
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def feed(self, data: bytes) -> bytes:
        """What the next bytes inflate to.

        Raises:
            TooBigError: the message inflates to more than `max_bytes`.
            zlib.error: this is no deflate data.

        """
        inflated = self._stream.decompress(data, self._left)
        self._left -= len(inflated)
        if not self._left:
            raise TooBigError
        # Data may come to an end of its own, and then the sender adds one empty octet (RFC 7692, 7.2.3.4). zlib would
        # keep whatever else follows.
        if self._stream.unused_data not in {b"", b"\x00"}:
            raise zlib.error("something follows the end of the deflate data")
        return inflated

    def finish(self) -> bytes:
        """The rest of the message, all of which was fed.

        Raises:
            TooBigError: the message inflates to more than `max_bytes`.
            zlib.error: this is no deflate data, or not all of it.

        """
        inflated = b"" if self._stream.eof else self.feed(TAIL + _FINAL_BLOCK)
        if not self._stream.eof:
            raise zlib.error("the deflate data is cut short")
        return inflated


class SessionDeflate(Extension):
    """One session's side of it: accepts the client's offer, and inflates what the client sends."""

    name = "permessage-deflate"
    __slots__ = ("_in_control", "_inflation", "_max_bytes", "window_bits")

    def __init__(self, max_bytes: Callable[[], int]) -> None:
        """`max_bytes`: what one message may inflate to now."""
        self.window_bits: int | None = None
        """Of what is sent to this client, one of `WINDOWS`; None: not compressed, because nothing was agreed on."""
        self._max_bytes = max_bytes
        self._inflation: Inflation | None = None
        """Of the message under way; None when there is none, or it is not compressed."""
        self._in_control = False
        """Whether the frame under way is a control frame: those come between a message's fragments."""

    def enabled(self) -> bool:
        """Whether it was negotiated."""
        return self.window_bits is not None

    def offer(self) -> bool:
        """Nothing: a server offers no extensions."""
        return False

    def accept(self, offer: str) -> str | None:
        """The answer to one offer; None for one that cannot be met, and for those after the first that can.

        Context takeover is refused in both directions, which a server may do whatever was offered (RFC 7692, 7.1.1).
        """
        if self.window_bits is not None:
            return None
        limits: dict[str, int] = {}
        for parameter in offer.split(";")[1:]:
            match = _PARAMETER.fullmatch(parameter.strip())
            name = match and (match["plain"] or match["limit"])
            if match is None or name is None or name in limits:
                return None
            limits[name] = int(match["bits"] or zlib.MAX_WBITS)
        asked = limits.get("server_max_window_bits")
        self.window_bits = next((bits for bits in WINDOWS if bits <= (asked or zlib.MAX_WBITS)), None)
        if self.window_bits is None:
            return None
        answer = "server_no_context_takeover; client_no_context_takeover"
        return answer if asked is None else f"{answer}; server_max_window_bits={self.window_bits}"

    def frame_inbound_header(
        self, _proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, _length: int
    ) -> CloseReason | RsvBits:
        """A frame begins; of a header that comes in pieces this is called more than once."""
        self._in_control = opcode.iscontrol()
        if opcode in {Opcode.TEXT, Opcode.BINARY}:
            self._inflation = Inflation(self._max_bytes()) if rsv.rsv1 else None
        elif rsv.rsv1:  # it marks a message, in its first frame
            return CloseReason.PROTOCOL_ERROR
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(
        self, _proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """A part of a frame's payload."""
        if self._inflation is None or self._in_control:
            return data
        try:
            return self._inflation.feed(data)
        except TooBigError:
            return CloseReason.MESSAGE_TOO_BIG
        except zlib.error:
            return CloseReason.PROTOCOL_ERROR

    def frame_inbound_complete(
        self, _proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """A frame ends, and with the last one its message."""
        if self._inflation is None or self._in_control or not fin:
            return None
        inflation, self._inflation = self._inflation, None
        try:
            return inflation.finish()
        except TooBigError:
            return CloseReason.MESSAGE_TOO_BIG
        except zlib.error:
            return CloseReason.PROTOCOL_ERROR
