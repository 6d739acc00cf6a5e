"""The fixtures of all cases: placements, capacities, and Go's own meaning of "blocks" and "does not block".

A case that takes `place` runs in one process, across two, and spread over all, with 0, 1, 2, 4 and 8 workers. One that takes
`cap` runs for each capacity that Go's tests have and that can differ. A blocked goroutine is recognised by the
channel's queue where a case has a channel (peek.until_waiting), and by `blocks` where it has not.
"""

from __future__ import annotations

from typing import Any

import pytest
from places import cap_fixture, place_fixture

place = place_fixture(
    (
        (0, "local"),
        (0, "on0"),
        (1, "on0"),
        (1, "across"),
        (1, "back"),
        (2, "across"),
        (2, "back"),
        (2, "spread"),
        (4, "local"),
        (4, "spread"),
        (8, "spread"),
    )
)


cap = cap_fixture("cap", 0, 1, 2, 7, 64)
# For cases where only unbuffered, nearly always full and roomy differ.
some_cap = cap_fixture("some_cap", 0, 1, 7)


@pytest.fixture
def blocks() -> Any:
    """A check that a goroutine, given by its handle, has not finished after 10 ms."""

    def check(*handles: Any) -> None:
        for g in handles:
            with pytest.raises(TimeoutError):
                g.join(timeout=0.01)

    return check
