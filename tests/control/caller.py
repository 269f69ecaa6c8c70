"""A client of the control socket that does only what it is told, on Trio."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio

from aurexd.control import wire
from aurexd.control.interface import NAME


class RefusedError(Exception):
    """The reply is an error."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(name, parameters)
        self.name = name
        self.parameters = parameters


class Caller:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._messages = wire.Messages(10**7)
        self._waiting: list[bytes] = []

    async def send(self, method: str, *, more: bool = False, oneway: bool = False, **parameters: Any) -> None:
        name = method if "." in method else f"{NAME}.{method}"
        await self.stream.send_all(wire.call(name, parameters, more=more, oneway=oneway))

    async def reply(self) -> tuple[dict[str, Any], bool]:
        """The next reply, and whether more will follow.

        Raises:
            RefusedError: it is an error.
            EOFError: we were hung up on.

        """
        while not self._waiting:
            data = bytes(await self.stream.receive_some(65536))
            if not data:
                raise EOFError
            self._waiting += self._messages.feed(data)
        reply: dict[str, Any] = msgspec.json.decode(self._waiting.pop(0))
        if "error" in reply:
            raise RefusedError(reply["error"], reply["parameters"])
        return reply["parameters"], reply.get("continues", False)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        await self.send(method, **parameters)
        reply, continues = await self.reply()
        assert not continues
        return reply

    async def hung_up_on(self) -> bool:
        """Whether nothing more comes."""
        try:
            return not await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return True


@contextlib.asynccontextmanager
async def calling(path: object) -> AsyncIterator[Caller]:
    async with await trio.open_unix_socket(str(path)) as stream:
        yield Caller(stream)
