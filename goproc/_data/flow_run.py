"""One run of a flow: starts the goroutines of a plan, meets their ends, and stops them."""

from __future__ import annotations

from functools import partial
from operator import length_hint
from time import monotonic
from typing import Any

from goproc._channel import chan
from goproc._completion import as_completed
from goproc._data.blame import about_function
from goproc._data.board import Board
from goproc._data.ends import raisable
from goproc._data.flow_edges import Out, close_both, close_edge, leave, values_of
from goproc._data.flow_local import Helper, batch_within, counted, feed, received
from goproc._data.flow_near import Near
from goproc._data.flow_plain import run_stage
from goproc._data.flow_plan import FEED, LOOP, PLAIN, POOL, WITHIN, Edge, Node, Plan
from goproc._data.flow_pool import StageEngine, pool
from goproc._data.flow_stats import StageStats, not_taken, stage_stats
from goproc._data.flow_steps import Step
from goproc._data.flow_turns import Turns
from goproc._data.flow_worker import Assignment, Fault, work
from goproc._data.sent import send_functions
from goproc._data.stages import MERGE, STAGE, TAKE, THROTTLE, Stage
from goproc._data.unread import readable
from goproc._deaths import end_process
from goproc._go import go
from goproc._goroutine import Goroutine
from goproc._pickling import failure
from goproc._raised import add_note
from goproc._sched import scheduler
from goproc.errors import Cancelled, PickleError, RuntimeStopped, WorkerDied
from goproc.shm import _core
from goproc.sync import Atomic, Mutex, Semaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from goproc._channel import Chan
    from goproc._data.flow import Flow

_AT_ONCE = 0.05  # seconds in which a flow that is over has ended, if nothing blocks
CLOSE_SECONDS = 1.0  # that a call has to end after close(); then its process is killed


class Worker:
    """A goroutine of a node on a worker process."""

    __slots__ = ("assignment", "handle", "node")

    def __init__(self, node: Node, assignment: Assignment, handle: Goroutine[Fault | None]) -> None:
        self.node = node
        self.assignment = assignment
        self.handle = handle


class Run:
    """One run of a flow.

    Args:
        flow: the flow.
        outs: the edges that its last stage sends to.
        final: the edge to the consumer, None for the part of a flow that is before a tee().
    """

    def __init__(self, flow: Flow[Any], outs: list[Edge], final: Edge | None) -> None:
        self.length = _known_length(flow._iterable)  # of the source
        self.plan = Plan(flow, outs, final)
        self.outs = outs
        self.board = Board(self.plan.rows)
        for node in self.plan.nodes:
            node.board = self.board
        self.workers: dict[int, Worker] = {}  # by number
        self.helpers: dict[int, tuple[Node, Helper]] = {}  # by number
        self.engines: dict[Node, StageEngine] = {}
        self.died: dict[int, BaseException] = {}  # by number, the ends of workers that end the flow
        self.replaced: dict[int, BaseException] = {}  # the deaths of workers that had no item in hand
        self.watcher: Helper | None = None
        self.over = False
        self.from_user = False  # the failure is that of a function, or of the source
        # has no value; closed to end a thread that receives from a channel of the user's
        self.halt: Chan[None] = chan()
        self.first = Atomic(0)  # the number of the worker that failed first
        self._numbers = 0

    # -- the start

    def start(self) -> None:
        """Start all goroutines.

        Raises:
            PickleError: a function cannot be sent to a worker.
        """
        try:
            for shared in self.plan.shared:
                shared.start(self)
            for node in reversed(self.plan.nodes):
                self._start_node(node)
            if self.workers:
                self.watcher = Helper("goproc.flow", self._watch)
        except BaseException:
            self.stop(CLOSE_SECONDS)
            raise

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _start_node(self, node: Node) -> None:
        outs = tuple(edge.open() for edge in node.outs)
        if node.kind in (LOOP, PLAIN):
            self._start_workers(node, outs)
            return
        number = self._next_number()
        body = partial(self._first_to_fail, number, self._body(node, outs))
        self.helpers[number] = node, Helper(f"goproc.flow: {node.name}", body)

    def _body(self, node: Node, outs: tuple[Out, ...]) -> Any:
        row = self.board.row(node.row)
        if node.kind == FEED:
            return self._feed_body(node, outs)
        assert node.source is not None
        stage = node.stages[0]
        if node.kind == WITHIN:
            assert stage.within is not None
            return partial(batch_within, node.source.ch, outs, int(stage.n), stage.within, row)
        assert node.kind == POOL
        engine = self.engines[node] = node.engine = StageEngine(
            stage, node.source.ch, node.calls + node.spare
        )
        return partial(pool, engine, outs, stage.kind, row)

    def _feed_body(self, node: Node, outs: tuple[Out, ...]) -> Any:
        edge = node.source
        values: Iterator[Any]
        if edge is not None:
            values = values_of(edge.ch, edge.open().wide)
            if not isinstance(edge.ch, Near):
                values = readable(values, edge.after)
        elif isinstance(node.iterable, _core.Channel) and not _core.on_scheduler_thread():
            values = received(node.iterable, self.halt)  # type: ignore[arg-type]
        else:
            values = iter(node.iterable)
        node.iterable = None
        for at, stage in enumerate(node.stages):
            values = counted(stage, values, self.board.row(node.row + at))
        row = None if node.stages else self.board.row(node.row)
        return partial(feed, values, None if edge is None else edge.open(), outs, row)

    def _first_to_fail(self, number: int, body: Any) -> None:
        try:
            body()
        except (Cancelled, RuntimeStopped):
            raise
        except BaseException:
            self.first.cas(0, number)
            raise

    def _start_workers(self, node: Node, outs: tuple[Out, ...]) -> None:
        assert node.source is not None
        turns = None
        stage = node.stages[0]
        if node.kind == LOOP and node.workers > 1 and stage.options is not None and stage.options.ordered:
            turns = _turns(node.workers, node.workers + node.spare)
        steps = tuple(_step(stage) for stage in node.stages)
        place = self.board.place
        for worker in range(node.workers):
            number = self._next_number()
            row = node.row + worker * node.width
            source = node.source.open()
            assert not isinstance(source.ch, Near)  # whose ends are in one process
            assignment = Assignment(
                steps, source.ch, source.wide, outs, turns, place, row, number, self.first
            )
            self.workers[number] = Worker(node, assignment, self._go(node, assignment))

    def _go(self, node: Node, assignment: Assignment) -> Goroutine[Fault | None]:
        started = go.opts(name=node.stages[0].name)
        try:
            sent = send_functions(tuple(step.f for step in assignment.steps))
            bare = assignment._replace(steps=tuple(step._replace(f=None) for step in assignment.steps))
            return started(run_stage if node.kind == PLAIN else work, bare, sent)
        except PickleError as error:
            raise _about_stages(node.stages) or error from None

    # -- deaths

    def _watch(self) -> None:
        """Wait for the ends of all workers, to meet the deaths among them."""
        pending = {worker.handle: number for number, worker in self.workers.items()}
        while pending:
            for handle in as_completed(list(pending)):
                number = pending.pop(handle)
                error = handle.exception()
                if self.over or error is None or isinstance(error, Cancelled):  # by _cancel()
                    continue
                if not isinstance(error, WorkerDied):
                    self._ends_by(number, error)
                    continue
                again = self._met_death(number, error)
                if again is not None:
                    pending[again] = number
                    break

    def _met_death(self, number: int, error: WorkerDied) -> Goroutine[Fault | None] | None:
        """A worker has died with its process. Return the handle of its successor if it had no item in hand."""
        worker = self.workers[number]
        node, assignment = worker.node, worker.assignment
        if node.kind == LOOP and assignment.turns is None and not self._has_item(worker):
            self.replaced[number] = error
            worker.handle = self._go(node, assignment)
            return worker.handle
        if error.timed_out and self.engines:
            # The time of a call in a stage beside it was over. That call's failure ends the flow.
            self.died[number] = error
            close_both(assignment.source, assignment.wide, drain=True)
            leave(assignment.outs)
        else:
            self._ends_by(number, error)
        return None

    def _ends_by(self, number: int, error: BaseException) -> None:
        """End the flow: a worker has not served its stage to the end."""
        self.died[number] = error
        self.first.cas(0, number)
        self.abandon()

    # -- the end

    def abandon(self) -> None:
        """Close all edges, and cancel what runs, without waiting for that."""
        self.over = True
        self.board.end()
        try:
            for node in self.plan.nodes:
                for edge in (*node.outs, *([node.source] if node.source is not None else [])):
                    close_both(edge.ch, edge.open().wide)
            self._cancel()
        except RuntimeStopped:
            pass

    def leave(self) -> None:
        """Close all edges, and cancel what runs. A goroutine kills the processes of calls that do not end in time."""
        self.abandon()
        try:
            if any(worker.handle.state == "running" for worker in self.workers.values()):
                go.local(self._reap)
        except RuntimeStopped:
            pass

    def _reap(self) -> None:
        if not self._workers_ended(monotonic() + CLOSE_SECONDS):
            self._kill()

    def stop(self, seconds: float) -> None:
        """Close all edges, cancel what runs, and wait for its end. Kill the processes of calls that do not react."""
        self.abandon()
        self._join(seconds)

    def finish(self) -> None:
        """The last edge is closed: wait for the end of all.

        Raises:
            BaseException: the first failure, with the name of the stage as a note.
        """
        self._join(CLOSE_SECONDS)
        error = self.failure()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame

    def _join(self, seconds: float) -> None:
        """Wait until all goroutines have ended. Nobody wants their results.

        Args:
            seconds: that calls have to end; then they are cancelled, and killed after as long again.
        """
        scheduler.shield(1)
        try:
            if not self._ended(_AT_ONCE):
                self._cancel(FEED)  # it may wait in the iterable
                if not self._ended(seconds):
                    self.over = True
                    self.board.end()
                    self._cancel()
                    if not self._ended(seconds):
                        self._kill()
            for shared in self.plan.shared:
                shared.left(self)
        except RuntimeStopped:
            pass
        finally:
            scheduler.shield(-1)
            self.over = True
            self.board.close()

    def _cancel(self, kind: int | None = None) -> None:
        """Cancel the goroutines of all nodes, or of those of a kind."""
        close_edge(self.halt)
        for worker in self.workers.values():
            if kind is None:
                worker.handle.cancel()
        for node, helper in self.helpers.values():
            if kind is None or node.kind == kind:
                helper.cancel()

    def _ended(self, seconds: float) -> bool:
        """Wait for the end of all goroutines. Return False if that takes longer than some seconds."""
        until = monotonic() + seconds
        if not self._workers_ended(until):
            return False
        helpers = [helper for _, helper in self.helpers.values()]
        if self.watcher is not None and not (self.over and self._queued()):
            helpers.append(self.watcher)
        return all(helper.join(max(0.0, until - monotonic())) for helper in helpers)

    def _workers_ended(self, until: float) -> bool:
        """Wait for the end of all workers. Return False if that takes longer.

        When the flow is over, a worker that has not begun makes no call any more, so nobody waits for that one.
        """
        for worker in self.workers.values():
            if self.over and worker.handle.state == "queued":
                continue
            try:
                worker.handle.join(max(0.0, until - monotonic()))
            except TimeoutError:
                return False
        return True

    def _queued(self) -> bool:
        return any(worker.handle.state == "queued" for worker in self.workers.values())

    def _kill(self) -> None:
        """Kill the processes in which calls do not react. Nobody wants to hear how the goroutines there have ended.

        A worker that imports modules, to read its function or an item, makes no call. It cannot be cancelled meanwhile.
        It ends when they are imported, and others in its process are cancelled then.
        """
        running = [worker for worker in self.workers.values() if worker.handle.state == "running"]
        calling = [worker for worker in running if self._has_item(worker)]
        reading = {worker.handle.id for worker in running if worker not in calling}
        killed = {worker.handle._proc for worker in calling if worker.handle._proc > 0}
        killed = {proc for proc in killed if _core.running_in(proc) not in reading}
        for proc in killed:
            end_process(proc)
        for worker in running:
            if worker.handle._proc in killed or worker.handle._state >= _core.G_OK:
                worker.handle.exception()

    def _has_item(self, worker: Worker) -> bool:
        row = worker.assignment.row
        return self.board.in_hand(range(row, row + 1)) > 0

    def failure(self) -> BaseException | None:
        """Return the first failure, to be raised. All goroutines have ended."""
        number = self.first.load() or next(iter(self.died), 0)
        if number:
            return self._failure_of(number)
        if self.replaced and (missing := self._missing()):
            number, death = next(iter(self.replaced.items()))
            name = self.workers[number].node.name
            death.add_note(
                f"in the stage {name!r} of the flow; it had just been handed an item: {missing} are missing"
            )
            return death
        for shared in self.plan.shared:
            error: BaseException | None = shared.failure()
            if error is not None:
                self.from_user = True
                return error
        return None

    def _missing(self) -> int:
        """Return how many items were sent and not taken: a worker that died had been handed them, and did not know yet.

        Where a stage leaves items in its edge, as take() does, nobody can tell.
        """
        nodes = [node for node in self.plan.nodes if node.kind in (LOOP, POOL)]
        stages = [stage for node in self.plan.nodes for stage in node.stages]
        if any(stage.kind in (TAKE, STAGE) for stage in stages):
            return 0
        return sum(not_taken(node, self.engines) for node in nodes)

    def _failure_of(self, number: int) -> BaseException | None:
        if number in self.helpers:
            node, helper = self.helpers[number]
            error = helper.error
            self.from_user = node.kind == FEED or (node.kind == POOL and self.engines[node].fatal)
            if error is None or node.kind == FEED:
                return error
            add_note(error, f"in the stage {node.name!r} of the flow")
            return error
        worker = self.workers[number]
        self.from_user = True
        if number in self.died:
            error = self.died[number]
            add_note(error, f"in the stage {worker.node.name!r} of the flow")
            return error
        fault = worker.handle.result()
        if fault is None:
            return None
        error = failure.unpack(fault.error)
        item = "" if fault.item is None else f", item {fault.item}"
        add_note(error, f"in the stage {worker.node.stages[fault.step].name!r} of the flow{item}")
        return raisable(error, "the function of the stage")

    # -- records

    def records(self) -> list[StageStats]:
        """Return a record for each stage, in order."""
        earlier = [record for shared in self.plan.shared for record in shared.records()]
        own = [stage_stats(record, self.board, self.engines, self.over) for record in self.plan.records]
        return earlier + own


def _known_length(source: Any) -> int | None:
    """Return the number of items of an iterable, None if it does not tell."""
    if source is None or isinstance(source, _core.Channel):
        return None
    try:
        length = length_hint(source, -1)
    except Exception:
        return None
    return length if length >= 0 else None


def _about_stages(stages: list[Stage]) -> PickleError | None:
    """Return the exception for the first stage whose function cannot be sent."""
    for stage in stages:
        error = about_function(stage.f, stage.name)
        if error is not None:
            add_note(error, f"in the stage {stage.name!r} of the flow")
            return error
    return None


def _step(stage: Stage) -> Step:
    if stage.kind == THROTTLE:
        from goproc.rate import Limiter

        return Step(stage.kind, stage.name, Limiter(stage.n, burst=1).wait)
    assert stage.kind != MERGE
    return Step(stage.kind, stage.name, stage.f, int(stage.n))


def _turns(workers: int, places: int) -> Turns:
    slots = tuple(chan(1) for _ in range(places))
    credit = Semaphore(places * (workers + 2))  # each worker that leaves gives back a unit for each place
    credit.acquire(places * (workers + 1))
    return Turns(Mutex(), Atomic(0), credit, Mutex(), Atomic(0), slots)
