"""The collecting half of a dump: ask every process for its goroutines, and make one text of the answers.

The collector is a process of the program (_dump.py), or a command that only looks at its shared memory (cli/dump.py).
Nothing of the scheduler is imported.
"""

from __future__ import annotations

import marshal
from time import monotonic
from time import sleep as _thread_sleep
from typing import NamedTuple

from goproc._proc import fatal
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Part = tuple[int, str]  # the number of a goroutine, and its lines

ANSWER_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 0.3
_STATES = {
    "R": "it computes, in code that is not Python's",
    "S": "it waits in a system call, in code that is not Python's",
    "D": "it waits for a device",
    "T": "it is stopped",
    "t": "a debugger has stopped it",
    "Z": "it is dead",
    "": "it is gone",
}


class Answers(NamedTuple):
    """The answers of the processes of a program to a request for a dump.

    Attributes:
        known: the lines of each goroutine, by its number.
        asked: the processes that could answer, the collecting one left out.
        silent: of these, the processes that did not answer in time.
    """

    known: dict[int, str]
    asked: set[int]
    silent: set[int]


class Collector:
    """Collects one dump. A subclass says how a process is asked.

    Args:
        me: the collecting process, which is not asked; -1 if it is none of the program's.
    """

    def __init__(self, me: int) -> None:
        self.me = me

    def ask(self, proc: int) -> None:
        """Make a process look for the request: by a signal if it answers to one. Must not block."""
        raise NotImplementedError

    def begun(self, request: int) -> None:
        """Note that a request of this number was made."""

    def own(self) -> Iterable[Part]:
        """Return the goroutines of the collecting process; called while the others prepare their answers."""
        return ()

    def collect(self, nested: bool = False) -> Answers:
        """Have every process describe its goroutines.

        Args:
            nested: True if the caller has interrupted a collection of this process: take its place, do not wait for its
                end.
        """
        deadline = monotonic() + ANSWER_SECONDS
        request = _core.dump_begin(nested)
        while not request:
            _thread_sleep(0.002)  # another process collects one; signals are handled meanwhile
            request = _core.dump_begin(monotonic() > deadline)
        deadline = max(deadline, monotonic() + 2 * _ASK_AGAIN_SECONDS)
        try:
            self.begun(request)
            asked = {p for p in range(_core.places()) if p != self.me and _can_answer(p)}
            silent = set(asked)
            for p in asked:
                self.ask(p)
            again = monotonic() + _ASK_AGAIN_SECONDS
            known = dict(self.own())
            while silent:
                for p in list(silent):
                    answer = _core.dump_take(p, request)
                    if answer is not None:
                        silent.discard(p)
                        known.update(marshal.loads(answer) if answer else ())
                now = monotonic()
                if now > deadline:
                    break
                if now > again:
                    again = deadline
                    if _core.dump_wanted() != request:  # another collection has come in between
                        request = _core.dump_begin(True)
                        self.begun(request)
                    for p in silent:
                        self.ask(p)
                if silent:
                    _thread_sleep(0.0005)
            return Answers(known, asked, silent)
        finally:
            _core.dump_end(request)


def _can_answer(proc: int) -> bool:
    """True if the start of the process has gone so far that it may have goroutines."""
    pid, _, _, ready = _core.proc_facts(proc)
    return pid != 0 and (ready or proc == 0)


def assemble(answers: Answers, first: int) -> str:
    """Return the text of a dump: answers, goroutines that only shared memory knows, processes that did not answer.

    Args:
        first: the number of the goroutine to begin with; 0: they come in the order of their numbers.
    """
    known, silent = answers.known, answers.silent
    pids = _core.pids()
    for id_, parent, site, proc, started, name, labels in _core.goroutines():
        if id_ in known:
            continue
        if proc in silent:
            status, where = "no answer", place(proc, pids[proc])
        else:  # it has not started, or has begun since its process answered
            status, where = (
                "runnable" if not started else "running",
                f"proc {proc}" if proc >= 0 else "in a queue",
            )
        created = fatal.created_by(parent, site)
        known[id_] = f"goroutine {id_} [{status}]{labels}:\n  {one_line(name)}, {where}\n{created}"
    if 1 not in known and 0 in silent and not _core.main_gone():
        known[1] = f"goroutine 1 [no answer]:\n  main, {place(0, pids[0])}\n"
    order = sorted(known, key=lambda id_: (id_ != first, id_))
    notes = [f"{silence(proc, pids[proc])}\n" for proc in sorted(silent)]
    return "\n".join([known[id_] for id_ in order] + notes)


def silence(proc: int, pid: int) -> str:
    """Return a line that says that a process did not answer, and why, as far as the kernel knows."""
    return f"{place(proc, pid)} did not answer within {ANSWER_SECONDS:g} s: {_process_state(pid)}"


def _process_state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            letter = file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        letter = ""
    return _STATES.get(letter, f"its state is {letter}")


def place(proc: int, pid: int) -> str:
    return f"proc {proc} (pid {pid})"


def one_line(text: str) -> str:
    text = " ".join(text.splitlines())
    return text if len(text) <= 300 else text[:297] + "..."
