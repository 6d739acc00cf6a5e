"""Shared memory is full of messages: what tells of an end, and what releases, works as ever."""

from __future__ import annotations

import gc
import inspect
import os
import signal
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from full_memory import drain, fill
from peek import until, until_waiting
from programs import Run

import goproc
from goproc import Cancelled, Group, OutOfSharedMemory, _garbage, chan, context, go, sleep, sync
from goproc.shm import _core

ON_BOTH = pytest.mark.parametrize("proc", [0, 1])


class Full:
    """A runtime with 16 MiB, where a goroutine of one process and main have filled all of it."""

    def __init__(self) -> None:
        self.box = chan(1 << 16)

    def fill(self, proc: int) -> None:
        go.on(proc)(fill, self.box).result(20)
        fill(self.box)

    def drain(self) -> None:
        drain(self.box)


@pytest.fixture
def full(runtimes: Any) -> Iterator[Full]:
    runtimes.stop()
    with goproc.runtime(procs=2, memory="16M"):
        yield Full()


def outcome(g: Any) -> Any:
    """The result of a goroutine, or the type of its exception."""
    try:
        return g.result(20)
    except BaseException as exc:
        return type(exc)


def five() -> int:
    return 5


def text() -> str:
    return "r" * 100_000


def fails() -> None:
    raise ValueError("expected")


def fails_at_length() -> None:
    raise ValueError("z" * 2_000_000)


@ON_BOTH
def test_small_results_need_no_memory(full: Full, proc: int) -> None:
    full.fill(proc)
    for value in (5, None, 2.5, "short", (1, "a", True)):
        assert go.on(proc)(lambda value: value, value).result(20) == value
        assert go.local(lambda value=value: value).result(20) == value
    full.drain()


@ON_BOTH
def test_a_result_that_does_not_fit_is_the_handles_affair(full: Full, proc: int) -> None:
    go.on(proc)(five).result(20)
    full.fill(proc)
    for g in (go.on(proc)(text), go.local(text)):
        with pytest.raises(OutOfSharedMemory, match=r"0 of 16777216 are free .*--memory"):
            g.result(20)
    assert go.on(proc)(five).result(20) == 5
    full.drain()
    assert go.on(proc)(text).result(20) == text()


@ON_BOTH
def test_failures_are_told(full: Full, proc: int) -> None:
    full.fill(proc)
    for g in (go.on(proc)(fails), go.local(fails)):
        with pytest.raises(ValueError, match="expected"):
            g.result(20)
    for g in (go.on(proc)(fails_at_length), go.local(fails_at_length)):
        assert "zzz" in str(g.exception(20))
    full.drain()


def test_more_failures_than_the_reserve_holds(full: Full) -> None:
    """Then the handle still ends, and says what became of the exception."""

    def many(box: Any) -> tuple[int, set[str]]:
        from goproc.errors import OutOfSharedMemory

        handles: list[Any] = []
        refused = 0
        while refused < 100:
            try:
                handles.append(go.local(fails))
            except OutOfSharedMemory:
                refused += 1
            fill(box, (57,))
        return len(handles), {type(g.exception(20)).__name__ for g in handles}

    full.fill(1)
    n, kinds = go.on(1)(many, full.box).result(50)
    assert n > 100 and kinds <= {"ValueError", "OutOfSharedMemory"}
    full.drain()
    assert go.on(1)(five).result(20) == 5


@ON_BOTH
def test_close_and_cancel(full: Full, proc: int) -> None:
    closed, never = chan(), chan()
    waiting = [go.on(proc)(lambda c: c.recv_ok(), closed) for _ in range(10)]
    cancelled = [go.on(proc)(lambda c: c.recv(), never) for _ in range(10)]
    until_waiting(closed, receivers=10)
    until_waiting(never, receivers=10)
    full.fill(proc)
    closed.close()
    assert [g.result(20) for g in waiting] == [(None, False)] * 10
    for g in cancelled:
        g.cancel()
    assert [outcome(g) for g in cancelled] == [Cancelled] * 10
    full.drain()


def test_releases(full: Full) -> None:
    mutex, group, semaphore = sync.Mutex(), sync.WaitGroup(), sync.Semaphore(1)
    mutex.lock()
    group.add(1)
    semaphore.acquire()
    waiting = [go.on(1)(lambda m: m.lock(), mutex), go.on(1)(lambda w: w.wait(), group)]
    waiting.append(go.on(1)(lambda s: s.acquire(), semaphore))
    full.fill(1)
    mutex.unlock()
    group.done()
    semaphore.release()
    assert [g.result(20) for g in waiting] == [None] * 3
    full.drain()


def test_contexts_end_with_their_cause(full: Full) -> None:
    ctx, cancel = context.with_cancel_cause(context.background())
    full.fill(1)
    cancel(ValueError("the cause"))
    assert isinstance(ctx.err(), context.Canceled)
    assert str(context.cause(ctx)) == "the cause"
    full.drain()


def test_a_group_hears_of_its_members(full: Full) -> None:
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        full.fill(1)
        group.go(fails)
    assert [str(exc) for exc in caught.value.exceptions] == ["expected"]
    full.drain()


def test_once_keeps_its_failure(full: Full) -> None:
    once = sync.once_value(fails)
    full.fill(1)
    for _ in range(2):
        with pytest.raises(ValueError, match="expected"):
            once()
    full.drain()


def test_a_lack_of_memory_is_no_pickle_error(full: Full) -> None:
    class Sent:
        """Its definition has to be stored."""

        def __init__(self) -> None:
            self.values = list(range(5000))

    full.fill(0)
    for value in (Sent(), [1, {2}] * 10_000, lambda: 5, b"x" * 100_000, {"a": set(range(10_000))}):
        with pytest.raises(OutOfSharedMemory):
            chan(10).send(value)
    full.drain()


def send_large(full: Full, size: int) -> None:
    """Send what has room once garbage is found. On a busy machine its process may not be let run while it is waited for."""
    while True:
        began = monotonic()
        try:
            full.box.send(b"x" * size)
            return
        except OutOfSharedMemory:
            took = monotonic() - began
            assert took > _garbage._PATIENCE
            sleep(took)


def test_the_error_names_the_memory_left_after_a_collection(full: Full) -> None:
    """Memory that other processes have freed is collected before the error, and the error names the rest."""
    parts = [go.on(proc)(fill, chan(1 << 14), (1000,)) for proc in (0, 1, 2)]
    assert sum(g.result(20) for g in parts) > 5000  # their channels are garbage by now
    del parts
    send_large(full, 8 << 20)
    full.drain()
    full.fill(1)
    with pytest.raises(OutOfSharedMemory, match="0 of 16777216 are free"):
        full.box.send(b"x" * 1_000_000)
    full.drain()


class Ring:
    """Holds itself and a channel: garbage that only Python's collector finds."""

    def __init__(self, box: Any) -> None:
        self.box, self.ring = box, self


def ring(c: Any, ready: Any, drop: Any) -> None:
    gc.disable()
    kept = Ring(c)
    ready.send(fill(c, (1000, 57)))  # in messages too small for a search
    drop.recv()
    del kept, c
    ready.send(0)


def test_garbage_made_after_an_error_is_found_at_once(full: Full) -> None:
    """A search that found nothing delays no later one that would find garbage, here and in other processes."""
    for proc in (1, 0):
        ready, drop = chan(), chan()
        g = go.on(proc)(ring, chan(1 << 16), ready, drop)
        assert ready.recv() > 0
        began = monotonic()
        with pytest.raises(OutOfSharedMemory):
            full.box.send(b"x" * (4 << 20))
        took = monotonic() - began
        drop.send(None)
        ready.recv()
        sleep(took)  # the rest after a search is no longer than the search
        send_large(full, 4 << 20)
        full.drain()
        g.result(20)
        go.on(proc)(gc.enable).result(20)


FILL = """
    from goproc import chan, go, sleep
    from full_memory import fill
    def fails():
        raise ValueError("expected")
    box = chan(1 << 16)
    go.on(1)(fill, box).result()
    fill(box)
"""


@ON_BOTH
def test_a_panic_is_reported(run: Run, proc: int) -> None:
    done = run(f"{FILL}\n    go.on({proc})(fails)\n    chan().recv()", options=OPTIONS, env=PATH)
    assert done.status == 2 and done.err.startswith("panic: expected\n\ngoroutine "), done


@ON_BOTH
def test_an_unread_failure_is_reported(run: Run, proc: int) -> None:
    script = f"{FILL}\n    g = go.on({proc})(fails)\n    g.join()\n    del g\n    print('goes on')"
    done = run(script, options=OPTIONS, env=PATH)
    assert (done.status, done.out) == (0, "goes on\n") and "ValueError: expected" in done.err, done


def test_a_deadlock_is_reported(run: Run) -> None:
    done = run(f"{FILL}\n    go.on(1)(chan().recv)\n    chan().recv()", options=OPTIONS, env=PATH)
    assert done.status == 2 and "all goroutines are asleep" in done.err, done
    assert "chan receive" in done.err and "proc 1" in done.err, done


def test_a_death_is_reported(run: Run) -> None:
    kill = f"    go.on(1)(lambda: os.kill(os.getpid(), {int(signal.SIGKILL)})).result()"
    script = f"{FILL}\n    import os\n{kill}"
    done = run(script, options=OPTIONS, env={**PATH, "GOPROC_ON_DEATH": "exit"})
    assert done.status == 2 and "was killed by signal 9" in done.err.splitlines()[0], done


OPTIONS = ("--memory", "16M")
PATH = {"PYTHONPATH": os.path.dirname(inspect.getfile(fill))}


def test_the_reserve_comes_back(full: Full) -> None:
    """Failures that were read leave the reserve to the next ones."""
    for _ in range(5):
        full.fill(1)
        handles = [go.on(1)(fails) for _ in range(300)]
        assert [outcome(g) for g in handles] == [ValueError] * 300
        del handles
        full.drain()
    until(lambda: _core.census()["committed"] <= 8 << 20)


def keep_some(begin: Any) -> int:
    """Keep 12 MB in channels until all have them; return the number of channels."""
    begin.recv()
    box = [chan(100) for _ in range(20)]
    for ch in box:
        for _ in range(100):
            ch.send(b"x" * 6000)
    return len(box)


def test_processes_that_are_out_of_memory_at_once_all_get_garbage(runtimes: Any) -> None:
    """One of them looks for garbage, the others wait for that."""
    runtimes.stop()
    with goproc.runtime(procs=3, memory="48M"):
        for _ in range(3):
            begin, garbage = chan(3), chan(3000)
            handles = [go.on(proc)(keep_some, begin) for proc in (1, 2, 3)]
            go.on(1)(len, garbage).result(20)  # a message had it: it is the collector's
            for _ in range(3000):
                garbage.send(b"y" * 6000)
            del garbage
            begin.send_many(range(3))
            assert [outcome(g) for g in handles] == [20, 20, 20]
