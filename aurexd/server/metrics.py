"""Answers a scrape: asks everybody at once how they are, and writes it down for Prometheus.

Nobody counts for Prometheus: who owns a state counts what becomes of it, and is asked when somebody wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import pykka
import trio
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aurexd import log
from aurexd.actors.address import Address
from aurexd.actors.child import ChildStatus
from aurexd.actors.messages import Ask, GetStats, GetStore, GetSymbols, SourceStatus
from aurexd.actors.trio_actor import ask
from aurexd.clock import Clock
from aurexd.errors import InboxFullError
from aurexd.histogram import Buckets
from aurexd.market import EpochUs
from aurexd.reloads import Reloads
from aurexd.server.admission import Admission
from aurexd.server.door import Door
from aurexd.server.interface import Phase
from aurexd.server.measures import MEASURES, Gathered, Measure, Sample
from aurexd.stalls import Stalls
from aurexd.tally import Tally

R = TypeVar("R")

GATHER_S = 2.0
"""Who has not answered by then is left out: a scrape is worth most when something is wrong."""


class Metrics:
    """Gathers and writes; keeps nothing."""

    def __init__(
        self,
        *,
        phase: Callable[[], Phase],
        addresses: Callable[[], Mapping[str, Address[Any]]],
        actors: Callable[[], Mapping[str, ChildStatus]],
        sources: Callable[[], Awaitable[list[SourceStatus]]],
        tally: Tally,
        door: Door,
        admission: Admission,
        certificate_expires: Callable[[], EpochUs | None],
        reloads: Reloads,
        stalls: Stalls,
        clock: Clock,
    ) -> None:
        """`addresses`: of all actors, by name; `hub`, `aggregator` and `persister` are asked."""
        self._phase = phase
        self._addresses = addresses
        self._actors = actors
        self._sources = sources
        self._tally = tally
        self._door = door
        self._admission = admission
        self._certificate_expires = certificate_expires
        self._reloads = reloads
        self._stalls = stalls
        self._clock = clock

    async def scrape(self, accept: str, answered: Mapping[tuple[str, int], int]) -> tuple[bytes, str]:
        """The text for who accepts these media types, and its own: OpenMetrics, or Prometheus' text format.

        `answered`: HTTP requests so far, by route and status.
        """
        encode, kind = choose_encoder(accept)
        gathered = await self._gather(answered)
        # Counters go on meanwhile, so they are read here; what takes time, writing and /proc, is done in a thread.
        samples = [(m, list(m.read(gathered))) for group in MEASURES.values() for m in group]
        return await trio.to_thread.run_sync(_write, encode, samples), kind

    async def _gather(self, answered: Mapping[tuple[str, int], int]) -> Gathered:
        """Ask everybody at once, and wait for the slowest, at most `GATHER_S`."""
        gathered = Gathered(
            now=self._clock.now(),
            phase=self._phase(),
            actors=self._actors(),
            inboxes={name: address.actor_inbox.statistics() for name, address in self._addresses().items()},
            tally=self._tally,
            door=self._door,
            admission=self._admission,
            certificate_expires=self._certificate_expires(),
            answered=answered,
            reloads=self._reloads,
            log_lines=log.written(),
            stalls=self._stalls,
        )

        async def hub() -> None:
            gathered.hub = await self._ask("hub", GetStats())

        async def aggregator() -> None:
            gathered.symbols = await self._ask("aggregator", GetSymbols())

        async def persister() -> None:
            gathered.store = await self._ask("persister", GetStore())

        async def sources() -> None:
            gathered.sources = await self._sources()

        with trio.move_on_after(GATHER_S):
            async with trio.open_nursery() as nursery:
                for question in (hub, aggregator, persister, sources):
                    nursery.start_soon(question)
        return gathered

    async def _ask(self, name: str, question: Ask[R]) -> R | None:
        try:
            return await ask(self._addresses()[name], question, timeout_s=GATHER_S)
        except (trio.TooSlowError, InboxFullError, pykka.ActorDeadError):
            return None


class _Samples(Collector):
    """What was read, for the library's registry."""

    def __init__(self, samples: Iterable[tuple[Measure, list[Sample]]]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        for measure, samples in self._samples:
            yield _family(measure, samples)


def _family(measure: Measure, samples: list[Sample]) -> Metric:
    name, meaning, labels = measure.name, measure.meaning, measure.labels
    if measure.kind == "histogram":
        histogram = HistogramMetricFamily(name, meaning, labels=labels)
        for values, buckets in samples:
            assert isinstance(buckets, Buckets)
            cumulative = [(_bound(b), count) for b, count in buckets.cumulative()]
            histogram.add_metric(values, cumulative, buckets.total)
        return histogram
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = kind(name, meaning, labels=labels)
    for values, value in samples:
        assert not isinstance(value, Buckets)
        family.add_metric(values, value)
    return family


def _bound(bound: float) -> str:
    return "+Inf" if bound == math.inf else str(bound)


def _write(encode: Callable[[Collector], bytes], samples: Iterable[tuple[Measure, list[Sample]]]) -> bytes:
    """With what the process and the interpreter say of themselves. The registry is this scrape's own."""
    registry = CollectorRegistry()
    registry.register(_Samples(samples))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return encode(registry)
