"""Reports on all goroutines of all processes, in Go's format: dump(), and the answer of each process to it.

Only a process itself knows the stacks of its goroutines. So the process that wants a dump sends a signal to the others.
The handler of the signal runs between two bytecodes, also while a goroutine computes and while the scheduler sleeps. It
formats the goroutines of its process and publishes the text in shared memory (goproc/shm/python/dump.c). A worker gets
SIGQUIT, which also interrupts a system call. The host gets the signal of time slices, as SIGQUIT there is the user's.

These ways do not work; each has its answer:

- Waiting for every process. A process may be in C code for minutes, or stopped. After a second the report says that it
  did not answer, and lists its goroutines from its task blocks in shared memory.
- Running code of the program while formatting. The handler may come at any bytecode, with a goroutine in the middle of
  any step. Only the handles of goproc are asked for their repr, as if a message were being pickled: then nothing
  switches, and nothing blocks.
- Trusting the state of the process. A report is needed most when the program is broken. So each goroutine is formatted
  by itself, and the report names those that cannot be shown.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
import threading
from time import monotonic, process_time

from greenlet import getcurrent

from goproc import _frames, _gathering
from goproc._gathering import one_line, place
from goproc._labels import format_labels
from goproc._proc import fatal
from goproc._public import public
from goproc._sched import own_thread, scheduler
from goproc._tracebacks import user_line
from goproc.shm import _core
from goproc.shm._core import num_goroutine as num_goroutine

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Protocol, overload

    from goproc._gathering import Part
    from goproc._sched.g import G

    class Writable(Protocol):
        def write(self, text: str, /) -> object: ...


__all__ = ["dump", "num_goroutine"]

_STACK_SECONDS = 0.5  # of ANSWER_SECONDS: after that goroutines are listed without their stacks
_STACK_CPU_SECONDS = 0.05  # unless the process has not had as much CPU time as this
_SHOWN_FRAMES = 100
_LEFT_OUT = ("scheduler", "machinery")  # marks of frames, see _frames.py

_asking = 0  # ident of the thread that collects a dump: a signal's handler may want one in the middle of it
_answered = 0  # the request that this process has answered, or made


# -- one process ---------------------------------------------------------------------------------------------


def parts(active: FrameType | None) -> list[Part]:
    """Describe the goroutines of this process that have started, each by itself.

    Args:
        active: the innermost frame of the thread that runs goroutines.
    """
    found: list[Part] = []
    lines: dict[tuple[str, int | None, str], str] = {}
    late, late_cpu = monotonic() + _STACK_SECONDS, process_time() + _STACK_CPU_SECONDS
    main = scheduler.main
    everyone = list(scheduler.started.values())
    if _core.proc() == 0 and not _core.main_gone():
        everyone.insert(0, main)
    for g in everyone:
        try:
            over = monotonic() >= late and process_time() >= late_cpu
            text = _describe(g, active, None if over else lines)
        except Exception as exc:
            text = f"goroutine {g.id} [unknown]:\n  it cannot be shown: {type(exc).__name__}\n"
        found.append((g.id, text))
    return found


def _describe(g: G, active: FrameType | None, lines: dict[tuple[str, int | None, str], str] | None) -> str:
    foreign = g is scheduler.main and own_thread.is_used()
    if foreign:  # the program's main runs in a thread that runs no goroutines
        status, frame = "running", sys._current_frames().get(threading.main_thread().ident or 0)
    else:
        status, frame = _status(g), _frame_of(g, active)
    waits = ""
    if g.parked and not foreign and g.waits_on is not None:
        waits = f", waits on {_repr(g.waits_on)}"
    stack = (
        ""
        if frame is None
        else "  ...its stack is left out: there are too many\n"
        if lines is None
        else _stack(frame, lines)
    )
    return (
        f"goroutine {g.id} [{status}]{format_labels(g.labels)}:\n"
        f"  {one_line(g.name)}, {place(_core.proc(), os.getpid())}{waits}\n"
        f"{stack}{fatal.created_by(g.parent, g.site)}"
    )


def _status(g: G) -> str:
    if g.parked:
        minutes = int((monotonic() - g.since) / 60) if g.since else 0
        ago = f", {minutes} minutes" if minutes else ""
        return f"{g.reason}{ago}"
    return "running" if g is scheduler.current and not scheduler.idling else "runnable"


def _frame_of(g: G, active: FrameType | None) -> FrameType | None:
    if g.greenlet is None:
        return None  # it waits for its first turn
    frame: FrameType | None = g.greenlet.gr_frame
    if frame is not None:
        return frame
    if _core.on_scheduler_thread():
        return active if g.greenlet is getcurrent() else None
    return active if g.greenlet else None


def _stack(frame: FrameType | None, lines: dict[tuple[str, int | None, str], str]) -> str:
    """Return the frames as in a traceback, without goproc's own at either end."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    shown = frames[::-1]
    while shown and _frames.is_own(shown[0]):
        del shown[0]
    while shown:
        last = len(shown) - 1
        while last and shown[last].f_code.co_filename.startswith("<frozen importlib"):
            last -= 1  # an import by goproc counts no more as the program's than the module that it imports
        if not _frames.is_own(shown[last]):
            break
        del shown[last:]
    if not shown:  # a goroutine of goproc's own
        shown = [f for f in frames[::-1] if not (_frames.is_own(f) and _frames.mark(f) in _LEFT_OUT)]
    half = _SHOWN_FRAMES // 2
    left_out = len(shown) - _SHOWN_FRAMES
    if left_out > 0:
        above = "".join([_line(f, lines) for f in shown[:half]])
        below = "".join([_line(f, lines) for f in shown[-half:]])
        return f"{above}  ...{left_out} frames left out...\n{below}"
    return "".join([_line(f, lines) for f in shown])


def _line(frame: FrameType, lines: dict[tuple[str, int | None, str], str]) -> str:
    import linecache

    code = frame.f_code
    key = code.co_filename, frame.f_lineno, code.co_name
    text = lines.get(key)
    if text is None:
        try:
            source = linecache.getline(code.co_filename, frame.f_lineno or 0, frame.f_globals).strip()
        except Exception:
            source = ""
        text = f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}\n'
        text += f"    {source}\n" if source else ""
        lines[key] = text
    return text


def _repr(thing: object) -> str:
    try:
        text = _core.as_pickling(repr, thing)
    except Exception as exc:
        text = f"{type(thing).__name__} (its repr raised {type(exc).__name__})"
    return one_line(text)


# -- all of them ---------------------------------------------------------------------------------------------

if TYPE_CHECKING:

    @overload
    def dump(file: None = None) -> str: ...
    @overload
    def dump(file: Writable) -> None: ...


@public
def dump(file: Writable | None = None) -> str | None:
    """Return a description of all goroutines of all processes: state, reason of the wait, stack, place of creation.

    Args:
        file: an open text file that gets the text. Without one dump() returns the text.

    Returns:
        The text, or None if `file` was given: a paragraph for each goroutine, the caller's first. Each begins with
        ``goroutine N [state]:``.

    dump() can be called from any goroutine or thread. If a process does not answer within a second, because it is in C
    code or stopped, the text has only the facts in shared memory. A process that gets no CPU has 30 s.

    Cost: about 1 ms, and 10 us for each goroutine.
    """
    if file is not None and not hasattr(file, "write"):
        with user_line:
            raise TypeError(f"dump() takes an open text file, not {type(file).__name__}")
    text = everything(sys._getframe())
    if file is None:
        return text
    file.write(text)
    return None


def everything(active: FrameType) -> str:
    """Return the text of a dump.

    Args:
        active: the frame of the caller.
    """
    _core.check_fork()
    if not _core.attached():
        return f"goroutine 1 [running]:\n{_stack(_main_frame(active), {})}"
    mine = scheduler.current.id if _core.on_scheduler_thread() and not scheduler.current.parked else 0
    return _gathering.assemble(_collect(active), mine)


def _main_frame(active: FrameType) -> FrameType:
    main = threading.main_thread()
    if threading.current_thread() is main:
        return active
    return sys._current_frames().get(main.ident or 0, active)


def _collect(active: FrameType) -> _gathering.Answers:
    global _asking
    outer = _asking
    nested = outer == threading.get_ident()
    try:
        return _Collector(active).collect(nested)
    finally:
        _asking = outer


class _Collector(_gathering.Collector):
    """Collects a dump for this process."""

    def __init__(self, active: FrameType) -> None:
        super().__init__(_core.proc())
        self._active = active

    def begun(self, request: int) -> None:
        global _asking, _answered
        _asking, _answered = threading.get_ident(), request

    def own(self) -> list[Part]:
        return parts(self._active if _core.on_scheduler_thread() else _scheduler_frame())

    def ask(self, proc: int) -> None:
        _ask(proc)


def _ask(proc: int) -> None:
    pid, _, _, ready = _core.proc_facts(proc)
    if ready:
        try:
            os.kill(pid, signal.SIGQUIT if proc else signal.SIGURG)  # the host's SIGQUIT is the user's
        except OSError:
            pass
    _core.nudge(proc)  # if the signal comes just before it falls asleep, or has no handler of ours


def _scheduler_frame() -> FrameType | None:
    """Return the frame of the thread that runs goroutines, from another thread."""
    return sys._current_frames().get(scheduler.thread)


# -- being asked ---------------------------------------------------------------------------------------------


def answer(frame: FrameType | None) -> bool:
    """Publish the part of this process, if a process waits for it. From a signal's handler, or the scheduler.

    Args:
        frame: the frame that was interrupted.

    Returns:
        True if a request waits for answers, of this process or of others.
    """
    global _answered
    request = _core.dump_wanted()
    if not request or request == _answered:
        return request != 0
    _answered = request
    try:
        mine = parts(frame)
        data = marshal.dumps(mine)
        if not _core.dump_answer(request, data):  # short of memory: the headers alone
            short = [(id_, text[: text.index("\n") + 1]) for id_, text in mine]
            _core.dump_answer(request, marshal.dumps(short))
    except Exception:  # at the end of Python's stack, for one
        try:
            _core.dump_answer(request, b"")
        except Exception:
            pass
    return True


def on_worker_quit(number: int, frame: FrameType | None) -> None:
    """Handle SIGQUIT in a worker. A terminal sends it to all processes; then the host makes the report."""
    answer(frame)
