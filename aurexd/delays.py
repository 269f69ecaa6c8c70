"""How long a price takes, hop by hop, from its source's time to the clients' sockets. Pure: times are arguments.

Counted is what a tick has made of the price that just came; one that a failover brings back is older than any hop.
"""

from __future__ import annotations

import msgspec

from aurexd.histogram import LONG_SECONDS, Buckets, Histogram
from aurexd.market import SECOND_US, EpochUs, Price, Quality


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
        self._due: list[tuple[EpochUs, EpochUs]] = []
        self._age_s: float | None = None

    def published(self, price: Price, decided: EpochUs) -> None:
        """A price is about to be written."""
        self._due.append((price.receive_time, decided))
        if price.quality is not Quality.SIMULATED:
            self._source.observe((price.receive_time - price.source_time) / SECOND_US)
        self._aggregator.observe((decided - price.receive_time) / SECOND_US)

    def begin(self, now: EpochUs) -> None:
        """The hub begins to write what was published since the last time."""
        self._age_s = None
        if self._due:
            for _, decided in self._due:
                self._hub.observe((now - decided) / SECOND_US)
            self._age_s = (now - self._due[0][0]) / SECOND_US
            self._due.clear()

    def written(self, first_s: float, last_s: float, clients: int) -> None:
        """So many clients were written to, from so many seconds after `begin` until so many.

        What they got together is counted as its first price.
        """
        if self._age_s is not None:
            self._socket.spread(first_s, last_s, clients)
            self._delivery.spread(self._age_s + first_s, self._age_s + last_s, clients)

    def taken(self) -> Hops:
        """What was counted so far."""
        return Hops(
            source=self._source.taken(),
            aggregator=self._aggregator.taken(),
            hub=self._hub.taken(),
            socket=self._socket.taken(),
            delivery=self._delivery.taken(),
        )
