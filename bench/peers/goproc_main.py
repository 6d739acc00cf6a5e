"""goproc: tasks of a function of ``__main__``, as a user's script has them. Run as a script: it travels by value."""

from __future__ import annotations

import sys
from typing import Any

from bench import tally
from bench.measure import report
from bench.peers.goproc_tasks import time_tasks
from goproc.sync import WaitGroup


def task(wg: WaitGroup) -> None:
    """The same goroutine as in `bench.peers.goproc_tasks`."""
    tally.add()
    wg.done()


def tasks(count: int, proc: int | None = None) -> Any:
    """Tasks of a function of ``__main__``."""
    return time_tasks(lambda wg: (task, wg), count, proc)


if __name__ == "__main__":
    sys.exit(report(tasks, sys.argv[1]))
