"""The fixtures of every test: a watchdog (watch.py), a check that nothing is left behind, and runtimes to share.

A test gets a runtime by asking for `runtime0` (goroutines run in this process), `runtime1`, `runtime2` or `runtime4`. It lives on for the next test that asks for
the same size; a test that does not ask finds none running.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import programs
import pytest
from slow_files import is_slow
from watch import MARK, descendants, dumpable, loaded, read, watchdog

SECONDS = 60.0
SILENCE, LONG_SILENCE = 420.0, 4000.0  # more than the longest test may take
PATIENCE, ASKS = 5.0, 5  # for what is released asynchronously: seconds, and collections in the workers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="many more examples in fuzzed tests")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"watchdog(seconds): how long the test may take, in place of {SECONDS:.0f}"
    )
    config.addinivalue_line(
        "markers", "slow: the test is in a file that takes long (tests/support/slow_files.py)"
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
    watchdog.stderr = os.dup(2)
    watchdog.directory = Path(tempfile.mkdtemp(prefix="goproc-tests-"))
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        from distribution import Silence

        config.pluginmanager.register(
            Silence(watchdog, LONG_SILENCE if config.getoption("--long") else SILENCE)
        )


def pytest_unconfigure() -> None:
    watchdog.arm("the end of the session", SECONDS)
    runtimes.stop()
    watchdog.disarm()
    if watchdog.directory is not None:
        shutil.rmtree(watchdog.directory, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from distribution import WholeFiles

    return WholeFiles(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(tests) and is_slow(item.path, tests):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is there by now stays: the collections between tests have only what is new to look through


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("watchdog")
    watchdog.arm(item.nodeid, float(marker.args[0]) if marker else SECONDS)
    try:
        return (yield)
    finally:
        watchdog.disarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[_failed] = True
    return report  # type: ignore[no-any-return]


_failed = pytest.StashKey[bool]()


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
            define = type(dumpable)(dumpable.__code__, {"__builtins__": __builtins__}, "dumpable")
            define.__module__ = "__main__"  # by value: a worker must not import this file, and pytest with it
            for p in goproc.workers():
                goproc.go.on(p)(define, str(watchdog.directory)).result(30)
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
    """True with --long on the command line."""
    return bool(request.config.getoption("--long"))


# -- nothing is left --------------------------------------------------------------------------------------------------


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
        self.processes = set(descendants())
        self.fds = _fds()
        self.mappings = _mappings()
        self.census = self._census()
        scheduler = loaded("goproc._sched.scheduler")
        self.goroutines = list(scheduler.started.values()) if scheduler is not None else []

    @staticmethod
    def _census() -> dict[str, int]:
        core = loaded("goproc.shm._core")
        if core is None or not core.attached():
            return {}
        core.collect()
        return core.census()  # type: ignore[no-any-return]

    def growth(self, before: Snapshot) -> list[str]:
        """Return in words the things of which there are more than before."""
        found = []
        for pid in sorted(self.processes - before.processes):
            found.append(f"process {pid}: {read(f'/proc/{pid}/cmdline').replace(chr(0), ' ') or '(zombie)'}")
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


def _left_behind(before: Snapshot) -> list[str]:
    """Wait for the ends that come by themselves or by a collection of cycles in some process; return the rest."""
    start = time.monotonic()
    ask, asked = 0.03, 0
    carried = loaded("goproc._pickling.carried")
    if carried is not None:
        carried.entries.clear()  # the copies of what lives on in this process
    while left := Snapshot().growth(before):
        waited = time.monotonic() - start
        if waited > PATIENCE and asked >= ASKS:
            break
        gc.collect()
        if waited > ask:
            ask, asked = 2 * ask, asked + 1
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
    scheduler = loaded("goproc._sched.scheduler")
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
    left = _left_behind(before)
    if left:
        _end_goroutines(before)
        runtimes.spoiled = True
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
