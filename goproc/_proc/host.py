"""The runtime of this process: when one starts, and when it ends.

The runtime starts at the first use of goproc and stops when the program ends; ``with runtime(procs=4):`` bounds it
instead. Its processes are those of processes.py.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any

from goproc import _life, errors
from goproc._proc import configuration, early, exit_calls, fatal, forked, main_exit, owner, resizing
from goproc._proc.processes import Runtime
from goproc._sched import checkpoints, own_thread, scheduler
from goproc.shm import _core

__goproc_frames__ = "machinery"

_running: Runtime | None = None
# The thread that ran the goroutines of a runtime that ended by itself.
_leaving: threading.Thread | None = None
_ended = False  # True at the end of the program: no runtime starts any more
# True while a runtime is left: goroutines that clean up meanwhile must not start another one.
_unwinding = False
_forked = False  # True in a child that the program forked: no runtime starts here
_lock = threading.Lock()


def may_start() -> bool:
    """Return True if this process may have a runtime: it is no fork of a process with one, and not at its end."""
    return not (_forked or _ended)


def prepare() -> None:
    """Start the zygote of the runtime to come, if this program may have one: its workers then share its imports."""
    if may_start() and not _core.attached() and not owner.is_test_run():
        early.launch_ahead()


def ensure(procs_at_least: int = 0) -> None:
    """Start the runtime with the defaults unless it runs.

    Args:
        procs_at_least: the number of workers to start where the default is smaller, and not 0.

    The main thread runs goroutines whenever its own code blocks. Any other thread may end, and take the scheduler with
    it. So if another thread is the first to use the runtime, the goroutines get a thread of their own.
    """
    _core.check_fork()
    if _core.lost() is not None:
        _leave_lost()
    if _running is not None:
        return
    if _leaving is not None and _leaving is not threading.current_thread():
        _leaving.join()  # the scheduler has one state in a process, and that thread still uses it
    new = configuration.configured()
    if new.procs:
        new.procs = max(new.procs, procs_at_least)
    if threading.current_thread() is threading.main_thread():
        _start(new)
        return
    failed: list[BaseException] = []
    started = threading.Event()

    def life() -> None:
        try:
            _start(new)
        except BaseException as exc:
            failed.append(exc)
        started.set()
        if not failed and _running is new:
            own_thread.run()

    new.thread = threading.Thread(target=life, name="goproc-scheduler", daemon=True)
    new.thread.start()
    started.wait()
    if failed:
        raise failed[0]


def _start(new: Runtime) -> None:
    global _running
    with _lock:
        if _running is not None:
            return
        if _forked:
            raise RuntimeError(
                "goproc cannot be used in a process made by os.fork(): start it with subprocess, or use go()"
            )
        if _ended:
            raise errors.RuntimeStopped("the program is ending: the goproc runtime has stopped")
        if _unwinding:
            raise errors.RuntimeStopped("the goproc runtime this goroutine belongs to stopped")
        new.start()
        _running = new
    atexit.register(_at_exit)
    exit_calls.watch()
    _watch_forks()


def _leave_lost() -> None:
    """Forget a runtime that has ended by a panic or a death, if this goroutine may: the next use starts another.

    Raises:
        RuntimeStopped: goroutines of this process belong to the runtime, and main alone can end them.
    """
    runtime = _running
    if runtime is None:
        return
    if runtime.thread is None and not _main_runs():
        raise errors.RuntimeStopped(f"the goproc runtime ended ({_core.lost()}); main has not noticed yet")
    _forget_lost()


def _main_runs() -> bool:
    return _core.on_scheduler_thread() and scheduler.current is scheduler.main


def _forget_lost() -> None:
    global _leaving
    if _running is not None and _running.thread is threading.current_thread():
        _leaving = _running.thread
    left = _stop()
    if _main_runs():
        _unwind(left)
    elif left:
        _core.keep(left)


def _unwind(greenlets: list[Any]) -> None:
    """Run the ``finally`` blocks of goroutines whose runtime has stopped."""
    global _unwinding
    _unwinding = True
    try:
        for greenlet in greenlets:
            if not greenlet.dead:
                greenlet.throw()  # raises GreenletExit there
    finally:
        _unwinding = False


def _stop() -> list[Any]:
    global _running
    old, _running = _running, None
    atexit.unregister(_at_exit)
    return old.stop() if old is not None else []


def forbid() -> None:
    """Let no runtime start in this process: it is the zygote, and one of its imports may use goproc."""
    global _forked
    _forked = True


def _watch_forks() -> None:
    global _forks_watched
    if not _forks_watched:
        _forks_watched = True
        os.register_at_fork(after_in_child=in_forked_child)


_forks_watched = False


def in_forked_child() -> None:
    """Begin in a child that the program forked: it has no runtime, and must not stop its parent's when it ends."""
    global _running, _forked, _lock
    forked.enter()
    scheduler.end_child = forked.end
    _lock = threading.Lock()  # another thread of the parent may have held the lock
    old, _running = _running, None
    _forked = _forked or old is not None or _core.proc() > 0
    if old is not None:
        atexit.unregister(_at_exit)
        old._remove_hooks()


def _at_exit() -> None:
    """Drop the other goroutines when main has returned, as Go does: their ``finally`` blocks do not run."""
    global _ended
    _ended = True
    if _running is None:
        return
    # In a child that the user forked: the goroutines are the parent's, and the parent cleans up after them.
    if not _core.attached():
        _core.keep(scheduler.stop())
        return
    main_exit.end_output()
    main_failed = hasattr(sys, "last_value")
    survives = _core.survives()
    if fatal.report_unread(briefly=main_failed) and not main_failed and not survives:
        _end_with(2)
    left = _stop()
    if left:
        # A greenlet that is collected runs its finally blocks, so these must outlive the interpreter.
        _core.keep(left)


def _end_with(status: int) -> None:
    """Have the program end with a status in place of 0."""
    # The C library has no on_exit(): the exit handlers that have not run yet are lost.
    if not _core.exit_status(status):
        fatal.flush()
        fatal.claim("unread failures")
        fatal.end(status)


def enter(new: Runtime) -> None:
    """Start a runtime if none runs."""
    _core.check_fork()
    if _core.attached():
        if _core.proc() != 0:
            advice = f" (this is proc {_core.proc()}: start it in the main program)"
        else:
            advice = (
                ": it starts at the first use of goproc; start another one before that, or change the number of its "
                "workers by goproc.runtime.resize(n)"
            )
        raise RuntimeError(f"a goproc runtime runs already, procs={_core.procs() - 1}{advice}")
    _start(new)


def leave(new: Runtime, kind: type[BaseException] | None, exc: BaseException | None) -> None:
    """End a runtime where its block ends.

    Args:
        new: the runtime.
        kind, exc: the exception that leaves the block, or None.
    """
    if _running is not new:
        return
    if kind is _life.Goexit and new.hooked and not main_exit.interactive():
        return  # main ends by goexit(), but its goroutines go on: see main_exit.py
    if not _core.on_scheduler_thread() or scheduler.current is not scheduler.main:
        raise RuntimeError("the goproc runtime must be left where it was entered: in its main goroutine")
    if exc is not None and new.hooked:
        main_exit.leave(exc)
        new.interrupted = isinstance(exc, KeyboardInterrupt)
    if exc is None:
        main_exit.end_output()
    survives = _core.survives()
    if fatal.report_unread(briefly=kind is not None) and not survives:
        _end_with(2)
    _unwind(_stop())
    if kind is None and isinstance(scheduler.main.interrupt, KeyboardInterrupt):
        checkpoints.raise_interrupt()  # Ctrl-C came while the runtime stopped


def resize(procs: Any, timeout: Any) -> None:
    """As runtime.resize()."""
    procs, timeout = resizing.check_number(procs), resizing.checked_timeout(timeout)
    _core.check_fork()
    if _core.proc() != 0:
        raise RuntimeError(
            f"resize({procs}) on proc {_core.proc()}: the process of the script resizes the runtime, in main, go.local or go.on(0)"
        )
    if _running is None:
        raise RuntimeError(
            f"resize({procs}): no goproc runtime runs; runtime(procs={procs}) starts one of that size"
        )
    _running.resize(procs, timeout)


early.find()
scheduler.on_lost = _forget_lost
scheduler.on_nudge.append(resizing.follow)
