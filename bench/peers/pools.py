"""Tasks, one at a time, in a pool of processes: multiprocessing, concurrent.futures, joblib and mpire."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench.burn import UNIT, burn, efficiency, iterations_for, mean_seconds

_context = multiprocessing.get_context("fork")


def task(i: int) -> None:
    """Does nothing, as the goroutine of the row does."""


def _time(run: Callable[[int], Any], count: int) -> dict[str, Any]:
    run(count // 10 + 1)
    start = perf_counter()
    run(count)
    return {"value": (perf_counter() - start) / count}


def pool_imap(count: int) -> dict[str, Any]:
    """``Pool(1).imap(task, ..., chunksize=1)``."""
    with _context.Pool(1) as pool:
        return _time(lambda n: sum(1 for _ in pool.imap(task, range(n), chunksize=1)), count)


def executor_submit(count: int) -> dict[str, Any]:
    """``ProcessPoolExecutor(1).submit`` for every task, then every result."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=_context) as executor:

        def run(n: int) -> None:
            for future in [executor.submit(task, i) for i in range(n)]:
                future.result()

        return _time(run, count)


def executor_completed(count: int) -> dict[str, Any]:
    """``ProcessPoolExecutor(1).submit`` for every task, then the futures from as_completed()."""
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(1, mp_context=_context) as executor:

        def run(n: int) -> None:
            for _ in as_completed([executor.submit(task, i) for i in range(n)]):
                pass

        return _time(run, count)


def joblib_parallel(count: int) -> dict[str, Any]:
    """``Parallel(n_jobs=2, batch_size=1)``; with ``n_jobs=1`` joblib would run the tasks in the caller."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2, batch_size=1) as parallel:
        return _time(lambda n: parallel(delayed(task)(i) for i in range(n)), count)


def mpire_imap(count: int) -> dict[str, Any]:
    """``WorkerPool(1).imap(task, ..., chunk_size=1)``."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=1, keep_alive=True) as pool:
        return _time(
            lambda n: sum(1 for _ in pool.imap(task, range(n), iterable_len=n, chunk_size=1)),
            count,
        )


def pool_cpu(seconds: list[float]) -> dict[str, Any]:
    """Parallel efficiency of ``Pool(2)`` with tasks which burn so many seconds of CPU each."""
    n = iterations_for(UNIT)
    with _context.Pool(2) as pool:
        pool.map(burn, [n] * 4, chunksize=1)
        before = mean_seconds(n)
        start = perf_counter()
        for _ in pool.imap_unordered(burn, [round(n * each / UNIT) for each in seconds], chunksize=1):
            pass
        wall = perf_counter() - start
        after = mean_seconds(n)
    return efficiency(seconds, before, after, wall)


def _burn_for(n: int, together: Any) -> None:
    together.wait()
    burn(n)


def bare_cpu(seconds: list[float]) -> dict[str, Any]:
    """Two processes that burn half of it each and share nothing: what two busy CPUs of this machine reach at all."""
    n = iterations_for(UNIT)
    half = round(n * sum(seconds) / UNIT / 2)
    cpus = sorted(os.sched_getaffinity(0))
    together = _context.Barrier(3)
    processes = [_context.Process(target=_burn_for, args=(half, together), daemon=True) for _ in range(2)]
    for i, process in enumerate(processes):
        process.start()
        os.sched_setaffinity(process.pid or 0, {cpus[i % len(cpus)]})
    before = mean_seconds(n)
    together.wait()
    start = perf_counter()
    for process in processes:
        process.join()
    wall = perf_counter() - start
    after = mean_seconds(n)
    return efficiency(seconds, before, after, wall)
