"""The results of a flow, as an iterator: one run of it."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, Generic, TypeVar

from goproc._data.flow_edges import FETCHED
from goproc._data.flow_plan import Edge
from goproc._data.flow_run import CLOSE_SECONDS, Run
from goproc._data.flow_stats import StageStats
from goproc._data.unread import about_unread
from goproc._tracebacks import cut
from goproc.errors import ChanClosed, DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor
    from types import TracebackType
    from typing import Self

    from goproc._data.flow import Flow

T = TypeVar("T")

_PROGRESS_SECONDS = 0.1


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


class FlowRun(_core.Results, Generic[T]):
    """One run of a flow: an iterator of its results, and an asynchronous one.

    ``close()``, or leaving a ``with`` block over it, ends the run early. So does dropping it.
    """

    __slots__ = (
        "__weakref__",
        "_book",
        "_discards",
        "_fetches",
        "_final",
        "_flow",
        "_from_user",
        "_late",
        "_over",
        "_pending",
        "_ready",
        "_recv",
        "_run",
        "_running",
        "_thread",
        "_try_recv",
        "_wide",
    )

    def __init__(self, of: Flow[T], discards: bool = False) -> None:
        self._flow: Flow[T] | None = of
        self._discards = discards
        self._run: Run | None = None
        self._final: Edge | None = None
        self._recv: Any = None
        self._try_recv: Any = None
        self._wide: Any = None  # the wide channel of the last edge; None if there is none, or it is in use
        self._ready: deque[Any] = deque()  # values that were taken ahead
        self._fetches = 0  # how many are taken at once
        self._late: Exception | None = None  # raised when these are yielded: why the next one cannot be read
        self._over = False
        self._running = False
        self._from_user = False  # the exception that ended the run is that of a function, or of the source
        self._book = Book()
        self._thread: ThreadPoolExecutor | None = None  # waits for an `async for`
        self._pending: asyncio.Future[Any] | None = None

    if TYPE_CHECKING:

        def __next__(self) -> T: ...

    def _more(self) -> T:
        """next(), where no value is ready."""
        if self._running:
            raise RuntimeError("another goroutine is in this flow: each needs a run of its own")
        if self._over:
            raise StopIteration
        self._running = True
        try:
            if self._recv is None:
                self._start()
            if self._ready:
                return self._ready.popleft()  # type: ignore[no-any-return]
            if self._late is not None:
                raise self._late
            value, there = self._receive()
            if there:
                self._final.yielded += 1  # type: ignore[union-attr]
                if self._fetches:
                    self._fetch()
                return value  # type: ignore[no-any-return]
            self._finish()
        except DeadlineExceeded as exc:
            cut(exc)
            raise  # of this next(): the run goes on
        except BaseException as exc:
            self._cut(exc)
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
        self._take_from(final.ch, final.fetched)
        self._wide = final.open().wide

    def _receive(self) -> tuple[Any, bool]:
        """Return the next value of the last edge, and True; False at its end."""
        try:
            value, there = self._recv()
            if not there and self._wide is not None:  # the edge has grown, or has come to its end
                self._take_from(self._wide, FETCHED)
                value, there = self._recv()
        except Exception as exc:
            error = self._unread(exc)
            if error is exc:
                raise
            raise error from error.__cause__
        return value, there

    def _unread(self, exc: Exception) -> Exception:
        """Return the exception for a value that could not be received: it names the stage."""
        assert self._final is not None
        node = self._final.nodes[-1]
        return about_unread(exc, node.name if node.stages else None, "the result")

    def _take_from(self, ch: Any, fetches: int) -> None:
        self._recv, self._try_recv, self._fetches, self._wide = ch.recv_ok, ch.try_recv, fetches, None
        if fetches:
            assert self._run is not None
            self._attach(self._ready, self._run.halt)

    def _fetch(self) -> None:
        """Take the values that are there: next() yields them without a look at the edge."""
        put, try_recv = self._ready.append, self._try_recv
        try:
            for _ in range(self._fetches):
                value, there = try_recv()
                if not there:
                    return
                put(value)
        except ChanClosed:
            return
        except Exception as exc:
            self._late = self._unread(exc)

    def _finish(self) -> None:
        run = self._run
        assert run is not None
        try:
            run.finish()
        finally:
            self._from_user = run.from_user
            self._end(run)

    def _cut(self, exc: BaseException) -> None:
        """An exception leaves next(): its traceback is to show the line that has called that."""
        self._from_user = self._from_user or (self._run is not None and self._run.from_user)
        cut(exc, self._from_user)

    def _leave(self) -> None:
        """An exception leaves next(): end the run, if it has not ended."""
        run = self._run
        self._over = True
        self._ready.clear()
        if run is not None:
            run.leave()
            self._end(run)

    def _end(self, run: Run) -> None:
        self._over = True
        self._book.close(run)
        self._run = None
        self._recv = self._try_recv = self._wide = None
        self._attach()

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
        except BaseException as exc:
            self._cut(exc)
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
        self._ready.clear()
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
            run.leave()
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    # -- asyncio

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        import asyncio

        if self._pending is None:
            if self._ready and not self._running:
                return self._ready.popleft()  # type: ignore[no-any-return]
            if self._thread is None:
                from concurrent.futures import ThreadPoolExecutor

                self._thread = ThreadPoolExecutor(1, "goproc-flow")
            self._pending = asyncio.get_running_loop().run_in_executor(self._thread, self._next_or_error)
        # A cancelled task loses no value: the next one gets it.
        value, error = await asyncio.shield(self._pending)
        self._pending = None
        if error is not None:
            try:
                raise error
            except BaseException as exc:
                self._cut(exc)
                raise
            finally:
                del error
        if value is _END:
            self._thread = None
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    def _next_or_error(self) -> tuple[Any, BaseException | None]:
        """Return a value, or _END, and the exception of next(): the caller raises it, outside the thread."""
        try:
            return next(self, _END), None
        except BaseException as exc:
            return None, exc

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
