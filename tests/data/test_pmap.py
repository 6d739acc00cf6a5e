"""pmap: laziness, order, bounds, chunks, and what belongs to a map: init, exit, key, limit, stats."""

import operator
import sys
import threading
import time
from itertools import count

import pytest
from peek import until
from programs import eventually

from goproc import Atomic, Failure, Limiter, PMap, chan, flow, go, pmap, proc, sleep, worker_state
from goproc._data.engine import Engine
from goproc._data.tally import Tally
from goproc._sched import scheduler

pytestmark = pytest.mark.usefixtures("runtime2")


def square(x):
    return x * x


class Source:
    """Counts what is drawn from it, and how often it is asked after its end."""

    def __init__(self, n):
        self.n = n
        self.drawn = 0
        self.ends = 0
        self.drawers = set()

    def __iter__(self):
        return self

    def __next__(self):
        self.drawers.add((threading.get_ident(), scheduler.current))
        if self.drawn == self.n:
            self.ends += 1
            raise StopIteration
        self.drawn += 1
        return self.drawn - 1


def test_results_come_in_the_order_of_the_items():
    assert list(pmap(square, range(1000))) == [x * x for x in range(1000)]
    assert pmap(square, range(5)).results() == [0, 1, 4, 9, 16]


def test_an_empty_iterable_gives_nothing():
    assert list(pmap(square, [])) == []


def test_several_iterables_are_taken_together_to_the_end_of_the_shortest():
    assert list(pmap(operator.add, [1, 2, 3], (10, 20))) == [11, 22]


def test_a_pmap_is_an_iterator():
    m = pmap(square, range(3))
    assert iter(m) is m and isinstance(m, PMap)
    assert [next(m), next(m), next(m)] == [0, 1, 4]
    with pytest.raises(StopIteration):
        next(m)
    with pytest.raises(StopIteration):
        next(m)


def test_nothing_is_drawn_before_the_first_next():
    source = Source(10)
    m = pmap(square, source)
    assert source.drawn == 0
    next(m)
    assert source.drawn > 0
    m.close()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("ahead, chunk", [(2, 1), (5, 2), (7, 20), (64, "auto")])
def test_drawn_minus_yielded_is_at_most_ahead(ordered, ahead, chunk):
    source = Source(300)
    bound = []

    def watched():
        for item in source:
            bound.append(source.drawn - yielded)
            yield item

    yielded = 0
    for _ in pmap(square, watched(), ahead=ahead, chunk=chunk, ordered=ordered):
        yielded += 1
    assert yielded == 300
    assert max(bound) <= ahead


@pytest.mark.parametrize("ahead", [1, 3, 20])
def test_as_many_items_are_drawn_as_ahead_allows(ahead):
    source, opened = Source(300), Atomic(0)

    def f(x):
        until(lambda: opened.load() > x)

    m = pmap(f, source, ahead=ahead, chunk=1)
    for yielded in range(15):
        # No result is ready, so next() draws as much as it may, however long that takes.
        waiting = go.local(next, m)
        until(lambda expected=yielded + ahead: source.drawn >= expected)
        assert source.drawn - yielded == ahead
        opened.add(1)
        waiting.result(20)
    opened.store(300)
    m.close()


def test_an_endless_iterable_is_drawn_as_results_are_asked_for():
    with pmap(square, count()) as results:
        assert [next(results) for _ in range(100)] == [x * x for x in range(100)]


def test_items_are_drawn_where_next_is_called_and_the_end_is_asked_for_once():
    source = Source(50)
    assert len(list(pmap(square, source))) == 50
    assert source.drawers == {(threading.get_ident(), scheduler.current)}
    assert source.ends == 1


def test_iterables_are_let_go_at_the_end():
    import weakref

    source = Source(5)
    gone = weakref.ref(source)
    m = pmap(square, source)
    del source
    list(m)
    assert gone() is None


def test_an_exception_of_the_iterable_comes_after_the_results_before_it():
    def items():
        yield 1
        yield 2
        raise LookupError("the source is gone")

    m = pmap(square, items())
    assert [next(m), next(m)] == [1, 4]
    with pytest.raises(LookupError, match="the source is gone"):
        next(m)
    assert list(m) == []


def test_unordered_yields_results_as_they_are_done():
    gate = chan()

    def slow_first(x):
        if x == 0:
            gate.recv_ok()
        return x

    m = pmap(slow_first, range(8), ordered=False)
    found = [next(m)]
    assert found[0] != 0
    gate.close()
    assert sorted([*found, *m]) == list(range(8))


def test_a_slow_source_does_not_hold_up_the_first_result():
    release = threading.Event()

    def items():
        yield 1
        yield 2
        assert release.wait(30)
        yield 3

    m = pmap(square, items(), chunk=1)
    threading.Timer(1.0, release.set).start()
    assert list(m) == [1, 4, 9]


def test_a_slow_call_does_not_hold_back_the_results_before_it_in_its_chunk():
    started = chan(1)
    release = chan()

    def f(x):
        if x == 40:
            started.send(None)
            release.recv()
        return x

    m = pmap(f, range(41), chunk=41, workers=1)
    found = [next(m) for _ in range(40)]
    started.recv()
    release.send(None)
    assert [*found, *m] == list(range(41))


def meets():
    """Return a function that ends when each of the two workers has called it."""
    came = Atomic(0)

    def meet():
        came.or_(1 << proc())
        until(lambda: came.load() == 0b110)

    return meet


def test_calls_run_on_workers_and_all_of_them():
    meet = meets()

    def where(x):
        meet()
        return proc()

    assert set(pmap(where, range(20))) == {1, 2}
    assert len(set(pmap(lambda x: proc(), range(10), workers=1))) == 1


def test_more_workers_than_processes_share_them():
    def meet(x):
        arrived.add(1)
        until(lambda: arrived.load() == 6)
        return x

    from goproc import Atomic

    arrived = Atomic(0)
    assert list(pmap(meet, range(6), workers=6)) == list(range(6))


def test_threads_run_calls_that_block_in_the_system_at_once():
    def wait(x):
        barrier.wait(30)
        return proc(), threading.get_ident()

    from goproc import Barrier

    barrier = Barrier(8)
    places = list(pmap(wait, range(8), threads=4))
    assert {p for p, _ in places} == {1, 2}
    assert len(set(places)) == 8


def test_so_many_calls_run_at_once_on_fewer_processes(runtime2):
    from goproc import Barrier

    barrier = Barrier(6)
    assert list(pmap(lambda _: barrier.wait(30) >= 0, range(6), workers=6, threads=2)) == [True] * 6


def test_init_runs_once_in_each_process_and_exit_gets_its_state():
    begun, ended = chan(8), chan(8)

    def init():
        begun.send(proc())
        return {"proc": proc()}

    def leave(state):
        ended.send(state["proc"])

    meet = meets()

    def f(x):
        meet()
        return worker_state()["proc"] == proc()

    assert all(pmap(f, range(20), init=init, exit=leave))
    assert sorted(begun.recv_many(8)) == sorted(ended.recv_many(8)) == [1, 2]


def test_exit_runs_after_close_and_after_a_failure():
    ended = chan(8)

    def fail(x):
        if x == 3:
            raise ValueError(x)
        return x

    m = pmap(square, count(), init=proc, exit=ended.send, workers=1)
    next(m)
    m.close()
    assert ended.try_recv()[1]
    with pytest.raises(ValueError):
        list(pmap(fail, range(10), init=proc, exit=ended.send, workers=1))
    assert ended.try_recv()[1]


def test_the_exception_of_init_is_raised_whatever_on_error_says():
    def init():
        raise OSError("no database")

    for on_error in ("raise", "skip", "return"):
        with pytest.raises(OSError, match="no database"):
            list(pmap(square, range(3), init=init, on_error=on_error))


def test_the_exception_of_exit_is_raised_at_the_end():
    def leave(state):
        raise OSError("cannot save")

    m = pmap(square, range(3), exit=leave)
    assert [next(m), next(m), next(m)] == [0, 1, 4]
    with pytest.raises(OSError, match="cannot save"):
        next(m)


def test_exception_of_an_option_that_is_no_error_names_the_option():
    with pytest.raises(RuntimeError, match=r"init= of the map raised SystemExit: no database"):
        list(pmap(square, range(3), init=lambda: sys.exit("no database")))
    with pytest.raises(RuntimeError, match=r"exit= of the map raised SystemExit: cannot save"):
        list(pmap(square, range(3), exit=lambda state: sys.exit("cannot save")))


def test_worker_state_is_for_calls_of_the_map_only():
    with pytest.raises(RuntimeError, match=r"worker_state\(\)"):
        worker_state()
    with pytest.raises(RuntimeError, match=r"worker_state\(\)"):
        list(pmap(lambda x: worker_state(), range(2)))


def test_equal_keys_go_to_one_worker_in_order():
    seen = list(pmap(lambda r: (r, proc()), [(i % 5, i) for i in range(100)], key=lambda r: r[0]))
    places = {}
    for (key, _), where in seen:
        assert places.setdefault(key, where) == where


def test_a_retried_item_holds_up_its_own_key_only():
    order = chan(100)
    failed = chan(1)

    def f(item):
        key, n = item
        if (key, n) == ("a", 0) and failed.try_send(None):
            raise OSError("once")
        order.send(item)
        return item

    items = [(key, n) for n in range(4) for key in "ab"]
    found = list(pmap(f, items, key=lambda i: i[0], retries=1, retry_on=OSError, delay=0.3, workers=1))
    assert found == items
    ran = order.recv_many(100)
    assert [n for key, n in ran if key == "a"] == [0, 1, 2, 3]
    assert ran[:4] == [("b", 0), ("b", 1), ("b", 2), ("b", 3)]


def test_a_key_that_is_not_hashable_is_named():
    with pytest.raises(TypeError, match="key= returned 'list' for item 0"):
        list(pmap(square, range(3), key=lambda x: [x]))


def test_a_key_that_is_not_equal_to_itself_is_refused():
    with pytest.raises(ValueError, match="key= returned nan for item 1, which is not equal to itself"):
        list(pmap(square, range(3), key=lambda x: float("nan") if x == 1 else x, chunk=3))


def test_a_key_whose_comparison_has_no_answer_is_a_key():
    class Unknown:
        def __eq__(self, other):
            return self

        __ne__ = __eq__

        def __bool__(self):
            raise TypeError("the answer is not known")

        def __hash__(self):
            return 1

    unknown = Unknown()
    assert list(pmap(square, range(3), key=lambda x: unknown)) == [0, 1, 4]


def test_a_limiter_is_asked_before_each_call():
    limiter = Limiter(20.0, burst=1)
    began = time.monotonic()
    list(pmap(square, range(9), limit=limiter))
    assert time.monotonic() - began >= 8 / 20.0 - 0.01


def test_stats_add_up():
    gate = chan()

    def f(x):
        if x >= 2:
            gate.recv()
        return x

    m = pmap(f, range(10), ahead=6, chunk=1)
    assert [next(m), next(m)] == [0, 1]
    assert eventually(lambda: m.stats().running == 2)
    stats = m.stats()
    assert (stats.done, stats.failed, stats.running, stats.retried) == (2, 0, 2, 0)
    assert stats.items == stats.done + stats.failed + stats.running + stats.waiting
    gate.close()
    with pytest.raises(Exception, match="closed"):
        list(m)


def test_stats_count_finished_items_between_calls_of_next():
    m = pmap(square, range(6), ahead=6, chunk=1)
    next(m)
    assert eventually(lambda: m.stats().done == 6)
    assert list(m) == [1, 4, 9, 16, 25]
    stats = m.stats()
    assert (stats.items, stats.done, stats.waiting) == (6, 6, 0)
    assert set(stats.procs) <= {1, 2} and all(s.work >= 0 for s in stats.procs.values())
    assert {slow.index for slow in stats.slowest} == set(range(6))


def test_the_slowest_items_are_listed_once_each():
    def fail_at_first(x):
        if calls[x].add(1) <= 2:
            raise ValueError(x)
        return x

    calls = [Atomic(0) for _ in range(4)]
    m = pmap(fail_at_first, range(4), retries=2, retry_on=ValueError)
    assert list(m) == [0, 1, 2, 3]
    assert m.stats().retried == 8
    assert sorted(slow.index for slow in m.stats().slowest) == [0, 1, 2, 3]


def test_the_longest_call_of_an_item_counts():
    tally = Tally()
    for index in range(20):
        tally.note_slow(index, 1.0 + index)
    for index in (15, 19, 3):
        tally.note_slow(index, 2.0)  # another attempt
    tally.note_slow(12, 100.0)
    slowest = tally.stats(0).slowest
    assert [(slow.index, slow.seconds) for slow in slowest[:3]] == [(12, 100.0), (19, 20.0), (18, 19.0)]
    assert sorted(slow.index for slow in slowest) == list(range(10, 20))


def start_map():
    return pmap(abs, range(80), workers=1)


def start_flow():
    return iter(flow([0, 40]).flat_map(lambda x: range(x, x + 40), timeout=60))


def ask(results, over):
    """Read the counts again and again, each time after a moment in which messages come."""
    while not over:
        until = time.perf_counter() + 0.0003
        while time.perf_counter() < until:
            pass
        results.stats()
        sleep(0)


@pytest.mark.parametrize("begin", [start_map, start_flow])
def test_stats_take_no_message_before_one_that_next_has_as_good_as_taken(begin):
    for _ in range(30):
        results, over = begin(), []
        asking = go.local(ask, results, over)
        try:
            assert list(results) == list(range(80))
        finally:
            over.append(True)
            asking.result()


def test_stats_of_failures_and_retries():
    def fail(x):
        if x % 2:
            raise ValueError(x)
        return x

    m = pmap(fail, range(6), retries=1, retry_on=ValueError, on_error="skip")
    assert list(m) == [0, 2, 4]
    assert m.stats()[:6] == (6, 3, 3, 0, 0, 3)


def test_progress_counts_every_item():
    from tqdm import tqdm

    counts = []

    class Bar(tqdm):
        def update(self, n=1):
            counts.append(n)

        def display(self, *args, **kwargs):
            pass

    def fail(x):
        if x == 3:
            raise ValueError(x)

    list(pmap(fail, range(20), progress=Bar, on_error="skip"))
    assert sum(counts) == 20


def test_a_closed_map_yields_nothing_more():
    m = pmap(square, count())
    next(m)
    m.close()
    m.close()
    assert list(m) == []
    with pmap(square, count()) as results:
        next(results)
    assert list(results) == []


def map_whose_calls_wait():
    """Return a map of which two calls wait for ever, and the channel in which they say that they have ended."""
    ended = chan(4)

    def wait(x):
        if x == 0:
            return x
        try:
            chan().recv()
        finally:
            ended.send(x)

    m = pmap(wait, range(3), chunk=1)
    next(m)
    assert eventually(lambda: m.stats().running == 2)
    return m, ended


def test_close_ends_calls_that_block():
    m, ended = map_whose_calls_wait()
    m.close()
    assert len(ended) == 2


def test_a_map_that_is_dropped_ends_its_calls():
    m, ended = map_whose_calls_wait()
    del m
    assert sorted([ended.recv(timeout=30), ended.recv(timeout=30)]) == [1, 2]


def test_two_callers_at_once_are_refused():
    gate = chan()
    m = pmap(lambda x: gate.recv(), range(2))
    errors = chan(1)

    def second():
        try:
            next(m)
        except RuntimeError as error:
            errors.send(str(error))
            gate.close()

    def begin_when_waiting():
        assert eventually(lambda: m._running)
        second()

    other = threading.Thread(target=begin_when_waiting)
    other.start()
    with pytest.raises(Exception, match="closed"):
        next(m)
    other.join()
    assert "another goroutine" in errors.recv()


def test_a_map_cannot_be_sent():
    with pytest.raises(TypeError, match="cannot be sent"):
        pmap(square, range(3)).__reduce__()


def test_a_function_keeps_its_cache_for_the_life_of_the_map():
    cache = {}

    def f(x):
        cache[x] = x
        return len(cache)

    assert max(pmap(f, range(20), workers=1)) == 20
    assert cache == {}


def test_a_channel_is_an_iterable():
    ch = chan(10)
    ch.send_many(range(10))
    ch.close()
    assert list(pmap(square, ch)) == [x * x for x in range(10)]


def test_results_do_not_wait_for_the_next_item_of_a_channel():
    ch = chan()
    sender = go.local(ch.send, 0)
    found = []
    for x in pmap(lambda x: x, ch):  # the loop itself sends the next item
        found.append(x)
        sender.join()
        if x == 5:
            ch.close()
        else:
            sender = go.local(ch.send, x + 1)
    assert found == [0, 1, 2, 3, 4, 5]


def test_pmap_in_a_goroutine_and_in_a_thread():
    assert go(lambda: list(pmap(square, range(20)))).result() == [x * x for x in range(20)]
    found = []
    thread = threading.Thread(target=lambda: found.extend(pmap(square, range(20))))
    thread.start()
    until(lambda: not thread.is_alive())
    assert found == [x * x for x in range(20)]


def test_contextvars_of_the_caller_are_those_of_the_calls():
    import contextvars

    var = contextvars.ContextVar("var", default=0)
    var.set(5)
    assert list(pmap(lambda x: var.get() + x, range(3))) == [5, 6, 7]


def test_items_that_cannot_be_sent_are_failures():
    lock = threading.Lock()
    found = list(pmap(lambda x: 1, [1, lock, 3], on_error="return"))
    assert found[0] == found[2] == 1
    assert isinstance(found[1], Failure) and "lock" in str(found[1].error)
    assert (found[1].item, found[1].index, found[1].proc) == (lock, 1, 0)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_message_that_stats_takes_before_next_waits_is_read(runtime2, monkeypatch, ordered):
    wait = Engine.wait

    def later(engine: Engine) -> None:
        until(lambda: len(engine.door))
        results.stats()
        wait(engine)

    monkeypatch.setattr(Engine, "wait", later)
    results = pmap(square, [1, 2, 3], chunk=1, ahead=1, workers=1, ordered=ordered)
    assert go.local(list, results).result(timeout=30) == [1, 4, 9]
