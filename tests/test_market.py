from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurexd.market import EpochUs, format_time, parse_time


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
        (1_761_566_400_000_000, "2025-10-27T12:00:00Z"),
        (1_761_566_400_123_000, "2025-10-27T12:00:00.123Z"),
        (1_761_566_400_000_999, "2025-10-27T12:00:00Z"),
    ],
)
def test_a_time_is_written_with_milliseconds_where_there_are_any(time: int, text: str) -> None:
    assert format_time(EpochUs(time)) == text


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_in_milliseconds_survives_its_text(milliseconds: int) -> None:
    time = EpochUs(milliseconds * 1000)
    assert parse_time(format_time(time)) == time


def test_other_zones_are_the_same_moment() -> None:
    assert parse_time("2025-10-27T15:00:00+03:00") == parse_time("2025-10-27T12:00:00Z")


@pytest.mark.parametrize("text", ["2025-10-27T12:00:00", "soon", ""])
def test_a_time_without_a_zone_or_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — fromisoformat's own words differ by Python version
        parse_time(text)
