"""``go``, and ``go`` with a place or options.

``from goproc import go`` imports this file, so it imports nothing heavy. The modules that it needs are loaded with the
rest of the runtime, at the first call.
"""

from __future__ import annotations

import sys

from goproc._public import public
from goproc._tracebacks import cut, user_line
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ParamSpec, TypeVar

    from goproc._call_options import Limits, checked_labels, checked_limits, checked_name
    from goproc._goroutine import Goroutine
    from goproc._spawn import name_of, spawn, spawn_local

    T = TypeVar("T")
    P = ParamSpec("P")
else:

    def _at_first_call(name: str) -> Any:
        """Return a stand-in for a function that _wiring puts in its place (connect)."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            _core.begin()
            return globals()[name](*args, **kwargs)

        return stand_in

    name_of, spawn, spawn_local, checked_labels, checked_limits, checked_name = map(
        _at_first_call,
        ("name_of", "spawn", "spawn_local", "checked_labels", "checked_limits", "checked_name"),
    )


def connect(**functions: Any) -> None:
    """Put the functions in place that this file calls."""
    globals().update(functions)


class _Optional:
    """Give a call options. The base of ``go``, which has none so far, and of ``go`` with options."""

    __slots__ = ()

    # The options so far
    _name: str | None = None
    _proc = -1
    _labels: dict[str, str] | None = None
    _limits: Limits | None = None

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
            name: the name of the goroutine in reports; default: the name of its function.
            labels: text by name, shown in dumps and panics. The goroutines it creates inherit them.
            timeout: seconds from the start of the goroutine, after which it is cancelled at its next blocking point.
                Its handle raises TaskTimeout.
            grace: seconds after that for cleaning up; default: 1. A goroutine that has not ended by then, because it
                computes, hangs in C code or waits, ends with its worker, which is killed and replaced. Other goroutines
                on this worker are lost (WorkerDied). In the host nothing is killed.
            retries: how often the goroutine runs again, elsewhere, after it was lost with its process. Each run begins
                anew with the arguments of the ``go`` line, so the function must tolerate several runs. An exception of
                its own, or a timeout, is no loss. Its handle shows "queued" until it runs again.

        Raises:
            TypeError: a name is not a string, a time or a number is none. Values of labels are turned into text.
            ValueError: a time or a number is negative or NaN.

        Cost: 3 us for a timeout; for retries the memory of the arguments until the goroutine ends.
        """
        try:  # as in _Go.__call__
            limits = checked_limits(self._limits, timeout, grace, retries)
            more = checked_labels(labels)
            if self._labels:
                more = {**self._labels, **more}
            return _Placed(checked_name(name) or self._name, self._proc, more, limits)
        except BaseException as exc:
            cut(exc)
            raise


class _Placed(_Optional):
    """``go`` with options, as go.on() and go.opts() return it."""

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
        name = self._name or name_of(f)
        try:  # as in _Go
            return spawn(
                f, args, kwargs, name, self._proc, sys._getframe(1), None, self._labels, limits=self._limits
            )
        except BaseException as exc:
            cut(exc)
            raise

    def on(self, proc: int) -> _Placed:
        """As go.on()."""
        with user_line:
            return _Placed(self._name, checked_proc(proc), self._labels, self._limits)

    def local(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        """As go.local(). The goroutine cannot run again elsewhere: it shares memory with its creator.

        Raises:
            ValueError: the options have retries.
        """
        name = self._name or name_of(f)
        with user_line:
            if self._limits is not None and self._limits.retries:
                raise ValueError(
                    f"go.local({name}) with retries={self._limits.retries}: it is lost with the memory that it shares, "
                    "and cannot run again; use go"
                )
            return spawn_local(f, args, kwargs, name, sys._getframe(1), self._labels, limits=self._limits)


def checked_proc(proc: int) -> int:
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
class _Go(_Optional):
    """``go(f, *args, **kwargs)``: run a call as a goroutine.

    The function and its arguments are copied now: also functions and classes of ``__main__``, lambdas and closures.
    Channels, sync objects and handles stay references to the shared object. The goroutine runs on a worker. It starts
    with the contextvars of its creator; values that cannot be pickled are left out. Every process knows a ContextVar by
    the module that holds it, and one of the script by the copies that goroutines get.

    Args:
        f: the function.
        args, kwargs: its arguments.

    Returns:
        The handle of the goroutine, which may be dropped.

    Raises:
        PickleError: something cannot be copied; the message names the path to it.
        TypeError: f is not callable.
        OutOfSharedMemory: the arguments do not fit into the shared memory.

    Cost: about 2 us, and 2 us more where it runs. The first use of a function costs about 50 us more.
    """

    __slots__ = ()
    __goproc_constant__ = True

    def __reduce__(self) -> str:
        return "go"

    def __call__(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        try:  # which costs nothing, as a `with` would
            return spawn(f, args, kwargs, getattr(f, "__qualname__", "") or name_of(f), -1, sys._getframe(1))
        except BaseException as exc:
            cut(exc)
            raise

    def local(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        """Run a call as a goroutine of this process: nothing is copied, and both share memory.

        Its result is still copied when it is read. contextvars are inherited.
        """
        try:
            name = getattr(f, "__qualname__", "") or name_of(f)
            return spawn_local(f, args, kwargs, name, sys._getframe(1))
        except BaseException as exc:
            cut(exc)
            raise

    def on(self, proc: int) -> _Placed:
        """``go.on(proc)(f, ...)``: run the goroutine on that process; no other process takes it.

        Raises:
            ValueError: there is no such proc.
        """
        try:
            return _Placed(None, checked_proc(proc))
        except BaseException as exc:
            cut(exc)
            raise

    def __repr__(self) -> str:
        return "go"


go = _Go()
