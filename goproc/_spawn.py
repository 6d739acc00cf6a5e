"""The creation of goroutines: a call becomes a task in shared memory, or a G of this process.

The call is serialised at once, in the caller, wherever the goroutine will run: the meaning of a call never depends on
its placement, and an object that cannot be copied is reported at the `go` line. The call is then a task in shared
memory. This process starts it when its running goroutine blocks, unless an idle process takes it first.
"""

from __future__ import annotations

import opcode
import sys
from contextvars import copy_context
from typing import Any

from goproc import _time_limit
from goproc._call_options import Limits
from goproc._channel import chan
from goproc._goroutine import Goroutine
from goproc._labels import format_labels
from goproc._life import first_turn_local
from goproc._misuse import not_callable
from goproc._other_names import refuse_args
from goproc._pickling import calls, variables
from goproc._pickling.call_shapes import WITH
from goproc._proc import fatal
from goproc._record import Record
from goproc._sched import scheduler
from goproc._sched.g import G
from goproc.errors import OutOfSharedMemory, PickleError
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_POP_TOP = opcode.opmap["POP_TOP"]

# Code that is made at run time, over and over, would fill the tables of the places where goroutines are created. So
# much code is kept, and the texts of so many places are stored, which is for ever.
_KEPT_SITES = 1024
_MOST_SITES = 4096

# In the host, if levels of logging have changed: see _logs_host.py.
before_go: Callable[[], None] | None = None
levels = 0  # where the levels are that hold for goroutines started here; 0: they are as they were at first

_sites: dict[tuple[int, int], tuple[object, int]] = {}
_site_texts: dict[str, int] = {}  # the refs of the stored texts


def _site(frame: FrameType, alone: bool = False) -> int:
    """Return a reference, for any process, to the place where a goroutine is created. Each place is stored once.

    Args:
        frame: of the code that creates it.
        alone: True if no handle is made; else the code tells whether it drops the handle at once.
    """
    code = frame.f_code
    key = (id(code), ~frame.f_lasti if alone else frame.f_lasti)
    known = _sites.get(key)
    if known is not None and known[0] is code:
        return known[1]
    if len(_sites) >= _KEPT_SITES:
        _sites.clear()
    text = fatal.Site(
        code.co_qualname, f"{code.co_filename}:{frame.f_lineno}", alone or _is_statement(frame)
    ).store()
    if text not in _site_texts and len(_site_texts) >= _MOST_SITES:
        text = fatal.Site(
            "code made at run time", "one of very many places", alone or _is_statement(frame)
        ).store()
    ref = _site_texts.get(text, 0)
    if not ref:
        ref = _site_texts[text] = _core.definition_put(text.encode("utf-8", "backslashreplace"))
    _sites[key] = (code, ref)
    return ref


def _is_statement(frame: FrameType) -> bool:
    """Return True if the call that runs in a frame is a statement: its result is popped, and nothing else."""
    code, at = frame.f_code.co_code, frame.f_lasti + 2
    while at < len(code) and code[at] == 0:  # the inline caches of the call
        at += 2
    return at < len(code) and code[at] == _POP_TOP


def name_of(f: Any) -> str:
    return getattr(f, "__qualname__", None) or type(f).__qualname__


def spawn(
    f: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    proc: int,
    frame: FrameType,
    tracking: Tracking | None = None,
    labels: dict[str, str] | None = None,
    always: bool = False,
    limits: Limits | None = None,
) -> Goroutine[Any]:
    empty = _core.context_empty()
    if not empty and not _core.attached():
        _core.refuse_stale(f, *args, *kwargs.values())
    if "args" in kwargs:
        refuse_args(f)
    call = calls.pack_call(f, args, kwargs)
    values = None
    if not empty:
        _core.ensure()
        values = variables.pack(copy_context())
    if before_go is not None:
        _core.ensure()
        before_go()
    creator = scheduler.current
    if creator.labels:
        labels = _inherited(labels)
    more: tuple[Any, ...] = (_label_bytes(labels),) if labels else ()
    if always:
        more = (*(more or (None,)), None, True)
    try:
        if tracking is not None:
            call = (
                tracking.kind,
                tracking.tracker,
                closed_call(call, limits is not None and bool(limits.retries)),
            )
            more = *(more or (None,)), tracking.trackers
        if labels or values or levels or limits:
            call = WITH, call, labels, values, levels, limits and tuple(limits)
            if limits is not None and limits.retries:
                more = _label_bytes(labels) if labels else None, None, False, limits.retries
        g = _core.task_new(Goroutine, call, name, _site(frame), creator.id, proc, *more)
    except PickleError as error:
        from goproc._pickling.diagnose import explain_call

        raise _core.as_pickling(explain_call, error, f, args, kwargs) from error.__cause__
    except OutOfSharedMemory as error:
        from goproc._pickling.diagnose import explain_memory

        raise explain_memory(error, f, args, kwargs) from None
    scheduler.newest_first()
    g._name = name
    if labels:
        g._labels = labels
    return g


def _inherited(own: dict[str, str] | None) -> dict[str, str] | None:
    """Return the labels of a new goroutine: its creator's, and its own."""
    creators = scheduler.current.labels
    if not creators or not _core.on_scheduler_thread():
        return own
    return {**creators, **own} if own else creators


class Tracking(Record):
    """How a goroutine is followed to its end, by a WaitGroup or a group.

    Attributes:
        kind: of the body in `bodies` that runs it.
        tracker: the first argument of that body.
        trackers: a WaitGroup, or _group_state.trackers(): the core counts the goroutine as it makes it, and tells of its
            end, also where a process dies meanwhile.
    """

    kind: str
    tracker: Any
    trackers: Any


class Origin(Record):
    """The origin of a goroutine, noted before it is created: a timer's function, say, has no creator when it starts."""

    site: int
    parent: int
    labels: dict[str, str] | None


def origin(frame: FrameType) -> Origin:
    return Origin(_site(frame, alone=True), scheduler.current.id, _inherited(None))


def spawn_local(
    f: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    frame: FrameType | Origin,
    labels: dict[str, str] | None = None,
    trackers: Any = None,
    limits: Limits | None = None,
) -> Goroutine[Any]:
    if f is None:
        raise not_callable("go of nil func value", None)
    if not callable(f):
        raise not_callable(f"go.local: {type(f).__name__!r} object is not callable", f)
    if "args" in kwargs:
        refuse_args(f)
    if not _core.attached():
        _core.refuse_stale(f, *args, *kwargs.values())
    _core.ensure()
    if type(frame) is Origin:
        site, parent, labels = frame
    else:
        site, parent, labels = _site(frame), scheduler.current.id, _inherited(labels)  # type: ignore[arg-type]
    text: tuple[Any, ...] = (_label_bytes(labels),) if labels else ()
    if trackers is not None:
        text = *(text or (None,)), trackers
    handle, block, ref, id_ = _core.task_local(Goroutine, name, site, parent, *text)
    try:
        handle._name = name
        g = G(id_, name, first_turn_local)
        g.call = f, args, kwargs or None
        if limits is not None:
            g.call = _time_limit.run, (limits, f, args, kwargs), None
        g.object, g.task, g.parent, g.site = ref, block, parent, site
        g.context = copy_context()
        if labels:
            g.labels = handle._labels = labels
    except BaseException:  # a signal's handler raised: the goroutine does not run
        _core.task_unmake(block)
        raise
    if _core.on_scheduler_thread():
        scheduler.started[ref] = g
        scheduler.enqueue(g)
    else:

        def begin() -> None:
            scheduler.started[ref] = g
            scheduler.enqueue(g)

        scheduler.post(begin)
    return handle


def spawn_beside(proc: int, name: str, f: Any, *args: Any) -> Goroutine[Any]:
    """As ``go.on(proc)(f, *args)``, for a goroutine that begins in a reserved process, too, and waits there."""
    return spawn(f, args, {}, name, proc, sys._getframe(1), always=True)


def closed_call(call: Any, again: bool = False) -> Any:
    """Return the call in a letter, unless reading it cannot fail: the objects to tell of its end stay readable.

    Args:
        call: a call of pack_call().
        again: whether the call may be read again, after a death.
    """
    if calls.plain(call):
        return call
    return enclosed(call) if again else letter(call)


def enclosed(value: Any) -> Any:
    """Return a promise that holds a value. Every process can read the promise; result() reads the value."""
    envelope = _core.promise_new(Goroutine)
    _core.promise_set(envelope, False, value)
    return envelope


def letter(value: Any) -> Any:
    """Return a channel that holds a value for one reader, who takes it with try_recv().

    The memory of the value is free once it is read. That of an enclosed() value is found by the collector, long after that:
    each value of some megabytes is copied to other memory, which the system has to supply first.
    """
    sent = chan(1)
    sent.try_send(value)
    return sent


def stored_call(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a call in an envelope, for open_call() in any number of goroutines.

    Raises:
        PickleError, OutOfSharedMemory: as `go`.
    """
    _core.ensure()
    envelope = _core.promise_new(Goroutine)
    try:
        _core.promise_set(envelope, False, calls.pack_call(f, args, kwargs))
    except PickleError as error:
        from goproc._pickling.diagnose import explain_call

        raise _core.as_pickling(explain_call, error, f, args, kwargs) from error.__cause__
    except OutOfSharedMemory as error:
        from goproc._pickling.diagnose import explain_memory

        raise explain_memory(error, f, args, kwargs) from None
    return envelope


def _label_bytes(labels: Mapping[str, str]) -> bytes:
    return format_labels(labels).encode("utf-8", "backslashreplace")


def forget() -> None:
    """Forget the references into the segment, as the runtime stops."""
    _sites.clear()
    _site_texts.clear()
