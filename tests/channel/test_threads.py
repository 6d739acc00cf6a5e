"""Channels from plain threads: they block natively, in the host and in workers, on either end."""

from __future__ import annotations

import threading

import pytest
from peek import until, until_waiting, waiters

import goproc
from goproc import ChanClosed, WaitGroup, chan, go


def threads(*calls):
    """Run calls in plain threads; a list of what they returned or raised appears once all have ended."""
    results = [None] * len(calls)

    def run(i, call):
        try:
            results[i] = call()
        except BaseException as error:
            results[i] = error

    started = [threading.Thread(target=run, args=(i, call), daemon=True) for i, call in enumerate(calls)]
    for thread in started:
        thread.start()

    def join():
        until(lambda: not any(thread.is_alive() for thread in started), 30)
        return results

    return join


def test_thread_receives_from_goroutine(place, cap):
    c = chan(cap)
    join = threads(lambda: list(c))
    s = place.sender(lambda c: (c.send_many(range(300)), c.close())[0], c)
    assert join() == [list(range(300))]
    assert s.result(10) == 300


def test_thread_sends_to_goroutine(place, cap):
    c = chan(cap)
    join = threads(lambda: (c.send_many(range(300)), c.close())[0])
    r = place.receiver(lambda c: list(c), c)
    assert r.result(20) == list(range(300))
    assert join() == [300]


def test_thread_to_thread(runtime0, cap):
    c = chan(cap)
    join = threads(lambda: list(c), lambda: (c.send_many(range(300)), c.close())[0])
    assert join() == [list(range(300)), 300]


def test_threads_on_both_ends_in_different_processes(place, some_cap):
    """Worker goroutines start threads that use the channel; the goroutine itself waits on another channel for them."""

    def side(c, done, receive):
        import threading

        def run():
            done.send(sum(c) if receive else sum(c.send(i) is None for i in range(200)))

        thread = threading.Thread(target=run)
        thread.start()
        got = done.recv()
        thread.join()
        return got

    c = chan(some_cap)
    r = place.receiver(side, c, chan(), True)
    ss = [place.sender(side, c, chan(), False) for _ in range(2)]
    assert [g.result(20) for g in ss] == [200, 200]
    c.close()
    assert r.result(20) == 2 * sum(range(200))


@pytest.mark.parametrize("call", ["recv", "recv_ok", "send", "recv_many"])
def test_thread_times_out_and_leaves_no_waiter(runtime0, call):
    c = chan()
    args = {"send": (1,), "recv_many": (1,)}.get(call, ())
    for timeout in (0, 0.002):
        assert isinstance(threads(lambda t=timeout: getattr(c, call)(*args, timeout=t))()[0], TimeoutError)
        assert waiters(c) == (0, 0)
    if call == "send":
        g = go.local(c.recv)
        c.send("x")
        assert g.result(10) == "x"
    else:
        g = go.local(c.send, "x")
        assert c.recv() == "x"
    g.join(10)


def test_close_wakes_threads(place):
    c = chan()
    join = threads(c.recv_ok, c.recv_ok, lambda: list(c))
    until_waiting(c, receivers=3)
    place.anyone(lambda c: c.close(), c).join(10)
    assert join() == [(None, False), (None, False), []]
    c = chan()
    join = threads(lambda: c.send(1))
    until_waiting(c, senders=1)
    c.close()
    error = join()[0]
    assert isinstance(error, ChanClosed) and str(error) == "send on closed channel"


def test_threads_and_goroutines_are_served_in_order(runtime2):
    c, join, gs = chan(), [], []
    for i in range(6):
        if i % 2:
            join.append(threads(c.recv))
        else:
            gs.append((go.local if i % 4 else go.on(1))(lambda c: c.recv(), c))
        until_waiting(c, receivers=i + 1)
    c.send_many(range(6))
    assert [g.result(10) for g in gs] == [0, 2, 4]
    assert [j()[0] for j in join] == [1, 3, 5]


def test_thread_starts_and_joins_goroutines(place):
    def work():
        gs = [place.anyone(lambda i: i * i, i) for i in range(20)]
        return [g.result(10) for g in gs]

    assert threads(work)() == [[i * i for i in range(20)]]


def test_thread_waits_for_a_group(place):
    wg = WaitGroup()
    wg.add(5)
    join = threads(wg.wait, lambda: wg.wait(timeout=30))
    for _ in range(5):
        place.anyone(lambda wg: wg.done(), wg)
    assert join() == [None, None]
    wg.add(1)
    assert isinstance(threads(lambda: wg.wait(timeout=0.002))()[0], TimeoutError)
    wg.done()


def test_thread_sleeps_and_yields(runtime0):
    assert threads(lambda: goproc.sleep(0.001) or goproc.yield_now() or "done")() == ["done"]


def test_many_threads(runtime2):
    c, out = chan(3), chan(3)

    def pump():
        for v in c:
            out.send(v + 1)

    join = threads(*[pump] * 20)
    feeder = go.on(1)(lambda c: (c.send_many(range(400)), c.close())[0], c)
    assert sorted(out.recv(timeout=20) for _ in range(400)) == list(range(1, 401))
    assert feeder.result(10) == 400
    join()


def test_thread_blocked_when_the_runtime_stops():
    with goproc.runtime(procs=2):
        c = chan()
        results = []

        def wait():
            try:
                results.append(c.recv())
            except BaseException as error:
                results.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        until_waiting(c, receivers=1)
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(results[0], goproc.RuntimeStopped)
