"""The body of a member of a group: the call, and the steps of each member at its end."""

from __future__ import annotations

from typing import Any

from goproc._context import CANCELED
from goproc._goroutine import Goroutine
from goproc._group_state import BLOCK, STOPPING
from goproc._life import Goexit, Reported, bodies, open_call
from goproc._proc import fatal, forked
from goproc._sched import scheduler
from goproc._shared_value import Cell
from goproc.errors import Cancelled
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._channel import Chan
    from goproc.sync import Atomic

_NOT_ERRORS = (Goexit, Cancelled, KeyboardInterrupt, SystemExit)


def run_member(shared: tuple[Any, ...], call: Any) -> Any:
    """Make the call of a member, and do the bookkeeping. An exception of the call is the group's, and no panic."""
    _, _, flags, errors, noting, node = shared  # as Shared
    task = scheduler.current.task
    try:
        if scheduler.current.cancelled or flags.load() & STOPPING:
            raise Cancelled
        f, args, kwargs = open_call(call)
        return f(*args, **kwargs)
    except _NOT_ERRORS as exc:
        forked.leave(exc)
        raise
    except BaseException as exc:  # any exception of the call is an error of the group
        forked.leave(exc)
        scheduler.shield(1)
        try:
            _core.for_end(_note, flags, Cell.of(errors, noting), node, exc)
        finally:
            scheduler.shield(-1)
        raise Reported(exc) from None
    finally:
        forked.leave(None)
        scheduler.shield(1)
        try:
            _core.task_leave(task)  # gives its place back, and counts down
        finally:
            scheduler.shield(-1)


bodies["group"] = run_member


def _note(flags: Atomic, errors: Cell[list[Goroutine[Any]]], node: Chan[None], exc: BaseException) -> None:
    in_block = flags.load() & BLOCK
    error = _core.promise_new(Goroutine)
    packed = fatal.set_failure(error, exc)
    # Outside of a block only the first error is asked for.
    errors.update(lambda noted: ([*noted, error] if in_block or not noted else noted, None))
    if in_block:
        flags.or_(STOPPING)
    _core.context_cancel(node, CANCELED, packed)
