"""The end of a program for processes that end by os._exit(): they run exit handlers and write out buffered files.

Python itself would go on to wait for threads and to take modules and objects apart. Suspended goroutines would be unwound,
which must not happen (Go's rule), and native libraries may wait for ever.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import os
import signal
import stat
import sys
import threading

from goproc._proc import fatal
from goproc._proc.zygote import LIMIT as LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_CALLS_LIMIT = 1.0  # of these, for libraries that wait for their threads


def run() -> None:
    """Run the functions registered with atexit, then write out what streams and files hold back. Raise nothing."""
    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass
    fatal.flush()
    flush_files()


def end_pools() -> None:
    """Make the calls by which concurrent.futures and others end their threads and processes, as Python does before atexit.

    From the main thread. A call that waits for a busy thread is left after a while.
    """
    calls: list[Any] = list(threading._threading_atexits)  # type: ignore[attr-defined]
    if not calls:
        return
    before = signal.signal(signal.SIGALRM, _stop_waiting)
    limit, _ = signal.setitimer(signal.ITIMER_REAL, _CALLS_LIMIT)
    try:
        for call in reversed(calls):
            call()
    except _Waited:
        pass
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if limit:  # of the whole end
            signal.setitimer(signal.ITIMER_REAL, max(limit - _CALLS_LIMIT, 0.1))


class _Waited(BaseException):
    """Time is up."""


def _stop_waiting(number: int, frame: FrameType | None) -> None:
    raise _Waited


def flush_files() -> None:
    """Write out the buffers of all open files of Python's."""
    if not _may_hold_files():
        return
    kinds = _with_subclasses((io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom))
    found = [obj for obj in gc.get_objects() if type(obj) in kinds]
    found.sort(
        key=lambda file: not isinstance(file, io.TextIOWrapper)
    )  # text first: it goes to a buffer below
    for file in found:
        try:
            file.flush()
        except Exception:
            pass


def _may_hold_files() -> bool:
    """Return False if no descriptor but the standard ones leads to something that is written to by way of a buffer.

    To look at all objects of a process takes seconds where there are millions.
    """
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return True
    return any(_is_written(fd) for fd in numbers if fd > 2)


def _is_written(fd: int) -> bool:
    try:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return False
        facts = os.fstat(fd)
    except OSError:
        return False
    if stat.S_ISREG(facts.st_mode):
        return facts.st_nlink > 0 or not os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:goproc")
    return stat.S_ISFIFO(facts.st_mode) or stat.S_ISSOCK(facts.st_mode) or os.isatty(fd)


def _with_subclasses(kinds: tuple[type, ...]) -> set[type]:
    found = set(kinds)
    for kind in kinds:
        found |= _with_subclasses(tuple(kind.__subclasses__()))
    return found
