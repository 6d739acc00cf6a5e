"""The fixtures of all cases: placements, capacities, and Go's own meaning of "blocks" and "does not block".

A case that takes `place` runs in one process, across two, and spread over all, with 0, 1, 2, 4 and 8 workers. One that takes
`cap` runs for each capacity that Go's tests have and that can differ. A blocked goroutine is recognised by the
channel's queue where a case has a channel (peek.until_waiting), and by `blocks` where it has not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import programs
import pytest
from places import place_fixture

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


@pytest.fixture(params=(0, 1, 2, 7, 64), ids=lambda cap: f"cap{cap}")
def cap(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=(0, 1, 7), ids=lambda cap: f"cap{cap}")
def some_cap(request: pytest.FixtureRequest) -> int:
    """For cases where only unbuffered, nearly always full and roomy differ."""
    return int(request.param)


@pytest.fixture
def blocks() -> Any:
    """A check that a goroutine, given by its handle, has not finished after 10 ms."""

    def check(*handles: Any) -> None:
        for g in handles:
            with pytest.raises(TimeoutError):
                g.join(timeout=0.01)

    return check


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., programs.Done]:
    """Runs a text as a script with `goproc run`, to its end: program(text, procs=2). See programs.run."""

    def run(text: str, *words: str, **options: Any) -> programs.Done:
        return programs.run(tmp_path, text, *words, **options)

    return run
