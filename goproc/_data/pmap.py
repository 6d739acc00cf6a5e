"""``pmap``: a function of many items, on all processes, as an iterator of its results."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from goproc._data import turns, unused
from goproc._data.engine import Engine, Plan
from goproc._data.failing import post
from goproc._data.lanes import placed
from goproc._data.options import Options, shortest, total_of
from goproc._data.policy import RETRY_ON, policy
from goproc._data.source import Source
from goproc._data.tally import Stats, Tally
from goproc._other_names import hint
from goproc._public import public
from goproc._tracebacks import cut, ends_at_user
from goproc.errors import DeadlineExceeded
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from goproc._data.policy import Delay
    from goproc.rate import Limiter

T = TypeVar("T")

__all__ = ["PMap", "pmap"]


@public
class PMap(_core.Results, Generic[T]):
    """The results of a map, as pmap() returns them: an iterator, and an asynchronous one.

    One goroutine or thread at a time can be in it. ``close()``, or leaving a ``with`` block over it, cancels what runs.
    """

    __slots__ = (
        "__weakref__",
        "_engine",
        "_from_user",
        "_options",
        "_over",
        "_place",
        "_running",
        "_stats",
        "_total",
        "_waiter",
        "_where",
    )

    def __init__(self, options: Options) -> None:
        self._options: Options | None = options
        self._where = options.where  # names the call in errors
        self._total = options.total  # as given by the user
        self._place = unused.place()
        self._engine: Engine | None = None
        self._over = False
        self._running = False
        self._from_user = False  # the exception that ended the map is that of a function, or of an iterable
        self._stats = Tally().stats(0)
        self._waiter: Any = None  # of an `async for`: a thread that waits

    # -- iteration

    _spread = False  # results are collections, of which the members are yielded

    if TYPE_CHECKING:

        def __next__(self) -> T: ...

    def _more(self) -> T:
        """next(), where no result is ready or something has come from the workers."""
        engine = self._engine
        self._enter()
        try:
            if self._over:
                raise StopIteration
            engine = engine or self._begin()
            while not engine.advance():
                engine.go_on()
            if engine.ready:
                if engine.at_once:
                    self._attach(engine.ready, engine.door)
                else:
                    self._attach()
                return engine.ready.popleft()  # type: ignore[no-any-return]
            engine.finish()
            self._finish(engine)
            raise StopIteration
        except StopIteration:
            raise
        except BaseException as exc:
            self._cut(exc)
            if self._ends_map(exc):
                self._end()
            raise
        finally:
            self._running = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        engine = self._engine
        if engine is not None and engine.at_once and not engine.inbox and not len(engine.door):
            return engine.ready.popleft()  # type: ignore[no-any-return]
        self._enter()
        try:
            if self._over:
                raise StopAsyncIteration
            engine = engine or self._begin()
            while not engine.advance():
                await self._go_on(engine)
            if engine.ready:
                return engine.ready.popleft()  # type: ignore[no-any-return]
            await in_thread(engine.finish)
            self._finish(engine)
            raise StopAsyncIteration
        except StopAsyncIteration:
            raise
        except BaseException as exc:
            self._cut(exc)
            if engine is not None and self._ends_map(exc):
                await in_thread(engine.cancel)
                self._close_up(engine)
            raise
        finally:
            self._running = False

    async def _go_on(self, engine: Engine) -> None:
        """As engine.go_on(), while the event loop runs. A thread waits; one that is left waiting serves the next call."""
        if engine.letters:
            await in_thread(lambda: post(engine))
            return
        if self._waiter is None or self._waiter.done():
            turns.lend()
            self._waiter = in_thread(engine.wait)
        try:
            await asyncio_shield(self._waiter)
        except BaseException:
            engine.wake()
            raise
        self._waiter = None

    async def aclose(self) -> None:
        """As close(), for an event loop."""
        if self._over:
            return
        self._enter()
        try:
            engine = self._engine
            if engine is not None:
                await in_thread(engine.cancel)
                self._close_up(engine)
            self._over = True
        finally:
            self._running = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def results(self) -> list[T]:
        """Return the list of the results that are still to come."""
        return list(self)

    def _begin(self) -> Engine:
        options = self._options
        assert options is not None
        self._options = None
        procs = placed(options.workers, options.threads)
        options.check_ahead(len(procs))
        iterators = [iter(source) for source in options.sources]
        progress = None
        if options.progress is not None and options.progress is not False:
            from goproc._data.progress import open_progress

            progress = open_progress(options.progress, total_of(options), options.name)
        plan = Plan(
            options.where,
            options.job,
            options.policy,
            options.ordered,
            options.ahead,
            options.chunk,
            options.key,
            procs,
            options.checkpoint,
            self._spread,
        )
        iterator = iterators[0] if len(iterators) == 1 else zip(*iterators, strict=False)
        left = options.total if options.total is not None else shortest(iterators)
        self._engine = Engine(plan, Source(iterator, left), progress)
        return self._engine

    def _finish(self, engine: Engine) -> None:
        """All results are yielded, and the stations have ended. Raise the exception of the iterable."""
        error = engine.source.error
        if error is None and self._total is None and engine.progress is not None:
            engine.progress.total = engine.tally.drawn
        self._close_up(engine)
        if error is not None:
            self._from_user = True
            try:
                raise error
            finally:
                del error  # its traceback holds this frame

    def _ends_map(self, exc: BaseException) -> bool:
        """Return True if an exception that leaves next() ends the map: not an interrupt of the caller."""
        engine = self._engine
        interrupt = not isinstance(exc, Exception) or isinstance(exc, DeadlineExceeded)
        return not interrupt or (engine is not None and engine.fatal)

    def _cut(self, exc: BaseException) -> None:
        """An exception leaves next(): its traceback is to show the line that has called that."""
        engine = self._engine
        self._from_user = self._from_user or (engine is not None and engine.fatal)
        cut(exc, self._from_user)

    def _close_up(self, engine: Engine) -> None:
        self._over = True
        self._stats = engine.stats()
        self._engine = None
        self._attach()
        self._options = None
        if engine.recorder is not None:
            engine.recorder.stop()
        if engine.progress is not None:
            engine.progress.close()

    def _end(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.cancel()
            self._close_up(engine)
        self._options = None
        self._over = True

    def _enter(self) -> None:
        if self._running:
            raise RuntimeError(f"another goroutine is in this {self._where}: each needs one of its own")
        self._running = True

    # -- the end

    def close(self) -> None:
        """Cancel the calls that run, and return when no call runs any more. next() raises StopIteration from now on.

        A call is cancelled where it blocks in an operation of goproc. One that does not end within a second is killed with
        its process, which is replaced.

        Raises:
            RuntimeError: another goroutine is in next().
        """
        if self._over:
            return
        self._enter()
        try:
            self._end()
        finally:
            self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
        if exc is not None:
            cut(exc, self._from_user)  # the block is in a function of goproc's

    def __del__(self) -> None:
        engine = self._engine
        if engine is None and self._options is not None:
            unused.warn(
                self._place,
                f"{self._where[:-1]}{self._options.name})",
                "write `for result in ...` or `list(...)` around it, or pfor() where no results are needed",
            )
        if engine is None or self._over:
            return
        if _core.attached():
            engine.abandon()
        if engine.progress is not None:
            engine.progress.drop()

    # -- what is known of it

    def stats(self) -> Stats:
        """Return the counts of the map: at any time, and from any thread."""
        engine = self._engine
        if engine is None:
            return self._stats
        stats = engine.stats()
        if engine.inbox:
            self._attach()  # next() has to read that before it yields what is ready
        return stats

    def __reduce__(self) -> Any:
        raise TypeError(f"a {self._where} cannot be sent to another process: send its function and its items")

    def __repr__(self) -> str:
        stats = self.stats()
        state = (
            "over" if self._over else f"{stats.done + stats.failed} of {stats.items} items drawn are finished"
        )
        return f"<{self._where.removesuffix('()')} {state}>"


def in_thread(f: Callable[[], T]) -> Any:
    """Return a future of a call that blocks, made in a thread beside the running event loop."""
    import asyncio

    return asyncio.get_running_loop().run_in_executor(None, f)


def asyncio_shield(future: Any) -> Any:
    """Return a future to wait for that can be cancelled without the one given."""
    import asyncio

    return asyncio.shield(future)


@public
@ends_at_user
def pmap(
    f: Callable[..., T],
    *iterables: Iterable[Any],
    ordered: bool = True,
    ahead: int | None = None,
    chunk: int | str = "auto",
    workers: int | None = None,
    threads: int | None = None,
    total: int | None = None,
    progress: Any = None,
    timeout: float | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = RETRY_ON,
    delay: Delay = 0.0,
    on_error: Any = "raise",
    init: Callable[[], Any] | None = None,
    exit: Callable[[Any], object] | None = None,
    key: Callable[..., Any] | None = None,
    limit: Limiter | None = None,
    recycle: int | None = None,
    memory: str | int | None = None,
    checkpoint: Any = None,
    id: Callable[..., Any] | None = None,
) -> PMap[T]:
    """Call a function for each item of an iterable, on all processes, and yield the results.

        for thumbnail in pmap(shrink, paths, progress="thumbnails"):
            ...

    Args:
        f: the function. It gets one item of each iterable, as with map().
        iterables: where items come from. They are advanced within next() only, as results are asked for.
        ordered: yield in the order of the items; else what is done first.
        ahead: how many items may be drawn and not yielded; default: four chunks for each call that runs at once.
        chunk: how many items go to a process together; "auto" measures.
        workers: how many calls run at once; default: one in each process.
        threads: run calls in so many threads of each process: for functions that wait in the system.
        total: how many items there are, for the progress.
        progress: True, a description, or a tqdm class.
        timeout: seconds for one call; it is cancelled then, and killed a second later.
        retries: how many attempts follow the first one that fails.
        retry_on: the exceptions that another attempt follows. One that cannot be pickled, so that it comes as a
            RemoteError, is matched by the names of its type and its bases.
        delay: seconds before another attempt, or a function of the number of the one that failed.
        on_error: "raise" the first failure; "return" the Failure in place of the result; "skip" the item; or a channel
            that gets the Failures, in the order in which they happen.
        init: called once in each process before its first item; its result is worker_state() there.
        exit: called with that state in each process at the end.
        key: a function of an item: items with equal keys go to the same worker, in order.
        limit: a Limiter that is asked before each call.
        recycle: replace a process after so many items.
        memory: replace a process that has grown beyond so many bytes ("2G") before its next item.
        checkpoint: a file in which results are recorded; a later run does not compute them again.
        id: a function of an item that names it in the checkpoint.

    Returns:
        An iterator of the results. Nothing happens before its first next().

    Raises:
        TypeError, ValueError: an argument is wrong.
        Exception: by next(): what f has raised, with the traceback of the worker as a note, unless on_error says
            otherwise; WorkerDied for an item whose process died, TaskTimeout for one that took too long; the
            exception of an iterable, after the results before it.

    Cost: about 0.3 us an item where items are short, and 30 us for each chunk, or 200 us while all CPUs are busy.
    """
    given = {name: value for name, value in locals().items() if name not in ("f", "iterables")}
    return PMap(options("pmap()", f, iterables, given))


def options(
    where: str, f: Callable[..., Any], iterables: tuple[Iterable[Any], ...], given: dict[str, Any]
) -> Options:
    """Return the options of a map, checked.

    Args:
        where: names the call in errors.
        f: the function of the map.
        iterables: where its items come from.
        given: arguments of pmap() by name; the others have their defaults.
    """
    for name in given:
        if name not in _DEFAULTS:
            raise TypeError(f"{where} got an unexpected keyword argument {name!r}{hint(name, _DEFAULTS)}")
    every = {**_DEFAULTS, **given}
    rules = policy(where, **{name: every.pop(name) for name in _RULES})
    return Options(where, f, iterables, rules, **every)


_DEFAULTS: dict[str, Any] = dict(getattr(pmap, "__wrapped__").__kwdefaults__)  # noqa: B009
_RULES = ("timeout", "retries", "retry_on", "delay", "on_error")
