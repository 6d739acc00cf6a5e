"""concurrent.futures on goroutines: an Executor whose calls run on the workers.

    from goproc.futures import Executor

    with Executor() as executor:
        futures = [executor.submit(shrink, path) for path in paths]
        for future in goproc.as_completed(futures):
            print(future.result())

An Executor takes the place of a ProcessPoolExecutor, with the rules of goproc. Functions of the script, lambdas and
closures need no ``if __name__ == "__main__"``, and a channel may be an argument.
"""

from __future__ import annotations

import signal
import time
import weakref
from collections import deque
from concurrent import futures as _base
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from goproc._executor.future import Future
from goproc._executor.pool import MOST, Pool, Setup
from goproc._executor.processes import Process
from goproc._misuse import not_callable
from goproc._runtime import procs
from goproc._tracebacks import cut, ends_at_user
from goproc.errors import RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from goproc._executor.broken import BrokenExecutor as BrokenExecutor
    from goproc._executor.broken import UnreadableCall as UnreadableCall
    from goproc._misuse import Gets

__all__ = ["BrokenExecutor", "CancelledError", "Executor", "Future", "UnreadableCall"]


P = ParamSpec("P")
T = TypeVar("T")


def __getattr__(name: str) -> Any:
    if name not in ("BrokenExecutor", "UnreadableCall"):
        raise AttributeError(f"module 'goproc.futures' has no attribute {name!r}")
    from goproc._executor import broken

    return getattr(broken, name)


class Executor(_base.Executor):
    """Runs calls on the workers of goproc, one at a time in each process: concurrent.futures.Executor.

    Args:
        max_workers: the number of calls that run at once, each in a process of its own. Default: one for each worker,
            `procs()`. If this is the first use of goproc, so many workers start. A runtime that runs already gets no
            more: with fewer workers than `max_workers`, as many calls run at once as there are workers. Start it with
            enough of them first: ``goproc run --procs 8``, or ``with runtime(procs=8):``.
        mp_context: accepted, so that it can stand where a ProcessPoolExecutor stood; unused.
        initializer: called in each process before its first call. Calls see the globals of the script that it has set.
            If it raises, the Executor is broken.
        initargs: the arguments of `initializer`.
        max_tasks_per_child: a process is replaced after so many calls.
        max_pending: submit() blocks while so many calls have been submitted and not ended. Default: no limit.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is out of its range.

    The processes are the workers of the runtime, which goroutines and other Executors use as well. The death of a
    process breaks the Executor: every call that has not ended fails with BrokenExecutor, a BrokenProcessPool. Another
    Executor can be made at once. When the program ends, the submitted calls are finished first.

    Cost: submit() and result() take about 3 us for a small call, and a call that goes there and back alone about 10 us.
    """

    @ends_at_user
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_pending: int | None = None,
    ) -> None:
        self._pool: Pool | None = None
        _check_count("max_workers", max_workers, MOST)
        _check_count("max_tasks_per_child", max_tasks_per_child)
        _check_count("max_pending", max_pending)
        if initializer is not None and not callable(initializer):
            raise not_callable("initializer must be a callable", initializer, at="initializer")
        self._pool = Pool(Setup(max_workers, initializer, tuple(initargs), max_tasks_per_child, max_pending))

    @ends_at_user
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a worker call ``fn(*args, **kwargs)``. The function and its arguments are copied now.

        Args:
            fn: the function.
            args, kwargs: its arguments.

        Returns:
            The future of the call. If something cannot be copied, the future fails with PickleError, which names the
            path.

        Raises:
            TypeError: `fn` is not callable.
            RuntimeError: the Executor was shut down, or the program ends.
            BrokenExecutor: a worker of the Executor died, or its initializer failed.
        """
        _check_function("Executor.submit() takes a function and its arguments", fn)
        return self._pool.submit(fn, args, kwargs)  # type: ignore[union-attr]

    def _submit(self, fn: Callable[[], T], callback: Callable[[Future[T]], object] | None) -> Future[T]:
        """As submit(), with a callback that is always made by the thread of the Executor."""
        return self._pool.submit(fn, (), {}, callback)  # type: ignore[union-attr]

    def _usable(self) -> bool:
        """Return True if the Executor takes calls: nothing has ended it, nor the runtime that it belongs to."""
        return self._pool is not None and self._pool.usable()

    def _has(self, max_workers: int, initializer: Callable[..., object]) -> bool:
        """Return True if the Executor was made with these arguments."""
        setup = self._pool.setup  # type: ignore[union-attr]
        return (setup.workers, setup.initializer) == (max_workers, initializer)

    def submit_many(self, fn: Callable[..., T], /, *iterables: Iterable[Any]) -> list[Future[T]]:
        """Submit a call for each item of an iterable, or for each tuple of several, as map() does; return the futures.

        Args:
            fn: the function.
            iterables: one, or several that are read in step.
        """
        _check_function("Executor.submit_many() takes a function and iterables", fn, "items")
        return [self.submit(fn, *args) for args in zip(*iterables, strict=False)]

    @ends_at_user
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` for each item of an iterable, or for each tuple of several; yield the results in their order.

        Args:
            fn: the function.
            iterables: they are drawn now; with `buffersize` they are drawn as results are taken.
            timeout: seconds from this call until the last result is there; then next() raises TimeoutError.
            chunksize: so many calls travel together. An exception fails the calls of its chunk.
            buffersize: the most results, or chunks of results, that are ahead of the caller. Default: all.

        Returns:
            An iterator. After an exception of a call it goes on with the next. When it is closed, or dropped after its
            first result, the calls that have not begun are cancelled. An iterator that nobody reads cancels nothing:
            ``executor.map(save, items)`` makes all calls.
        """
        _check_function("Executor.map() takes a function and iterables", fn, "items")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        for number, source in enumerate(iterables, 1):
            if not hasattr(type(source), "__iter__") and not hasattr(type(source), "__getitem__"):
                by_name = "; timeout= and chunksize= are given by name" if number > 1 else ""
                raise TypeError(
                    f"Executor.map(): iterable {number}: {type(source).__name__!r} object is not iterable{by_name}"
                )
        until = None if timeout is None else time.monotonic() + timeout
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1:
            return _Results(self, fn, calls, until, buffersize)
        return _Flat(_Results(self, _call_each, _chunks(fn, calls, chunksize), until, buffersize))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Those that have been submitted are made.

        Args:
            wait: return when they have ended.
            cancel_futures: cancel those that no worker has begun.
        """
        pool = self._pool
        if pool is not None:
            pool.close(cancel_futures)
            if wait:
                pool.wait()

    def terminate_workers(self) -> None:
        """End the calls that run, by SIGTERM to their processes; fail all that have not ended with BrokenExecutor."""
        self._pool.kill("terminate_workers() was called", signal.SIGTERM)  # type: ignore[union-attr]

    def kill_workers(self) -> None:
        """End the calls that run, by SIGKILL to their processes, and fail all that have not ended with BrokenExecutor.

        A process that makes no call of the Executor is left alone.
        """
        self._pool.kill("kill_workers() was called", signal.SIGKILL)  # type: ignore[union-attr]

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if isinstance(exc, KeyboardInterrupt):
            self.shutdown(wait=False, cancel_futures=True)
        else:
            self.shutdown()

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def __reduce__(self) -> Any:
        raise TypeError("an Executor cannot be sent to another process: make one there")

    # As a ProcessPoolExecutor has them: other libraries look at these.

    @property
    def _max_workers(self) -> int:
        pool = self._pool
        return 0 if pool is None else pool.setup.workers or pool.size or procs()

    @property
    def _processes(self) -> dict[int, Any]:
        return {} if self._pool is None else {pid: Process(pid) for pid in self._pool.processes()}

    @property
    def _broken(self) -> str | bool:
        return False if self._pool is None else self._pool.broken or False


def _check_function(said: str, fn: Any, gets: Gets = "arguments") -> None:
    if not callable(fn):
        raise not_callable(f"{said}: {type(fn).__name__!r} object is not callable", fn, gets=gets)


def _check_count(name: str, value: int | None, most: int | None = None) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value <= 0:
        raise ValueError(f"{name} must be greater than 0")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}")


class _Results:
    """The iterator of Executor.map().

    Args:
        executor: makes the calls. It is referred to weakly, so that it can be dropped before its results are read.
        fn: the function.
        calls: the arguments of each call.
        until: the monotonic time at which the results are late.
        ahead: how many calls have been submitted beyond the results taken, at most.
    """

    def __init__(
        self,
        executor: Executor,
        fn: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        until: float | None,
        ahead: int | None,
    ) -> None:
        self._executor = weakref.ref(executor)
        self._fn = fn
        self._calls: Iterator[tuple[Any, ...]] | None = calls
        self._until = until
        self._futures: deque[Future[Any]] = deque()
        self._read = False  # True once a result was asked for
        try:
            self._futures.extend(executor.submit(fn, *args) for args in islice(calls, ahead))
        except BaseException:
            self.close()
            raise
        if ahead is None:
            self._calls = None

    def __iter__(self) -> _Results:
        return self

    def __next__(self) -> Any:
        self._read = True
        self._draw()
        if not self._futures:
            raise StopIteration
        future = self._futures.popleft()
        try:
            return future.result(None if self._until is None else max(0.0, self._until - time.monotonic()))
        except BaseException as exc:
            future.cancel()
            if self._until is not None and isinstance(exc, TimeoutError) and not future.done():
                self.close()
            cut(exc, always=True)
            raise
        finally:
            del future

    def _draw(self) -> None:
        """Submit one more call."""
        executor = self._executor()
        if self._calls is None or executor is None:
            return
        args = next(self._calls, None)
        if args is None:
            self._calls = None
        else:
            self._futures.append(executor.submit(self._fn, *args))

    def close(self) -> None:
        """Cancel the calls that have not begun; next() raises StopIteration from now on."""
        self._calls = None
        while self._futures:
            self._futures.popleft().cancel()

    def __del__(self) -> None:
        if not self._read:
            return  # the calls are made for their effect
        try:
            self.close()
        except RuntimeStopped:  # the calls have ended with their runtime
            pass


class _Flat:
    """Yields the results of chunks one by one."""

    def __init__(self, chunks: _Results) -> None:
        self._chunks = chunks
        self._chunk: list[Any] = []

    def __iter__(self) -> _Flat:
        return self

    def __next__(self) -> Any:
        while not self._chunk:
            self._chunk = next(self._chunks)
            self._chunk.reverse()
        return self._chunk.pop()

    def close(self) -> None:
        """As that of _Results."""
        self._chunk = []
        self._chunks.close()


def _chunks(fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := list(islice(calls, size)):
        yield fn, chunk


def _call_each(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [fn(*args) for args in chunk]
