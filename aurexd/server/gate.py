"""The gate: how much of the work of coming and going is done in one turn of the loop.

A client that comes costs more than a hundred updates: accepting it, a TLS handshake of one or two milliseconds, an
upgrade. One that leaves costs a quarter of that. When thousands come at once, or a network breaks, the loop would do
nothing else for seconds, and those who are there would wait. So that work is done in pieces, a few in each turn, in
the order in which they came up; between them the loop sees to everybody else. Whoever waits for the network is not in
the line, so nobody holds it up by being slow; and because accepting is such a piece, too, the port accepts no faster
than it can serve: the others wait in the kernel's backlog.
"""

from __future__ import annotations

import trio

PIECES = 3
"""In one turn: one to two milliseconds with an ECDSA key, about twice that with RSA. A client is three pieces: to
accept it, to answer its TLS handshake, and to answer its request."""


class Gate:
    """A line of those who have a piece of work to do."""

    def __init__(self) -> None:
        # Whoever is let in holds a place until its next turn; then the first in line is let in for the one after.
        self._places = trio.Semaphore(PIECES)

    async def wait_turn(self) -> None:
        """Return when it is this task's turn; the piece of work is what it does before it waits again."""
        async with self._places:
            pass
