"""Executors of concurrent.futures, goproc's and Python's; and scikit-learn under joblib, where this runs as a script."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench.measure import report


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


# -- scikit-learn -----------------------------------------------------------------------------------------------------


def _grid(x: Any, y: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.01, 0.1, 1, 10]}, cv=5, n_jobs=2).fit(x, y)


def _forests(x: Any, y: Any) -> None:
    from joblib import Parallel, delayed
    from sklearn.ensemble import RandomForestClassifier

    Parallel(n_jobs=2)(delayed(RandomForestClassifier(8, random_state=i).fit)(x, y) for i in range(8))


def main(backend: str, work: str, first: bool = False) -> dict[str, Any]:
    """Time the second call, or how much longer the first takes."""
    if backend == "goproc":
        import goproc.joblib  # noqa: F401 (it makes the backend known)
    from joblib import parallel_config
    from sklearn.datasets import make_classification

    x, y = make_classification(4_000, 40, random_state=0)
    run = {"grid": _grid, "forests": _forests}[work]
    seconds = []
    with parallel_config(backend):
        for _ in range(3):
            start = perf_counter()
            run(x, y)
            seconds.append(perf_counter() - start)
    warm = min(seconds[1:])
    return {"value": max(0.0, seconds[0] - warm) if first else warm}


if __name__ == "__main__":
    sys.exit(report(main, sys.argv[1]))
