"""The end of main by an uncaught exception, by goexit(), or because its output has no reader.

All ways to write a program end alike: with the runtime started by its first use, in ``with runtime():``, in run() and
in main(). When an exception leaves such a block, the runtime stops before Python knows that the exception is uncaught.
So the exception is marked, and sys.excepthook stays goproc's.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from greenlet import getcurrent

from goproc import _goroutine, _life
from goproc._proc import exit_handlers, fatal, last_words, stdio
from goproc._raised import set_traceback
from goproc._record import Record
from goproc._sched import scheduler
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType
    from typing import NoReturn

    from goproc._proc.sigint import Delivery

_MARK = "_goproc_left"
_BROKEN = 128 + signal.SIGPIPE  # the status where the signal does not end the process


class _Left(Record):
    """The state of a runtime at the moment when an exception left its block."""

    answers: bool  # True if goproc answered Ctrl-C
    ended: int  # the number of goroutines of this process that ended with the runtime


hidden: set[CodeType] = set()  # functions of goproc that call main
_installed = False  # True while a runtime runs whose main goroutine is main
_kept = False  # True after its end, while an exception of main's may still be under way
_before: Any = None  # sys.excepthook as it was before
_delivery: Delivery | None = None  # the Delivery that answers Ctrl-C in the runtime


def install(delivery: Delivery | None) -> None:
    """Answer uncaught exceptions while a runtime runs.

    Args:
        delivery: answers Ctrl-C there, if goproc does.
    """
    global _installed, _kept, _before, _delivery
    _delivery, _installed, _kept = delivery, True, False
    if sys.excepthook is not _excepthook:
        _before = sys.excepthook
        sys.excepthook = _excepthook


def remove() -> None:
    """Leave sys.excepthook as it was, unless an exception is on its way there."""
    global _installed, _delivery
    _installed, _delivery = False, None
    if not _kept and sys.excepthook is _excepthook:
        sys.excepthook = _before


def leave(exc: BaseException) -> None:
    """Note that an exception leaves the block of the runtime."""
    global _kept
    if isinstance(exc, SystemExit) or not _installed or _core.survives():
        return
    _kept = True
    setattr(exc, _MARK, _Left(_delivery is not None, len(scheduler.started)))


def _excepthook(kind: type[BaseException], exc: BaseException, tb: TracebackType | None) -> None:
    """End main by an uncaught exception."""
    hook = _before or sys.__excepthook__
    left: _Left | None = getattr(exc, _MARK, None)
    if not (_installed or left) or interactive() or not _uncaught(tb):
        hook(kind, exc, tb)
    elif issubclass(kind, _life.Goexit):
        _outlive_main(hook)
    elif fatal.broke(exc):
        _end_unread()
    elif not issubclass(kind, KeyboardInterrupt):
        _end_panicked(hook, exc)
    elif _delivery is not None or (left is not None and left.answers):
        end_interrupted(left.ended if left is not None else None)
    else:  # the program has its own way of answering Ctrl-C
        hook(kind, exc, tb)


def interactive() -> bool:
    """Return True if the program goes on after an exception, at a prompt."""
    return (
        hasattr(sys, "ps1")
        or bool(sys.flags.interactive)
        or (bool(os.environ.get("PYTHONINSPECT")) and os.isatty(0))
    )


def _uncaught(tb: TracebackType | None) -> bool:
    """True if the exception has ended main; programs also call sys.excepthook to print an exception that they caught.

    The frame that caught an exception still runs: it is the first frame of the traceback, unless the program has cut it
    off (consoles do). In main, its module is among the callers.
    """
    if threading.current_thread() is not threading.main_thread() or getcurrent().parent is not None:
        return False  # a goroutine's greenlet has a parent
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" or (tb is not None and frame is tb.tb_frame):
            return False
        frame = frame.f_back
    return True


def _without_hidden(tb: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of goproc that have called main."""
    while tb is not None and tb.tb_frame.f_code in hidden:
        tb = tb.tb_next
    last = tb
    while last is not None:
        while last.tb_next is not None and last.tb_next.tb_frame.f_code in hidden:
            last.tb_next = last.tb_next.tb_next
        last = last.tb_next
    return tb


def _end_panicked(hook: Any, exc: BaseException) -> NoReturn:
    """End main's own panic: print the report, then end as a Python program does, in order, but with status 2."""
    if not fatal.claim("panic in goroutine 1"):
        fatal.wait_for_the_end()
    set_traceback(exc, _without_hidden(exc.__traceback__))
    fatal.report(f"panic: {fatal.first_line(exc)}\n\ngoroutine 1 [running]:\n")
    try:
        hook(type(exc), exc, exc.__traceback__)
    except BaseException:
        sys.__excepthook__(*sys.exc_info())
        sys.__excepthook__(type(exc), exc, exc.__traceback__)
    _end_in_order()
    os._exit(2)  # Python itself would wait for threads first, perhaps for ever


def _outlive_main(hook: Any) -> NoReturn:
    """Let the program go on after main called goexit(), until no goroutine is left that could run."""
    _goroutine.end_main()
    try:
        _core.park_forever("goexit", None)
        raise AssertionError("an endless wait ended")
    except KeyboardInterrupt:
        end_interrupted()
    except BaseException as exc:  # only main could be told of this error: a worker that did not start
        _end_panicked(hook, exc)


def end_interrupted(count: int | None = None) -> NoReturn:
    """End the program because of Ctrl-C: one line, status 130, atexit handlers and output in order, but no waiting.

    Args:
        count: goroutines of this process that have ended already; None: count those that run.
    """
    if count is None:
        count = len(scheduler.started)
    if _delivery is not None:
        _delivery.hold_for_ever()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _core.interrupts_exit()
    last_words.limit()
    _run_exit_handlers()
    ended = f"; {count} goroutine{'s' if count > 1 else ''} of this process ended" if count else ""
    fatal.report(f"goproc: interrupted (Ctrl-C){ended}\n")
    os._exit(130)


def _run_exit_handlers() -> None:
    """Run the exit handlers, as Python does at the end of a program, but do not wait for threads."""
    scheduler.scheduling = False  # the interrupted goroutine does not go on
    exit_handlers.run()


def _end_in_order() -> None:
    if _core.attached():
        _core.fatal_reported()
    _run_exit_handlers()


# -- output without a reader ---------------------------------------------------------------------------------


def _end_unread() -> NoReturn:
    """End the program as fatal.end_broken() does, but with exit handlers, since main could not write."""
    if not fatal.claim("nobody reads the output"):
        fatal.wait_for_the_end()
    fatal.silent = True
    _end_in_order()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPIPE])
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(_BROKEN)


def end_output() -> None:
    """Have the program end by SIGPIPE, once main has returned, if its output has no reader."""
    if stdio.flush_output() or _core.survives():
        return
    if _core.exit_status(fatal.BY_SIGNAL | signal.SIGPIPE):
        null = os.open(os.devnull, os.O_WRONLY)  # Python flushes again
        os.dup2(null, 1)
        os.close(null)
