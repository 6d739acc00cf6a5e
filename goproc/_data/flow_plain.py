"""Stages of a flow that are plain goroutines: ``stage(f)``, where f receives from one edge and sends to the next."""

from __future__ import annotations

from time import monotonic_ns

from greenlet import GreenletExit

from goproc._data.board import PASSED, TAKEN, WORK, Sheet
from goproc._data.flow_edges import close_edge
from goproc._data.flow_near import Near
from goproc._data.flow_steps import StepFailed
from goproc._data.flow_worker import Assignment, Fault, complete, is_cancelled
from goproc._data.sent import Sent
from goproc._life import Goexit
from goproc._pickling import failure
from goproc._sched import scheduler
from goproc.errors import ChanClosed, RuntimeStopped


def run_stage(assignment: Assignment, sent: Sent) -> Fault | None:
    """Run the function of stage(). The body of a worker's goroutine.

    Args:
        assignment: without the function.
        sent: the function.
    """
    (out,) = assignment.outs
    assert not isinstance(out.ch, Near)  # whose ends are in one process
    sheet = Sheet(assignment.place)
    row = sheet.row(assignment.row)
    began = monotonic_ns()
    try:
        f = None if sheet.over else complete(assignment, sent).steps[0].f
        if f is not None and not sheet.over:  # else it was left, perhaps while this process imported a module
            row[TAKEN] = 1
            f(assignment.source.rx, out.ch.tx)
    except StepFailed as exc:
        return _stage_failed(assignment, exc.error)
    except ChanClosed as exc:
        if not out.ch.closed:
            return _stage_failed(assignment, exc)
    except GreenletExit:
        raise
    except BaseException as exc:
        if is_cancelled(exc):
            raise
        return _stage_failed(assignment, exc)
    finally:
        row[WORK] = monotonic_ns() - began
        row[TAKEN] = row[PASSED] = 1
        scheduler.shield(1)
        try:
            if out.writers.add(-1) == 0:
                close_edge(out.ch)
                close_edge(assignment.source, drain=True)
        except RuntimeStopped:
            pass
        finally:
            scheduler.shield(-1)
    return None


def _stage_failed(assignment: Assignment, error: BaseException) -> Fault:
    if isinstance(error, Goexit):
        error = RuntimeError("the call ended its goroutine by goexit()")
    assignment.first.cas(0, assignment.number)
    close_edge(assignment.source, drain=True)
    return Fault(0, None, failure.pack(error))
