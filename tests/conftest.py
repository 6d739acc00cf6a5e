"""What every test has: a watchdog, a check that nothing is left behind, and runtimes to share.

The watchdog is a plain thread. When a test takes too long it prints every stack it can get at, in this process and in
the workers, ends the processes that this one started, and this one: a hang must never look like a slow machine.
Should the hung thread hold the GIL, no thread of Python runs, and faulthandler's own timer ends the process.

A test gets a runtime by asking for `runtime0` (goroutines run in this process), `runtime1`, `runtime2` or `runtime4`. It lives on for the next test that asks for
the same size; a test that does not ask finds none running.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import programs
import psutil
import pytest

SECONDS = 60.0
GRACE = 20.0  # for the watchdog's own report, before faulthandler ends the process
SETTLE = 5.0  # at most, for what is released asynchronously
MARK = "TEST_SESSION_OF_GOPROC"  # in the environment of all that descends from this process

STATUS_HUNG = 70


def _loaded(name: str) -> Any:
    """Return the module of goproc's if it has been imported, or None. A name that no module has is an error."""
    module = sys.modules.get(name)
    assert module is not None or importlib.util.find_spec(name) is not None, name
    return module


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="many more examples in fuzzed tests")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"watchdog(seconds): how long the test may take, in place of {SECONDS:.0f}"
    )
    os.environ[MARK] = str(os.getpid())
    # Programs start as they do for a user, whose Python keeps compiled modules: it halves the time of this suite.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Started in the background or by nohup we ignore these, and so would every program that is tested for them.
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--long"):
        os.environ["GOPROC_TEST_LONG"] = "1"  # read where the number of examples is decided, at import
    # Capturing is suspended at this point: this is the real standard error.
    _watchdog.stderr = os.dup(2)
    _watchdog.directory = Path(tempfile.mkdtemp(prefix="goproc-tests-"))
    _watchdog.start()


def pytest_unconfigure() -> None:
    _watchdog.arm("the end of the session", SECONDS)
    runtimes.stop()
    _watchdog.disarm()
    if _watchdog.directory is not None:
        shutil.rmtree(_watchdog.directory, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n 2`` each process gets whole files: their tests share runtimes."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is there by now stays: the collections between tests have only what is new to look through


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("watchdog")
    _watchdog.arm(item.nodeid, float(marker.args[0]) if marker else SECONDS)
    try:
        return (yield)
    finally:
        _watchdog.disarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[_failed] = True
    return report  # type: ignore[no-any-return]


_failed = pytest.StashKey[bool]()


# -- watchdog ---------------------------------------------------------------------------------------------------------


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
            for pid in _descendants():
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
        scheduler = _loaded("goproc._sched.scheduler")
        if scheduler is not None:
            self._say("\n-- goroutines of this process\n" + describe_goroutines(scheduler))

    def _memory(self) -> None:
        core = _loaded("goproc.shm._core")
        if core is not None and core.attached():
            self._say(f"\n-- census: {core.census()}\n   pids: {core.pids()}")

    def _processes(self) -> None:
        for pid in _descendants():
            self._say(f"\n-- process {pid}: {_read(f'/proc/{pid}/cmdline').replace(chr(0), ' ')}")
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
            status = [line for line in _read(f"/proc/{pid}/status").splitlines() if line.startswith(kept)]
            self._say("; ".join(" ".join(line.split()) for line in status))
            self._say(
                f"wchan: {_read(f'/proc/{pid}/wchan')}  syscall: {_read(f'/proc/{pid}/syscall').strip()}"
            )
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


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        return f"({error.strerror})"


_watchdog = Watchdog()


def _dumpable(directory: str) -> None:
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


# -- runtimes ---------------------------------------------------------------------------------------------------------


class Runtimes:
    """The one runtime of this program: kept from test to test while they ask for the same size."""

    def __init__(self) -> None:
        self._procs = 0
        self._open: Any = None
        self.spoiled = False  # a test failed in it

    def get(self, procs: int) -> Any:
        if self._open is None or self._procs != procs or self.spoiled:
            self.stop()
            self._open = self._start(procs)
            self._procs = procs
        return self._open

    def _start(self, procs: int) -> Any:
        import goproc
        from goproc.shm import _core

        running = goproc.runtime(procs=procs, memory="1G")
        running.__enter__()
        try:
            goproc.current()  # main's handle, which lives as long as the runtime
            deadline = time.monotonic() + 30
            while not all(_core.pids()):  # so that every process is there before the first test counts them
                if time.monotonic() > deadline:
                    raise AssertionError(f"workers did not start: {_core.pids()}")
                goproc.sleep(0.002)
            define = type(_dumpable)(_dumpable.__code__, {"__builtins__": __builtins__}, "_dumpable")
            define.__module__ = "__main__"  # by value: a worker must not import this file, and pytest with it
            for p in goproc.workers():
                goproc.go.on(p)(define, str(_watchdog.directory)).result(30)
        except BaseException:
            running.__exit__(None, None, None)
            raise
        return running

    def stop(self) -> None:
        running, self._open = self._open, None
        self.spoiled = False
        if running is not None:
            running.__exit__(None, None, None)


runtimes = Runtimes()


def _runtime(procs: int) -> Callable[[], Any]:
    @pytest.fixture(name=f"runtime{procs}")
    def fixture() -> Any:
        """A runtime of this many workers, perhaps used by an earlier test."""
        return runtimes.get(procs)

    return fixture


runtime0, runtime1, runtime2, runtime4 = _runtime(0), _runtime(1), _runtime(2), _runtime(4)


@pytest.fixture(scope="session", name="runtimes")
def _runtimes() -> Runtimes:
    return runtimes


@pytest.fixture
def run(tmp_path: Path) -> programs.Run:
    """Runs a script to its end: programs.run()."""
    return functools.partial(programs.run, tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> programs.Start:
    """Starts a script: programs.start()."""
    return functools.partial(programs.start, tmp_path)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Was --long given?"""
    return bool(request.config.getoption("--long"))


# -- nothing is left --------------------------------------------------------------------------------------------------


def _descendants() -> list[int]:
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


def _fds() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def _mappings() -> list[str]:
    with open("/proc/self/maps") as maps:
        return [line.split()[0] for line in maps if "memfd:goproc" in line]


class Snapshot:
    """Resources that this program holds outside of Python's memory."""

    def __init__(self) -> None:
        self.processes = set(_descendants())
        self.fds = _fds()
        self.mappings = _mappings()
        self.census = self._census()
        scheduler = _loaded("goproc._sched.scheduler")
        self.goroutines = list(scheduler.started.values()) if scheduler is not None else []

    @staticmethod
    def _census() -> dict[str, int]:
        core = _loaded("goproc.shm._core")
        if core is None or not core.attached():
            return {}
        core.collect()
        return core.census()  # type: ignore[no-any-return]

    def growth(self, before: Snapshot) -> list[str]:
        """What there is more of than before, in words."""
        found = []
        for pid in sorted(self.processes - before.processes):
            found.append(f"process {pid}: {_read(f'/proc/{pid}/cmdline').replace(chr(0), ' ') or '(zombie)'}")
        if len(self.fds) > len(before.fds):
            new = {fd: target for fd, target in self.fds.items() if before.fds.get(fd) != target}
            found.append(f"file descriptors: {new}")
        if len(self.mappings) > len(before.mappings):
            found.append(f"mappings of shared memory: {set(self.mappings) - set(before.mappings)}")
        for g in self.goroutines:
            if g not in before.goroutines:
                found.append(f"goroutine {g.id} {g.name!r}: {g.reason if g.parked else 'runs'}")
        for name in ("blocks", "objects", "handles", "queued", "missed_wakeups"):
            if self.census.get(name, 0) > before.census.get(name, 0):
                found.append(f"{name} in shared memory: {before.census.get(name, 0)} -> {self.census[name]}")
        return found


def _settled(before: Snapshot) -> list[str]:
    """What is left once all that comes by itself, or with a collection of cycles in some process, has come."""
    start = time.monotonic()
    ask = 0.03
    carried = _loaded("goproc._pickling.carried")
    if carried is not None:
        carried.entries.clear()  # the copies of what lives on in this process
    while left := Snapshot().growth(before):
        waited = time.monotonic() - start
        if waited > SETTLE:
            break
        gc.collect()
        if waited > ask:
            ask *= 2
            _collect_in_workers()
        time.sleep(0.002)
        if "goproc" in sys.modules:
            sys.modules["goproc"].yield_now()
    return left


def _collect_in_workers() -> None:
    from goproc.shm import _core

    if _core.attached():
        import goproc

        for p in range(1, _core.procs()):
            with contextlib.suppress(TimeoutError):
                goproc.go.on(p)(gc.collect).join(2)


def _end_goroutines(before: Snapshot) -> None:
    """So that one failed test does not spoil those that come after it."""
    scheduler = _loaded("goproc._sched.scheduler")
    if scheduler is not None:
        import goproc

        for g in list(scheduler.started.values()):
            if g not in before.goroutines:
                scheduler.interrupt(g, goproc.Cancelled())
        for _ in range(3):
            goproc.yield_now()  # not sleep(): what failed may have been a timer


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no process, descriptor, mapping, goroutine or block more than before it."""
    wanted = [
        name
        for name in ("runtime0", "runtime1", "runtime2", "runtime4", "place")
        if name in request.fixturenames
    ]
    if wanted == ["place"]:
        runtimes.get(request.getfixturevalue("place").procs)
    elif wanted:
        request.getfixturevalue(wanted[0])
    else:
        runtimes.stop()
    before = Snapshot()
    yield
    if request.node.stash.get(_failed, False):
        _end_goroutines(before)  # the report of the failure holds on to everything it mentions
        runtimes.spoiled = True  # and its goroutines in other processes may live on
        return
    left = _settled(before)
    if left:
        _end_goroutines(before)
        runtimes.spoiled = True
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
