"""Fuzz a target with coverage guidance: `python -m tests.fuzz TARGET SECONDS` (needs `pip install atheris`).

Inputs that found something new are kept in `.fuzz/TARGET` and are where the next run begins. What crashes is written
to a file whose name is printed; the numbers at the end are libFuzzer's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aurexd", "wsproto", "h11", "msgspec"]):
    from tests.fuzz.targets import TARGETS

SEEDS = Path(__file__).parent.parent / "protocol" / "golden"


def main() -> None:
    """Run until the time is over or a bug is found."""
    _, name, seconds = sys.argv
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", "-rss_limit_mb=2048"]
    arguments = [sys.argv[0], *options, f"-artifact_prefix={corpus}-", str(corpus), str(SEEDS)]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
