"""Errors of the start that name the limit which is too low, and the remedy.

The system says "too many open files" or "resource temporarily unavailable". The limits on memory are named by the core.
"""

from __future__ import annotations

import errno
import os


def named(error: OSError) -> OSError:
    """Return an error that names the limit which the process has reached; `error` itself if that is unknown."""
    if error.errno == errno.EMFILE:
        limit = f"RLIMIT_NOFILE (ulimit -n) is {_value('SC_OPEN_MAX')}"
        advice = "raise it, or have the program close files before it uses goproc"
    elif error.errno == errno.ENFILE:
        limit, advice = "the system has no more (sysctl fs.file-max)", "raise that, or end other programs"
    elif error.errno == errno.EAGAIN:
        limit = f"RLIMIT_NPROC (ulimit -u) is {_value('SC_CHILD_MAX')}, for all processes and threads of this user"
        stacks = _for_stacks()
        limit += stacks
        advice = f"raise {'the one that is reached,' if stacks else 'it'} or the container's (pids.max), or use fewer processes "
        advice += "(--procs, GOPROC_PROCS or runtime(procs=...))"
    else:
        return error
    return OSError(error.errno, f"goproc cannot start: {os.strerror(error.errno)}: {limit}; {advice}")


def _value(name: str) -> str:
    value = os.sysconf(name)
    return str(value) if value >= 0 else "unlimited"


_ADDRESSES = {"Max address space": "RLIMIT_AS (ulimit -v)", "Max data size": "RLIMIT_DATA (ulimit -d)"}


def _for_stacks() -> str:
    """Return a note of each limit on address space: the error is the same where a thread has no room for its stack.

    The file of the kernel is read, since the module `resource` may find no room either.
    """
    try:
        with open("/proc/self/limits") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    note = ""
    for line in lines:
        for title, name in _ADDRESSES.items():
            value = line.removeprefix(title).split()[0] if line.startswith(title) else "unlimited"
            if value != "unlimited":
                note += f"; {name} is {value}, and each thread needs some for its stack"
    return note
