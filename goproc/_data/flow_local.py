"""The parts of a flow that run in the process of its consumer.

A feed advances an iterable, or receives from an edge, and sends to the next edge; counting stages are iterators around
it. A pool hands the items of an edge to the engine of pmap, for stages with options: time limits, retries, threads and
so on. Both are goroutines of the consumer's process, or threads where the consumer is a thread.
"""

from __future__ import annotations

import threading
from time import monotonic, monotonic_ns
from typing import Any, NamedTuple

from greenlet import GreenletExit

from goproc._data.blame import about_value, portable
from goproc._data.board import FAILED, OUT, PASSED, TAKEN, WORK
from goproc._data.engine import Engine, Plan
from goproc._data.flow_edges import Out, close_both, growth, leave, sender
from goproc._data.flow_near import Near
from goproc._data.flow_unread import UNKNOWN, NotSent, Unread, about_unread, unread
from goproc._data.flow_worker import short_repr
from goproc._data.job import Job
from goproc._data.lane_parts import Grant
from goproc._data.lanes import Lost, placed
from goproc._data.policy import Failure
from goproc._data.results import parted
from goproc._data.source import Source
from goproc._data.stages import BATCH, CALLING, EACH, FILTER, FLAT_MAP, MAP, SKIP, TAKE, THROTTLE, Stage
from goproc._go import go
from goproc._sched import scheduler
from goproc._select import Selector
from goproc.errors import Cancelled, ChanClosed, PickleError, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._channel import Chan
    from goproc._data.order import Ordered, Unordered
    from goproc._goroutine import Goroutine
    from goproc.rate import Limiter

    Counted = Callable[[Iterator[Any], int, memoryview], Iterator[Any]]


_LOOK = 512  # values that a feed sends between two looks whether its edge is to grow


class Helper:
    """A goroutine of this process, or a thread where the caller is one.

    Attributes:
        error: what its body has raised.
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
        BaseException: what the iterator raised, or why a value cannot be sent.
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
            if grows is not None and not sent % _LOOK and grows.due(sent, monotonic_ns(), value):
                send, grows = grows.grow(), None
    finally:
        del values
        _end(source, outs)


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
        if batch:
            _send_batch(send, batch, row)
    except ChanClosed:
        return
    finally:
        _end(Out(source, outs[0].writers), outs)


def _send_batch(send: Callable[[Any], object], batch: list[Any], row: memoryview) -> None:
    send(batch)
    row[PASSED] += len(batch)
    row[OUT] += 1
    batch.clear()


def _end(source: Out | None, outs: tuple[Out, ...]) -> None:
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
    for value in values:
        row[TAKEN] += 1
        batch.append(value)
        if len(batch) == n:
            row[PASSED] += n
            row[OUT] += 1
            yield batch
            batch = []
    if batch:
        row[PASSED] += len(batch)
        row[OUT] += 1
        yield batch


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
    except Exception as exc:
        row[FAILED] += 1
        exc.add_note(f"in the stage {stage.name!r} of the flow, item {short_repr(value)}")
        if isinstance(exc, StopIteration):
            raise RuntimeError("the function of the stage raised StopIteration") from exc
        raise


def _throttled(values: Iterator[Any], limiter: Limiter, row: memoryview) -> Iterator[Any]:
    for value in values:
        row[TAKEN] += 1
        limiter.wait()
        row[PASSED] += 1
        row[OUT] += 1
        yield value


# -- pools ---------------------------------------------------------------------------------------------------


class Dropped(NamedTuple):
    """The result of a filter in a pool for an item that it drops."""


class Many(NamedTuple):
    """The results of a flat_map() in a pool for one item."""

    values: list[Any]


class Call:
    """The function of a stage, as the engine of pmap calls it."""

    def __init__(self, kind: int, f: Callable[[Any], Any]) -> None:
        self.kind = kind
        self.f = f

    def __call__(self, item: Any) -> Any:
        result = self.f(item)
        if self.kind == EACH:
            return item
        if self.kind == FILTER:
            return item if result else Dropped()
        return Many(list(result))


class StageEngine(Engine):
    """The engine of pmap with an edge in place of an iterable: it never waits for an item while a result is there.

    Args:
        stage: whose items it runs.
        edge: where they come from.
        ahead: how many items it may have in hand.
    """

    def __init__(self, stage: Stage, edge: Chan[Any] | Near, ahead: int) -> None:
        options, f = stage.options, stage.f
        assert options is not None and f is not None
        parted = stage.kind == FLAT_MAP and options.policy.retries == 0
        job = Job(
            f if stage.kind == MAP or parted else Call(stage.kind, f),
            False,
            None,  # type: ignore[arg-type]  # Engine makes the channel
            options.init,
            options.exit,
            options.limit,
            options.policy.timeout,
            options.threads or 0,
            None,
            None,
            parted=parted,
        )
        places = placed(stage.calls, options.threads)
        self.edge = edge
        super().__init__(
            Plan(job, options.policy, options.ordered, ahead, None, options.key, places, spread=parted),
            Source(iter(())),
            None,
        )

    def _room(self) -> int:
        order: Ordered | Unordered = self.order
        return self.pace.ahead - (self.tally.drawn - order.passed + order.held())

    def _draw(self) -> None:
        while not self.source.over and (room := self._room()) > 0:
            items: list[Any] = []
            refused = self._receive_chunk(items, min(self.pace.chunk, room))
            self._dispatch(items)
            if refused is not None:
                self._refuse(refused)
            elif not items:
                return

    def _receive_chunk(self, items: list[Any], n: int) -> Unread | None:
        """Append the items that are there to a list, at most n. Return the one that cannot be read, if one is met."""
        while len(items) < n:
            try:
                item, there = self.edge.try_recv()
            except ChanClosed:
                self.source.close()
                break
            except Exception as exc:
                refused = unread(exc, "the caller")
                if refused is None:
                    raise
                return refused
            if not there:
                break
            items.append(item)
        return None

    def _refuse(self, refused: Unread) -> None:
        """The next item cannot be read here: it has failed."""
        index = self.tally.drawn
        self.tally.drawn += 1
        self._fail_for_good(Lost(index, refused.text or UNKNOWN, 0, -1, refused.error))

    def wait(self) -> None:
        """Wait until an item or a result has come, a station has ended, or a delay is over. From any thread."""
        if self.plan.job.parted and self.plan.ordered:
            self._let_pass()
        if self.source.over or self._room() <= 0:
            super().wait()
            return
        timeout = max(0.0, self.delayed[0].due - monotonic()) if self.delayed else None
        stations = [number for number, handle in enumerate(self.lanes.handles) if handle is not None]
        edge = self.edge.numbers if isinstance(self.edge, Near) else self.edge
        selector = Selector(edge, self.door, *(self.lanes.handles[number] for number in stations))
        try:
            index, value, there = selector.select(timeout)
        except TimeoutError:
            if timeout is None or monotonic() < self.delayed[0].due:
                raise
            return
        except Exception as exc:
            refused = unread(exc, "the caller")
            if refused is None:
                raise
            self._refuse(refused)
            return
        if index > 1:
            self.ends.append(stations[index - 2])
        elif index == 1:
            if there and value is not None:
                self.inbox.extend(parted(value))
        elif there:
            self._dispatch([self.edge.taken(value) if isinstance(self.edge, Near) else value])
        else:
            self.source.close()

    def _let_pass(self) -> None:
        """Give credits where the item whose turn it is waits behind others: after the death of a process, it may."""
        turn = self.order.passed
        busy = [lane for lane in self.lanes.lanes if lane.chunks]
        if any(lane.chunks[0].indices[lane.chunks[0].settled] == turn for lane in busy):
            return
        for lane in busy:
            assert lane.way.credit is not None
            Grant(lane.way.credit).give()


def pool(engine: StageEngine, outs: tuple[Out, ...], kind: int, row: memoryview) -> None:
    """Send the results of a stage that the engine of pmap runs."""
    send = sender(outs)
    last = isinstance(outs[0].ch, Near) and outs[0].ch.last
    over = False
    try:
        while True:
            while not engine.advance():
                engine.go_on()
            if not engine.ready:
                break
            for value in _ready(engine, kind):
                try:
                    send(value if last or type(value) is not Failure else portable(value))
                except ChanClosed:
                    return
                row[OUT] += 1
        engine.finish()
        over = True
    finally:
        if not over:
            scheduler.shield(1)
            try:
                engine.cancel()
            except RuntimeStopped:
                pass
            finally:
                scheduler.shield(-1)
        _end(Out(engine.edge, outs[0].writers), outs)


def _ready(engine: StageEngine, kind: int) -> Iterator[Any]:
    """Yield the values of a result that is ready. Where results come in parts, of all that are ready."""
    ready = engine.ready
    yield from _values(ready.popleft(), kind)
    while ready and engine.plan.job.parted:
        yield from _values(ready.popleft(), kind)


def _values(result: Any, kind: int) -> tuple[Any, ...] | list[Any]:
    if kind == FILTER and type(result) is Dropped:
        return ()
    if type(result) is Many:
        return result.values
    if type(result) is Grant:
        result.give()
        return ()
    return (result,)
