"""The daemon's alerts, as its store makes them, held against the plain fold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference.evaluator import evaluate, seen, windows
from tests.reference.record import as_told, candles_that_differ, read_record
from tests.reference.rooms import SYMBOLS, Rooms, day
from tests.reference.walks import Walker, cut, quick_windows

SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
def test_alerts_are_the_fold_of_the_record_however_it_is_cut_and_restarted(seed: int, tmp_path: Path) -> None:
    stormy = seed % 3 == 2
    walk = Walker(seed, SYMBOLS, stormy=stormy).walk(250, 90 if stormy else 25)
    expected = evaluate(walk.prices, walk.statuses, walk.runs, walk.rules, day, quick_windows)

    rooms = Rooms(tmp_path / "aurexd.db")
    rooms.walk(walk, cut(seed, 2 * len(walk.events), 40))
    rooms.close()

    record = read_record(tmp_path / "aurexd.db")
    assert record.prices == walk.prices
    assert record.statuses == walk.statuses
    assert [row.alert for row in record.alerts] == as_told(expected)
    assert candles_that_differ(record) == 0


@pytest.mark.parametrize("seed", range(8))
def test_quick_windows_are_the_plain_ones(seed: int) -> None:
    prices = seen(Walker(seed, ("XAUUSD",)).walk(150, 0).prices)
    for length in (1_000_000, 60_000_000, 3_600_000_000):
        assert quick_windows(prices, length) == windows(prices, length)
