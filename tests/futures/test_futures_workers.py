"""goproc.futures: the processes of an Executor, its output and its end. What its futures do is in test_futures.py."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import weakref
from typing import Any

import pytest
from peek import until
from programs import Run, ok

import goproc
from goproc import chan, go
from goproc.futures import Executor


def square(x: int) -> int:
    return x * x


# -- the workers ------------------------------------------------------------------------------------------------------


def test_the_initializer_runs_once_in_each_process(runtime2: Any) -> None:
    started = goproc.Atomic(0)

    def begin(name: str) -> None:
        started.add(1)
        os.environ["BEGUN"] = name

    with Executor(2, initializer=begin, initargs=("so",)) as executor:
        found = [future.result() for future in [executor.submit(os.getenv, "BEGUN") for _ in range(20)]]
    assert found == 20 * ["so"]
    assert 1 <= started.load() <= 2


def test_an_initializer_that_raises_breaks_the_executor(runtime2: Any) -> None:
    def begin() -> None:
        raise OSError("no database")

    executor = Executor(1, initializer=begin)
    future = executor.submit(square, 1)
    with pytest.raises(concurrent.futures.BrokenExecutor, match=r"initializer .* OSError: no database"):
        future.result(20)
    until(lambda: executor._broken)
    with pytest.raises(concurrent.futures.BrokenExecutor):
        executor.submit(square, 1)
    executor.shutdown()


def test_max_pending_blocks_submit(runtime2: Any) -> None:
    gate, submitted = chan(), []

    def submit_all() -> None:
        for _ in range(6):
            submitted.append(executor.submit(gate.recv_ok))
            assert len([f for f in submitted if not f.done()]) <= 3 + 1

    with Executor(1, max_pending=3) as executor:
        g = go.local(submit_all)
        until(lambda: len(submitted) == 3)
        goproc.sleep(0.02)  # nothing is to happen
        assert len(submitted) == 3
        assert submitted[2].cancel()  # makes room
        until(lambda: len(submitted) == 4)
        gate.close()
        g.result(20)


def test_output_of_a_call_comes_before_its_result(run: Run) -> None:
    done = run("""
        from goproc.futures import Executor

        def work(i):
            print("call", i, end="")
            return i

        with Executor(1) as executor:
            for i in range(3):
                assert executor.submit(work, i).result() == i
                print(" result", i, flush=True)
    """)
    assert ok(done) == "call 0 result 0\ncall 1 result 1\ncall 2 result 2\n"


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_dropped_executor_finishes_its_calls(runtime2: Any) -> None:
    executor = Executor(2)
    futures = executor.submit_many(square, range(20))
    pool, thread = weakref.ref(executor._pool), executor._pool.thread
    del executor
    assert [future.result(20) for future in futures] == [i * i for i in range(20)]
    thread.join(20)
    assert not thread.is_alive()
    del futures
    gc.collect()
    assert pool() is None


def test_a_map_that_is_left_half_way_may_outlive_the_runtime(run: Run) -> None:
    script = """
        from goproc import runtime
        from goproc.futures import Executor
        for _ in range(2):
            with runtime(procs=1), Executor(1) as executor:
                results = executor.map(abs, [-1, -2, -3])
                print(next(results))
        """
    assert ok(run(script)) == "1\n1\n"


def test_pending_calls_are_finished_at_the_end_of_the_program(run: Run) -> None:
    done = run("""
        import time
        from goproc.futures import Executor

        def work(i):
            time.sleep(0.1)  # the length of the call
            print("done", i)

        executor = Executor(2)
        for i in range(4):
            executor.submit(work, i)
    """)
    assert sorted(ok(done).splitlines()) == [f"done {i}" for i in range(4)]


def test_more_workers_than_cpus_are_started(run: Run) -> None:
    done = run("""
        import os, time
        from goproc import sync
        from goproc.futures import Executor

        with Executor(5) as executor:  # the first use of goproc
            executor.submit(abs, 1)
            barrier = sync.Barrier(5)
            futures = [executor.submit(lambda: (barrier.wait(), os.getpid())[1]) for _ in range(5)]
            print(len({future.result() for future in futures}))
    """)
    assert ok(done) == "5\n"


def test_ctrl_c_ends_the_program(run: Run) -> None:
    done = run("""
        import os, signal, threading, time
        from goproc.futures import Executor

        with Executor(2) as executor:
            futures = [executor.submit(time.sleep, 60) for _ in range(10)]
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            futures[0].result()
    """)
    assert done.status in (130, -2), done


def test_the_runtime_ends_before_the_executor(run: Run) -> None:
    done = run("""
        import time, goproc
        from goproc.futures import Executor

        with goproc.runtime(procs=1):
            executor = Executor()
            print(executor.submit(abs, -3).result())
            late = executor.submit(time.sleep, 60)
            late.add_done_callback(lambda f: print(type(f.exception()).__name__, flush=True))
        executor.shutdown()
        try:
            executor.submit(abs, 1)
        except RuntimeError as error:
            print(type(error).__name__)
    """)
    assert ok(done) == "3\nRuntimeStopped\nBrokenExecutor\n"


def test_arguments_leave_room_for_results(run: Run) -> None:
    done = run("""
        import goproc
        from goproc.futures import Executor

        def reverse(data):
            return data[::-1]

        with goproc.runtime(procs=2, memory="64M"), Executor() as executor:
            sizes = [len(data) for data in executor.map(reverse, (bytes([i % 256]) * 100_000 for i in range(1500)))]
        print(len(sizes), set(sizes))
    """)
    assert ok(done) == "1500 {100000}\n"
