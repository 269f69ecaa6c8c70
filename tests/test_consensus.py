from __future__ import annotations

import math
from decimal import Decimal
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.consensus import Consensus, centre
from aurexd.market import SECOND_US, EpochUs, Instrument, Quality, Tick
from aurexd.selection import Candidate, Standing

RETURN_AFTER_S = 10.0
OPENS = EpochUs(10**15)


def tick(
    source: str,
    price: str | None = "2000",
    now: float = 0.0,
    *,
    book: tuple[str, str] | None = None,
    lag_s: float = 0.0,
    simulated: bool = False,
) -> Tick:
    received = EpochUs(int(now * SECOND_US))
    return Tick(
        symbol="XAUUSD",
        source=source,
        instrument=Instrument.SPOT,
        source_time=EpochUs(received - int(lag_s * SECOND_US)),
        receive_time=received,
        bid=Decimal(book[0]) if book else None,
        ask=Decimal(book[1]) if book else None,
        last=Decimal(price) if price and not book else None,
        simulated=simulated,
    )


def consensus(*sources: str, delayed: str = "", known_delay_s: float = 600.0) -> Consensus:
    candidates = [Candidate(source, 1, 5.0) for source in sources]
    if delayed:
        candidates.append(Candidate(delayed, 1, 30.0, known_delay_s=known_delay_s))
    return Consensus(candidates, return_after_s=RETURN_AFTER_S)


# --- the price ---


def test_the_price_is_the_median_of_the_bids_and_of_the_asks_and_their_mid() -> None:
    found = centre(
        [
            tick("a", book=("2000.10", "2000.30")),
            tick("b", book=("2000.00", "2000.60")),
            tick("c", "2000.25"),
        ]
    )
    assert (found.tick.bid, found.tick.ask, found.tick.last) == (Decimal("2000.10"), Decimal("2000.30"), None)
    assert (found.tick.source, found.votes) == ("consensus", ("a", "b", "c"))


def test_without_a_quote_it_is_the_median_of_the_last_prices() -> None:
    found = centre([tick("a", "2000.10"), tick("b", "2000.31")])
    assert (found.tick.bid, found.tick.ask, found.tick.last) == (None, None, Decimal("2000.205"))


def test_its_time_is_the_newest_vote_s() -> None:
    found = centre([tick("a", now=10.0, lag_s=3.0), tick("b", now=9.0, lag_s=1.0)]).tick
    assert (found.source_time, found.receive_time) == (8 * SECOND_US, 10 * SECOND_US)


@pytest.mark.parametrize(
    ("ticks", "confidence"),
    [
        ([tick("a", "2000")], None),
        ([tick("a", book=("2000.0", "2000.5"))], Decimal("0.25")),
        ([tick("a", "2000"), tick("b", "2001")], Decimal("1.4826") / 2),
        ([tick("a", "2000"), tick("b", "2001"), tick("c", "2900")], Decimal("1.4826")),
        ([tick("a", "2000"), tick("b", "2000"), tick("c", "2900")], Decimal(0)),
    ],
)
def test_the_confidence_tells_how_far_the_votes_are_apart(
    ticks: list[Tick], confidence: Decimal | None
) -> None:
    assert centre(ticks).confidence == confidence


cents = st.integers(1, 10**7).map(lambda n: Decimal(n) / 100)
near = st.integers(-50, 50).map(lambda n: Decimal(2000) + Decimal(n) / 100)


@st.composite
def votes(draw: st.DrawFn, prices: st.SearchStrategy[Decimal], least: int, most: int) -> list[Tick]:
    found = []
    for number in range(draw(st.integers(least, most))):
        low, high = sorted((draw(prices), draw(prices)))
        book = (str(low), str(high)) if draw(st.booleans()) else None
        found.append(tick(f"s{number}", str(low), book=book))
    return found


@given(votes(near, 1, 6), st.data())
def test_whoever_is_in_the_minority_cannot_move_it_beyond_the_others(
    honest: list[Tick], data: st.DataObject
) -> None:
    mad = data.draw(votes(cents, 0, len(honest) - 1))
    found = centre(data.draw(st.permutations([*honest, *mad]))).tick
    said = [p for t in honest for p in (t.bid, t.ask, t.last) if p is not None]
    if found.bid is None or found.ask is None:
        assert found.last is not None
        assert min(said) <= found.last <= max(said)
    else:
        assert min(said) <= found.bid <= found.ask <= max(said)


@given(votes(near, 1, 6))
def test_the_band_holds_half_of_the_votes(ticks: list[Tick]) -> None:
    found = centre(ticks)
    if found.confidence is None:
        return
    mids = [t.last if t.last is not None else median((t.bid, t.ask)) for t in ticks]  # type: ignore[type-var]
    made = found.tick.last
    if made is None:
        assert found.tick.bid is not None
        assert found.tick.ask is not None
        made = (found.tick.bid + found.tick.ask) / 2
    within = [mid for mid in mids if mid is not None and abs(mid - made) <= found.confidence]
    assert 2 * len(within) >= len(mids)


# --- who votes ---


def test_every_fresh_source_votes_and_each_tick_makes_a_price() -> None:
    c = consensus("a", "b", "c")
    first = c.observe(tick("b", "2001"), 0.0)
    assert first.publish is not None
    assert (first.publish.votes, first.reason) == (("b",), "b votes alone")
    c.observe(tick("a", "2000"), 0.1)
    third = c.observe(tick("c", "2005"), 0.2)
    assert third.publish is not None
    assert (third.publish.votes, third.publish.tick.last) == (("a", "b", "c"), Decimal(2001))
    assert (c.carrier, c.quality, c.reason) == ("consensus", Quality.LIVE, "a, b and c vote")
    moved = c.observe(tick("a", "2002", 0.3), 0.3)
    assert moved.publish is not None
    assert (moved.publish.tick.last, moved.changed) == (Decimal(2002), False)


def test_who_falls_silent_loses_the_vote_at_once_and_the_price_is_made_anew() -> None:
    c = consensus("a", "b")
    c.observe(tick("a", "2000"), 0.0)
    c.observe(tick("b", "2001", 3.0), 3.0)
    assert c.next_change(3.0) == 5.0
    verdict = c.elapse(5.0)
    assert verdict.publish is not None
    assert (verdict.publish.votes, verdict.publish.tick.last) == (("b",), Decimal(2001))
    assert verdict.reason == "a: no fresh price for 5 s; b votes alone"


def test_who_was_lost_votes_again_only_after_it_proved_itself() -> None:
    c = consensus("a", "b")
    c.observe(tick("a"), 0.0)
    c.observe(tick("b"), 4.0)
    c.elapse(5.0)
    for now in (6.0, 9.0, 12.0, 15.0):
        c.observe(tick("b", now=now), now)
        verdict = c.observe(tick("a", now=now), now)
        assert (verdict.publish, c.standing("a", now)) == (None, Standing.RETURNING)
    assert c.next_change(15.0) == 16.0
    verdict = c.elapse(16.0)
    assert verdict.publish is not None
    assert verdict.publish.votes == ("a", "b")


def test_who_was_lost_votes_at_once_where_nobody_else_does() -> None:
    c = consensus("a", "b")
    c.observe(tick("a"), 0.0)
    c.elapse(5.0)
    assert (c.quality, c.reason) == (Quality.STALE, "a: no fresh price for 5 s, and no other source is fresh")
    assert c.observe(tick("a", now=6.0), 6.0).publish is not None
    assert c.quality is Quality.LIVE


def test_what_is_late_by_design_votes_only_where_nothing_is_live() -> None:
    c = consensus("a", delayed="late")
    c.observe(tick("late", "1990", lag_s=600.0), 0.0)
    assert c.quality is Quality.DELAYED
    verdict = c.observe(tick("a"), 1.0)
    assert verdict.publish is not None
    assert (verdict.publish.votes, c.quality) == (("a",), Quality.LIVE)
    assert c.standing("late", 1.0) is Standing.WORSE_QUALITY
    assert c.elapse(6.0).changed
    assert (c.quality, c.standing("a", 6.0)) == (Quality.DELAYED, Standing.STALE)


def test_made_up_prices_have_no_vote_among_real_ones() -> None:
    c = consensus("a", "b")
    c.observe(tick("a", "3000", simulated=True), 0.0)
    assert c.quality is Quality.SIMULATED
    verdict = c.observe(tick("b"), 1.0)
    assert verdict.publish is not None
    assert (verdict.publish.votes, verdict.publish.tick.simulated) == (("b",), False)


def test_a_closed_market_keeps_its_votes() -> None:
    c = consensus("a", "b", "c")
    assert c.set_market(OPENS, 0.0).changed
    c.observe(tick("a", "2000"), 0.0)
    first = c.observe(tick("b", "2001"), 0.0)
    assert first.publish is not None
    assert (first.publish.votes, c.quality) == (("a", "b"), Quality.CLOSED)
    c.set_market(None, 100.0)
    for source in ("a", "b"):
        c.observe(tick(source, now=101.0), 101.0)
    c.set_market(OPENS, 102.0)
    assert c.observe(tick("c", "2009", 103.0), 103.0).publish is None
    assert c.standing("c", 103.0) is Standing.MARKET_CLOSED
    last = c.observe(tick("b", "2003", 104.0), 104.0)
    assert last.publish is not None
    assert (last.publish.votes, last.publish.tick.last) == (("a", "b"), Decimal("2001.5"))


NAMES = ("a", "b", "c")
events = st.lists(st.tuples(st.floats(0.01, 8.0), st.sampled_from([*NAMES, None])), max_size=80)


@given(events, st.tuples(*[st.sampled_from([2.0, 5.0, 12.0])] * 3))
def test_whoever_votes_is_fresh_and_nobody_who_is_fresh_is_kept_out_for_long(
    schedule: list[tuple[float, str | None]], limits: tuple[float, ...]
) -> None:
    c = Consensus(
        [Candidate(n, 1, limit) for n, limit in zip(NAMES, limits, strict=True)],
        return_after_s=RETURN_AFTER_S,
    )
    limit_of = dict(zip(NAMES, limits, strict=True))
    fresh_until, fresh_since = dict.fromkeys(NAMES, -math.inf), dict.fromkeys(NAMES, math.inf)
    made: tuple[str, ...] = ()
    now = 0.0
    for gap, name in schedule:
        until = now + gap
        while (wake := c.next_change(now)) <= until:
            assert wake > now
            now = wake
            verdict = c.elapse(now)
            made = verdict.publish.votes if verdict.publish else made
        now = until
        if name is not None:
            if now >= fresh_until[name]:
                fresh_since[name] = now
            fresh_until[name] = now + limit_of[name]
            verdict = c.observe(tick(name, now=now), now)
            made = verdict.publish.votes if verdict.publish else made
        fresh = {n for n in NAMES if now < fresh_until[n]}
        if not fresh:
            assert c.quality is Quality.STALE
            continue
        assert c.quality is Quality.LIVE
        assert {n for n in fresh if now - fresh_since[n] >= RETURN_AFTER_S} <= set(made) <= fresh
        assert {n for n in NAMES if c.standing(n, now) is Standing.COUNTS} == set(made)
