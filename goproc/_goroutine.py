"""Goroutines: ``go``, the handle, and what happens when one ends.

`go` serialises the call at once, in the caller, wherever the goroutine will run: what a call means never depends on
placement, and what cannot be copied is reported at the `go` line. Then it is a task in shared memory, which this
process starts when its running goroutine blocks, unless an idle process takes it first.
"""

from __future__ import annotations

import opcode
import os
import sys
import threading
from contextvars import copy_context
from typing import Any, NamedTuple, ParamSpec, TypeVar

from goproc import _garbage, _time_limit
from goproc._call_options import Limits, checked_limits
from goproc._labels import format_labels
from goproc._life import WITH, Goexit, hear, start_local
from goproc._pickling import calls, received, variables
from goproc._proc import fatal
from goproc._public import public
from goproc._sched import scheduler
from goproc._sched.g import G
from goproc.errors import OutOfSharedMemory, PickleError
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from types import FrameType
    from typing import NoReturn

T = TypeVar("T")
P = ParamSpec("P")

_STATES = {
    _core.G_QUEUED: "queued",
    _core.G_RUNNING: "running",
    _core.G_OK: "done",
    _core.G_FAILED: "failed",
    _core.G_DEAD: "died",
}
_POP_TOP = opcode.opmap["POP_TOP"]


@public
class Goroutine(_core.Outcome[T]):
    """A handle on a goroutine: what `go` returns.

    Keeping it is optional. While a handle exists, anywhere, an exception of the goroutine is kept for ``result()``;
    without one an exception is a panic and ends the program. A failure that nobody has read when the last handle goes is
    reported on stderr (GOPROC_UNREAD=panic and =ignore change that). A handle can be sent to other goroutines, and all
    of them can read the result.

    Attributes:
        id: its number, unique in this run; main is 1.
    """

    __slots__ = ("_error", "_labels", "_name", "_outcome")
    _error: BaseException | None
    _labels: dict[str, str]
    _name: str
    _outcome: tuple[Any, fatal.Failure | None]
    __goproc_handle__ = True

    @property
    def name(self) -> str:
        """What it was named by ``go.opts(name=...)``, else the name of its function."""
        return getattr(self, "_name", "") or f"goroutine {self.id}"

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, where they are known: on the handle that ``go`` returned, and on that of ``current()``."""
        return dict(getattr(self, "_labels", ()))

    @property
    def state(self) -> str:
        """ "queued", "running", "done", "failed", or "died" (with its process), at this instant."""
        return _STATES[self._state]

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, however that was.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            TimeoutError: it has not ended in time; it goes on running.
        """
        if not hasattr(self, "_outcome"):
            self._join(timeout)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the goroutine to end and return the result of its function.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Returns:
            The result; the same object at every call in one process.

        Raises:
            TimeoutError: the goroutine has not ended in time.
            BaseException: the exception of the function, with the goroutine's traceback as a note; RemoteError in place
                of an exception that cannot be pickled, Cancelled if the goroutine was cancelled, WorkerDied if its
                process died. Each call raises an object of its own: one that the handle kept would keep, by its
                traceback, the frames of the caller alive, and with them this handle.
        """
        value, failed = self._read(timeout)
        if failed is not None:
            raise _exception(failed)
        return value  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the goroutine to end and return the exception of its function, or None. Arguments as for result().

        Returns:
            The same object at every call in one process.
        """
        failed = self._read(timeout)[1]
        if failed is None:
            return None
        if not hasattr(self, "_error"):
            self._error = _exception(failed)
        return self._error

    def __await__(self) -> Generator[Any, None, T]:
        """``await g``: result() in a coroutine, while other tasks of its event loop run.

        A task that is cancelled does not wait any longer; the goroutine goes on.
        """
        from goproc import _asyncio

        return _asyncio.result_of(self).__await__()

    def _read(self, timeout: float | None) -> tuple[Any, fatal.Failure | None]:
        try:
            return self._outcome
        except AttributeError:
            pass
        self._join(timeout)
        state, value = self._take()
        self._outcome = (value, None) if state == _core.G_OK else (None, fatal.Failure.read(value))
        if state != _core.G_OK and scheduler.current is scheduler.main:
            hear(self._ref)
        return self._outcome

    def __repr__(self) -> str:
        try:
            return f"<Goroutine {self.id} {self.name} {self.state}>"
        except RuntimeError:
            return "<Goroutine of a runtime that stopped>"


def _exception(failed: fatal.Failure) -> BaseException:
    from goproc._pickling import failure

    return failure.unpack(failed.packed)


# -- creation ------------------------------------------------------------------------------------------------

# Code that is made at run time, over and over, would fill the tables of the places where goroutines are created. So much
# code is kept, and the texts of so many places are stored, which is for ever.
_KEPT_SITES = 1024
_MOST_SITES = 4096

# In the host, if levels of logging have changed: see _logs_host.py.
before_go: Callable[[], None] | None = None
levels = 0  # where the levels are that hold for goroutines started here; 0: they are as they were at first

_sites: dict[tuple[int, int], tuple[object, int]] = {}
_site_texts: dict[str, int] = {}  # the references, by what is stored there


def _site(frame: FrameType, alone: bool = False) -> int:
    """Return a reference, for any process, to the place where a goroutine is created. Each place is stored once.

    Args:
        frame: of the code that creates it.
        alone: nobody gets a handle; else the code tells whether it drops the handle at once.
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


def _name_of(f: Any) -> str:
    return getattr(f, "__qualname__", None) or type(f).__qualname__


def _spawn(
    f: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    proc: int,
    frame: FrameType,
    waiting: Waiting | None = None,
    labels: dict[str, str] | None = None,
    always: bool = False,
    limits: Limits | None = None,
) -> Any:
    bare = _core.bare()
    if not bare and not _core.attached():
        _core.refuse_stale(f, *args, *kwargs.values())
    call = calls.pack_call(f, args, kwargs)
    values = None
    if not bare:
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
        if waiting is not None:
            call = waiting.kind, waiting.tracker, _closed_call(call)
            more = *(more or (None,)), waiting.told
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
    """Labels of a new goroutine: its creator's, and its own."""
    creators = scheduler.current.labels
    if not creators or not _core.on_scheduler_thread():
        return own
    return {**creators, **own} if own else creators


class Waiting(NamedTuple):
    """Somebody who waits for the end of a goroutine.

    Attributes:
        kind: of the body in `bodies` that runs it.
        tracker: the first argument of that body.
        told: a WaitGroup, or the WaitGroup, Semaphore and context of a Group: the core tells them of the end, also
            where the goroutine's process dies.
    """

    kind: str
    tracker: Any
    told: Any


class Origin(NamedTuple):
    """Where a goroutine comes from, noted before it is created: a timer's function, say, is started by nobody in particular."""

    site: int
    parent: int
    labels: dict[str, str] | None


def origin(frame: FrameType) -> Origin:
    return Origin(_site(frame, alone=True), scheduler.current.id, _inherited(None))


def _spawn_local(
    f: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
    frame: FrameType | Origin,
    labels: dict[str, str] | None = None,
    told: Any = None,
    limits: Limits | None = None,
) -> Any:
    if f is None:
        raise TypeError("go of nil func value")
    if not callable(f):
        raise TypeError(f"go.local: {type(f).__name__!r} object is not callable")
    if not _core.attached():
        _core.refuse_stale(f, *args, *kwargs.values())
    _core.ensure()
    if type(frame) is Origin:
        site, parent, labels = frame
    else:
        site, parent, labels = _site(frame), scheduler.current.id, _inherited(labels)  # type: ignore[arg-type]
    text: tuple[Any, ...] = (_label_bytes(labels),) if labels else ()
    if told is not None:
        text = *(text or (None,)), told
    handle, block, ref, id_ = _core.task_local(Goroutine, name, site, parent, *text)
    handle._name = name
    g = G(id_, name, start_local)
    g.call = f, args, kwargs or None
    if limits is not None:
        g.call = _time_limit.run, (limits, f, args, kwargs), None
    g.object, g.block, g.parent, g.site = ref, block, parent, site
    g.context = copy_context()
    if labels:
        g.labels = handle._labels = labels
    if _core.on_scheduler_thread():
        scheduler.started[ref] = g
        scheduler.spawn(g)
    else:

        def begin() -> None:
            scheduler.started[ref] = g
            scheduler.spawn(g)

        scheduler.post(begin)
    return handle


def spawn_beside(proc: int, name: str, f: Any, *args: Any) -> Any:
    """As ``go.on(proc)(f, *args)``, for a goroutine that begins in a reserved process, too: it waits for its turn itself."""
    return _spawn(f, args, {}, name, proc, sys._getframe(1), always=True)


def _closed_call(call: Any) -> Any:
    """The same call in an envelope, unless reading it cannot fail: who is to be told of the end must be readable."""
    if calls.plain(call):
        return call
    envelope = _core.promise_new(Goroutine)
    _core.promise_set(envelope, False, call)
    return envelope


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


class _Placed:
    """``go`` with options: what go.on(), go.opts() return."""

    __slots__ = ("_labels", "_limits", "_name", "_proc")

    def __init__(
        self,
        name: str | None,
        proc: int,
        labels: dict[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._name = name
        self._proc = proc
        self._labels = labels
        self._limits = limits

    def __call__(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        name = self._name or _name_of(f)
        return _spawn(  # type: ignore[no-any-return]
            f, args, kwargs, name, self._proc, sys._getframe(1), None, self._labels, limits=self._limits
        )

    def on(self, proc: int) -> _Placed:
        """As go.on()."""
        return _Placed(self._name, _checked_proc(proc), self._labels, self._limits)

    def opts(
        self,
        *,
        name: str | None = None,
        labels: Mapping[str, object] | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        retries: int | None = None,
    ) -> _Placed:
        """As go.opts()."""
        both = {**(self._labels or {}), **_checked_labels(labels)}
        limits = checked_limits(self._limits, timeout, grace, retries)
        return _Placed(_checked_name(name) or self._name, self._proc, both, limits)

    def local(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        """As go.local(). It cannot run again elsewhere: it shares memory with its creator.

        Raises:
            ValueError: the options have retries.
        """
        name = self._name or _name_of(f)
        if self._limits is not None and self._limits.retries:
            raise ValueError(
                f"go.local({name}) with retries={self._limits.retries}: it is lost with the memory that it shares, "
                "and cannot run again; use go"
            )
        return _spawn_local(f, args, kwargs, name, sys._getframe(1), self._labels, limits=self._limits)  # type: ignore[no-any-return]


def _checked_name(name: str | None) -> str | None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"go.opts(name=...) takes a string, not {type(name).__name__}")
    return name


def _checked_labels(labels: Mapping[str, object] | None) -> dict[str, str]:
    checked = {}
    for key, value in dict(labels or {}).items():
        if not isinstance(key, str):
            raise TypeError(f"go.opts(labels=...): the names of labels are strings, not {type(key).__name__}")
        checked[key] = str(value)
    return checked


def _checked_proc(proc: int) -> int:
    if not isinstance(proc, int) or isinstance(proc, bool):
        raise TypeError(f"go.on() takes the number of a proc, not {type(proc).__name__}")
    _core.ensure()
    if not 0 <= proc < _core.procs():
        raise ValueError(f"go.on({proc}): {_known_procs()}")
    return proc


def _known_procs() -> str:
    workers = _core.procs() - 1
    if workers == 0:
        return "there is only proc 0, the process of the script (--procs 0)"
    return "there are proc 0, the host, and " + (
        "the worker 1" if workers == 1 else f"the workers 1 to {workers}"
    )


@public
class _Go:
    """``go(f, *args, **kwargs)``: run a call as a goroutine.

    The function and its arguments are copied now (functions and classes of ``__main__``, lambdas and closures too;
    channels, sync objects and handles stay references to the shared thing). The goroutine runs on a worker. It starts
    with the contextvars of its creator; values that cannot be pickled are left out. A ContextVar is known everywhere by
    the module that holds it; one of the script, by the copies of it that goroutines get.

    Returns:
        Its handle, which may be dropped.

    Raises:
        PickleError: something cannot be copied; the message names the path to it.
        TypeError: f is not callable.
        OutOfSharedMemory: the arguments are larger than what memory allows.

    Cost: about 2 us, and 2 us more where it runs. The first use of a function costs about 50 us more.
    """

    __slots__ = ()
    __goproc_constant__ = True

    def __reduce__(self) -> str:
        return "go"

    def __call__(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        return _spawn(f, args, kwargs, getattr(f, "__qualname__", "") or _name_of(f), -1, sys._getframe(1))  # type: ignore[no-any-return]

    def local(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        """Run a call as a goroutine of this process: nothing is copied, it shares memory with its creator.

        Its result is still copied when it is read. contextvars are inherited.
        """
        return _spawn_local(f, args, kwargs, _name_of(f), sys._getframe(1))  # type: ignore[no-any-return]

    def on(self, proc: int) -> _Placed:
        """``go.on(proc)(f, ...)``: run it on that process; it is not taken by another.

        Raises:
            ValueError: there is no such proc.
        """
        return _Placed(None, _checked_proc(proc))

    def opts(
        self,
        *,
        name: str | None = None,
        labels: Mapping[str, object] | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        retries: int | None = None,
    ) -> _Placed:
        """``go.opts(name=..., labels={...})(f, ...)``: options, apart from the keyword arguments of f.

        Args:
            name: what reports call the goroutine; default: the name of its function.
            labels: text by name, shown in dumps and panics. The goroutines it creates inherit them.
            timeout: seconds from the start of the goroutine after which it is cancelled, at its next blocking point.
                Its handle raises TaskTimeout.
            grace: seconds after that in which it may clean up; default: 1. A goroutine that has not ended by then, because
                it computes, hangs in C code or waits, ends with its worker: this is killed and replaced. Goroutines that
                ran there, too, are lost (WorkerDied). In the host nothing is killed.
            retries: how often the goroutine runs again, elsewhere, after it was lost with its process. It begins anew each
                time, with the arguments of the ``go`` line: its function must bear that. What it raises itself, or a
                timeout, is no loss. Its handle shows "queued" until it runs again.

        Raises:
            TypeError: a name is not a string, a time or a number is none. Values of labels are turned into text.
            ValueError: a time or a number is negative or NaN.

        Cost: 3 us for a timeout; for retries the memory of the arguments until the goroutine ends.
        """
        limits = checked_limits(None, timeout, grace, retries)
        return _Placed(_checked_name(name), -1, _checked_labels(labels), limits)

    def __repr__(self) -> str:
        return "go"


go = _Go()


@public
def goexit() -> NoReturn:
    """End this goroutine; its ``finally`` blocks run. Its handle's result is None.

    In main the program goes on without it. When no goroutine is left that could run it ends with status 2, as in Go.
    """
    if not _core.attached() and threading.current_thread() is threading.main_thread():
        _core.ensure()  # else nobody would know that main ended in this way
    raise Goexit


# -- who am I ------------------------------------------------------------------------------------------------

_main_handle: Goroutine[Any] | None = None  # kept, since main has no other outcome


@public
def current() -> Goroutine[Any]:
    """The handle of the running goroutine; of main in the code of the script.

    Raises:
        RuntimeError: the calling thread is one that runs no goroutines.

    Cost: about 0.5 us. While a goroutine's own handle exists, it counts as one that could read its exception.
    """
    if not _core.attached():
        _core.check_fork()
        if threading.current_thread() is threading.main_thread():
            _core.ensure()
    g = scheduler.current
    if not _core.attached() or not _core.on_scheduler_thread() or (g is scheduler.main and g.parked):
        raise RuntimeError(
            f"this is no goroutine: the code runs in the thread {threading.current_thread().name!r}"
        )
    if g is scheduler.main:
        return _handle_of_main(g)
    handle: Goroutine[Any] = _core.task_handle(g.object)
    handle._name = g.name
    if g.labels:
        handle._labels = g.labels
    return handle


def _handle_of_main(main: G) -> Goroutine[Any]:
    global _main_handle
    if _main_handle is None:
        handle: Goroutine[Any] = _core.main_handle(Goroutine)
        handle._name = main.name
        main.object = handle._ref
        _main_handle = handle
    return _main_handle


def end_main() -> None:
    """Main called goexit(): who waits for it goes on."""
    _core.main_ended(0 if _main_handle is None else _main_handle._ref)


def _label_bytes(labels: Mapping[str, str]) -> bytes:
    return format_labels(labels).encode("utf-8", "backslashreplace")


def forget() -> None:
    """The runtime stops: references into its segment mean nothing any more."""
    global _main_handle
    _main_handle = None
    _sites.clear()
    _site_texts.clear()


def pid_of(proc: int) -> int:
    """Process id of a proc, 0 while it starts."""
    return _core.pids()[proc] or (os.getpid() if proc == _core.proc() else 0)


scheduler.on_nudge += [received.let_go_unused, _garbage.answer]
_core.connect(goroutine=Goroutine)
