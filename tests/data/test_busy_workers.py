"""A map, or an Executor, beside a goroutine that computes on one of the workers and blocks nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from goproc import chan, flow, go, pmap
from goproc.context import timeout
from goproc.futures import Executor
from goproc.sync import Atomic


@contextmanager
def busy(proc: int, path: Path) -> Iterator[None]:
    """Keep a worker busy; at the end see that its goroutine was left alone."""
    begun, stop = chan(1), path / f"stop {proc}"
    stop.unlink(missing_ok=True)

    def compute() -> str:
        begun.send(True)
        while not os.path.exists(
            stop
        ):  # no operation of goproc: in these the process may begin another goroutine
            pass
        return "to its end"

    goroutine = go.on(proc)(compute)
    try:
        begun.recv(20)
        yield
    finally:
        stop.touch()
        assert goroutine.result(20) == "to its end"


@pytest.mark.parametrize(
    "options",
    [{}, {"ordered": False}, {"chunk": 1}, {"timeout": 60}, {"workers": 4}, {"threads": 2}],
    ids=str,
)
def test_a_map_ends_without_the_busy_worker(runtime2: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    for proc in 1, 2:  # each has the first item once
        with busy(proc, tmp_path), timeout(20):
            assert sorted(pmap(abs, range(100), **options)) == list(range(100))


def test_a_single_item_goes_to_an_idle_worker(runtime2: Any, tmp_path: Path) -> None:
    for proc in 1, 2:
        with busy(proc, tmp_path), timeout(20):
            assert [list(pmap(abs, [-1])) for _ in range(4)] == [[1]] * 4


@pytest.mark.parametrize("options", [{"workers": 4, "threads": 2}, {"workers": 2, "timeout": 60}], ids=str)
def test_a_flow_ends_without_the_busy_worker(runtime2: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    for proc in 1, 2:
        with busy(proc, tmp_path), timeout(20):
            assert sorted(flow(range(100)).map(abs, **options)) == list(range(100))


def test_close_does_not_wait_for_the_busy_worker(runtime2: Any, tmp_path: Path) -> None:
    with busy(1, tmp_path), timeout(20):
        results = pmap(abs, range(1000), chunk=1)
        assert next(results) == 0
        results.close()


def test_a_failure_does_not_wait_for_the_busy_worker(runtime2: Any, tmp_path: Path) -> None:
    with busy(1, tmp_path), timeout(20), pytest.raises(ZeroDivisionError):
        list(pmap(lambda x: 1 / x, range(5), chunk=1))


def test_the_set_up_is_left_out_where_no_item_runs(runtime2: Any, tmp_path: Path) -> None:
    inits, exits = Atomic(0), Atomic(0)
    with busy(1, tmp_path), timeout(20):
        list(pmap(abs, range(10), init=lambda: inits.add(1), exit=lambda state: exits.add(1)))
    go.on(1)(abs, 1).result(20)  # what the map had left there has ended before
    assert (inits.load(), exits.load()) == (1, 1)


def test_an_executor_ends_without_the_busy_worker(runtime2: Any, tmp_path: Path) -> None:
    inits = Atomic(0)
    with busy(1, tmp_path), timeout(20), Executor(2, initializer=inits.add, initargs=(1,)) as executor:
        assert list(executor.map(abs, range(10))) == list(range(10))
    go.on(1)(abs, 1).result(20)
    assert inits.load() == 1


def test_an_executor_that_had_no_worker_is_shut_down(runtime2: Any, tmp_path: Path) -> None:
    with busy(1, tmp_path), busy(2, tmp_path), timeout(20):
        executor = Executor(2)
        futures = [executor.submit(abs, i) for i in range(5)]
        executor.shutdown(cancel_futures=True)
        assert all(future.cancelled() for future in futures)


def test_kill_workers_leaves_the_busy_worker_alone(runtime2: Any, tmp_path: Path) -> None:
    with busy(1, tmp_path), timeout(20):
        executor = Executor(2)
        futures = [executor.submit(abs, i) for i in range(5)]
        executor.kill_workers()
        assert all(future.done() for future in futures)
