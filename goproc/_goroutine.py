"""The handle of a goroutine, and the functions that concern the running one: current() and goexit()."""

from __future__ import annotations

import opcode
import os
import threading
from types import NoneType
from typing import Any, ParamSpec, TypeVar

from goproc import _garbage
from goproc._life import Goexit, hear
from goproc._pickling import received
from goproc._proc import fatal
from goproc._public import of_stopped, public
from goproc._sched import scheduler
from goproc._sched.g import G
from goproc._tracebacks import cut, function_line
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
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
    """A handle on a goroutine; `go` returns it.

    The program may drop the handle. While a handle exists, anywhere, an exception of the goroutine is kept for
    ``result()``. Without one an exception is a panic and ends the program. If a failure is unread when the last handle
    goes, it is reported on stderr (GOPROC_UNREAD=panic and =ignore change that). A handle can be sent to other
    goroutines, and all of them can read the result.

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
        """The name given to ``go.opts(name=...)``, else the name of its function."""
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
            TimeoutError: the goroutine has not ended in time. It goes on running.
        """
        if not hasattr(self, "_outcome"):
            with function_line:
                self._join(timeout)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the goroutine to end and return the result of its function.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Returns:
            The result; the same object at every call in one process.

        Raises:
            TimeoutError: the goroutine has not ended in time.
            BaseException: the exception of the function, with the goroutine's traceback as a note. RemoteError in place
                of an exception that cannot be pickled, Cancelled if the goroutine was cancelled, WorkerDied if its
                process died. Each call raises a new object: a kept one would keep, by its traceback, the frames of the
                caller alive, and with them this handle.
        """
        try:
            value, failed = self._read(timeout)
            if failed is not None:
                raise _exception(failed)
        except BaseException as exc:
            cut(exc, isinstance(exc, TypeError) and not isinstance(timeout, (float, int, NoneType)))
            raise
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
            return of_stopped("Goroutine")


def _exception(failed: fatal.Failure) -> BaseException:
    from goproc._pickling import failure

    return failure.unpack(failed.packed)


@public
def goexit() -> NoReturn:
    """End this goroutine; its ``finally`` blocks run. Its handle's result is None.

    In main, the program goes on without main. When no goroutine is left that could run, it ends with status 2, as in
    Go.
    """
    if not _core.attached() and threading.current_thread() is threading.main_thread():
        _core.ensure()  # else no process would know that main ended in this way
    raise Goexit


# -- identity ------------------------------------------------------------------------------------------------

_main_handle: Goroutine[Any] | None = None  # kept, since main has no other outcome


@public
def current() -> Goroutine[Any]:
    """Return the handle of the running goroutine; of main in the code of the script.

    Raises:
        RuntimeError: the calling thread is one that runs no goroutines.

    Cost: about 0.5 us. While a goroutine's own handle exists, it counts as a handle that may read the exception.
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
    """Tell the goroutines that wait for main's end that main called goexit()."""
    _core.main_ended(0 if _main_handle is None else _main_handle._ref)


def forget() -> None:
    """Forget the references into the segment, as the runtime stops."""
    global _main_handle
    _main_handle = None


def pid_of(proc: int) -> int:
    """Process id of a proc, 0 while it starts."""
    return _core.pids()[proc] or (os.getpid() if proc == _core.proc() else 0)


scheduler.on_nudge += [received.let_go_unused, _garbage.answer]
_core.connect(goroutine=Goroutine)
