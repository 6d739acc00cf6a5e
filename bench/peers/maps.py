"""A map over many items on two processes by the peers, each with the best of five chunk sizes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from itertools import repeat
from time import perf_counter
from typing import Any

from bench.burn import burn

_context = multiprocessing.get_context("fork")
_CHUNKS = (1, 10, 100, 1_000, 5_000)


_STEP = 6.2e-8  # seconds of one iteration of burn(), about


def iterations(seconds: float) -> int:
    """The `n` for which ``burn(n)`` takes about so many seconds: the same for all, so that all have the same work."""
    return max(1, round(seconds / _STEP))


def _best(run: Callable[[int, int, int], Iterable[Any]], count: int, seconds: float) -> dict[str, Any]:
    """Find the best chunk size of those that give both processes work, then measure it.

    The measurement is a run of its own: the least of several runs is below the time of a run by as much as runs differ.
    A size that is hopeless gets a tenth of the items.
    """
    n = iterations(seconds)

    def measure(chunk: int) -> float:
        items = count if chunk * seconds > 50e-6 else count // 10
        start = perf_counter()
        assert sum(1 for _ in run(n, items, chunk)) == items
        return (perf_counter() - start) / items

    best = min((chunk for chunk in _CHUNKS if 2 * chunk <= count or chunk == 1), key=measure)
    return {"value": measure(best), "note": f"chunks of {best}"}


def pool(count: int, seconds: float) -> dict[str, Any]:
    """``Pool(2).imap``."""
    with _context.Pool(2) as workers:
        return _best(lambda n, items, c: workers.imap(burn, repeat(n, items), chunksize=c), count, seconds)


def executor(count: int, seconds: float) -> dict[str, Any]:
    """``ProcessPoolExecutor(2).map``."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, mp_context=_context) as workers:
        list(workers.map(burn, [1, 1]))
        return _best(lambda n, items, c: workers.map(burn, repeat(n, items), chunksize=c), count, seconds)


def mpire(count: int, seconds: float) -> dict[str, Any]:
    """``WorkerPool(2).imap``."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=2, keep_alive=True) as workers:
        list(workers.imap(burn, [1, 1]))
        return _best(
            lambda n, items, c: workers.imap(burn, repeat(n, items), iterable_len=items, chunk_size=c),
            count,
            seconds,
        )


def joblib(count: int, seconds: float) -> dict[str, Any]:
    """``Parallel(n_jobs=2)``."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2) as parallel:
        parallel(delayed(burn)(1) for _ in range(2))

        def run(n: int, items: int, chunk: int) -> Iterable[Any]:
            parallel.batch_size = chunk
            return parallel(delayed(burn)(n) for _ in range(items))  # type: ignore[no-any-return]

        return _best(run, count, seconds)
