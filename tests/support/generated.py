"""How many generated programs there are, for hypothesis."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

LONG = "GOPROC_TEST_LONG" in os.environ  # --long: see tests/conftest.py


def examples(few: int) -> Any:
    """So many examples, or fifty times as many with --long."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    many = 50 * few if LONG else few
    return settings(
        max_examples=many, deadline=None, suppress_health_check=checks, database=None, print_blob=True
    )
