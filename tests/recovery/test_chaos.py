"""Workers are killed at random times, one or several at once, while goroutines start again, are watched and supervised.

Each program kills its own workers. The seed is in its output, which a failure shows.
"""

from __future__ import annotations

import random

import pytest
from programs import Run

ROUNDS = 4
HEAD = """
    import os, random, sys, time
    import goproc
    from goproc import (
        Atomic, Group, Mutex, Supervisor, TaskTimeout, WorkerDied, chan, go, kill, monitor, recycle, select, sleep
    )
    from goproc._deaths import deaths
    from goproc.shm import _core

    dice = random.Random({seed})
    stop = Atomic(0)

    def chaos(longest=0.03, most=2):
        "Kill one to `most` workers at once, again and again."
        while not stop.load():
            sleep(dice.random() * longest)
            for p in dice.sample(range(1, goproc.procs() + 1), dice.randint(1, most)):
                kill(p)

    def calm(killer):
        stop.store(1)
        killer.result()
        for p in range(1, goproc.procs() + 1): go.on(p)(int).join()  # those that were killed have died by then

    def nothing_left(blocks=60):
        for _ in range(100):
            _core.collect()
            census = _core.census()
            if census["blocks"] <= blocks and census["objects"] <= blocks and not census["missed_wakeups"]: return
            for p in range(1, goproc.procs() + 1): go.on(p)(_core.collect).exception()
            sleep(0.02)
        raise AssertionError(census)
"""


@pytest.fixture(params=range(ROUNDS))
def chaos(run: Run, request: pytest.FixtureRequest, long: bool) -> Run:
    """Runs a script that kills its workers; it must end well, and say nothing but what it prints."""

    def run_it(text: str, procs: int = 3) -> str:
        for _ in range(20 if long else 1):
            seed = random.randrange(1 << 32)
            done = run(HEAD.format(seed=seed) + text, procs=procs, options=["--quiet-deaths"])
            assert (done.status, done.err) == (0, ""), (seed, done)
        return done.out

    return run_it


pytestmark = pytest.mark.watchdog(300)


def test_retries(chaos: Run) -> None:
    text = """
    ran, seen = Atomic(0), chan(100000)
    def work(n, data):
        ran.add(1)
        if n % 3 == 0: sleep(0.002 * dice.random())
        elif n % 3 == 1: sum(range(20000))
        seen.send(n)
        return n, len(data)
    killer = go.local(chaos)
    tasks = [go.opts(retries=60000)(work, n, b"x" * dice.choice((3, 3000, 30000))) for n in range(300)]
    results = [g.result(60) for g in tasks]
    calm(killer)
    assert [n for n, _ in results] == list(range(300))
    assert ran.load() >= 300 and len(seen) >= 300
    del tasks, results, seen
    nothing_left()
    """
    chaos(text)


def test_one_message_for_each_end(chaos: Run) -> None:
    text = """
    def work(n):
        sleep(0.001 * (n % 10))
        if n % 5 == 0: raise KeyError(n)
        return n
    killer = go.local(chaos)
    tasks = [go(work, n) for n in range(200)]
    channels = [monitor(g) for g in tasks]
    downs = [ch.recv(timeout=60) for ch in channels]
    calm(killer)
    for n, (g, down, ch) in enumerate(zip(tasks, downs, channels)):
        assert down.goroutine == g, down
        expected = KeyError if n % 5 == 0 else type(None)
        assert isinstance(down.reason, (expected, WorkerDied)), down
    sleep(0.1)  # nothing to wait on: there must be no second message
    assert not any(len(ch) for ch in channels)
    del tasks, channels, downs, g, down, ch
    nothing_left()
    """
    chaos(text)


def test_supervised_servers(chaos: Run) -> None:
    """The servers are there again after each death, each of them once."""
    text = """
    alive = Atomic(0)
    def serve(name, requests):
        for answers, n in requests:
            answers.send((name, n * n))
    strategy = dice.choice(("one_for_one", "one_for_all", "rest_for_one"))
    with Supervisor(strategy, restarts=10**6, within=1, quiet=True) as sup:
        requests = {name: chan() for name in "abc"}
        for name in requests: sup.opts(name=name)(serve, name, requests[name])
        killer = go.local(chaos)
        served = 0
        end = time.monotonic() + 0.7
        while time.monotonic() < end or not sum(c.restarts for c in sup.children):
            name, answers = dice.choice("abc"), chan(1)
            try:
                requests[name].send((answers, served), timeout=5)
                assert answers.recv(timeout=0.3) == (name, served * served)
                served += 1
            except TimeoutError:
                pass  # the server died with the request
        calm(killer)
        for name in "abc" * 5:
            answers = chan(1)
            requests[name].send((answers, 7), timeout=20)
            assert answers.recv(timeout=20) == (name, 49)
        assert len(sup.children) == 3
    assert [c.goroutine.state for c in sup._children] == ["failed"] * 3
    """
    chaos(text)


def test_supervisors_that_die(chaos: Run) -> None:
    """The children of a supervisor that was lost are cancelled: those of the next one are the only ones."""
    text = """
    beats = chan(100000)
    def beat(run):
        while True:
            beats.send(run)
            sleep(0.002)
    def middle(runs):
        run = runs.add(1)
        with Supervisor(restarts=10**6, within=1, quiet=True) as below:
            below.go(beat, run)
            below.go(beat, run)
            below.wait()
    runs = Atomic(0)
    with Supervisor(restarts=10**6, within=1, quiet=True) as sup:
        sup.go(middle, runs)
        killer = go.local(chaos, 0.05)
        sleep(0.7)  # nothing to wait on: time for deaths
        calm(killer)
        until = time.monotonic() + 30
        recent = set()
        while recent != {runs.load()}:  # the last death may be told of late, and what it sent is in the buffer
            assert time.monotonic() < until, (recent, runs.load())
            recent = {beats.recv(timeout=10) for _ in range(100)}
    while beats.try_recv()[1]: pass
    sleep(0.05)  # nothing to wait on: no child goes on
    assert not len(beats)
    """
    chaos(text)


def test_time_limits(chaos: Run) -> None:
    text = """
    def work(n):
        if n % 10 == 0:
            while True: pass
        if n % 10 == 1: chan().recv()
        return n
    killer = go.local(chaos, 0.1)
    tasks = [go.opts(timeout=0.05, grace=0.02, retries=1000)(work, n) for n in range(60)]
    for n, g in enumerate(tasks):
        error = g.exception(60)
        if n % 10 < 2: assert isinstance(error, TaskTimeout), (n, error)
        else: assert error is None or isinstance(error, TaskTimeout), (n, error)  # it may not get its turn in time
    calm(killer)
    del tasks, g, error
    nothing_left()
    """
    chaos(text)


def test_recycled_and_killed(chaos: Run) -> None:
    text = """
    def work(n):
        sleep(0.001 * dice.random())
        return n
    def renew():
        while not stop.load(): recycle(dice.randint(1, 3), timeout=20)
    killer, renewer = go.local(chaos, 0.06, 1), go.local(renew)
    for _ in range(5):
        tasks = [go.opts(retries=1000)(work, n) for n in range(100)]
        tasks += [go.opts(retries=1000).on(1 + n % 3)(work, n) for n in range(30)]
        assert [g.result(60) for g in tasks] == [*range(100), *range(30)]
    calm(killer)
    renewer.result()
    del tasks
    nothing_left()
    """
    chaos(text)


def test_groups_and_locks(chaos: Run) -> None:
    """Waiters for a group or a lock go on."""
    text = """
    lock, count = Mutex(), Atomic(0)
    def work(n):
        try:
            with lock:
                count.add(1)
                sleep(0.0005)
        except goproc.OwnerDied:
            pass
        return n
    killer = go.local(chaos, 0.05)
    failed = 0
    for _ in range(20):
        group = Group()
        for n in range(10): group.go(work, n)
        try: group.wait(30)
        except WorkerDied: failed += 1
    calm(killer)
    while True:
        try: lock.lock(timeout=20)
        except goproc.OwnerDied: pass
        break
    assert deaths() > 0 and count.load() > 0
    """
    chaos(text)
