"""The servers that are measured side by side, aurexd and its peers: how each is started, and told to publish.

What a server publishes, and when, it is told by a line (`peers/price.py`): the peers that publish from within hear it
themselves; aurexd's provider and Nchan's publisher are processes beside them, as they would be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import trustme
from harness import PATH, aurexd, cpu_s, free_port, rss_kb, wait_port
from load import BENCH, compiled
from report import Row
from ticker import PAIRS

PEERS = BENCH / "peers"
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
ALL: tuple[str, ...] = ("send_loop", "nchan", "websockets", "fastapi", "aurexd")
"""In the order of the tables; what a ratio is to is in front."""

__all__ = [
    "ALL",
    "BENCH",
    "ON_CLIENTS",
    "ON_SERVER",
    "Server",
    "certificate",
    "in_turn",
    "missing",
    "named",
    "serving",
    "stay_off",
    "symbol",
]


def pinned(processor: int) -> list[str]:
    """In front of a command: it runs there; nothing where there is only one."""
    own = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(own[processor])] if len(own) > 1 else []


ON_SERVER, ON_CLIENTS = pinned(0), pinned(-1)
"""The server has a processor to itself; clients, publishers and this process share another."""


def stay_off() -> None:
    """Leave the server's processor to it."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def named(text: str) -> tuple[str, ...]:
    """The servers that somebody names, a comma between two: the type of an option."""
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in ALL]:
        raise argparse.ArgumentTypeError(f"there is no server {unknown[0]}; there are {', '.join(ALL)}")
    return names


def missing(name: str) -> str | None:
    """Why a server cannot be measured here; None: it can."""
    if name == "nchan" and not (NCHAN_MODULE.exists() and shutil.which("nginx")):
        return "needs Debian's nginx and libnginx-mod-nchan"
    return None


def in_turn(
    part: str,
    case: str,
    servers: Sequence[str],
    runs: int,
    one_run: Callable[[str], tuple[dict[str, float], list[str]]],
    say: Callable[[str], None],
) -> list[Row]:
    """One case: all servers in turn, again and again. `one_run` gives a server's figures, and what was wrong."""
    rows = [Row(part, case, name) for name in servers]
    for row in rows:
        if (reason := missing(row.server)) is not None:
            row.problems.append(f"not measured: {reason}")
    for number in range(runs):
        for row in rows:
            if missing(row.server) is None:
                say(f"{part}, {case}: {row.server}, run {number + 1} of {runs}")
                figures, problems = one_run(row.server)
                row.runs.append(figures)
                row.problems += [f"run {number + 1}: {problem}" for problem in problems]
    return rows


def symbol(number: int) -> str:
    """What aurexd calls the provider's pair with that number."""
    return f"GOLD{number}"


def certificate(folder: Path) -> Path:
    """A file with a key (ECDSA, P-256) and its certificate; made unless it is there."""
    file = folder / "both.pem"
    if not file.exists():
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(
            "localhost", key_type=trustme.KeyType.ECDSA
        )
        issued.private_key_and_cert_chain_pem.write_to_path(file)
    return file


class Server:
    """One that runs."""

    def __init__(
        self, process: subprocess.Popen[str], publisher: subprocess.Popen[str], port: int, path: str
    ) -> None:
        self.port = port
        self.path = path
        self._pid = process.pid
        self._publisher = publisher

    def publish(self, rate: float, count: int) -> None:
        """Publish so many messages, so many a second, beginning now."""
        assert self._publisher.stdin is not None
        self._publisher.stdin.write(f"{rate} {count}\n")
        self._publisher.stdin.flush()

    def cpu_s(self) -> float:
        """What its processes have taken so far."""
        return sum(map(cpu_s, self._tree(self._pid)))

    def rss_kb(self) -> int:
        return sum(map(rss_kb, self._tree(self._pid)))

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self._tree(self._pid))

    def threads(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self._tree(self._pid))

    def _tree(self, pid: int) -> list[int]:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(each for child in children for each in self._tree(int(child)))]


@contextlib.contextmanager
def _process(command: Sequence[str | Path], port: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=BENCH
    )
    try:
        wait_port(port)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def serving(
    name: str, folder: Path, *, tls: bool, symbols: int = 1, limits: str = "", stale_after_s: float = 15.0
) -> Iterator[Server]:
    """One of the servers, on a port of its own, that publishes what it is told to. The last three are aurexd's:
    `limits` are a part of its configuration, and empty they are its defaults."""
    port, both = free_port(), certificate(folder)
    more = [str(both)] if tls else []
    with contextlib.ExitStack() as stack:
        if name == "aurexd":
            feed = free_port()
            ticker = [
                *ON_CLIENTS,
                sys.executable,
                str(BENCH / "ticker.py"),
                str(feed),
                "orders",
                str(symbols),
            ]
            publisher = stack.enter_context(_process(ticker, feed))
            configuration = _configuration(feed, symbols, both if tls else None, stale_after_s)
            command: list[str | Path] = [*aurexd(folder, port, configuration, limits)]
        elif name == "nchan":
            publish_port = free_port()
            file = folder / "nginx.conf"
            file.write_text(_nginx(folder, port, publish_port, both if tls else None))
            command = ["nginx", "-c", file, "-e", folder / "nginx.log"]
        elif name == "send_loop":
            command = [compiled(PEERS / "send_loop.c", folder), str(port), *more]
        else:
            module = {"websockets": "peers.websockets_broadcast", "fastapi": "peers.fastapi_manager"}[name]
            command = [sys.executable, "-m", module, str(port), *more]
        server = stack.enter_context(_process([*ON_SERVER, *command], port))
        if name == "nchan":
            publishing = [*ON_CLIENTS, sys.executable, "-m", "peers.nchan_publisher", str(publish_port)]
            publisher = stack.enter_context(_process(publishing, publish_port))
        elif name != "aurexd":
            publisher = server
        yield Server(server, publisher, port, PATH if name == "aurexd" else "/")


def _configuration(feed: int, symbols: int, both: Path | None, stale_after_s: float) -> str:
    """aurexd's, but for its limits."""
    tables = [f'[tls]\ncertificate = "{both}"\nprivate_key = "{both}"\n'] if both is not None else []
    tables += [
        f'[symbols.{symbol(number)}]\ninstrument = "token"\ncalendar = "always"\ndecimals = 6\nmax_jump_pct = 0\n'
        for number in range(symbols)
    ]
    names = ", ".join(f'{symbol(number)} = "{PAIRS[number]}"' for number in range(symbols))
    tables.append(
        '[[sources]]\nname = "kraken"\ntype = "kraken"\n'
        f'url = "ws://127.0.0.1:{feed}/v2"\nsymbols = {{ {names} }}\nstale_after_s = {stale_after_s}\n'
    )
    return "".join(tables)


def _nginx(folder: Path, port: int, publish_port: int, both: Path | None) -> str:
    listen = f"listen 127.0.0.1:{port}{' ssl' if both else ''} backlog=4096;"
    tls = f"ssl_certificate {both}; ssl_certificate_key {both};" if both else ""
    return (
        f"load_module {NCHAN_MODULE}; worker_processes 1; worker_rlimit_nofile 20000; daemon off; "
        f"pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{ worker_connections 19000; }}\n"
        "http { access_log off; nchan_shared_memory_size 256m;\n"
        f"server {{ {listen} {tls} location / {{ nchan_subscriber websocket; nchan_channel_id prices; }} }}\n"
        f"server {{ listen 127.0.0.1:{publish_port}; "
        "location /publish { nchan_publisher; nchan_channel_id prices; } } }\n"
    )
