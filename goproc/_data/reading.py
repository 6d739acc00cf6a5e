"""Reads the messages that the lanes of a map send: results and failures, in the order of the items of a lane."""

from __future__ import annotations

from typing import Any

from goproc._data.chunks import Lost
from goproc._data.failing import fail
from goproc._data.job import BROKEN, DONE, FAILED, PART, UNREAD, UNREADABLE
from goproc._data.lane_parts import Grant
from goproc._data.results import unreadable
from goproc._pickling import failure
from goproc._pickling.salvage import Unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.engine import Engine


def read_one(engine: Engine, message: tuple[Any, ...]) -> None:
    kind = message[0]
    if kind == DONE:
        _read_done(engine, *message[1:])
    elif kind == FAILED:
        _read_failed(engine, *message[1:])
    elif kind == PART:
        _read_part(engine, *message[1:])
    elif kind == UNREAD:
        _read_unread(engine, *message[1:])
    elif kind == UNREADABLE:
        _read_refused(engine, *message[1:])
    elif kind == BROKEN:
        engine.fatal = True
        raise message[1]


def _read_done(
    engine: Engine, number: int, values: list[Any], work: float, wait: float, slowest: int, seconds: float
) -> None:
    lane = engine.lanes.lanes[number]
    if lane.broken is not None:
        _read_unread(engine, number, lane.broken, seconds)
        values = values[1:]
        if not values:
            return
    at = 0
    for chunk, start, stop in lane.finish(len(values)):
        n = stop - start
        indices = chunk.indices[start:stop] if n != len(chunk.indices) else chunk.indices
        engine.order.put(indices, values[at : at + n] if n != len(values) else values)
        if at <= slowest < at + n:
            engine.tally.note_slow(indices[slowest - at], seconds)
        if engine.keys is not None:
            for index in indices:
                engine.keys.finish(index)
        at += n
    engine.tally.note(lane.proc, work, wait)
    engine.tally.done += at
    if work:
        engine.pace.note(at, work)


def _read_part(engine: Engine, number: int, values: list[Any]) -> None:
    """Values of the next item of a lane have come. Where one cannot be read, the item has failed at its end."""
    lane = engine.lanes.lanes[number]
    chunk = lane.chunks[0]
    some = [] if lane.broken is not None else values
    lane.partial = True
    for at, value in enumerate(some):
        if type(value) is Unread:
            lane.broken = unreadable("the result", value.error, "the caller", value.path)
            some = values[:at]
            break
    assert lane.way.credit is not None
    engine.order.put_part(chunk.indices[chunk.finished], [*some, Grant(lane.way.credit)])


def _read_failed(engine: Engine, number: int, error: tuple[Any, ...], seconds: float, wait: float) -> None:
    engine.tally.note(engine.lanes.lanes[number].proc, 0.0, wait)
    _read_unread(engine, number, failure.unpack(error), seconds)


def _read_unread(engine: Engine, number: int, error: BaseException, seconds: float) -> None:
    """The next item of a lane has failed, or its result cannot be read here."""
    lane = engine.lanes.lanes[number]
    for chunk, start, _ in lane.finish(1):
        engine.tally.note(lane.proc, seconds, 0.0)
        engine.tally.note_slow(chunk.indices[start], seconds)
        fail(engine, Lost.of(chunk, start, number, error, seconds))
    engine.pace.note(1, seconds)


def _read_refused(engine: Engine, number: int, error: tuple[Any, ...]) -> None:
    """A lane could not read its next chunk: an item for which a process cannot do that has failed."""
    chunk = engine.lanes.lanes[number].refused()
    if len(chunk.items) > 1:
        for single in reversed(chunk.singles()):
            engine.lanes.give(single, first=True)
        return
    fail(engine, Lost.of(chunk, 0, number, failure.unpack(error)))
