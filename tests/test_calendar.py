from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd import holidays
from aurexd.calendar import ALWAYS, CALENDARS, METALS_CALENDAR, Calendar, Session
from aurexd.market import SECOND_US, EpochUs, format_time, parse_time
from tools.metals_holidays import generate, schedule

times = st.integers(parse_time("2000-01-05T00:00:00Z"), parse_time("2050-12-31T00:00:00Z")).map(EpochUs)


def metals_open(text: str) -> bool:
    return METALS_CALENDAR.is_open(parse_time(text))


def test_gold_trades_from_sunday_evening_to_friday_afternoon_with_a_break_each_day() -> None:
    assert not metals_open("2026-11-22T22:59:59.999Z")  # Sunday, 17:59 in New York
    assert metals_open("2026-11-22T23:00:00Z")
    assert metals_open("2026-11-23T21:59:59.999Z")
    assert not metals_open("2026-11-23T22:00:00Z")
    assert not metals_open("2026-11-23T22:59:59Z")
    assert metals_open("2026-11-23T23:00:00Z")
    assert not metals_open("2026-08-14T21:00:00Z")  # Friday, 17:00 in summer
    assert not metals_open("2026-08-15T12:00:00Z")


def test_the_change_of_the_clock_in_new_york_moves_the_hours_in_utc() -> None:
    assert not metals_open("2026-03-08T21:59:59Z")
    assert metals_open("2026-03-08T22:00:00Z")  # 18:00 EDT, the first day of summer time
    assert not metals_open("2026-11-01T22:59:59Z")
    assert metals_open("2026-11-01T23:00:00Z")  # 18:00 EST, the first day without it
    assert not metals_open("2026-03-09T21:00:00Z")


def test_holidays_have_no_session_and_some_days_end_early() -> None:
    assert not metals_open("2026-04-03T12:00:00Z")  # Good Friday
    assert METALS_CALENDAR.next_change(parse_time("2026-04-03T12:00:00Z")) == parse_time(
        "2026-04-05T22:00:00Z"
    )
    assert metals_open("2024-06-19T18:29:59Z")  # Juneteenth, until 14:30
    assert not metals_open("2024-06-19T18:30:00Z")
    assert metals_open("2024-06-19T22:00:00Z")  # and on in the evening


def test_the_session_before_monday_is_friday_s() -> None:
    monday = METALS_CALENDAR.session(parse_time("2026-11-16T12:00:00Z"))
    assert monday.day == date(2026, 11, 16)
    assert METALS_CALENDAR.previous(monday).day == date(2026, 11, 13)
    assert METALS_CALENDAR.following(METALS_CALENDAR.previous(monday)) == monday


def test_on_a_weekend_the_newest_session_is_friday_s() -> None:
    session = METALS_CALENDAR.session(parse_time("2026-11-14T12:00:00Z"))
    assert (session.day, format_time(session.end)) == (date(2026, 11, 13), "2026-11-13T22:00:00Z")


def test_a_market_that_never_closes_has_the_days_of_utc() -> None:
    noon = parse_time("2026-11-14T12:00:00Z")
    assert ALWAYS.is_open(noon)
    assert ALWAYS.session(noon) == Session(
        date(2026, 11, 14), parse_time("2026-11-14T00:00:00Z"), parse_time("2026-11-15T00:00:00Z")
    )
    assert ALWAYS.following(ALWAYS.previous(ALWAYS.session(noon))) == ALWAYS.session(noon)


@pytest.mark.parametrize("calendar", CALENDARS.values(), ids=CALENDARS)
@given(times)
def test_sessions_follow_each_other_without_overlap_and_changes_lie_ahead(
    calendar: Calendar, time: EpochUs
) -> None:
    session = calendar.session(time)
    following = calendar.following(session)
    assert session.start <= time < following.start
    assert session.start < session.end <= following.start
    assert calendar.previous(following) == session
    change = calendar.next_change(time)
    assert change > time
    assert calendar.session(EpochUs(change - 1)) == session
    assert calendar.is_open(EpochUs(change - 1)) is calendar.is_open(time)


@pytest.mark.slow  # the package brings pandas
def test_rule_and_table_are_what_pandas_market_calendars_says_for_every_session_of_forty_years() -> None:
    expected = list(schedule(holidays.YEARS[0], holidays.YEARS[-1]))
    session = METALS_CALENDAR.session(parse_time(f"{holidays.YEARS[0]}-01-04T12:00:00Z"))
    while session.day > expected[0][0]:
        session = METALS_CALENDAR.previous(session)
    for day, start, end in expected:
        assert (session.day, session.start, session.end) == (day, start * SECOND_US, end * SECOND_US)
        session = METALS_CALENDAR.following(session)


@pytest.mark.slow
def test_the_table_is_the_one_that_the_tool_writes() -> None:
    assert Path(holidays.__file__).read_text() == generate()


@pytest.mark.parametrize("calendar", CALENDARS.values())
@given(time=times)
def test_every_time_belongs_to_one_day_and_no_day_is_longer_than_a_holiday_weekend(
    calendar: Calendar, time: EpochUs
) -> None:
    start, end = calendar.day(time)
    assert start <= time < end
    assert calendar.day(end)[0] == end
    assert end - start <= 4 * 86_400 * SECOND_US
