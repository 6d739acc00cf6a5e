"""The zygote and the start of a worker, with workers that do next to nothing.

Each test writes its workers into a module of its own: the zygote calls ``<module>:<function>`` in each child.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import programs
import psutil
import pytest

import goproc
from goproc._proc import launch, letters, plans, zygote_end
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


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "workers_of_test.py").write_text(WORKERS)
    begun: list[Started] = []
    memfd = os.memfd_create("test")

    def begin(entry: str, procs: int = 3, lifelines: Sequence[int] = (), **changes: Any) -> Started:
        config = launch.host_config(procs, [None] * procs, {"key": [1, "two"]})
        config["path"] = [str(tmp_path), *config["path"]]
        config["entry"] = f"workers_of_test:{entry}"
        config["preload"] = []
        config.update(changes)  # type: ignore[typeddict-item]
        begun.append(Started(config, memfd, lifelines))
        return begun[-1]

    yield begin
    for one in begun:
        one.stop()
    os.close(memfd)


def facts(started: Started, proc: int) -> dict[str, Any]:
    text = os.pread(started.memfd, 8192, proc * 8192).rstrip(b"\0")
    return dict(eval(text))


# -- starting ------------------------------------------------------------------------------------------------


def test_workers_are_the_hosts_alike(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "an argument", "b\udcff"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    inherited = os.dup(2)
    os.set_inheritable(inherited, True)
    try:
        z = start("tell", argv=sys.argv)
    finally:
        os.close(inherited)
    z.read(lambda: len(z.of(letters.DIED)) == 2)
    for proc in (1, 2):
        seen = facts(z, proc)
        assert seen["proc"] == proc
        assert seen["argv"] == ["script.py", "an argument", "b\udcff"]
        assert seen["path"][1:] == sys.path
        assert seen["cwd"] == os.getcwd()
        assert seen["parent"] == seen["zygote"] == z.pid
        assert seen["omp"] == "1"
        assert seen["sigmask"] == []
        assert seen["extra"] == {"key": [1, "two"]}
        # 0, 1, 2, the segment, the file for the stacks of crashes, and the folder being listed: no control socket, no
        # pidfd, no pipe of the zygote's
        assert len(seen["fds"]) == 6
    assert [value for _, _, _, value in z.of(letters.DIED)] == [0, 0]


def test_every_worker_reports(start: Start) -> None:
    z = start("sleep", procs=9)
    pids = z.wait_started(8)
    assert [proc for _, proc, _, _ in z.of(letters.STARTED)] == list(range(1, 9))
    assert len(set(pids)) == 8
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_config_of_any_size(start: Start) -> None:
    z = start("sleep", procs=2, argv=["x" * 3_000_000])
    z.wait_started(1)


def test_descriptors_in_each_others_place(start: Start) -> None:
    """spawn() moves three descriptors to low numbers: whatever theirs are, none may overwrite another."""
    low = [os.dup(2) for _ in range(8)]
    for fd in low[::2]:
        os.close(fd)
    try:
        z = start("tell", procs=2)
        z.read(lambda: len(z.of(letters.DIED)) == 1)
        assert facts(z, 1)["proc"] == 1
    finally:
        for fd in low[1::2]:
            os.close(fd)


def test_one_process_needs_no_worker(start: Start) -> None:
    z = start("sleep", procs=1)
    os.write(z.control, letters.QUIT)
    assert z.wait_ended() == 0
    assert z.records == []


def test_a_module_that_cannot_be_preloaded_is_no_harm(start: Start) -> None:
    z = start("sleep", procs=2, preload=["no_such_module_anywhere"])
    z.wait_started(1)


def test_a_broken_entry_is_reported(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    z = start("no_such_function")
    assert z.wait_ended() == 70
    z.read(lambda: False)  # until the socket closes
    assert z.records == []
    assert "no_such_function" in capfd.readouterr().err


def test_fork_failure_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """In a process of its own, as os.fork is replaced; main() never returns, so it is forked off."""
    code = f"""
        import os, sys
        sys.path.insert(0, {str(tmp_path)!r})
        from goproc._proc import launch, letters, zygote
        import _socket
        import marshal
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        memfd, real, calls = os.memfd_create("x"), os.fork, []
        config = launch.host_config(4, [None] * 4)
        config.update(entry="workers_of_test:sleep", preload=[])
        def fork():
            calls.append(1)
            if len(calls) == 2:
                raise BlockingIOError({errno.EAGAIN}, "Resource temporarily unavailable")
            return real()
        pid = real()
        if pid == 0:
            os.fork = fork
            ours.close()
            plan = dict(preload=[], program=[], statements=[], follow=-1, early=False, beside=None)
            zygote.main(plan, theirs.fileno(), [memfd, launch.memory_file(marshal.dumps(config))])
        for _ in range(3):
            print(*letters.RECORD.unpack(ours.recv(64))[::3], flush=True)
        ours.send(b"Q")
        print(os.waitpid(pid, 0)[1])
    """
    (tmp_path / "workers_of_test.py").write_text(WORKERS)
    done = run_python(code)
    assert done.stdout.split("\n") == ["1 0", f"3 {errno.EAGAIN}", "1 0", "0", ""], done.stderr


def test_it_says_so_when_python_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable"):
        launch.launch_and_order(launch.host_config(2, [None, None]), 0)


# -- ending --------------------------------------------------------------------------------------------------


def test_deaths_are_reported_with_their_status(start: Start) -> None:
    z = start("leave", procs=4)
    z.read(lambda: len(z.of(letters.DIED)) == 3)
    codes = {proc: os.waitstatus_to_exitcode(value) for _, proc, _, value in z.of(letters.DIED)}
    assert codes == {1: 11, 2: 12, 3: 13}
    assert {r[2] for r in z.of(letters.DIED)} == {r[2] for r in z.of(letters.STARTED)}


def test_a_killed_worker_is_reported_at_once(start: Start, clock: Clock) -> None:
    """The death itself wakes the zygote: while time stands still, nothing else would."""
    z = start("sleep", preload=[clock.module])
    pids = z.wait_started(2)
    assert clock.reads() > 0
    os.kill(pids[1], signal.SIGKILL)
    z.read(lambda: bool(z.of(letters.DIED)))
    assert z.of(letters.DIED) == [(letters.DIED, 2, pids[1], signal.SIGKILL)]


def test_an_entry_that_raises_ends_with_70(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    z = start("fail", procs=2)
    z.read(lambda: bool(z.of(letters.DIED)))
    assert os.waitstatus_to_exitcode(z.of(letters.DIED)[0][3]) == 70
    assert "RuntimeError: no luck" in capfd.readouterr().err


def test_quit(start: Start, clock: Clock) -> None:
    """The zygote ends with its workers: while time stands still, it would wait for ever for a limit to pass."""
    z = start("sleep", preload=[clock.module])
    pids = z.wait_started(2)
    assert clock.reads() > 0
    os.write(z.control, letters.QUIT)
    assert z.wait_ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    z.read(lambda: len(z.of(letters.DIED)) == 2)
    assert {value for _, _, _, value in z.of(letters.DIED)} == {signal.SIGTERM}


def test_quit_kills_those_that_do_not_listen(start: Start, clock: Clock) -> None:
    """They have the grace to end, and no more."""
    z = start("stubborn", preload=[clock.module])
    z.wait_started(2)
    wait_until(lambda: z.marks() == 2, "both ignore SIGTERM")
    os.write(z.control, letters.QUIT)
    clock.wait_for_reads(3)
    clock.set(0.95 * zygote_end.GRACE)
    clock.wait_for_reads(3)
    z.read_what_is_there()
    assert z.of(letters.DIED) == []
    clock.set(zygote_end.GRACE)
    assert z.wait_ended() == 0
    z.read(lambda: len(z.of(letters.DIED)) == 2)
    assert {value for _, _, _, value in z.of(letters.DIED)} == {signal.SIGKILL}


def test_quit_and_hang_up_at_once_is_still_in_order(start: Start) -> None:
    z = start("sleep")
    z.wait_started(2)
    os.write(z.control, letters.QUIT)
    os.close(z.control)
    z.control = os.open(os.devnull, os.O_RDONLY)
    assert z.wait_ended() == 0


def test_sigterm_to_the_zygote_is_quit(start: Start) -> None:
    z = start("sleep")
    pids = z.wait_started(2)
    os.kill(z.pid, signal.SIGTERM)
    assert z.wait_ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_sigint_has_no_effect(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    z = start("sleep")
    os.kill(z.pid, signal.SIGINT)  # while it imports
    z.wait_started(2)
    os.kill(z.pid, signal.SIGINT)
    os.write(z.control, letters.QUIT)
    assert z.wait_ended() == 0
    assert capfd.readouterr().err == ""


def test_hang_up_kills_all(start: Start, clock: Clock) -> None:
    """At once: while time stands still, the zygote cannot have waited for them."""
    z = start("stubborn", preload=[clock.module])
    pids = z.wait_started(2)
    wait_until(lambda: z.marks() == 2, "both ignore SIGTERM")
    assert clock.reads() > 0
    os.close(z.control)
    z.control = os.open(os.devnull, os.O_RDONLY)
    assert z.wait_ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_newborn_worker_is_killed_and_not_stopped_before(start: Start, tmp_path: Path) -> None:
    """A worker that has no name yet has no lifeline. If it were stopped, the death of the zygote would leave it so."""
    (tmp_path / "looks.py").write_text(
        "import os\n"
        "from goproc._proc import descendants\n"
        "descendants.find_of_stopped = lambda *pids, **_: os.kill(os.getpid(), 9)\n"
    )
    z = start("sleep", preload=["looks"])
    pids = z.wait_started(2)
    os.close(z.control)
    z.control = os.open(os.devnull, os.O_RDONLY)
    try:
        assert z.wait_ended() == 0
    finally:
        for pid in pids:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


STOPPED_AT_BIRTH = """
import os, signal
real = os.fork
def fork():
    pid = real()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    return pid
os.fork = fork
"""


def test_a_worker_that_is_stopped_at_its_birth_ends_with_host_and_zygote(
    start: Start, tmp_path: Path
) -> None:
    """It has run no code that would ask the kernel for that. Another worker does not keep it alive either."""
    (tmp_path / "stopped_at_birth.py").write_text(STOPPED_AT_BIRTH)
    pipes = [*os.pipe(), *os.pipe()]
    z = start("sleep", preload=["stopped_at_birth"], lifelines=(pipes[0], pipes[3]))
    pids = z.wait_started(2)
    for fd in pipes:
        os.close(fd)
    os.kill(z.pid, signal.SIGKILL)
    try:
        wait_until(lambda: all(map(gone, pids)), "the workers have ended")
        z.wait_ended()
    finally:
        for pid in pids:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


KILLED_MEANWHILE = """
import os, signal
from goproc._proc import descendants
find = descendants.find_of_stopped
def find_of_stopped(*pids, **options):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return find(*pids, **options)
descendants.find_of_stopped = find_of_stopped
"""


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ("with_program", "hang up, and the workers are killed before the zygote has found their programs"),
        ("with_program", "quit, and the workers die of SIGTERM"),
        ("killed_in_exit_handler", "quit"),
        ("late_in_exit_handler", "quit"),
        ("killed_while_it_ends_programs", "hang up"),
    ],
)
def test_programs_end_whose_worker_dies_at_the_end(
    start: Start, tmp_path: Path, entry: str, end: str
) -> None:
    (tmp_path / "killed_meanwhile.py").write_text(KILLED_MEANWHILE)
    z = start(entry, preload=["killed_meanwhile"] if "killed before" in end else [])
    z.wait_started(2)
    wait_until(lambda: len(z.programs()) == 2, "both have started a program")
    if entry == "killed_while_it_ends_programs":
        wait_until(
            lambda: all(psutil.Process(p).ppid() == z.pid for p in z.programs()), "their parents have ended"
        )
    if "hang up" in end:
        os.close(z.control)
        z.control = os.open(os.devnull, os.O_RDONLY)
    else:
        os.write(z.control, letters.QUIT)
    try:
        assert z.wait_ended() == 0
        wait_until(lambda: all(map(gone, z.programs())), "the programs have ended")
    finally:
        for pid in z.programs():
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.watchdog(120)
def test_a_host_that_does_not_read_blocks_nobody(start: Start) -> None:
    """The zygote has more records than the socket holds, and goes on. Then everything comes, in order."""
    z = start("first_stays", procs=256)
    first = z.wait_started(1)[0]
    parent = psutil.Process(z.pid)
    wait_until(lambda: z.marks() == 255, "all workers run")
    wait_until(lambda: [p.pid for p in parent.children()] == [first], "the zygote has collected all others")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not parent.children(), "the zygote has collected the last one")
    z.read(lambda: len(z.of(letters.DIED)) == 255)
    assert len(z.of(letters.STARTED)) == 255


HOST = """
    import os, sys, time
    sys.path.insert(0, {folder!r})
    from goproc._proc import launch, letters, zygote
    config = launch.host_config(3, [None] * 3)
    config.update(entry="workers_of_test:sleep", preload=[])
    def forked_child():
        for fd in range(3): os.close(fd)
        while not os.path.exists({folder!r} + "/leave"): time.sleep(0.01)
        os._exit(0)
    memfd = os.memfd_create("x")
    control, pid, keeper = launch.launch_and_order(config, memfd)
    os.set_blocking(control, True)
    workers = [letters.RECORD.unpack(os.read(control, 64))[2] for _ in range(2)]
    {more}
    print(pid, keeper, *workers, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("more", ["", "os.fork() or forked_child()"], ids=["alone", "forked"])
def test_kill_9_of_the_host_leaves_nothing(tmp_path: Path, more: str) -> None:
    """Also while a child that the host has forked keeps its end of the control socket open."""
    (tmp_path / "workers_of_test.py").write_text(WORKERS)
    code = textwrap.dedent(HOST).format(folder=str(tmp_path), more=more)
    host = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert host.stdout is not None
    try:
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) == 4
        host.kill()
        wait_until(lambda: all(map(gone, pids)), "all processes end")
    finally:
        (tmp_path / "leave").touch()
        host.kill()
        host.wait(LIMIT)
        host.stdout.close()


# -- the worker's own start ----------------------------------------------------------------------------------

# The worker proper, with the core and the scheduler replaced: what it prints is what it has become.
WORKER = """
    import os, random, signal, sys, time
    from types import ModuleType
    core, scheduler = ModuleType("goproc.shm._core"), ModuleType("goproc._sched.scheduler")
    calls = []
    core.die_with_parent = lambda pid, keeper: calls.append(("parent", pid == config["zygote_pid"]))
    core.set_name = lambda name: calls.append(("name", name))
    core.output_lock_note = core.output_lock = core.output_lock_there = core.output_unlock = lambda *args: None
    core.attach = lambda memfd, proc, zygote: calls.append(("attach", proc))
    def run_worker():
        {run}
    scheduler.run_worker = run_worker
    core.definition_put = core.definition_get = None
    core.stopping = lambda: True
    core.dump_ready = lambda yes: None
    core.cpu = lambda: min(os.sched_getaffinity(0))
    scheduler.on_nudge = []
    scheduler.start = lambda make, name, leave: calls.append(("start", name))
    names = ("_life", "_wiring", "_pickling.store", "_dump", "_sched.slices")
    life, wiring, store, report, slices = (ModuleType("goproc." + n) for n in names)
    life.make = store.connect = slices.start = lambda *args: None
    report.on_worker_quit = lambda number, frame: None
    import goproc, goproc.shm, goproc._pickling, goproc._proc, goproc._sched
    for module in (core, scheduler, life, wiring, store, report, slices):
        sys.modules[module.__name__] = module
    goproc._sched.scheduler, goproc.shm._core, goproc._life, goproc._wiring = scheduler, core, life, wiring
    goproc._pickling.store, goproc._dump, goproc._sched.slices = store, report, slices
    from goproc._proc import launch, worker
    config = launch.host_config(3, [None, min(os.sched_getaffinity(0)), None])
    memfd = os.memfd_create("x")
    random.seed(1)
    sys.setrecursionlimit(1234)
    config["recursion_limit"] = 4321
    config["zygote_pid"] = os.getpid()
    config["codecs"] = [("utf-8", "strict"), None]
    pid = os.fork()
    if pid == 0:
        worker.main(1, config, memfd)
    {parent}
    print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run_worker(run: str, parent: str = "") -> SimpleNamespace:
    lines = textwrap.dedent(run).strip().replace("\n", "\n        ")
    return run_python(WORKER.format(run=lines, parent=parent))


def run_python(code: str) -> SimpleNamespace:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, lines=done.stdout.splitlines())


def test_worker_has_its_name_core_streams_and_signals() -> None:
    done = run_worker(
        """
        print(calls)
        print(len(os.sched_getaffinity(0)), sys.getrecursionlimit(), random.random() == 0.13436424411240122)
        main = sys.modules["__main__"]
        print(main.__name__, hasattr(main, "config"), hasattr(main, "__file__"))
        print(signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, type(sys.stdout).__name__)
        os.kill(os.getpid(), signal.SIGINT)
        print("unfinished", end="")
        """
    )
    assert done.lines == [
        "[('parent', True), ('name', b'goproc-1'), ('attach', 1), ('start', 'scheduler')]",
        "1 4321 False",
        "__main__ False False",
        "True TextStream",
        "unfinishedstatus 0",
    ], done.stderr


def test_programs_a_worker_starts_still_see_ctrl_c() -> None:
    done = run_worker(
        """
        import subprocess
        code = "import signal; print(signal.getsignal(2) == signal.SIG_IGN)"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
        """
    )
    assert done.lines == ["False", "status 0"], done.stderr


def test_worker_that_fails_says_why() -> None:
    done = run_worker('print("half", end=""); raise ValueError("broken")')
    assert done.lines == ["halfstatus 70"]
    assert "goproc: worker 1 (pid " in done.stderr
    assert done.stderr.endswith("ValueError: broken\n")


def test_sigterm_ends_a_worker_with_its_output_written() -> None:
    done = run_worker(
        'print("kept", end=""); os.write(memfd, b"1"); time.sleep(60)',
        "while not os.fstat(memfd).st_size: time.sleep(0.01)\n    os.kill(pid, signal.SIGTERM)",
    )
    assert done.lines == ["keptstatus 0"], done.stderr


# -- the flags of the interpreter ----------------------------------------------------------------------------


FLAGS = f"import sys; sys.path.insert(0, {ROOT!r}); from goproc._proc.launch import interpreter_flags; "


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-O"],
        ["-OO", "-B"],
        ["-I"],
        ["-E", "-s"],
        ["-P"],
        ["-bb"],
        ["-X", "utf8"],
        ["-X", "dev"],
        ["-Werror"],
        ["-q"],
    ],
    ids=" ".join,
)
def test_interpreter_flags(flags: list[str]) -> None:
    """A Python started with the flags that it gives has the same flags, and so gives the same again."""
    code = FLAGS + "print(interpreter_flags(), sys.flags)"
    first = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=LIMIT
    )
    again = eval(first.stdout.partition("]")[0] + "]")
    second = subprocess.run(
        [sys.executable, *again, "-c", code], capture_output=True, text=True, timeout=LIMIT
    )
    assert first.stdout == second.stdout != ""
    assert bool(again) or not flags


def test_importtime_is_for_the_program_only() -> None:
    code = FLAGS + "print(interpreter_flags())"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, timeout=LIMIT
    )
    assert "importtime" not in done.stdout and done.stdout
