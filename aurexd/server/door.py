"""Who may knock: connections and requests by address, turned away before anything is spent on them.

A client over a limit is told so: that takes a handshake, which is what a flood would have us do. So each address is
told only so often, and beyond that hung up on as soon as it is accepted. All tables are bounded and forget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog
import trio

from aurexd.histogram import LONG_SECONDS, Histogram
from aurexd.limits import Rates, address_group
from aurexd.settings import Settings

log = structlog.get_logger(__name__)

BURST_S = 10.0
"""An address may save up this many seconds of its connections and requests: a page loads at once, and an office has
many of them."""

REFUSALS_PER_S = 5.0
"""How often one address is told that it is refused. Each may cost a TLS handshake and an upgrade, 4 ms: this is two
percent of a core."""

REFUSALS_BURST = 50.0

GRACE_S = 2.0
"""Who has not sent a request for so long gives way to a newcomer where there is no room; others do it in a tenth."""

ADDRESSES = 16_384
"""That each table knows: 4 MB of addresses that all did something within ten seconds."""

SAY_S = 60.0
"""Of those that are hung up on there is one line in the log in this time, which counts them."""


HANG_UPS = ("attempts", "refusals", "handshakes_per_ip", "handshakes", "gave_way", "proxy_header")
"""Why a connection is ended without a word."""


class Visit:
    """One connection, from its acceptance until its first request is read."""

    __slots__ = ("began", "group", "retry_after_s", "scope")

    def __init__(self, now: float, timeout_s: float) -> None:
        self.began = now
        self.scope = trio.CancelScope(deadline=now + timeout_s)
        """The time it has; cancelled where it must give way."""
        self.group: str | None = None
        """Whom it is counted for; None while only its proxy is known."""
        self.retry_after_s = 0.0
        """More than 0: its address knocks too often and is to be told so."""


class Door:
    """Lets connections begin, or does not."""

    def __init__(self, settings: Settings, now: Callable[[], float] = trio.current_time) -> None:
        """`now`: the loop's time, in seconds."""
        self.now = now
        self._settings = settings
        self._attempts = Rates(ADDRESSES)
        self._requests = Rates(ADDRESSES)
        self._refusals = Rates(ADDRESSES)
        self._visits: dict[Visit, None] = {}
        """Those that are under way, the oldest first."""
        self._visits_of: Counter[str] = Counter()
        self.knocks = 0
        """Connections that were accepted, ever."""
        self.hang_ups: Counter[str] = Counter()
        """Of these, those that were ended without a word, by reason."""
        self.visits_s = Histogram(LONG_SECONDS)
        """How long it took until the first request was read, or nobody waited for it any more."""
        self._unsaid: Counter[str] = Counter()
        self._said_at = -SAY_S

    @property
    def visits(self) -> int:
        """Connections whose first request is not yet read."""
        return len(self._visits)

    def knock(self, address: str | None) -> Visit | None:
        """A connection is accepted: its visit, or None where it is to be hung up on. None for an address that only its
        proxy can tell.

        Whoever has a visit ends it by `leave`.
        """
        self.knocks += 1
        limits, now = self._settings.limits, self.now()
        visit = Visit(now, limits.handshake_timeout_s)
        if address is not None and not self.meet(visit, address):
            return None
        if limits.max_handshakes and len(self._visits) >= limits.max_handshakes and not self._make_room(now):
            self.leave(visit)
            self.hung_up("handshakes", address)
            return None
        self._visits[visit] = None
        return visit

    def meet(self, visit: Visit, address: str) -> bool:
        """The visitor's address has become known: whether it may go on, be it to be told to come later."""
        limits, now = self._settings.limits, self.now()
        group = address_group(address)
        if self._refusals.wait(group, now, rate=REFUSALS_PER_S, burst=REFUSALS_BURST):
            self.hung_up("refusals", address)
            return False
        rate = limits.max_attempts_per_second
        wait_s = self._attempts.take(group, now, rate=rate, burst=max(1.0, rate * BURST_S))
        if wait_s and self._refuse(group, now):
            self.hung_up("attempts", address)
            return False
        most = limits.max_handshakes_per_ip
        if most and self._visits_of[group] >= most:
            self.hung_up("handshakes_per_ip", address)
            return False
        visit.group = group
        visit.retry_after_s = wait_s
        self._visits_of[group] += 1
        return True

    def leave(self, visit: Visit) -> None:
        """The visit is over: its request is read, or it failed."""
        if visit in self._visits:
            del self._visits[visit]
            self.visits_s.observe(self.now() - visit.began)
        if visit.group is not None:
            self._visits_of[visit.group] -= 1
            if not self._visits_of[visit.group]:
                del self._visits_of[visit.group]

    def ask(self, address: str) -> float:
        """An HTTP request: 0.0, or the seconds that its address has to wait."""
        rate = self._settings.limits.max_requests_per_second
        return self._requests.take(
            address_group(address), self.now(), rate=rate, burst=max(1.0, rate * BURST_S)
        )

    def refused(self, address: str) -> None:
        """Somebody was told that it is refused: that counts against its address."""
        self._refuse(address_group(address), self.now())

    def hung_up(self, reason: str, address: str | None, detail: str = "") -> None:
        """Count a connection that was ended without a word, and say so now and then."""
        self.hang_ups[reason] += 1
        self._unsaid[reason] += 1
        now = self.now()
        if now - self._said_at >= SAY_S:
            more = {"detail": detail} if detail else {}
            log.warning("connections_hung_up", client=address, **self._unsaid, **more)
            self._unsaid.clear()
            self._said_at = now

    def _refuse(self, group: str, now: float) -> float:
        return self._refusals.take(group, now, rate=REFUSALS_PER_S, burst=REFUSALS_BURST)

    def _make_room(self, now: float) -> bool:
        oldest = next(iter(self._visits))
        if now - oldest.began < GRACE_S:
            return False
        oldest.scope.cancel()
        del self._visits[oldest]
        self.hung_up("gave_way", None)
        return True
