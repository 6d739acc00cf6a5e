"""The failures of a map: an item whose attempt failed is tried again, or fails for good in the way that on_error= says."""

from __future__ import annotations

import heapq
from time import monotonic
from typing import NamedTuple

from goproc._data.blame import portable
from goproc._data.chunks import Chunk, Lost
from goproc._data.ends import raisable, short
from goproc._data.policy import Failure
from goproc._raised import add_note, described
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.engine import Engine


class Delayed(NamedTuple):
    """An item that waits for its next attempt. They compare by time."""

    due: float
    order: int
    chunk: Chunk


def fail(engine: Engine, lost: Lost) -> None:
    """Give an item whose attempt has failed another one, or fail the item for good."""
    if engine.policy.allows(lost.error, lost.attempts):
        _delay(engine, lost)
    else:
        fail_for_good(engine, lost)


def fail_for_good(engine: Engine, lost: Lost) -> None:
    """Raise the exception of an item, or put a Failure in the place of its result, in the channel, or nowhere."""
    engine.tally.failed += 1
    proc = engine.lanes.lanes[lost.lane].proc if lost.lane >= 0 else _core.proc()
    failed = Failure(lost.item, lost.index, lost.error, lost.attempts, proc, lost.seconds)
    add_note(lost.error, f"item {lost.index}: {short(lost.item)}")
    # without an attempt the result is recorded
    if engine.recorder is not None and lost.name is not None and lost.attempts:
        from goproc._data.checkpoint import Record

        text = described(lost.error)
        engine.recorder.note_failure(Record(lost.name, None, text, lost.attempts, lost.seconds))
    on_error = engine.policy.on_error
    if on_error == "raise":
        engine.show()
        engine.fatal = True
        raise raisable(lost.error)
    if on_error == "return":
        engine.order.put(range(lost.index, lost.index + 1), [(failed,) if engine.plan.spread else failed])
    else:
        engine.order.leave_out(lost.index)
        if on_error != "skip":
            engine.letters.append(failed)
    if engine.keys is not None:
        engine.keys.finish(lost.index)


def _delay(engine: Engine, lost: Lost) -> None:
    engine.tally.retried += 1
    lane = lost.lane if engine.plan.key is not None else -1
    names = None if lost.name is None else [lost.name]
    chunk = Chunk([lost.index], [lost.item], lost.attempts, lane, names)
    pause = _pause(engine, lost)
    if pause <= 0:
        engine.lanes.give(chunk, first=True)
        return
    engine.orders += 1
    heapq.heappush(engine.delayed, Delayed(monotonic() + pause, engine.orders, chunk))


def _pause(engine: Engine, lost: Lost) -> float:
    """Return the seconds before the next attempt. The exception of a delay= ends the map."""
    try:
        return engine.policy.pause(lost.attempts)
    except Exception as exc:  # the function is the user's
        engine.fatal = True
        error = raisable(exc, "delay= of the map")
        add_note(error, f"in delay=, after attempt {lost.attempts} of item {lost.index}: {short(lost.item)}")
        if error is exc:
            raise
        raise error from exc


def retry(engine: Engine) -> None:
    """Give the items whose delay is over to lanes."""
    while engine.delayed and engine.delayed[0].due <= monotonic():
        engine.lanes.give(heapq.heappop(engine.delayed).chunk, first=True)


def post(engine: Engine) -> None:
    """Send dead letters. Blocks while the channel is full."""
    while engine.letters:
        engine.policy.on_error.send(portable(engine.letters[0]))
        engine.letters.popleft()
