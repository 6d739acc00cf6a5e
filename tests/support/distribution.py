"""How tests are spread over processes by ``-n 2``, and what becomes of a run whose processes die or hang.

Things of pytest-xdist that do not work:

- Its LoadFileScheduling gives all files of a process that has died to others, also the files whose tests have all run. A
  process that gets only such a file has no test to report, and so gets nothing else: the run waits for ever.
- It gives the test that ended its process to the next one, which ends by it as well, eight times over.
- It waits for its processes without a limit.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from watch import SuiteWatchdog
from xdist.scheduler import LoadFileScheduling

FEW = 2  # a process holds back its last test until it has another or is told that there is none


class WholeFiles(LoadFileScheduling):
    """Each process gets whole files: their tests share runtimes. What a process that has died left goes to another."""

    def remove_node(self, node: Any) -> str | None:
        """Take the tests of a process back. Return the one that ran, which has failed and does not run again."""
        left = {
            file: tests for file, tests in self.assigned_work.pop(node).items() if not all(tests.values())
        }
        if not left:
            return None
        tests = next(iter(left.values()))
        crashed = next(name for name, done in tests.items() if not done)
        tests[crashed] = True
        self.workqueue.update((file, tests) for file, tests in left.items() if not all(tests.values()))
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _assign_work_unit(self, node: Any) -> None:
        """Give a process a file. A process that has died, which nobody has noticed so far, loses the file in remove_node()."""
        with suppress(OSError):
            super()._assign_work_unit(node)

    def _reschedule(self, node: Any) -> None:
        """Give a process files until it has more than a few tests, and tell it if there are no more."""
        if node.shutting_down or node not in self.registered_collections:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) <= FEW:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()


class Silence:
    """A plugin of the process that waits for the others: ends the run if no test has begun or ended for a long time.

    Each process ends a test that takes too long by itself. This is for a process that cannot, and for what is lost between
    them.
    """

    def __init__(self, watchdog: SuiteWatchdog, seconds: float) -> None:
        self.watchdog = watchdog
        self.seconds = seconds
        self.begun: dict[str, None] = {}  # tests that have not ended

    def _heard(self) -> None:
        names = ", ".join(self.begun) or "none"
        text = (
            f"no test has begun or ended for {self.seconds:g} s; tests that have begun and not ended: {names}"
        )
        self.watchdog.arm(text, self.seconds)

    def pytest_sessionstart(self) -> None:
        self._heard()

    def pytest_xdist_node_collection_finished(self) -> None:
        self._heard()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.begun[nodeid] = None
        self._heard()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.begun.pop(nodeid, None)
        self._heard()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "???":  # its process has died
            self.begun.pop(report.nodeid, None)
            self._heard()
