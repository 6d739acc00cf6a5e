"""Channels and goroutines that only each other's messages hold are garbage, and are collected."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from peek import until

import goproc
from goproc import chan, go, share
from goproc.shm import _core


def pair() -> Any:
    a, b = chan(1), chan(1)
    a.send(b)
    b.send(a)
    return a


def itself() -> Any:
    a = chan(2)
    a.send(a)
    a.send(a.tx)
    return a


def ring_of_many() -> Any:
    chans = [chan(1) for _ in range(50)]
    for a, b in zip(chans, [*chans[1:], chans[0]], strict=True):
        a.send(b)
    return chans[0]


def pickled() -> Any:
    """Handles in the middle of something that is pickled, with other values."""
    a, b = chan(3), chan(3)
    a.send({"peers": {1: [b, "x" * 500]}, "set": {1, 2}})
    b.send([{3}, (a, b), b"y" * 20_000])
    return b


def with_a_tail() -> Any:
    """Objects that only a cycle holds go with it."""
    a = pair()
    b = a.recv()
    tail = chan(5)
    tail.send("x" * 1000)
    b.recv()
    b.send((a, tail))
    a.send(b)
    return b


def outcome() -> Any:
    """A goroutine's result holds a channel, which holds the goroutine."""
    a = chan(2)
    g = go(lambda a: (a, "x" * 300), a)
    g.join(20)
    a.send(g)
    return a


def mutex() -> Any:
    """Other objects hang on the cycle, too."""
    a = pair()
    b = a.recv()
    b.recv()
    b.send((a, goproc.sync.Mutex(), goproc.sync.WaitGroup(), goproc.sync.Atomic(5)))
    a.send(b)
    return a


def copy() -> Any:
    a = chan(2)
    a.send((a, share(list(range(10_000)))))
    return a


MAKES = pytest.mark.parametrize(
    "make",
    [pair, itself, ring_of_many, pickled, with_a_tail, outcome, mutex, copy],
    ids=lambda f: f.__name__,
)


def counts() -> tuple[int, int]:
    gc.collect()
    _core.collect()
    census = _core.census()
    return census["objects"], census["blocks"]


@MAKES
def test_a_cycle_goes(place: Any, make: Callable[[], Any]) -> None:
    make()  # what is made once, definitions and their like, stays
    gc.collect()
    _core.collect()
    before = counts()
    for _ in range(5):
        make()
    until(lambda: counts() <= before, 20, lambda: f"{counts()}, {before} before")


@MAKES
def test_a_cycle_that_somebody_holds_stays(place: Any, make: Callable[[], Any]) -> None:
    held = make()
    objects, blocks = counts()
    for _ in range(3):
        assert counts() == (objects, blocks)
    first = held.recv()
    assert first is not None
    del first, held


def test_a_cycle_that_a_goroutine_holds_stays(place: Any) -> None:
    """Its handle is in another process, and in the end in a message on its way there."""

    def use(a: Any, told: Any, go_on: Any) -> bool:
        told.send(True)
        go_on.recv()
        b = a.recv()
        return b.recv() == a

    told, go_on = chan(), chan()
    g = place.receiver(use, pair(), told, go_on)
    told.recv(timeout=20)
    for _ in range(3):
        counts()
    go_on.send(True)
    assert g.result(20)


def test_a_cycle_on_a_channel_that_somebody_holds_stays(place: Any) -> None:
    outer = chan(1)
    outer.send([pair(), {"more": pickled()}])
    for _ in range(3):
        counts()
    a, more = outer.recv()
    b = a.recv()
    assert b.recv() == a
    assert more["more"].recv()[1][1] == more["more"]
    del a, b, more, outer


def test_an_unread_failure_in_a_cycle_is_reported(run: Any) -> None:
    script = """
        import gc
        from goproc import chan, go
        from goproc.shm import _core
        def fails():
            raise ValueError("unread")
        a, g = chan(2), go(fails)
        g.join()
        a.send(a)
        a.send(g)
        del a, g
        gc.collect()
        _core.collect()
        print("goes on")
    """
    done = run(script)
    assert (done.status, done.out) == (0, "goes on\n") and "ValueError: unread" in done.err, done


def test_cycles_do_not_add_up(place: Any) -> None:
    """Without help from a collection that somebody asks for."""
    for _ in range(600):
        pair()
    most = _core.census()["objects"]
    for _ in range(3_000):
        pair()
    assert _core.census()["objects"] <= most + 600
    counts()


def test_cycles_while_others_pass_through(place: Any) -> None:
    """Nothing that is on its way from process to process is taken for garbage."""

    def swap(box: Any, n: int) -> int:
        seen = 0
        for _ in range(n):
            a = box.recv()
            b = a.recv()
            again = b.recv()
            assert again == a
            b.send(a)
            a.send(b)
            box.send(a if seen % 2 else b)
            del a, b, again
            seen += 1
        return seen

    box = chan(100)
    for _ in range(40):
        box.send(pair())
    gs = [place.anyone(swap, box, 300) for _ in range(4)]
    while not all(g.state == "done" for g in gs):
        pair()
        _core.collect()
        goproc.sleep(0.001)
        assert all(g.state != "failed" for g in gs), [g.exception(1) for g in gs if g.state == "failed"]
    assert [g.result(20) for g in gs] == [300] * 4
    assert len(box) == 40
    del box, gs
    counts()
