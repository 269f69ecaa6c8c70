"""What the commands have in common: how their arguments are read, and how they print."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong command line exits with sysexits' 64, not 2, and nothing is abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how it is used."""
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def print_text(text: str) -> None:
    """Print, and be content with a reader that has seen enough: `aurexd default-config | head`."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python must not try to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document; without `indent`, on one line."""
    print_text(json.dumps(document, indent=indent, ensure_ascii=False) + "\n")
