"""What the unit limits, as the kernel enforces it: looked at within the machine that `guest.py` boots."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.systemd.machine import PLACE, PYTHON, STATUS, Check, Machine, expect, show

CLIENTS = 100
"""As many as come and go within seconds on a processor that is emulated."""

CONFIG = """
[limits]
max_connections_per_ip = 0
max_attempts_per_second = 0
max_handshakes_per_ip = 0
max_requests_per_second = 0

[symbols.TESTGOLD]
instrument = "test"
calendar = "always"
default = true

[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.5
symbols = { TESTGOLD = "TESTGOLD" }
"""

DROP_IN = """
[Service]
TimeoutStartSec=600s
WatchdogSec=60s
"""
"""The processor is emulated, and its machine may have other things to do."""

MB = 1_000_000

UNIT = {"memory.max": 4 << 30, "memory.high": math.inf, "memory.swap.max": 0, "pids.max": 256}
"""What the unit sets, in the kernel's words."""

IDLE_THREAD_S = 12
"""Trio keeps a thread for ten seconds, should it be wanted again."""

INTEGRITY = """
import sqlite3
db = sqlite3.connect("file:/var/lib/aurexd/aurexd.db?mode=ro", uri=True)
print(*db.execute("PRAGMA integrity_check").fetchone(), *db.execute("SELECT count(*) FROM ticks").fetchone())
"""

STATUS_OF = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8000" + sys.argv[1], timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def group(machine: Machine) -> Path:
    """The service's control group."""
    return Path("/sys/fs/cgroup" + machine.show("ControlGroup")["ControlGroup"])


def number(machine: Machine, file: str) -> float:
    """What one of its files says; `max`: infinity."""
    text = (group(machine) / file).read_text().strip()
    return math.inf if text == "max" else int(text)


def counts(machine: Machine, file: str) -> dict[str, int]:
    """The lines `name count` of one of its files."""
    lines = (group(machine) / file).read_text().splitlines()
    return {name: int(count) for name, count in (line.split() for line in lines)}


def limit(machine: Machine, setting: str) -> None:
    """Set one until the next boot, as an operator would."""
    machine.systemctl("set-property", "--runtime", "aurexd.service", setting)


def stored(machine: Machine) -> int:
    """How many ticks are in the database, which is whole."""
    state, ticks = machine.run("python3", "-c", INTEGRITY).stdout.split()
    expect(state == "ok", f"integrity_check: {state}")
    return int(ticks)


def asked(machine: Machine, path: str) -> str:
    """The status of the daemon's answer."""
    return machine.run(PYTHON, "-c", STATUS_OF, path).stdout.strip()


def wait_until_active(machine: Machine) -> None:
    machine.wait_for(lambda: machine.show("ActiveState")["ActiveState"] == "active", "it is back", 300)


class Clients:
    """Clients that are there, each with its price, and what they have seen in the end."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.run("rm", "-f", f"{PLACE}/stop")
        self.process = machine.start(PYTHON, f"{PLACE}/clients.py", str(CLIENTS), "0.2")

    def wait_until_all_have_prices(self) -> None:
        assert self.process.stdout is not None
        expect(self.process.stdout.readline() == "ready\n", "the clients did not get their prices")

    def report(self) -> dict[str, Any]:
        """Wait until each has had another price, and send them home."""
        assert self.process.stdout is not None
        self._machine.run("touch", f"{PLACE}/stop")
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        expect(report["clients_with_prices_after"] == CLIENTS, str(report))
        expect(not report.get("refused") and not report.get("knocks_refused"), str(report))
        expect(not report["holes"], str(report))
        return report


@contextlib.contextmanager
def clients(machine: Machine) -> Iterator[Clients]:
    some = Clients(machine)
    try:
        yield some
    finally:
        some.process.kill()
        some.process.wait()


def installed(machine: Machine) -> str:
    machine.run("systemd-sysusers")
    machine.run("systemd-tmpfiles", "--create")
    machine.write("/etc/aurexd/aurexd.toml", CONFIG)
    machine.write("/etc/systemd/system/aurexd.service.d/slow.conf", DROP_IN)
    machine.systemctl("daemon-reload")
    kernel = machine.run("uname", "-r").stdout.strip()
    return f"{machine.run('aurexd', '--version').stdout.strip()}, Linux {kernel}, cgroup v2"


def started(machine: Machine) -> str:
    machine.systemctl("enable", "--now", "aurexd.socket", "aurexd-control.socket")
    began = time.monotonic()
    machine.systemctl("start", "aurexd.service")
    took_s = time.monotonic() - began
    expect(machine.get("/readyz")["ready"], "it is not ready")
    return f"`systemctl start` returned after {took_s:.0f} s, ready; {number(machine, 'memory.current') / MB:.0f} MB"


def limited(machine: Machine) -> str:
    found = {file: number(machine, file) for file in UNIT}
    expect(found == UNIT, str(found))
    limits = Path("/proc", machine.show("MainPID")["MainPID"], "limits").read_text()
    (files,) = re.findall(r"^Max open files +(\d+) +(\d+)", limits, re.MULTILINE)
    expect(files == ("65536", "65536"), str(files))
    shown = [f"{file} {'max' if math.isinf(value) else int(value)}" for file, value in found.items()]
    return f"{', '.join(shown)}; open files {files[0]}"


def served(machine: Machine) -> str:
    before = counts(machine, "memory.stat")
    with clients(machine) as some:
        some.wait_until_all_have_prices()
        memory, after = number(machine, "memory.current"), counts(machine, "memory.stat")
        tasks = number(machine, "pids.current")
        some.report()
    each = [(after[kind] - before[kind]) / CLIENTS / 1000 for kind in ("anon", "kernel")]
    return (
        f"{memory / MB:.0f} MB, of it {after['file'] / MB:.0f} MB of files that the kernel can drop; for each client "
        f"{each[0]:.0f} KB of the daemon's and {each[1]:.0f} KB of the kernel's; {tasks:g} tasks"
    )


def squeezed(machine: Machine) -> str:
    with clients(machine) as some:
        some.wait_until_all_have_prices()
        before = counts(machine, "memory.stat")
        limit(machine, f"MemoryHigh={before['anon'] + before['kernel'] + before['file'] * 2 // 3}")
        high = number(machine, "memory.high")
        machine.wait_for(lambda: counts(machine, "memory.events")["high"], "that the kernel took notice")
        some.report()
        after = counts(machine, "memory.stat")
        limit(machine, "MemoryHigh=infinity")
    expect(machine.show("NRestarts")["NRestarts"] == "0", "it was started again")
    dropped = (before["file"] - after["file"]) / MB
    return f"memory.high {high / MB:.0f} MB: the kernel dropped {dropped:.0f} MB of files, and prices go on to all clients"


def exceeded(machine: Machine) -> str:
    runs = int(machine.show("NRestarts")["NRestarts"])
    with clients(machine) as some:
        some.wait_until_all_have_prices()
        had, needed = stored(machine), counts(machine, "memory.stat")["anon"]
        most = needed - 5 * MB
        began = time.monotonic()
        limit(machine, f"MemoryMax={most}")
        machine.wait_for(lambda: int(machine.show("NRestarts")["NRestarts"]) > runs, "the end of it", 300)
        ended_s = time.monotonic() - began
        limit(machine, f"MemoryMax={UNIT['memory.max']}")
        wait_until_active(machine)
        back_s = time.monotonic() - began
        report = some.report()
        all_s = time.monotonic() - began
    has = stored(machine)
    expect(has >= had and report["epochs"] == 2, f"{had} ticks before, {has} after; {report}")
    said = [str(entry["MESSAGE"]) for entry in machine.journal("_PID=1", "UNIT=aurexd.service")]
    expect(any("Failed with result 'oom-kill'" in line for line in said), said[-5:])
    kills = [str(entry["MESSAGE"]) for entry in machine.journal("--dmesg")]
    expect(any("Memory cgroup out of memory" in line and "aurexd" in line for line in kills), kills[-5:])
    return (
        f"lowered to {most / MB:.0f} MB under {CLIENTS} clients: ended by the kernel (`oom-kill`) and `Restart=` within "
        f"{ended_s:.0f} s, ready {back_s - ended_s:.0f} s later; all clients have prices again after {all_s:.0f} s, 0 of "
        f"{report['knocks']} connections refused; `integrity_check` ok, {had} ticks before and {has} after"
    )


def throttled(machine: Machine) -> str:
    runs = int(machine.show("NRestarts")["NRestarts"])
    with clients(machine) as some:
        some.wait_until_all_have_prices()
        began = time.monotonic()
        limit(machine, f"MemoryHigh={counts(machine, 'memory.stat')['anon'] - 5 * MB}")
        machine.wait_for(lambda: int(machine.show("NRestarts")["NRestarts"]) > runs, "the watchdog", 300)
        ended_s = time.monotonic() - began
        limit(machine, "MemoryHigh=infinity")
        wait_until_active(machine)
        some.report()
    said = [str(entry["MESSAGE"]) for entry in machine.journal("_PID=1", "UNIT=aurexd.service")]
    expect(any("Failed with result 'watchdog'" in line for line in said), said[-5:])
    return f"nothing moves any more; the watchdog (60 s here) ended it after {ended_s:.0f} s. So the unit sets none"


def crowded(machine: Machine) -> str:
    time.sleep(IDLE_THREAD_S)
    tasks, before = number(machine, "pids.current"), counts(machine, "pids.events")["max"]
    limit(machine, f"TasksMax={tasks:g}")
    refused = asked(machine, "/metrics")
    expect(counts(machine, "pids.events")["max"] > before, "no task was refused")
    expect(machine.get("/readyz")["ready"], "it is not ready")
    limit(machine, f"TasksMax={UNIT['pids.max']}")
    expect((refused, asked(machine, "/metrics")) == ("500", "200"), f"a scrape was answered with {refused}")
    return f"lowered to {tasks:g}: a scrape of `/metrics`, which takes a thread, gets 500, and the daemon goes on; then 200"


def short_of_files(machine: Machine) -> str:
    pid = machine.show("MainPID")["MainPID"]
    most = len(list(Path("/proc", pid, "fd").iterdir())) + CLIENTS // 2
    machine.run("prlimit", "--pid", pid, f"--nofile={most}:65536")
    with clients(machine) as some:
        machine.wait_for(lambda: machine.journal("EVENT=accept_paused"), "that nobody is let in", 120)
        machine.run("prlimit", "--pid", pid, "--nofile=65536:65536")
        some.wait_until_all_have_prices()
        some.report()
    return f"lowered to {most} for {CLIENTS} clients: `accept_paused`; raised again, all have prices, nobody was refused"


def stopped(machine: Machine) -> str:
    began = time.monotonic()
    machine.systemctl("stop", "aurexd.service")
    took_s = time.monotonic() - began
    found = machine.show("Result", "ExecMainStatus")
    expect(found == {"Result": "success", "ExecMainStatus": "0"}, str(found))
    return f"`systemctl stop` in {took_s:.0f} s, status 0; {stored(machine)} ticks"


CHECKS: list[Check] = [
    ("`make install`, sysusers, tmpfiles", installed),
    ("Start to READY", started),
    ("The unit's limits, as the kernel has them", limited),
    (f"With {CLIENTS} clients", served),
    ("Above `MemoryHigh=`", squeezed),
    ("Above `MemoryMax=`", exceeded),
    ("`MemoryHigh=` below what it cannot do without", throttled),
    ("`TasksMax=` reached", crowded),
    ("`LimitNOFILE=` reached", short_of_files),
    ("Stop", stopped),
]


def main() -> int:
    """Show everything."""
    good = show(Machine(), CHECKS)
    sys.stdout.write(f"{STATUS}{0 if good else 1}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
