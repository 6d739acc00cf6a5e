"""Failures of a map that are of no call's own making: which item is to blame, and the exception that says so."""

from __future__ import annotations

from goproc.errors import PickleError, TaskTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goproc._data.job import Job
    from goproc._data.lanes import Lane


def about_job(job: Job, error: PickleError) -> PickleError:
    """Return the exception for a map that cannot be sent: it names the path from the function to what is to blame."""
    from goproc._pickling.diagnose import explain
    from goproc._pickling.messages import dumps

    for name, part in (("f", job.f), ("init", job.init), ("exit", job.exit)):
        try:
            dumps(part)
        except Exception as cause:
            return explain(part, cause.__cause__ or cause, getattr(part, "__name__", name))
    return error


def about_item(item: Any, error: Exception) -> Exception:
    """Return the exception for an item that cannot be sent: it names the path from the item to what is to blame."""
    if not isinstance(error, PickleError):
        return error
    from goproc._pickling.diagnose import explain

    found = explain(item, error.__cause__ or error, "the item")
    found.__cause__ = error.__cause__
    return found


def too_slow(lanes: list[Lane], error: Any, timeout: float) -> Lane:
    """Return the lane whose call a process was killed for: the call that ran then and kept the oldest one from ending.

    The time of the oldest call was over first. If another call blocked the process then, the oldest one could not be
    cancelled. Where no such call ran the oldest one is to blame.
    """
    oldest = min(lanes, key=lambda lane: lane.way.began.load())
    over = oldest.way.began.load() + timeout * 1e6
    running = getattr(error, "running", 0)
    for lane in lanes:
        if running and lane.way.goroutine.load() == running and lane.way.began.load() <= over:
            return lane
    return oldest


def timed_out(timeout: float, error: BaseException | None) -> TaskTimeout:
    late = TaskTimeout(f"the call took longer than timeout={timeout:g} s, and its process was killed")
    late.__cause__ = error
    return late
