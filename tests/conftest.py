"""What every test may rely on: the repository's root on the path, virtual time, no hypothesis deadline."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
import trio.testing
from hypothesis import settings

# All that is imported to collect the tests stays: to look through it for garbage again and again is a third of the time
# that it takes, in every process that runs tests.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage, and it is not what was collected."""
    gc.freeze()
    gc.enable()


sys.path.insert(0, str(Path(__file__).parent.parent))

# Shared machines stall: a slow example is not a wrong one. `derandomize` keeps every run the same.
settings.register_profile("aurexd", deadline=None, derandomize=True)
settings.load_profile("aurexd")


@pytest.fixture
def loopback_clock() -> trio.testing.MockClock:
    """Virtual time that jumps only after 5 ms of real silence: sockets may have something under way."""
    return trio.testing.MockClock(autojump_threshold=0.005)
