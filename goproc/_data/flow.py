"""``flow``: pipelines of stages, each with workers of its own, and bounded channels between them."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Generic, TypeVar

from goproc._data.flow_plan import Edge
from goproc._data.flow_run import CLOSE_SECONDS, Run
from goproc._data.flow_stats import StageStats
from goproc._data.policy import RETRY_ON, checked_count
from goproc._data.stages import (
    BATCH,
    EACH,
    FILTER,
    FLAT_MAP,
    MAP,
    MERGE,
    SKIP,
    TAKE,
    TEE,
    Stage,
    calling_stage,
    counting_stage,
    plain_stage,
    throttle_stage,
)
from goproc._public import public
from goproc.errors import DeadlineExceeded, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from concurrent.futures import ThreadPoolExecutor
    from types import TracebackType
    from typing import Self

    from goproc._channel import RecvChan, SendChan
    from goproc._data.policy import Delay
    from goproc.rate import Limiter

T = TypeVar("T")
R = TypeVar("R")

__all__ = ["Flow", "FlowRun", "StageStats", "flow"]

_PROGRESS_SECONDS = 0.1


@public
class Flow(Generic[T]):
    """A pipeline: a source, and the stages that its items go through. ``flow()`` makes it.

    It is a description. Nothing runs before it is iterated, or ``run()`` is called, and each of that is a run of its own.
    Each method that adds a stage returns another flow.

    The methods that take a function take the options of pmap as well. A stage without options calls its function in a loop
    of goroutines on the workers. A stage with options (threads, timeout, retries, on_error, key, init, exit, limit) is run
    by the engine of pmap, in which an item costs about 50 us.
    """

    __slots__ = ("_branch", "_buffer", "_iterable", "_merged", "_newest", "_stages")

    def __init__(
        self,
        iterable: Any,
        merged: tuple[Flow[Any], ...],
        branch: tuple[Shared, int] | None,
        buffer: int | None,
        stages: tuple[Stage, ...] = (),
    ) -> None:
        self._iterable = iterable
        self._merged = merged
        self._branch = branch
        self._buffer = buffer
        self._stages = stages
        self._newest: Book | None = None  # of the newest run

    def _with(self, stage: Stage) -> Flow[Any]:
        return Flow(self._iterable, self._merged, self._branch, self._buffer, (*self._stages, stage))

    # -- stages that call a function for each item

    def map(
        self,
        f: Callable[[T], R],
        workers: int | None = None,
        *,
        threads: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = RETRY_ON,
        delay: Delay = 0.0,
        on_error: Any = "raise",
        key: Callable[[T], Any] | None = None,
        init: Callable[[], Any] | None = None,
        exit: Callable[[Any], object] | None = None,
        limit: Limiter | None = None,
    ) -> Flow[R]:
        """Add a stage that hands on ``f(item)``.

        Args:
            f: the function.
            workers: how many calls run at once; default 1.
            threads: each worker runs calls in so many threads: for functions that wait in the system.
            ordered: hand on in the order of the items; else what is done first.
            timeout, retries, retry_on, delay, on_error, key, init, exit, limit: as for pmap. With on_error="return" the
                next stage gets the Failure.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        return self._with(calling_stage(MAP, "map", f, workers, _options(locals())))

    def filter(
        self,
        f: Callable[[T], Any],
        workers: int | None = None,
        *,
        threads: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = RETRY_ON,
        delay: Delay = 0.0,
        on_error: Any = "raise",
        key: Callable[[T], Any] | None = None,
        init: Callable[[], Any] | None = None,
        exit: Callable[[Any], object] | None = None,
        limit: Limiter | None = None,
    ) -> Flow[T]:
        """Add a stage that hands on the items for which ``f(item)`` is true.

        Args:
            f: the function.
            workers: how many calls run at once. Default: it is called by the workers of the stage before it.
            threads, ordered, timeout, retries, retry_on, delay, on_error, key, init, exit, limit: as for map().
        """
        return self._with(calling_stage(FILTER, "filter", f, workers, _options(locals())))

    def flat_map(
        self,
        f: Callable[[T], Iterable[R]],
        workers: int | None = None,
        *,
        threads: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = RETRY_ON,
        delay: Delay = 0.0,
        on_error: Any = "raise",
        key: Callable[[T], Any] | None = None,
        init: Callable[[], Any] | None = None,
        exit: Callable[[Any], object] | None = None,
        limit: Limiter | None = None,
    ) -> Flow[R]:
        """Add a stage that hands on each value that ``f(item)`` yields.

        Args:
            f: the function, a generator or one that returns an iterable. One worker, and several without order, hand a
                value on when it is yielded. In order, and with options, all values of an item are collected first.
            workers, threads, ordered, timeout, retries, retry_on, delay, on_error, key, init, exit, limit: as for map().
        """
        return self._with(calling_stage(FLAT_MAP, "flat_map", f, workers, _options(locals())))

    def each(
        self,
        f: Callable[[T], object],
        workers: int | None = None,
        *,
        threads: int | None = None,
        ordered: bool = True,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = RETRY_ON,
        delay: Delay = 0.0,
        on_error: Any = "raise",
        key: Callable[[T], Any] | None = None,
        init: Callable[[], Any] | None = None,
        exit: Callable[[Any], object] | None = None,
        limit: Limiter | None = None,
    ) -> Flow[T]:
        """Add a stage that calls ``f(item)`` for its effect, and hands the item on.

        Args:
            f: the function.
            workers, threads, ordered, timeout, retries, retry_on, delay, on_error, key, init, exit, limit: as for map().
        """
        return self._with(calling_stage(EACH, "each", f, workers, _options(locals())))

    def stage(self, f: Callable[[RecvChan[T], SendChan[R]], object], workers: int = 1) -> Flow[R]:
        """Add a stage that is a plain goroutine, or several: ``f(rx, tx)`` receives from one channel and sends to another.

        `rx` is closed when the stage before it has ended, or failed. The flow closes `tx` when all workers have returned. A
        worker that dies with its process ends the flow with WorkerDied.

        Args:
            f: the function.
            workers: how many goroutines call it. They share both channels.
        """
        return self._with(plain_stage(f, workers))

    # -- stages that count

    def batch(self, n: int, within: float | None = None) -> Flow[list[T]]:
        """Add a stage that hands on lists of n items. The last one may be shorter.

        Args:
            n: how many items.
            within: seconds after the first item of a list after which the list is handed on as it is.
        """
        return self._with(counting_stage(BATCH, "batch", n, 1, within))

    def take(self, n: int) -> Flow[T]:
        """Add a stage that hands on the first n items, and then ends the stages above it."""
        return self._with(counting_stage(TAKE, "take", n, 0))

    def skip(self, n: int) -> Flow[T]:
        """Add a stage that leaves out the first n items."""
        return self._with(counting_stage(SKIP, "skip", n, 0))

    def throttle(self, n: float) -> Flow[T]:
        """Add a stage that hands on at most n items a second."""
        return self._with(throttle_stage(n))

    # -- several flows

    def tee(self, n: int = 2) -> tuple[Flow[T], ...]:
        """Return n flows that all get every item of this one.

        All of them must be consumed, and at the same time: a branch that nobody reads holds up the others once its edge is
        full. One that is left early does not. Each can be consumed once, in this process.
        """
        stage = counting_stage(TEE, "tee", n, 1)
        shared = Shared(self._with(stage), int(stage.n))
        return tuple(Flow(None, (), (shared, number), self._buffer) for number in range(shared.n))

    def merge(self, *flows: Flow[T]) -> Flow[T]:
        """Return the flow of the items of this one and of others, as they come.

        Raises:
            TypeError: one of them is no flow.
        """
        for other in flows:
            if not isinstance(other, Flow):
                raise TypeError(f"flow: merge() takes flows, not {type(other).__name__}")
        stage = Stage(MERGE, "merge", None, 1, False)
        return Flow(None, (self, *flows), None, self._buffer, (stage,))

    # -- running

    def __iter__(self) -> FlowRun[T]:
        """Return an iterator of the results. The first next() starts the goroutines."""
        run: FlowRun[T] = FlowRun(self)
        self._newest = run._book
        return run

    def __aiter__(self) -> FlowRun[T]:
        """As __iter__(), for ``async for``."""
        return iter(self)

    def run(self, progress: Any = None) -> list[StageStats]:
        """Run the flow to its end. The results of its last stage are dropped.

        Args:
            progress: True for a bar a stage, a description to go before their names, or a tqdm class.

        Returns:
            A record for each stage, in order: stats().

        Raises:
            Exception: the failure of a stage, with its name as a note.
        """
        bars = None
        if progress is not None and progress is not False:
            from goproc._data.flow_bars import Bars

            bars = Bars(progress)
        run: FlowRun[T] = FlowRun(self, discards=True)
        self._newest = run._book
        try:
            run._drain(bars)
        finally:
            if bars is not None:
                bars.close()
        return run.stats()

    def stats(self) -> list[StageStats]:
        """Return a record for each stage of the newest run of this flow, in order, at any time."""
        return [] if self._newest is None else self._newest.records()

    def __reduce__(self) -> Any:
        if self._branch is not None:
            raise TypeError("a branch of tee() cannot be sent to another process: send the flow before it")
        return Flow, (self._iterable, self._merged, None, self._buffer, self._stages)

    def __repr__(self) -> str:
        names = " > ".join(stage.name for stage in self._stages)
        return f"<flow {names}>" if names else "<flow>"


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("self", "f", "workers")}


class Book:
    """The records of a run: as they are while it runs, and as they were at its end. It does not keep the run alive."""

    __slots__ = ("_last", "_run")

    def __init__(self) -> None:
        self._run: weakref.ref[Run] | None = None
        self._last: list[StageStats] = []

    def open(self, run: Run) -> None:
        """The run has started."""
        self._run = weakref.ref(run)

    def close(self, run: Run) -> None:
        """The run is over."""
        self._last = run.records()
        self._run = None

    def records(self) -> list[StageStats]:
        """Return a record for each stage."""
        run = None if self._run is None else self._run()
        return self._last if run is None else run.records()


class FlowRun(Generic[T]):
    """One run of a flow: an iterator of its results, and an asynchronous one.

    ``close()``, or leaving a ``with`` block over it, ends the run early. So does dropping it.
    """

    __slots__ = (
        "__weakref__",
        "_book",
        "_discards",
        "_final",
        "_flow",
        "_over",
        "_pending",
        "_recv",
        "_run",
        "_running",
        "_thread",
    )

    def __init__(self, of: Flow[T], discards: bool = False) -> None:
        self._flow: Flow[T] | None = of
        self._discards = discards
        self._run: Run | None = None
        self._final: Edge | None = None
        self._recv: Any = None
        self._over = False
        self._running = False
        self._book = Book()
        self._thread: ThreadPoolExecutor | None = None  # waits for an `async for`
        self._pending: asyncio.Future[Any] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._running:
            raise RuntimeError("another goroutine is in this flow: each needs a run of its own")
        if self._over:
            raise StopIteration
        self._running = True
        try:
            if self._recv is None:
                self._start()
            value, there = self._recv()
            if there:
                self._final.yielded += 1  # type: ignore[union-attr]
                return value  # type: ignore[no-any-return]
            self._finish()
        except DeadlineExceeded:
            raise  # of this next(): the run goes on
        except BaseException:
            self._leave()
            raise
        finally:
            self._running = False
        raise StopIteration

    def _start(self) -> None:
        of, self._flow = self._flow, None
        assert of is not None
        _core.ensure()
        final = Edge(0, "consumer", self._discards)
        self._run = Run(of, [final], final)
        self._final = final
        self._book.open(self._run)
        self._run.start()
        self._recv = final.ch.recv_ok

    def _finish(self) -> None:
        run = self._run
        assert run is not None
        try:
            run.finish()
        finally:
            self._end(run)

    def _leave(self) -> None:
        """An exception leaves next(): end the run, if it has not ended."""
        run = self._run
        self._over = True
        if run is not None:
            run.abandon()
            self._end(run)

    def _end(self, run: Run) -> None:
        self._over = True
        self._book.close(run)
        self._run = None
        self._recv = None

    def _drain(self, bars: Any) -> None:
        """Run to the end, and drop the values."""
        self._running = True
        try:
            self._start()
            run = self._run
            assert run is not None and self._final is not None
            if bars is not None:
                bars.open(run)
            timeout = None if bars is None else _PROGRESS_SECONDS
            while True:
                try:
                    if not self._recv(timeout)[1]:
                        break
                    self._final.yielded += 1
                except DeadlineExceeded:
                    raise
                except TimeoutError:
                    pass
                if bars is not None:
                    bars.update()
            self._finish()
            if bars is not None:
                bars.update(self.stats())
        except BaseException:
            run = self._run
            if run is not None:
                run.stop(CLOSE_SECONDS)
                self._end(run)
            raise
        finally:
            self._over = True
            self._running = False

    # -- the end

    def close(self) -> None:
        """End the run, and return when no call runs any more. next() raises StopIteration from now on.

        A call is cancelled where it blocks in an operation of goproc. One that does not end within two seconds is killed
        with its process, which is replaced.

        Raises:
            RuntimeError: another goroutine is in next().
        """
        if self._over:
            return
        if self._running:
            raise RuntimeError("another goroutine is in this flow: it cannot be closed meanwhile")
        self._over = True
        run = self._run
        self._flow = None
        if run is not None:
            run.stop(CLOSE_SECONDS)
            self._end(run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        run = self._run
        if run is not None and not self._over and _core.attached():
            run.abandon()
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    # -- asyncio

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        import asyncio

        if self._pending is None:
            if self._thread is None:
                from concurrent.futures import ThreadPoolExecutor

                self._thread = ThreadPoolExecutor(1, "goproc-flow")
            self._pending = asyncio.get_running_loop().run_in_executor(self._thread, next, self, _END)
        value = await asyncio.shield(self._pending)  # a cancelled task loses no value: the next one gets it
        self._pending = None
        if value is _END:
            self._thread = None
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """As close(), for ``async for``."""
        import asyncio

        run = self._run
        if run is not None:
            run.abandon()
        if self._pending is not None:
            pending, self._pending = self._pending, None
            await asyncio.wait([pending])
            if not pending.cancelled():
                pending.exception()
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(thread, self.close)
        if thread is not None:
            thread.shutdown(wait=False)

    # -- records

    def stats(self) -> list[StageStats]:
        """Return a record for each stage, in order, at any time."""
        return self._book.records()

    def __reduce__(self) -> Any:
        raise TypeError("a run of a flow cannot be sent to another process: send the flow")


_END: Any = object()


class Shared:
    """The part of a flow before a tee(): one run, which the branches share.

    Attributes:
        n: the number of branches.
        edges: one for each branch.
    """

    def __init__(self, flow: Flow[Any], n: int) -> None:
        self.n = n
        cap = 2 if flow._buffer is None else flow._buffer
        self.edges = [Edge(max(1, cap), "tee") for _ in range(n)]
        self._flow: Flow[Any] | None = flow
        self._run: Run | None = None
        self._readers: set[int] = set()  # the ids of the runs of branches that have not left
        self._started = 0
        self._lock = threading.Lock()

    def start(self, reader: Run) -> None:
        """A branch, or several, are read by a run: start the shared one if that is not done."""
        with self._lock:
            mine = sum(node.source in self.edges for node in reader.plan.nodes)
            self._started += mine
            if self._started > self.n:
                raise RuntimeError("a branch of tee() can be consumed once")
            self._readers.add(id(reader))
            if self._run is None:
                assert self._flow is not None
                self._run = Run(self._flow, self.edges, None)
                self._flow = None
                self._run.start()

    def left(self, reader: Run) -> None:
        """The run of a branch is over. With the last one the shared run is."""
        with self._lock:
            self._readers.discard(id(reader))
            last = not self._readers and self._started >= self.n
        if last and self._run is not None:
            self._run._join(CLOSE_SECONDS)

    def failure(self) -> BaseException | None:
        """Return the first failure of the shared run, to be raised by a branch."""
        return None if self._run is None else self._run.failure()

    def records(self) -> list[StageStats]:
        """Return the records of the shared stages."""
        return [] if self._run is None else self._run.records()

    def __del__(self) -> None:
        run = self._run
        if run is not None and not run.over and _core.attached():
            try:
                run.abandon()
            except RuntimeStopped:
                pass


@public
def flow(source: Iterable[T] | RecvChan[T], buffer: int | None = None) -> Flow[T]:
    """Make a pipeline: ``flow(source).map(parse, 4).filter(ok).batch(500).each(save).run()``.

    Args:
        source: an iterable, which a goroutine of this process advances, or a channel.
        buffer: how many items each edge between two stages holds; default: two for each worker of the stage after it. No
            more than the sum of buffers and workers are in flight. With functions of a few microseconds a buffer of some
            hundred is ten times faster.

    Returns:
        A Flow without stages: its methods add them. Iterate over it for the results, or run() it.

    Raises:
        TypeError: the source is no iterable.
        ValueError: the buffer is negative.
    """
    kind = type(source)
    if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        raise TypeError(f"flow() takes an iterable or a channel, not {kind.__name__}")
    if buffer is not None:
        buffer = checked_count(buffer, "flow(): buffer=", least=0)
    return Flow(source, (), None, buffer)
