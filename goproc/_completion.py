"""as_completed(): goroutines in the order in which they end."""

from __future__ import annotations

from collections import deque
from itertools import chain
from time import monotonic
from typing import Any, Generic, TypeVar

from goproc._goroutine import Goroutine
from goproc._public import public
from goproc._timeouts import check_time
from goproc._tracebacks import ends_at_user
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

__all__ = ["Completions", "as_completed"]

_AHEAD = 1024
_DRAWN_BESIDE_READY = 2


class Completions(Generic[T]):
    """The iterator that as_completed() returns: yields the handle of each goroutine once it has ended.

    One goroutine or thread at a time can be in it. close() lets go of all handles; leaving the loop does that as well.
    """

    __slots__ = (
        "_ahead",
        "_drawn",
        "_error",
        "_out",
        "_place",
        "_ready",
        "_running",
        "_source",
        "_until",
        "_watch",
        "_whole",
    )

    def __init__(self, source: Iterator[Any], ahead: int, until: float | None, whole: bool) -> None:
        self._watch = _core.Watch()
        self._source: Iterator[Any] | None = source
        self._ahead = ahead
        self._whole = whole  # draw all handles before the first is yielded
        self._until = until
        self._place = 0  # of the next item of `_source`
        self._drawn = 0  # handles drawn so far, each once
        self._out: set[Goroutine[T]] = set()  # handles drawn and not yielded
        # Handles of `_out` whose goroutines had ended when drawn.
        self._ready: deque[Goroutine[T]] = deque()
        self._error: Exception | None = None  # the error of `_source`, until next() raises it
        self._running = False

    def __iter__(self) -> Completions[T]:
        return self

    @ends_at_user
    def __next__(self) -> Goroutine[T]:
        self._enter()
        try:
            self._draw()
            g = self._ended()
            if g is None:
                g = self._wait()
            self._out.discard(g)
            return g
        finally:
            self._running = False

    def close(self) -> None:
        """Let go of all handles; next() raises StopIteration from now on. The goroutines themselves go on.

        Raises:
            RuntimeError: another goroutine is in next().
        """
        self._enter()
        try:
            self._source = self._error = None
            self._out.clear()
            self._ready.clear()
            self._watch.close()
        finally:
            self._running = False

    def __reduce__(self) -> Any:
        raise TypeError("as_completed() cannot be sent to another process: send the handles")

    def _enter(self) -> None:
        if self._running:
            raise RuntimeError("another goroutine is in this as_completed(): each needs one of its own")
        self._running = True

    def _draw(self) -> None:
        """Take handles from the iterable: until one is ready, and a few more, or `_ahead` are out."""
        beside_ready = 0
        while self._source is not None and self._error is None and len(self._out) < self._ahead:
            if not self._whole and (self._ready or self._watch.ended()):
                if beside_ready == _DRAWN_BESIDE_READY:
                    return
                beside_ready += 1
            try:
                item = next(self._source)
            except StopIteration:
                self._source = None
            except Exception as exc:
                self._error = exc
            else:
                self._add(item)

    def _add(self, item: Any) -> None:
        _check_item(item, self._place)
        if item not in self._out:
            try:
                watched = self._watch.add(item)
            except BaseException:
                self._source = chain((item,), self._source or ())  # next() tries this item again
                raise
            self._out.add(item)
            self._drawn += 1
            if not watched:
                self._ready.append(item)
        self._place += 1

    def _ended(self) -> Goroutine[T] | None:
        if self._ready:
            self._watch.ended()  # a loop that never blocks can be cancelled, and lets others run, as with take()
            return self._ready.popleft()
        return self._watch.take()  # type: ignore[no-any-return]

    def _wait(self) -> Goroutine[T]:
        """Raise the exception that ended the iterable, or wait for the next end, as nothing is ready."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        if not self._out:
            raise StopIteration
        left = None if self._until is None else max(0.0, self._until - monotonic())
        if not self._watch.wait(left):
            raise TimeoutError(f"{len(self._out)} (of {self._drawn}) goroutines unfinished")
        return self._watch.take()  # type: ignore[no-any-return]


@public
@ends_at_user
def as_completed(
    handles: Iterable[Goroutine[T]], timeout: float | None = None, *, ahead: int = _AHEAD
) -> Completions[T]:
    """Yield the handle of each goroutine when the goroutine has ended, like concurrent.futures.as_completed().

    Futures of goproc.futures are taken as handles are.

        for g in as_completed([go(fetch, url) for url in urls]):
            print(g.result())

    Args:
        handles: a collection of handles, or any iterable of them. A collection is taken as a whole. From an iterable,
            handles are drawn as they are needed, so it may be endless: ``as_completed(go(f, x) for x in source)``. It
            advances only within next(), in the goroutine that calls next().
        timeout: seconds from this call; None waits for ever.
        ahead: how many handles at most are drawn from an iterable and not yielded yet.

    Returns:
        An iterator. Goroutines that have ended already come first. A handle that is given twice is yielded once; if an
        iterable gives it again after it was yielded, it is yielded again. A failed or cancelled goroutine is yielded
        like any other: ``result()`` raises its error. close(), or leaving the loop, drops the handles. An unread failure
        is reported when its last handle is dropped.

    Raises:
        TypeError: an item is no handle; the message names its position. A collection is checked by this call, an
            iterable by the next() that draws the item. That next() loses no handle, and the one after it goes on.
        TimeoutError: by next(): time is up, and none is ready; says how many of how many are unfinished.
        RuntimeStopped: by next(): the runtime of the goroutines stopped.
        OutOfSharedMemory: by next(): more goroutines are watched than a process can wait for, about 260 000.
        Exception: by next(): the iterable's own exception, unchanged, after the handles that are ready.

    Cost: about 1 us for each handle, however many there are.
    """
    until = None if timeout is None else monotonic() + check_time(timeout, "timeout")
    if not isinstance(ahead, int) or isinstance(ahead, bool):
        raise TypeError(f"as_completed(ahead=...) takes a whole number, not {type(ahead).__name__}")
    if ahead < 1:
        raise ValueError(f"as_completed(ahead={ahead}): at least one handle must be drawn to wait for it")
    kind = type(handles)
    if not hasattr(kind, "__iter__"):
        raise TypeError(f"as_completed() takes an iterable of goroutine handles, not {kind.__name__}")
    if not hasattr(kind, "__len__") or hasattr(kind, "__next__"):
        return Completions(iter(handles), ahead, until, False)
    whole = list(handles)
    for place, item in enumerate(whole):
        _check_item(item, place)
    return Completions(iter(whole), max(1, len(whole)), until, True)


def _check_item(item: Any, place: int) -> None:
    if not isinstance(item, _core.Outcome):  # a Goroutine, or a future of goproc.futures
        raise TypeError(f"as_completed() takes goroutine handles: item {place} is {type(item).__name__}")
