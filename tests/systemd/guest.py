"""Boots a machine whose kernel enforces what the unit limits, and has `limits.py` look at aurexd there: `make systemd-limits`.

Needs Linux on x86-64, root, debootstrap, and QEMU (Debian: qemu-system-x86), which does without KVM: it is slow, some five
minutes. `--release trixie` boots that Debian instead of Debian 12; debootstrap fetches it once, into build/. The machine has no
network, and a disk that is thrown away. The exit status is 0 if everything is as it must be; the table stands in
docs/operations.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.systemd.debian import HERE, add_files, debian, install_elsewhere
from tests.systemd.machine import PLACE, STATUS

AT_MOST_S = 1500
"""From power-on to power-off. Seen: 300."""

UNIT = f"""
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
TimeoutStartSec=infinity
WorkingDirectory={PLACE}
ExecStart=/usr/bin/python3 -m tests.systemd.limits
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
"""

IMAGE = """
set -e
mount -t tmpfs tmpfs {base}
mkdir {base}/up {base}/work {base}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={base}/up,workdir={base}/work {base}/root
cp -a {tree}/. {base}/root/
echo '/dev/vda / ext4 rw 0 1' > {base}/root/etc/fstab
: > {base}/root/etc/machine-id
mkdir -p {base}/root/etc/systemd/system/graphical.target.wants
cp {unit} {base}/root/etc/systemd/system/limits.service
ln -s ../limits.service {base}/root/etc/systemd/system/graphical.target.wants/
mke2fs -q -t ext4 -d {base}/root {image} 4G
"""


def image_of(root: Path, tree: Path, folder: Path) -> Path:
    """A disk with that Debian, and this in it."""
    base, image, unit = folder / "base", folder / "disk", folder / "limits.service"
    base.mkdir()
    unit.write_text(UNIT)
    script = IMAGE.format(base=base, lower=root, tree=tree, unit=unit, image=image)
    subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return image


def boot(root: Path, image: Path, console: Path) -> int:
    """Run the machine until it switches itself off, and pass on what it says; the exit status of what ran in it."""
    (kernel,), (initrd,) = root.glob("boot/vmlinuz-*"), root.glob("boot/initrd.img-*")
    status = 1
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-machine", "q35", "-m", "1536", "-smp", "2"),
        *("-nodefaults", "-display", "none", "-no-reboot", "-nic", "none", "-device", "virtio-rng-pci"),
        *("-serial", f"file:{console}", "-serial", "stdio"),
        *("-drive", f"file={image},if=virtio,format=raw,cache=unsafe"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 panic=-1 systemd.show_status=0"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as machine:
        assert machine.stdout is not None
        deadline = threading.Timer(AT_MOST_S, machine.kill)
        deadline.start()
        for line in machine.stdout:
            if line.startswith(STATUS):
                status = int(line.removeprefix(STATUS))
                continue
            sys.stdout.write(line)
            sys.stdout.flush()
        deadline.cancel()
    return status


def main() -> int:
    """Show everything; the table goes to standard output."""
    parser = argparse.ArgumentParser(description="Shows that the limits of the service are enforced.")
    parser.add_argument("--release", default="bookworm", help="of Debian; default: %(default)s")
    release = parser.parse_args().release
    missing = [name for name in ("debootstrap", "qemu-system-x86_64") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing or os.uname().machine != "x86_64":
        sys.stderr.write(
            "make systemd-limits needs root on x86-64, debootstrap and QEMU (Debian: debootstrap, qemu-system-x86)\n"
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="aurexd-systemd-", dir="/var/tmp") as name:
        folder = Path(name)
        tree, console = folder / "tree", folder / "console"
        root = debian(release, kernel=True)
        install_elsewhere(root, tree, folder)
        add_files(tree)
        package = tree / PLACE.relative_to("/") / "tests" / "systemd"
        package.mkdir(parents=True)
        for module in ("machine.py", "limits.py"):
            shutil.copy(HERE / module, package)
        status = boot(root, image_of(root, tree, folder), console)
        if status:
            sys.stderr.write(console.read_text(errors="replace")[-4000:])
    return status


if __name__ == "__main__":
    sys.exit(main())
