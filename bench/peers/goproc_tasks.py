"""goproc: many small goroutines, and a few long ones."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import goproc
from bench import tally
from bench.burn import UNIT, burn, efficiency, iterations_for, mean_seconds
from goproc import go
from goproc.sync import WaitGroup


def task(wg: WaitGroup) -> None:
    """The goroutine of an importable module: it travels by reference."""
    tally.add()
    wg.done()


def time_tasks(
    make: Callable[[WaitGroup], tuple[Callable[[Any], None], Any]], count: int, proc: int | None
) -> Any:
    """Spawns `count` goroutines with one argument and waits for all.

    Args:
        make: gives the function and its argument for a WaitGroup.
        count: how many goroutines, after a tenth of them as a warm-up.
        proc: the process that has to run them, or None for any.
    """
    with goproc.runtime(procs=2):
        spawn = go if proc is None else go.on(proc)
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            go.on(1)(tally.reset).join()
            wg = WaitGroup()
            function, argument = make(wg)
            wg.add(number)
            start = perf_counter()
            for _ in range(number):
                spawn(function, argument)
            wg.wait()
            elapsed = perf_counter() - start
        share = go.on(1)(tally.read).result() / count
    return {"value": elapsed / count, "note": f"{share:.0%} ran on worker 1"}


def module_function(count: int, proc: int | None = None) -> Any:
    """Tasks of a function that can be imported."""
    return time_tasks(lambda wg: (task, wg), count, proc)


def closure(count: int, proc: int | None = None) -> Any:
    """Tasks of a function which closes over the WaitGroup: it travels by value."""

    def make(wg: WaitGroup) -> tuple[Callable[[Any], None], Any]:
        def closed(i: int) -> None:
            tally.add()
            wg.done()

        return closed, 7

    return time_tasks(make, count, proc)


def number(i: int) -> int:
    """The goroutine whose end is awaited, and nothing else."""
    return i


def completed(count: int) -> Any:
    """Spawns goroutines and takes their handles from as_completed(), in the order of their ends."""
    with goproc.runtime(procs=2):
        elapsed = 0.0
        for n in (count // 10 + 1, count):
            start = perf_counter()
            for _ in goproc.as_completed([go.on(1)(number, i) for i in range(n)]):
                pass
            elapsed = perf_counter() - start
    return {"value": elapsed / count}


def cpu(seconds: list[float]) -> Any:
    """Parallel efficiency of goroutines that burn so many seconds of CPU each, on two processes."""
    n = iterations_for(UNIT)
    with goproc.runtime(procs=2):
        go.on(1)(burn, n).join()
        before = mean_seconds(n)
        start = perf_counter()
        handles = [go(burn, round(n * each / UNIT)) for each in seconds]
        for handle in handles:
            handle.result()
        wall = perf_counter() - start
        after = mean_seconds(n)
    return efficiency(seconds, before, after, wall)
