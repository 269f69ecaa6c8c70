"""Writes `aurexd/holidays.py`: the days on which the metals market keeps other hours than its rule.

    python tools/metals_holidays.py > aurexd/holidays.py

From pandas_market_calendars' `CMEGlobex_GC`. (exchange_calendars' `CMES` is not usable: it knows no daily break, and
its early closes are those of equities.) A test compares the result with the package for every year in it.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = 2000, 2040

HEADER = '''"""Days on which the metals market keeps other hours than its rule. Generated: do not edit.

By tools/metals_holidays.py. A day alone has no session; a day with a time ends then, in New York.
"""

from __future__ import annotations

from datetime import date, time

YEARS = range({first}, {end})
"""What the table covers."""

_TABLE = """
'''

FOOTER = '''"""


def _parse(table: str) -> dict[date, time | None]:
    days = {}
    for entry in table.split():
        day, _, closes = entry.partition("=")
        days[date.fromisoformat(day)] = time.fromisoformat(closes) if closes else None
    return days


METALS = _parse(_TABLE)
"""Day → when its session ends; None: it has none."""
'''


def schedule(first_year: int = FIRST_YEAR, last_year: int = LAST_YEAR) -> Iterator[tuple[date, int, int]]:
    """Every session of the package: its day, its start and its end in seconds since the epoch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own deprecations
        import pandas_market_calendars  # a second to load, and only here

        table = pandas_market_calendars.get_calendar("CMEGlobex_GC").schedule(
            f"{first_year}-01-01", f"{last_year}-12-31"
        )
    for day, opens, closes in zip(table.index, table["market_open"], table["market_close"], strict=True):
        yield day.date(), int(opens.timestamp()), int(closes.timestamp())


def generate() -> str:
    """The module's text."""
    closes = {
        day: datetime.fromtimestamp(end, UTC).astimezone(ZoneInfo("America/New_York")).time()
        for day, _, end in schedule()
    }
    entries: dict[int, list[str]] = {year: [] for year in range(FIRST_YEAR, LAST_YEAR + 1)}
    day = date(FIRST_YEAR, 1, 1)
    while day.year <= LAST_YEAR:
        if day.weekday() < 5 and closes.get(day) != time(17):
            entries[day.year].append(f"{day}={closes[day]:%H:%M}" if day in closes else f"{day}")
        day += timedelta(days=1)
    lines = [textwrap.fill(" ".join(days), 110, break_on_hyphens=False) for days in entries.values()]
    return HEADER.format(first=FIRST_YEAR, end=LAST_YEAR + 1) + "\n".join(lines) + "\n" + FOOTER


if __name__ == "__main__":
    print(generate(), end="")
