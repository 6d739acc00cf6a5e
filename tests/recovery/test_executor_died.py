"""An Executor whose worker dies is broken as a whole, and the next one works."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from peek import until, until_blocked
from programs import Run

import goproc
from goproc import chan
from goproc.futures import BrokenExecutor, Executor


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def do_nothing() -> None:
    pass


def announced(begun: Any) -> None:
    begun.send(os.getpid())
    time.sleep(60)


def test_a_death_breaks_the_executor_and_the_next_works(
    workers2: None, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = Executor(2)
    queued = [executor.submit(die), *(executor.submit(abs, i) for i in range(20))]
    assert isinstance(queued[0].exception(20), BrokenExecutor)
    assert isinstance(queued[0].exception(), BrokenProcessPool)
    assert "signal 9" in str(queued[0].exception())
    for future in queued[1:]:
        assert future.exception(20) is None or isinstance(future.exception(), BrokenExecutor)
    until(lambda: executor._broken)
    with pytest.raises(BrokenExecutor):
        executor.submit(abs, 1)
    executor.shutdown()
    with Executor(2) as executor:
        assert list(executor.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    capfd.readouterr()


def test_a_call_that_runs_elsewhere_is_lost_with_the_others(
    workers2: None, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = chan(2)
    with Executor(2) as executor:
        other = executor.submit(announced, begun)
        begun.recv(20)
        executor.submit(die)
        with pytest.raises(BrokenExecutor):
            other.result(20)
    capfd.readouterr()


def test_waiters_of_concurrent_futures_hear_of_a_death(
    workers2: None, capfd: pytest.CaptureFixture[str]
) -> None:
    called = threading.Event()
    begun = chan(2)
    with Executor(2) as executor:
        futures = [executor.submit(announced, begun), executor.submit(announced, begun)]
        futures[1].add_done_callback(lambda future: called.set())
        begun.recv(20)
        os.kill(begun.recv(20), signal.SIGKILL)
        assert concurrent.futures.wait(futures, 20).not_done == set()
        assert called.wait(20)
        assert all(isinstance(future.exception(), BrokenExecutor) for future in futures)
    capfd.readouterr()


@pytest.mark.parametrize("how", ["kill_workers", "terminate_workers"])
def test_workers_are_killed_at_will(workers2: None, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    begun = chan(2)
    executor = Executor(2)
    futures = [executor.submit(announced, begun) for _ in range(4)]
    pids = {begun.recv(20), begun.recv(20)}
    assert set(executor._processes) == pids
    getattr(executor, how)()
    for future in futures:
        with pytest.raises(BrokenExecutor, match=how):
            future.result(20)
    with pytest.raises(BrokenExecutor):
        executor.submit(abs, 1)
    executor.shutdown()
    with Executor(2) as executor:
        assert not pids & {executor.submit(os.getpid).result(20) for _ in range(4)}
    capfd.readouterr()


@pytest.mark.parametrize("how", ["a death", "kill_workers", "terminate_workers"])
def test_a_call_that_waits_is_lost_with_the_others(
    workers2: None, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    begun, never = chan(1), chan()
    executor = Executor(2)
    waiting = executor.submit(lambda: (begun.send(1), never.recv()))
    begun.recv(20)
    if how == "a death":
        executor.submit(die)
    else:
        getattr(executor, how)()
    with pytest.raises(BrokenExecutor):
        waiting.result(20)
    executor.shutdown()
    capfd.readouterr()


def test_a_worker_that_makes_no_call_is_left_alone(workers2: None) -> None:
    before = goproc.go.on(1)(os.getpid).result(), goproc.go.on(2)(os.getpid).result()
    executor = Executor(2)
    executor.submit(abs, 1).result(20)
    executor.kill_workers()
    assert before == (goproc.go.on(1)(os.getpid).result(), goproc.go.on(2)(os.getpid).result())


def test_an_executor_without_calls_can_be_killed(workers2: None) -> None:
    executor = Executor(2)
    executor.kill_workers()
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_a_killed_executor_ends_a_submit_that_waits_for_room(
    workers2: None, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = chan(2)
    executor = Executor(1, max_pending=1)
    executor.submit(announced, begun)
    begun.recv(20)
    waiting = goproc.go.local(executor.submit, abs, 1)
    until_blocked(waiting)
    executor.kill_workers()
    assert isinstance(waiting.exception(20), BrokenExecutor)
    capfd.readouterr()


def test_a_program_ends_after_a_death(run: Run) -> None:
    done = run("""
        import os, signal, sys
        from goproc.futures import BrokenExecutor, Executor

        executor = Executor(2)
        future = executor.submit(os.kill, 0, 0)
        future = executor.submit(lambda: os.kill(os.getpid(), signal.SIGSEGV))
        try:
            future.result()
        except BrokenExecutor as error:
            print("broken")
        sys.stderr.flush()
        print(Executor(2).submit(abs, -2).result())
    """)
    assert (done.status, done.out) == (0, "broken\n2\n"), done


def test_the_error_says_how_the_process_died_before_the_watcher_knows(
    workers2: None, capfd: pytest.CaptureFixture[str]
) -> None:
    executor, held, gate = Executor(1), threading.Event(), threading.Event()

    def hold_the_watcher(_: Any) -> None:
        held.set()
        gate.wait(30)

    try:
        executor._submit(do_nothing, hold_the_watcher)
        assert held.wait(20)
        with pytest.raises(BrokenExecutor, match="signal 9"):
            executor.submit(die).result(20)
    finally:
        gate.set()
    executor.shutdown()
    capfd.readouterr()


def test_an_executor_whose_process_another_one_has_killed_is_not_usable(
    workers2: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """joblib takes an idle Executor for the next Parallel, and its watcher may not know of the death yet."""
    mine, other = Executor(2), Executor(2)
    held, gate, begun = threading.Event(), threading.Event(), chan(2)

    def hold_the_watcher(_: Any) -> None:
        held.set()
        gate.wait(30)

    try:
        assert list(other.map(abs, range(8))) == list(range(8))
        other._submit(do_nothing, hold_the_watcher)
        assert held.wait(20) and other._usable()
        mine.submit_many(announced, [begun, begun])
        begun.recv(20)
        begun.recv(20)
        mine.kill_workers()
        assert not other._broken and not other._usable()
    finally:
        gate.set()
    mine.shutdown()
    other.shutdown()
    capfd.readouterr()
