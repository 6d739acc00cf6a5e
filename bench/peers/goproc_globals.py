"""goproc: goroutines that use small globals and classes of the script. Run as a script, as users do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from time import process_time
from typing import Any

import goproc
from bench.measure import report
from goproc import go

LIMIT = 3
ITEMS = [1, 2, 3]
_BATCH = 2_000
_HELD = 0.15  # seconds that the worker sleeps while the host makes a batch of goroutines


class Config:
    scale = 2
    names = ["a", "b"]  # noqa: RUF012 (a class of a script)
    table = {"a": 1}  # noqa: RUF012

    @classmethod
    def scaled(cls, i: int) -> int:
        return cls.scale * i


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def twice(self) -> int:
        return 2 * self.x


def none(i):  # type: ignore[no-untyped-def]
    return i


def annotated(i: int, j: float = 1.0) -> int:
    return i


def number(i):  # type: ignore[no-untyped-def]
    return i + LIMIT


def number_and_list(i):  # type: ignore[no-untyped-def]
    return i + LIMIT + ITEMS[0]


def a_class(i):  # type: ignore[no-untyped-def]
    return Point(i).twice()


def class_with_state(i):  # type: ignore[no-untyped-def]
    return Config.scaled(i)


def _hold() -> float:
    """Return the CPU time of the worker, and keep the worker from its other goroutines for a while."""
    used = process_time()
    time.sleep(_HELD)
    return used


def _measure(f: Callable[[int], int], count: int) -> list[float]:
    """Return the CPU seconds of the `go` lines, of the goroutines in the worker, and of the reads of their results."""
    start = go.on(1)
    spent = [0.0, 0.0, 0.0]
    for _ in range(max(1, count // _BATCH)):
        began = start(_hold)
        times = [process_time()]
        handles = [start(f, i) for i in range(_BATCH)]
        times.append(process_time())
        ended = start(process_time).result()
        times.append(process_time())
        for handle in handles:
            handle.result()
        times.append(process_time())
        for part, seconds in enumerate((times[1] - times[0], ended - began.result(), times[3] - times[2])):
            spent[part] += seconds
    return spent


def small(kind: str, count: int) -> Any:
    """CPU time for one goroutine of a function of this script.

    Wall time would be that of two processes that wake each other up. So the worker is held while the goroutines are made,
    and runs them without a pause.
    """
    f = globals()[kind]
    with goproc.runtime(procs=1):
        _measure(f, _BATCH)
        spent = _measure(f, count)
    parts = [seconds / max(_BATCH, count // _BATCH * _BATCH) for seconds in spent]
    line, work, read = [f"{part * 1e6:.1f}" for part in parts]
    return {"value": sum(parts), "note": f"go {line}, run {work}, read {read} us"}


if __name__ == "__main__":
    sys.exit(report(small, sys.argv[1]))
