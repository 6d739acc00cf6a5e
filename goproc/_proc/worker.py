"""The life of a worker process, from the fork to its exit.

The zygote calls main() in the child. When the scheduler takes over, these hold for a worker:

- it dies with its parent, in every case;
- the host answers the signals of a terminal. At SIGINT no goroutine begins here for a while (sigint.py), until the host
  sends SIGCONT. SIGINT is caught and not ignored: an ignored signal stays ignored in the programs that a goroutine
  starts, and Ctrl-C must end those. SIGQUIT makes the worker describe its goroutines, if another process has asked;
- SIGTERM ends it in order: exit handlers run, and its output is written;
- ``__main__`` is a home (_pickling/homes.py) for the script's definitions, which arrive by value. The user's file is
  never run again.
"""

from __future__ import annotations

import os
import signal
import sys

from goproc._isolation import loaded
from goproc._proc.letters import LEAVES, LEFT, STOPS
from goproc._setup import call_given, choose_gpu

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from types import FrameType
    from typing import NoReturn

    from goproc._proc.plans import Config

EXIT_FAILED = 70  # EX_SOFTWARE: goproc itself failed here, not the program


def main(proc: int, config: Config, memfd: int) -> NoReturn:
    """Run as process ``proc`` until the runtime stops. Does not return."""
    status = EXIT_FAILED
    try:
        _become(proc, config, memfd)
        from goproc._sched import scheduler

        scheduler.run_worker()
        _flush()
        status = 0
    except BaseException:
        _report(proc)
    finally:
        os._exit(status)


def _become(proc: int, config: Config, memfd: int) -> None:
    global _proc
    if "setup" in config["extra"]:
        choose_gpu(proc, config["extra"]["setup"]["gpus"])
    import linecache  # noqa: F401 (now, and not when a signal's handler needs it)

    from greenlet import getcurrent

    from goproc import _crashes, _dump, _life, _wiring  # noqa: F401 (it connects the core)
    from goproc._pickling import homes, store
    from goproc._proc import inherited, interpreter, stdio, topology
    from goproc._sched import scheduler, slices
    from goproc.shm import _core

    try:
        # First: from here on this worker cannot outlive its parents.
        _core.die_with_parent(config["zygote_pid"], config["keeper_pid"])
    except OSError:
        # The zygote died before that: the program is over, and there is nothing to add to its report.
        os._exit(EXIT_FAILED)
    _core.set_name(b"goproc-%d" % proc)
    _proc = proc
    _crashes.note(config["crashes"], proc)
    _signals()
    inherited.on_interrupt = _hold
    inherited.bind(config["pinning"][proc] if proc < config["procs"] else None)
    script = config["surroundings"]["environ"]
    inherited.mark_variables(topology.blas_defaults(script), script)
    _fresh_main(config["main"])
    homes.begin(config["path"])
    sys.setrecursionlimit(config["recursion_limit"])
    multiprocessing = loaded("multiprocessing.process")
    if multiprocessing and config["authkey"]:
        multiprocessing.current_process().authkey = config["authkey"]
    reseed(sys.modules)
    stdio.install_worker(memfd, getcurrent, config["codecs"])
    _core.attach(memfd, proc, config["zygote"])
    inherited.bind_again()  # a resize may have changed it
    store.connect(_core.definition_put, _core.definition_get)
    if config["interpreter"] is not None:
        interpreter.apply(config["interpreter"])
    if "logs" in config["extra"]:
        from goproc import _logs

        _logs.connect(**config["extra"]["logs"])
    scheduler.start(_life.make, "scheduler", _leave)
    scheduler.on_retire = _retire
    scheduler.on_nudge.append(inherited.bind_again)
    slices.start()
    signal.signal(signal.SIGQUIT, _dump.on_worker_quit)
    _core.dump_ready(True)
    os.register_at_fork(after_in_child=_in_forked_child)
    if "setup" in config["extra"]:
        call_given(config["extra"]["setup"]["init"])


def _signals() -> None:
    signal.signal(signal.SIGINT, _on_interrupt)
    signal.siginterrupt(signal.SIGINT, False)
    signal.signal(signal.SIGCONT, _on_continue)
    signal.siginterrupt(signal.SIGCONT, False)
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python starts: a broken pipe is an exception


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    _hold()


def _hold() -> None:
    """Begin no goroutine for a time, because of Ctrl-C."""
    global _was_held
    from time import monotonic

    from goproc._proc import sigint
    from goproc._sched import scheduler

    _was_held = True
    scheduler.held_until = monotonic() + sigint.HOLD


_was_held = False


def _on_continue(number: int, frame: FrameType | None) -> None:
    from goproc._sched import scheduler

    scheduler.release()


def _on_late_signal(number: int, frame: FrameType | None) -> None:
    pass


def _on_terminate(number: int, frame: FrameType | None) -> None:
    from goproc._proc import line_output

    line_output.after_write(frame, _terminate)


def _terminate() -> NoReturn:
    from goproc._proc import exit_handlers
    from goproc.shm import _core

    # A SIGTERM that does not come from the zygote at the end: die of it, so that the report can name the signal.
    if not _core.stopping():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, _die)
        signal.setitimer(signal.ITIMER_REAL, exit_handlers.LIMIT)
        try:
            _run_exit_handlers()
        finally:
            _die()
    _leave()


def _die(number: int = 0, frame: FrameType | None = None) -> NoReturn:
    while True:
        os.kill(os.getpid(), signal.SIGTERM)


def _in_forked_child() -> None:
    """Let the child that a goroutine has forked (os.fork, multiprocessing) answer signals as any process does."""
    from goproc._proc import forked, host, inherited

    inherited.give_back()
    host.in_forked_child()
    forked.forget_exit_handlers()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCONT):
        signal.signal(number, signal.SIG_DFL)


def _retire() -> NoReturn:
    """End this worker, which is to be replaced, in order. It has as much time as at the end of the program."""
    from goproc._proc import exit_handlers

    signal.signal(signal.SIGALRM, _end_now)
    signal.setitimer(signal.ITIMER_REAL, exit_handlers.LIMIT)
    _leave()


def _end_now(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(0)


def _leave() -> NoReturn:
    """End this process in order. The zygote allows exit_handlers.LIMIT seconds if it sees that exit handlers run."""
    if _leaving:
        from goproc.errors import RuntimeStopped

        # An exit handler waits in an operation of goproc.
        raise RuntimeStopped("the goproc runtime stopped")
    signal.signal(signal.SIGTERM, _on_late_signal)
    try:
        _run_exit_handlers()
    finally:
        os._exit(0)


_leaving = False
_proc = 0


def _run_exit_handlers() -> None:
    global _leaving
    from goproc._proc import exit_handlers
    from goproc._sched import scheduler
    from goproc.shm import _core

    _leaving = True
    _core.set_name(LEAVES % _proc)
    scheduler.scheduling = False  # the interrupted goroutine does not go on
    interrupted = _was_held and scheduler.held_until > 0
    _flush()
    if interrupted:
        _end_programs(True)  # before end_pools(), in which multiprocessing waits for its processes
    exit_handlers.end_pools()
    exit_handlers.run()
    _flush()
    _end_programs(interrupted)
    _core.set_name(LEFT % _proc)


def _end_programs(interrupted: bool) -> None:
    from goproc._proc import descendants
    from goproc.shm import _core

    if descendants.any_child():
        _core.set_name(STOPS % _proc)
        if interrupted:
            descendants.end_interrupted(descendants.find(os.getpid()))
        else:
            session = os.getsid(0)
            descendants.end(descendants.find(os.getpid(), session=session), session)


def _flush() -> None:
    from goproc._proc import line_output

    line_output.flush_all()
    for stream in (sys.__stdout__, sys.__stderr__):  # C code or an early import may have kept these
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass


def _fresh_main(attributes: Mapping[str, str | None]) -> None:
    """Make a `__main__` for the script's definitions in place of the zygote's own, whose names they must not find."""
    from importlib.machinery import ModuleSpec

    from goproc._pickling import homes

    sys.modules.pop("__main__", None)
    homes.provide("__main__")
    module = sys.modules["__main__"]
    module.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    module.__doc__ = attributes["doc"]
    if attributes["file"] is not None:
        module.__file__ = attributes["file"]
    if attributes["package"] is not None:
        module.__package__ = attributes["package"]
    if attributes["spec"] is not None:
        module.__spec__ = ModuleSpec(attributes["spec"], None, origin=attributes["file"])


def reseed(names: Container[str]) -> None:
    """Give this worker random numbers of its own. A module that is imported later seeds itself.

    Args:
        names: modules that were imported before the fork, at least in part.
    """
    for name in ("random", "numpy.random"):
        seed = getattr(sys.modules.get(name), "seed", None) if name in names else None
        if seed is not None:  # a module of the program may have that name
            seed()


def _report(proc: int) -> None:
    """Print the reason of this worker's end in one write, so that several workers that fail alike stay readable."""
    import traceback

    text = f"goproc: worker {proc} (pid {os.getpid()}) failed:\n{traceback.format_exc()}"
    try:
        _flush()
    finally:
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
