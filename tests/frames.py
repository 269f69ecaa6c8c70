"""What a server's bytes say: whole WebSocket frames, and the messages in them."""

from __future__ import annotations

from typing import Any

import msgspec
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import FrameDecoder, Opcode

from aurexd.protocol.codec import JSON, Encoding


def inflating(window_bits: int) -> PerMessageDeflate:
    """A client's side of permessage-deflate: wsproto's own, as it is when this was agreed on."""
    extension = PerMessageDeflate()
    extension.finalize(
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        f"; server_max_window_bits={window_bits}"
    )
    return extension


class FrameReader:
    """Takes a byte stream in pieces; a message is there when its last byte is."""

    def __init__(self, encoding: Encoding = JSON) -> None:
        self.messages: list[dict[str, Any]] = []
        self.controls: list[Opcode] = []
        """Pings, pongs and closes."""
        self._library = msgspec.json if encoding.text else msgspec.msgpack
        self._opcode = Opcode.TEXT if encoding.text else Opcode.BINARY
        _, _, window_bits = encoding.name.partition("+deflate")
        extensions: list[Extension] = [inflating(int(window_bits))] if window_bits else []
        self._decoder = FrameDecoder(client=True, extensions=extensions)
        self._payload = b""

    def feed(self, data: bytes) -> None:
        """The next bytes; anything but control frames and messages, one to a frame, fails."""
        self._decoder.receive_bytes(data)
        while (frame := self._decoder.process_buffer()) is not None:
            assert Opcode.CLOSE not in self.controls, "something follows a close"
            if frame.opcode.iscontrol():
                self.controls.append(frame.opcode)
                continue
            assert frame.opcode in {self._opcode, Opcode.CONTINUATION}
            assert not isinstance(frame.payload, tuple)
            piece = frame.payload
            self._payload += piece.encode() if isinstance(piece, str) else piece
            if frame.frame_finished:
                assert frame.message_finished
                self.messages.append(self._library.decode(self._payload))
                self._payload = b""

    def check_complete(self) -> None:
        """Nothing is cut."""
        assert not self._payload
        assert not self._decoder.buffer.buffer


def messages_in(data: bytes, encoding: Encoding = JSON) -> list[dict[str, Any]]:
    """The messages in whole frames."""
    reader = FrameReader(encoding)
    reader.feed(data)
    reader.check_complete()
    return reader.messages
