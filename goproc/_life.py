"""The life of a goroutine in its process: made of a task, it starts, runs, and ends with an outcome.

Each kind of object that is told of the end of a goroutine has a body in `bodies`: a function that runs the call for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from typing import Any

from goproc import _time_limit
from goproc._call_options import Limits
from goproc._labels import format_labels
from goproc._pickling import calls, functions, homes, module_frames, variables
from goproc._pickling.call_shapes import SHARED, WITH
from goproc._pickling.packed import Packed
from goproc._proc import fatal, forked, line_output, sigint
from goproc._sched import scheduler
from goproc._sched.g import G
from goproc._tracebacks import cut
from goproc.errors import Cancelled, GoprocError, OutOfSharedMemory, PickleError
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # The bodies by kind: (object to tell, call) -> result of the call. The object is told even if the call cannot
    # begin.
    Body = Callable[[Any, Any], Any]

bodies: dict[str, Body] = {}  # by the word that stands before such a call
find_body: Callable[[str], None] | None = None  # adds a missing body to `bodies`

on_begin: Callable[[], None] | None = None  # called in a worker before a goroutine begins
on_levels: Callable[[int], None] | None = None  # in a worker: makes levels those of this process
on_end: Callable[[int], None] | None = None  # called with the number of a goroutine whose call has ended


class Goexit(BaseException):
    """Raised by goexit(); ends the goroutine, running its ``finally`` blocks."""


class Reported(BaseException):
    """Raised around an exception that was reported already: it is the outcome of the goroutine, and no panic."""

    def __init__(self, exc: BaseException) -> None:
        super().__init__(exc)
        self.exc = exc


# -- start ---------------------------------------------------------------------------------------------------


_UNBORN = G(0, "")  # copied for each task: G() sets some thirty slots one by one


def make(task: tuple[Any, ...]) -> G:
    """Return the G of a task that this process has claimed."""
    ref_of_task, ref, id_, parent, site, name, call, error = task  # as task_next() in the core makes it
    g = _core.twin(_UNBORN)
    g.id, g.name, g.entry = id_, name, _first_turn
    g.object, g.task, g.parent, g.site = ref, ref_of_task, parent, site
    g.call = error if error is not None else call
    scheduler.started[ref] = g
    return g


def _first_turn(g: G) -> None:
    """Run the first turn of a goroutine that came as a task."""
    call, g.call = g.call, None
    try:
        if on_begin is not None:
            on_begin()
        if isinstance(call, BaseException):  # its arguments could not be read: that error is its outcome
            raise call
        limits = None
        if call[0] == WITH:
            _, call, labels, values, ref, limits = call
            g.labels = labels or g.labels
            if ref and on_levels is not None:
                on_levels(ref)
            if values:
                g.context = contextvars.Context()
                g.context.run(variables.unpack, values)
        g.cancelled = _core.task_cancelled(g.object)
        f: Any
        kwargs: dict[str, Any] | None = None
        if type(call[0]) is str:
            f, args = _body_of(call[0]), call[1:]
        elif g.cancelled:
            raise Cancelled
        else:
            f, args, kwargs = _open(g, call)
        if limits is not None:
            f, args, kwargs = _time_limit.run, (Limits(*limits), f, args, kwargs), None
    except BaseException as exc:  # any exception is the outcome of the goroutine
        scheduler.started.pop(g.object, None)
        _end_failed(g, _unread(g, exc) if exc is call else exc)
        return
    del call
    try:
        _run(g, f, args, kwargs)
    except MemoryError:
        if g.task:  # else that came after its outcome
            _end_without_memory(g)
    if g.private is not None:
        del f, args, kwargs
        _core.release_namespace(g, "private")


def _open(g: G, call: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the callable and the arguments of a call that a goroutine makes first."""
    f, args, kwargs, template = calls.unpack_call(call)
    g.function = f
    if template is None:
        g.private = homes.namespace_of(f)
    elif len(call) == SHARED:
        return f, args, kwargs
    else:
        if template.fresh:
            g.private = f.__globals__
        if not template.imports_library and module_frames.LIBRARY not in sys.modules:
            return f, args, kwargs
    if module_frames.wanted(f):
        return module_frames.called_by_module(f), args, kwargs  # type: ignore[arg-type]
    return f, args, kwargs


def _unread(g: G, exc: BaseException) -> BaseException:
    """Return the exception of a call that could not be read, with a note of that: the program has not raised it."""
    if isinstance(exc, Exception) and not isinstance(exc, (GoprocError, MemoryError)):
        cut(exc, always=True)
        with contextlib.suppress(Exception):  # the class may keep notes in a way of its own
            exc.add_note(
                f"raised while the worker read the call of {g.name}: an object in its function or arguments cannot be made "
                "again from its pickle (see __reduce__, __setstate__, __getattr__ and __init__ of its class)"
            )
    return exc


def first_turn_local(g: G) -> None:
    """Run the first turn of a goroutine of go.local."""
    (f, args, kwargs), g.call = g.call, None
    _core.task_started(g.object)
    try:
        _run(g, f, args, kwargs)
    except MemoryError:
        if g.task:  # else that came after its outcome
            _end_without_memory(g)


def open_call(call: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the callable and the arguments of a call whose end is tracked."""
    sent: Any = call
    if isinstance(call, _core.Outcome):
        call = sent.result()
    elif isinstance(call, _core.Channel):  # a letter
        call, _ = sent.try_recv()
    elif callable(call[0]):
        return call  # type: ignore[no-any-return]  # of this process
    return _open(scheduler.current, call)


def _body_of(kind: str) -> Body:
    body = bodies.get(kind)
    if body is None:
        assert find_body is not None
        find_body(kind)  # it is in a module that this process has not used yet
        body = bodies[kind]
    return body


# -- run and end ---------------------------------------------------------------------------------------------


def _run(g: G, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """Run a goroutine to its end. Lets nothing through but a MemoryError in the midst of the end."""
    value: Any = None
    # A greenlet has a context of its own. Setting it needs no stack, as Context.run() would, and so less memory for a
    # parked goroutine. Nor does a call with its arguments written out, which Python makes in the same C frame.
    g.greenlet.gr_context = g.context
    try:
        if kwargs or len(args) > 2:
            value = f(*args, **(kwargs or {}))
        elif not args:
            value = f()
        elif len(args) == 1:
            value = f(args[0])
        else:
            value = f(args[0], args[1])
    except Goexit:
        pass
    except Reported as reported:
        _end_failed(g, reported.exc, quiet=True)
        return
    except BaseException as exc:  # any exception of the call is the outcome of the goroutine
        _end_failed(g, exc)
        return
    finally:
        scheduler.started.pop(g.object, None)
        line_output.finish(g.greenlet)
        g.greenlet.gr_context = None
    g.function = None
    if on_end is not None:
        on_end(g.id)
    try:
        _core.task_done(g.task, g.object, False, value, False)
    except BaseException as exc:  # the call succeeded, but its result cannot be read, and may never be needed
        _end_failed(g, _about_result(g, value, exc), quiet=True)


def _about_result(g: G, value: Any, error: BaseException) -> BaseException:
    """Return the exception for a result that cannot be stored: it names the goroutine, and the object to blame."""
    if isinstance(error, PickleError):
        from goproc._pickling.diagnose import RESULT, explain

        return _core.as_pickling(explain, value, error.__cause__ or error, f"{RESULT} of {g.name}")
    if isinstance(error, OutOfSharedMemory):
        return OutOfSharedMemory(f"the result of {g.name}: {error}")
    return error


def _end_failed(g: G, exc: BaseException, quiet: bool = False) -> None:
    """Store the exception of a goroutine for its handle. Without a handle, report it, or panic if there was none.

    Args:
        g: the goroutine.
        exc: raised by its function.
        quiet: True if the exception was reported already.
    """
    try:
        _core.use_cushion(_fail, g, exc, quiet)
    except MemoryError:
        _end_without_memory(g, quiet)


def _fail(g: G, exc: BaseException, quiet: bool) -> None:
    """As _end_failed(), with the memory that there is."""
    forked.leave(exc)
    if on_end is not None:
        on_end(g.id)
    if isinstance(exc, SystemExit):
        fatal.exit_program(exc)
        quiet = True
    if isinstance(exc, (BrokenPipeError, BaseExceptionGroup)) and fatal.broke(exc):
        fatal.end_broken()
    if isinstance(exc, (NameError, KeyError)):
        _explain_missing(g, exc)
    g.function = None
    if isinstance(exc, KeyboardInterrupt) and _core.proc() == 0 and exc is not sigint.thrown:
        _interrupt_main(g, exc)
    quiet = quiet or isinstance(exc, (Cancelled, KeyboardInterrupt))
    wanted = _core.task_wanted(g.object)
    # Packed before it ends, since main may wait for that, and then end the program before the report is out.
    failed = _failure(g, exc) if wanted or not quiet else None
    if wanted and failed is not None:
        try:
            if _done(g, failed.store(), quiet):
                return
        except BaseException:  # the exception drags along more than memory allows
            if _end_briefly(g, exc, failed, quiet):
                return
    if failed is not None and not quiet and _core.attached():
        # Before the goroutine has ended: main may wait for that, and then end the program.
        _tell_unread(g, exc, failed)
    if not wanted:
        _done(g, None, quiet)


def _done(g: G, failed: tuple[Any, ...] | str | None, quiet: bool) -> bool:
    """Give a goroutine that failed its outcome, once. Return True if a handle can read the outcome."""
    wanted = _core.task_done(g.task, g.object, True, failed, quiet)
    g.task = 0
    return wanted


def _end_without_memory(g: G, quiet: bool = False) -> None:
    """End a goroutine of a process that has memory left for no more than the fact that the goroutine failed."""
    if g.task and _done(g, fatal.NO_MEMORY, quiet):
        return
    if not quiet:
        fatal.unread(g.id, fatal.NO_MEMORY, g.site)


def _tell_unread(g: G, exc: BaseException, failed: fatal.Failure) -> None:
    """Report the exception of a goroutine that no handle can read; panic if its creator has kept none."""
    from goproc._pickling import failure

    where = fatal.Site.read(g.site)
    if where is None or not where.statement:
        fatal.unread(g.id, failed.store(), g.site)
    else:
        fatal.panic(
            fatal.first_line(exc),
            g.id,
            failure.format_traceback(exc),
            g.parent,
            g.site,
            format_labels(g.labels),
        )


def _end_briefly(g: G, exc: BaseException, failed: fatal.Failure, quiet: bool) -> bool:
    """Store the text of an exception; if memory is too full even for that, that there was one. True if it is wanted."""
    from goproc._pickling import failure

    short = failed._replace(packed=Packed(*failure.pack_briefly(exc)))
    try:
        return _done(g, short.store(), quiet)
    except BaseException:  # memory is too full for any text
        return _done(g, None, quiet)


def _explain_missing(g: G, exc: NameError | KeyError) -> None:
    """Add a note if the name is that of a global which could not travel."""
    name = exc.name if isinstance(exc, NameError) else exc.args[0] if exc.args else None
    reason = functions.why_missing(g.function, name)
    if reason is not None:
        exc.add_note(f"goproc: the global {name!r} of the script is not in the goroutine: {reason}")


def _failure(g: G, exc: BaseException) -> fatal.Failure:
    from goproc._pickling import failure

    return fatal.Failure(Packed(*failure.pack(exc)), format_labels(g.labels), g.name, g.parent)


# The ref of the goroutine whose KeyboardInterrupt main has to meet, and the id of that exception: the exception itself
# would keep the frames of the goroutine alive.
_interrupting = (0, 0)


def _interrupt_main(g: G, exc: KeyboardInterrupt) -> None:
    global _interrupting
    _interrupting = (g.object, id(exc))
    scheduler.interrupt(scheduler.main, exc)


def hear(ref: int) -> None:
    """Drop the interrupt of main if main has read it as the outcome of the goroutine that raised it."""
    pending = scheduler.main.interrupt
    if pending is not None and _interrupting == (ref, id(pending)):
        scheduler.main.interrupt = None


def _running_namespace() -> dict[str, Any] | None:
    return homes.namespace_of(scheduler.current.function) if _core.on_scheduler_thread() else None


def _namespaces() -> list[dict[str, Any]]:
    found = [homes.namespace_of(g.function) for g in list(scheduler.started.values())]
    return [namespace for namespace in found if namespace is not None]


homes.running = _running_namespace
homes.all_of_them = _namespaces
