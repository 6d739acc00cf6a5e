"""Executors of concurrent.futures: goproc's and Python's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from time import perf_counter
from typing import Any


def task(i: int) -> int:
    """The function of all rows."""
    return i


def _submit(executor: Any, count: int) -> None:
    for future in [executor.submit(task, i) for i in range(count)]:
        future.result()


def _round_trip(executor: Any, count: int) -> None:
    for i in range(count):
        executor.submit(task, i).result()


def _map(executor: Any, count: int) -> None:
    for _ in executor.map(task, range(count)):
        pass


def _time(executor: Any, run: Callable[[Any, int], None], count: int) -> dict[str, Any]:
    with executor:
        run(executor, count // 10 + 1)
        start = perf_counter()
        run(executor, count)
        return {"value": (perf_counter() - start) / count}


def _goproc(workers: int) -> Any:
    from goproc.futures import Executor

    return Executor(workers)


def _pool(workers: int) -> Any:
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))


def goproc_submit(count: int) -> Any:
    """All calls are submitted, then all results read."""
    return _time(_goproc(1), _submit, count)


def pool_submit(count: int) -> Any:
    """As goproc_submit()."""
    return _time(_pool(1), _submit, count)


def goproc_round_trip(count: int) -> Any:
    """Each result is read before the next call is submitted."""
    return _time(_goproc(1), _round_trip, count)


def pool_round_trip(count: int) -> Any:
    """As goproc_round_trip()."""
    return _time(_pool(1), _round_trip, count)


def goproc_map(count: int) -> Any:
    """map() with its defaults."""
    return _time(_goproc(2), _map, count)


def pool_map(count: int) -> Any:
    """As goproc_map()."""
    return _time(_pool(2), _map, count)
