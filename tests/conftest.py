"""What every test may rely on: the repository's root on the path, a quiet log, and no hypothesis deadline."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent.parent))

# Shared machines stall: a slow example is not a wrong one. `derandomize` keeps every run the same.
settings.register_profile("aurexd", deadline=None, derandomize=True)
settings.load_profile("aurexd")
