"""goproc.futures: what an Executor and its futures do. The tests of CPython run by scripts/cpython_futures_suite.py."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import sqlite3
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest
from peek import until

import goproc
from goproc import chan, go
from goproc.errors import PickleError
from goproc.futures import Executor, Future, UnreadableCall


def square(x: int) -> int:
    return x * x


def fail(x: object) -> None:
    raise KeyError(x)


class Unreadable:
    """Can be pickled, and not be read."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def made(kind: type) -> Any:
    return kind()


# -- submit and result ------------------------------------------------------------------------------------------------


def test_the_result_comes_from_another_process(runtime2: Any) -> None:
    with Executor() as executor:
        future = executor.submit(os.getpid)
        assert future.result() != os.getpid()
        assert future.done() and not future.running() and not future.cancelled()


def test_functions_of_the_script_and_closures_travel(runtime2: Any) -> None:
    factor = 7
    with Executor() as executor:
        assert executor.submit(lambda x, *, y: factor * x + y, 2, y=1).result() == 15


def test_an_exception_has_the_remote_traceback_as_its_cause(runtime2: Any) -> None:
    with Executor() as executor:
        future = executor.submit(fail, "here")
        with pytest.raises(KeyError) as info:
            future.result()
        assert "raise KeyError(x)" in str(info.value.__cause__)
        assert not getattr(info.value, "__notes__", None)
        assert future.exception() is info.value


def test_all_workers_make_calls_at_once(runtime2: Any) -> None:
    barrier = goproc.sync.Barrier(2)
    with Executor(2) as executor:
        futures = [executor.submit(lambda: (barrier.wait(), os.getpid())[1]) for _ in range(2)]
        assert len({future.result(20) for future in futures}) == 2


def test_one_call_at_a_time_in_each_process(runtime2: Any) -> None:
    running, gate = goproc.Atomic(0), chan()

    def call() -> int:
        n = running.add(1)
        gate.recv_ok()  # others of the process could run now
        running.add(-1)
        return n

    with Executor(2) as executor:
        futures = [executor.submit(call) for _ in range(8)]
        until(lambda: running.load() == 2)
        gate.close()
        assert max(future.result(20) for future in futures) == 2


def test_max_workers_limits_how_many_run(runtime2: Any) -> None:
    with Executor(1) as executor:
        assert len({future.result() for future in [executor.submit(os.getpid) for _ in range(6)]}) == 1


def test_calls_begin_in_the_order_of_submission(runtime2: Any) -> None:
    order = chan(100)
    with Executor(1) as executor:
        for i in range(100):
            executor.submit(order.send, i)
    assert order.recv_many(100) == list(range(100))


def test_more_calls_than_shared_memory_takes(runtime2: Any) -> None:
    with Executor(2) as executor:
        futures = [executor.submit(square, i) for i in range(40_000)]
        assert sum(future.result() for future in futures) == sum(i * i for i in range(40_000))


def test_call_that_cannot_be_pickled_fails_the_future_with_the_path(runtime2: Any) -> None:
    with Executor() as executor, contextlib.closing(sqlite3.connect(":memory:")) as database:
        future = executor.submit(square, [1, database])  # type: ignore[arg-type]
        with pytest.raises(PickleError, match=r"argument 1 of square -> \[1\] -> sqlite3.Connection"):
            future.result()
        assert executor.submit(square, 2).result() == 4


def test_a_result_that_cannot_be_pickled_fails_the_future(runtime2: Any) -> None:
    with Executor() as executor, pytest.raises(PickleError, match=r"the result of .*lock"):
        executor.submit(threading.Lock).result()


@pytest.mark.parametrize("way", ["argument", "result"])
def test_call_that_cannot_be_read_fails_its_future_alone(runtime2: Any, way: str) -> None:
    with Executor() as executor:
        future = (
            executor.submit(square, Unreadable()) if way == "argument" else executor.submit(made, Unreadable)
        )  # type: ignore[arg-type]
        with pytest.raises(UnreadableCall, match="could not be read"):
            future.result()
        assert isinstance(future.exception(), concurrent.futures.process.BrokenProcessPool)
        assert executor.submit(square, 3).result() == 9


def test_object_that_is_not_callable_is_refused_at_once(runtime2: Any) -> None:
    with Executor() as executor, pytest.raises(TypeError, match="'int' object is not callable"):
        executor.submit(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("max_workers", 0, ValueError),
        ("max_workers", -1, ValueError),
        ("max_workers", 256, ValueError),
        ("max_workers", 1.5, TypeError),
        ("max_pending", 0, ValueError),
        ("max_pending", "3", TypeError),
        ("max_tasks_per_child", 0, ValueError),
        ("max_tasks_per_child", 2.0, TypeError),
        ("initializer", 3, TypeError),
    ],
)
def test_bad_arguments(argument: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=argument):
        Executor(**{argument: value})


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_result_parks_the_goroutine_only(runtime2: Any) -> None:
    gate, seen = chan(), []

    def other() -> None:
        seen.append("other")
        gate.close()

    with Executor() as executor:
        future = executor.submit(gate.recv_ok)
        go.local(other)
        assert future.result(20) == (None, False)
        assert seen == ["other"]


def test_result_gives_up_after_a_time(runtime2: Any) -> None:
    gate = chan()
    with Executor() as executor:
        future = executor.submit(gate.recv_ok)
        with pytest.raises(TimeoutError):
            future.result(0.01)
        gate.close()
        assert future.result(20) == (None, False)


def test_select_takes_futures(runtime2: Any) -> None:
    gate = chan()
    with Executor(2) as executor:
        slow, quick = executor.submit(gate.recv_ok), executor.submit(square, 3)
        assert goproc.select(slow, quick, timeout=20).index == 1
        gate.close()
        assert goproc.select(slow, timeout=20).index == 0


def test_as_completed_takes_futures(runtime2: Any) -> None:
    with Executor(2) as executor:
        futures = executor.submit_many(square, range(20))
        assert sorted(f.result() for f in goproc.as_completed(futures, 20)) == [i * i for i in range(20)]


def test_the_functions_of_concurrent_futures_take_futures(runtime2: Any) -> None:
    with Executor(2) as executor:
        futures = executor.submit_many(square, range(20))
        done, rest = concurrent.futures.wait(futures, 20)
        assert (len(done), len(rest)) == (20, 0)
        futures = executor.submit_many(square, range(20))
        found = {future.result() for future in concurrent.futures.as_completed(futures, 20)}
        assert found == {i * i for i in range(20)}


def test_a_callback_is_made_in_a_thread_although_nobody_waits(runtime2: Any) -> None:
    called = threading.Event()
    threads = []

    def callback(future: Future[int]) -> None:
        threads.append((threading.current_thread().name, future.result()))
        called.set()

    gate = chan()
    with Executor(1) as executor:
        future = executor.submit(gate.recv_ok)
        future.add_done_callback(callback)
        gate.close()
        assert called.wait(20)
        assert threads[0][0].startswith("goproc-Executor")
        future.add_done_callback(callback)  # it has ended: at once
        assert threads[1][0] == threading.current_thread().name


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_is_logged(
    runtime2: Any, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def callback(future: Future[int]) -> None:
        raise error("of the callback")

    gate, called = chan(), threading.Event()
    with Executor(1) as executor:
        first = executor.submit(gate.recv_ok)
        first.add_done_callback(callback)
        first.add_done_callback(lambda _: called.set())
        gate.close()
        assert called.wait(20)
        assert executor.submit(square, 2).result(20) == 4
    assert "of the callback" in caplog.text
    caplog.clear()  # its traceback holds the future


def test_a_future_in_another_goroutine_is_a_handle(runtime2: Any) -> None:
    with Executor(1) as executor:
        good, bad = executor.submit(square, 5), executor.submit(fail, 1)
        assert go(lambda: good.result()).result() == 25
        with pytest.raises(KeyError):
            go(lambda: bad.result()).result()


def test_a_thread_can_submit_and_wait(runtime2: Any) -> None:
    found: list[int] = []
    with Executor(2) as executor:
        threads = [
            threading.Thread(target=lambda i=i: found.append(executor.submit(square, i).result(20)))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [i * i for i in range(8)]


def test_an_executor_on_a_worker(runtime2: Any) -> None:
    def outer() -> list[int]:
        with Executor(2) as executor:
            return list(executor.map(square, range(5)))

    with Executor(2) as executor:
        assert executor.submit(outer).result(20) == [0, 1, 4, 9, 16]


# -- cancelling -------------------------------------------------------------------------------------------------------


def test_cancel_before_and_after_the_beginning(runtime2: Any) -> None:
    gate, begun = chan(), chan(1)
    with Executor(1) as executor:
        first = executor.submit(lambda: (begun.send(1), gate.recv_ok()))
        second = executor.submit(square, 2)
        assert begun.recv(20) == 1
        assert first.running() and not first.cancel()
        assert second.cancel() and second.cancelled() and second.done()
        assert second.cancel()  # again: it is
        with pytest.raises(CancelledError):
            second.result()
        gate.close()
        first.result(20)


def test_waiters_hear_of_a_cancelled_future(runtime2: Any) -> None:
    gate, told = chan(), threading.Event()
    with Executor(1) as executor:
        executor.submit(gate.recv_ok)
        future = executor.submit(square, 2)
        future.add_done_callback(lambda f: told.set())
        waiting = go.local(future.exception)
        goproc.yield_now()
        assert future.cancel()
        assert isinstance(waiting.exception(20), CancelledError)
        assert told.wait(20)
        assert concurrent.futures.wait([future], 20).done == {future}
        gate.close()


def test_cancel_makes_the_callbacks_before_it_returns(runtime2: Any) -> None:
    """In their order, and each once: as concurrent.futures does."""
    gate, calls = chan(), []
    with Executor(1) as executor, gate:
        executor.submit(gate.recv_ok)
        executor.submit(gate.recv_ok)
        future = executor.submit(square, 2)
        future.add_done_callback(lambda f: calls.append((f.done(), f.cancelled(), f.running())))
        future.add_done_callback(lambda f: calls.append(f.cancel()))
        assert future.cancel() and future.done()
        expected = [(True, True, False), True]
        assert calls == expected
        future.add_done_callback(lambda f: calls.append("late"))
        expected.append("late")
        assert calls == expected
        assert concurrent.futures.wait([future], 20).done == {future}
        assert future._state == "CANCELLED_AND_NOTIFIED"
        assert list(concurrent.futures.as_completed([future], 20)) == [future]
    assert calls == expected


def test_a_callback_that_is_added_to_a_cancelled_future_is_made_at_once(runtime2: Any) -> None:
    gate, calls = chan(), []
    with Executor(1) as executor, gate:
        executor.submit(gate.recv_ok)
        executor.submit(gate.recv_ok)
        future = executor.submit(square, 2)
        assert future.cancel() and future.done()
        future.add_done_callback(calls.append)
        assert calls == [future]


def test_callbacks_that_are_added_while_a_future_is_cancelled_are_made_once(runtime2: Any) -> None:
    gate = chan()
    with Executor(1) as executor, gate:
        executor.submit(gate.recv_ok)
        executor.submit(gate.recv_ok)
        for _ in range(100):
            future, calls, ready = executor.submit(square, 2), [], threading.Barrier(2)

            def add(future: Any = future, calls: Any = calls, ready: Any = ready) -> None:
                ready.wait()
                for n in range(10):
                    future.add_done_callback(lambda f, n=n: calls.append(n))

            thread = threading.Thread(target=add)
            thread.start()
            ready.wait()
            assert future.cancel()
            thread.join()
            assert sorted(calls) == list(range(10))


def test_shutdown_can_cancel_unstarted_calls(runtime2: Any) -> None:
    gate, begun = chan(), chan(1)
    executor = Executor(1)
    futures = [executor.submit(lambda: (begun.send(1), gate.recv_ok()))]
    futures += [executor.submit(square, i) for i in range(50)]  # type: ignore[misc]
    begun.recv(20)
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False] + 50 * [True]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    gate.close()
    executor.shutdown()


# -- map --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map(runtime2: Any, chunksize: int, buffersize: int | None) -> None:
    with Executor(2) as executor:
        found = executor.map(pow, range(10), range(10), chunksize=chunksize, buffersize=buffersize)
        assert list(found) == [i**i for i in range(10)]


def test_map_with_buffersize_draws_as_results_are_taken(runtime2: Any) -> None:
    drawn: list[int] = []

    def numbers() -> Any:
        for i in range(100):
            drawn.append(i)
            yield i

    with Executor(2) as executor:
        results = executor.map(square, numbers(), buffersize=3)
        assert len(drawn) == 3
        assert next(results) == 0
        assert len(drawn) == 4
        assert sum(1 for _ in results) == 99


def test_map_goes_on_after_an_exception(runtime2: Any) -> None:
    with Executor(2) as executor:
        results = executor.map(divmod, [4, 1, 9], [2, 0, 3])
        assert next(results) == (2, 0)
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert next(results) == (3, 0)
        with pytest.raises(StopIteration):
            next(results)


@pytest.mark.parametrize("way", ["closed", "dropped"])
def test_a_map_that_is_left_cancels_the_rest(runtime2: Any, way: str) -> None:
    gate, calls = chan(), goproc.Atomic(0)

    def call(i: int) -> None:
        calls.add(1)
        if i:
            gate.recv_ok()

    with Executor(1) as executor:
        results = executor.map(call, range(50))
        next(results)
        until(lambda: calls.load() == 2)
        if way == "closed":
            results.close()
        del results
        gate.close()
    assert calls.load() == 2


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_map_that_nobody_reads_makes_all_calls(runtime2: Any, chunksize: int) -> None:
    gate, calls = chan(), goproc.Atomic(0)

    def call(i: int) -> None:
        gate.recv_ok()
        calls.add(1)

    with Executor(1) as executor:
        executor.map(call, range(10), chunksize=chunksize)
        gate.close()
    assert calls.load() == 10


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [("chunksize", 0, ValueError), ("buffersize", 0, ValueError), ("buffersize", 1.5, TypeError)],
)
def test_bad_arguments_of_map(runtime2: Any, argument: str, value: Any, error: type[Exception]) -> None:
    with Executor(1) as executor, pytest.raises(error, match=argument):
        executor.map(square, [1], **{argument: value})
