"""as_completed(): every handle once, in the order of the ends, from wherever it is called."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from peek import until, until_waiting, waiters
from programs import Run, Start
from reports import entries

import goproc
from goproc import Goroutine, as_completed, chan, go
from goproc._sched import scheduler
from goproc.shm import _core


def gated(n: int, proc: int = 1) -> tuple[list[Any], list[Goroutine[int]]]:
    """`n` goroutines, each of which ends with its number once its channel is closed."""
    gates = [chan() for _ in range(n)]

    def work(gate: Any, number: int) -> int:
        gate.recv_ok()
        return number

    return gates, [go.on(proc)(work, gate, i) for i, gate in enumerate(gates)]


def end(gate: Any, handle: Goroutine[Any]) -> None:
    gate.close()
    handle.join(20)


# -- the order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proc", [0, 1])
def test_handles_come_in_the_order_of_their_ends(runtime2: Any, proc: int) -> None:
    gates, handles = gated(8, proc)
    order = [5, 0, 7, 1, 2, 6, 3, 4]
    completions = as_completed(handles, 20)
    for i in order:
        gates[i].close()
        assert next(completions) is handles[i]
        assert handles[i].result() == i
    with pytest.raises(StopIteration):
        next(completions)


def test_ends_while_the_caller_is_busy_keep_their_order(runtime2: Any) -> None:
    gates, handles = gated(6)
    completions = as_completed(handles, 20)
    end(gates[3], handles[3])
    assert next(completions) is handles[3]
    for i in (5, 1, 4, 0):
        end(gates[i], handles[i])
    assert [next(completions).result() for _ in range(4)] == [5, 1, 4, 0]
    gates[2].close()
    assert [g.result() for g in completions] == [2]


def test_ended_handles_come_at_once(runtime2: Any) -> None:
    gates, handles = gated(1)
    ended = [go.on(1)(int) for _ in range(5)]
    for g in ended:
        g.join(20)
    completions = as_completed([*handles, *ended], 0)
    assert [next(completions) for _ in range(5)] == ended
    with pytest.raises(TimeoutError, match=r"^1 \(of 6\) goroutines unfinished$"):
        next(completions)
    gates[0].close()
    handles[0].join(20)
    assert list(completions) == handles


def test_nothing_to_wait_for() -> None:
    assert list(as_completed([])) == [] and list(as_completed(iter(()))) == []
    assert not _core.attached()


def test_a_handle_given_twice_comes_once(runtime2: Any) -> None:
    gates, (a, b) = gated(2)
    completions = as_completed([a, b, a, b, a], 20)
    end(gates[1], b)
    assert next(completions) is b
    end(gates[0], a)
    assert list(completions) == [a]


def test_an_iterable_may_give_a_handle_again(runtime2: Any) -> None:
    g = go(int)
    g.join(20)
    assert list(as_completed(iter([g, g, g]), ahead=1)) == [g, g, g]
    assert list(as_completed(itertools.islice(itertools.repeat(g), 3), ahead=3)) == [g]


@pytest.mark.parametrize("kind", [tuple, set, frozenset, dict.fromkeys, lambda hs: dict.fromkeys(hs).keys()])
def test_any_collection(runtime2: Any, kind: Any) -> None:
    handles = [go(abs, -i) for i in range(20)]
    assert sorted(g.result() for g in as_completed(kind(handles), 20)) == list(range(20))


def test_failed_and_cancelled_ones_are_yielded(runtime2: Any) -> None:
    gates, handles = gated(1)
    handles[0].cancel()
    failed = go(divmod, 1, 0)
    seen = {g: g.exception() for g in as_completed([*handles, failed], 20)}
    assert isinstance(seen[handles[0]], goproc.Cancelled) and isinstance(seen[failed], ZeroDivisionError)


def many() -> None:
    handles = [go(abs, -i) for i in range(3000)]
    assert sorted(g.result() for g in as_completed(handles, 60)) == list(range(3000))


def test_many_in_one_process(runtime1: Any) -> None:
    many()


def test_many_in_two(runtime2: Any) -> None:
    many()


def test_many_in_four(runtime4: Any) -> None:
    many()


def test_local_and_pinned_ones(runtime4: Any) -> None:
    handles = [go.local(abs, -i) if i % 3 == 0 else go.on(i % 4)(abs, -i) for i in range(300)]
    assert sorted(g.result() for g in as_completed(handles, 60)) == list(range(300))


# -- iterables that are drawn from -----------------------------------------------------------------------------------


def test_an_endless_iterable_is_drawn_as_needed(runtime2: Any) -> None:
    drawn = 0

    def source() -> Iterator[Goroutine[int]]:
        nonlocal drawn
        for drawn in itertools.count(1):
            yield go(abs, -drawn)

    completions = as_completed(source(), 60, ahead=10)
    assert drawn == 0
    for yielded in range(1, 201):
        next(completions)
        assert drawn - yielded < 10
    completions.close()


def test_ahead_is_the_limit_while_nothing_ends(runtime2: Any) -> None:
    gates, handles = gated(9)
    drawn: list[Any] = []

    def source() -> Iterator[Any]:
        for g in handles:
            drawn.append(g)
            yield g

    completions = as_completed(source(), ahead=4)
    gates[2].close()
    assert next(completions) is handles[2]
    assert len(drawn) <= 4
    for gate in gates:
        gate.close() if not gate.closed else None
    assert {g.result() for g in completions} == {0, 1, 3, 4, 5, 6, 7, 8}


def test_results_do_not_wait_for_a_slow_iterable(runtime2: Any) -> None:
    """While a handle is ready only a few more are drawn, however many `ahead` allows."""
    ended = go(int)
    ended.join(20)
    gates, handles = gated(50)
    source = iter([ended, *handles])
    completions = as_completed(source)
    assert next(completions) is ended
    assert len(list(source)) >= 48
    for gate in gates:
        gate.close()
    assert len(list(completions)) == 2


def test_the_iterable_advances_in_the_callers_goroutine(runtime2: Any) -> None:
    ids = set()

    def source() -> Iterator[Any]:
        for _ in range(5):
            ids.add(goproc.current().id)
            yield go(int)

    def consume() -> int:
        assert len(list(as_completed(source(), 20))) == 5
        return goproc.current().id

    assert {go.local(consume).result(20)} == ids


def test_an_iterable_that_blocks(runtime2: Any) -> None:
    handles: Any = chan()

    def feed() -> None:
        with handles:
            for i in range(20):
                handles.send(go(abs, -i))

    go.local(feed)
    assert sorted(g.result() for g in as_completed(handles, 60)) == list(range(20))


def test_an_error_of_the_iterable_comes_after_the_ended_goroutines(runtime2: Any) -> None:
    error = ValueError("mine")
    gates, (slow,) = gated(1)
    ended = [go(int), go(int)]
    for g in ended:
        g.join(20)

    def source() -> Iterator[Any]:
        yield slow
        yield from ended
        raise error

    completions = as_completed(source(), 20)
    assert [next(completions), next(completions)] == ended
    with pytest.raises(ValueError) as caught:
        next(completions)
    assert caught.value is error
    gates[0].close()
    assert list(completions) == [slow]


def test_an_iterable_that_goes_on_after_an_error(runtime2: Any) -> None:
    class Source:
        turns = iter([go(int), None, go(int)])

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> Any:
            g = next(self.turns)
            if g is None:
                raise KeyError("once")
            return g

    completions = as_completed(Source(), 20, ahead=1)
    next(completions)
    with pytest.raises(KeyError, match="once"):
        next(completions)
    assert len(list(completions)) == 1


# -- bad input -------------------------------------------------------------------------------------------------------


def test_an_item_that_is_no_handle_in_a_collection(runtime2: Any) -> None:
    handles = [go(int), go(int)]
    with pytest.raises(TypeError, match=r"takes goroutine handles: item 1 is int$"):
        as_completed([handles[0], 5, handles[1]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"takes goroutine handles: item 0 is str$"):
        as_completed("abc")  # type: ignore[arg-type]
    for g in handles:
        g.join(20)


def test_an_item_that_is_no_handle_in_an_iterable(runtime2: Any) -> None:
    gates, handles = gated(3)
    completions = as_completed(iter([handles[0], handles[1], None, handles[2]]), 20)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"item 2 is NoneType$"):
        next(completions)
    for gate in gates:
        gate.close()
    assert set(completions) == set(handles)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"handles": 5}, TypeError, "takes an iterable of goroutine handles, not int"),
        ({"ahead": 0}, ValueError, "ahead=0"),
        ({"ahead": 1.5}, TypeError, "whole number, not float"),
        ({"ahead": True}, TypeError, "whole number, not bool"),
        ({"timeout": "1"}, TypeError, "timeout takes seconds as a number, not str"),
        ({"timeout": float("nan")}, ValueError, "not NaN"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        as_completed(**{"handles": [], **arguments})


def test_one_handle_is_no_iterable(runtime2: Any) -> None:
    g = go(int)
    with pytest.raises(TypeError, match="not Goroutine"):
        as_completed(g)  # type: ignore[arg-type]
    g.join(20)


def test_it_cannot_be_sent(runtime2: Any) -> None:
    with pytest.raises(goproc.PickleError, match="as_completed"):
        go(next, as_completed([]))


# -- time ------------------------------------------------------------------------------------------------------------


def test_timeout_counts_from_the_call(runtime2: Any) -> None:
    gates, handles = gated(3)
    completions = as_completed(handles, 0.05)
    end(gates[0], handles[0])
    goproc.sleep(0.06)  # past the time
    assert next(completions) is handles[0]  # it is ready: time does not matter
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"^2 \(of 3\) goroutines unfinished$"):
            next(completions)
    for gate in gates[1:]:
        gate.close()
    for g in handles:
        g.join(20)
    assert set(completions) == set(handles[1:])


def test_a_negative_timeout_is_none_at_all(runtime2: Any) -> None:
    gates, handles = gated(1)
    with pytest.raises(TimeoutError):
        next(as_completed(handles, -1))
    end(gates[0], handles[0])


def test_within_a_timeout_block(runtime2: Any) -> None:
    gates, handles = gated(1)
    completions = as_completed(handles)
    with pytest.raises(goproc.DeadlineExceeded), goproc.context.timeout(0.01):
        next(completions)
    gates[0].close()
    assert list(completions) == handles


@pytest.mark.parametrize("proc", [0, 1])
def test_cancel_of_the_caller(runtime2: Any, proc: int) -> None:
    gates, handles = gated(2)

    def consume(handles: Any) -> None:
        list(as_completed(handles))

    g = go.on(proc)(consume, handles)
    until(lambda: all(waiters(h) == (1, 0) for h in handles))
    g.cancel()
    assert isinstance(g.exception(20), goproc.Cancelled)
    for gate, handle in zip(gates, handles, strict=True):
        until(lambda h=handle: waiters(h) == (0, 0))
        end(gate, handle)


def test_cancel_of_a_caller_that_always_finds_one_ready(runtime2: Any) -> None:
    def consume() -> None:
        ended = go(int)
        ended.join()
        for _ in as_completed(itertools.repeat(ended)):
            pass

    g = go.local(consume)
    until(lambda: g.state == "running")
    g.cancel()
    assert isinstance(g.exception(20), goproc.Cancelled)


# -- leaving it ------------------------------------------------------------------------------------------------------


def test_leaving_the_loop_lets_go_of_the_handles(runtime2: Any) -> None:
    gates, handles = gated(5)
    before = goproc.num_goroutine()
    gates[0].close()
    for g in as_completed(handles, 20):
        assert g is handles[0]
        assert waiters(handles[1]) == (1, 0)
        break
    gc.collect()
    assert all(waiters(h) == (0, 0) for h in handles) and goproc.num_goroutine() <= before
    for gate, handle in zip(gates[1:], handles[1:], strict=True):
        end(gate, handle)


def test_close(runtime2: Any) -> None:
    gates, handles = gated(3)
    completions = as_completed(handles, 0)
    with pytest.raises(TimeoutError):
        next(completions)
    end(gates[0], handles[0])
    completions.close()
    completions.close()
    assert [waiters(h) for h in handles] == [(0, 0)] * 3 and list(completions) == []
    for gate, handle in zip(gates[1:], handles[1:], strict=True):
        end(gate, handle)


def test_close_while_they_end(runtime4: Any) -> None:
    for n in range(30):
        handles = [go.on(i % 4)(int) for i in range(64)]
        completions = as_completed(handles, 20)
        for _ in range(n):
            next(completions)
        completions.close()
        for g in handles:
            g.join(20)


def test_a_second_goroutine_is_refused(runtime2: Any) -> None:
    gates, handles = gated(1)
    completions = as_completed(handles)
    first = go.local(lambda: next(completions).result())
    until_waiting(handles[0], receivers=1)
    until(lambda: scheduler.started[first._ref].reason == "as_completed")
    for method in (completions.__next__, completions.close):
        with pytest.raises(RuntimeError, match="another goroutine is in this as_completed"):
            method()
    gates[0].close()
    assert first.result(20) == 0
    assert list(completions) == []


def test_goroutines_may_take_turns(runtime2: Any) -> None:
    gates, handles = gated(4)
    completions = as_completed(handles)
    for gate, handle in zip(gates, handles, strict=True):
        gate.close()
        assert go.local(lambda: next(completions).id).result(20) == handle.id


# -- from elsewhere --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proc", [0, 1, 3])
def test_in_a_goroutine_of_any_process(runtime4: Any, proc: int) -> None:
    def consume(handles: Any) -> list[int]:
        return sorted(g.result() for g in as_completed(handles))

    handles = [go(abs, -i) for i in range(200)]
    assert go.on(proc)(consume, handles).result(30) == list(range(200))


def test_several_wait_for_the_same(runtime4: Any) -> None:
    def consume(handles: Any) -> list[int]:
        return [g.result() for g in as_completed(handles)]

    gates, handles = gated(10, 2)
    consumers = [go.on(p)(consume, handles) for p in (0, 0, 1, 3)]
    for h in handles:
        until_waiting(h, receivers=len(consumers))
    for i in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7):
        end(gates[i], handles[i])
    assert [c.result(20) for c in consumers] == [[3, 1, 4, 0, 5, 9, 2, 6, 8, 7]] * len(consumers)


def test_in_a_plain_thread(runtime2: Any) -> None:
    gates, handles = gated(4)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(g.result() for g in as_completed(handles, 60)))
    thread.start()
    for h in handles:
        until_waiting(h, receivers=1)
    for i in (2, 0, 3, 1):
        end(gates[i], handles[i])
        until(lambda i=i: i in found)
    thread.join(20)
    assert found == [2, 0, 3, 1]


def test_in_a_plain_thread_while_main_does_not_run_goroutines(run: Run) -> None:
    script = """
        import threading
        from goproc import as_completed, go
        go.on(1)(int).result()
        def use():
            handles = [go.on(1)(abs, -i) for i in range(500)]
            print(sorted(g.result() for g in as_completed(handles)) == list(range(500)))
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    """
    for preempt in ("0", "1"):
        done = run(script, env={"GOPROC_PREEMPT": preempt})
        assert (done.status, done.out, done.err) == (0, "True\n", ""), done


def test_many_threads_and_goroutines(runtime4: Any) -> None:
    results: list[Any] = []

    def consume() -> None:
        handles = [go(abs, -i) for i in range(200)]
        results.append(sorted(g.result() for g in as_completed(handles, 60)) == list(range(200)))

    threads = [threading.Thread(target=consume) for _ in range(4)]
    locals_ = [go.local(consume) for _ in range(4)]
    for t in threads:
        t.start()
    for g in locals_:
        g.join(60)
    until(lambda: not any(t.is_alive() for t in threads), 60)
    assert results == [True] * 8


# -- reports, ends ---------------------------------------------------------------------------------------------------


def test_in_a_dump(runtime2: Any) -> None:
    gates, handles = gated(3)
    g = go.local(lambda: list(as_completed(handles)))
    until(lambda: scheduler.started[g._ref].reason == "as_completed")
    entry = entries(goproc.dump())[g.id]
    assert entry.state == "as_completed" and len(entry.functions) == 1
    for gate in gates:
        gate.close()
    g.join(20)


@pytest.mark.parametrize("where", ["main", "worker", "thread"])
def test_a_deadlock_is_reported(run: Run, where: str) -> None:
    script = """
        import sys, threading
        from goproc import as_completed, chan, go, sleep
        def stuck(ch): ch.recv()
        def consume(handles):
            for g in as_completed(handles): pass
        handles = [go(stuck, chan()) for _ in range(100)]
        if sys.argv[1] == "main":
            consume(handles)
        elif sys.argv[1] == "worker":
            go.on(1)(consume, handles).join()
        else:
            threading.Thread(target=consume, args=[handles]).start()
            chan().recv()
    """
    done = run(script, where)
    assert done.status == 2 and done.out == ""
    assert done.err.startswith("fatal error: all goroutines are asleep - deadlock!\n"), done.err
    found = entries(done.err)
    if where != "thread":
        waiting = [e for e in found.values() if e.state == "as_completed"]
        assert len(waiting) == 1 and waiting[0].functions[-1] == "consume", done.err


def test_the_runtime_stops(run: Run) -> None:
    script = """
        import sys, threading
        import goproc
        from goproc import as_completed, chan, go, sleep
        caught = []
        def consume(completions):
            try:
                next(completions)
            except BaseException as exc:
                caught.append(type(exc).__name__)
                raise
        def thread(completions):
            try:
                consume(completions)
            except goproc.RuntimeStopped:
                pass
        def thread_waits():
            frame = sys._current_frames().get(t.ident)
            return frame is not None and frame.f_code.co_name == "_wait"
        with goproc.runtime(procs=2):
            handles = [go(lambda: chan().recv()) for _ in range(10)]
            inner = [as_completed(handles), as_completed(handles)]
            outer = as_completed(handles, 0)
            go.local(consume, inner[0])
            t = threading.Thread(target=thread, args=[inner[1]])
            t.start()
            try:
                next(outer)
            except TimeoutError:
                pass
            while [thread_waits(), goproc.dump().count("[as_" + "completed]:")] != [True, 1]: sleep(0.01)
        t.join()
        try:
            next(outer)
        except goproc.RuntimeStopped as exc:
            print(exc)
        outer.close()
        print(sorted(caught))
        with goproc.runtime(procs=2):
            print(sorted(g.result() for g in as_completed([go(abs, -i) for i in range(50)])) == list(range(50)))
        del outer, inner
    """
    done = run(script, how="python", procs=None)
    assert done.out == (
        "the goproc runtime of these goroutines stopped\n['GreenletExit', 'RuntimeStopped']\nTrue\n"
    ), done
    assert (done.status, done.err) == (0, ""), done


def test_in_a_forked_child_it_is_refused(runtime2: Any) -> None:
    gates, handles = gated(2)
    completions = as_completed(handles, 0)
    with pytest.raises(TimeoutError):
        next(completions)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            next(completions)
        except RuntimeError:
            completions.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    for gate, handle in zip(gates, handles, strict=True):
        end(gate, handle)
    assert set(completions) == set(handles)


def test_ctrl_c_while_it_waits(start: Start) -> None:
    script = """
        from goproc import as_completed, chan, go
        handles = [go(lambda: chan().recv()) for _ in range(100)]
        go.on(1)(int).join()
        keep_awake = go.on(1)(lambda: __import__("time").sleep(60))
        try:
            print("ready", flush=True)
            next(as_completed(handles))
        except KeyboardInterrupt:
            print("interrupted")
    """
    with start(script) as program:
        program.wait_for("ready")
        program.kill(number=signal.SIGINT)
        done = program.wait()
    assert (done.status, done.out) == (0, "ready\ninterrupted\n"), done
