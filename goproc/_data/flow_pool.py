"""The stages of a flow with options, such as time limits, retries and threads: pools.

A pool hands the items of an edge to the engine of pmap. It is a goroutine of the process of the flow's consumer, or a
thread where the consumer is a thread.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, NamedTuple

from goproc._data.blame import portable
from goproc._data.board import OUT
from goproc._data.engine import Engine, Plan
from goproc._data.flow_edges import Out, sender
from goproc._data.flow_local import end_edges
from goproc._data.flow_near import Near
from goproc._data.job import Job
from goproc._data.lane_parts import Grant
from goproc._data.lanes import placed
from goproc._data.policy import Failure
from goproc._data.sent import Around
from goproc._data.source import Source
from goproc._data.stages import EACH, FILTER, FLAT_MAP, MAP, Stage
from goproc._data.unread import Unread, unread
from goproc._sched import scheduler
from goproc._select import Selector
from goproc.errors import ChanClosed, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._channel import Chan
    from goproc._data.order import Ordered, Unordered


class Dropped(NamedTuple):
    """The result of a filter in a pool for an item that it drops."""


class Many(NamedTuple):
    """The results of a flat_map() in a pool for one item."""

    values: list[Any]


class Call(Around):
    """The function of a stage, as the engine of pmap calls it."""

    __slots__ = ("kind",)

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
            stage.name,
            stage.name,
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
            Plan(
                options.where,
                job,
                options.policy,
                options.ordered,
                ahead,
                None,
                options.key,
                places,
                spread=parted,
            ),
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
            index, value, there = self.select(selector, 1, timeout)
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
        elif index == 0 and there:
            self._dispatch([self.edge.taken(value) if isinstance(self.edge, Near) else value])
        elif index == 0:
            self.source.close()

    def _let_pass(self) -> None:
        """Give credits where the item whose turn it is could not go on: no part comes before its own.

        It has none if its lane ran later items before, whose parts are kept with all credits. Or it waits behind others:
        after the death of a process, or where a busy process has not begun it.
        """
        turn = self.order.passed
        busy = [lane for lane in self.lanes.lanes if lane.chunks]
        first = [lane for lane in busy if lane.chunks[0].indices[lane.chunks[0].finished] == turn]
        for lane in first or busy:
            assert lane.way.credit is not None
            if not first or not len(lane.way.credit):
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
        if engine.source.error is not None:
            engine.fatal = True
            raise engine.source.error
    finally:
        if not over:
            scheduler.shield(1)
            try:
                engine.cancel()
            except RuntimeStopped:
                pass
            finally:
                scheduler.shield(-1)
        end_edges(Out(engine.edge, outs[0].writers), outs)


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
