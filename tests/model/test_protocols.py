"""Each configuration of the model keeps its invariants, whatever the order of steps and whoever dies."""

from __future__ import annotations

import pytest

from model.configurations import CONFIGURATIONS
from model.explorer import told


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_violation(name: str) -> None:
    result = CONFIGURATIONS[name].explore()
    assert not result.violation, told(result, name)
    assert result.whole
