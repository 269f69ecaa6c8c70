"""Installs the Autobahn test suite's fuzzing client, runs it against `echo.py`, and writes docs/autobahn.md.

python -m tests.autobahn.run                   # everything: about a quarter of an hour
python -m tests.autobahn.run '1.*' '12.1.1'    # these cases only, and nothing is written

The suite is Python 2, and is installed with it below build/. The exit status is 0 if everything is as it must be.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from aurexd.server.port import STREAM_PATH

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "autobahn"
SUMMARY = ROOT / "docs" / "autobahn.md"

SUITE = "25.10.1"
"""Of autobahntestsuite on PyPI."""

GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "large messages",
    "10": "many fragments",
    "12": "compression",
    "13": "its parameters",
}

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
"""What a case may come to: as it should be; allowed, though better later or sooner; nothing is prescribed."""

STRICT = {"12", "13"}
"""Here only OK will do: UNIMPLEMENTED would mean that no compression was negotiated."""


class Case(NamedTuple):
    """One case and what came of it."""

    name: str
    behavior: str
    closing: str

    @property
    def group(self) -> str:
        return self.name.split(".")[0]

    @property
    def passed(self) -> bool:
        allowed = {"OK"} if self.group in STRICT else PASSED
        return self.behavior in allowed and self.closing in PASSED


def python2() -> str:
    """A Python 2.7 that works: $PYTHON2, on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [os.environ.get("PYTHON2"), shutil.which("python2.7")]
    candidates += [str(path) for path in pyenv.glob("versions/2.7*/bin/python2.7")]
    for candidate in filter(None, candidates):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([candidate, "-m", "pip", "--version"], capture_output=True, check=True)
            return candidate
    sys.exit(
        "The Autobahn test suite is written in Python 2.7, and there is none with pip here. Install one, for "
        "example by `pyenv install 2.7.18`, or set PYTHON2 to where it is."
    )


def install() -> Path:
    """The fuzzing client's command; the first time, install it."""
    commands = PLACE / "venv" / "bin"
    client = commands / "wstest"
    if not client.exists():
        python, tool = python2(), str(PLACE / "virtualenv")
        print("installing the Autobahn test suite …", flush=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The last virtualenv that makes environments for Python 2.
        subprocess.run([*pip, "--target", tool, "virtualenv<20.22"], check=True)
        virtualenv = [python, "-m", "virtualenv", "--quiet", str(PLACE / "venv")]
        subprocess.run(virtualenv, check=True, env={**os.environ, "PYTHONPATH": tool})
        subprocess.run([commands / "pip", "install", "--quiet", f"autobahntestsuite=={SUITE}"], check=True)
    return client


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The server, and its port."""
    command = [sys.executable, "-m", "tests.autobahn.echo"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def fuzz(client: Path, cases: list[str]) -> list[Case]:
    """Run the cases and read the suite's report."""
    with echo() as port:
        server = {"agent": "aurexd", "url": f"ws://127.0.0.1:{port}{STREAM_PATH}"}
        specification = PLACE / "cases.json"
        specification.write_text(
            json.dumps(
                {"outdir": str(PLACE / "reports"), "servers": [server], "cases": cases, "exclude-cases": []}
            )
        )
        subprocess.run([str(client), "-m", "fuzzingclient", "-s", str(specification)], check=True, cwd=PLACE)
    report = json.loads((PLACE / "reports" / "index.json").read_text())["aurexd"]
    found = [Case(name, case["behavior"], case["behaviorClose"]) for name, case in report.items()]
    return sorted(found, key=lambda case: [int(part) for part in case.name.split(".")])


def table(cases: list[Case]) -> Iterator[str]:
    """What came of each group, as lines of Markdown."""
    kinds = [kind for kind in ("OK", "NON-STRICT", "INFORMATIONAL") if any(c.behavior == kind for c in cases)]
    yield f"| group | | {' | '.join(kinds)} | failed |"
    yield f"|---|---|{'---|' * (len(kinds) + 1)}"
    rows = [(group, what, [c for c in cases if c.group == group]) for group, what in GROUPS.items()]
    for group, what, found in [*rows, ("all", "", cases)]:
        if found:
            counts = Counter(case.behavior for case in found if case.passed)
            failed = sum(not case.passed for case in found)
            numbers = [str(counts[kind]) if counts[kind] else "" for kind in kinds]
            yield f"| {group} | {what} | {' | '.join(numbers)} | {failed} |"


DOCUMENT = """\
# The Autobahn test suite

What the [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite) says of the daemon's WebSocket. The
echoes go through the daemon's own port, framing, compression and outgoing queue
([echo.py](../tests/autobahn/echo.py)).

`make autobahn` runs it anew and writes this page. It needs Python 2.7 with pip, and installs the suite from PyPI below
build/. What can go wrong here is tried with every `make test`, too, by
[test_frames.py](../tests/server/test_frames.py).

{table}

{remarks}

{date}, in {minutes:.0f} minutes: {versions}.
"""

REMARKS = {
    "NON-STRICT": "*Non-strict*, which is allowed: {}. What comes right before a broken frame is not echoed any more.",
    "INFORMATIONAL": "*Informational*, where nothing is prescribed: {}.",
}


def summary(cases: list[Case], seconds: float) -> str:
    """docs/autobahn.md."""
    remarks = [f"**Failed**: {case.name}: {case.behavior}." for case in cases if not case.passed]
    for kind, remark in REMARKS.items():
        if names := [case.name for case in cases if case.passed and case.behavior == kind]:
            remarks.append(remark.format(", ".join(names)))
    versions = [f"{name} {version(name)}" for name in ("aurexd", "trio-websocket", "wsproto", "trio")]
    return DOCUMENT.format(
        table="\n".join(table(cases)),
        remarks="\n\n".join(remarks),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        minutes=seconds / 60,
        versions=", ".join(
            [
                f"autobahntestsuite {SUITE}",
                *versions,
                f"zlib {zlib.ZLIB_RUNTIME_VERSION}",
                f"Python {platform.python_version()}",
            ]
        ),
    )


def main(cases: list[str]) -> int:
    """Run them, or all; say what came of them."""
    PLACE.mkdir(parents=True, exist_ok=True)
    client = install()
    begin = datetime.now(UTC)
    found = fuzz(client, cases or ["*"])
    print("\n".join(table(found)))
    failed = [case for case in found if not case.passed]
    for case in failed:
        print(f"{case.name}: {case.behavior}, closing {case.closing}; see {PLACE / 'reports'}")
    if not cases:
        SUMMARY.write_text(summary(found, (datetime.now(UTC) - begin).total_seconds()))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
