"""aurexd as `make install` installs it, under a systemd that was really booted: `make systemd`.

Needs Linux, root and systemd-nspawn (Debian: systemd-container). This machine's own root, under an overlay in memory
that is thrown away, is booted as a container with a network of its own; nothing of the machine is changed.
`--release trixie` boots that Debian instead, with its systemd and its Python; debootstrap fetches it once, into build/.
The exit status is 0 if everything is as it must be; the tables that are printed stand in docs/operations.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.systemd.debian import add_files, debian, install_elsewhere, install_here
from tests.systemd.machine import PLACE, PYTHON, Check, Machine, expect, show

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

[symbols.XAUUSD]
instrument = "spot"

[[sources]]
name = "simulated"
type = "simulated"
interval_s = 0.1
symbols = { TESTGOLD = "TESTGOLD" }

# Its token is a credential; nobody answers there.
[[sources]]
name = "alltick"
type = "alltick"
url = "ws://127.0.0.1:9/"
token_file = "alltick.token"
symbols = { XAUUSD = "GOLD" }
"""

DROP_IN = """
[Unit]
StartLimitBurst=50

[Service]
LoadCredential=alltick.token:/etc/aurexd/credentials/alltick.token
"""

NOTIFY_RELOAD = """
[Service]
Type=notify-reload
ExecReload=
"""

STUCK = f"""
[Service]
ExecStart=
ExecStart={PYTHON} {PLACE}/stuck.py run
WatchdogSec=4s
"""

BOOT = """
set -e
mount -t tmpfs tmpfs {base}
mkdir {base}/up {base}/work {base}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={base}/up,workdir={base}/work {base}/root
rm -rf {base}/root/etc/systemd/system/*.wants
: > {base}/root/etc/fstab
rm -f {base}/root/etc/machine-id
: > {base}/root/etc/machine-id
cp -a {tree}/. {base}/root/
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/{name}
echo $$ > /sys/fs/cgroup/{name}/cgroup.procs
exec systemd-nspawn --quiet --register=no --keep-unit --machine={name} --directory={base}/root --private-network \
    --capability=all --system-call-filter='bpf io_uring_setup io_uring_enter io_uring_register' --console=pipe --boot
"""


@contextlib.contextmanager
def booted(lower: Path, tree: Path, folder: Path) -> Iterator[Machine]:
    name = f"aurexd-test-{os.getpid()}"
    base = folder / "base"
    base.mkdir()
    script = folder / "boot"
    script.write_text(BOOT.format(base=base, lower=lower, tree=tree, name=name))
    with (folder / "console").open("wb") as console:
        nspawn = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
            leader = int((children.read_text().split() or ["0"])[0]) if children.exists() else 0
            if leader and Path(f"/proc/{leader}/root/run/systemd/private").exists():
                break
            expect(
                nspawn.poll() is None and time.monotonic() < deadline,
                (folder / "console").read_text()[-2000:],
            )
            time.sleep(0.1)
        machine = Machine("nsenter", "--target", str(leader), "--all")
        machine.systemctl("is-system-running", "--wait", check=False)
        yield machine
    finally:
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(30)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
        for group in sorted(Path("/sys/fs/cgroup").glob(f"**/{name}/**/"), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()


# --- what must be seen ---


def installed(machine: Machine) -> str:
    machine.run("systemd-sysusers")
    machine.run("systemd-tmpfiles", "--create")
    machine.write("/etc/aurexd/aurexd.toml", CONFIG)
    machine.write("/etc/aurexd/credentials/alltick.token", "a token for root's eyes", "600")
    machine.write("/etc/systemd/system/aurexd.service.d/test.conf", DROP_IN)
    machine.systemctl("daemon-reload")
    user = machine.run("getent", "passwd", "aurexd").stdout.split(":")
    return f"user and group {user[0]}, uid {user[2]}; {machine.run('aurexd', '--version').stdout.strip()}"


def verified(machine: Machine) -> str:
    units = ("aurexd.service", "aurexd.socket", "aurexd-control.socket")
    result = machine.run("systemd-analyze", "verify", "--man=no", *units)
    ours = [line for line in result.stderr.splitlines() if "aurexd" in line]
    expect(not ours, "\n".join(ours))
    text = machine.run("systemd-analyze", "security", "--threshold=11", "aurexd.service").stdout
    (exposure,) = re.findall(r"Overall exposure level for aurexd.service: ([\d.]+)", text)
    return f"`verify` says nothing; exposure {exposure}"


def started(machine: Machine) -> str:
    machine.systemctl("enable", "--now", "aurexd.socket", "aurexd-control.socket")
    began = time.monotonic()
    machine.systemctl("start", "aurexd.service")
    took_s = time.monotonic() - began
    expect(machine.get("/readyz")["ready"], "it is not ready")
    machine.wait_for(
        lambda: "simulated" in machine.show("StatusText")["StatusText"], "a price in the status", 20
    )
    return f"`systemctl start` returned after {took_s:.1f} s, ready; status: `{machine.show('StatusText')['StatusText']}`"


def activated(machine: Machine) -> str:
    machine.systemctl("stop", "aurexd.service")
    expect(machine.show("ActiveState")["ActiveState"] == "inactive", "it did not stop")
    began = time.monotonic()
    expect(machine.get("/readyz")["ready"], "it is not ready")
    took_s = time.monotonic() - began
    (line, *_) = reversed(machine.journal("EVENT=sockets_taken_over"))
    expect(line["PORT"] == "8000", "it did not take the socket over")
    return f"the first request started it, and was answered after {took_s:.1f} s"


def confined(machine: Machine) -> str:
    pid = machine.show("MainPID")["MainPID"]
    status = machine.run("cat", f"/proc/{pid}/status").stdout
    found = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    seen = (int(found["CapEff"], 16), found["NoNewPrivs"], found["Seccomp"])
    expect(seen == (0, "1", "2"), f"capabilities, no_new_privs, seccomp: {seen}")
    by = machine.journal("EVENT=fan_out_ready")[-1]["BY"]
    expect(not machine.journal("-p", "err", "-u", "aurexd"), "errors in the log")
    return f"no capabilities, no_new_privs, seccomp filter; updates are written by `{by}`"


def credentials(machine: Machine) -> str:
    path = "/run/credentials/aurexd.service/alltick.token"
    mode, owner = machine.run("stat", "--format", "%a %U", path).stdout.split()
    expect(mode == "400" or mode == "440", f"mode {mode}")
    sources = {s["name"]: s for s in machine.get("/api/v1/sources")["sources"]}
    expect(
        sources["alltick"]["state"] in {"waiting", "connecting"}, f"alltick is {sources['alltick']['state']}"
    )
    hidden = machine.run(
        "runuser", "-u", "aurexd", "--", "cat", "/etc/aurexd/credentials/alltick.token", check=False
    )
    expect(hidden.returncode, "the file itself is readable for the daemon's user")
    return (
        f"`LoadCredential=`: the source has its token from {path} ({mode}, {owner}); the file is root's alone"
    )


def reloaded(machine: Machine) -> str:
    pid = machine.show("MainPID")["MainPID"]
    before = len(machine.journal("EVENT=config_reloaded"))
    machine.write(
        "/etc/aurexd/aurexd.toml",
        CONFIG.replace("max_connections_per_ip = 0", "max_connections_per_ip = 1000"),
    )
    machine.systemctl("reload", "aurexd.service")
    machine.wait_for(lambda: len(machine.journal("EVENT=config_reloaded")) > before, "the reload")
    changed = machine.journal("EVENT=config_reloaded")[-1]["CHANGED"]
    expect("limits.max_connections_per_ip" in changed, changed)

    machine.write(
        "/etc/aurexd/aurexd.toml", CONFIG.replace("max_connections_per_ip = 0", "max_connections = -1")
    )
    refused = machine.systemctl("reload", "aurexd.service", check=False)
    expect(refused.returncode != 0, "a wrong configuration was reloaded")
    machine.run("kill", "-HUP", pid)
    machine.wait_for(
        lambda: "refused" in machine.show("StatusText")["StatusText"], "the refusal in the status", 20
    )
    expect(machine.journal("EVENT=config_refused")[-1]["PRIORITY"] == "3", "its priority")
    machine.write("/etc/aurexd/aurexd.toml", CONFIG)
    machine.systemctl("reload", "aurexd.service")
    machine.wait_for(lambda: "refused" not in machine.show("StatusText")["StatusText"], "the good status", 20)
    expect(
        machine.show("MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"},
        "it is another process",
    )
    return "good: taken over by the same process; bad: `systemctl reload` fails, SIGHUP is refused, the status says so"


def notify_reloaded(machine: Machine) -> str:
    version = int(machine.systemctl("--version").stdout.split()[1])
    if version < 253:
        return f"systemd {version} has none"
    machine.write("/etc/systemd/system/aurexd.service.d/reload.conf", NOTIFY_RELOAD)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "aurexd.service")
    pid = machine.show("MainPID")["MainPID"]
    found = machine.show("Type", "ReloadSignal")
    expect(found["Type"] == "notify-reload", str(found))
    before = len(machine.journal("EVENT=config_reloaded"))
    machine.write("/etc/aurexd/aurexd.toml", CONFIG.replace("interval_s = 0.1", "interval_s = 0.2"))
    began = time.monotonic()
    machine.systemctl("reload", "aurexd.service")
    took_s = time.monotonic() - began
    expect(
        len(machine.journal("EVENT=config_reloaded")) == before + 1, "it returned before the reload was done"
    )
    machine.write("/etc/aurexd/aurexd.toml", CONFIG.replace("interval_s = 0.1", "interval_s = -1"))
    machine.systemctl("reload", "aurexd.service")
    status = machine.show("StatusText")["StatusText"]
    expect("refused" in status, f"the status after a wrong configuration: {status}")
    machine.write("/etc/aurexd/aurexd.toml", CONFIG)
    machine.systemctl("reload", "aurexd.service")
    expect(machine.show("MainPID")["MainPID"] == pid, "it is another process")
    machine.run("rm", "/etc/systemd/system/aurexd.service.d/reload.conf")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "aurexd.service")
    return (
        f"`systemctl reload` returned after {took_s:.1f} s, when the daemon had taken it over; a wrong configuration is in the "
        "status when it returns, which is with success: this type knows no failure"
    )


def logged(machine: Machine) -> str:
    entry = machine.journal("EVENT=daemon_started")[-1]
    expect((entry["PRIORITY"], entry["LOGGER"]) == ("6", "aurexd.daemon"), str(entry))
    expect(entry["_SYSTEMD_UNIT"] == "aurexd.service", "it is not the unit's")
    lost = machine.journal("SOURCE=alltick", "EVENT=source_lost")
    expect(lost and lost[-1]["PRIORITY"] == "4" and lost[-1]["CONNECTION"], "nothing of the source")
    return f"`journalctl SOURCE=alltick EVENT=source_lost`: {len(lost)}, priority 4; e.g. `{lost[0]['MESSAGE'][:90]}…`"


def restarted(machine: Machine) -> str:
    machine.run("rm", "-f", f"{PLACE}/stop")
    clients = machine.start(PYTHON, f"{PLACE}/clients.py")
    assert clients.stdout is not None
    try:
        expect(clients.stdout.readline() == "ready\n", "the clients did not get their prices")
        began = time.monotonic()
        machine.systemctl("restart", "aurexd.service")
        took_s = time.monotonic() - began
        machine.wait_for(lambda: machine.get("/api/v1/ws/stats")["active_connections"] == 200, "all are back")
        back_s = time.monotonic() - began
        machine.run("touch", f"{PLACE}/stop")
        report = json.loads(clients.stdout.readline())
    finally:
        clients.kill()
        clients.wait()
    expect(report["clients_with_prices_after"] == 200, str(report))
    expect(not report.get("refused") and not report.get("knocks_refused"), str(report))
    expect(report["epochs"] == 1 and report["holes"] == 0 and report["codes"] == {"4000": 200}, str(report))
    closed = len(machine.journal("EVENT=session_closed", "CODE=4000"))
    return (
        f"restart in {took_s:.1f} s, all 200 back after {back_s:.1f} s, each sent away with 4000 and resumed without a hole; "
        f"0 of {report['knocks']} connections refused; {closed} lines `session_closed`"
    )


def watched(machine: Machine) -> str:
    machine.write("/etc/systemd/system/aurexd.service.d/stuck.conf", STUCK)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "aurexd.service")
    pid, before = machine.show("MainPID")["MainPID"], int(machine.show("NRestarts")["NRestarts"])
    began = time.monotonic()
    machine.run("runuser", "-u", "aurexd", "--", "touch", "/var/lib/aurexd/hang")
    machine.wait_for(lambda: int(machine.show("NRestarts")["NRestarts"]) > before, "the watchdog", 30)
    killed_s = time.monotonic() - began
    machine.wait_for(lambda: machine.show("ActiveState")["ActiveState"] == "active", "it is back", 30)
    expect(machine.show("MainPID")["MainPID"] != pid and machine.get("/readyz")["ready"], "it is not back")
    stuck = machine.journal("EVENT=actor_stuck", f"_PID={pid}")
    expect(stuck and stuck[0]["ACTOR"] == "hub" and "hang_for_ever" in stuck[0]["STACK"], "no stack")
    killed = [e for e in machine.journal("-u", "aurexd") if "Watchdog timeout" in str(e.get("MESSAGE"))]
    said, kill = int(stuck[0]["__REALTIME_TIMESTAMP"]), int(killed[-1]["__REALTIME_TIMESTAMP"])
    expect(said < kill, "the stack came after the kill")
    threads = [e for e in machine.journal(f"_PID={pid}") if "Current thread" in str(e.get("MESSAGE"))]
    machine.run("rm", "/etc/systemd/system/aurexd.service.d/stuck.conf")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "aurexd.service")
    return (
        f"WatchdogSec=4s: `actor_stuck actor=hub` with its stack {(kill - said) / 1e6:.1f} s before the kill, killed after "
        f"{killed_s:.1f} s (SIGABRT{', with the stacks of all threads' if threads else ''}), started again, ready"
    )


def crashed(machine: Machine) -> str:
    before = int(machine.show("NRestarts")["NRestarts"])
    machine.systemctl("kill", "--signal=KILL", "aurexd.service")
    machine.wait_for(lambda: int(machine.show("NRestarts")["NRestarts"]) > before, "another start", 30)
    expect(machine.get("/readyz")["ready"], "it is not back")
    machine.systemctl("stop", "aurexd.service")
    machine.write("/etc/aurexd/aurexd.toml", CONFIG + "[wrong]\n")
    failed = machine.systemctl("start", "aurexd.service", check=False)
    time.sleep(2)
    found = machine.show("ExecMainStatus", "ActiveState", "NRestarts", "Result")
    expect(
        failed.returncode and found["ExecMainStatus"] == "78" and found["ActiveState"] == "failed", str(found)
    )
    machine.write("/etc/aurexd/aurexd.toml", CONFIG)
    machine.systemctl("start", "aurexd.service")
    return "`kill -9`: started again; a wrong configuration: status 78, and not started again"


def dynamic(machine: Machine) -> str:
    machine.systemctl("stop", "aurexd.service")
    machine.write(
        "/etc/systemd/system/aurexd.service.d/dynamic.conf",
        "[Service]\nUser=aurexd-dynamic\nGroup=\nDynamicUser=yes\n",
    )
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "aurexd.service")
    pid = machine.show("MainPID")["MainPID"]
    uid = re.findall(r"^Uid:\s+(\d+)", machine.run("cat", f"/proc/{pid}/status").stdout, re.MULTILINE)[0]
    expect(61184 <= int(uid) <= 65519, f"uid {uid}")
    expect(machine.get("/readyz")["store"]["state"] == "ok", "the database")
    machine.systemctl("stop", "aurexd.service")
    machine.run("rm", "/etc/systemd/system/aurexd.service.d/dynamic.conf")
    machine.systemctl("daemon-reload")
    return f"`DynamicUser=yes` (uid {uid}) instead of the user of sysusers.d: ready, database open"


def stopped(machine: Machine) -> str:
    machine.systemctl("start", "aurexd.service")
    began = time.monotonic()
    machine.systemctl("stop", "aurexd.service")
    took_s = time.monotonic() - began
    found = machine.show("Result", "ExecMainStatus")
    expect(found == {"Result": "success", "ExecMainStatus": "0"}, str(found))
    return f"`systemctl stop` in {took_s:.1f} s, status 0"


def uninstalled(machine: Machine) -> str:
    machine.systemctl("start", "aurexd.service")
    files = machine.run("cat", f"{PLACE}/installed").stdout.splitlines()
    ours = [file for file in files if not file.startswith(("/etc/aurexd/", f"{PLACE}/"))]
    expect(
        all(machine.run("test", "-e", file, check=False).returncode == 0 for file in ours[:50]), "installed"
    )
    machine.run("make", "--silent", f"--directory={PLACE}", "uninstall")
    left = machine.run(
        "sh", "-c", 'while read -r f; do [ -e "$f" ] && echo "$f"; done < $0 || true', f"{PLACE}/installed"
    )
    wrong = [file for file in left.stdout.splitlines() if file in set(ours)]
    expect(not wrong, f"left: {wrong[:5]}")
    machine.systemctl("reset-failed", check=False)
    units = machine.systemctl("list-units", "--all", "--plain", "--no-legend", "aurexd*").stdout.strip()
    expect(not units, units)
    kept = ("/etc/aurexd/aurexd.toml", "/var/lib/aurexd/aurexd.db")
    expect(all(machine.run("test", "-e", file, check=False).returncode == 0 for file in kept), "what is kept")
    return (
        f"stopped; none of its {len(ours)} files, and no unit, is left; configuration, database and user are"
    )


CHECKS: list[Check] = [
    ("`make install`, sysusers, tmpfiles", installed),
    ("`systemd-analyze`", verified),
    ("Start to READY", started),
    ("Socket activation", activated),
    ("Hardening at work", confined),
    ("Credentials", credentials),
    ("Reload, good and bad", reloaded),
    ("`Type=notify-reload`", notify_reloaded),
    ("Journal fields", logged),
    ("Restart under 200 clients", restarted),
    ("Watchdog", watched),
    ("Exit statuses", crashed),
    ("DynamicUser", dynamic),
    ("Stop", stopped),
    ("`make uninstall`", uninstalled),
]


def main() -> int:
    """Show everything; the table goes to standard output."""
    parser = argparse.ArgumentParser(description="Shows the service under a systemd that is booted for it.")
    parser.add_argument("--release", default="", help="of Debian, as trixie; default: what this machine runs")
    release = parser.parse_args().release
    if release and shutil.which("debootstrap") is None:
        sys.stderr.write("--release needs debootstrap (Debian: apt-get install debootstrap)\n")
        return 1
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        sys.stderr.write(
            "make systemd needs root, and systemd-nspawn (Debian: apt-get install systemd-container)\n"
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="aurexd-systemd-", dir="/var/tmp") as name:
        folder = Path(name)
        tree = folder / "tree"
        lower = debian(release) if release else Path("/")
        if release:
            install_elsewhere(lower, tree, folder)
        else:
            install_here(tree)
        add_files(tree)
        with booted(lower, tree, folder) as machine:
            good = show(machine, CHECKS)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
