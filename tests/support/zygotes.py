"""A zygote with workers that do next to nothing.

The workers are in a module that is written for the test: the zygote calls ``<module>:<function>`` in each child.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import programs

import goproc
from goproc._proc import launch, letters, plans
from goproc.shm import _keeper

ROOT = str(Path(goproc.__path__[0]).parent)
LIMIT = 10.0

WORKERS = """
import os, signal, sys, time

def sleep(proc, config, memfd):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)

def stubborn(proc, config, memfd):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.pwrite(memfd, b"1", proc)
    time.sleep(60)

def leave(proc, config, memfd):
    os._exit(10 + proc)

def first_stays(proc, config, memfd):
    os.pwrite(memfd, b"1", proc)
    proc == 1 and time.sleep(60)

def fail(proc, config, memfd):
    raise RuntimeError("no luck")

def start_program(proc, memfd, name):
    from goproc.shm import _core
    _core.set_name(name % proc)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    os.pwrite(memfd, b"%8d" % pid, 8 * proc)

def with_program(proc, config, memfd):
    start_program(proc, memfd, b"goproc-%d")
    time.sleep(60)

def killed_in_exit_handler(proc, config, memfd):
    from goproc._proc.letters import LEAVES
    start_program(proc, memfd, LEAVES)
    os.kill(os.getpid(), signal.SIGKILL)

def late_in_exit_handler(proc, config, memfd):
    from goproc._proc.letters import LEAVES
    start_program(proc, memfd, LEAVES)
    os._exit(0)

def killed_while_it_ends_programs(proc, config, memfd):
    from goproc._proc import descendants, worker
    from goproc.shm import _core
    _core.set_name(b"goproc-%d" % proc)
    worker._proc = proc
    if os.fork() == 0:
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.pwrite(memfd, b"%8d" % os.getpid(), 8 * proc)
        time.sleep(60)
    while not os.pread(memfd, 8, 8 * proc).strip(b"\\0"): pass
    descendants._wait = lambda *args: time.sleep(60)  # until its programs have ended
    worker._end_programs(False)

def tell(proc, config, memfd):
    fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    facts = dict(
        proc=proc,
        argv=sys.argv,
        path=sys.path,
        cwd=os.getcwd(),
        fds=fds,
        omp=os.environ.get("OMP_NUM_THREADS"),
        sigmask=list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        parent=os.getppid(),
        zygote=config["zygote_pid"],
        extra=config["extra"],
    )
    os.pwrite(memfd, repr(facts).encode() + b"\\n", proc * 8192)
"""

# A zygote that imports this module lives on the clock of the test. That stands still unless the test sets it, and
# poll() has no time-outs: what the zygote does then, it does because of an event.
CLOCK = """
import mmap, os, select, struct, time

with open(os.path.join(os.path.dirname(__file__), "clock"), "rb+") as file:
    clock = mmap.mmap(file.fileno(), 16)

def monotonic():
    now, reads = struct.unpack("dQ", clock)
    clock[8:] = struct.pack("Q", reads + 1)
    return now

class Poll:
    def __init__(self, kind=select.poll):
        self._poll = kind()
        self.register, self.modify, self.unregister = self._poll.register, self._poll.modify, self._poll.unregister
    def poll(self, timeout=None):
        return self._poll.poll(0 if timeout == 0 else None)

time.monotonic, select.poll = monotonic, Poll
monotonic()
"""


class Clock:
    """The clock of zygotes that import `clock_of_test`: what it shows, and how often they have looked at it."""

    module = "clock_of_test"

    def __init__(self, folder: Path) -> None:
        (folder / f"{self.module}.py").write_text(CLOCK)
        self._file = folder / "clock"
        self._file.write_bytes(bytes(16))

    def set(self, seconds: float) -> None:
        with open(self._file, "rb+") as file:
            file.write(struct.pack("d", seconds))

    def reads(self) -> int:
        return int(struct.unpack("8xQ", self._file.read_bytes())[0])

    def wait_for_reads(self, count: int) -> None:
        wanted = self.reads() + count
        wait_until(lambda: self.reads() >= wanted, f"the zygote looks at the clock {count} times")


class Started:
    """A zygote, and what it has told us so far."""

    def __init__(self, config: plans.Config, memfd: int, lifelines: Sequence[int]) -> None:
        self.memfd = memfd
        self.zygote = launch.launch_and_order(config, memfd, lifelines)
        self.control, self.pid = self.zygote.control, self.zygote.pid
        self.records: list[tuple[int, int, int, int]] = []
        self.status: int | None = None

    def read(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < end, f"only {self.records}"
            if select.select([self.control], [], [], 0.1)[0]:
                data = os.read(self.control, 64)
                if not data:
                    break
                self.records.append(letters.RECORD.unpack(data))

    def read_what_is_there(self) -> None:
        self.read(lambda: not select.select([self.control], [], [], 0)[0])

    def of(self, kind: int) -> list[tuple[int, int, int, int]]:
        return [record for record in self.records if record[0] == kind]

    def marks(self) -> int:
        """Count the workers that have left their mark in the segment."""
        return os.pread(self.memfd, 256, 0).count(b"1")

    def programs(self) -> list[int]:
        """Return the pids of the programs that the workers have started and noted in the segment."""
        return list(map(int, os.pread(self.memfd, 256, 0).replace(b"\0", b" ").split()))

    def wait_started(self, count: int) -> list[int]:
        self.read(lambda: len(self.of(letters.STARTED)) >= count)
        return [pid for _, _, pid, _ in self.of(letters.STARTED)]

    def hang_up(self) -> None:
        os.close(self.control)
        self.control = os.open(os.devnull, os.O_RDONLY)

    def wait_ended(self) -> int:
        def ended() -> bool:
            self.status = _keeper.ended(self.zygote.keeper)
            return self.status is not None

        if self.status is None:
            wait_until(ended, "the zygote ends")
        assert self.status is not None
        return self.status

    def stop(self) -> None:
        os.close(self.control)
        try:
            self.wait_ended()
        finally:
            if self.status is None:
                os.kill(self.pid, signal.SIGKILL)  # one that hangs is not left behind
        for _, _, pid, _ in self.of(letters.STARTED):
            assert gone(pid), f"worker {pid} is left"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. LIMIT is for a zygote that hangs: no test depends on how long something takes."""
    assert programs.eventually(condition, LIMIT), f"this did not come: {what}"


def gone(pid: int) -> bool:
    """True if a process has ended, though a parent of its own may still have to collect it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


Start = Callable[..., Started]


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Give the function that starts zygotes, whose workers are in ``folder``; end them afterwards."""
    (folder / "workers_of_test.py").write_text(WORKERS)
    begun: list[Started] = []
    memfd = os.memfd_create("test")

    def begin(entry: str, procs: int = 3, lifelines: Sequence[int] = (), **changes: Any) -> Started:
        config = launch.host_config(procs, [None] * procs, {"key": [1, "two"]})
        config["path"] = [str(folder), *config["path"]]
        config["entry"] = f"workers_of_test:{entry}"
        config["preload"] = []
        config.update(changes)  # type: ignore[typeddict-item]
        begun.append(Started(config, memfd, lifelines))
        return begun[-1]

    yield begin
    for one in begun:
        one.stop()
    os.close(memfd)


@contextmanager
def killed_at_last(pids: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Leave none of the processes behind, whatever a test finds."""
    try:
        yield
    finally:
        for pid in pids():
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
