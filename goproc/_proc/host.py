"""The host's side of the runtime: starting and stopping the processes.

    host = proc 0                     zygote (exec'd, single-threaded)
    runs the script: goroutine 1        └─ forks the workers, proc 1, proc 2, ...   (never the user's process)
    coroner thread (C, no GIL)
           └───────────── one memfd segment, mapped by every proc ─────────────┘

The runtime starts at the first use of goproc and stops when the program ends; ``with runtime(procs=4):`` bounds it
instead. Workers come up in the background: goroutines are queued from the first moment, and a process takes them once
it is there.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent

from goproc import _deaths, _dump, _garbage, _goroutine, _life, _logs_host, _setup, _spawn, errors
from goproc._pickling import homes, store
from goproc._proc import (
    early,
    fatal,
    forked,
    interpreter,
    launch,
    limits,
    main_exit,
    resizing,
    sigint,
    sigint_early,
    stdio,
    topology,
)
from goproc._proc.letters import INTERRUPTED, LIMIT, QUIT
from goproc._sched import own_thread, scheduler, slices, waits
from goproc.shm import _core, _keeper

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

P = ParamSpec("P")
T = TypeVar("T")

_MEMORY_MOST = 8 << 30
_QUIT_SECONDS = LIMIT + 1.0
# Seconds after which a zygote that was told to end has mostly ended, and a killed one is certainly gone.
_LOOK_SECONDS = 0.05
_THREAD_SECONDS = 0.2
# The errors of an order to a zygote that has been killed
_KILLED = (BrokenPipeError, ConnectionResetError, ProcessLookupError)
_BIRTHS = 5  # zygotes that are killed at their start before the program is given up

_running: _Runtime | None = None
# The thread that ran the goroutines of a runtime that ended by itself.
_leaving: threading.Thread | None = None
_ended = False  # True at the end of the program: no runtime starts any more
# True while a runtime is left: goroutines that clean up meanwhile must not start another one.
_unwinding = False
_forked = False  # True in a child that the program forked: no runtime starts here
_lock = threading.Lock()


class _Runtime:
    """One life of the runtime in the host process.

    Args:
        procs: the number of workers; 0: goroutines run in this process.
        on_death: one of _deaths.POLICIES.
    """

    def __init__(
        self,
        procs: int,
        memory: int,
        pin: bool,
        on_death: str,
        setup: _setup.Setup,
        quiet_deaths: bool,
    ) -> None:
        self.procs = procs
        self.setup = setup
        self.memory = memory
        self.pin = pin
        self.on_death = on_death
        self.quiet_deaths = quiet_deaths
        # The thread that runs goroutines, unless a thread of the user's does.
        self.thread: threading.Thread | None = None
        self.interrupted = False  # True if Ctrl-C ends the runtime
        self._zygote: early.Zygote | None = None
        self._config: launch.Config | None = None
        # Each has a keeper, which lives as long as the zygote's workers.
        self._dead_zygotes: list[early.Zygote] = []
        self._sigint: sigint.Delivery | None = None
        self.hooked = False  # True if main is the main goroutine of this runtime

    def start(self) -> None:
        attached = False
        try:
            with sigint_early.held():
                early.open_standard_streams()
                memfd = _core.create(1 + self.procs, self.memory, topology.effective_cpus())
                _core.attach(memfd, 0)
                attached = True
                _core.set_on_death(_deaths.POLICIES[self.on_death])
                _core.set_quiet_deaths(self.quiet_deaths)
                _core.set_survives(self.thread is not None or _owned_by_another())
                store.connect(_core.definition_put, _core.definition_get)
                scheduler.start(_life.make, "main", own_thread.leave if self.thread else None)
                if self.setup.init is not None:
                    _setup.call(self.setup.init)
                if self.procs > 0:
                    self._start_workers(memfd)
                else:
                    early.leave()
                _load_for_failures()  # now, while the workers start
                # Now that the standard streams are goproc's: this notes the state of the process.
                slices.start()
        except BaseException as exc:
            if attached:
                self.stop()
            known = limits.named(exc) if isinstance(exc, OSError) else exc
            if known is exc:
                raise
            raise known from exc
        homes.show_to_goroutines(True)
        self._install_hooks()

    def _start_workers(self, memfd: int) -> None:
        pinning: list[int | None] = [None] * (1 + self.procs)
        if self.pin:
            cpus = topology.spread_cpus(topology.allowed_cpus())
            pinning = topology.plan_pinning(self.procs, cpus, topology.cpu_quota())
        settings = interpreter.settings()
        extra = {"logs": _logs_host.open_lines(settings), "setup": self.setup.for_workers()}
        if self.setup.gpus:
            early.leave()
        self._config = launch.host_config(1 + self.procs, pinning, extra, settings=settings)
        self._config["ends_with_keeper"] = self.on_death == "exit"
        homes.begin(self._config["path"])
        for proc, cpu in enumerate(pinning):
            _core.set_cpu(proc, cpu)
        _core.start_zygotes()
        _core.start_successor(self._replace_zygote)
        self._zygote = _zygote(self._config, memfd)
        _core.start_coroner(*self._zygote)
        stdio.install_host(memfd, getcurrent, 1 + self.procs)

    def resize(self, procs: int, timeout: float | None) -> None:
        """Have so many workers, and wait until they have come, or the others have gone."""
        resizing.check_room(procs, self.setup)
        change = resizing.Resize(procs, self.pin)
        change.begin()
        try:
            change.wait(timeout)
        finally:
            self.procs = _core.procs() - 1

    def _replace_zygote(self) -> None:
        """Start another zygote if the last one has died. The thread of successor.c calls this.

        stop() waits for the end of the call.
        """
        lost = _core.zygote_lost()
        if lost is None or self._config is None or self._zygote is None:
            return
        number, memfd, adopted = lost
        config: launch.Config = {**self._config, "zygote": number, "adopted": adopted}
        try:
            if memfd < 0:
                raise OSError("the program has closed the descriptor of shared memory")
            new = _spawn_zygote(config, memfd, _BIRTHS)
        except BaseException as error:
            if isinstance(error, OSError):
                named = limits.named(error)
                fatal.report(f"goproc: no zygote takes its place: {named.strerror or named}\n")
            _core.zygote_failed()  # the coroner ends the program
            if isinstance(error, Exception):
                return
            raise
        self._dead_zygotes.append(self._zygote)
        self._zygote = new
        try:
            _core.start_coroner(*new)
        except OSError as error:  # no thread is to be had
            _end_unwatched(error)

    def stop(self) -> list[Any]:
        """End every process but this one; return the greenlets of goroutines that had not ended."""
        interrupted = self.interrupted or (self._sigint is not None and self._sigint.over)
        self._remove_hooks()
        homes.show_to_goroutines(False)
        homes.begin(None)
        _core.stop()
        _core.stop_successor()
        if self.thread and self.thread is not threading.current_thread():
            # If a goroutine computes for longer, it finds itself without a runtime.
            self.thread.join(_THREAD_SECONDS)
        if self._zygote:
            _quit(self._zygote, interrupted)
        self._zygote = None
        for old in self._dead_zygotes:
            _end_keeper(old)
        self._dead_zygotes.clear()
        _logs_host.close_lines()
        _core.stop_coroner()
        stdio.uninstall_host()
        slices.stop()
        left = scheduler.stop()
        store.disconnect()
        _goroutine.forget()
        _garbage.forget()
        _spawn.forget()
        _core.detach()
        return left

    # Ctrl-C is for main; workers ignore it. SIGQUIT ends the program with a dump.

    def _install_hooks(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if sigint.replaceable(signal.getsignal(signal.SIGINT)):
            self._sigint = sigint.Delivery(main_exit.end_interrupted)
            self._sigint.install()
            _dump.own_handlers.append(self._sigint.on_signal)
        if signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL:
            signal.signal(signal.SIGQUIT, _dump.on_host_quit)
        self.hooked = True
        main_exit.install(self._sigint)

    def _remove_hooks(self) -> None:
        if self._sigint is not None:
            _dump.own_handlers.remove(self._sigint.on_signal)
            self._sigint.remove()
            self._sigint = None
        if self.hooked and signal.getsignal(signal.SIGQUIT) is _dump.on_host_quit:
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        if self.hooked:
            main_exit.remove()
        self.hooked = False


def _zygote(config: launch.Config, memfd: int) -> early.Zygote:
    """Have the workers forked, by the early zygote or by a new one. Return as launch.spawn() does."""
    found = early.claim()
    if found is not None:
        try:
            launch.order(found, config, memfd)
            return found
        except OSError:  # the early zygote has just ended
            early.give_up(found)
    try:
        return _spawn_zygote(config, memfd, 1 if config["ends_with_keeper"] else _BIRTHS)
    except _KILLED as error:
        _end_unborn(error)


def _spawn_zygote(config: launch.Config, memfd: int, births: int) -> early.Zygote:
    """Spawn a zygote. Repeat this if the zygote or its keeper is killed before the zygote has its order."""
    for _ in range(births - 1):
        try:
            return launch.spawn(config, memfd)
        except _KILLED:
            pass
    return launch.spawn(config, memfd)


def _end_unborn(error: OSError) -> NoReturn:
    """End the program, as the coroner does, because the zygote was killed before it was told to fork the workers."""
    text = "goproc's zygote process died (killed?) before the workers"
    if _owned_by_another():
        raise RuntimeError(text) from error
    fatal.report(f"fatal error: {text}\n")
    os._exit(2)


def _end_unwatched(error: OSError) -> None:
    """End the program: nothing watches the workers any more."""
    text = f"goproc cannot watch its workers any more: {error.strerror}"
    if _core.fatal_claim(text):
        fatal.report(f"fatal error: {text}\n")
        _core.fatal_exit(2)


def _load_for_failures() -> None:
    from importlib import import_module

    for name in launch.FAILURES:
        import_module(name)


def _quit(zygote: early.Zygote, interrupted: bool) -> None:
    _keeper.hold_sigchld()
    with _Ending(zygote) as ending:
        if not _core.tell_zygote(INTERRUPTED if interrupted else QUIT):
            _send(zygote.pid, signal.SIGTERM)  # SIGTERM means QUIT where the program has closed the socket
        ended = ending.wait(_LOOK_SECONDS)
        if not ended and not _send(zygote.pid, 0):
            # The zygote has died, and the keeper is there for the workers.
            for pid in filter(None, _core.pids()[1:]):
                _send(pid, signal.SIGTERM)
        if not ended and not ending.wait(_QUIT_SECONDS):
            _send_keeper(zygote)
            _send(zygote.pid, signal.SIGKILL)
            ending.wait(_QUIT_SECONDS)
    _keeper.release_sigchld()


class _Ending:
    """The end of a zygote and of its keeper. A keeper that was killed ends before its zygote."""

    def __init__(self, zygote: early.Zygote) -> None:
        self._zygote = zygote
        self._pidfd = -1

    def __enter__(self) -> _Ending:
        try:
            self._pidfd = os.pidfd_open(self._zygote.pid)
        except OSError:
            pass  # the zygote has ended, or there is no descriptor: then the end of the keeper counts
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def wait(self, seconds: float) -> bool:
        """Return False if one of the two lives on after some time."""
        return launch.wait_for_end(self._zygote, seconds) and self._zygote_ends(seconds)

    def _zygote_ends(self, seconds: float) -> bool:
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _end_keeper(dead: early.Zygote) -> None:
    """Wait for the keeper of a zygote that has died. Its workers have ended, or are killed now."""
    _keeper.hold_sigchld()
    if not launch.wait_for_end(dead, _THREAD_SECONDS):
        _send_keeper(dead)
        launch.wait_for_end(dead, _QUIT_SECONDS)
    _keeper.release_sigchld()


def _send_keeper(zygote: early.Zygote) -> None:
    """Have the keeper kill the workers, once there is no zygote."""
    if zygote.keeper != zygote.pid:
        _send(zygote.keeper, signal.SIGUSR1)


def _send(pid: int, number: int) -> bool:
    """Send a signal; return False if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _owned_by_another() -> bool:
    """Return True if the process belongs to a prompt, a notebook or a test run, which must outlive a panic."""
    if main_exit.interactive():
        return True
    modules = sys.modules
    ipython = modules.get("IPython")
    if ipython is not None and getattr(ipython, "get_ipython", lambda: None)() is not None:
        return True
    return _in_test_run()


def _in_test_run() -> bool:
    # Programs that a test starts inherit the variables, but are no test runs.
    return "_pytest.config" in sys.modules and (
        "PYTEST_VERSION" in os.environ or "PYTEST_CURRENT_TEST" in os.environ
    )


# -- configuration -------------------------------------------------------------------------------------------


def _default_memory() -> int:
    """Return a quarter of the memory that the machine or the container has, at most 8 GiB."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                have = min(have, int(file.read()))
        except (OSError, ValueError):
            pass
    return max(64 << 20, min(have // 4, _MEMORY_MOST))


def configured(
    procs: int | None = None,
    memory: int | str | None = None,
    pin: bool | None = None,
    on_death: str | None = None,
    init: Callable[[], object] | str | None = None,
    gpus: str | list[int] | None = None,
    per_gpu: int | None = None,
    quiet_deaths: bool | None = None,
) -> _Runtime:
    env = os.environ
    setup = _setup.Setup(init, gpus, per_gpu, env)
    if procs is not None:
        procs = topology.parse_procs(procs, "runtime(procs=...)")
    elif "GOPROC_PROCS" in env:
        procs = topology.parse_procs(env["GOPROC_PROCS"], "GOPROC_PROCS")
    else:
        procs = setup.default_procs() or topology.default_procs()
    setup.check_room(procs)
    if memory is not None:
        memory = topology.parse_memory(memory, "runtime(memory=...)")
    elif "GOPROC_MEMORY" in env:
        memory = topology.parse_memory(env["GOPROC_MEMORY"], "GOPROC_MEMORY")
    else:
        memory = _default_memory()
    if pin is None:
        pin = env.get("GOPROC_PIN", "1") != "0"
    policy = topology.parse_on_death(
        on_death if on_death is not None else env.get("GOPROC_ON_DEATH", _deaths.DEFAULT),
        "runtime(on_death=...)" if on_death is not None else "GOPROC_ON_DEATH",
    )
    if fatal.unread_policy() not in fatal.POLICIES:
        raise ValueError(f"GOPROC_UNREAD={env['GOPROC_UNREAD']!r}: give one of {', '.join(fatal.POLICIES)}")
    if quiet_deaths is None:
        quiet_deaths = env.get("GOPROC_QUIET_DEATHS", "0") == "1"
    return _Runtime(procs, memory, pin, policy, setup, bool(quiet_deaths))


def may_start() -> bool:
    """Return True if this process may have a runtime: it is no fork of a process with one, and not at its end."""
    return not (_forked or _ended)


def prepare() -> None:
    """Start the zygote of the runtime to come, if this program may have one: its workers then share its imports."""
    if may_start() and not _core.attached() and not _in_test_run():
        early.start_here()


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
    new = configured()
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


def _start(new: _Runtime) -> None:
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
    _watch_end_of_main()
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


def _watch_end_of_main() -> None:
    """Have _at_end_of_main called before Python waits for threads and runs exit handlers."""
    global _end_watched, _end_call
    if not _end_watched:
        _end_watched = True
        try:
            threading._register_atexit(_at_end_of_main)  # type: ignore[attr-defined]
        except RuntimeError:
            return  # main has returned, and Python waits for the thread that uses goproc for the first time
        _end_call = threading._threading_atexits[-1]  # type: ignore[attr-defined]


_end_watched = False
_end_call: object = None  # the entry that Python keeps for _at_end_of_main


def _at_end_of_main() -> None:
    """Answer the end of main, before Python waits for the program's threads.

    Ctrl-C may have met another goroutine, and main has ended before it blocked: the interrupt must not be lost. A
    thread may be blocked in an operation that nothing can end any more: that is to be reported, and not waited for.

    Libraries end their threads in exit calls like this one: concurrent.futures wakes the idle threads of its pools and
    joins them. Python makes the calls in reverse order of registration, so the calls of libraries that were imported
    before the runtime started come after this one. A thread makes them here, because the threads that they join may
    need goroutines. Where Python starts no thread any more, goroutines run until none can go on, and then Python makes
    the calls.
    """
    if _running is None or not _core.attached() or not _core.on_scheduler_thread():
        return
    pause, look, look_at = 0.001, 0.01, 0.0
    try:
        scheduler.raise_interrupt()
        calls_made = _make_exit_calls()
        while any(not t.daemon and t is not threading.current_thread() for t in threading.enumerate()):
            if monotonic() >= look_at and scheduler.nothing_ready():
                if not calls_made and _core.others_asleep(False):
                    return
                if calls_made:
                    _dump.threads_asleep()
                look_at = monotonic() + look
                look = min(2 * look, 1.0)
            waits.sleep(pause)
            pause = min(2 * pause, 0.05)
    except KeyboardInterrupt:
        main_exit.end_interrupted()
    except errors.Cancelled:
        pass


def _make_exit_calls() -> bool:
    """Have a thread make the exit calls that Python would make after _at_end_of_main.

    Returns:
        False if Python starts no thread any more: 3.12.0 and 3.12.1. Then Python makes the calls itself.
    """
    registered: list[Any] = threading._threading_atexits  # type: ignore[attr-defined]
    ours = registered.index(_end_call)
    calls = registered[:ours][::-1]
    if calls:
        try:
            threading.Thread(target=_call_all, args=(calls,), name="goproc-exit-calls").start()
        except RuntimeError:
            return False
        registered[:ours] = [_do_nothing] * ours  # Python is iterating over the list: no index may change
    return True


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _do_nothing() -> None:
    pass


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


def enter(new: _Runtime) -> None:
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


def leave(new: _Runtime, kind: type[BaseException] | None, exc: BaseException | None) -> None:
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
        scheduler.raise_interrupt()  # Ctrl-C came while the runtime stopped


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
