"""Channel tests run in every placement, and for the classes of capacity that differ."""

from __future__ import annotations

import pytest
from places import place_fixture

CAPACITIES = (0, 1, 64)  # rendezvous, always full or empty, roomy

place = place_fixture(((0, "local"), (1, "on0"), (1, "across"), (2, "across"), (1, "back"), (4, "spread")))


@pytest.fixture(params=CAPACITIES, ids=lambda cap: f"cap{cap}")
def cap(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=(0, 1, 7), ids=lambda cap: f"cap{cap}")
def some_cap(request: pytest.FixtureRequest) -> int:
    """For cases where only unbuffered, nearly always full and roomy differ."""
    return int(request.param)
