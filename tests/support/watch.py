"""The watchdog of these tests: goproc's own, which also looks at all processes that the tests have started.

It uses nothing of goproc that could itself hang: goroutines are described from the scheduler's tables.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from goproc._watchdog import GRACE, Watchdog

LONGEST = 60.0  # for what is reported of other processes
MARK = "TEST_SESSION_OF_GOPROC"  # in the environment of all that descends from this process


def loaded(name: str) -> Any:
    """Return the module of goproc's if it has been imported, or None. A name that no module has is an error."""
    module = sys.modules.get(name)
    assert module is not None or importlib.util.find_spec(name) is not None, name
    return module


class SuiteWatchdog(Watchdog):
    """Reports, beside its own process, all that descend from it, and ends them."""

    def __init__(self) -> None:
        super().__init__()
        # Workers that can dump themselves have a file here, named by their pid.
        self.directory: Path | None = None

    def reports(self) -> Iterable[Callable[[], None]]:
        return self._threads, self._goroutines, self._memory, self._processes

    def kill_children(self) -> None:
        for pid in all_below():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _goroutines(self) -> None:
        scheduler = loaded("goproc._sched.scheduler")
        if scheduler is not None:
            self.say("\n-- goroutines of this process\n" + describe_goroutines(scheduler))

    def _memory(self) -> None:
        core = loaded("goproc.shm._core")
        if core is not None and core.attached():
            self.say(f"\n-- census: {core.census()}\n   pids: {core.pids()}")

    def _processes(self) -> None:
        until = time.monotonic() + LONGEST
        for pid in descendants():
            if time.monotonic() > until:
                self.say("\n-- further processes are left out")
                return
            self._bound(GRACE)
            self.say(f"\n-- process {pid}: {read(f'/proc/{pid}/cmdline').replace(chr(0), ' ')}")
            kept = (
                "Name",
                "State",
                "PPid",
                "Threads",
                "SigPnd",
                "SigBlk",
                "SigCgt",
                "voluntary",
                "nonvoluntary",
            )
            status = [line for line in read(f"/proc/{pid}/status").splitlines() if line.startswith(kept)]
            self.say("; ".join(" ".join(line.split()) for line in status))
            self.say(f"wchan: {read(f'/proc/{pid}/wchan')}  syscall: {read(f'/proc/{pid}/syscall').strip()}")
            dump = self.directory / str(pid) if self.directory else None
            if dump is not None and dump.exists():
                os.kill(pid, signal.SIGUSR2)  # its goroutines, if Python code can still run there
                time.sleep(0.3)
                os.kill(pid, signal.SIGUSR1)  # its stack in any case
                time.sleep(0.2)
                self.say(dump.read_text(errors="replace") or "(it wrote nothing)")
            if shutil.which("gdb"):
                command = ["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 12"]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    found = subprocess.run(command, capture_output=True, text=True, timeout=8)
                    lines = [line for line in found.stdout.splitlines() if line.startswith(("#", "Thread"))]
                    self.say("\n".join(lines[:60]))


def describe_goroutines(scheduler: Any) -> str:
    lines = [
        f"run queue: {[g.id for g in scheduler.runq]}, current: {scheduler.current.id}, idle: {scheduler.idling}"
    ]
    for g in [scheduler.main, *scheduler.started.values()]:
        state = f"waits: {g.reason} on {_show(g.waits_on)}" if g.parked else "does not wait"
        lines.append(f"goroutine {g.id} {g.name!r}: {state}; interrupt={g.interrupt!r}")
        frame = getattr(g.greenlet, "gr_frame", None)
        if frame is not None:
            lines += [line.rstrip() for line in traceback.format_stack(frame)[-6:]]
    return "\n".join(lines)


def _show(thing: object) -> str:
    try:
        return repr(thing)
    except Exception as error:
        return f"{type(thing).__name__} (repr: {error!r})"


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        return f"({error.strerror})"


watchdog = SuiteWatchdog()


def dumpable(directory: str) -> None:
    """Have the calling worker write its stacks to a file on SIGUSR1 and SIGUSR2. Runs as a goroutine of each."""
    import faulthandler
    import os
    import signal
    import sys
    import traceback

    file = open(os.path.join(directory, str(os.getpid())), "w")  # noqa: SIM115 (as long as the process)
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)

    def goroutines(number, frame):
        scheduler = sys.modules["goproc._sched.scheduler"]
        ready = [g.id for g in scheduler.runq]
        file.write(
            f"goroutines: run queue {ready}, current {scheduler.current.id}, idle {scheduler.idling}\n"
        )
        for g in list(scheduler.started.values()):
            file.write(f"goroutine {g.id} {g.name!r} parked={g.parked} {g.reason} {g.interrupt!r}\n")
            stack = getattr(g.greenlet, "gr_frame", None)
            if stack is not None:
                file.write("".join(traceback.format_stack(stack)[-6:]))
        file.flush()

    signal.signal(signal.SIGUSR2, goroutines)


# -- processes -----------------------------------------------------------------------------------------------------------


def descendants() -> list[int]:
    """Pids of the processes that this one started, directly or not: also those whose parents are dead."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in _foreign or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                environment = file.read()
            ours = _mark() in environment.split(b"\0") or psutil.Process(int(entry)).ppid() == os.getpid()
        except (OSError, psutil.Error):
            continue
        if ours:
            found.append(int(entry))
        else:
            _foreign.add(int(entry))
    return found


_foreign: set[int] = set()  # processes that are none of ours, and so will never be


def _mark() -> bytes:
    return f"{MARK}={os.getpid()}".encode()


def all_below() -> set[int]:
    """Pids of all descendants, also those of the processes of pytest-xdist, which mark theirs by their own pids."""
    parents, marks = {}, {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError, psutil.Error):
            parents[pid] = psutil.Process(pid).ppid()
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            marks[pid] = {name for name in environment if name.startswith(MARK.encode())}
    found, new = set(), {os.getpid()}
    while new:
        names = {f"{MARK}={pid}".encode() for pid in new}
        new = {pid for pid in parents if parents[pid] in new or names & marks.get(pid, set())} - found
        found |= new
    return found - {os.getpid()}
