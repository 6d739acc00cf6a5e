"""The worker's side of a flow: goroutines that receive items from an edge, call a function, and send to the next edge.

An item is received and its results are sent before the next one is received, so nothing is held back, and a worker never
has more than one item in hand. Filters and counting stages that have no workers of their own run in the same loop.

A worker that fails closes the edge before it, which ends the stages above. The stages below finish the items that they
have. The worker returns the failure. The last worker that leaves an edge closes it.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, NamedTuple

from greenlet import GreenletExit

from goproc._data.blame import about_value
from goproc._data.board import FAILED, OUT, PASSED, TAKEN, WAIT_IN, WAIT_OUT, WORK, Place, Sheet
from goproc._data.flow_edges import LOOK, Growth, Out, close_both, growth, leave, sender, values_of
from goproc._data.flow_steps import STEPS, Step, StepFailed
from goproc._data.flow_turns import Line, Turns
from goproc._data.sent import Sent, Unread, Word, read_functions
from goproc._data.stages import FILTER, FLAT_MAP, MAP, TAKE
from goproc._data.unread import unread
from goproc._life import Goexit
from goproc._pickling import failure
from goproc._sched import scheduler
from goproc.errors import Cancelled, ChanClosed, OwnerDied, PickleError, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goproc._channel import Chan
    from goproc.sync import Atomic

    Emit = Callable[[Any], object]

_REPR = 200  # characters of an item in a note


class Assignment(NamedTuple):
    """The parts of a flow that one worker is given.

    Attributes:
        steps: the stages that it runs: the first calls for items of the edge, the others for results of the one before.
        source: the channel of the edge that it receives from.
        wide: the channel that takes its place if the edge grows, or None.
        outs: the edges that it sends to: one, or those of a tee().
        turns: keeps the order among several workers; None where there is one, or no order is asked for.
        place: of the board.
        row: of the board, for the first step; the others follow.
        number: of the worker in its flow, from 1.
        first: the number of the worker that failed first, or 0.
    """

    steps: tuple[Step, ...]
    source: Chan[Any]
    wide: Chan[Any] | None
    outs: tuple[Out, ...]
    turns: Turns | None
    place: Place
    row: int
    number: int
    first: Atomic


class Fault(NamedTuple):
    """The result of a worker that has failed.

    Attributes:
        step: the number of the step that failed.
        item: the repr of its item, shortened, or None.
        error: the exception, packed.
    """

    step: int
    item: str | None
    error: tuple[Any, ...]


def short_repr(item: Any) -> str:
    """Return the repr of an item, shortened."""
    try:
        text = repr(item)
    except Exception as exc:
        text = f"<{type(item).__name__}, whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= _REPR else text[: _REPR - 3] + "..."


def is_cancelled(error: BaseException) -> bool:
    return isinstance(error, Cancelled) and scheduler.current.cancelled


def complete(assignment: Assignment, sent: Sent) -> Assignment:
    """Return an assignment with the functions of its steps.

    Raises:
        StepFailed: one of them cannot be read in this process.
    """
    steps = assignment.steps
    try:
        functions = read_functions(sent, tuple(Word(f"the function {step.name}") for step in steps))
    except Unread as exc:
        raise StepFailed(exc.number, None, exc.error) from None
    steps = tuple(step._replace(f=f) for step, f in zip(steps, functions, strict=True))
    return assignment._replace(steps=steps)


def work(assignment: Assignment, sent: Sent) -> Fault | None:
    """Serve one stage until its edge is closed. The body of a worker's goroutine.

    Args:
        assignment: without the functions of its steps.
        sent: these functions.
    """
    worker = _Worker(assignment)
    try:
        try:
            worker.check()
            worker.assignment = assignment = complete(assignment, sent)
            worker.check()
            if assignment.turns is None:
                worker.serve()
            else:
                worker.serve_in_turn(assignment.turns)
        except ChanClosed:  # nobody wants more
            worker.stop_source()
        except (OwnerDied, RuntimeStopped):  # the flow ends: the handle of a dead worker has its death
            pass
        except StepFailed as failed:
            if isinstance(failed.error, GreenletExit) or is_cancelled(failed.error):
                raise failed.error from None
            item = None if failed.item is None else short_repr(failed.item)
            return worker.fail(failed.step, item, failed.error)
        except (Cancelled, GreenletExit):
            raise
        except Exception as exc:
            refused = None if worker.has_item() else unread(exc, "the worker")
            if refused is None:
                return worker.fail(len(assignment.steps) - 1, None, exc)
            return worker.fail(0, refused.text, refused.error)
        except BaseException as exc:  # raised by the pickling of a result
            return worker.fail(len(assignment.steps) - 1, None, exc)
    except Cancelled:
        worker.stop_source()
        raise
    finally:
        scheduler.shield(1)
        try:
            worker.note_times()
            leave(assignment.outs)
        except RuntimeStopped:
            pass
        finally:
            scheduler.shield(-1)
    return None


class _Worker:
    """One worker of a stage."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.sheet = Sheet(assignment.place)
        self.row = self.sheet.row(assignment.row)
        self.work = self.wait_in = self.wait_out = 0
        self.note_at = 0  # when the times are written to the board next
        self.growth: Growth | None = None if assignment.turns is not None else growth(assignment.outs)
        self.enough = False  # a take() has all that it wants

    def check(self) -> None:
        """Raise ChanClosed if the flow is over: it may have been left while this process imported a module."""
        if self.sheet.over:
            raise ChanClosed("the flow is over")

    # -- loops

    def serve(self) -> None:
        """Receive, call, send: for one worker, or for several whose results need no order."""
        assignment = self.assignment
        step = assignment.steps[0]
        emit = self._emitter(sender(assignment.outs))
        if step.kind == MAP and all(later.kind != TAKE for later in assignment.steps):
            self._serve_map(step.f, emit)
            return
        if self.enough:
            raise ChanClosed("take(0)")
        row, clock = self.row, monotonic_ns
        before = clock()
        for item in values_of(assignment.source, assignment.wide):
            row[TAKEN] += 1
            began = clock()
            if began - before > _LONG_NS:
                self.check()
            work = self.work
            result = self._call(step.f, item)
            self.work += clock() - began
            if step.kind == FLAT_MAP:
                emit = self._emit_values(result, item, emit)
            elif step.kind != FILTER or result:
                value = result if step.kind == MAP else item
                try:
                    emit(value)
                except PickleError as exc:
                    raise self._unsendable(value, item, exc) from None
                row[OUT] += 1
            row[PASSED] += 1
            self.wait_in += began - before
            before = clock()
            self.wait_out += before - began - (self.work - work)
            if before > self.note_at:
                self.note_times(before)
                if step.kind != FLAT_MAP:
                    emit = self._grown(emit, row[TAKEN], before, item)
            if self.enough:
                raise ChanClosed("take() has all that it wants")

    def _serve_map(self, f: Any, emit: Emit) -> None:
        """Serve a map(): the same loop, in which a short call costs as little as possible."""
        row, clock = self.row, monotonic_ns
        taken = row[TAKEN]
        work = wait_in = wait_out = 0
        before = due = clock()
        try:
            for item in values_of(self.assignment.source, self.assignment.wide):
                taken += 1
                row[TAKEN] = taken
                began = clock()
                if began - before > _LONG_NS:
                    self.check()
                try:
                    result = f(item)
                except BaseException as exc:
                    raise StepFailed(0, item, exc) from None
                ended = clock()
                try:
                    emit(result)
                except PickleError as exc:
                    raise self._unsendable(result, item, exc) from None
                row[PASSED] = taken
                wait_in += began - before
                work += ended - began
                before = clock()
                wait_out += before - ended
                if before > due:
                    due = before + _NOTE_NS
                    row[OUT], row[WORK], row[WAIT_IN], row[WAIT_OUT] = taken, work, wait_in, wait_out
                    emit = self._grown(emit, taken, before, result)
        finally:
            row[OUT] = row[PASSED]
            self.work, self.wait_in, self.wait_out = work, wait_in, wait_out

    def _grown(self, emit: Emit, taken: int, now: int, value: Any) -> Emit:
        """Return the function for the results of the first step: another one if the edge grows now."""
        if self.growth is None or not self.growth.due(taken, now, value):
            return emit
        send, self.growth = self.growth.grow(), None
        return self._emitter(send)

    def _call(self, f: Any, item: Any) -> Any:
        try:
            return f(item)
        except BaseException as exc:
            raise StepFailed(0, item, exc) from None

    def _emit_values(self, result: Any, item: Any, emit: Emit) -> Emit:
        """Emit the values of a flat_map() function, as they are yielded. Return the function for the next results."""
        row = self.row
        for value in self._values(result, item):
            try:
                emit(value)
            except PickleError as exc:
                raise self._unsendable(value, item, exc) from None
            row[OUT] += 1
            if self.enough:
                break
            if self.growth is not None and not row[OUT] % LOOK:
                emit = self._grown(emit, row[OUT], monotonic_ns(), value)
        return emit

    def _values(self, result: Any, item: Any) -> Iterator[Any]:
        """Yield the values of a flat_map() function, and note the time that it takes. Its exceptions are those of the step."""
        clock = monotonic_ns
        try:
            values = iter(result)
        except BaseException as exc:
            raise StepFailed(0, item, exc) from None
        while True:
            began = clock()
            try:
                value = next(values)
            except StopIteration:
                return
            except BaseException as exc:
                raise StepFailed(0, item, exc) from None
            finally:
                self.work += clock() - began
            yield value

    def _unsendable(self, value: Any, item: Any, error: PickleError) -> StepFailed:
        """Return the failure of the last step for a value that cannot be sent."""
        return StepFailed(len(self.assignment.steps) - 1, item, about_value(value, error, "the result"))

    def _unsendable_result(self, value: Any, error: PickleError) -> StepFailed:
        return self._unsendable(value, None, error)

    def serve_in_turn(self, turns: Turns) -> None:
        """Receive with a ticket, call, and send in the order of the tickets."""
        assignment, row = self.assignment, self.row
        kind, _, f, _ = assignment.steps[0]
        line = Line(turns, self._checked(sender(assignment.outs)), self._unsendable_result)
        keep = self._emitter(line.put)
        clock = monotonic_ns
        try:
            while True:
                before = clock()
                turns.credit.acquire()
                item, line.ticket = self._take(turns)
                if line.ticket < 0:
                    return
                row[TAKEN] += 1
                began = clock()
                if began - before > _LONG_NS:
                    self.check()
                work = self.work
                result = self._call(f, item)
                self.work += clock() - began
                if kind == FLAT_MAP:
                    for value in self._values(result, item):
                        keep(value)
                        row[OUT] += 1
                        line.pass_on()
                elif kind != FILTER or result:
                    keep(result if kind == MAP else item)
                    row[OUT] += 1
                line.pass_on(last=True)
                row[PASSED] += 1
                self.wait_in += began - before
                now = clock()
                self.wait_out += now - began - (self.work - work)
                if now > self.note_at:
                    self.note_times(now)
        except BaseException:
            line.break_off()
            raise
        finally:
            turns.credit.release(len(turns.slots))  # nobody waits for a turn that does not come

    def _take(self, turns: Turns) -> tuple[Any, int]:
        with turns.taking:
            item, there = self.assignment.source.recv_ok()
            if not there and self.assignment.wide is not None:
                item, there = self.assignment.wide.recv_ok()
            return item, turns.tickets.add(1) - 1 if there else -1

    def _checked(self, send: Emit) -> Emit:
        """Return a function that sends a result. One that cannot be sent is the failure of the last step."""

        def checked(value: Any) -> None:
            try:
                send(value)
            except PickleError as exc:
                raise self._unsendable_result(value, exc) from None

        return checked

    # -- steps after the first

    def _emitter(self, emit: Emit) -> Emit:
        """Return the function for the results of the first step: the other steps, and `emit` after them."""
        for number in range(len(self.assignment.steps) - 1, 0, -1):
            step = self.assignment.steps[number]
            row = self.sheet.row(self.assignment.row + number)
            emit = STEPS[step.kind](self, step, number, row, emit)
        return emit

    # -- ends

    def has_item(self) -> bool:
        """Return True if an item was received that is not finished."""
        return self.row[TAKEN] != self.row[PASSED]

    def fail(self, step: int, item: str | None, error: BaseException) -> Fault:
        """A step has failed, for an item of this repr: end the stages above."""
        assignment = self.assignment
        if isinstance(error, Goexit):
            error = RuntimeError("the call ended its goroutine by goexit()")
        self.sheet.row(assignment.row + step)[FAILED] += 1
        assignment.first.cas(0, assignment.number)
        self.stop_source()
        return Fault(step, item, failure.pack(error))

    def stop_source(self) -> None:
        """Have the stages above end."""
        scheduler.shield(1)
        try:
            close_both(self.assignment.source, self.assignment.wide, drain=True)
        finally:
            scheduler.shield(-1)

    def note_times(self, now: int = 0) -> None:
        """Write the times to the board."""
        row = self.row
        self.note_at = now + _NOTE_NS
        row[WORK], row[WAIT_IN], row[WAIT_OUT] = self.work, self.wait_in, self.wait_out


_NOTE_NS = 20_000_000
# For an item to come and be read; after that the flow may be over. It is less than CLOSE_SECONDS.
_LONG_NS = 500_000_000
