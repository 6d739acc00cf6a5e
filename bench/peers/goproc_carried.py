"""goproc: goroutines that use something large of the script, which does not change. Run as a script, as users do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import goproc
from bench.measure import report
from goproc import chan, go

ENTRIES = 200_000
TABLE = {f"word{i}": i for i in range(ENTRIES)}
array: Any = None
forest: Any = None


def from_global(i: int) -> int:
    return TABLE[f"word{i}"]


def from_argument(table: dict[str, int], i: int) -> int:
    return table[f"word{i}"]


def from_default(i: int, table: dict[str, int] = TABLE) -> int:
    return table[f"word{i}"]


def make_closure() -> Callable[[int], int]:
    table = TABLE
    return lambda i: table[f"word{i}"]


class Model:
    """Holds the table, and has a method that looks something up."""

    def __init__(self) -> None:
        self.table = TABLE

    def predict(self, i: int) -> int:
        return self.table[f"word{i}"]


def from_array(i: int) -> int:
    return int(array[i])


def from_forest(i: int) -> tuple[int, int]:
    import os

    forest.predict([[float(i)] * forest.n_features_in_])
    return i, os.getpid()


def receive(ch: Any, n: int) -> int:
    for i in range(n):
        assert ch.recv()[f"word{i}"] == i
    return n


def _goroutines(start: Callable[[int], Any], count: int) -> float:
    begin = perf_counter()
    results = [g.result() for g in [start(i) for i in range(count)]]
    assert results == list(range(count))
    return perf_counter() - begin


def _sends(count: int) -> float:
    ch: Any = chan(16)
    begin = perf_counter()
    g = go.on(1)(receive, ch, count)
    for _ in range(count):
        ch.send(TABLE)
    assert g.result() == count
    return perf_counter() - begin


def table(count: int, way: str) -> Any:
    """`count` goroutines or messages that use the table.

    Args:
        count: how many.
        way: how they get it.
    """
    model = Model()
    closure = make_closure()
    starts: dict[str, Callable[[int], Any]] = {
        "global": lambda i: go(from_global, i),
        "argument": lambda i: go(from_argument, TABLE, i),
        "closure": lambda i: go(closure, i),
        "default": lambda i: go(from_default, i),
        "method": lambda i: go(model.predict, i),
    }
    with goproc.runtime(procs=2):
        run = (lambda n: _goroutines(starts[way], n)) if way in starts else _sends
        run(10)
        return {"value": run(count) / count}


def arrays(count: int, megabytes: int) -> Any:
    """`count` goroutines that read an element of an array in a global."""
    global array
    import numpy

    from goproc.shm import _core

    array = numpy.arange(megabytes * 125_000)
    with goproc.runtime(procs=2):
        _goroutines(lambda i: go(from_array, i), 10)
        seconds = _goroutines(lambda i: go(from_array, i), count)
        shared = _core.census()["committed"] / 1e6
    return {"value": seconds / count, "note": f"{shared:.0f} MB of shared memory"}


def model(count: int) -> Any:
    """`count` goroutines that ask a random forest in a global; the value is how often it was read, per process."""
    global forest
    import numpy
    from sklearn.ensemble import RandomForestRegressor

    rng = numpy.random.default_rng(1)
    data = rng.random((9_000, 8))
    forest = RandomForestRegressor(n_estimators=100, n_jobs=1).fit(data, data.sum(axis=1))
    with goproc.runtime(procs=2):
        go(from_forest, 0).result()
        begin = perf_counter()
        seen = [g.result() for g in [go(from_forest, i) for i in range(count)]]
        seconds = perf_counter() - begin
    processes = {process for _, process in seen}
    return {"value": seconds / count, "note": f"in {len(processes)} processes"}


def carried(what: str, **arguments: Any) -> Any:
    """Measure one of the above."""
    return {"table": table, "arrays": arrays, "model": model}[what](**arguments)


if __name__ == "__main__":
    sys.exit(report(carried, sys.argv[1]))
