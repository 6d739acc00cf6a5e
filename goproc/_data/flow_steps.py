"""Stages that share the workers of the stage before them: functions around the one that sends."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, NamedTuple, Protocol

from goproc._data.board import OUT, PASSED, TAKEN, WORK
from goproc._data.stages import FILTER, SKIP, TAKE, THROTTLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Emit = Callable[[Any], object]


class Worker(Protocol):
    """The worker that runs a step."""

    enough: bool  # a take() has all that it wants


class Step(NamedTuple):
    """One stage that a worker runs.

    Attributes:
        kind: of the stage.
        name: of the stage.
        f: its function; the wait method of a Limiter for THROTTLE.
        n: the number given to TAKE and SKIP.
    """

    kind: int
    name: str
    f: Callable[..., Any] | None
    n: int = 0


class StepFailed(Exception):
    """Carries the exception of a step's function past the handlers for closed edges."""

    def __init__(self, step: int, item: Any, error: BaseException) -> None:
        super().__init__(step)
        self.step = step
        self.item = item
        self.error = error


def _filter_step(worker: Worker, step: Step, number: int, row: memoryview, emit: Emit) -> Emit:
    f = step.f
    assert f is not None
    clock = monotonic_ns

    def run(item: Any) -> None:
        row[TAKEN] += 1
        began = clock()
        try:
            wanted = f(item)
        except BaseException as exc:
            raise StepFailed(number, item, exc) from None
        row[WORK] += clock() - began
        if wanted:
            emit(item)
            row[OUT] += 1
        row[PASSED] += 1

    return run


def _take_step(worker: Worker, step: Step, number: int, row: memoryview, emit: Emit) -> Emit:
    worker.enough |= row[OUT] >= step.n

    def run(item: Any) -> None:
        if worker.enough:
            return
        row[TAKEN] += 1
        emit(item)
        row[OUT] += 1
        row[PASSED] += 1
        worker.enough |= row[OUT] >= step.n  # a later take() may have all that it wants

    return run


def _skip_step(worker: Worker, step: Step, number: int, row: memoryview, emit: Emit) -> Emit:
    def run(item: Any) -> None:
        row[TAKEN] += 1
        if row[TAKEN] > step.n:
            emit(item)
            row[OUT] += 1
        row[PASSED] += 1

    return run


def _throttle_step(worker: Worker, step: Step, number: int, row: memoryview, emit: Emit) -> Emit:
    wait = step.f
    assert wait is not None

    def run(item: Any) -> None:
        row[TAKEN] += 1
        wait()
        emit(item)
        row[OUT] += 1
        row[PASSED] += 1

    return run


STEPS: dict[int, Callable[[Worker, Step, int, memoryview, Emit], Emit]] = {
    FILTER: _filter_step,
    TAKE: _take_step,
    SKIP: _skip_step,
    THROTTLE: _throttle_step,
}
