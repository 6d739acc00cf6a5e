"""A channel handle is a value: equal, hashable, sendable, one object per process, and useless outside its runtime."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest

import goproc
from goproc import Atomic, WaitGroup, chan, go


def test_keys_survive_the_trip(place):
    chans = [chan(i) for i in range(5)]
    table = {c: i for i, c in enumerate(chans)}
    got = place.anyone(lambda t, cs: ([t[c] for c in cs], t), table, chans).result(10)
    assert got[0] == [0, 1, 2, 3, 4] and got[1] == table


def test_channel_of_channels(place, some_cap):
    """A request carries the channel its answer goes to."""

    def serve(requests):
        for x, answer in requests:
            answer.send(x * x)

    requests = chan(some_cap)
    servers = [place.receiver(serve, requests) for _ in range(3)]

    def client(requests, n):
        total = 0
        for i in range(n):
            answer = chan(1)
            requests.send((i, answer))
            total += answer.recv()
        return total

    clients = [place.sender(client, requests, 30) for _ in range(3)]
    assert [g.result(20) for g in clients] == [sum(i * i for i in range(30))] * 3
    requests.close()
    for g in servers:
        g.result(10)


def test_channel_through_itself(runtime0):
    c = chan(2)
    c.send(c)
    assert c.recv() is c


def test_channel_made_elsewhere(place):
    """The process that made a channel needs no handle on it any more."""
    c = place.anyone(lambda: chan(3)).result(10)
    assert c.cap == 3
    c.send(1)
    assert place.anyone(lambda c: c.recv(), c).result(10) == 1
    gc.collect()
    assert place.anyone(lambda c: (c.send(2), c.recv())[1], c).result(10) == 2


def test_handle_in_flight_keeps_the_channel(place):
    """Nobody holds the inner channel but the message that carries it."""
    from goproc.shm import _core

    def make(way):
        inner = chan(2)
        inner.send("kept")
        way.send({"inner": inner})

    way = chan(1)
    place.anyone(make, way).result(10)
    for _ in range(3):
        gc.collect()
        _core.collect()
        place.anyone(lambda: __import__("goproc.shm._core").shm._core.collect() and None).result(10)
    assert way.recv()["inner"].recv() == "kept"


def test_weak_reference(runtime0):
    c = chan()
    ref = weakref.ref(c)
    assert ref() is c
    del c
    assert ref() is None


def test_pickled_by_itself_is_refused(runtime0):
    for handle in (chan(1), chan(1).tx, WaitGroup(), Atomic(1), go(int)):
        with pytest.raises(TypeError, match="shared memory"):
            pickle.dumps(handle)
        if isinstance(handle, goproc.Goroutine):
            handle.join(10)


def test_a_copy_of_a_channel_is_the_channel(runtime0):
    for c in (chan(1), chan(1).tx, chan(1).rx, goproc.nil):
        assert copy.copy(c) is c and copy.deepcopy({"c": [c]})["c"][0] is c
    for other in (
        WaitGroup(),
        Atomic(1),
        goproc.Mutex(),
    ):  # two that look independent and are one would be a trap
        with pytest.raises(TypeError, match="shared memory"):
            copy.deepcopy([other])


def test_views_stay_views_on_the_way(place):
    c = chan(1)
    tx, rx = place.anyone(lambda tx, rx: (tx, rx), c.tx, c.rx).result(10)
    assert type(tx) is goproc.SendChan and type(rx) is goproc.RecvChan
    tx.send(1)
    assert rx.recv() == 1
    with pytest.raises(TypeError):
        tx.recv()


@pytest.mark.parametrize(
    "payload", [lambda: chan(1), lambda: chan(1).tx, lambda: WaitGroup(), lambda: Atomic(3)]
)
def test_every_handle_in_plain_and_in_pickled_messages(place, payload):
    handle = payload()
    a, b = chan(2), chan(2)

    def echo(a, b):
        for v in a:
            b.send(v)

    g = place.anyone(echo, a, b)
    for message in (handle, [handle] * 3, {"h": handle, "set": {1, 2}}, (handle, "x" * 2000), [handle] * 500):
        a.send(message)
        got = b.recv(timeout=10)
        assert got == message and type(got) is type(message)
    a.close()
    g.result(10)


def test_many_channels(place):
    chans = [chan(i % 3) for i in range(2000)]
    got = place.anyone(lambda cs: cs[::-1], chans).result(20)
    assert got == chans[::-1] and all(x is y for x, y in zip(got, chans[::-1], strict=True))


def test_use_after_the_runtime_stopped():
    with goproc.runtime(procs=0):
        c = chan(1)
        g = go(int)
        a, wg = Atomic(1), WaitGroup()
        g.result(10)
        unread = go(int)
        unread.join(10)
    for use in (
        lambda: c.send(1),
        lambda: c.recv(timeout=1),
        lambda: c.recv_ok(),
        lambda: c.try_send(1),
        lambda: c.try_recv(),
        lambda: c.close(),
        lambda: len(c),
        lambda: c.cap,
        lambda: c.closed,
        lambda: list(c),
        lambda: c.tx.send(1),
        lambda: a.load(),
        lambda: wg.add(1),
        lambda: unread.result(),
        lambda: go(lambda: c),
    ):
        with pytest.raises((goproc.RuntimeStopped, goproc.PickleError), match="stopped"):
            use()
    goproc._proc.host._stop() if goproc.shm._core.attached() else None
    assert "stopped" in repr(c) and c == c and isinstance(hash(c), int)
    assert g.result() == 0  # it was read before


def test_the_callback_of_a_weak_reference_receives_the_same_channel():
    """The handle that goes is not the one that comes."""
    with goproc.runtime(procs=0):
        box = chan(1)
        for i in range(20):
            c = chan(1)
            box.send(c)
            got = []
            ref = weakref.ref(c, lambda _, got=got: got.append(box.recv()))
            del c
            assert ref() is None
            again = got.pop()
            again.send(i)
            assert again.recv() == i
            box.send(again)
            assert box.recv() is again
            del again
        assert goproc.shm._core.collect() >= 0
        before = goproc.shm._core.census()["objects"]
        assert before < 20  # they are freed


def test_handle_of_an_earlier_runtime_in_a_later_one():
    with goproc.runtime(procs=0):
        old = chan(1)
    with goproc.runtime(procs=0):
        new = chan(1)
        assert old != new and hash(old) != hash(new)
        with pytest.raises(goproc.RuntimeStopped):
            old.send(1)
        with pytest.raises((goproc.RuntimeStopped, goproc.PickleError), match="stopped"):
            new.send([old])
        with pytest.raises((goproc.RuntimeStopped, goproc.PickleError), match="stopped"):
            new.send({"old": old, "more": set()})
        assert len(new) == 0
    del old, new
