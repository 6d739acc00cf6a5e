"""The stages of a flow: what each hands on, in which order, and what is recorded of it."""

import itertools
import time

import pytest
from places import place_fixture

from goproc import Flow, chan, flow, go, sleep, yield_now
from goproc._data import flow_worker
from goproc._data.flow_plan import FEED, LOOP, POOL, Edge, Plan


def inc(x):
    return x + 1


def even(x):
    return x % 2 == 0


def twice(x):
    yield x
    yield x


def pause(x):
    sleep(0.001 * (x % 3))
    return x


place = place_fixture(((0, "spread"), (2, "spread")))


def test_flow_without_stages_hands_on_its_source(place):
    assert list(flow(range(5))) == [0, 1, 2, 3, 4]
    assert list(flow([])) == []


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_map_hands_on_results_in_order(place, workers):
    assert list(flow(range(50)).map(pause, workers).map(inc, workers)) == list(range(1, 51))


def test_unordered_map_hands_on_every_result_once(place):
    assert sorted(flow(range(50)).map(pause, 3, ordered=False)) == list(range(50))


def test_unordered_map_hands_on_results_as_they_are_done(runtime2):
    gate = chan()

    def wait_for_gate(x):
        if x == 0:
            gate.recv()
        return x

    results = iter(flow(range(3)).map(wait_for_gate, 2, ordered=False))
    assert next(results) == 1
    gate.send(None)
    assert sorted(results) == [0, 2]


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_filter_hands_on_the_accepted_values(place, workers):
    assert list(flow(range(20)).map(inc, 2).filter(even, workers)) == list(range(2, 21, 2))
    assert list(flow(range(6)).filter(even, workers).map(inc)) == [1, 3, 5]


@pytest.mark.parametrize("workers", [1, 2])
def test_flat_map_hands_on_each_value(place, workers):
    assert list(flow(range(3)).flat_map(twice, workers)) == [0, 0, 1, 1, 2, 2]
    assert list(flow(range(4)).flat_map(range, workers)) == [0, 0, 1, 0, 1, 2]


def test_no_workers_call_in_the_process_of_the_consumer(place):
    seen = []
    numbers = flow(range(4)).each(seen.append, 0).map(inc, 0).filter(even, 0).flat_map(twice, 0).map(inc)
    assert list(numbers) == [3, 3, 5, 5]
    assert seen == [0, 1, 2, 3]
    assert [(s.name, s.in_, s.out) for s in numbers.stats()][:2] == [("append", 4, 4), ("inc", 4, 4)]
    assert list(flow(range(4)).map(inc, 2).each(seen.append, 0)) == [1, 2, 3, 4]
    assert seen[4:] == [1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError) as caught:
        list(flow([1, 0]).map(lambda x: 1 / x, 0))
    assert caught.value.__notes__ == ["in the stage '<lambda>' of the flow, item 0"]


def test_flat_map_hands_on_before_its_generator_has_ended(place):
    assert list(flow([0]).flat_map(itertools.count).take(3)) == [0, 1, 2]


def test_each_hands_on_its_items(place):
    seen = chan(10)
    assert list(flow(range(4)).each(seen.send, 2)) == [0, 1, 2, 3]
    assert sorted(seen.recv_many(10)) == [0, 1, 2, 3]


def test_stage_is_a_goroutine_with_two_channels(place):
    def sums(rx, tx):
        total = 0
        for value in rx:
            total += value
            tx.send(total)

    assert list(flow(range(5)).map(inc).stage(sums).map(inc)) == [2, 4, 7, 11, 16]


def test_stage_may_close_its_channel_and_may_share_it(place):
    def closing(rx, tx):
        with tx:
            tx.send_many(rx)

    def sharing(rx, tx):
        tx.send_many(rx)

    assert list(flow(range(5)).stage(closing)) == [0, 1, 2, 3, 4]
    assert sorted(flow(range(9)).stage(sharing, 3)) == list(range(9))


def test_stage_that_returns_early_ends_the_stages_above(place):
    def one(rx, tx):
        tx.send(rx.recv())

    assert list(flow(itertools.count()).map(inc).stage(one)) == [1]


def test_batch_hands_on_lists(place):
    assert list(flow(range(7)).batch(3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(flow(range(4)).map(inc, 2).batch(2).map(sum)) == [3, 7]


def test_batch_within_hands_on_a_short_batch_when_the_time_is_over(place):
    items = chan(10)
    batches = iter(flow(items).batch(100, within=0.02))
    items.send(1)
    items.send(2)
    got = next(batches)
    got += next(batches) if len(got) == 1 else []
    assert got == [1, 2]
    items.send(3)
    items.close()
    assert list(batches) == [[3]]


@pytest.mark.parametrize("within", [None, 30])
@pytest.mark.parametrize(
    "options", [{}, {"workers": 0}, {"timeout": 30}, {"workers": 2, "retries": 1}, {"on_error": "skip"}]
)
def test_a_batch_stays_as_it_was_handed_on(place, within, options):
    batches = flow(range(50)).batch(4, within)
    assert [len(batch) for batch in batches] == [4] * 12 + [2]
    for stage in (batches.map, batches.each):
        found = list(stage(list, **options))
        assert len(found) == 13 and list(itertools.chain(*found)) == list(range(50))
    assert list(batches.map(len, **options)) == [4] * 12 + [2]


def test_take_and_skip_count(place):
    assert list(flow(range(10)).take(3)) == [0, 1, 2]
    assert list(flow(range(10)).map(inc).take(3)) == [1, 2, 3]
    assert list(flow(range(10)).map(inc, 3).take(3)) == [1, 2, 3]
    assert list(flow(range(10)).map(inc).filter(even).take(2)) == [2, 4]
    assert list(flow(range(10)).flat_map(twice).take(3)) == [0, 0, 1]
    assert list(flow(range(10)).map(inc).take(5).take(3)) == [1, 2, 3]
    assert list(flow(range(20)).map(inc).take(9).skip(3).take(2)) == [4, 5]
    assert list(flow(range(5)).skip(3)) == [3, 4]
    assert list(flow(range(5)).map(inc).skip(3)) == [4, 5]
    assert list(flow(range(5)).map(inc, 2).skip(7)) == []
    assert list(flow(range(9)).skip(2).take(3).map(inc).skip(1)) == [4, 5]


def test_take_zero_calls_nothing(place):
    def fail(x):
        raise AssertionError

    assert list(flow(range(10)).map(fail).take(0)) == []
    drawn = []
    assert list(flow(draw(10, drawn)).take(0)) == []
    assert drawn == []


def draw(n, drawn):
    for i in range(n):
        drawn.append(i)
        yield i


def test_take_draws_no_more_than_it_hands_on(place):
    drawn = []
    assert list(flow(draw(100, drawn)).take(5).map(inc)) == [1, 2, 3, 4, 5]
    assert drawn == [0, 1, 2, 3, 4]


def test_take_stops_an_endless_source(place):
    drawn = []
    assert list(flow(draw(10**9, drawn)).map(inc, 2).take(5)) == [1, 2, 3, 4, 5]
    assert len(drawn) < 20


def test_throttle_keeps_the_rate(place):
    began = time.monotonic()
    assert list(flow(range(5)).throttle(100)) == [0, 1, 2, 3, 4]
    assert list(flow(range(5)).map(inc, 2).throttle(100)) == [1, 2, 3, 4, 5]
    assert time.monotonic() - began >= 0.08


def test_tee_gives_every_item_to_all(place):
    one, other, third = flow(range(5)).map(inc).tee(3)
    got = sorted(one.merge(other.map(inc), third.filter(even)))
    assert got == sorted([1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 2, 4])


def test_branches_of_a_tee_are_consumed_by_two_goroutines(place):
    one, other = flow(range(5)).tee()
    results = [go.local(list, one.map(inc)), go.local(list, other)]
    assert [g.result() for g in results] == [[1, 2, 3, 4, 5], [0, 1, 2, 3, 4]]


def add_one(rx, tx):
    for x in rx:
        tx.send(x + 1)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_tee_takes_what_a_stage_sends(place, n, workers):
    branches = flow(range(50)).stage(add_one, workers).tee(n)
    results = [go.local(sorted, branch) for branch in branches]
    assert [g.result() for g in results] == [list(range(1, 51))] * n
    assert [(s.name, s.in_, s.out) for s in branches[0].stats()] == [("add_one", 50, 50), ("tee", 50, 50)]


def test_tee_behind_a_stage_ends_with_its_branches(place):
    one, other = flow(itertools.count()).stage(add_one).tee()
    left = go.local(list, one.take(3))
    assert list(other.take(5)) == [1, 2, 3, 4, 5] and left.result() == [1, 2, 3]


def test_branch_that_is_left_does_not_hold_up_the_others(place):
    one, other = flow(range(50)).tee()

    def first():
        for value in other:
            return value

    left = go.local(first)
    assert list(one) == list(range(50))
    assert left.result() == 0


def test_branch_is_consumed_once(place):
    (only,) = flow(range(3)).tee(1)
    assert list(only) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="once"):
        list(only)


def test_merge_hands_on_all_items(place):
    flows = flow([1]).map(inc), flow([10]), flow([])
    assert sorted(flows[0].merge(*flows[1:]).map(inc)) == [3, 11]
    assert sorted(flows[0].merge(*flows[1:])) == [2, 10]
    assert sorted(flows[0].merge(*flows[1:]).skip(1).map(inc)) in ([3], [11])


def test_flow_reads_a_channel(place):
    items = chan(3)

    def send():
        with items:
            items.send_many(range(6))

    go(send)
    assert list(flow(items).map(inc)) == [1, 2, 3, 4, 5, 6]


def test_flow_over_a_channel_ends_although_the_channel_does_not(place):
    items = chan(10)
    items.send_many(range(5))
    assert list(flow(items.rx).map(inc).take(3)) == [1, 2, 3]
    assert not items.closed


def test_flow_is_a_description(place):
    base = flow([1, 2]).map(inc)
    assert list(base) == list(base) == [2, 3]
    assert list(base.map(inc)) == [3, 4]
    assert isinstance(base, Flow)
    assert repr(base.batch(2)) == "<flow inc > batch>"


def test_nothing_runs_before_the_first_next(place):
    drawn = []
    results = iter(flow(draw(3, drawn)).map(inc))
    sleep(0.01)  # nothing to wait on: that nothing happens is the point
    assert drawn == []
    assert list(results) == [1, 2, 3]


# -- records ---------------------------------------------------------------------------------------------------------


def test_run_returns_a_record_for_each_stage_in_order(place):
    stats = flow(range(20)).map(inc, 2).filter(even).flat_map(twice).batch(8).each(len).run()
    assert [s.name for s in stats] == ["inc", "even", "twice", "batch", "len"]
    assert [(s.in_, s.out) for s in stats] == [(20, 20), (20, 10), (10, 20), (20, 3), (3, 3)]
    assert all(s.failed == s.queued == s.busy == 0 and s.seconds >= 0 for s in stats)
    assert stats[0]["in"] == stats[0].in_ == 20
    assert stats[0]["blocked by"] == stats[0].blocked_by


@pytest.mark.parametrize("counting", ["take", "skip"])
def test_counting_stages_have_records(place, counting):
    stats = getattr(flow(range(10)).map(inc), counting)(4).run()
    assert [s.name for s in stats] == ["inc", counting]
    assert stats[1].out == (4 if counting == "take" else 6)


def test_records_of_options_count_failures(runtime2):
    def odd_only(x):
        if even(x):
            raise ValueError(x)
        return x

    stats = flow(range(9)).map(odd_only, 2, on_error="skip").map(inc).run()
    assert [(s.name, s.in_, s.out, s.failed) for s in stats] == [("odd_only", 9, 4, 5), ("inc", 4, 4, 0)]


@pytest.mark.parametrize(
    "before", [lambda f: f, lambda f: f.skip(0), lambda f: f.map(inc), lambda f: f.map(inc, threads=2)]
)
def test_record_of_a_tee_counts_what_each_branch_gets(place, before):
    (alone,) = before(flow(range(10))).tee(1)
    *_, tee, last = alone.map(inc).run()
    assert (tee.name, tee.in_, tee.out, last.in_) == ("tee", 10, 10, 10)


@pytest.mark.parametrize("stages", [lambda f: f, lambda f: f.map(abs), lambda f: f.map(abs, timeout=60)])
@pytest.mark.parametrize("n", [0, 1])
def test_take_behind_a_tee_of_one_branch_ends_an_endless_source(place, stages, n):
    (alone,) = stages(flow(itertools.count())).tee(1)
    assert list(stages(alone).take(n)) == [0][:n]


def test_records_of_tee_and_merge(place):
    one, other = flow(range(3)).map(inc).tee()
    stats = one.map(inc).merge(other).run()
    assert [s.name for s in stats] == ["inc", "tee", "inc", "merge"]
    assert [s.out for s in stats] == [3, 3, 3, 6]


def test_no_call_is_busy_in_a_flow_that_is_over(place):
    gate = chan()

    def wait(x):
        if x:
            gate.recv()
        return x

    stats = flow(range(9)).map(wait, 2).take(1).run()
    assert [(s.name, s.out, s.queued, s.busy) for s in stats][1] == ("take", 1, 0, 0)
    assert (stats[0].queued, stats[0].busy) == (0, 0)


AFTER_A_STAGE = {
    "map": lambda f: f.map(inc, 2),
    "pool": lambda f: f.map(inc, 2, timeout=30),
    "in this process": lambda f: f.map(inc, 0),
    "batch": lambda f: f.batch(1, within=30),
    "merge": lambda f: f.merge(flow(range(3)).map(inc)),
    "merge and pool": lambda f: f.merge(flow(range(3)).map(inc)).map(inc, timeout=30),
}


@pytest.mark.parametrize("after", AFTER_A_STAGE)
def test_record_of_a_stage_counts_what_it_sends(place, after):
    stats = AFTER_A_STAGE[after](flow(range(5)).stage(add_one)).run()
    assert (stats[0].name, stats[0].in_, stats[0].out) == ("add_one", 5, 5)
    if "merge" in after:
        assert [(s.in_, s.out) for s in stats if s.name == "merge"] == [(8, 8)]


def test_record_of_a_stage_behind_a_tee_counts_what_it_receives(place):
    one, other = flow(range(5)).map(inc).tee()
    read = go.local(list, one)
    stats = other.stage(add_one).run()
    assert [(s.name, s.in_, s.out) for s in stats] == [("inc", 5, 5), ("tee", 5, 5), ("add_one", 5, 5)]
    assert read.result() == [1, 2, 3, 4, 5]


def test_stats_are_there_while_it_runs(place):
    numbers = flow(range(10)).map(inc)
    assert numbers.stats() == []
    results = iter(numbers)
    next(results)
    assert numbers.stats()[0].name == "inc"
    assert numbers.stats()[0].in_ >= 1
    results.close()
    assert numbers.stats()[0].queued == 0


class Clock:
    now = 0  # ns


def slow(x):
    Clock.now += 1
    yield_now()  # so that its neighbours come to wait for it
    return x


def test_blocked_by_names_the_slow_neighbour(runtime0, monkeypatch):
    """By a clock that goes on only in the slow calls."""
    monkeypatch.setattr(flow_worker, "monotonic_ns", lambda: Clock.now)
    stats = flow(range(1000)).map(inc).map(slow).map(inc).run()
    assert [s.blocked_by for s in stats] == ["slow", None, "slow"]


@pytest.mark.parametrize("workers", [1, 2])
def test_time_of_a_flat_map_is_that_in_which_it_makes_values(runtime0, monkeypatch, workers):
    def twice(x):
        for _ in range(2):
            Clock.now += 1
            yield x

    monkeypatch.setattr(flow_worker, "monotonic_ns", lambda: Clock.now)
    expand, _ = flow(range(1000)).flat_map(twice, workers).map(inc).run()
    assert (expand.seconds, expand.blocked_by) == (2000 / 1e9, None)


@pytest.mark.parametrize("workers", [1, 2])
def test_flat_map_that_waits_for_those_who_take_its_values_is_blocked_by_them(runtime0, monkeypatch, workers):
    monkeypatch.setattr(flow_worker, "monotonic_ns", lambda: Clock.now)
    stats = flow(range(10)).flat_map(lambda x: range(100), workers).map(slow).run()
    assert [s.blocked_by for s in stats] == ["slow", None]


# -- what runs where -------------------------------------------------------------------------------------------------


def kinds(described):
    final = Edge(0, "consumer")
    return [(node.kind, len(node.stages)) for node in Plan(described, [final], final).nodes]


def test_stages_that_need_no_worker_share_one(runtime0):
    assert kinds(flow([]).map(inc).filter(even).skip(1).take(2)) == [(FEED, 0), (LOOP, 4)]
    assert kinds(flow([]).map(inc, 2).filter(even).throttle(5)) == [(FEED, 0), (LOOP, 3)]
    assert kinds(flow([]).skip(1).take(2).batch(2).map(inc)) == [(FEED, 3), (LOOP, 1)]


def test_stages_that_count_do_not_share_several_workers(runtime0):
    assert kinds(flow([]).map(inc, 2).take(2)) == [(FEED, 0), (LOOP, 1), (FEED, 1)]
    assert kinds(flow([]).map(inc).filter(even, 2)) == [(FEED, 0), (LOOP, 1), (LOOP, 1)]


def test_a_stage_that_survives_deaths_has_neighbours_that_do(runtime0):
    assert kinds(flow([]).map(inc).map(inc, retries=1)) == [(FEED, 0), (POOL, 1), (POOL, 1)]
    assert kinds(flow([]).map(inc).map(inc, timeout=1)) == [(FEED, 0), (LOOP, 1), (POOL, 1)]
