"""An actor that writes down what it is told, for tests of the actors that tell it."""

from __future__ import annotations

import trio

from aurexd.actors.trio_actor import TrioActor


class Probe(TrioActor):
    """Keeps every message; `messages` is the test's to read."""

    def __init__(self, messages: list[object]) -> None:
        super().__init__()
        self._messages = messages

    async def on_receive(self, message: object) -> object:
        self._messages.append(message)
        await trio.lowlevel.checkpoint()
        return None
