"""The processes of a runtime: the host starts, resizes and stops them.

    host = proc 0                     zygote (exec'd, single-threaded)
    runs the script: goroutine 1        └─ forks the workers, proc 1, proc 2, ...   (never the user's process)
    coroner thread (C, no GIL)
           └───────────── one memfd segment, mapped by every proc ─────────────┘

Workers come up in the background: goroutines are queued from the first moment, and a process takes them once it is
there.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

from greenlet import getcurrent

from goproc import _deaths, _garbage, _goroutine, _last_reports, _life, _logs_host, _notebook, _setup, _spawn
from goproc._pickling import homes, store
from goproc._proc import (
    early,
    fatal,
    interpreter,
    launch,
    limits,
    main_exit,
    owner,
    resizing,
    sigint,
    sigint_early,
    stdio,
    topology,
    zygotes,
)
from goproc._sched import own_thread, scheduler, slices
from goproc.shm import _core

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._proc import plans

_THREAD_SECONDS = 0.2  # for the thread that runs goroutines to leave a runtime that stops


class Runtime:
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
        self._config: plans.Config | None = None
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
                _core.set_survives(self.thread is not None or owner.is_another())
                store.connect(_core.definition_put, _core.definition_get)
                _notebook.forget()
                _notebook.ignore_kernel()
                _notebook.end_quietly_with(_be_quiet)
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
        self._zygote = zygotes.begin(self._config, memfd)
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
        config: plans.Config = {**self._config, "zygote": number, "adopted": adopted}
        try:
            if memfd < 0:
                raise OSError("the program has closed the descriptor of shared memory")
            new = zygotes.launch_again(config, memfd, zygotes.BIRTHS)
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
            zygotes.quit(self._zygote, interrupted)
        self._zygote = None
        for old in self._dead_zygotes:
            zygotes.end_keeper(old)
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
            _last_reports.own_handlers.append(self._sigint.on_signal)
        if signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL:
            signal.signal(signal.SIGQUIT, _last_reports.on_host_quit)
        self.hooked = True
        main_exit.install(self._sigint)

    def _remove_hooks(self) -> None:
        if self._sigint is not None:
            _last_reports.own_handlers.remove(self._sigint.on_signal)
            self._sigint.remove()
            self._sigint = None
        if self.hooked and signal.getsignal(signal.SIGQUIT) is _last_reports.on_host_quit:
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        if self.hooked:
            main_exit.remove()
        self.hooked = False


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


def _be_quiet() -> None:
    """The program ends, and with it the workers: nobody wants to hear of their deaths."""
    if _core.attached():
        _core.end_quietly()
