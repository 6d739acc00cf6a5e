"""The progress of a flow: one bar a stage."""

from __future__ import annotations

from functools import partial
from typing import Any

from goproc._data.flow_stats import StageStats
from goproc._data.progress import Progress, check_progress, open_progress
from goproc._data.stages import BATCH, FILTER, FLAT_MAP, MERGE, SKIP, STAGE, TAKE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.flow_plan import Record
    from goproc._data.flow_run import Run


class Bars:
    """One bar for each stage of a run.

    A bar counts the items that its stage is done with. Its total is the number of items that come, where that is known:
    behind a filter() or a flat_map() it is known when the stage before has ended.

    Args:
        progress: True, a description that goes before the names of stages, or a tqdm class.
    """

    def __init__(self, progress: Any) -> None:
        check_progress(progress)
        self._progress = progress
        self._bars: list[Progress] = []
        self._run: Run | None = None

    def open(self, run: Run) -> None:
        """Open the bars."""
        self._run = run
        for record, total in zip(run.plan.records, _totals(run), strict=True):
            progress, name = self._progress, record.stage.name
            if isinstance(progress, str):
                progress = f"{progress}: {name}" if progress else name
            elif "desc" in getattr(progress, "keywords", ()):
                progress = partial(progress, desc=f"{progress.keywords['desc']}: {name}")
            bar = open_progress(progress, total, name)
            assert bar is not None
            self._bars.append(bar)

    def update(self, stats: list[StageStats] | None = None) -> None:
        """Show the counts. Those given are the last ones."""
        run = self._run
        assert run is not None
        over = stats is not None
        if stats is None:
            stats = run.records()
        own = stats[len(stats) - len(self._bars) :]
        for bar, record in zip(self._bars, own, strict=True):
            done = record.in_ - (0 if over else record.busy)
            if over:
                bar.total = done
            bar.update(done, record.failed)

    def close(self) -> None:
        """Leave the bars as they are."""
        for bar in self._bars:
            bar.close()


def _totals(run: Run) -> list[int | None]:
    """Return how many items come to each stage, None where that is not known."""
    totals: list[int | None] = []
    coming = run.length
    for record in run.plan.records:
        totals.append(coming)
        coming = _after(record, coming)
    return totals


def _after(record: Record, coming: int | None) -> int | None:
    stage = record.stage
    if stage.kind == TAKE:
        return None if coming is None else min(coming, int(stage.n))
    if coming is None or stage.kind in (FILTER, FLAT_MAP, STAGE, MERGE) or stage.within is not None:
        return None
    if stage.kind == SKIP:
        return max(0, coming - int(stage.n))
    if stage.kind == BATCH:
        return -(-coming // int(stage.n))
    return coming
