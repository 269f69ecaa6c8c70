from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from aurexd.market import SECOND_US, EpochUs, Instrument, Quality, Tick
from aurexd.selection import Candidate, Choice, Selection

RETURN_AFTER_S = 10.0


def tick(source: str, now: float = 0.0, *, lag_s: float = 0.0, simulated: bool = False) -> Tick:
    received = EpochUs(int(now * SECOND_US))
    return Tick(
        symbol="XAUUSD",
        source=source,
        instrument=Instrument.SPOT,
        source_time=EpochUs(received - int(lag_s * SECOND_US)),
        receive_time=received,
        last=Decimal("2000.00"),
        simulated=simulated,
    )


def selection(*candidates: Candidate) -> Selection:
    return Selection(list(candidates), return_after_s=RETURN_AFTER_S)


def best_and_second() -> Selection:
    return selection(Candidate("best", 1, 5.0), Candidate("second", 2, 5.0))


def test_the_first_price_of_anyone_is_the_price() -> None:
    s = best_and_second()
    verdict = s.observe(tick("second"), 0.0)
    assert (verdict.publish, verdict.changed) == (Choice(tick("second")), True)
    assert (s.carrier, s.quality) == ("second", Quality.LIVE)


def test_a_better_source_that_was_never_lost_takes_over_at_once() -> None:
    s = best_and_second()
    s.observe(tick("second"), 0.0)
    assert s.observe(tick("best"), 0.1).changed
    assert s.carrier == "best"


def test_a_worse_source_is_heard_but_not_published() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    verdict = s.observe(tick("second"), 1.0)
    assert (verdict.publish, verdict.changed) == (None, False)


def test_when_the_carrier_goes_stale_the_next_fresh_source_takes_over_with_its_own_price() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    kept = tick("second", 3.0)
    s.observe(kept, 3.0)
    assert s.next_change(3.0) == 5.0
    verdict = s.elapse(5.0)
    assert verdict.publish == Choice(kept)
    assert s.carrier == "second"
    assert verdict.reason == "best: no fresh price for 5 s; second carries the price"


def test_a_lost_source_comes_back_only_after_it_proved_itself() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    s.observe(tick("second"), 4.0)
    s.elapse(5.0)
    for now in (6.0, 8.0, 10.0, 12.0, 14.0):
        s.observe(tick("best"), now)
        s.observe(tick("second"), now)
        assert s.carrier == "second"
    assert s.next_change(14.0) == 16.0
    assert s.elapse(16.0).changed
    assert s.carrier == "best"


def test_a_gap_starts_the_proof_anew() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    s.observe(tick("second"), 4.0)
    s.elapse(5.0)
    s.observe(tick("best"), 6.0)
    for now in range(7, 17):
        s.observe(tick("second"), now)
    s.observe(tick("best"), 17.0)  # silent from 6 to 17: stale since 11
    s.elapse(17.0)
    assert s.carrier == "second"


def test_when_nobody_is_fresh_the_price_stays_and_is_stale() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    verdict = s.elapse(5.0)
    assert (verdict.publish, verdict.changed, s.quality, s.carrier) == (None, True, Quality.STALE, "best")
    assert s.next_change(5.0) == math.inf
    assert s.observe(tick("second"), 6.0).changed
    assert (s.carrier, s.quality) == ("second", Quality.LIVE)


def test_equal_priorities_keep_whoever_carries() -> None:
    s = selection(Candidate("a", 1, 5.0), Candidate("b", 1, 5.0))
    s.observe(tick("b"), 0.0)
    s.observe(tick("a"), 1.0)
    assert s.carrier == "b"
    s.elapse(5.0)
    assert s.carrier == "a"


def test_a_delayed_provider_is_delayed_and_a_recording_is_simulated() -> None:
    s = selection(Candidate("yahoo", 1, 30.0, known_delay_s=600.0))
    s.observe(tick("yahoo", lag_s=600.0), 0.0)
    assert s.quality is Quality.DELAYED
    s = selection(Candidate("replay", 1, 30.0))
    s.observe(tick("replay", lag_s=1e7, simulated=True), 0.0)
    assert s.quality is Quality.SIMULATED


def test_an_old_quote_replayed_by_a_frozen_feed_makes_nobody_fresh() -> None:
    s = best_and_second()
    verdict = s.observe(tick("best", lag_s=3600.0), 0.0)
    assert (verdict.publish, s.quality, s.carrier) == (None, Quality.STALE, None)
    s.observe(tick("second"), 1.0)
    s.observe(tick("best", lag_s=3600.0), 2.0)
    assert s.carrier == "second"


def test_a_price_that_may_be_older_stays_fresh_until_it_is() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    s.allow("best", 60.0, 4.0)
    assert s.next_change(4.0) == 60.0
    assert s.elapse(60.0).changed
    assert s.reason == "best: no fresh price for 60 s, and no other source is fresh"


def test_a_price_that_may_be_less_old_from_now_on_is_not_stale_for_that() -> None:
    s = selection(Candidate("best", 1, 60.0))
    s.observe(tick("best"), 0.0)
    s.allow("best", 5.0, 20.0)
    assert not s.elapse(20.0).changed
    s.observe(tick("best", 21.0), 21.0)
    assert s.next_change(21.0) == 26.0


def test_what_is_stale_does_not_come_back_because_it_may_be_older() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    s.elapse(5.0)
    s.allow("best", 60.0, 6.0)
    assert not s.elapse(6.0).changed
    assert s.quality is Quality.STALE
    s.allow("of another symbol", 60.0, 6.0)


# --- any order of events --------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
events = st.lists(st.tuples(st.floats(0.01, 8.0), st.sampled_from([*NAMES, None])), max_size=80)


@given(events, st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.sampled_from([2.0, 5.0, 12.0])] * 3))
def test_the_price_always_comes_from_a_fresh_source_while_there_is_one(
    schedule: list[tuple[float, str | None]], priorities: tuple[int, ...], limits: tuple[float, ...]
) -> None:
    """Woken at `next_change` and at each tick, the carrier is fresh whenever anybody is, and never beaten for long."""
    s = selection(*(Candidate(n, p, limit) for n, p, limit in zip(NAMES, priorities, limits, strict=True)))
    limit_of = dict(zip(NAMES, limits, strict=True))
    priority_of = dict(zip(NAMES, priorities, strict=True))
    fresh_until = dict.fromkeys(NAMES, -math.inf)
    fresh_since = dict.fromkeys(NAMES, math.inf)
    now = 0.0
    for gap, name in schedule:
        until = now + gap
        while (wake := s.next_change(now)) <= until:
            assert wake > now
            now = wake
            s.elapse(now)
        now = until
        if name is not None:
            if now >= fresh_until[name]:
                fresh_since[name] = now
            fresh_until[name] = now + limit_of[name]
            s.observe(tick(name, now), now)
        fresh = [n for n in NAMES if now < fresh_until[n]]
        if not fresh:
            assert s.quality is Quality.STALE
            continue
        assert s.quality is Quality.LIVE
        assert s.carrier in fresh
        proven = [n for n in fresh if now - fresh_since[n] >= RETURN_AFTER_S]
        assert all(priority_of[s.carrier] <= priority_of[n] for n in proven)


# --- the market ---

OPENS = EpochUs(10**15)


def test_a_closed_market_keeps_its_carrier_and_says_closed() -> None:
    s = best_and_second()
    s.observe(tick("best"), 0.0)
    assert s.set_market(OPENS, 1.0).changed
    assert (s.quality, s.carrier) == (Quality.CLOSED, "best")
    assert s.next_change(1.0) == math.inf
    assert not s.takes(tick("second", 2.0), in_session=False)
    assert s.takes(tick("second", 2.0), in_session=True)
    assert s.observe(tick("second", 2.0), 2.0).publish is None, "a late price of another source"
    late = tick("best", 3.0)
    assert s.observe(late, 3.0).publish == Choice(late)
    assert s.quality is Quality.CLOSED


def test_the_first_price_of_a_session_is_awaited_for_as_long_as_the_carrier_may_take() -> None:
    s = selection(Candidate("late", 1, 5.0, known_delay_s=600.0))
    s.observe(tick("late", lag_s=600), 0.0)
    s.set_market(OPENS, 10.0)
    s.set_market(None, 3600.0)
    assert (s.quality, s.reason) == (Quality.CLOSED, "the market has opened; its first price is awaited")
    assert s.next_change(3600.0) == 3600.0 + 605.0
    assert s.elapse(4205.0).changed
    assert s.quality is Quality.STALE


market_events = st.lists(
    st.tuples(st.floats(0.01, 8.0), st.sampled_from([*NAMES, "open", "close", None])), max_size=80
)


@given(market_events)
def test_the_quality_is_closed_in_a_closed_market_and_stale_only_in_an_open_one(
    schedule: list[tuple[float, str | None]],
) -> None:
    s = selection(*(Candidate(name, 1, 5.0) for name in NAMES))
    now, is_open, opened = 0.0, True, -math.inf
    for gap, event in schedule:
        now += gap
        if event in {"open", "close"}:
            changes = is_open is not (event == "open")
            opened = now if changes and event == "open" else opened
            is_open = event == "open"
            assert s.set_market(None if is_open else OPENS, now).changed is changes
        elif event is not None and s.takes(tick(event, now), in_session=False):
            s.observe(tick(event, now), now)
        s.elapse(now)
        assert s.next_change(now) > now
        if not is_open:
            assert s.quality is Quality.CLOSED
        elif s.quality is Quality.CLOSED:
            assert now < opened + 5.0
