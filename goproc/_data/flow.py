"""``flow``: pipelines of stages, each with workers of its own, and bounded channels between them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from goproc._data import unused
from goproc._data.flow_iterator import Book, FlowRun
from goproc._data.flow_stats import StageStats
from goproc._data.flow_tee import Shared
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
from goproc._tracebacks import ends_at_user, user_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from goproc._channel import RecvChan, SendChan
    from goproc._data.policy import Delay
    from goproc.rate import Limiter

T = TypeVar("T")
R = TypeVar("R")

__all__ = ["Flow", "FlowRun", "StageStats", "flow"]


@public
class Flow(Generic[T]):
    """A pipeline: a source, and the stages that its items go through. ``flow()`` makes it.

    It is a description. Nothing runs before it is iterated, or ``run()`` is called, and each of that is a run of its own.
    Each method that adds a stage returns another flow.

    The methods that take a function take the options of pmap as well. A stage without options calls its function in a loop
    of goroutines on the workers. A stage with options (threads, timeout, retries, on_error, key, init, exit, limit) is run
    by the engine of pmap, in which an item costs about 50 us.
    """

    __slots__ = ("_branch", "_buffer", "_iterable", "_merged", "_newest", "_place", "_stages")

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
        self._place = None if branch is not None else unused.place()  # None: the flow was used

    def __del__(self) -> None:
        place = getattr(self, "_place", None)
        if place is not None:
            unused.warn(place, repr(self).strip("<>"), "add .run() at its end, or iterate over it")

    def _with(self, stage: Stage) -> Flow[Any]:
        self._place = None
        return Flow(self._iterable, self._merged, self._branch, self._buffer, (*self._stages, stage))

    # -- stages that call a function for each item

    @ends_at_user
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
            workers: how many calls run at once; default 1. With 0 they run in this process, for what cannot be sent to a
                worker, or must see its memory.
            threads: each worker runs calls in so many threads of one process: for functions that wait in the system.
            ordered: hand on in the order of the items; else what is done first.
            timeout, retries, retry_on, delay, on_error, key, init, exit, limit: as for pmap. With on_error="return" the
                next stage gets the Failure.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        return self._with(calling_stage(MAP, "map", f, workers, _options(locals())))

    @ends_at_user
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

    @ends_at_user
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
            f: the function, a generator or one that returns an iterable. Values are handed on as they are yielded, and
                back-pressure holds within an item. Of several workers in order, each keeps up to 128 values until it is
                the turn of its item, and then waits. With options it is 256 values; an item that fails, or whose process
                dies, leaves the values that were handed on, and a Failure follows them. With retries all values of an
                item are collected first, since a failed attempt must not have handed on any.
            workers, threads, ordered, timeout, retries, retry_on, delay, on_error, key, init, exit, limit: as for map().
        """
        return self._with(calling_stage(FLAT_MAP, "flat_map", f, workers, _options(locals())))

    @ends_at_user
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

    @ends_at_user
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

    @ends_at_user
    def batch(self, n: int, within: float | None = None) -> Flow[list[T]]:
        """Add a stage that hands on lists of n items. The last one may be shorter.

        Args:
            n: how many items.
            within: seconds after the first item of a list after which the list is handed on as it is.
        """
        return self._with(counting_stage(BATCH, "batch", n, 1, within))

    @ends_at_user
    def take(self, n: int) -> Flow[T]:
        """Add a stage that hands on the first n items, and then ends the stages above it."""
        return self._with(counting_stage(TAKE, "take", n, 0))

    @ends_at_user
    def skip(self, n: int) -> Flow[T]:
        """Add a stage that leaves out the first n items."""
        return self._with(counting_stage(SKIP, "skip", n, 0))

    @ends_at_user
    def throttle(self, n: float) -> Flow[T]:
        """Add a stage that hands on at most n items a second."""
        return self._with(throttle_stage(n))

    # -- several flows

    @ends_at_user
    def tee(self, n: int = 2) -> tuple[Flow[T], ...]:
        """Return n flows that all get every item of this one.

        All of them must be consumed, and at the same time: a branch that nobody reads holds up the others once its edge is
        full. One that is left early does not. Each can be consumed once, in this process.
        """
        stage = counting_stage(TEE, "tee", n, 1)
        shared = Shared(self._with(stage), int(stage.n))
        return tuple(Flow(None, (), (shared, number), self._buffer) for number in range(shared.n))

    @ends_at_user
    def merge(self, *flows: Flow[T]) -> Flow[T]:
        """Return the flow of the items of this one and of others, as they come.

        Raises:
            TypeError: one of them is no flow.
        """
        for other in flows:
            if not isinstance(other, Flow):
                raise TypeError(f"flow: merge() takes flows, not {type(other).__name__}")
        for merged in (self, *flows):
            merged._place = None
        stage = Stage(MERGE, "merge", None, 1, False)
        return Flow(None, (self, *flows), None, self._buffer, (stage,))

    # -- running

    def __iter__(self) -> FlowRun[T]:
        """Return an iterator of the results. The first next() starts the goroutines."""
        self._place = None
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
        self._place = None
        bars = None
        if progress is not None and progress is not False:
            from goproc._data.flow_bars import Bars

            with user_line:
                bars = Bars(progress)
        run: FlowRun[T] = FlowRun(self, discards=True)
        self._newest = run._book
        try:
            run._drain(bars)
        except BaseException as exc:
            run._cut(exc)
            raise
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
        self._place = None
        return Flow, (self._iterable, self._merged, None, self._buffer, self._stages)

    def __repr__(self) -> str:
        names = " > ".join(stage.name for stage in self._stages)
        return f"<flow {names}>" if names else "<flow>"


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("self", "f", "workers")}


@public
@ends_at_user
def flow(source: Iterable[T] | RecvChan[T], buffer: int | None = None) -> Flow[T]:
    """Make a pipeline: ``flow(source).map(parse, 4).filter(ok).batch(500).each(save).run()``.

    Args:
        source: an iterable, which a goroutine of this process advances, or a channel.
        buffer: how many items each edge between two stages holds; default: two for each worker of the stage after it. No
            more than the sum of buffers and workers are in flight. The default grows to 256 on an edge to which
            one worker has sent 4096 small items in less than half a millisecond each; a given number never does.

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
