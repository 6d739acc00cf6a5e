"""The same pipeline with pypeln's processes."""

from __future__ import annotations

from time import perf_counter
from typing import Any

STAGES = 4


def _step(x: int) -> int:
    return x + 1


def processes(count: int, buffer: int) -> dict[str, Any]:
    """``pl.process.map`` four times, one worker each."""
    import pypeln

    def run(n: int) -> None:
        stages: Any = range(n)
        for _ in range(STAGES):
            stages = pypeln.process.map(_step, stages, workers=1, maxsize=buffer)
        assert sum(1 for _ in stages) == n

    run(count // 10 + 1)
    start = perf_counter()
    run(count)
    return {"value": (perf_counter() - start) / count}
