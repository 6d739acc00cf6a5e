"""The part of goproc.testing that pytest needs: see there."""

from __future__ import annotations

import os
from typing import Any

import pytest

from goproc._watchdog import Watchdog
from goproc.testing import Snapshot, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_SECONDS = 5.0  # the time in which goroutines and processes of a test have to end

_failed = pytest.StashKey[bool]()
_watchdog_key = pytest.StashKey[Watchdog]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("goproc_procs", "workers of the fixture `runtime`", default="2")
    parser.addini("goproc_seconds", "seconds that a test may take; 0: any time", default="60")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "goproc(procs, seconds): how many workers the test's `runtime` has, how long it may take"
    )
    # Capturing has not begun: descriptor 2 is the real standard error.
    config.stash[_watchdog_key] = Watchdog(os.dup(2))


def pytest_unconfigure(config: pytest.Config) -> None:
    _runtimes.stop()
    watchdog = config.stash.get(_watchdog_key, None)
    if watchdog is not None:
        watchdog.disarm()
        os.close(watchdog.stderr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    watchdog = item.config.stash[_watchdog_key]
    watchdog.arm(item.nodeid, float(_asked(item, "seconds", item.config.getini("goproc_seconds"))))
    try:
        return (yield)
    finally:
        watchdog.disarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


def _asked(item: pytest.Item, name: str, default: Any) -> Any:
    marker = item.get_closest_marker("goproc")
    return default if marker is None else marker.kwargs.get(name, default)


# -- the fixture ---------------------------------------------------------------------------------------------


class _Runtimes:
    """The one runtime of this program: kept from test to test while they ask for the same size."""

    def __init__(self) -> None:
        self._procs = 0
        self._open: Any = None

    def get(self, procs: int) -> Any:
        import goproc

        if self._open is None or self._procs != procs:
            self.stop()
            running = goproc.runtime(procs=procs)
            running.__enter__()
            self._open, self._procs = running, procs
            _wait_for_workers()
        return self._open

    def stop(self) -> None:
        running, self._open = self._open, None
        if running is not None:
            running.__exit__(None, None, None)


def _wait_for_workers() -> None:
    """Wait until every process is there: a later one would be taken for one that a test has left."""
    import goproc

    for handle in [goproc.go.on(proc)(os.getpid) for proc in goproc.workers()]:
        handle.result()


_runtimes = _Runtimes()


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Provide a runtime, perhaps used by an earlier test. The test fails if it leaves something behind."""
    running = _runtimes.get(int(_asked(request.node, "procs", request.config.getini("goproc_procs"))))
    before = Snapshot.take()
    yield running
    if request.node.stash.get(_failed, False):
        _runtimes.stop()  # the failure is reported; the goroutines that the test has left go with the runtime
        return
    try:
        check(before, _SECONDS)
    except AssertionError:
        _runtimes.stop()
        raise
