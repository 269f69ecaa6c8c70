"""What the kernel has counted of a TCP connection: asked once, at its end, so that it costs nothing before."""

from __future__ import annotations

import socket
import struct

_RTT = 68  # struct tcp_info of linux/tcp.h, which only ever grows at its end
_FIGURES = struct.Struct("=I 28x I 16x Q Q")  # tcpi_rtt, _total_retrans, _bytes_acked, _bytes_received


def tcp_figures(sock: socket.socket) -> dict[str, float]:
    """Bytes that the client has acknowledged and sent, with all that TLS and WebSocket add; the round trip; and how
    many segments were sent again. Behind a proxy it is the proxy's. Empty where the kernel does not tell."""
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT + _FIGURES.size)
        rtt_us, retransmits, acknowledged, received = _FIGURES.unpack_from(told, _RTT)
    except (OSError, struct.error):
        return {}
    return {
        "bytes_sent": acknowledged,
        "bytes_received": received,
        "rtt_ms": round(rtt_us / 1000, 1),
        "retransmits": retransmits,
    }
