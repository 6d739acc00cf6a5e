"""Every public function that is given a wrong argument: the traceback ends at the user's line, and shows none of goproc's."""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from programs import Run

import goproc
from goproc import context, futures, patterns, rate, singleflight, sync, testing
from goproc._frames import PACKAGE

pytestmark = pytest.mark.usefixtures("runtime2")

g = goproc
LOCK = threading.Lock()
ROOT = context.background()
NAN = float("nan")


def boom(*_: Any) -> Any:
    raise LookupError("boom")


def closed() -> Any:
    ch = g.chan(1)
    ch.close()
    return ch


def within(seconds: float, f: Callable[[], Any]) -> None:
    with context.timeout(seconds):
        f()


def executor(use: Callable[[Any], Any]) -> Any:
    with futures.Executor(1) as made:
        return use(made)


def after_shutdown() -> None:
    made = futures.Executor(1)
    made.shutdown()
    made.submit(abs, 1)


def second_runtime() -> None:
    with g.runtime(procs=7):
        pass


def late(wait: Callable[[Any], Any]) -> None:
    handle = g.go.local(g.sleep, 60)
    try:
        wait(handle)
    finally:
        handle.cancel()
        handle.exception()


def empty_limiter() -> Any:
    limiter = rate.Limiter(0.001)
    limiter.allow()
    return limiter


def awaited(make: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await make()

    return asyncio.run(main())


Case = Callable[[], Any]

# By "function, mistake", "Class, mistake" or "Class.method, mistake".
CASES: dict[str, Case] = {
    "Atomic": lambda: g.Atomic("x"),
    "Atomic.add": lambda: g.Atomic(0).add("x"),
    "Barrier": lambda: g.Barrier(0),
    "Barrier.wait": lambda: g.Barrier(2).wait("x"),
    "Barrier.wait, late": lambda: g.Barrier(2).wait(0.01),
    "Cond": lambda: g.Cond(3),
    "Cond.wait": lambda: g.Cond(g.Mutex()).wait(),
    "Cond.wait, time": lambda: g.Cond(g.Mutex()).wait("x"),
    "Flow.map": lambda: g.flow([]).map(3),
    "Flow.map, workers": lambda: g.flow([]).map(abs, "x"),
    "Flow.filter": lambda: g.flow([]).filter(3),
    "Flow.flat_map": lambda: g.flow([]).flat_map(abs, key=3),
    "Flow.each": lambda: g.flow([]).each(abs, timeout=-1),
    "Flow.stage": lambda: g.flow([]).stage(3),
    "Flow.batch": lambda: g.flow([]).batch(0),
    "Flow.batch, within": lambda: g.flow([]).batch(1, within=-1),
    "Flow.take": lambda: g.flow([]).take("x"),
    "Flow.skip": lambda: g.flow([]).skip(-1),
    "Flow.throttle": lambda: g.flow([]).throttle(0),
    "Flow.tee": lambda: g.flow([]).tee(0),
    "Flow.merge": lambda: g.flow([]).merge(3),
    "Flow.run": lambda: g.flow([]).run(progress=3),
    "Group": lambda: g.Group(limit="x"),
    "Group, context": lambda: g.Group(ctx=3),
    "Group.go": lambda: g.Group().go(3),
    "Group.wait": lambda: g.Group().wait("x"),
    "Goroutine.result": lambda: g.go(abs, 1).result("x"),
    "Goroutine.result, late": lambda: late(lambda handle: handle.result(0.01)),
    "Goroutine.join": lambda: g.go.local(abs, 1).join("x"),
    "Limiter": lambda: rate.Limiter("x"),
    "Limiter, burst": lambda: rate.Limiter(1, -1),
    "Limiter.allow": lambda: rate.Limiter(1).allow("x"),
    "Limiter.reserve": lambda: rate.Limiter(1).reserve(-1),
    "Limiter.wait": lambda: rate.Limiter(1).wait("x"),
    "Limiter.wait, burst": lambda: rate.Limiter(1).wait(9),
    "Limiter.wait, time": lambda: rate.Limiter(1).wait(timeout="x"),
    "Limiter.wait, late": lambda: empty_limiter().wait(timeout=0.01),
    "Limiter.set_limit": lambda: rate.Limiter(1).set_limit("x"),
    "Limiter.set_burst": lambda: rate.Limiter(1).set_burst("x"),
    "Mutex.unlock": lambda: g.Mutex().unlock(),
    "Mutex.lock": lambda: g.Mutex().lock("x"),
    "Once.do": lambda: g.Once().do(3),
    "Once.do, function": lambda: g.Once().do(boom),
    "Once.do, function in C": lambda: g.Once().do(int, "x"),
    "RWMutex.unlock": lambda: g.RWMutex().unlock(),
    "RWMutex.runlock": lambda: g.RWMutex().runlock(),
    "Selector": lambda: g.Selector(3),
    "Selector.select": lambda: g.Selector(g.chan()).select("x"),
    "Semaphore": lambda: g.Semaphore(-1),
    "Semaphore.acquire": lambda: g.Semaphore(1).acquire("x"),
    "Semaphore.release": lambda: g.Semaphore(1).release(5),
    "Supervisor": lambda: g.Supervisor("x"),
    "Ticker": lambda: g.Ticker(0),
    "Ticker, type": lambda: g.Ticker("x"),
    "Ticker.reset": lambda: g.Ticker(60).reset(0),
    "Timer": lambda: g.Timer("x"),
    "Timer.reset": lambda: g.Timer(60).reset(NAN),
    "Timer.stop": lambda: g.Timer.__new__(g.Timer).stop(),
    "WaitGroup.add": lambda: g.WaitGroup().add(-1),
    "WaitGroup.go": lambda: g.WaitGroup().go(3),
    "WaitGroup.wait": lambda: g.WaitGroup().wait("x"),
    "after": lambda: g.after("x"),
    "after_func": lambda: g.after_func("x", boom),
    "after_func, function": lambda: g.after_func(1, 3),
    "as_completed": lambda: g.as_completed(3),
    "as_completed, item": lambda: g.as_completed([3]),
    "as_completed, item of an iterable": lambda: next(g.as_completed(iter([3]))),
    "as_completed, time": lambda: g.as_completed([], timeout="x"),
    "as_completed, late": lambda: late(lambda handle: next(g.as_completed([handle], timeout=0.01))),
    "aselect": lambda: awaited(lambda: g.aselect(3)),
    "aselect, closed": lambda: awaited(lambda: g.aselect((closed().send, 1))),
    "Chan.arecv": lambda: awaited(lambda: closed().arecv()),
    "Chan.asend": lambda: awaited(lambda: closed().asend(1)),
    "Chan.send": lambda: closed().send(1),
    "Chan.send_many": lambda: g.chan(1).send_many(3),
    "Chan.recv": lambda: g.chan().recv("x"),
    "Chan.recv_many": lambda: g.chan().recv_many("x"),
    "await": lambda: awaited(lambda: g.go(boom)),
    "blocking": lambda: g.blocking(3),
    "blocking, function": lambda: g.blocking(boom),
    "blocking, function in C": lambda: g.blocking(int, "x"),
    "chan": lambda: g.chan(-1),
    "checkpoint_reset": lambda: g.checkpoint_reset(3),
    "dump": lambda: g.dump(3),
    "flow": lambda: g.flow(3),
    "flow, buffer": lambda: g.flow([], "x"),
    "go": lambda: g.go(3),
    "kill": lambda: g.kill("x"),
    "kill, number": lambda: g.kill(99),
    "kill, host": lambda: g.kill(0),
    "main": lambda: g.main(3),
    "monitor": lambda: g.monitor(3),
    "pfilter": lambda: g.pfilter(3, [1]),
    "pfor": lambda: g.pfor(3, [1]),
    "pmap": lambda: g.pmap(3, [1]),
    "pmap, iterable": lambda: g.pmap(abs, 3),
    "pmap, chunk": lambda: g.pmap(abs, [1], chunk=0),
    "pmap_array": lambda: g.pmap_array(3, [1]),
    "preduce": lambda: g.preduce(3, [1]),
    "preduce, empty": lambda: g.preduce(max, []),
    "psort": lambda: g.psort(3),
    "psort, key": lambda: g.psort([1], key=3),
    "psort, memory": lambda: g.psort([1], memory="x"),
    "recycle": lambda: g.recycle("x"),
    "recycle, number": lambda: g.recycle(99),
    "recycle, time": lambda: g.recycle(1, timeout="x"),
    "run": lambda: g.run(abs, 1),
    "runtime": lambda: g.runtime(procs="x"),
    "runtime, second": second_runtime,
    "runtime.resize": lambda: g.runtime.resize("x"),
    "select": lambda: g.select(3),
    "select, late": lambda: g.select(g.chan(), timeout=0.01),
    "share": lambda: g.share(LOCK),
    "shared_array": lambda: g.shared_array("x", int),
    "shared_array, dtype": lambda: g.shared_array(3, "nosuch"),
    "sleep": lambda: g.sleep("x"),
    "sleep, NaN": lambda: g.sleep(NAN),
    "sleep, late": lambda: within(0.01, lambda: g.sleep(60)),
    "tick": lambda: g.tick("x"),
    "worker_local": lambda: g.worker_local(3),
    "worker_state": lambda: g.worker_state(),
    "context.timeout": lambda: context.timeout("x"),
    "context.timeout, over": lambda: within(0.01, g.chan().recv),
    "context.deadline": lambda: context.deadline("x"),
    "context.after_func": lambda: context.after_func(ROOT, 3),
    "context.after_func, parent": lambda: context.after_func(3, boom),
    "context.cause": lambda: context.cause(3),
    "context.with_cancel": lambda: context.with_cancel(3),
    "context.with_cancel_cause": lambda: context.with_cancel_cause(3),
    "context.with_cancel_cause, cause": lambda: context.with_cancel_cause(ROOT)[1](3),
    "context.with_deadline": lambda: context.with_deadline(ROOT, "x"),
    "context.with_timeout": lambda: context.with_timeout(ROOT, "x"),
    "context.with_timeout, parent": lambda: context.with_timeout(3, 1),
    "context.with_value": lambda: context.with_value(3, 1, 2),
    "context.with_value, key": lambda: context.with_value(ROOT, [], 2),
    "context.without_cancel": lambda: context.without_cancel(3),
    "futures.Executor": lambda: futures.Executor("x"),
    "futures.Executor, initializer": lambda: futures.Executor(initializer=3),
    "futures.Executor.submit": lambda: executor(lambda e: e.submit(3)),
    "futures.Executor.submit, nothing": lambda: executor(lambda e: e.submit()),
    "futures.Executor.submit, late": after_shutdown,
    "futures.Executor.map": lambda: executor(lambda e: e.map(abs, [1], chunksize=0)),
    "futures.Executor.map, function": lambda: executor(lambda e: list(e.map(boom, [1]))),
    "futures.Future.result": lambda: executor(lambda e: e.submit(boom).result()),
    "patterns.MultiLimiter": lambda: patterns.MultiLimiter(3),
    "patterns.bridge": lambda: patterns.bridge(3, g.chan()),
    "patterns.fan_in": lambda: patterns.fan_in(3),
    "patterns.fan_out": lambda: patterns.fan_out(3, g.chan(), abs),
    "patterns.generate": lambda: patterns.generate(3, [1]),
    "patterns.heartbeat": lambda: patterns.heartbeat(3, g.chan(), abs),
    "patterns.or_channel": lambda: patterns.or_channel(3),
    "patterns.or_done": lambda: patterns.or_done(3, g.chan()),
    "patterns.pipeline": lambda: patterns.pipeline(3, g.chan(), abs),
    "patterns.pulse": lambda: patterns.pulse(3),
    "patterns.repeat": lambda: patterns.repeat(3, 1),
    "patterns.repeat_fn": lambda: patterns.repeat_fn(3, abs),
    "patterns.replicated": lambda: patterns.replicated(),
    "patterns.stage": lambda: patterns.stage(3, g.chan(), abs),
    "patterns.steward": lambda: patterns.steward(),
    "patterns.take": lambda: patterns.take(3, g.chan(), 1),
    "patterns.tee": lambda: patterns.tee(3, g.chan()),
    "rate.Limiter": lambda: rate.Limiter(NAN),
    "rate.every": lambda: rate.every("x"),
    "singleflight.Group": lambda: singleflight.Group(3),
    "singleflight.Group.do": lambda: singleflight.Group().do("k", 3),
    "singleflight.Group.do, function": lambda: singleflight.Group().do("k", boom),
    "singleflight.Group.do_chan": lambda: singleflight.Group().do_chan("k", 3),
    "sync.once_func": lambda: sync.once_func(3),
    "sync.once_value": lambda: sync.once_value(3),
    "sync.once_value, function": lambda: sync.once_value(boom)(),
    "testing.until_waiting": lambda: testing.until_waiting("x"),
    "testing.until_waiting, late": lambda: testing.until_waiting(g.chan(), timeout=0.01),
}  # fmt: skip

# Without an argument that could be wrong, or handed out by a function that is in the table.
NO_CASE = {
    "current", "default", "goexit", "nil", "num_goroutine", "proc", "procs", "workers", "yield_now",
    "Down", "Failure", "PMap", "Selected", "Shared", "RecvChan", "SendChan",
    "context.AnyContext", "context.CancelCauseFunc", "context.CancelFunc", "context.Context", "context.StopFunc",
    "context.background", "context.shield", "context.todo", "rate.Reservation", "rate.inf", "singleflight.Result",
    "testing.assert_no_leaks",
}  # fmt: skip
MODULES = {
    "context": context, "futures": futures, "patterns": patterns, "rate": rate, "singleflight": singleflight,
    "testing": testing,
}  # fmt: skip


def frames(exc: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(exc.__traceback__))


@pytest.mark.parametrize("case", CASES)
def test_the_last_line_is_the_users(case: str) -> None:
    with pytest.raises(BaseException) as raised:
        CASES[case]()
    assert not isinstance(raised.value, AssertionError) or "testing" in case
    shown = frames(raised.value)
    assert [f"{frame.filename}:{frame.lineno}" for frame in shown if frame.filename.startswith(PACKAGE)] == []
    assert shown[-1].filename == __file__


def test_each_public_function_is_in_the_table() -> None:
    public = {name: getattr(goproc, name) for name in goproc.__all__}
    for module, found in MODULES.items():
        public |= {f"{module}.{name}": getattr(found, name) for name in found.__all__}
    tried = {part for case in CASES for part in (case.split(",")[0], case.split(",")[0].rpartition(".")[0])}
    for name, thing in public.items():
        if inspect.ismodule(thing) or (isinstance(thing, type) and issubclass(thing, BaseException)):
            continue
        if issubclass(type(thing), type) and issubclass(thing, Warning):
            continue
        assert (name in tried) != (name in NO_CASE), name


def test_the_name_and_the_signature_of_a_function_are_its_own() -> None:
    for f in (g.kill, g.flow, g.Flow.map, g.aselect, rate.Limiter.wait, patterns.take):
        assert f.__name__ in repr(f) and f.__doc__
        assert "args" not in inspect.signature(f).parameters
    assert inspect.iscoroutinefunction(g.aselect)


def test_the_lines_of_a_function_of_the_users_are_shown() -> None:
    for case in (lambda: g.blocking(boom), lambda: g.Once().do(boom), lambda: sync.once_value(boom)()):
        with pytest.raises(LookupError) as raised:
            case()
        assert [frame.name for frame in frames(raised.value)][-2:] == ["<lambda>", "boom"]


def test_a_defect_keeps_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goproc._recycle._core", None)
    with pytest.raises(AttributeError) as raised:
        g.recycle(1)
    assert "recycle" in [frame.name for frame in frames(raised.value)]


def test_the_factory_of_a_worker_local(run: Run) -> None:
    """In a program of its own: what a worker_local() has is kept for as long as its process lives."""
    done = run(
        """
        import traceback
        from goproc import worker_local

        def boom():
            return int("x")

        for factory in (boom, dict.fromkeys):
            try:
                worker_local(factory)()
            except Exception as exc:
                print([frame.name for frame in traceback.extract_tb(exc.__traceback__)])
        """
    )
    assert done.out.splitlines() == ["['<module>', 'boom']", "['<module>']"], done
