"""The runtime as programs see it: ``with runtime(procs=4):``, run(), main(), and how many workers there are."""

from __future__ import annotations

import sys
from typing import Any, ParamSpec, TypeVar

from goproc._misuse import not_callable
from goproc._proc import configuration, host, main_exit
from goproc._public import public
from goproc._tracebacks import ends_at_user, function_line, user_line
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")


@public
class runtime:
    """A runtime of a given size, for as long as a ``with`` block lasts.

    Args:
        procs: how many workers, the processes that run goroutines (0 to 255). Default: GOPROC_PROCS, else the CPUs
            this program may use. With 0 goroutines run in this process, beside main: for a debugger.
        memory: bytes of shared memory at most, or "512M", "4G". Default: GOPROC_MEMORY, else a quarter of the
            machine's, at most 8 GiB.
        pin: bind workers to CPUs, where there is one for each. Default: yes, unless GOPROC_PIN=0.
        on_death: the policy when a worker dies (kill -9, a crash, no memory). Its goroutines are lost: their handles
            raise WorkerDied, one without a handle is a panic. "restart": the worker is replaced; "continue": it is not;
            "exit": the program ends with a report and status 2. Default: GOPROC_ON_DEATH, else "restart".
        init: called without arguments in each process, the host included, before its first goroutine; a function or
            "module:function". Default: GOPROC_INIT. If it fails in the host, `with` raises its exception. If it fails
            in a worker, the program ends as by a panic.
        gpus: "auto" or numbers such as "0,1": CUDA_VISIBLE_DEVICES in each worker is one of them, in turn. Default:
            GOPROC_GPUS. Where CUDA_VISIBLE_DEVICES is set, "auto" means the GPUs in it. The host keeps all.
        per_gpu: at most so many workers on each GPU; it is also the default of procs. Default: GOPROC_PER_GPU.
        quiet_deaths: say nothing on stderr about a worker that died, where the program goes on. Default: a line for
            each death, unless GOPROC_QUIET_DEATHS=1.

    Raises:
        TypeError, ValueError: an argument is wrong or out of range.
        RuntimeError: a runtime runs already; a program has one.
        OSError: processes or memory are not to be had.

    At the end of the block, goroutines that have not ended are gone. Those of this process are unwound: their
    ``finally`` blocks run, and goproc operations in them raise. The workers are ended. Channels and handles of the
    runtime cannot be used any more.
    """

    @ends_at_user
    def __init__(
        self,
        procs: int | None = None,
        *,
        memory: int | str | None = None,
        pin: bool | None = None,
        on_death: str | None = None,
        init: Callable[[], object] | str | None = None,
        gpus: str | list[int] | None = None,
        per_gpu: int | None = None,
        quiet_deaths: bool | None = None,
    ) -> None:
        self._new = configuration.configured(procs, memory, pin, on_death, init, gpus, per_gpu, quiet_deaths)

    def __enter__(self) -> runtime:
        with user_line:
            host.enter(self._new)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        host.leave(self._new, kind, exc)

    @property
    def procs(self) -> int:
        """Return the number of workers."""
        return self._new.procs

    @staticmethod
    @ends_at_user
    def resize(procs: int, timeout: float | None = None) -> None:
        """Give the running runtime more or fewer workers: ``goproc.runtime.resize(8)``. In the process of the script.

        New workers get the next numbers; each is set up (init, GPU) as those at the start. When there are fewer, the
        highest numbers go: such a worker begins no more goroutines, those that are queued there run elsewhere, those of
        ``go.on(proc)`` first. When all that it has begun has ended, its exit handlers run, and it ends. That is no death:
        nothing is lost. Meanwhile procs() counts it no more, and ``go.on(proc)`` knows it no more.

        Returns when the new workers are there, or the others have ended. Workers are bound to CPUs anew: where there is
        one for each.

        Args:
            procs: the number of workers, at least 1. The most is the number with which the runtime was started, or 32
                if that is more (fewer where memory= is above 7 GiB: 28 at 8 GiB).
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            TypeError: procs or timeout is no number.
            ValueError: procs is not in that range, or more than fit on the GPUs (per_gpu).
            RuntimeError: no runtime runs, it was started with --procs 0, or this is a worker.
            TimeoutError: not all have come, or ended. The change goes on without the caller.
            GoprocError: a worker could not be forked. There are as many as before.

        Cost: some 10 ms for a new worker.
        """
        host.resize(procs, timeout)


@public
def run(
    f: Callable[P, T],
    /,
    *args: Any,
    procs: int | None = None,
    memory: int | str | None = None,
    pin: bool | None = None,
    **kwargs: Any,
) -> T:
    """Call ``f(*args, **kwargs)`` as the main goroutine of a runtime of its own, and return its result.

    Args:
        f: the function; procs, memory and pin as for runtime().
    """
    with function_line, runtime(procs, memory=memory, pin=pin):
        return f(*args, **kwargs)


@public
def main(
    f: Callable[[], Any] | None = None,
    /,
    *,
    procs: int | None = None,
    memory: int | str | None = None,
    pin: bool | None = None,
) -> Any:
    """``@goproc.main`` before the last function of a script calls the function there, as the main goroutine.

    If the file is imported, the function is left alone. The decorator replaces the usual last two lines of a script
    (``if __name__ ...``), and bounds the runtime: when the function returns, the program ends. Its exit status is the
    function's result, as for sys.exit().

    Args:
        f: takes no arguments; procs, memory and pin as for runtime(), given as ``@goproc.main(procs=4)``.
    """
    if f is None:
        return lambda f: main(f, procs=procs, memory=memory, pin=pin)
    if not callable(f):
        with user_line:
            raise not_callable(f"goproc.main: {type(f).__name__!r} object is not callable", f)
    if f.__module__ != "__main__" or _core.proc() != 0:
        return f
    sys.exit(run(f, procs=procs, memory=memory, pin=pin))


@public
def procs() -> int:
    """Return the number of workers, the processes that run goroutines (Go's GOMAXPROCS). Start the runtime if need be.

    With ``--procs 0`` there is none: goroutines run in the process of the script.
    """
    if not _core.attached():
        host.ensure()
    return _core.procs() - 1


@public
def workers() -> range:
    """Return the numbers of the workers, for ``go.on(number)``: 1 to procs(). Start the runtime if need be."""
    return range(1, procs() + 1)


@public
def proc() -> int:
    """Return the number of the process that this runs on: 0 is the host, where the script and main run."""
    return _core.proc()


main_exit.hidden |= {run.__code__, main.__code__}
