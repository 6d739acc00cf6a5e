"""The records of a flow: how far each stage is, and which neighbour it waits for."""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._data.board import FAILED, OUT, PASSED, TAKEN, WAIT_IN, WAIT_OUT, WORK
from goproc._data.flow_plan import LOOP, PLAIN, POOL, Edge, Node, Record
from goproc._data.stages import MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.board import Board
    from goproc._data.flow_pool import StageEngine


class StageStats(NamedTuple):
    """One stage of a flow at an instant. ``record["in"]`` and ``record["blocked by"]`` work as well.

    Attributes:
        name: the name of its function, or of its method.
        in_: items that it has taken.
        out: values that it has handed on.
        failed: items that have failed for good.
        queued: items that wait before it.
        busy: its calls that run now.
        seconds: in which its calls ran, all together.
        blocked_by: the name of the neighbour for which it has waited most of the time, "source" or "consumer" at the
            ends; None if it was busy most of the time.
    """

    name: str
    in_: int
    out: int
    failed: int
    queued: int
    busy: int
    seconds: float
    blocked_by: str | None

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            name = key.replace(" ", "_")
            return getattr(self, "in_" if name == "in" else name)
        return tuple.__getitem__(self, key)

    def __getattr__(self, name: str) -> Any:
        if name == "in":
            return self.in_
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Counts(NamedTuple):
    """The counters of one stage."""

    taken: int
    out: int
    failed: int
    busy: int
    retried: int
    work: float
    wait_in: float
    wait_out: float


def stage_stats(record: Record, board: Board, engines: dict[Node, StageEngine], closed: bool) -> StageStats:
    """Return the record of a stage.

    Args:
        record: of which stage.
        board: the counters.
        engines: those of the pools, by their nodes.
        closed: the flow is over: nothing is queued, and no call runs. One that was cancelled has not counted its end.
    """
    node = record.node
    if node is None:
        assert record.inputs is not None
        passed = _sent_to(record.inputs)
        return StageStats(record.stage.name, passed, passed, 0, 0, 0, 0.0, None)
    counts = _counts(record, node, board, engines)
    queued = 0
    if record.at == 0 and node.source is not None and not closed:
        queued = _length(node.source)
        if node in engines:
            queued += engines[node].stats().waiting
    return StageStats(
        record.stage.name,
        counts.taken,
        counts.out,
        counts.failed,
        queued,
        0 if closed else counts.busy,
        counts.work,
        _blocked_by(record, node, counts),
    )


def _length(edge: Edge) -> int:
    try:
        return edge.queued()
    except RuntimeError:  # the runtime has stopped
        return 0


def _counts(record: Record, node: Node, board: Board, engines: dict[Node, StageEngine]) -> Counts:
    at = record.at
    if at < 0:  # a tee(): what the last stage of the node sends, or the source
        out = board.sums(node.rows(node.width - 1))[OUT]
        return Counts(out, out, 0, 0, 0, 0.0, 0.0, 0.0)
    rows = node.rows(at)
    sums = board.sums(rows)
    if node in engines:
        stats = engines[node].stats()
        work = sum(seconds.work for seconds in stats.procs.values())
        wait = sum(seconds.wait for seconds in stats.procs.values())
        return Counts(stats.items, sums[OUT], stats.failed, stats.running, stats.retried, work, wait, 0.0)
    is_map = node.kind == LOOP and record.stage.kind == MAP  # OUT is written from time to time
    taken, out = sums[TAKEN], sums[PASSED] if is_map else sums[OUT]
    if node.kind == PLAIN:
        taken, out = _received_by(node), _sent_by(node)
    busy = board.in_hand(rows) if node.kind in (LOOP, PLAIN) else 0
    wait_out = sums[WAIT_OUT] - sum(
        board.sums(node.rows(later))[WORK] for later in range(1, len(node.stages)) if node.kind == LOOP
    )
    return Counts(taken, out, sums[FAILED], busy, 0, sums[WORK] / 1e9, sums[WAIT_IN] / 1e9, wait_out / 1e9)


def _sent_to(edge: Edge) -> int:
    """Return how many values the nodes before an edge have sent to it."""
    return sum(map(_sent_by, edge.nodes))


def _sent_by(node: Node) -> int:
    """Return how many values a node has sent. Nobody counts those of a stage(): the edge and its reader tell.

    Where several stage()s send to an edge, those of all count for the first. A stage() that reads does not tell.
    """
    if node.kind != PLAIN:
        sums = _sums(node, node.width - 1)
        is_map = node.kind == LOOP and node.stages[-1].kind == MAP
        return sums[PASSED] if is_map else sums[OUT]
    (edge,) = node.outs
    if node is not next(writer for writer in edge.nodes if writer.kind == PLAIN):
        return 0
    others = sum(_sent_by(writer) for writer in edge.nodes if writer.kind != PLAIN)
    return max(0, _taken_from(edge) + _length(edge) - others)


def _taken_from(edge: Edge) -> int:
    """Return how many values of an edge were received."""
    reader = edge.reader
    if reader is None:
        return edge.yielded
    if reader.kind == PLAIN:
        return 0
    if reader.engine is not None:
        return reader.engine.stats().items
    return _sums(reader, 0)[TAKEN if reader.stages else OUT]


def _sums(node: Node, stage: int) -> list[int]:
    assert node.board is not None
    return node.board.sums(node.rows(stage))


def not_taken(node: Node, engines: dict[Node, StageEngine]) -> int:
    """Return how many of the values that were sent to a node it has not taken. The flow is over."""
    edge = node.source
    if edge is None or not edge.nodes:
        return 0
    taken = engines[node].stats().items if node in engines else _sums(node, 0)[TAKEN]
    return max(0, _sent_to(edge) - taken)


def _received_by(node: Node) -> int:
    """Return how many values a stage() has received."""
    assert node.source is not None
    return max(0, _sent_to(node.source) - _length(node.source))


def _blocked_by(record: Record, node: Node, counts: Counts) -> str | None:
    if node.kind not in (LOOP, POOL) or record.at != 0:
        return None
    most = max(counts.work, counts.wait_in, counts.wait_out)
    if most == counts.work:
        return None
    if most == counts.wait_in:
        before = [] if node.source is None else [writer.name for writer in node.source.nodes]
        return ", ".join(before) or "source"
    if len(node.stages) > 1:
        return node.stages[1].name
    return node.outs[0].after if node.outs else None
