"""The parts of a flow that run in the process of its consumer.

A feed advances an iterable, or receives from an edge, and sends to the next edge; counting stages are iterators around
it. Feeds, and the pools of flow_pool.py, are goroutines of the consumer's process, or threads where the consumer is a
thread.
"""

from __future__ import annotations

import threading
from time import monotonic, monotonic_ns
from typing import Any

from greenlet import GreenletExit

from goproc._data.blame import about_value
from goproc._data.board import FAILED, OUT, PASSED, TAKEN, WORK
from goproc._data.ends import raisable
from goproc._data.flow_edges import LOOK, Out, close_both, growth, leave, sender
from goproc._data.flow_near import Near
from goproc._data.flow_worker import short_repr
from goproc._data.stages import BATCH, CALLING, EACH, FILTER, FLAT_MAP, MAP, SKIP, TAKE, THROTTLE, Stage
from goproc._data.unread import NotSent, about_unread
from goproc._go import go
from goproc._raised import OF_OBJECTS, add_note
from goproc._sched import scheduler
from goproc._select import Selector
from goproc.errors import Cancelled, ChanClosed, PickleError, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._channel import Chan
    from goproc._goroutine import Goroutine
    from goproc.rate import Limiter

    Counted = Callable[[Iterator[Any], int, memoryview], Iterator[Any]]


class Helper:
    """A goroutine of this process, or a thread where the caller is one.

    Attributes:
        error: raised by its body, or None.
    """

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._body: Callable[[], None] | None = body
        self._g: Goroutine[None] | None = None
        self._thread: threading.Thread | None = None
        if _core.on_scheduler_thread():
            self._g = go.opts(name=name).local(self._run)
        else:
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        body, self._body = self._body, None
        assert body is not None
        try:
            body()
        except (Cancelled, GreenletExit):
            raise
        except RuntimeStopped:
            return
        except BaseException as exc:
            self.error = exc

    def cancel(self) -> None:
        """Have it raise Cancelled where it blocks; a thread ends when its edges are closed."""
        if self._g is not None:
            self._g.cancel()

    def join(self, seconds: float | None) -> bool:
        """Wait for its end. Return False if that takes longer."""
        try:
            if self._g is not None:
                self._g.join(seconds)
                return True
        except TimeoutError:
            return False
        assert self._thread is not None
        self._thread.join(seconds)
        return not self._thread.is_alive()


# -- feeds ---------------------------------------------------------------------------------------------------


def feed(values: Iterator[Any], source: Out | None, outs: tuple[Out, ...], row: memoryview | None) -> None:
    """Send the values of an iterator until it ends or nobody wants more.

    Args:
        values: the iterator.
        row: where they are counted; None if a stage around the iterator counts them.
        source: the edge that it receives from, to be closed at the end, or None.
        outs: the edges to send to.

    Raises:
        BaseException: raised by the iterator, or because a value cannot be sent.
    """
    sent = 0
    try:
        ch = outs[0].ch
        send = ch.send_copy if isinstance(ch, Near) else sender(outs)
        grows = growth(outs)
        for value in values:
            try:
                send(value)
            except ChanClosed:
                return
            except PickleError as exc:
                error = about_value(value, exc, f"item {sent} of the source")
                if len(outs) == 1:
                    raise error from exc.__cause__
                send(NotSent(value, error))
            sent += 1
            if row is not None:
                row[OUT] = sent
            if grows is not None and not sent % LOOK and grows.due(sent, monotonic_ns(), value):
                send, grows = grows.grow(), None
    finally:
        del values
        end_edges(source, outs)


def received(ch: Chan[Any], halt: Chan[None]) -> Iterator[Any]:
    """Receive from a channel until it or `halt` is closed. For a thread, which cannot be cancelled."""
    either = Selector(halt, ch)
    while True:
        index, value, there = either.select()
        if index == 0 or not there:
            return
        yield value


def batch_within(
    source: Chan[Any] | Near, outs: tuple[Out, ...], n: int, within: float, row: memoryview
) -> None:
    """Send lists of n values, or of fewer when `within` seconds have passed since the first of them came."""
    send = sender(outs)
    batch: list[Any] = []
    due = 0.0
    try:
        while True:
            try:
                value, there = source.recv_ok(timeout=max(0.0, due - monotonic()) if batch else None)
                if not there:
                    break
                row[TAKEN] += 1
                if not batch:
                    due = monotonic() + within
                batch.append(value)
            except TimeoutError:
                pass
            except Exception as exc:
                error = about_unread(exc, None)
                if error is exc:
                    raise
                raise error from error.__cause__
            if batch and (len(batch) >= n or monotonic() >= due):
                _send_batch(send, batch, row)
                batch = []  # another list: a reader in this process has the one that was sent
        if batch:
            _send_batch(send, batch, row)
    except ChanClosed:
        return
    finally:
        end_edges(Out(source, outs[0].writers), outs)


def _send_batch(send: Callable[[Any], object], batch: list[Any], row: memoryview) -> None:
    send(batch)
    row[PASSED] += len(batch)
    row[OUT] += 1


def end_edges(source: Out | None, outs: tuple[Out, ...]) -> None:
    scheduler.shield(1)
    try:
        if source is not None:
            close_both(source.ch, source.wide, drain=True)
        leave(outs)
    except RuntimeStopped:
        pass
    finally:
        scheduler.shield(-1)


def counted(stage: Stage, values: Iterator[Any], row: memoryview) -> Iterator[Any]:
    """Return an iterator around another: for a stage that runs in this process."""
    if stage.kind in CALLING:
        return _called(values, stage, row)
    if stage.kind == THROTTLE:
        from goproc.rate import Limiter

        return _throttled(values, Limiter(stage.n, burst=1), row)
    makers: dict[int, Counted] = {TAKE: _taken, SKIP: _skipped, BATCH: _batched}
    return makers[stage.kind](values, int(stage.n), row)


def _taken(values: Iterator[Any], n: int, row: memoryview) -> Iterator[Any]:
    for left in range(n, 0, -1):
        try:
            value = next(values)
        except StopIteration:
            return
        row[TAKEN] += 1
        row[PASSED] += 1
        row[OUT] += 1
        if left == 1:
            del values  # an iterable is not held longer than it is needed
        yield value


def _skipped(values: Iterator[Any], n: int, row: memoryview) -> Iterator[Any]:
    for value in values:
        row[TAKEN] += 1
        row[PASSED] += 1
        if row[TAKEN] > n:
            row[OUT] += 1
            yield value


def _batched(values: Iterator[Any], n: int, row: memoryview) -> Iterator[list[Any]]:
    batch = []
    error = None
    try:
        for value in values:
            row[TAKEN] += 1
            batch.append(value)
            if len(batch) == n:
                row[PASSED] += n
                row[OUT] += 1
                yield batch
                batch = []
    except Exception as exc:  # of the source, or of an earlier stage: the values that are there are handed on
        error = exc
    if batch:
        row[PASSED] += len(batch)
        row[OUT] += 1
        yield batch
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


def _called(values: Iterator[Any], stage: Stage, row: memoryview) -> Iterator[Any]:
    """Call the function of a stage for each value."""
    f = stage.f
    assert f is not None
    for value in values:
        row[TAKEN] += 1
        began = monotonic_ns()
        result = _noting(stage, row, value, f, value)
        if stage.kind == FLAT_MAP:
            rest = _noting(stage, row, value, iter, result)
            while (one := _noting(stage, row, value, next, rest, _END)) is not _END:
                row[WORK] += monotonic_ns() - began
                row[OUT] += 1
                yield one
                began = monotonic_ns()
        row[WORK] += monotonic_ns() - began
        row[PASSED] += 1
        if stage.kind in (MAP, EACH) or (stage.kind == FILTER and result):
            row[OUT] += 1
            yield result if stage.kind == MAP else value


_END: Any = object()


def _noting(stage: Stage, row: memoryview, value: Any, call: Callable[..., Any], *args: Any) -> Any:
    """Make a call for the function of a stage. Its exception names the stage and the value."""
    try:
        return call(*args)
    except OF_OBJECTS as exc:
        row[FAILED] += 1
        add_note(exc, f"in the stage {stage.name!r} of the flow, item {short_repr(value)}")
        error = raisable(exc, "the function of the stage")
        if error is exc:
            raise
        raise error from exc


def _throttled(values: Iterator[Any], limiter: Limiter, row: memoryview) -> Iterator[Any]:
    for value in values:
        row[TAKEN] += 1
        limiter.wait()
        row[PASSED] += 1
        row[OUT] += 1
        yield value
