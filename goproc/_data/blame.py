"""Failures of a map that are of no call's own making: which item is to blame, and the exception that says so."""

from __future__ import annotations

from dataclasses import replace

from goproc._data.ends import short
from goproc._raised import described, text_of
from goproc._spawn import enclosed
from goproc.errors import PickleError, RuntimeStopped, TaskTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goproc._data.job import Job
    from goproc._data.lanes import Lane
    from goproc._data.policy import Failure


def about_job(job: Job, error: PickleError) -> PickleError:
    """Return the exception for a map that cannot be sent: it names the path to the object to blame."""
    parts = (("f", job.f), ("init", job.init), ("exit", job.exit))
    found = (about_function(part, getattr(part, "__name__", name)) for name, part in parts)
    return next(filter(None, found), error)


def about_function(f: Any, name: str) -> PickleError | None:
    """Return the exception for a function that cannot be sent: with the path to the object to blame. None: it can be."""
    from goproc._pickling.diagnose import explain
    from goproc._pickling.messages import dumps

    try:
        dumps(f)
    except Exception as error:
        cause = error.__cause__ or error
        found = explain(f, cause, name)
        found.__cause__ = cause
        return found
    return None


def about_value(value: Any, error: Exception, what: str) -> Exception:
    """Return the exception for a value that cannot be sent: it names the path to the object to blame.

    Args:
        value: the value.
        error: raised by the attempt to send it.
        what: the words for the value, as in "the item".
    """
    if not isinstance(error, PickleError):
        return error
    from goproc._pickling.diagnose import explain

    found = explain(value, error.__cause__ or error, what)
    found.__cause__ = error.__cause__
    return found


def about_result(value: Any, error: BaseException) -> BaseException:
    """Return the exception for a result that cannot be sent: it names the path to the part that is to blame."""
    if isinstance(error, MemoryError):
        return type(error)(f"the result: {text_of(error)}")
    if not isinstance(error, Exception):  # the search for the path would raise it again
        return PickleError(f"cannot pickle the result: {described(error)}")
    from goproc._pickling.diagnose import explain

    return explain(value, error.__cause__ or error, "the result")


def portable(failed: Failure) -> Failure:
    """Return a Failure that can be sent, and read: an item that is in the way of that is replaced by its repr(), shortened."""
    try:
        enclosed(failed).result()
    except RuntimeStopped:
        raise
    except Exception:
        return replace(failed, item=short(failed.item))
    return failed


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
