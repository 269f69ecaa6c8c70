"""A machine with systemd that was booted for this, and how what is seen of it becomes a table.

Needs nothing but Python: it is used within such a machine as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PLACE = Path("/srv/aurexd-test")
"""Where the machine has the files of this directory."""

PYTHON = "/usr/local/lib/aurexd/bin/python"

STATUS = "exit status "
"""Begins the last line of what ran in a machine of its own."""


class FailedError(Exception):
    """Something is not as it must be."""


def expect(condition: object, what: object) -> None:
    if not condition:
        raise FailedError(str(what))


class Machine:
    """A machine that was booted for this, seen from its root's shell."""

    def __init__(self, *enter: str) -> None:
        """`enter`: what goes before each command, as `nsenter`; nothing where one is there already."""
        self._enter = enter

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [*self._enter, *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and result.returncode:
            raise FailedError(
                f"{' '.join(command)}: {result.returncode}: {result.stdout[-500:]}{result.stderr[-1500:]}"
            )
        return result

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._enter, *command], stdout=subprocess.PIPE, text=True)

    def systemctl(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *command, check=check)

    def show(self, *properties: str, unit: str = "aurexd.service") -> dict[str, str]:
        text = self.systemctl("show", unit, "--property", ",".join(properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def write(self, path: str, text: str, mode: str = "644") -> None:
        self.run(
            "sh",
            "-c",
            f"mkdir -p $(dirname {path}) && printf '%s' \"$1\" > {path} && chmod {mode} {path}",
            "sh",
            text,
        )

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        text = self.run("journalctl", "--no-pager", "-o", "json", "--all", *matches).stdout
        return [json.loads(line) for line in text.splitlines()]

    def get(self, path: str) -> Any:
        program = "import sys,urllib.request as u;print(u.urlopen('http://127.0.0.1:8000'+sys.argv[1],timeout=20).read().decode())"
        return json.loads(self.run(PYTHON, "-c", program, path).stdout)

    def wait_for(self, condition: Callable[[], object], what: str, within_s: float = 60) -> None:
        began = time.monotonic()
        while not condition():
            expect(time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}")
            time.sleep(0.1)


Check = tuple[str, Callable[[Machine], str]]
"""What is looked at, and how: it returns what was seen, or raises."""


def show(machine: Machine, checks: Sequence[Check]) -> bool:
    """Look at everything and write the table to standard output; whether all is as it must be."""
    good = True
    version = machine.systemctl("--version").stdout.split("\n")[0]
    sys.stdout.write(f"{version}\n\n| | |\n|---|---|\n")
    for title, check in checks:
        try:
            seen = check(machine)
        except (FailedError, LookupError, ValueError) as error:
            good, seen = False, f"**failed**: {error}"
            sys.stderr.write(machine.run("journalctl", "-u", "aurexd", "-n", "30", "--no-pager").stdout)
        sys.stdout.write(f"| {title} | {seen} |\n")
        sys.stdout.flush()
    return good
