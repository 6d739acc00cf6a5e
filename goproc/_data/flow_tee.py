"""The part of a flow that several flows share: the stages before a tee()."""

from __future__ import annotations

import threading
from typing import Any

from goproc._data.flow_plan import Edge
from goproc._data.flow_run import CLOSE_SECONDS, Run
from goproc._data.flow_stats import StageStats
from goproc.errors import RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.flow import Flow


class Shared:
    """The part of a flow before a tee(): one run, which the branches share.

    Attributes:
        n: the number of branches.
        edges: one for each branch.
    """

    def __init__(self, flow: Flow[Any], n: int) -> None:
        self.n = n
        cap = 2 if flow._buffer is None else flow._buffer
        self.edges = [Edge(max(1, cap), "tee") for _ in range(n)]
        self._flow: Flow[Any] | None = flow
        self._run: Run | None = None
        self._readers: set[int] = set()  # the ids of the runs of branches that have not left
        self._started = 0
        self._lock = threading.Lock()

    def start(self, reader: Run) -> None:
        """A branch, or several, are read by a run: start the shared one if that is not done."""
        with self._lock:
            mine = sum(node.source in self.edges for node in reader.plan.nodes)
            self._started += mine
            if self._started > self.n:
                raise RuntimeError("a branch of tee() can be consumed once")
            self._readers.add(id(reader))
            if self._run is None:
                assert self._flow is not None
                self._run = Run(self._flow, self.edges, None)
                self._flow = None
                self._run.start()

    def left(self, reader: Run) -> None:
        """The run of a branch is over. With the last one the shared run is."""
        with self._lock:
            self._readers.discard(id(reader))
            last = not self._readers and self._started >= self.n
        if last and self._run is not None:
            self._run._join(CLOSE_SECONDS)

    def failure(self) -> BaseException | None:
        """Return the first failure of the shared run, to be raised by a branch."""
        return None if self._run is None else self._run.failure()

    def records(self) -> list[StageStats]:
        """Return the records of the shared stages."""
        return [] if self._run is None else self._run.records()

    def __del__(self) -> None:
        run = self._run
        if run is not None and not run.over and _core.attached():
            try:
                run.abandon()
            except RuntimeStopped:
                pass
