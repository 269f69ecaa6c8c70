"""One owner's alerts that were sent and not yet acknowledged. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aurexd.protocol.messages import Alert

MAX_WAITING = 1000
"""Alerts that are sent again to an owner who never acknowledges: of more than that only the newest."""


class Mailbox:
    """Alerts that are sent again until the owner says that they arrived."""

    def __init__(self) -> None:
        self._waiting: dict[str, Alert] = {}
        """Alert id → the message, oldest first."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, alert_id: str) -> bool:
        return alert_id in self._waiting

    def put(self, message: Alert) -> Alert | None:
        """Keep an alert; the oldest one, if that had to go for it."""
        self._waiting[message.data.alert_id] = message
        if len(self._waiting) > MAX_WAITING:
            return self._waiting.pop(next(iter(self._waiting)))
        return None

    def acknowledge(self, alert_ids: Iterable[str]) -> int:
        """These arrived: how many of them waited. One that is not known is none of ours, or arrived before."""
        return sum(self._waiting.pop(alert_id, None) is not None for alert_id in alert_ids)

    def waiting(self) -> list[Alert]:
        """All that is to be sent again, oldest first."""
        return list(self._waiting.values())
