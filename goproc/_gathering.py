"""The collecting half of a dump: ask every process for its goroutines, and make one text of the answers.

The collector is a process of the program (_dump.py), or a command that only looks at its shared memory (cli/dump.py).
Nothing of the scheduler is imported.
"""

from __future__ import annotations

import marshal
from time import monotonic
from time import sleep as _thread_sleep

from goproc._proc import fatal
from goproc._record import Record
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Part = tuple[int, str]  # the number of a goroutine, and its lines

ANSWER_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 0.3
_STARVED_SECONDS = 30.0  # a process that is ready to run and gets no CPU has as long as this
_STARVED_LOOK_SECONDS = 0.02
_CPU_TICKS = 10  # of CPU time: enough for an answer; usually 0.1 s
_STATES = {
    "R": "it computes, in code that is not Python's",
    "S": "it waits in a system call, in code that is not Python's",
    "D": "it waits for a device",
    "T": "it is stopped",
    "t": "a debugger has stopped it",
    "Z": "it is dead",
    "": "it is gone",
}


class Answers(Record):
    """The answers of the processes of a program to a request for a dump.

    Attributes:
        known: the lines of each goroutine, by its number.
        asked: the processes that could answer, the collecting one left out.
        silent: of these, the processes that did not answer in time.
    """

    known: dict[int, str]
    asked: set[int]
    silent: set[int]


class _CPU(Record):
    """The kernel's record of a process.

    Attributes:
        state: the letter of the process's state; "" if there is no such process.
        ticks: CPU time that all threads of the process have had, in clock ticks.
    """

    state: str
    ticks: int


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
        start = monotonic()
        deadline = start + ANSWER_SECONDS
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
            had: dict[int, int] = {}
            while silent:
                _take(request, silent, known)
                now = monotonic()
                if now > deadline:
                    if now > start + _STARVED_SECONDS or not _starved(silent, had):
                        break
                    deadline = now + _STARVED_LOOK_SECONDS
                if now > again:
                    again = start + _STARVED_SECONDS
                    had = {p: _cpu(_core.proc_facts(p)[0]).ticks for p in silent}
                    request = self._ask_again(request, silent)
                if silent:
                    _thread_sleep(0.0005)
            return Answers(known, asked, silent)
        finally:
            _core.dump_end(request)

    def _ask_again(self, request: int, silent: set[int]) -> int:
        """Ask the silent processes once more. Return the number of the request: another one if a collection came between."""
        if _core.dump_wanted() != request:
            request = _core.dump_begin(True)
            self.begun(request)
        for p in silent:
            self.ask(p)
        return request


def _take(request: int, silent: set[int], known: dict[int, str]) -> None:
    """Move the answers that are there into `known`, and their processes out of `silent`."""
    for p in list(silent):
        answer = _core.dump_take(p, request)
        if answer is not None:
            silent.discard(p)
            known.update(marshal.loads(answer) if answer else ())


def _starved(silent: set[int], had: dict[int, int]) -> bool:
    """True if one of the processes is ready to run, and has had too little CPU time to answer.

    Args:
        had: the CPU time that each process had when it was asked, in clock ticks.
    """
    return any(_is_starved(_cpu(_core.proc_facts(p)[0]), had.get(p, 0)) for p in silent)


def _is_starved(cpu: _CPU, had: int) -> bool:
    return cpu.state == "R" and cpu.ticks - had < _CPU_TICKS


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
    letter = _cpu(pid).state
    return _STATES.get(letter, f"its state is {letter}")


def _cpu(pid: int) -> _CPU:
    try:
        with open(f"/proc/{pid}/stat") as file:
            words = file.read().rpartition(")")[2].split()
        return _CPU(words[0], int(words[11]) + int(words[12]))  # the words 3, 14 and 15 of proc_pid_stat(5)
    except (OSError, IndexError, ValueError):
        return _CPU("", 0)


def place(proc: int, pid: int) -> str:
    return f"proc {proc} (pid {pid})"


def one_line(text: str) -> str:
    text = " ".join(text.splitlines())
    return text if len(text) <= 300 else text[:297] + "..."
