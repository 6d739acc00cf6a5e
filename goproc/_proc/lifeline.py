"""The kernel ends the program when nobody else is left who could: the readers' side of shm/proc/lifeline.c.

Where the system does not know such signals, or no descriptor is left, the other ways to end the program remain.
"""

from __future__ import annotations

import os
from fcntl import F_SETFL, F_SETOWN, F_SETSIG, fcntl
from signal import SIGCONT, SIGKILL

__goproc_frames__ = "machinery"


def continue_without_host(to_continue: int, control: int) -> None:
    """Have the kernel send this process SIGCONT at the death of the host. A stopped zygote goes on then.

    Args:
        to_continue: the reading end of the pipe.
        control: the socket by which the kernel did so until now (shm/keeper/keeper.c); each letter sent a SIGCONT, too.
    """
    try:
        _signal_at_hangup(to_continue, SIGCONT)
        fcntl(control, F_SETFL, os.O_NONBLOCK)
    except OSError:
        pass


def end_without_parents(to_end: int) -> None:
    """Have the kernel kill this process when the host and all zygotes are dead.

    Args:
        to_end: a writing end of the pipe, which this function closes. If it is the last one, this process ends.
    """
    try:
        # Each process needs an open file of its own: the kernel keeps one owner for each.
        reader = os.open(f"/proc/self/fd/{to_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        _signal_at_hangup(reader, SIGKILL)
    except OSError:
        pass
    os.close(to_end)


def _signal_at_hangup(fd: int, number: int) -> None:
    fcntl(fd, F_SETSIG, number)
    fcntl(fd, F_SETOWN, os.getpid())
    fcntl(fd, F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
