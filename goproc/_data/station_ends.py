"""The end of a station before that of its map: its process has died, is replaced, or the function of init= has failed."""

from __future__ import annotations

from time import monotonic

from goproc._data.ends import raisable
from goproc._data.failing import fail
from goproc._data.job import INIT_FAILED, NOT_READ, RECYCLED
from goproc._pickling import failure
from goproc.errors import WorkerDied
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.engine import Engine

_LEAVE_SECONDS = 1.0  # that a map waits for a process to be replaced


def station_ended(engine: Engine, station: int) -> None:
    """Go on after the end of a station, or raise the failure that ends the map."""
    end, error = engine.lanes.ended(station)
    if engine.recorder is not None:
        engine.recorder.sync()
    engine.read()
    if end is not None and end.how in (INIT_FAILED, NOT_READ):
        assert end.error is not None
        engine.fatal = True
        raise raisable(failure.unpack(end.error), "init= of the map")
    if error is not None and not isinstance(error, WorkerDied):
        engine.fatal = True
        raise raisable(error)
    engine.leaving.pop(station, None)
    if end is not None and end.how == RECYCLED:
        engine.lanes.recover(station, None)
        if engine.lanes.places[station] != 0:
            engine.leaving[station] = monotonic() + _LEAVE_SECONDS
    else:
        _met_death(engine, station, error)
    engine.lanes.spread()
    engine.refuse_unsendable()


def _met_death(engine: Engine, station: int, error: BaseException | None) -> None:
    if engine.lanes.in_init(station) and error is not None:
        engine.fatal = True
        raise error
    for lost in engine.lanes.recover(station, error):
        engine.tally.note_slow(lost.index, lost.seconds)
        fail(engine, lost)


def keep_processes(engine: Engine) -> None:
    """Go on with processes that cannot be replaced in time: other goroutines that have begun there do not end."""
    for station, until in list(engine.leaving.items()):
        if monotonic() >= until:
            del engine.leaving[station]
            _core.retire(engine.lanes.places[station], False)
