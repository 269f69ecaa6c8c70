"""A restart under a crowd: when is each client back and current, what did it miss, and what did the others notice?

    python bench/storm.py [--clients 300] [--processes 2] [--plain] [--key ecdsa|rsa] [--tick 0.1] [--pin] [--json]
    python bench/storm.py --lone [--rounds 10] [--socket]
    python bench/storm.py --cuts 1000 [--clients 100]

TLS clients with the reference backoff (`reference.py`) stay connected while the daemon is restarted under them, once by
SIGTERM and once by kill -9; it is started again as soon as it has ended. Ten more, the watchers, come back at once
and time each tick from the moment it was due at the provider (`ticker.py`). The daemon's loop is probed (`probed.py`).

- `back_s`: from the moment a client lost its connection until it had again all that there was; `since_up_s`: the same
  from when the new daemon listened.
- `resumable_missed`: updates that were not sent although the epoch was the same. `problems`: holes and repeats.
- `quiet_ms`, `drain_ms`, `storm_ms`: tick to watcher, before the restart, during the drain, and until all were back.
- `client_cpu_s`: what the clients themselves took of the processors, in the whole run. With `--pin` the daemon has one
  processor to itself and they share the others.

`--lone`: one client alone, restarted again and again. `--socket`: the listening socket is held meanwhile, as
aurexd.socket does it under systemd, so that who comes while nothing runs waits instead of being refused. `--cuts`: no
restart; so many connections, every second of them cut at a random moment, by a reset, an end, or by falling silent:
how many of the others became current.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trustme
from harness import UNLIMITED, cpu_s, free_port, rss_kb
from reference import Crowd, Tally

BENCH = Path(__file__).parent
CHANNELS = ["price:PAXG", "status:PAXG"]
WATCHERS = 10
ARRIVE_PER_S = 150
"""How fast the crowd comes at first."""
BACK_WITHIN_S = 120.0
CUTS = ["connected", "handshaking", "upgrading", "upgraded", "open", "open"]

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="aurexd.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""A socket is handed over as sd_listen_fds(3) has it: it is the fourth file, and the process is named."""


# --- the daemon ---


class Daemon:
    """aurexd with a probe, and the provider it listens to."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.port = free_port()
        self._folder = folder
        self._pin = args.pin
        provider = free_port()
        text = (
            f"[listen]\nport = {self.port}\n[limits]\n{UNLIMITED}"
            f'[storage]\nurl = "sqlite:///{folder}/aurexd.db"\n'
            '[symbols.PAXG]\ninstrument = "token"\ncalendar = "always"\n'
            f'[[sources]]\nname = "kraken"\ntype = "kraken"\nurl = "ws://127.0.0.1:{provider}/v2"\n'
            'symbols = { PAXG = "PAXG/USD" }\n'
        )
        if not args.plain:
            kind = trustme.KeyType.RSA if args.key == "rsa" else trustme.KeyType.ECDSA
            issued = trustme.CA(key_type=kind).issue_cert("localhost", key_type=kind)
            issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
            text += f'[tls]\ncertificate = "{folder}/both.pem"\nprivate_key = "{folder}/both.pem"\n'
        (folder / "aurexd.toml").write_text(text)
        self._ticker = subprocess.Popen(
            [sys.executable, str(BENCH / "ticker.py"), str(provider), str(args.tick)]
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        if args.socket:
            self._socket = socket.create_server(("127.0.0.1", self.port), backlog=4096)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        file = self._folder / "log"
        return file.read_text() if file.exists() else ""

    def start(self) -> float:
        """Start it and wait until it serves; when that was."""
        command = [sys.executable, str(BENCH / "probed.py"), str(self._folder / "turns")]
        command += ["run", "--config", str(self._folder / "aurexd.toml")]
        handed: list[int] = []
        if self._socket is not None:
            command = [sys.executable, "-c", HAND_OVER, str(self._socket.fileno()), *command]
            handed.append(self._socket.fileno())
        started = self.log.count('"daemon_started"')
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=handed)
        if self._pin:
            os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0)) + 1})
        while self.log.count('"daemon_started"') == started:
            assert self._process.poll() is None, self.log[-2000:]
            time.sleep(0.01)
        return time.monotonic()

    def end(self, how: signal.Signals) -> float:
        """End it by a signal; how long that took."""
        assert self._process is not None
        begin = time.monotonic()
        self._process.send_signal(how)
        self._process.wait(120)
        return time.monotonic() - begin

    def check(self, *, ended: bool = False) -> None:
        """It must have come to no harm."""
        assert self._process is not None
        grave = [line for line in self.log.splitlines() if '"level":"error"' in line or "Traceback" in line]
        assert not grave, f"{len(grave)} errors in the log, of them the first: {grave[0]}"
        assert ended or self._process.poll() is None, self.log[-5000:]

    def close(self) -> None:
        """End everything."""
        for process in (self._process, self._ticker):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if self._socket is not None:
            self._socket.close()

    def turns(self, begin: float, end: float) -> dict[str, float]:
        """What the probe saw within these times."""
        lines = [json.loads(line) for line in (self._folder / "turns").read_text().splitlines()]
        lines = [line for line in lines if begin < line["t"] < end + 1]
        if not lines:
            return {}
        slow = [turn for line in lines for turn in line["slow"] if begin < turn[0] < end]
        return {
            "p99_ms": max(line["p99_ms"] for line in lines),
            "max_ms": max((ms for _, ms, _ in slow), default=5.0),
            "work_p99_ms": max(line["work_p99_ms"] for line in lines),
            "work_max_ms": max((ms for _, _, ms in slow), default=5.0),
            "gc_ms": max((ms for line in lines for ms in line["gc_ms"]), default=0.0),
            "busy": sum(line["busy"] for line in lines) / len(lines),
        }


@contextlib.contextmanager
def daemon(args: argparse.Namespace) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory() as name:
        if args.pin:  # the daemon has the last processor, everybody else the others
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:-1])
        server = Daemon(Path(name), args)
        try:
            server.start()
            yield server
            server.check(ended=True)
        finally:
            server.close()


# --- the clients' processes ---


def client_context(args: argparse.Namespace) -> ssl.SSLContext | None:
    """Nothing is verified: the clients' arithmetic is not what is measured."""
    if args.plain:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def live(pipe: Connection, crowd: Crowd, count: int, over_s: float) -> None:
    """A process of clients: tells five times a second how many are current, ends when told."""
    crowd.add(count, over_s)
    while not pipe.poll():
        crowd.run(0.2)
        pipe.send(crowd.current)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    crowd.tally.cpu_s = usage.ru_utime + usage.ru_stime
    crowd.close()
    pipe.send(crowd.tally)


class Clients:
    """A crowd in a process of its own."""

    def __init__(self, crowd: Crowd, count: int, over_s: float = 0.0) -> None:
        """They come within `over_s`."""
        self.count, self._current = count, 0
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=live, args=(theirs, crowd, count, over_s), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def current(self) -> int:
        while self._pipe.poll():
            self._current = self._pipe.recv()
        return self._current

    def end(self) -> Tally:
        self._pipe.send(None)
        while not isinstance(told := self._pipe.recv(), Tally):
            pass
        self._process.join()
        return told


def wait_current(crowds: list[Clients], within_s: float = BACK_WITHIN_S) -> bool:
    deadline = time.monotonic() + within_s
    while any(crowd.current < crowd.count for crowd in crowds):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# --- the figures ---


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles and the largest."""
    ordered = sorted(values)
    if not ordered:
        return {}
    percentiles = {f"p{percent}": ordered[len(ordered) * percent // 100] for percent in (50, 95, 99)}
    return {**percentiles, "max": ordered[-1]}


def delays_ms(tally: Tally, begin: float, end: float) -> dict[str, float]:
    delays = [delay * 1000 for when, delay in tally.delays if begin <= when < end]
    return {"n": len(delays), **spread(delays)}


def figures(server: Daemon, phase: dict[str, Any], tallies: list[Tally], watched: Tally) -> dict[str, Any]:
    quiet, told, up, back = phase.pop("times")
    returns = [r for tally in tallies for r in tally.returns if told <= r.lost < back]
    came = [r for r in returns if r.current]
    before, during = delays_ms(watched, quiet, told), delays_ms(watched, up, back)
    return {
        **phase,
        "clients": len(came),
        "back_s": spread([r.current - r.lost for r in came]),
        "since_up_s": spread([r.current - up for r in came]),
        "attempts": sum(r.attempts for r in came) / max(1, len(came)),
        "recovered": sum(r.recovered for r in came),
        "resumable_missed": sum(r.missed for r in came if r.same_epoch and not r.recovered),
        "new_epoch": sum(not r.same_epoch for r in came),
        "quiet_ms": before,
        "drain_ms": delays_ms(watched, told, told + phase["end_s"]),
        "storm_ms": during,
        "p99_ratio": during.get("p99", 0.0) / before["p99"],
        "quiet_loop": server.turns(quiet, told - 1),
        "drain_loop": server.turns(told, told + phase["end_s"]),
        "storm_loop": server.turns(up, back),
    }


# --- the runs ---


def storm(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The restarts, one after the other, and what concerns the whole run."""
    with daemon(args) as server:
        context = client_context(args)
        watch = Crowd(server.port, CHANNELS, context=context, seed=args.seed, eager=True, timed=True)
        watchers = Clients(watch, WATCHERS)
        crowds = [
            Clients(
                Crowd(server.port, CHANNELS, context=context, seed=args.seed + 1 + number),
                args.clients // args.processes,
                args.clients / ARRIVE_PER_S,
            )
            for number in range(args.processes)
        ]
        assert wait_current([watchers, *crowds]), "the clients do not get in"
        phases = [restart(server, watchers, crowds, how, args) for how in (signal.SIGTERM, signal.SIGKILL)]
        tallies = [crowd.end() for crowd in crowds]
        watched = watchers.end()
        server.end(signal.SIGTERM)
        rows = [figures(server, phase, tallies, watched) for phase in phases]
    whole = {
        "failures": dict(sum((tally.failures for tally in tallies), Counter[str]())),
        "closes": dict(sum((tally.closes for tally in tallies), Counter[str]())),
        "problems": [problem for tally in [*tallies, watched] for problem in tally.problems][:10],
        "client_cpu_s": sum(tally.cpu_s for tally in tallies),
    }
    return [*rows, whole]


def restart(
    server: Daemon, watchers: Clients, crowds: list[Clients], how: signal.Signals, args: argparse.Namespace
) -> dict[str, Any]:
    assert wait_current([watchers]), "a watcher does not come back"
    time.sleep(1)
    quiet = time.monotonic()
    time.sleep(args.quiet)
    told = time.monotonic()
    ended_s = server.end(how)
    up = server.start()
    cpu_before = cpu_s(server.pid)
    all_back = wait_current(crowds)
    server.check()
    back = time.monotonic()
    phase = {
        "how": how.name,
        "all_back": all_back,
        "end_s": ended_s,
        "start_s": up - told - ended_s,
        "cpu_s": cpu_s(server.pid) - cpu_before,
        "rss_mb": rss_kb(server.pid) / 1024,
        "times": (quiet, told, up, back),
    }
    time.sleep(2)
    return phase


def lone(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One client, one restart after the other."""
    marks = []
    with daemon(args) as server:
        client = Clients(Crowd(server.port, CHANNELS, context=client_context(args), seed=args.seed), 1)
        for number in range(args.rounds):
            assert wait_current([client])
            time.sleep(0.5)
            how = signal.SIGKILL if number % 2 else signal.SIGTERM
            told = time.monotonic()
            ended_s = server.end(how)
            marks.append((how.name, told, ended_s, server.start()))
            time.sleep(0.3)
        assert wait_current([client])
        tally = client.end()
    return [
        {
            "how": name,
            "end_s": ended_s,
            "start_s": up - told - ended_s,
            "back_s": came.current - came.lost,
            "since_up_s": came.current - up,
            "attempts": came.attempts,
        }
        for (name, told, ended_s, up), came in zip(marks, tally.returns, strict=True)
    ]


def cut_every_second(rng: random.Random) -> str:
    """Where to cut an attempt."""
    return rng.choice(CUTS) if rng.random() < 0.5 else ""


def cuts(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Connections that are cut: how many of the others are current, in time, with nothing missing."""
    with daemon(args) as server:
        context = client_context(args)
        crowd = Crowd(server.port, CHANNELS, context=context, seed=args.seed, cut=cut_every_second)
        crowd.add(args.clients, args.clients / ARRIVE_PER_S)
        while crowd.started < args.cuts:
            crowd.run(0.5)
        crowd.close()
        server.end(signal.SIGTERM)
    tally = crowd.tally
    good, failed = len(tally.connects), sum(tally.failures.values())
    return [
        {
            "connections": crowd.started,
            "cut": sum(tally.cuts.values()),
            "current": good,
            "failed": failed,
            "success": good / max(1, good + failed),
            "connect_s": spread(tally.connects),
            "recovered": sum(r.recovered for r in tally.returns),
            "resumable_missed": sum(r.missed for r in tally.returns if r.same_epoch and not r.recovered),
            "cuts": dict(tally.cuts),
            "failures": dict(tally.failures),
            "closes": dict(tally.closes),
            "problems": tally.problems[:10],
        }
    ]


def show(row: dict[str, Any]) -> None:
    for name, value in row.items():
        if isinstance(value, dict):
            value = "  ".join(f"{key} {figure(each)}" for key, each in value.items())
        print(f"{name:<18}{figure(value)}")
    print()


def figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--key", choices=["ecdsa", "rsa"], default="ecdsa")
    parser.add_argument("--tick", type=float, default=0.1)
    parser.add_argument("--quiet", type=float, default=10)
    parser.add_argument("--lone", action="store_true")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--socket", action="store_true")
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows = cuts(args) if args.cuts else lone(args) if args.lone else storm(args)
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        show(row)


if __name__ == "__main__":
    main()
