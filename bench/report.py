"""What was measured, and how it is told: figures of interleaved runs, their medians and spreads, ratios of one run.

Each part of the benchmark makes rows; a row has, run by run, the figures of one server in one case. Ratios are made of
two servers' figures of the same run, and then have a median and a spread themselves: what slows the machine down for a
while slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

__all__ = ["FIGURES", "Figure", "Row", "Spread", "cases", "ratios", "told"]


class Figure(NamedTuple):
    """What a figure is called in a table, and which way is better."""

    title: str
    more_is_better: bool = False
    digits: int = 1


FIGURES = {
    "us_per_message": Figure("CPU µs a message", digits=2),
    "us_per_price": Figure("CPU µs a price and client", digits=2),
    "admitted_per_s": Figure("admitted a second", more_is_better=True, digits=0),
    "ticks_per_cpu_s": Figure("prices a CPU second", more_is_better=True, digits=0),
    "page_p50_ms": Figure("page p50 ms"),
    "p50_ms": Figure("p50 ms"),
    "p99_ms": Figure("p99 ms"),
    "quiet_p99_ms": Figure("p99 ms before"),
    "to_quiet": Figure("p99 to before", digits=2),
    "ms_per_admission": Figure("CPU ms each", digits=2),
    "kb_per_connection": Figure("KB a connection"),
    "ticks_per_s": Figure("prices a second", more_is_better=True, digits=0),
    "late_to_early": Figure("cost, last third to first", digits=2),
    "messages_per_client": Figure("messages to a client", digits=0),
    "rss_mb": Figure("MB", digits=0),
    "descriptors": Figure("descriptors", digits=0),
    "threads": Figure("threads", digits=0),
    "alerts": Figure("alerts", digits=0),
    "alert_p50_ms": Figure("alert p50 ms"),
    "alert_p99_ms": Figure("alert p99 ms"),
    "page_p99_ms": Figure("page p99 ms"),
    "month_p50_ms": Figure("month p50 ms"),
    "month_p99_ms": Figure("month p99 ms"),
    "first_p50_ms": Figure("first p50 ms"),
}
"""In the order of the tables; the first one that a part has is the one that ratios are made of."""


class Row(msgspec.Struct):
    """One server in one case, run by run."""

    part: str
    case: str
    server: str
    runs: list[dict[str, float]] = []
    problems: list[str] = []
    """What must not be, in any run: something lost, or not measured."""

    def values(self, figure: str) -> list[float]:
        return [run[figure] for run in self.runs if figure in run]


class Spread(NamedTuple):
    """The middle and the ends of some runs."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1]) if ordered else None

    def text(self, digits: int) -> str:
        if self.least == self.most:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


def ratios(row: Row, base: Row, figure: str) -> list[float]:
    """One row's figure to another's, run by run."""
    pairs = zip(row.runs, base.runs, strict=False)
    return [
        run[figure] / against[figure] for run, against in pairs if run.get(figure) and against.get(figure)
    ]


def table(rows: Sequence[Row]) -> str:
    """A part's rows for people, as Markdown. Ratios are to the first row of the same case that was measured."""
    measured = [row for row in rows if row.runs]
    names = [name for name in FIGURES if any(row.values(name) for row in measured)]
    bases = {key: those[0] for key, those in cases(measured).items()}
    compared = names[:1] if len(bases) < len(measured) else []
    head = ["case", "server"]
    for name in names:
        head += [FIGURES[name].title, *(["ratio"] if name in compared else [])]
    lines = [head, ["---"] * len(head)]
    for row in measured:
        base = bases[row.part, row.case]
        cells = [row.case if row is base else "", row.server]
        for name in names:
            spread = Spread.of(row.values(name))
            cells.append(spread.text(FIGURES[name].digits) if spread else "")
            if name in compared:
                ratio = Spread.of(ratios(row, base, name))
                cells.append(ratio.text(2) if ratio else "")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cases(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each part and case, in their order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.part, row.case), []).append(row)
    return found


def told(rows: Sequence[Row]) -> str:
    """One part for people: the median of each figure, its least and most; and what was wrong."""
    problems = [
        f"{row.part}, {row.case}, {row.server}: {problem}" for row in rows for problem in row.problems
    ]
    return "\n".join([f"\n### {rows[0].part}\n", table(rows), "", *problems])
