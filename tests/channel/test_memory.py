"""Messages and channels give their shared memory back: at once where possible, and always in the end.

`_core.census()` counts live blocks (messages, rings, results), objects (channels and so on) and definitions.
"""

from __future__ import annotations

import gc

import numpy
import pytest
from peek import until, until_waiting

import goproc
from goproc import Cancelled, chan, go
from goproc.shm import _core


def census():
    _core.collect()
    return _core.census()


def blocks():
    return census()["blocks"]


def released(n, what=blocks):
    """Wait until as much is left as before, without help from Python's garbage collector."""
    until(lambda: what() <= n, 10, lambda: f"{what()} left of {n}; {_core.census()}")


BIG = {
    "text": lambda: "x" * 5000,
    "bytes": lambda: b"y" * 300_000,
    "pickled": lambda: {"a": set(range(300))},
    "array": lambda: numpy.arange(10_000),
    "arrays": lambda: [numpy.ones(4000), numpy.zeros((300, 300))],
    "bytearray": lambda: bytearray(100_000),
}


@pytest.mark.parametrize("kind", BIG)
def test_nothing_is_left_of_messages(place, kind):
    make = BIG[kind]

    def recv(c):
        for v in c:
            del v

    c = chan(4)
    before = blocks()
    r = place.receiver(recv, c)
    s = place.sender(lambda c, v: [c.send(v) for _ in range(40)] and None, c, make())
    s.result(20)
    c.close()
    r.result(20)
    del r, s
    released(before)


def test_view_keeps_its_memory_until_it_dies(place):
    c = chan(2)
    before = blocks()
    g = place.sender(lambda c, v: c.send(v), c, numpy.arange(10_000))
    value = c.recv(timeout=10)
    g.join(10)
    del g
    until(lambda: blocks() == before + 1)
    part = value[100:200]
    view = memoryview(value)[50:60]
    del value
    assert blocks() == before + 1
    assert part.tolist() == list(range(100, 200))
    del part
    assert blocks() == before + 1 and view.tolist() == list(range(50, 60))
    del view
    released(before)


def test_messages_still_in_a_channel_go_with_it(place):
    before = census()
    c = chan(10)
    s = place.sender(lambda c: [c.send(numpy.ones(10_000)) for _ in range(10)] and None, c)
    s.result(10)
    assert blocks() >= before["blocks"] + 10
    del c, s
    released(before["blocks"])
    released(before["objects"], lambda: census()["objects"])


def test_channel_in_a_message_in_a_channel(place):
    before = census()
    outer = chan(5)
    for i in range(5):
        inner = chan(3)
        inner.send("x" * 1000)
        outer.send({"inner": inner, "more": [chan(i)]})
    del inner
    place.receiver(lambda c: c.recv()["inner"].recv() and None, outer).result(10)
    got = outer.recv()
    assert got["inner"].recv() == "x" * 1000
    del got, outer
    released(before["objects"], lambda: (gc.collect(), census()["objects"])[1])
    released(before["blocks"])


def test_failed_operations_leave_nothing(place):
    c = chan(1)
    c.send(1)
    before = blocks()

    def fail(c):
        big = "x" * 10_000
        assert c.try_send(big) is False
        for _ in range(3):
            try:
                c.send(big, timeout=0.001)
            except TimeoutError:
                pass

    place.sender(fail, c).result(10)
    c.close()
    with pytest.raises(goproc.ChanClosed):
        c.send("x" * 10_000)
    with pytest.raises(goproc.PickleError):
        c.send([numpy.ones(10_000), (x for x in ())])
    released(before)


def test_blocked_senders_values_at_close_are_freed(place):
    c = chan()
    before = blocks()

    def send(c):
        try:
            c.send(numpy.ones(10_000))
        except goproc.ChanClosed:
            pass

    gs = [place.sender(send, c) for _ in range(5)]
    until_waiting(c, senders=5)
    c.close()
    for g in gs:
        g.result(10)
    del g, gs
    released(before)


def test_results_are_freed_with_the_handle(place):
    before = census()
    gs = [place.anyone(lambda n: numpy.ones(n), 10_000) for _ in range(10)]
    assert all(g.result(10).sum() == 10_000 for g in gs)
    assert gs[0].result() is gs[0].result()
    del gs
    released(before["blocks"])
    released(before["objects"], lambda: census()["objects"])


def test_goroutines_without_a_handle_leave_nothing(place):
    before = census()
    done = chan(100)
    for i in range(100):
        place.anyone(lambda c, i, v: c.send(i) or v, done, i, "x" * 500)
    assert sorted(done.recv(timeout=10) for _ in range(100)) == list(range(100))
    del done
    released(before["blocks"])
    released(before["objects"], lambda: (gc.collect(), census()["objects"])[1])


def test_objects_of_a_cancelled_goroutine_go_without_a_collection_of_cycles(runtime2):
    """An exception that refers to itself through its traceback would keep alive all that the goroutine used."""

    def disable():
        import gc

        gc.collect()
        gc.disable()

    go.on(1)(disable).result(10)
    try:
        before = census()
        c = chan(3)
        g = go.on(1)(lambda c: c.recv(), c)
        until_waiting(c, receivers=1)
        g.cancel()
        g.join(10)
        del c, g
        released(before["objects"], lambda: census()["objects"])
    finally:
        go.on(1)(gc.enable).result(10)


@pytest.mark.parametrize("fails", [ValueError, TimeoutError])
def test_objects_of_a_failed_goroutine_go_without_a_collection_of_cycles(runtime2, fails):
    def disable():
        import gc

        gc.collect()
        gc.disable()

    def fail(c, fails):
        if fails is TimeoutError:
            c.recv(timeout=0.001)
        raise fails("expected")

    go.on(1)(disable).result(10)
    try:
        before = census()
        c = chan(3)
        g = go.on(1)(fail, c, fails)
        assert isinstance(g.exception(10), fails)
        del c, g
        released(before["objects"], lambda: census()["objects"])
    finally:
        go.on(1)(gc.enable).result(10)


def test_memory_is_used_again(runtime2):
    """Ten times the limit goes through a channel: nothing of it stays."""

    def recv(c):
        return sum(len(v) for v in c)

    c = chan(2)
    g = go.on(1)(recv, c)
    block = b"z" * (20 << 20)
    for _ in range(60):
        c.send(block)
    c.close()
    assert g.result(30) == 60 * len(block)


def test_full_memory_is_an_error_and_then_there_is_room_again():
    with goproc.runtime(procs=0, memory="64M"):
        c = chan(1000)
        with pytest.raises(goproc.OutOfSharedMemory, match=r"--memory|GOPROC_MEMORY"):
            for _ in range(1000):
                c.send(b"x" * (1 << 20))
        n = len(c)
        assert 10 < n < 70
        for _ in range(n):
            c.recv()
        for _ in range(n - 2):
            c.send(b"x" * (1 << 20))
        with pytest.raises(goproc.OutOfSharedMemory):
            c.send(b"x" * (100 << 20))


def test_array_outlives_the_runtime():
    with goproc.runtime(procs=2):
        c = chan(3)
        g = go.on(1)(lambda c: [c.send(numpy.full(10_000, i)) for i in range(3)] and None, c)
        arrays = [c.recv(timeout=10) for _ in range(3)]
        g.join(10)
    assert [int(a.sum()) for a in arrays] == [0, 10_000, 20_000]
    arrays[1][:] = 7
    with goproc.runtime(procs=0):
        c = chan(1)
        c.send(arrays[1])
        again = c.recv()
        assert int(again.sum()) == 70_000
        del again
        assert blocks() == 1  # the ring
        del arrays[0]
    assert int(arrays[0].sum()) == 70_000
    del arrays


def test_unused_channel_leaves_at_once(runtime0):
    before = census()
    for _ in range(1000):
        chan(10)
    assert census()["objects"] == before["objects"] and census()["blocks"] == before["blocks"]


def test_stopped_runtime_leaves_no_mapping():
    for procs in (1, 2, 1):
        with goproc.runtime(procs=procs):
            c = chan(1)
            c.send(numpy.ones(5000))
            goproc.yield_now()
    with open("/proc/self/maps") as maps:
        assert "memfd:goproc" not in maps.read()


def test_cancel_before_start_frees_the_arguments(runtime0):
    before = census()
    g = go(lambda v: v, "x" * 10_000)
    assert g.cancel()
    with pytest.raises(Cancelled):
        g.result(10)
    del g
    gc.collect()
    released(before["blocks"])
    released(before["objects"], lambda: census()["objects"])
