"""Each configuration of the model keeps its invariants, whatever the order of steps and whoever dies.

--long explores all of them, some ten million states.
"""

from __future__ import annotations

import pytest

from model.cases import CONFIGURATIONS
from model.explorer import told

pytestmark = pytest.mark.watchdog(120)


@pytest.mark.parametrize("name", [c.name for c in CONFIGURATIONS.values() if not c.long])
def test_no_violation(name: str) -> None:
    result = CONFIGURATIONS[name].explore()
    assert not result.violation, told(result, name)


@pytest.mark.watchdog(3600)
@pytest.mark.parametrize("name", [c.name for c in CONFIGURATIONS.values() if c.long])
def test_no_violation_in_millions(name: str, long: bool) -> None:
    if not long:
        pytest.skip("--long only: some take minutes, and gigabytes of memory")
    test_no_violation(name)
