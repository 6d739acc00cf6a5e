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
        _signal_at_hangup(to_continue, SIGCONT, os.getpid())
        fcntl(control, F_SETFL, os.O_NONBLOCK)
    except OSError:
        pass


class Lifeline:
    """The end of a zygote's workers, if they are left alone: the zygote's side of the pipe END.

    A worker that is stopped right after its fork runs no code, and must end all the same. So it must inherit no writer,
    which would keep the pipe open, and the zygote arms its reader. The worker does so, too: the zygote may die before.
    """

    def __init__(self, writer: int) -> None:
        self._writer = writer
        self._reader = -1

    def prepare(self) -> None:
        """Open a reader for a worker that is forked next, and close the writer. The host's writer stands for it."""
        try:
            # Each process needs an open file of its own: the kernel keeps one owner for each.
            self._reader = _open_again(self._writer, os.O_RDONLY)
        except OSError:
            return
        os.close(self._writer)
        self._writer = -1

    def after_fork(self, worker: int) -> None:
        """Have the kernel kill the worker, and open the writer again. If `worker` is 0, there is no new worker."""
        if self._reader < 0:
            return
        try:
            self._writer = _open_again(self._reader, os.O_WRONLY)
            if worker:
                _signal_at_hangup(self._reader, SIGKILL, worker)
        except OSError:
            pass
        os.close(self._reader)
        self._reader = -1

    def hold(self) -> None:
        """Have the kernel kill this process, a new worker. If no writer is left, this process ends."""
        try:
            if self._reader >= 0:
                _signal_at_hangup(self._reader, SIGKILL, os.getpid())
                self._writer = _open_again(self._reader, os.O_WRONLY)
        except OSError:
            pass
        if self._writer >= 0:
            os.close(self._writer)


def _open_again(fd: int, mode: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", mode | os.O_NONBLOCK | os.O_CLOEXEC)


def _signal_at_hangup(fd: int, number: int, process: int) -> None:
    fcntl(fd, F_SETSIG, number)
    fcntl(fd, F_SETOWN, process)
    fcntl(fd, F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
