"""Debian trees with aurexd in them, as `make install` installs it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.systemd.machine import PLACE

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,iproute2,procps,make"
"""What a Debian needs for this beside the least there is."""

KERNEL = "linux-image-cloud-amd64,initramfs-tools,udev,kmod,zstd"
"""And what it needs to be booted as a machine of its own."""

INSTALL = """
set -e
mount -t tmpfs tmpfs {base}
mkdir {base}/up {base}/work {base}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={base}/up,workdir={base}/work {base}/root
mkdir {base}/root/srv/source {base}/root/srv/tree {base}/root/srv/wheels
cp -a {source}/. {base}/root/srv/source/
mount --bind {tree} {base}/root/srv/tree
mount --bind {wheels} {base}/root/srv/wheels
mount --bind /dev {base}/root/dev
env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels \
    chroot {base}/root make --silent --directory=/srv/source --assume-old=dashboard install DESTDIR=/srv/tree
"""
"""With another Debian's Python: it needs no network for it."""


def debian(release: str, *, kernel: bool = False) -> Path:
    """The root of a Debian, as small as it can be; fetched where it is not there yet."""
    root = ROOT / "build" / f"debian-{release}{'-kernel' if kernel else ''}"
    packages = f"{PACKAGES},{KERNEL}" if kernel else PACKAGES
    if not any(root.glob("boot/initrd.img-*" if kernel else "usr/bin/make")):
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", release, str(root)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return root


def install_elsewhere(root: Path, tree: Path, folder: Path) -> None:
    """`make install`, run in another Debian, by its Python."""
    subprocess.run(["make", "--silent", "dashboard"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    source, wheels, base = folder / "source", folder / "wheels", folder / "install"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "aurexd" / "dashboard", source / "aurexd" / "dashboard", dirs_exist_ok=True)
    version = "import sys; print('{}.{}'.format(*sys.version_info))"
    python = subprocess.run(
        ["chroot", str(root), "python3", "-c", version], check=True, capture_output=True, text=True
    ).stdout.strip()
    needed = [need for need in importlib.metadata.requires("aurexd") or () if "extra ==" not in need]
    kinds = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)),
            *("--constraint", "constraints.txt", "--only-binary", ":all:", "--python-version", python),
            *(
                "--implementation",
                "cp",
                "--abi",
                f"cp{python.replace('.', '')}",
                "--abi",
                "abi3",
                "--abi",
                "none",
            ),
            *(word for kind in kinds for word in ("--platform", f"{kind}_{os.uname().machine}")),
            *("--platform", "any", "setuptools", *needed),
        ],
        cwd=ROOT,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    base.mkdir()
    tree.mkdir()
    script = INSTALL.format(base=base, lower=root, source=source, tree=tree, wheels=wheels)
    subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", script],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def install_here(tree: Path) -> None:
    subprocess.run(
        ["make", "--silent", "install", f"DESTDIR={tree}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


def add_files(tree: Path) -> None:
    """What this test needs beside it."""
    installed = sorted(f"/{path.relative_to(tree)}" for path in tree.rglob("*") if not path.is_dir())
    place = tree / PLACE.relative_to("/")
    place.mkdir(parents=True)
    for name in ("stuck.py", "clients.py"):
        shutil.copy(HERE / name, place)
    shutil.copy(ROOT / "Makefile", place)
    (place / "installed").write_text("".join(f"{file}\n" for file in installed))
