"""The plan of a flow: which stages run together, and the edges between them.

Stages become nodes. A node has workers of its own, and receives from one edge. A filter() without a number of workers
runs in the loop of the node before it, and so do take(), skip() and throttle() where that node has one worker, or is in
the process of the consumer. The meaning stays, and a hop from process to process is saved.

The bound: the edges before the nodes have `buffer` places each, by default two for each call that runs at once. The places
of the edge to the consumer, and the item that a feed holds while it waits, are taken from these. So no more than the sum of
`buffer` and workers are in flight. With the default an edge that many small items pass in a short time grows to WIDE places.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from goproc._channel import chan
from goproc._data.flow_edges import FETCHED, WIDE, Out
from goproc._data.flow_near import Near
from goproc._data.stages import BATCH, CALLING, FILTER, MERGE, SKIP, STAGE, TAKE, TEE, THROTTLE, Stage
from goproc.sync import Atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._channel import Chan
    from goproc._data.board import Board
    from goproc._data.flow import Flow
    from goproc._data.flow_pool import StageEngine

FEED, WITHIN, LOOP, POOL, PLAIN = range(5)  # kinds of nodes
_FUSED = frozenset({TAKE, SKIP, BATCH, THROTTLE})


class Edge:
    """A bounded channel between nodes.

    Attributes:
        cap: how many values it holds.
        writers: how many workers send to it.
        nodes: those that send to it.
        reader: the node that receives from it, None for the consumer.
        after: the name of the stage that receives from it.
        yielded: values that the consumer has received.
        discards: nobody reads the values.
        fetched: of its places, those for values that the consumer takes at once.
        elastic: it may grow, if its writers and its readers can go over to another channel.
    """

    def __init__(self, cap: int, after: str, discards: bool = False) -> None:
        self.cap = cap
        self.discards = discards
        self.fetched = 0
        self.elastic = False
        self.after = after
        self.nodes: list[Node] = []
        self.reader: Node | None = None
        self.writers = 0
        self.yielded = 0
        self._out: Out | None = None

    def open(self) -> Out:
        """Return its channel, made at the first call."""
        if self._out is None:
            wide = chan(WIDE - (FETCHED if self.reader is None else 0)) if self._grows() else None
            ch = Near(self.cap, self.reader is None) if self._is_near() else chan(self.cap)
            self._out = Out(ch, Atomic(self.writers), self.discards, wide, self.writers > 1)
        return self._out

    def _is_near(self) -> bool:
        """Return True if both ends are in the process of the consumer, and one is a pool."""
        here = (FEED, WITHIN, POOL)
        ends = [*self.nodes, *([self.reader] if self.reader is not None else [])]
        return (
            all(node.kind in here for node in ends)
            and any(node.kind == POOL for node in ends)
            and all(len(node.outs) == 1 for node in self.nodes)
        )

    def _grows(self) -> bool:
        reads = self.reader is None or self.reader.kind in (FEED, LOOP)
        writes = all(node.kind in (FEED, LOOP) for node in self.nodes)
        return self.elastic and reads and writes and not self.discards

    def queued(self) -> int:
        """Return how many values are in it."""
        out = self.open()
        return len(out.ch) + (0 if out.wide is None else len(out.wide))

    @property
    def ch(self) -> Chan[Any] | Near:
        """Its channel."""
        return self.open().ch


class Node:
    """Stages that run in the same goroutines.

    Attributes:
        kind: FEED to PLAIN.
        stages: the first calls for the items of the edge; the others for the results of the one before.
        source: the edge that it receives from; None for a feed that advances an iterable.
        iterable: the one of a feed.
        outs: the edges that it sends to.
        row: the first of its rows on the board: one a worker and stage.
        board: has the rows. A node that a tee() is in belongs to another run than the branches, and to its board.
        engine: of a pool that runs.
        spare: items that an ordered node, or a pool, may hold beyond one a worker.
    """

    def __init__(self, kind: int, stages: list[Stage], source: Edge | None = None) -> None:
        self.kind = kind
        self.stages = stages
        self.source = source
        self.iterable: Any = None
        self.outs: list[Edge] = []
        self.row = 0
        self.board: Board | None = None
        self.engine: StageEngine | None = None
        self.spare = 0

    @property
    def name(self) -> str:
        """The name of its last stage."""
        return self.stages[-1].name if self.stages else "source"

    @property
    def workers(self) -> int:
        """The number of its goroutines."""
        return self.stages[0].workers if self.kind in (LOOP, PLAIN) else 1

    @property
    def calls(self) -> int:
        """The number of items that its first stage may have in hand."""
        return self.stages[0].calls if self.kind in (LOOP, POOL, PLAIN) else 1

    @property
    def width(self) -> int:
        """The number of rows that each of its workers has."""
        return max(1, len(self.stages))

    def rows(self, stage: int) -> range:
        """Return the rows of one of its stages."""
        width = self.width
        return range(self.row + stage, self.row + stage + width * self.workers, width)


class Record:
    """A stage in the order of the records.

    Attributes:
        stage: the stage.
        node: that runs it, None for a merge().
        at: its place among the stages of the node.
        inputs: for a merge(), the edge that all its flows send to.
    """

    def __init__(self, stage: Stage, node: Node | None, at: int, inputs: Edge | None = None) -> None:
        self.stage = stage
        self.node = node
        self.at = at
        self.inputs = inputs


class Plan:
    """The nodes of a flow and of those that are merged into it.

    Args:
        flow: the flow.
        outs: the edges that its last node sends to.
        final: the edge to the consumer, to be given places; None if there is none, or it has them.
    """

    def __init__(self, flow: Flow[Any], outs: list[Edge], final: Edge | None) -> None:
        self.nodes: list[Node] = []
        self.records: list[Record] = []
        self.shared: list[Any] = []  # the tee()s that flows come from
        self.careful = _is_careful(flow)
        self._add(flow, outs, final)
        self._number_rows()

    def _add(self, flow: Flow[Any], outs: list[Edge], final: Edge | None) -> None:
        stages = [stage for stage in flow._stages if stage.kind not in (MERGE, TEE)]
        chain = self._chain(Node(FEED, []), stages)
        if chain[-1].kind == PLAIN and flow._stages[-1].kind == TEE:  # its function sends to one channel
            chain.append(Node(FEED, []))
        if chain[-1].kind == PLAIN:  # it sends to a real channel
            for edge in outs:
                edge.discards = False
        buffer = flow._buffer
        for node in chain[1:]:
            stage = node.stages[0] if node.stages else flow._stages[-1]  # without a stage: for a tee()
            node.source = Edge(stage.edge(buffer), stage.name)
            node.source.elastic = buffer is None
        self._connect(flow, chain, outs)
        _share_places(chain, final, buffer, flow._iterable is not None)
        for node in chain:
            self.nodes.append(node)
            for at, stage in enumerate(node.stages):
                self.records.append(Record(stage, node, at))
        for stage in flow._stages:
            if stage.kind == TEE:
                self.records.append(Record(stage, chain[-1], -1))

    def _connect(self, flow: Flow[Any], chain: list[Node], outs: list[Edge]) -> None:
        """Connect the nodes of a chain with each other, and with the source of the flow."""
        first = chain[0]
        if flow._iterable is not None:
            first.iterable = flow._iterable
        elif flow._merged:
            self._merge(flow, chain, outs)
        else:
            assert flow._branch is not None
            shared, number = flow._branch
            first.source = shared.edges[number]
            if shared not in self.shared:
                self.shared.append(shared)
            if len(chain) > 1 and not first.stages:
                chain[1].source = first.source
                del chain[0]
        for node, behind in pairwise(chain):
            assert behind.source is not None
            node.outs = [behind.source]
        chain[-1].outs = outs
        for node in chain:
            for edge in node.outs:
                edge.writers += node.workers
                edge.nodes.append(node)
            if node.source is not None:
                node.source.reader = node

    def _merge(self, flow: Flow[Any], chain: list[Node], outs: list[Edge]) -> None:
        """Plan the flows that are merged: all send to the edge of the first node."""
        merge = flow._stages[0]
        first = chain[0]
        if first.stages or len(chain) == 1:  # counting stages, or nothing: a feed that receives
            first.source = Edge(merge.edge(flow._buffer), merge.name)
        else:
            del chain[0]
            first = chain[0]
        assert first.source is not None
        for merged in flow._merged:
            self._add(merged, [first.source], None)
        self.records.append(Record(merge, None, 0, first.source))

    def _chain(self, first: Node, stages: list[Stage]) -> list[Node]:
        chain = [first]
        for stage in stages:
            if self._fits(chain[-1], stage):
                chain[-1].stages.append(stage)
            else:
                chain.append(Node(self._kind(stage), [stage]))
        return chain

    def _fits(self, node: Node, stage: Stage) -> bool:
        """Return True if a stage can run in the goroutines of a node."""
        if stage.workers == 0:
            return node.kind == FEED
        if stage.kind == FILTER and not stage.own:
            return node.kind == LOOP
        if stage.kind not in _FUSED or stage.within is not None:
            return False
        if node.kind == FEED:
            return True
        return node.kind == LOOP and (
            stage.kind == THROTTLE or (node.workers == 1 and stage.kind in (TAKE, SKIP))
        )

    def _kind(self, stage: Stage) -> int:
        if stage.kind == STAGE:
            return PLAIN
        if stage.workers == 0:
            return FEED
        if stage.kind in CALLING:
            assert stage.options is not None
            return LOOP if stage.options.plain and not self.careful else POOL
        return WITHIN if stage.within is not None else FEED

    def _number_rows(self) -> None:
        row = 0
        for node in self.nodes:
            node.row = row
            row += node.width * node.workers
        self.rows = row


def _is_careful(flow: Flow[Any]) -> bool:
    """Return True if a stage goes on after the death of a process: then all of them have to."""
    if any(stage.options is not None and stage.options.survives for stage in flow._stages):
        return True
    return any(_is_careful(merged) for merged in flow._merged)


def _share_places(chain: list[Node], final: Edge | None, buffer: int | None, holds: bool) -> None:
    """Take the places of the last edge, and the one for the item that a feed holds, from those of the other edges."""
    edges = [node.source for node in chain if node.source is not None and node.source is not final]
    if final is not None:
        final.elastic = buffer is None
    places = sum(edge.cap for edge in edges)
    taken = 1 if holds else 0
    if final is not None and not final.discards:
        if edges:
            final.cap = max(0, places - taken) // (len(edges) + 1)
            taken += final.cap
        else:
            final.cap = max(0, (2 if buffer is None else buffer) - taken)
            taken = 0
        if final.cap >= 2 * FETCHED:
            final.fetched = FETCHED
            final.cap -= FETCHED
    for _ in range(taken):
        largest = max(edges, key=lambda edge: edge.cap, default=None)
        if largest is None or largest.cap == 0:
            break
        largest.cap -= 1
    for node in chain:
        edge = node.source
        ordered = node.kind == LOOP and node.workers > 1 and _is_ordered(node.stages[0])
        if edge is not None and (ordered or node.kind == POOL):
            node.spare = min(node.calls, edge.cap // 2)
            edge.cap -= node.spare


def _is_ordered(stage: Stage) -> bool:
    return stage.options is not None and stage.options.ordered
