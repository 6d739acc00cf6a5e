"""pmap: calls have their process to themselves, and maps in maps, beside maps, and beside goroutines do not hang."""

import itertools
import sys
import threading
import time

import pytest
from peek import until

from goproc import chan, go, pmap, proc, runtime, sleep, workers


def spell(x):
    """Return where and when it ran. It blocks."""
    began = time.monotonic()
    sleep(0.03)  # the length of the call
    return proc(), began, time.monotonic()


def overlaps(spells):
    ordered = sorted(spells)
    return [(a, b) for a, b in itertools.pairwise(ordered) if a[0] == b[0] and b[1] < a[2]]


def test_one_call_at_a_time_in_a_process(runtime2):
    assert not overlaps(pmap(spell, range(20)))


def test_no_goroutine_begins_while_a_call_waits(runtime2):
    def moment():
        return proc(), time.monotonic()

    m = pmap(spell, range(16))
    spells = [next(m)]
    goroutines = [go(moment) for _ in range(10)] + [go.on(p)(moment) for p in workers() for _ in range(3)]
    spells += m
    for where, when in [g.result() for g in goroutines]:
        assert not any(p == where and began < when < ended for p, began, ended in spells)


def test_maps_of_several_threads_take_turns(runtime2):
    spells = []
    threads = [threading.Thread(target=lambda: spells.extend(pmap(spell, range(8)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads))
    assert len(spells) == 24 and not overlaps(spells)


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_nothing_hangs_with_any_number_of_processes(n):
    with runtime(procs=n):
        assert list(pmap(lambda x: x, range(100))) == list(range(100))
        nested = pmap(lambda x: sum(pmap(lambda y: x * y, range(5))), range(6))
        assert list(nested) == [10 * x for x in range(6)]
        deep = pmap(
            lambda x: list(pmap(lambda y: list(pmap(lambda z: x + y + z, range(2))), range(2))), range(2)
        )
        assert list(deep)[1] == [[1, 2], [2, 3]]
        assert list(pmap(lambda x: go(lambda: x + 1).result(), range(6))) == [1, 2, 3, 4, 5, 6]
        for x in pmap(lambda x: x, range(5)):
            assert go(lambda y: y, x).result() == x
        inner = pmap(lambda x: sum(pmap(lambda y: y, range(x), threads=2)), range(5), threads=2)
        assert list(inner) == [0, 0, 1, 3, 6]
        late = pmap(lambda x: sleep(60) if x == 1 else x, range(3), timeout=2, on_error="skip")
        assert list(late) == [0, 2]
        goroutines = [go(lambda k: sum(pmap(lambda x: x * k, range(20))), k) for k in range(4)]
        assert [g.result() for g in goroutines] == [0, 190, 380, 570]


@pytest.mark.parametrize("n", [1, 2])
def test_maps_that_talk_to_each_other_do_not_hang(n):
    with runtime(procs=n):
        ch = chan()
        feeder = go.local(lambda: list(pmap(ch.send, range(6))))
        assert sorted(pmap(lambda i: ch.recv(), range(6))) == list(range(6))
        assert feeder.result() == [None] * 6


def test_a_call_is_not_sliced(runtime2):
    def spin(x):
        """Return True if no other call of the process has gone on in the midst of this one, which takes ten slices."""
        sleep(0.02)  # all calls block: a slice would resume them
        gone_on = sys.modules.setdefault("calls_that_have_gone_on", [])
        gone_on.append(x)
        before, until = len(gone_on), time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        return len(gone_on) == before

    beside = [go.local(sleep, 0.01) for _ in range(3)]
    assert list(pmap(spin, range(4), workers=4)) == [True] * 4
    for g in beside:
        g.join()


def test_several_maps_are_iterated_in_turns(runtime2):
    maps = [pmap(lambda x, k=k: x * k, range(30)) for k in range(4)]
    assert [[next(m) for m in maps] for _ in range(30)] == [[x * k for k in range(4)] for x in range(30)]
    assert [list(m) for m in maps] == [[], [], [], []]
