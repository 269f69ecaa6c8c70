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
    "us_per_message": Figure("µs/message", digits=2),
    "p50_ms": Figure("p50 ms"),
    "p99_ms": Figure("p99 ms"),
    "kb_per_connection": Figure("KB/connection"),
}


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
    """A part's rows of one case for people: Markdown. Ratios are to the first row that was measured."""
    measured = [row for row in rows if row.runs]
    if not measured:
        return ""
    base = measured[0]
    names = [name for name in FIGURES if any(row.values(name) for row in measured)]
    compared = [name for name in names if len(measured) > 1][:1]
    head = ["", *(f"{FIGURES[name].title}" for name in names)]
    for name in compared:
        head.insert(1 + names.index(name) + 1, f"to {base.server}")
    lines = [head]
    for row in measured:
        cells = [row.server]
        for name in names:
            spread = Spread.of(row.values(name))
            cells.append(spread.text(FIGURES[name].digits) if spread else "")
            if name in compared:
                ratio = Spread.of(ratios(row, base, name))
                cells.append(ratio.text(2) if ratio else "")
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    head_line, _, rest = text.partition("\n")
    return f"{head_line}\n|{'---|' * len(head)}\n{rest}"


def cases(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each part and case, in their order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.part, row.case), []).append(row)
    return found


def told(rows: Iterable[Row]) -> str:
    """All of it for people."""
    pieces = []
    for (part, case), those in cases(rows).items():
        pieces.append(f"\n### {part}: {case}\n")
        pieces.append(table(those))
        pieces += [f"\n{row.server}: {problem}" for row in those for problem in row.problems]
    return "\n".join(pieces)
