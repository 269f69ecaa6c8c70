"""When a market trades: its sessions, from a rule and a table of exceptions. Pure; all times are UTC microseconds.

Gold trades on COMEX, and spot with it, from Sunday to Friday: each session begins at 18:00 New York time on the
evening before its day and ends at 17:00, so there is a break of an hour each day and a weekend from Friday 17:00 to
Sunday 18:00. New York's clock decides, also on the nights when it is changed. Holidays without a session and early
closes are in `holidays.py`, which is generated; beyond its years only the rule holds.
"""

from __future__ import annotations

import abc
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from aurexd.holidays import METALS
from aurexd.market import SECOND_US, EpochUs

NEW_YORK = ZoneInfo("America/New_York")

OPENS = time(18)
"""On the evening before the session's day."""

CLOSES = time(17)

DAY = timedelta(days=1)
DAY_US = 86_400 * SECOND_US

_EPOCH = date(1970, 1, 1)


class Session(msgspec.Struct, frozen=True, gc=False):
    """One trading day: `start <= time < end`."""

    day: date
    """The day it is named by: of its end, in the market's own zone."""
    start: EpochUs
    end: EpochUs


class Calendar(abc.ABC):
    """The sessions of one market."""

    @abc.abstractmethod
    def session(self, time: EpochUs) -> Session:
        """The newest session that has begun by `time`: it trades, or it is the one that traded last."""

    @abc.abstractmethod
    def previous(self, session: Session) -> Session:
        """The session before."""

    @abc.abstractmethod
    def following(self, session: Session) -> Session:
        """The session after."""

    def is_open(self, time: EpochUs) -> bool:
        """Whether the market trades at `time`."""
        return time < self.session(time).end

    def day(self, time: EpochUs) -> tuple[EpochUs, EpochUs]:
        """What `time` counts to where nothing may be left out: a session and the break after it."""
        session = self.session(time)
        return session.start, self.following(session).start

    def next_change(self, time: EpochUs) -> EpochUs:
        """When the next session begins or the present one ends, whichever is first; later than `time`."""
        session = self.session(time)
        return session.end if time < session.end else self.following(session).start


class Always(Calendar):
    """A market that never closes. Its sessions are the days of UTC, as is the custom for coins."""

    def session(self, time: EpochUs) -> Session:
        """The day of `time`."""
        return _utc_day(_EPOCH + timedelta(days=time // DAY_US))

    def previous(self, session: Session) -> Session:
        """The day before."""
        return _utc_day(session.day - DAY)

    def following(self, session: Session) -> Session:
        """The day after."""
        return _utc_day(session.day + DAY)


class Metals(Calendar):
    """Gold on COMEX, and spot gold, whose brokers keep the same hours."""

    def session(self, time: EpochUs) -> Session:
        """The newest that has begun by `time`."""
        new_york = datetime.fromtimestamp(time // SECOND_US, NEW_YORK)
        session = self._nearest(new_york.date() + DAY, -DAY)  # an evening belongs to the next day
        return session if session.start <= time else self.previous(session)

    def previous(self, session: Session) -> Session:
        """The session before: on Monday that of Friday."""
        return self._nearest(session.day - DAY, -DAY)

    def following(self, session: Session) -> Session:
        """The session after."""
        return self._nearest(session.day + DAY, DAY)

    @staticmethod
    def _nearest(day: date, step: timedelta) -> Session:
        while (session := _metals_session(day)) is None:
            day += step
        return session


ALWAYS = Always()
METALS_CALENDAR = Metals()

CALENDARS: dict[str, Calendar] = {"metals": METALS_CALENDAR, "always": ALWAYS}
"""By the name that the configuration gives them."""


@lru_cache(16)
def _utc_day(day: date) -> Session:
    start = (day - _EPOCH).days * DAY_US
    return Session(day, EpochUs(start), EpochUs(start + DAY_US))


@lru_cache(64)
def _metals_session(day: date) -> Session | None:
    """The session of a day in New York; None when there is none."""
    closes = METALS.get(day, CLOSES)
    if day.weekday() > 4 or closes is None:
        return None
    return Session(day, _new_york(day - DAY, OPENS), _new_york(day, closes))


def _new_york(day: date, clock: time) -> EpochUs:
    moment = datetime.combine(day, clock, NEW_YORK).astimezone(UTC)
    return EpochUs(int(moment.timestamp()) * SECOND_US)
