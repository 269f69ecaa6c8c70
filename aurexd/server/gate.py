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

TURNS = 3
"""From one piece to the next. Between them a large fan-out goes on, by a slice in each turn (`Audience.slice`), so that
it has most of the time and newcomers the rest; where there is none, a turn is short. A piece is a millisecond, two with
an RSA key, and a client is three: to accept it, to answer its TLS handshake, and to answer its request."""


class Gate:
    """A line of those who have a piece of work to do."""

    def __init__(self) -> None:
        self._place = trio.Lock()

    async def wait_turn(self) -> None:
        """Return when it is this task's turn; the piece of work is what it does before it waits again."""
        async with self._place:
            for _ in range(TURNS - 1):
                await trio.lowlevel.checkpoint()
