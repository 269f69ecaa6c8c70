"""A TLS client without a socket: both ends of a handshake in memory."""

from __future__ import annotations

import ssl

from aurexd.server.tls import TlsConversation


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """The client's end of a completed handshake; `name` is what it calls the server."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaken = client.wrap_bio(back, there, server_hostname=name)
    conversation = TlsConversation(server)
    while True:
        try:
            shaken.do_handshake()
        except ssl.SSLWantReadError:
            conversation.feed(there.read())
            conversation.try_handshake()
            back.write(conversation.sealed)
            conversation.sent(len(conversation.sealed))
        else:
            return shaken
