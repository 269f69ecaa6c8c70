"""`aurexd` with a bug: its hub hangs in the next message when the file `hang` lies in its directory."""

from __future__ import annotations

from pathlib import Path

import trio

from aurexd import cli
from aurexd.actors.hub import Hub

HANG = Path("/var/lib/aurexd/hang")

real = Hub.on_receive


async def on_receive(self: Hub, message: object) -> object:
    if HANG.exists():  # noqa: ASYNC240 — it is to be a bug
        HANG.unlink()  # noqa: ASYNC240
        await hang_for_ever()
    return await real(self, message)


async def hang_for_ever() -> None:
    await trio.sleep_forever()


Hub.on_receive = on_receive  # type: ignore[method-assign]
cli.main()
