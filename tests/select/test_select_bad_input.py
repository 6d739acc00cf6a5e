"""A wrong select is refused before anything happens: nothing is sent, received, queued or leaked."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref

import pytest
from peek import waiters

import goproc
from goproc import ChanClosed, PickleError, Selector, chan, default, go, nil, select
from goproc.sync import Semaphore


class Unpicklable:
    def __reduce__(self):
        raise ZeroDivisionError("no way to say this")


def both(*cases, error, text=None):
    """Neither form takes these cases."""
    for make in (select, Selector):
        with pytest.raises(error, match=text):
            make(*cases)


NO_CASES = {
    "int": 1,
    "None": None,
    "str": "recv",
    "list": [1, 2],
    "empty tuple": (),
    "function": len,
    "class": chan,
    "method of a list": [].append,
    "type of default": type(default),
}


@pytest.mark.parametrize("name", NO_CASES)
@pytest.mark.parametrize("at", [0, 1])
def test_not_a_case(runtime0, name, at):
    c = chan(1)
    c.send("kept")
    thing = NO_CASES[name]
    cases = (thing, c) if at == 0 else (c, thing)
    both(*cases, error=TypeError, text=rf"^reflect\.Select: invalid Dir: case {at} is {type(thing).__name__}")
    assert (len(c), waiters(c)) == (1, (0, 0))
    assert c.recv() == "kept"


def test_wrong_tuples(runtime0):
    c = chan(1)
    for case in (
        (c.recv, 1),
        (c.send,),
        (c.send, 1, 2),
        (c, 1),
        (c.try_send, 1),
        [c.send, 1],
        (c.close, None),
        c.try_recv,
        c.send_many,
        c.recv_many,
        c.close,
    ):
        both(case, error=TypeError, text=r"^reflect\.Select: invalid Dir: case 0 is ")
    assert (len(c), c.closed) == (0, False)


def test_send_without_a_value(runtime0):
    c = chan(1)
    both(c, c.send, error=TypeError, text=r"case 1 is .* without a value: a send case is \(ch\.send, value\)")
    assert (len(c), waiters(c)) == (0, (0, 0))


def test_directions(runtime0):
    c = chan(1)
    c.send("kept")
    for case in (c.tx, c.tx.recv, c.tx.recv_ok):
        both(case, default, error=TypeError, text="send-only channel")
    both((c.rx.send, 1), default, error=TypeError, text="receive-only channel")
    assert select((c.tx.send, 1), default).index == 1
    assert select(c.rx, default) == (0, "kept", True)
    assert select((c.tx.send, 1), default).index == 0
    assert select(c.rx.recv) == (0, 1, True)


def test_defaults_and_number(runtime0):
    c = chan(1)
    c.send("kept")
    both(default, default, error=ValueError, text=r"^reflect\.Select: multiple default cases$")
    both(default, c, default, error=ValueError, text=r"^reflect\.Select: multiple default cases$")
    both(*[c] * 65_537, error=ValueError, text=r"^reflect\.Select: too many cases \(max 65536\)$")
    both(*[default] * 65_537, error=ValueError, text=r"^reflect\.Select: too many cases")
    assert (len(c), c.recv()) == (1, "kept")


def test_keywords(runtime0):
    c = chan(1)
    for bad in ({"timeouts": 1}, {"timeout": 1, "other": 2}, {"default": True}):
        with pytest.raises(TypeError):
            select(c, **bad)
        with pytest.raises(TypeError):
            Selector(c).select(**bad)
    with pytest.raises(TypeError):
        Selector(c, timeout=1)
    with pytest.raises(TypeError):
        Selector(c).select(1, 2)


@pytest.mark.parametrize("bad", ["1", b"1", [], 1j, object()], ids=lambda bad: type(bad).__name__)
def test_timeout_of_another_type(runtime0, bad):
    c = chan(1)
    c.send("kept")
    for wait in (lambda: select(c, timeout=bad), lambda: Selector(c).select(timeout=bad)):
        with pytest.raises(TypeError, match="timeout must be seconds"):
            wait()
    assert c.recv() == "kept"


def test_timeout_without_a_place_in_time(runtime0):
    c = chan(1)
    c.send("kept")
    for bad, error in ((float("nan"), ValueError), (10**400, OverflowError)):
        for wait in (
            lambda bad=bad: select(c, timeout=bad),
            lambda bad=bad: Selector(c).select(bad),
            lambda bad=bad: Selector(c)(timeout=bad),
        ):
            with pytest.raises(error):
                wait()
    assert c.recv() == "kept"


def test_a_value_that_cannot_be_sent(place):
    """Nothing is done, whichever case it is in, and the values that could be serialised before it are freed."""

    def attempt(ready, full, other):
        big = "x" * 5000
        lock = threading.Lock()
        said = []
        for bad in (Unpicklable(), lock, [big, lock], (i for i in ())):
            for cases in (
                ((ready.send, big), (other.send, bad)),
                ((other.send, bad), (ready.send, big)),
                (ready, (other.send, bad)),
                (ready, (ready.send, big), (full.send, [big]), (other.send, bad), default),
            ):
                for make in (lambda *cases: select(*cases), lambda *cases: Selector(*cases).select()):
                    try:
                        make(*cases)
                    except Exception as error:
                        said.append(type(error))
        return said

    ready, full, other = chan(2), chan(1), chan(1)
    ready.send("kept")
    full.send(1)
    said = place.sender(attempt, ready, full, other).result(20)
    assert len(said) == 32
    assert all(issubclass(kind, (PickleError, TypeError, ZeroDivisionError)) for kind in said), set(said)
    assert (len(ready), len(full), len(other)) == (1, 1, 0)
    assert waiters(ready) == waiters(full) == waiters(other) == (0, 0)
    assert ready.recv() == "kept"


def test_a_value_for_nil_is_not_looked_at(runtime0):
    assert select((nil.send, Unpicklable()), default) == (1, None, False)


def test_out_of_memory_sends_nothing():
    with goproc.runtime(procs=1, memory="64M"):
        a, b = chan(1), chan(1)
        a.send("kept")
        with pytest.raises(goproc.OutOfSharedMemory):
            select(a, (b.send, b"x" * (100 << 20)))
        with pytest.raises(goproc.OutOfSharedMemory):
            select((b.send, b"y" * (20 << 20)), a, (b.send, b"x" * (100 << 20)))
        assert (len(a), len(b)) == (1, 0)
        for _ in range(3):  # the first value of each attempt is free again
            with pytest.raises(goproc.OutOfSharedMemory):
                select((b.send, b"y" * (20 << 20)), (b.send, b"x" * (100 << 20)))
        assert select((b.send, b"y" * (20 << 20))).index == 0
        assert len(b.recv()) == 20 << 20


@pytest.mark.parametrize("others", [0, 1, 70])
def test_handles_of_a_stopped_runtime(others):
    with goproc.runtime(procs=1):
        old, sem = chan(1), Semaphore(1)
        g = go.local(int)
        g.join(10)
        selectors = [Selector(old), Selector((old.send, 1), default)]
    with goproc.runtime(procs=2):
        live = [chan(1) for _ in range(others)]
        for c in live:
            c.send("kept")
        for case in (old, old.recv, (old.send, "x" * 1000), sem.acquire, g):
            for cases in ((case, *live), (*live, case), (*[(c.send, "y" * 1000) for c in live], case)):
                with pytest.raises(goproc.GoprocError):
                    select(*cases)
                with pytest.raises(goproc.GoprocError):
                    select(*cases, default)
        for s in selectors:
            with pytest.raises(goproc.GoprocError):
                s.select()
        assert [(len(c), waiters(c)) for c in live] == [(1, (0, 0))] * others
        assert [c.recv() for c in live] == ["kept"] * others
        if others:  # a Selector can be mended
            live[0].send("new")
            selectors[0][0] = live[0]
            assert selectors[0].select() == (0, "new", True)


def test_units_that_cannot_be_acquired(runtime0):
    sem = Semaphore(2)
    both((sem.acquire, -1), default, error=ValueError, text="case 0 acquires a negative number")
    for bad in ("1", None, 1.5):
        both((sem.acquire, bad), default, error=TypeError)
    both((sem.acquire, 10**30), default, error=OverflowError)
    # more than there will ever be: never ready
    assert select((sem.acquire, 3), default).index == 1
    with pytest.raises(TimeoutError):
        select((sem.acquire, 3), timeout=0.001)
    assert select((sem.acquire, 2), default).index == 0
    sem.release(2)


def test_errors_are_at_the_users_line(runtime0):
    def here():
        c = chan(1)
        c.close()
        select((c.send, 1), nil)

    with pytest.raises(ChanClosed) as caught:
        here()
    assert caught.traceback[-1].name == "here"


def test_selector_is_not_sent_or_copied(runtime0):
    s = Selector(chan(1), default)
    c = chan(1)
    for use in (lambda: pickle.dumps(s), lambda: c.send(s), lambda: copy.copy(s), lambda: copy.deepcopy(s)):
        with pytest.raises((TypeError, PickleError), match="Selector"):
            use()
    assert len(c) == 0


def test_default_is_one_object(place):
    assert pickle.loads(pickle.dumps(default)) is default
    assert copy.copy(default) is copy.deepcopy(default) is default
    assert repr(default) == "goproc.default"
    assert place.anyone(lambda d: select(chan(), d), default).result(10) == (1, None, False)


def test_selected(runtime0):
    c = chan(1)
    c.send("v")
    s = select(c)
    assert (s.index, s.value, s.ok) == s == (0, "v", True)
    index, value, ok = s
    assert (index, value, ok) == (0, "v", True)
    with pytest.raises((AttributeError, TypeError)):
        s.index = 1
    assert pickle.loads(pickle.dumps(s)) == s
    assert "index=0" in repr(s)


class Holder:
    def __init__(self, what):
        self.what = what


@pytest.mark.parametrize("make", ["select", "type", "pickle"])
def test_selected_lets_go_of_its_value(runtime0, make):
    """However it was made; also when the value refers to it."""
    c = chan(1)
    c.send([1])
    s = select(c)
    if make == "type":
        s = type(s)(tuple(s))
    elif make == "pickle":
        s = pickle.loads(pickle.dumps(s))
    assert s == (0, [1], True)
    before = sys.getrefcount(value := s.value)
    circle = Holder(s)
    del s, circle
    assert sys.getrefcount(value) == before - 1
    s = type(select(default))((0, value, True)) if make == "type" else received(c, value)
    circle = Holder(s)
    s.value.append(circle)
    alive = weakref.ref(circle)
    del s, circle, value
    gc.collect()
    assert alive() is None


def received(c, value):
    c.send(value)
    return select(c)
