"""What attacks cost the server, and what other clients notice of them.

    python bench/attacks.py [--seconds 10] [--only KIND,KIND] [--json]

For each attack of `attacker.py` a daemon of its own with its default limits, a price ten times a second, and fifty
clients that behave. Per attack: how much was done how fast, CPU per event (what it used beyond an equally long time
without the attack), the memory at its peak and afterwards, how the attackers' connections ended, and the clients' p99
delay from publication to arrival, before and during the attack. The server has one processor to itself; attackers and
clients share the other, clients first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from attacker import ATTACKS
from harness import Crowd, Delays, cpu_s, free_port, process, rss_kb

HERE = Path(__file__).parent
CLIENTS = 50
CONFIG = """
[listen]
port = {port}
[storage]
url = ""
[log]
level = "error"
[symbols.TESTGOLD]
instrument = "test"
calendar = "always"
[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.1
symbols = {{ TESTGOLD = "TESTGOLD" }}
{more}
"""
QUICK_PINGS = "[heartbeat]\nping_interval_s = 3\npong_timeout_s = 2\n"


class Peak(threading.Thread):
    """The most memory that the server had."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.kb = 0
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.kb = max(self.kb, rss_kb(self._pid))

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.kb


def prepare(kind: str, folder: Path) -> tuple[str, str, str]:
    """The rest of the configuration, the token that the clients show, and the one that the attack is about."""
    if kind in {"never_pong", "half_open"}:
        return QUICK_PINGS, "", ""
    if kind == "handshakes_cut_off":
        return aurexd("dev-certificate", "--directory", str(folder / "tls")), "", ""
    if kind in {"unauthenticated", "forged_token", "expired_token"}:
        key = aurexd("token", "key", "--algorithm", "EdDSA", "--id", "k1", "--file", str(folder / "key.pem"))
        more = f'[auth]\nmode = "token"\nleeway_s = 0\n{key}\n'
        file = folder / "aurexd.toml"
        file.write_text(CONFIG.format(port=0, more=more))
        mint = ("token", "mint", "--config", str(file), "--user", "client", "--for")
        good, stolen = aurexd(*mint, "1h"), aurexd(*mint, "1s" if kind == "expired_token" else "1h")
        time.sleep(2)
        return more, good, stolen
    return "", "", ""


def aurexd(*arguments: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "aurexd", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def measure(kind: str, seconds: float) -> dict[str, Any]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        more, token, stolen = prepare(kind, Path(folder))
        file = Path(folder) / "aurexd.toml"
        file.write_text(CONFIG.format(port=port, more=more))
        command = ["taskset", "-c", "0", sys.executable, "-m", "aurexd", "run", "--config", str(file)]
        with process(command, port) as server:
            crowd = Crowd(port, CLIENTS, network=9, token=token, tls=kind == "handshakes_cut_off")
            quiet, attacked = Delays(), Delays()
            crowd.read(1, lambda *_: None)
            before_cpu, before_kb = cpu_s(server.pid), rss_kb(server.pid)
            crowd.read(seconds, quiet.note)
            base = cpu_s(server.pid) - before_cpu
            peak = Peak(server.pid)
            peak.start()
            attack = ["taskset", "-c", "1", "nice", sys.executable, str(HERE / "attacker.py")]
            before_cpu = cpu_s(server.pid)
            attacker = subprocess.Popen(
                [*attack, kind, str(port), str(seconds), stolen], stdout=subprocess.PIPE, text=True
            )
            began = time.monotonic()
            while attacker.poll() is None:
                crowd.read(0.5, attacked.note)
            took = time.monotonic() - began
            used = cpu_s(server.pid) - before_cpu - base * took / seconds
            done = json.loads(attacker.communicate()[0])
            peak_kb = peak.stop()
            crowd.read(3, lambda *_: None)
            after_kb = rss_kb(server.pid)
            crowd.close()
    return {
        "attack": kind,
        "events": done["events"],
        "rate": done["events"] / done["seconds"],
        "cpu_ms": used * 1000 / max(done["events"], 1),
        "cpu_share": used / took,
        "peak_mb": (peak_kb - before_kb) / 1024,
        "after_mb": (after_kb - before_kb) / 1024,
        "quiet_p99_ms": quiet.quantile(99),
        "p99_ms": attacked.quantile(99),
        "outcomes": done["outcomes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", default=",".join(ATTACKS), help="a comma between two")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.sched_setaffinity(0, {1})
    rows = [measure(kind, args.seconds) for kind in args.only.split(",")]
    if args.json:
        print(json.dumps(rows))
        return
    print(
        "| attack | events | per second | CPU per event, ms | of a core | memory peak, after, MB "
        "| p99 before, during, ms | how they ended |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        ended = ", ".join(f"{outcome} {count}" for outcome, count in row["outcomes"].items())
        print(
            f"| {row['attack'].replace('_', ' ')} | {row['events']} | {row['rate']:.0f} | {row['cpu_ms']:.3f} "
            f"| {row['cpu_share']:.0%} | {row['peak_mb']:.1f}, {row['after_mb']:.1f} "
            f"| {row['quiet_p99_ms']:.1f}, {row['p99_ms']:.1f} | {ended} |"
        )


if __name__ == "__main__":
    main()
