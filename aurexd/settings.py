"""The live part of the configuration: what may change while clients are served."""

from __future__ import annotations

from aurexd.config.model import Config, Heartbeat, Limits, Realtime


class Settings:
    """The sections that hold now. Read them where they are used, each time, and keep nothing of them: a reload
    replaces all of them at once."""

    __slots__ = ("heartbeat", "limits", "realtime")

    realtime: Realtime
    limits: Limits
    heartbeat: Heartbeat

    def __init__(self, config: Config) -> None:
        self.replace(config)

    def replace(self, config: Config) -> None:
        """From here on the sections of `config` hold."""
        self.realtime = config.realtime
        self.limits = config.limits
        self.heartbeat = config.heartbeat
