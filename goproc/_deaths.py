"""Deaths of workers: the outcomes of goroutines that are lost with their process, and killing a worker.

The coroner (shm/proc/coroner.h) learns of a death, repairs shared memory and writes a record of the death there. The
last 32 records are kept. The outcome of a lost goroutine names the record, and a process that reads the outcome makes a
WorkerDied of it.
"""

from __future__ import annotations

import signal
from typing import Any

from goproc._public import public
from goproc._record import Record
from goproc._sched import waits
from goproc._tracebacks import ends_at_user
from goproc.errors import TaskTimeout, WorkerDied
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kill"]

POLICIES = {
    "restart": _core.DEATH_RESTART,
    "continue": _core.DEATH_CONTINUE,
    "exit": _core.DEATH_EXIT,
}
DEFAULT = "restart"
STARTING, GONE = 1, 4  # enum gp_proc_state


class Lost(Record):
    """A goroutine that was lost with its process."""

    id: int
    name: str
    started: bool  # False: it was pinned to the process, and had not begun
    waited: bool  # True: it was blocked in an operation; False: it ran, or was ready to


class Death(Record):
    """The record of a death."""

    proc: int
    pid: int
    status: int  # as os.wait() has it; -1: not known
    memory: int  # bytes resident at most; 0: not known
    timed_out: bool  # True if it was killed at the time that it had asked for: _core.kill_at()
    when: float  # time.monotonic()
    lost: int  # goroutines; the first of them are in the list
    moved: int  # goroutines that had been taken by the process, had not begun, and run elsewhere
    goroutines: tuple[Lost, ...]
    again: int  # goroutines with retries that start again
    running: int  # the number of the goroutine that ran at that moment; 0: none, or not known
    late: int  # the number of the goroutine whose time was over
    call: str  # of that one, or else of the one that ran: its name and arguments in a short form


def death(number: int) -> Death | None:
    """Return the record of a death by its number (the first is 1); None if there is no record, or no longer one."""
    facts = _core.death(number)
    return None if facts is None else Death(*facts)._replace(goroutines=tuple(Lost(*one) for one in facts[8]))


def deaths() -> int:
    """Return the number of the last death: how many workers have died in this run."""
    return _core.deaths()


def describe(status: int) -> str:
    """Return a description of a process's end, by its status from os.wait()."""
    if status < 0:
        return "ended; how is not known"
    number = status & 0x7F
    if not number:
        return f"ended by itself with status {status >> 8}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"was killed by signal {number} ({name})"


def gone(proc: int, use: str = "") -> WorkerDied:
    """Return the exception for a use of a worker that is not there any more: it has died and is not replaced, or has gone by a resize.

    Args:
        use: the function that the user has called; default: go.on().
    """
    if proc >= _core.procs():
        text = f"{use or f'go.on({proc})'}: worker {proc} has gone by runtime.resize(); there are {_core.procs() - 1}"
        return _worker_died(text, proc, 0, -1, started=False)
    last = next((d for n in range(deaths(), 0, -1) if (d := death(n)) is None or d.proc == proc), None)
    how = f" (pid {last.pid}: it {describe(last.status)})" if last else ""
    text = f"{use or f'go.on({proc})'}: worker {proc} has died{how}, and is not replaced (on_death=continue)"
    return _worker_died(text, proc, last.pid if last else 0, last.status if last else -1, started=False)


def of_a_member(number: int) -> WorkerDied:
    """Return the exception for a member of a group that was lost in a death, where its handle is not known."""
    last = death(number)
    if last is None:
        return WorkerDied("a goroutine of the group was lost with its process")
    text = f"a goroutine of the group was lost with its process: proc {last.proc} (pid {last.pid}) {describe(last.status)}"
    return _worker_died(text, last.proc, last.pid, last.status, memory=last.memory, timed_out=last.timed_out)


def _worker_died(text: str, proc: int, pid: int, status: int, **more: Any) -> WorkerDied:
    signalled = status >= 0 and status & 0x7F
    return WorkerDied(
        text,
        proc=proc,
        pid=pid,
        signal=status & 0x7F if signalled else None,
        status=status >> 8 if status >= 0 and not signalled else None,
        reason=describe(status),
        **more,
    )


def stored(
    number: int,
    proc: int,
    pid: int,
    status: int,
    memory: int,
    timed_out: int,
    unstarted: bool,
    facts: tuple[Any, ...] | None,
    id_: int,
    name: str,
    parent: int,
    labels: str,
    lost: int,
) -> tuple[Any, ...]:
    """Return the stored failure of a lost goroutine, as if it had raised WorkerDied. The core calls it.

    Args:
        timed_out: 1 if the process was killed because the time of one of its goroutines was over; 2 if of this
            goroutine.
        lost: how often this goroutine had been lost before, and had started again.
    """
    from goproc._pickling import failure
    from goproc._pickling.packed import Packed
    from goproc._proc import fatal

    reason = describe(status)
    if unstarted:
        text = f"goroutine {id_} ({name}) was for proc {proc} alone, which died (pid {pid}) and is not replaced: it {reason}"
    else:
        text = f"goroutine {id_} ({name}) was lost with its process: proc {proc} (pid {pid}) {reason}"
        if timed_out == 1:
            text += _because(facts)
        if lost:
            text += f"; it had been lost {_times(lost)} before"
    exc: Exception = _worker_died(
        text,
        proc,
        pid,
        status,
        memory=memory,
        goroutines=tuple((lost[0], lost[1]) for lost in facts[8]) if facts else (),
        running=facts[10] if facts else 0,
        timed_out=timed_out > 0,
        started=not unstarted,
    )
    if timed_out == 2:
        exc = _time_is_over(exc, f"goroutine {id_} ({name})", f"proc {proc} (pid {pid})")
    return fatal.Failure(Packed(*failure.pack(exc)), labels, name, parent).store()


def _because(facts: tuple[Any, ...] | None) -> str:
    """Return, as text, the goroutine whose time limit was the reason to kill the process."""
    late, call = (facts[11], facts[12]) if facts else (0, "")
    return (
        f", as goroutine {late} had not ended in time: {call}"
        if late
        else ", as another goroutine had not ended in time"
    )


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _time_is_over(died: Exception, goroutine: str, worker: str) -> Exception:
    exc = TaskTimeout(
        f"{goroutine} had not ended in the time of go.opts(timeout=..., grace=...): its worker, {worker}, was killed"
    )
    exc.__cause__ = died
    return exc


def check_worker(proc: int, name: str, done: str) -> None:
    """Raise TypeError or ValueError, of a function with that name, if `proc` is not the number of a worker.

    Args:
        done: the caller's action as a participle, for "only workers can be ...".
    """
    if not isinstance(proc, int) or isinstance(proc, bool):
        raise TypeError(f"{name}() takes the number of a worker, not {type(proc).__name__}")
    _core.ensure()
    workers = _core.procs() - 1
    if proc == 0:
        raise ValueError(
            f"{name}(0): proc 0 is the host, the process of the script; only workers can be {done}"
        )
    if not 0 < proc <= workers:
        known = f"the workers are 1 to {workers}" if workers else "there is no worker (--procs 0)"
        raise ValueError(f"{name}({proc}): {known}")


@public
@ends_at_user
def kill(proc: int) -> None:
    """Kill a worker, as `kill -9` does. Its goroutines are lost, and their handles get WorkerDied.

    Returns at once; the policy decides about the rest (``--on-death``). A worker that has just died, and has no
    replacement so far, is not killed again.

    Args:
        proc: the number of the worker: 1 to procs(). A goroutine may kill the worker that it runs on.

    Raises:
        TypeError: proc is no whole number.
        ValueError: there is no such worker. The host, proc 0, is none.
    """
    check_worker(proc, "kill", "killed")
    _insist(_core.kill, proc)


def end_process(proc: int) -> None:
    """Kill a worker in which an abandoned call does not end. The process of the script is left alone.

    A line on stderr tells of it only where goroutines of others are lost.
    """
    if proc > 0:
        _insist(_core.end, proc)


def _insist(kill: Callable[[int], bool], proc: int) -> None:
    while not kill(proc) and _core.proc_facts(proc)[1] == STARTING:
        waits.sleep(0.001)  # its process id is not known yet
