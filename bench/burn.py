"""Pure Python work of a known length."""

from __future__ import annotations

from time import perf_counter
from typing import Any

UNIT = 0.05  #: seconds of work that the machine's speed is measured with


def burn(n: int) -> int:
    """Works for a time proportional to `n`, without sleeping, allocating much, or releasing the GIL."""
    x = 1
    for _ in range(n):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def mean_seconds(n: int, repeats: int = 8) -> float:
    """Mean time of ``burn(n)`` alone, one after the other."""
    start = perf_counter()
    for _ in range(repeats):
        burn(n)
    return (perf_counter() - start) / repeats


def iterations_for(seconds: float) -> int:
    """The `n` for which ``burn(n)`` takes about `seconds` here."""
    n = 100_000
    burn(n)
    return max(1, int(n * seconds / mean_seconds(n, 5)))


def efficiency(seconds: list[float], before: float, after: float, wall: float) -> dict[str, Any]:
    """The measurement of a row: how much of two CPUs the work had.

    Args:
        seconds: what each task was to take.
        before: what `UNIT` took one process alone, before the tasks ran.
        after: the same after.
        wall: seconds from the first start to the last end.
    """
    work = sum(seconds) / UNIT * (before + after) / 2
    return {"value": work / (2 * wall), "note": f"{wall:.3f} s in all"}
