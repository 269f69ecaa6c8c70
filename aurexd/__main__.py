"""The process of the `aurexd` command, as `aurexd` and as `python -m aurexd`."""

import gc

# All that is imported stays. To look through it for garbage again and again is a quarter of the start, in which clients
# wait; the daemon's own timetable (garbage.py) begins with a full look.
gc.disable()

from aurexd.cli import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
