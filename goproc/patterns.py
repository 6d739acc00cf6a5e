"""The patterns of the book "Concurrency in Go", as functions on channels.

All stages have the same form. The first argument is ``done``: a channel that is closed to stop the stage (or a context;
None or nil: never). A stage returns the receive-only view of the channel that it sends on. The stage owns this channel,
and closes it when its input ends or ``done`` is closed. It waits for ``done`` around every send and receive, so when
``done`` is closed no goroutine is left, even if other stages have ended before. Close ``done`` also when the program
has results enough: a stage whose output is not received waits for that.

    >>> from goproc import chan, patterns
    >>> done = chan()
    >>> with done:
    ...     numbers = patterns.generate(done, range(1, 100))
    ...     squares = patterns.stage(done, numbers, lambda n: n * n)
    ...     list(patterns.take(done, squares, 5))
    [1, 4, 9, 16, 25]

A stage that only moves values is a goroutine of the calling process (go.local). The functions given to stages are
goroutines like any other (go): on any process, copied, with a snapshot of their closures. So an exception of such a
function is a panic, as in every goroutine without a handle. A function that may fail returns its error as a value.
"""

from __future__ import annotations

from typing import Any, TypeVar

from goproc._channel import Chan, chan
from goproc._done import done_of, put
from goproc._go import go
from goproc._health import heartbeat, pulse, replicated, steward
from goproc._joining import bridge, fan_in, or_channel, tee
from goproc._select import select
from goproc._tracebacks import ends_at_user, function_line
from goproc.shm import _core
from goproc.sync import WaitGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from goproc._channel import RecvChan
    from goproc._done import Done
    from goproc.context import AnyContext
    from goproc.rate import Limiter


T = TypeVar("T")
R = TypeVar("R")

__all__ = [
    "MultiLimiter",
    "bridge",
    "fan_in",
    "fan_out",
    "generate",
    "heartbeat",
    "or_channel",
    "or_done",
    "pipeline",
    "pulse",
    "repeat",
    "repeat_fn",
    "replicated",
    "stage",
    "steward",
    "take",
    "tee",
]


# -- sources -------------------------------------------------------------------------------------------------


@ends_at_user
def generate(done: Done, values: Iterable[T]) -> RecvChan[T]:
    """Turn values into a channel: the head of a pipeline.

    Args:
        done: stops it.
        values: are asked for one by one, in this process, as they are received.
    """
    out: Chan[T] = chan()
    go.local(_generate, done_of(done), out, values)
    return out.rx


def _generate(done: RecvChan[Any], out: Chan[T], values: Iterable[T]) -> None:
    with out:
        for value in values:
            if not put(done, out, value):
                return


@ends_at_user
def repeat(done: Done, *values: T) -> RecvChan[T]:
    """Send the values over and over, until ``done`` is closed.

    Args:
        done: stops it.
        values: are sent in this order, again and again.

    >>> from goproc import chan, patterns
    >>> with chan() as done:
    ...     list(patterns.take(done, patterns.repeat(done, 1, 2), 5))
    [1, 2, 1, 2, 1]
    """
    out: Chan[T] = chan()
    go.local(_generate, done_of(done), out, _over_and_over(values))
    return out.rx


def _over_and_over(values: Sequence[T]) -> Iterable[T]:
    while values:
        yield from values


@ends_at_user
def repeat_fn(done: Done, f: Callable[[], T]) -> RecvChan[T]:
    """Send the results of f, called over and over, until ``done`` is closed.

    Args:
        done: stops it.
        f: runs in a goroutine anywhere; called before each send, also if ``done`` turns out to be closed.

        >>> import random
        >>> from goproc import chan, patterns
        >>> with chan() as done:
        ...     dice = patterns.repeat_fn(done, lambda: random.randint(1, 6))
        ...     all(1 <= n <= 6 for n in patterns.take(done, dice, 10))
        True
    """
    out: Chan[T] = chan()
    go(_repeat_fn, done_of(done), out, f)
    return out.rx


def _repeat_fn(done: RecvChan[Any], out: Chan[T], f: Callable[[], T]) -> None:
    with out:
        while put(done, out, f()):
            pass


# -- stages --------------------------------------------------------------------------------------------------


@ends_at_user
def take(done: Done, values: RecvChan[T], n: int) -> RecvChan[T]:
    """Pass on the first n values, then close.

    Args:
        done: stops it.
        values: receives no more than n of them.
        n: a negative number: all.
    """
    out: Chan[T] = chan()
    go.local(_take, done_of(done), out, values, n)
    return out.rx


def _take(done: RecvChan[Any], out: Chan[T], values: RecvChan[T], n: int) -> None:
    with out:
        while n != 0:
            got = select(done, values)
            if got.index == 0 or not got.ok or not put(done, out, got.value):
                return
            n -= 1


def or_done(done: Done, values: RecvChan[T]) -> RecvChan[T]:
    """Pass values on until their channel or ``done`` is closed: so that a plain ``for`` loop can be stopped.

    Args:
        done: stops it.
        values: a channel; it may never be closed.

    >>> from goproc import chan, patterns
    >>> done, never_closed = chan(), chan(2)
    >>> never_closed.send_many("ab")
    2
    >>> for v in patterns.or_done(done, never_closed):
    ...     print(v)
    ...     if v == "b":
    ...         done.close()
    a
    b
    """
    with function_line:
        return take(done, values, -1)


@ends_at_user
def stage(
    done: Done, values: RecvChan[T], f: Callable[[T], R], workers: int = 1, cap: int = 0
) -> RecvChan[R]:
    """Send ``f(value)`` for each value.

    Args:
        done: stops it, after the call that is under way.
        values: the input of the stage.
        f: runs in goroutines anywhere.
        workers: how many of them. The results come in order only from one.
        cap: how many results may wait to be received.

    Returns:
        The results; closed when the input is and all are through.

        >>> from goproc import chan, patterns
        >>> with chan() as done:
        ...     numbers = patterns.generate(done, range(6))
        ...     sorted(patterns.stage(done, numbers, lambda n: n + 100, workers=3))
        [100, 101, 102, 103, 104, 105]
    """
    if workers < 1:
        raise ValueError(f"stage() takes at least one worker, not {workers}")
    out: Chan[R] = chan(cap)
    halt = done_of(done)
    wg = WaitGroup()
    wg.add(workers)
    for _ in range(workers):
        go(_work, halt, values, out, f, wg)
    go.local(_close_after, wg, out)
    return out.rx


def _work(done: RecvChan[Any], values: RecvChan[T], out: Chan[R], f: Callable[[T], R], wg: WaitGroup) -> None:
    try:
        while True:
            got = select(done, values)
            if got.index == 0 or not got.ok or not put(done, out, f(got.value)):
                return
    finally:
        wg.done()


def _close_after(wg: WaitGroup, out: Chan[Any]) -> None:
    with out:
        wg.wait()


def pipeline(done: Done, values: Chan[Any], *functions: Callable[[Any], Any]) -> RecvChan[Any]:
    """Chain stages: send each value through all functions. Each function is a goroutine of its own.

    Args:
        done: stops it.
        values: the input of the first function.
        functions: run in goroutines anywhere.

    >>> from goproc import chan, patterns
    >>> with chan() as done:
    ...     words = patterns.generate(done, ["10", "20"])
    ...     list(patterns.pipeline(done, words, int, lambda n: n + 1, str))
    ['11', '21']
    """
    staged = values.rx
    with function_line:
        for f in functions:
            staged = stage(done, staged, f)
    return staged


def fan_out(
    done: Done, values: RecvChan[T], f: Callable[[T], R], workers: int | None = None
) -> list[RecvChan[R]]:
    """Start the same stage several times on one input: for a slow f, when the order of the results does not matter.

    Args:
        done: stops them.
        values: each goes to one of the workers.
        f: runs in goroutines anywhere.
        workers: how many; None: one for each worker process.

    Returns:
        One channel for each worker: fan_in() makes them one.

        >>> from goproc import chan, patterns
        >>> with chan() as done:
        ...     numbers = patterns.generate(done, range(6))
        ...     sorted(patterns.fan_in(done, *patterns.fan_out(done, numbers, lambda n: n * n)))
        [0, 1, 4, 9, 16, 25]
    """
    if workers is None:
        _core.ensure()
        workers = max(1, _core.procs() - 1)
    with function_line:
        return [stage(done, values, f) for _ in range(workers)]


# -- rates ---------------------------------------------------------------------------------------------------


class MultiLimiter:
    """Several rate limiters of which all must agree: so many a second, so many a minute, so many for the disk.

    It can be sent to goroutines.

        >>> from goproc import patterns, rate
        >>> both = patterns.MultiLimiter(rate.Limiter(rate.every(0.001), 1), rate.Limiter(10, 5))
        >>> both.limit
        10.0
        >>> both.wait()
    """

    __slots__ = ("_limiters",)

    @ends_at_user
    def __init__(self, *limiters: Limiter | MultiLimiter) -> None:
        for limiter in limiters:
            if not hasattr(limiter, "wait") or not hasattr(limiter, "limit"):
                raise TypeError(f"MultiLimiter() takes limiters, not {type(limiter).__name__}")
        self._limiters = sorted(limiters, key=lambda limiter: limiter.limit)

    @property
    def limit(self) -> float:
        """The rate of the strictest."""
        return self._limiters[0].limit if self._limiters else float("inf")

    @ends_at_user
    def wait(self, n: int = 1, ctx: AnyContext | None = None) -> None:
        """Block until all of them let n events happen; the strictest is asked first.

        Args:
            n: the number of events.
            ctx: a context that ends the wait.

        Raises:
            ValueError, DeadlineExceeded, Canceled: as Limiter.wait().
        """
        for limiter in self._limiters:
            limiter.wait(n, ctx)

    def __reduce__(self) -> Any:
        return MultiLimiter, tuple(self._limiters)
