"""The scheduler: order, fairness, stealing, timers, and very many goroutines."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest
from peek import until, until_blocked, until_waiting
from programs import eventually

import goproc
from goproc import Atomic, WaitGroup, chan, go, sleep, yield_now

# -- order ------------------------------------------------------------------------------------------------------------


def test_spawn_order(runtime0):
    """The one spawned last runs first, the others in their order, as in Go."""
    for n in (1, 2, 5, 20):
        order = chan(n)
        for i in range(n):
            go(lambda c, i: c.send(i), order, i)
        assert [order.recv() for _ in range(n)] == [n - 1, *range(n - 1)]


def test_local_goroutines_run_in_order(runtime0):
    order = []
    gs = [go.local(order.append, i) for i in range(20)]
    for g in gs:
        g.join(10)
    assert order == list(range(20))


def test_pinned_goroutines_run_in_order(runtime2):
    order = chan(20)
    gs = [go.on(1)(lambda c, i: c.send(i), order, i) for i in range(20)]
    for g in gs:
        g.join(10)
    assert order.recv_many(20) == list(range(20))


def test_nothing_runs_before_the_creator_blocks(runtime0):
    ran = []
    go.local(ran.append, 1)
    g = go(int)
    assert ran == [] and g.state == "queued"
    g.join(10)
    assert ran == [1]


def test_yield_gives_each_a_turn(runtime0):
    order = []

    def f(name):
        for i in range(4):
            order.append((i, name))
            yield_now()

    gs = [go.local(f, name) for name in "abc"]
    for g in gs:
        g.join(10)
    assert order == [(i, name) for i in range(4) for name in "abc"]


# -- fairness ---------------------------------------------------------------------------------------------------------


def endless(stop, kind):
    """A loop of operations that never block; only other goroutines of its process can end it."""
    c, a, wg = chan(1), Atomic(0), WaitGroup()
    n = 0
    while n < 20_000_000:
        n += 1
        if kind == "buffer":
            c.send(n)
            c.recv()
        elif kind == "try":
            c.try_recv()
            c.try_send(n)
        elif kind == "poll":
            c.try_recv()
            while len(c):
                c.recv()
        elif kind == "load":
            a.load()
        elif kind == "cas":
            a.cas(1, 2)
        elif kind == "add":
            a.add(1)
        elif kind == "store":
            a.store(1)
        elif kind == "group":
            wg.add(1)
            wg.done()
        elif kind == "yield":
            yield_now()
        elif kind == "closed":
            if stop.closed:
                return True
            continue
        elif kind == "len":
            len(c)
        if n % 64 == 0 and stop.closed:
            return True
    return False


KINDS = ["buffer", "try", "poll", "load", "cas", "add", "store", "group", "yield", "closed", "len"]


@pytest.mark.parametrize("kind", KINDS)
def test_hot_loop_lets_others_run(runtime0, kind):
    """Non-blocking operations count: after some hundreds of them others of the process have their turn."""
    stop = chan()
    hog = go.local(endless, stop, kind)
    stopper = go.local(stop.close)
    assert hog.result(50) is True
    stopper.join(10)


@pytest.mark.parametrize("kind", ["buffer", "load", "yield"])
def test_hot_loop_lets_unstarted_goroutines_start(runtime0, kind):
    stop = chan()
    hog = go.local(endless, stop, kind)
    yield_now()
    go(lambda c: c.close(), stop)
    assert hog.result(50) is True


@pytest.mark.parametrize("kind", ["buffer", "yield"])
def test_hot_loop_lets_timers_expire(runtime0, kind):
    stop = chan()

    def later():
        sleep(0.005)
        stop.close()

    gs = [go.local(endless, stop, kind), go.local(later)]
    assert gs[0].result(50) is True
    gs[1].join(10)


@pytest.mark.parametrize("kind", ["buffer", "yield"])
def test_hot_loop_lets_messages_of_other_processes_in(runtime2, kind):
    stop, news = chan(), chan()

    def wait():
        news.recv()
        stop.close()

    gs = [go.local(wait), go.local(endless, stop, kind)]
    until_waiting(news, receivers=1)
    go.on(1)(lambda c: c.send(1), news)
    assert gs[1].result(50) is True
    gs[0].join(10)


def test_E03_polling_with_yield_makes_progress(runtime0):
    c, ack = chan(), chan()

    def poll():
        while not c.try_recv()[1]:
            yield_now()
        ack.send(1)

    g = go.local(poll)
    sleep(0.005)  # it polls meanwhile
    c.send(1)
    assert ack.recv(timeout=10) == 1
    g.join(10)


def test_E05_senders_do_not_starve_a_timer(runtime0):
    c, stop = chan(), chan()

    def send():
        while not stop.closed:
            try:
                c.send(1, timeout=0.05)
            except TimeoutError:
                pass

    gs = [go.local(send) for _ in range(2)]
    done = go.local(lambda: sleep(0.02) or "timer")
    while done.state != "done":
        c.recv()
    stop.close()
    for g in gs:
        g.result(10)


def test_E23_ping_pong_does_not_starve_the_unstarted(runtime0):
    a, b, stop = chan(1), chan(1), chan()

    def ping():
        while not stop.closed:
            a.send(1)
            b.recv()
        a.close()

    def pong():
        for _ in a:
            b.send(1)

    gs = [go.local(ping), go.local(pong)]
    sleep(0.002)  # they play meanwhile
    go(lambda c: c.close(), stop)
    for g in gs:
        g.result(20)


# -- stealing ---------------------------------------------------------------------------------------------------------


def spin(n=2000):
    return sum(i * i for i in range(n))


def test_many_tasks_run_on_more_than_one_process(runtime4):
    def task(first, second):
        pid = os.getpid()
        if not first.cas(0, pid) and first.load() != pid:
            second.store(pid)
        while not second.load():  # until another process has begun one
            spin()
        return pid

    first, second = Atomic(0), Atomic(0)
    gs = [go(task, first, second) for _ in range(1000)]
    pids = [g.result(50) for g in gs]
    from goproc.shm import _core

    assert len(set(pids)) > 1 and set(pids) <= set(_core.pids())


def test_idle_process_takes_work_from_a_busy_one(runtime2):
    """Main neither blocks nor yields: somebody else must run what it has queued."""
    g = go(goproc.proc)
    assert eventually(lambda: g.state == "done", 30), "nobody took it"
    assert g.result() == 1


def test_each_of_many_is_run_exactly_once(runtime4):
    hits = [Atomic(0) for _ in range(50)]

    def task(hits, i):
        hits[i].add(1)

    wg = WaitGroup()
    for i in range(1000):
        wg.go(task, hits, i % 50)
    wg.wait(timeout=50)
    assert [h.load() for h in hits] == [20] * 50


def test_stealing_from_workers(runtime4):
    """All work is created in one worker, until another has helped."""

    def produce():
        def task():
            sum(i * i for i in range(20_000))
            return goproc.proc()

        seen = set()
        while seen <= {1}:
            seen.update(g.result() for g in [go(task) for _ in range(200)])
        return seen

    assert len(go.on(1)(produce).result(50)) > 1


def test_pinned_goroutines_are_not_taken(runtime4):
    def where():
        sum(i for i in range(2000))
        return goproc.proc()

    gs = [go.on(2)(where) for _ in range(300)]
    assert {g.result(50) for g in gs} == {2}


def test_started_goroutines_stay(runtime4):
    def wander():
        seen = set()
        for _ in range(20):
            seen.add(os.getpid())
            yield_now()
            sleep(0.0001)
        return len(seen)

    assert {g.result(50) for g in [go(wander) for _ in range(40)]} == {1}


def test_blocked_process_does_not_hold_up_the_tasks_in_its_queue(runtime2):
    """E15: a blocking C call in proc 1; unstarted goroutines it created are taken by the host."""

    def f(started, results):
        for i in range(10):
            go(lambda c, i: c.send(i), results, i)
        started.send(1)
        __import__("time").sleep(1)  # the length of the call: far longer than the others need

    started, results = chan(1), chan(10)
    g = go.on(1)(f, started, results)
    started.recv(timeout=10)
    assert sorted(results.recv(timeout=30) for _ in range(10)) == list(range(10))
    g.join(30)


# -- timers -----------------------------------------------------------------------------------------------------------


def test_sleep_lasts_at_least_as_long(runtime2):
    def f():

        start = time.monotonic()
        sleep(0.02)
        return time.monotonic() - start

    assert all(go.on(p)(f).result(20) >= 0.02 for p in (0, 1))


@pytest.mark.parametrize("seconds", [0, -1, 0.0, float("-inf")])
def test_sleep_of_nothing(runtime0, seconds):
    sleep(seconds)
    go.local(sleep, seconds).join(10)


def test_sleep_of_nonsense(runtime0):
    for bad in ("1", None, [], 1j):
        with pytest.raises(TypeError):
            sleep(bad)
    with pytest.raises(ValueError):
        sleep(float("nan"))


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 10**9])
def test_sleep_for_ever(runtime0, seconds):
    g = go.local(sleep, seconds)
    until_blocked(g)
    assert g.cancel()
    assert isinstance(g.exception(10), goproc.Cancelled)


def test_sleepers_wake_in_order(runtime0):
    def sleeps(i, begun, order):
        begun.append(time.monotonic())
        sleep(0.01 * i)
        order.append(i)

    spread = 1.0
    while spread > 0.01:  # else one that began late may be due after the others
        begun, order = [], []
        gs = [go.local(sleeps, i, begun, order) for i in (3, 1, 2, 0)]
        go.local(lambda begun=begun: begun.append(time.monotonic()))
        for g in gs:
            g.join(10)
        spread = begun[-1] - begun[0]
    assert order == [0, 1, 2, 3]


def test_thousand_sleepers(runtime2):
    wg = WaitGroup()
    for i in range(1000):
        wg.add(1)
        go.on(i % 2)(lambda wg, s: (sleep(s), wg.done())[1], wg, (i * 37 % 100) / 5000)
    wg.wait(timeout=30)


def test_idle_process_wakes_for_new_work(runtime2):
    """E16: a scheduler that sleeps for long is woken by a message, a task, a timer and a thread."""
    c = chan()
    sleeper = go.on(1)(lambda: sleep(1000))
    g = go.on(1)(lambda c: c.recv(), c)
    until_waiting(c, receivers=1)
    sleep(0.02)  # nothing to wait on: proc 1 is idle by then
    c.send(1)
    g.result(20)
    assert go.on(1)(int).result(20) == 0
    sleeper.cancel()
    sleeper.exception(20)


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["local", "on0", "on1", "any"])
def test_thousands_blocked_at_once(runtime2, how):
    start = {"local": go.local, "on0": go.on(0), "on1": go.on(1), "any": go}[how]
    n = 3000
    c, wg = chan(), WaitGroup()
    wg.add(n)

    def f(c, wg):
        c.recv()
        wg.done()

    for _ in range(n):
        start(f, c, wg)
    until_waiting(c, receivers=n, seconds=40)
    c.send_many(range(n))
    wg.wait(timeout=40)


@pytest.mark.watchdog(180)
def test_tens_of_thousands(runtime2, long):
    n = 100_000 if long else 20_000
    total, wg = Atomic(0), WaitGroup()
    wg.add(n)

    def f(total, wg, i):
        total.add(i)
        wg.done()

    for i in range(n):
        go(f, total, wg, i)
    wg.wait(timeout=150)
    assert total.load() == n * (n - 1) // 2


@pytest.mark.parametrize("where", ["local", "on1"])
def test_daisy_chain(runtime2, where):
    """A11 with 2 000 links in one process, each blocked in the one after it."""
    n = 2000
    start = go.local if where == "local" else go.on(1)

    def link(left, right):
        left.send(1 + right.recv())

    ends = [chan() for _ in range(n + 1)]
    for i in range(n):
        start(link, ends[i], ends[i + 1])
    ends[n].send(0)
    assert ends[0].recv(timeout=40) == n


def test_goroutines_leave_no_recursion_depth(runtime2):
    """A goroutine has all of the recursion limit for itself, however it came to be started."""

    def deep(n):
        return 0 if n == 0 else 1 + deep(n - 1)

    def f(c, deep):
        c.recv_ok()
        return deep(600)

    for start in (go.local, go.on(1)):
        c = chan()
        gs = [start(f, c, deep) for _ in range(60)]
        until_waiting(c, receivers=60)
        c.close()
        assert [g.result(20) for g in gs] == [600] * 60


def test_finished_goroutines_are_forgotten(runtime0):
    from goproc._sched import greenlets, scheduler

    for _ in range(2000):
        go.local(int)
    go.local(int).join(10)
    until(lambda: not scheduler.started)
    gc.collect()
    assert len(scheduler.runq) == 0
    assert len(greenlets.spare) <= greenlets.KEPT


# -- threads ------------------------------------------------------------------------------------------------------------


def test_local_goroutine_started_by_a_thread(runtime0):
    result = []

    def start():
        result.append(go.local(lambda: threading.get_ident()))

    t = threading.Thread(target=start)
    t.start()
    until(lambda: result)
    assert result[0].result(10) == threading.get_ident()
    t.join()


def test_thread_reaches_a_process_that_is_never_idle(runtime0):
    stop = chan()

    def nap():
        while not stop.closed:
            sleep(1e-7)

    nappers = [go.local(nap) for _ in range(3)]
    t = threading.Thread(target=lambda: go.local(stop.close))
    t.start()
    try:
        until(lambda: stop.closed, 10)
    finally:
        if not stop.closed:
            stop.close()
        for g in nappers:
            g.join(10)
        t.join()
