"""The peers of `bench.rows.carried`: an Executor that inherited the table, and a comparison in C."""

from __future__ import annotations

import ctypes
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Any

TABLE: dict[str, int] = {}


def look(i: int) -> int:
    """Read one entry of the table, which the process inherited."""
    return TABLE[f"word{i}"]


def executor(count: int, entries: int) -> dict[str, Any]:
    """``ProcessPoolExecutor(2).map(look, ..., chunksize=1)``, by fork."""
    TABLE.update({f"word{i}": i for i in range(entries)})
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(look, range(10), chunksize=1))
        begin = perf_counter()
        assert list(pool.map(look, range(count), chunksize=1)) == list(range(count))
        return {"value": (perf_counter() - begin) / count}


def memcmp(megabytes: int, repeats: int) -> dict[str, Any]:
    """``memcmp`` of an array and its copy."""
    import numpy

    array = numpy.arange(megabytes * 125_000)
    other = array.copy()
    compare = ctypes.CDLL(None).memcmp
    places = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(other.ctypes.data)
    begin = perf_counter()
    for _ in range(repeats):
        assert compare(*places, ctypes.c_size_t(array.nbytes)) == 0
    return {"value": (perf_counter() - begin) / repeats}
