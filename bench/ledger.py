"""What was measured before: records of runs, one line each, and what became worse from one to another.

    python bench/ledger.py [OLD] [NEW]

Compares two records of `ledger.jsonl` that belong to commits OLD and NEW (their beginnings); without them the last two
of this kind of machine. Exit status 1: something became worse.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
from report import FIGURES, Row, Spread, cases, ratios

FILE = Path(__file__).parent / "ledger.jsonl"
PACKAGES = ("trio", "msgspec", "websockets", "fastapi", "uvicorn", "uvloop")
OURS = "aurexd"
COUNTS = {"messages_per_client", "alerts"}
"""Neither more nor less of these is better."""


__all__ = ["FILE", "Record", "append", "changes", "latest", "record", "write"]


class Record(msgspec.Struct):
    """One run of the benchmark."""

    date: str
    commit: str
    """With a `+` behind it where files had been changed since."""
    machine: str
    versions: dict[str, str]
    rows: list[Row]


def record(rows: list[Row]) -> Record:
    """What was measured now, here, of what stands in this folder."""
    return Record(
        date=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        commit=_git("rev-parse", "--short=10", "HEAD")
        + ("+" if _git("status", "--porcelain", "-uno") else ""),
        machine=f"{os.cpu_count()} × {_processor()}, Linux {platform.release().split('-')[0]}",
        versions={
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION.split()[1],
            "sqlite": sqlite3.sqlite_version,
            **{package: version(package) for package in PACKAGES},
            **({"nginx": _nginx()} if shutil.which("nginx") else {}),
        },
        rows=rows,
    )


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(FILE.parent), *arguments], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")


def _nginx() -> str:
    answer = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    return answer.stderr.strip().rpartition("/")[2]


def write(new: Record, file: Path) -> None:
    """One record as JSON that a person can read, too."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(new)) + b"\n")


def append(new: Record, file: Path = FILE) -> None:
    with file.open("ab") as out:
        out.write(msgspec.json.encode(new) + b"\n")


def records(file: Path = FILE) -> list[Record]:
    """All of them, oldest first."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [msgspec.json.decode(line, type=Record) for line in lines]


def latest(machine: str, file: Path = FILE) -> Record | None:
    """What was last measured of each case on this kind of machine; date and commit are those of the last record."""
    known = [each for each in records(file) if each.machine == machine]
    if not known:
        return None
    newest: dict[tuple[str, str], list[Row]] = {}
    for each in known:
        newest |= cases(each.rows)
    rows = [row for those in newest.values() for row in those]
    return msgspec.structs.replace(known[-1], rows=rows)


def changes(before: Record, after: Record) -> tuple[list[str], list[str]]:
    """What of aurexd became worse, and what better, by more than runs differ: no run of the one reaches any of the
    other's. Where both have the same peer, what is compared is the ratio to it; else the figures, if the machines are
    of one kind."""
    worse: list[str] = []
    better: list[str] = []
    old = cases(before.rows)
    for key, rows in cases(after.rows).items():
        for name, figure in FIGURES.items():
            if name in COUNTS:
                continue
            then, now = _compared(old.get(key, []), rows, name, alike=before.machine == after.machine)
            if then is None or now is None:
                continue
            text = f"{key[0]}: {key[1]}: {figure.title}: {then.text(2)} before, {now.text(2)} now"
            if now.least > then.most:
                (better if figure.more_is_better else worse).append(text)
            elif now.most < then.least:
                (worse if figure.more_is_better else better).append(text)
    return worse, better


def _compared(
    old: list[Row], new: list[Row], figure: str, *, alike: bool
) -> tuple[Spread | None, Spread | None]:
    then = {row.server: row for row in old if row.values(figure)}
    now = {row.server: row for row in new if row.values(figure)}
    if OURS not in then or OURS not in now:
        return None, None
    peer = next((name for name in now if name != OURS and name in then), None)
    if peer is not None:
        return (
            Spread.of(ratios(then[OURS], then[peer], figure)),
            Spread.of(ratios(now[OURS], now[peer], figure)),
        )
    if not alike:
        return None, None
    return Spread.of(then[OURS].values(figure)), Spread.of(now[OURS].values(figure))


def compared(before: Record, after: Record) -> tuple[str, bool]:
    """The changes for people, and whether anything became worse."""
    worse, better = changes(before, after)
    lines = [f"{after.commit} ({after.date}) compared with {before.commit} ({before.date}):"]
    lines += [f"  worse:  {text}" for text in worse]
    lines += [f"  better: {text}" for text in better]
    if not worse and not better:
        lines.append("  nothing changed by more than runs differ")
    return "\n".join(lines), bool(worse)


def main(wanted: list[str]) -> None:
    known = records()
    chosen: list[Record | None]
    if wanted:
        chosen = [next((r for r in reversed(known) if r.commit.startswith(one)), None) for one in wanted]
    else:
        chosen = [*[r for r in known if r.machine == known[-1].machine][-2:]]
    if len(chosen) != 2 or None in chosen:
        raise SystemExit(
            f"{FILE.name} has no two such records; it has {', '.join(r.commit for r in known) or 'none'}"
        )
    before, after = chosen
    assert before is not None
    assert after is not None
    text, worse = compared(before, after)
    print(text)
    raise SystemExit(1 if worse else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
