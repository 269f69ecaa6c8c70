"""How long a price takes, hop by hop, from its source's time to the clients' sockets. Pure: times are arguments.

Counted is what a tick has made of the price that just came; one that a failover brings back is older than any hop.
Noted it is at once, but put into the histograms many passes at a time: code that runs once between two passes over all
clients is in none of the processor's caches, and takes ten times as long.
"""

from __future__ import annotations

import msgspec

from aurexd.histogram import LONG_SECONDS, Buckets, Histogram
from aurexd.market import SECOND_US, EpochUs, Price, Quality

PASSES = 100
"""So many are noted before they are counted."""


class Hops(msgspec.Struct, frozen=True, gc=False):
    """How long each hop took, in seconds."""

    source: Buckets
    """From the time that the source tells until the price was received; not of simulated prices."""
    aggregator: Buckets
    """From there until the price was decided."""
    hub: Buckets
    """From there until the hub began to write it."""
    socket: Buckets
    """From there until it was written to the socket: of each client that had room for it."""
    delivery: Buckets
    """All that lies within the daemon: from receiving it until it was written."""

    def since(self, earlier: Hops) -> Hops:
        """What was counted after `earlier`."""
        return Hops(*(getattr(self, hop).since(getattr(earlier, hop)) for hop in self.__struct_fields__))


class Delays:
    """Counts the hops of all prices."""

    def __init__(self) -> None:
        self._source = Histogram(LONG_SECONDS)
        self._aggregator = Histogram()
        self._hub = Histogram()
        self._socket = Histogram()
        self._delivery = Histogram()
        self._due: list[tuple[Price, EpochUs]] = []
        """The prices that are published and when each was decided, until the hub begins to write."""
        self._begun: list[tuple[EpochUs, list[tuple[Price, EpochUs]]]] = []
        self._written: list[tuple[float, float, float, int]] = []
        self._age_s: float | None = None

    def published(self, price: Price, decided: EpochUs) -> None:
        """A price is about to be written."""
        self._due.append((price, decided))

    def begin(self, now: EpochUs) -> None:
        """The hub begins to write what was published since the last time."""
        self._age_s = None
        if self._due:
            self._age_s = (now - self._due[0][0].receive_time) / SECOND_US
            self._begun.append((now, self._due))
            self._due = []
            if len(self._begun) >= PASSES:
                self._count()

    def written(self, first_s: float, last_s: float, clients: int) -> None:
        """So many clients were written to, from so many seconds after `begin` until so many.

        What they got together is counted as its first price.
        """
        if self._age_s is not None:
            self._written.append((self._age_s, first_s, last_s, clients))

    def taken(self) -> Hops:
        """What was written so far."""
        self._count()
        return Hops(
            source=self._source.taken(),
            aggregator=self._aggregator.taken(),
            hub=self._hub.taken(),
            socket=self._socket.taken(),
            delivery=self._delivery.taken(),
        )

    def _count(self) -> None:
        for began, due in self._begun:
            for price, decided in due:
                if price.quality is not Quality.SIMULATED:
                    self._source.observe((price.receive_time - price.source_time) / SECOND_US)
                self._aggregator.observe((decided - price.receive_time) / SECOND_US)
                self._hub.observe((began - decided) / SECOND_US)
        for age_s, first_s, last_s, clients in self._written:
            self._socket.spread(first_s, last_s, clients)
            self._delivery.spread(age_s + first_s, age_s + last_s, clients)
        self._begun.clear()
        self._written.clear()
