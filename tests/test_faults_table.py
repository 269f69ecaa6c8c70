"""What clients see of each injected fault is what they should see, and what docs/truth.md says."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests import faults_table

pytestmark = pytest.mark.slow  # some thirty daemons, side by side


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Each daemon leaves the garbage collector as it found it, and these found it as the others had set it."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_clients_see_of_each_fault_what_they_should() -> None:
    found = faults_table.run()
    assert len(found) == len(faults_table.LINES) > 25
    wrong = {o.line.fault: (o.saw, o.counted) for o in found if not o.right}
    assert not wrong
    document = faults_table.DOCUMENT.read_text()
    assert faults_table.fill(document, found) == document, "run: python -m tests.faults_table --write"
