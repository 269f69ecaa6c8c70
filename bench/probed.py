"""aurexd with a probe in its loop: how long each turn takes, and each pass of the garbage collector.

    python bench/probed.py FILE run --config aurexd.toml

Appends a JSON document to FILE about once a second: the turns since the last (`t` is the monotonic clock, times in
milliseconds). A turn is what the loop does between two looks at its sockets: whatever comes meanwhile waits so long.
`work` is the processor time in it: the difference is what other programs took on a busy machine. `slow`: each turn of
more than five milliseconds, with its end, its time and its work.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import trio

from aurexd.__main__ import main

SLOW_S = 0.005


class Probe(trio.abc.Instrument):
    """Times the turns of the loop."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("a", buffering=1)  # noqa: SIM115 — open as long as the process lives
        self._turns: list[float] = []
        self._work: list[float] = []
        self._collections: list[float] = []
        self._slow: list[tuple[float, float, float]] = []
        self._woke = self._worked = 0.0  # not yet: what came before the first look is no turn
        self._told = time.monotonic()
        gc.callbacks.append(self._collected)

    def after_io_wait(self, timeout: float) -> None:
        del timeout
        self._woke = time.monotonic()
        self._worked = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        del timeout
        if not self._woke:
            return
        now = time.monotonic()
        turn, work = now - self._woke, time.thread_time() - self._worked
        self._turns.append(turn)
        self._work.append(work)
        if turn > SLOW_S:
            self._slow.append((now, round(turn * 1e3, 2), round(work * 1e3, 2)))
        if now - self._told >= 1.0:
            self._tell(now)

    def _collected(self, phase: str, _info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting = time.monotonic()
        elif (took_s := time.monotonic() - self._collecting) > SLOW_S:
            self._collections.append(took_s)

    def _tell(self, now: float) -> None:
        turns, work = sorted(self._turns), sorted(self._work)
        line = {
            "t": now,
            "turns": len(turns),
            "busy": round(sum(turns) / (now - self._told), 3),
            "p50_ms": round(turns[len(turns) // 2] * 1e3, 2),
            "p99_ms": round(turns[len(turns) * 99 // 100] * 1e3, 2),
            "work_p50_ms": round(work[len(work) // 2] * 1e3, 2),
            "work_p99_ms": round(work[len(work) * 99 // 100] * 1e3, 2),
            "slow": self._slow,
            "gc_ms": [round(each * 1e3, 1) for each in self._collections],
        }
        self._file.write(json.dumps(line) + "\n")
        self._turns.clear()
        self._work.clear()
        self._slow.clear()
        self._collections.clear()
        self._told = now


if __name__ == "__main__":
    trio.run = functools.partial(trio.run, instruments=[Probe(sys.argv[1])])  # type: ignore[assignment]
    main(sys.argv[2:])
