"""The end of the zygote: it has the workers end, in order if the host waits for that, and kills those that do not.

The zygote loads this file once the workers are forked: at the end there may be no descriptor to read a module with.
"""

from __future__ import annotations

import os
import select
import signal
import time

from goproc._proc import descendants
from goproc._proc.letters import LEAVES, LEFT, LIMIT, STOPS

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from goproc._proc.zygote import Zygote

GRACE = 0.2  # seconds between SIGTERM and SIGKILL for a worker that does not answer


def end(zygote: Zygote) -> None:
    """Have the workers end, in order if the host waits for that."""
    os.close(zygote.memfd)  # no worker is forked any more, and the reader of /proc needs a descriptor
    zygote.reap()  # the host has a pidfd of each worker, and may know of a death before the zygote
    if not zygote.orphaned:
        if zygote.interrupted:  # a worker may not have heard of Ctrl-C
            for pid in zygote.workers:
                _kill(pid, signal.SIGINT)
        _stop(zygote, signal.SIGTERM, GRACE)
        _await_exit_handlers(zygote, LIMIT - GRACE)
    _kill_all(zygote)


def _kill_all(zygote: Zygote) -> None:
    """Kill the workers that are left, and the programs whose workers were killed."""
    session = os.getsid(0)
    programs = _programs_of(zygote, list(zygote.workers), session)
    _stop(zygote, signal.SIGKILL, None)
    if zygote.worker_died:
        programs += descendants.find(os.getpid(), session=session)
    descendants.kill(programs, session)


def _stop(zygote: Zygote, number: int, grace: float | None) -> None:
    """Send the workers a signal and reap them for `grace` seconds; with None, until all have ended.

    Once the zygote has been told to quit, the host's end means only that nothing waits for the exit handlers.
    """
    for pid in zygote.workers:
        _kill(pid, number)
    for fd in zygote.adopted.values():
        _signal(fd, number)
    _wait_for_workers(zygote, grace)


def _await_exit_handlers(zygote: Zygote, seconds: float) -> None:
    """Kill the workers that have not answered SIGTERM, and wait for those that run their exit handlers."""
    silent = [pid for pid, proc in zygote.workers.items() if not runs_exit_handlers(pid, proc)]
    for pid, fd in zygote.adopted.items():
        if not runs_exit_handlers(pid, None):
            _signal(fd, signal.SIGKILL)
    if silent:
        session = None if zygote.interrupted else os.getsid(0)
        programs = _programs_of(zygote, silent, session)
        for pid in silent:
            _kill(pid, signal.SIGKILL)
        if session is None:
            descendants.end_interrupted(programs)
        else:
            descendants.end(programs, session)
    _wait_for_workers(zygote, seconds)


def _programs_of(zygote: Zygote, workers: Sequence[int], session: int | None) -> list[descendants.Process]:
    """Stop workers that are about to be killed, and return the programs that they have started. Kill newborn workers.

    A newborn worker has started no program, and is not stopped: without a lifeline, for want of a descriptor, nobody
    would end that worker if the zygote and the keeper were killed then.

    A worker may have left programs to this process if somebody else kills that worker meanwhile, or if that worker was
    ending its programs: then the parent of one may have ended. See Zygote.reap().
    """
    born = []
    for pid in workers:
        if _is_newborn(pid):
            _kill(pid, signal.SIGKILL)
        else:
            born.append(pid)
    found = descendants.find_of_stopped(*born, session=session) if born else []
    zygote.searched.update(pid for pid in born if descendants.is_alive(pid) and not _is_named(pid, (STOPS,)))
    return found


def _is_newborn(pid: int) -> bool:
    """True if a worker has the zygote's name: a worker takes a name of its own before it runs code of the program."""
    return _name(pid) == _name(os.getpid())


def _wait_for_workers(zygote: Zygote, grace: float | None) -> None:
    end = None if grace is None else time.monotonic() + grace
    while _any_worker(zygote):
        zygote.reap()
        zygote.send()
        left = None if end is None else end - time.monotonic()
        if not _any_worker(zygote) or (left is not None and (left <= 0 or zygote.host_gone())):
            break
        _doze(zygote, min(left, 0.1) if left is not None else 0.1)
    zygote.send()


def _any_worker(zygote: Zygote) -> bool:
    if zygote.adopted:
        ended = select.select(list(zygote.adopted.values()), [], [], 0)[0]
        zygote.adopted = {pid: fd for pid, fd in zygote.adopted.items() if fd not in ended}
    return bool(zygote.workers or zygote.adopted)


def _doze(zygote: Zygote, seconds: float) -> None:
    if select.select([zygote.wake], [], [], seconds)[0]:
        os.read(zygote.wake, 4096)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def _signal(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        pass


def runs_exit_handlers(pid: int, proc: int | None) -> bool:
    """True if the worker's name says that it runs its exit handlers. A descriptor could be closed by the program."""
    return _is_named(pid, (LEAVES, STOPS, LEFT), proc)


def may_leave_programs(pid: int, proc: int) -> bool:
    """True if a worker that has ended may have left programs. One that has ended in order, or is newborn, has left none."""
    return not (_is_named(pid, (LEFT,), proc) or (_name(pid) and _is_newborn(pid)))


def _is_named(pid: int, names: Sequence[bytes], proc: int | None = None) -> bool:
    """True if a worker has one of the names. With None as `proc`, that of any place."""
    name = _name(pid)
    if proc is not None:
        return name in [form % proc for form in names]
    return name.endswith(tuple(form.rpartition(b"%d")[2] for form in names))


def _name(pid: int) -> bytes:
    """Return the name of a process; nothing if the process has ended, or if there is no descriptor to read the name."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""
