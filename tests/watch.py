"""The watchdog of tests: it ends a process in which a test takes too long, with all that can be seen of it.

It is a plain thread. When a test takes too long it prints every stack it can get at, in this process and in the workers,
ends the processes that this one started, and this one: a hang must never look like a slow machine. Should the hung thread
hold the GIL, no thread of Python runs, and faulthandler's own timer ends the process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

GRACE = 20.0  # for a part of the watchdog's own report, before faulthandler ends the process
LONGEST = 60.0  # for what is reported of other processes
MARK = "TEST_SESSION_OF_GOPROC"  # in the environment of all that descends from this process

STATUS_HUNG = 70


def loaded(name: str) -> Any:
    """Return the module of goproc's if it has been imported, or None. A name that no module has is an error."""
    module = sys.modules.get(name)
    assert module is not None or importlib.util.find_spec(name) is not None, name
    return module


class Watchdog(threading.Thread):
    """Ends the process with every stack it can get when a test takes too long."""

    def __init__(self) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.stderr = 2
        self.directory: Path | None = (
            None  # workers that can dump themselves have a file here, named by their pid
        )
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._name = ""

    def arm(self, name: str, seconds: float) -> None:
        with self._changed:
            self._name, self._deadline = name, time.monotonic() + seconds
            self._changed.notify()
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=self.stderr)

    def disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        with self._changed:
            self._deadline = None
            self._changed.notify()

    def run(self) -> None:
        with self._changed:
            while self._deadline is None or time.monotonic() < self._deadline:
                self._changed.wait(None if self._deadline is None else self._deadline - time.monotonic())
        self.bark()

    def bark(self) -> None:
        try:
            self._say(f"\n\n===== {self._name}: time is up =====")
            for report in (self._threads, self._goroutines, self._memory, self._processes):
                try:
                    report()
                except Exception:
                    self._say(traceback.format_exc())
        finally:
            for pid in all_below():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._say("===== end of the report =====")
            os._exit(STATUS_HUNG)

    def _say(self, text: str) -> None:
        os.write(self.stderr, (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))

    def _threads(self) -> None:
        self._say(f"\n-- threads of process {os.getpid()}")
        faulthandler.dump_traceback(file=self.stderr, all_threads=True)

    def _goroutines(self) -> None:
        scheduler = loaded("goproc._sched.scheduler")
        if scheduler is not None:
            self._say("\n-- goroutines of this process\n" + describe_goroutines(scheduler))

    def _memory(self) -> None:
        core = loaded("goproc.shm._core")
        if core is not None and core.attached():
            self._say(f"\n-- census: {core.census()}\n   pids: {core.pids()}")

    def _processes(self) -> None:
        until = time.monotonic() + LONGEST
        for pid in descendants():
            if time.monotonic() > until:
                self._say("\n-- further processes are left out")
                return
            faulthandler.dump_traceback_later(GRACE, exit=True, file=self.stderr)
            self._say(f"\n-- process {pid}: {read(f'/proc/{pid}/cmdline').replace(chr(0), ' ')}")
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
            self._say("; ".join(" ".join(line.split()) for line in status))
            self._say(f"wchan: {read(f'/proc/{pid}/wchan')}  syscall: {read(f'/proc/{pid}/syscall').strip()}")
            dump = self.directory / str(pid) if self.directory else None
            if dump is not None and dump.exists():
                os.kill(pid, signal.SIGUSR2)  # its goroutines, if Python code can still run there
                time.sleep(0.3)
                os.kill(pid, signal.SIGUSR1)  # its stack in any case
                time.sleep(0.2)
                self._say(dump.read_text(errors="replace") or "(it wrote nothing)")
            if shutil.which("gdb"):
                command = ["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 12"]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    found = subprocess.run(command, capture_output=True, text=True, timeout=8)
                    lines = [line for line in found.stdout.splitlines() if line.startswith(("#", "Thread"))]
                    self._say("\n".join(lines[:60]))


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


watchdog = Watchdog()


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
