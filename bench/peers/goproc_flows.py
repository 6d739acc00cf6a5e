"""Pipelines of goproc: a flow, and the same made of goroutines and channels. A pmap with and without a progress bar."""

from __future__ import annotations

import io
from itertools import pairwise
from time import perf_counter
from typing import Any

from tqdm import tqdm

from goproc import Chan, chan, flow, go, pmap, runtime

STAGES = 4


def step(x: int) -> int:
    """The function of each stage."""
    return x + 1


def flow_of_stages(count: int, buffer: int | None) -> dict[str, Any]:
    """``flow(range(count)).map(step).map(step).map(step).map(step)``."""

    def run(n: int) -> None:
        stages = flow(range(n), buffer=buffer)
        for _ in range(STAGES):
            stages = stages.map(step)
        assert sum(1 for _ in stages) == n

    return _time(run, count)


def _stage(rx: Chan[int], tx: Chan[int]) -> None:
    with tx:
        for x in rx:
            tx.send(step(x))


def _feed(n: int, tx: Chan[int]) -> None:
    with tx:
        tx.send_many(range(n))


def stages_by_hand(count: int, buffer: int) -> dict[str, Any]:
    """A goroutine a stage, and a channel between each two."""

    def run(n: int) -> None:
        edges = [chan(buffer) for _ in range(STAGES + 1)]
        go.local(_feed, n, edges[0])
        for rx, tx in pairwise(edges):
            go(_stage, rx, tx)
        assert sum(1 for _ in edges[-1]) == n

    return _time(run, count)


def map_with_progress(count: int, progress: bool) -> dict[str, Any]:
    """A pmap over short items, with a bar that is drawn into memory."""

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, file=io.StringIO(), mininterval=0, miniters=0, **options)

    def run(n: int) -> None:
        assert sum(1 for _ in pmap(_short, range(n), progress=Bar if progress else None)) == n

    return _time(run, count)


def _short(x: int) -> int:
    """Take about a microsecond."""
    for _ in range(20):
        pass
    return x


def _time(run: Any, count: int) -> dict[str, Any]:
    with runtime(procs=2):
        run(count // 10 + 1)
        start = perf_counter()
        run(count)
        return {"value": (perf_counter() - start) / count}
