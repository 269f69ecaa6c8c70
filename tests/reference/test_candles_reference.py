"""The daemon's candles, live and stored, held against the plain fold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from aurexd.actors.messages import Decision
from aurexd.candles import INTERVALS, Book, time_of
from aurexd.store import Store
from tests.reference.evaluator import Candle, Price, candles
from tests.reference.rooms import MARKETS, SYMBOLS, day, published
from tests.reference.walks import Walker, cut

SEEDS = range(24)


def expected(prices: list[Price]) -> dict[tuple[str, str], list[Candle]]:
    return {
        (symbol, interval): candles(
            [p for p in prices if p.symbol == symbol], interval, partial(day, symbol)
        )[0]
        for symbol in SYMBOLS
        for interval in INTERVALS
    }


def stored(path: Path) -> dict[tuple[str, str], list[Candle]]:
    found: dict[tuple[str, str], list[Candle]] = {(s, i): [] for s in SYMBOLS for i in INTERVALS}
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            'SELECT symbol, interval, start, "end", open, high, low, close, ticks, revision FROM candles'
            " ORDER BY symbol, interval, start"
        )
        for symbol, interval, start, end, open_, high, low, close, ticks, revision in rows:
            candle = Candle(start, end, exact(open_), exact(high), exact(low), exact(close), ticks, revision)
            found[symbol, interval].append(candle)
    connection.close()
    return found


def exact(price: float) -> Decimal:
    return Decimal(repr(price)).quantize(Decimal("0.01"))


def batches(prices: list[Price], seed: int) -> Iterator[list[Price]]:
    start = 0
    for size in cut(seed, len(prices), 60):
        yield prices[start : start + size]
        start += size


@pytest.mark.parametrize("seed", SEEDS)
def test_stored_candles_are_the_fold_of_the_stored_prices_however_they_are_cut_and_restarted(
    seed: int, tmp_path: Path
) -> None:
    prices = Walker(seed, SYMBOLS).walk(300, 0).prices
    path = tmp_path / "aurexd.db"
    days = {symbol: market.day for symbol, market in MARKETS.items()}
    store = Store(f"sqlite:///{path}", days)
    for number, batch in enumerate(batches(prices, seed)):
        store.append([Decision(price=published(price)) for price in batch])
        if number % 5 == seed % 5:
            store.close()
            store = Store(f"sqlite:///{path}", days)
    store.close()

    assert stored(path) == expected(prices)


@pytest.mark.parametrize("seed", SEEDS)
def test_live_candles_are_the_same_fold(seed: int) -> None:
    prices = Walker(seed, ("XAUUSD",)).walk(300, 0).prices
    book: Book[Decimal] = Book(MARKETS["XAUUSD"].day)
    last = {}
    for price in prices:
        said = published(price)
        book.add(time_of(said), said.receive_time, said.close)
        for candle in book.take_changes():
            last[candle.interval, candle.start] = candle

    for interval in INTERVALS:
        made, final_until = candles(prices, interval, partial(day, "XAUUSD"))
        own = [candle for (name, _), candle in sorted(last.items()) if name == interval]
        assert [
            Candle(c.start, c.end, c.open, c.high, c.low, c.close, c.ticks, c.revision) for c in own
        ] == made
        assert [book.is_final(c) for c in own] == [c.end <= final_until for c in made]
