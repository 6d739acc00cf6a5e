"""Children that goroutines make by os.fork(): such a child has no runtime, and ends when its goroutine ends.

Python alone would unwind the child into the scheduler, which cannot run there. Exit handlers that the child inherits
belong to its parent: if the child ran them, a TemporaryDirectory would be gone for both.
"""

from __future__ import annotations

import os
import sys

from goproc._frames import is_own
from goproc._isolation import loaded
from goproc._raised import set_traceback
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

is_child = False  # True in a child that a goroutine or the script has forked


def enter() -> None:
    """Note that this process is a forked child."""
    global is_child
    is_child = True


def forget_exit_handlers() -> None:
    """Leave the present exit handlers to the parent. Those that the child registers from now on are its own."""
    import atexit

    atexit._clear()
    util: Any = loaded("multiprocessing.util")
    if util is not None:
        atexit.register(util._exit_function)  # this handler itself tells the objects of the processes apart
    weakref: Any = loaded("weakref")
    if weakref is not None:
        finalize = weakref.finalize
        for info in list(finalize._registry.values()):
            info.atexit = False
        if finalize._registered_with_atexit:
            atexit.register(finalize._exitfunc)


def leave(exc: BaseException | None) -> None:
    """End this process by `end` if a goroutine of the parent has forked it."""
    if is_child and not _core.attached():
        end(exc)


def end(exc: BaseException | None) -> NoReturn:
    """End this process as Python ends a program.

    Args:
        exc: the exception of the goroutine's function; None if the function has returned.
    """
    import atexit

    from goproc._proc import fatal

    status = 70
    try:
        status = _status(exc)
        atexit._run_exitfuncs()
        fatal.flush()
    finally:
        os._exit(status)


def _status(exc: BaseException | None) -> int:
    """Report the exception, and return the exit status that Python gives to a program which it ends."""
    if exc is None:
        return 0
    if isinstance(exc, SystemExit):
        if exc.code is None or isinstance(exc.code, int):
            return (exc.code or 0) & 0xFF
        print(exc.code, file=sys.stderr)
        return 1
    trace = exc.__traceback__
    while trace is not None and is_own(trace.tb_frame):
        trace = trace.tb_next
    set_traceback(exc, trace)
    try:
        sys.excepthook(type(exc), exc, trace)
    except BaseException:
        sys.__excepthook__(type(exc), exc, trace)
    return 130 if isinstance(exc, KeyboardInterrupt) else 1
