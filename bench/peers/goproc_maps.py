"""goproc: pmap of short and of long items."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from io import StringIO
from itertools import repeat
from time import perf_counter, sleep
from typing import Any

import goproc
from bench.burn import burn, mean_seconds
from bench.peers.maps import iterations
from goproc import pmap


def _exhaust(results: Iterable[Any]) -> int:
    n = 0
    for _ in results:
        n += 1
    return n


def _time(count: int, n: int, **options: Any) -> float:
    """Seconds of a pmap of `count` items."""
    start = perf_counter()
    assert _exhaust(pmap(burn, repeat(n, count), **options)) == count
    return perf_counter() - start


def items(count: int, seconds: float) -> dict[str, Any]:
    """Seconds for each of `count` items of so many seconds, with default arguments."""
    n = iterations(seconds)
    with goproc.runtime(procs=2):
        _time(100, n)
        return {"value": _time(count, n) / count}


def share_of_ideal(count: int, seconds: float) -> dict[str, Any]:
    """Return the ideal time of two processes that do nothing else, divided by the time of a pmap."""
    n = iterations(seconds)
    with goproc.runtime(procs=2):
        _time(100, n)
        before = mean_seconds(n, 50)
        took = _time(count, n)
        return {"value": count * (before + mean_seconds(n, 50)) / 2 / 2 / took}


def first_result(seconds: float) -> dict[str, Any]:
    """Seconds until the first result of a pmap of slow items is there."""
    with goproc.runtime(procs=2):
        _time(10, 1)
        start = perf_counter()
        with pmap(sleep, repeat(seconds)) as results:
            next(results)
            return {"value": perf_counter() - start}


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(count: int) -> dict[str, Any]:
    """MiB by which the script grows from a tenth of the items on."""
    grown = 0
    with goproc.runtime(procs=2):
        for number, _ in enumerate(pmap(abs, iter(range(count)))):
            if number == count // 10:
                grown = _resident()
        return {"value": (_resident() - grown) / (1 << 20)}


def _uneven(i: int) -> int:
    sleep(0.001 * (1 + i * 37 % 100))
    return i


def uneven(count: int, ordered: bool) -> dict[str, Any]:
    """Seconds for each item of 1 to 100 ms."""
    with goproc.runtime(procs=2):
        _time(10, 1)
        start = perf_counter()
        _exhaust(pmap(_uneven, range(count), ordered=ordered))
        return {"value": (perf_counter() - start) / count}


def with_progress(count: int, seconds: float, progress: bool) -> dict[str, Any]:
    """Seconds for each item, with a bar of tqdm that draws into memory."""
    from tqdm import tqdm

    n = iterations(seconds)

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, **options: Any) -> None:
            super().__init__(file=StringIO(), **options)

    with goproc.runtime(procs=2):
        _time(100, n)
        return {"value": _time(count, n, total=count, progress=Bar if progress else None) / count}


def with_checkpoint(count: int, seconds: float, checkpoint: bool) -> dict[str, Any]:
    """Seconds for each item, with its result recorded in a file."""
    n = iterations(seconds)
    with goproc.runtime(procs=2), tempfile.TemporaryDirectory() as folder:
        _time(100, n)
        path = os.path.join(folder, "job.db") if checkpoint else None
        return {"value": _time(count, n, checkpoint=path) / count}
