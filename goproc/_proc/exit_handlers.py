"""The last steps of a process that ends by os._exit(): exit handlers, and buffered files.

Python's own end would also wait for threads, and take modules and objects apart. That would unwind suspended
goroutines, which must not happen (Go's rule), and native libraries may wait for ever.
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
from goproc._proc.letters import LIMIT as LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_CALLS_LIMIT = 1.0  # seconds of LIMIT, for libraries that wait for their threads


def run() -> None:
    """Run the functions registered with atexit, then write out the buffers of streams and files. Raise nothing."""
    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass
    fatal.flush()
    flush_files()


def end_pools() -> None:
    """Call the functions by which concurrent.futures and others end their threads and processes.

    Python makes these calls before those of atexit.

    For the main thread. A call that waits for a busy thread is left after a while.
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
        if limit:  # the limit of the whole end goes on
            signal.setitimer(signal.ITIMER_REAL, max(limit - _CALLS_LIMIT, 0.1))


class _Waited(BaseException):
    """Raised in a call whose time is over."""


def _stop_waiting(number: int, frame: FrameType | None) -> None:
    raise _Waited


def flush_files() -> None:
    """Write out the buffers of all open files of Python."""
    if not _may_hold_files():
        return
    kinds = _with_subclasses((io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom))
    found = [obj for obj in gc.get_objects() if type(obj) in kinds]
    # Text files first: they write to a buffer below.
    found.sort(key=lambda file: not isinstance(file, io.TextIOWrapper))
    for file in found:
        try:
            file.flush()
        except Exception:
            pass


def _may_hold_files() -> bool:
    """Return False if no descriptor but the standard ones leads to a file that is written through a buffer.

    flush_files() looks at all objects of the process, which takes seconds where there are millions.
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
