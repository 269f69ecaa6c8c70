"""The crowd that reads what servers send: `load.c`, compiled and spoken to."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import msgspec

BENCH = Path(__file__).parent

__all__ = ["Load", "compiled", "prices"]


def prices(found: dict[str, Any]) -> int:
    """How many of the counted messages were prices, those included that another one stands for."""
    return sum(count for channel, count in found["channels"].items() if channel.startswith("price_update"))


def compiled(source: Path, folder: Path) -> Path:
    """The program of one C file, made in `folder` unless it is there."""
    program = folder / source.stem
    if not program.exists():
        if shutil.which("cc") is None:
            raise SystemExit(
                "the benchmarks need a C compiler and OpenSSL's headers (Debian: gcc, libssl-dev)"
            )
        subprocess.run(["cc", "-O2", "-o", program, source, "-lssl", "-lcrypto"], check=True)
    return program


class Load(AbstractContextManager["Load"]):
    """Connections to one server, in a process of their own."""

    def __init__(
        self,
        folder: Path,
        port: int,
        path: str,
        connections: int,
        *,
        tls: bool = False,
        network: int = 1,
        at_once: int = 64,
        pause_s: float = 0.0,
        channels: Sequence[str] = (),
        mixed: bool = False,
        before: Sequence[str] = (),
    ) -> None:
        """`folder`: where the program is made. `channels`: what they subscribe to; none: what the server gives to who
        asks for nothing. `pause_s`: how long they read nothing, again and again. `mixed`: every second one speaks
        MessagePack. `before`: in front of the command."""
        command: list[str | Path] = [
            *before,
            compiled(BENCH / "load.c", folder),
            str(port),
            path,
            str(connections),
        ]
        command += [
            f"network={network}",
            f"at-once={at_once}",
            f"pause-ms={pause_s * 1000:.0f}",
            *(["tls"] if tls else []),
        ]
        if channels:
            subscribe = {"type": "subscribe", "data": {"channels": list(channels)}}
            command.append(f"text={json.dumps(subscribe)}")
            if mixed:
                command.append(f"binary={msgspec.msgpack.encode(subscribe).hex()}")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_open(self) -> dict[str, Any]:
        """Wait until all are open, or have failed; how they came."""
        return self._answer()

    def mark(self) -> None:
        """Count from now on."""
        self._ask("mark")

    def report(self) -> dict[str, Any]:
        """What was counted since the last mark."""
        return self._ask("report")

    def wait_prices(self, wanted: int, within_s: float) -> None:
        """Wait until so many prices have arrived, those included that another one stands for, or the time is over."""
        deadline = time.monotonic() + within_s
        while prices(self.look()) < wanted and time.monotonic() < deadline:
            time.sleep(0.02)

    def look(self) -> dict[str, Any]:
        """The same without the delays, whose quantiles would keep the clients waiting."""
        return self._ask("look")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the clients' process (bench/load.c) has died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """All connections end."""
        self._process.communicate()
