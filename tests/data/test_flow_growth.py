"""Edges of a flow with the default buffer grow when many small items have passed them in a short time."""

from __future__ import annotations

import os
import textwrap
from typing import Any, NamedTuple

import pytest
from peek import until_waiting
from programs import Run

from goproc import chan, flow, go
from goproc._data import flow_edges
from goproc._data.flow_edges import WIDE, Growing, Growth, Out, close_both
from goproc.errors import ChanClosed
from goproc.sync import Atomic

MANY = 3 * flow_edges._ITEMS
SECOND = 1_000_000_000


def same(x: Any) -> Any:
    return x


def same_at_any_speed(x: Any) -> Any:
    """Return x. The edge after this worker grows however slow the machine is."""
    flow_edges._FAST_NS = SECOND
    return x


class Item(NamedTuple):
    number: int


class Source:
    """Numbers, and how many of them were drawn."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.drawn = 0

    def __iter__(self) -> Any:
        for number in range(self.n):
            self.drawn += 1
            yield number


@pytest.fixture(autouse=True)
def at_any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edge after the source grows however slow the machine is."""
    monkeypatch.setattr(flow_edges, "_FAST_NS", SECOND)


def ahead(source: Source, stages: Any) -> int:
    """Consume most of a flow; return how far the source has been ahead."""
    most = 0
    for n, value in enumerate(stages, 1):
        assert value == n - 1
        most = max(most, source.drawn - n)
    assert source.drawn == source.n == n
    return most


def test_the_default_grows_and_keeps_a_bound(runtime2: Any) -> None:
    source = Source(MANY)
    most = ahead(source, flow(source).map(same).map(same))
    assert 2 * 3 < most <= 2 * 3 + 3 * WIDE


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_edge_after_a_flat_map_grows_in_the_middle_of_an_item(
    runtime2: Any, workers: int, ordered: bool
) -> None:
    made = Atomic(0)

    def numbers(n: int) -> Any:
        for number in map(same_at_any_speed, range(n)):
            made.add(1)
            yield number

    most = 0
    for n, value in enumerate(flow([MANY]).flat_map(numbers, workers, ordered=ordered), 1):
        assert value == n - 1
        most = max(most, made.load() - n)
    assert n == MANY and 4 * workers < most <= 2 * workers + WIDE + flow_edges.FETCHED


def test_a_buffer_that_is_given_does_not_grow(runtime2: Any) -> None:
    source = Source(MANY)
    assert ahead(source, flow(source, buffer=2).map(same).map(same)) <= 2 * 3


def test_large_items_do_not_grow_the_default(runtime2: Any) -> None:
    source = Source(MANY)
    big = "x" * flow_edges._SMALL
    stages = flow(source).map(lambda x: (x, big), 0).map(same).map(lambda pair: pair[0])
    assert ahead(source, stages) <= 2 * 2 + 2 + WIDE  # the last edge has numbers


@pytest.mark.parametrize(
    "stages",
    [
        lambda f: f.map(same, 3).map(same),
        lambda f: f.map(same).map(same, 3),
        lambda f: f.each(same).filter(lambda x: True, 1).skip(0),
        lambda f: f.flat_map(lambda x: [x]).each(same),
        lambda f: f.map(same).batch(7).flat_map(same),
        lambda f: f.map(same).tee(1)[0].map(same),
        lambda f: f.map(same).stage(lambda rx, tx: tx.send_many(rx)),
        lambda f: f.map(same_at_any_speed, 3).map(same_at_any_speed, 2),
        lambda f: f.flat_map(lambda x: [same_at_any_speed(x)], 2).map(same_at_any_speed, 2).skip(0),
        lambda f: f.map(same_at_any_speed, 2).batch(5).flat_map(same_at_any_speed, 2).filter(lambda x: True),
    ],
)
def test_no_item_is_lost_and_the_order_stays(runtime2: Any, stages: Any) -> None:
    assert list(stages(flow(range(MANY)))) == list(range(MANY))


@pytest.mark.parametrize(
    "stages",
    [
        lambda f: f.map(same_at_any_speed, 3, ordered=False).map(same_at_any_speed, 2, ordered=False),
        lambda f: f.flat_map(lambda x: [same_at_any_speed(x)], 2, ordered=False).map(same, 2),
        lambda f: f.map(same_at_any_speed).merge(flow([]), flow([]).map(same)).map(same),
    ],
)
def test_no_item_is_lost_where_several_workers_send(runtime2: Any, stages: Any) -> None:
    assert sorted(stages(flow(range(MANY)))) == list(range(MANY))


def test_a_worker_that_waits_for_a_place_goes_over_when_another_makes_the_edge_grow(runtime0: Any) -> None:
    out = Out(chan(1), Atomic(3), wide=chan(3), several=True)
    assert out.wide is not None
    one, other = Growing(out), Growing(out)
    other.send("first")
    waits = go.local(other.send, "second")
    until_waiting(out.ch, senders=1)
    Growth(out).grow()("third")
    waits.join()
    one.send("fourth")
    assert (list(out.ch), sorted(out.wide.recv_many(9))) == (["first"], ["fourth", "second", "third"])
    close_both(out.ch, out.wide)
    for sender in (one, other, Growing(out)):
        with pytest.raises(ChanClosed):
            sender.send("late")


def test_take_ends_stages_whose_edges_have_grown(runtime2: Any) -> None:
    assert list(flow(iter(int, 1)).map(same).map(same).take(MANY)) == [0] * MANY


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_ends_stages_whose_edges_have_grown(runtime2: Any, workers: int) -> None:
    def fail(x: int) -> int:
        return 1 // (MANY - x)

    results = []
    with pytest.raises(ZeroDivisionError) as raised:
        results.extend(flow(range(2 * MANY)).map(same_at_any_speed, workers).map(fail, workers).map(same))
    assert raised.value.__notes__[-1] == f"in the stage 'fail' of the flow, item {MANY}"


@pytest.mark.parametrize("workers", [1, 2])
def test_leaving_early_ends_stages_whose_edges_have_grown(runtime2: Any, workers: int) -> None:
    stages = flow(iter(int, 1)).map(same_at_any_speed, workers).map(same_at_any_speed, workers)
    with iter(stages) as results:
        for _ in range(MANY):
            next(results)


def test_counts_are_right(runtime2: Any) -> None:
    records = flow(range(MANY)).map(same).filter(lambda x: x % 2, 1).each(same).run()
    counts = [(record.in_, record.out, record.queued, record.busy) for record in records]
    assert counts == [(MANY, MANY, 0, 0), (MANY, MANY // 2, 0, 0), (MANY // 2, MANY // 2, 0, 0)]


def test_a_worker_that_dies_idle_is_replaced(run: Run) -> None:
    program = f"""
        import goproc
        from goproc import chan, flow, num_goroutine, sleep
        gate = chan()
        def same(x): return x
        def source():
            yield from range({MANY})
            gate.recv_ok()
            yield from range({MANY}, {MANY} + 600)
        results = iter(flow(source()).map(same).map(same))
        assert [next(results) for _ in range({MANY})] == list(range({MANY}))
        while any(stage.busy for stage in results.stats()): sleep(0.001)    # the last result came before the count of it
        pids = goproc.shm._core.pids()
        goproc.kill(1)
        while goproc.shm._core.pids()[1] in (0, pids[1]): sleep(0.001)
        gate.close()
        print(list(results) == list(range({MANY}, {MANY} + 600)))
    """
    done = run(textwrap.dedent(program), procs=1)
    assert (done.status, done.out) == (0, "True\n"), done


def test_growth_needs_many_small_items_in_a_short_time(runtime2: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(flow_edges, "_FAST_NS", 500_000)

    def due(items: int, seconds: float, value: Any = 1) -> bool:
        growth = Growth(Out(chan(1), Atomic(1), wide=chan(1)))
        return growth.due(items, growth._since + int(seconds * SECOND), value)

    assert due(4096, 2.0)
    assert not due(4095, 0.1)
    assert not due(4096, 2.1)
    assert not due(4096, 0.1, os.urandom(5000))
    assert not due(4096, 0.1, chan())
    assert due(4096, 0.1, Item(1)) and due(4096, 0.1, lambda x: x)
