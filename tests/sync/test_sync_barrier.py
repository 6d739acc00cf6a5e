"""Barrier: all or none, again and again."""

from __future__ import annotations

import threading

import pytest
from peek import until, waiters

from goproc import Atomic, Cancelled, chan, go, sleep
from goproc.sync import Barrier


def until_waiting(barrier, n):
    until(lambda: barrier.waiting == n == sum(waiters(barrier)), what=lambda: f"{barrier!r}")


def test_all_or_none(place):
    barrier = Barrier(4)
    gs = []
    for n in range(3):
        assert barrier.waiting == n
        gs.append(place.anyone(barrier.wait))
        until_waiting(barrier, n + 1)
    sleep(0.003)  # nothing is to happen
    assert all(g.state == "running" for g in gs)
    assert barrier.wait() == 3
    assert sorted(g.result(10) for g in gs) == [0, 1, 2]
    assert barrier.waiting == 0 and barrier.parties == 4


def test_places_in_order_of_arrival(place):
    barrier, gs = Barrier(5), []
    for n in range(4):
        gs.append(place.anyone(barrier.wait))
        until_waiting(barrier, n + 1)
    assert barrier.wait() == 4
    assert [g.result(10) for g in gs] == [0, 1, 2, 3]


def test_of_one(place):
    barrier = Barrier(1)
    for _ in range(3):
        assert barrier.wait() == 0 == place.anyone(barrier.wait, 0).result(10)


def test_used_again_at_once(place, long):
    """Nobody is a round ahead: whoever leaves a round finds the work of all in it."""

    def work(barrier, done, n, rounds):
        lasts = 0
        for r in range(1, rounds + 1):
            done.add(1)
            lasts += barrier.wait() == n - 1
            seen = done.load()
            assert n * r <= seen <= n * (r + 1), (seen, r)
            barrier.wait()
            assert done.load() >= n * r
        return lasts

    n, rounds = 4, 200 if long else 25
    barrier, done = Barrier(n), Atomic(0)
    gs = [place.anyone(work, barrier, done, n, rounds) for _ in range(n)]
    assert sum(g.result(40) for g in gs) == rounds
    assert done.load() == n * rounds and barrier.waiting == 0


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_one_that_gives_up_no_longer_counts(place, how):
    barrier = Barrier(3)
    stays = place.anyone(barrier.wait)
    until_waiting(barrier, 1)
    leaves = place.anyone(barrier.wait, 0.03 if how == "timeout" else None)
    if how == "cancel":
        until_waiting(barrier, 2)
        leaves.cancel()
        assert isinstance(leaves.exception(10), Cancelled)
    else:
        assert str(leaves.exception(10)) == "barrier wait: timed out"
    until_waiting(barrier, 1)
    late = place.anyone(barrier.wait)
    until_waiting(barrier, 2)
    assert stays.state == late.state == "running"
    assert barrier.wait() == 2
    assert {stays.result(10), late.result(10)} == {0, 1}


@pytest.mark.parametrize("timeout", [0, -1, 0.002])
def test_times_out(place, timeout):
    barrier = Barrier(2)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            barrier.wait(timeout)
        assert isinstance(place.anyone(barrier.wait, timeout).exception(10), TimeoutError)
        assert barrier.waiting == 0
    g = place.anyone(barrier.wait)
    until_waiting(barrier, 1)
    assert barrier.wait(timeout) == 1
    assert g.result(10) == 0


def test_nonsense_for_a_timeout(runtime0):
    with pytest.raises(ValueError):
        Barrier(2).wait(float("nan"))


def test_threads(place):
    barrier, places = Barrier(4), []
    threads = [threading.Thread(target=lambda: places.append(barrier.wait(20))) for _ in range(3)]
    for t in threads:
        t.start()
    until_waiting(barrier, 3)
    places.append(place.anyone(barrier.wait).result(10))
    for t in threads:
        t.join(20)
    assert sorted(places) == [0, 1, 2, 3]


def test_nobody_passes_alone(runtime2, long):
    """Two meet, each giving up after a moment: they pass in pairs or not at all, however close the moments are.

    The one that gives up and the one that arrives last are in different processes, so that they can be at it at once.
    """

    def visit(barrier, n, start):
        import random
        import time

        passed = [0, 0]
        start.recv_ok()
        for _ in range(n):
            try:
                passed[barrier.wait(random.random() * 0.00006)] += 1
            except TimeoutError:
                pass
            end = time.perf_counter() + random.random() * 0.00003
            while time.perf_counter() < end:
                pass
        return passed

    barrier, start, n = Barrier(2), chan(), 50_000 if long else 8000
    gs = [go.on(p)(visit, barrier, n, start) for p in (0, 1)]
    until(lambda: waiters(start)[0] == 2)
    start.close()
    results = [g.result(50) for g in gs]
    first, last = (sum(r[k] for r in results) for k in (0, 1))
    assert first == last, results
    assert barrier.waiting == 0
